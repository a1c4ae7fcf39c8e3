"""Genuine files of the paper's data sets, from the folder that KPNB_REALDATA names: prepared, and
read by one notebook each at the smoke preset."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from notebook_runs import Executed
from readers import said

from data_prep import coco, modelnet10, modelnet40, squad, sst2, tiny_imagenet
from data_prep.archives import extract
from data_prep.command import main
from kpnb.metrics.results import read_results

FOLDER = os.environ.get("KPNB_REALDATA", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="KPNB_REALDATA names no folder")
SIZES = {"teacher_samples": 100, "samples": 2}


@pytest.fixture
def smoke(tmp_path, monkeypatch):
    """Runs a notebook at the smoke preset on the folder that a preparation has named."""
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))

    def run(notebook, told, page="", **given):
        folder = told.strip().splitlines()[-1].rpartition("data=")[2]
        run = Executed(notebook, SIZES | {"data": folder} | given, tmp_path / "store", tmp_path)
        assert run.code == 0 and run.told == "", run.told
        assert read_results(page or notebook, "smoke").numbers

    return run


def prepared(module, root: Path, *arguments, status: int = 0) -> str:
    return said(partial(main, module), "--root", root, *arguments, status=status)


def test_sst2(smoke, tmp_path):
    root = shutil.copytree(f"{FOLDER}/SST-2", tmp_path / "SST-2", copy_function=shutil.copyfile)
    told = prepared(sst2, root, "--layout", "glue")
    assert "train: 67,349 sentences" in told and "dev: 872 sentences" in told
    smoke("sentiment_h1", told, "sentiment_h1_sst2")


def test_squad(smoke, tmp_path):
    root = shutil.copytree(f"{FOLDER}/squad", tmp_path / "squad", copy_function=shutil.copyfile)
    assert "--partial" in prepared(squad, root, status=2)  # 27 of 442 articles
    told = prepared(squad, root, "--partial")
    assert "train: 7,225 questions" in told and "dev: 10,570 questions" in told
    smoke("qa_h1", told, "qa_h1_squad")


def test_tiny_imagenet(smoke, tmp_path):
    extract(Path(FOLDER) / "tiny-imagenet-120-classes.tar.gz", tmp_path)
    few = "--most", 10, "--size", 64
    assert "--partial" in prepared(tiny_imagenet, tmp_path, *few, status=2)
    told = prepared(tiny_imagenet, tmp_path, *few, "--partial").splitlines()
    assert ["images", "1,200", "1,200"] in map(str.split, told)
    assert "left out, over 10 of a class and split: 63,600" in told
    smoke("image_h1", "\n".join(told))


def test_coco(smoke, tmp_path):
    extract(Path(FOLDER) / "coco-287-pictures.tar.gz", tmp_path)
    told = prepared(coco, tmp_path, "--partial", "--size", 64).splitlines()
    assert ["classes", "10", "10"] in map(str.split, told)
    smoke("image_h1", "\n".join(told))


def test_modelnet10(smoke, tmp_path):
    shutil.copyfile(f"{FOLDER}/modelnet10/modelnet10.npz", tmp_path / "modelnet10.npz")
    told = prepared(modelnet10, tmp_path)
    assert "10 classes: bathtub, bed" in told and "no points of the publisher's" in told
    assert "train: 3,984 shapes" in told and "test: 907 shapes" in told
    smoke("pointcloud_h1", told)


def test_meshes_of_modelnet40(smoke, tmp_path):
    extract(Path(FOLDER) / "modelnet40-17-meshes.tar.gz", tmp_path)
    layout = "--layout", "off", "--partial"
    told = prepared(modelnet40, tmp_path, *layout)
    assert "train: 3 shapes" in told and "test: 1 shapes" in told  # of the chair, in both
    assert "in one split: airplane, bathtub, bed, flower_pot, stool, toilet" in told
    for folder in (tmp_path / "ModelNet40").glob("*/train"):  # a shape is in both splits
        shutil.copytree(folder, folder.with_name("test"), dirs_exist_ok=True)
    told = prepared(modelnet40, tmp_path, *layout)
    assert "7 classes" in told and "one split" not in told
    smoke("pointcloud_h1", told)
