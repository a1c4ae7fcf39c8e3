"""Path and optimum: exact for a linear feature however it is cut; their standard error."""

from itertools import product
from unittest.mock import Mock

import pytest
import torch
from quick import UNITS, D, error_on_linear_net, explain
from reference import column_norms, conv_net, generator, images, linear_net

import kpnb.estimator.closed_form

SET = [{"weight": w, "target": t} for w, t in ((7.0, -2.8), (6.0, -2.9), (6.0, -2.7))]
CUT = [{"chunk": chunk, "evaluations": times} for chunk in (2, 7, 1000) for times in (1, 3)]
CUT += [{"probes": 32}, *({"d": d} for d in (5, 2, 1))]  # directions: a multiple of dimensions


@pytest.mark.parametrize(
    "method, changes", [*product(("path", "optimum"), SET), *product(["path"], CUT)]
)
def test_closed_forms_are_exact_with_as_many_probes_as_dimensions_however_cut(method, changes):
    assert error_on_linear_net(method, **changes) < 1e-6


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_of_a_linear_feature_variance_and_error_are_known(method):
    """The error is zero on a basis, and not with directions of part of another."""
    net, x = linear_net(D), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    found = explain(net, x, "1", relu=False, method=method, init_sigma=0.02, target_entropy=-2)
    known = (0.02**2 * J.sum()).expand(2)
    torch.testing.assert_close(found.feature_variance, known, rtol=1e-6, atol=0)
    assert found.standard_error.max() < 1e-8
    more = explain(linear_net(D + 7), x, "1", relu=False, method=method)
    assert more.standard_error.min() > 1e-4


NET, X = conv_net().double(), images(2, dtype=torch.float64)
MIXED = torch.cat([X, 0.02 * X, 8 * X])  # samples of which some need more probes than others
GOAL, MOST = 0.012, 128


@pytest.mark.parametrize(
    "method, features, least, most",
    [("path", 600, 0.7, 1.4), ("optimum", 600, 0.7, 1.4), ("path", D, 0.5, 1.6)],
)
def test_the_standard_error_is_the_spread_over_seeds(method, features, least, most):
    """On a basis only the kinks have an error; that of the growth, a share of it, is not told."""
    given = {"method": method, "relu": False, "probes": 32, "chunk": 1024}
    net = conv_net(outputs=features).double()
    runs = [explain(net, X, seed=seed, **given) for seed in range(20)]
    spread = torch.stack([run.entropy for run in runs]).std(0)
    told = torch.stack([run.standard_error for run in runs]).square().mean(0).sqrt()
    ratio = (told / spread).flatten()
    low, middle, high = ratio.quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
    assert least < middle < most and low > 0.35 and high < 2.5
    assert (told > 0).all()


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_the_standard_error_falls_with_the_root_of_the_probes(method):
    given = {"method": method, "relu": False, "chunk": 1024}
    net = conv_net(outputs=600).double()
    few, many = (explain(net, X, probes=probes, **given) for probes in (32, 288))
    ratio = float(few.standard_error.mean() / many.standard_error.mean())
    assert ratio == pytest.approx(3, rel=0.2)


@pytest.fixture(scope="module")
def adaptive():
    return explain(NET, MIXED, standard_error=GOAL, most_probes=MOST)


def assert_same(a, b):
    for name in ("sigma", "standard_error", "feature_variance"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-7, atol=1e-9)


def test_probes_are_doubled_until_the_error_is_small_enough(adaptive):
    """Each sample has the map of the fixed number of probes that was the first to be enough."""
    fixed = [explain(NET, MIXED, most_probes=8 * 2**n, standard_error=GOAL) for n in range(5)]
    rounds = []
    for sample, sigma in enumerate(adaptive.sigma):
        alike = [torch.allclose(run.sigma[sample], sigma, rtol=1e-7, atol=0) for run in fixed]
        rounds.append(alike.index(True))
    assert len(set(rounds)) > 1 and min(rounds) < 4  # otherwise the test could not tell
    first, error = explain(NET, MIXED).standard_error.mean(1), adaptive.standard_error.mean(1)
    for sample, number in enumerate(rounds):
        assert error[sample] <= GOAL or number == 4
        assert (number == 0) == (first[sample] <= GOAL)
    assert adaptive.reached.all()


def test_a_map_does_not_hang_on_the_samples_beside_it(adaptive):
    for order in ([4, 1], [5, 0, 3, 2, 1, 4]):
        part = explain(NET, MIXED[order], standard_error=GOAL, most_probes=MOST)
        assert_same(part, adaptive[order])
    pieces = explain(NET, MIXED, standard_error=GOAL, most_probes=MOST, chunk=11)
    assert_same(pieces, adaptive)


