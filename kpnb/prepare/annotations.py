"""Annotations in the XML of Pascal VOC, which ILSVRC DET shares, and the checks of every reader.

Boxes are given in pixels from 0, right and bottom exclusive. The XML counts from 1 and includes
the last pixel (VOC2012 development kit, Section 2.5), so left and top are less by one.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # entities are refused before it sees them, see `_root`
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kpnb.errors import KpnbError
from kpnb.prepare.objects import Box, PictureObject

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
