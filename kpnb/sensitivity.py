"""How a feature answers to noise on the input: the one place where the model is run.

With y = f(x + sigma * eps) and y0 = f(x), both after the optional ReLU, everything the estimators
need are averages over draws of eps: the feature's squared change, its gradient in sigma, and the
two terms A and C that the closed forms are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.features import FeatureReader
from kpnb.noise import normal
from kpnb.units import Problem, Units

# Below this feature size probes are made orthonormal (exact once there are as many as dimensions);
# above it independent normal vectors are orthogonal enough and a QR would cost more than it saves.
LARGEST_ORTHONORMAL = 4096


@dataclass
class Perturbation:
    """A few samples under noise: draws, features and gradients, in pieces of bounded size.

    samples: indices into problem.x; keys: one noise key per sample; chunk: most rows
    (sample x draw) in one pass through the model.
    """

    reader: FeatureReader
    problem: Problem
    units: Units
    samples: Tensor
    keys: Sequence[bytes]
    chunk: int

    def __post_init__(self) -> None:
        self.x = self.problem.x[self.samples]
        self._layout = torch.channels_last if self.x.ndim == 4 else torch.contiguous_format
        with torch.no_grad():
            try:
                self.clean = self._read(self.x, self.samples)  # (n, d)
            except RuntimeError:  # the faster layout stops a model that calls .view on its features
                self._layout = torch.contiguous_format
                self.clean = self._read(self.x, self.samples)

    def pieces(self, draws: Sequence[int]) -> Iterator[Sequence[int]]:
        """The draws cut into whole antithetic pairs, at most `chunk` rows for all samples."""
        size = max(2, self.chunk // len(self.samples) // 2 * 2)
        for start in range(0, len(draws), size):
            yield draws[start : start + size]

    def noise(self, stream: str, draws: Sequence[int]) -> Tensor:
        """(n, draws, *x): standard normal; `draws` are whole pairs, odd ones the negatives."""
        drawn = normal(self.keys, stream, draws[::2], self.x.shape[1:], self.x)
        return torch.stack([drawn, -drawn], dim=2).flatten(1, 2)

    def independent_noise(self, stream: str, draws: Sequence[int]) -> Tensor:
        """(n, draws, *x): standard normal, every draw independent (the published way)."""
        return normal(self.keys, stream, draws, self.x.shape[1:], self.x)

    def feature(self, sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy inputs (rows, *x) and the change of the feature y - y0 (n, draws, d)."""
        n, k = eps.shape[:2]
        step = self.units.spread(sigma, self.x).unsqueeze(1)  # (n, 1, ...)
        noisy = (self.x.unsqueeze(1) + step * eps).flatten(0, 1)
        noisy.requires_grad_(torch.is_grad_enabled())
        y = self._read(noisy, self.samples.repeat_interleave(k))
        return noisy, y.unflatten(0, (n, k)) - self.clean.unsqueeze(1)

    def gradient(self, change: Tensor, noisy: Tensor, weights: Tensor, keep: bool) -> Tensor:
        """J^T w for every row: gradient of sum(change * weights) in the noisy input, (n, k, *x)."""
        n, k = change.shape[:2]
        if not change.requires_grad:
            if bool((change == 0).all()):
                return torch.zeros_like(noisy).unflatten(0, (n, k))
            raise KpnbError(
                f"the feature of layer {self.reader.layer!r} is not differentiable in the input."
            )
        (gradient,) = torch.autograd.grad(
            (change * weights).sum(), noisy, retain_graph=keep, allow_unused=True
        )
        gradient = torch.zeros_like(noisy) if gradient is None else gradient
        return gradient.detach().unflatten(0, (n, k))

    def gather(self, components: Tensor) -> Tensor:
        """(n, draws, *x) -> (n, units), summed over the draws and the components of each unit."""
        return self.units.gather(components.sum(1))

    def _read(self, x: Tensor, samples: Tensor) -> Tensor:
        # A copy, because a model may begin with an in-place operation.
        given = x.clone(memory_format=self._layout)
        return self.reader(lambda: self.problem.forward(given, samples))


