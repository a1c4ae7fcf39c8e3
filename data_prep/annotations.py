"""Annotations: the XML of Pascal VOC, which ILSVRC DET shares, and the outlines of MS-COCO.

Boxes are given in pixels from 0, right and bottom exclusive. The XML counts from 1 and includes
the last pixel (VOC2012 development kit, Section 2.5), so left and top are less by one.

Outlines are polygons, run lengths, or run lengths packed into text. Run lengths count pixels down
the columns, first of background, then of the object, in turn. As text (rleToString in COCO's
maskApi.c) each number, from the fourth on less the one two before, is split into 5 bits, least
first, each with a bit for "more follow", plus 48.
"""

import re
import xml.etree.ElementTree as ET  # entities are refused before it sees them, see `_root`
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.objects import Box, faulty, need_file
from kpnb.errors import KpnbError

Outside = Literal["refuse", "clip"]
TOLERANCE = 1.0  # pixels: annotators' tools round a box at the border in either direction
MOST_BYTES = 2**24  # bytes of an annotation; genuine ones have a few thousand
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


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
    "clip" cuts it (to None when nothing is left). Up to one pixel is always cut.
    Raises `KpnbError` for a missing or damaged file, one with a DOCTYPE or an entity (they can
    make a parser read other files or fill the memory), a missing or wrong number, and such boxes.
    """
    root = _root(file)
    size = root.find("size")
    width, height = (int(_number(file, size, tag)) for tag in ("width", "height"))
    if width < 1 or height < 1:
        raise faulty(f"{file} says a picture of {width} x {height} pixels")
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
        raise faulty(f"{where} has a box without area, {box}")
    if outside == "refuse" and leaves(box, width, height):
        raise faulty(f"{where} has a box {box} out of its picture of {width} x {height} pixels")
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    return cut if cut[0] < cut[2] and cut[1] < cut[3] else None


def leaves(box: Box, width: float, height: float) -> bool:
    """Whether `box` is out of a picture of `width` x `height` pixels by more than `TOLERANCE`."""
    left, top, right, bottom = box
    return min(left, top, width - right, height - bottom) < -TOLERANCE


def _root(file: Path) -> ET.Element:
    need_file(file, "an annotation")
    if file.stat().st_size > MOST_BYTES:
        raise faulty(f"{file} is too large for an annotation")
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise faulty(f"{file} is no UTF-8 text") from error
    if _DECLARATION.search(text):
        raise KpnbError(f"{file} declares a DOCTYPE or an entity: do not use this file.")
    try:
        # A str, not bytes: an encoding that the file declares could hide a declaration.
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise faulty(f"{file} is damaged ({error})") from error
    if root.tag != "annotation":
        raise faulty(f"{file} is no annotation but a <{root.tag}>")
    return root


def _object(
    file: Path, node: ET.Element, number: int, width: int, height: int, outside: Outside
) -> AnnotatedObject:
    where = f"{file}, object {number},"
    corners = node.find("bndbox")  # a child: VOC also has boxes of <part>s, deeper
    edges = {"xmin": -1, "ymin": -1, "xmax": 0, "ymax": 0}
    box = tuple(_number(file, corners, tag) + less for tag, less in edges.items())
    category = (node.findtext("name") or "").strip()
    if not category:
        raise faulty(f"{where} has no name")
    flags = ((node.findtext(tag) or "0").strip() == "1" for tag in ("difficult", "truncated"))
    inside = in_picture(box, width, height, where, outside)
    return AnnotatedObject(number, category, inside, *flags, leaves(box, width, height))


def _number(file: Path, parent: ET.Element | None, tag: str) -> float:
    """The number in child `tag`. VOC2012 has a few boxes with fractions of pixels."""
    text = None if parent is None else parent.findtext(tag)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e6:  # also false for NaN
        raise faulty(f"{file} has {text!r} where <{tag}> should be a number")
    return value


# Outlines of MS-COCO


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
        raise faulty(f"{where} has an outline that cannot be read ({error})") from error


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
    x, y = points[::2], points[1::2]
    # Nothing outside of the polygon's own rows and columns can be in it.
    top, bottom, left, right = *_span(y, height), *_span(x, width)
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = _odd(x - left, y - top, bottom - top, right - left)
    return mask


def _span(values: np.ndarray, length: int) -> tuple[int, int]:
    first = int(np.clip(np.floor(values.min()), 0, length))
    return first, int(np.clip(np.ceil(values.max()), first, length))


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
