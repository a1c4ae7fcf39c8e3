"""Entropy maps of texts: a known answer, padding, equal noise in all networks, and the scale."""

from dataclasses import replace

import pytest
import torch
from studied import refused
from text_tiny import linear_network
from torch import nn
from torch.nn.functional import pad

from kpnb.datasets.texts.words import NO_WORD, PieceEncoder, Pieces
from kpnb.estimator.entropy import TENSORS, EntropyEstimator
from kpnb.networks.text import load_tokenizer, pretrained_network, scratch_network
from kpnb.study.text import TextEstimator, WordUnits

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["a bad film", "unbelievable films, don't!", "it was not very long", "dull story"]
QUICK = EntropyEstimator("encoder", relu=False, probes=8, evaluations=2, standard_error=None)
OPTIMUM = replace(QUICK, method="optimum", probes=24)  # exact for so few features


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return PieceEncoder(load_tokenizer(tiny_model))


@pytest.fixture(scope="module")
def pieces(encoder):
    return encoder.texts(TEXTS)


@pytest.fixture(scope="module")
def net(tiny_model, encoder):
    return pretrained_network(tiny_model, "sentence", encoder)


def wider(pieces, more):
    ids, words = (
        pad(tensor, (0, more), value=value)
        for tensor, value in ((pieces.ids, pieces.pad), (pieces.words, NO_WORD))
    )
    return Pieces(ids, words, pieces.spans, pieces.firsts, pieces.pad)


def same_bits(one, other):
    for name in TENSORS:
        a, b = getattr(one, name), getattr(other, name)
        assert a.shape == b.shape
        assert torch.equal(a.isnan(), b.isnan()) if a.is_floating_point() else True
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), name


# A known answer


def closed_form(net, pieces, row, weight=7.0):
    """sigma of Eq. 3 at its minimum for states M_t e_t: a word's squared weights are those of all
    its pieces; the feature's variance is that of noise on words alone, and scale cancels."""
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
    maps = TextEstimator(OPTIMUM, scale).explain(net, pieces)
    unit = scale * net.encoder.embedding_scale()
    assert maps.sigma.shape == (4, 5) and maps.sigma.dtype == torch.float64
    for row, count in enumerate(pieces.units):
        expected, total = closed_form(net, pieces, row)
        torch.testing.assert_close(maps.sigma[row, :count], expected, rtol=1e-6, atol=0)
        variance = (0.01 * unit) ** 2 * total
        torch.testing.assert_close(maps.feature_variance[row], variance, rtol=0.4, atol=0)
        assert maps.sigma[row, count:].isnan().all()
        assert maps.standard_error[row, count:].isnan().all()


def test_units_spread_and_gather(pieces):
    units = WordUnits(pieces.words[1], 1.0)
    x = torch.randn(2, pieces.ids.shape[1], 3, generator=torch.Generator().manual_seed(0)).double()
    values = torch.arange(1.0, 1 + units.count(x)).double().repeat(2, 1)
    spread = units.spread(values, x).expand_as(x)
    assert units.count(x) == pieces.units[1] and not spread[:, pieces.words[1] == NO_WORD].any()
    for position, word in enumerate(pieces.words[1].tolist()):
        assert word == NO_WORD or (spread[:, position] == word + 1).all()
    torch.testing.assert_close((spread * x).sum(), (values * units.gather(x)).sum())


# What must not matter


@pytest.mark.parametrize("kind", ["bert", "linear"])
def test_padding_and_the_other_texts_change_no_bit(kind, net, encoder, pieces):
    net = net if kind == "bert" else linear_network(encoder)
    explain = TextEstimator(QUICK).explain
    maps = explain(net, pieces)
    assert maps.defined.all() and maps.sigma[0, :3].isfinite().all()
    same_bits(explain(net, wider(pieces, 6)), maps)
    order = [2, 0, 3, 1]
    same_bits(explain(net, pieces.subset(order)), maps[order])
    for row, count in enumerate(pieces.units):
        alone = explain(net, pieces.subset([row]))
        assert alone.sigma.shape == (1, count)
        assert torch.equal(alone.sigma[0], maps.sigma[row, :count])
        assert maps.sigma[row, count:].isnan().all()


def test_special_pieces_take_no_noise(net, encoder, pieces):
    linear = linear_network(encoder)
    for method in ("optimum", "path", "published"):
        few = replace(QUICK, method=method, draws=4, iterations=3, extra_iterations=1)
        linear.encoder.seen.clear()
        TextEstimator(few).explain(linear, pieces.subset([1]))
        ids, words = pieces.subset([1]).ids[0], pieces.subset([1]).words[0]
        clean = linear.encoder.embed(ids)
        noisy = torch.cat(linear.encoder.seen)
        special = words == NO_WORD
        assert torch.equal(noisy[:, special], clean[special].expand(len(noisy), -1, -1))
        moved = (noisy != clean).all(-1).any(0)
        assert torch.equal(moved, ~special)


