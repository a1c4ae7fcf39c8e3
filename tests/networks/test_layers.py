"""Initial weights, what lies above a layer, split chains and tracked weights, in all modalities."""

import pytest
import torch
from refusals import refuses
from text_tiny import tiny_folder
from torch import nn

from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.estimator.features import layer_module
from kpnb.networks import layers as shared
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.image import image_network
from kpnb.networks.layers import initialize, split_at, tracked_weight
from kpnb.networks.text import TextNetwork, load_tokenizer, scratch_network

IMAGE_LAYERS, FC_LAYERS = ("Conv", "FC1", "FC2", "FC3"), ("FC1", "FC2", "FC3")
NAMES = ("AlexNet", "VGG-16", "ResNet-50", *BUILDERS, "BERT")
RULES = {nn.Conv2d: shared.kaiming_by_outputs, nn.Linear: shared.kaiming_by_inputs}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Builds a narrow network by name; its layers and some inputs."""
    folder = tiny_folder(tmp_path_factory.mktemp("models"))

    def build(name, seed=0):
        draws = torch.Generator().manual_seed(1)
        if name == "BERT":
            pieces = PieceEncoder(load_tokenizer(folder))
            ids = pieces.texts(["a bad film", "it was not very long"]).ids
            return scratch_network(folder, "sentence", pieces, seed=seed), ("Last",), ids
        if name in BUILDERS:
            points = torch.randn(2, 128, 3, generator=draws)
            return point_network(name, 7, "narrow", seed).eval(), FC_LAYERS, points
        images = torch.randn(2, 3, 32, 32, generator=draws)
        return image_network(name, 7, "narrow", seed).eval(), IMAGE_LAYERS, images

    return build


def test_bad_requests_say_what_to_do():
    for call, told, given in (
        (image_network, "AlexNet.*VGG-11", ("VGG-12", 7)),
        (image_network, "'full' or 'narrow'", ("VGG-11", 7, "tiny")),
        (image_network, "at least 2", ("VGG-11", 1)),
        (image_network, "scale='full'", ("VGG-11", 7, "narrow", 0, True)),
        (point_network, "PointNet.*DGCNN", ("PointNet3", 5)),
        (point_network, "'full' or 'narrow'", ("PointNet", 5, "wide")),
        (point_network, "at least 2", ("DGCNN", 0)),
        (initialize, "PReLU.*Conv2d, Linear", (nn.Sequential(nn.PReLU()), 0, RULES)),
    ):
        refuses(call, told, *given)


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_seed_alone(make, name):
    before = torch.random.get_rng_state()
    first, other = (make(name, seed)[0].state_dict() for seed in (3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = make(name, 3)[0].state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert all(value.isfinite().all() for value in first.values())
    differ = [key for key, value in first.items() if not torch.equal(value, other[key])]
    assert differ and all(key.endswith("weight") for key in differ)


def test_each_rule_has_its_variance_and_norms_and_biases_start_neutral():
    layers = nn.Conv2d(64, 256, 3), nn.BatchNorm2d(256), nn.Linear(400, 300), nn.LayerNorm(300)
    net = nn.Sequential(*layers)
    for value in (*net.parameters(), net[1].running_mean, net[1].running_var):
        value.data.fill_(7.0)
    initialize(net, 0, RULES)
    # 147,456 and 120,000 draws know a standard deviation to 0.2%.
    assert net[0].weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert net[2].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert net[2].weight.mean().abs() < 1e-3
    assert all(ones.eq(1).all() for ones in (net[1].weight, net[1].running_var, net[3].weight))
    zeros = net[0].bias, net[1].bias, net[1].running_mean, net[2].bias, net[3].bias
    assert not any(zero.any() for zero in zeros)
    initialize(net, 0, RULES | {nn.Linear: shared.normal_weights(0.01)})
    assert net[2].weight.std().item() == pytest.approx(0.01, rel=0.01)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_split_halves_make_the_whole(make, name):
    (net, layers, inputs), seen = make(name), {}
    for layer in layers:  # copied, since an in-place ReLU may follow
        layer_module(net, layer).register_forward_hook(
            lambda *call, layer=layer: seen.setdefault(layer, call[2].clone())
        )
    whole = net(inputs)
    for layer in layers:
        below, above = split_at(net, layer)
        feature = below(inputs)
        assert torch.equal(feature, seen[layer]) and torch.equal(above(feature.clone()), whole)
        assert [*map(id, shared.parameters_above(net, layer))] == [*map(id, above.parameters())]
        leaves = {m for m in above.modules() if m is not above and not [*m.children()]}
        assert set(shared.modules_above(net, layer)) == leaves
    assert (shared.modules_above(net, layers[-1]) == []) == (name != "BERT")
    inside = {"ResNet-50": "layer1.0.conv1", "PointNet": "features.below"}  # of what is no chain
    assert name not in inside or split_at(net, inside[name]) is None


def test_a_layer_has_the_weight_of_its_last_map_and_a_norm_that_of_the_map_before(make):
    bert = make("BERT")[0]
    last = bert.encoder.model.encoder.layer[-1].output.dense
    expected = [(bert, "Last", last), (bert, "head.pooler", bert.head.pooler)]
    for net in (make(name)[0] for name in BUILDERS):
        places = {"FC1": 0, "FC2": 4, "FC3": 8, "classifier.4": 4}
        expected += [(net, layer, net.classifier[place]) for layer, place in places.items()]
    for net, layer, module in expected:
        assert tracked_weight(net, layer) is module.weight
    bare = TextNetwork(nn.Identity(), bert.head)  # an encoder without linear maps
    for net, layer, told in (
        (make("VGG-16")[0], "features.1", "no weight to track"),
        (make("PointNet")[0], "classifier.2", "no weight to track"),
        (make("DGCNN")[0], "FC9", "No layer"),
        (bare, "Last", "no weight to track"),
    ):
        refuses(tracked_weight, told, net, layer)
