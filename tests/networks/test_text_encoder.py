"""Tokenizer, encoder and word units: known answers, padding, gradients, and a map end to end."""

import subprocess
import sys

import pytest
import torch
from reference import generator
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import layer_module
from kpnb.estimator.units import Problem
from kpnb.estimator.word_units import TokenUnits
from kpnb.networks.second_bert import CLS, PAD, SEP, SPECIAL, UNK, Vocabulary, text_encoder, tokens
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import accuracy, train_classifier

WORDS = 30


@pytest.fixture(scope="module")
def net():
    return text_encoder(WORDS, 2, width=16, longest=12, seed=3).eval()


def some_ids(n, length, seed=0):
    return torch.randint(len(SPECIAL), WORDS, (n, length), generator=generator(seed))


# Tokenizer


def test_tokens_of_any_script():
    assert tokens("It's Great, isn’t it?!") == ["it's", "great", ",", "isn't", "it", "?", "!"]
    assert tokens("Café ÉTÉ") == tokens("Cafe\u0301 E\u0301te\u0301") == ["café", "été"]
    assert tokens("фильм 很好 🙂🙂") == ["фильм", "很好", "🙂", "🙂"]
    assert tokens("''rock 'n roll''") == ["'", "'", "rock", "'", "n", "roll", "'", "'"]
    assert tokens("[CLS] a") == ["[", "cls", "]", "a"]  # a text cannot spell a special token
    assert tokens("") == tokens(" \t\n") == []


def test_a_vocabulary_ranks_by_count_then_alphabet_whatever_the_order():
    texts = ["b a c", "a c b rare", "a ñ ñ"]
    known = Vocabulary.build(texts)
    assert known.words == (*SPECIAL, "a", "b", "c", "ñ")
    assert Vocabulary.build(reversed(texts)) == known
    assert Vocabulary.build(texts, size=6).words == (*SPECIAL, "a", "b")
    assert Vocabulary.build(texts, least=1).words[-1] == "rare" and len(known) == 8


def test_ids_are_framed_padded_and_cut():
    known = Vocabulary.build(["good film", "good film"])
    good, film = 5, 4  # equal counts: f before g
    ids = known.encode(["Good film", "", "good ünknown good film"])
    assert ids.dtype == torch.int64
    assert ids.tolist() == [
        [CLS, good, film, SEP, PAD, PAD],
        [CLS, SEP, PAD, PAD, PAD, PAD],
        [CLS, good, UNK, good, film, SEP],
    ]
    assert known.encode(["good film good"], length=4).tolist() == [[CLS, good, film, SEP]]
    assert known.decode(ids)[2] == ["[CLS]", "good", "[UNK]", "good", "film", "[SEP]"]
    assert known.decode(ids)[1] == ["[CLS]", "[SEP]"]


def test_a_vocabulary_refuses_what_it_cannot_use():
    known = Vocabulary.build(["a a"])
    for call in (
        lambda: Vocabulary.build([]),
        lambda: Vocabulary.build(["each word once"]),
        lambda: Vocabulary(("a", "b")),
        lambda: Vocabulary((*SPECIAL, "a", "a")),
        lambda: known.encode([]),
        lambda: known.encode("a"),
        lambda: known.encode(["a"], length=2),
    ):
        with pytest.raises(KpnbError) as caught:
            call()
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


# Encoder


def test_equal_seeds_give_equal_weights_and_the_global_state_stays():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same = (text_encoder(WORDS, 2, width=16, seed=5).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = text_encoder(WORDS, 2, width=16, seed=5).state_dict()
    other = text_encoder(WORDS, 2, width=16, seed=6).state_dict()
    for name, weight in one.items():
        assert torch.equal(weight, same[name]) and torch.equal(weight, again[name])
        if weight.dim() == 2:
            assert not torch.equal(weight, other[name])


def test_scale_of_the_initial_weights():
    net = text_encoder(500, 2, width=64)
    table = net.bert.embeddings.word_embeddings.weight
    assert table[1:].std().item() == pytest.approx(0.02, rel=0.02) and not table[PAD].any()
    inner = net.bert.encoder.layer[0].output.dense  # 256 inputs
    assert inner.weight.std().item() == pytest.approx(1 / 16, rel=0.03) and not inner.bias.any()


def test_padding_changes_no_logit(net):
    ids = some_ids(3, 7)
    padded = nn.functional.pad(ids, (0, 5), value=PAD)
    torch.testing.assert_close(net(padded), net(ids), atol=1e-5, rtol=0)
    mixed = padded.clone()
    mixed[0, 4:] = PAD  # sentences of different length in one batch
    torch.testing.assert_close(net(mixed)[0], net(ids[:1, :4])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(net(mixed)[1:], net(ids)[1:], atol=1e-5, rtol=0)
    assert (net(ids)[0] - net(mixed)[0]).abs().max() > 1e-4  # the words left out did matter
    mask = padded != PAD
    hidden = net.encode(net.embed(padded), mask)[:, :7]
    torch.testing.assert_close(hidden, net.encode(net.embed(ids), mask[:, :7]))


def test_padded_embeddings_take_no_part(net):
    ids = nn.functional.pad(some_ids(2, 6), (0, 3))
    embeddings = net.embed(ids).detach().requires_grad_()
    net.forward_embedded(embeddings, ids != PAD).sum().backward()
    assert not embeddings.grad[:, 6:].any()
    assert (embeddings.grad[:, :6].abs().sum(-1) > 0).all()


def test_gradient_in_the_embeddings_is_that_of_finite_differences(net):
    double = text_encoder(WORDS, 2, width=16, longest=12, seed=3).eval().double()
    ids = some_ids(2, 5)
    embeddings = double.embed(ids).detach().requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.bool)
    assert double(ids).dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda e: double.forward_embedded(e, mask), embeddings, eps=1e-7, atol=1e-4
    )
    torch.testing.assert_close(double(ids), net(ids).double(), atol=1e-4, rtol=1e-4)


