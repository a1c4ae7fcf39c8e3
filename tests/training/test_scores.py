"""Reference lines; exact match and F1 worked by hand after SQuAD v1.1's definition; answers."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from public_files import ANSWERS, toy_questions
from refusals import refuses
from torch import nn

from kpnb.datasets.texts.embedded import embedded_sentences
from kpnb.datasets.texts.encoded import encoded_questions
from kpnb.training.scores import (
    answer_scores,
    majority,
    normalize_answer,
    predicted_answers,
    span_scores,
    tfidf_logistic,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_lines_by_hand_and_embedded_sentences_beat_majority_and_repeat():
    assert majority([0, 1, 1], [1, 1, 0, 1]) == 0.75
    assert majority(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 1, 0])) == 0.25
    assert majority([1, 0], [0, 0, 1]) == pytest.approx(2 / 3)  # a tie goes to 0
    assert majority([5], [4]) == 0.0
    by_word = ["a fine day", "the fine hat", "a poor day", "the poor hat"]
    assert tfidf_logistic(by_word, [1, 1, 0, 0], ["so fine", "FINE", "poor"], [1, 1, 0]) == 1.0
    # Only the pairs differ: every word is once in each class.
    by_pair, asked = ["not bad ; good", "not good ; bad"], ["not bad", "not good"]
    for labels, expected in (([1, 0], 1.0), ([0, 1], 0.0)):
        assert tfidf_logistic(by_pair, [1, 0], asked, labels) == expected
    train, test = embedded_sentences("train", 1.5, count=600), embedded_sentences("test", 1.5)
    given, state = (train.texts, train.labels, test.texts, test.labels), torch.get_rng_state()
    found = tfidf_logistic(*given)
    assert found == tfidf_logistic(*given) > majority(train.labels, test.labels) + 0.1
    assert torch.equal(torch.get_rng_state(), state)
    shuffled = tfidf_logistic(train.texts, train.labels.flip(0), test.texts, test.labels)
    assert abs(shuffled - 0.5) < 0.08  # nothing to learn where labels are mixed up


@pytest.mark.parametrize(
    "call, given, told",
    [
        *((majority, (bad, [1]), "train_labels has shape") for bad in ([], [0.5], [[1, 0]])),
        (majority, ([1], []), "test_labels has shape"),
        (tfidf_logistic, (["one"], [0, 1], ["two"], [0]), "train_texts fits no 2 labels"),
        (tfidf_logistic, (["a", "b"], [0, 1], "two", [0, 1, 0]), "test_texts fits no 3 labels"),
        (tfidf_logistic, (["a", "b"], [1, 1], ["two"], [0]), "one label only"),
        (span_scores, (["Black Sea"], ["Black Sea"]), "list of accepted answers"),
        (span_scores, ([], []), "0 predictions, 0 questions"),
        (span_scores, (["x"], [["x"], ["x"]]), "1 predictions, 2 questions"),
    ],
)
def test_what_does_not_fit_is_refused(call, given, told):
    refuses(call, told, *given)


def test_normalized_answers():
    known = {"The  U.S.A.\n": "usa", "an apple a day": "apple day", "a": "", "the-cat": "thecat"}
    known |= {"a-priori, theatre": "apriori theatre", "14,804 feet": "14804 feet"}
    known |= {"MÜNCHEN – the city": "münchen – city"}  # only ASCII punctuation goes
    assert {text: normalize_answer(text) for text in known} == known


CASES = [
    ("the Black Sea", ["Black Sea."], 1, 1),
    ("Sea, Black", ["Black Sea"], 0, 1),  # the order of words counts for EM alone
    ("Black", ["Black Sea"], 0, 2 / 3),  # P 1, R 1/2
    ("large Black Sea coast", ["the Black Sea"], 0, 2 / 3),  # P 1/2, R 1
    ("red red wine", ["red wine wine glass"], 0, 4 / 7),  # common: red, wine
    ("Rhone", ["the Rhine", "Rhone River", "the Rhone"], 1, 1),
    ("Paris", ["London"], 0, 0),
    ("a", ["the"], 1, 0),  # both empty: equal, but no common word
]


def scores_of(prediction: str, *accepted: str) -> tuple[float, float]:
    found = span_scores([prediction], [accepted])
    return found["exact_match"], found["f1"]


def test_scores_of_each_case_and_their_means():
    for prediction, accepted, exact, overlap in CASES:
        found = scores_of(prediction, *accepted)
        assert found == (exact, pytest.approx(overlap, abs=1e-12)), prediction
    predictions, accepted, exact, overlap = zip(*CASES, strict=True)
    expected = {"exact_match": sum(exact) / len(CASES), "f1": sum(overlap) / len(CASES)}
    assert span_scores(predictions, accepted) == pytest.approx(expected)


words = st.lists(st.sampled_from(["red", "wine", "old", "12", "ö"]), min_size=1, max_size=5)


@given(words, words)
def test_f1_is_symmetric_and_counts_what_is_left_over(first, second):
    """F1 = 1 - (words left over in either bag) / (words in both bags)."""
    here, there = Counter(first), Counter(second)
    left = ((here - there) + (there - here)).total()
    expected = 1 - left / (len(first) + len(second))
    one, other = " ".join(first), " ".join(second)
    exact, found = scores_of(one, other)
    assert found == pytest.approx(expected, abs=1e-12) == scores_of(other, one)[1]
    assert (found == 1) == (sorted(first) == sorted(second)) and exact == (first == second)


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


def low(asked):
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
    logits[2, 6] = 5.0  # "film" in place of "story"
    assert asked.words(2)[int(asked.pieces.words[2, 6])] == "film"
    found = answer_scores(Told(logits), asked)
    assert found == pytest.approx({"f1": 2 / 3, "exact_match": 2 / 3})


def test_what_is_no_answer(asked):
    """Question and special pieces, and a last piece before the first."""
    logits, words, first = low(asked), asked.pieces.words[1], asked.pieces.firsts[1]
    logits[1] = 9.0  # then all beyond the context's words
    logits[1, words >= first] = -5.0
    logits[1, int((words == first + 1).nonzero()[0])] = -4.0
    last, first = asked.labels[0].tolist()  # the wrong way round
    logits[0, first, 0] = logits[0, last, 1] = 5.0
    logits[0, first, 1] = 1.0
    assert predicted_answers(Told(logits), asked)[:2] == ["cafe", "Moon"]


def test_the_best_allowed_pair_of_a_long_context(encoder):
    """Against all pairs tried one by one."""
    told = " ".join(["film", "unbelievable", "story", ",", "don't"] * 12)
    texts = encoded_questions(toy_questions(["Who is it?"], [told], ["story"]), encoder)
    words, first = texts.pieces.words[0].tolist(), texts.pieces.firsts[0]
    inside = [n for n, word in enumerate(words) if word >= first]
    assert len(inside) > 90
    for seed in range(8):
        logits = torch.randn(1, len(words), 2, generator=torch.Generator().manual_seed(seed))
        if seed % 2:  # far apart: the limit decides
            logits[0, inside[seed], 0] = logits[0, inside[seed] + 29 + seed % 3, 1] = 20.0
        pairs = [(a, b) for a in inside for b in inside if a <= b < a + 30]
        a, b = max(pairs, key=lambda ab: float(logits[0, ab[0], 0] + logits[0, ab[1], 1]))
        spans = texts.pieces.spans[0]
        expected = told[spans[words[a]][0] : spans[words[b]][1]]
        assert predicted_answers(Told(logits), texts) == [expected]
