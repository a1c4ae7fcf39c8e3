"""Entropy, the bounds of sigma, and the gradient flow of Eq. 3 against its written-out solution."""

import math

import pytest
import torch
from quick import UNITS
from reference import column_norms, images, linear_net, linear_optimum, linear_path

from kpnb.estimator.loss import advance, clamp, entropy_of, flow, positive

START = 0.01


def rates():
    """(1, 16) rates of a linear feature over sigma_f^2, and the shares of its input units."""
    net = linear_net(6)
    J = column_norms(net[1].weight.detach(), images(1).shape[1:], UNITS.cells)
    return (J / (J.sum() * START**2)).unsqueeze(0), J


def test_entropy_and_bounds():
    sigma = torch.tensor([1e-5, 0.02, 3.0])
    gaussian = torch.distributions.Normal(0.0, sigma).entropy()
    torch.testing.assert_close(entropy_of(sigma), gaussian)
    torch.testing.assert_close(clamp(sigma), torch.tensor([1e-3, 0.02, 1.0]))
    assert positive(torch.tensor([0.0, 2.0])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("weight, target", [(7.0, -2.8), (6.0, -2.95), (7.0, 1.0), (7.0, 5.0)])
def test_the_flow_meets_the_target_on_the_known_path_or_ends_at_the_optimum(weight, target):
    rate, J = rates()
    found = entropy_of(advance(torch.full_like(rate, START), rate, weight, target))[0]
    known = linear_path(J, weight, target) if target < 0 else linear_optimum(J, weight)
    assert found.tolist() == pytest.approx(known, abs=1e-9)


def test_the_flow_solves_its_equation_and_keeps_sigma_within_bounds():
    """d sigma^2/dt = 2 weight/units - 4 rate sigma^2, also for rates of zero and below."""
    sigma = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    rate = torch.tensor([[5.0, 0.0, -2.0]], dtype=torch.float64)
    short, time = 1e-6, torch.tensor([[0.004]], dtype=torch.float64)
    now, soon = (flow(sigma, rate, 6.0, t).square() for t in (time, time + short))
    slope = 2 * 6.0 / 3 - 4 * rate * now
    torch.testing.assert_close((soon - now) / short, slope, rtol=1e-4, atol=0)
    assert torch.equal(flow(sigma, rate, 6.0, 0 * time), sigma)
    for rate in (1e30, -1e30, math.inf):
        found = flow(torch.full((1, 2), 0.1), torch.full((1, 2), rate), 7.0, torch.ones(1, 1))
        assert ((found >= 1e-3) & (found <= 1)).all()
