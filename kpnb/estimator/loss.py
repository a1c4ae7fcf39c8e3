"""The loss of Eq. 3 and 4 in the normalization of the public code, and the gradient flow on it.

    L(sigma) = E||f(x + sigma eps) - f(x)||^2 / sigma_f^2 - weight * mean_i H_i
    H_i = log sigma_i + 0.5 log(2 pi e)                                              [nats]

(difference 1 of the book's list). Each method of estimation minimizes it, or follows its descent:
it maps a Perturbation of n samples, with the estimator's settings, to an Outcome. The flow is in
closed form while the feature's answer stands still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kpnb.estimator.perturbation import Perturbation

if TYPE_CHECKING:
    from kpnb.estimator.entropy import EntropyEstimator

GAUSSIAN_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
SMALLEST_SIGMA, LARGEST_SIGMA = 1e-3, 1.0


def entropy_of(sigma: Tensor) -> Tensor:
    """H_i = log sigma_i + 0.5 log(2 pi e), Eq. 2, in nats."""
    return sigma.log() + GAUSSIAN_ENTROPY


def clamp(sigma: Tensor) -> Tensor:
    """sigma within [0.001, 1], as in the public code."""
    return sigma.clamp(SMALLEST_SIGMA, LARGEST_SIGMA)


def advance(sigma: Tensor, rate: Tensor, weight: float, goal: Tensor) -> Tensor:
    """Follows the flow from sigma until the mean entropy is `goal` (or stands still), by bisection.

    Time is searched on a logarithmic scale, one value per sample; mean entropy rises with it
    wherever the goal lies above the start. Where the goal lies out of reach the far end of the
    path, its fixed point, is returned.
    """
    low = sigma.new_full((len(sigma), 1), -40.0)
    high = sigma.new_full((len(sigma), 1), 40.0)
    for _ in range(45):  # 80 / 2^45: far below rounding
        middle = (low + high) / 2
        below = entropy_of(flow(sigma, rate, weight, middle.exp())).mean(1, keepdim=True) < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return flow(sigma, rate, weight, high.exp())


def flow(sigma: Tensor, rate: Tensor, weight: float, time: Tensor) -> Tensor:
    """sigma after `time` of d sigma^2/dt = 2 weight/units - 4 rate sigma^2; fine for rate <= 0."""
    # exp(80) is beyond the largest sigma, not beyond a float.
    decay = (4 * rate * time).clamp(min=-80.0)
    # (1 - exp(-a)) / a, which tends to 1 where a unit does not matter to the feature (a = 0).
    share = torch.where(decay.abs() < 1e-8, 1.0, -torch.expm1(-decay) / decay)
    gained = 2 * weight * time / sigma.shape[1] * share
    return clamp((sigma.square() * torch.exp(-decay) + gained).clamp(min=0).nan_to_num().sqrt())


@dataclass(frozen=True)
class Outcome:
    """What a method of estimation finds for n samples."""

    sigma: Tensor  # (n, units)
    feature_variance: Tensor  # sigma_f^2 (n,), 0 where the feature does not move at all
    reached: Tensor  # (n,) bool
    standard_error: Tensor  # of H (n, units), nats; NaN where the method knows none


def start(p: Perturbation, estimator: EntropyEstimator) -> Tensor:
    """sigma (n, units) at the beginning: init_sigma everywhere."""
    return p.x.new_full((len(p.samples), p.units.count(p.x)), estimator.init_sigma)


def positive(variance: Tensor) -> Tensor:
    """sigma_f^2 with 1 in place of 0: those samples are reported as undefined, not divided by."""
    return torch.where(variance > 0, variance, torch.ones_like(variance))


def unknown(sigma: Tensor) -> Tensor:
    """The standard error of a method that knows none."""
    return torch.full_like(sigma, torch.nan)
