"""Point clouds of one object among points of other shapes, with an exact foreground.

The construction of the paper (Section 4): the foreground is an object's points, the background is
points drawn at random from five clouds of other classes.

1. The paper gives 1,024 foreground and 500 background points but not where the background lies.
   Here `distance` says it: 0 joins the six clouds in one coordinate system, so that the background
   lies inside the object's own space; larger values move the five clouds away around the object.
2. The paper's point order is not stated; here the order is random, so that no position in the
   tensor tells foreground from background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from kpnb.datasets.image_samples import require_int
from kpnb.datasets.point_samples import PointSamples, Shapes
from kpnb.errors import KpnbError

CLOUDS = 5  # clouds that the background is drawn from, as in the paper
SPLITS = ("train", "test")
SEEDS = (0, 2**32 - 1)  # one word of the generators' keys, so that no two keys coincide
# Last words of the keys that set the streams of a whole data set apart from those of one scene.
LABELS, SHAPES, ONCE = 1, 2, 3


def point_scenes(
    shapes: Shapes,
    count: int | None,
    points: int,
    background: int,
    distance: float,
    turn: float,
    seed: int,
    split: str,
) -> PointSamples:
    """Compose scenes of `points` foreground and `background` background points each.

    Scene i is drawn from a generator seeded with (seed, split, i) alone: it does not depend on
    `count`. Scenes that differ only in `distance` hold the same points, moved; those that differ
    only in `background` hold the same foreground.

    count: the number of scenes. Labels run through a new random order of all classes again and
        again, so class counts differ by at most one, and the objects of a class through a new
        random order of its shapes. None: every shape is the object once, in an order by `seed`.
    points: of the object, drawn without replacement.
    background: points drawn without replacement from the union of five clouds, which are five
        different shapes with labels other than the object's, all equally likely; 0 for none.
    distance: of each of the five clouds' centers from the object's, in radii of the object's
        bounding sphere, in a direction uniform on the sphere.
    turn: degrees; the object and each of the five clouds turn about the vertical z axis by
        uniform angles from -turn/2 to turn/2. 360: any orientation.
    seed: an integer from 0 to 2**32 - 1.
    split: "train" or "test", part of the key of every generator; shapes are taken as given.

    Returns (n, points + background, 3) points in random order. Raises `KpnbError` for an argument
    outside these ranges, more points than the shapes have, and a class without shapes.
    """
    _check_arguments(shapes, count, points, background, distance, turn, seed, split)
    key = (int(seed), SPLITS.index(split))
    objects = _every_shape(shapes, key) if count is None else _balanced(shapes, count, key)
    clouds, labels = shapes.points.numpy(), shapes.labels.numpy()
    scenes = np.empty((len(objects), points + background, 3), dtype=np.float32)
    foreground = np.empty(scenes.shape[:2], dtype=bool)
    for i, chosen in enumerate(objects):
        rng = np.random.default_rng([*key, i])
        near = _turned(_drawn(clouds[chosen], points, rng), _angle(turn, rng))
        far = _background(clouds, labels != labels[chosen], background, distance, turn, rng)
        order = rng.permutation(points + background)
        scenes[i] = np.concatenate([near, far])[order]
        foreground[i] = order < points
    settings = {"points": int(points), "background": int(background)}
    settings |= {"distance": float(distance), "turn": float(turn)}
    source = {**shapes.source, "split": split, "seed": int(seed), "count": len(objects)}
    source |= settings
    source |= {"once": count is None, "classes": list(shapes.class_names), "parts": []}
    return PointSamples(
        torch.from_numpy(scenes),
        shapes.labels[torch.from_numpy(objects)],
        torch.from_numpy(foreground),
        shapes.class_names,
        source,
    )


# Which shape is the object of which scene


def _every_shape(shapes: Shapes, key: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng([*key, 0, ONCE]).permutation(len(shapes))


def _balanced(shapes: Shapes, count: int, key: tuple[int, int]) -> np.ndarray:
    """(count,) positions of shapes: classes in blocks, the shapes of a class in blocks."""
    classes = len(shapes.class_names)
    labels = shapes.labels.numpy()
    turns = [_rounds(np.flatnonzero(labels == label), label, key) for label in range(classes)]
    objects: list[int] = []
    for block in range(-(-count // classes)):
        order = np.random.default_rng([*key, block, LABELS]).permutation(classes)
        objects.extend(next(turns[label]) for label in order)
    return np.array(objects[:count], dtype=np.int64)


def _rounds(members: np.ndarray, label: int, key: tuple[int, int]) -> Iterator[int]:
    """The shapes of a class in a new random order again and again."""
    block = 0
    while True:
        rng = np.random.default_rng([*key, block, label, SHAPES])
        yield from rng.permutation(members)
        block += 1


# One scene


def _background(
    clouds: np.ndarray,
    others: np.ndarray,
    count: int,
    distance: float,
    turn: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(count, 3) points of five of the `clouds` marked in `others`, turned and moved away."""
    if count == 0:
        return np.empty((0, 3), dtype=np.float32)
    union = []
    for cloud in clouds[rng.choice(np.flatnonzero(others), CLOUDS, replace=False)]:
        direction = rng.standard_normal(3)
        shift = distance * direction / np.linalg.norm(direction)
        union.append(_turned(cloud, _angle(turn, rng)) + shift)
    return _drawn(np.concatenate(union), count, rng)


def _drawn(cloud: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return cloud[rng.choice(len(cloud), count, replace=False)]


def _angle(turn: float, rng: np.random.Generator) -> float:
    return math.radians(turn) * rng.uniform(-0.5, 0.5)


def _turned(cloud: np.ndarray, angle: float) -> np.ndarray:
    """`cloud` (k, 3) turned about z by `angle` in radians, counterclockwise seen from above."""
    c, s = math.cos(angle), math.sin(angle)
    return cloud @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


# Arguments


def _check_arguments(
    shapes: Shapes,
    count: int | None,
    points: int,
    background: int,
    distance: float,
    turn: float,
    seed: int,
    split: str,
) -> None:
    if split not in SPLITS:
        raise KpnbError(f"split is {split!r}: give 'train' or 'test'.")
    if count is not None:
        require_int("count", count, 1)
    size = shapes.points.shape[1]
    require_int("points", points, 1, size)
    require_int("background", background, 0, CLOUDS * size)
    require_int("seed", seed, *SEEDS)
    for name, value, most in (("distance", distance, 100), ("turn", turn, 360)):
        if not 0 <= value <= most:
            raise KpnbError(f"{name} is {value!r}: give a number from 0 to {most}.")
    _check_classes(shapes, background)


def _check_classes(shapes: Shapes, background: int) -> None:
    """Every class has a shape and, with a background, five shapes of other classes."""
    sizes = np.bincount(shapes.labels.numpy(), minlength=len(shapes.class_names))
    if not sizes.all():
        missing = shapes.class_names[int(sizes.argmin())]
        raise KpnbError(f"There is no shape of class {missing!r}: give at least one.")
    if background and sizes.sum() - sizes.max() < CLOUDS:
        raise KpnbError(
            f"A class has fewer than {CLOUDS} shapes of other classes to draw a background from: "
            "give more shapes, or background 0."
        )
