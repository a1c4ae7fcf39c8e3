"""Embedded point clouds: one real CAD shape among points of five others, with an exact foreground.

They stand in for the paper's ModelNet40 (Section 4): small enough to ship, free to redistribute.
Two sources of 10 classes each, points sampled from the surfaces of models: furniture and other
things of a house (386 shapes of 272 groups), electronic components (681 shapes of 199 groups). A
group holds the variants of one design; about a fifth of each class is held out for testing, whole
groups, the same for every seed. `point_scenes` composes scenes of them, and of ModelNet40's shapes.

1. The paper gives 1,024 foreground and 500 background points but not where the background lies.
   Here `distance` says it: 0 joins the six clouds in one coordinate system, so that the background
   lies inside the object's own space.
2. The paper's point order is not stated; here the order is random, so that no position in the
   tensor tells foreground from background.
"""

import io
import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.random import Generator

from kpnb.datasets import samples as data
from kpnb.datasets.images import balanced_labels, of_split
from kpnb.errors import require

FILES = {"furniture": "furniture.npz", "components": "components.npz"}
PACKED_SHA256 = {
    "furniture.npz": "d236775d398939bff38822e1342660e7a24662719b45473fdaf860ad2cc4fc15",
    "components.npz": "09d16c17656b7f8fa63902b1b0a351e8bb11431e25d4a59bb2ac526ca0c58ee4",
}


