"""Entropy maps of texts: a known answer, padding, equal noise in all networks, and the scale."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from refusals import refuses
from text_tiny import linear_network
from torch import nn
from torch.nn.functional import pad

from kpnb.datasets.texts.word_pieces import NO_WORD, Pieces
from kpnb.estimator.entropy import TENSORS, EntropyEstimator, Stopped
from kpnb.networks.text import pretrained_network, scratch_network
from kpnb.networks.words import WordUnits
from kpnb.study.text import TextEstimator

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["a bad film", "unbelievable films, don't!", "it was not very long", "dull story"]
QUICK = EntropyEstimator("encoder", relu=False, probes=8, evaluations=2, standard_error=None)
OPTIMUM = replace(QUICK, method="optimum", probes=24)  # exact for so few features


@pytest.fixture(scope="module")
def pieces(encoder):
    return encoder.texts(TEXTS)


@pytest.fixture(scope="module")
def net(tiny_model, encoder):
    return pretrained_network(tiny_model, "sentence", encoder)


def same_bits(one, other):
    for name in TENSORS:
        a, b = getattr(one, name), getattr(other, name)
        assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def closed_form(net, pieces, row, weight=7.0):
    """sigma of Eq. 3 at its minimum for states M_t e_t: a word's weights are all its pieces'."""
    squares = net.encoder.maps.square().sum((1, 2)).tolist()
    sums = [0.0] * pieces.units[row]
    for position, word in enumerate(pieces.words[row].tolist()):
        if word != NO_WORD:
            sums[word] += squares[position]
    sums = torch.tensor(sums, dtype=torch.float64)
    return (weight * 0.01**2 * sums.sum() / (2 * len(sums) * sums)).sqrt(), sums.sum()


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_pieces_of_a_word_share_one_sigma(encoder, pieces, scale):
    net = linear_network(encoder)
    maps, unit = TextEstimator(OPTIMUM, scale).explain(net, pieces), net.encoder.embedding_scale()
    assert maps.sigma.shape == (4, 5) and maps.sigma.dtype == torch.float64
    for row, count in enumerate(pieces.units):
        expected, total = closed_form(net, pieces, row)
        torch.testing.assert_close(maps.sigma[row, :count], expected, rtol=1e-6, atol=0)
        variance = (0.01 * scale * unit) ** 2 * total
        torch.testing.assert_close(maps.feature_variance[row], variance, rtol=0.4, atol=0)
        assert maps.standard_error[row, count:].isnan().all()


def test_padding_and_the_other_texts_change_no_bit(net, pieces):
    explain = TextEstimator(QUICK).explain
    maps = explain(net, pieces)
    assert maps.defined.all()
    ids, words = pad(pieces.ids, (0, 6), value=pieces.pad), pad(pieces.words, (0, 6), value=NO_WORD)
    same_bits(explain(net, Pieces(ids, words, pieces.spans, pieces.firsts, pieces.pad)), maps)
    order = [2, 0, 3, 1]
    same_bits(explain(net, pieces.subset(order)), maps[order])
    for row, count in enumerate(pieces.units):
        alone = explain(net, pieces.subset([row])).sigma
        assert alone.isfinite().all() and torch.equal(alone[0], maps.sigma[row, :count])
        assert maps.sigma[row, count:].isnan().all()


def first_noise(net, texts, seed=0):
    """Noise of the first noisy pass, in units of the network's own scale."""
    net.encoder.seen.clear()
    TextEstimator(replace(OPTIMUM, seed=seed)).explain(net, texts)
    clean = net.encoder.embed(texts.ids)
    added = [(seen - clean) / net.encoder.embedding_scale() for seen in net.encoder.seen]
    noise = next(noise for noise in added if noise.any())
    return noise[noise.flatten(1).any(1)]  # beside a clean row in the check of the model


def test_a_text_gets_the_same_noise_in_every_network(encoder):
    text = encoder.texts(["not a very good film"])
    one, other = linear_network(encoder), linear_network(encoder, shrink=50.0)
    with torch.no_grad():
        other.encoder.table.weight.copy_(other.encoder.table.weight.flip(0) - 7.0)
        other.encoder.maps.neg_()
    noise = first_noise(one, text)
    torch.testing.assert_close(first_noise(other, text), noise, atol=1e-12, rtol=0)
    special = text.words[0] == NO_WORD
    words = noise[:, ~special]
    assert words.std().item() == pytest.approx(0.01, rel=0.2)  # init_sigma
    assert len(torch.unique(noise[0, 1])) == 3  # every component its own
    for changed in (first_noise(one, encoder.texts(["not a very bad film"])),
                    first_noise(one, text, seed=1)):  # fmt: skip
        assert (changed - noise)[:, 1:-1].abs().min() > 0
    for method in ("optimum", "path", "published"):  # special pieces take none
        few = replace(QUICK, method=method, draws=4, iterations=3, extra_iterations=1)
        one.encoder.seen.clear()
        TextEstimator(few).explain(one, text)
        seen = [rows for rows in one.encoder.seen if len(rows) > 2]  # after the model's check
        noisy = torch.cat(seen) != one.encoder.embed(text.ids[0])
        assert not noisy[:, special].any() and torch.equal(noisy.all(-1).any(0), ~special)


