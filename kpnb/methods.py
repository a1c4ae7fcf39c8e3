"""Four ways from a layer's answer to noise to one sigma per input unit.

All minimize, or follow the descent of, the loss of Eq. 3-4 in the normalization of the public code
(difference 1 of the book's list):

    L(sigma) = E||f(x + sigma eps) - f(x)||^2 / sigma_f^2 - weight * mean_i H_i
    H_i = log sigma_i + 0.5 log(2 pi e)                                              [nats]

Each method maps a Perturbation of n samples to an Outcome: sigma (n, units), sigma_f^2 (n,), and
whether it got where it should. sigma stays in [0.001, 1], as in the public code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kpnb.sensitivity import Perturbation, sensitivity

GAUSSIAN_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)
SMALLEST_SIGMA, LARGEST_SIGMA = 1e-3, 1.0


@dataclass(frozen=True)
class Options:
    """What the methods read; see EntropyEstimator for meaning and origin of each."""

    target_entropy: float
    entropy_weight: float
    init_sigma: float
    probes: int
    evaluations: int
    draws: int
    lr: float
    iterations: int
    extra_iterations: int
    descent_iterations: int
    tolerance: float


@dataclass(frozen=True)
class Outcome:
    sigma: Tensor  # (n, units)
    feature_variance: Tensor  # sigma_f^2 (n,), 0 where the feature does not move at all
    reached: Tensor  # (n,) bool


def entropy_of(sigma: Tensor) -> Tensor:
    """H_i = log sigma_i + 0.5 log(2 pi e), Eq. 2, in nats."""
    return sigma.log() + GAUSSIAN_ENTROPY


def clamp(sigma: Tensor) -> Tensor:
    return sigma.clamp(SMALLEST_SIGMA, LARGEST_SIGMA)


def _start(p: Perturbation, options: Options) -> Tensor:
    units = p.units.count(p.x)
    return p.x.new_full((len(p.samples), units), options.init_sigma)


def _rate(
    p: Perturbation, sigma: Tensor, options: Options, evaluation: int
) -> tuple[Tensor, Tensor]:
    """(A_i + C_i / sigma_i) (n, units) and E||y - y0||^2 (n,), from fresh draws.

    The latter is sum_i sigma_i^2 (A_i + C_i / sigma_i), Euler's relation for a squared change that
    grows with the square of the noise: exact for a linear f, and far less noisy than the mean over
    the draws, which serves only where the noise of C makes the sum negative.
    """
    first = evaluation * options.probes
    s = sensitivity(p, sigma, range(first, first + options.probes))
    rate = s.jacobian + s.kink / sigma
    change = (sigma.square() * rate).sum(1)
    return rate, torch.where(change < 0, s.change, change)


def _positive(variance: Tensor) -> Tensor:
    """sigma_f^2 with 1 in place of 0: those samples are reported as undefined, not divided by."""
    return torch.where(variance > 0, variance, torch.ones_like(variance))


# --- path -------------------------------------------------------------------------------------


def path(p: Perturbation, options: Options) -> Outcome:
    """The published descent in closed form, read off at the target mean entropy.

    Gradient flow on sigma is linear in sigma^2 while the rate r_i = (A_i + C_i / sigma_i) /
    sigma_f^2 stands still: d sigma_i^2 / dt = 2 weight / units - 4 r_i sigma_i^2. So the path is
    advanced in closed form between mean entropies spaced evenly up to the target, and r is measured
    anew, with fresh draws, at the start of each of the `evaluations` parts.
    Differences from the published procedure: time is continuous, so the target is met exactly; the
    draws are averaged over a part of the path, not redrawn at every step; there is no iteration
    budget and hence no need to raise the weight for samples that are late.
    """
    sigma = _start(p, options)
    start = entropy_of(sigma).mean()
    for evaluation in range(options.evaluations):
        rate, change = _rate(p, sigma, options, evaluation)
        if evaluation == 0:
            variance = change
        rate = rate / _positive(variance).unsqueeze(1)
        goal = start + (options.target_entropy - start) * (evaluation + 1) / options.evaluations
        sigma = _advance(sigma, rate, options.entropy_weight, goal)
    reached = (entropy_of(sigma).mean(1) - options.target_entropy).abs() <= options.tolerance
    return Outcome(sigma, variance, reached)


def _advance(sigma: Tensor, rate: Tensor, weight: float, goal: Tensor) -> Tensor:
    """Follows the flow from sigma until the mean entropy is `goal` (or stands still), by bisection.

    Time is searched on a logarithmic scale, one value per sample; mean entropy rises with it
    wherever the goal lies above the start. Where the goal lies out of reach the far end of the
    path, its fixed point, is returned.
    """
    low = sigma.new_full((len(sigma), 1), -40.0)
    high = sigma.new_full((len(sigma), 1), 40.0)
    for _ in range(45):  # 80 / 2^45: far below rounding
        middle = (low + high) / 2
        below = entropy_of(_flow(sigma, rate, weight, middle.exp())).mean(1, keepdim=True) < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return _flow(sigma, rate, weight, high.exp())


def _flow(sigma: Tensor, rate: Tensor, weight: float, time: Tensor) -> Tensor:
    """sigma after `time` of d sigma^2/dt = 2 weight/units - 4 rate sigma^2; fine for rate <= 0."""
    decay = (4 * rate * time).clamp(
        min=-80.0
    )  # exp(80) is beyond the largest sigma, not beyond a float
    # (1 - exp(-a)) / a, which tends to 1 where a unit does not matter to the feature (a = 0).
    share = torch.where(decay.abs() < 1e-8, 1.0, -torch.expm1(-decay) / decay)
    gained = 2 * weight * time / sigma.shape[1] * share
    return clamp((sigma.square() * torch.exp(-decay) + gained).clamp(min=0).nan_to_num().sqrt())


# --- optimum ----------------------------------------------------------------------------------


def optimum(p: Perturbation, options: Options) -> Outcome:
    """The minimum of Eq. 3: sigma_i^2 = weight sigma_f^2 / (2 units (A_i + C_i / sigma_i)).

    Where kinks make A and C depend on sigma, the fixed point is iterated `evaluations` times. A
    unit that the feature ignores goes to the largest sigma.
    """
    sigma = _start(p, options)
    for evaluation in range(options.evaluations):
        rate, change = _rate(p, sigma, options, evaluation)
        if evaluation == 0:
            variance = change
        scale = options.entropy_weight * variance.unsqueeze(1) / (2 * sigma.shape[1])
        sigma = clamp((scale / rate.clamp(min=1e-30)).sqrt())
    return Outcome(sigma, variance, torch.ones_like(variance, dtype=torch.bool))


# --- published --------------------------------------------------------------------------------


def published(p: Perturbation, options: Options) -> Outcome:
    """The public code's procedure: plain SGD on sigma, the iterate nearest the target is kept.

    sigma_f^2 is measured once with `draws` draws of noise init_sigma. Every iteration takes `draws`
    fresh draws. After `iterations` steps, samples whose kept mean entropy is not above the target
    go on for `extra_iterations` with the weight times 1.5; the others stop there (their kept
    iterate could only change if the mean entropy came back to the target).
    """
    sigma = _start(p, options)
    variance = _feature_variance(p, sigma, options.draws)
    kept, distance = sigma.clone(), sigma.new_full((len(sigma),), math.inf)
    weight = sigma.new_full((len(sigma), 1), options.entropy_weight)
    for iteration in range(options.iterations + options.extra_iterations):
        if iteration == options.iterations:
            late = entropy_of(kept).mean(1) <= options.target_entropy
            if not late.any():
                break
            weight = torch.where(late.unsqueeze(1), 1.5 * weight, torch.zeros_like(weight))
        pull = _change_gradient(p, sigma, options.draws, iteration) / _positive(variance)[:, None]
        step = pull - weight / (sigma.shape[1] * sigma)
        sigma = torch.where(weight > 0, clamp(sigma - options.lr * step), sigma)
        away = (entropy_of(sigma).mean(1) - options.target_entropy).abs()
        kept = torch.where((away < distance).unsqueeze(1), sigma, kept)
        distance = torch.minimum(away, distance)
    return Outcome(kept, variance, distance <= options.tolerance)


def _feature_variance(p: Perturbation, sigma: Tensor, draws: int) -> Tensor:
    """sigma_f^2 (n,) as the mean over draws; 0 where it is no more than rounding of the feature."""
    with torch.no_grad():
        total = sum(
            p.feature(sigma, p.independent_noise("variance", piece))[1].square().sum((1, 2))
            for piece in p.pieces(range(draws))
        )
    rounding = 16 * torch.finfo(p.clean.dtype).eps * p.clean.norm(dim=1)
    return torch.where(total / draws > rounding.square(), total / draws, 0.0)


def _change_gradient(p: Perturbation, sigma: Tensor, draws: int, iteration: int) -> Tensor:
    """Gradient of E||y - y0||^2 in sigma, (n, units), from `draws` fresh independent draws."""
    total = torch.zeros_like(sigma)
    for piece in p.pieces(range(iteration * draws, (iteration + 1) * draws)):
        with torch.enable_grad():
            eps = p.independent_noise("descent", piece)
            noisy, delta = p.feature(sigma, eps)
            slope = p.gradient(delta, noisy, delta.detach(), keep=False)
        total += 2 * p.gather(slope.mul_(eps))
    return total / draws


# --- descent ----------------------------------------------------------------------------------


def descent(p: Perturbation, options: Options) -> Outcome:
    """Monte Carlo descent of Eq. 3 until it stands still, with a flag that says whether it did.

    Steps are taken on log sigma, where the loss has curvature 2 at a linear feature's optimum
    whatever the unit, with a falling step size; the answer is the average of log sigma over the
    second half of the steps so far. Converged: that average moved by less than `tolerance` nats,
    in the mean over units, when the number of steps last doubled; a sample's answer is then final,
    however long the other samples take.
    """
    log_sigma = _start(p, options).log()
    # Measured once, its error would not average out over the steps as that of the slope does.
    variance = _feature_variance(p, log_sigma.exp(), 10 * options.draws)
    scale = log_sigma.shape[1] / (options.entropy_weight * _positive(variance).unsqueeze(1))
    average = log_sigma.clone()
    moved = torch.full_like(variance, math.inf)
    first, last = 0, 50
    while last <= options.descent_iterations:
        total = torch.zeros_like(log_sigma)
        for iteration in range(first, last):
            sigma = clamp(log_sigma.exp())
            slope = _change_gradient(p, sigma, options.draws, iteration) * sigma * scale - 1
            size = 0.5 / (1 + iteration / 10) ** 0.7
            log_sigma = (log_sigma - (size * slope).clamp(-0.5, 0.5)).clamp(
                math.log(SMALLEST_SIGMA), math.log(LARGEST_SIGMA)
            )
            total += log_sigma
        going = moved >= options.tolerance
        latest = total / (last - first)
        moved = torch.where(going, (latest - average).abs().mean(1), moved)
        average = torch.where(going.unsqueeze(1), latest, average)
        if bool((moved < options.tolerance).all()):
            break
        first, last = last, 2 * last
    return Outcome(average.exp(), variance, moved < options.tolerance)


METHODS: dict[str, Callable[[Perturbation, Options], Outcome]] = {
    "path": path,
    "published": published,
    "optimum": optimum,
    "descent": descent,
}
