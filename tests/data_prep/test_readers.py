"""The readers of the five data sets of images, on generated trees; last, all nine data sets."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from archive_files import make_tar, tar_info
from image_trees import BIRDS, WNIDS
from object_trees import coco_tree, det_tree, edit, put
from PIL import Image
from readers import READERS, prepared, read, run, said
from refusals import refuses

from data_prep import (
    coco,
    command,
    cub200,
    ilsvrc_det,
    modelnet10,
    modelnet40,
    squad,
    sst2,
    voc2012,
)
from data_prep.fetch import RemoteFile
from data_prep.folder import verify_prepared
from kpnb.datasets.prepared import prepared_images


@pytest.mark.parametrize("key", ["voc", "det", "coco"])  # trees with a drawn shape for each object
def test_the_generated_tree_is_read(key, trees):
    found, module = read(key, trees[key]), READERS[key][0]
    counted = Counter((o.split, o.category) for o in found.objects)
    extra = [2, 1, 0] if key == "coco" else [0, 0, 0]  # its earlier classes are larger
    for split, count in (("train", 4), ("test", 2)):
        assert [counted[split, name] - count for name in found.classes] == extra
    assert (found.dataset, found.factor) == (module.DATASET, module.FACTOR)
    for o in found.objects:  # the colored shape is where its box and outline say
        pixels = np.asarray(Image.open(o.picture).convert("HSV"))[..., 1] > 120  # saturated
        left, top, right, bottom = (round(edge) for edge in o.box)
        boxed = np.zeros_like(pixels)
        boxed[top:bottom, left:right] = True
        assert pixels[~boxed].mean() < 0.03  # the ground is grey, JPEG bleeds a little
        if o.mask:
            mask = o.mask()
            assert mask.dtype == bool and (pixels & mask).sum() / (pixels | mask).sum() > 0.85


@pytest.mark.parametrize("key", READERS)
def test_incomplete_copies_and_missing_files(key, root, tmp_path):
    refuses(read, "complete release", key, root, partial=False)
    told, folder, module = run(key, root).splitlines(), prepared(key, root), READERS[key][0]
    assert told[-2:] == [f"{folder}", f"A notebook takes it as the parameter data={folder}"]
    assert json.loads((folder / "manifest.json").read_text())["dataset"] == module.DATASET
    assert any("incomplete copy" in line for line in told)
    read(key, root).objects[-1].picture.unlink()
    assert "missing" in run(key, root, "--force", status=2)
    refuses(read, "unpack", key, tmp_path / "nowhere")
    told = run(key, tmp_path / "empty", status=2)  # what to get, and where
    assert module.FILES[0].name in told and module.FILES[0].page in told


@pytest.mark.parametrize("key, of, train, test", [("cub", "", 8, 4), ("tiny", " of a class", 4, 2)])
def test_a_complete_copy_in_archives(key, of, train, test, trees, tmp_path, monkeypatch):
    module, what = READERS[key][0], f"train images{of}"
    counts = {"classes": 2, what: train, f"test images{of}": test}
    monkeypatch.setattr(module, "COUNTS", counts)
    for file, folder in zip(module.FILES, sorted(trees[key].iterdir()), strict=True):
        inside = {p.relative_to(trees[key]): p for p in folder.rglob("*") if p.is_file()}
        infos = [tar_info(f"{name}", content=p.read_bytes()) for name, p in inside.items()]
        make_tar(tmp_path / file.name, *infos, tar_info("attributes.txt", content=b"beside it"))
    complete = partial(said, partial(command.main, module), "--root", tmp_path, "--size", 32)
    complete(status=2)  # not the archives that are meant
    files = [RemoteFile(name=f.name, urls=(), need=f.need, page=f.page) for f in module.FILES]
    monkeypatch.setattr(module, "FILES", files)
    complete()
    known = verify_prepared(prepared(key, tmp_path))
    assert known["about"]["counts"]["complete"] and known["splits"]["train"]["count"] == 8
    monkeypatch.setattr(module, "COUNTS", counts | {what: train + 1})
    refuses(module.read, f"{train} {what} here, the complete.* has {train + 1}", tmp_path)


OUTLINE = f"../segmentations/{BIRDS[0]}/Black_footed_Albatross_0000_701.png"
BOXES, VAL = "bounding_boxes.txt", "ImageSets/Segmentation/val.txt"
XML, OF_FOX = "Annotations/2007_000000.xml", "n02118333/n02118333_1.xml"
OF_BEAR, MORE = "n02132136/n02132136_3.xml", "</object><object><name>fox</name></object>"
TRAIN = "instances_train2017.json"
# Data set, file, what is changed to what (None: all of it; to None: it is removed), what is said.
FAULTS = [
    ("cub", "images.txt", "1 001", "1 ../001", "outside of"),
    ("cub", "images.txt", "2 001", "1 001", "names something twice"),
    ("cub", "images.txt", f"1 {BIRDS[0]}", f"99 {BIRDS[0]}", "not about the images"),
    ("cub", "images.txt", None, "", "is empty"),
    ("cub", "train_test_split.txt", "1 1", "1 2", "unknown value '2'"),
    ("cub", BOXES, "10.0", "ten", "no numbers for 1"),
    ("cub", BOXES, " 34.0", "", "4 of 5 columns in row 1"),
    ("cub", BOXES, "10.0", "90.0", "outside of the picture"),
    ("cub", OUTLINE, None, None, "701.png is missing"),
    ("tiny", "wnids.txt", WNIDS[0], f"../x\n{WNIDS[0]}", "no class '../x'"),
    ("voc", XML, "cat", "unicorn", "class 'unicorn'"),
    ("voc", VAL, "2008_000000", "2007_000000", "twice"),
    ("voc", "SegmentationObject/2007_000000.png", None, "PNG", "damaged"),
    ("det", OF_FOX, "</annotation>", "", "cut off"),
    ("det", OF_BEAR, None, "<annotation>", "cut off"),  # no class is left to look for
    ("det", OF_FOX, "</object>", MORE, "n02118333_1.xml"),
    ("det", OF_BEAR, "</object>", MORE, "n02132136_3.xml"),
    *(("coco", TRAIN, None, t, TRAIN) for t in ("[]", "[" * 10**5, '{"images": [1]}')),
    ("coco", TRAIN, "annotations", "annotation", "damaged"),
    ("coco", TRAIN, None, "\udcff", "damaged"),
    ("coco", TRAIN, '"category_id": 1', '"category_id": 5', "unknown category 5"),
    ("coco", TRAIN, '"category_id": 1', '"category_id": [1]', "another kind"),
    ("coco", TRAIN, '"image_id": 1', '"image_id": 777', "unknown picture 777"),
    ("coco", TRAIN, '"bbox": [', '"bbox": [90, 10, 30, 9], "x": [', "annotation 1, has a"),
    ("coco", TRAIN, '"bbox": [', '"bbox": [NaN, 1, 1, 1], "x": [', "box without area"),
    ("coco", TRAIN, '"bbox": [', '"bbox": [1, ', "four numbers"),
    ("coco", TRAIN, '"segmentation": [', '"segmentation": [], "x": [', "no outline"),
    ("coco", TRAIN, '"iscrowd"', '"x"', "iscrowd"),
    ("coco", TRAIN, '"id": 1, "image_id"', '"id": 2, "image_id"', "id twice"),
    ("coco", TRAIN, '"id": 1, "name"', '"x": 1, "name"', "damaged"),
    ("coco", TRAIN, '"id": 1, "name"', '"id": 77, "name"', "unknown category"),
    ("coco", TRAIN, '"person"', '"x"', "differ"),
    ("coco", TRAIN, '"file_name": "', '"file_name": "../', "another folder"),
]


@pytest.mark.parametrize("key, file, old, new, told", FAULTS, ids=map(str, range(len(FAULTS))))
def test_damaged_files_are_named_in_one_sentence(key, file, old, new, told, root):
    path = root / READERS[key][2] / file
    if new is None:
        path.unlink()
    elif old is None:
        path.write_bytes(new.encode(errors="surrogateescape"))
    else:
        edit(path, old, new)
    assert told in run(key, root, status=2) and not prepared(key, root).exists()


@pytest.mark.parametrize(
    "key, options, told",
    [("tiny", {"crop": "some"}, "crop is 'some'"), ("det", {"outside": "x"}, "outside")]
    + [("voc", o, "see the choices") for o in ({"objects": "x"}, {"mismatch": "x"})]
    + [("det", {"classes": c}, "class") for c in ("bear", "bear,bear", "bear,n02131653", "bear,x")]
    + [("coco", o, "see the choices") for o in ({"year": "2015"}, {"rank": "x"}, {"largest": 1})]
    + [("coco", {"names": n}, "names") for n in ("chair", "chair,chair", "chair,x", ",")],
)  # fmt: skip
def test_options_that_are_none(key, options, told, trees):
    refuses(read, told, key, trees[key], **options)


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
    for line in ("images +8 +4", "images of a class +4 to 4 +2 to 2"):
        assert re.search(f"^{line}$", printed, re.MULTILINE)
    train = prepared_images(prepared(key, root, "68"), "train")
    assert train.class_names == BIRDS and train.source["foreground"] == "outline"
    run(key, root, "--verify", status=2)
    run(key, root, "--foreground", "box", "--factor", 1.2)
    run(key, root, "--verify")
    assert verify_prepared(prepared(key, root))["factor"] == 1.2


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
    assert train.masks[0][16:48].all() and train.masks[0].sum() == 32 * 64
    assert train.masks[3][0, 0] and train.masks[3].sum() == 1
    listed = put(root / "some.txt", f"{WNIDS[1]}\n")
    for option, kept in (("only", WNIDS[1]), ("without", WNIDS[0])):
        run(key, root, f"--{option}", listed, "--size", 64)
        ending = "64-some" if option == "only" else "64-without-some"
        known = verify_prepared(prepared(key, root, ending))
        assert known["classes"] == [kept] and known["dataset"] == "Tiny ImageNet, 1 classes"
        assert known["splits"]["train"]["count"] == 4
    assert "'n0', which is no class" in run(key, root, "--only", put(listed, "n0"), status=2)
    put(listed, "\n".join(WNIDS))
    again = "--without", listed, "--force", "--size", 64
    assert "leaves no class" in run(key, root, *again, status=2)
    run(key, root, "--crop", "box", "--out", root / "cropped")
    assert verify_prepared(root / "cropped")["factor"] == 1.5
    assert "--crop box" in run(key, root, "--factor", 2, status=2)


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


@pytest.mark.parametrize("key", ["cub", "voc"])
def test_boxes_of_a_copy_without_outlines(key, root, monkeypatch):
    """The birds' archive of outlines is missing; tables may have rows of more images."""
    places = {"cub": "segmentations", "voc": "VOCdevkit/VOC2012/SegmentationObject"}
    shutil.rmtree(root / places[key])
    if key == "cub":
        for name in ("image_class_labels", "train_test_split"):
            put(file := root / f"CUB_200_2011/{name}.txt", file.read_text() + "99 1\n")
    assert "--foreground box" in run(key, root, status=2)
    assert "leave out fewer" in run(key, root, "--skip", status=2)  # nothing is left
    run(key, root, "--foreground", "box", "--factor", 1.5)
    monkeypatch.setitem(voc2012.COUNTS, "segmented", {})  # a complete copy has outlines
    assert "missing" in said(partial(command.main, READERS[key][0]), "--root", root, status=2)


