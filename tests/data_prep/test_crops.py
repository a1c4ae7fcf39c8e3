"""Objects cut out of pictures: windows, pixels and masks, by hand where it can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_trees import photo
from PIL import Image

from data_prep.crops import UnusableObjectError, crop_object, read_picture, window
from data_prep.objects import PictureObject
from kpnb.errors import KpnbError


@pytest.fixture
def picture(tmp_path):
    """60 x 40 pixels, lossless; the pixel (row, column) is (row, column, 7)."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(40)[:, None], np.arange(60)
    pixels[..., 2] = 7
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def an_object(picture, box=None, mask=None):
    return PictureObject("a", picture, "cat", "train", box, mask)


def test_window_by_hand():
    # center (25, 20); 20 x 10 enlarged 1.5 times is 30 x 15: rows 12.5 to 27.5 round up
    assert window((15, 15, 35, 25), 1.5, 60, 40) == (10, 13, 40, 28)
    assert window((15, 15, 35, 25), 1.0, 60, 40) == (15, 15, 35, 25)
    # clipped at the left and the bottom, not shifted
    assert window((0, 30, 20, 40), 2.0, 60, 40) == (0, 25, 30, 40)
    assert window((3.2, 3.2, 3.4, 3.4), 1.0, 60, 40) == (3, 3, 4, 4)
    assert window((59.9, 39.9, 60, 40), 1.0, 60, 40) == (59, 39, 60, 40)


@settings(deadline=None)
@given(st.tuples(*[st.floats(-20, 80)] * 4), st.floats(0.1, 200), st.integers(1, 60))
def test_a_window_is_never_empty_and_stays_inside(box, factor, side):
    left, top, right, bottom = window(box, factor, side, side)
    assert 0 <= left < right <= side and 0 <= top < bottom <= side


def test_pixels_of_a_crop_are_the_windows(picture):
    pixels, mask = crop_object(an_object(picture, (10, 5, 42, 37)), 1.0, 32, "box")
    assert pixels.dtype == np.uint8 and pixels.shape == (3, 32, 32) and mask.all()
    assert (pixels[0] == np.arange(5, 37)[:, None]).all()
    assert (pixels[1] == np.arange(10, 42)).all() and (pixels[2] == 7).all()


def test_a_window_does_not_show_what_is_beside_it(tmp_path):
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[16:48, 16:48] = 200  # nothing of the black around it may leak in by resizing
    Image.fromarray(pixels).save(tmp_path / "a.png")
    crop, _ = crop_object(an_object(tmp_path / "a.png", (16, 16, 48, 48)), 1.0, 20, "block")
    assert (crop == 200).all()


def test_box_mask_by_hand(picture):
    # 16 x 16 enlarged twice is 32 x 32 pixels: the box is the middle half, each way
    _, mask = crop_object(an_object(picture, (20, 12, 36, 28)), 2.0, 32, "box")
    expected = np.zeros((32, 32), dtype=bool)
    expected[8:24, 8:24] = True
    assert (mask == expected).all()
    # at the edge the window is clipped: 24 wide from 0, the box takes the first 16 of them
    _, mask = crop_object(an_object(picture, (0, 12, 16, 28)), 2.0, 48, "box")
    assert mask.any(0).tolist() == [True] * 32 + [False] * 16
    assert mask.any(1).tolist() == [False] * 12 + [True] * 24 + [False] * 12


def test_centers_of_pixels_decide(picture):
    # window 12 to 44; centers 20.5 to 35.5 are between 20.4 and 36.4
    _, mask = crop_object(an_object(picture, (20.4, 12, 36.4, 28)), 2.0, 32, "box")
    assert np.flatnonzero(mask.any(0)).tolist() == list(range(8, 24))
    # 30 columns become 20: centers 0.75, 2.25, 3.75, ... lie in columns 0, 2, 3, 5, 6, ...
    last = np.zeros((40, 60), dtype=bool)
    last[:, 2::3] = True  # every third of the 30
    _, mask = crop_object(an_object(picture, (0, 0, 30, 30), lambda: last), 1.0, 20, "outline")
    assert np.flatnonzero(mask.all(0)).tolist() == list(range(1, 20, 2)) and mask.mean() == 0.5


