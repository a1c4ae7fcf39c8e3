"""Tiny ImageNet, from a small tree in its layout to a folder read back."""

import shutil
import zipfile

import numpy as np
import pytest
from image_trees import WNIDS, released, tiny_tree
from PIL import Image

from data_prep import tiny_imagenet
from data_prep.command import main
from data_prep.fetch import RemoteFile
from data_prep.folder import verify_prepared
from kpnb.datasets.prepared import prepared_images
from kpnb.errors import KpnbError


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    released(monkeypatch, 3, 2)
    return tiny_tree(tmp_path)


def run(root, *arguments):
    return main(tiny_imagenet, ["--root", str(root), *map(str, arguments)])


def edit(path, change):
    path.write_text(change(path.read_text()))


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
    assert run(tiny, "--size", 64) == 0
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
    assert run(tiny, "--size", 64) == 0
    mask = prepared_images(tiny / "prepared" / "tiny_imagenet-64", "train").masks[0]
    assert mask[0, 0] and mask.sum() == 1


def test_tiny_cropped(tiny, capsys):
    out = tiny / "cropped"
    assert run(tiny, "--size", 48, "--crop", "box", "--out", out) == 0
    assert verify_prepared(out)["factor"] == 1.5
    # 45 x 31 enlarged 1.5 times and clipped: columns 0 to 56, rows 24 to 64; box from 32 to 63
    rows = prepared_images(out, "test").masks[0].any(1).numpy()
    window = 24 + (np.arange(48) + 0.5) * 40 / 48
    assert rows.tolist() == ((window >= 32) & (window < 63)).tolist()
    assert run(tiny, "--size", 48, "--factor", 2) == 2
    assert "--crop box" in capsys.readouterr().err


def test_tiny_in_an_archive(tiny, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    file = tiny_imagenet.FILES[0]
    with zipfile.ZipFile(root / file.name, "w") as archive:
        for path in sorted((tiny / "tiny-imagenet-200").rglob("*")):
            archive.write(path, path.relative_to(tiny))
    plain = RemoteFile(name=file.name, urls=(), need=file.need)
    monkeypatch.setattr(tiny_imagenet, "FILES", (plain,))
    assert run(root, "--size", 16) == 0


def test_tiny_with_few_of_a_class(tiny, capsys):
    # boxes are 32 high in train, 45 x 31 in test
    assert run(tiny, "--size", 16, "--most", 1, "--least", 31) == 0
    known = verify_prepared(tiny / "prepared" / "tiny_imagenet-16")
    assert known["left_out"] == {"over 1 of a class and split": 6}
    assert run(tiny, "--size", 16, "--least", 32, "--force") == 2
    assert "No object is left for the test split" in capsys.readouterr().err
    assert verify_prepared(tiny / "prepared" / "tiny_imagenet-16") == known  # still as it was


def test_tiny_damaged(tiny, capsys, monkeypatch):
    folder = tiny / "tiny-imagenet-200"
    edit(folder / "val" / "val_annotations.txt", lambda t: t.replace(WNIDS[1], "n1", 1))
    assert run(tiny, "--size", 16) == 2
    assert "unknown class 'n1'" in capsys.readouterr().err
    shutil.rmtree(folder)
    tiny_tree(tiny)
    edit(folder / "wnids.txt", lambda t: "../elsewhere\n" + t)
    assert run(tiny, "--size", 16) == 2
    assert "no class '../elsewhere'" in capsys.readouterr().err
    tiny_tree(tiny)
    boxes = folder / "train" / WNIDS[0] / f"{WNIDS[0]}_boxes.txt"
    edit(boxes, lambda t: t.split("\n", 1)[1])
    assert run(tiny, "--size", 16) == 2
    assert "2 train images of a class here, the complete release has 3" in capsys.readouterr().err
    assert run(tiny, "--size", 16, "--partial") == 0
    with pytest.raises(KpnbError, match="crop is 'some'"):
        tiny_imagenet.read(tiny, crop="some")