@pytest.mark.parametrize("key", ["tiny"])
def test_classes_that_are_not_there(key, root, monkeypatch):
    folder = root / READERS[key][2]
    edit(folder / "val/val_annotations.txt", WNIDS[1], "n1")
    put(folder / "wnids.txt", "\n".join(("n2", *WNIDS)))
    found = read(key, root)
    assert found.classes == WNIDS and found.left_out == {"class not in both splits": 1}
    refuses(read, "n2_boxes.txt is missing", key, root, partial=False)
    put(folder / "wnids.txt", "\n".join(WNIDS))
    refuses(read, "unknown class 'n1'", key, root, partial=False)
    edit(folder / "val/val_annotations.txt", "n1", WNIDS[1])
    counts = {"classes": 2, "train images of a class": 4, "test images of a class": 2, "words": 2}
    monkeypatch.setattr(READERS[key][0], "COUNTS", counts)
    read(key, root, partial=False)
    put(folder / "words.txt", "n00001740\tentity\n")
    refuses(read, "1 words here, the complete release has 2", key, root, partial=False)


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
@pytest.mark.parametrize("told", OUTLINES)
def test_voc_outlines_that_do_not_fit(key, told, root):
    for kind, change in OUTLINES[told].items():
        spoil(root / READERS[key][2], kind, lambda image: image.putpixel((0, 79), 77))
        spoil(root / READERS[key][2], kind, change)
    refuses(read, told, key, root)
    if "does not fit" in told:
        left_out = read(key, root, mismatch="leave_out").left_out
        assert left_out["outline does not fit the object"] == 1


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_det_layouts(layout, tmp_path):
    found = read("det", det_tree(tmp_path, train=2, test=1, layout=layout))
    counted = Counter((o.split, o.category) for o in found.objects)
    assert counted["train", "bear"] == 2  # in the folder of a kind of bear
    assert not [o.name for o in found.objects if "2014" in o.name]
    counts = {"train boxes": 7, "validation pictures": 4, "validation annotations": 4}
    assert found.about["counts"]["found"] == counts
    assert found.left_out == {"another class, in pictures with one of these": 1}


