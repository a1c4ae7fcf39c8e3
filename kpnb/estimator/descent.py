"""Descents of Eq. 3 by Monte Carlo: the public code's procedure, and two that serve as checks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kpnb.estimator.loss import (
    LARGEST_SIGMA,
    SMALLEST_SIGMA,
    Outcome,
    advance,
    clamp,
    entropy_of,
    positive,
    start,
    unknown,
)
from kpnb.estimator.perturbation import Perturbation

if TYPE_CHECKING:
    from kpnb.estimator.entropy import EntropyEstimator

REFERENCE_STEPS = 12  # a part of 0.03 nats each, over which the gradient changes by about 1%
REFERENCE_VARIANCE_DRAWS = 4096


def published(p: Perturbation, estimator: EntropyEstimator) -> Outcome:
    """The public code's procedure: plain SGD on sigma, the iterate nearest the target is kept.

    sigma_f^2 is measured once with `draws` draws of noise init_sigma. Every iteration takes `draws`
    fresh draws. After `iterations` steps, samples whose kept mean entropy is not above the target
    go on for `extra_iterations` with the weight times 1.5; the others stop there (their kept
    iterate could only change if the mean entropy came back to the target).
    """
    sigma = start(p, estimator)
    variance = _feature_variance(p, sigma, estimator.draws)
    kept, distance = sigma.clone(), sigma.new_full((len(sigma),), math.inf)
    weight = sigma.new_full((len(sigma), 1), estimator.entropy_weight)
    for iteration in range(estimator.iterations + estimator.extra_iterations):
        if iteration == estimator.iterations:
            late = entropy_of(kept).mean(1) <= estimator.target_entropy
            if not late.any():
                break
            weight = torch.where(late.unsqueeze(1), 1.5 * weight, torch.zeros_like(weight))
        pull = _change_gradient(p, sigma, estimator.draws, iteration) / positive(variance)[:, None]
        step = pull - weight / (sigma.shape[1] * sigma)
        sigma = torch.where(weight > 0, clamp(sigma - estimator.lr * step), sigma)
        away = (entropy_of(sigma).mean(1) - estimator.target_entropy).abs()
        kept = torch.where((away < distance).unsqueeze(1), sigma, kept)
        distance = torch.minimum(away, distance)
    return Outcome(kept, variance, distance <= estimator.tolerance, unknown(kept))


def _feature_variance(p: Perturbation, sigma: Tensor, draws: int) -> Tensor:
    """sigma_f^2 (n,) as the mean over draws; 0 where it is no more than rounding of the feature."""
    with torch.no_grad():
        total = sum(
            p.feature(sigma, p.noise("variance", piece))[1].square().sum((1, 2))
            for piece in p.pieces(range(draws))
        )
    rounding = 16 * torch.finfo(p.clean.dtype).eps * p.clean.norm(dim=1)
    return torch.where(total / draws > rounding.square(), total / draws, 0.0)


def _change_gradient(p: Perturbation, sigma: Tensor, draws: int, iteration: int) -> Tensor:
    """Gradient of E||y - y0||^2 in sigma, (n, units), from `draws` fresh independent draws."""
    total = torch.zeros_like(sigma)
    for piece in p.pieces(range(iteration * draws, (iteration + 1) * draws)):
        with torch.enable_grad():
            eps = p.noise("descent", piece)
            noisy, delta = p.feature(sigma, eps)
            slope = p.gradient(delta, noisy, delta.detach(), keep=False)
        total += 2 * p.gather((slope * eps).sum(1, keepdim=True))[:, 0]
    return total / draws


# --- reference --------------------------------------------------------------------------------


def reference(p: Perturbation, estimator: EntropyEstimator) -> Outcome:
    """The published path without its noise: what the other methods are measured against.

    Gradient flow of Eq. 3 with the gradient that the published procedure descends, E[eps_i .
    J_i^T (y - y0)], from `reference_draws` independent draws over REFERENCE_STEPS steps of equal
    mean entropy; no closed form of the feature's answer is assumed. A step is half gone with the
    last step's rates, the gradient is taken there, and the whole step is gone with it.
    """
    sigma = start(p, estimator)
    variance = _feature_variance(p, sigma, REFERENCE_VARIANCE_DRAWS)
    first = float(entropy_of(sigma).mean())
    draws, rate = math.ceil(estimator.reference_draws / REFERENCE_STEPS), None
    for step in range(REFERENCE_STEPS):
        half, whole = (
            first + (estimator.target_entropy - first) * (step + part) / REFERENCE_STEPS
            for part in (0.5, 1)
        )
        at = sigma if rate is None else advance(sigma, rate, estimator.entropy_weight, half)
        pull = _change_gradient(p, at, draws, step) / positive(variance).unsqueeze(1)
        rate = pull / (2 * at)
        sigma = advance(sigma, rate, estimator.entropy_weight, whole)
    off = (entropy_of(sigma).mean(1) - estimator.target_entropy).abs()
    return Outcome(sigma, variance, off <= estimator.tolerance, unknown(sigma))


# --- descent ----------------------------------------------------------------------------------


def descent(p: Perturbation, estimator: EntropyEstimator) -> Outcome:
    """Monte Carlo descent of Eq. 3 until it stands still, with a flag that says whether it did.

    Steps are taken on log sigma, where the loss has curvature 2 at a linear feature's optimum
    whatever the unit, with a falling step size; the answer is the average of log sigma over the
    second half of the steps so far. Converged: that average moved by less than `tolerance` nats,
    in the mean over units, when the number of steps last doubled; a sample's answer is then final,
    however long the other samples take.
    """
    log_sigma = start(p, estimator).log()
    # Measured once, its error would not average out over the steps as that of the slope does.
    variance = _feature_variance(p, log_sigma.exp(), 10 * estimator.draws)
    scale = log_sigma.shape[1] / (estimator.entropy_weight * positive(variance).unsqueeze(1))
    average = log_sigma.clone()
    moved = torch.full_like(variance, math.inf)
    first, last = 0, 50
    while last <= estimator.descent_iterations:
        total = torch.zeros_like(log_sigma)
        for iteration in range(first, last):
            sigma = clamp(log_sigma.exp())
            slope = _change_gradient(p, sigma, estimator.draws, iteration) * sigma * scale - 1
            size = 0.5 / (1 + iteration / 10) ** 0.7
            log_sigma = (log_sigma - (size * slope).clamp(-0.5, 0.5)).clamp(
                math.log(SMALLEST_SIGMA), math.log(LARGEST_SIGMA)
            )
            total += log_sigma
        going = moved >= estimator.tolerance
        latest = total / (last - first)
        moved = torch.where(going, (latest - average).abs().mean(1), moved)
        average = torch.where(going.unsqueeze(1), latest, average)
        if bool((moved < estimator.tolerance).all()):
            break
        first, last = last, 2 * last
    return Outcome(average.exp(), variance, moved < estimator.tolerance, unknown(average))
