"""The embedded sentences and questions: what they hold, their split, and the questions' format."""

import json
import re
from collections import Counter

import pytest
import torch
from public_files import CONTEXT, document, qa
from refusals import refuses

from kpnb.datasets.texts import embedded
from kpnb.datasets.texts.embedded import embedded_questions, embedded_sentences, parse_squad
from kpnb.datasets.texts.foreground import sentence_spans
from kpnb.datasets.texts.word_pieces import word_spans


@pytest.mark.parametrize(
    ("load", "name", "value"),
    [(load, *wrong) for load in (embedded_sentences, embedded_questions)
     for wrong in (("split", "dev"), ("count", 0), ("count", 10**6), ("count", 2.5), ("seed", -1))]
    + [(embedded_sentences, "least_rating", rating) for rating in (0.4, 4.1, float("nan"))],
)  # fmt: skip
def test_wrong_arguments(load, name, value):
    refuses(load, name, **{name: value})
    refuses(embedded_sentences, "No sentence is rated 4.0 or more", least_rating=4.0)


@pytest.mark.parametrize("load", [embedded_sentences, embedded_questions])
def test_the_seed_orders_and_a_count_takes_the_first(load):
    one, other, few = load("test"), load("test", seed=1), load("test", count=9, seed=1)
    first, second, ninth = (getattr(found, one.COLUMNS[0]) for found in (one, other, few))
    assert first != second and sorted(first) == sorted(second) and ninth == second[:9]
    assert few.source | dict(count=9, seed=1, split="test") == json.loads(json.dumps(few.source))
    assert few.source | dict(count=len(one), seed=0) == one.source


def test_all_sentences_in_two_splits_of_80_to_20_without_a_run_of_eight_words_in_both():
    train, test = both = [embedded_sentences(split, 0.5) for split in ("train", "test")]
    assert len(train) + len(test) == 9883 == len({*train.texts, *test.texts})
    assert 0.18 < len(test) / 9883 < 0.22
    for part in both:
        assert part.labels.dtype == torch.int64 and part.ratings.shape == (len(part),)
        assert torch.equal(part.labels == 1, part.ratings > 0)
        assert 0.47 < part.labels.double().mean() < 0.53
        assert part.ratings.abs().min() >= 0.5 and part.ratings.abs().max() <= 4
        assert 0.4 < part.labels.diff().abs().double().mean() < 0.6  # labels come mixed
    rated = dict(zip(train.texts + test.texts, [*train.ratings, *test.ratings], strict=True))
    known = {"The best film of the year 2002.": 3.4211, "Effective but too tepid biopic": -0.6}
    assert {text: float(rated[text]) for text in known} == pytest.approx(known, abs=1e-4)
    strong, kept = embedded_sentences("train", 1.5), train.subset(train.ratings.abs() >= 1.5)
    assert strong.texts == kept.texts and torch.equal(strong.ratings, kept.ratings)
    runs = []
    for part in both:
        words = [re.findall(r"\w+", text.lower()) for text in part.texts]
        runs.append({tuple(w[i : i + 8]) for w in words for i in range(max(1, len(w) - 7))})
    assert not runs[0] & runs[1]


def test_questions_of_several_kinds_and_no_entity_and_no_sentence_in_both_splits():
    titles, sentences = [], []
    for split, count in (("train", 3352), ("test", 824)):
        questions, articles = embedded_questions(split), embedded.packed_document(split)["data"]
        contexts = Counter(questions.contexts)
        assert len(questions) == count and max(contexts.values()) == 2
        assert all(22 <= len(word_spans(context)) <= 57 for context in contexts)
        kinds = [name.split("-", 1)[1].rsplit("-", 1)[0] for name in questions.ids]
        assert len({*kinds}) == 21 and Counter(kinds).most_common(1)[0][1] < count / 5
        assert len({*kinds[:9]}) > 3  # kinds come mixed
        titles += [name for article in articles for name in article["title"].split(" | ")]
        sentences += {text[a:b].strip() for text in contexts for a, b in sentence_spans(text)}
    for found in (titles, sentences):  # an entity is in one paragraph alone
        assert len({*found}) == len(found)


def test_offsets_count_characters_and_equal_answers_are_there_once():
    second = qa("q2", "What?", [("peak", 43), ("peak", 11), ("peak", 43)])
    found = parse_squad(document(qa(), second), {"dataset": "mine"})
    assert found.answers == (((29, 34),), ((43, 47), (11, 15)))
    assert found.answer_texts == (("Søren",), ("peak", "peak"))
    assert found.questions == ("Who saw it?", "What?") and found.contexts == (CONTEXT,) * 2
    assert found.source == {"dataset": "mine", "parts": [], "count": 2}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(document(qa(), qa("q7", found=[found])), "question 'q7' does not stand at") for found in (
        ("Søren", 28), ("Søren", -27), ("Søren", 900), ("Søren", 29.0), ("ü", True),
        ("Søren", None), ("søren", 29))]
    + [(document(qa(), version="v2.0"), "version 'v2.0'"), ([], "version None"),
       ({"version": "1.1"}, "no list 'data'"), (document(), "holds no question"),
       ({"version": "1.1", "data": ["x"]}, "no list 'paragraphs' in an article"),
       (document(qa(), context=""), "no text 'context'"), (document(qa(name=7)), "no text 'id'"),
       (document(qa(), qa("q2"), qa()), "'q1' is there twice"),
       (document(qa(found=[])), "no answer to question 'q1'"),
       (document(qa(found=[("", 0)])), "no text 'text' in question 'q1'"),
       (document(qa(question=" ")), "no text 'question' in question 'q1'"),
       (document(qa("q2") | {"answers": ["Søren"]}), "no text 'text' in quest"),
       ({"version": "1.1", "data": [{"paragraphs": [{"context": "x"}]}]}, "no list 'qas'")],
)  # fmt: skip
def test_another_layout_or_an_answer_out_of_place_is_refused(wrong, message):
    refuses(parse_squad, message, wrong)
