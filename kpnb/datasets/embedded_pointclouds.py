"""Embedded point clouds: one real CAD shape among points of five others, with an exact foreground.

They stand in for the paper's ModelNet40 (Section 4): small enough to ship and free to
redistribute. Two sources of 10 classes each, points sampled from the surfaces of models: furniture
and other things of a house (386 shapes of 272 groups), and electronic components (681 shapes of
199 groups). A group holds the variants of one design; the split keeps groups whole.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from kpnb.datasets import _packed_points
from kpnb.datasets.point_samples import PointSamples, Shapes, unit_sphere
from kpnb.datasets.point_scenes import SPLITS, point_scenes
from kpnb.errors import KpnbError

SOURCES = {
    "furniture": ("furniture",),
    "components": ("components",),
    "both": ("furniture", "components"),
}


def _licence(part: str, source: str, version: str, licence: str, what: str) -> dict[str, str]:
    return dict(part=part, source=source, version=version, licence=licence, what=what)


LICENCES = (
    _licence(
        "furniture",
        "Debian sweethome3d-furniture",
        "1.8-1",
        "CC-BY-3.0",
        "Scopia library, Scopia Visual Interfaces Systems, s.l. and Emmanuel Puybaret / eTeks",
    ),
    _licence(
        "furniture",
        "Debian sweethome3d-furniture",
        "1.8-1",
        "CC-BY-3.0",
        "Blend Swap CC-BY library, the Blend Swap contributors that the data's README.md names",
    ),
    _licence(
        "furniture",
        "Debian sweethome3d-furniture",
        "1.8-1",
        "CC0",
        "Blend Swap CC-0 library, the Blend Swap contributors that the data's README.md names",
    ),
    _licence(
        "furniture",
        "Debian sweethome3d-furniture",
        "1.8-1",
        "CC-BY-3.0-US",
        "Kator Legaz library, Andrew Kator and Jennifer Legaz",
    ),
    _licence(
        "furniture",
        "Debian sweethome3d-furniture",
        "1.8-1",
        "CC-BY-3.0-US",
        "Reallusion library, Reallusion",
    ),
    _licence(
        "components",
        "Debian kicad-packages3d",
        "6.0.10-1",
        "CC-BY-SA-4.0 with the KiCad libraries' exception for designs",
        "KiCad Community, kicad StepUp, Rene Poeschl, Terje Io, Ray Benitez, Frank Severinsen",
    ),
)


def embedded_shapes(split: str = "train", source: str = "furniture") -> Shapes:
    """The packed shapes of a split, 1,024 points each, in a fixed order.

    split: "train" or "test", about 80 to 20 in each class; no group (variants of one design) is
        in both, and the split is the same for every seed.
    source: "furniture" or "components", 10 classes each, or "both" with 20, furniture first.

    Raises `KpnbError` for another split or source and for damaged packed data.
    """
    if split not in SPLITS:
        raise KpnbError(f"split is {split!r}: give 'train' or 'test'.")
    if source not in SOURCES:
        raise KpnbError(f"source is {source!r}: give 'furniture', 'components' or 'both'.")
    parts = [_packed_points.split_arrays(part, split) for part in SOURCES[source]]
    labels, classes = [], []
    for part in parts:
        labels.append(part["label"].astype(np.int64) + len(classes))
        classes.extend(part["classes"].tolist())
    # Normalized again, in double precision, for what rounding to 16 bits has moved.
    points = [unit_sphere(part["points"].astype(np.float64)) for part in parts]
    return Shapes(
        torch.from_numpy(np.concatenate(points).astype(np.float32)),
        torch.from_numpy(np.concatenate(labels)),
        tuple(classes),
        tuple(name for part in parts for name in part["names"].tolist()),
        dict(dataset="embedded-pointclouds", shapes=source, data=pointclouds_hash()),
    )


def embedded_pointclouds(
    count: int | None,
    split: str = "train",
    source: str = "furniture",
    points: int = 256,
    background: int = 125,
    distance: float = 0.0,
    turn: float = 0.0,
    seed: int = 0,
) -> PointSamples:
    """Compose `count` point clouds of one object among background points, see `point_scenes`.

    split, source: see `embedded_shapes`; objects and background are both of this split.
    points, background: 256 and 125, a quarter of the paper's 1,024 and 500, which networks on two
        CPU cores afford; at most 1,024 and 5,120.
    distance: of the five background clouds' centers from the object's, in radii of the object;
        0, inside the object's own space.
    turn: degrees in which clouds turn about the vertical axis, see `point_scenes`; 0 leaves them
        aligned as their models are, like ModelNet40's; 360 is any orientation.
    count: None for every shape of the split once.

    Raises `KpnbError` for an argument outside these ranges and for damaged packed data.
    """
    shapes = embedded_shapes(split, source)
    return point_scenes(shapes, count, points, background, distance, turn, seed, split)


def pointclouds_hash() -> str:
    """SHA-256 over the packed files' own SHA-256, which loading verifies."""
    digests = sorted(_packed_points.PACKED_SHA256.items())
    text = "".join(f"{digest}  {name}\n" for name, digest in digests)
    return hashlib.sha256(text.encode()).hexdigest()
