"""Questions in SQuAD's format: the embedded ones, the public files' loader."""

import copy
import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from kpnb.datasets.texts.corpora import squad
from kpnb.datasets.texts.embedded import (
    QUESTION_LICENCES,
    QUESTIONS,
    embedded_questions,
    packed_document,
    parse_squad,
    questions_hash,
)
from kpnb.datasets.texts.foreground import sentence_spans
from kpnb.datasets.texts.words import word_spans
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both():
    return embedded_questions("train"), embedded_questions("test")


def kind(name):
    return name.split("-", 1)[1].rsplit("-", 1)[0]


# The embedded questions


def test_enough_questions_of_several_kinds_about_short_paragraphs(both):
    assert (len(both[0]), len(both[1])) == (3352, 824)
    for questions in both:
        lengths = [len(word_spans(context)) for context in set(questions.contexts)]
        assert min(lengths) >= 22 and max(lengths) <= 57
        assert max(Counter(questions.contexts).values()) == 2
        kinds = Counter(map(kind, questions.ids))
        assert len(kinds) == 21 and kinds.most_common(1)[0][1] < len(questions) / 5
        assert len(set(questions.ids)) == len(questions)


def test_no_entity_and_no_sentence_is_in_both_splits(both):
    def of(split):
        articles = packed_document(split)["data"]
        titles = {name for article in articles for name in article["title"].split(" | ")}
        assert len(titles) == 2 * len(articles)  # each entity in one paragraph
        return titles

    assert not of("train") & of("test")
    sentences = [
        {context[slice(*span)].strip() for context in questions.contexts
         for span in sentence_spans(context)}
        for questions in both
    ]  # fmt: skip
    assert not sentences[0] & sentences[1]


def test_the_answer_stands_once_and_the_question_names_an_entity():
    for split in QUESTIONS:
        for article in packed_document(split)["data"]:
            names = article["title"].split(" | ")
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    text, question = qa["answers"][0]["text"], qa["question"].lower()
                    pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
                    assert len(re.findall(pattern, paragraph["context"])) == 1, qa
                    named = [name for name in names if name.lower() in question]
                    assert len(named) == 1 or (kind(qa["id"]) == "capital" and text in names), qa


def test_some_questions_known_by_heart(both):
    known = {
        question: answers[0]
        for questions in both
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


def test_a_subset_keeps_questions_with_their_contexts():
    whole = embedded_questions("test", count=20)
    part = whole.subset([3, 1])
    assert part.ids == (whole.ids[3], whole.ids[1])
    assert part.contexts == (whole.contexts[3], whole.contexts[1])
    assert part.answer_texts == (whole.answer_texts[3], whole.answer_texts[1])
    assert part.source["parts"][0]["subset"] == 2 and whole.source["parts"] == []
    assert len(part.subset([1]).source["parts"]) == 2
    for index in ([], [20], [-1]):
        with pytest.raises(KpnbError, match="from 0 to 19"):
            whole.subset(index)


@pytest.mark.parametrize(
    "wrong", [dict(split="dev"), dict(count=0), dict(count=10**6), dict(count=2.5), dict(seed=-1)]
)
def test_wrong_arguments(wrong):
    with pytest.raises(KpnbError) as caught:
        embedded_questions(**wrong)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_every_packed_part_has_a_licence():
    notes = (CHECKOUT / "kpnb/datasets/embedded/text/README.md").read_text()
    assert {entry["version"] for entry in QUESTION_LICENCES} == {"3.0-37", "1.3.0"}
    assert all(
        entry["version"] in notes and entry["licence"] in notes for entry in QUESTION_LICENCES
    )
    assert "Copyright 2006 by Princeton University" in notes  # the licence wants its text kept
    assert "Copyright (c) 2015 Lukasz Mentel" in notes


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damaged_packed_files_are_refused(tmp_path, monkeypatch, damage):
    folder = tmp_path / "data" / "text"
    folder.mkdir(parents=True)
    name = QUESTIONS["test"]
    real = packed_file(name).read_bytes()
    if damage != "missing":
        content = real[:-20] if damage == "cut" else gzip.compress(b'{"version": "1.1"}')
        (folder / name).write_bytes(content)
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    with pytest.raises(KpnbError, match="questions_test.json.gz is missing or damaged"):
        packed_document("test")
    (folder / name).write_bytes(gzip.compress(gzip.decompress(real), 1))  # other gzip bytes
    assert packed_document("test")["version"] == "1.1"


def test_the_packed_files_are_small():
    folder = CHECKOUT / "kpnb/datasets/embedded/text"
    sizes = [path.stat().st_size for path in folder.glob("q*.gz")]
    assert len(sizes) == 2 and sum(sizes) < 500_000


# SQuAD's format

CONTEXT = "Zürich’s 🏔 peak: peak fever. Søren saw the peak in 1901."


def answers(*pairs):
    return [{"text": text, "answer_start": start} for text, start in pairs]


def document(*qas, context=CONTEXT, version="1.1"):
    paragraphs = [{"context": context, "qas": list(qas)}]
    return {"version": version, "data": [{"title": "t", "paragraphs": paragraphs}]}


def qa(name="q1", question="Who saw it?", found=(("Søren", 29),)):
    return {"id": name, "question": question, "answers": answers(*found)}


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


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.mark.parametrize("folder", [".", "SQuAD", "squad"])
def test_squad_from_a_tree_of_the_public_layout(tmp_path, folder):
    many = [qa(f"t{number}") for number in range(30)]
    write(tmp_path / folder / "train-v1.1.json", document(*many))
    one = qa("d0", found=[("1901", 51), ("in 1901", 48)])
    write(tmp_path / folder / "dev-v1.1.json", document(one))
    train = squad(tmp_path)
    assert sorted(train.ids) == sorted(f"t{n}" for n in range(30))
    assert train.ids != tuple(one["id"] for one in many)
    assert squad(str(tmp_path), count=4).ids == train.ids[:4]
    assert squad(tmp_path, count=4, seed=1).ids != train.ids[:4]
    assert train.source["dataset"] == "squad" and len(train.source["data"]) == 64
    dev = squad(tmp_path, "dev")
    assert dev.answer_texts == (("1901", "in 1901"),) and dev.source["split"] == "dev"
    with pytest.raises(KpnbError, match="count"):
        squad(tmp_path, "dev", count=2)
    with pytest.raises(KpnbError, match="'train' or 'dev'"):
        squad(tmp_path, "test")


def test_a_missing_file_is_named_with_its_address(tmp_path):
    address = "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json"
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(KpnbError, match="dev-v1.1.json is missing") as caught:
            squad(root, "dev")
        assert address in str(caught.value)
    (tmp_path / "dev-v1.1.json").mkdir()  # a folder is no file
    with pytest.raises(KpnbError, match="missing"):
        squad(tmp_path, "dev")


@pytest.mark.parametrize("content", [b"", b'{"version": "1.1", ', b"\xff\xfe\xff", b"[" * 10**5])
def test_a_file_that_is_no_json(tmp_path, content):
    (tmp_path / "train-v1.1.json").write_bytes(content)
    with pytest.raises(KpnbError, match="fetch it again from https"):
        squad(tmp_path)


def test_a_file_of_another_version(tmp_path):
    write(tmp_path / "train-v1.1.json", document(qa(), version="v2.0"))
    with pytest.raises(KpnbError, match="train-v1.1.json: The questions are of version 'v2.0'"):
        squad(tmp_path)