def test_named_layers_are_the_last_hidden_state_and_the_pooler(net):
    ids, seen = some_ids(2, 5), {}
    handles = [
        layer_module(net, name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: output})
        )
        for name in ("Last", "FC1")
    ]
    logits = net(ids)
    for handle in handles:
        handle.remove()
    assert torch.equal(seen["Last"], net.encode(net.embed(ids), ids != PAD))
    assert seen["Last"].shape == (2, 5, 16)
    assert torch.equal(net.classifier(seen["FC1"].tanh()), logits)


def test_dropout_works_in_training_only():
    ids = some_ids(2, 5)
    dropping = text_encoder(WORDS, 2, width=16, dropout=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(dropping.train()(ids), dropping(ids))
        assert torch.equal(dropping.eval()(ids), dropping(ids))
        plain = text_encoder(WORDS, 2, width=16, dropout=0.0).train()
        assert torch.equal(plain(ids), dropping(ids))


def test_an_encoder_refuses_sizes_and_inputs_that_do_not_fit(net):
    for call in (
        lambda: text_encoder(4, 2),
        lambda: text_encoder(WORDS, 1),
        lambda: text_encoder(WORDS, 2, width=10, heads=4),
        lambda: text_encoder(WORDS, 2, layers=0),
        lambda: text_encoder(WORDS, 2, dropout=1.0),
        lambda: net(some_ids(2, 13)),
        lambda: net(some_ids(2, 5)[0]),
        lambda: net(torch.zeros(2, 5)),
        lambda: net(torch.zeros(2, 0, dtype=torch.int64)),
        lambda: net.forward_embedded(torch.zeros(2, 5, 16), torch.ones(2, 4, dtype=torch.bool)),
    ):
        with pytest.raises(KpnbError) as caught:
            call()
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_the_library_is_imported_on_first_use_only():
    code = "import sys, kpnb.networks.second_bert, kpnb.estimator.word_units; "
    code += "sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_trainer_takes_ids():
    """One word decides the class; the encoder finds out which."""
    ids = some_ids(96, 6)
    ids[ids == 10] = 11
    labels = torch.arange(96) % 2
    ids[torch.arange(96), torch.arange(96) % 6] = 10 + 5 * labels
    ids[(ids == 15) & (labels == 0).unsqueeze(1)] = 16
    small = text_encoder(WORDS, 2, layers=1, width=16, dropout=0.0)
    settings = TrainingSettings(epochs=20, lr=0.02, batch_size=16, checkpoints=(0, 20))
    kept = {}
    record = train_classifier(
        small, ids, labels, settings, on_checkpoint=lambda epoch, state: kept.update({epoch: state})
    )
    assert record.loss[-1] < 0.2 < record.loss[0]
    assert accuracy(small, ids, labels) == 1.0 and set(kept) == {0, 20}


# Units


def test_spread_and_gather_are_adjoint():
    units, x = TokenUnits(), torch.randn(3, 5, 4, generator=generator(0), dtype=torch.float64)
    values = torch.randn(3, 5, generator=generator(1), dtype=torch.float64)
    spread = units.spread(values, x).expand_as(x)
    assert units.count(x) == 5 and torch.equal(spread[1, 2], values[1, 2].expand(4))
    torch.testing.assert_close((spread * x).sum(), (values * units.gather(x)).sum())
    torch.testing.assert_close(units.gather(x)[2, 3], x[2, 3].sum())


def test_the_problem_is_the_network_on_its_embeddings(net):
    ids = some_ids(4, 6)
    problem = TokenUnits().problem(net, ids)
    assert isinstance(problem, Problem) and not problem.x.requires_grad
    assert torch.equal(problem.x, net.bert.embeddings.word_embeddings.weight[ids])
    assert torch.equal(problem.forward(problem.x, torch.arange(4)), net(ids))
    repeated = torch.tensor([2, 2, 0])
    torch.testing.assert_close(problem.forward(problem.x[repeated], repeated), net(ids)[repeated])


def test_scale_is_the_unit_of_sigma(net):
    ids = some_ids(2, 6)
    plain, scaled = (TokenUnits(scale).problem(net, ids) for scale in (1.0, 0.5))
    torch.testing.assert_close(scaled.x, 2 * plain.x)
    torch.testing.assert_close(scaled.forward(scaled.x, torch.arange(2)), net(ids))
    weights = torch.randn(10, 6, 3, generator=generator(7), dtype=torch.float64)
    linear = LinearEncoder(weights)
    settings = dict(method="optimum", relu=False, probes=8, standard_error=None)
    one = EntropyEstimator("last", TokenUnits(0.1), init_sigma=0.02, **settings)
    same = EntropyEstimator("last", TokenUnits(), init_sigma=0.002, **settings)
    torch.testing.assert_close(
        0.1 * one.explain(linear, ids).sigma, same.explain(linear, ids).sigma
    )
    rows = net.bert.embeddings.word_embeddings.weight[1:]
    assert net.embedding_scale() == pytest.approx(rows.square().mean().sqrt().item(), rel=1e-5)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(KpnbError, match="positive"):
            TokenUnits(scale)


def test_units_refuse_padding_lengths_and_other_models(net):
    padded = some_ids(2, 6)
    padded[1, 5] = PAD
    cases = (
        (net, padded, "padding"),
        (net, [torch.tensor([2, 3]), torch.tensor([2, 4, 3])], "differ in length"),
        (net, torch.zeros(2, 3, 8, 8), "word ids"),
        (net, some_ids(2, 6).int(), "word ids"),
        (nn.Flatten(), some_ids(2, 6), "text_encoder"),
    )
    for model, inputs, message in cases:
        with pytest.raises(KpnbError, match=message):
            TokenUnits().problem(model, inputs)


class LinearEncoder(nn.Module):
    """An encoder with a known answer: the feature is a weighted sum over word embeddings."""

    def __init__(self, weights):
        super().__init__()
        self.table = nn.Embedding(WORDS, weights.shape[2]).double()
        self.last = nn.Identity()
        self.weights = weights  # (d, T, width)

    def embed(self, ids):
        return self.table(ids)

    def forward_embedded(self, embeddings, mask):
        return self.last(torch.einsum("dtw,ntw->nd", self.weights, embeddings * mask[..., None]))


def test_known_optimum_of_a_linear_encoder():
    """sigma_i^2 is proportional to 1 / squared weights of the word, at the minimum of Eq. 3."""
    weights = torch.randn(10, 5, 3, generator=generator(7), dtype=torch.float64)
    maps = EntropyEstimator(
        "last", TokenUnits(), "optimum", relu=False, probes=8, entropy_weight=7.0
    ).explain(LinearEncoder(weights), some_ids(3, 5))
    squares = weights.square().sum((0, 2))  # (T,)
    variance = 0.01**2 * squares.sum()
    expected = (7.0 * variance / (2 * 5 * squares)).sqrt()
    torch.testing.assert_close(maps.sigma, expected.expand(3, 5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("layer", ["Last", "FC1"])
@pytest.mark.parametrize("method", ["path", "optimum"])
def test_maps_of_an_encoder_follow_their_sentence(net, layer, method):
    ids = some_ids(4, 6)
    estimator = EntropyEstimator(
        net.layer_names[layer], TokenUnits(net.embedding_scale()), method, probes=16, relu=False
    )
    maps = estimator.explain(net, ids)
    assert maps.sigma.shape == (4, 6) and maps.defined.all() and maps.sigma.isfinite().all()
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        estimator.explain(net, ids[order]).entropy, maps.entropy[order], atol=1e-4, rtol=0
    )
    small = EntropyEstimator(**{**vars(estimator), "chunk": 16})
    torch.testing.assert_close(small.explain(net, ids).entropy, maps.entropy, atol=1e-3, rtol=0)
    assert "TokenUnits" in maps.settings["units"]
    if method == "path":
        assert maps.reached.all()
    assert net(ids).isfinite().all()  # nothing is left behind in the model


def test_a_word_that_attention_cannot_see_loses_all_information(net):
    """At the last position's feature of a network that only reads position 0, others go to 1."""
    only_first = text_encoder(WORDS, 2, layers=1, width=16, seed=3).eval()
    attention = only_first.bert.encoder.layer[0].attention
    with torch.no_grad():
        attention.output.dense.weight.zero_()  # positions no longer talk to each other
    maps = EntropyEstimator(
        only_first.layer_names["FC1"], TokenUnits(), "optimum", init_sigma=0.002, probes=16
    ).explain(only_first, some_ids(2, 5))
    assert (maps.sigma[:, 1:] == 1.0).all() and (maps.sigma[:, 0] < 0.1).all()
