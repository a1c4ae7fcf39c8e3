"""Annotations in XML and outlines of MS-COCO, by hand, hostile and damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from object_trees import edit, put, xml
from refusals import refuses

from data_prep.annotations import coco_mask, in_picture, read_annotation, run_lengths

NAN = float("nan")


def annotation(folder: Path, *boxes: tuple, **flags) -> Path:
    objects = [dict(name="cat", box=box, **flags) for box in boxes or [(2, 3, 7, 9)]]
    return put(folder / "a.xml", xml("a", objects, (20, 10)))


def test_a_box_by_hand(tmp_path):
    file = annotation(tmp_path, difficult=True)
    # The file says pixels 3 to 7 and 4 to 9, counted from 1 and with the last.
    assert "<xmin>3</xmin><ymin>4</ymin><xmax>7</xmax><ymax>9<" in file.read_text()
    found = read_annotation(file)
    assert (found.width, found.height, len(found.objects)) == (20, 10, 1)
    item = found.objects[0]
    assert (item.number, item.category, item.box) == (1, "cat", (2, 3, 7, 9))  # not the <part>'s
    assert item.difficult and not item.truncated
    for old, new in (("xmin>3<", "xmin>45.70000076293945<"), ("xmax>7<", "xmax>50<")):
        edit(file, old, new)
    edit(file, "<width>20<", "<width>60<")  # fractions of a pixel are kept
    assert read_annotation(file).objects[0].box == pytest.approx((44.7, 3, 50, 9), abs=1e-6)


def test_boxes_at_the_edge():
    whole = (0, 0, 20, 10)
    for box, expected in ((whole, whole), ((-1, -1, 21, 11), whole), ((-1, 0, 0, 10), None)):
        assert in_picture(box, 20, 10, "here", "refuse") == expected  # one pixel out is cut
    for box in ((-2, 0, 20, 10), (0, 0, 20, 12), (5, 5, 5, 9), (NAN, 0, 20, 10)):
        refuses(in_picture, "here.* box", box, 20, 10, "here", "refuse")


def test_clipping_instead_of_refusing(tmp_path):
    file = annotation(tmp_path, (5, 5, 99, 9), (30, 5, 40, 9))
    found = read_annotation(file, "clip").objects
    assert [item.box for item in found] == [(5, 5, 20, 9), None]
    assert all(item.clipped for item in found)
    refuses(read_annotation, "a.xml, object 1", file)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'
FOREIGN = '<!doctype a SYSTEM "file:///etc/passwd">'
# Declared as EBCDIC, whose letters would hide the DOCTYPE: the declaration is not followed.
EBCDIC = b"<?xml version='1.0' encoding='cp037'?>" + BOMB.encode("cp037")


@pytest.mark.parametrize(
    "change, said",
    [(lambda t, h=h: (h + t).encode(), "do not use") for h in (BOMB, FOREIGN, "<!ENTITY x 'y'>")]
    + [(lambda t: (BOMB + t).encode("utf-16"), "UTF-8"), (lambda t: EBCDIC, "UTF-8|damaged")]
    + [(lambda t, old=old, new=new: t.replace(old, new).encode(), "a.xml") for old, new in (
        ("</annotation>", ""), ("<width>20</width>", ""), ("<width>20<", "<width>twenty<"),
        ("<height>10<", "<height>0<"), ("<xmin>3<", "<xmin>inf<"), ("<xmin>3</xmin>", ""),
        ("<name>cat</name>", "<name> </name>"), ("annotation>", "html>"))],
)  # fmt: skip
def test_hostile_and_damaged_annotations_are_refused(tmp_path, change, said):
    file = annotation(tmp_path)
    changed = change(file.read_text())
    assert changed != file.read_bytes()
    file.write_bytes(changed)
    refuses(read_annotation, said, file)


def test_polygons_by_hand():
    square = coco_mask([[1, 0, 3, 0, 3, 2, 1, 2]], 3, 4).astype(int).tolist()
    assert square == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
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
    # 1, 1, 1, then 1 - 1 = 0 and 2 - 1 = 1, each plus 48.
    for counts in ([1, 1, 1, 1, 2], "11101"):
        assert coco_mask(dict(size=[3, 2], counts=counts), 3, 2).tolist() == expected
    packed = {"11101": [1, 1, 1, 1, 2], "P1": [32], "0100O": [0, 1, 0, 1, -1], "": []}
    # P1: 0 and more, then 1: 1 times 32. O is -1: 31 with the sign.
    assert {text: run_lengths(text) for text in packed} == packed


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


RUNS = ([1, 1], [7, -1], [1.5, 4.5], "1é", "1P")
POINTS = ([0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 0, 1, NAN, 2, 2], ["a"] * 6)


def test_broken_outlines():
    shapes = [dict(size=[3, 2], counts=runs) for runs in RUNS] + [[points] for points in POINTS]
    for shape in (*shapes, dict(size=[2, 3], counts=[6]), dict(size=[3, 2])):
        refuses(coco_mask, "An outline has", shape, 3, 2)
