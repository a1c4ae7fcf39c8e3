"""Objects cut out of pictures: their boxes and outlines, and windows, pixels and masks of crops."""

import errno
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_trees import photo
from object_trees import edit, put, xml
from PIL import Image
from refusals import refused, refuses

from data_prep import voc_xml
from data_prep.coco import coco_mask
from data_prep.crops import UnusableObjectError, crop_object, read_picture, window
from data_prep.objects import PictureObject, in_picture
from data_prep.voc_xml import read_annotation

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


def test_boxes_beyond_the_edge_are_refused_or_on_request_clipped(tmp_path):
    whole = (0, 0, 20, 10)
    for box, expected in ((whole, whole), ((-1, -1, 21, 11), whole), ((-1, 0, 0, 10), None)):
        assert in_picture(box, 20, 10, "here", "refuse") == expected  # one pixel out is cut
    for box in ((-2, 0, 20, 10), (0, 0, 20, 12), (5, 5, 5, 9), (NAN, 0, 20, 10)):
        refuses(in_picture, "here.* box", box, 20, 10, "here", "refuse")
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


def test_an_annotation_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    put(tmp_path / "a.xml", "<annotation>")
    monkeypatch.setattr(voc_xml, "MOST_BYTES", 11)
    monkeypatch.setattr(voc_xml, "content", None)
    refuses(read_annotation, "a.xml is too large", tmp_path / "a.xml")


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
    few = ([], [1, 1], [0, 0, 3, 3])  # without area, beside one that has some
    assert (coco_mask([*few, [0, 0, 3, 0, 3, 3]], 3, 3) == triangle).all()
    assert not coco_mask(few, 3, 3).any()
    assert bow[2, 0] and bow[2, 3] and not bow[0, 1]
    assert not coco_mask([[-9, -9, -5, -9, -5, -5]], 3, 3).any()
    assert coco_mask([[-9, -9, 99, -9, 99, 99, -9, 99]], 3, 3).all()


POINTS = ([0, 0, 1, 1, 2], [0, 0, 1, NAN, 2, 2], ["a"] * 6)


def test_broken_outlines():
    for points in POINTS:
        refuses(coco_mask, "An outline has", [points], 3, 2)
    for counts in ([1, 1, 1, 1, 2], "11101"):
        refuses(coco_mask, "run lengths, which", dict(size=[3, 2], counts=counts), 3, 2)


@pytest.fixture
def cut(tmp_path):
    """Crops an object of a lossless picture, 60 x 40, whose pixel (row, column) is that and 7."""
    pixels = np.full((40, 60, 3), 7, dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(40)[:, None], np.arange(60)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    return lambda *rest: cropped(tmp_path / "a.png", *rest)


def cropped(picture, box, factor, size, foreground, mask=None):
    mask = None if mask is None else mask.copy
    obj = PictureObject("a", picture, "cat", "train", box, mask)
    return crop_object(obj, factor, size, foreground)


@pytest.mark.parametrize(
    "box, factor, expected",
    # center (25, 20); 20 x 10 enlarged 1.5 times is 30 x 15: rows 12.5 to 27.5 round up
    [((15, 15, 35, 25), 1.5, (10, 13, 40, 28)), ((15, 15, 35, 25), 1.0, (15, 15, 35, 25)),
     ((0, 30, 20, 40), 2.0, (0, 25, 30, 40)),  # clipped at the left and the bottom, not shifted
     ((3.2, 3.2, 3.4, 3.4), 1.0, (3, 3, 4, 4)), ((59.9, 39.9, 60, 40), 1.0, (59, 39, 60, 40))],
)  # fmt: skip
def test_window_by_hand(box, factor, expected):
    assert window(box, factor, 60, 40) == expected


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.floats(-20, 80)] * 4), st.floats(0.1, 200), st.integers(1, 60))
def test_a_window_is_never_empty_and_stays_inside(box, factor, side):
    left, top, right, bottom = window(box, factor, side, side)
    assert 0 <= left < right <= side and 0 <= top < bottom <= side


def test_pixels_of_a_crop_are_the_windows_and_nothing_beside_it(cut, tmp_path):
    pixels, mask = cut((10, 5, 42, 37), 1.0, 32, "box")
    assert pixels.dtype == np.uint8 and pixels.shape == (3, 32, 32) and mask.all()
    assert (pixels[0] == np.arange(5, 37)[:, None]).all()
    assert (pixels[1] == np.arange(10, 42)).all() and (pixels[2] == 7).all()
    ground = np.zeros((64, 64, 3), dtype=np.uint8)
    ground[16:48, 16:48] = 200  # nothing of the black around it may leak in by resizing
    Image.fromarray(ground).save(tmp_path / "b.png")
    assert (cropped(tmp_path / "b.png", (16, 16, 48, 48), 1.0, 20, "block")[0] == 200).all()


