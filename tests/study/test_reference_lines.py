"""The reference lines: majority by hand, TF-IDF on texts where the answer is known."""

import pytest
import torch

from kpnb.datasets.texts.embedded import embedded_sentences
from kpnb.errors import KpnbError
from kpnb.study.scores import majority, tfidf_logistic


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
