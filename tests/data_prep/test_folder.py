"""Which objects are prepared, and the folder that they are written into."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused, refuses

from data_prep import folder as images
from data_prep.crops import UnusableObjectError, crop_object
from data_prep.folder import prepare_images, verify_prepared
from data_prep.objects import selected
from kpnb.datasets.prepared import prepared_images


def test_selection(objects):
    few, large = selected(objects, most=1), selected(objects, least=22)
    assert len({(o.category, o.split) for o in few.objects}) == len(few.objects) == 4
    first = min(("o0", "o2", "o4"), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert first != "o0" and first in {o.name for o in few.objects}
    assert few.left_out == {"odd": 3, "over 1 of a class and split": 6}
    turned = selected(replace(objects, objects=objects.objects[::-1]), most=1)
    assert turned.objects == few.objects[::-1]
    assert set(few.objects) <= set(selected(objects, most=2).objects)
    assert [o.name for o in large.objects] == [f"o{i}" for i in range(2, 10)]
    assert large.left_out == {"odd": 3, "smaller than 22 pixels": 2}
    whole = replace(objects, objects=(replace(objects.objects[0], box=None),))
    assert len(selected(whole, least=99).objects) == 1 and selected(objects) == objects
    twice = replace(objects, objects=objects.objects + objects.objects[:1])
    refuses(selected, "2 objects called 'o0'", twice)
    refuses(selected, "class 'b'", replace(objects, classes=("a",)))
    refuses(selected, "least", objects, least=-1)
    refuses(selected, "most", objects, most=0)


@pytest.fixture
def prepare(objects, tmp_path):
    return partial(prepare_images, objects, tmp_path / "out", 32, "box")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("size", [17, 32])  # an odd size packs its masks, too
def test_prepared_folder_reads_back(objects, tmp_path, size):
    folder = prepare_images(objects, tmp_path / "out", size, "box", name="things")
    for split, names in (("train", range(6)), ("test", range(6, 10))):
        read = prepared_images(folder, split)
        made = [crop_object(objects.objects[i], 1.5, size, "box") for i in names]
        assert (read.images.numpy() == np.stack([pixels for pixels, _ in made])).all()
        assert (read.masks.numpy() == np.stack([mask for _, mask in made])).all()
        assert read.labels.tolist() == [i % 2 for i in names]
        assert json.loads((folder / f"{split}_names.json").read_text()) == [f"o{i}" for i in names]
    assert np.load(folder / "test_masks.npy").shape == (4, {17: 37, 32: 128}[size])
    known = verify_prepared(folder)
    assert known["left_out"] == {"odd": 3} and known["about"]["note"] == 1
    assert known["factor"] == 1.5 and known["name"] == "things"
    train, foreground = known["report"]["train"], known["report"]["train"]["foreground"]
    assert train["images"] == 6 and train["classes"] == 2
    assert train["per_class"] == {"least": 3, "most": 3}
    shares = [crop_object(o, 1.5, size, "box")[1].mean() for o in objects.objects[:6]]
    assert foreground["mean"] == pytest.approx(np.mean(shares))
    assert foreground["most"] == max(shares)
    known = verify_prepared(prepare_images(objects, tmp_path / "block", 32, "block"))
    train, exact = known["report"]["train"], {"mean": 0.5625, "least": 0.5625, "most": 0.5625}
    assert train["foreground"] == train["foreground_16x16"] == exact
    assert train["no_foreground_cell"] == train["no_background_cell"] == 0


def test_workers_change_nothing(objects, tmp_path):
    made = [contents(prepare_images(objects, tmp_path / str(n), 48, "box", n)) for n in (0, 1, 4)]
    assert made[0] == made[1] == made[2] and len(made[0]) == 9


def test_made_once_and_replaced_only_on_request(objects, prepare, tmp_path, monkeypatch):
    folder = prepare()
    before = contents(folder)
    refuses(prepare_images, "prepared otherwise", objects, folder, 48, "box")
    os.replace(folder, tmp_path / "out.kpnb-old")  # as a kill between the two renames leaves it
    refuses(prepare_images, "prepared otherwise", objects, folder, 48, "box")
    with monkeypatch.context() as none:
        none.setattr(images, "crops", None)  # not even called
        prepare()
    assert contents(folder) == before
    damaged = bytearray(before["test_pixels.npy"])
    damaged[-1] ^= 1
    (folder / "test_pixels.npy").write_bytes(damaged)
    for again in (partial(verify_prepared, folder), prepare):
        refuses(again, "test_pixels.npy is missing or damaged")
    prepare_images(objects, folder, 48, "box", force=True)
    assert verify_prepared(folder)["size"] == 48
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == [".out.lock", "out"]


def test_a_folder_of_something_else_is_left_and_a_failure_leaves_nothing(prepare, tmp_path):
    letter, broken = tmp_path / "out" / "letter.txt", tmp_path / "8.png"
    letter.parent.mkdir()
    letter.write_text("dear")
    refuses(prepare, "not a prepared folder", force=True)
    assert letter.read_text() == "dear"
    letter.unlink()
    letter.parent.rmdir()
    broken.write_bytes(broken.read_bytes()[:200])
    refuses(prepare, "8.png cannot be read", workers=3)
    broken.unlink()
    refuses(prepare, "8.png is missing")
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name] == [".out.lock"]


# Dies without any cleaning up, in the middle of the second split.
CHILD = """
import os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from image_trees import picture_objects
from data_prep.folder import prepare_images
folder = Path(sys.argv[1])
found = picture_objects(folder)
masks = [replace(o, mask=np.ones((40, 50), dtype=bool).copy) for o in found.objects]
masks[8] = replace(masks[8], mask=lambda: os._exit(9))
prepare_images(replace(found, objects=tuple(masks)), folder / "out", 32, "outline")
"""


def test_a_killed_preparation_leaves_nothing_whole(prepare, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], env=environment)
    assert child.returncode == 9
    assert (tmp_path / "out.kpnb-part" / "train_pixels.npy").is_file()
    assert not (tmp_path / "out").exists()
    assert verify_prepared(prepare())["foreground"] == "box"
    assert not (tmp_path / "out.kpnb-part").exists()


def test_unusable_objects_stop_or_are_counted(objects, tmp_path):
    bad = replace(objects.objects[3], box=(99, 99, 120, 120))
    odd = replace(objects, objects=(*objects.objects[:3], bad, *objects.objects[4:]))
    with refused("o3 in .* has a box outside") as caught:
        prepare_images(odd, tmp_path / "out", 32, "box", workers=1)
    assert caught.type is UnusableObjectError
    assert not any("Pool" in thread.name for thread in threading.enumerate())
    folder = prepare_images(odd, tmp_path / "out", 32, "box", workers=2, skip=True)
    known = verify_prepared(folder)
    assert known["left_out"] == {"odd": 3, "a box outside of the picture": 1}
    assert np.load(folder / "train_pixels.npy").shape == (5, 3, 32, 32)
    assert prepared_images(folder, "train").labels.tolist() == [0, 1, 0, 0, 1]


def test_refusals(objects, tmp_path, monkeypatch):
    full = replace(
        objects,
        objects=tuple(replace(o, mask=np.ones((40, 50), dtype=bool).copy) for o in objects.objects),
    )
    for message, changed, settings in (
        ("size", objects, dict(size=8)),
        ("multiple of 8", objects, dict(size=20, foreground="block")),
        ("foreground", objects, dict(foreground="shape")),
        ("workers", objects, dict(workers=-1)),
        ("has no outline", objects, dict(foreground="outline")),
        ("no background", replace(objects, factor=1.0), {}),
        ("factor", replace(objects, factor=float("inf")), {}),
        ("test split", replace(objects, objects=objects.objects[:6]), {}),
        ("No image of things has background", full, dict(foreground="outline")),
    ):
        settings = {"size": 32, "foreground": "box"} | settings
        refuses(prepare_images, message, changed, tmp_path / "out", **settings)
    monkeypatch.setattr(images, "crops", None)
    usage = images.shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(images.shutil, "disk_usage", lambda path: usage)
    refuses(
        prepare_images, "1e-05 GB free.*--out", objects, tmp_path / "out", 32, "box"
    )  # noticed first
    assert not (tmp_path / "out").exists()


def test_the_pages_lines_make_a_folder_of_ones_own_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise, outline = np.random.default_rng(0), np.zeros((40, 40), dtype=np.uint8)
    outline[10:30, 20:] = 255
    for place in (Path(split, kind) for split in ("train", "test") for kind in ("cat", "dog")):
        picture = noise.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        for folder, pixels in (("photos", picture), ("masks", outline)):
            Path(folder, place).mkdir(parents=True)
            Image.fromarray(pixels).save(Path(folder, place, "1.png"))
    page = Path(__file__).resolve().parents[2] / "book" / "data.md"
    (code,) = re.findall(r"```python\n(from pathlib.*?)```", page.read_text("utf-8"), re.DOTALL)
    exec(compile(code, page, "exec"), {})
    for split in ("train", "test"):
        found = prepared_images("mine-64", split, 40)
        assert found.class_names == ("cat", "dog") and found.labels.tolist() == [0, 1]
        assert found.masks[:, 12:28, 22:].all() and not found.masks[:, :8].any()
        assert found.source["foreground"] == "outline"
