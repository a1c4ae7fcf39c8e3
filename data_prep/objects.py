"""Objects in pictures, as a data set's own annotations have them: what every reader returns.

Whether a copy of a data set is complete, by the counts that its release is known to have.

Reading the text tables that data sets describe themselves with.

Which objects of a data set are prepared: not too small, and not too many of a class.

Annotations in the XML of Pascal VOC, which ILSVRC DET shares, and the checks of every reader.

Boxes are given in pixels from 0, right and bottom exclusive. The XML counts from 1 and includes
the last pixel (VOC2012 development kit, Section 2.5), so left and top are less by one.

Outlines of MS-COCO as masks: polygons, run lengths, and run lengths packed into text.

Run lengths count pixels down the columns, first of background, then of the object, in turn. As text
(rleToString in COCO's maskApi.c) each number, from the fourth on less the one two before, is split
into 5 bits, least first, each with a bit for "more follow", plus 48.

An object in a picture, cut out: pixels of a fixed size and which of them are the object.

Section 4.1 crops objects by their boxes, some enlarged, and takes an outline or the box itself as
foreground. What is ours, or differs from the paper or its published code:

1. The enlarged box is rounded to whole pixels and clipped to the picture. What is clipped is not
   padded, so an object at the picture's edge is not in the middle of its crop.
2. Crops become square by resizing, antialiased bilinear, without keeping the aspect ratio. The
   published code resizes CUB-200-2011 so; of Pascal VOC and ILSVRC DET it takes random crops of a
   larger resized picture in training, which is left to the trainers here.
3. A pixel of the crop is the object where the picture's pixel nearest to it is (outline), or where
   its center lies inside of the box (box). The published code interpolates an outline's grey values
   and takes every value above 0, which widens the outline by up to a pixel.
4. "block" is what the published code takes for ILSVRC DET instead of the box: rows and columns 2 to
   13 of 16 cells, 56.25 % of every crop, though a box enlarged by 1.5 covers 44.4 % of its crop.
5. Pictures are taken as they are stored, since annotations refer to that: a camera's note on how to
   turn a picture is not followed. Transparency is dropped.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from kpnb.errors import KpnbError

Box = tuple[float, float, float, float]
Split = Literal["train", "test"]


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
    if wrong and not partial:
        raise KpnbError(
            f"{dataset} has {found.get(wrong[0], 0):,} {wrong[0]} here, the complete release has "
            f"{expected[wrong[0]]:,}: unpack it again, or accept an incomplete copy (--partial)."
        )
    return {"found": dict(found), "release": dict(expected), "complete": not wrong}


ADVICE = "unpack the data set again"


def rows(path: Path, columns: int, separator: str | None = None) -> list[list[str]]:
    """The lines of a table, each as its columns; empty lines are left out.

    separator: None for any space, of which the last column may hold more. Raises `KpnbError` for a
    file that is missing, empty or not text, and for a line with fewer columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise KpnbError(f"{path} is missing: {ADVICE}.") from None
    except (OSError, ValueError) as error:
        raise KpnbError(f"{path} cannot be read ({error}): {ADVICE}.") from error
    found = [line.strip().split(separator, columns - 1) for line in lines if line.strip()]
    if not found:
        raise KpnbError(f"{path} is empty: {ADVICE}.")
    for number, row in enumerate(found, 1):
        if len(row) != columns:
            raise KpnbError(
                f"{path} has {len(row)} of {columns} columns in row {number}: {ADVICE}."
            )
    return found


def keyed(path: Path, columns: int = 2, separator: str | None = None) -> dict[str, list[str]]:
    """`rows` by their first column, which must be unique; raises as `rows` does."""
    found = rows(path, columns, separator)
    table = {row[0]: row[1:] for row in found}
    if len(table) != len(found):
        raise KpnbError(f"{path} names something twice: {ADVICE}.")
    return table


