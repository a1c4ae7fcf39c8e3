"""ModelNet40: fetch the HDF5 points or the OFF meshes, read them and check that all are there.

Run it with `python -m data_prep.modelnet40 --root DIR [--download] [--help]`.
"""

import inspect
import sys
from collections import Counter
from pathlib import Path

from data_prep.command import Checked, main
from data_prep.fetch import released
from data_prep.objects import check_counts, rows
from kpnb.datasets import modelnet40 as reader
from kpnb.datasets.modelnet40 import NAMES, modelnet40
from kpnb.datasets.samples import SPLITS
from kpnb.errors import KpnbError

NAME = "modelnet40"
DATASET = "ModelNet40"
FOLDERS = {"hdf5": ("modelnet40_ply_hdf5_2048", NAMES), "off": ("ModelNet40", "airplane")}
FILES = {layout: released(NAME, layout) for layout in ("hdf5", "off")}
# The meshes: Wu et al.'s page. The HDF5 files lack three training shapes (PointNet's release).
COUNTS = {
    "hdf5": {"classes": 40, "train shapes": 9840, "test shapes": 2468},
    "off": {"classes": 40, "train shapes": 9843, "test shapes": 2468},
}


def check(folder: Path, layout: str, partial: bool) -> Checked:
    """Count the classes and shapes of one layout in `folder`.

    layout: "hdf5" (2,048 points a shape; needs h5py), which is read with the studies' reader, or
    "off" (meshes), whose files are counted, and looked at as far as their first word: reading all
    takes hours, and the archive's checksum and its members' are checked when it is unpacked.
    partial: accept other counts. Raises `KpnbError` as `modelnet40_shapes` does, for an empty or
    foreign file, and for other counts. Classes without shapes in one split are named.
    """
    classes = tuple(reader.modelnet40_classes(folder))
    every = {split: _shapes(folder, split, layout) for split in SPLITS}
    each = {s: Counter({c: n for c, n in every[s].items() if c in classes}) for s in SPLITS}
    found = {f"{split} shapes": each[split].total() for split in SPLITS}
    check_counts(DATASET, {"classes": len(classes), **found}, COUNTS[layout], partial)
    splits = {split: _described(each[split]) for split in SPLITS}
    listed = [name for (name,) in rows(folder / NAMES, 1)] if layout == "hdf5" else []
    alone = sorted({*listed, *every["train"], *every["test"]} - set(classes))
    told = (f"left out, without shapes in one split: {', '.join(alone)}",) if alone else ()
    # The foreground share of scenes at the reader's defaults, which are the paper's.
    defaults = inspect.signature(modelnet40).parameters
    points, background = defaults["points"].default, defaults["background"].default
    share = f"{points / (points + background):.1%} in every scene"
    share = f"foreground: {points:,} points of the shape among {background:,} others, {share}"
    notes = (share, *told)
    return Checked(classes, splits, found, notes)


def _shapes(folder: Path, split: str, layout: str) -> Counter[str]:
    """Shapes of each class, in the order of the classes."""
    if layout == "hdf5":
        shapes = reader.modelnet40_shapes(folder, split)
        return Counter(shapes.class_names[label] for label in sorted(shapes.labels.tolist()))
    each: Counter[str] = Counter()
    for file in reader.off_files(folder, split):
        with file.open("rb") as content:
            if content.read(3) != b"OFF":
                raise KpnbError(f"{file} does not begin with OFF: unpack ModelNet40 again.")
        each[file.parent.parent.name] += 1
    return each


def _described(each: Counter[str]) -> str:
    least, most = min(each.values(), default=0), max(each.values(), default=0)
    return f"{each.total():,} shapes, {least:,} to {most:,} of a class"


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