def test_masks_of_boxes_and_outlines_by_hand(cut):
    # 16 x 16 enlarged twice is 32 x 32 pixels: the box is the middle half, each way
    expected = np.zeros((32, 32), dtype=bool)
    expected[8:24, 8:24] = True
    assert (cut((20, 12, 36, 28), 2.0, 32, "box")[1] == expected).all()
    # at the edge the window is clipped: 24 wide from 0, the box takes the first 16 of them
    mask = cut((0, 12, 16, 28), 2.0, 48, "box")[1]
    assert mask.any(0).tolist() == [True] * 32 + [False] * 16
    # window 12 to 44; centers 20.5 to 35.5 are between 20.4 and 36.4
    mask = cut((20.4, 12, 36.4, 28), 2.0, 32, "box")[1]
    assert np.flatnonzero(mask.any(0)).tolist() == list(range(8, 24))
    assert cut((20, 12, 40, 32), 1.5, 240, "box")[1].mean() == pytest.approx(1 / 1.5**2)
    whole = np.zeros((40, 60), dtype=bool)
    whole[10:20, 30:50] = True
    expected = np.zeros((60, 60), dtype=bool)
    expected[:20, 15:45] = True  # 40 x 30 pixels; 1.5 and 2 times as many
    assert (cut((20, 10, 60, 40), 1.0, 60, "outline", whole)[1] == expected).all()
    without = cut(None, 1.0, 60, "outline", whole)[1]
    assert without.mean() == pytest.approx(whole.mean(), abs=0.02)
    # 30 columns become 20: centers 0.75, 2.25, 3.75, ... lie in columns 0, 2, 3, 5, 6, ...
    third = np.zeros((40, 60), dtype=bool)
    third[:, 2::3] = True
    mask = cut((0, 0, 30, 30), 1.0, 20, "outline", third)[1]
    assert np.flatnonzero(mask.all(0)).tolist() == list(range(1, 20, 2)) and mask.mean() == 0.5


@pytest.mark.parametrize("size", [16, 64, 224])
def test_the_published_block_is_9_of_16(cut, size):
    mask = cut((5, 5, 20, 20), 1.5, size, "block")[1]
    assert mask.mean() == 0.5625 and mask.any(0).tolist() == mask.any(1).tolist()
    assert np.flatnonzero(mask.any(0))[[0, -1]].tolist() == [size // 8, 7 * size // 8 - 1]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_every_kind_of_8_bit_picture(tmp_path, mode):
    photo(tmp_path / "a.png", 30, 30, 1, mode)
    pixels, _ = cropped(tmp_path / "a.png", (5, 5, 20, 20), 1.5, 16, "box")
    assert pixels.shape == (3, 16, 16) and pixels.std() > 0
    if mode in ("L", "LA", "1"):
        assert (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all()


EMPTY, OUTSIDE = "an empty box", "a box outside of the picture"
NOTHING = np.zeros((40, 60), dtype=bool)


@pytest.mark.parametrize(
    "box, mask, reason",
    [((5, 5, 5, 20), None, EMPTY), ((20, 5, 10, 20), None, EMPTY),
     ((float("nan"), 5, 10, 20), None, EMPTY),
     ((60, 5, 70, 20), None, OUTSIDE), ((5, -9, 10, 0), None, OUTSIDE),
     ((5, 5, 20, 20), NOTHING, "no foreground in its crop"),
     ((5, 5, 20, 20), NOTHING.T, "is bool .* not bool"),
     ((5, 5, 20, 20), NOTHING.astype(np.uint8), "is uint8 .* not bool"),
     ((5, 5, 20, 20), None, "no outline")],
)  # fmt: skip
def test_unusable_boxes_and_outlines(cut, box, mask, reason):
    with refused(reason) as caught:
        cut(box, 1.0, 16, "box" if reason in (EMPTY, OUTSIDE) else "outline", mask)
    skipped = not reason.startswith("is ")
    assert isinstance(caught.value, UnusableObjectError) == skipped
    assert not skipped or caught.value.reason == reason


def test_unreadable_pictures(tmp_path, monkeypatch):
    for name in ("a.jpg", "d.png", "g.png"):
        photo(tmp_path / name, 200, 200)
    whole, damaged = (bytearray((tmp_path / name).read_bytes()) for name in ("a.jpg", "d.png"))
    damaged[60:80] = bytes(20)
    contents = {"a.jpg": whole[: len(whole) // 2], "b.jpg": b"no picture", "c.jpg": b""}
    for name, content in (contents | {"d.png": damaged}).items():
        (tmp_path / name).write_bytes(content)
        refuses(read_picture, "cannot be read as a picture", tmp_path / name)
    refuses(read_picture, "is missing", tmp_path / "e.jpg")
    with monkeypatch.context() as locked:  # root may read everything
        locked.setattr(Image, "open", Mock(side_effect=PermissionError(errno.EACCES, "denied")))
        refuses(read_picture, "denied.*: check permissions", tmp_path / "a.jpg")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(tmp_path / "f.png")
    refuses(read_picture, "8-bit", tmp_path / "f.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refuses(read_picture, "cannot be read as a picture", tmp_path / "g.png")
