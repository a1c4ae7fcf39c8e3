"""The files of one split of a prepared folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kpnb.entry_files import write_file
from kpnb.errors import KpnbError
from kpnb.fingerprint import file_hash
from kpnb.prepare.npy_rows import NpyRows
from kpnb.prepare.pictures import Crop
from kpnb.prepare.report import ForegroundShares, split_report


def write_split(
    folder: Path, split: str, made: Iterable[Crop], most: int, size: int, classes: tuple[str, ...]
) -> dict:
    """Write pixels, masks, labels and names of at most `most` crops; returns their report.

    Raises `KpnbError` where there is none, OSError where the disk does not take them.
    """
    number = {name: label for label, name in enumerate(classes)}
    labels, names, shares = [], [], ForegroundShares()
    with (
        NpyRows(folder / f"{split}_pixels.npy", (3, size, size), most) as pixels,
        NpyRows(folder / f"{split}_masks.npy", (-(-size * size // 8),), most) as masks,
    ):
        for crop in made:
            pixels.add(crop.pixels)
            masks.add(np.packbits(crop.mask))
            shares.add(crop.mask)
            labels.append(number[crop.obj.category])
            names.append(crop.obj.name)
    if not names:
        raise KpnbError(
            f"No object is left for the {split} split: unpack the data set again, or leave out "
            "fewer (--least)."
        )
    np.save(folder / f"{split}_labels.npy", np.array(labels, dtype=np.int64))
    write_file(folder / f"{split}_names.json", json.dumps(names).encode())
    return split_report(labels, len(classes), shares)


def split_files(folder: Path, split: str) -> dict[str, dict]:
    """SHA-256 and bytes of a split's files, by name, for the manifest."""
    found = sorted(folder.glob(f"{split}_*"))
    return {p.name: {"sha256": file_hash(p), "bytes": p.stat().st_size} for p in found}
