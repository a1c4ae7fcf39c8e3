"""Generated trees in the genuine layouts through data_prep/ to a notebook, at tiny size."""

import importlib
import re
import zlib
from dataclasses import replace
from pathlib import Path

import cloud_smoke
import numpy as np
import pytest
from data_trees import off_tree, release, squad_tree
from image_trees import cub_tree, tiny_tree
from notebook_runs import Executed, source
from object_trees import coco_tree, det_tree, voc_tree
from PIL import Image
from text_smoke import wordy_folder

from data_prep import command
from kpnb.metrics.results import Results, read_results
from kpnb.paper import METRICS
from kpnb.run import notebook as runner

SIZE = 32
SMALL = dict(
    network="AlexNet", scale="narrow", pretrained="none", layers=["FC1"], image_size=SIZE, grid=8,
    fraction=0.2, teacher_epochs=16, epochs=1, head_epochs=1, checkpoints=[0, 1], samples=4,
    probes=8, batch=16, preset="paper",
)  # fmt: skip
COLORS = ((200, 30, 30), (30, 30, 200))


def pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))


def change(file: Path, to) -> None:
    """Give a picture other pixels; outlines and boxes stay."""
    pixels = np.asarray(Image.open(file).convert("RGB"), dtype=float)
    changed = to(pixels, np.random.default_rng(zlib.crc32(file.name.encode())))
    Image.fromarray(changed.clip(0, 255).astype(np.uint8)).save(file, quality=95)


def tint(files: list[Path], label: int) -> None:
    """A color of its own for each class, because the tree's pictures say nothing of it."""
    for file in files:
        change(file, lambda pixels, rng: 0.4 * pixels + 0.6 * np.array(COLORS[label]))


def cub(root: Path) -> None:
    cub_tree(root, train=20, test=8)
    for label, part in enumerate(sorted((root / "CUB_200_2011" / "images").glob("*/"))):
        tint(pictures(part), label)


def tiny(root: Path) -> None:
    tiny_tree(root, train=7, test=8)
    folder = root / "tiny-imagenet-200"
    wnids = (folder / "wnids.txt").read_text().split()
    for label, wnid in enumerate(wnids):
        tint(pictures(folder / "train" / wnid), label)
    for line in (folder / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid = line.split("\t")[:2]
        tint([folder / "val" / "images" / name], wnids.index(wnid))


def executed(notebook: str, given: dict, folder: Path, monkeypatch, page="") -> Results:
    """What a run on a store of its own files; it must end well and show its figures."""
    monkeypatch.setenv("KPNB_STORE", str(folder / "store"))
    monkeypatch.setenv("KPNB_RESULTS", str(folder / "results"))
    found = Executed(notebook, given, folder / "store", folder, page)
    assert found.code == 0, found.told
    assert runner.error_outputs(found.notebook) == []
    assert runner.figure_count(found.notebook) == source(notebook).metadata["kpnb"]["figures"]
    return read_results(found.name, found.given["preset"])


# data set -> tree, notebook, the command's own options, the notebook's own parameters
IMAGES = {
    "cub200": (cub, "image_cell", [], {"layers": ["FC1", "FC2"]}),
    "tiny_imagenet": (tiny, "image_cell", [], {"layers": ["Conv"], "fraction": 0.5}),
    "ilsvrc_det": (det_tree, "image_cell", ["--foreground", "block"], {"augment": "teacher"}),
    "voc2012": (voc_tree, "image_h1", [], {"augment": "all", "layers": ["Conv"]}),
    "coco": (coco_tree, "image_cell", ["--largest", "3"], {"layers": ["FC3"]}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_data_set_goes_the_whole_way(name, tmp_path, monkeypatch, capsys):
    """With pictures that one step does not tell apart: the teacher must beat the baseline."""
    tree, notebook, options, changes = IMAGES[name]
    root, prepared = tmp_path / "root", tmp_path / "prepared"
    tree(root) if tree in (cub, tiny) else tree(root, train=16, test=8)
    for file in pictures(root):
        change(file, lambda p, rng: 128 + 0.3 * (p - 128) + 30 * rng.standard_normal(p.shape))
    reader = importlib.import_module(f"data_prep.{name}")
    arguments = ["--root", str(root), "--out", str(prepared), "--size", str(SIZE)]
    assert command.main(reader, [*arguments, "--partial", *options]) == 0, capsys.readouterr().err
    given = SMALL | changes | {"data": str(prepared)}
    found = executed(notebook, given, tmp_path, monkeypatch)
    assert found.settings["data"] == str(prepared) and found.settings["batch"] == 16
    assert {measure.dataset for measure in found.measures} <= {reader.DATASET}


# Sentences, questions and clouds. A tiny encoder is no teacher, so the check that asks for a good
# one has to be that of the preset `smoke`, with what the preset `paper` changes given by hand.


def sentences(root: Path) -> None:
    folder = Path(release(root)).rename(root / "stanfordSentimentTreebank")
    sides = folder / "datasetSplit.txt"  # it has no test part, which the release has
    sides.write_text(re.sub(r"(?m)^(\d*0),3$", r"\1,2", sides.read_text()))


SHARED = dict(teacher_samples="all", test_samples="all", batch=16, chunk=64, samples=4)
CLOUDS = {"points": 90, "background": 40}
OTHERS = {
    "sst2": (sentences, "sentiment_h1", "treebank", {"longest": 64}, "SST-2"),
    "squad": (squad_tree, "qa_h1", "json", {"longest": 96}, "SQuAD"),
    "modelnet40": (
        lambda root: off_tree(root / "ModelNet40"), "pointcloud_h1", "off", CLOUDS, "ModelNet40"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_texts_and_clouds_go_the_whole_way(name, tmp_path, monkeypatch, capsys):
    tree, notebook, layout, given, dataset = OTHERS[name]
    (tmp_path / "root").mkdir()
    tree(tmp_path / "root")
    reader = importlib.import_module(f"data_prep.{name}")
    # The tree is no release: no archive is there, and no checksum of the genuine files fits.
    plain = dict(urls=(), sha256=None, md5=None, size=None)
    plain |= {"need": ("ModelNet40/bed",)} if name == "modelnet40" else {}
    unchecked = [replace(file, **plain) for file in reader.FILES[layout]]
    monkeypatch.setitem(reader.FILES, layout, tuple(unchecked))
    arguments = ["--root", str(tmp_path / "root"), "--partial"]
    arguments += ["--layout", layout] if len(reader.FILES) > 1 else []
    assert command.main(reader, arguments) == 0, capsys.readouterr().err
    given = SHARED | given | {"data": capsys.readouterr().out.splitlines()[-1][len("data=") :]}
    given |= {"network": wordy_folder(tmp_path)} if name != "modelnet40" else {}
    page = f"{notebook}_{name}" if notebook != "pointcloud_h1" else ""
    found = executed(notebook, given, tmp_path, monkeypatch, page)
    assert {measure.dataset for measure in found.measures} == {dataset}


@pytest.mark.parametrize("network", ["DGCNN", "PointConv", "PointNet++"])
def test_the_page_of_a_point_network_compares_every_metric(network, tmp_path, monkeypatch):
    given, page = cloud_smoke.SMALL | {"network": network}, network.lower().replace("++", "2")
    place = tmp_path, monkeypatch, f"pointcloud_{page}"
    found = executed("pointcloud_network", given, *place)
    assert {c.metric for c in found.comparisons} == set(METRICS)
    assert "FC1, centroids and neighbors recomputed" in {n.split(" | ")[0] for n in found.numbers}
