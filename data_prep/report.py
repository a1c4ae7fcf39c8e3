"""What a prepared set of images holds, in numbers: kept in its manifest and printed as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from data_prep.crops import CELLS
from kpnb.estimator.units import GridUnits


def foreground_shares(mask: np.ndarray) -> tuple[float, float]:
    """Foreground of a (size, size) bool mask: its share of the pixels and of the 16 x 16 cells.

    A cell is foreground when at least half of its pixels are (`GridUnits.foreground`).
    """
    cells = GridUnits(CELLS).foreground(torch.from_numpy(mask[None]))
    return float(mask.mean()), float(cells.double().mean())


def split_report(
    labels: Sequence[int], classes: int, shares: Sequence[tuple[float, float]]
) -> dict:
    """Images, classes that have any, images of a class (least and most) and foreground shares.

    With the images without either kind of cell. shares: `foreground_shares` of each image.
    """
    each = np.bincount(np.array(labels, dtype=np.int64), minlength=classes)
    pixels, cells = np.array(shares).T
    return {
        "images": int(each.sum()),
        "classes": int((each > 0).sum()),
        "per_class": {"least": int(each.min()), "most": int(each.max())},
        "foreground": _spread(pixels),
        f"foreground_{CELLS}x{CELLS}": _spread(cells),
        "no_foreground_cell": int((cells == 0).sum()),
        "no_background_cell": int((cells == 1).sum()),
    }


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


def _spread(found: np.ndarray) -> dict[str, float]:
    return {"mean": found.mean(), "least": found.min(), "most": found.max()}
