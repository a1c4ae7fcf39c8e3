"""Rescaled networks: the same outputs, divided features; changes of maps that are known by hand."""

import math

import numpy as np
import pytest
import torch
from layer_maps import CONVS, layer_maps, times
from refusals import refuses
from small_chain import chain, images, network
from torch import nn

from kpnb.estimator.features import output_at
from kpnb.metrics import rescaling
from kpnb.metrics.rescaling import magnitude_changes, order_changes, rescaled, shape_changes
from kpnb.networks.image import image_network


@torch.no_grad()
def feature(net, layer, x):
    return output_at(net, layer, lambda: net(x))


@pytest.mark.parametrize("pairs", ["disjoint", "successive"])
@pytest.mark.parametrize("name", ["AlexNet", "VGG-11", "VGG-16", "VGG-19"])
@torch.no_grad()
def test_a_power_of_two_changes_no_bit_of_the_output_and_divides_announced_features(name, pairs):
    """Each once for every pair that begins with it; AlexNet has an odd number of them."""
    net, x = network(name), images(1)
    names, copied = rescaling.convolutions(net), rescaled(net, 4.0, pairs)
    for other in (copied, rescaled(net, 4.0, pairs, channel_seed=3)):
        assert torch.equal(other(x), net(x))
    for i, layer in enumerate(names):
        divided = i < len(names) - 1 and (pairs == "successive" or i % 2 == 0)
        assert torch.equal(feature(copied, layer, x) * 4.0**divided, feature(net, layer, x))


@pytest.mark.parametrize("factor, channel_seed", [(0.01, None), (3.7, None), (61.3, 4)])
@torch.no_grad()
def test_any_factor_leaves_the_output_to_rounding(factor, channel_seed):
    net, x = chain().double(), images().double()
    torch.testing.assert_close(rescaled(net, factor, channel_seed=channel_seed)(x), net(x))


def test_channels_are_divided_by_the_factor_or_its_inverse_and_both_occur():
    net, x = network(), images(1)
    for name, _ in rescaling.named_pairs(net):
        after = feature(rescaled(net, 4.0, channel_seed=1), name, x)
        ratio = feature(net, name, x).abs().amax((0, 2, 3)) / after.abs().amax((0, 2, 3))
        assert set(ratio.tolist()) == {0.25, 4.0}
    one, again, other = (rescaled(net, 4.0, channel_seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_the_network_comes_back_untouched_and_its_copy_can_be_trained():
    net = network().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.inference_mode():
        copied = rescaled(net, 4.0)
    assert net.training and not copied.training and copied.layer_names == net.layer_names
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    copied(images(1)).sum().backward()
    assert copied.features[0].weight.grad is not None
    # The feature is what comes out of the ReLU, if one follows.
    for layer, feature_of in (("features.0", "features.1"), ("classifier.6", "classifier.6")):
        assert rescaling.feature_name(net, layer) == feature_of


def with_between(*modules, **second):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *modules, nn.Conv2d(4, 4, 3, **second)).eval()


@pytest.mark.parametrize(
    "net, pairs, factor, told",
    [
        *[(chain(), "disjoint", c, "number above 0") for c in (0.0, math.nan, math.inf)],
        (image_network("ResNet-50", 3, "narrow"), "disjoint", 4.0, "AlexNet or a VGG"),
        (with_between(nn.BatchNorm2d(4)), "disjoint", 4.0, "BatchNorm2d"),
        (with_between(nn.Sigmoid()), "disjoint", 4.0, "Sigmoid"),
        (with_between(groups=2), "disjoint", 4.0, "grouped"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "disjoint", 4.0, "two convolutions"),
        (chain(), "every", 4.0, "disjoint, successive"),
    ],
)
def test_what_a_factor_does_not_pass_through_is_refused(net, pairs, factor, told):
    refuses(rescaled, told, net, factor, pairs)


def test_a_factor_shows_in_the_magnitude_alone_and_moved_maps_in_the_shape_alone():
    before = layer_maps()
    scaled, moved = times(before, 4.0, 1.0, 0.25), {k: v.flip(1) for k, v in before.items()}
    np.testing.assert_allclose(magnitude_changes(before, scaled), 2 / 3 * math.log(4), rtol=1e-6)
    np.testing.assert_array_equal(shape_changes(before, scaled), np.zeros(5))
    np.testing.assert_allclose(magnitude_changes(before, moved), 0, atol=1e-6)
    assert (shape_changes(before, moved) > 0.1).all()
    signs = times(before, -1, -1, -1)
    assert not magnitude_changes(before, signs).any() and not shape_changes(before, signs).any()
    # The shape counts the way to a flat map as one, whatever the contrast.
    before = layer_maps(layers=("input",))
    mean = before["input"].mean(1, keepdim=True)
    for share in (0.0, 0.25, 1.0):
        after = {"input": before["input"] + share * (mean - before["input"])}
        np.testing.assert_allclose(shape_changes(before, after), share, atol=1e-5)


def even(*values):
    """A map for each layer, with the same value everywhere."""
    return {k: torch.full((2, 4), v) for k, v in zip(CONVS, values, strict=True)}


def test_layers_that_change_places_are_counted():
    before = even(1.0, 2.0, 3.0)
    for factors, share in (((2, 2, 2), 0), ((2.5, 1, 1), 1 / 3), ((4, 1, 0.2), 1)):
        assert order_changes(before, times(before, *factors)) == pytest.approx([share] * 2)
    # Equal but for rounding is no order that could change.
    assert not order_changes(even(1, 1 + 1e-6, 1 + 2e-6), even(1 + 2e-6, 1 + 1e-6, 1)).any()
    # The spread over layers is that of the logarithm.
    parts = even(1.0, math.exp(1), math.exp(5))
    for maps in (parts, times(parts, 7.0, 7.0, 7.0)):
        np.testing.assert_allclose(rescaling.layer_spread(maps), np.std([0, 1, 5]), rtol=1e-6)


def test_maps_without_a_value_are_left_out_and_other_layers_refused():
    before = layer_maps()
    before["conv 1"][0] = 0  # Grad-CAM's ReLU can leave nothing
    before["conv 2"][1] = torch.nan  # no entropy where the feature never moves
    after = times(before, 4.0, 1.0, 1.0)
    changes = magnitude_changes(before, after) / math.log(4)
    np.testing.assert_allclose(changes, [0, 1 / 2, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert np.isnan(rescaling.magnitudes(before)).sum() == 2
    flat = {"input": torch.ones(2, 4)}
    assert np.isnan(shape_changes(flat, flat)).all()
    for score in (magnitude_changes, shape_changes, order_changes):
        refuses(score, "same ones", layer_maps(), layer_maps(layers=CONVS[:2]))
    single = layer_maps(layers=("input",))
    refuses(order_changes, "map per layer", single, single)
    refuses(rescaling.layer_spread, "map per layer", single)
