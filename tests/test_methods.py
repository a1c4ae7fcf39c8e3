"""The methods against closed forms of a linear feature, and in degenerate cases."""

import pytest
import torch
from quick import LR, UNITS, explain
from reference import (
    CONSTANT,
    column_norms,
    conv_net,
    generator,
    images,
    linear_net,
    linear_optimum,
    linear_path,
)
from torch import nn

import kpnb.methods
from kpnb.entropy import EntropyEstimator
from kpnb.methods import METHODS

# --- a linear feature: the closed forms -------------------------------------------------------

D = 10  # as many as the directions of a block of draws
PROBES = 8
SETTINGS = {
    "path": {"probes": PROBES, "standard_error": None},
    "optimum": {"probes": PROBES},
    "published": {"draws": 96, "lr": LR / 4, "iterations": 240, "extra_iterations": 0},
    "descent": {"draws": 96, "descent_iterations": 400},
}
LIMIT = {"path": 1e-3, "optimum": 1e-3, "published": 0.03, "descent": 0.03}  # nats


def error_on_linear_net(method, weight=7.0, target=-2.8, **changes):
    """Mean absolute difference to the closed form of f(x) = W x + c, nats, worst sample; infinite
    where the method says that it did not get there."""
    net, x = linear_net(D), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    path = method in ("path", "published")
    known = linear_path(J, weight, target) if path else linear_optimum(J, weight)
    chosen = {"units": UNITS, "relu": False, "target_entropy": target, "entropy_weight": weight}
    found = EntropyEstimator("1", method=method, **chosen | SETTINGS[method] | changes)
    maps = found.explain(net, x)
    error = (maps.entropy - torch.tensor(known)).abs().mean(1).max()
    return float(error) if maps.reached.all() else float("inf")


@pytest.mark.parametrize("method", ["path", "optimum"])
@pytest.mark.parametrize("weight, target", [(7.0, -2.8), (6.0, -2.9), (6.0, -2.7)])
def test_closed_forms_are_exact_with_as_many_probes_as_dimensions(method, weight, target):
    assert error_on_linear_net(method, weight, target) < 1e-6


@pytest.mark.parametrize("chunk", [2, 7, 1000])
def test_closed_forms_are_exact_for_any_chunk_and_number_of_evaluations(chunk):
    for evaluations in (1, 3):
        assert error_on_linear_net("path", chunk=chunk, evaluations=evaluations) < 1e-6


def test_twice_as_many_probes_as_dimensions_are_exact_too():
    assert error_on_linear_net("path", probes=4 * PROBES) < 1e-6


@pytest.mark.parametrize("method", ["published", "descent"])
def test_descents_reach_the_closed_forms(method):
    assert error_on_linear_net(method) < LIMIT[method]


def mutants():
    """(method, name in kpnb.methods, what replaces it): one wrong constant each."""
    flow, rate = kpnb.methods._flow, kpnb.methods._rate
    slope, variance = kpnb.methods._change_gradient, kpnb.methods._feature_variance

    def half_rate(*given):
        found, change = rate(*given)
        return found / 2, change

    return [
        ("path", "_flow", lambda sigma, r, *rest: flow(sigma, 2 * r, *rest)),
        ("path", "_flow", lambda sigma, r, weight, time: flow(sigma, r, weight / 2, time)),
        ("path", "_rate", half_rate),
        ("optimum", "_rate", half_rate),
        ("published", "_change_gradient", lambda *given: slope(*given) / 2),
        ("descent", "_change_gradient", lambda *given: slope(*given) / 2),
        ("descent", "_feature_variance", lambda *given: variance(*given) * 2),
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_wrong_constant_is_noticed(number, monkeypatch):
    method, name, wrong = mutants()[number]
    target = -2.95 if method == "path" else -2.8  # in reach of the mutants too
    assert error_on_linear_net(method, target=target) < LIMIT[method]
    monkeypatch.setattr(kpnb.methods, name, wrong)
    assert LIMIT[method] < error_on_linear_net(method, target=target) < 2


# --- degenerate cases -------------------------------------------------------------------------


def net_that_ignores(cell):
    net, x = linear_net(D), images(1, dtype=torch.float64)
    pixels = UNITS.spread(torch.eye(16)[[cell]].double(), x).expand_as(x).flatten().bool()
    with torch.no_grad():
        net[1].weight[:, pixels] = 0
    return net, x


@pytest.mark.parametrize("method", ["optimum", "descent"])
def test_an_ignored_unit_goes_to_the_largest_sigma(method):
    net, x = net_that_ignores(5)
    maps = explain(net, x, "1", method=method, relu=False, descent_iterations=400)
    assert maps.sigma[0, 5] == pytest.approx(1.0) and maps.entropy[0, 5] == pytest.approx(CONSTANT)
    assert (maps.sigma[0].sort().values[:-1] < 0.1).all()


@pytest.mark.parametrize("method", ["path", "published"])
def test_an_ignored_unit_grows_fastest_on_the_path(method):
    net, x = net_that_ignores(5)
    maps = explain(net, x, "1", method=method, relu=False, iterations=60)
    assert maps.sigma[0].argmax() == 5 and maps.sigma[0, 5] < 1
    assert maps.reached.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_feature_is_undefined(method, dtype):
    """Not 0 and not the start, also where batches of different size round differently."""
    net, x = conv_net(16, outputs=32).to(dtype), images(2, 16, dtype=dtype)
    with torch.no_grad():
        net[0].weight.zero_()
    for layer in ("0", "3", "7"):
        maps = explain(net, x, layer, method=method)
        assert not maps.defined.any() and not maps.reached.any()
        assert maps.entropy.isnan().all() and maps.mean_entropy.isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_sample_leaves_the_others_alone(method):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with torch.no_grad():
        net[1].weight.copy_(torch.rand(4, 192, generator=generator(0)))
        net[1].bias.fill_(-20)
    x = images(3).abs()
    x[1] = 0
    maps = explain(net, x, "1", method=method)
    assert maps.defined.tolist() == [True, False, True]
    assert maps.entropy[1].isnan().all() and not maps.reached[1]
    alone = explain(net, x[[2]], "1", method=method)
    torch.testing.assert_close(maps.entropy[[2]], alone.entropy, rtol=0, atol=1e-4)


def test_a_target_out_of_reach_is_reported():
    net, x = linear_net(D), images(1, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    end = torch.tensor(linear_optimum(J, 7.0), dtype=torch.float64)
    maps = explain(net, x, "1", relu=False, probes=PROBES, target_entropy=1.0)
    assert not maps.reached.any()
    torch.testing.assert_close(maps.entropy[0], end, rtol=0, atol=1e-6)
    short = explain(net, x, "1", relu=False, method="published", iterations=2, extra_iterations=0)
    assert not short.reached.any() and short.mean_entropy < -3.0


def test_descent_says_when_it_did_not_converge():
    net, x = linear_net(D), images(1, dtype=torch.float64)
    maps = explain(net, x, "1", relu=False, method="descent", tolerance=1e-6)
    assert not maps.reached.any() and maps.defined.all()
