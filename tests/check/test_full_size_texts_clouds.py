"""One step of everything at full size: BERT-base and the networks on clouds train and are mapped.

A sentence, a question of 384 pieces, and clouds of 1,024 + 500 points; images are in
test_full_size.py. Weights are random: nothing can be downloaded in a test.
"""

import pytest
import torch
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

from kpnb.datasets.clouds import embedded_pointclouds
from kpnb.estimator.features import layer_name
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.text import scratch_network
from kpnb.study.text import TextEstimator
from kpnb.training.recipes import recipe
from kpnb.training.train import train_classifier

POINTS, BACKGROUND = 1024, 500


@pytest.fixture(autouse=True)
def _few_responses(monkeypatch):
    few_responses(monkeypatch)


def trained_bert(head, encoder, pieces, labels):
    """BERT-base from scratch after one step on the texts."""
    net = scratch_network("BERT-base", head, encoder)
    config = net.encoder.model.config
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    assert sizes == (12, 768, 12)
    record = train_classifier(net, pieces.ids, labels, SETTINGS)
    check_step(net, scratch_network("BERT-base", head, encoder), record)
    return net


def test_bert_base_on_a_sentence(tmp_path, monkeypatch):
    encoder = bert_base(tmp_path, monkeypatch)
    pieces = encoder.texts(["the film was not good she is a long story " * 3])
    assert pieces.ids.shape[1] == 32
    net = trained_bert("sentence", encoder, pieces, torch.tensor([1]))
    assert net.encoder(pieces.ids).shape == (1, 32, 768)
    maps = TextEstimator(closed_form("encoder", relu=False)).explain(net, pieces)
    check_map(maps, pieces.units[0])


def test_bert_base_on_a_question_of_384_pieces(tmp_path, monkeypatch):
    encoder = bert_base(tmp_path, monkeypatch)
    context = "the film was not good bad she is a long story in it was dull moon " * 24
    context = " ".join(context.split()[: 384 - 3 - 3])
    pieces = encoder.pairs(["who was born"], [context])
    assert pieces.ids.shape == (1, 384)
    net = trained_bert("span", encoder, pieces, torch.tensor([[10, 12]]))
    estimator = descent("encoder", pieces.units[0], relu=False)
    check_map(TextEstimator(estimator).explain(net, pieces), 384 - 3)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_point_network(name):
    clouds = embedded_pointclouds(2, points=POINTS, background=BACKGROUND)
    settings = recipe("cloud", "B", 1, 0)
    net = point_network(name, 40)
    record = train_classifier(net, clouds.points, clouds.labels, settings)
    # The last map of a PointNet transform starts at 0: what feeds it has no gradient yet. Of a map
    # from one input to a batch norm, as PointConv's density has one, only the sign matters.
    check_step(net, point_network(name, 40), record, settings, still=("_transform", "density.0"))
    shapes = feature_shapes(net, ("FC1", "FC2", "FC3"), clouds.points[:1])
    assert shapes == {"FC1": (1, 512), "FC2": (1, 256), "FC3": (1, 40)}
    made = [tuple(index.shape[1:]) for index in net.choices(clouds.points[:1])]
    levels = [(512,), (512, 32), (128,), (128, 64)]
    graphs = [(POINTS + BACKGROUND, 20)] * 4
    assert made == {"PointNet": [], "DGCNN": graphs}.get(name, levels)
    units = PointUnits(frozen=True)
    for estimator in (
        closed_form(layer_name(net, "FC1"), units),
        descent(layer_name(net, "FC2"), POINTS + BACKGROUND, units, draws=2),
    ):
        check_map(estimator.explain(net, clouds.points[:1]), POINTS + BACKGROUND)
