"""MS-COCO (Lin et al., ECCV 2014): objects of the largest categories, with outlines.

Read are annotations/instances_train<year>.json and instances_val<year>.json and the folders
train<year> and val<year>, of 2017 or 2014. Objects of "train" are for training, those of "val" for
testing: the annotations of the test set are not public.

1. The paper classifies "the top-10 largest categories" (Table VIII), not saying by what. Here: by
   the number of annotated objects in the training split of 2017, without crowds; `rank` takes
   pictures or outlined pixels instead.
2. Ours, since it gives none: the factor 1 (the box), --least 32 (many objects have a few pixels;
   that is the side of what COCO's evaluation calls small) and --most 2000 of a class and split.
3. A pixel is in an outline when its center is in an odd number of times, by each polygon alone,
   and in any of an object's polygons. COCO's own tools round polygons to a fifth of a pixel first,
   so single pixels along edges differ.
4. Groups annotated as one (iscrowd) are left out, as in COCO's own evaluation. They alone have
   outlines of another kind, run lengths, which are not read.

The annotations of 2017 are one file of 470 MB, read at once, each entry made small as it is parsed:
peak memory is about 1.4 GB, 3 times the file's size (measured with one of 49 MB), not 6 times.

    python -m data_prep.coco --root DIR [--download] [--help]
"""

import json
import os
import sys
from array import array
from collections import Counter
from functools import partial as bound
from pathlib import Path

import numpy as np

from data_prep import objects as data
from data_prep.command import ReaderOptions, main
from data_prep.fetch import released
from data_prep.objects import PictureObject
from kpnb.errors import KpnbError

NAME = "coco"
DATASET = "MSCOCO"
FACTOR = 1.0
LARGEST = 10  # Table VIII
PARTS: dict[data.Split, str] = {"train": "train", "test": "val"}
YEARS = ("2017", "2014")
RANKS = ("objects", "pictures", "pixels")

FILES = released(NAME)  # 2014 is read when it is there

# Public readers' counts. Both years have the same 123,287 pictures and 896,782 annotations in all.
COUNTS = {
    "2017": {"train pictures": 118_287, "train annotations": 860_001}
    | {"test pictures": 5_000, "test annotations": 36_781},
    "2014": {"train pictures": 82_783, "train annotations": 604_907}
    | {"test pictures": 40_504, "test annotations": 291_875},
}

OPTIONS = ReaderOptions(
    foregrounds=("outline", "box"),
    least=32,
    most=2000,
    own=dict(
        year=dict(default=YEARS[0], choices=YEARS, help="the release"),
        largest=dict(type=int, default=LARGEST, help="number of categories, the largest"),
        rank=dict(default=RANKS[0], choices=RANKS, help="what makes a category large"),
        names=dict(default="", help="categories by name instead, with commas between"),
    ),
)


def read(
    root: Path,
    *,
    partial: bool = False,
    year: str = YEARS[0],
    largest: int = LARGEST,
    rank: str = RANKS[0],
    names: str = "",
) -> data.ObjectSet:
    """The objects of the `largest` categories of MS-COCO below `root`; classes by category id.

    root: holds annotations, train<year> and val<year>. partial: see `in_both_splits`. rank:
    "objects", "pictures" or "pixels" (the sum of `area`) of a category in the training split, ties
    by id. names: categories to take instead of the largest.

    Raises `KpnbError` for missing or damaged files, an unknown category or picture, a picture that
    is not there, a box out of its picture and an outline of an unknown kind.
    """
    if year not in YEARS or rank not in RANKS or largest < 2:
        raise KpnbError(f"year {year!r}, rank {rank!r} or largest {largest!r}: see the choices.")
    root = Path(root)
    parts = {split: _Part(root, f"{name}{year}") for split, name in PARTS.items()}
    if parts["train"].categories != parts["test"].categories:
        raise data.faulty(f"The two annotation files in {root} differ in categories")
    found = {f"{split} pictures": len(part.pictures) for split, part in parts.items()}
    found |= {f"{split} annotations": len(part.annotations) for split, part in parts.items()}
    counts = data.check_counts(DATASET, found, COUNTS[year], partial)
    ranked = parts["train"].ranked(rank)
    wanted = _named(names, parts["train"].categories) if names else sorted(ranked[:largest])
    left_out: Counter[str] = Counter()
    objects = (o for split, part in parts.items() for o in part.objects(wanted, split, left_out))
    classes, objects = tuple(parts["train"].categories[i] for i in wanted), tuple(objects)
    about = dict(year=year, counts=counts, categories=names or f"the {largest} with most {rank}")
    every = data.ObjectSet(DATASET, classes, objects, FACTOR, dict(left_out), about)
    return data.in_both_splits(every, partial)


