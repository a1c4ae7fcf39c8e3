"""An object in a picture, cut out: pixels of a fixed size and which of them are the object.

Section 4.1 crops objects by their boxes, some enlarged, and takes an outline or the box itself as
foreground. What is ours, or differs from the paper or its published code:

1. The enlarged box is rounded to whole pixels and clipped to the picture. What is clipped is not
   padded, so an object at the picture's edge is not in the middle of its crop.
2. Crops become square by resizing, antialiased bilinear, without keeping the aspect ratio, as in
   the published code for CUB-200-2011; its random crops of VOC and DET are left to the trainers.
3. A pixel of the crop is the object where the picture's pixel nearest to it is (outline), or where
   its center lies inside of the box (box). The published code interpolates outlines and takes
   every value above 0, which widens them by up to a pixel.
4. "block" is what the published code takes for ILSVRC DET instead of the box: rows and columns 2 to
   13 of 16 cells, 56.25 % of every crop, though a box enlarged by 1.5 covers 44.4 % of its crop.
5. Pictures are taken as they are stored, since annotations refer to that: a camera's note on how to
   turn a picture is not followed. Transparency is dropped.
"""

import math
import struct
import zlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data_prep.objects import Box, PictureObject, faulty, need_file
from kpnb.errors import KpnbError, require
from kpnb.fingerprint import track

Foreground = Literal["outline", "box", "block"]
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

    def __init__(self, obj: PictureObject, reason: str, instead: str = "") -> None:
        self.reason = reason
        super().__init__(
            f"{obj.name} in {obj.picture} has {reason}: leave such objects out (--skip){instead}."
        )


def crop_object(
    obj: PictureObject, factor: float, size: int, foreground: Foreground
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (3, size, size) uint8 RGB of the object's crop, and its mask (size, size) bool.

    factor: by which the box is enlarged, width and height each, about its center. foreground:
    "outline" (the object's own mask), "box" or "block" (see the module).

    Raises `UnusableObjectError` for an empty box, a box outside of the picture, no mask and one
    without a pixel in the crop, `KpnbError` for a picture or mask that cannot be read and a mask of
    another size than its picture.
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
        with Image.open(need_file(path)) as picture:
            if picture.mode not in MODES:
                raise KpnbError(f"{path} has pixels of kind {picture.mode!r}: give 8-bit pictures.")
            return picture.convert(mode)
    except KpnbError:
        raise
    except _BROKEN as error:
        raise faulty(f"{path} cannot be read as a picture ({error})", error) from error


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
        raise UnusableObjectError(obj, "no outline", ", or take boxes (--foreground box)")
    try:
        mask = np.asarray(obj.mask())
    except OSError as error:
        raise faulty(f"The outline of {obj.name} cannot be read ({error})", error) from error
    told = f"The outline of {obj.name} is {mask.dtype} {mask.shape}, not bool {picture[::-1]}"
    fits = mask.dtype == bool and mask.shape == picture[::-1]
    require(fits, f"{told} as {obj.picture} is: get the annotations again.")
    return mask


AHEAD = 4  # crops a thread may be ahead of the writer, which bounds memory


@dataclass(frozen=True)
class Crop:
    """An object with its pixels (3, size, size) uint8 and mask (size, size) bool."""

    obj: PictureObject
    pixels: np.ndarray
    mask: np.ndarray


def crops(
    objects: Sequence[PictureObject],
    factor: float,
    size: int,
    foreground: Foreground,
    workers: int = 0,
    title: str = "images",
) -> Generator[Crop | UnusableObjectError, None, None]:
    """`crop_object` of each object, in their order, with a progress bar called `title`.

    workers: threads (Pillow decodes and resizes outside of Python's lock); 0 uses none. An object
    whose annotation gives no crop comes out as its error. Close the generator
    (`contextlib.closing`) unless it is used up, so that its threads end there and then.
    Raises `KpnbError` as `crop_object` does.
    """

    def crop(obj: PictureObject) -> Crop | UnusableObjectError:
        try:
            return Crop(obj, *crop_object(obj, factor, size, foreground))
        except UnusableObjectError as error:
            return error

    if not workers:
        yield from map(crop, track(objects, title))
        return
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future] = deque()
        for obj in track(objects, title):
            under_way.append(pool.submit(crop, obj))
            if len(under_way) > AHEAD * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
