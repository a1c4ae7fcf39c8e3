"""Path and optimum: exact for a linear feature however it is cut; their standard error."""

from itertools import product

import pytest
import torch
from quick import UNITS, D, error_on_linear_net, explain
from reference import column_norms, conv_net, images, linear_net, linear_path

import kpnb.estimator.closed_form
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.rates import BLOCK_DIRECTIONS

SET = [{"weight": w, "target": t} for w, t in ((7.0, -2.8), (6.0, -2.9), (6.0, -2.7))]
CUT = [{"chunk": chunk, "evaluations": times} for chunk in (2, 7, 1000) for times in (1, 3)]
CUT += [{"probes": 32}, *({"d": d} for d in (5, 2, 1))]  # directions: a multiple of dimensions


@pytest.mark.parametrize(
    "method, changes", [*product(("path", "optimum"), SET), *product(["path"], CUT)]
)
def test_closed_forms_are_exact_with_as_many_probes_as_dimensions_however_cut(method, changes):
    assert error_on_linear_net(method, **changes) < 1e-6


def test_a_feature_value_that_never_moves_takes_no_direction():
    """It counts in no basis: 12 values of which 10 move are as exact as 10."""
    net, x = linear_net(D + 2), images(2, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight[[3, 7]] = 0
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    found = explain(net, x, "1", relu=False, probes=8).entropy
    assert (found - torch.tensor(linear_path(J, 7.0, -2.8))).abs().max() < 1e-6


_WIDER = {"init_sigma": 0.02, "target_entropy": -2.0}


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_the_feature_variance_is_known(method):
    net, x = linear_net(D), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    found = explain(net, x, "1", relu=False, method=method, **_WIDER).feature_variance
    torch.testing.assert_close(found, (0.02**2 * J.sum()).expand(2), rtol=1e-6, atol=0)


NET, X = conv_net().double(), images(2, dtype=torch.float64)
MIXED = torch.cat([X, 0.02 * X, 8 * X])  # samples of which some need more probes than others


def wide_net(features):
    return conv_net(outputs=features).double()


@pytest.mark.parametrize("features, least, most", [(600, 0.7, 1.4), (BLOCK_DIRECTIONS, 0.5, 1.6)])
@pytest.mark.parametrize("method", ["path", "optimum"])
def test_it_is_the_spread_over_seeds(method, features, least, most):
    """With as many features as directions nothing but the kinks has an error, and that of the
    growth, which is not told, is a share of it."""
    given = {"method": method, "relu": False, "probes": 32, "chunk": 1024}
    runs = [explain(wide_net(features), X, seed=seed, **given) for seed in range(20)]
    spread = torch.stack([run.entropy for run in runs]).std(0)
    told = torch.stack([run.standard_error for run in runs]).square().mean(0).sqrt()
    ratio = (told / spread).flatten()
    low, middle, high = ratio.quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
    assert least < middle < most and low > 0.35 and high < 2.5
    assert (told > 0).all()


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_it_falls_with_the_root_of_the_probes(method):
    given = {"method": method, "relu": False, "chunk": 1024}
    few, many = (explain(wide_net(600), X, probes=probes, **given) for probes in (32, 288))
    ratio = float(few.standard_error.mean() / many.standard_error.mean())
    assert ratio == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_it_is_zero_on_a_basis(method):
    exact, more = (
        explain(linear_net(D + extra), X, "1", method=method, relu=False).standard_error
        for extra in (0, 7)
    )
    assert exact.max() < 1e-8
    assert more.min() > 1e-4  # directions of part of a basis have an error


def rows_of(net, x, **changes):
    """The maps, and how many noisy rows one sample alone sent through the network."""
    rows = []
    handle = net[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    maps = EntropyEstimator("7", UNITS, **{"probes": 8} | changes).explain(net, x)
    handle.remove()
    return maps, sum(rows)


GOAL, MOST = 0.012, 128


@pytest.fixture(scope="module")
def adaptive():
    return explain(NET, MIXED, standard_error=GOAL, most_probes=MOST)


def assert_same(a, b):
    for name in ("sigma", "standard_error", "feature_variance"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-7, atol=1e-9)


def rounds_of(adaptive):
    """Rounds each sample took, found as the fixed number of probes that gives its map."""
    found = [None] * len(MIXED)
    for number in range(5):
        fixed = explain(NET, MIXED, standard_error=GOAL, most_probes=8 * 2**number)
        for sample, (a, b) in enumerate(zip(adaptive.sigma, fixed.sigma, strict=True)):
            if found[sample] is None and torch.allclose(a, b, rtol=1e-7, atol=0):
                found[sample] = number
    return found


def test_probes_are_doubled_until_the_error_is_small_enough(adaptive):
    rounds, error = rounds_of(adaptive), adaptive.standard_error.mean(1)
    assert len(set(rounds)) > 1 and None not in rounds  # otherwise the test could not tell
    first = explain(NET, MIXED).standard_error.mean(1)
    for sample, number in enumerate(rounds):
        assert error[sample] <= GOAL or number == 4
        assert (number == 0) == (first[sample] <= GOAL)
    assert min(rounds) < 4 and adaptive.reached.all()


def test_a_map_does_not_hang_on_the_samples_beside_it(adaptive):
    for order in ([3], [4, 1], [5, 0, 3, 2, 1, 4]):
        part = explain(NET, MIXED[order], standard_error=GOAL, most_probes=MOST)
        assert_same(part, adaptive[order])
    pieces = explain(NET, MIXED, standard_error=GOAL, most_probes=MOST, chunk=11)
    assert_same(pieces, adaptive)


def test_no_draw_is_used_twice(monkeypatch):
    """Three measurements of 2 blocks, then as many again at each, three times over."""
    original, used = kpnb.estimator.closed_form.measure, []

    def measure(p, sigma, blocks, directions):
        used.append(list(blocks))
        return original(p, sigma, blocks, directions)

    monkeypatch.setattr(kpnb.estimator.closed_form, "measure", measure)
    explain(NET, X[:1], standard_error=1e-9, most_probes=64)
    assert [len(blocks) for blocks in used] == [2] * 6 + [4] * 3 + [8] * 3
    assert sorted(sum(used, [])) == list(range(48))


@pytest.mark.parametrize("probes", [16, 32, 64])
def test_without_a_limit_probes_are_as_given(probes):
    """Rows of one sample: 5 of the checks, one that finds the chunk, a clean one, 2 x 16 for the
    growth, and the probes at each of three evaluations, half as many at the first."""
    x = X[:1]
    fixed, rows = rows_of(NET, x, probes=probes, standard_error=None)
    assert rows == 7 + 2 * 16 + 2.5 * probes
    _, twice = rows_of(NET, x, probes=probes, standard_error=None, chunk=probes // 2)
    assert twice == rows - 1 + 2 * probes  # in two pieces, the mean shift takes a pass of its own
    loose, same_rows = rows_of(NET, x, probes=probes, standard_error=1e3)
    assert same_rows == rows and torch.equal(fixed.sigma, loose.sigma)
    for most in (1, 10**6):
        assert_same(fixed, explain(NET, x, probes=probes, most_probes=most))


@pytest.mark.parametrize("most, rounds", [(1, 1), (8, 1), (15, 1), (16, 2), (31, 2), (64, 4)])
def test_most_probes_bounds_the_probes(most, rounds):
    x, never = X[:1], {"standard_error": 1e-9}
    used = rows_of(NET, x, most_probes=most, **never)[1]
    plain = rows_of(NET, x, standard_error=None)[1]
    again = [rows_of(NET, x, most_probes=8 * 2**n, **never)[1] for n in range(4)]
    assert used == again[rounds - 1]
    assert again[0] == plain and again == sorted(set(again))
