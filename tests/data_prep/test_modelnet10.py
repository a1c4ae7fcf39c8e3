"""ModelNet10: points drawn on occupancy grids, read as the studies read them."""

import errno
from functools import partial

import numpy as np
import pytest
from readers import said

from data_prep import modelnet10
from data_prep.command import main
from data_prep.modelnet10 import FOLDERS, GRIDS, grid_points
from kpnb.datasets.modelnet40 import modelnet40_shapes, y_up_to_z_up, z_up_to_y_up
from kpnb.datasets.places import marked_folder
from kpnb.study.cloud import StudyClouds
from kpnb.study.parameters import models_for, resolve

TALL = np.zeros((6, 6, 6), dtype=bool)
TALL[2, 2:4, 1:6] = True  # 1 x 2 x 5 cells, the last of them along z at the grid's end


def write_grids(root, **changes):
    empty = np.zeros_like(TALL)
    arrays = dict(X_train=[TALL, empty, TALL], y_train=[2, 0, 8], X_test=[TALL] * 2, y_test=[2, 8])
    root.mkdir(exist_ok=True)
    arrays = {name: np.array(values) for name, values in (arrays | changes).items()}
    np.savez(root / GRIDS, **arrays)


@pytest.fixture
def run(tmp_path, monkeypatch):
    counts = {"classes": 2, "train shapes": 2, "test shapes": 2}
    monkeypatch.setattr(modelnet10, "COUNTS", counts)
    root = tmp_path / "modelnet10"
    return lambda *given, status=0: said(
        partial(main, modelnet10), "--root", root, *given, status=status
    )


def test_points_lie_on_the_outer_faces_by_area():
    points = grid_points(TALL, np.random.default_rng(0), count=40_000)
    low, high = np.array([2, 2, 1]), np.array([3, 4, 6])
    assert (points >= low).all() and (points <= high).all()
    ends = np.isclose(points[:, :, None], np.stack([low, high], axis=-1))
    assert (ends.any(axis=(1, 2))).all()
    areas = np.array([10, 5, 2])  # of a face across x, y and z
    shares = ends.mean(axis=0)
    np.testing.assert_allclose(shares, np.stack([areas, areas], 1) / 34, atol=0.01)


def test_turning_up_there_and_back_changes_and_mirrors_nothing():
    points = np.random.default_rng(0).random((5, 3))
    assert np.array_equal(y_up_to_z_up(z_up_to_y_up(points)), points)
    assert np.linalg.det(z_up_to_y_up(np.eye(3))) == pytest.approx(1)


def test_between_two_full_cells_there_is_no_face():
    cells = np.ones((2, 1, 1), dtype=bool)
    points = grid_points(cells, np.random.default_rng(0), count=5000)
    assert not np.isclose(points[:, 0], 1.0, atol=1e-6).any()


def test_grids_become_clouds_that_a_study_reads(tmp_path, run):
    root = tmp_path / "modelnet10"
    write_grids(root)
    told = run()
    folder = root / FOLDERS["grids"][0]
    assert "2 classes: chair, table" in told and "no points of the publisher's" in told
    assert told.endswith(f"data={folder}\n") and marked_folder(root) == folder
    assert not folder.with_name(f"{folder.name}.new").exists()
    shapes = modelnet40_shapes(folder, "train")
    extent = np.ptp(shapes.points.numpy(), axis=1)
    np.testing.assert_allclose(extent / extent[:, :1], [[1, 2, 5]] * 2, rtol=0.01)  # z is up
    assert not np.array_equal(*shapes.points.numpy())
    found = resolve(models_for("pointcloud_h1"), {"preset": "smoke", "data": str(folder)})
    assert StudyClouds(found).title == "ModelNet10, points drawn on occupancy grids"
    (root / GRIDS).unlink()  # what was drawn is kept
    assert run() == told


def test_a_shape_does_not_depend_on_the_others(tmp_path, run):
    clouds = []
    for changes in ({}, {"X_train": [TALL, TALL, TALL]}):
        write_grids(tmp_path / "modelnet10", **changes)
        run("--partial")
        folder = tmp_path / "modelnet10" / FOLDERS["grids"][0]
        clouds.append(modelnet40_shapes(folder, "train"))
        folder.rename(tmp_path / f"kept{len(clouds)}")
    few, many = clouds
    assert np.array_equal(few.points[1], many.points[many.labels.tolist().index(1)])


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"y_train": [2, 0, 10]}, "outside the 10 classes"), ({"y_test": [2]}, "labels of shape (1,)"),
     ({"X_test": [[1.0]]}, "test grids of shape (1, 1)"), ({}, "the complete release has 3")],
)  # fmt: skip
def test_other_grids_are_refused(tmp_path, run, monkeypatch, changes, told):
    write_grids(tmp_path / "modelnet10", **changes)
    monkeypatch.setitem(modelnet10.COUNTS, "train shapes", 3)
    assert told in run(status=2)


def test_what_cannot_be_written_or_is_missing_leaves_nothing_behind(tmp_path, run, monkeypatch):
    root = tmp_path / "modelnet10"
    assert "modelnet10.npz is missing" in run(status=2) and not root.exists()
    write_grids(root)
    left = root / f"{FOLDERS['grids'][0]}.new"
    left.mkdir()
    (left / "ply_data_train0.h5").write_text("half")
    with monkeypatch.context() as patched:
        patched.setattr(modelnet10, "write_points", full_disk)
        assert "cannot be written (" in run(status=2) and not left.exists()
    run()
    assert not left.exists()


def full_disk(grids, folder):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_damaged_grids_are_refused(tmp_path, run):
    write_grids(tmp_path / "modelnet10")
    file = tmp_path / "modelnet10" / GRIDS
    file.write_bytes(file.read_bytes()[:300])
    assert "has no arrays X_train" in run(status=2)
