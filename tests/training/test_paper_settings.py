"""The paper's settings as data, the recipes made of them, and augmentation as published."""

import pytest
import torch
import yaml

from kpnb import paper as paper_settings
from kpnb.datasets.prepared import normalized
from kpnb.errors import KpnbError
from kpnb.study.parameters import MODELS, OWN_MODELS, models_for, resolve
from kpnb.training import paper_recipes, recipes
from kpnb.training.augmentation import crop_and_flip, strong
from kpnb.training.settings import learning_rate

NOTEBOOKS = ("image_h1", *OWN_MODELS, "sentiment_h1", "qa_h1", "pointcloud_h1")


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_model_has_a_complete_paper_preset(notebook):
    found = resolve(models_for(notebook), {"preset": "paper"})
    assert found.scale == "full" if hasattr(found, "scale") else found.network == "BERT-base"
    assert found.data != "embedded" and found.batch == 64


def test_every_value_of_the_paper_preset_has_a_source():
    parts = {"images": (), "clouds": (), "texts": ("sentiment", "questions")}
    for subject, extra in parts.items():
        for part in extra or ("preset",):
            told = paper_settings.origins(subject, part)
            assert all(text.split(":")[0] in paper_settings.SOURCES for text in told.values())
    preset = paper_settings.paper_preset("images")
    assert set(preset) == set(MODELS["image_"].model_fields)


def test_a_setting_without_a_source_is_refused(tmp_path, monkeypatch):
    (tmp_path / "images.yaml").write_text(yaml.safe_dump({"preset": {"grid": {"value": 16}}}))
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    with pytest.raises(KpnbError, match="preset.grid"):
        paper_settings.paper_settings.__wrapped__("images")


@pytest.mark.parametrize(("network", "b"), [("AlexNet", 0.25), ("VGG-16", 0.2), ("ResNet-50", 0.2)])
def test_the_threshold_follows_the_network(network, b):
    found = resolve(MODELS["image_"], {"preset": "paper", "network": network})
    assert found.threshold == b
    given = {"preset": "paper", "network": network, "threshold": 0.15}
    assert resolve(MODELS["image_"], given).threshold == 0.15


@pytest.mark.parametrize(
    ("network", "pretrained", "first", "last"),
    [("VGG-16", True, 1e-3, 1e-4), ("VGG-16", False, 1e-2, 1e-3), ("ResNet-50", False, 0.1, 1e-2)],
)
def test_classification_rates_run_evenly_in_logarithm(network, pretrained, first, last):
    found = paper_recipes.classification(network, 150, 0, (150,), pretrained)
    rates = [learning_rate(found, epoch, 3, 10) for epoch in (1, 2, 149, 150)]
    assert rates[0] == pytest.approx(first) and rates[-1] == pytest.approx(last)
    assert rates[1] / rates[0] == pytest.approx(rates[3] / rates[2])
    assert (found.batch_size, found.momentum, found.weight_decay) == (64, 0.9, 1e-4)


def test_distillation_rates_are_those_of_the_layer():
    found = paper_recipes.distillation("ResNet-50", "FC1", 150, 0, (0, 150))
    assert (found.lr, found.lr_end) == (10, 0.1) and not paper_recipes.scaled("FC1")
    assert paper_recipes.scaled("Conv")
    conv = paper_recipes.distillation("VGG-16", "Conv", 150, 0, (0, 150))
    assert conv.lr == recipes.DISTILLATION_LR["VGG"]
    assert paper_recipes.head("ResNet-50", 100, 0).lr == 0.01


def test_the_augmented_teacher_has_its_own_weight_decay():
    assert paper_recipes.classification("VGG-16", 8, 0, (8,), augmented=True).weight_decay == 5e-4


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augment", [crop_and_flip, strong])
def test_augmentation_keeps_a_gray_image_gray_and_repeats_itself(augment):
    images = torch.full((5, 3, 16, 16), 128, dtype=torch.uint8)
    first, again = augment(images, draws()), augment(images, draws())
    assert torch.equal(first, again) and first.shape == images.shape
    assert first.dtype == torch.float32 and first.isfinite().all()
    each = first.flatten(2)
    assert torch.allclose(each, each[:, :, :1].expand_as(each), atol=1e-4)


def test_a_crop_is_a_window_of_seven_eighths_perhaps_flipped():
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)  # its value is where a pixel stands
    found = crop_and_flip(ramp, draws())[:, 0]
    left, right = found[:, 0, 0], found[:, 0, -1]
    flipped = right < left
    assert 60 < flipped.sum() < 140
    width = (right - left).abs() * 63
    assert torch.allclose(width, torch.full_like(width, 63 * 7 / 8), atol=0.6)
    assert min(left.min(), right.min()) >= 0 and max(left.max(), right.max()) <= 1
    assert torch.minimum(left, right).std() > 0.02  # windows move


def test_strong_turns_and_recolors():
    images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, :16] = 200  # a red upper half
    plain, found = normalized(images), strong(images, draws())
    assert (found - plain).abs().mean() > 0.2
    assert found.std(0).mean() > 0.2  # each image in its own way
    black = strong(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), draws())
    assert torch.allclose(black, normalized(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), atol=1e-5)
