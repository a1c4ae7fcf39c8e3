"""The XML annotations of Pascal VOC, whose layout ILSVRC DET shares.

Boxes are given in pixels from 0, right and bottom exclusive. The XML counts from 1 and includes
the last pixel (VOC2012 development kit, Section 2.5), so left and top are less by one.
"""

import re
import xml.etree.ElementTree as ET  # entities are refused before it sees them, see `_root`
from dataclasses import dataclass
from pathlib import Path

from data_prep.objects import Box, Outside, content, faulty, in_picture, leaves, need, need_file
from kpnb.errors import KpnbError

MOST_BYTES = 2**24  # bytes of an annotation; genuine ones have a few thousand
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True)
class AnnotatedObject:
    """One <object>: number from 1 in the file's order, class, box (None: no pixel in the picture).

    clipped: its box was out of the picture by more than `data_prep.objects.TOLERANCE` and was cut.
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
    need(width >= 1 and height >= 1, f"{file} says a picture of {width} x {height} pixels")
    nodes = enumerate(root.findall("object"), 1)
    objects = tuple(_object(file, node, i, width, height, outside) for i, node in nodes)
    return Annotation(width, height, objects)


def _root(file: Path) -> ET.Element:
    size = need_file(file, "an annotation").stat().st_size
    need(size <= MOST_BYTES, f"{file} is too large for an annotation")
    try:
        text = content(file).decode("utf-8")
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
    need(category, f"{where} has no name")
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
    need(abs(value) < 1e6, f"{file} has {text!r} where <{tag}> should be a number")
    return value
