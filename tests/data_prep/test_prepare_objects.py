"""Readers of Pascal VOC 2012, ILSVRC DET and MS-COCO, on generated trees in their layouts."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from object_trees import coco_tree, det_tree, save, voc_palette, voc_tree, write, xml
from PIL import Image

from data_prep import coco, ilsvrc_det, voc2012
from data_prep.command import main
from data_prep.folder import prepare_images
from data_prep.annotations import in_picture, read_annotation
from kpnb.errors import KpnbError

READERS = {
    "voc": (voc2012, voc_tree, {}),
    "det": (ilsvrc_det, det_tree, {"classes": "bear,fox,zebra"}),
    "coco": (coco, coco_tree, {"largest": 3}),
}
VOC, DET_BOXES = "VOCdevkit/VOC2012", "ILSVRC2013_DET_bbox_train"


@pytest.fixture(scope="session")
def trees(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("objects")
    return {key: tree(root / key, train=4, test=2) for key, (_, tree, _) in READERS.items()}


@pytest.fixture
def copy(trees, tmp_path):
    """A tree of its own to damage."""
    return lambda key: shutil.copytree(trees[key], tmp_path / key)


def read(key: str, root: Path, **options):
    module, _, own = READERS[key]
    return module.read(root, partial=True, **{**own, **options})


def counted(objects) -> Counter:
    return Counter((o.split, o.category) for o in objects.objects)


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


# XML


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


# What all three have in common


@pytest.mark.parametrize("key", READERS)
def test_the_generated_tree_is_read(key, trees):
    found, module = read(key, trees[key]), READERS[key][0]
    extra = {"coco": [2, 1, 0]}.get(key, [0, 0, 0])  # earlier classes of COCO are larger
    for split, count in (("train", 4), ("test", 2)):
        for name, more in zip(found.classes, extra, strict=True):
            assert counted(found)[split, name] == count + more
    assert len({o.name for o in found.objects}) == len(found.objects)
    assert all(o.picture.is_file() for o in found.objects)
    assert (found.dataset, found.factor) == (module.DATASET, module.FACTOR)
    assert read(key, trees[key]).objects[0].name == found.objects[0].name
    json.dumps(found.about)
    pickle.dumps(found)  # other processes can take it


@pytest.mark.parametrize("key", READERS)
def test_the_shape_is_where_its_box_and_outline_say(key, trees):
    for o in read(key, trees[key]).objects:
        pixels = np.asarray(Image.open(o.picture).convert("HSV"))[..., 1] > 120
        left, top, right, bottom = (round(edge) for edge in o.box)
        boxed = np.zeros_like(pixels)
        boxed[top:bottom, left:right] = True
        assert pixels[~boxed].mean() < 0.03  # the ground is grey, JPEG bleeds a little
        if o.mask:
            mask = o.mask()
            assert mask.dtype == bool and mask.shape == pixels.shape
            assert (pixels & mask).sum() / (pixels | mask).sum() > 0.85


@pytest.mark.parametrize("key", READERS)
def test_an_incomplete_copy_has_to_be_accepted(key, trees):
    module, _, own = READERS[key]
    with pytest.raises(KpnbError, match="complete release"):
        module.read(trees[key], **own)


@pytest.mark.parametrize("key", READERS)
def test_missing_pictures_and_folders(key, copy, tmp_path):
    root = copy(key)
    read(key, root).objects[-1].picture.unlink()
    for place, message in ((root, "missing"), (tmp_path / "nowhere", "unpack")):
        with pytest.raises(KpnbError, match=message):
            read(key, place)


# Boxes of COCO have no background without a larger factor.
OFFERED = [(k, f) for k, (m, _, _) in READERS.items() for f in m.OPTIONS.foregrounds]
OFFERED.remove(("coco", "box"))


@pytest.mark.parametrize("key, foreground", OFFERED)
def test_preparing(key, foreground, trees, tmp_path):
    found = read(key, trees[key])
    folder = prepare_images(found, tmp_path / "out", 32, foreground)
    pixels = np.load(folder / "train_pixels.npy")
    masks = np.unpackbits(np.load(folder / "train_masks.npy"), axis=1).reshape(-1, 32, 32)
    labels = np.load(folder / "train_labels.npy")
    assert len(pixels) == sum(o.split == "train" for o in found.objects)
    share = masks.mean()
    # 1 / factor squared, more where a box is at its picture's edge; 12 x 12 of 16 x 16 cells.
    low, high = 0.95 / found.factor**2, 1.7 / found.factor**2
    assert {"box": low < share < high, "block": share == 144 / 256}.get(foreground, True)
    # A class is told by its mean color on the foreground.
    inside = masks[:, None].astype(bool)
    means = (pixels * inside).sum((2, 3)) / inside.sum((2, 3))
    centers = np.stack([means[labels == k].mean(0) for k in range(3)])
    nearest = ((means[:, None] - centers) ** 2).sum(-1).argmin(1)
    assert (nearest == labels).mean() > 0.9


@pytest.mark.parametrize("key", READERS)
def test_the_command_line(key, trees, tmp_path, capsys):
    module, _, own = READERS[key]
    given = [text for name, value in own.items() for text in (f"--{name}", str(value))]
    out = tmp_path / "out"
    arguments = ["--root", str(trees[key]), "--out", str(out), "--size", "32", "--least", "0"]
    assert main(module, [*arguments, "--partial", *given]) == 0
    assert json.loads((out / "manifest.json").read_text())["dataset"] == module.DATASET
    assert main(module, ["--root", str(tmp_path / "empty"), *given]) == 2
    assert module.FILES[0].name in capsys.readouterr().err  # says what to get


# Pascal VOC 2012


def test_voc_palette_is_the_published_one():
    assert voc_palette()[3 : 3 * 5] == [128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128]
    assert voc_palette()[-3:] == [224, 224, 192]


def test_voc_rules(trees):
    root = trees["voc"]
    assert read("voc", root).left_out == {"difficult": 2}
    assert read("voc", root, keep_difficult=True).left_out == {"no outline": 2}
    assert read("voc", root, leave_truncated=True).left_out == {"difficult": 2, "truncated": 2}
    every = read("voc", root, objects="all")
    assert len(every.objects) == len(read("voc", root).objects) + 6
    assert all(o.mask is None for o in every.objects)
    assert len(read("voc", root / VOC).objects) == 18  # the folder itself may be given


def test_a_class_without_test_objects_is_left_out(copy):
    root = copy("voc")
    lists = root / VOC / "ImageSets/Segmentation"
    names = [name for name in (lists / "val.txt").read_text().split() if int(name[-6:]) % 3 != 1]
    write(lists / "val.txt", "\n".join(names))
    found = read("voc", root)
    assert found.classes == ("cat", "train")
    assert found.left_out == {"difficult": 2, "class not in both splits": 4}
    write(lists / "val.txt", names[0])
    write(lists / "train.txt", "2007_000001")
    with pytest.raises(KpnbError, match="both splits"):
        read("voc", root)


def test_voc_the_rim_is_background(trees):
    found = read("voc", trees["voc"]).objects[0]
    indices = np.asarray(Image.open(trees["voc"] / VOC / "SegmentationObject/2007_000000.png"))
    assert (indices == 255).any()
    assert not found.mask()[indices == 255].any()


def test_voc_outlines_go_by_the_order_in_the_annotation(copy):
    root = copy("voc")
    folder = root / VOC
    image = Image.open(folder / "SegmentationObject/2007_000000.png")
    image.putpixel((1, 1), 2)  # the difficult object's, at (0, 0, 9, 7)
    save(image, folder / "SegmentationObject/2007_000000.png")
    image = Image.open(folder / "SegmentationClass/2007_000000.png")
    image.putpixel((1, 1), voc2012.CLASSES.index("cat") + 1)
    save(image, folder / "SegmentationClass/2007_000000.png")
    second = read("voc", root, keep_difficult=True).objects[1]
    assert (second.name, second.box) == ("2007_000000#2", (0, 0, 9, 7))
    assert np.argwhere(second.mask()).tolist() == [[1, 1]]


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


def _corner(kind: str, index: int):
    """Only the last row's first pixel has `index`."""

    def single(image: Image.Image) -> Image.Image:
        image = image.point([0] * 256)
        image.putpixel((0, 79), index)
        return image

    return kind, single


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_voc_faults(fault, copy):
    root = copy("voc")
    spoil, message = VOC_FAULTS[fault]
    spoil(root / VOC)
    with pytest.raises(KpnbError, match=message):
        read("voc", root)
    if "does not fit" in message:
        left_out = read("voc", root, mismatch="leave_out").left_out
        assert left_out["outline does not fit the object"] == 1


