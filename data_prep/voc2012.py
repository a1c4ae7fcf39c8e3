"""Pascal VOC 2012 (Everingham et al., IJCV 2010): objects of 20 classes, with outlines.

The layout is that of VOCtrainval_11-May-2012.tar: VOCdevkit/VOC2012 with Annotations (XML),
JPEGImages, SegmentationObject, SegmentationClass and ImageSets. Objects of the list "train" are
for training, those of "val" for testing: the annotations of VOC's own test set are not public.

1. By default the objects are those of the segmentation set, which have outlines. Section 4.1 crops
   an enlarged box; the factor, lost in the text at hand, is 1.2 in the public code, which enlarges
   outlines so. That code trains on one folder and measures on another with outlines, so it may have
   trained on more objects; objects="all" takes every box, which is then the foreground.
2. Outline n of SegmentationObject belongs to the n-th object of the XML. Here that is checked with
   the object's box and its color in SegmentationClass. Color 255, a rim and what could not be told,
   is background.
3. Neither text nor code says what was done with "difficult" objects. They are left out, as VOC's
   own evaluation leaves them out; truncated ones are taken.

    python -m data_prep.voc2012 --root DIR [--download] [--help]
"""

import sys
from collections import Counter
from functools import partial as bound
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data_prep import objects as data
from data_prep.command import ReaderOptions, main
from data_prep.fetch import released
from data_prep.voc_xml import AnnotatedObject, Annotation, read_annotation
from kpnb.errors import KpnbError

NAME = "voc2012"
DATASET = "Pascal VOC 2012"
FACTOR = 1.2
LISTS: dict[data.Split, str] = {"train": "train", "test": "val"}
FOLDERS = ("VOCdevkit/VOC2012", "VOC2012", ".")
VOID = 255

# In the order of VOC's class numbers, 1 to 20 in SegmentationClass.
_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)
CLASSES = tuple(_NAMES.split())

FILES = released(NAME)

# Pictures in the lists, from VOC's own statistics (dbstats.html of the page above). Objects are not
# checked: the 6,929 outlines and 27,450 boxes it names are counted by a rule it does not state.
COUNTS = {
    "segmented": {"train pictures": 1464, "test pictures": 1449},
    "all": {"train pictures": 5717, "test pictures": 5823},
}

OPTIONS = ReaderOptions(
    foregrounds=("outline", "box"),
    own=dict(
        objects=dict(
            default="segmented",
            choices=[*COUNTS],
            help="segmented: those with outlines; all: every box",
        ),
        keep_difficult=dict(action="store_true", help="take objects marked difficult too"),
        leave_truncated=dict(action="store_true", help="leave out objects marked truncated"),
        mismatch=dict(
            default="refuse",
            choices=("refuse", "leave_out"),
            help="an outline that does not fit its object: refuse, or leave it out and count it",
        ),
    ),
)


def read(
    root: Path,
    *,
    partial: bool = False,
    objects: Literal["segmented", "all"] = "segmented",
    keep_difficult: bool = False,
    leave_truncated: bool = False,
    mismatch: Literal["refuse", "leave_out"] = "refuse",
) -> data.ObjectSet:
    """The objects of Pascal VOC 2012 below `root`, boxes to be enlarged 1.2 times (Section 4.1).

    root: holds VOCdevkit, or is it, or VOC2012 itself. partial: see `in_both_splits`. objects:
    "segmented", the pictures of ImageSets/Segmentation and their outlines, or "all", those of
    ImageSets/Main and their boxes. keep_difficult, leave_truncated: see above. mismatch: what to do
    with an outline that has no pixel in its box or mostly another class's color.

    Raises `KpnbError` for missing or damaged files, pictures that are not there, an unknown class,
    a box out of its picture, an outline without an object, and such a mismatch.
    """
    if objects not in COUNTS or mismatch not in ("refuse", "leave_out"):
        raise KpnbError(f"objects is {objects!r} and mismatch {mismatch!r}: see the choices.")
    places = [Path(root) / name for name in FOLDERS]
    folder = next((place for place in places if (place / "ImageSets").is_dir()), None)
    if folder is None:
        told = f"There is no VOCdevkit/VOC2012 with ImageSets in {root}"
        raise KpnbError(f"{told}: unpack {FILES[0].name} there.")
    kind = "Segmentation" if objects == "segmented" else "Main"
    # Boxes can be taken of a part of the release that has no outlines.
    whole = not partial or (folder / "SegmentationObject").is_dir()
    outlined = kind == "Segmentation" and whole
    lists = {s: data.rows(folder / f"ImageSets/{kind}/{name}.txt", 1) for s, name in LISTS.items()}
    pictures = {split: [name for (name,) in found] for split, found in lists.items()}
    counts = _counts(pictures, objects, partial)
    left_out: Counter[str] = Counter()
    found: list[data.PictureObject] = []
    for split, names in pictures.items():
        for name in names:
            annotation = read_annotation(folder / f"Annotations/{name}.xml")
            picture = data.need_file(folder / f"JPEGImages/{name}.jpg", "a picture of the lists")
            fits = _Outlines(folder, name, annotation, mismatch) if outlined else None
            for item in annotation.objects:
                reason = _reason(item, keep_difficult, leave_truncated, f"{name}.xml")
                reason = reason or (fits.reason(item) if fits else None)
                if reason:
                    left_out[reason] += 1
                    continue
                mask = bound(outline, fits.objects_file, item.number) if fits else None
                key = f"{name}#{item.number}"
                found.append(data.PictureObject(key, picture, item.category, split, item.box, mask))
    about = dict(objects=objects, lists=dict(LISTS), difficult=keep_difficult)
    about |= dict(truncated=not leave_truncated, mismatch=mismatch, counts=counts)
    every = data.ObjectSet(DATASET, CLASSES, tuple(found), FACTOR, dict(left_out), about)
    return data.in_both_splits(every, partial)


