"""Tiny ImageNet (Le and Yang, CS 231N, 2015): 64 x 64 pictures of 200 classes with a box each.

ROOT/tiny-imagenet-200/ has wnids.txt (the classes), words.txt (their names), train/<wnid>/ with
images/*.JPEG and <wnid>_boxes.txt, and val/ with images/ and val_annotations.txt. test/ has no
labels and is not read: val is the test split.

1. The paper says only that networks were trained on it (Figure 7). Whole pictures with the box as
   foreground are our choice; `crop="box"` cuts by the box enlarged by 1.5, as for ILSVRC DET.
2. Boxes are left, top, right, bottom; they run from 0 to 63, so the last pixel is taken as inside.

    python -m data_prep.tiny_imagenet --root DIR [--download] [--help]
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep import objects as data
from data_prep.command import ReaderOptions, main
from data_prep.fetch import released
from kpnb.datasets.samples import SPLITS
from kpnb.errors import require

NAME = "tiny_imagenet"
DATASET = "Tiny ImageNet"
SIDE = 64  # pixels
# A box of one pixel, enlarged so and clipped, is the whole picture wherever it lies.
FACTORS = {"whole": 2.0 * SIDE, "box": 1.5}
FILES = released(NAME)
COUNTS = {"classes": 200, "train images of a class": 500, "test images of a class": 50}
COUNTS |= {"words": 82_115}  # WordNet's nouns
OPTIONS = ReaderOptions(
    foregrounds=("box",),
    own=dict(crop=dict(default="whole", choices=[*FACTORS], help="or the box enlarged by 1.5")),
)


def read(root: Path, *, partial: bool = False, crop: str = "whole") -> data.ObjectSet:
    """All labelled pictures: train class by class, then val as the test split.

    crop: "whole" for whole pictures, "box" for the box enlarged by 1.5. Classes are WordNet
    identifiers, in the order of wnids.txt; `about["words"]` has their names. Raises `KpnbError` for
    a file that is missing or does not fit the others, another `crop`, and for other counts than
    `COUNTS` unless `partial`, when classes without a folder and val's rows of other classes go.
    """
    require(crop in FACTORS, f"crop is {crop!r}: give one of {', '.join(FACTORS)}.")
    folder = Path(root) / "tiny-imagenet-200"
    classes = tuple(name for (name,) in data.rows(folder / "wnids.txt", 1))
    words = data.keyed(folder / "words.txt", 2, "\t")
    places = folder / "train", folder / "val"
    objects = (*_train(places[0], classes, partial), *_val(places[1], classes, partial))
    found = _found(classes, objects) | {"words": len(words)}
    counts = data.check_counts(DATASET, found, COUNTS, partial)
    about = {"counts": counts, "licence": FILES[0].licence, "crop": crop}
    every = data.ObjectSet(DATASET, classes, objects, FACTORS[crop], about=about)
    found = data.in_both_splits(every, partial)
    about["words"] = [words.get(name, [name])[0] for name in found.classes]
    return found


def _train(folder: Path, classes: tuple[str, ...], partial: bool) -> Iterator[data.PictureObject]:
    for name in classes:
        data.need(Path(name).name == name, f"{folder} has no class {name!r}")
        if partial and not (folder / name).is_dir():
            continue
        table = folder / name / f"{name}_boxes.txt"
        for image, texts in data.keyed(table, 5).items():
            yield _object(table, folder / name / "images", image, texts, name, "train")


def _val(folder: Path, classes: tuple[str, ...], partial: bool) -> Iterator[data.PictureObject]:
    table = folder / "val_annotations.txt"
    for image, (name, *texts) in data.keyed(table, 6).items():
        data.need(name in classes or partial, f"{table} has the unknown class {name!r}")
        yield _object(table, folder / "images", image, texts, name, "test")


def _object(
    table: Path, images: Path, image: str, texts: list[str], category: str, split: str
) -> data.PictureObject:
    left, top, right, bottom = data.floats(table, image, texts)
    box = (left, top, right + 1, bottom + 1)  # difference 2
    name = str(Path(image).with_suffix(""))
    return data.PictureObject(name, data.inside(images, image), category, split, box)


def _found(classes: tuple[str, ...], objects: tuple[data.PictureObject, ...]) -> dict[str, int]:
    """Counts of `COUNTS`; where classes differ, one that has another number than the release."""
    found, each = {"classes": len(set(classes))}, Counter((o.split, o.category) for o in objects)
    for split in SPLITS:
        what = f"{split} images of a class"
        odd = (each[split, name] for name in classes if each[split, name] != COUNTS[what])
        found[what] = next(odd, COUNTS[what])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
