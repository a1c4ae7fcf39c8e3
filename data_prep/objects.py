"""Objects in pictures, as a data set's own annotations have them: what every reader returns.

With what readers share: is a copy complete, by the counts that its release is known to have; the
text tables that data sets describe themselves with; and which objects are prepared.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kpnb.datasets.samples import SPLITS
from kpnb.errors import KpnbError, remedy, require

AGAIN = "unpack the data set again"
Box = tuple[float, float, float, float]
Split = Literal["train", "test"]
Outside = Literal["refuse", "clip"]
TOLERANCE = 1.0  # pixels: annotators' tools round a box at the border in either direction


def faulty(what: str, error: Exception | None = None) -> KpnbError:
    """The error of a damaged copy: what is wrong, and what to do about nearly every fault.

    error: why a file could not be read, where the file system may be the cause.
    """
    return KpnbError(f"{what}: {remedy(error, AGAIN)}.")


def need(holds: object, what: str) -> None:
    """Raise `faulty` unless the first argument is true; what: is wrong then."""
    if not holds:
        raise faulty(what)


@dataclass(frozen=True)
class PictureObject:
    """One labelled object in one picture.

    name: unique in its data set, the same on every machine. picture: its file. category: its class.
    split: "train" or "test". box: left, top, right, bottom in pixels, right and bottom exclusive;
    None is the whole picture. mask: gives (height, width) bool of the whole picture, True on the
    object; None where the data set has no outlines, and the box is the foreground.
    """

    name: str
    picture: Path
    category: str
    split: Split
    box: Box | None = None
    mask: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class ObjectSet:
    """All objects of a data set that are taken, in a fixed order.

    dataset: its name, as tables call it. classes: all of them, in the order of their labels.
    factor: by which a box is enlarged about its center before cropping (Section 4.1).
    left_out: what was not taken, reason -> how many. about: whatever else says how the objects
    were chosen, JSON-able.
    """

    dataset: str
    classes: tuple[str, ...]
    objects: tuple[PictureObject, ...]
    factor: float
    left_out: dict[str, int] = field(default_factory=dict)
    about: dict = field(default_factory=dict)


def check_counts(
    dataset: str, found: Mapping[str, int], expected: Mapping[str, int], partial: bool
) -> dict:
    """`found` and `expected` side by side, for `ObjectSet.about`.

    Raises `KpnbError` for the first count that differs, unless `partial`.
    """
    wrong = [what for what, count in expected.items() if found.get(what, 0) != count]
    for what in wrong:
        here, whole = found.get(what, 0), expected[what]
        told = f"{dataset} has {here:,} {what} here, the complete release has {whole:,}"
        require(partial, f"{told}: unpack it again, or accept an incomplete copy (--partial).")
    return {"found": dict(found), "release": dict(expected), "complete": not wrong}


def rows(path: Path, columns: int, separator: str | None = None) -> list[list[str]]:
    """The lines of a table, each as its columns; empty lines are left out.

    separator: None for any space, of which the last column may hold more. Raises `KpnbError` for a
    file that is missing, empty or not text, and for a line with fewer columns.
    """
    try:
        lines = content(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise faulty(f"{path} is no UTF-8 text") from error
    found = [line.strip().split(separator, columns - 1) for line in lines if line.strip()]
    need(found, f"{path} is empty")
    for number, row in enumerate(found, 1):
        need(len(row) == columns, f"{path} has {len(row)} of {columns} columns in row {number}")
    return found


def keyed(path: Path, columns: int = 2, separator: str | None = None) -> dict[str, list[str]]:
    """`rows` by their first column, which must be unique; raises as `rows` does."""
    found = rows(path, columns, separator)
    table = {row[0]: row[1:] for row in found}
    need(len(table) == len(found), f"{path} names something twice")
    return table


def floats(path: Path, key: str, texts: list[str]) -> list[float]:
    """Finite numbers of the row `key`; KpnbError where one is not."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise faulty(f"{path} has no numbers for {key} but {' '.join(texts)!r}")
    return values


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a table names, which must not leave `folder`."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise KpnbError(f"{name!r} is a path outside of {folder}: do not use this copy.")
    return folder / name


def need_file(file: Path, what: str = "") -> Path:
    """`file`, which has to be there: `KpnbError` says that it is missing, and `what` it is."""
    need(file.is_file(), f"{file} is missing{what and ', '}{what}")
    return file


def content(file: Path, what: str = "") -> bytes:
    """The bytes of a file; `KpnbError` where it is missing or cannot be read."""
    try:
        return need_file(file, what).read_bytes()
    except OSError as error:
        raise faulty(f"{file} cannot be read ({error})", error) from error


