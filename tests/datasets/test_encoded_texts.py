"""Texts with labels and foreground, and the answers that a network gives."""

import pytest
import torch
from text_tiny import tiny_folder
from torch import nn

from kpnb.datasets.texts.embedded import Questions, Sentences
from kpnb.datasets.texts.encoded import EncodedTexts, encoded_questions, encoded_sentences
from kpnb.datasets.texts.foreground import sentiment_foreground
from kpnb.datasets.texts.words import PieceEncoder, word_spans
from kpnb.errors import KpnbError
from kpnb.networks.text import load_tokenizer, scratch_network
from kpnb.study.scores import LONGEST_ANSWER, answer_scores, predicted_answers

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = ("Not a good film, café!", "It was.", "bad")
QUESTIONS = ("Where was she born?", "What landed?", "Who is it?")
CONTEXTS = (
    "He was long dull. She was born in unbelievable-cafe, in 1969.",
    "The Moon landed in a cafe\u0301.",
    "film story",
)
ANSWERS = ("unbelievable-cafe", "Moon", "story")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def encoder(folder):
    return PieceEncoder(load_tokenizer(folder))


def sentences(texts=SENTENCES, labels=(1, 0, 0)):
    ratings = torch.tensor([2.5, -1.0, -2.25])[: len(texts)]
    return Sentences(tuple(texts), torch.tensor(labels), ratings, {"dataset": "toy", "parts": []})


def questions(asked=QUESTIONS, told=CONTEXTS, answers=ANSWERS):
    spans = tuple(
        ((context.index(answer), context.index(answer) + len(answer)),)
        for context, answer in zip(told, answers, strict=True)
    )
    ids = tuple(str(n) for n in range(len(asked)))
    return Questions(tuple(asked), tuple(told), spans, ids, {"dataset": "toy", "parts": []})


@pytest.fixture(scope="module")
def asked(encoder):
    return encoded_questions(questions(), encoder)


def good_words(text):
    """A rule for tests: spans of the words good, film and café."""
    return tuple(s for s in word_spans(text) if text[slice(*s)] in ("good", "film", "café"))


