"""ILSVRC-2013 DET (Russakovsky et al., IJCV 2015): boxes of land mammals, no outlines.

The layouts of 2013, of 2014 and of 2015 to 2017 are read, whichever is there (ilsvrc_det.yaml);
pictures that came in 2014 are not. Training objects are for training, validation objects for
testing: the annotations of the test set are not public.

1. The paper says "terrestrial mammal categories", its public code 12 classes in a folder that is
   not public. Which 12 is NOT KNOWN; `CLASSES` is our reading: of DET's 28 kinds beside persons
   those that do not live in water (seal, whale, otter, hippopotamus), in trees (koala bear, monkey,
   red panda, squirrel) or mostly as pets and on farms (dog, domestic cat, hamster, rabbit, cattle,
   horse, sheep, swine). Another reader may well choose otherwise: `classes` takes any.
2. Section 4.1 enlarges boxes; the factor, lost in the text at hand, is 1.5 by the public code's
   foreground block and from memory. The foreground is the box, or that block (data_prep.crops).
3. A training picture lies in the folder of what it was collected for, which may be narrower than
   its class (a breed of dog): every annotation is looked at, classes are told by the boxes' names.
4. Some of ImageNet's boxes leave their pictures (TensorFlow's reader of ILSVRC 2012 notes it): they
   are cut, or left out when nothing remains, and counted. outside="refuse" stops instead.
5. Coordinates are taken to count from 1, as in the XML of VOC and in public readers of DET; some
   readers count from 0. The difference is one pixel.

    python -m data_prep.ilsvrc_det --root DIR [--download] [--help]
"""

import os
import re
import sys
from collections import Counter
from itertools import product
from pathlib import Path

import yaml

from data_prep import objects as data
from data_prep.command import ReaderOptions, main
from data_prep.fetch import RemoteFile
from data_prep.voc_xml import read_annotation
from kpnb.errors import KpnbError, require

NAME = "ilsvrc_det"
DATASET = "ILSVRC-2013 DET"
FACTOR = 1.5

# Mammals, layouts and archives; the file says where they are from.
_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
MAMMALS: dict[str, str] = _TABLE["mammals"]  # DET's name -> WordNet number
CLASSES = "antelope,armadillo,bear,camel,elephant,fox,giant panda,lion,porcupine,skunk,tiger,zebra"
RULE = (
    "ours, since the paper does not name its 12: DET's mammals without persons and without those "
    "of water, of trees, of homes and farms"
)
# Each layout: pictures and annotations for training, pictures and annotations for testing.
LAYOUTS: list[list[str]] = _TABLE["layouts"]
TOPS = (".", "ILSVRC", "ILSVRC2017", "ILSVRC2015")  # folders that the archives unpack to
# Behind a login, so without addresses; no checksums were found. To be unpacked by hand: whether the
# archives hold these folders, or for training one archive a synset, could not be verified.
FILES = tuple(
    RemoteFile(
        name=name,
        urls=(),
        licence="non-commercial research and education, after agreeing to ImageNet's terms",
        page="https://image-net.org/challenges/LSVRC/2013/",
        unpack=False,
        need=tuple(f"{top}/{place}" for top in TOPS for place in places),
    )
    for name, places in zip(_TABLE["archives"], zip(*LAYOUTS, strict=True), strict=True)
)

# The challenge's own page, image-net.org/challenges/LSVRC/2013: boxes for training (of all 200
# classes) and pictures for validation, each of which has an annotation.
COUNTS = {"train boxes": 345_854, "validation pictures": 20_121, "validation annotations": 20_121}

OPTIONS = ReaderOptions(
    foregrounds=("box", "block"),
    own=dict(
        classes=dict(default=CLASSES, help="names or WordNet numbers, with commas between"),
        outside=dict(
            default="clip",
            choices=("clip", "refuse"),
            help="a box that leaves its picture by more than a pixel: clip it, or refuse",
        ),
    ),
)

_WNID = re.compile(r"n\d{8}")
_END = b"</annotation>"


