"""Encoder and heads: buckets against one plain pass, padding, pairs, weights, and training."""

import copy

import pytest
import torch
from text_tiny import PAD, SEP, needs_minilm, tiny_folder
from torch.nn.functional import cross_entropy, pad

from kpnb.datasets.texts.words import PieceEncoder
from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_name
from kpnb.networks.layers import modules_above, parameters_above, split_at
from kpnb.networks.text import (
    BUCKET,
    SentenceHead,
    SpanHead,
    TextNetwork,
    load_encoder,
    load_tokenizer,
    pretrained_network,
    scratch_network,
    tracked_weight,
)
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import train_classifier

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "good", "a bad film", "unbelievable, but long story", "who was born in it?", "dull",
    "not a very good film", "she moon-landed", "it is what it is", "the long story was not dull!",
    "can't believe it", "bad", "he was very, very good", "is it?",
]  # fmt: skip
SETTINGS = TrainingSettings(epochs=1, lr=0.05, batch_size=4, checkpoints=(0, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pieces(folder):
    return PieceEncoder(load_tokenizer(folder))


@pytest.fixture(scope="module")
def ids(pieces):
    return pieces.texts(TEXTS).ids


@pytest.fixture
def net(folder, pieces):
    return pretrained_network(folder, "sentence", pieces).double()


def refused(call):
    with pytest.raises(KpnbError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def plain(folder, ids, types=None):
    """The library's own forward pass, one text at a time and without padding, 0 at padding."""
    model = load_encoder(folder).double()
    states = []
    for row, one in enumerate(ids):
        length = int((one != PAD).sum())
        given = None if types is None else types[row : row + 1, :length]
        found = model(one[None, :length], token_type_ids=given).last_hidden_state[0]
        states.append(pad(found, (0, 0, 0, len(one) - length)))
    return torch.stack(states), model


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-9)


# Encoder


def test_buckets_are_the_plain_model(folder, net, ids):
    assert len(ids) > BUCKET  # several buckets
    states = net.encoder(ids)
    expected, model = plain(folder, ids)
    same(states, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0)).double()
    (states * weights).sum().backward()
    (expected * weights).sum().backward()
    theirs = dict(model.named_parameters())
    for name, parameter in net.encoder.model.named_parameters():
        same(parameter.grad, theirs[name].grad)


def test_padding_and_the_rest_of_the_batch_change_no_state(net, ids):
    states = net.encoder(ids)
    wider = net.encoder(pad(ids, (0, 9), value=PAD))
    same(wider[:, : ids.shape[1]], states)
    real = ids != PAD
    assert not states[~real].any() and not wider[:, ids.shape[1] :].any()
    assert states[real].any(-1).all()
    order = torch.arange(len(ids)).flip(0)
    same(net.encoder(ids[order]), states[order])
    same(net(pad(ids, (0, 9), value=PAD)), net(ids))
    torch.testing.assert_close(net.float()(ids).double(), net.double()(ids), atol=1e-4, rtol=0)


def test_a_pair_has_the_token_types_of_the_tokenizer(folder, pieces, net):
    questions = ["who was born?", "is it good?", "what, very long, is it?"]
    contexts = ["she was.", "the film is very good", "story"]
    found = load_tokenizer(folder)(questions, contexts, padding=True, return_tensors="pt")
    ids = pieces.pairs(questions, contexts).ids
    assert torch.equal(ids, found["input_ids"])
    own = net.encoder._parts(ids, ids != PAD)
    assert torch.equal(own, found["token_type_ids"]) and own.any() and (ids == SEP).any()
    same(net.encoder(ids), plain(folder, ids, found["token_type_ids"])[0])
    assert (net.encoder(ids) - plain(folder, ids)[0]).abs().max() > 0.01  # they matter


def test_embeddings_in_place_of_ids(net, ids):
    embeddings = net.encoder.embed(ids)
    table = net.encoder.model.embeddings.word_embeddings.weight
    assert torch.equal(embeddings, table[ids])
    assert torch.equal(net.encoder(ids, embeddings), net.encoder(ids))
    moved = embeddings.clone()
    moved[0, 1, 3] += 1.0  # one component: the same in all would be normalized away
    changed = (net.encoder(ids, moved) - net.encoder(ids)).abs().amax((1, 2)) > 1e-3
    assert changed.tolist() == [True] + [False] * (len(ids) - 1)
    moved = embeddings + 5.0 * (ids == PAD).unsqueeze(-1)
    same(net.encoder(ids, moved), net.encoder(ids))  # noise at padding is not seen
    scale = table[torch.arange(len(table)) != PAD].square().mean().sqrt().item()
    assert net.encoder.embedding_scale() == pytest.approx(scale, rel=1e-12)


def test_inputs_that_do_not_fit(net):
    for wrong in (
        torch.ones(2, 129, dtype=torch.int64),
        torch.ones(5, dtype=torch.int64),
        torch.tensor(3),
        torch.ones(2, 0, dtype=torch.int64),
        torch.ones(2, 5),
        torch.ones(2, 5, dtype=torch.int32),
    ):
        assert "at most 128" in refused(lambda wrong=wrong: net(wrong))
    assert net(torch.ones(1, 128, dtype=torch.int64)).shape == (1, 2)


# Heads


def states_of(*lengths, longest=6, width=4):
    states = torch.randn(len(lengths), longest, width, generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        states[row, length:] = 0.0
    return states.double()


def test_mean_pooling_leaves_out_padding():
    head = SentenceHead(4, 3, dropout=0.0, pooling="mean").double()
    states = states_of(6, 2, 1)
    means = torch.stack(
        [row[:length].mean(0) for row, length in zip(states, (6, 2, 1), strict=True)]
    )
    same(head(states), head.classifier(head.pooler(means).tanh()))
    first = SentenceHead(4, 3, dropout=0.0, pooling="first").double()
    same(first(states), first.classifier(first.pooler(states[:, 0]).tanh()))


def test_padding_is_no_end_of_an_answer():
    head = SpanHead(4, dropout=0.0).double()
    states = states_of(6, 3).requires_grad_()
    logits = head(states)
    assert logits.shape == (2, 6, 2)
    assert (logits[1, 3:] == -torch.inf).all() and logits[0].isfinite().all()
    labels = torch.tensor([[1, 4], [0, 2]])
    loss = cross_entropy(logits, labels)
    by_hand = [-logits[n, :, k].log_softmax(0)[labels[n, k]] for n in (0, 1) for k in (0, 1)]
    same(loss, torch.stack(by_hand).mean())
    loss.backward()
    assert states.grad.isfinite().all() and head.ends.weight.grad.isfinite().all()


# Weights


def test_scratch_weights_come_from_the_seed_alone(folder, pieces):
    before = torch.get_rng_state()
    one = scratch_network(folder, "sentence", pieces, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = scratch_network(folder, "sentence", pieces, seed=3).state_dict()
    other = scratch_network(folder, "sentence", pieces, seed=4).state_dict()
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, again[name])
        constant = "LayerNorm" in name or name.endswith("bias")
        assert torch.equal(weight, other[name]) == constant, name
    table = one.encoder.model.embeddings.word_embeddings.weight
    assert table[1:].std().item() == pytest.approx(0.06, rel=0.05) and not table[PAD].any()
    assert not one.training


def test_scratch_weights_write_little_into_the_residual_stream(folder, pieces):
    layers = scratch_network(folder, "sentence", pieces, seed=3).encoder.model.encoder.layer
    for layer in layers:
        writes = layer.output.dense, layer.attention.output.dense  # 48 and 32 inputs
        inside = layer.intermediate.dense, layer.attention.self.query, layer.attention.self.value
        stds = [map_.weight.std().item() * map_.in_features**0.5 for map_ in (*writes, *inside)]
        assert stds == pytest.approx([0.2, 0.2, 1, 1, 1], rel=0.1)
        assert bool((layer.attention.output.LayerNorm.weight == 1).all())
    gains = [bool((layer.output.LayerNorm.weight == 1).all()) for layer in layers]
    assert gains == [True] * (len(layers) - 1) + [False]
    assert layers[-1].output.LayerNorm.weight.unique().item() == pytest.approx(0.3)


def test_pretrained_weights_are_those_of_the_folder(folder):
    kept = PieceEncoder.for_texts(load_tokenizer(folder), TEXTS[:3])
    before = torch.get_rng_state()
    net = pretrained_network(folder, "span", kept, layers=1, seed=5)
    assert torch.equal(before, torch.get_rng_state()) and not net.training
    original = load_encoder(folder).state_dict()
    own = net.encoder.model.state_dict()
    assert len(net.encoder.model.encoder.layer) == 1
    table = "embeddings.word_embeddings.weight"
    assert torch.equal(own.pop(table), original[table][kept.kept])
    assert not any("pooler" in name for name in own)
    for name, weight in own.items():
        assert torch.equal(weight, original[name]), name
    same_seed = pretrained_network(folder, "span", kept, layers=1, seed=5)
    other = pretrained_network(folder, "span", kept, layers=1, seed=6)
    assert torch.equal(net.head.ends.weight, same_seed.head.ends.weight)
    assert not torch.equal(net.head.ends.weight, other.head.ends.weight)
    every = PieceEncoder(load_tokenizer(folder))
    full = pretrained_network(folder, "span", every, layers=1)
    text = ["a bad film"]
    states = full.encoder(every.texts(text).ids)
    assert torch.equal(net.encoder(kept.texts(text).ids), states)  # fewer rows, the same network


def test_depth_and_heads_that_do_not_exist(folder, pieces):
    for build in (pretrained_network, scratch_network):
        assert len(build(folder, "span", pieces, layers=1).encoder.model.encoder.layer) == 1
        for layers in (0, 3):
            message = refused(lambda b=build, n=layers: b(folder, "span", pieces, layers=n))
            assert "2 layers" in message
        assert "sentence, span" in refused(lambda b=build: b(folder, "spam", pieces))
        assert build(folder, "sentence", pieces, classes=5)(torch.ones(1, 3).long()).shape == (1, 5)


@needs_minilm
def test_the_packaged_model_is_its_own_forward_pass():
    pieces = PieceEncoder.for_texts(load_tokenizer("MiniLM-L6"), TEXTS)
    net = pretrained_network("MiniLM-L6", "sentence", pieces, layers=2)
    found = load_tokenizer("MiniLM-L6")(TEXTS[:3], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = load_encoder("MiniLM-L6", 2)(**found).last_hidden_state
        own = net.encoder(pieces.texts(TEXTS[:3]).ids)
    real = found["attention_mask"].bool()
    torch.testing.assert_close(own[real], expected[real], atol=2e-4, rtol=0)


# Training


def test_last_is_the_encoder(net):
    assert layer_name(net, "Last") == "encoder"
    below, above = split_at(net, "Last")
    assert list(below) == [net.encoder] and list(above) == [net.head]
    head = list(net.head.parameters())
    assert [id(p) for p in parameters_above(net, "Last")] == [id(p) for p in head]
    assert set(modules_above(net, "Last")) == {m for m in net.head.modules() if m is not net.head}
    assert tracked_weight(net) is net.encoder.model.encoder.layer[-1].output.dense.weight
    refused(lambda: tracked_weight(TextNetwork(torch.nn.Identity(), net.head)))


def changed(net, before):
    after = net.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def scratch(folder, pieces, head="sentence"):
    net = scratch_network(folder, head, pieces, seed=1)
    return net, copy.deepcopy(net.state_dict())


def test_trainers_change_what_they_should(folder, pieces, ids):
    labels = torch.arange(len(ids)) % 2
    net, before = scratch(folder, pieces)
    record = train_classifier(net, ids, labels, SETTINGS)
    assert changed(net, before) == {"encoder", "head"} and len(record.loss) >= 1
    net, before = scratch(folder, pieces)
    targets = teacher_features(pretrained_network(folder, "sentence", pieces), "Last", ids)
    assert targets.shape == (*ids.shape, 32) and not targets[ids == PAD].any()
    record = distill_features(net, "Last", targets, ids, SETTINGS)
    assert changed(net, before) == {"encoder"} and record.loss[-1] > 0
    between = copy.deepcopy(net.state_dict())
    train_above(net, "Last", ids, labels, SETTINGS)
    assert changed(net, between) == {"head"}
    assert all(p.requires_grad for p in net.parameters())


def test_spans_train_too(folder, pieces):
    sample = pieces.pairs(["who is it?", "what?"], ["she is very good", "the film was dull"])
    labels = torch.tensor([[6, 6], [4, 5]])
    net, before = scratch(folder, pieces, "span")
    settings = TrainingSettings(epochs=40, lr=0.02, batch_size=2, checkpoints=(0, 40))
    record = train_classifier(net, sample.ids, labels, settings)
    assert changed(net, before) == {"encoder", "head"}
    assert record.loss[-1] < 0.5 * record.loss[0]
    assert torch.equal(net.eval()(sample.ids).argmax(1), labels)