@dataclass(frozen=True)
class Sensitivity:
    """Averages over draws at one sigma; see `sensitivity`."""

    jacobian: Tensor  # A (n, units)
    kink: Tensor  # C (n, units)
    change: Tensor  # E||y - y0||^2 (n,)


def sensitivity(p: Perturbation, sigma: Tensor, draws: Sequence[int]) -> Sensitivity:
    """The two terms of the gradient of E||y - y0||^2 in sigma_i, which is 2 sigma_i A_i + 2 C_i.

    A_i = E[sum over unit i of (J(x + sigma eps)^T v)^2], v a random probe with E[v v^T] = I:
        squared column norms of the Jacobian, which govern how the feature fluctuates.
    C_i = E[sum over unit i of eps (J(x + sigma eps)^T B)], B = E[y - y0]: what the systematic shift
        of the feature adds. The kinks of ReLU and max-pooling cause it, and it is of first order in
        sigma, so small noise does not make it vanish.
    B for a pair of antithetic draws is the mean over the other pairs, so that it is independent of
    the pair it multiplies. For a linear f, antithetic pairs make B and C exactly zero.
    sigma: (n, units); draws: even number of draw numbers, whole pairs (2j, 2j + 1).
    """
    pieces = list(p.pieces(draws))
    every_probe = _probes(p, draws, p.clean.shape[-1])
    total = _total_change(p, sigma, pieces) if len(pieces) > 1 else None
    jacobian = kink = change = torch.zeros((), device=p.x.device, dtype=p.x.dtype)
    for piece, probes in zip(pieces, every_probe.split([len(q) for q in pieces], 1), strict=True):
        with torch.enable_grad():
            eps = p.noise("input", piece)
            noisy, delta = p.feature(sigma, eps)
            fixed = delta.detach()
            shift = _other_pairs(fixed, fixed.sum(1) if total is None else total, len(draws))
            along = p.gradient(delta, noisy, probes, keep=True)
            shifted = p.gradient(delta, noisy, shift, keep=False)
        jacobian = jacobian + p.gather(along.square_())
        kink = kink + p.gather(shifted.mul_(eps))
        change = change + fixed.square().sum((1, 2))
    return Sensitivity(jacobian / len(draws), kink / len(draws), change / len(draws))


def _total_change(p: Perturbation, sigma: Tensor, pieces: Sequence[Sequence[int]]) -> Tensor:
    with torch.no_grad():
        return sum(p.feature(sigma, p.noise("input", piece))[1].sum(1) for piece in pieces)


def _other_pairs(change: Tensor, total: Tensor, draws: int) -> Tensor:
    """(n, k, d): for each draw, the mean change over all draws but its own antithetic pair."""
    if draws <= 2:
        return torch.zeros_like(change)
    pair = change.unflatten(1, (-1, 2)).sum(2)
    return ((total.unsqueeze(1) - pair) / (draws - 2)).repeat_interleave(2, dim=1)


def _probes(p: Perturbation, draws: Sequence[int], d: int) -> Tensor:
    """(n, draws, d) probes v with E[v v^T] = I, orthogonal to each other in blocks of d draws."""
    probes = normal(p.keys, "probe", draws, (d,), p.clean)
    if d > LARGEST_ORTHONORMAL:
        return probes
    return torch.cat([_orthogonal(block) for block in probes.split(d, dim=1)], dim=1)


def _orthogonal(vectors: Tensor) -> Tensor:
    """Rows (n, k <= d, d) made orthogonal, each of squared norm d, uniformly distributed."""
    q, r = torch.linalg.qr(vectors.mT)
    # Without a positive diagonal of R the result would lean on LAPACK's choice of signs.
    sign = torch.sign(r.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    return (q * sign).mT * vectors.shape[-1] ** 0.5