def test_the_mark_of_a_text_is_lost_in_rounding(net, pieces):
    """It says which text it is, and takes no digit of the noise in single precision."""
    ids = pieces.ids[1:2]
    problem = WordUnits(pieces.words[1], 2.0).problem(net, ids)
    assert problem.x.dtype == torch.float32 and problem.x.shape == (1, ids.shape[1], 32)
    noise = 1e-4 * torch.randn(problem.x.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(problem.x + noise, noise)
    assert len(problem.x.unique()) == len({*ids[0].tolist(), 0})
    with torch.no_grad():
        logits = problem.forward(problem.x + noise, torch.zeros(1, dtype=torch.int64))
        states = net.encoder(ids, net.encoder.embed(ids) + 2.0 * noise)
        torch.testing.assert_close(logits, net.head(states))


def test_the_unit_of_the_embeddings_does_not_matter_and_the_scale_is_that_of_sigma(encoder, pieces):
    """Half the scale and twice the initial sigma are the same noise; sigma doubles."""
    one, other = linear_network(encoder), linear_network(encoder, shrink=1000.0)
    assert torch.equal(1000 * one.encoder.table.weight, other.encoder.table.weight)
    near = partial(torch.testing.assert_close, rtol=1e-6, atol=0, equal_nan=True)
    for settings in (QUICK, OPTIMUM):
        maps, scaled = (TextEstimator(settings).explain(n, pieces).sigma for n in (one, other))
        near(scaled, maps)
    half = TextEstimator(replace(OPTIMUM, init_sigma=0.02), 0.5).explain(one, pieces)
    near(half.sigma, 2 * maps)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        refuses(TextEstimator, "positive", OPTIMUM, scale)


def test_layers_by_name(tiny_model, encoder, net, pieces):
    few = pieces.subset([0, 3])
    last, same, *others = (
        TextEstimator(replace(QUICK, layer=layer)).explain(net, few)
        for layer in ("Last", "encoder", "head.pooler", "encoder.model.encoder.layer.0")
    )
    same_bits(last, same)
    for other in others:
        assert other.defined.all() and not torch.equal(other.sigma[0], last.sigma[0])
    refuses(TextEstimator(replace(QUICK, layer="encoder.nowhere")).explain, "layer", net, few)
    for other in (nn.Linear(2, 2), net.encoder, nn.Sequential(net.encoder, net.head)):
        refuses(TextEstimator().explain, "TextNetwork", other, pieces)
    # Pairs have one map over question and context.
    span = scratch_network(tiny_model, "span", encoder)
    pairs = encoder.pairs(["who is it?", "what?"], ["she was very good", "film"])
    maps = TextEstimator(QUICK).explain(span, pairs)
    assert maps.sigma.isfinite().sum(1).tolist() == pairs.units == [8, 3] and maps.defined.all()
    # Settings say how they were made.
    half = TextEstimator(QUICK, scale=0.5)
    settings = half.explain(net, pieces.subset([0])).settings
    assert settings == half.settings and settings["units"] == "words" and settings["scale"] == 0.5
    assert not TextEstimator().settings["relu"]


def test_ctrl_c_in_a_second_layer_keeps_the_first(net, pieces, monkeypatch):
    read = EntropyEstimator.explain
    calls = []

    def pressed(self, *given, **named):
        calls.append(self.layer)
        if len(calls) > len(TEXTS):
            raise KeyboardInterrupt
        return read(self, *given, **named)

    monkeypatch.setattr(EntropyEstimator, "explain", pressed)
    two = TextEstimator(replace(QUICK, layer=["encoder", "head"]))
    with pytest.raises(Stopped, match=r"by layer \(encoder: 4\)") as stopped:
        two.explain(net, pieces)
    assert list(stopped.value.maps) == ["encoder"] and len(stopped.value.maps["encoder"]) == 4
