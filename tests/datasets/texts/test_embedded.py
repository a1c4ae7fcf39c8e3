"""The embedded sentences and questions: what they hold, their split, and the questions' format."""

import copy
import json
import re
from collections import Counter
from itertools import pairwise

import pytest
import torch
from public_files import CONTEXT, document, qa

from kpnb.datasets.texts.embedded import (
    QUESTIONS,
    embedded_questions,
    embedded_sentences,
    groups,
    packed_document,
    parse_squad,
    questions_hash,
    sentences_hash,
    sentiment_words,
)
from kpnb.datasets.texts.foreground import sentence_spans
from kpnb.datasets.texts.words import word_spans
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file


@pytest.mark.parametrize(
    ("load", "wrong"),
    [(load, wrong) for load in (embedded_sentences, embedded_questions)
     for wrong in (dict(split="dev"), dict(count=0), dict(count=10**6), dict(count=2.5),
                   dict(seed=-1))]
    + [(embedded_sentences, dict(least_rating=rating)) for rating in (0.4, 4.1, 4.0, float("nan"))],
)  # fmt: skip
def test_wrong_arguments(load, wrong):
    with pytest.raises(KpnbError) as caught:
        load(**wrong)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_the_packed_questions_are_small():
    assert sum(packed_file(name).stat().st_size for name in QUESTIONS.values()) < 500_000


# Sentences


@pytest.fixture(scope="module")
def both():
    return embedded_sentences("train", 0.5), embedded_sentences("test", 0.5)


def test_all_sentences_in_two_splits_of_80_to_20(both):
    train, test = both
    assert len(train) + len(test) == 9883 == len({*train.texts, *test.texts})
    assert 0.18 < len(test) / 9883 < 0.22
    for part in both:
        assert part.labels.dtype == torch.int64 and part.ratings.shape == (len(part),)
        assert torch.equal(part.labels == 1, part.ratings > 0)
        assert 0.47 < part.labels.double().mean() < 0.53
        assert part.ratings.abs().min() >= 0.5 and part.ratings.abs().max() <= 4


def test_no_run_of_eight_words_is_in_both_splits(both):
    def runs(texts):
        words = [re.findall(r"\w+", text.lower()) for text in texts]
        return {tuple(w[i : i + 8]) for w in words for i in range(max(1, len(w) - 7))}

    assert not runs(both[0].texts) & runs(both[1].texts)


def test_known_sentences():
    ratings = dict(
        zip(
            *(getattr(embedded_sentences("train", 0.5), n) for n in ("texts", "ratings")),
            strict=True,
        )
    )
    ratings |= dict(
        zip(
            *(getattr(embedded_sentences("test", 0.5), n) for n in ("texts", "ratings")),
            strict=True,
        )
    )
    assert ratings["The best film of the year 2002."] == pytest.approx(3.4211, abs=1e-4)
    assert ratings["Effective but too tepid biopic"] == pytest.approx(-0.6, abs=1e-4)


def test_a_greater_rating_or_a_count_leaves_sentences_out_and_keeps_the_order(both):
    strong = embedded_sentences("train", 1.5)
    chosen = both[0].ratings.abs() >= 1.5
    kept = zip(both[0].texts, chosen.tolist(), strict=True)
    assert strong.texts == tuple(text for text, strong_enough in kept if strong_enough)
    few = embedded_sentences("train", 1.5, count=7)
    assert few.texts == strong.texts[:7] and torch.equal(few.ratings, strong.ratings[:7])
    assert few.source["count"] == 7 and few.source["least_rating"] == 1.5
    assert json.loads(json.dumps(few.source))["data"] == sentences_hash()


def test_the_seed_changes_the_order_alone():
    one, other = embedded_sentences("test"), embedded_sentences("test", seed=1)
    assert one.texts != other.texts and sorted(one.texts) == sorted(other.texts)
    assert one.texts == embedded_sentences("test").texts
    runs = sum(a == b for a, b in pairwise(one.labels.tolist()))
    assert 0.4 < runs / len(one) < 0.6  # labels come mixed


def test_groups_join_copies_long_passages_and_their_chains():
    run = "one two three four five six seven eight"
    texts = ["Well done!", f"{run} nine", "other words", "well, done", f"zero {run}",
             f"two three four five six seven eight, {run.upper()}", "one two three"]  # fmt: skip
    assert groups(texts) == [0, 1, 2, 0, 1, 1, 6]


def test_words_carry_the_sign_one_expects():
    words = sentiment_words()
    assert len(words) == 7217 and words["superb"] > 2 and words["awful"] < -1.5
    assert all(re.fullmatch(r"[a-z][a-z'-]*", word) for word in words)


# Questions


@pytest.fixture(scope="module")
def asked():
    return embedded_questions("train"), embedded_questions("test")


def kind(name):
    return name.split("-", 1)[1].rsplit("-", 1)[0]