def packed_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of packed file `name`; raises as `packed_content` does.

    points (m, 1024, 3) float16, label (m,) uint8 (an index into classes), names (m,), group (m,)
    and classes (c,) of fixed-width text.
    """
    content = data.packed_content(name, PACKED_SHA256[name], "embedded_pointclouds")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


@cache
def split_arrays(part: str, split: str) -> dict[str, np.ndarray]:
    """The arrays of `part` for "train" or "test", which are not to be changed."""
    arrays = packed_arrays(FILES[part])
    chosen = []
    for label, name in enumerate(arrays["classes"].tolist()):
        members = np.flatnonzero(arrays["label"] == label)
        chosen += of_split(members, arrays["group"][members].tolist(), name, split)
    keep = np.sort(chosen)
    return {key: value if key == "classes" else value[keep] for key, value in arrays.items()}


CLOUDS = 5  # clouds that the background is drawn from, as in the paper
# Last words of the keys that set the streams of a whole data set apart from those of one scene;
# `balanced_labels` has 1.
SHAPES, ONCE = 2, 3


def point_scenes(
    shapes: data.Shapes,
    count: int | None,
    points: int,
    background: int,
    distance: float,
    turn: float,
    seed: int,
    split: str,
) -> data.PointSamples:
    """Compose scenes as the paper does (Section 4): an object among points of five other clouds.

    Scene i is drawn from a generator seeded with (seed, split, i) alone: it does not depend on
    `count`. Scenes that differ only in `distance` hold the same points, moved; those that differ
    only in `background` hold the same foreground.

    count: the number of scenes. Classes come up as in `embedded_images`, objects of a class in new
        random orders of its shapes. None: every shape is the object once, in an order by `seed`.
    points: of the object, the foreground, drawn without replacement.
    background: points drawn without replacement from the union of five clouds, which are five
        different shapes with labels other than the object's, all equally likely; 0 for none.
    distance: of the five clouds' centers from the object's, in radii of the object's bounding
        sphere (at most 100), in a direction uniform on the sphere.
    turn: degrees; the object and each of the five clouds turn about the vertical z axis by
        uniform angles from -turn/2 to turn/2. 360: any orientation.
    seed: an integer from 0 to 2**32 - 1.
    split: "train" or "test", part of the key of every generator; shapes are taken as given.

    Returns (n, points + background, 3) points in random order. Raises `KpnbError` for an argument
    outside these ranges, more points than the shapes have, and a class without shapes.
    """
    data.require_split(split)
    data.require_int("seed", seed, *data.SEEDS)
    for name, value, most in (("distance", distance, 100), ("turn", turn, 360)):
        require(0 <= value <= most, f"{name} is {value!r}: give a number from 0 to {most}.")
    _check_sizes(shapes, count, points, background)
    key = (int(seed), data.SPLITS.index(split))
    objects = _objects(shapes, count, key)
    clouds, labels = shapes.points.numpy(), shapes.labels.numpy()
    scenes = np.empty((len(objects), points + background, 3), dtype=np.float32)
    foreground = np.empty(scenes.shape[:2], dtype=bool)
    for i, chosen in enumerate(objects):
        rng = np.random.default_rng([*key, i])
        near = _turned(_drawn(clouds[chosen], points, rng), turn, rng)
        far = _background(clouds, labels != labels[chosen], background, distance, turn, rng)
        order = rng.permutation(points + background)
        scenes[i] = np.concatenate([near, far])[order]
        foreground[i] = order < points
    source = {**shapes.source, "split": split, "seed": int(seed), "count": len(objects)}
    source |= {"points": int(points), "background": int(background)}
    source |= {"distance": float(distance), "turn": float(turn)}
    source |= {"once": count is None, "classes": list(shapes.class_names), "parts": []}
    tensors = map(torch.from_numpy, (scenes, labels[objects], foreground))
    return data.PointSamples(*tensors, shapes.class_names, source)


def _objects(shapes: data.Shapes, count: int | None, key: tuple[int, int]) -> np.ndarray:
    """(count,) positions of shapes: classes in blocks, the shapes of a class in blocks."""
    if count is None:
        return np.random.default_rng([*key, 0, ONCE]).permutation(len(shapes))
    classes, labels = len(shapes.class_names), shapes.labels.numpy()
    turns = [_rounds(np.flatnonzero(labels == label), label, key) for label in range(classes)]
    return np.array([next(turns[label]) for label in balanced_labels(count, classes, key)])


def _rounds(members: np.ndarray, label: int, key: tuple[int, int]) -> Iterator[int]:
    """The shapes of a class in a new random order again and again."""
    for block in itertools.count():
        yield from np.random.default_rng([*key, block, label, SHAPES]).permutation(members)


def _background(
    clouds: np.ndarray, others: np.ndarray, count: int, distance: float, turn: float, rng: Generator
) -> np.ndarray:
    """(count, 3) points of five of the `clouds` marked in `others`, turned and moved away."""
    if count == 0:
        return np.empty((0, 3), dtype=np.float32)
    union = []
    for cloud in clouds[rng.choice(np.flatnonzero(others), CLOUDS, replace=False)]:
        direction = rng.standard_normal(3)
        shift = distance * direction / np.linalg.norm(direction)
        union.append(_turned(cloud, turn, rng) + shift)
    return _drawn(np.concatenate(union), count, rng)


def _drawn(cloud: np.ndarray, count: int, rng: Generator) -> np.ndarray:
    return cloud[rng.choice(len(cloud), count, replace=False)]


def _turned(cloud: np.ndarray, turn: float, rng: Generator) -> np.ndarray:
    """`cloud` (k, 3) turned about z, counterclockwise seen from above, by up to half of `turn`."""
    angle = math.radians(turn) * rng.uniform(-0.5, 0.5)
    c, s = math.cos(angle), math.sin(angle)
    return cloud @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def _check_sizes(shapes: data.Shapes, count: int | None, points: int, background: int) -> None:
    """There are that many points; every class has a shape and, with a background, five others."""
    if count is not None:
        data.require_int("count", count, 1)
    size = shapes.points.shape[1]
    data.require_int("points", points, 1, size)
    data.require_int("background", background, 0, CLOUDS * size)
    sizes = np.bincount(shapes.labels.numpy(), minlength=len(shapes.class_names))
    missing = shapes.class_names[int(sizes.argmin())]
    require(sizes.all(), f"There is no shape of class {missing!r}: give at least one.")
    told = f"A class has fewer than {CLOUDS} shapes of other classes to draw a background from"
    enough = not background or sizes.sum() - sizes.max() >= CLOUDS
    require(enough, f"{told}: give more shapes, or background 0.")


SOURCES = {part: (part,) for part in FILES} | {"both": tuple(FILES)}


def embedded_shapes(split: str = "train", source: str = "furniture") -> data.Shapes:
    """The packed shapes of a split, 1,024 points each, in a fixed order.

    split: "train" or "test", see the module.
    source: "furniture" or "components", 10 classes each, or "both" with 20, furniture first.

    Raises `KpnbError` for another split or source and for damaged packed data.
    """
    data.require_split(split)
    require(source in SOURCES, f"source is {source!r}: give 'furniture', 'components' or 'both'.")
    parts = [split_arrays(part, split) for part in SOURCES[source]]
    labels, classes = [], []
    for part in parts:
        labels.append(part["label"].astype(np.int64) + len(classes))
        classes.extend(part["classes"].tolist())
    # Normalized again, in double precision, for what rounding to 16 bits has moved.
    points = [data.unit_sphere(part["points"].astype(np.float64)) for part in parts]
    return data.Shapes(
        torch.from_numpy(np.concatenate(points).astype(np.float32)),
        torch.from_numpy(np.concatenate(labels)),
        tuple(classes),
        tuple(name for part in parts for name in part["names"].tolist()),
        dict(dataset="embedded-pointclouds", shapes=source, data=data.packed_hash(PACKED_SHA256)),
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
) -> data.PointSamples:
    """Compose scenes of `embedded_shapes`, of one split, as `point_scenes` does, which says more.

    points, background: 256 and 125, a quarter of the paper's 1,024 and 500, which networks on two
        CPU cores afford; at most 1,024 and 5,120.
    turn: 0 leaves clouds aligned as their models are, like ModelNet40's.

    Raises `KpnbError` as these two do.
    """
    shapes = embedded_shapes(split, source)
    return point_scenes(shapes, count, points, background, distance, turn, seed, split)
