"""Small trees in the genuine layouts of Pascal VOC 2012, ILSVRC DET and MS-COCO: a class is a shape
of its own color, with `train` and `test` usable objects, and beside them what must be left out."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from data_prep.ilsvrc_det import LAYOUTS, MAMMALS
from data_prep.voc2012 import CLASSES

VOC_CLASSES = ("cat", "dog", "train")
DET_CLASSES = ("bear", "fox", "zebra")
COCO_IDS = {"person": 1, "car": 3, "chair": 62, "hair drier": 89}
WIDTH, HEIGHT = 96, 80
VOID = 255
JPEG = dict(format="JPEG", quality=95, subsampling=0)  # colors do not bleed out of the shape

Corners = tuple[int, int, int, int]  # left, top, right, bottom, right and bottom exclusive


def drawn(rng: np.random.Generator, label: int, classes: int) -> tuple[Image.Image, list, Corners]:
    """A picture of one object of class `label`, the polygon of its outline, and its box."""
    width, height = (int(n) for n in rng.integers(36, 56, 2))
    left, top = int(rng.integers(4, WIDTH - width - 4)), int(rng.integers(4, HEIGHT - height - 4))
    ground = rng.integers(90, 166, (HEIGHT, WIDTH, 1)) + rng.integers(-20, 21, (1, 1, 3))
    picture = Image.fromarray(ground.astype(np.uint8))
    color = colorsys.hsv_to_rgb(label / classes, 0.9, rng.uniform(0.7, 1))
    box = left, top, right, bottom = left, top, left + width, top + height
    x, y = (left + right) // 2, (top + bottom) // 2
    polygon = (  # a rectangle, a triangle or a diamond that fills its box, in pixel edges
        [(left, top), (right, top), (right, bottom), (left, bottom)],
        [(x, top), (right, bottom), (left, bottom)],
        [(x, top), (right, y), (x, bottom), (left, y)],
    )[label % 3]
    ImageDraw.Draw(picture).polygon(polygon, fill=tuple(int(255 * c) for c in color))
    return picture, polygon, box


def xml(name: str, objects: Sequence[dict], size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """An annotation as VOC and ILSVRC write it, boxes from pixel edges (1-based, inclusive)."""
    items, part = "", "<part><name>head</name>" + _box(0, 0, 5, 5) + "</part>\n"
    for item in objects:
        flags = (f"<{f}>{int(item.get(f, 0))}</{f}>" for f in ("truncated", "difficult"))
        items += f"<object>\n<name>{item['name']}</name>{''.join(flags)}{part}"
        items += f"{_box(*item['box'])}\n</object>"
    known = f"<width>{size[0]}</width><height>{size[1]}</height><depth>3</depth>"
    head = f"<filename>{name}</filename><size>{known}</size>"
    return f"<annotation>\n{head}\n{items}\n</annotation>\n"


def _box(left: int, top: int, right: int, bottom: int) -> str:
    edges = dict(xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
    return f"<bndbox>{''.join(f'<{tag}>{at}</{tag}>' for tag, at in edges.items())}</bndbox>"


def put(file: Path, content: str | Image.Image) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        content.save(file, **({} if file.suffix == ".png" else JPEG))
    return file


def edit(file: Path, old: str, new: str) -> None:
    """Put `new` for the first `old` in a text file."""
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def _plan(train: int, test: int) -> Iterator[tuple[str, int, int]]:
    """(split, number in the split, label) for three classes in turn."""
    for split, count in (("train", train), ("val", test)):
        for i in range(count * 3):
            yield split, i, i % 3


def voc_tree(root: Path, train: int = 10, test: int = 5) -> Path:
    """VOCdevkit/VOC2012. Beside the usable objects: in the first picture of each split a difficult
    object without an outline, in the second a truncated flag on its object; three pictures of each
    split are in ImageSets/Main only, with one object of the first class, and have no outlines."""
    folder, rng = root / "VOCdevkit/VOC2012", np.random.default_rng(0)
    lists = {kind: {"train": "", "val": ""} for kind in ("Main", "Segmentation")}

    def add(name: str, label: int, more: Sequence[dict] = (), **flags: bool) -> list:
        picture, polygon, box = drawn(rng, label, 3)
        objects = [dict(name=VOC_CLASSES[label], box=box, **flags), *more]
        put(folder / f"JPEGImages/{name}.jpg", picture)
        put(folder / f"Annotations/{name}.xml", xml(f"{name}.jpg", objects))
        return polygon

    for split, i, label in _plan(train, test):
        name = f"{2007 if split == 'train' else 2008}_{i:06d}"
        hidden = dict(name=VOC_CLASSES[0], box=(0, 0, 9, 7), difficult=True)
        polygon = add(name, label, [hidden] if i == 0 else [], truncated=i == 1)
        for kind, number in (("Object", 1), ("Class", CLASSES.index(VOC_CLASSES[label]) + 1)):
            put(folder / f"Segmentation{kind}/{name}.png", _indexed(polygon, number))
        for names in lists.values():
            names[split] += f"{name}\n"
    for split, first in (("train", 0), ("val", 500)):
        for name in (f"2009_{i + first:06d}" for i in range(3)):
            lists["Main"][split] += f"{name}\n"
            add(name, 0)
    for kind, splits in lists.items():
        for split, names in {**splits, "trainval": "".join(splits.values())}.items():
            put(folder / f"ImageSets/{kind}/{split}.txt", names)
    return root


def _indexed(polygon: list, number: int) -> Image.Image:
    """An outline by a palette with a rim of `VOID` inside its edge, as VOC has around it."""
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putpalette([index for index in range(256) for _ in "rgb"])
    ImageDraw.Draw(image).polygon(polygon, fill=number, outline=VOID)
    return image


def det_tree(root: Path, train: int = 10, test: int = 5, layout: int = 0) -> Path:
    """The layout of 2013 (0), 2014 (1) or 2015 to 2017 (2). Beside the usable objects: the training
    pictures of the first class lie in the folder of a narrower synset, and one of them also shows a
    person; a picture without annotation; one without objects; annotations of 2014, not read."""
    top, rng = root / ("ILSVRC" if layout == 2 else ""), np.random.default_rng(0)
    pictures, boxes, val, val_boxes = (top / name for name in LAYOUTS[layout])
    for split, i, label in _plan(train, test):
        picture, _, box = drawn(rng, label, 3)
        number = MAMMALS[DET_CLASSES[label]]
        objects = [dict(name=number, box=box)]
        folders, name = (val, val_boxes), f"ILSVRC2012_val_{i + 1:08d}"
        if split == "train":
            synset = "n02132136" if label == 0 else number  # a kind of bear
            objects += [dict(name="n00007846", box=(1, 1, 9, 9))] if i == 0 else []
            folders, name = (pictures / synset, boxes / synset), f"{synset}_{i}"
        put(folders[0] / f"{name}.JPEG", picture)
        put(folders[1] / f"{name}.xml", xml(name, objects))
    empty = "ILSVRC2012_val_00050000"
    put(val / f"{empty}.JPEG", drawn(rng, 0, 2)[0])
    put(val_boxes / f"{empty}.xml", xml(empty, []))
    put(pictures / "n02132136" / "n02132136_99999.JPEG", drawn(rng, 0, 2)[0])
    later = boxes.parent if layout == 2 else boxes
    item = dict(name=MAMMALS[DET_CLASSES[0]], box=(1, 1, 9, 9))
    put(later / "ILSVRC2014_train_0000/ILSVRC2014_train_00000001.xml", xml("x", [item]))
    return root


def coco_tree(root: Path, train: int = 10, test: int = 5, year: str = "2017") -> Path:
    """Earlier classes have one object more in both splits than the next, so that they are larger;
    the last has exactly `train` and `test`. Beside them, in each split: a crowd of the first class,
    one object of "hair drier", and a box without area."""
    rng, first, ids = np.random.default_rng(0), 1, [*COCO_IDS.values()]
    categories = [dict(id=i, name=name) for name, i in COCO_IDS.items()]
    for split, count in (("train", train), ("val", test)):
        images, annotations = [], []
        for label in [0] * (count + 2) + [1] * (count + 1) + [2] * count + [3]:
            picture, polygon, box = drawn(rng, label, 4)
            number, before = first + len(images), "" if year == "2017" else f"COCO_{split}{year}_"
            file = dict(id=number, file_name=f"{before}{number:012d}.jpg", license=3)
            images.append(file | dict(height=HEIGHT, width=WIDTH))
            put(root / f"{split}{year}" / file["file_name"], picture)
            outline = [float(value) for point in polygon for value in point]
            annotations.append(_entry(number, number, ids[label], box, [outline]))
        crowd = dict(counts=[WIDTH * HEIGHT - 9, 9], size=[HEIGHT, WIDTH])
        crowd = _entry(9000 + first, first, ids[0], (50, 50, 60, 60), crowd) | {"iscrowd": 1}
        flat = _entry(9001 + first, first, ids[0], (5, 5, 5, 9), [[5.0, 5, 5, 9, 5, 7]])
        annotations += [crowd, flat]
        content = dict(categories=categories, images=images, annotations=annotations)
        put(root / f"annotations/instances_{split}{year}.json", json.dumps(content))
        first += len(images)
    return root


def _entry(number: int, image: int, category: int, box: Corners, segmentation) -> dict:
    left, top, right, bottom = map(float, box)
    size = dict(area=(right - left) * (bottom - top), bbox=[left, top, right - left, bottom - top])
    known = dict(id=number, image_id=image, category_id=category, iscrowd=0)
    return dict(segmentation=segmentation) | size | known
