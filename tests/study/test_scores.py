"""Reference lines by hand and where the answer is known; exact match and F1 against cases worked
by hand after SQuAD v1.1's definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpnb.datasets.texts.embedded import embedded_sentences
from kpnb.errors import KpnbError
from kpnb.study.scores import (
    exact_match,
    f1,
    majority,
    normalize_answer,
    span_scores,
    tfidf_logistic,
)


def test_majority_by_hand():
    assert majority([0, 1, 1], [1, 1, 0, 1]) == 0.75
    assert majority(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 1, 0])) == 0.25
    assert majority([1, 0], [0, 0, 1]) == pytest.approx(2 / 3)  # a tie goes to 0
    assert majority([5], [4]) == 0.0


@pytest.mark.parametrize("wrong", [[], [0.5], [[1, 0]]])
def test_labels_of_another_form_are_refused(wrong):
    with pytest.raises(KpnbError, match="train_labels has shape"):
        majority(wrong, [1])
    with pytest.raises(KpnbError, match="test_labels has shape"):
        majority([1], wrong)


def test_separable_texts_are_told_apart_by_word_and_by_pair():
    by_word = ["a fine day", "the fine hat", "a poor day", "the poor hat"]
    assert tfidf_logistic(by_word, [1, 1, 0, 0], ["so fine", "FINE", "poor"], [1, 1, 0]) == 1.0
    # Only the pairs differ: every word is once in each class.
    by_pair = ["not bad ; good", "not good ; bad"]
    assert tfidf_logistic(by_pair, [1, 0], ["not bad", "not good"], [1, 0]) == 1.0
    assert tfidf_logistic(by_pair, [1, 0], ["not bad", "not good"], [0, 1]) == 0.0


def test_embedded_sentences_beat_majority_and_repeat():
    train, test = embedded_sentences("train", 1.5, count=600), embedded_sentences("test", 1.5)
    data = (train.texts, train.labels, test.texts, test.labels)
    accuracy = tfidf_logistic(*data)
    assert accuracy > majority(train.labels, test.labels) + 0.1
    state = torch.get_rng_state()
    assert tfidf_logistic(*data) == tfidf_logistic(*data, seed=3) == accuracy
    assert torch.equal(torch.get_rng_state(), state)
    shuffled = tfidf_logistic(train.texts, train.labels.flip(0), test.texts, test.labels)
    assert abs(shuffled - 0.5) < 0.08  # nothing to learn where labels are mixed up


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(KpnbError, match="train_texts fits no 2 labels"):
        tfidf_logistic(["one"], [0, 1], ["two"], [0])
    with pytest.raises(KpnbError, match="test_texts fits no 3 labels"):
        tfidf_logistic(["one", "two"], [0, 1], "two", [0, 1, 0])
    with pytest.raises(KpnbError, match="one label only"):
        tfidf_logistic(["one", "two"], [1, 1], ["two"], [0])


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  U.S.A.\n", "usa"),
        ("an apple a day", "apple day"),
        ("a-priori, theatre", "apriori theatre"),
        ("Theodore's", "theodores"),
        ("a", ""),
        ("14,804 feet", "14804 feet"),
        ("MÜNCHEN – the city", "münchen – city"),  # only ASCII punctuation goes
        ("the-cat", "thecat"),
        ("", ""),
    ],
)
def test_normalized(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "accepted", "exact", "overlap"),
    [
        ("the Black Sea", ["Black Sea."], 1, 1),
        ("Sea, Black", ["Black Sea"], 0, 1),  # the order of words counts for EM alone
        ("Black", ["Black Sea"], 0, 2 / 3),  # P 1, R 1/2
        ("large Black Sea coast", ["the Black Sea"], 0, 2 / 3),  # P 1/2, R 1
        ("red red wine", ["red wine wine glass"], 0, 4 / 7),  # common: red, wine
        ("Rhone", ["the Rhine", "Rhone River", "the Rhone"], 1, 1),
        ("Rhone", ["the Rhine", "Rhone River"], 0, 2 / 3),
        ("Paris", ["London"], 0, 0),
        ("", ["London"], 0, 0),
        ("a", ["the"], 1, 0),  # both empty: equal, but no common word
    ],
)
def test_scores(prediction, accepted, exact, overlap):
    assert exact_match(prediction, accepted) == exact
    assert f1(prediction, accepted) == pytest.approx(overlap, abs=1e-12)


def test_means_over_questions():
    scores = span_scores(("Black", "The Rhone", "x"), (("Black Sea",), ("Rhine", "Rhone"), ("y",)))
    assert list(scores) == ["exact_match", "f1"]
    assert scores["exact_match"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


words = st.lists(st.sampled_from(["red", "wine", "old", "12", "ö"]), min_size=1, max_size=5)


@given(words, words)
def test_f1_is_symmetric_and_counts_what_is_left_over(first, second):
    """F1 = 1 - (words left over in either bag) / (words in both bags)."""
    rest, left = list(second), 0
    for word in first:
        if word in rest:
            rest.remove(word)
        else:
            left += 1
    expected = 1 - (left + len(rest)) / (len(first) + len(second))
    one, other = " ".join(first), " ".join(second)
    assert f1(one, [other]) == pytest.approx(expected, abs=1e-12) == f1(other, [one])
    assert (f1(one, [other]) == 1) == (sorted(first) == sorted(second))
    assert exact_match(one, [other]) == (first == second)


@pytest.mark.parametrize("call", [exact_match, f1])
@pytest.mark.parametrize("accepted", [[], "Black Sea"])
def test_no_list_of_accepted_answers(call, accepted):
    with pytest.raises(KpnbError, match="list of accepted answers"):
        call("Black Sea", accepted)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (1, 2), (2, 1)])
def test_predictions_and_questions_must_match(n, m):
    with pytest.raises(KpnbError, match=f"{n} predictions for {m} questions"):
        span_scores(["x"] * n, [["x"]] * m)