def floats(path: Path, key: str, texts: list[str]) -> list[float]:
    """Finite numbers of the row `key`; KpnbError where one is not."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise KpnbError(f"{path} has no numbers for {key} but {' '.join(texts)!r}: {ADVICE}.")
    return values


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a table names, which must not leave `folder`."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise KpnbError(f"{name!r} is a path outside of {folder}: do not use this copy.")
    return folder / name


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
    large = [o for o in objects.objects if _shorter(o) >= least]
    kept = large if most is None else _first(large, most)
    left_out = Counter(objects.left_out)
    left_out[f"smaller than {least} pixels"] += len(objects.objects) - len(large)
    left_out[f"over {most} of a class and split"] += len(large) - len(kept)
    counted = {reason: count for reason, count in left_out.items() if count}
    return replace(objects, objects=tuple(kept), left_out=counted)


def _check(objects: ObjectSet, least: int, most: int | None) -> None:
    if least < 0:
        raise KpnbError(f"least is {least}: give 0 or a number of pixels.")
    if most is not None and most < 1:
        raise KpnbError(f"most is {most}: give a number of objects, or none for all.")
    names = Counter(o.name for o in objects.objects)
    if names and (double := names.most_common(1)[0])[1] > 1:
        raise KpnbError(
            f"{objects.dataset} has {double[1]} objects called {double[0]!r}: get the annotations "
            "again."
        )
    if unknown := sorted({o.category for o in objects.objects} - set(objects.classes)):
        raise KpnbError(
            f"{objects.dataset} has an object of class {unknown[0]!r}, which is none of its "
            f"{len(objects.classes)} classes: get the annotations again."
        )


def _shorter(obj: PictureObject) -> float:
    if obj.box is None:
        return float("inf")
    left, top, right, bottom = obj.box
    return min(right - left, bottom - top)


def _first(objects: Iterable[PictureObject], most: int) -> list[PictureObject]:
    objects, groups = list(objects), defaultdict(list)
    for obj in objects:
        groups[obj.category, obj.split].append(obj.name)
    chosen = {name for names in groups.values() for name in sorted(names, key=_place)[:most]}
    return [obj for obj in objects if obj.name in chosen]


def _place(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


# entities are refused before it sees them, see `_root`


Outside = Literal["refuse", "clip"]
TOLERANCE = 1.0  # pixels: annotators' tools round a box at the border in either direction
LARGEST = 2**24  # bytes of an annotation; genuine ones have a few thousand
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_AGAIN = "unpack the data set again"


@dataclass(frozen=True)
class AnnotatedObject:
    """One <object>: number from 1 in the file's order, class, box (None: no pixel in the picture).

    clipped: its box was out of the picture by more than `TOLERANCE` and has been cut.
    """

    number: int
    category: str
    box: Box | None
    difficult: bool
    truncated: bool
    clipped: bool


@dataclass(frozen=True)
class Annotation:
    """One file: the picture's width and height in pixels, as the file says, and its objects."""

    width: int
    height: int
    objects: tuple[AnnotatedObject, ...]


def read_annotation(file: Path, outside: Outside = "refuse") -> Annotation:
    """The picture size and the objects of an XML file in the layout of Pascal VOC.

    outside: what to do with a box that leaves the picture by more than one pixel: "refuse" raises,
    "clip" cuts it (its `box` is None when nothing is left). Up to one pixel is always cut.
    Raises `KpnbError` for a missing or damaged file, one with a DOCTYPE or an entity (they can
    make a parser read other files or fill the memory), a missing or wrong number, and such boxes.
    """
    root = _root(file)
    size = root.find("size")
    width, height = (int(_number(file, size, tag)) for tag in ("width", "height"))
    if width < 1 or height < 1:
        raise KpnbError(f"{file} says a picture of {width} x {height} pixels: {_AGAIN}.")
    nodes = enumerate(root.findall("object"), 1)
    objects = tuple(_object(file, node, i, width, height, outside) for i, node in nodes)
    return Annotation(width, height, objects)


def in_picture(box: Box, width: float, height: float, where: str, outside: Outside) -> Box | None:
    """`box` cut to a picture of `width` x `height` pixels; None when nothing of it is left.

    Raises `KpnbError`, naming `where`, for a box without width or height, and, unless `outside` is
    "clip", for one that leaves the picture by more than `TOLERANCE` pixels.
    """
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        if outside == "clip":
            return None
        raise KpnbError(f"{where} has a box without area, {box}: {_AGAIN}.")
    if outside == "refuse" and leaves(box, width, height):
        raise KpnbError(
            f"{where} has a box {box} out of its picture of {width} x {height} pixels: {_AGAIN}."
        )
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else None


