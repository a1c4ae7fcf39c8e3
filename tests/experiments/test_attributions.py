"""Explanations through captum: known powers of the factor, closed forms, models left alone."""

from typing import get_args

import torch
from refusals import refuses
from small_chain import chain, images, network
from torch import nn

from kpnb.experiments.attributions import INPUT, METHODS, attributions
from kpnb.metrics.rescaling import convolutions, feature_name, rescaled
from kpnb.study.presets.own_model import AttributionName

LAYERS = ["1", "4"]  # the two ReLUs of `chain`, the first one in place
#: Of c, by which a map is multiplied where the feature is divided; for all others it cancels.
POWERS = {"gradient": 1, "activation": -1, "feature_gradient": -1, "feature_occlusion": -1}


def test_a_map_is_multiplied_by_the_factor_to_its_known_power(monkeypatch):
    """With a factor per channel, if channels cancel. How images are batched changes nothing."""
    net, x, targets = chain(), images(side=16), torch.tensor([0, 2, 4])
    nets = (net, rescaled(net, 4.0), rescaled(net, 4.0, channel_seed=0))
    found = [attributions(each, x, targets, list(METHODS), LAYERS) for each in nets]
    assert list(METHODS) == list(get_args(AttributionName)) == list(found[0])
    monkeypatch.setattr("kpnb.experiments.attributions.CHUNK", 2)
    parts = attributions(net, x, targets, list(METHODS), LAYERS)
    for name, method in METHODS.items():
        before, after, by_channel = (maps[name] for maps in found)
        assert list(before) == ([INPUT] if method.about == "input" else LAYERS)
        sides = {"1": 14, "4": 5} if method.about == "layer" else dict.fromkeys(before, 16)
        for layer, maps in before.items():  # a value for each pixel or place of the feature
            assert maps.shape == (3, sides[layer], sides[layer]) and maps.dtype == torch.float32
            power = POWERS.get(name, 0) if layer == "1" else 0  # only the first feature is divided
            assert maps.isfinite().all() and maps.abs().sum() > 0
            torch.testing.assert_close(after[layer], maps * 4.0**power, rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(parts[name][layer], maps, rtol=1e-4, atol=1e-6)
        layer = next(iter(before))
        same = torch.allclose(by_channel[layer], before[layer], rtol=1e-4, atol=1e-6)
        assert same == (name not in POWERS), name


def linear():
    """Score k = weights[k] . mean over places of relu(1x1 convolution), all by hand."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()  # fmt: skip


def test_layer_maps_are_those_of_a_network_with_known_gradients():
    """A convolution is read before the ReLU in place that follows."""
    net, x, targets = linear(), images(2, 6), torch.tensor([1, 2])
    names = ["gradient", "activation", "grad_cam", "gradient_x_activation", "feature_gradient"]
    found = attributions(net, x, targets, names, ["0", "1"])
    with torch.no_grad():
        before, feature = net[0](x), net[1](net[0](x))
        gradient = net[4].weight[targets][:, :, None, None] / 36  # the same at all 36 places
    contribution = (gradient * feature).sum(1)
    norm = feature.flatten(1).norm(dim=1)[:, None, None, None]
    back = torch.einsum("nchw,ck->nkhw", feature / norm, net[0].weight.detach()[:, :, 0, 0])
    wanted = {
        "gradient": gradient.abs().mean(1).expand(2, 6, 6),
        "activation": feature.mean(1),
        "gradient_x_activation": contribution,
        "grad_cam": contribution.relu(),
        "feature_gradient": back.abs().mean(1),
    }
    for name, maps in wanted.items():
        torch.testing.assert_close(found[name]["1"], maps)
    torch.testing.assert_close(found["activation"]["0"], before.mean(1))
    torch.testing.assert_close(found["gradient"]["0"], (gradient * (feature > 0)).abs().mean(1))


def test_contributions_add_up_to_what_the_score_gains_over_the_baseline():
    """Completeness of integrated gradients and conductance, to the error of the path's steps."""
    net, x, targets = linear(), images(2, 6), torch.tensor([1, 2])
    found = attributions(net, x, targets, ["integrated_gradients", "conductance"], ["1"])
    with torch.no_grad():
        gained = (net(x) - net(torch.zeros_like(x))).gather(1, targets[:, None])[:, 0]
    for maps in (found["integrated_gradients"][INPUT], found["conductance"]["1"]):
        torch.testing.assert_close(maps.sum((1, 2)), gained, rtol=0.05, atol=0.02)


def test_occlusion_is_the_change_when_a_patch_takes_the_mean_color():
    net, x, targets = linear(), images(2, 16), torch.tensor([1, 2])
    found = attributions(net, x, targets, ["occlusion", "feature_occlusion"], ["1"])
    covered = x.clone()
    covered[:, :, 2:4, 6:8] = 0  # 8 patches a side of 2 pixels: row 1, column 3
    with torch.no_grad():
        lost = (net(x) - net(covered)).gather(1, targets[:, None])[:, 0]
        first, second = (net[1](net[0](part).clone()) for part in (x, covered))
    moved = (first - second).flatten(1).norm(dim=1)
    for row, column in ((2, 6), (3, 7)):
        torch.testing.assert_close(found["occlusion"][INPUT][:, row, column], lost)
        torch.testing.assert_close(found["feature_occlusion"]["1"][:, row, column], moved)


def test_the_model_comes_back_untouched(recwarn):
    """And nothing is warned, whatever captum says."""
    net, x = network().train(), images(2)
    net.features[0].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    given = x.clone()
    layers = [feature_name(net, name) for name in convolutions(net)[:2]]
    with torch.inference_mode():  # whatever the caller has set
        attributions(net, x, torch.tensor([0, 1]), list(METHODS), layers)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert net.training and net.features[1].inplace and torch.equal(x, given)
    assert not x.requires_grad and not net.features[0].weight.requires_grad
    assert net.features[3].weight.requires_grad and net.features[3].weight.grad is None
    hooks = [(m._forward_hooks, m._forward_pre_hooks, m._backward_hooks) for m in net.modules()]
    assert not any(part for parts in hooks for part in parts) and len(recwarn) == 0


def test_bad_input_is_refused():
    for targets, method, layer, told in (
        ([0, 1], "lime", "1", "'lime' is unknown"),
        ([0, 1], "gradient", "nowhere", "No layer 'nowhere'"),
        ([0], "gradient", "1", "one target per image"),
        ([], "gradient", "1", "at least one image"),
    ):
        x = images(2, 6) if targets else images(0, 6)
        refuses(attributions, told, linear(), x, torch.tensor(targets), [method], [layer])
