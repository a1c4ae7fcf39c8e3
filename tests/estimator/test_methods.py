"""The methods against closed forms of a linear feature, and in degenerate cases."""

import math

import pytest
import torch
from mutants import no_mehler_product, no_shift
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

import kpnb.estimator.closed_form
import kpnb.estimator.descent
import kpnb.estimator.loss
from kpnb.estimator.entropy import METHODS, EntropyEstimator
from kpnb.estimator.rates import BLOCK_DIRECTIONS

# --- a linear feature: the closed forms -------------------------------------------------------

D = BLOCK_DIRECTIONS  # so that the directions of a block of draws are a basis
PROBES = 8
SETTINGS = {
    "path": {"probes": PROBES, "standard_error": None},
    "optimum": {"probes": PROBES},
    "published": {"draws": 96, "lr": LR / 4, "iterations": 240, "extra_iterations": 0},
    "descent": {"draws": 96, "descent_iterations": 400},
    "reference": {"reference_draws": 4800},
}
LIMIT = {"path": 1e-6, "optimum": 1e-6, "published": 0.03, "descent": 0.03, "reference": 0.012}


def error_on_linear_net(method, weight=7.0, target=-2.8, d=D, **changes):
    """Mean absolute difference to the closed form of f(x) = W x + c, nats, worst sample; infinite
    where the method says that it did not get there."""
    net, x = linear_net(d), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    path = method in ("path", "published", "reference")
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


@pytest.mark.parametrize("d", [5, 2, 1])
def test_closed_forms_are_exact_where_directions_are_a_multiple_of_dimensions(d):
    assert error_on_linear_net("path", d=d) < 1e-6


def test_a_feature_value_that_never_moves_takes_no_direction():
    """It counts in no basis: 12 values of which 10 move are as exact as 10."""
    net, x = linear_net(D + 2), images(2, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight[[3, 7]] = 0
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    found = explain(net, x, "1", relu=False, probes=PROBES).entropy
    assert (found - torch.tensor(linear_path(J, 7.0, -2.8))).abs().max() < 1e-6


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_the_feature_variance_is_known(method):
    net, x = linear_net(D), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    found = explain(net, x, "1", relu=False, method=method, init_sigma=0.02).feature_variance
    torch.testing.assert_close(found, (0.02**2 * J.sum()).expand(2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["published", "descent", "reference"])
def test_descents_reach_the_closed_forms(method):
    error = error_on_linear_net(method)
    print(f"\n{method}: {error:.4f} nats")
    assert error < LIMIT[method]


def mutants():
    """(method, module of kpnb, name in it, what replaces it): one wrong constant each.

    A factor on all rates alone would cancel with sigma_f^2, which is made from them; so rates are
    changed where they drive the path.
    """
    flow, follow, change = (
        kpnb.estimator.loss.flow,
        kpnb.estimator.closed_form._follow,
        kpnb.estimator.closed_form._change,
    )
    slope, variance = (
        kpnb.estimator.descent._change_gradient,
        kpnb.estimator.descent._feature_variance,
    )

    def half_slope(*given):
        return slope(*given) / 2

    closed, descents = kpnb.estimator.closed_form, kpnb.estimator.descent
    return [
        ("path", kpnb.estimator.loss, "flow", lambda sigma, r, *rest: flow(sigma, 2 * r, *rest)),
        (
            "path",
            kpnb.estimator.loss,
            "flow",
            lambda sigma, r, weight, t: flow(sigma, r, weight / 2, t),
        ),
        ("path", closed, "_follow", lambda run, s, r, *rest: follow(run, s, r / 2, *rest)),
        ("path", closed, "_change", lambda *given: 2 * change(*given)),
        ("optimum", closed, "_change", lambda *given: 2 * change(*given)),
        ("published", descents, "_change_gradient", half_slope),
        ("published", descents, "_feature_variance", lambda *given: variance(*given) * 2),
        ("descent", descents, "_change_gradient", half_slope),
        ("descent", descents, "_feature_variance", lambda *given: variance(*given) * 2),
        (
            "reference",
            kpnb.estimator.loss,
            "flow",
            lambda sigma, r, *rest: flow(sigma, 2 * r, *rest),
        ),
        ("reference", descents, "_change_gradient", half_slope),
        ("reference", descents, "_feature_variance", lambda *given: variance(*given) * 2),
    ]


@pytest.mark.parametrize("number", range(12))
def test_a_wrong_constant_is_noticed(number, monkeypatch):
    method, module, name, wrong = mutants()[number]
    target = -2.8
    if method in ("path", "reference"):  # in reach of the mutants too
        target = -2.95
        assert error_on_linear_net(method, target=target) < LIMIT[method]
    monkeypatch.setattr(module, name, wrong)
    error = error_on_linear_net(method, target=target)
    print(f"\n{method}, wrong {name}: {error:.4f} nats")
    assert LIMIT[method] < error < 2


@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_wrong_rates_show_in_the_feature_variance(wrong, monkeypatch):
    rates = kpnb.estimator.closed_form._rates
    monkeypatch.setattr(kpnb.estimator.closed_form, "_rates", lambda *given: wrong * rates(*given))
    with pytest.raises(AssertionError, match="not close"):
        test_the_feature_variance_is_known("path")


# --- kinks with a known answer ----------------------------------------------------------------


class HalfKinked(nn.Module):
    """One feature a cell, the sum over the cell, in the upper half of the image its absolute value.

    Where x = 0, E||y - y0||^2 is that of the sums themselves, as |z|^2 = z^2: all cells weigh the
    same.
    """

    def __init__(self):
        super().__init__()
        self.last = nn.Identity()

    def forward(self, x):
        z = UNITS.gather(2 * x)
        return self.last(torch.cat([z[:, :8].abs(), z[:, 8:]], 1))


def halves(method):
    """Mean entropy of the upper and of the lower half, and the worst unit's distance from its
    half's mean, nats."""
    x = images(2, dtype=torch.float64)
    x[:, :, :4] = 0
    found = explain(HalfKinked(), x, "last", method=method, relu=False, probes=800, chunk=4096)
    upper, lower = found.entropy[:, :8], found.entropy[:, 8:]
    apart = max(float((half - half.mean()).abs().max()) for half in (upper, lower))
    return float(upper.mean()), float(lower.mean()), apart


KINKED = {"path": -2.8, "optimum": 0.5 * math.log(7 * 0.01**2 / 2) + CONSTANT}


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_kinked_units_get_the_known_entropy(method):
    """All units weigh the same. The midpoint of Mehler's integral is 3% off in D, 0.015 nats; the
    rest is noise, which the optimum, made of the last measurement alone, has more of."""
    upper, lower, apart = halves(method)
    print(f"\n{method}: {upper:.4f} and {lower:.4f} nats, {apart:.4f} from the mean")
    for half in (upper, lower):
        assert half == pytest.approx(KINKED[method], abs=0.015 if method == "path" else 0.03)
    assert apart < (0.06 if method == "path" else 0.2)


@pytest.mark.parametrize("method", ["path", "optimum"])
@pytest.mark.parametrize("mutant", [no_mehler_product, no_shift])
def test_kinked_units_are_wrong_without_a_part(method, mutant, monkeypatch):
    mutant(monkeypatch)
    upper, lower, _ = halves(method)
    print(f"\n{method}, {mutant.__name__}: {upper:.4f} and {lower:.4f} nats")
    assert abs(upper - lower) > 0.06  # 0.005 and 0.02 with both


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
