"""The paper's settings as data, and the recipes: theirs and ours."""

import pytest
import yaml
from refusals import refuses

from kpnb.paper import paper_settings
from kpnb.study.parameters import KINDS, resolve
from kpnb.training.recipes import entropy_weight, published_recipe, recipe, scaled_by_variance
from kpnb.training.settings import learning_rate


def test_paper_presets_are_at_full_size_and_every_value_needs_a_source(tmp_path, monkeypatch):
    for found in (resolve(m, {"preset": "paper"}) for m in KINDS.values() if "paper" in m.PRESETS):
        assert found.scale == "full" if hasattr(found, "scale") else found.network == "BERT-base"
        assert found.data != "embedded" and found.batch == 64
    (tmp_path / "images.yaml").write_text(yaml.safe_dump({"preset": {"grid": {"value": 16}}}))
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    refuses(paper_settings.__wrapped__, "preset.grid", "images")


@pytest.mark.parametrize(
    ("network", "role", "given", "first", "last"),
    [
        ("VGG-16", "B", {"pretrained": True}, 1e-3, 1e-4),
        ("VGG-16", "B", {}, 1e-2, 1e-3),
        ("ResNet-50", "B", {}, 0.1, 1e-2),
        ("ResNet-50", "S", {"layer": "FC1"}, 10, 0.1),
        ("ResNet-50", "head", {}, 0.01, 0.001),
    ],
)
def test_published_rates_run_evenly_in_logarithm(network, role, given, first, last):
    found = published_recipe(network, role, 150, 0, **given)
    rates = [learning_rate(found, epoch, 3, 10) for epoch in (1, 2, 149, 150)]
    assert rates[0] == pytest.approx(first) and rates[-1] == pytest.approx(last)
    assert rates[1] / rates[0] == pytest.approx(rates[3] / rates[2])
    assert (found.batch_size, found.momentum, found.weight_decay) == (64, 0.9, 1e-4)
    assert found.checkpoints == (150,)


def test_conv_is_distilled_by_our_rate_and_the_augmented_teacher_decays():
    conv = published_recipe("VGG-16", "S", 150, 0, (0, 150), "Conv")
    assert conv.lr == recipe("image", "S", 1, 0, network="VGG-16").lr
    assert scaled_by_variance("Conv") and not scaled_by_variance("FC1")
    assert conv.checkpoints == (0, 150)
    assert published_recipe("VGG-16", "T", 8, 0, augmented=True).weight_decay == 5e-4


OURS = [  # batch, clip, epochs of the shortest run with warm-up; rates of T, B, S and head
    ("image", "VGG-11", 64, 5.0, 5, (0.012, 0.012, 0.05, 0.012)),
    ("image", "AlexNet", 64, 5.0, 5, (0.012, 0.012, 0.05, 0.012)),
    ("image", "ResNet-50", 64, 5.0, 5, (0.05, 0.05, 0.05, 0.05)),
    ("image", "EfficientNet-lite0", 64, 5.0, 5, (0.02,)),
    ("text", None, 32, 1.0, 3, (2e-4, 3e-4, 1e-3, 1e-3)),
    ("cloud", None, 32, 5.0, 3, (0.05, 0.05, 0.05, 0.05)),
]


@pytest.mark.parametrize(("modality", "network", "batch", "clip", "long", "rates"), OURS)
def test_our_settings_by_modality_family_and_role(modality, network, batch, clip, long, rates):
    for role, rate in zip(("T", "B", "S", "head"), rates, strict=False):
        found = recipe(modality, role, long, 3, network=network)
        assert (found.lr, found.schedule, found.warmup_epochs) == (rate, "cosine", 1)
        assert (found.batch_size, found.grad_clip, found.seed) == (batch, clip, 3)
        assert found.checkpoints == (long,) and found.channels_last == (modality == "image")
        how = ("adamw", 0.01) if modality == "text" else ("sgd", 1e-4)
        assert (found.momentum, found.optimizer, found.weight_decay) == (0.9, *how)
        short = recipe(modality, role, long - 1, 3, (0, 1), network)
        assert short.warmup_epochs == 0 and short.checkpoints == (0, 1)
    assert [entropy_weight(name) for name in ("ResNet-50", "VGG-11", "AlexNet")] == [6, 7, 7]
