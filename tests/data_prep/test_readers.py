"""What the readers of all data sets have in common, on generated trees in their layouts."""

from __future__ import annotations

import json
import pickle
import runpy
import shutil
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from image_trees import cub_tree, tiny_tree
from object_trees import coco_tree, det_tree, voc_tree
from PIL import Image

from data_prep import coco, cub200, ilsvrc_det, modelnet40, squad, sst2, tiny_imagenet, voc2012
from data_prep.command import main
from data_prep.folder import prepare_images
from kpnb.errors import KpnbError

READERS = {
    "cub": (cub200, cub_tree, {}),
    "tiny": (tiny_imagenet, tiny_tree, {}),
    "voc": (voc2012, voc_tree, {}),
    "det": (ilsvrc_det, det_tree, {"classes": "bear,fox,zebra"}),
    "coco": (coco, coco_tree, {"largest": 3}),
}
DRAWN = ("voc", "det", "coco")  # trees with a drawn shape for each object
PUBLISHED = (sst2, squad, modelnet40)
# Boxes of COCO have no background without a larger factor.
OFFERED = [(k, f) for k in DRAWN for f in READERS[k][0].OPTIONS.foregrounds]
OFFERED.remove(("coco", "box"))


@pytest.fixture(scope="session")
def trees(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("objects")
    return {key: tree(root / key, train=4, test=2) for key, (_, tree, _) in READERS.items()}


def read(key: str, root: Path):
    module, _, own = READERS[key]
    return module.read(root, partial=True, **own)


def counted(objects) -> Counter:
    return Counter((o.split, o.category) for o in objects.objects)


@pytest.mark.parametrize("key", DRAWN)
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


@pytest.mark.parametrize("key", DRAWN)
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
def test_an_incomplete_copy_has_to_be_accepted(key, trees):
    module, _, own = READERS[key]
    with pytest.raises(KpnbError, match="complete release"):
        module.read(trees[key], **own)


@pytest.mark.parametrize("key", READERS)
def test_missing_pictures_and_folders(key, trees, tmp_path):
    root = Path(shutil.copytree(trees[key], tmp_path / key))
    found = read(key, root)
    found.objects[-1].picture.unlink()
    foreground = READERS[key][0].OPTIONS.foregrounds[0]
    with pytest.raises(KpnbError, match="missing"):
        prepare_images(read(key, root), tmp_path / "out", 32, foreground)
    with pytest.raises(KpnbError, match="unpack"):
        read(key, tmp_path / "nowhere")


@pytest.mark.parametrize("key", READERS)
def test_the_command_line(key, trees, tmp_path, capsys):
    module, _, own = READERS[key]
    given = [text for name, value in own.items() for text in (f"--{name}", str(value))]
    out = tmp_path / "out"
    arguments = ["--root", str(trees[key]), "--out", str(out), "--size", "32", "--least", "0"]
    assert main(module, [*arguments, "--partial", *given]) == 0
    assert json.loads((out / "manifest.json").read_text())["dataset"] == module.DATASET
    assert main(module, ["--root", str(tmp_path / "empty"), *given]) == 2
    said = capsys.readouterr().err  # what to get, and where
    assert module.FILES[0].name in said and module.FILES[0].page in said and said.count("\n") == 1


@pytest.mark.parametrize("module", [*(reader for reader, *_ in READERS.values()), *PUBLISHED])
def test_every_module_is_a_command(tmp_path, monkeypatch, capsys, module):
    monkeypatch.setattr(sys, "argv", [module.NAME, "--root", str(tmp_path / "nothing")])
    monkeypatch.delitem(sys.modules, module.__name__)  # else it is run a second time with a warning
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"data_prep.{module.NAME}", run_name="__main__", alter_sys=True)
    assert ended.value.code == 2 and "is missing" in capsys.readouterr().err


def test_every_file_can_be_checked_and_says_where_it_is_from():
    layouts = chain(*(module.FILES.values() for module in PUBLISHED))
    files = [*chain(*layouts), *chain(*(reader.FILES for reader, *_ in READERS.values()))]
    assert len(files) == 17
    for file in files:
        assert file.licence and file.page.startswith("http") and file.need
        for digest, length in ((file.sha256, 64), (file.md5, 32)):
            assert digest is None or (len(digest) == length and int(digest, 16) >= 0)
        for url in file.urls:
            assert url.startswith(("https://", "http://")) and url.endswith(file.name)
        assert bool(file.urls) != (file in ilsvrc_det.FILES)  # these need an account
