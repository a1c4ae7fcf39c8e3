"""A .npy file written row by row, never the whole array in memory.

Crops of many objects, decoded by several threads, in the objects' order.

What a prepared set of images holds, in numbers: kept in its manifest and printed as a table.

The files of one split of a prepared folder.

Data sets whose readers take the publisher's own files: obtain, read, count, say what is there.

Shared by data_prep.sst2, squad and modelnet40. A folder that was found complete gets a small
file saying so, by which kpnb.datasets.places knows it again.

Writing objects of a data set into one prepared folder, which the studies read.

DIR/manifest.json and, for the splits "train" and "test": <split>_pixels.npy (n, 3, s, s) uint8 RGB,
<split>_labels.npy (n,) int64, <split>_masks.npy (n, ceil(s * s / 8)) uint8 (`numpy.packbits` of the
row-major mask) and <split>_names.json. kpnb.datasets.prepared reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import filelock
import numpy as np
import PIL
import torch
from numpy.lib import format as npy

from data_prep.fetch import RemoteFile
from data_prep.objects import (
    FOREGROUNDS,
    Foreground,
    ObjectSet,
    PictureObject,
    UnusableObjectError,
    crop_object,
    selected,
)
from kpnb.datasets.places import CHECKED_FORMAT, MARKER
from kpnb.datasets.prepared import FORMAT, MANIFEST, SPLITS, manifest
from kpnb.errors import KpnbError
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import file_hash, fingerprint
from kpnb.metrics.provenance import track
from kpnb.store import with_ending, write_file


class NpyRows:
    """A uint8 array (rows, *shape) on disk, C order, as `numpy.save` writes it.

    Rows are appended, and the number of rows is put into the header at the end: `most` of them at
    most. A memory map would do, but a disk that fills up kills a process that writes to one.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], most: int) -> None:
        self._shape, self._most, self._rows = shape, most, 0
        self._file = path.open("wb")
        self._write_header(most)

    def add(self, row: np.ndarray) -> None:
        """Append a row; ValueError for another shape or type, or one row too many."""
        if row.shape != self._shape or row.dtype != np.uint8 or self._rows == self._most:
            raise ValueError(f"row {self._rows} is {row.dtype} {row.shape}, not {self._shape}")
        self._file.write(np.ascontiguousarray(row).tobytes())
        self._rows += 1

    def __enter__(self) -> NpyRows:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._finish()

    def _finish(self) -> None:
        begin = self._file.tell() - self._rows * int(np.prod(self._shape))
        self._file.seek(0)
        self._write_header(self._rows)
        # NumPy leaves room for the first axis, so that both headers have the same length.
        if self._file.tell() != begin:
            raise ValueError("the header of the .npy file changed its length")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write_header(self, rows: int) -> None:
        described = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._shape)}
        npy.write_array_header_1_0(self._file, described)


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


CELLS = 16  # a side, the paper's grid (settings of Section 4.1)
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


@dataclass(frozen=True)
class Checked:
    """A data set's folder as its reader found it.

    dataset: its name in tables. folder: what a notebook takes as `data`. layout: which of the
    published forms. classes: their names; none for questions. splits: name -> what to print of
    it, in words. notes: further lines to print. about: JSON-able facts, kept in the marker.
    """

    dataset: str
    folder: Path
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, str]
    notes: tuple[str, ...] = ()
    about: dict = field(default_factory=dict)


# (root, layout, download, partial) -> what was found
Check = Callable[[Path, str, bool, bool], Checked]


@dataclass(frozen=True)
class Shares:
    """Foreground words among all words of some texts, and texts that have both kinds."""

    foreground: int
    words: int
    usable: int
    texts: int

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int]]) -> Shares:
        """Of (foreground words, words) for each text."""
        rows = list(counts)
        usable = sum(0 < marked < words for marked, words in rows)
        return cls(sum(f for f, _ in rows), sum(w for _, w in rows), usable, len(rows))

    def __str__(self) -> str:
        share = self.foreground / self.words if self.words else 0.0
        return (
            f"{share:.1%} of {self.words:,} words are foreground, "
            f"{self.usable:,} of {self.texts:,} texts have foreground and background"
        )