@pytest.mark.parametrize("key", ["det"])
def test_half_of_the_validation_annotations(key, root, monkeypatch):
    file = root / READERS[key][2] / "n02118333/n02118333_1.xml"
    for name in ("._n02118333_1.xml", "._n02118333_1.JPEG"):  # what macOS leaves is no annotation
        put(file.with_name(name), "\0\5\26\7Mac OS X")
    whole = read(key, root)
    monkeypatch.setattr(ilsvrc_det, "COUNTS", whole.about["counts"]["found"])
    assert read(key, root, partial=False).objects == whole.objects
    xml = sorted(root.glob("ILSVRC2013_DET_bbox_val/*.xml"))
    for file in xml[len(xml) // 2 :]:
        file.unlink()
    refuses(read, "3 validation annotations here, .* has 7", key, root, partial=False)


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
    file = root / "annotations" / TRAIN
    content = json.loads(file.read_text())
    edited(content["annotations"])
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("key", ["coco"])
def test_coco_and_its_largest_categories(key, root, tmp_path):
    found = read(key, root)
    assert found.classes == ("person", "car", "chair")  # by id; "hair drier" is the smallest
    assert found.left_out == {"crowd": 2, "box without area": 2}
    assert found.about["categories"] == "the 3 with most objects"
    assert found.about["counts"]["found"]["train annotations"] == 6 + 5 + 4 + 1 + 2
    first = found.objects[0]
    left, top, right, bottom = first.box
    assert first.name == "train2017#1"
    assert first.mask().sum() == (right - left) * (bottom - top)  # a rectangle
    assert read(key, root, names="chair, person").classes == ("person", "chair")
    runs = dict(size=[80, 96], counts=[7679, 1])
    change(root, lambda a: a[0].update(segmentation=runs))
    refuses(read(key, root).objects[0].mask, "annotation 1, has an outline.*run lengths")
    change(root, lambda a: a[0].update(segmentation=[[1, 2, 3]]))
    refuses(read(key, root).objects[0].mask, "annotation 1, has an outline")
    older = coco_tree(tmp_path / "2014", train=2, test=1, year="2014")
    name = read(key, older, year="2014").objects[0].picture.name
    assert name == "COCO_train2014_000000000001.jpg"
    refuses(read, "train2017", key, older)

    def larger(annotations):
        for entry in annotations:  # chairs: the fewest objects, now the most pixels;
            new = {62: dict(area=1e6), 1: dict(image_id=1), 89: dict(iscrowd=1)}
            entry |= new.get(entry["category_id"], {})  # persons: all in one picture

    change(root, larger)
    ranks = dict(objects={"person", "car"}, pictures={"car", "chair"}, pixels={"person", "chair"})
    for rank, largest in ranks.items():
        assert set(read(key, root, rank=rank, largest=2).classes) == largest

    def even(annotations):  # the first object alone of each category
        annotations[:] = {a["category_id"]: a for a in annotations[::-1]}.values()

    change(root, even)
    assert coco._Part(root, "train2017").ranked("objects") == [1, 3, 62]  # ties go by id


@pytest.mark.parametrize("key", ["coco"])
def test_coco_s_polygons_without_area_and_objects_without_outlines(key, root):
    change(root, lambda a: a[0]["segmentation"].append([10.0, 10.0, 12.0, 12.0]))
    ended = subprocess.run(
        [sys.executable, "-m", "data_prep.coco", "--root", root, "--partial", "--least", "0"]
        + ["--size", "32", "--largest", "3", "--workers", "0"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr  # the module's own command does as much
    one = prepared_images(prepared(key, root), "train").masks[0]

    def without(annotations):
        annotations[0]["segmentation"] = [[1.0, 1.0, 9.0, 9.0]]
        annotations[1]["segmentation"] = []
        del annotations[2]["segmentation"]

    change(root, without)
    for told in ("no foreground in its crop", "train2017#1"):
        assert told in run(key, root, "--force", status=2)
    left_out = ("no foreground in its crop: 1", "no outline: 2")
    printed = run(key, root, "--force", "--skip")
    assert one.all() and all(f"left out, {told}" in printed for told in left_out)
    assert "no outline" not in run(key, root, "--force", "--foreground", "box", "--factor", 1.5)


PUBLISHED = (sst2, squad, modelnet40, modelnet10)  # with the five readers: all nine


@pytest.mark.parametrize("module", [*(reader for reader, *_ in READERS.values()), *PUBLISHED])
def test_every_module_is_a_command(tmp_path, monkeypatch, capsys, module):
    monkeypatch.setattr(sys, "argv", [module.NAME, "--root", str(tmp_path / "nothing")])
    monkeypatch.delitem(sys.modules, module.__name__)  # else it is run a second time with a warning
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"data_prep.{module.NAME}", run_name="__main__", alter_sys=True)
    assert ended.value.code == 2 and "is missing" in capsys.readouterr().err


def test_every_file_can_be_checked_and_says_where_it_is_from_and_counts_are_the_published_ones():
    layouts = chain(*(module.FILES.values() for module in PUBLISHED))
    files = [*chain(*layouts), *chain(*(reader.FILES for reader, *_ in READERS.values()))]
    assert len(files) == 17
    for file in files:
        assert file.licence and file.page.startswith("http") and file.need
        for digest, length in ((file.sha256, 64), (file.md5, 32)):
            assert digest is None or (len(digest) == length and int(digest, 16) >= 0)
        assert all(url.startswith("http") and url.endswith(file.name) for url in file.urls)
        assert bool(file.urls) != (file in ilsvrc_det.FILES)  # these need an account
    totals = [*map(sum, (sst2.SENTENCES["treebank"].values(), sst2.COUNTS["treebank"].values()))]
    assert totals == [11855, 9613] and sum(squad.COUNTS.values()) == 98169
    assert modelnet40.COUNTS["off"]["train shapes"] + 2468 == 12311
    assert cub200.COUNTS == {"classes": 200, "train images": 5994, "test images": 11788 - 5994}
