"""The reader of ILSVRC DET, on generated trees in its layouts."""

from collections import Counter
from pathlib import Path

import pytest
from object_trees import det_tree, edit

from data_prep import ilsvrc_det
from data_prep.command import main
from data_prep.folder import verify_prepared
from kpnb.errors import KpnbError

BOXES = "ILSVRC2013_DET_bbox_train"


@pytest.fixture
def root(tmp_path) -> Path:
    return det_tree(tmp_path, train=4, test=2)


def read(root: Path, classes: str = "bear,fox,zebra", **options):
    return ilsvrc_det.read(root, partial=True, classes=classes, **options)


@pytest.mark.parametrize("layout", [0, 1, 2])
def test_det_layouts(layout, tmp_path):
    found = read(det_tree(tmp_path, train=2, test=1, layout=layout))
    counted = Counter((o.split, o.category) for o in found.objects)
    assert counted["train", "bear"] == 2  # in the folder of a kind of bear
    assert not [o.name for o in found.objects if "2014" in o.name]
    assert found.about["counts"]["found"] == {"train boxes": 7, "validation pictures": 4}
    assert found.left_out == {"another class, in pictures with one of these": 1}


def test_det_classes(root):
    assert len(set(ilsvrc_det.CLASSES.split(","))) == 12
    assert set(ilsvrc_det.CLASSES.split(",")) < set(ilsvrc_det.MAMMALS)
    some = read(root, classes="n02391049, fox")
    assert some.classes == ("zebra", "fox")  # in the order asked for
    ours = read(root, classes=ilsvrc_det.CLASSES)
    assert ours.classes == ("bear", "fox", "zebra") and "ours" in ours.about["which classes"]
    for wrong in ("bear", "bear,bear", "bear,n02131653", "bear,unicorn", ""):
        with pytest.raises(KpnbError, match="class"):
            read(root, classes=wrong)


def test_det_boxes_out_of_their_pictures(root):
    file = root / BOXES / "n02118333/n02118333_1.xml"
    edit(file, "<width>96<", "<width>60<")  # the box ends at 70
    found = read(root)
    assert found.about["boxes cut at their picture's edge"] == 1
    assert next(o for o in found.objects if o.name == "n02118333_1#1").box[2] == 60
    with pytest.raises(KpnbError, match="n02118333_1.xml"):
        read(root, outside="refuse")
    edit(file, "<width>60<", "<width>9<")
    assert read(root).left_out["box without a pixel in its picture"] == 1


@pytest.mark.parametrize("name", ["n02118333/n02118333_1.xml", "n02132136/n02132136_3.xml"])
def test_det_cut_and_foreign_annotations(name, root):
    file = root / BOXES / name
    text = file.read_text()
    file.write_text(text[: text.index("<object>")])  # no class is left to look for
    with pytest.raises(KpnbError, match="cut off"):
        read(root)
    file.write_text(text.replace("</object>", "</object><object><name>fox</name></object>"))
    with pytest.raises(KpnbError, match=file.name):
        read(root)


def test_the_block_has_a_folder_of_its_own(tmp_path):
    root = det_tree(tmp_path, train=1, test=1)
    for foreground, ending in (("box", ""), ("block", "-block")):
        arguments = ["--root", str(root), "--partial", "--size", "32", "--foreground", foreground]
        assert main(ilsvrc_det, arguments) == 0
        folder = root / "prepared" / f"ilsvrc_det-32{ending}"
        assert verify_prepared(folder)["foreground"] == foreground
