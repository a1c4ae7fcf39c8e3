"""CUB-200-2011 and Tiny ImageNet, from small trees in their layout to a folder read back."""

import re
import runpy
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_trees import BIRDS, WNIDS, cub_tree, released, tiny_tree
from object_trees import det_tree
from PIL import Image

from data_prep import cub200, ilsvrc_det, tiny_imagenet
from data_prep.command import main
from data_prep.folder import verify_prepared
from kpnb.datasets.prepared import prepared_images
from kpnb.errors import KpnbError

SCRIPTS = Path(__file__).parents[2] / "data_prep"


@pytest.fixture
def cub(tmp_path, monkeypatch):
    released(monkeypatch, 2, 1)
    return cub_tree(tmp_path)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    released(monkeypatch, 3, 2)
    return tiny_tree(tmp_path)


def run(reader, root, *arguments):
    return main(reader, ["--root", str(root), *map(str, arguments)])


def edit(path, change):
    path.write_text(change(path.read_text()))


# CUB-200-2011


def test_cub_is_read(cub):
    objects = cub200.read(cub)
    assert objects.classes == BIRDS and objects.factor == 1.0 and len(objects.objects) == 6
    first = objects.objects[0]
    assert first.name == "001.Black_footed_Albatross/Black_footed_Albatross_0000_701"
    assert first.picture.is_file() and first.category == BIRDS[0]
    assert first.box == (10, 8, 46, 42)  # left, top, width, height became edges
    assert [o.split for o in objects.objects] == ["train", "train", "test"] * 2
    assert objects.about["counts"]["complete"]


def test_every_grey_value_of_an_outline_counts(cub):
    mask = cub200.read(cub).objects[0].mask()
    expected = np.zeros((48, 60), dtype=bool)
    expected[11:39, 13:43] = True  # 255 in the middle and 51 around it
    assert mask.dtype == bool and (mask == expected).all()


def test_cub_from_command_to_study(cub, capsys):
    assert run(cub200, cub, "--size", 68, "--workers", 2) == 0
    folder = cub / "prepared" / "cub200-68"
    printed = capsys.readouterr().out
    assert printed.splitlines()[-2:] == [
        str(folder),
        f"A notebook takes it as the parameter data={folder}",
    ]
    assert re.search(r"^images +4 +2$", printed, re.MULTILINE)
    assert re.search(r"^images of a class +2 to 2 +1 to 1$", printed, re.MULTILINE)
    train = prepared_images(folder, "train")
    assert train.images.shape == (4, 3, 68, 68) and train.labels.tolist() == [0, 0, 1, 1]
    assert train.class_names == BIRDS and train.source["foreground"] == "outline"
    # the outline leaves 3 pixels of the box's 36 x 34 on each side; rows are twice as many
    rows = train.masks[0].any(1).numpy()
    assert rows.tolist() == [False] * 6 + [True] * 56 + [False] * 6
    share = verify_prepared(folder)["report"]["train"]["foreground"]["mean"]
    assert share == pytest.approx(30 * 28 / (36 * 34), abs=0.02)
    grey = train.images[1]  # a grey picture has three equal channels
    assert (grey[0] == grey[1]).all() and (grey[0] == grey[2]).all()


def test_cub_by_its_boxes(cub, capsys):
    assert run(cub200, cub, "--size", 32, "--foreground", "box") == 2
    assert "leave no background" in capsys.readouterr().err
    assert run(cub200, cub, "--size", 32, "--foreground", "box", "--factor", 1.2) == 0
    assert verify_prepared(cub / "prepared" / "cub200-32")["factor"] == 1.2