class _Part:
    """One annotation file and its folder of pictures."""

    def __init__(self, root: Path, name: str):
        self.file, self.folder = root / f"annotations/instances_{name}.json", root / name
        if not self.folder.is_dir():
            raise KpnbError(f"There is no folder {self.folder}: unpack {name}.zip in {root}.")
        self.files = set(os.listdir(self.folder))
        known = _load(self.file)
        self.categories: dict[int, str] = {c["id"]: c["name"] for c in known["categories"]}
        self.pictures = {p["id"]: p for p in known["images"]}
        self.annotations = known["annotations"]
        for entry in self.annotations:
            if entry["category_id"] not in self.categories:
                raise self.error(entry, f"unknown category {entry['category_id']!r}")
            if entry["image_id"] not in self.pictures:
                raise self.error(entry, f"unknown picture {entry['image_id']!r}")

    def ranked(self, rank: str) -> list[int]:
        """Category ids, the largest first, among those with any object that is no crowd."""
        sizes: Counter[int] = Counter()
        seen: set[tuple[int, int]] = set()
        for entry in (entry for entry in self.annotations if not entry["iscrowd"]):
            category, place = entry["category_id"], (entry["category_id"], entry["image_id"])
            size = {"objects": 1, "pictures": place not in seen, "pixels": entry["area"]}
            sizes[category] += size[rank]
            seen.add(place)
        return sorted(sizes, key=lambda category: (-sizes[category], category))

    def objects(
        self, wanted: list[int], split: data.Split, left_out: Counter
    ) -> list[PictureObject]:
        """The objects of the categories `wanted`, in the file's order; counts what is left out."""
        found = []
        for entry in (e for e in self.annotations if e["category_id"] in wanted):
            if entry["iscrowd"]:
                left_out["crowd"] += 1
            elif min(entry["bbox"][2:]) <= 0:
                left_out["box without area"] += 1
            else:
                found.append(self.object(entry, split))
        return found

    def object(self, entry: dict, split: data.Split) -> PictureObject:
        picture = self.pictures[entry["image_id"]]
        width, height = picture["width"], picture["height"]
        left, top, wide, high = entry["bbox"]
        where = f"{self.file}, annotation {entry['id']},"
        box = data.in_picture((left, top, left + wide, top + high), width, height, where, "refuse")
        if box is None:
            raise self.error(entry, "a box out of its picture")
        name = picture["file_name"]
        if Path(name).name != name:
            raise self.error(entry, f"a picture in another folder, {name!r}")
        if name not in self.files:
            raise self.error(entry, f"no picture, {self.folder / name} is missing")
        shape = entry["segmentation"]
        mask = bound(coco_mask, shape, height, width, where) if shape else None
        category = self.categories[entry["category_id"]]
        name, file = f"{self.folder.name}#{entry['id']}", self.folder / name
        return PictureObject(name, file, category, split, box, mask)

    def error(self, entry: dict, what: str) -> KpnbError:
        return data.faulty(f"{self.file}, annotation {entry['id']}, has {what}")


def _load(file: Path) -> dict:
    """The content of an annotation file, with numbers of outlines as arrays."""
    text = data.content(file, "the annotations of MS-COCO")
    try:
        known = json.loads(text, object_hook=_small)
        for part, kinds in _KEYS.items():
            entries = known[part]
            if not isinstance(entries, list) or not entries:
                raise TypeError(f"no list {part}")
            for entry in entries:
                if not all(isinstance(entry[key], kind) for key, kind in kinds.items()):
                    raise TypeError(f"an entry of {part} of another kind, {str(entry)[:100]}")
            if len({entry["id"] for entry in entries}) < len(entries):
                raise ValueError(f"an id twice in {part}")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise data.faulty(f"{file} is damaged or no COCO annotations ({error})") from error
    return known


