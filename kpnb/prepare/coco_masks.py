"""Outlines of MS-COCO as masks: polygons, run lengths, and run lengths packed into text.

Run lengths count pixels down the columns, first of background, then of the object, in turn. As text
(rleToString in COCO's maskApi.c) each number, from the fourth on less the one two before, is split
into 5 bits, least first, each with a bit for "more follow", plus 48.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kpnb.errors import KpnbError


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
    rows, columns = _span(y, height), _span(x, width)
    mask[rows, columns] = _odd(
        x - columns.start, y - rows.start, rows.stop - rows.start, columns.stop - columns.start
    )
    return mask


def _span(values: np.ndarray, length: int) -> slice:
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
