"""Small trees in the genuine layouts of Pascal VOC 2012, ILSVRC DET and MS-COCO.

Every class is a shape of its own color on a noisy ground, so that a network can learn it. Each tree
has exactly `train` and `test` usable objects of each class, and beside them what the genuine data
sets have and readers must leave out; see each function.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

VOC_CLASSES = ("cat", "dog", "train")
DET_CLASSES = ("bear", "fox", "zebra")
COCO_CLASSES = ("person", "car", "chair")
COCO_IDS = {"person": 1, "bicycle": 2, "car": 3, "cat": 17, "chair": 62, "hair drier": 89}
WIDTH, HEIGHT = 96, 80
VOID = 255

Corners = tuple[int, int, int, int]  # left, top, right, bottom, right and bottom exclusive


def drawn(rng: np.random.Generator, label: int, classes: int) -> tuple[Image.Image, list, Corners]:
    """A picture of one object of class `label`, the polygon of its outline, and its box."""
    width, height = (int(n) for n in rng.integers(36, 56, 2))
    left, top = int(rng.integers(4, WIDTH - width - 4)), int(rng.integers(4, HEIGHT - height - 4))
    ground = rng.integers(90, 166, (HEIGHT, WIDTH, 1)) + rng.integers(-20, 21, (1, 1, 3))
    picture = Image.fromarray(ground.astype(np.uint8))
    color = colorsys.hsv_to_rgb(label / classes, 0.9, rng.uniform(0.7, 1))
    polygon = _polygon(label % 3, left, top, left + width, top + height)
    ImageDraw.Draw(picture).polygon(polygon, fill=tuple(int(255 * c) for c in color))
    return picture, polygon, (left, top, left + width, top + height)


def _polygon(kind: int, left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    """A rectangle, a triangle or a diamond that fills its box, in pixel edges."""
    x, y = (left + right) // 2, (top + bottom) // 2
    if kind == 0:
        return [(left, top), (right, top), (right, bottom), (left, bottom)]
    if kind == 1:
        return [(x, top), (right, bottom), (left, bottom)]
    return [(x, top), (right, y), (x, bottom), (left, y)]


def xml(
    name: str, objects: Sequence[dict], size: tuple[int, int] = (WIDTH, HEIGHT), extra: str = ""
) -> str:
    """An annotation as VOC and ILSVRC write it, boxes from pixel edges (1-based, inclusive)."""
    body = "".join(_object_xml(item) for item in objects)
    return (
        f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{name}</filename>\n"
        "\t<source>\n\t\t<database>The VOC2008 Database</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{size[0]}</width>\n\t\t<height>{size[1]}</height>\n"
        f"\t\t<depth>3</depth>\n\t</size>\n{body}{extra}</annotation>\n"
    )


def _object_xml(item: dict) -> str:
    left, top, right, bottom = item["box"]
    flags = "".join(
        f"\t\t<{flag}>{int(item.get(flag, False))}</{flag}>\n"
        for flag in ("truncated", "difficult")
    )
    corners = (
        f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    )
    part = "\t\t<part>\n\t\t\t<name>head</name>\n\t\t\t<bndbox><xmin>1</xmin><ymin>1</ymin>"
    part += "<xmax>5</xmax><ymax>5</ymax></bndbox>\n\t\t</part>\n"
    return (
        f"\t<object>\n\t\t<name>{item['name']}</name>\n{flags}{part}"
        f"\t\t<bndbox>{corners}</bndbox>\n\t</object>\n"
    )


def write(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def edit(file: Path, old: str, new: str) -> None:
    """Put `new` for the first `old` in a text file."""
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def save(picture: Image.Image, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".png":
        picture.save(file, "PNG")
    else:  # colors that do not bleed out of the shape
        picture.save(file, "JPEG", quality=95, subsampling=0)
    return file


def _plan(classes: Sequence[str], counts: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """(split, number in the split, label), classes in turn."""
    for split, count in counts.items():
        for i in range(count * len(classes)):
            yield split, i, i % len(classes)


def voc_tree(
    root: Path,
    classes: Sequence[str] = VOC_CLASSES,
    train: int = 10,
    test: int = 5,
    seed: int = 0,
    boxes_only: int = 3,
) -> Path:
    """VOCdevkit/VOC2012 below `root`; returns `root`.

    Beside the usable objects: in the first picture of each split a difficult object without an
    outline, in the second a truncated flag on its object; `boxes_only` pictures of each split are
    in ImageSets/Main only, with one object of the first class, and have no outlines.
    """
    from data_prep.voc2012 import CLASSES

    folder, rng = Path(root) / "VOCdevkit/VOC2012", np.random.default_rng(seed)
    lists = {kind: {"train": [], "val": []} for kind in ("Main", "Segmentation")}
    for split, i, label in _plan(classes, {"train": train, "val": test}):
        name = f"{2007 if split == 'train' else 2008}_{i:06d}"
        picture, polygon, box = drawn(rng, label, len(classes))
        objects = [dict(name=classes[label], box=box, truncated=i == 1)]
        if i == 0:
            objects.append(dict(name=classes[0], box=(0, 0, 9, 7), difficult=True))
        save(picture, folder / f"JPEGImages/{name}.jpg")
        write(folder / f"Annotations/{name}.xml", xml(f"{name}.jpg", objects))
        numbers = {"Object": 1, "Class": CLASSES.index(classes[label]) + 1}
        for kind, number in numbers.items():
            save(_indexed(polygon, number), folder / f"Segmentation{kind}/{name}.png")
        for kind in lists.values():
            kind[split].append(name)
    for split in ("train", "val"):
        for i in range(boxes_only):
            name = f"2009_{i + (500 if split == 'val' else 0):06d}"
            picture, _, box = drawn(rng, 0, len(classes))
            save(picture, folder / f"JPEGImages/{name}.jpg")
            objects = [dict(name=classes[0], box=box)]
            write(folder / f"Annotations/{name}.xml", xml(f"{name}.jpg", objects))
            lists["Main"][split].append(name)
    for kind, splits in lists.items():
        for split, names in {**splits, "trainval": sum(splits.values(), [])}.items():
            write(folder / f"ImageSets/{kind}/{split}.txt", "".join(f"{n}\n" for n in names))
    return Path(root)


def _indexed(polygon: list, number: int) -> Image.Image:
    """An outline with VOC's palette and a rim of `VOID` inside its edge, as VOC has around it."""
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putpalette(voc_palette())
    ImageDraw.Draw(image).polygon(polygon, fill=number, outline=VOID)
    return image


