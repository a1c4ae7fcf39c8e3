"""CUB-200-2011, from a small tree in its layout to a folder read back."""

import re
import shutil
import tarfile

import numpy as np
import pytest
from image_trees import BIRDS, cub_tree, released
from PIL import Image

from data_prep import cub200
from data_prep.command import main
from data_prep.fetch import RemoteFile
from data_prep.folder import verify_prepared
from kpnb.datasets.prepared import prepared_images


@pytest.fixture
def cub(tmp_path, monkeypatch):
    released(monkeypatch, 2, 1)
    return cub_tree(tmp_path)


def run(root, *arguments):
    return main(cub200, ["--root", str(root), *map(str, arguments)])


def edit(path, change):
    path.write_text(change(path.read_text()))


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
    assert run(cub, "--size", 68, "--workers", 2) == 0
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
    assert run(cub, "--size", 32, "--foreground", "box") == 2
    assert "leave no background" in capsys.readouterr().err
    assert run(cub, "--size", 32, "--foreground", "box", "--factor", 1.2) == 0
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
    assert run(root, "--size", 32) == 2  # not the archive that is meant
    files = [RemoteFile(name=f.name, urls=(), need=f.need, page=f.page) for f in cub200.FILES]
    monkeypatch.setattr(cub200, "FILES", files)
    assert run(root, "--size", 32) == 0
    assert run(cub, "--size", 32) == 0
    one, other = (verify_prepared(r / "prepared" / "cub200-32") for r in (root, cub))
    assert one == other


def test_wrong_counts(cub, capsys, monkeypatch):
    monkeypatch.setattr(cub200, "COUNTS", cub200.COUNTS | {"train images": 5})
    assert run(cub, "--size", 32) == 2
    assert "4 train images here, the complete release has 5" in capsys.readouterr().err
    assert not (cub / "prepared").exists()
    assert run(cub, "--size", 32, "--partial") == 0
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
    assert run(cub, "--size", 32) == 2
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
    assert run(cub, "--size", 32) == 2
    assert "is missing" in capsys.readouterr().err


def test_an_outline_of_another_size(cub, capsys):
    outline = sorted((cub / "segmentations").rglob("*.png"))[0]
    Image.new("L", (10, 10), 255).save(outline)
    assert run(cub, "--size", 32) == 2
    assert "not bool (48, 60)" in capsys.readouterr().err


def test_an_empty_outline_can_be_left_out(cub, capsys):
    outline = sorted((cub / "segmentations").rglob("*.png"))[0]
    Image.new("L", Image.open(outline).size).save(outline)
    assert run(cub, "--size", 32) == 2
    assert "(--skip)" in capsys.readouterr().err
    assert run(cub, "--size", 32, "--skip") == 0
    assert "left out, no foreground in its crop: 1" in capsys.readouterr().out


def test_verify(cub, capsys):
    assert run(cub, "--size", 32, "--verify") == 2
    assert run(cub, "--size", 32) == 0
    assert run(cub, "--size", 32, "--verify") == 0
    labels = cub / "prepared" / "cub200-32" / "train_labels.npy"
    labels.write_bytes(labels.read_bytes()[:-1])
    capsys.readouterr()
    assert run(cub, "--size", 32, "--verify") == 2
    assert "train_labels.npy is missing or damaged" in capsys.readouterr().err
