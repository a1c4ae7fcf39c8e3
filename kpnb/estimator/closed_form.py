"""The published descent and the optimum of Eq. 3, both in closed form from measured rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kpnb.estimator.loss import (
    LARGEST_SIGMA,
    Outcome,
    advance,
    clamp,
    entropy_of,
    positive,
    start,
)
from kpnb.estimator.perturbation import Perturbation
from kpnb.estimator.rates import BLOCK, Directions, Rates, Response, measure, response

if TYPE_CHECKING:
    from kpnb.estimator.entropy import EntropyEstimator

# Draws of `response`, by forward passes only; its ratios hardly vary with the draws.
RESPONSE_DRAWS = 16
MOST_REPLICAS = 16  # of the jackknife, for each measurement
STEPS, STRIDE = 8, 0.5  # of `optimum`: steps for each evaluation, the longest in log sigma


@dataclass(frozen=True)
class _Run:
    """Some samples with what has been measured on them so far; each measurement at its sigma."""

    p: Perturbation
    estimator: EntropyEstimator
    response: Response
    directions: Directions
    measured: tuple[Rates, ...] = ()
    blocks: int = 0  # drawn so far; each has a number of its own

    def measure(self, sigma: Tensor, blocks: int) -> tuple[Rates, _Run]:
        numbers = range(self.blocks, self.blocks + blocks)
        found = measure(self.p, sigma, numbers, self.directions)
        return found, replace(self, blocks=self.blocks + blocks)

    def take(self, rows: Tensor) -> _Run:
        p, kept = self.p.take(rows), self.response.take(rows)
        measured, directions = [m.take(rows) for m in self.measured], Directions(p, kept.moving)
        return replace(self, p=p, response=kept, directions=directions, measured=(*measured,))


def _begin(p: Perturbation, estimator: EntropyEstimator) -> _Run:
    found = response(p, start(p, estimator), RESPONSE_DRAWS)
    return _Run(p, estimator, found, Directions(p, found.moving))


# --- path -------------------------------------------------------------------------------------


def path(p: Perturbation, estimator: EntropyEstimator) -> Outcome:
    """The published descent in closed form, read off at the target mean entropy.

    Gradient flow on sigma is linear in sigma^2 while the rate r_i = D_i / sigma_f^2 stands still:
    d sigma_i^2 / dt = 2 weight / units - 4 r_i sigma_i^2. The path is cut into `evaluations` parts
    by mean entropy, the first half as long as the others; D is measured at the start of the first
    and in the middle of the others, and each part is passed in closed form.
    With `standard_error`, draws are doubled for the samples whose mean standard error is larger,
    up to `most_probes` a measurement; where on the path D is measured stays as in the first round.
    Differences from the published procedure: time is continuous, so the target is met exactly; the
    draws are averaged over a part of the path, not redrawn at every step; there is no iteration
    budget and hence no need to raise the weight for samples that are late.
    """
    run = _first_round(_begin(p, estimator))
    found = _read_off(run)
    late = torch.arange(len(p.samples), device=p.x.device)
    probes = estimator.probes
    while estimator.standard_error is not None and 2 * probes <= estimator.most_probes:
        still = found.standard_error[late].mean(1) > estimator.standard_error
        if not still.any():
            break
        late, run = late[still], _another_round(run.take(still))
        found = _with(found, late, _read_off(run))
        probes *= 2
    return found


def _first_round(run: _Run) -> _Run:
    sigma = start(run.p, run.estimator)
    for part in range(run.estimator.evaluations):
        at, blocks = sigma, run.estimator.probes // BLOCK
        if part > 0:
            at = _pass(run, sigma, part - 1, part)
        elif run.estimator.evaluations > 1:  # half as long a part, half as many draws
            blocks = max(2, blocks // 2)
        rates, run = run.measure(at, blocks)
        run = replace(run, measured=(*run.measured, rates))
        sigma = _pass(run, sigma, part, part + 0.5)
    return run


def _another_round(run: _Run) -> _Run:
    """As many draws again at each measurement as it has, none of them used before."""
    doubled = []
    for rates in run.measured:
        more, run = run.measure(rates.sigma, len(rates))
        doubled.append(rates.joined(more))
    return replace(run, measured=tuple(doubled))


def _pass(run: _Run, sigma: Tensor, part: int, to: float) -> Tensor:
    """Along the path from sigma to a place counted in whole parts, with the rates of `part`."""
    whole = [_everything(rates) for rates in run.measured]
    return _follow(run, sigma, _rates(run, part, whole), _change(run, whole), to)[:, 0]


def _read_off(run: _Run) -> Outcome:
    """sigma at the target, and the standard error of its entropies by the jackknife: the path is
    followed again without each group of draws of each measurement."""
    groups = [min(len(rates), MOST_REPLICAS) for rates in run.measured]
    weights = [_weights(run.measured, groups, number) for number in range(len(groups))]
    change = _change(run, weights)
    sigma = start(run.p, run.estimator).unsqueeze(1)
    for part in range(len(groups)):
        sigma = _follow(run, sigma, _rates(run, part, weights), change, part + 0.5)
    off = (entropy_of(sigma[:, 0]).mean(1) - run.estimator.target_entropy).abs()
    error = _jackknife(entropy_of(sigma), groups)
    return Outcome(sigma[:, 0], change[:, 0], off <= run.estimator.tolerance, error)


def _follow(run: _Run, sigma: Tensor, rate: Tensor, change: Tensor, to: float) -> Tensor:
    """As `_pass`, for several replicas at once: rate (n, replicas, units), change (n, replicas)."""
    estimator = run.estimator
    first = float(entropy_of(torch.tensor(estimator.init_sigma, dtype=torch.float64)))
    goal = first + (estimator.target_entropy - first) * to / (estimator.evaluations - 0.5)
    rate = rate / positive(change).unsqueeze(-1)
    sigma = sigma.unsqueeze(1) if sigma.ndim == 2 else sigma
    flat = sigma.expand_as(rate).flatten(0, 1)
    found = advance(flat, rate.flatten(0, 1), estimator.entropy_weight, goal)
    return found.unflatten(0, rate.shape[:2])


# --- optimum ----------------------------------------------------------------------------------


def optimum(p: Perturbation, estimator: EntropyEstimator) -> Outcome:
    """The minimum of Eq. 3: sigma_i^2 = weight sigma_f^2 / (2 units D_i), D as `path` measures it.

    Where kinks make D depend on sigma that is a fixed point, and going there at once runs away, to
    noise under which the loss is hundreds of times the minimum's. So log sigma goes towards it by
    at most STRIDE at a time, STEPS times an evaluation, each with fresh draws; D is the mean of the
    later half of all measurements so far. A unit that the feature ignores goes to the largest
    sigma. Reached: the last step moves the mean entropy by at most `tolerance`. The standard error
    is that of the later half's rates and of sigma_f^2, each at the sigma where it was measured.
    """
    run, sigma = _begin(p, estimator), start(p, estimator)
    across = math.ceil(math.log(LARGEST_SIGMA / estimator.init_sigma) / STRIDE)
    for _ in range(max(STEPS * estimator.evaluations, across + 2)):
        rates, run = run.measure(sigma, estimator.probes // BLOCK)
        run = replace(run, measured=(*run.measured, rates))
        late = replace(run, measured=(run.measured[0], *run.measured[len(run.measured) // 2 :]))
        whole = [_everything(one) for one in late.measured]
        step = _fixed_point(late, whole)[:, 0].log() - sigma.log()
        before, sigma = sigma, clamp(sigma * step.clamp(-STRIDE, STRIDE).exp())
    groups = [min(len(one), MOST_REPLICAS) for one in late.measured]
    weights = [_weights(late.measured, groups, number) for number in range(len(groups))]
    error = _jackknife(entropy_of(clamp(_fixed_point(late, weights))), groups)
    still = (sigma / before).log().mean(1).abs() <= estimator.tolerance
    return Outcome(sigma, _change(late, whole)[:, 0], still, error)


def _fixed_point(run: _Run, weights: list[Tensor]) -> Tensor:
    """sigma (n, replicas, units), in no bounds, where the mean rate of all measurements but the
    first has the minimum."""
    late = range(1, len(run.measured))
    rate = sum(_rates(run, number, weights) for number in late) / len(late)
    change = _change(run, weights).unsqueeze(-1)
    scale = run.estimator.entropy_weight * change / (2 * rate.shape[-1])
    return (scale / rate.clamp(min=1e-30)).sqrt()


# --- sigma_f^2, means over the draws, and the jackknife ---------------------------------------


def _rates(run: _Run, number: int, weights: list[Tensor]) -> Tensor:
    return run.measured[number].rate(run.response.variance_growth, weights[number])


def _change(run: _Run, weights: list[Tensor]) -> Tensor:
    """sigma_f^2 (n, replicas): Euler's relation for the first measurement, made at init_sigma.

    A mean of ||y - y0||^2 over a few draws would be far noisier; it serves only where the noise of
    C makes the sum negative. Exact for a linear f.
    """
    added = _rates(run, 0, weights).sum(-1) * run.estimator.init_sigma**2
    added = added / run.response.change_growth
    mean = run.response.change.unsqueeze(1)
    return torch.where((added > 0) & (mean > 0), added, mean)


def _everything(rates: Rates) -> Tensor:
    """Weights of the mean over all blocks, (1, blocks)."""
    return rates.shift.new_full((1, len(rates)), 1 / len(rates))


def _weights(measured: Sequence[Rates], groups: list[int], number: int) -> Tensor:
    """Weights (1 + all replicas, blocks) of measurement `number`: the mean over all blocks, then
    one row a group of any measurement, without that group where it is this measurement's own."""
    whole = _everything(measured[number])
    rows = [whole]
    for other, count in enumerate(groups):
        rows.append(whole.expand(count, -1))
        if other == number and count > 1:
            member = torch.arange(whole.shape[1], device=whole.device) * count // whole.shape[1]
            kept = (member != torch.arange(count, device=whole.device).unsqueeze(1)).to(whole.dtype)
            rows[-1] = kept / kept.sum(1, keepdim=True)
    return torch.cat(rows)


def _jackknife(entropy: Tensor, groups: list[int]) -> Tensor:
    """Standard error (n, units), nats, from entropies (n, 1 + all replicas, units)."""
    squares = torch.zeros_like(entropy[:, 0])
    for part in entropy[:, 1:].split(groups, 1):
        count = part.shape[1]
        apart = (part - part.mean(1, keepdim=True)).square().sum(1)
        squares += apart * (count - 1) / count if count > 1 else torch.nan
    return squares.sqrt()


def _with(found: Outcome, rows: Tensor, new: Outcome) -> Outcome:
    """`found` with the outcomes of some samples replaced."""
    parts = {name: value.clone() for name, value in vars(found).items()}
    for name, value in vars(new).items():
        parts[name][rows] = value
    return Outcome(**parts)