def outline(file: Path, number: int) -> np.ndarray:
    """(height, width) bool: the pixels of object `number` in a file of SegmentationObject."""
    return _indices(file) == number


class _Outlines:
    """The outlines of one picture, and whether they fit the objects of its annotation."""

    def __init__(self, folder: Path, name: str, annotation: Annotation, mismatch: str):
        self.objects_file = folder / f"SegmentationObject/{name}.png"
        self.mismatch = mismatch
        self.numbers = _indices(self.objects_file)
        self.colors = _indices(folder / f"SegmentationClass/{name}.png")
        size = annotation.width, annotation.height
        for indices in (self.numbers, self.colors):
            if (own := indices.shape[::-1]) != size:
                raise data.faulty(f"The outlines of {name} have {own} pixels, not {size}")
        known = {0, VOID, *(item.number for item in annotation.objects)}
        if unknown := set(np.unique(self.numbers).tolist()) - known:
            told = f"{len(annotation.objects)} objects"
            raise data.faulty(f"{self.objects_file} has an outline {min(unknown)} and only {told}")

    def reason(self, item: AnnotatedObject) -> str | None:
        """Why `item` is left out, None when it is not."""
        mask = self.numbers == item.number
        if not mask.any():
            return "no outline"
        left, top, right, bottom = item.box
        # A pixel with a part in the box counts: boxes may have fractions.
        inside = mask[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))].any()
        # Most, not all: a pixel may be void in one file and not in the other.
        color = np.bincount(self.colors[mask]).argmax()
        if inside and color == CLASSES.index(item.category) + 1:
            return None
        if self.mismatch == "leave_out":
            return "outline does not fit the object"
        told = f"Outline {item.number} of {self.objects_file} does not fit its {item.category}"
        told += " in the annotation"
        raise KpnbError(f"{told}: {data.AGAIN}, or leave such objects out (mismatch).")


def _reason(
    item: AnnotatedObject, keep_difficult: bool, leave_truncated: bool, file: str
) -> str | None:
    data.need(item.category in CLASSES, f"{file} has an object of unknown class {item.category!r}")
    if item.difficult and not keep_difficult:
        return "difficult"
    if item.truncated and leave_truncated:
        return "truncated"
    return None


def _counts(pictures: dict[data.Split, list[str]], objects: str, partial: bool) -> dict:
    names = [name for listed in pictures.values() for name in listed]
    data.need(len(set(names)) == len(names), "A picture is twice in VOC's lists")
    found = {f"{split} pictures": len(listed) for split, listed in pictures.items()}
    return data.check_counts(DATASET, found, COUNTS[objects], partial)


def _indices(file: Path) -> np.ndarray:
    """(height, width) uint8: the palette indices of a PNG."""
    data.need_file(file, "the outlines of a picture")
    try:
        with Image.open(file) as image:
            data.need(image.mode == "P", f"{file} has lost its palette")
            return np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise data.faulty(f"{file} is damaged ({error})", error) from error


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
