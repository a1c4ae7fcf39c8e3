"""Noise that belongs to a sample, and a few samples under it: the one place where models are run.

Every draw is made by a generator seeded with a hash of (sample content, seed, stream, draw number).
So neither the batch, nor its order, nor how work is cut into chunks changes a sample's noise; the
same image gets the same noise in every network and epoch, which makes comparisons paired; and the
same call gives the same bits on one machine.

With y = f(x + sigma * eps) and y0 = f(x), both after the optional ReLU, everything the estimators
need are averages over draws of eps of y - y0 and of gradients of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.units import Problem, Units


def sample_keys(x: Tensor, seed: int) -> list[bytes]:
    """One key per sample of x (samples, ...): a hash of its float32 content and of the seed."""
    content = x.detach().to("cpu", torch.float32).contiguous().numpy()
    own = [sample.tobytes() + str(seed).encode() for sample in content]
    return [hashlib.blake2b(key, digest_size=16).digest() for key in own]


def normal(
    keys: Sequence[bytes], stream: str, draws: Sequence[int], shape: Sequence[int], like: Tensor
) -> Tensor:
    """Standard normal noise (samples, draws, *shape) with the dtype and device of `like`.

    stream names the purpose, so that input noise and probes never share numbers.
    """
    noise = torch.empty((len(keys), len(draws), *shape), dtype=like.dtype, device=like.device)
    generator = torch.Generator(device=like.device)
    for row, key in enumerate(keys):
        for column, draw in enumerate(draws):
            generator.manual_seed(_seed(key, stream, draw))
            noise[row, column].normal_(generator=generator)
    return noise


def _seed(key: bytes, stream: str, draw: int) -> int:
    digest = hashlib.blake2b(key + f"{stream}/{draw}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass
class Perturbation:
    """A few samples under noise: draws, features and gradients, in pieces of bounded size.

    samples: indices into problem.x; keys: one noise key per sample; chunk: most rows
    (sample x draw) in one pass through the model; precision: that of autocast, None for off; tick:
    told of the rows of each noisy pass. Raises KpnbError for a feature that is not finite.
    """

    reader: FeatureReader
    problem: Problem
    units: Units
    samples: Tensor
    keys: Sequence[bytes]
    chunk: int
    precision: torch.dtype | None = None
    tick: Callable[[int], object] = int  # does nothing

    def __post_init__(self) -> None:
        self.x = self.problem.x[self.samples]
        self._layout = torch.channels_last if self.x.ndim == 4 else torch.contiguous_format
        with torch.no_grad():
            try:
                self.clean = self._read(self.x, self.samples)  # (n, d)
            except RuntimeError:  # the faster layout stops a model that calls .view on its features
                self._layout = torch.contiguous_format
                self.clean = self._read(self.x, self.samples)
        bad = ~self.clean.isfinite().all(1)
        if bad.any():
            told = f"the feature of {self.reader.name} is NaN or infinite"
            lost = self.samples[bad].tolist()[:5]
            raise KpnbError(f"{told} for samples {lost}: check the weights and the inputs' scale.")

    def take(self, rows: Tensor) -> Perturbation:
        """Some of the samples: rows (n,) bool."""
        keys = [key for key, taken in zip(self.keys, rows.tolist(), strict=True) if taken]
        return replace(self, samples=self.samples[rows], keys=keys)

    def pieces(self, draws: Sequence[int], rows: int = 1) -> Iterator[Sequence[int]]:
        """The draws cut so that those of all samples, `rows` rows each, make at most `chunk` rows
        (and at least one draw a piece)."""
        size = max(1, self.chunk // (len(self.samples) * rows))
        for start in range(0, len(draws), size):
            yield draws[start : start + size]

    def noise(self, stream: str, draws: Sequence[int]) -> Tensor:
        """(n, draws, *x): standard normal, every draw independent."""
        return normal(self.keys, stream, draws, self.x.shape[1:], self.x)

    def feature(self, sigma: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy inputs (rows, *x) and the change of the feature y - y0 (n, draws, d)."""
        n, k = eps.shape[:2]
        step = self.units.spread(sigma, self.x).unsqueeze(1)  # (n, 1, ...)
        noisy = (self.x.unsqueeze(1) + step * eps).flatten(0, 1)
        noisy.requires_grad_(torch.is_grad_enabled())
        y = self._read(noisy, self.samples.repeat_interleave(k))
        self.tick(len(noisy))
        return noisy, y.unflatten(0, (n, k)) - self.clean.unsqueeze(1)

    def gradient(self, change: Tensor, noisy: Tensor, weights: Tensor, keep: bool) -> Tensor:
        """J^T w for every row: gradient of sum(change * weights) in the noisy input, (n, k, *x).

        keep: the graph is needed for another gradient.
        """
        n, k = change.shape[:2]
        if not change.requires_grad:
            if bool((change == 0).all()):
                return torch.zeros_like(noisy).unflatten(0, (n, k))
            raise KpnbError(f"{self.reader.name} is not differentiable in the input.")
        (gradient,) = torch.autograd.grad(
            change, noisy, weights.expand_as(change), retain_graph=keep, allow_unused=True
        )
        gradient = torch.zeros_like(noisy) if gradient is None else gradient
        return gradient.detach().unflatten(0, (n, k))

    def gather(self, components: Tensor) -> Tensor:
        """(n, parts, *x) -> (n, parts, units), summed over the components of each unit."""
        return self.units.gather(components.flatten(0, 1)).unflatten(0, components.shape[:2])

    def _read(self, x: Tensor, samples: Tensor) -> Tensor:
        # A copy, because a model may begin with an in-place operation.
        given = x.clone(memory_format=self._layout)
        with torch.autocast(x.device.type, self.precision, enabled=self.precision is not None):
            feature = self.reader(lambda: self.problem.forward(given, samples))
        return feature.to(x.dtype)
