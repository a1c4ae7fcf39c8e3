"""ModelNet10's occupancy grids: points drawn on them, in the layout of ModelNet40's HDF5 files.

ROOT/modelnet10.npz has X_train and X_test, (n, 30, 30, 30), not 0 where a shape is and with z up,
and y_train and y_test, positions in `CLASSES`: meshes of ModelNet10 (Wu et al., CVPR 2015) made
into cells by others. It is not fetched. Written to ROOT/modelnet10_points, which the studies read.

1. The points are derived: 2,048 a shape, uniform on the faces between its cells and empty ones, so
   that they tell a shape to about a thirtieth of its size, and flat faces are steps. Faces within a
   hollow shape count, too.
2. Shapes without a cell are left out.

    python -m data_prep.modelnet10 --root DIR [--help]
"""

import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep import modelnet40
from data_prep.command import Checked, main
from data_prep.objects import check_counts
from kpnb.datasets.modelnet40 import DERIVED, NAMES, SAMPLED, named_generator, z_up_to_y_up
from kpnb.datasets.samples import SPLITS, unit_sphere
from kpnb.errors import KpnbError, remedy, require
from kpnb.store import put_in_place

NAME = "modelnet10"
DATASET = "ModelNet10"
GRIDS = "modelnet10.npz"
CLASSES = ("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table",
           "toilet")  # fmt: skip
FILES = {"grids": ()}
FOLDERS = {"grids": ("modelnet10_points", NAMES)}
COUNTS = {"classes": 10, "train shapes": 3984, "test shapes": 907}  # that have a cell
TOLD = f"{DATASET}, points drawn on occupancy grids"


def check(folder: Path, layout: str, partial: bool) -> Checked:
    """Draw the points if `folder` has none, and count its shapes as `modelnet40.check` does.

    layout: "grids". Raises `KpnbError` for grids that are missing or damaged, and for other counts
    than `COUNTS` unless `partial`.
    """
    if not (folder / NAMES).is_file():
        grids, new = folder.parent / GRIDS, folder.with_name(f"{folder.name}.new")
        require(grids.is_file(), f"{grids} is missing: put ModelNet10's occupancy grids there.")
        with _writing(new):
            write_points(grids, new)
            put_in_place(new, folder)
    found = modelnet40.check(folder, "hdf5", partial=True)
    counts = {"classes": len(found.classes), **found.counts}
    check_counts(DATASET, counts, COUNTS, partial)
    return replace(found, notes=(*found.notes, f"{TOLD}: no points of the publisher's"))


def write_points(grids: Path, folder: Path) -> None:
    """The files of ModelNet40's HDF5 release, and one that says what the points are, in `folder`.

    A shape's points depend on its split and position alone. Raises as `check` does.
    """
    for split in SPLITS:
        cells, labels = _grids(grids, split)
        kept = np.flatnonzero(cells.any(axis=(1, 2, 3)))
        shapes = [grid_points(cells[i], named_generator(f"{split}/{i}")) for i in kept]
        file = f"ply_data_{split}0.h5"
        _write(folder / file, z_up_to_y_up(unit_sphere(np.stack(shapes))), labels[kept])
        (folder / f"{split}_files.txt").write_text(f"{file}\n")
    (folder / DERIVED).write_text(f"{TOLD}\n")
    (folder / NAMES).write_text("\n".join(CLASSES) + "\n")


def grid_points(cells: np.ndarray, rng: np.random.Generator, count: int = SAMPLED) -> np.ndarray:
    """(count, 3) points, independent and uniform on the faces between full and empty cells.

    cells: (a, b, c) bool, at least one of them full; cell (i, j, k) is the unit cube whose least
    corner is (i, j, k), and what lies outside the grid is empty.
    """
    around = np.pad(cells, 1)
    inner = (slice(1, -1),) * 3
    faces = []
    for axis in range(3):
        for step in (0, 1):
            empty = ~np.roll(around, 1 - 2 * step, axis)[inner]
            at = np.argwhere(cells & empty)
            at[:, axis] += step
            faces.append(np.concatenate([at, np.full((len(at), 1), axis)], axis=1))
    chosen = np.concatenate(faces)[rng.integers(sum(map(len, faces)), size=count)]
    spread = rng.random((count, 3))
    spread[np.arange(count), chosen[:, 3]] = 0.0
    return chosen[:, :3] + spread


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """An empty folder, gone afterwards; errors of the disk become sentences."""
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir()
        yield
    except OSError as error:
        told = f"{folder} cannot be written ({error})"
        raise KpnbError(f"{told}: {remedy(error, 'copy the grids elsewhere')}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _grids(file: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, a, b, c) bool cells and (n,) labels of a split."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            cells, labels = arrays[f"X_{split}"] != 0, arrays[f"y_{split}"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        told = f"{file} has no arrays X_{split} and y_{split} ({error})"
        raise KpnbError(f"{told}: {remedy(error, 'get it again')}.") from error
    fits = cells.ndim == 4 and labels.shape == (len(cells),) and labels.dtype.kind in "iu"
    fits = fits and len(labels) and labels.min() >= 0 and labels.max() < len(CLASSES)
    told = f"{file} has {split} grids of shape {cells.shape} and labels of shape {labels.shape}"
    require(fits, f"{told} or outside the {len(CLASSES)} classes: get it again.")
    return cells, labels


def _write(file: Path, points: np.ndarray, labels: np.ndarray) -> None:
    try:
        import h5py
    except ImportError as error:
        raise KpnbError("Writing points needs the package h5py: pip install h5py.") from error
    with h5py.File(file, "w") as content:
        content.create_dataset("data", data=points.astype("f4"), compression="gzip", shuffle=True)
        content.create_dataset("label", data=labels[:, None].astype("u1"))


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
