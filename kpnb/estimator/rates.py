"""The rates of the closed forms: what each unit's noise adds to the feature's squared change.

D_i = half the gradient of E||y - y0||^2 in log sigma_i, over sigma_i^2, is what drives Eq. 3. With
B = E[y - y0] it has two parts,

    D_i = V_i + C_i / sigma_i

V_i, fluctuation: the gradient of tr Var(y). The squared column norms of the Jacobian,
    A_i = E||J_i(x + sigma eps)||^2, are it for a smooth f only. Where kinks (ReLU, max-pooling)
    turn the Jacobian with the noise, A counts the k-th order of f in the noise k times. Mehler's
    formula counts it once: Var f = sum_i sigma_i^2 int_0^1 E<J_i(eps), J_i(eps_t)> dt, where eps_t
    is a second noise of correlation t. The integral is taken at t = 1/2, exact up to order two.
C_i, shift: E[eps_i . J_i^T B] summed over unit i. Kinks shift the feature in one direction whatever
    the sign of the noise; of first order in sigma, so small noise does not make it vanish.

Both are read from backward passes: J^T v for random directions v with E[v v^T] = I, and J^T B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kpnb.estimator.perturbation import Perturbation, normal

# A block of draws is eps, -eps, eps', -eps', where eps' has correlation 1/2 with eps. Antithetic
# pairs make B and C exactly zero for a linear f; the correlated pair gives the Mehler product.
BLOCK = 4
# Directions v of the two rows of a correlated pair: one that they share, two more for each. Three a
# row: a row costs one forward pass and one for B whatever their number, see the book's table.
SHARED, OWN = 1, 2
DIRECTIONS = SHARED + 2 * OWN  # different ones, a correlated pair
BLOCK_DIRECTIONS = 2 * DIRECTIONS
# Up to this many features that move, directions are made orthonormal: exact once there are as many.
LARGEST_ORTHONORMAL = 512
# Noise of the second measurement that `response` takes, as a share of sigma.
SMALLER = 0.75


@dataclass(frozen=True)
class Response:
    """How the feature as a whole answers to noise; see `response`."""

    change: Tensor  # E||y - y0||^2 (n,), 0 where it is no more than rounding
    change_growth: Tensor  # (n, 1)
    variance_growth: Tensor  # (n, 1)
    moving: Tensor  # (n, d) bool: features that moved in some draw

    def take(self, rows: Tensor) -> Response:
        return Response(*(part[rows] for part in vars(self).values()))


@dataclass(frozen=True)
class Rates:
    """One measurement, block by block, so that its standard error is known."""

    fluctuation: Tensor  # V before the growth correction, (n, blocks, units)
    shift: Tensor  # C (n, blocks, units)
    sigma: Tensor  # (n, units), where it was measured

    def __len__(self) -> int:
        return self.shift.shape[1]

    def rate(self, growth: Tensor, blocks: Tensor) -> Tensor:
        """D (n, rows of `blocks`, units): each row (rows, blocks) holds the weights of a mean.

        growth: (n, 1), of the variance: see `response`.
        """
        fluctuation, shift = blocks @ self.fluctuation, blocks @ self.shift
        return growth.unsqueeze(1) * fluctuation + shift / self.sigma.unsqueeze(1)

    def take(self, rows: Tensor) -> Rates:
        return Rates(*(part[rows] for part in vars(self).values()))

    def joined(self, more: Rates) -> Rates:
        """Both measurements, taken at the same sigma, as one."""
        fluctuation = torch.cat([self.fluctuation, more.fluctuation], 1)
        return Rates(fluctuation, torch.cat([self.shift, more.shift], 1), self.sigma)


def response(p: Perturbation, sigma: Tensor, draws: int) -> Response:
    """E||y - y0||^2, and how fast it and the variance of y grow with the noise; forward passes.

    growth: half the slope of the logarithm over the logarithm of the noise, 1 where f is linear or
    positively homogeneous around x. It turns Var into the derivative that V stands for; measured
    with the same draws at sigma and at 3/4 of it, so that its own error is small.
    """
    large = small = moving = None
    with torch.no_grad():
        for piece in p.pieces(range(draws)):
            eps = p.noise("response", piece)
            delta = p.feature(sigma, eps)[1]
            less = p.feature(SMALLER * sigma, eps)[1]
            moved = ((delta != 0) | (less != 0)).any(1)
            moving = moved if moving is None else moving | moved
            large, small = _add(large, delta), _add(small, less)
    squares, mean = large[0] / draws, (large[1] / draws).square().sum(1)
    fewer, less = small[0] / draws, (small[1] / draws).square().sum(1)
    rounding = 16 * torch.finfo(p.clean.dtype).eps * p.clean.norm(dim=1)
    change = torch.where(squares > rounding.square(), squares, 0.0)
    # Mean over draws less the square of the mean: biased by 1/draws, alike at both, so it cancels.
    return Response(change, _growth(squares, fewer), _growth(squares - mean, fewer - less), moving)


def _add(sums: tuple[Tensor, Tensor] | None, delta: Tensor) -> tuple[Tensor, Tensor]:
    parts = delta.square().sum((1, 2)), delta.sum(1)
    return parts if sums is None else (sums[0] + parts[0], sums[1] + parts[1])


def _growth(large: Tensor, small: Tensor) -> Tensor:
    slope = (large / small).log() / (2 * torch.tensor(1 / SMALLER, dtype=large.dtype).log())
    return torch.where(slope.isfinite(), slope, 1.0).unsqueeze(1)


class Directions:
    """Random v (n, count, d) by number, orthogonal to each other in groups where few features move.

    In a group of as many as there are moving features they are a basis, and a sum of squares over
    the group is exact. A feature that moves in none of the draws of `response` is left out, as it
    has no gradient to speak of.
    """

    def __init__(self, p: Perturbation, moving: Tensor) -> None:
        self._p, self._moving = p, moving
        count = moving.sum(1)
        few = (count > 0) & (count <= LARGEST_ORTHONORMAL)
        self._sizes = torch.where(few, count, 0).tolist()
        self._groups: dict[tuple[int, int], Tensor] = {}

    def __call__(self, first: int, count: int) -> Tensor:
        numbers = range(first, first + count)
        return torch.stack([self._of(sample, numbers) for sample in range(len(self._sizes))])

    def _of(self, sample: int, numbers: range) -> Tensor:
        size = self._sizes[sample]
        if not size:
            return self._normal(sample, numbers)
        groups = range(numbers[0] // size, numbers[-1] // size + 1)
        basis = torch.cat([self._group(sample, group, size) for group in groups])
        start = numbers[0] - groups[0] * size
        return basis[start : start + len(numbers)]

    def _group(self, sample: int, group: int, size: int) -> Tensor:
        if (sample, group) not in self._groups:
            # The last group used and its successor are all that is asked for again.
            self._groups.pop((sample, group - 2), None)
            drawn = self._normal(sample, range(group * size, (group + 1) * size))
            inside = drawn[:, self._moving[sample]]
            drawn = torch.zeros_like(drawn)
            drawn[:, self._moving[sample]] = torch.linalg.qr(inside.mT)[0].mT * size**0.5
            self._groups[sample, group] = drawn
        return self._groups[sample, group]

    def _normal(self, sample: int, numbers: Sequence[int]) -> Tensor:
        clean = self._p.clean
        return normal([self._p.keys[sample]], "probe", numbers, clean.shape[1:], clean)[0]


def measure(p: Perturbation, sigma: Tensor, blocks: range, directions: Directions) -> Rates:
    """V and C at one sigma (n, units) from the draws of `blocks`; see the module.

    B for a block is the mean over the other blocks, so that it is independent of the draws that it
    multiplies; with a single block C is left out.
    """
    pieces = list(p.pieces(blocks, BLOCK))
    total = None
    if len(pieces) > 1:
        with torch.no_grad():
            total = sum(p.feature(sigma, _noise(p, piece))[1].sum(1) for piece in pieces)
    parts = [_measure(p, sigma, piece, len(blocks), total, directions) for piece in pieces]
    fluctuation, shift = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return Rates(fluctuation, shift, sigma)


def _noise(p: Perturbation, blocks: Sequence[int]) -> Tensor:
    """(n, blocks * BLOCK, *x)."""
    first, other = p.noise("input", blocks), p.noise("partner", blocks)
    partner = 0.5 * first + 0.75**0.5 * other
    return torch.stack([first, -first, partner, -partner], 2).flatten(1, 2)


def _measure(
    p: Perturbation,
    sigma: Tensor,
    blocks: Sequence[int],
    all_blocks: int,
    total: Tensor | None,
    directions: Directions,
) -> tuple[Tensor, Tensor]:
    count = len(blocks)
    v = directions(blocks[0] * BLOCK_DIRECTIONS, count * BLOCK_DIRECTIONS)
    v = v.unflatten(1, (count, 2, DIRECTIONS))  # (n, blocks, antithetic sign, direction, d)
    with torch.enable_grad():
        eps = _noise(p, blocks)
        noisy, delta = p.feature(sigma, eps)
        fixed = delta.detach()
        mean = _mean_of_others(fixed, fixed.sum(1) if total is None else total, all_blocks)
        along = [p.gradient(delta, noisy, w, keep=True) for w in _by_pass(v)]
        shifted = p.gradient(delta, noisy, mean, keep=False) * eps
    per_block = (count, BLOCK)
    shift = p.gather(shifted.unflatten(1, per_block).mean(2))
    return p.gather(_fluctuation([g.unflatten(1, per_block) for g in along])), shift


def _by_pass(v: Tensor) -> list[Tensor]:
    """Directions (n, rows, d) of each backward pass: the shared one first, then each row's own."""
    first, second = v[..., : SHARED + OWN, :], v[..., [0, *range(SHARED + OWN, DIRECTIONS)], :]
    rows = torch.cat([first, second], 2)  # (n, blocks, the rows eps -eps eps' -eps', pass, d)
    return [rows[..., number, :].flatten(1, 2) for number in range(SHARED + OWN)]


def _fluctuation(along: list[Tensor]) -> Tensor:
    """V by component (n, blocks, *x) from J^T v (n, blocks, BLOCK, *x), the shared v first."""
    shared, own = along[0], along[SHARED:]
    one, two = shared[:, :, :2], shared[:, :, 2:]
    squares = (one.square() + two.square()).sum(2) / 2 + sum(g.square().sum(2) for g in own)
    turned = (one - two).square().mean(2) / 2  # A less the Mehler product
    return squares / BLOCK_DIRECTIONS - turned


def _mean_of_others(change: Tensor, total: Tensor, all_blocks: int) -> Tensor:
    """(n, rows, d): for each row, the mean change over all blocks but its own."""
    if all_blocks == 1:
        return torch.zeros_like(change)
    own = change.unflatten(1, (-1, BLOCK)).sum(2)
    others = (total.unsqueeze(1) - own) / (BLOCK * (all_blocks - 1))
    return others.repeat_interleave(BLOCK, dim=1)
