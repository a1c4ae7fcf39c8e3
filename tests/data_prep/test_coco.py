"""The reader of MS-COCO, on a generated tree in its layout."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from object_trees import coco_tree

from data_prep import coco
from kpnb.errors import KpnbError

TRAIN = "annotations/instances_train2017.json"


@pytest.fixture
def root(tmp_path) -> Path:
    return coco_tree(tmp_path, train=3, test=2)


def read(root: Path, **options):
    return coco.read(root, partial=True, **{"largest": 3, **options})


def change(root: Path, edit) -> None:
    """Apply `edit` to the content of the training annotations."""
    content = json.loads((root / TRAIN).read_text())
    edit(content)
    (root / TRAIN).write_text(json.dumps(content))


def of(content: dict, category: int) -> list[dict]:
    return [a for a in content["annotations"] if a["category_id"] == category]


def test_what_is_read(root):
    found = read(root)
    assert found.classes == ("person", "car", "chair")  # by id; "hair drier" is the smallest
    counted = Counter((o.split, o.category) for o in found.objects)
    assert counted["train", "person"] == 5 and counted["test", "chair"] == 2
    assert found.left_out == {"crowd": 2, "box without area": 2}
    assert found.about["categories"] == "the 3 with most objects"
    assert found.about["counts"]["found"]["train annotations"] == 5 + 4 + 3 + 1 + 2
    assert found.objects[0].name == "train2017#1"
    left, top, right, bottom = found.objects[0].box
    assert found.objects[0].mask().sum() == (right - left) * (bottom - top)  # a rectangle


def test_the_largest_categories(root):
    def larger(content):
        for entry in of(content, 62):  # chairs: the fewest objects, now the most pixels
            entry["area"] = 1e6
        for entry in of(content, 1):  # persons: all in one picture
            entry["image_id"] = 1
        for entry in of(content, 89):
            entry["iscrowd"] = 1

    change(root, larger)
    for rank, first, second in (
        ("objects", "person", "car"),
        ("pictures", "car", "chair"),
        ("pixels", "person", "chair"),
    ):
        found = coco._Part(root, "train2017").ranked(rank)
        assert {1: "person", 3: "car", 62: "chair"}.keys() == set(found)  # a crowd is no object
        assert set(read(root, rank=rank, largest=2).classes) == {first, second}


def test_ties_go_by_id(root):
    def even(content):
        content["annotations"] = [
            a for i in (1, 3, 62) for a in of(content, i)[:3] if not a["iscrowd"]
        ]

    change(root, even)
    assert coco._Part(root, "train2017").ranked("objects") == [1, 3, 62]


def test_categories_by_name(root):
    assert read(root, names="chair, person").classes == ("person", "chair")
    for names in ("chair", "chair,chair", "chair,unicorn", ","):
        with pytest.raises(KpnbError, match="names"):
            read(root, names=names)


def test_2014(tmp_path):
    found = read(coco_tree(tmp_path, train=2, test=1, year="2014"), year="2014")
    assert found.objects[0].picture.name == "COCO_train2014_000000000001.jpg"
    with pytest.raises(KpnbError, match="train2017"):
        read(tmp_path)


def test_an_object_with_run_lengths(root):
    change(
        root,
        lambda c: c["annotations"][0].update(segmentation=dict(size=[80, 96], counts=[7679, 1])),
    )
    assert np.argwhere(read(root).objects[0].mask()).tolist() == [[79, 95]]


FAULTS = {
    "unknown category": (lambda a, c: a.update(category_id=5), "unknown category 5"),
    "unknown picture": (lambda a, c: a.update(image_id=777), "unknown picture 777"),
    "box out of its picture": (lambda a, c: a.update(bbox=[90, 10, 30, 9]), "annotation 1, has a"),
    "box of nothing": (lambda a, c: a.update(bbox=[float("nan")] * 4), "box without area"),
    "three numbers": (lambda a, c: a.update(bbox=[1, 2, 3]), "four numbers"),
    "box of words": (lambda a, c: a.update(bbox="abcd"), "damaged"),
    "no outline": (lambda a, c: a.update(segmentation=[]), "no outline"),
    "outline of words": (lambda a, c: a.update(segmentation=["abcdef"]), "damaged"),
    "a key is missing": (lambda a, c: a.pop("iscrowd"), "iscrowd"),
    "a category without id": (lambda a, c: c["categories"][0].pop("id"), "damaged"),
    "id of another kind": (lambda a, c: a.update(category_id=[1]), "another kind"),
    "id twice": (lambda a, c: a.update(id=2), "id twice"),
    "no list": (lambda a, c: c.update(images={}), "no list images"),
    "other folder": (lambda a, c: c["images"][0].update(file_name="../x.jpg"), "another folder"),
    "no picture": (lambda a, c: c["images"][0].update(file_name="x.jpg"), "x.jpg is missing"),
    "other categories": (lambda a, c: c["categories"].pop(0), "unknown category|differ"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault, root):
    spoil, message = FAULTS[fault]
    change(root, lambda content: spoil(content["annotations"][0], content))
    with pytest.raises(KpnbError, match=message):
        read(root)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"images": [1]}'])
def test_damaged_files(text, root):
    (root / TRAIN).write_text(text)
    with pytest.raises(KpnbError, match="instances_train2017.json"):
        read(root)


def test_a_cut_file(root):
    content = (root / TRAIN).read_bytes()
    (root / TRAIN).write_bytes(content[: len(content) // 2])
    with pytest.raises(KpnbError, match="damaged"):
        read(root)
    (root / TRAIN).write_bytes(b"\xff\xfe" + content)
    with pytest.raises(KpnbError, match="damaged"):
        read(root)


def test_a_broken_outline_names_its_annotation(root):
    change(root, lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4]]))
    broken = read(root).objects[1]
    with pytest.raises(KpnbError, match="annotation 2, has an outline"):
        broken.mask()


@pytest.mark.parametrize("options", [{"year": "2015"}, {"rank": "size"}, {"largest": 1}])
def test_arguments(options, root):
    with pytest.raises(KpnbError, match="see the choices"):
        read(root, **options)
