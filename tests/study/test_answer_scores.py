"""The answers that a network gives, and their scores."""

import pytest
import torch
from public_files import ANSWERS, CONTEXTS, toy_questions
from text_tiny import tiny_folder
from torch import nn

from kpnb.datasets.texts.encoded import EncodedTexts, encoded_questions
from kpnb.datasets.texts.words import PieceEncoder
from kpnb.networks.text import load_tokenizer, scratch_network
from kpnb.study.scores import LONGEST_ANSWER, answer_scores, predicted_answers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def encoder(folder):
    return PieceEncoder(load_tokenizer(folder))


@pytest.fixture(scope="module")
def asked(encoder):
    return encoded_questions(toy_questions(), encoder)


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
    texts = encoded_questions(toy_questions(["Who is it?"], [told], ["story"]), encoder)
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