def refused(call):
    with pytest.raises(KpnbError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def marked_words(texts, row):
    marks = zip(texts.words(row), texts.marked[row], strict=True)
    return [word for word, marked in marks if marked]


# Foreground and labels


def test_marks_stand_at_the_words_of_a_sentence(encoder):
    texts = encoded_sentences(sentences(), encoder, good_words)
    assert texts.words(0) == ("Not", "a", "good", "film", ",", "café", "!")
    assert marked_words(texts, 0) == ["good", "film", "café"]
    assert texts.foreground.tolist() == [
        [False, False, True, True, False, True, False],
        *[[False] * 7] * 2,
    ]
    assert texts.labels.tolist() == [1, 0, 0] and len(texts) == 3
    assert texts.notes == ("positive, rated +2.5", "negative, rated -1.0", "negative, rated -2.2")
    assert texts.answers == ((), (), ()) and texts.usable == [0]
    shown = texts.shown()[0]
    assert shown.units == texts.words(0) and shown.foreground == texts.marked[0]
    assert shown.parts == (("", 0),)


def test_the_rule_of_the_sentiment_study_fits(encoder):
    text = "It was not a good film, but dull."
    texts = encoded_sentences(sentences([text], [1]), encoder, sentiment_foreground)
    spans = [text[slice(*span)] for span in sentiment_foreground(text)]
    assert "good" in spans and marked_words(texts, 0) == spans


def test_words_that_were_cut_take_their_marks_along(encoder):
    with pytest.warns(UserWarning, match="cut"):
        texts = encoded_sentences(sentences([SENTENCES[0] + " good"], [1]), encoder, good_words, 8)
    assert marked_words(texts, 0) == ["good", "film", "café"] and texts.foreground.shape == (1, 6)
    assert texts.source["length"] == 8


def test_marks_stand_at_the_words_of_question_and_context(asked, encoder):
    assert marked_words(asked, 0) == ["born", "born", "unbelievable", "-", "cafe"]
    assert asked.marked[0][: asked.pieces.firsts[0]] == (False, False, False, True, False)
    assert marked_words(asked, 1) == ["landed", "Moon", "landed"]
    assert asked.words(1)[-2:] == ("cafe\u0301", ".")
    same_place = questions(["born where?"], ["Long was she born."], ["she"])  # "born" and "Long"
    assert marked_words(encoded_questions(same_place, encoder), 0) == ["born", "she", "born"]
    assert marked_words(asked, 2) == ["story"] and asked.usable == [0, 1, 2]
    shown = asked.shown()[0]
    assert shown.parts == (("question", 0), ("context", 5))
    assert shown.note == "answer: unbelievable-cafe"


def test_labels_are_the_first_and_last_piece_of_the_answer(asked, encoder):
    for row, answer in enumerate(ANSWERS):
        first, last = asked.labels[row].tolist()
        numbers = asked.pieces.words[row]
        held = dict.fromkeys(numbers[first : last + 1].tolist())
        assert "".join(asked.words(row)[unit] for unit in held) == answer
        assert numbers[first - 1] != numbers[first] and numbers[last] != numbers[last + 1]
    first, last = asked.labels[0].tolist()
    assert last - first + 1 == 3 + 1 + 1  # un ##believ ##able - cafe
    assert asked.answers == tuple((answer,) for answer in ANSWERS)
    half = questions(["Who?"], ["she landed"], ["and"])  # part of a word: the whole word
    texts = encoded_questions(half, encoder)
    assert texts.words(0)[int(texts.pieces.words[0][texts.labels[0, 0]])] == "landed"


def test_labels_hold_where_the_context_was_cut(encoder):
    told = "film " * 40 + "in a cafe " + "story " * 40
    with pytest.warns(UserWarning, match="cut"):
        texts = encoded_questions(questions(["what is it?"], [told], ["cafe"]), encoder, 20)
    place = int(texts.labels[0, 0])
    assert texts.labels[0].tolist() == [place, place] and texts.pieces.ids.shape == (1, 20)
    assert texts.words(0)[int(texts.pieces.words[0, place])] == "cafe"
    assert marked_words(texts, 0) == ["cafe"]


def test_an_answer_without_a_word_is_refused(encoder):
    for told, answer in (("she  landed", "  "), ("she \u200b landed", "\u200b")):
        assert "answer" in refused(
            lambda told=told, answer=answer: encoded_questions(
                questions(["who?"], [told], [answer]), encoder
            )
        )


def test_a_subset_is_that_part(asked, encoder):
    part = asked.subset([2, 0])
    alone = encoded_questions(questions().subset([2, 0]), encoder)
    assert part.pieces.ids.equal(alone.pieces.ids) and part.labels.equal(alone.labels)
    for name in ("parts", "marked", "answers", "notes"):
        assert getattr(part, name) == getattr(alone, name)
    assert part.source["parts"][-1]["subset"] == 2
    assert part.source != asked.subset([0, 2]).source != asked.source
    for index in ([], [3], [-1]):
        refused(lambda index=index: asked.subset(index))


def test_usable_texts_have_both_foreground_and_background(encoder):
    texts = encoded_sentences(
        sentences(["good film", "a good film", "a"], [1, 1, 0]), encoder, good_words
    )
    assert texts.usable == [1]


# Answers


class Told(nn.Module):
    """Gives the logits it was made with, row after row."""

    def __init__(self, logits):
        super().__init__()
        self.weight, self.logits, self.at = nn.Parameter(torch.zeros(1)), logits, 0
        self.modes = []

    def forward(self, ids):
        self.modes.append(self.training)
        self.at += len(ids)
        return self.logits[self.at - len(ids) : self.at, : ids.shape[1]]


def low(asked: EncodedTexts):
    """Logits that are low everywhere: (n, T, 2)."""
    return torch.full((*asked.pieces.ids.shape, 2), -5.0)


def test_the_labels_logits_give_the_answers(asked):
    logits = low(asked)
    for row, (first, last) in enumerate(asked.labels.tolist()):
        logits[row, first, 0] = logits[row, last, 1] = 5.0
    net = Told(logits).train()
    assert predicted_answers(net, asked) == list(ANSWERS)
    assert net.training and net.modes == [False]
    assert predicted_answers(Told(logits), asked, batch_size=2) == list(ANSWERS)
    assert answer_scores(Told(logits), asked) == {"f1": 1.0, "exact_match": 1.0}
    logits[2] = -5.0
    logits[2, 6, 0] = logits[2, 6, 1] = 5.0  # "film" in place of "story"
    assert asked.words(2)[int(asked.pieces.words[2, 6])] == "film"
    found = answer_scores(Told(logits), asked)
    assert found == pytest.approx({"f1": 2 / 3, "exact_match": 2 / 3})


def test_question_and_special_pieces_are_no_answer(asked):
    logits = low(asked)
    logits[1, :, :] = 9.0  # then all beyond the context's words
    logits[1, asked.pieces.words[1] >= asked.pieces.firsts[1]] = -5.0
    place = int((asked.pieces.words[1] == asked.pieces.firsts[1] + 1).nonzero()[0])
    logits[1, place] = -4.0
    assert predicted_answers(Told(logits), asked)[1] == "Moon"


def test_the_last_piece_is_never_before_the_first(asked):
    logits = low(asked)
    last, first = asked.labels[0].tolist()  # the wrong way round
    logits[0, first, 0], logits[0, last, 1] = 5.0, 5.0
    logits[0, first, 1] = 1.0
    assert predicted_answers(Told(logits), asked)[0] == "cafe"


def test_the_best_allowed_pair_of_a_long_context(encoder):
    """Against all pairs tried one by one."""
    told = " ".join(["film", "unbelievable", "story", ",", "don't"] * 12)
    texts = encoded_questions(questions(["Who is it?"], [told], ["story"]), encoder)
    words, first = texts.pieces.words[0].tolist(), texts.pieces.firsts[0]
    inside = [n for n, word in enumerate(words) if word >= first]
    assert len(inside) > 3 * LONGEST_ANSWER
    for seed in range(20):
        logits = torch.randn(1, len(words), 2, generator=torch.Generator().manual_seed(seed))
        if seed % 2:  # far apart: the limit decides
            logits[0, inside[seed], 0] = logits[0, inside[seed] + 29 + seed % 3, 1] = 20.0
        pairs = [(a, b) for a in inside for b in inside if a <= b < a + LONGEST_ANSWER]
        a, b = max(pairs, key=lambda ab: float(logits[0, ab[0], 0] + logits[0, ab[1], 1]))
        spans = texts.pieces.spans[0]
        expected = told[spans[words[a]][0] : spans[words[b]][1]]
        assert predicted_answers(Told(logits), texts) == [expected]


def test_a_network_with_a_span_head_answers(folder, encoder, asked):
    net = scratch_network(folder, "span", encoder)
    found = predicted_answers(net, asked)
    assert all(a in context and a for a, context in zip(found, CONTEXTS, strict=True))
    assert found == predicted_answers(net, asked, batch_size=1)
