"""Writing objects of a data set into one prepared folder, which the studies read.

DIR/manifest.json and, for the splits "train" and "test": <split>_pixels.npy (n, 3, s, s) uint8 RGB,
<split>_labels.npy (n,) int64, <split>_masks.npy (n, ceil(s * s / 8)) uint8 (`numpy.packbits` of the
row-major mask) and <split>_names.json. kpnb.datasets.prepared reads it.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.lib import format as npy

from data_prep.crops import CELLS, FOREGROUNDS, Crop, Foreground, UnusableObjectError, crops
from data_prep.fetch import require_space
from data_prep.objects import ObjectSet, need_file, selected
from kpnb.datasets.prepared import FORMAT, MANIFEST, manifest
from kpnb.datasets.samples import SPLITS
from kpnb.errors import KpnbError, require
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import file_hash, fingerprint
from kpnb.store import locked, put_in_place, with_ending, write_file

# Endings of sibling folders: one under way, and one that --force sets aside for a moment.
PART, ASIDE = ".kpnb-part", ".kpnb-old"
MOST_PIXELS = 1024  # pixels a side, the most that the reader takes


def prepare_images(
    objects: ObjectSet,
    folder: Path,
    size: int = 224,
    foreground: Foreground = "outline",
    workers: int = 0,
    *,
    name: str = "",
    least: int = 0,
    most: int | None = None,
    skip: bool = False,
    force: bool = False,
) -> Path:
    """Crop every object, write the prepared folder and return it.

    size: pixels a side, 16 to 1024; 224 is the paper's networks'. foreground: see
    data_prep.crops. workers: threads that decode pictures; the result does not depend on it.
    name: short name of the data set. least, most: see data_prep.objects. skip: leave out, and
    count, objects whose annotation gives no crop, instead of stopping; a picture that cannot be
    read always stops. force: make it again, in the place of a prepared folder that is there.

    A folder that holds what the same request made is verified by its SHA-256 and not made again.
    Nothing lies at `folder` before it is whole; what a killed run leaves beside it is removed by
    the next. Raises `KpnbError` for arguments out of range, objects without a class, a split
    without objects, pictures that are missing, unusable or leave no background anywhere, too
    little disk space, and a folder that is something else.
    """
    folder = Path(folder).absolute()
    _check(objects, size, foreground, workers)
    objects = selected(objects, least, most)
    settings = dict(dataset=objects.dataset, name=name, size=size, factor=objects.factor)
    settings |= dict(foreground=foreground, classes=list(objects.classes))
    request = _request(objects, settings | dict(skip=skip))
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock, f"prepares {folder}", "choose another folder (--out)"):
        if _there(folder, request, force):
            return folder
        part = with_ending(folder, PART)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _write(objects, part, settings, request, skip, workers)
            put_in_place(part, folder, ASIDE)
        except OSError as error:
            told = f"{folder} cannot be written ({error}): free disk space"
            raise KpnbError(f"{told}, or choose another folder (--out).") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def verify_prepared(folder: Path) -> dict:
    """The manifest of a prepared folder, once every file has the size and SHA-256 in it.

    Raises `KpnbError` for the first file that is missing or differs, and as `manifest` does.
    """
    known = manifest(folder)
    for split in SPLITS:
        for file, entry in known["splits"][split]["files"].items():
            path = Path(folder) / file
            if not path.is_file() or _described(path) != entry:
                raise KpnbError(f"{path} is missing or damaged: prepare it again (--force).")
    return known


def _check(objects: ObjectSet, size: int, foreground: str, workers: int) -> None:
    if not isinstance(size, int) or not CELLS <= size <= MOST_PIXELS:
        raise KpnbError(f"size is {size!r}: give {CELLS} to {MOST_PIXELS} pixels.")
    if foreground not in FOREGROUNDS:
        raise KpnbError(f"foreground is {foreground!r}: give one of {', '.join(FOREGROUNDS)}.")
    if foreground == "block" and size % (CELLS // 2):
        raise KpnbError(f"size is {size}: the block needs a multiple of {CELLS // 2} pixels.")
    if not isinstance(workers, int) or workers < 0:
        raise KpnbError(f"workers is {workers!r}: give 0 or a number of threads.")
    if not np.isfinite(objects.factor) or objects.factor <= 0:
        raise KpnbError(f"factor is {objects.factor!r}: give a positive number.")
    told = f"Boxes enlarged by {objects.factor:g} leave no background around a box: give a larger "
    told += "factor (--factor), or another foreground (--foreground outline)."
    require(foreground != "box" or objects.factor > 1, told)


def _request(objects: ObjectSet, settings: dict) -> str:
    """A hash of everything that decides a folder's content, but for the pictures' pixels."""
    # Numbers as text: a box may hold a NaN, which is only found out when it is cropped.
    listed = [
        (o.name, o.category, o.split, str(o.box and tuple(map(float, o.box))))
        + (need_file(o.picture).stat().st_size,)
        for o in objects.objects
    ]
    about = {"left_out": objects.left_out, "about": objects.about}
    return fingerprint({"settings": settings, "objects": listed} | about)


def _there(folder: Path, request: str, force: bool) -> bool:
    """Whether `folder` already holds the request; KpnbError where something else is in the way."""
    aside = with_ending(folder, ASIDE)
    if aside.is_dir() and not folder.exists():
        os.replace(aside, folder)  # killed between the two renames
    shutil.rmtree(aside, ignore_errors=True)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        known = manifest(folder)
    except KpnbError as error:
        told = f"{folder} is there and is not a prepared folder"
        raise KpnbError(f"{told}: choose another folder (--out).") from error
    if force:
        return False
    told = f"{folder} holds images prepared otherwise: choose another folder (--out), or replace it"
    require(known.get("request") == request, f"{told} (--force).")
    verify_prepared(folder)
    return True


def _write(
    objects: ObjectSet, part: Path, settings: dict, request: str, skip: bool, workers: int
) -> None:
    needed = len(objects.objects) * (3 * settings["size"] ** 2 + settings["size"] ** 2 // 8 + 100)
    require_space(
        part.parent, needed, "choose a folder elsewhere (--out), a smaller --size or --most"
    )
    left_out, report, splits = dict(objects.left_out), {}, {}
    for split in SPLITS:
        chosen = [o for o in objects.objects if o.split == split]
        crop = (objects.factor, settings["size"], settings["foreground"])
        # Closed here: threads that are left to the garbage collector can block it for good.
        with closing(crops(chosen, *crop, workers, split)) as made:
            taken = _usable(made, left_out, skip)
            report[split] = _write_split(part, split, taken, len(chosen), settings)
        written = {p.name: _described(p) for p in sorted(part.glob(f"{split}_*"))}
        splits[split] = {"count": report[split]["images"], "files": written}
    some = any(found["no_background_cell"] < found["images"] for found in report.values())
    told = f"No image of {objects.dataset} has background: enlarge boxes (--factor), or choose"
    require(some, f"{told} another foreground (--foreground).")
    about = objects.about | {"pillow": PIL.__version__}
    known = {"format": FORMAT} | settings | {"splits": splits, "report": report}
    known |= {"left_out": left_out, "about": about, "request": request}
    write_file(part / MANIFEST, json.dumps(known, indent=1).encode())


def _usable(
    made: Iterator[Crop | UnusableObjectError], left_out: dict[str, int], skip: bool
) -> Iterator[Crop]:
    for crop in made:
        if not isinstance(crop, UnusableObjectError):
            yield crop
        elif skip:
            left_out[crop.reason] = left_out.get(crop.reason, 0) + 1
        else:
            raise crop


def _write_split(folder: Path, split: str, made: Iterable[Crop], most: int, settings: dict) -> dict:
    """Write pixels, masks, labels and names of at most `most` crops; returns their report.

    Raises `KpnbError` where there is none, OSError where the disk does not take them.
    """
    size, classes = settings["size"], settings["classes"]
    labels, names, shares = [], [], []
    with (
        npy_rows(folder / f"{split}_pixels.npy", (3, size, size), most) as add_pixels,
        npy_rows(folder / f"{split}_masks.npy", (-(-size * size // 8),), most) as add_mask,
    ):
        for crop in made:
            add_pixels(crop.pixels)
            add_mask(np.packbits(crop.mask))
            shares.append(foreground_shares(crop.mask))
            labels.append(classes.index(crop.obj.category))
            names.append(crop.obj.name)
    told = f"No object is left for the {split} split: leave out fewer (--least, --skip), or choose"
    require(names, f"{told} another foreground (--foreground).")
    np.save(folder / f"{split}_labels.npy", np.array(labels, dtype=np.int64))
    write_file(folder / f"{split}_names.json", json.dumps(names).encode())
    return split_report(labels, len(classes), shares)


def _described(file: Path) -> dict:
    return {"sha256": file_hash(file), "bytes": file.stat().st_size}


@contextmanager
def npy_rows(path: Path, shape: tuple[int, ...], most: int) -> Iterator[Callable]:
    """A uint8 array (rows, *shape) on disk, C order, as `numpy.save` writes it, row by row.

    Gives a function that appends a row: at most `most` of them; their number is put into the header
    at the end. A memory map would do, but a disk that fills up kills a process that writes to one.
    Raises `ValueError` for a row of another shape or type, or one too many.
    """
    rows = 0

    def head(count: int) -> int:
        told = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        npy.write_array_header_1_0(file, told)
        return file.tell()

    def add(row: np.ndarray) -> None:
        nonlocal rows
        if row.shape != shape or row.dtype != np.uint8 or rows == most:
            raise ValueError(f"row {rows} is {row.dtype} {row.shape}, not {shape}")
        file.write(np.ascontiguousarray(row).tobytes())
        rows += 1

    with path.open("wb") as file:
        begin = head(most)
        yield add
        file.seek(0)
        # NumPy leaves room for the first axis, so that both headers have the same length.
        if head(rows) != begin:
            raise ValueError("the header of the .npy file changed its length")
        file.flush()
        os.fsync(file.fileno())


# What the folder holds, in numbers: kept in its manifest and printed as a table


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
    pixels, cells = map(np.array, zip(*shares, strict=True))
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
