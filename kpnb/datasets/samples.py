"""Images with labels and a foreground: what every image data set of this package returns.

Point clouds with labels and a foreground, and the single shapes they are composed of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kpnb.errors import KpnbError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DATA_SEED = 0  # by which every study draws its data, whatever seed its networks have


@dataclass(frozen=True)
class ImageSamples:
    """Labelled images with their foreground.

    images: (n, 3, s, s) float32, normalised with ImageNet's mean and standard deviation
    labels: (n,) int64, an index into `class_names`
    masks: (n, s, s) bool, True on the object
    source: what the samples are, JSON-able, for provenance and fingerprints: dataset, split, seed,
        count, image_size, classes (names), data (hash) and parts, one entry for each time a part
        was taken
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    class_names: tuple[str, ...]
    source: dict

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Sequence[int] | Tensor | np.ndarray | slice) -> ImageSamples:
        """The samples at `index`: positions, a boolean mask of length n, or a slice.

        Raises `KpnbError` for an index that fits no sample or chooses none.
        """
        chosen = self._positions(index)
        digest = hashlib.sha256(chosen.numpy().astype("<i8").tobytes()).hexdigest()
        return self._part(chosen, {"subset": len(chosen), "positions": digest})

    def fraction(self, share: float, seed: int) -> ImageSamples:
        """A random part with round(share * n_c), at least one, of each class's n_c samples.

        Samples keep their order. 0 < share <= 1, or `KpnbError` is raised.
        """
        if not 0 < share <= 1:
            raise KpnbError(f"share is {share}: give a share above 0 and at most 1.")
        require_int("seed", seed, 0)
        rng = np.random.default_rng(seed)
        chosen = []
        for label in self.labels.unique().tolist():
            members = torch.nonzero(self.labels == label).flatten().numpy()
            count = max(1, round(share * len(members)))
            chosen.append(rng.permutation(members)[:count])
        index = torch.from_numpy(np.sort(np.concatenate(chosen)))
        return self._part(index, {"fraction": float(share), "seed": int(seed)})

    def pictures(self) -> np.ndarray:
        """(n, s, s, 3) float32 in [0, 1]: the images as they look, for plotting."""
        mean, std = normalization()
        return (self.images * std + mean).clamp(0, 1).permute(0, 2, 3, 1).contiguous().numpy()

    def _positions(self, index: Sequence[int] | Tensor | np.ndarray | slice) -> Tensor:
        everything = torch.arange(len(self))
        try:
            if not isinstance(index, slice):
                index = torch.as_tensor(index)
            chosen = everything[index].reshape(-1)
        except (IndexError, TypeError, ValueError) as error:
            raise KpnbError(
                f"The index does not fit {len(self)} samples ({error}): give positions from 0 to "
                f"{len(self) - 1}, a boolean mask of that length or a slice."
            ) from error
        if len(chosen) == 0:
            raise KpnbError("The index chooses no sample: choose at least one.")
        return chosen

    def _part(self, index: Tensor, note: dict) -> ImageSamples:
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            masks=self.masks[index],
            source={**self.source, "parts": [*self.source["parts"], note]},
        )


def normalization() -> tuple[Tensor, Tensor]:
    """ImageNet's mean and standard deviation of RGB in [0, 1], each of shape (3, 1, 1)."""
    return torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)


def require_int(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise `KpnbError` unless `value` is an integer (no bool) from `least` to `most`."""
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < least or (most is not None and value > most):
        upper = "" if most is None else f" to {most}"
        raise KpnbError(f"{name} is {value!r}: give an integer from {least}{upper}.")


@dataclass(frozen=True)
class PointSamples:
    """Labeled point clouds with their foreground.

    points: (n, p, 3) float32, z up; one unit is the radius of the object's bounding sphere
    labels: (n,) int64, an index into `class_names`
    foreground: (n, p) bool, True for the points of the labeled object
    source: what the samples are, JSON-able, for provenance and fingerprints: dataset, split, seed,
        count, the settings of the scenes, classes (names), data (hash) and parts, one entry for
        each time a part was taken
    """

    points: Tensor
    labels: Tensor
    foreground: Tensor
    class_names: tuple[str, ...]
    source: dict

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Sequence[int] | Tensor | np.ndarray | slice) -> PointSamples:
        """The samples at `index`: positions, a boolean mask of length n, or a slice.

        Raises `KpnbError` for an index that fits no sample or chooses none.
        """
        chosen = self._positions(index)
        digest = hashlib.sha256(chosen.numpy().astype("<i8").tobytes()).hexdigest()
        return self._part(chosen, {"subset": len(chosen), "positions": digest})

    def fraction(self, share: float, seed: int) -> PointSamples:
        """A random part with round(share * n_c), at least one, of each class's n_c samples.

        Samples keep their order. 0 < share <= 1, or `KpnbError` is raised.
        """
        if not 0 < share <= 1:
            raise KpnbError(f"share is {share}: give a share above 0 and at most 1.")
        require_int("seed", seed, 0)
        rng = np.random.default_rng(seed)
        chosen = []
        for label in self.labels.unique().tolist():
            members = torch.nonzero(self.labels == label).flatten().numpy()
            chosen.append(rng.permutation(members)[: max(1, round(share * len(members)))])
        index = torch.from_numpy(np.sort(np.concatenate(chosen)))
        return self._part(index, {"fraction": float(share), "seed": int(seed)})

    @property
    def digest(self) -> str:
        """SHA-256 over points, labels and foreground, with their shapes."""
        return tensor_digest(self.points, self.labels, self.foreground)

    def _positions(self, index: Sequence[int] | Tensor | np.ndarray | slice) -> Tensor:
        everything = torch.arange(len(self))
        try:
            if not isinstance(index, slice):
                index = torch.as_tensor(index)
            chosen = everything[index].reshape(-1)
        except (IndexError, TypeError, ValueError) as error:
            raise KpnbError(
                f"The index does not fit {len(self)} samples ({error}): give positions from 0 to "
                f"{len(self) - 1}, a boolean mask of that length or a slice."
            ) from error
        if len(chosen) == 0:
            raise KpnbError("The index chooses no sample: choose at least one.")
        return chosen

    def _part(self, index: Tensor, note: dict) -> PointSamples:
        return replace(
            self,
            points=self.points[index],
            labels=self.labels[index],
            foreground=self.foreground[index],
            source={**self.source, "parts": [*self.source["parts"], note]},
        )


@dataclass(frozen=True)
class Shapes:
    """Single shapes as samples of their surface.

    points: (m, k, 3) float32, z up, each shape's mean at the origin and its farthest point at
        distance 1 (see `unit_sphere`)
    labels: (m,) int64, an index into `class_names`
    names: of the m shapes
    source: what the shapes are, JSON-able: dataset and data (hash)
    """

    points: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    source: dict

    def __len__(self) -> int:
        return len(self.labels)


def unit_sphere(points: np.ndarray) -> np.ndarray:
    """`points` (..., k, 3) with the mean moved to the origin and the farthest scaled to distance 1.

    Raises `KpnbError` when a value is not finite or all points of a shape are in one place.
    """
    if np.isfinite(points).all():
        centered = points - points.mean(axis=-2, keepdims=True)
        radius = np.linalg.norm(centered, axis=-1).max(axis=-1)[..., None, None]
    else:
        radius = np.zeros(1)
    if not (radius > 0).all():
        raise KpnbError(
            "A shape has coordinates that are not finite or all points in one place: leave it out."
        )
    return centered / radius


def tensor_digest(*tensors: Tensor) -> str:
    """SHA-256 over the shapes and the bytes of `tensors`."""
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()
