"""The readers of the five data sets of images, on generated trees in their layouts.

The last two tests are about all eight data sets.
"""

import json
import runpy
import sys
from collections import Counter
from functools import partial
from itertools import chain

import numpy as np
import pytest
from archive_files import make_tar, tar_info
from image_trees import BIRDS, WNIDS
from object_trees import edit
from PIL import Image
from readers import READERS, prepared, read, run, said
from refusals import refuses

from data_prep import command, cub200, ilsvrc_det, modelnet40, squad, sst2
from data_prep.fetch import RemoteFile
from data_prep.folder import verify_prepared


@pytest.mark.parametrize("key", ["voc", "det", "coco"])  # trees with a drawn shape for each object
def test_the_generated_tree_is_read(key, trees):
    found, module = read(key, trees[key]), READERS[key][0]
    counted = Counter((o.split, o.category) for o in found.objects)
    extra = {"coco": [2, 1, 0]}.get(key, [0, 0, 0])  # earlier classes of COCO are larger
    for split, count in (("train", 4), ("test", 2)):
        assert [counted[split, name] - count for name in found.classes] == extra
    assert (found.dataset, found.factor) == (module.DATASET, module.FACTOR)
    colors = len(found.classes) + (key == "coco")
    for o in found.objects:  # the shape is where its box and outline say, in its class's color
        hue, saturation, _ = np.moveaxis(np.asarray(Image.open(o.picture).convert("HSV")), -1, 0)
        pixels = saturation > 120
        turned = np.median(hue[pixels]) - 255 * found.classes.index(o.category) / colors
        assert abs((turned + 128) % 256 - 128) < 12
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


@pytest.mark.parametrize("key", ["cub", "tiny"])
def test_a_complete_copy_in_archives(key, trees, tmp_path, monkeypatch):
    module, (what, other) = READERS[key][0], [*READERS[key][0].COUNTS][1:]
    train, test = {"cub": (8, 4), "tiny": (4, 2)}[key]  # of all, and of a class
    counts = {"classes": 2, what: train, other: test}
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


FIRST = f"1 {BIRDS[0]}/Black_footed_Albatross_0000_701"
OUTLINE = f"../segmentations/{BIRDS[0]}/Black_footed_Albatross_0000_701.png"
BOXES, VAL = "bounding_boxes.txt", "ImageSets/Segmentation/val.txt"
XML, OF_FOX = "Annotations/2007_000000.xml", "n02118333/n02118333_1.xml"
OF_BEAR, MORE = "n02132136/n02132136_3.xml", "</object><object><name>fox</name></object>"
TRAIN = "instances_train2017.json"
# Data set, file, what is changed to what (None: all of it; to None: it is removed), what is said.
FAULTS = [
    ("cub", "images.txt", "1 001", "1 ../001", "outside of"),
    ("cub", "images.txt", "2 001", "1 001", "names something twice"),
    ("cub", "images.txt", f"{FIRST}.jpg\n", "", "not about the images"),
    ("cub", "images.txt", None, "", "is empty"),
    ("cub", "images.txt", "_701.jpg", "_1.jpg", "_1.jpg is missing"),
    ("cub", "train_test_split.txt", "1 1", "1 2", "unknown value '2'"),
    ("cub", BOXES, "10.0", "ten", "no numbers for 1"),
    ("cub", BOXES, " 34.0", "", "4 of 5 columns in row 1"),
    ("cub", BOXES, "10.0", "90.0", "outside of the picture"),
    ("cub", OUTLINE, None, None, "701.png is missing"),
    ("tiny", "val/val_annotations.txt", WNIDS[1], "n1", "unknown class 'n1'"),
    ("tiny", "wnids.txt", WNIDS[0], f"../x\n{WNIDS[0]}", "no class '../x'"),
    ("voc", XML, "cat", "unicorn", "class 'unicorn'"),
    ("voc", VAL, "2008_000000", "2007_000000", "twice"),
    ("voc", "SegmentationObject/2007_000000.png", None, "PNG", "damaged"),
    ("det", OF_FOX, "</annotation>", "", "cut off"),
    ("det", OF_BEAR, None, "<annotation>", "cut off"),  # no class is left to look for
    ("det", OF_FOX, "</object>", MORE, "n02118333_1.xml"),
    ("det", OF_BEAR, "</object>", MORE, "n02132136_3.xml"),
    *(("coco", TRAIN, None, t, TRAIN) for t in ("", "[]", "{}", "[" * 10**5, '{"images": [1]}')),
    ("coco", TRAIN, "annotations", "annotation", "damaged"),
    ("coco", TRAIN, None, "\udcff", "damaged"),
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


# All eight

PUBLISHED = (sst2, squad, modelnet40)


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
