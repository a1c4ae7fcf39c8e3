"""V, C, sigma_f^2 and their growth: closed forms, brute force for a network; their directions."""

import math

import pytest
import torch
from quick import UNITS, Applied, perturbed
from reference import change_and_rates, column_norms, conv_net, generator, images, linear_net
from torch import nn

from kpnb.estimator.features import FeatureReader
from kpnb.estimator.rates import (
    BLOCK_DIRECTIONS,
    LARGEST_ORTHONORMAL,
    SMALLER,
    Directions,
    Rates,
    measure,
    response,
)

SIGMA = 0.01


def measured(net, x, layer, relu=False, blocks=2, sigma=None, draws=16, **changes):
    """(response, rates, sigma) at sigma (units,), by default uneven."""
    p = perturbed(net, x, layer, relu, **changes)
    if sigma is None:
        sigma = SIGMA * (1 + 0.5 * torch.rand(16, generator=generator(9), dtype=x.dtype))
    sigma = sigma.expand(len(x), -1)
    found = response(p, sigma, draws)
    return found, measure(p, sigma, range(blocks), Directions(p, found.moving)), sigma


def mean(rates):
    """(V before the growth correction, C) (n, units), the means over blocks."""
    return rates.fluctuation.mean(1), rates.shift.mean(1)


def rate(found, rates):
    """D (n, units) from all blocks."""
    whole = rates.shift.new_full((1, len(rates)), 1 / len(rates))
    return rates.rate(found.variance_growth, whole)[:, 0]


def test_a_linear_feature_fluctuates_by_its_column_norms_and_does_not_shift():
    """A feature value that never moves counts in no basis."""
    net, x = linear_net(BLOCK_DIRECTIONS + 2), images(2, dtype=torch.float64)
    with torch.no_grad():
        net[1].weight[[3, 7]] = 0
    found, rates, sigma = measured(net, x, "1")
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells).expand(2, -1)
    per_block = J.unsqueeze(1).expand_as(rates.fluctuation)
    torch.testing.assert_close(rates.fluctuation, per_block, rtol=1e-9, atol=0)
    assert (rates.shift / sigma.unsqueeze(1)).abs().max() < 1e-9 * J.max()
    torch.testing.assert_close(rate(found, rates), J, rtol=1e-9, atol=0)
    for growth in (found.change_growth, found.variance_growth):
        torch.testing.assert_close(growth, torch.ones_like(growth), rtol=0, atol=1e-9)
    assert (~found.moving).nonzero().tolist() == [[0, 3], [0, 7], [1, 3], [1, 7]]


def kinked(absolute):
    """|w_k . x| or relu(w_k . x) where w_k . x = 0, w_k orthonormal; the sum of w_ki^2 per unit."""
    x = images(1, 4, dtype=torch.float64)[:, :1]
    w = torch.randn(16, 10, generator=generator(1), dtype=torch.float64)
    w = torch.linalg.qr(torch.cat([x.view(16, 1), w], 1))[0].T[1:]
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10, bias=False), Applied(torch.abs)).double()
    with torch.no_grad():
        net[1].weight.copy_(w)
    layer, relu = ("2", False) if absolute else ("1", True)
    return (net, x, layer, relu), w.square().sum(0)


def regression(values, squares):
    """The factor c of values = c * squares, by least squares."""
    return float((values * squares).sum() / squares.square().sum())


# Factors of w_i^2: the exact V, V by Mehler's product at correlation 1/2, C / sigma_i.
KINKS = {
    # Var relu(z) = s^2 (1/2 - 1/(2 pi)); P(z > 0, z' > 0) = 1/4 + asin(1/2) / (2 pi)
    False: (0.5 - 0.5 / math.pi, 1 / 3, 0.5 / math.pi),
    # Var |z| = s^2 (1 - 2/pi); E[sign z sign z'] = 2 asin(1/2) / pi
    True: (1 - 2 / math.pi, 1 / 3, 2 / math.pi),
}