def first_noise(net, texts, seed=0):
    """Noise of the first noisy pass, in units of the network's own scale."""
    net.encoder.seen.clear()
    TextEstimator(replace(OPTIMUM, seed=seed)).explain(net, texts)
    clean = net.encoder.embed(texts.ids)
    added = [(seen - clean) / net.encoder.embedding_scale() for seen in net.encoder.seen]
    return next(noise for noise in added if noise.any())


def test_a_text_gets_the_same_noise_in_every_network(encoder):
    text = encoder.texts(["not a very good film"])
    one, other = linear_network(encoder), linear_network(encoder, shrink=50.0)
    with torch.no_grad():
        other.encoder.table.weight.copy_(other.encoder.table.weight.flip(0) - 7.0)
        other.encoder.maps.neg_()
    noise = first_noise(one, text)
    torch.testing.assert_close(first_noise(other, text), noise, atol=1e-12, rtol=0)
    words = noise[:, text.words[0] != NO_WORD]
    assert words.std().item() == pytest.approx(0.01, rel=0.2)  # init_sigma
    assert len(torch.unique(noise[0, 1])) == 3  # every component its own
    other_text = encoder.texts(["not a very bad film"])
    assert (first_noise(one, other_text) - noise)[:, 1:-1].abs().min() > 0
    assert (first_noise(one, text, seed=1) - noise)[:, 1:-1].abs().min() > 0


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


def test_the_unit_of_the_embeddings_does_not_matter(encoder, pieces):
    one, other = linear_network(encoder), linear_network(encoder, shrink=1000.0)
    assert torch.equal(1000 * one.encoder.table.weight, other.encoder.table.weight)
    for settings in (QUICK, OPTIMUM):
        maps, scaled = (TextEstimator(settings).explain(n, pieces) for n in (one, other))
        torch.testing.assert_close(scaled.sigma, maps.sigma, rtol=1e-6, atol=0, equal_nan=True)


def test_the_scale_is_what_sigma_is_measured_in(encoder, pieces):
    """Half the scale and twice the initial sigma are the same noise; sigma doubles."""
    net = linear_network(encoder)
    half = TextEstimator(replace(OPTIMUM, init_sigma=0.02), 0.5).explain(net, pieces)
    whole = TextEstimator(OPTIMUM).explain(net, pieces)
    torch.testing.assert_close(half.sigma, 2 * whole.sigma, rtol=1e-6, atol=0, equal_nan=True)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        refused(lambda scale=scale: TextEstimator(OPTIMUM, scale), "positive")


# Networks and layers


def test_layers_by_name(net, pieces):
    few = pieces.subset([0, 3])
    by_name = [
        TextEstimator(replace(QUICK, layer=layer)).explain(net, few)
        for layer in ("Last", "encoder", "head.pooler", "encoder.model.encoder.layer.0")
    ]
    same_bits(by_name[0], by_name[1])
    for other in by_name[2:]:
        assert other.defined.all() and not torch.equal(other.sigma[0], by_name[0].sigma[0])
    nowhere = TextEstimator(replace(QUICK, layer="encoder.nowhere"))
    refused(lambda: nowhere.explain(net, few), "layer")


def test_pairs_have_one_map_over_question_and_context(tiny_model, net, encoder, pieces):
    span = scratch_network(tiny_model, "span", encoder)
    pairs = encoder.pairs(["who is it?", "what?"], ["she was very good", "film"])
    maps = TextEstimator(QUICK).explain(span, pairs)
    assert maps.sigma.isfinite().sum(1).tolist() == pairs.units == [8, 3]
    assert maps.defined.all()
    for other in (nn.Linear(2, 2), net.encoder, nn.Sequential(net.encoder, net.head)):
        refused(lambda n=other: TextEstimator().explain(n, pieces), "TextNetwork")


def test_a_measurement_leaves_no_trace_and_says_how_it_was_made(net, pieces):
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    net.train()
    maps = TextEstimator(QUICK, scale=0.5).explain(net, pieces.subset([0]), title="Maps")
    assert net.training and all(p.requires_grad for p in net.parameters())
    net.eval()
    assert all(torch.equal(before[name], weight) for name, weight in net.state_dict().items())
    assert maps.settings["units"] == "words" and maps.settings["scale"] == 0.5
    assert maps.settings == TextEstimator(QUICK, scale=0.5).settings
    assert not TextEstimator().settings["relu"]
