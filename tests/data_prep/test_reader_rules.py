"""What each reader of images takes and leaves out, by its data set's own rules."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from image_trees import BIRDS, WNIDS
from object_trees import coco_tree, det_tree, edit, put
from PIL import Image
from readers import READERS, prepared, read, run
from refusals import refuses

from data_prep import coco, ilsvrc_det, voc2012
from data_prep.folder import verify_prepared
from kpnb.datasets.prepared import prepared_images


@pytest.mark.parametrize("key", ["cub"])
def test_cub(key, root):
    objects = read(key, root)
    assert objects.classes == BIRDS and objects.factor == 1.0 and len(objects.objects) == 12
    first = objects.objects[0]
    assert first.name == f"{BIRDS[0]}/Black_footed_Albatross_0000_701"
    assert first.category == BIRDS[0]
    assert first.box == (10, 8, 46, 42)  # left, top, width, height became edges
    assert [o.split for o in objects.objects] == [*["train"] * 4, *["test"] * 2] * 2
    expected = np.zeros((48, 60), dtype=bool)
    expected[11:39, 13:43] = True  # 255 in the middle and 51 around it
    assert first.mask().dtype == bool and (first.mask() == expected).all()
    printed = run(key, root, "--size", 68, "--workers", 2)
    assert re.search(r"^images +8 +4\nimages of a class +4 to 4 +2 to 2$", printed, re.MULTILINE)
    train = prepared_images(prepared(key, root, "68"), "train")
    assert train.class_names == BIRDS and train.source["foreground"] == "outline"


@pytest.mark.parametrize("key", ["cub"])
def test_cub_by_its_boxes_and_with_outlines_that_cannot_be_used(key, root):
    assert "leave no background" in run(key, root, "--foreground", "box", status=2)
    run(key, root, "--verify", status=2)
    run(key, root, "--foreground", "box", "--factor", 1.2)
    run(key, root, "--verify")
    assert verify_prepared(prepared(key, root))["factor"] == 1.2
    outline = sorted((root / "segmentations").rglob("*.png"))[0]
    for size, told in (((10, 10), "not bool (48, 60)"), ((60, 48), "(--skip)")):
        Image.new("L", size).save(outline)
        assert told in run(key, root, "--force", status=2)
    assert "left out, no foreground in its crop: 1" in run(key, root, "--force", "--skip")


@pytest.mark.parametrize("key", ["tiny"])
def test_tiny(key, root):
    objects = read(key, root)
    assert objects.classes == WNIDS and len(objects.objects) == 12
    assert objects.about["words"] == ["Egyptian cat", WNIDS[1]]
    assert [o.split for o in objects.objects] == ["train"] * 8 + ["test"] * 4
    first, last = objects.objects[0], objects.objects[-1]
    assert (first.name, first.category) == (f"{WNIDS[0]}_0", WNIDS[0])
    assert first.box == (0, 16, 64, 48)  # the release's 63 and 47 are inside
    assert (last.name, last.category, last.box) == ("val_3", WNIDS[1], (0, 32, 45, 63))
    boxes = root / READERS[key][2] / "train" / WNIDS[0] / f"{WNIDS[0]}_boxes.txt"
    edit(boxes, "24\t16\t63\t47", "0\t0\t0\t0")  # the fourth: a box of one pixel
    assert "whole pictures, foreground: box" in run(key, root, "--size", 64)
    train = prepared_images(prepared(key, root, "64"), "train")
    whole = np.asarray(Image.open(first.picture).convert("RGB"))
    assert (train.images[0].permute(1, 2, 0).numpy() == whole).all()
    assert train.masks[0][16:48].all() and train.masks[0].sum() == 32 * 64
    assert train.masks[3][0, 0] and train.masks[3].sum() == 1


@pytest.mark.parametrize("key", ["tiny"])
def test_tiny_cropped_and_with_few_of_a_class(key, root):
    run(key, root, "--crop", "box", "--out", root / "cropped")
    assert verify_prepared(root / "cropped")["factor"] == 1.5
    assert "--crop box" in run(key, root, "--factor", 2, status=2)
    # boxes are 32 high in train, 45 x 31 in test
    run(key, root, "--most", 1, "--least", 31)
    known = verify_prepared(prepared(key, root))
    assert known["left_out"] == {"over 1 of a class and split": 8}
    told = run(key, root, "--least", 32, "--force", status=2)
    assert "No object is left for the test split" in told
    assert verify_prepared(prepared(key, root)) == known  # still as it was


@pytest.mark.parametrize("key", ["voc"])
def test_voc_rules(key, root):
    assert read(key, root).left_out == {"difficult": 2}
    assert read(key, root, keep_difficult=True).left_out == {"no outline": 2}
    assert read(key, root, leave_truncated=True).left_out == {"difficult": 2, "truncated": 2}
    every = read(key, root, objects="all")
    assert len(every.objects) == len(read(key, root).objects) + 6
    assert all(o.mask is None for o in every.objects)
    assert len(read(key, root / READERS[key][2]).objects) == 18  # the folder itself may be given
    first, folder = read(key, root).objects[0], root / READERS[key][2]
    indices = np.asarray(Image.open(folder / "SegmentationObject/2007_000000.png"))
    assert (indices == 255).any() and not first.mask()[indices == 255].any()  # a rim
    for kind, index in (("Object", 2), ("Class", voc2012.CLASSES.index("cat") + 1)):
        spoil(folder, kind, lambda image, i=index: image.putpixel((1, 1), i))
    second = read(key, root, keep_difficult=True).objects[1]  # by the order in the annotation
    assert (second.name, second.box) == ("2007_000000#2", (0, 0, 9, 7))
    assert np.argwhere(second.mask()).tolist() == [[1, 1]]
    lists = folder / "ImageSets/Segmentation"
    names = [name for name in (lists / "val.txt").read_text().split() if int(name[-6:]) % 3 != 1]
    put(lists / "val.txt", "\n".join(names))
    found = read(key, root)  # a class without test objects is left out
    assert found.classes == ("cat", "train")
    assert found.left_out == {"difficult": 2, "class not in both splits": 4}
    put(lists / "val.txt", names[0])
    put(lists / "train.txt", "2007_000001")
    refuses(read, "both splits", key, root)


def spoil(folder: Path, kind: str, change) -> None:
    file = folder / f"Segmentation{kind}/2007_000000.png"
    image = Image.open(file)
    put(file, change(image) or image)


def alone(index: int):
    """Only the last row's first pixel has `index`."""
    return lambda image: image.point([index * (v == 77) for v in range(256)])


