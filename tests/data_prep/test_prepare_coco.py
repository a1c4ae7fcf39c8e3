"""The reader of MS-COCO and its outlines, on a generated tree in its layout."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from object_trees import coco_tree

from data_prep import coco
from data_prep.annotations import coco_mask, run_lengths
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


# Outlines


def test_polygons_by_hand():
    assert coco_mask([[1, 0, 3, 0, 3, 2, 1, 2]], 3, 4).tolist() == [
        [False, True, True, False],
        [False, True, True, False],
        [False, False, False, False],
    ]
    # Pixel (0, 0) has its center on the diagonal: right of the edge counts as inside.
    triangle = coco_mask([[0, 0, 3, 0, 3, 3]], 3, 3)
    assert triangle.tolist() == np.triu(np.ones((3, 3), bool)).tolist()
    # Rows are told at their middles, too.
    assert coco_mask([[0, 0.4, 2, 0.4, 2, 0.6, 0, 0.6]], 2, 2).tolist() == [[True] * 2, [False] * 2]
    assert not coco_mask([[0, 0.6, 2, 0.6, 2, 1.4, 0, 1.4]], 2, 2).any()
    both = coco_mask([[0, 0, 2, 0, 2, 1, 0, 1], [1, 0, 3, 0, 3, 1, 1, 1]], 1, 4)
    assert both.tolist() == [[True, True, True, False]]  # any polygon, not an odd number
    bow = coco_mask([[0, 0, 4, 4, 4, 0, 0, 4]], 4, 4)
    assert bow[2, 0] and bow[2, 3] and not bow[0, 1]
    assert not coco_mask([[-9, -9, -5, -9, -5, -5]], 3, 3).any()
    assert coco_mask([[-9, -9, 99, -9, 99, 99, -9, 99]], 3, 3).all()


def test_run_lengths_by_hand():
    # Down the columns: 1 of background, 2 of the object, 3 of background.
    expected = [[False, True], [True, False], [False, False]]
    assert coco_mask(dict(size=[3, 2], counts=[1, 1, 1, 1, 2]), 3, 2).tolist() == expected
    # 1, 1, 1, then 1 - 1 = 0 and 2 - 1 = 1, each plus 48.
    assert run_lengths("11101") == [1, 1, 1, 1, 2]
    assert coco_mask(dict(size=[3, 2], counts="11101"), 3, 2).tolist() == expected
    assert run_lengths("P1") == [32]  # 0 and more, then 1: 1 times 32
    assert run_lengths("0100O") == [0, 1, 0, 1, -1]  # O is -1: 31 with the sign
    assert run_lengths("") == []


def packed(counts: list[int]) -> str:
    """What COCO's rleToString makes of run lengths."""
    text = ""
    for i, count in enumerate(counts):
        value, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 * more))
    return text


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 90))))
def test_run_lengths_come_back(mask):
    column = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], column]))).tolist()
    counts = np.diff([0, *edges, len(column)]).tolist()
    size = [*mask.shape]
    assert run_lengths(packed(counts)) == counts
    for form in (counts, packed(counts)):
        assert (coco_mask(dict(size=size, counts=form), *size) == mask).all()


@pytest.mark.parametrize(
    "shape",
    [
        dict(size=[3, 2], counts=[1, 1]),
        dict(size=[3, 2], counts=[7, -1]),
        dict(size=[3, 2], counts=[1.5, 4.5]),
        dict(size=[2, 3], counts=[6]),
        dict(size=[3, 2]),
        dict(size=[3, 2], counts="1é"),
        dict(size=[3, 2], counts="1P"),
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0, 1, float("nan"), 2, 2]],
        [["a"] * 6],
    ],
)
def test_broken_outlines(shape):
    with pytest.raises(KpnbError, match="An outline has"):
        coco_mask(shape, 3, 2)