def leaves(box: Box, width: float, height: float) -> bool:
    """Whether `box` is out of a picture of `width` x `height` pixels by more than `TOLERANCE`."""
    left, top, right, bottom = box
    return min(left, top, width - right, height - bottom) < -TOLERANCE


def need_file(file: Path, why: str) -> Path:
    """`file`, which has to be there: `KpnbError` says that it is missing and `why` it is needed."""
    if not file.is_file():
        raise KpnbError(f"{file} is missing, {why}: {_AGAIN}.")
    return file


def lines(file: Path) -> list[str]:
    """The lines of a list, without blanks; `KpnbError` when it is missing, empty or no text."""
    need_file(file, "a list of the data set")
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise KpnbError(f"{file} is no text: {_AGAIN}.") from error
    found = [line for line in found if line]
    if not found:
        raise KpnbError(f"{file} is empty: {_AGAIN}.")
    return found


def in_both_splits(
    objects: list[PictureObject], classes: tuple[str, ...], dataset: str, partial: bool
) -> tuple[list[PictureObject], tuple[str, ...], int]:
    """The objects of classes that have some in both splits, those classes, how many are dropped.

    Raises `KpnbError` for a class without objects in a split unless `partial`, and without any
    class left.
    """
    has = {split: {o.category for o in objects if o.split == split} for split in ("train", "test")}
    kept = tuple(name for name in classes if name in has["train"] and name in has["test"])
    absent = [name for name in classes if name not in kept]
    if absent and (not partial or not kept):
        raise KpnbError(
            f"{dataset} has no objects of class {absent[0]!r} in both splits here: unpack it "
            "again, or take other classes."
        )
    taken = [o for o in objects if o.category in kept]
    return taken, kept, len(objects) - len(taken)


def _root(file: Path) -> ET.Element:
    need_file(file, "an annotation")
    if file.stat().st_size > LARGEST:
        raise KpnbError(f"{file} is too large for an annotation: {_AGAIN}.")
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise KpnbError(f"{file} is no UTF-8 text: {_AGAIN}.") from error
    if _DECLARATION.search(text):
        raise KpnbError(f"{file} declares a DOCTYPE or an entity: do not use this file.")
    try:
        # A str, not bytes: an encoding that the file declares could hide a declaration.
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise KpnbError(f"{file} is damaged ({error}): {_AGAIN}.") from error
    if root.tag != "annotation":
        raise KpnbError(f"{file} is no annotation but a <{root.tag}>: {_AGAIN}.")
    return root