@pytest.mark.parametrize("absolute", [False, True])
def test_rates_at_a_kink_are_known(absolute):
    """The squared Jacobian alone, without Mehler's product, would make V 1/2 or 1."""
    given, squares = kinked(absolute)
    found, rates, sigma = measured(*given, 1000, draws=1000)
    exact, mehler, shifted = KINKS[absolute]
    total = exact + shifted
    assert total == pytest.approx(1.0 if absolute else 0.5)  # E y^2 = s^2, s^2 / 2
    spread = float((squares * sigma.square()).sum())
    fluctuation, shift = mean(rates)
    assert regression(fluctuation, squares) == pytest.approx(mehler, abs=0.04)  # 4 standard errors
    assert regression(shift / sigma, squares) == pytest.approx(shifted, rel=0.05)
    assert regression(rate(found, rates), squares) == pytest.approx(mehler + shifted, rel=0.05)
    # The midpoint of Mehler's integral is within 3% of the total.
    assert abs(mehler - exact) < 0.031 * total
    # The change and its growth are exact: y is homogeneous.
    assert float(found.change) == pytest.approx(total * spread, rel=0.07)
    for growth in (found.change_growth, found.variance_growth):
        torch.testing.assert_close(growth, torch.ones_like(growth), rtol=0, atol=1e-9)


def test_the_shift_of_two_blocks_is_without_bias():
    """B is the mean over the other block: its own draws would add their fluctuation."""
    given, squares = kinked(True)
    p, sigma = perturbed(*given), given[1].new_full((1, 16), SIGMA)
    directions = Directions(p, response(p, sigma, 16).moving)
    pairs = [measure(p, sigma, range(first, first + 2), directions) for first in range(0, 600, 2)]
    shift = sum(mean(pair)[1] for pair in pairs) / len(pairs)
    found, known = regression(shift / sigma, squares), KINKS[True][2]
    assert found == pytest.approx(known, rel=0.06)


def quadratic(a, Q):
    """f_k(x) = a_k . x + x^T Q_k x / 2; the layer is "0"."""

    def feature(x):
        z = x.flatten(1)
        return z @ a.T + torch.einsum("ni,kij,nj->nk", z, Q, z) / 2

    return nn.Sequential(Applied(feature))


def test_rates_of_a_quadratic_feature_are_known():
    """The midpoint of Mehler's integral is exact up to order two; growth is that of the moments."""
    d, x = BLOCK_DIRECTIONS, images(1, 4, seed=3, dtype=torch.float64)[:, :1]
    a = torch.randn(d, 16, generator=generator(4), dtype=torch.float64)
    Q = 3 * torch.randn(d, 16, 16, generator=generator(5), dtype=torch.float64)
    Q = (Q + Q.mT) / 2 + 6 * torch.eye(16)
    sigma = 0.5 * (1 + torch.rand(16, generator=generator(6), dtype=torch.float64))
    found, rates, _ = measured(quadratic(a, Q), x, "0", False, 1000, sigma, draws=20000)

    slope = a + torch.einsum("kij,j->ki", Q, x.flatten())
    s2, diagonal = sigma.square(), Q.diagonal(dim1=1, dim2=2)
    linear = (slope.square() * s2).sum()
    square = (Q.square() * s2.unsqueeze(1) * s2).sum() / 2
    B = (diagonal * s2).sum(1) / 2  # E[y - y0]
    V = slope.square().sum(0) + torch.einsum("kij,j->i", Q.square(), s2) / 2
    C = sigma * (diagonal * B.unsqueeze(1)).sum(0)
    variance, change = linear + square, linear + square + B.square().sum()
    assert float((V * s2).sum()) == pytest.approx(float(variance))  # counted once

    fluctuation, shift = (part[0] for part in mean(rates))
    errors = [part.std(1)[0] / len(rates) ** 0.5 for part in (rates.fluctuation, rates.shift)]
    for got, known, error in zip((fluctuation, shift), (V, C), errors, strict=True):
        off = (got - known).abs()
        assert (off < 4 * error).all() and (off < 0.1 * known.abs()).all()
    assert square > 0.2 * linear  # otherwise the test could not tell t = 1/2 from another
    assert float(found.change) == pytest.approx(float(change), rel=0.05)

    def growth(one, two):
        small = SMALLER**2 * one + SMALLER**4 * two
        return float(((one + two) / small).log() / (2 * math.log(1 / SMALLER)))

    known = growth(linear, square), growth(linear, square + B.square().sum())
    assert float(found.variance_growth) == pytest.approx(known[0], abs=0.02)
    assert float(found.change_growth) == pytest.approx(known[1], abs=0.02)


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_rates_of_a_network_equal_the_brute_force_gradient(sigma):
    net, x = conv_net().double().requires_grad_(False), images(1, dtype=torch.float64)
    even = torch.full((16,), sigma, dtype=torch.float64)
    with FeatureReader(net, "7", relu=True) as reader:
        (change, known), (change_error, error) = change_and_rates(
            lambda rows: reader(lambda: net(rows)), x[0], even, 4, 12000, seed=1
        )
    found, rates, _ = measured(net, x, "7", True, blocks=250, sigma=even, draws=2000)
    D = rate(found, rates)[0]
    spread = (rates.fluctuation + rates.shift / sigma).std(1)[0] / len(rates) ** 0.5
    off = D - known
    # 3% of the largest: what the midpoint of the Mehler integral may be off by.
    assert (off.abs() < 4 * (error.square() + spread.square()).sqrt() + 0.03 * known.max()).all()
    total = float((even.square() * D).sum() / found.change_growth[0])
    assert total == pytest.approx(float(change), rel=0.03 + 4 * float(change_error / change))
    assert float(found.change) == pytest.approx(float(change), rel=0.1)