# ILSVRC DET


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_det_layouts(layout, tmp_path):
    found = read("det", det_tree(tmp_path, train=2, test=1, layout=layout))
    assert counted(found)["train", "bear"] == 2  # in the folder of a kind of bear
    assert not [o.name for o in found.objects if "2014" in o.name]
    assert found.about["counts"]["found"] == {"train boxes": 7, "validation pictures": 4}
    assert found.left_out == {"another class, in pictures with one of these": 1}


def test_det_classes(trees):
    assert len(set(ilsvrc_det.CLASSES.split(","))) == 12
    assert set(ilsvrc_det.CLASSES.split(",")) < set(ilsvrc_det.MAMMALS)
    some = read("det", trees["det"], classes="n02391049, fox")
    assert some.classes == ("zebra", "fox")  # in the order asked for
    ours = read("det", trees["det"], classes=ilsvrc_det.CLASSES)
    assert ours.classes == ("bear", "fox", "zebra") and "ours" in ours.about["which classes"]
    for wrong in ("bear", "bear,bear", "bear,n02131653", "bear,unicorn", ""):
        with pytest.raises(KpnbError, match="class"):
            read("det", trees["det"], classes=wrong)


def test_det_boxes_out_of_their_pictures(copy):
    root = copy("det")
    file = root / DET_BOXES / "n02118333/n02118333_1.xml"
    edit(file, "<width>96<", "<width>60<")  # the box ends at 70
    found = read("det", root)
    assert found.about["boxes cut at their picture's edge"] == 1
    assert next(o for o in found.objects if o.name == "n02118333_1#1").box[2] == 60
    with pytest.raises(KpnbError, match="n02118333_1.xml"):
        read("det", root, outside="refuse")
    edit(file, "<width>60<", "<width>9<")
    assert read("det", root).left_out["box without a pixel in its picture"] == 1


@pytest.mark.parametrize("name", ["n02118333/n02118333_1.xml", "n02132136/n02132136_3.xml"])
def test_det_cut_and_foreign_annotations(name, copy):
    root = copy("det")
    file = root / DET_BOXES / name
    text = file.read_text()
    file.write_text(text[: text.index("<object>")])  # no class is left to look for
    with pytest.raises(KpnbError, match="cut off"):
        read("det", root)
    file.write_text(text.replace("</object>", "</object><object><name>fox</name></object>"))
    with pytest.raises(KpnbError, match=file.name):
        read("det", root)