def command(
    check: Check,
    description: str,
    files: dict[str, tuple[RemoteFile, ...]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one data set's script; the exit status: 0, or 2 after an error said in one sentence.

    files: what each layout needs; the first layout is the default.
    """
    options = _options(description, files, arguments)
    try:
        for file in files[options.layout]:
            print(f"{file.name}: {file.licence}; {file.page}")
        found = check(options.root, options.layout, options.download, options.partial)
        if not options.partial:
            write_marker(options.root, found)
    except KpnbError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(_report(found)))
    return 0


def inner_folder(root: Path, name: str, first: str) -> Path:
    """`root`/`name` or `root` itself, whichever has `first`; `root`/`name` if neither."""
    return root if (root / first).exists() and not (root / name).exists() else root / name


def write_marker(root: Path, found: Checked) -> None:
    """Note in `root` that the data set in it is complete, and which folder of it to use."""
    content = {
        "format": CHECKED_FORMAT,
        "dataset": found.dataset,
        "layout": found.layout,
        "folder": os.path.relpath(found.folder, root),
        "splits": found.splits,
        **found.about,
    }
    new = root / f"{MARKER}.new"
    try:
        new.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(new, root / MARKER)
    except OSError as error:
        raise KpnbError(f"{root} cannot be written ({error}): copy it elsewhere.") from error


def _options(
    description: str, files: dict[str, tuple[RemoteFile, ...]], arguments: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set's files")
    parser.add_argument("--download", action="store_true", help="fetch what is missing there")
    layouts = tuple(files)
    parser.add_argument("--layout", choices=layouts, default=layouts[0], help="published form")
    parser.add_argument("--partial", action="store_true", help="accept an incomplete copy")
    return parser.parse_args(arguments)


def _report(found: Checked) -> list[str]:
    lines = [f"{found.dataset}, layout {found.layout}"]
    if found.classes:
        lines.append(f"  {len(found.classes)} classes: {', '.join(found.classes)}")
    lines += [f"  {split}: {text}" for split, text in found.splits.items()]
    lines += [f"  {note}" for note in found.notes]
    return [*lines, f"data={found.folder}"]


# Endings of sibling folders: one under way, and one that --force sets aside for a moment.
PART, ASIDE = ".kpnb-part", ".kpnb-old"
LARGEST = 1024  # pixels a side, the most that the reader takes


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
    data_prep.objects. workers: threads that decode pictures; the result does not depend on it.
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
    with _alone(folder):
        if _there(folder, request, force):
            return folder
        part = with_ending(folder, PART)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _write(objects, part, settings, request, skip, workers)
            _put_in_place(part, folder)
        except OSError as error:
            raise KpnbError(
                f"{folder} cannot be written ({error}): free disk space, or choose another folder "
                "(--out)."
            ) from error
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
            sound = path.is_file() and path.stat().st_size == entry["bytes"]
            if not sound or file_hash(path) != entry["sha256"]:
                raise KpnbError(f"{path} is missing or damaged: prepare it again (--force).")
    return known


def _check(objects: ObjectSet, size: int, foreground: str, workers: int) -> None:
    if not isinstance(size, int) or not CELLS <= size <= LARGEST:
        raise KpnbError(f"size is {size!r}: give {CELLS} to {LARGEST} pixels.")
    if foreground not in FOREGROUNDS:
        raise KpnbError(f"foreground is {foreground!r}: give one of {', '.join(FOREGROUNDS)}.")
    if foreground == "block" and size % (CELLS // 2):
        raise KpnbError(f"size is {size}: the block needs a multiple of {CELLS // 2} pixels.")
    if not isinstance(workers, int) or workers < 0:
        raise KpnbError(f"workers is {workers!r}: give 0 or a number of threads.")
    if not np.isfinite(objects.factor) or objects.factor <= 0:
        raise KpnbError(f"factor is {objects.factor!r}: give a positive number.")
    if foreground == "box" and objects.factor <= 1:
        raise KpnbError(
            f"Boxes enlarged by {objects.factor:g} leave no background around a box: give a larger "
            "factor (--factor), or another foreground (--foreground outline)."
        )


def _request(objects: ObjectSet, settings: dict) -> str:
    """A hash of everything that decides a folder's content, but for the pictures' pixels."""
    # Numbers as text: a box may hold a NaN, which is only found out when it is cropped.
    listed = [
        (o.name, o.category, o.split, str(o.box and tuple(map(float, o.box))), _bytes(o))
        for o in objects.objects
    ]
    return fingerprint(
        {"settings": settings, "objects": listed, "left_out": objects.left_out}
        | {"about": objects.about}
    )


def _bytes(obj: PictureObject) -> int:
    try:
        return obj.picture.stat().st_size
    except OSError as error:
        raise KpnbError(f"{obj.picture} is missing: unpack the data set again.") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One preparation of a folder at a time."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            yield
    except filelock.Timeout:
        raise KpnbError(f"{folder} is being prepared by another process: wait for it.") from None


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
        raise KpnbError(
            f"{folder} is there and is not a prepared folder: choose another folder (--out)."
        ) from error
    if known.get("request") == request and not force:
        verify_prepared(folder)
        return True
    if not force:
        raise KpnbError(
            f"{folder} holds images prepared otherwise: choose another folder (--out), or replace "
            "it (--force)."
        )
    return False


def _write(
    objects: ObjectSet, part: Path, settings: dict, request: str, skip: bool, workers: int
) -> None:
    _check_space(objects, part, settings["size"])
    left_out, report, splits = dict(objects.left_out), {}, {}
    for split in SPLITS:
        chosen = [o for o in objects.objects if o.split == split]
        crop = (objects.factor, settings["size"], settings["foreground"])
        # Closed here: threads that are left to the garbage collector can block it for good.
        with closing(crops(chosen, *crop, workers, split)) as made:
            usable = _usable(made, left_out, skip)
            report[split] = write_split(
                part, split, usable, len(chosen), settings["size"], objects.classes
            )
        splits[split] = {"count": report[split]["images"], "files": split_files(part, split)}
    if all(found["no_background_cell"] == found["images"] for found in report.values()):
        raise KpnbError(
            f"No image of {objects.dataset} has background: enlarge boxes (--factor), or choose "
            "another foreground (--foreground)."
        )
    about = objects.about | {"pillow": PIL.__version__}
    known = {"format": FORMAT} | settings | {"splits": splits, "report": report}
    known |= {"left_out": left_out, "about": about, "request": request}
    write_file(part / MANIFEST, json.dumps(known, indent=1).encode())


def _check_space(objects: ObjectSet, part: Path, size: int) -> None:
    needed = len(objects.objects) * (3 * size**2 + size**2 // 8 + 100)
    free = shutil.disk_usage(part).free
    if needed > free:
        raise KpnbError(
            f"{objects.dataset} takes {needed / 1e9:.1f} GB and {part.parent} has {free / 1e9:.1f} "
            "GB free: choose a folder elsewhere (--out), a smaller --size or --most."
        )


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


def _put_in_place(part: Path, folder: Path) -> None:
    aside = with_ending(folder, ASIDE)
    if folder.exists():
        os.replace(folder, aside)
    os.replace(part, folder)
    shutil.rmtree(aside, ignore_errors=True)