OUTLINES = {
    "Outline 1 of .*2007_000000.png does not fit": {"Object": alone(1), "Class": alone(8)},
    "does not fit its cat": {"Class": lambda i: i.point([7 * (v == 8) for v in range(256)])},
    "an outline 3": {"Object": lambda i: i.point([3 * (v == 1) for v in range(256)])},
    "palette": {"Object": lambda i: i.convert("RGB")},
    "pixels": {"Object": lambda i: i.crop((0, 0, 9, 9))},
}


@pytest.mark.parametrize("key", ["voc"])
@pytest.mark.parametrize("said", OUTLINES)
def test_voc_outlines_that_do_not_fit(key, said, root):
    for kind, change in OUTLINES[said].items():
        spoil(root / READERS[key][2], kind, lambda image: image.putpixel((0, 79), 77))
        spoil(root / READERS[key][2], kind, change)
    refuses(read, said, key, root)
    if "does not fit" in said:
        left_out = read(key, root, mismatch="leave_out").left_out
        assert left_out["outline does not fit the object"] == 1


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_det_layouts(layout, tmp_path):
    found = read("det", det_tree(tmp_path, train=2, test=1, layout=layout))
    counted = Counter((o.split, o.category) for o in found.objects)
    assert counted["train", "bear"] == 2  # in the folder of a kind of bear
    assert not [o.name for o in found.objects if "2014" in o.name]
    assert found.about["counts"]["found"] == {"train boxes": 7, "validation pictures": 4}
    assert found.left_out == {"another class, in pictures with one of these": 1}


@pytest.mark.parametrize("key", ["det"])
def test_det(key, root):
    mammals = set(ilsvrc_det.CLASSES.split(","))
    assert len(mammals) == 12 and mammals < set(ilsvrc_det.MAMMALS)
    assert read(key, root, classes="n02391049, fox").classes == ("zebra", "fox")  # as asked for
    ours = read(key, root, classes=ilsvrc_det.CLASSES)
    assert ours.classes == ("bear", "fox", "zebra") and "ours" in ours.about["which classes"]
    run(key, root, "--foreground", "block")
    assert verify_prepared(prepared(key, root, "32-block"))["foreground"] == "block"
    file = root / READERS[key][2] / "n02118333/n02118333_1.xml"
    edit(file, "<width>96<", "<width>60<")  # the box ends at 70
    found = read(key, root)
    assert found.about["boxes cut at their picture's edge"] == 1
    assert next(o for o in found.objects if o.name == "n02118333_1#1").box[2] == 60
    refuses(read, "n02118333_1.xml", key, root, outside="refuse")
    edit(file, "<width>60<", "<width>9<")
    assert read(key, root).left_out["box without a pixel in its picture"] == 1


