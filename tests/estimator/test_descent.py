"""The descents: the published procedure against its naive twin, and what they reach."""

import pytest
import torch
from quick import LIMIT, QUICK, UNITS, error_on_linear_net, explain
from reference import (
    conv_net,
    generator,
    images,
    published_descent,
    spearman,
    square_images,
    trained_conv_net,
)
from torch import nn
from torch.nn import functional

from kpnb.estimator.features import FeatureReader
from kpnb.estimator.perturbation import normal, sample_keys
from kpnb.estimator.units import GridUnits

NET, X = conv_net().double(), images(4, dtype=torch.float64)


def assert_equals_twin(net, layer, x, **changes):
    """The naive procedure on every image, fed with kpnb's noise; what it did."""
    chosen = ("draws", "lr", "iterations", "extra_iterations")
    given, expected = {name: QUICK[name] for name in chosen} | changes, []
    with FeatureReader(net, layer, relu=True) as reader:

        def feature(rows):
            return reader(lambda: net(rows))

        for image, key in zip(x, sample_keys(x, 0), strict=True):

            def noise(stream, k, image=image, key=key):
                return normal([key], stream, [k], image.shape, image)[0, 0]

            expected.append(published_descent(feature, image, UNITS.cells, noise, **given))
    found = explain(net, x, layer, method="published", **changes)
    sigma = torch.stack([descent.sigma for descent in expected])
    torch.testing.assert_close(found.sigma, sigma, rtol=1e-6, atol=1e-8)
    variance = sigma.new_tensor([descent.variance for descent in expected])
    torch.testing.assert_close(found.feature_variance, variance)
    return expected


def test_published_equals_the_naive_procedure_after_every_step():
    """A target out of reach keeps the last of ever-rising iterates."""
    for steps in range(1, 6):
        given = {"target_entropy": 0.0, "iterations": steps, "extra_iterations": 0}
        expected = assert_equals_twin(NET, "7", X[:2], **given)
        assert all(torch.equal(d.sigma, d.iterates[-1]) for d in expected)
    for layer in ("0", "3"):
        assert_equals_twin(NET, layer, X[:2], entropy_weight=6.0)


def test_published_keeps_the_iterate_nearest_the_target():
    expected = assert_equals_twin(NET, "7", X[:2], target_entropy=-3.1, iterations=9)
    kept = [[torch.equal(d.sigma, s) for s in d.iterates].index(True) for d in expected]
    assert all(0 < number < 8 for number in kept)


def test_published_raises_the_weight_of_late_samples_only_and_clamps_on_both_sides():
    given = {"target_entropy": -3.05, "iterations": 8, "extra_iterations": 5}
    expected = assert_equals_twin(NET, "7", X, **given)
    late = [descent.late for descent in expected]
    assert any(late) and not all(late)
    plain = explain(NET, X, method="published", target_entropy=-3.05, iterations=13)
    changed = (plain.sigma - torch.stack([d.sigma for d in expected])).abs().amax(1) > 1e-6
    assert changed[late].all()  # the factor 1.5 matters
    net, x = conv_net().double(), images(2, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight[:, :, :, 1:] = 0  # so that the last column of pixels is ignored
    expected = assert_equals_twin(net, "0", x, target_entropy=0.5, lr=0.03, iterations=4)
    touched = torch.stack([s for d in expected for s in d.iterates])
    assert touched.min() == 1e-3 and touched.max() == 1


def truth(net, x, layer, cells, seeds=2):
    """The mean of published runs with fine steps, nats."""
    fine = {"draws": 96, "lr": 1e-4 * cells**2 / 256 / 2, "iterations": 90, "extra_iterations": 0}
    runs = [
        explain(net, x, layer, method="published", units=GridUnits(cells), seed=seed, **fine)
        for seed in range(100, 100 + seeds)
    ]
    assert all(run.reached.all() for run in runs)
    return sum(run.entropy for run in runs) / seeds


def agreement(found, known):
    """(lowest Spearman of a sample, mean absolute difference in nats)."""
    ranks = min(spearman(a, b) for a, b in zip(found, known, strict=True))
    return ranks, float((found - known).abs().mean())


@pytest.mark.parametrize("layer", ["3", "7"])
def test_path_and_reference_follow_the_published_descent_on_a_trained_network(layer):
    net, loss = trained_conv_net()
    assert loss < 0.1
    x = square_images(2, seed=77)[0]
    known = truth(net, x, layer, cells=4)
    given = {"probes": 128, "reference_draws": 6000, "chunk": 1024}
    for method in ("path", "reference"):
        found = explain(net, x, layer, method=method, **given)
        ranks, difference = agreement(found.entropy, known)
        assert found.reached.all() and ranks > 0.9 and difference < 0.03


def test_reference_and_path_are_the_mean_of_published_runs_also_at_kinks():
    """Untrained max-pooling over a flat background, where shifts of the maximum add up."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4)]
        net = nn.Sequential(*head, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    coarse = torch.randn(2, 3, 3, 3, generator=generator(0))
    x = 0.05 * functional.interpolate(coarse, size=16, mode="bicubic", align_corners=True)
    x[:, :, 4:12, 4:12] += 0.7 * torch.randn(2, 3, 8, 8, generator=generator(7))
    given = {"method": "reference", "reference_draws": 20000, "chunk": 1024}
    known, path = explain(net, x, "4", **given).entropy, explain(net, x, "4", probes=256).entropy
    for found, least in ((truth(net, x, "4", cells=4), 0.9), (path, 0.95)):
        ranks, difference = agreement(found, known)
        assert ranks > least and difference < 0.015


@pytest.mark.parametrize("method", ["published", "descent", "reference"])
def test_descents_reach_the_closed_forms(method):
    assert error_on_linear_net(method) < LIMIT[method]