def _object(
    file: Path, node: ET.Element, number: int, width: int, height: int, outside: Outside
) -> AnnotatedObject:
    where = f"{file}, object {number},"
    corners = node.find("bndbox")  # a child: VOC also has boxes of <part>s, deeper
    left, top, right, bottom = (
        _number(file, corners, tag) for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    box = (left - 1, top - 1, right, bottom)
    category = (node.findtext("name") or "").strip()
    if not category:
        raise KpnbError(f"{where} has no name: {_AGAIN}.")
    return AnnotatedObject(
        number,
        category,
        in_picture(box, width, height, where, outside),
        _flag(node, "difficult"),
        _flag(node, "truncated"),
        leaves(box, width, height),
    )


def _flag(node: ET.Element, tag: str) -> bool:
    return (node.findtext(tag) or "0").strip() == "1"


def _number(file: Path, parent: ET.Element | None, tag: str) -> float:
    """The number in child `tag`. VOC2012 has a few boxes with fractions of pixels."""
    text = None if parent is None else parent.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e6:  # also false for NaN
        raise KpnbError(f"{file} has {text!r} where <{tag}> should be a number: {_AGAIN}.")
    return value


def coco_mask(
    segmentation: list | dict, height: int, width: int, where: str = "An outline"
) -> np.ndarray:
    """(height, width) bool of a `segmentation`: polygons [x, y, x, y, ...] or {"size", "counts"}.

    A pixel is in a polygon when its center (column + 0.5, row + 0.5) is, by the even-odd rule, and
    in the outline when it is in any polygon. Raises `KpnbError`, naming `where`, for anything else.
    """
    try:
        if isinstance(segmentation, dict):
            if [*segmentation["size"]] != [height, width]:
                raise ValueError(f"size {segmentation['size']}, its picture {[height, width]}")
            counts = segmentation["counts"]
            counts = run_lengths(counts) if isinstance(counts, str) else counts
            return _from_runs(counts, height, width)
        mask = np.zeros((height, width), dtype=bool)
        for polygon in segmentation:
            mask |= _from_polygon(np.asarray(polygon, dtype=float), height, width)
        return mask
    except (KeyError, TypeError, ValueError) as error:
        raise KpnbError(
            f"{where} has an outline that cannot be read ({error}): unpack the data set again."
        ) from error


def run_lengths(text: str) -> list[int]:
    """The run lengths that `text` packs. Raises `ValueError` for text that packs none."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"no packed run lengths: {text[:20]!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("packed run lengths that end in the middle of a number")
    return counts


def _from_runs(counts: Sequence[int], height: int, width: int) -> np.ndarray:
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind != "i":
        raise ValueError("run lengths that are no whole numbers")
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths that do not make {height * width} pixels")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def _from_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool: the even-odd rule at pixel centers."""
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError("a polygon without three points")
    mask = np.zeros((height, width), dtype=bool)
    x, y = points[::2], points[1::2]
    # Nothing outside of the polygon's own rows and columns can be in it.
    rows, columns = _mask_span(y, height), _mask_span(x, width)
    mask[rows, columns] = _odd(
        x - columns.start, y - rows.start, rows.stop - rows.start, columns.stop - columns.start
    )
    return mask


def _mask_span(values: np.ndarray, length: int) -> slice:
    first = int(np.clip(np.floor(values.min()), 0, length))
    return slice(first, int(np.clip(np.ceil(values.max()), first, length)))


def _odd(x: np.ndarray, y: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which pixel centers have an odd number of the polygon's edges on their left."""
    centers = np.arange(height)[:, None] + 0.5
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    rows, edges = np.nonzero((y <= centers) != (y2 <= centers))
    share = (rows + 0.5 - y[edges]) / (y2 - y)[edges]
    crossing = x[edges] + share * (x2 - x)[edges]
    # The first pixel whose center is not left of the edge; `width` when there is none.
    first = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    turns = np.zeros((height, width + 1), dtype=np.int64)
    np.add.at(turns, (rows, first), 1)
    return np.cumsum(turns[:, :-1], axis=1) % 2 == 1


Frame = tuple[int, int, int, int]
FOREGROUNDS = ("outline", "box", "block")
CELLS, BLOCK = 16, (2, 14)  # the published code's block: cells 2 to 13 of 16, each way
# Modes that convert to 8 bits a channel; others hold larger numbers, which would be cut off.
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
# What Pillow raises for files that are damaged, truncated, foreign or too large.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error)
_BROKEN += (zlib.error, OverflowError, Image.DecompressionBombError)


class UnusableObjectError(KpnbError):
    """An object whose annotation gives no crop; `reason` says in a few words why."""

    def __init__(self, obj: PictureObject, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{obj.name} in {obj.picture} has {reason}: get the annotations again, or leave such "
            "objects out (--skip)."
        )


def crop_object(
    obj: PictureObject, factor: float, size: int, foreground: Foreground
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3, size, size) uint8 RGB of the object's crop, and its mask (size, size) bool.

    factor: by which the box is enlarged, width and height each, about its center. foreground:
    "outline" (the object's own mask), "box" or "block" (see the module).

    Raises `UnusableObjectError` for an empty box, a box outside of the picture and a mask without
    a pixel in the crop, `KpnbError` for a picture or mask that cannot be read and a mask of another
    size than its picture.
    """
    picture = read_picture(obj.picture)
    box = (0, 0, *picture.size) if obj.box is None else obj.box
    _check_box(obj, box, picture.size)
    frame = window(box, factor, *picture.size)
    small = picture.crop(frame).resize((size, size), Image.Resampling.BILINEAR)
    mask = _mask(obj, box, frame, size, foreground, picture.size)
    if not mask.any():
        raise UnusableObjectError(obj, "no foreground in its crop")
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1)), mask


def window(box: Box, factor: float, width: int, height: int) -> Frame:
    """The enlarged box in whole pixels: left, top, right, bottom, inside of the picture.

    Edges are rounded to the nearest pixel edge; at least one pixel remains.
    """
    left, right = _span(box[0], box[2], factor, width)
    top, bottom = _span(box[1], box[3], factor, height)
    return left, top, right, bottom


def read_picture(path: Path, mode: str = "RGB") -> Image.Image:
    """A picture file, decoded, in `mode` ("RGB", or "L" for grey values).

    Raises `KpnbError` for a file that is missing, truncated, no picture, larger than Pillow's limit
    against decompression bombs, or of more than 8 bits a channel.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in MODES:
                raise KpnbError(f"{path} has pixels of kind {picture.mode!r}: give 8-bit pictures.")
            return picture.convert(mode)
    except KpnbError:
        raise
    except FileNotFoundError as error:
        raise KpnbError(f"{path} is missing: unpack the data set again.") from error
    except _BROKEN as error:
        raise KpnbError(
            f"{path} cannot be read as a picture ({error}): unpack or fetch the data set again."
        ) from error


def _span(low: float, high: float, factor: float, length: int) -> tuple[int, int]:
    middle, half = (low + high) / 2, factor * (high - low) / 2
    first = min(max(math.floor(middle - half + 0.5), 0), length - 1)
    last = min(max(math.floor(middle + half + 0.5), first + 1), length)
    return first, last


def _check_box(obj: PictureObject, box: Box, size: tuple[int, int]) -> None:
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)) or left >= right or top >= bottom:
        raise UnusableObjectError(obj, "an empty box")
    if left >= size[0] or top >= size[1] or right <= 0 or bottom <= 0:
        raise UnusableObjectError(obj, "a box outside of the picture")


def _mask(
    obj: PictureObject, box: Box, frame: Frame, size: int, foreground: str, picture: tuple[int, int]
) -> np.ndarray:
    if foreground == "block":
        inside = np.isin(np.arange(size) * CELLS // size, np.arange(*BLOCK))
        return np.logical_and.outer(inside, inside)
    if foreground == "box":
        rows = _inside(box[1], box[3], frame[1], frame[3], size)
        return np.logical_and.outer(rows, _inside(box[0], box[2], frame[0], frame[2], size))
    rows, columns = _nearest(frame[1], frame[3], size), _nearest(frame[0], frame[2], size)
    return _outline(obj, picture)[np.ix_(rows, columns)]


def _inside(low: float, high: float, first: int, last: int, size: int) -> np.ndarray:
    """Which of `size` pixels across the crop have their center in [low, high) of the picture."""
    centers = first + (np.arange(size) + 0.5) * (last - first) / size
    return (low <= centers) & (centers < high)


def _nearest(first: int, last: int, size: int) -> np.ndarray:
    """For each of `size` pixels across the crop, the picture's pixel that its center lies in."""
    return first + (2 * np.arange(size) + 1) * (last - first) // (2 * size)


def _outline(obj: PictureObject, picture: tuple[int, int]) -> np.ndarray:
    if obj.mask is None:
        raise KpnbError(f"{obj.name} has no outline: choose another foreground (--foreground box).")
    try:
        mask = np.asarray(obj.mask())
    except OSError as error:
        raise KpnbError(
            f"The outline of {obj.name} cannot be read ({error}): unpack the data set again."
        ) from error
    if mask.dtype != bool or mask.shape != picture[::-1]:
        raise KpnbError(
            f"The outline of {obj.name} is {mask.dtype} {mask.shape}, not bool {picture[::-1]} as "
            f"{obj.picture} is: get the annotations again."
        )
    return mask


Foreground = Literal["outline", "box", "block"]
