"""Samples that know where they come from; the checks and packed files that data sets share."""

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from kpnb.errors import KpnbError, require
from kpnb.fingerprint import packed_file

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SPLITS = ("train", "test")
SEEDS = (0, 2**32 - 1)  # one word of the generators' keys, so that no two keys coincide
DATA_SEED = 0  # by which every study draws its data, whatever seed its networks have

Index = Sequence[int] | Tensor | np.ndarray | slice


class Samples:
    """n samples, of which parts can be taken; a base of frozen data classes.

    COLUMNS: the fields with an entry for each sample, tensors or tuples.
    source: JSON-able, for provenance and fingerprints: dataset, split, seed, count, what else was
        asked for, data (hash) and parts, one entry for each time a part was taken.
    """

    COLUMNS: ClassVar[tuple[str, ...]]
    source: dict

    def __len__(self) -> int:
        return len(getattr(self, self.COLUMNS[0]))

    def subset(self, index: Index) -> Self:
        """The samples at `index`: positions, a boolean mask of length n, or a slice.

        Raises `KpnbError` for an index that fits no sample or chooses none.
        """
        chosen = self._positions(index)
        digest = hashlib.sha256(chosen.numpy().astype("<i8").tobytes()).hexdigest()
        return self._part(chosen, {"subset": len(chosen), "positions": digest})

    def taken(self, positions: Tensor, **source: object) -> Self:
        """The samples at `positions` (k,), with other entries of `source`."""
        columns = {name: _entries(getattr(self, name), positions) for name in self.COLUMNS}
        return replace(self, **columns, source={**self.source, **source})

    def _part(self, positions: Tensor, note: dict) -> Self:
        return self.taken(positions, parts=[*self.source["parts"], note])

    def _positions(self, index: Index) -> Tensor:
        everything = torch.arange(len(self))
        try:
            chosen = index if isinstance(index, slice) else torch.as_tensor(index)
            if isinstance(chosen, Tensor) and chosen.numel() and chosen.min() < 0:
                raise IndexError(f"position {int(chosen.min())}")
            chosen = everything[chosen].reshape(-1)
        except (IndexError, TypeError, ValueError) as error:
            raise KpnbError(
                f"The index does not fit {len(self)} samples ({error}): give positions from 0 to "
                f"{len(self) - 1}, a boolean mask of that length or a slice."
            ) from error
        require(len(chosen) > 0, "The index chooses no sample: choose at least one.")
        return chosen


def _entries(column: Tensor | tuple, positions: Tensor) -> Tensor | tuple:
    if isinstance(column, Tensor):
        return column[positions]
    return tuple(column[position] for position in positions.tolist())


class LabeledSamples(Samples):
    """`Samples` with a class each.

    labels: (n,) int64, an index into `class_names`
    """

    labels: Tensor
    class_names: tuple[str, ...]

    def fraction(self, share: float, seed: int) -> Self:
        """A random part with round(share * n_c), at least one, of each class's n_c samples.

        Samples keep their order. 0 < share <= 1, or `KpnbError` is raised.
        """
        require(0 < share <= 1, f"share is {share}: give a share above 0 and at most 1.")
        require_int("seed", seed, 0)
        rng = np.random.default_rng(seed)
        chosen = []
        for label in self.labels.unique().tolist():
            members = torch.nonzero(self.labels == label).flatten().numpy()
            chosen.append(rng.permutation(members)[: max(1, round(share * len(members)))])
        index = torch.from_numpy(np.sort(np.concatenate(chosen)))
        return self._part(index, {"fraction": float(share), "seed": int(seed)})


@dataclass(frozen=True)
class ImageSamples(LabeledSamples):
    """Labeled images with their foreground.

    images: (n, 3, s, s) float32, normalised with ImageNet's mean and standard deviation, or uint8,
        RGB from 0 to 255
    masks: (n, s, s) bool, True on the object
    source: see `Samples`; with image_size and classes (names)
    """

    COLUMNS: ClassVar = ("images", "labels", "masks")
    images: Tensor
    labels: Tensor
    masks: Tensor
    class_names: tuple[str, ...]
    source: dict

    def pictures(self) -> np.ndarray:
        """(n, s, s, 3) float32 in [0, 1]: the images as they look, for plotting."""
        mean, std = normalization()
        as_bytes = self.images.dtype == torch.uint8
        shown = self.images / 255 if as_bytes else (self.images * std + mean).clamp(0, 1)
        return shown.permute(0, 2, 3, 1).contiguous().numpy()


def normalization() -> tuple[Tensor, Tensor]:
    """ImageNet's mean and standard deviation of RGB in [0, 1], each of shape (3, 1, 1)."""
    return torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)


@dataclass(frozen=True)
class PointSamples(LabeledSamples):
    """Labeled point clouds with their foreground.

    points: (n, p, 3) float32, z up; one unit is the radius of the object's bounding sphere
    foreground: (n, p) bool, True for the points of the labeled object
    source: see `Samples`; with the settings of the scenes and classes (names)
    """

    COLUMNS: ClassVar = ("points", "labels", "foreground")
    points: Tensor
    labels: Tensor
    foreground: Tensor
    class_names: tuple[str, ...]
    source: dict

    @property
    def digest(self) -> str:
        """SHA-256 over points, labels and foreground, with their shapes."""
        return tensor_digest(self.points, self.labels, self.foreground)


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
        raise KpnbError("A shape has infinite or missing coordinates, or no extent: leave it out.")
    return centered / radius


def tensor_digest(*tensors: Tensor) -> str:
    """SHA-256 over the shapes and the bytes of `tensors`."""
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()


def require_int(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raise `KpnbError` unless `value` is an integer (no bool) from `least` to `most`."""
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or value < least or (most is not None and value > most):
        upper = "" if most is None else f" to {most}"
        raise KpnbError(f"{name} is {value!r}: give an integer from {least}{upper}.")


def require_split(split: str) -> None:
    """Raise `KpnbError` unless `split` is one of `SPLITS`."""
    require(split in SPLITS, f"split is {split!r}: give 'train' or 'test'.")


def packed_content(name: str, sha256: str, builder: str) -> bytes:
    """The content of the package's data file `name`, once its SHA-256 has been checked.

    Of a .gz file the content is meant, not gzip's bytes, which may differ from one zlib to the
    next. Raises `KpnbError`, naming the `builder` in data_prep, when the file is missing or is not
    the one this code was made for.
    """
    try:
        content = packed_file(name).read_bytes()
        content = gzip.decompress(content) if name.endswith(".gz") else content
    except (KpnbError, OSError, EOFError, zlib.error):  # missing, no gzip, cut off, damaged
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise KpnbError(
            f"The packed data file {name} is missing or damaged: reinstall kpnb or rebuild it with "
            f"python -m data_prep.{builder}."
        )
    return content


def packed_hash(digests: Mapping[str, str]) -> str:
    """One SHA-256 over those of packed files, by name, which loading verifies."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()
