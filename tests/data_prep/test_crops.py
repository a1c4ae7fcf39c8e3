"""Objects cut out of pictures: windows, pixels and masks, by hand where it can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_trees import photo
from PIL import Image
from refusals import refused, refuses

from data_prep.crops import UnusableObjectError, crop_object, read_picture, window
from data_prep.objects import PictureObject


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


def test_box_mask_by_hand(cut):
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


def test_outline_by_hand(cut):
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
     ((5, 5, 20, 20), None, "has no outline")],
)  # fmt: skip
def test_unusable_boxes_and_outlines(cut, box, mask, reason):
    with refused(reason) as caught:
        cut(box, 1.0, 16, "box" if reason in (EMPTY, OUTSIDE) else "outline", mask)
    skipped = reason in (EMPTY, OUTSIDE, "no foreground in its crop")
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
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(tmp_path / "f.png")
    refuses(read_picture, "8-bit", tmp_path / "f.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refuses(read_picture, "cannot be read as a picture", tmp_path / "g.png")
