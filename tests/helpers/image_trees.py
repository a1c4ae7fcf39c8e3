"""Small trees in the genuine layout of CUB-200-2011 and Tiny ImageNet."""

from pathlib import Path

import numpy as np
from object_trees import put
from PIL import Image

from data_prep.objects import ObjectSet, PictureObject

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
WNIDS = ("n02124075", "n04067472")


def photo(path: Path, width: int, height: int, seed: int = 0, mode: str = "RGB") -> Path:
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return put(path, picture.convert(mode))


def cub_tree(root: Path, train: int = 2, test: int = 1) -> Path:
    """`train`, `test` birds of two classes; outlines: a rim of 3, middle 255, the rest 51."""
    folder = root / "CUB_200_2011"
    names = ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    tables = dict.fromkeys(names, "")
    for number in range(1, 2 * (train + test) + 1):
        label, i = divmod(number - 1, train + test)
        name = f"{BIRDS[label]}/{BIRDS[label][4:]}_{i:04}_{700 + number}"
        width, height, mode = 60 + 4 * i, 48, "L" if number == 2 else "RGB"
        photo(folder / "images" / f"{name}.jpg", width, height, number, mode)
        grey = np.zeros((height, width), dtype=np.uint8)
        grey[11:39, 13:43] = 51
        grey[15:35, 17:39] = 255
        put(root / "segmentations" / f"{name}.png", Image.fromarray(grey))
        rows = (f"{name}.jpg", label + 1, int(i < train), "10.0 8.0 36.0 34.0")
        for table, row in zip(tables, rows, strict=True):
            tables[table] += f"{number} {row}\n"
    tables["classes"] = "".join(f"{label} {bird}\n" for label, bird in enumerate(BIRDS, 1))
    for name, text in tables.items():
        put(folder / f"{name}.txt", text)
    return root


def tiny_tree(root: Path, train: int = 3, test: int = 2) -> Path:
    """`train` and `test` pictures of two classes, boxes in the release's inclusive pixels."""
    folder, val = root / "tiny-imagenet-200", ""
    for label, wnid in enumerate(WNIDS):
        boxes = ""
        for i in range(train):
            mode = "L" if i == 1 else "RGB"  # some pictures of the release are grey
            name = f"{wnid}_{i}.JPEG"
            photo(folder / "train" / wnid / "images" / name, 64, 64, 10 * label + i, mode)
            boxes += f"{name}\t{8 * i}\t16\t63\t47\n"
        put(folder / "train" / wnid / f"{wnid}_boxes.txt", boxes)
        for i in range(test):
            name = f"val_{test * label + i}.JPEG"
            photo(folder / "val" / "images" / name, 64, 64, 90 + 10 * label + i)
            val += f"{name}\t{wnid}\t0\t32\t44\t62\n"
    put(folder / "val" / "val_annotations.txt", val)
    put(folder / "wnids.txt", "\n".join(WNIDS))
    put(folder / "words.txt", f"n00001740\tentity\n{WNIDS[0]}\tEgyptian cat\n")
    return root


def picture_objects(folder: Path) -> ObjectSet:
    """Ten objects of two classes in two splits, each in its own picture."""
    made = []
    for i in range(10):
        picture, split = photo(folder / f"{i}.png", 50, 40, i), "train" if i < 6 else "test"
        made.append(PictureObject(f"o{i}", picture, "ab"[i % 2], split, (10, 8, 30 + i, 32)))
    return ObjectSet("things", ("a", "b"), tuple(made), 1.5, {"odd": 3}, {"note": 1})
