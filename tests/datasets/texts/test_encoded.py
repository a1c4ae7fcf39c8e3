"""Texts as a network reads them: labels and foreground of their words."""

from itertools import compress

import pytest
import torch
from public_files import ANSWERS, toy_questions
from refusals import refuses

from kpnb.datasets.texts.embedded import Sentences
from kpnb.datasets.texts.encoded import encoded_questions, encoded_sentences
from kpnb.datasets.texts.word_pieces import word_spans

SENTENCES = ("Not a good film, café!", "It was.", "bad")


def good_words(text):
    """A rule for tests: spans of the words good, film and café."""
    return tuple(s for s in word_spans(text) if text[slice(*s)] in ("good", "film", "café"))


def encoded(encoder, *texts, length=None):
    labels, ratings = torch.arange(len(texts)).eq(0).long(), torch.tensor([2.5, -1.0, -2.25])
    about = {"dataset": "toy", "parts": []}
    made = Sentences(tuple(texts), labels, ratings[: len(texts)], about)
    return encoded_sentences(made, encoder, good_words, length)


def marked_words(texts, row=0):
    return " ".join(compress(texts.words(row), texts.marked[row]))


def test_marks_stand_at_the_words_of_a_sentence_and_go_with_those_that_are_cut(encoder):
    texts = encoded(encoder, *SENTENCES)
    assert texts.words(0) == ("Not", "a", "good", "film", ",", "café", "!")
    first = [False, False, True, True, False, True, False]
    assert texts.foreground.tolist() == [first, [False] * 7, [False] * 7]
    assert texts.labels.tolist() == [1, 0, 0]
    assert texts.notes == ("positive, rated +2.5", "negative, rated -1.0", "negative, rated -2.2")
    assert texts.answers == ((), (), ()) and texts.usable == [0]
    assert encoded(encoder, "good film", "a good film", "a").usable == [1]
    for row, count in enumerate(texts.pieces.units):
        sizes = [(texts.pieces.words[row] == unit).sum() for unit in range(count)]
        assert texts.single_pieces[row].tolist() == [n == 1 for n in sizes + [0] * (7 - count)]
    shown = texts.shown()[0]
    assert (shown.units, shown.foreground) == (texts.words(0), texts.marked[0])
    assert shown.parts == (("", 0),)
    told = "film " * 40 + "in a cafe " + "story " * 40
    with pytest.warns(UserWarning, match="cut"):
        texts = encoded_questions(toy_questions(["what is it?"], [told], ["cafe"]), encoder, 20)
    place = int(texts.labels[0, 0])
    assert texts.labels[0].tolist() == [place, place] and texts.pieces.ids.shape == (1, 20)
    assert texts.words(0)[int(texts.pieces.words[0, place])] == marked_words(texts) == "cafe"
    with pytest.warns(UserWarning, match="cut"):
        texts = encoded(encoder, SENTENCES[0] + " good", length=8)
    assert marked_words(texts) == "good film café" and texts.source["length"] == 8


def test_marks_of_question_and_context_and_labels_of_the_answer_are_at_its_pieces(asked, encoder):
    marked = [marked_words(asked, row) for row in range(3)]
    assert marked == ["born born unbelievable - cafe", "landed Moon landed", "story"]
    assert asked.marked[0][: asked.pieces.firsts[0]] == (False, False, False, True, False)
    told = ("The", "Moon", "landed", "in", "a", "cafe\u0301", ".")
    assert asked.words(1) == ("What", "landed", "?", *told)
    same_place = toy_questions(["born where?"], ["Long was she born."], ["she"])  # as "Long"
    assert marked_words(encoded_questions(same_place, encoder)) == "born she born"
    shown = asked.shown()[0]
    assert shown.parts == (("question", 0), ("context", 5)) and asked.usable == [0, 1, 2]
    assert shown.note == "answer: unbelievable-cafe"
    for row, answer in enumerate(ANSWERS):
        first, last = asked.labels[row].tolist()
        numbers = asked.pieces.words[row]
        held = numbers[first : last + 1].unique()
        assert "".join(asked.words(row)[unit] for unit in held) == answer
        assert numbers[first - 1] != numbers[first] and numbers[last] != numbers[last + 1]
    assert asked.labels[0].diff() == 4  # un ##believ ##able - cafe
    assert asked.answers == tuple((answer,) for answer in ANSWERS)
    half = toy_questions(["Who?"], ["she landed"], ["and"])  # part of a word: the whole word
    texts = encoded_questions(half, encoder)
    assert texts.words(0)[texts.pieces.words[0][texts.labels[0, 0]]] == "landed"
    for told, answer in (("she  landed", "  "), ("she \u200b landed", "\u200b")):
        refuses(encoded_questions, "answer", toy_questions(["who?"], [told], [answer]), encoder)


def test_a_part_is_padded_no_more_than_it_needs(asked, encoder):
    part = asked.subset([2, 0])
    alone = encoded_questions(toy_questions().subset([2, 0]), encoder)
    assert repr(part.pieces) == repr(alone.pieces) and part.labels.equal(alone.labels)
    assert part.digest == alone.digest != asked.subset([0, 2]).digest
    for name in ("parts", "marked", "answers", "notes"):
        assert getattr(part, name) == getattr(alone, name)
