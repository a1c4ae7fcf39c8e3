"""CUB-200-2011 (Wah et al., CNS-TR-2011-001): birds of 200 kinds, a box and an outline each.

ROOT/CUB_200_2011/ has images.txt, classes.txt, image_class_labels.txt, train_test_split.txt,
bounding_boxes.txt and images/; ROOT/segmentations/ (or CUB_200_2011/segmentations/) has an outline
for every image, which the authors publish as a file of its own.

1. The paper crops by the box as it is (factor 1). Boxes are given as left, top, width, height; the
   data set does not say whether the first pixel is 0 or 1, and 0 is taken.
2. An outline's grey values are several annotators' outlines laid over each other. The paper's
   published code takes every value above 0, so what any annotator marked is foreground; so do we.
3. images/ is said to hold a few files that images.txt does not name; they are not read.

    python -m data_prep.cub200 --root DIR [--download] [--help]
"""

import sys
from collections import Counter
from collections.abc import Set
from functools import partial as bound
from itertools import repeat
from pathlib import Path

import numpy as np

from data_prep import objects as data
from data_prep.command import ReaderOptions, main
from data_prep.crops import read_picture
from data_prep.fetch import released
from data_prep.objects import inside

NAME = "cub200"
DATASET = "CUB200-2011"
FACTOR = 1.0  # Section 4.1: cropped by the box
FILES = released(NAME)
SPLITS = {"1": "train", "0": "test"}  # of train_test_split.txt
COUNTS = {"classes": 200, "train images": 5_994, "test images": 5_794}
OPTIONS = ReaderOptions(foregrounds=("outline", "box"))


def read(root: Path, *, partial: bool = False) -> data.ObjectSet:
    """All birds, in the order of images.txt, with the split that the data set comes with.

    root: holds CUB_200_2011/ and segmentations/. Names are those of images.txt without ".jpg",
    classes those of classes.txt, like "001.Black_footed_Albatross". Raises `KpnbError` for a file
    that is missing or does not fit the others, and for other counts than `COUNTS` unless `partial`.
    The tables may have rows of images that images.txt does not name.
    """
    folder = Path(root) / "CUB_200_2011"
    classes = {key: name for key, (name,) in data.keyed(folder / "classes.txt").items()}
    images = data.keyed(folder / "images.txt")
    tables = {"image_class_labels": 2, "train_test_split": 2, "bounding_boxes": 5}  # columns
    files = [folder / f"{name}.txt" for name in tables]
    labels, training, boxes = map(_for_images, files, tables.values(), repeat(images.keys()))
    outlines = folder / "segmentations"
    if not outlines.is_dir():  # a missing outline is noticed when it is read, if they are used
        outlines = Path(root) / "segmentations"
    outlined = outlines.is_dir()
    objects = tuple(
        data.PictureObject(
            name=str(Path(image).with_suffix("")),
            picture=inside(folder / "images", image),
            category=_one_of(classes, labels[key][0], files[0]),
            split=_one_of(SPLITS, training[key][0], files[1]),
            box=_box(files[2], key, boxes[key]),
            mask=bound(marked, inside(outlines, image).with_suffix(".png")) if outlined else None,
        )
        for key, (image,) in images.items()
    )
    found = Counter(f"{obj.split} images" for obj in objects)
    found["classes"] = len(classes)
    counts = data.check_counts(DATASET, found, COUNTS, partial)
    about = {"counts": counts, "licence": FILES[0].licence}
    birds = data.ObjectSet(DATASET, tuple(classes.values()), objects, FACTOR, about=about)
    return data.in_both_splits(birds, partial)


def marked(path: Path) -> np.ndarray:
    """(height, width) bool: every pixel that any annotator marked (difference 2)."""
    return np.asarray(read_picture(path, "L")) > 0


def _for_images(path: Path, columns: int, images: Set[str]) -> dict[str, list[str]]:
    table = data.keyed(path, columns)
    data.need(table.keys() >= images, f"{path} is not about the images of images.txt")
    return table


def _one_of(table: dict[str, str], key: str, path: Path) -> str:
    data.need(key in table, f"{path} has the unknown value {key!r}")
    return table[key]


def _box(path: Path, key: str, texts: list[str]) -> data.Box:
    left, top, width, height = data.floats(path, key, texts)
    return left, top, left + width, top + height


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