def test_two_measurements_joined_are_their_mean():
    p = perturbed(conv_net().double(), images(2, dtype=torch.float64), "7", True)
    sigma = p.x.new_full((2, 16), 0.03)
    found = response(p, sigma, 16)
    directions = Directions(p, found.moving)
    one, two = measure(p, sigma, range(4), directions), measure(p, sigma, range(4, 8), directions)
    joined = one.joined(two)
    assert isinstance(joined, Rates) and len(joined) == 8 and torch.equal(joined.sigma, sigma)
    halves = (rate(found, one) + rate(found, two)) / 2
    torch.testing.assert_close(rate(found, joined), halves)
    assert (rate(found, one) - rate(found, two)).abs().min() > 0  # other draws


def directions(moving, features, first, count):
    """Directions v (n, count, features) for a made-up pattern of moving features."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, features)).double()
    p = perturbed(net, images(len(moving), 4, dtype=torch.float64)[:, :1], "1", False)
    return Directions(p, moving)(first, count)


def test_directions_are_a_basis_of_the_moving_features():
    moving = torch.zeros(2, 9, dtype=torch.bool)
    moving[0, [1, 4, 5]] = True
    moving[1, :7] = True
    v = directions(moving, 9, 0, 21)
    assert not v.masked_select(~moving.unsqueeze(1)).any()
    for sample, size in ((0, 3), (1, 7)):
        inside = v[sample][:, moving[sample]]
        for group in inside.split(size):
            eye = size * torch.eye(size, dtype=torch.float64)
            torch.testing.assert_close(group @ group.T, eye, rtol=0, atol=1e-9)
    assert not torch.allclose(v[0, :3], v[0, 3:6])  # another basis every time
    torch.testing.assert_close(directions(moving, 9, 5, 8), v[:, 5:13])  # however asked for


@pytest.mark.parametrize("features", [4, LARGEST_ORTHONORMAL + 1])
def test_directions_are_white(features):
    """E[v v^T] = I also for a part of a group, and where there are too many for a basis."""
    moving = torch.ones(1, features, dtype=torch.bool)
    moving[0, 2] = features > LARGEST_ORTHONORMAL
    v = directions(moving, features, 0, 3000)[0, 1::3, :4]
    expected = moving[0, :4].double().diag()
    torch.testing.assert_close(v.T @ v / len(v), expected, rtol=0, atol=0.15)
