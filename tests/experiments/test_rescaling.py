"""Rescaled networks: the same outputs, features divided by exactly what is announced; what is said
of changed maps against what is known by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_maps import CONVS, layer_maps, times
from small_chain import chain, images, network
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import output_at
from kpnb.experiments.rescaling import (
    convolutions,
    feature_name,
    layer_spread,
    magnitude_changes,
    magnitudes,
    named_pairs,
    order_changes,
    rescaled,
    shape_changes,
)
from kpnb.networks.image import image_network

NETWORKS = ("AlexNet", "VGG-11", "VGG-16", "VGG-19")


@torch.no_grad()
def feature(net, layer, x):
    return output_at(net, layer, lambda: net(x))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pairs", ["disjoint", "successive"])
@torch.no_grad()
def test_a_power_of_two_changes_no_bit_of_the_output(name, pairs):
    net, x = network(name), images()
    for channel_seed in (None, 3):
        copied = rescaled(net, 4.0, pairs, channel_seed)
        assert torch.equal(copied(x), net(x))


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(0.01, 100), channel_seed=st.none() | st.integers(0, 9))
@torch.no_grad()
def test_any_factor_leaves_the_output_to_rounding(factor, channel_seed):
    net, x = chain().double(), images().double()
    torch.testing.assert_close(rescaled(net, factor, channel_seed=channel_seed)(x), net(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_divided_once_for_each_pair_that_begins_with_them(name):
    net, x = network(name), images(1)
    names = convolutions(net)
    last = len(names) - 1
    powers = {
        "disjoint": [int(i % 2 == 0 and i < last) for i in range(len(names))],
        "successive": [int(i < last) for i in range(len(names))],
    }
    for pairs, expected in powers.items():
        copied = rescaled(net, 4.0, pairs)
        for layer, power in zip(names, expected, strict=True):
            assert torch.equal(feature(copied, layer, x) * 4.0**power, feature(net, layer, x))


def test_taken_in_succession_inner_weights_stay_and_only_their_biases_are_divided():
    net, names = network(), convolutions(network())
    copied = rescaled(net, 4.0, "successive")
    for i, name in enumerate(names):
        before, after = net.get_submodule(name), copied.get_submodule(name)
        weight = 0.25 if i == 0 else 4.0 if i == len(names) - 1 else 1.0
        assert torch.equal(after.weight, weight * before.weight)
        assert torch.equal(after.bias, before.bias * (1.0 if i == len(names) - 1 else 0.25))


def test_channels_are_divided_by_the_factor_or_its_inverse_and_both_occur():
    net, x = network(), images(1)
    for name, _ in named_pairs(net):
        before = feature(net, name, x)
        after = feature(rescaled(net, 4.0, channel_seed=1), name, x)
        ratio = before.abs().amax((0, 2, 3)) / after.abs().amax((0, 2, 3))
        assert set(ratio.tolist()) == {0.25, 4.0}
    same = [rescaled(net, 4.0, channel_seed=seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(same[0][key], same[1][key]) for key in same[0])
    assert not all(torch.equal(same[0][key], same[2][key]) for key in same[0])


@torch.no_grad()
def test_a_flattened_feature_is_followed_into_a_linear_layer():
    net, x = chain(), images()
    copied = rescaled(net, 8.0, [("3", "7")], channel_seed=0)
    assert torch.equal(copied(x), net(x))
    assert not torch.equal(copied[7].weight, net[7].weight)


def test_a_copy_made_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        copied = rescaled(chain(), 4.0)
    copied(images(1)).sum().backward()
    assert copied[0].weight.grad is not None


def test_pairs_commute():
    net = network()
    pairs = named_pairs(net, "successive")
    one, other = (rescaled(net, 4.0, order).state_dict() for order in (pairs, pairs[::-1]))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_bias_of_the_second_layer_matters():
    """Multiplied too, as the text can be read, the output changes: so it must stay."""
    net, x = chain(), images()
    copied = rescaled(net, 4.0)
    with torch.no_grad():
        copied[3].bias *= 4
        assert (copied(x) - net(x)).abs().max() > 1e-3


def test_the_network_comes_back_untouched():
    net = network().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    copied = rescaled(net, 4.0)
    assert net.training and not copied.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert copied.layer_names == net.layer_names


def test_the_feature_is_what_comes_out_of_the_relu():
    assert feature_name(network(), "Conv") == "features.14"
    assert feature_name(network(), "features.0") == "features.1"
    assert feature_name(network(), "FC3") == "classifier.6"  # no ReLU follows


@pytest.mark.parametrize("factor", [0.0, -4.0, float("nan"), float("inf")])
def test_factors_that_would_change_the_function_are_refused(factor):
    with pytest.raises(KpnbError, match="finite number above 0"):
        rescaled(chain(), factor)


def with_between(*modules, channels=4):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *modules, nn.Conv2d(channels, 4, 3)).eval()


@pytest.mark.parametrize(
    "net, pairs, told",
    [
        (image_network("ResNet-50", 3, "narrow"), "disjoint", "AlexNet or a VGG"),
        (with_between(nn.BatchNorm2d(4)), "disjoint", "BatchNorm2d"),
        (with_between(nn.Sigmoid()), "disjoint", "Sigmoid"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "disjoint", "two convolutions"),
        (chain(), "every", "disjoint, successive"),
        (chain(), [("3", "0")], "does not come before"),
        (chain(), [("0", "7")], "lies between"),
        (chain(), [("0", "4")], "must be convolutions"),
        (chain(), [("0", "nowhere")], "nowhere"),
        (chain(), [], "two convolutions"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), "disjoint", "grouped"),
    ],
)
def test_what_a_factor_does_not_pass_through_is_refused(net, pairs, told):
    with pytest.raises(KpnbError, match=told):
        rescaled(net, 4.0, pairs)


# --- what changes in maps


def test_a_factor_shows_in_the_magnitude_as_its_logarithm_and_not_in_the_shape():
    before = layer_maps()
    after = times(before, 4.0, 1.0, 0.25)
    np.testing.assert_allclose(magnitude_changes(before, after), 2 / 3 * math.log(4), rtol=1e-6)
    np.testing.assert_array_equal(shape_changes(before, after), np.zeros(5))


def test_moved_maps_show_in_the_shape_and_not_in_the_magnitude():
    before = layer_maps()
    after = {k: v.flip(1) for k, v in before.items()}
    np.testing.assert_allclose(magnitude_changes(before, after), 0, atol=1e-6)
    assert (shape_changes(before, after) > 0.1).all()


def test_the_shape_counts_the_way_to_a_flat_map_as_one_whatever_the_contrast():
    before = layer_maps(layers=("input",))
    mean = before["input"].mean(1, keepdim=True)
    for share in (0.0, 0.25, 1.0):
        after = {"input": before["input"] + share * (mean - before["input"])}
        np.testing.assert_allclose(shape_changes(before, after), share, atol=1e-5)


def test_signs_do_not_count():
    before, after = layer_maps(), {k: -v for k, v in layer_maps().items()}
    assert not magnitude_changes(before, after).any() and not shape_changes(before, after).any()


def test_layers_that_change_places_are_counted():
    before = {k: torch.full((2, 4), v) for k, v in zip(CONVS, (1.0, 2.0, 3.0), strict=True)}
    assert order_changes(before, times(before, 2.0, 2.0, 2.0)).tolist() == [0, 0]
    assert order_changes(before, times(before, 2.5, 1.0, 1.0)) == pytest.approx([1 / 3] * 2)
    assert order_changes(before, times(before, 4.0, 1.0, 0.2)) == pytest.approx([1] * 2)
    # Equal but for rounding is no order that could change.
    equal = {k: torch.full((2, 4), 1.0 + 1e-6 * i) for i, k in enumerate(CONVS)}
    assert (
        order_changes(equal, dict(zip(CONVS, list(equal.values())[::-1], strict=True))).sum() == 0
    )


def test_spread_over_layers_is_that_of_the_logarithm():
    parts = {k: torch.full((2, 4), math.exp(v)) for k, v in zip(CONVS, (0, 1, 5), strict=True)}
    np.testing.assert_allclose(layer_spread(parts), np.std([0, 1, 5]), rtol=1e-6)
    np.testing.assert_allclose(layer_spread(times(parts, 7.0, 7.0, 7.0)), np.std([0, 1, 5]))


def test_maps_without_a_value_are_left_out():
    before = layer_maps()
    before["conv 1"][0] = 0  # Grad-CAM's ReLU can leave nothing
    before["conv 2"][1] = torch.nan  # no entropy where the feature never moves
    after = times(before, 4.0, 1.0, 1.0)
    changes = magnitude_changes(before, after) / math.log(4)
    np.testing.assert_allclose(changes, [0, 1 / 2, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert np.isnan(magnitudes(before)).sum() == 2
    flat = {"input": torch.ones(2, 4)}
    assert np.isnan(shape_changes(flat, flat)).all()


@pytest.mark.parametrize("score", [magnitude_changes, shape_changes, order_changes])
def test_other_layers_are_refused(score):
    with pytest.raises(KpnbError, match="same ones"):
        score(layer_maps(), layer_maps(layers=CONVS[:2]))


def test_one_map_has_no_layers_to_compare():
    single = layer_maps(layers=("input",))
    for score in (lambda m: order_changes(m, m), layer_spread):
        with pytest.raises(KpnbError, match="map per layer"):
            score(single)