def test_share_of_a_box_follows_from_its_factor(picture):
    _, mask = crop_object(an_object(picture, (20, 12, 40, 32)), 1.5, 240, "box")
    assert mask.mean() == pytest.approx(1 / 1.5**2)


@pytest.mark.parametrize("size", [16, 64, 224])
def test_the_published_block_is_9_of_16(picture, size):
    _, mask = crop_object(an_object(picture, (5, 5, 20, 20)), 1.5, size, "block")
    assert mask.mean() == 0.5625
    assert mask.any(0).tolist() == mask.any(1).tolist()
    assert np.flatnonzero(mask.any(0))[[0, -1]].tolist() == [size // 8, 7 * size // 8 - 1]


def test_outline_by_hand(picture):
    whole = np.zeros((40, 60), dtype=bool)
    whole[10:20, 30:50] = True
    obj = an_object(picture, (20, 10, 60, 40), lambda: whole)
    _, mask = crop_object(obj, 1.0, 60, "outline")  # 40 x 30 pixels; 1.5 and 2 times as many
    expected = np.zeros((60, 60), dtype=bool)
    expected[:20, 15:45] = True
    assert (mask == expected).all()
    _, without = crop_object(an_object(picture, None, lambda: whole), 1.0, 60, "outline")
    assert without.mean() == pytest.approx(whole.mean(), abs=0.02)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "RGB"])
def test_every_kind_of_8_bit_picture(tmp_path, mode):
    photo(tmp_path / "a.png", 30, 30, 1, mode)
    pixels, _ = crop_object(an_object(tmp_path / "a.png", (5, 5, 20, 20)), 1.5, 16, "box")
    assert pixels.shape == (3, 16, 16) and pixels.std() > 0
    if mode in ("L", "LA", "1"):
        assert (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all()


def test_cmyk(tmp_path):
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    pixels, _ = crop_object(an_object(tmp_path / "red.jpg", (2, 2, 9, 9)), 1.5, 16, "box")
    assert pixels[0].min() > 245 and pixels[1:].max() < 10


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5, 5, 5, 20), "an empty box"),
        ((20, 5, 10, 20), "an empty box"),
        ((float("nan"), 5, 10, 20), "an empty box"),
        ((60, 5, 70, 20), "a box outside of the picture"),
        ((5, -9, 10, 0), "a box outside of the picture"),
    ],
)
def test_unusable_boxes(picture, box, reason):
    with pytest.raises(UnusableObjectError, match=reason) as caught:
        crop_object(an_object(picture, box), 1.5, 16, "box")
    assert caught.value.reason == reason


def test_unusable_outlines(picture):
    nothing = np.zeros((40, 60), dtype=bool)
    for mask, message in (
        (nothing, "no foreground"),
        (nothing.T, "not bool"),
        (nothing.astype(np.uint8), "not bool"),
    ):
        obj = an_object(picture, (5, 5, 20, 20), lambda mask=mask: mask)
        with pytest.raises(KpnbError, match=message):
            crop_object(obj, 1.0, 16, "outline")
    with pytest.raises(KpnbError, match="has no outline"):
        crop_object(an_object(picture, (5, 5, 20, 20)), 1.0, 16, "outline")


def test_unreadable_pictures(tmp_path, monkeypatch):
    photo(tmp_path / "a.jpg", 200, 200)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jpg").write_text("no picture")
    (tmp_path / "c.jpg").write_bytes(b"")
    photo(tmp_path / "d.png", 100, 100)
    damaged = bytearray((tmp_path / "d.png").read_bytes())
    damaged[60:80] = bytes(20)
    (tmp_path / "d.png").write_bytes(damaged)
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.png"):
        with pytest.raises(KpnbError, match="cannot be read as a picture"):
            read_picture(tmp_path / name)
    with pytest.raises(KpnbError, match="is missing"):
        read_picture(tmp_path / "e.jpg")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(tmp_path / "f.png")
    with pytest.raises(KpnbError, match="8-bit"):
        read_picture(tmp_path / "f.png")
    photo(tmp_path / "g.png", 100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(KpnbError, match="cannot be read as a picture"):
        read_picture(tmp_path / "g.png")