@pytest.mark.parametrize("most, rounds", [(1, 1), (15, 1), (16, 2), (64, 4)])
def test_most_probes_bounds_the_probes_and_no_draw_is_used_twice(most, rounds, monkeypatch):
    """Three measurements of 2 blocks, then as many again at each, while that is within bounds."""
    counted = Mock(side_effect=kpnb.estimator.closed_form.measure)
    monkeypatch.setattr(kpnb.estimator.closed_form, "measure", counted)
    explain(NET, X[:1], standard_error=1e-9, most_probes=most)
    used = [list(call.args[2]) for call in counted.call_args_list]
    sizes = [2] * 3, [2] * 3, [4] * 3, [8] * 3
    assert [len(blocks) for blocks in used] == sum(sizes[:rounds], [])
    drawn = sum(used, [])
    assert sorted(drawn) == list(range(len(drawn)))


@pytest.mark.parametrize("probes", [16, 64])
def test_without_a_limit_probes_are_as_given(probes):
    """Rows of one sample: 5 of the checks, one that finds the chunk, a clean one, 2 x 16 for the
    growth, and the probes at each of three evaluations, half as many at the first."""
    net, rows = conv_net().double(), []
    net[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    fixed = explain(net, X[:1], probes=probes)
    assert sum(rows) == 7 + 2 * 16 + 2.5 * probes
    for given in ({"standard_error": 1e3}, {"most_probes": 1}, {"most_probes": 10**6}):
        assert torch.equal(fixed.sigma, explain(NET, X[:1], probes=probes, **given).sigma)


def asleep(x, margin):
    """Features of the upper half of an image that are awake, and of the lower half that ReLU cuts
    off by a margin, which noise can wake."""
    net = linear_net(40)
    upper = (UNITS.spread(torch.arange(16.0)[None], x) < 8).expand_as(x)[0].flatten()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(40, 192, generator=generator(0)) / 14)
        net[1].weight[:20, ~upper] = net[1].weight[20:, upper] = 0
        net[1].bias.zero_()
        y = net(x)[0]
        net[1].bias.copy_(torch.where(torch.arange(40) < 20, 3 - y, -margin - y))
    return net


def loss(net, x, maps, weight=7.0, draws=500):
    """Eq. 3 by plain draws, in its own unit."""
    g, sigma = torch.Generator().manual_seed(0), UNITS.spread(maps.sigma, x)
    with torch.no_grad():
        noise = (torch.randn(x.shape, generator=g, dtype=x.dtype) for _ in range(draws))
        gaps = [(net(x + sigma * one).relu() - net(x).relu()).square().sum(1) for one in noise]
    return torch.stack(gaps).mean(0) / maps.feature_variance - weight * maps.entropy.mean(1)


@pytest.mark.parametrize("margin", [0.3, 0.6, 1.0])
def test_the_minimum_is_not_overrun_where_noise_wakes_features(margin, monkeypatch):
    """Full steps by the last measurement alone end at a loss of 300 to 2,400, and full steps by the
    mean of the later half at 40 for the widest margin; on trained networks at 10,000 and more, so
    that the length of steps is held, too."""
    counted = Mock(side_effect=kpnb.estimator.closed_form.measure)
    monkeypatch.setattr(kpnb.estimator.closed_form, "measure", counted)
    x = images(1, dtype=torch.float64)
    net = asleep(x, margin)
    explain(net, x, "1", relu=True, method="optimum", probes=32)
    way = torch.stack([call.args[1].log() for call in counted.call_args_list])
    assert len(way) == 8 * 3 and way.diff(dim=0).abs().max() <= 0.5 + 1e-9
    found, way = (explain(net, x, "1", relu=True, method=m, probes=32) for m in ("optimum", "path"))
    assert found.reached.all()
    assert loss(net, x, found) < loss(net, x, way) + 10


def test_the_error_of_a_unit_that_is_cut_off_or_far_is_told_and_an_ignored_one_arrives():
    x = images(1, dtype=torch.float64)
    net, first = linear_net(600), UNITS.spread(torch.eye(16)[[0]].double(), x).expand_as(x)
    with torch.no_grad():
        net[1].weight[:, first.flatten().bool()] = 0
    given = {"method": "optimum", "relu": False, "probes": 8}
    for evaluations, init in ((1, 0.01), (1, 1e-3), (3, 0.01)):
        found = explain(net, x, "1", evaluations=evaluations, init_sigma=init, **given)
        assert found.sigma[0, 0] == 1 and found.reached.all()
        assert (found.standard_error[0, 1:] > 1e-3).all()