def voc_palette() -> list[int]:
    """VOC's colors: the bits of an index, three at a time, from the highest bit of r, g and b."""
    palette = []
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                color[channel] |= (index >> 3 * bit + channel & 1) << 7 - bit
        palette += color
    return palette


def det_tree(
    root: Path,
    classes: Sequence[str] = DET_CLASSES,
    train: int = 10,
    test: int = 5,
    seed: int = 0,
    layout: int = 0,
) -> Path:
    """ILSVRC DET below `root`, in the layout of 2013 (0), 2014 (1) or 2015 to 2017 (2).

    Beside the usable objects: the training pictures of the first class lie in the folder of a
    narrower synset, and one of them also shows a person; a picture without annotation; a validation
    picture without objects; annotations of 2014, which are not read.
    """
    from data_prep.ilsvrc_det import LAYOUTS, MAMMALS

    top = Path(root) / ("ILSVRC" if layout == 2 else "")
    pictures, boxes, val, val_boxes = (top / name for name in LAYOUTS[layout])
    rng = np.random.default_rng(seed)
    for split, i, label in _plan(classes, {"train": train, "val": test}):
        picture, _, box = drawn(rng, label, len(classes))
        number = MAMMALS[classes[label]]
        objects = [dict(name=number, box=box)]
        if split == "train":
            synset = "n02132136" if label == 0 else number  # a kind of bear
            if i == 0:
                objects.append(dict(name="n00007846", box=(1, 1, 9, 9)))
            name = f"{synset}_{i}"
            save(picture, pictures / synset / f"{name}.JPEG")
            write(boxes / synset / f"{name}.xml", xml(name, objects))
        else:
            name = f"ILSVRC2012_val_{i + 1:08d}"
            save(picture, val / f"{name}.JPEG")
            write(val_boxes / f"{name}.xml", xml(name, objects))
    empty = "ILSVRC2012_val_00050000"
    save(drawn(rng, 0, 2)[0], val / f"{empty}.JPEG")
    write(val_boxes / f"{empty}.xml", xml(empty, []))
    save(drawn(rng, 0, 2)[0], pictures / "n02132136" / "n02132136_99999.JPEG")
    later = boxes.parent if layout == 2 else boxes
    item = dict(name=MAMMALS[classes[0]], box=(1, 1, 9, 9))
    write(later / "ILSVRC2014_train_0000/ILSVRC2014_train_00000001.xml", xml("x", [item]))
    return Path(root)


