"""What holds for every point-cloud network, and the parts they share."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_module
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.cloud_layers import (
    Choices,
    PointNormalization,
    classifier,
    initialize,
    point_mlp,
    tracked_weight,
)
from kpnb.networks.layers import split_at

every = pytest.mark.parametrize("name", BUILDERS)


def clouds(count=2, points=128, seed=1):
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


def narrow(name, classes=5, seed=0):
    return point_network(name, classes, "narrow", seed).eval()


# All networks


@every
def test_logits_have_one_column_per_class(name):
    assert narrow(name, classes=7)(clouds(3)).shape == (3, 7)


@every
def test_equal_seeds_give_equal_weights(name):
    one, same, other = (narrow(name, seed=seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert all(value.isfinite().all() for value in one.values())
    differ = [key for key, value in one.items() if not torch.equal(value, other[key])]
    assert differ and all(key.endswith("weight") for key in differ)


@every
def test_building_leaves_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    point_network(name, 5, "narrow", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)


@every
def test_fc1_and_fc2_are_batch_normalizations_and_fc3_gives_the_logits(name):
    net = narrow(name, classes=7)
    kinds = [layer_module(net, layer) for layer in ("FC1", "FC2", "FC3")]
    assert [type(kind) for kind in kinds] == [nn.BatchNorm1d, nn.BatchNorm1d, nn.Linear]
    assert kinds[2].out_features == 7


@every
def test_the_tracked_weight_is_that_of_the_linear_layer(name):
    net = narrow(name)
    for layer, linear in (("FC1", 0), ("FC2", 4), ("FC3", 8), ("classifier.4", 4)):
        assert tracked_weight(net, layer) is net.classifier[linear].weight


@every
@pytest.mark.parametrize("layer", ["FC9", "classifier.2", "features"])
def test_other_layers_have_no_tracked_weight(name, layer):
    with pytest.raises(KpnbError, match="layer|weight to track"):
        tracked_weight(narrow(name), layer)


@every
@pytest.mark.parametrize("layer", ["FC1", "FC2", "FC3"])
def test_the_two_halves_of_a_split_network_make_the_whole(name, layer):
    net, points = narrow(name), clouds()
    below, above = split_at(net, layer)
    logits = net(points)
    assert torch.equal(above(below(points)), logits)
    seen = []
    layer_module(net, layer).register_forward_hook(lambda *call: seen.append(call[2]))
    net(points)
    assert torch.equal(below(points), seen[0])


@every
def test_kept_choices_give_the_same_logits_bit_for_bit(name):
    net, points = narrow(name), clouds()
    kept = net.choices(points)
    assert all(index.dtype == torch.int64 and len(index) == 2 for index in kept)
    assert torch.equal(net(points, kept), net(points))


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "PointNet"])
def test_too_few_kept_choices_are_refused(name):
    net, points = narrow(name), clouds()
    with pytest.raises(KpnbError, match="another network"):
        net(points, net.choices(points)[:-1])


@every
def test_every_parameter_takes_part(name):
    net = point_network(name, 5, "narrow").train()
    moved = [p for p in net.parameters()]
    with torch.no_grad():
        for parameter in moved:  # away from the transforms' zero weights
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(8))
            parameter += 0.05 * noise
    nn.functional.cross_entropy(net(clouds(4)), torch.arange(4)).backward()
    assert [k for k, p in net.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in moved)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("PointNet3", 5), "PointNet.*DGCNN"),
        (("PointNet", 5, "wide"), "'full' or 'narrow'"),
        (("PointNet", 1), "at least 2"),
        (("DGCNN", 0), "at least 2"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(KpnbError, match=message) as caught:
        point_network(*arguments)
    assert "\n" not in str(caught.value)


# Choices


def test_choices_are_made_in_order_and_without_gradient():
    points = torch.ones(1, 2, requires_grad=True)
    made = Choices()
    first = made(lambda: (points * 2).long())
    second = made(lambda: points * 3)
    assert made.made[0] is first and made.made[1] is second
    assert not second.requires_grad


def test_kept_choices_replace_new_ones():
    kept = [torch.tensor([1]), torch.tensor([2])]
    again = Choices(kept)
    assert [again(lambda: torch.tensor([9])).item() for _ in kept] == [1, 2]
    with pytest.raises(KpnbError, match="another network"):
        again(lambda: torch.tensor([9]))
    with pytest.raises(KpnbError, match="another network"):
        Choices([])(lambda: torch.tensor([9]))


# Shared layers


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.booleans())
def test_point_normalization_is_batch_normalization_of_the_last_dimension(
    shape, channels, training
):
    generator = torch.Generator().manual_seed(sum(shape) + channels)
    x = torch.randn(2, *shape, channels, generator=generator)
    ours, plain = PointNormalization(channels), nn.BatchNorm1d(channels)
    with torch.no_grad():
        for norm in (ours.train(training), plain.train(training)):
            norm.weight.copy_(torch.arange(channels) - 1.5)
            norm.bias.copy_(torch.arange(channels) / 3)
    assert torch.equal(ours(x), plain(x.reshape(-1, channels)).view_as(x))
    assert torch.equal(ours.running_mean, plain.running_mean)
    assert torch.equal(ours.running_var, plain.running_var)


def test_point_mlp_normalizes_each_linear_layer_before_its_activation():
    layers = point_mlp((3, 8, 5), nn.Tanh)
    kinds = [nn.Linear, PointNormalization, nn.Tanh]
    assert [type(layer) for layer in layers] == 2 * kinds
    assert [tuple(layers[i].weight.shape) for i in (0, 3)] == [(8, 3), (5, 8)]
    assert layers(clouds(2, 6)).shape == (2, 6, 5)


def test_the_classifier_can_do_without_the_first_bias():
    layers = classifier((6, 4, 3), 2, 0.25, nn.Tanh, first_bias=False)
    assert [layers[i].bias is None for i in (0, 4, 8)] == [True, False, False]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert [tuple(layers[i].weight.shape) for i in (0, 4, 8)] == [(4, 6), (3, 4), (2, 3)]


def test_initial_weights_have_the_variance_of_kaiming():
    layers = nn.Sequential(nn.Linear(400, 300), nn.BatchNorm1d(300), nn.Linear(300, 9))
    layers[2].starts_at_zero = True
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(7.0)
    initialize(layers, 0)
    # standard deviation sqrt(2 / 400); 120,000 draws know it to 0.2%
    assert layers[0].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert layers[0].weight.mean().abs() < 1e-3
    assert layers[1].weight.eq(1).all()
    for zero in (layers[0].bias, layers[1].bias, layers[2].weight, layers[2].bias):
        assert zero.eq(0).all()


def test_a_layer_without_known_initial_values_is_refused():
    with pytest.raises(KpnbError, match="Conv2d"):
        initialize(nn.Sequential(nn.Conv2d(1, 1, 1)), 0)
