"""Source and target classes of one data set, and the samples of some of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from kpnb.datasets.image_samples import ImageSamples
from kpnb.errors import KpnbError

Names = tuple[str, ...]


def split_classes(names: Sequence[str], source: int, seed: int) -> tuple[Names, Names]:
    """`source` of the classes by a random order of that seed, and the others.

    Both keep the order of `names`. Raises `KpnbError` where one side would be empty.
    """
    if not 0 < source < len(names):
        raise KpnbError(
            f"{source} of {len(names)} classes leave one side empty: take 1 to {len(names) - 1}."
        )
    chosen = set(np.random.default_rng(seed).permutation(len(names))[:source].tolist())
    first = tuple(name for i, name in enumerate(names) if i in chosen)
    return first, tuple(name for name in names if name not in first)


def of_classes(samples: ImageSamples, names: Sequence[str]) -> ImageSamples:
    """The samples of the classes `names` in their order, labels numbered anew by that of `names`.

    Raises `KpnbError` for a class that is unknown, named twice, or has no sample.
    """
    unknown = [name for name in names if name not in samples.class_names]
    if unknown or len(set(names)) < len(names):
        raise KpnbError(
            f"the classes {list(names)} cannot be taken from {list(samples.class_names)}: name "
            "known ones, each once."
        )
    new = torch.full((len(samples.class_names),), -1)
    new[[samples.class_names.index(name) for name in names]] = torch.arange(len(names))
    labels = new[samples.labels]
    missing = [name for i, name in enumerate(names) if not (labels == i).any()]
    if missing:
        raise KpnbError(f"there is no sample of {', '.join(missing)}: take more samples.")
    part = samples.subset(labels >= 0)
    source = part.source | {"parts": [*part.source["parts"], {"classes": list(names)}]}
    return replace(part, labels=new[part.labels], class_names=tuple(names), source=source)