def test_cub_in_an_archive(cub, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    (cub / "attributes.txt").write_text("what the archive has beside its folder")
    for name, members in (
        ("CUB_200_2011.tgz", ("attributes.txt", "CUB_200_2011")),
        ("segmentations.tgz", ("segmentations",)),
    ):
        with tarfile.open(root / name, "w:gz") as archive:
            for member in members:
                archive.add(cub / member, member)
    assert run(cub200, root, "--size", 32) == 2  # not the archive that is meant
    files = [
        cub200.RemoteFile(name=f.name, urls=(), need=f.need, page=f.page) for f in cub200.FILES
    ]
    monkeypatch.setattr(cub200, "FILES", files)
    assert run(cub200, root, "--size", 32) == 0
    assert run(cub200, cub, "--size", 32) == 0
    one, other = (verify_prepared(r / "prepared" / "cub200-32") for r in (root, cub))
    assert one == other


def test_cub_that_is_not_there(tmp_path, capsys):
    assert run(cub200, tmp_path / "nothing") == 2
    message = capsys.readouterr().err
    assert "CUB_200_2011.tgz" in message and "caltech" in message and message.count("\n") == 1


def test_wrong_counts(cub, capsys, monkeypatch):
    monkeypatch.setattr(cub200, "COUNTS", cub200.COUNTS | {"train images": 5})
    assert run(cub200, cub, "--size", 32) == 2
    assert "4 train images here, the complete release has 5" in capsys.readouterr().err
    assert not (cub / "prepared").exists()
    assert run(cub200, cub, "--size", 32, "--partial") == 0
    assert "incomplete copy" in capsys.readouterr().out


def test_the_release_is_checked_by_default():
    assert cub200.COUNTS == {"classes": 200, "train images": 5994, "test images": 5794}
    assert sum(cub200.COUNTS.values()) - 200 == 11_788


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("images.txt", lambda t: t.replace("1 001", "1 ../001"), "outside of"),
        ("images.txt", lambda t: t.replace("2 001", "1 001"), "names something twice"),
        ("images.txt", lambda t: t.split("\n", 1)[1], "not about the images"),
        ("images.txt", lambda t: "", "is empty"),
        ("images.txt", lambda t: t.replace("_701.jpg", "_1.jpg"), "_1.jpg is missing"),
        ("train_test_split.txt", lambda t: t.replace("1 1", "1 2"), "unknown value '2'"),
        ("image_class_labels.txt", lambda t: t.replace("1 1", "1 7"), "unknown value '7'"),
        ("bounding_boxes.txt", lambda t: t.replace("10.0", "ten", 1), "no numbers for 1"),
        ("bounding_boxes.txt", lambda t: t.replace(" 34.0", "", 1), "4 of 5 columns in row 1"),
        ("bounding_boxes.txt", lambda t: t.replace("36.0", "0.0", 1), "an empty box"),
        ("bounding_boxes.txt", lambda t: t.replace("10.0", "90.0", 1), "outside of the picture"),
    ],
)
def test_damaged_tables_of_cub(cub, capsys, file, change, message):
    edit(cub / "CUB_200_2011" / file, change)
    assert run(cub200, cub, "--size", 32) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (cub / "prepared" / "cub200-32").exists()


@pytest.mark.parametrize("missing", ["CUB_200_2011/classes.txt", "segmentations", "picture"])
def test_missing_parts_of_cub(cub, capsys, missing):
    path = cub200.read(cub).objects[4].picture if missing == "picture" else cub / missing
    if missing == "segmentations":
        shutil.rmtree(path)
        path.mkdir()  # there, and without the outlines
    else:
        path.unlink()
    assert run(cub200, cub, "--size", 32) == 2
    assert "is missing" in capsys.readouterr().err


def test_an_outline_of_another_size(cub, capsys):
    outline = sorted((cub / "segmentations").rglob("*.png"))[0]
    Image.new("L", (10, 10), 255).save(outline)
    assert run(cub200, cub, "--size", 32) == 2
    assert "not bool (48, 60)" in capsys.readouterr().err


def test_an_empty_outline_can_be_left_out(cub, capsys):
    outline = sorted((cub / "segmentations").rglob("*.png"))[0]
    Image.new("L", Image.open(outline).size).save(outline)
    assert run(cub200, cub, "--size", 32) == 2
    assert "(--skip)" in capsys.readouterr().err
    assert run(cub200, cub, "--size", 32, "--skip") == 0
    assert "left out, no foreground in its crop: 1" in capsys.readouterr().out


def test_verify(cub, capsys):
    assert run(cub200, cub, "--size", 32, "--verify") == 2
    assert run(cub200, cub, "--size", 32) == 0
    assert run(cub200, cub, "--size", 32, "--verify") == 0
    labels = cub / "prepared" / "cub200-32" / "train_labels.npy"
    labels.write_bytes(labels.read_bytes()[:-1])
    capsys.readouterr()
    assert run(cub200, cub, "--size", 32, "--verify") == 2
    assert "train_labels.npy is missing or damaged" in capsys.readouterr().err


# Tiny ImageNet


def test_tiny_is_read(tiny):
    objects = tiny_imagenet.read(tiny)
    assert objects.classes == WNIDS and len(objects.objects) == 10
    assert objects.about["words"] == ["Egyptian cat", WNIDS[1]]
    assert [o.split for o in objects.objects] == ["train"] * 6 + ["test"] * 4
    first, last = objects.objects[0], objects.objects[-1]
    assert first.name == f"{WNIDS[0]}_0" and first.category == WNIDS[0]
    assert first.box == (0, 16, 64, 48)  # the release's 63 and 47 are inside
    assert last.name == "val_3" and last.category == WNIDS[1] and last.box == (0, 32, 45, 63)