# What is read of each entry, and of which type it has to be.
_KEYS = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "categories": {"id": int, "name": str},
    "annotations": {
        "id": int,
        "image_id": int,
        "category_id": int,
        "bbox": array,
        "iscrowd": int,
        "segmentation": list | dict,
        "area": int | float,
    },
}


def _small(entry: dict) -> dict:
    """A parsed entry with less memory: only the keys that are read, polygons as arrays."""
    if "bbox" in entry:
        entry["segmentation"] = entry.get("segmentation") or []
        entry = {key: entry[key] for key in _KEYS["annotations"]}
        entry["bbox"] = array("d", entry["bbox"])
        if len(entry["bbox"]) != 4:
            raise ValueError("a box without four numbers")
        if isinstance(entry["segmentation"], list):
            entry["segmentation"] = [array("d", polygon) for polygon in entry["segmentation"]]
    elif "file_name" in entry:
        entry = {key: entry[key] for key in _KEYS["images"]}
    return entry


def _named(names: str, categories: dict[int, str]) -> list[int]:
    ids = {name: i for i, name in categories.items()}
    wanted = [part.strip() for part in names.split(",") if part.strip()]
    unknown = [name for name in wanted if name not in ids]
    if unknown or len(set(wanted)) < len(wanted) or len(wanted) < 2:
        raise KpnbError(f"names is {names!r}: give two or more of {', '.join(ids)}, once each.")
    return sorted(ids[name] for name in wanted)


def coco_mask(
    segmentation: list | dict, height: int, width: int, where: str = "An outline"
) -> np.ndarray:
    """(height, width) bool of a `segmentation`: polygons [x, y, x, y, ...].

    A pixel is in a polygon when its center (column + 0.5, row + 0.5) is, by the even-odd rule, and
    in the outline when it is in any polygon; one of fewer than three points has none. Raises
    `KpnbError`, naming `where`, for anything else.
    """
    try:
        if isinstance(segmentation, dict):
            raise ValueError("run lengths, which only a crowd has")
        mask = np.zeros((height, width), dtype=bool)
        for polygon in segmentation:
            mask |= _from_polygon(np.asarray(polygon, dtype=float), height, width)
        return mask
    except (TypeError, ValueError) as error:
        raise data.faulty(f"{where} has an outline that cannot be read ({error})") from error


def _from_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool: the even-odd rule at pixel centers."""
    if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
        raise ValueError("a polygon that is no list of points")
    mask = np.zeros((height, width), dtype=bool)
    if len(points) < 6:  # no area
        return mask
    x, y = points[::2], points[1::2]
    # Nothing outside of the polygon's own rows and columns can be in it.
    top, bottom, left, right = *_span(y, height), *_span(x, width)
    mask[top:bottom, left:right] = _odd(x - left, y - top, bottom - top, right - left)
    return mask


def _span(values: np.ndarray, length: int) -> tuple[int, int]:
    first = int(np.clip(np.floor(values.min()), 0, length))
    return first, int(np.clip(np.ceil(values.max()), first, length))


def _odd(x: np.ndarray, y: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which pixel centers have an odd number of the polygon's edges on their left."""
    centers = np.arange(height)[:, None] + 0.5
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    rows, edges = np.nonzero((y <= centers) != (y2 <= centers))
    share = (rows + 0.5 - y[edges]) / (y2 - y)[edges]
    crossing = x[edges] + share * (x2 - x)[edges]
    # The first pixel whose center is not left of the edge; `width` when there is none.
    first = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    turns = np.zeros((height, width + 1), dtype=np.int64)
    np.add.at(turns, (rows, first), 1)
    return np.cumsum(turns[:, :-1], axis=1) % 2 == 1


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
