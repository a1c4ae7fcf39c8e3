"""ModelNet40 is read from small trees of both public layouts."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import data_trees
import numpy as np
import pytest
import torch
from data_trees import MODEL_CLASSES, write_h5
from object_trees import put
from public_files import box
from refusals import refuses

from kpnb.datasets import modelnet40 as reader
from kpnb.datasets.modelnet40 import modelnet40, modelnet40_shapes, read_off
from kpnb.datasets.samples import unit_sphere


@pytest.fixture
def off_tree(tmp_path):
    put(tmp_path / "off" / "README.txt", "about")
    return Path(data_trees.off_tree(tmp_path / "off"))


@pytest.fixture
def points_tree(tmp_path):
    return data_trees.points_tree(tmp_path / "hdf5")


def test_an_off_tree_is_read_and_points_are_uniform_by_area(off_tree):
    shapes = modelnet40_shapes(off_tree, "train")
    assert shapes.class_names == MODEL_CLASSES
    assert shapes.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert shapes.points.shape == (12, 2048, 3) and shapes.points.dtype == torch.float32
    assert shapes.names[6] == "lamp/lamp_0002.off" and shapes.source["layout"] == "off"
    assert np.allclose(unit_sphere(shapes.points.double().numpy()), shapes.points, atol=1e-6)
    size = shapes.points.amax(1) - shapes.points.amin(1)
    expected = torch.tensor([label + 1 + n / 10 for label in range(3) for n in range(4)])
    assert torch.allclose(size[:, 2] / size[:, 0], expected, rtol=0.02)  # z stays up
    assert len(modelnet40_shapes(off_tree, "test")) == 9
    (off_tree / "bed" / "train" / "bed_0000.off").unlink()  # a shape is its own file's alone
    assert torch.equal(modelnet40_shapes(off_tree, "train").points, shapes.points[1:])
    points = reader.surface_points(read_off(box(1, 2, 4)), 30000, np.random.default_rng(0))
    to_face = np.minimum(points, np.array([1, 2, 4]) - points)
    share = (np.abs(to_face) < 1e-9).mean(0)
    assert np.allclose(share, np.array([8, 4, 2]) / 14, atol=0.01)
    y, z = (points[np.isclose(points[:, 0], 0)] / [1, 2, 4]).T[1:]  # of a face: both are uniform
    quarter = (y > 0.5) * 2 + (z > 0.5)
    assert np.allclose(np.bincount(quarter) / len(quarter), 0.25, atol=0.02)
    assert abs((y + z < 0.5).mean() - 1 / 8) < 0.02


TRIANGLE = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [("OFF\n", "OFF"), ("OFF\n", "OFF # a\n\n# b\n"), ("1 2\n", "1 2 255 0 0\n"), ("\n", "\r\n")]
    + [("1 2\n", "1 2 0.5 .25 1.0\n"), ("1 0 0\n", "1 0 0 0.5 0.5 0.5\n")],
)
def test_off_header_without_a_line_break_comments_and_colors(old, new):
    read = [part.tolist() for part in read_off(TRIANGLE.replace(old, new))]
    assert read == [[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]]


@pytest.mark.parametrize(
    "text",
    ["", "PLY\n3 1 0\n", "OFF\n3 1\n0 0 0\n1 0 0\n", "OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n",
     "OFF\n3 1 0\n0 0\n1 0\n0 1\n3 0 1 2\n", TRIANGLE.replace("\n3 0 1 2", "\n-1 0 1 2 1")]
    + [TRIANGLE.replace(*change) for change in (
        ("3 0 1 2", "3 0 1"), ("3 0 1 2", "3 0 1 3"), ("3 0 1 2", "3 0 1 -1"), ("1 0 0", "1 0 x"),
        ("3 1 0", "3 2 0"), ("0 1 0\n", "2 0 0\n"), ("0 1 0\n", "0 nan 0\n"))],
)  # fmt: skip
def test_a_damaged_off_file_is_named(off_tree, text):
    (off_tree / "lamp" / "train" / "lamp_0003.off").write_text(text)
    refuses(modelnet40_shapes, "lamp_0003.off", off_tree, "train")


def test_points_tree(points_tree):
    import h5py

    shapes = modelnet40_shapes(points_tree, "train")
    assert shapes.class_names == MODEL_CLASSES and shapes.labels.tolist() == [0, 1, 2, 0, 2, 1, 0]
    assert shapes.names[4] == "ply_data_train1.h5#0" and shapes.source["layout"] == "hdf5"
    size = shapes.points.amax(1) - shapes.points.amin(1)
    assert (size.argmax(1) == 2).all() and (size.argmin(1) == 0).all()  # y became z, x stayed
    with h5py.File(points_tree / "ply_data_train1.h5") as file:
        raw = unit_sphere(file["data"][1].astype(float))
    assert np.allclose(shapes.points[5, :, [2, 0]], raw[:, [1, 0]], atol=1e-6)
    assert modelnet40_shapes(points_tree, "test").labels.tolist() == [0, 1, 2, 2, 1, 0]
    axes = reader.y_up_to_z_up(np.eye(3))  # mirrors nothing
    assert axes[1].tolist() == [0, 0, 1] and math.isclose(np.linalg.det(axes), 1)


ONE, POINTS = np.zeros((1, 1), int), np.eye(2048)[None, :, :3]


@pytest.mark.parametrize(
    "arrays",
    [dict(label=ONE), dict(data=POINTS), dict(data=np.ones((1, 100, 3)), label=ONE),
     dict(data=np.ones((2, 2048, 3)), label=ONE), dict(data=POINTS, label=ONE + 3),
     dict(data=POINTS, label=ONE - 1), dict(data=0 * POINTS, label=ONE),
     dict(data=np.nan * POINTS, label=ONE), dict(data=POINTS[:0], label=ONE[:0]), None],
)  # fmt: skip
def test_wrong_hdf5_content_is_refused(points_tree, arrays):
    file = points_tree / "ply_data_train1.h5"
    write_h5(file, **arrays) if arrays else file.write_bytes(file.read_bytes()[:500])
    refuses(modelnet40_shapes, "ply_data_train1.h5", points_tree, "train")


def test_what_is_missing_is_named(off_tree, points_tree, tmp_path, monkeypatch):
    shutil.rmtree(off_tree / "lamp" / "test")
    refuses(modelnet40_shapes, "no folder", tmp_path / "none", "train")
    refuses(modelnet40_shapes, "has no class", tmp_path, "train")
    refuses(modelnet40_shapes, "split", off_tree, "val")
    shutil.rmtree(off_tree / "bed" / "train")
    assert modelnet40_shapes(off_tree, "test").class_names == ("table",)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "h5py", None)
        refuses(modelnet40_shapes, "install h5py", points_tree, "test")
    for name in ("ply_data_train0.h5", "train_files.txt"):
        (points_tree / name).unlink()
        refuses(modelnet40_shapes, f"{name} is missing", points_tree, "train")


def test_classes_without_shapes_in_one_split_and_what_macos_leaves(off_tree, points_tree):
    for name in ("bed/train/._bed_0000.off", ".Trash/train/a.off", ".Trash/test/a.off"):
        put(off_tree / name, "\0\5\26\7Mac OS X")
    shutil.rmtree(off_tree / "lamp" / "test")
    shutil.rmtree(off_tree / "bed" / "test")
    data_trees.off_tree(off_tree / "more")
    (off_tree / "more" / "lamp").rename(off_tree / "stool")
    for split, count in (("train", 8), ("test", 6)):
        shapes = modelnet40_shapes(off_tree, split)
        assert shapes.class_names == ("stool", "table") and len(shapes) == count
    put(points_tree / "shape_names.txt", "bed\nlamp\ntable\nsofa\n")
    write_h5(points_tree / "ply_data_train0.h5", data=POINTS, label=ONE)  # leaves no lamp
    label = np.array([[2], [0], [2]])
    write_h5(points_tree / "ply_data_train1.h5", data=POINTS.repeat(3, 0), label=label)
    shapes = modelnet40_shapes(points_tree, "test")
    assert shapes.class_names == ("bed", "table") and shapes.labels.tolist() == [0, 1, 1, 0]


def test_points_are_read_where_a_file_cannot_be_locked(points_tree):
    """A network file system without locks, or a file that is open for writing elsewhere."""
    import h5py

    with h5py.File(points_tree / "ply_data_train0.h5", "a"):
        child = "from kpnb.datasets.modelnet40 import modelnet40_shapes as read\n"
        child += f"print(len(read({str(points_tree)!r}, 'train')))"
        told = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert told.stdout == "7\n", told.stderr


def test_every_shape_once_as_the_shapes_stand(off_tree):
    samples, shapes = modelnet40(off_tree, "train"), modelnet40_shapes(off_tree, "train")
    assert samples.points.shape == (12, 1524, 3) and samples.source["once"]
    assert samples.foreground.sum(1).tolist() == [1024] * 12
    own = samples.points[0][samples.foreground[0]].double()  # points of a shape, not turned
    assert torch.cdist(own, shapes.points.flatten(0, 1).double()).amin(1).max() < 1e-6
