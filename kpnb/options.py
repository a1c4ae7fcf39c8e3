"""What goes into a method of estimation and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kpnb.perturbation import Perturbation


@dataclass(frozen=True)
class Options:
    """What the methods read; see EntropyEstimator for meaning and origin of each."""

    target_entropy: float
    entropy_weight: float
    init_sigma: float
    probes: int
    evaluations: int
    standard_error: float | None
    most_probes: int
    draws: int
    lr: float
    iterations: int
    extra_iterations: int
    descent_iterations: int
    reference_draws: int
    tolerance: float


@dataclass(frozen=True)
class Outcome:
    sigma: Tensor  # (n, units)
    feature_variance: Tensor  # sigma_f^2 (n,), 0 where the feature does not move at all
    reached: Tensor  # (n,) bool
    standard_error: Tensor  # of H (n, units), nats; NaN where the method knows none


def start(p: Perturbation, options: Options) -> Tensor:
    """sigma (n, units) at the beginning: init_sigma everywhere."""
    return p.x.new_full((len(p.samples), p.units.count(p.x)), options.init_sigma)


def positive(variance: Tensor) -> Tensor:
    """sigma_f^2 with 1 in place of 0: those samples are reported as undefined, not divided by."""
    return torch.where(variance > 0, variance, torch.ones_like(variance))


def unknown(sigma: Tensor) -> Tensor:
    """The standard error of a method that knows none."""
    return torch.full_like(sigma, torch.nan)