def test_enough_questions_of_several_kinds_about_short_paragraphs(asked):
    assert (len(asked[0]), len(asked[1])) == (3352, 824)
    for questions in asked:
        lengths = [len(word_spans(context)) for context in set(questions.contexts)]
        assert min(lengths) >= 22 and max(lengths) <= 57
        assert max(Counter(questions.contexts).values()) == 2
        kinds = Counter(map(kind, questions.ids))
        assert len(kinds) == 21 and kinds.most_common(1)[0][1] < len(questions) / 5
        assert len(set(questions.ids)) == len(questions)


def test_no_entity_and_no_sentence_is_in_both_splits(asked):
    def of(split):
        articles = packed_document(split)["data"]
        titles = {name for article in articles for name in article["title"].split(" | ")}
        assert len(titles) == 2 * len(articles)  # each entity in one paragraph
        return titles

    assert not of("train") & of("test")
    sentences = [
        {context[slice(*span)].strip() for context in questions.contexts
         for span in sentence_spans(context)}
        for questions in asked
    ]  # fmt: skip
    assert not sentences[0] & sentences[1]


def test_the_answer_stands_once_and_the_question_names_an_entity():
    for split in QUESTIONS:
        for article in packed_document(split)["data"]:
            names = article["title"].split(" | ")
            for paragraph in article["paragraphs"]:
                for entry in paragraph["qas"]:
                    text, question = entry["answers"][0]["text"], entry["question"].lower()
                    pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
                    assert len(re.findall(pattern, paragraph["context"])) == 1, entry
                    named = [name for name in names if name.lower() in question]
                    capital = kind(entry["id"]) == "capital" and text in names
                    assert len(named) == 1 or capital, entry


def test_some_questions_known_by_heart(asked):
    known = {
        question: answers[0]
        for questions in asked
        for question, answers in zip(questions.questions, questions.answer_texts, strict=True)
    }
    assert known["What is the capital of Belgium?"] == "Bruxelles"
    assert known["When did Charlie Chaplin die?"] == "1977"
    assert known["What is the atomic number of neodymium?"] == "60"
    assert known["Where was Hermann Minkowski born?"] == "Russia"


def test_the_seed_orders_and_a_count_takes_the_first():
    one, other = embedded_questions("test"), embedded_questions("test", seed=1)
    assert one.ids != other.ids and sorted(one.ids) == sorted(other.ids)
    assert one == embedded_questions("test")
    few = embedded_questions("test", count=9, seed=1)
    assert few.ids == other.ids[:9] and few.answers == other.answers[:9]
    assert len({kind(name) for name in few.ids}) > 3  # kinds come mixed
    source = json.loads(json.dumps(few.source))
    assert source == dict(dataset="embedded-questions", split="test", data=questions_hash(),
                          count=9, seed=1, parts=[])  # fmt: skip


# SQuAD's format


def test_offsets_count_characters_and_equal_answers_are_there_once():
    second = qa("q2", "What?", [("peak", 43), ("peak", 11), ("peak", 43)])
    found = parse_squad(document(qa(), second), {"dataset": "mine"})
    assert found.answers == (((29, 34),), ((43, 47), (11, 15)))
    assert found.answer_texts == (("Søren",), ("peak", "peak"))
    assert found.questions == ("Who saw it?", "What?") and found.contexts == (CONTEXT,) * 2
    assert found.source == {"dataset": "mine", "parts": [], "count": 2}


@pytest.mark.parametrize(
    ("start", "text"),
    [(28, "Søren"), (30, "Søren"), (-27, "Søren"), (900, "Søren"), (29.0, "Søren"), (True, "ü"),
     (None, "Søren"), (29, "Soren"), (29, "søren")],
)  # fmt: skip
def test_an_answer_that_is_not_where_it_should_be(start, text):
    with pytest.raises(KpnbError, match="question 'q7' does not stand at") as caught:
        parse_squad(document(qa(), qa("q7", found=[(text, start)])))
    assert "\n" not in str(caught.value)


def broken(change):
    whole = copy.deepcopy(document(qa(), qa("q2")))
    change(whole, whole["data"][0]["paragraphs"][0])
    return whole


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (document(qa(), version="v2.0"), "version 'v2.0'"),
        ({"data": []}, "version None"),
        ([], "version None"),
        (None, "version None"),
        ({"version": "1.1"}, "no list 'data'"),
        ({"version": "1.1", "data": []}, "holds no question"),
        ({"version": "1.1", "data": ["x"]}, "no list 'paragraphs' in an article"),
        (document(), "holds no question"),
        (document(qa(), context=""), "no text 'context'"),
        (document(qa(), qa("q2"), qa()), "'q1' is there twice"),
        (document(qa(found=[])), "no answer to question 'q1'"),
        (document(qa(found=[("", 0)])), "no text 'text' in question 'q1'"),
        (document(qa(question=" ")), "no text 'question' in question 'q1'"),
        (document(qa(name=7)), "no text 'id'"),
        (broken(lambda d, p: p["qas"][1].pop("answers")), "no list 'answers' in question 'q2'"),
        (broken(lambda d, p: p["qas"][1].update(answers=["Søren"])), "no text 'text' in quest"),
        (broken(lambda d, p: p.pop("qas")), "no list 'qas'"),
    ],
)
def test_another_layout_is_refused(wrong, message):
    with pytest.raises(KpnbError, match=message) as caught:
        parse_squad(wrong)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