def read(
    root: Path, *, partial: bool = False, classes: str = CLASSES, outside: data.Outside = "clip"
) -> data.ObjectSet:
    """The objects of `classes` in ILSVRC-2013 DET below `root`, boxes to be enlarged 1.5 times.

    root: holds the folders of one layout, or the folder ILSVRC they are in. partial: see
    `in_both_splits`. classes: names of `MAMMALS` or WordNet numbers (then the class's name), with
    commas between; the default is ours (see above). outside: see data_prep.voc_xml.

    Every annotation is opened, some hundred thousand small files: that takes minutes.
    Raises `KpnbError` for an unknown class or layout, missing or damaged files, an annotation
    without its picture, a box whose name is no WordNet number, and, with outside="refuse", a box
    out of its picture.
    """
    wanted = _wanted(classes)
    require(outside in ("clip", "refuse"), f"outside is {outside!r}: give 'clip' or 'refuse'.")
    train, train_boxes, val, val_boxes = _layout(Path(root))
    reader = _Reader(wanted, outside)
    # Synset folders hold pictures of the same name; other folders are of later years.
    for folder in (f for f in _entries(train_boxes) if f.is_dir() and _WNID.fullmatch(f.name)):
        reader.folder(folder, train / folder.name, "train")
    found = {"train boxes": reader.boxes}
    reader.folder(val_boxes, val, "test")
    kinds = {"validation pictures": (val, ".JPEG"), "validation annotations": (val_boxes, ".xml")}
    for what, (folder, suffix) in kinds.items():
        found[what] = sum(file.suffix == suffix for file in _entries(folder))
    counts = data.check_counts(DATASET, found, COUNTS, partial)
    about = dict(classes=classes, wordnet=wanted, counts=counts, outside=outside)
    about["which classes"] = RULE if classes == CLASSES else "chosen by the caller"
    about["boxes cut at their picture's edge"] = reader.clipped
    names, objects = tuple(wanted.values()), tuple(reader.objects)
    every = data.ObjectSet(DATASET, names, objects, FACTOR, dict(reader.left_out), about)
    return data.in_both_splits(every, partial)


class _Reader:
    """Collects the objects of the wanted classes from folders of annotations."""

    def __init__(self, wanted: dict[str, str], outside: data.Outside):
        self.wanted, self.outside = wanted, outside
        self.marks = [number.encode() for number in wanted]
        self.objects: list[data.PictureObject] = []
        self.left_out: Counter[str] = Counter()
        self.clipped = self.boxes = 0

    def folder(self, annotations: Path, pictures: Path, split: data.Split) -> None:
        """Add the objects of every annotation in one folder."""
        for file in (f for f in _entries(annotations) if f.suffix == ".xml"):
            # Most files have none of the classes: they are not parsed, but a cut one is noticed.
            found = data.content(file)
            data.need(found.rstrip().endswith(_END), f"{file} is cut off")
            self.boxes += found.count(b"<object>")
            if any(mark in found for mark in self.marks):
                self.add(file, pictures / f"{file.stem}.JPEG", split)

    def add(self, file: Path, picture: Path, split: data.Split) -> None:
        for item in read_annotation(file, self.outside).objects:
            if not _WNID.fullmatch(item.category):
                raise data.faulty(f"{file} has an object of unknown class {item.category!r}")
            if item.category not in self.wanted:
                self.left_out["another class, in pictures with one of these"] += 1
            elif item.box is None:
                self.left_out["box without a pixel in its picture"] += 1
            else:
                self.clipped += item.clipped
                data.need_file(picture, f"the picture of {file.name}")
                name, category = f"{file.stem}#{item.number}", self.wanted[item.category]
                self.objects.append(data.PictureObject(name, picture, category, split, item.box))


def _wanted(classes: str) -> dict[str, str]:
    """WordNet number -> name of each class, in the order given."""
    wanted = {}
    for name in (part.strip() for part in classes.split(",") if part.strip()):
        number = MAMMALS.get(name.replace("_", " "), name)
        if not _WNID.fullmatch(number):
            raise KpnbError(f"{name!r} is no class: give {', '.join(MAMMALS)}, or n and 8 digits.")
        require(number not in wanted, f"The class {name!r} is given twice: give it once.")
        wanted[number] = next((key for key, value in MAMMALS.items() if value == number), number)
    require(len(wanted) >= 2, f"classes is {classes!r}: give at least two.")
    return wanted


def _layout(root: Path) -> list[Path]:
    for top, layout in product(TOPS, LAYOUTS):
        folders = [root / top / name for name in layout]
        if all(folder.is_dir() for folder in folders):
            return folders
    raise KpnbError(
        f"{root} has not all of {', '.join(LAYOUTS[0])} (or, as packed since 2015, of "
        f"{', '.join(LAYOUTS[2])} in ILSVRC): unpack pictures and boxes of training and validation."
    )


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in the order of names, without what macOS leaves beside files (._*)."""
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