def in_both_splits(found: ObjectSet, partial: bool) -> ObjectSet:
    """The set without classes that have no objects in one of the splits; theirs are counted.

    partial: the data set is a part of the release, whose counts are not checked. Raises `KpnbError`
    for such a class unless `partial`, and without any class left.
    """
    has = {split: {o.category for o in found.objects if o.split == split} for split in SPLITS}
    kept = tuple(name for name in found.classes if all(name in has[split] for split in SPLITS))
    absent = [name for name in found.classes if name not in kept]
    if absent and (not partial or not kept):
        told = f"{found.dataset} has no objects of class {absent[0]!r} in both splits here"
        raise KpnbError(f"{told}: unpack it again, or take other classes.")
    taken = tuple(o for o in found.objects if o.category in kept)
    left_out = Counter(found.left_out)
    left_out["class not in both splits"] += len(found.objects) - len(taken)
    return replace(found, classes=kept, objects=taken, left_out=dict(+left_out))


def of_classes(found: ObjectSet, listed: Path, without: bool = False) -> ObjectSet:
    """The set with the classes alone that a file lists, a name a line, or without them; objects of
    others are counted as left out. Raises `KpnbError` for a name that is no class, and where none
    is left."""
    names = [name for (name,) in rows(listed, 1)]
    for name in sorted({*names} - {*found.classes}):
        told = f"{listed} lists {name!r}, which is no class of {found.dataset}"
        raise KpnbError(f"{told}: give names such as {found.classes[0]!r}.")
    kept = tuple(name for name in found.classes if (name in names) != without)
    require(kept, f"{listed} leaves no class of {found.dataset}: list fewer.")
    taken = tuple(one for one in found.objects if one.category in kept)
    left_out = Counter(found.left_out)
    left_out["class not asked for"] += len(found.objects) - len(taken)
    called = f"{found.dataset}, {len(kept)} classes"
    about = found.about | {"of_classes": {"listed": sorted(names), "without": without}}
    if words := dict(zip(found.classes, about.get("words", ()), strict=False)):
        about["words"] = [words[name] for name in kept]
    changed = {"dataset": called, "classes": kept, "objects": taken, "about": about}
    return replace(found, left_out=dict(+left_out), **changed)


def selected(objects: ObjectSet, least: int = 0, most: int | None = None) -> ObjectSet:
    """The objects that are taken, in their order, with what is left out counted.

    least: pixels that the shorter side of an object's box must have; 0 takes all. An object without
    a box is a whole picture and is taken. most: of each class and split, the first so many in the
    order of a hash of their names, so that the choice does not depend on any other object's order;
    None takes all. The small ones are left out first.

    Raises `KpnbError` for arguments out of range, names that are not unique and an object whose
    class is not one of the set's.
    """
    _check(objects, least, most)
    boxes = [(o, o.box or (0, 0, math.inf, math.inf)) for o in objects.objects]
    large = [o for o, box in boxes if min(box[2] - box[0], box[3] - box[1]) >= least]
    kept = large if most is None else _first(large, most)
    left_out = Counter(objects.left_out)
    left_out[f"smaller than {least} pixels"] += len(objects.objects) - len(large)
    left_out[f"over {most} of a class and split"] += len(large) - len(kept)
    return replace(objects, objects=tuple(kept), left_out=dict(+left_out))


def _check(objects: ObjectSet, least: int, most: int | None) -> None:
    require(least >= 0, f"least is {least}: give 0 or a number of pixels.")
    if most is not None and most < 1:
        raise KpnbError(f"most is {most}: give a number of objects, or none for all.")
    names = Counter(o.name for o in objects.objects)
    for name, count in names.most_common(1):
        told = f"{objects.dataset} has {count} objects called {name!r}"
        require(count == 1, f"{told}: get the annotations again.")
    for unknown in sorted({o.category for o in objects.objects} - set(objects.classes)):
        told = f"{objects.dataset} has an object of class {unknown!r}, which is none of its"
        raise KpnbError(f"{told} {len(objects.classes)} classes: get the annotations again.")


def _first(objects: list[PictureObject], most: int) -> list[PictureObject]:
    groups, place = defaultdict(list), lambda name: hashlib.sha256(name.encode()).digest()
    for obj in objects:
        groups[obj.category, obj.split].append(obj.name)
    chosen = {name for names in groups.values() for name in sorted(names, key=place)[:most]}
    return [obj for obj in objects if obj.name in chosen]


def in_picture(box: Box, width: float, height: float, where: str, outside: Outside) -> Box | None:
    """`box` cut to a picture of `width` x `height` pixels; None when nothing of it is left.

    Raises `KpnbError`, naming `where`, for a box without width or height, and, unless `outside` is
    "clip", for one that leaves the picture by more than `TOLERANCE` pixels.
    """
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        if outside == "clip":
            return None
        raise faulty(f"{where} has a box without area, {box}")
    if outside == "refuse" and leaves(box, width, height):
        raise faulty(f"{where} has a box {box} out of its picture of {width} x {height} pixels")
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else None


def leaves(box: Box, width: float, height: float) -> bool:
    """Whether `box` is out of a picture of `width` x `height` pixels by more than `TOLERANCE`."""
    left, top, right, bottom = box
    return min(left, top, width - right, height - bottom) < -TOLERANCE
