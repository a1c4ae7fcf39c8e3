"""The descents: the published procedure against its naive twin, and what they reach."""

import pytest
import torch
from mutants import neither, no_mehler_product, no_shift, scale
from quick import LIMIT, QUICK, UNITS, D, error_on_linear_net, explain
from reference import (
    conv_net,
    generator,
    images,
    linear_net,
    published_descent,
    smooth_images,
    spearman,
    square_images,
    trained_conv_net,
)
from torch import nn

import kpnb.estimator.closed_form
import kpnb.estimator.descent
import kpnb.estimator.loss
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.perturbation import normal, sample_keys
from kpnb.estimator.units import GridUnits

NET, X = conv_net().double(), images(4, dtype=torch.float64)


def twin(net, layer, x, seed=0, relu=True, **changes):
    """The naive procedure on every image, fed with kpnb's noise."""
    chosen = {name: QUICK[name] for name in ("draws", "lr", "iterations", "extra_iterations")}
    with FeatureReader(net, layer, relu) as reader:
        return [
            published_descent(
                lambda rows: reader(lambda: net(rows)),
                image,
                UNITS.cells,
                lambda stream, k, key=key, image=image: normal(
                    [key], stream, [k], image.shape, image
                )[0, 0],
                **chosen | changes,
            )
            for image, key in zip(x, sample_keys(x, seed), strict=True)
        ]


def assert_equals_twin(net, layer, x, **changes):
    names = {"weight": "entropy_weight", "target": "target_entropy", "init": "init_sigma"}
    expected = twin(net, layer, x, **changes)
    given = {names.get(name, name): value for name, value in changes.items()}
    found = explain(net, x, layer, method="published", **given)
    sigma = torch.stack([descent.sigma for descent in expected])
    torch.testing.assert_close(found.sigma, sigma, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        found.feature_variance, found.sigma.new_tensor([d.variance for d in expected])
    )
    return expected


def test_published_equals_the_naive_procedure_after_every_step():
    """A target out of reach keeps the last of ever-rising iterates."""
    for steps in range(1, 6):
        given = {"target": 0.0, "iterations": steps, "extra_iterations": 0}
        expected = assert_equals_twin(NET, "7", X[:2], **given)
        assert all(torch.equal(d.sigma, d.iterates[-1]) for d in expected)
    for layer in ("0", "3"):
        assert_equals_twin(NET, layer, X[:2], weight=6.0)


def test_published_keeps_the_iterate_nearest_the_target():
    expected = assert_equals_twin(NET, "7", X[:2], target=-3.1, iterations=9)
    kept = [[torch.equal(d.sigma, s) for s in d.iterates].index(True) for d in expected]
    assert all(0 < number < 8 for number in kept)


def test_published_raises_the_weight_of_late_samples_only():
    expected = assert_equals_twin(NET, "7", X, target=-3.05, iterations=8, extra_iterations=5)
    late = [descent.late for descent in expected]
    assert any(late) and not all(late)
    plain = explain(NET, X, method="published", target_entropy=-3.05, iterations=13)
    changed = (plain.sigma - torch.stack([d.sigma for d in expected])).abs().amax(1) > 1e-6
    assert changed[late].all()  # the factor 1.5 matters


def test_published_clamps_sigma_on_both_sides():
    net, x = conv_net().double(), images(2, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight[:, :, :, 1:] = 0  # so that the last column of pixels is ignored
    expected = assert_equals_twin(net, "0", x, target=0.5, lr=0.03, iterations=4)
    assert all(descent.clamped for descent in expected)
    touched = torch.stack([s for d in expected for s in d.iterates])
    assert touched.min() == 1e-3 and touched.max() == 1


def truth(net, x, layer, cells, seeds=3):
    """The mean of published runs with fine steps, and their own mean spread, nats."""
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
    for method, given in (
        ("path", {"probes": 128}),
        ("reference", {"reference_draws": 6000, "chunk": 1024}),
    ):
        found = explain(net, x, layer, method=method, **given)
        ranks, difference = agreement(found.entropy, known)
        assert found.reached.all()
        assert ranks > 0.9 and difference < 0.03


@pytest.fixture(scope="module")
def hard_case():
    """(net, images, the published path without its noise: 20000 draws).

    Untrained max-pooling over a flat background, where shifts of the maximum add up over space.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4)]
        net = nn.Sequential(*head, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = 0.05 * smooth_images(2)
    x[:, :, 4:12, 4:12] += 0.7 * torch.randn(2, 3, 8, 8, generator=generator(7))
    given = {"method": "reference", "reference_draws": 20000, "chunk": 1024}
    return net, x, explain(net, x, "4", **given).entropy


def test_the_reference_is_the_mean_of_published_runs_also_at_kinks(hard_case):
    net, x, known = hard_case
    ranks, difference = agreement(truth(net, x, "4", cells=4), known)
    assert ranks > 0.9 and difference < 0.015


def test_kinks_are_corrected_for(hard_case):
    net, x, known = hard_case
    full = agreement(explain(net, x, "4", probes=256).entropy, known)
    assert full[0] > 0.95 and full[1] < 0.015
    for mutant, factor in ((no_mehler_product, 1.5), (no_shift, 5), (neither, 5)):
        with pytest.MonkeyPatch.context() as patch:
            mutant(patch)
            wrong = agreement(explain(net, x, "4", probes=256).entropy, known)
        assert wrong[0] < full[0] and wrong[1] > factor * full[1], mutant


@pytest.mark.parametrize("method", ["published", "descent", "reference"])
def test_descents_reach_the_closed_forms_and_know_no_standard_error(method):
    assert error_on_linear_net(method) < LIMIT[method]
    maps = explain(NET, X[:2], method=method)
    assert maps.standard_error.shape == maps.sigma.shape
    assert maps.standard_error.isnan().all() and maps.sigma.isfinite().all()


@pytest.mark.parametrize(
    "method, module, name, position, factor",
    [
        # A factor on all rates alone would cancel with sigma_f^2, which is made from them; so
        # rates are changed where they drive the path.
        ("path", kpnb.estimator.loss, "flow", 1, 2),
        ("path", kpnb.estimator.loss, "flow", 2, 0.5),
        ("path", kpnb.estimator.closed_form, "_follow", 2, 0.5),
        ("path", kpnb.estimator.closed_form, "_change", None, 2),
        ("optimum", kpnb.estimator.closed_form, "_change", None, 2),
        ("published", kpnb.estimator.descent, "_change_gradient", None, 0.5),
        ("published", kpnb.estimator.descent, "_feature_variance", None, 2),
        ("descent", kpnb.estimator.descent, "_change_gradient", None, 0.5),
        ("descent", kpnb.estimator.descent, "_feature_variance", None, 2),
        ("reference", kpnb.estimator.loss, "flow", 1, 2),
        ("reference", kpnb.estimator.descent, "_change_gradient", None, 0.5),
        ("reference", kpnb.estimator.descent, "_feature_variance", None, 2),
    ],
)
def test_a_wrong_constant_is_noticed(method, module, name, position, factor, monkeypatch):
    target = -2.95 if method in ("path", "reference") else -2.8  # in reach of the mutants too
    if target == -2.95:
        assert error_on_linear_net(method, target=target) < LIMIT[method]
    scale(monkeypatch, module, name, position, factor)
    assert LIMIT[method] < error_on_linear_net(method, target=target) < 2


def test_descent_says_when_it_did_not_converge():
    net, x = linear_net(D), images(1, dtype=torch.float64)
    maps = explain(net, x, "1", relu=False, method="descent", tolerance=1e-6)
    assert not maps.reached.any() and maps.defined.all()