def change(root: Path, edited) -> None:
    """Change the first of the training annotations, and the content of their file."""
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    edited(content["annotations"][0], content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("key", ["coco"])
def test_coco(key, root, tmp_path):
    found = read(key, root)
    assert found.classes == ("person", "car", "chair")  # by id; "hair drier" is the smallest
    assert found.left_out == {"crowd": 2, "box without area": 2}
    assert found.about["categories"] == "the 3 with most objects"
    assert found.about["counts"]["found"]["train annotations"] == 6 + 5 + 4 + 1 + 2
    assert found.objects[0].name == "train2017#1"
    left, top, right, bottom = found.objects[0].box
    assert found.objects[0].mask().sum() == (right - left) * (bottom - top)  # a rectangle
    assert read(key, root, names="chair, person").classes == ("person", "chair")
    runs = dict(size=[80, 96], counts=[7679, 1])
    change(root, lambda a, c: a.update(segmentation=runs))
    assert np.argwhere(read(key, root).objects[0].mask()).tolist() == [[79, 95]]
    change(root, lambda a, c: a.update(segmentation=[[1, 2, 3, 4]]))
    refuses(read(key, root).objects[0].mask, "annotation 1, has an outline")
    older = coco_tree(tmp_path / "2014", train=2, test=1, year="2014")
    name = read(key, older, year="2014").objects[0].picture.name
    assert name == "COCO_train2014_000000000001.jpg"
    refuses(read, "train2017", key, older)


@pytest.mark.parametrize("key", ["coco"])
def test_the_largest_categories_of_coco(key, root):
    def larger(_, content):
        for entry in content["annotations"]:  # chairs: the fewest objects, now the most pixels;
            new = {62: dict(area=1e6), 1: dict(image_id=1), 89: dict(iscrowd=1)}
            entry |= new.get(entry["category_id"], {})  # persons: all in one picture

    def even(_, content):
        of = [[a for a in content["annotations"] if a["category_id"] == i] for i in (62, 3, 1)]
        content["annotations"] = [a for some in of for a in some[:3] if not a["iscrowd"]]

    change(root, larger)
    ranks = dict(objects={"person", "car"}, pictures={"car", "chair"}, pixels={"person", "chair"})
    for rank, largest in ranks.items():
        assert set(coco._Part(root, "train2017").ranked(rank)) == {1, 3, 62}  # a crowd is no object
        assert set(read(key, root, rank=rank, largest=2).classes) == largest
    change(root, even)
    assert coco._Part(root, "train2017").ranked("objects") == [1, 3, 62]  # ties go by id


COCO_FAULTS = [  # a key of the first annotation is changed, or of the first entry of another list
    ("annotations", "category_id", 5, "unknown category 5"),
    ("annotations", "category_id", [1], "another kind"),
    ("annotations", "image_id", 777, "unknown picture 777"),
    ("annotations", "bbox", [90, 10, 30, 9], "annotation 1, has a"),
    ("annotations", "bbox", [float("nan")] * 4, "box without area"),
    ("annotations", "bbox", [1, 2, 3], "four numbers"),
    ("annotations", "bbox", "abcd", "damaged"),
    ("annotations", "segmentation", [], "no outline"),
    ("annotations", "iscrowd", None, "iscrowd"),
    ("annotations", "id", 2, "id twice"),
    ("categories", "id", None, "damaged"),
    ("categories", "id", 77, "unknown category"),
    ("categories", "name", "x", "differ"),
    ("images", "file_name", "../x.jpg", "another folder"),
    ("images", "file_name", "x.jpg", "x.jpg is missing"),
]


@pytest.mark.parametrize("key", ["coco"])
@pytest.mark.parametrize("part, name, value, said", COCO_FAULTS)
def test_entries_of_coco_that_cannot_be_used(key, part, name, value, said, root):
    def spoilt(_, content):
        content[part][0] |= {name: value}
        if value is None:
            del content[part][0][name]

    change(root, spoilt)
    refuses(read, said, key, root)
