"""Annotations in XML and outlines of MS-COCO, by hand, hostile and damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from object_trees import edit, write, xml

from data_prep.annotations import coco_mask, in_picture, read_annotation, run_lengths
from kpnb.errors import KpnbError


def annotation(tmp_path: Path, box: tuple, size=(20, 10), **flags) -> Path:
    return write(tmp_path / "a.xml", xml("a", [dict(name="cat", box=box, **flags)], size))


def test_a_box_by_hand(tmp_path):
    file = annotation(tmp_path, (2, 3, 7, 9), difficult=True)
    # The file says pixels 3 to 7 and 4 to 9, counted from 1 and with the last.
    for corner in ("<xmin>3<", "<ymin>4<", "<xmax>7<", "<ymax>9<"):
        assert corner in file.read_text()
    found = read_annotation(file)
    assert (found.width, found.height, len(found.objects)) == (20, 10, 1)
    item = found.objects[0]
    assert (item.number, item.category, item.box) == (1, "cat", (2, 3, 7, 9))  # not the <part>'s
    assert item.difficult and not item.truncated


def test_fractions_of_a_pixel_are_kept(tmp_path):
    file = annotation(tmp_path, (2, 3, 7, 9))
    edit(file, "<xmin>3<", "<xmin>45.70000076293945<")
    edit(file, "<xmax>7<", "<xmax>50<")
    edit(file, "<width>20<", "<width>60<")
    assert read_annotation(file).objects[0].box == pytest.approx((44.7, 3, 50, 9), abs=1e-6)


@pytest.mark.parametrize(
    "box, expected",
    [
        ((-1, -1, 21, 11), (0, 0, 20, 10)),  # one pixel out is cut
        ((0, 0, 20, 10), (0, 0, 20, 10)),
        ((-2, 0, 20, 10), KpnbError),
        ((0, 0, 20, 12), KpnbError),
        ((5, 5, 5, 9), KpnbError),
        ((-1, 0, 0, 10), None),
        ((float("nan"), 0, 20, 10), KpnbError),
    ],
)
def test_boxes_at_the_edge(box, expected):
    if expected is KpnbError:
        with pytest.raises(KpnbError, match="here.* box"):
            in_picture(box, 20, 10, "here", "refuse")
    else:
        assert in_picture(box, 20, 10, "here", "refuse") == expected


def test_clipping_instead_of_refusing(tmp_path):
    inside, far = dict(name="cat", box=(5, 5, 99, 9)), dict(name="cat", box=(30, 5, 40, 9))
    file = write(tmp_path / "a.xml", xml("a", [inside, far], (20, 10)))
    found = read_annotation(file, "clip").objects
    assert [item.box for item in found] == [(5, 5, 20, 9), None]
    assert all(item.clipped for item in found)
    with pytest.raises(KpnbError, match="a.xml, object 1"):
        read_annotation(file)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]>'


FOREIGN = '<!doctype a SYSTEM "file:///etc/passwd">'


@pytest.mark.parametrize("head", [BOMB, FOREIGN, "<!ENTITY x 'y'>"])
def test_declarations_are_refused(tmp_path, head):
    file = annotation(tmp_path, (2, 3, 7, 9))
    file.write_text(head + file.read_text())
    with pytest.raises(KpnbError, match="do not use"):
        read_annotation(file)


def test_other_encodings_are_refused_or_read_as_utf_8(tmp_path):
    file = annotation(tmp_path, (2, 3, 7, 9))
    text = file.read_text()
    file.write_bytes((BOMB + text).encode("utf-16"))
    with pytest.raises(KpnbError, match="UTF-8"):
        read_annotation(file)
    # Declared as EBCDIC, whose letters would hide the DOCTYPE: the declaration is not followed.
    file.write_bytes(b"<?xml version='1.0' encoding='cp037'?>" + BOMB.encode("cp037"))
    with pytest.raises(KpnbError, match="UTF-8|damaged"):
        read_annotation(file)


@pytest.mark.parametrize(
    "old, new",
    [
        ("</annotation>", ""),
        ("<width>20</width>", ""),
        ("<width>20<", "<width>twenty<"),
        ("<height>10<", "<height>0<"),
        ("<xmin>3<", "<xmin>inf<"),
        ("<xmin>3</xmin>", ""),
        ("<name>cat</name>", "<name> </name>"),
        ("annotation>", "html>"),
    ],
)
def test_damaged_annotations_are_refused(tmp_path, old, new):
    file = annotation(tmp_path, (2, 3, 7, 9))
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(KpnbError, match="a.xml"):
        read_annotation(file)


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
