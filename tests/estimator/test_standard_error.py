"""The standard error of H: it is what runs with other noise spread by, and probes are doubled
until it is small enough."""

import pytest
import torch
from quick import UNITS, explain
from reference import conv_net, generator, images, linear_net
from torch import nn

import kpnb.estimator.closed_form
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.rates import BLOCK_DIRECTIONS

NET, X = conv_net().double(), images(2, dtype=torch.float64)
MIXED = torch.cat([X, 0.02 * X, 8 * X])  # samples of which some need more probes than others

# --- what it says -----------------------------------------------------------------------------


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
    print(f"\n{method}: {float(spread.mean()):.4f} nats; told: {low:.2f} {middle:.2f} {high:.2f}")
    assert least < middle < most
    assert low > 0.35 and high < 2.5
    assert (told > 0).all()


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_it_falls_with_the_root_of_the_probes(method):
    few, many = (
        explain(wide_net(600), X, method=method, relu=False, probes=probes, chunk=1024)
        for probes in (32, 288)
    )
    ratio = float(few.standard_error.mean() / many.standard_error.mean())
    print(f"\n{method}: from {float(few.standard_error.mean()):.4f} nats by {ratio:.2f}")
    assert ratio == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize("method", ["path", "optimum"])
def test_it_is_zero_where_the_directions_are_a_basis(method):
    net, x = linear_net(BLOCK_DIRECTIONS), images(2, dtype=torch.float64)
    exact = explain(net, x, "1", method=method, relu=False)
    assert exact.standard_error.max() < 1e-8
    more = explain(linear_net(BLOCK_DIRECTIONS + 7), x, "1", method=method, relu=False)
    assert more.standard_error.min() > 1e-4  # directions of part of a basis have an error


@pytest.mark.parametrize("method", ["published", "descent", "reference"])
def test_methods_that_know_none_say_so(method):
    maps = explain(NET, X, method=method)
    assert maps.standard_error.shape == maps.sigma.shape
    assert maps.standard_error.isnan().all() and maps.sigma.isfinite().all()


@pytest.mark.parametrize("method", ["path", "optimum"])
@pytest.mark.parametrize("limit", [None, 0.05])
def test_undefined_samples_have_none(method, limit):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.rand(4, 192, generator=generator(0)))
        net[1].bias.fill_(-20)
    x = images(3, dtype=torch.float64).abs()
    x[1] = 0
    maps = explain(net, x, "1", method=method, standard_error=limit, most_probes=16)
    assert maps.defined.tolist() == [True, False, True]
    assert maps.standard_error[1].isnan().all()
    assert maps.standard_error[[0, 2]].isfinite().all()


def test_it_is_stored_with_the_maps(tmp_path):
    maps = explain(NET, MIXED[:3])
    maps[1:].save(tmp_path / "maps")
    stored = EntropyMaps.load(tmp_path / "maps")
    assert torch.equal(stored.standard_error, maps.standard_error[1:])
    assert torch.equal(maps[-1].standard_error, maps.standard_error[[-1]])
    assert torch.equal(maps[[2, 0]].standard_error, maps.standard_error[[2, 0]])


# --- as many probes as it takes ---------------------------------------------------------------


def rows_of(net, x, **changes):
    """The maps, and how many noisy rows one sample alone sent through the network."""
    rows = []
    handle = net[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    try:
        maps = EntropyEstimator("7", UNITS, **{"probes": 8} | changes).explain(net, x)
    finally:
        handle.remove()
    return maps, sum(rows)


LIMIT, MOST = 0.012, 128


@pytest.fixture(scope="module")
def adaptive():
    return explain(NET, MIXED, standard_error=LIMIT, most_probes=MOST)


def assert_same(a, b):
    for name in ("sigma", "standard_error", "feature_variance"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-7, atol=1e-9)


def rounds_of(adaptive):
    """Rounds each sample took, found as the fixed number of probes that gives its map."""
    found = [None] * len(MIXED)
    for number in range(5):
        fixed = explain(NET, MIXED, standard_error=LIMIT, most_probes=8 * 2**number)
        for sample, (a, b) in enumerate(zip(adaptive.sigma, fixed.sigma, strict=True)):
            if found[sample] is None and torch.allclose(a, b, rtol=1e-7, atol=0):
                found[sample] = number
    return found


def test_probes_are_doubled_until_the_error_is_small_enough(adaptive):
    rounds, error = rounds_of(adaptive), adaptive.standard_error.mean(1)
    print(f"\nrounds {rounds}, standard errors {[round(e, 4) for e in error.tolist()]}")
    assert len(set(rounds)) > 1 and None not in rounds  # otherwise the test could not tell
    first = explain(NET, MIXED).standard_error.mean(1)
    for sample, number in enumerate(rounds):
        assert error[sample] <= LIMIT or number == 4
        assert (number == 0) == (first[sample] <= LIMIT)
    fewer = [number < 4 for number in rounds]
    assert any(fewer) and adaptive.reached.all()


def test_a_map_does_not_hang_on_the_samples_beside_it(adaptive):
    for order in ([3], [4, 1], [5, 0, 3, 2, 1, 4]):
        part = explain(NET, MIXED[order], standard_error=LIMIT, most_probes=MOST)
        assert_same(part, adaptive[order])
    pieces = explain(NET, MIXED, standard_error=LIMIT, most_probes=MOST, chunk=11)
    assert_same(pieces, adaptive)


def test_more_rounds_are_another_map_of_the_same_path(adaptive):
    """Rounds add draws that were not used before: the error falls as with that many at once."""
    one, five = (explain(NET, X, standard_error=1e-9, most_probes=most) for most in (8, 128))
    at_once = explain(NET, X, probes=128)
    assert five.standard_error.mean() < 0.5 * one.standard_error.mean()
    assert float(five.standard_error.mean()) == pytest.approx(
        float(at_once.standard_error.mean()), rel=0.4
    )
    off = (five.entropy - at_once.entropy).square().mean().sqrt()
    assert off < 2.5 * at_once.standard_error.square().mean().sqrt() * 2**0.5


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
    """Rows of one sample: 2 clean ones, 2 x 16 for the growth, and the probes at each of three
    evaluations, half as many at the first."""
    x = X[:1]
    fixed, rows = rows_of(NET, x, probes=probes, standard_error=None)
    assert rows == 2 + 2 * 16 + 2.5 * probes
    _, twice = rows_of(NET, x, probes=probes, standard_error=None, chunk=probes // 2)
    assert twice == rows + 2 * probes  # in two pieces, the mean shift takes a pass of its own
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