def coco_tree(
    root: Path,
    classes: Sequence[str] = COCO_CLASSES,
    train: int = 10,
    test: int = 5,
    seed: int = 0,
    year: str = "2017",
) -> Path:
    """annotations, train<year> and val<year> below `root`; returns `root`.

    Earlier classes have one object more in both splits than the next, so that they are larger; the
    last has exactly `train` and `test`. Beside them, in each split: a crowd of the first class, one
    object of "hair drier", and a box without area.
    """
    root, rng, ids = Path(root), np.random.default_rng(seed), {c: COCO_IDS[c] for c in classes}
    names = ids | {"hair drier": COCO_IDS["hair drier"]}
    categories = [
        dict(supercategory="thing", id=i, name=c) for c, i in sorted(names.items(), key=_second)
    ]
    first = 1
    for split, count in {"train": train, "val": test}.items():
        images, annotations = [], []
        labels = [k for k in range(len(ids)) for _ in range(count + len(ids) - 1 - k)]
        for label in [*labels, len(ids)]:
            picture, polygon, box = drawn(rng, label, len(ids) + 1)
            number, before = first + len(images), "" if year == "2017" else f"COCO_{split}{year}_"
            images.append(
                dict(
                    license=3,
                    file_name=f"{before}{number:012d}.jpg",
                    height=HEIGHT,
                    width=WIDTH,
                    date_captured="2013-11-14 11:18:45",
                    id=number,
                )
            )
            save(picture, root / f"{split}{year}" / images[-1]["file_name"])
            outline = [float(value) for point in polygon for value in point]
            category = [*names.values()][label]
            annotations.append(_entry(number, number, category, box, [outline]))
        crowd = dict(counts=[WIDTH * HEIGHT - 9, 9], size=[HEIGHT, WIDTH])
        entry = _entry(9000 + first, first, ids[classes[0]], (50, 50, 60, 60), crowd)
        annotations.append({**entry, "iscrowd": 1})
        flat = _entry(9001 + first, first, ids[classes[0]], (5, 5, 5, 9), [[5.0, 5, 5, 9, 5, 7]])
        annotations.append(flat)
        content = dict(info=dict(year=int(year)), licenses=[], images=images)
        content |= dict(annotations=annotations, categories=categories)
        write(root / f"annotations/instances_{split}{year}.json", json.dumps(content))
        first += len(images)
    return root


def _second(item: tuple) -> object:
    return item[1]


def _entry(number: int, image: int, category: int, box: Corners, segmentation) -> dict:
    left, top, right, bottom = box
    wide, high = right - left, bottom - top
    return dict(
        segmentation=segmentation,
        area=float(wide * high),
        iscrowd=0,
        image_id=image,
        bbox=[float(left), float(top), float(wide), float(high)],
        category_id=category,
        id=number,
    )