def test_tiny_whole_pictures(tiny, capsys):
    assert run(tiny_imagenet, tiny, "--size", 64) == 0
    assert "whole pictures, foreground: box" in capsys.readouterr().out
    folder = tiny / "prepared" / "tiny_imagenet-64"
    train = prepared_images(folder, "train")
    for i, obj in enumerate(tiny_imagenet.read(tiny).objects[:6]):
        whole = np.asarray(Image.open(obj.picture).convert("RGB"))
        assert (train.images[i].permute(1, 2, 0).numpy() == whole).all()
        expected = np.zeros((64, 64), dtype=bool)
        expected[16:48, int(obj.box[0]) :] = True
        assert (train.masks[i].numpy() == expected).all()
    share = verify_prepared(folder)["report"]["train"]["foreground"]
    assert share == {"mean": 0.4375, "least": 0.375, "most": 0.5}


def test_a_box_of_one_pixel_is_in_a_whole_picture(tiny):
    boxes = tiny / "tiny-imagenet-200" / "train" / WNIDS[0] / f"{WNIDS[0]}_boxes.txt"
    edit(boxes, lambda text: text.replace("0\t16\t63\t47", "0\t0\t0\t0", 1))
    assert run(tiny_imagenet, tiny, "--size", 64) == 0
    mask = prepared_images(tiny / "prepared" / "tiny_imagenet-64", "train").masks[0]
    assert mask[0, 0] and mask.sum() == 1


def test_tiny_cropped(tiny, capsys):
    out = tiny / "cropped"
    assert run(tiny_imagenet, tiny, "--size", 48, "--crop", "box", "--out", out) == 0
    assert verify_prepared(out)["factor"] == 1.5
    # 45 x 31 enlarged 1.5 times and clipped: columns 0 to 56, rows 24 to 64; box from 32 to 63
    rows = prepared_images(out, "test").masks[0].any(1).numpy()
    window = 24 + (np.arange(48) + 0.5) * 40 / 48
    assert rows.tolist() == ((window >= 32) & (window < 63)).tolist()
    assert run(tiny_imagenet, tiny, "--size", 48, "--factor", 2) == 2
    assert "--crop box" in capsys.readouterr().err


def test_tiny_in_an_archive(tiny, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    file = tiny_imagenet.FILES[0]
    with zipfile.ZipFile(root / file.name, "w") as archive:
        for path in sorted((tiny / "tiny-imagenet-200").rglob("*")):
            archive.write(path, path.relative_to(tiny))
    plain = tiny_imagenet.RemoteFile(name=file.name, urls=(), need=file.need)
    monkeypatch.setattr(tiny_imagenet, "FILES", (plain,))
    assert run(tiny_imagenet, root, "--size", 16) == 0


def test_tiny_with_few_of_a_class(tiny, capsys):
    # boxes are 32 high in train, 45 x 31 in test
    assert run(tiny_imagenet, tiny, "--size", 16, "--most", 1, "--least", 31) == 0
    known = verify_prepared(tiny / "prepared" / "tiny_imagenet-16")
    assert known["left_out"] == {"over 1 of a class and split": 6}
    assert run(tiny_imagenet, tiny, "--size", 16, "--least", 32, "--force") == 2
    assert "No object is left for the test split" in capsys.readouterr().err
    assert verify_prepared(tiny / "prepared" / "tiny_imagenet-16") == known  # still as it was


def test_tiny_damaged(tiny, capsys, monkeypatch):
    folder = tiny / "tiny-imagenet-200"
    edit(folder / "val" / "val_annotations.txt", lambda t: t.replace(WNIDS[1], "n1", 1))
    assert run(tiny_imagenet, tiny, "--size", 16) == 2
    assert "unknown class 'n1'" in capsys.readouterr().err
    shutil.rmtree(folder)
    tiny_tree(tiny)
    edit(folder / "wnids.txt", lambda t: "../elsewhere\n" + t)
    assert run(tiny_imagenet, tiny, "--size", 16) == 2
    assert "no class '../elsewhere'" in capsys.readouterr().err
    tiny_tree(tiny)
    boxes = folder / "train" / WNIDS[0] / f"{WNIDS[0]}_boxes.txt"
    edit(boxes, lambda t: t.split("\n", 1)[1])
    assert run(tiny_imagenet, tiny, "--size", 16) == 2
    assert "2 train images of a class here, the complete release has 3" in capsys.readouterr().err
    assert run(tiny_imagenet, tiny, "--size", 16, "--partial") == 0
    with pytest.raises(KpnbError, match="crop is 'some'"):
        tiny_imagenet.read(tiny, crop="some")


# The scripts


def test_the_block_has_a_folder_of_its_own(tmp_path):
    root = det_tree(tmp_path, train=1, test=1)
    for foreground, ending in (("box", ""), ("block", "-block")):
        assert run(ilsvrc_det, root, "--partial", "--size", 32, "--foreground", foreground) == 0
        folder = root / "prepared" / f"ilsvrc_det-32{ending}"
        assert verify_prepared(folder)["foreground"] == foreground


@pytest.mark.parametrize("name", ["cub200", "tiny_imagenet", "ilsvrc_det", "voc2012", "coco"])
def test_scripts(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", [name, "--root", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 2 and "is missing" in capsys.readouterr().err
