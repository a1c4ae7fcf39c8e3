"""The reader of Pascal VOC 2012, on a generated tree in its layout."""

from pathlib import Path

import numpy as np
import pytest
from object_trees import edit, save, voc_palette, voc_tree, write
from PIL import Image

from data_prep import voc2012
from kpnb.errors import KpnbError

VOC = "VOCdevkit/VOC2012"


@pytest.fixture
def root(tmp_path) -> Path:
    return voc_tree(tmp_path, train=4, test=2)


def read(root: Path, **options):
    return voc2012.read(root, partial=True, **options)


def test_voc_palette_is_the_published_one():
    assert voc_palette()[3 : 3 * 5] == [128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128]
    assert voc_palette()[-3:] == [224, 224, 192]


def test_voc_rules(root):
    assert read(root).left_out == {"difficult": 2}
    assert read(root, keep_difficult=True).left_out == {"no outline": 2}
    assert read(root, leave_truncated=True).left_out == {"difficult": 2, "truncated": 2}
    every = read(root, objects="all")
    assert len(every.objects) == len(read(root).objects) + 6
    assert all(o.mask is None for o in every.objects)
    assert len(read(root / VOC).objects) == 18  # the folder itself may be given


def test_a_class_without_test_objects_is_left_out(root):
    lists = root / VOC / "ImageSets/Segmentation"
    names = [name for name in (lists / "val.txt").read_text().split() if int(name[-6:]) % 3 != 1]
    write(lists / "val.txt", "\n".join(names))
    found = read(root)
    assert found.classes == ("cat", "train")
    assert found.left_out == {"difficult": 2, "class not in both splits": 4}
    write(lists / "val.txt", names[0])
    write(lists / "train.txt", "2007_000001")
    with pytest.raises(KpnbError, match="both splits"):
        read(root)


def test_voc_the_rim_is_background(root):
    found = read(root).objects[0]
    indices = np.asarray(Image.open(root / VOC / "SegmentationObject/2007_000000.png"))
    assert (indices == 255).any()
    assert not found.mask()[indices == 255].any()


def test_voc_outlines_go_by_the_order_in_the_annotation(root):
    folder = root / VOC
    image = Image.open(folder / "SegmentationObject/2007_000000.png")
    image.putpixel((1, 1), 2)  # the difficult object's, at (0, 0, 9, 7)
    save(image, folder / "SegmentationObject/2007_000000.png")
    image = Image.open(folder / "SegmentationClass/2007_000000.png")
    image.putpixel((1, 1), voc2012.CLASSES.index("cat") + 1)
    save(image, folder / "SegmentationClass/2007_000000.png")
    second = read(root, keep_difficult=True).objects[1]
    assert (second.name, second.box) == ("2007_000000#2", (0, 0, 9, 7))
    assert np.argwhere(second.mask()).tolist() == [[1, 1]]


def _corner(kind: str, index: int):
    """Only the last row's first pixel has `index`."""

    def single(image: Image.Image) -> Image.Image:
        image = image.point([0] * 256)
        image.putpixel((0, 79), index)
        return image

    return kind, single


def _spoil(folder: Path, kind: str, change) -> None:
    file = folder / f"Segmentation{kind}/2007_000000.png"
    save(change(Image.open(file)), file)


VOC_FAULTS = {
    "unknown class": (lambda f: edit(f / "Annotations/2007_000000.xml", "cat", "unicorn"), "unic"),
    "outline elsewhere": (
        lambda f: [_spoil(f, *_corner(kind, i)) for kind, i in (("Object", 1), ("Class", 8))],
        "Outline 1 of .*2007_000000.png does not fit",
    ),
    "color of another class": (
        lambda f: _spoil(f, "Class", lambda i: i.point([7 * (v == 8) for v in range(256)])),
        "does not fit its cat",
    ),
    "outline of no object": (
        lambda f: _spoil(f, "Object", lambda i: i.point([3 * (v == 1) for v in range(256)])),
        "an outline 3",
    ),
    "palette lost": (lambda f: _spoil(f, "Object", lambda i: i.convert("RGB")), "palette"),
    "other size": (lambda f: _spoil(f, "Object", lambda i: i.crop((0, 0, 9, 9))), "pixels"),
    "cut outline": (
        lambda f: (f / "SegmentationObject/2007_000000.png").write_bytes(b"\x89PNG\r\n"),
        "damaged",
    ),
    "annotation gone": (lambda f: (f / "Annotations/2007_000000.xml").unlink(), "missing"),
    "a picture twice": (
        lambda f: edit(f / "ImageSets/Segmentation/val.txt", "2008_000000", "2007_000000"),
        "twice",
    ),
    "empty list": (lambda f: write(f / "ImageSets/Segmentation/val.txt", "\n"), "empty"),
}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_voc_faults(fault, root):
    spoil, message = VOC_FAULTS[fault]
    spoil(root / VOC)
    with pytest.raises(KpnbError, match=message):
        read(root)
    if "does not fit" in message:
        left_out = read(root, mismatch="leave_out").left_out
        assert left_out["outline does not fit the object"] == 1
