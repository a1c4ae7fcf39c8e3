"""Rescaled networks: the same outputs, features divided by exactly what is announced."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import output_at
from kpnb.experiments.rescaling import convolutions, feature_name, named_pairs, rescaled
from kpnb.networks.image import image_network

NETWORKS = ("AlexNet", "VGG-11", "VGG-16", "VGG-19")


def network(name="VGG-11", seed=0):
    """With biases, which a new network has at zero."""
    net = image_network(name, 5, "narrow", seed).eval()
    random = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data = torch.randn(module.bias.shape, generator=random) / 10
    return net


def images(count=3, side=32, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def chain():
    """Two convolutions with biases, pooling between, an FC layer above: small enough to reason."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5),
    ).eval()  # fmt: skip


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
