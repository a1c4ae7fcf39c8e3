"""What a prepared set of images holds, in numbers: kept in its manifest and printed as a table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from data_prep.crops import CELLS
from kpnb.estimator.units import GridUnits

BATCH = 64  # masks that go to the grid at once


class ForegroundShares:
    """Foreground of one image after the other, overall and on the 16 x 16 grid.

    A cell is foreground when at least half of its pixels are (`GridUnits.foreground`).
    """

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._pixels: list[float] = []
        self._cells: list[float] = []

    def add(self, mask: np.ndarray) -> None:
        """Count a (size, size) bool mask."""
        self._waiting.append(mask)
        if len(self._waiting) == BATCH:
            self._flush()

    def summary(self) -> dict:
        """Mean, least and most of both shares, and images without either kind of cell."""
        self._flush()
        cells = np.array(self._cells)
        return {
            "foreground": _spread(self._pixels),
            f"foreground_{CELLS}x{CELLS}": _spread(self._cells),
            "no_foreground_cell": int((cells == 0).sum()),
            "no_background_cell": int((cells == 1).sum()),
        }

    def _flush(self) -> None:
        if self._waiting:
            masks = np.stack(self._waiting)
            self._pixels += masks.mean((1, 2)).tolist()
            grid = GridUnits(CELLS).foreground(torch.from_numpy(masks))
            self._cells += grid.double().mean(1).tolist()
            self._waiting.clear()


def split_report(labels: Iterable[int], classes: int, shares: ForegroundShares) -> dict:
    """Images, classes that have any, images of a class (least and most) and foreground shares."""
    each = np.bincount(np.fromiter(labels, dtype=np.int64), minlength=classes)
    counts = {
        "images": int(each.sum()),
        "classes": int((each > 0).sum()),
        "per_class": {"least": int(each.min()), "most": int(each.max())},
    }
    return counts | shares.summary()


def table(manifest: dict) -> str:
    """A prepared folder's report as lines of text, a column for each split."""
    splits = manifest["report"]
    head = f"{manifest['dataset']}, {manifest['size']} x {manifest['size']} pixels"
    whole = manifest["about"].get("crop") == "whole"
    head += ", whole pictures" if whole else f", boxes enlarged by {manifest['factor']:g}"
    head += f", foreground: {manifest['foreground']}"
    columns = [_cells(part) for part in splits.values()]
    rows = [("", *splits)] + [(name, *(c[name] for c in columns)) for name in columns[0]]
    lines = [f"{name:<28}" + "".join(f"{cell:>22}" for cell in cells) for name, *cells in rows]
    for reason, count in manifest["left_out"].items():
        lines.append(f"left out, {reason}: {count:,}")
    if not manifest["about"].get("counts", {}).get("complete", True):
        lines.append("incomplete copy: other counts than the release has")
    return "\n".join([head, *lines])


def _cells(part: dict) -> dict[str, str]:
    each, grid = part["per_class"], f"foreground_{CELLS}x{CELLS}"
    return {
        "images": f"{part['images']:,}",
        "classes": f"{part['classes']:,}",
        "images of a class": f"{each['least']:,} to {each['most']:,}",
        "foreground": _share(part["foreground"]),
        f"foreground, {CELLS} x {CELLS} cells": _share(part[grid]),
        "no foreground cell": f"{part['no_foreground_cell']:,}",
        "no background cell": f"{part['no_background_cell']:,}",
    }


def _share(spread: dict[str, float]) -> str:
    return f"{spread['mean']:.3f} ({spread['least']:.2f} to {spread['most']:.2f})"


def _spread(values: list[float]) -> dict[str, float]:
    found = np.array(values)
    return {"mean": found.mean(), "least": found.min(), "most": found.max()}
