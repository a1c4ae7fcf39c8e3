"""What the tests at full size share: one SGD step and one map, by `closed_form` from two blocks of
draws, by `descent` in two large steps of one draw; `few_responses` asks with 2 draws."""

import json
import math
from contextlib import ExitStack
from pathlib import Path

import torch
import torchvision
from reference import images
from text_tiny import VOCABULARY, tiny_folder
from torch import nn

from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.estimator import closed_form as closed_forms
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import layer_module
from kpnb.estimator.units import GridUnits
from kpnb.networks import text as text_models
from kpnb.networks.image import image_network, torchvision_name
from kpnb.networks.layers import split_at
from kpnb.networks.text import load_tokenizer
from kpnb.training.settings import TrainingSettings

LAYERS = ("Conv", "FC1", "FC2", "FC3")
TARGET = -2.8  # nats, published
START = math.log(0.01) + 0.5 * math.log(2 * math.pi * math.e)  # mean entropy at sigma 0.01
# One epoch of one batch; optimizer, momentum, weight decay and schedule as published.
SETTINGS = TrainingSettings(epochs=1, lr=0.01)
ROUNDING = 2.5e-7  # two units in the last place
BERT_PIECES = 30522  # of BERT-base, uncased


def closed_form(layer, units=None, **changes):
    given = {"probes": 8, "evaluations": 1, "standard_error": None} | changes
    return EntropyEstimator(layer, units=units or GridUnits(16), **given)


def descent(layer, count, units=None, **changes):
    """count: of the units; a unit that the feature ignores rises by 0.25 nats in the first step."""
    lr = 0.25 * 0.01**2 * count / 7
    given = {"draws": 1, "iterations": 2, "extra_iterations": 0, "tolerance": 0.15} | changes
    units = units or GridUnits(16)
    return EntropyEstimator(layer, units=units, method="published", lr=lr, **given)


def few_responses(monkeypatch):
    monkeypatch.setattr(closed_forms, "RESPONSE_DRAWS", 2)


def check_map(maps, count):
    """One map of `count` units that has left its start, and is at the target if it says so."""
    assert maps.sigma.shape == (1, count)
    assert maps.sigma.isfinite().all() and maps.feature_variance.isfinite().all()
    assert maps.defined.all()
    mean = maps.mean_entropy.item()
    if maps.settings["method"] == "path":
        assert maps.reached.all() and maps.standard_error.isfinite().all()
    if maps.reached.all():
        assert abs(mean - TARGET) <= maps.settings["tolerance"] + 1e-6
    assert START + 0.1 < mean < 0
    assert maps.entropy.std() > 1e-3  # units differ


def check_step(net, start, record, settings=SETTINGS, still=()):
    """One step was made: a finite loss, and no weight is where decay alone would have left it.
    still: modules without a gradient, by parts of their names; biases are left out, as some are."""
    (loss,) = record.loss
    assert math.isfinite(loss) and loss > 0
    before = dict(start.named_parameters())
    for name, parameter in net.named_parameters():
        assert parameter.isfinite().all(), name
        if parameter.dim() > 1 and not any(part in name for part in still):
            first, now = before[name].detach(), parameter.detach()
            decayed = first * (1 - settings.lr * settings.weight_decay)
            least = ROUNDING * first.abs().max()
            assert (now - first).abs().max() > least, name
            assert (now - decayed).abs().max() > least, name


def shapes(conv, width, classes):
    return {"Conv": (1, *conv), "FC1": (1, width), "FC2": (1, width), "FC3": (1, classes)}


def check_against_torchvision(name, conv, width, smallest):
    """A full image network: shapes at the smallest image, published weights of FC layers, and
    outputs equal to torchvision's, for a ResNet those below the layers that the paper adds."""
    theirs = torchvision.models.get_model(torchvision_name(name), num_classes=7).eval()
    ours = image_network(name, 7).eval()
    assert feature_shapes(ours, LAYERS, images(1, smallest)) == shapes(conv, width, 7)
    published = ours.get_submodule(ours.layer_names["FC2"])
    assert abs(published.weight.std().item() / 0.01 - 1) < 0.02 and not published.bias.any()
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    trunk, added = ours, {key.partition(".")[0] for key in missing}
    if name == "ResNet-50":
        assert extra == ["fc.weight", "fc.bias"] and added == {"added", "classifier"}
        theirs.fc, trunk = nn.Identity(), nn.Sequential(split_at(ours, "layer4")[0], ours.avgpool)
    else:
        assert not missing and not extra
    with torch.no_grad():
        assert torch.equal(trunk(images(1, 96)).flatten(1), theirs(images(1, 96)))


def feature_shapes(net, labels, inputs):
    """Shapes of the named layers' outputs in one pass in eval mode."""
    found = {}
    with ExitStack() as hooks, torch.no_grad():
        for label in labels:

            def keep(module, args, output, label=label):
                found[label] = tuple(output.shape)

            hooks.enter_context(layer_module(net, label).register_forward_hook(keep))
        net.eval()(inputs)
    return found


def bert_base(root: Path, monkeypatch) -> PieceEncoder:
    """Lets "BERT-base" name a folder with its configuration, tiny weights that are not for loading
    and a tokenizer as large as its own; words that `text_tiny` does not know are fillers."""
    from transformers import BertConfig

    folder = Path(tiny_folder(root, "bert_base"))
    (folder / "config.json").write_text(BertConfig().to_json_string(use_diff=False))
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    fillers = {f"filler{n}": n for n in range(len(VOCABULARY), BERT_PIECES)}
    tokenizer["model"]["vocab"] |= fillers
    path.write_text(json.dumps(tokenizer))
    monkeypatch.setitem(text_models.HUB, "BERT-base", str(folder))
    pieces = PieceEncoder(load_tokenizer("BERT-base"))
    assert len(pieces) == BERT_PIECES
    return pieces
