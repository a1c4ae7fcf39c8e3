"""The packed point clouds are made as their script says, from packages it has checked."""

import hashlib
import importlib.util
import io
import json
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kpnb.datasets import clouds as cloud_files
from kpnb.errors import KpnbError

FOLDER = Path(__file__).parents[2] / "data_prep"

OBJ = """# a unit square in the x-y plane, then a triangle by negative numbers
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
f 1/1/1 2/1/1 3/1/1 4/1/1
v 0 0 5
usemtl wood
f -1//2 -5//2 -4//2
"""
VRML = """#VRML V2.0 utf8
Shape { appearance Appearance { material DEF PIN Material { shininess 0.7 } } }
Shape { geometry IndexedFaceSet { creaseAngle 0.50 coordIndex [0,1,2,-1,0,2,3,-1]
coord Coordinate { point [0 0 0,1.5 0 0,1.5 1e0 0,0 1 -.5] }} appearance Appearance{} }
Shape { geometry IndexedFaceSet { coordIndex [] coord Coordinate { point [] }} }
Shape { geometry IndexedFaceSet { coord Coordinate { point [0 0 1,0 1 1,1 0 1] }
coordIndex [0,1,2,-1] }}
"""


def _load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prep():
    sys.path.insert(0, str(FOLDER))  # as when it is run: its helper lies beside it
    try:
        return _load("embedded_pointclouds")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def meshes():
    return _load("meshes")


def make_deb(path, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as file:
        for member, content in files.items():
            info = tarfile.TarInfo(f"./{member}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    data = buffer.getvalue()
    header = f"{'data.tar.xz':<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(data):<10}`\n"
    path.write_bytes(b"!<arch>\n" + header.encode() + data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_library(catalog, models):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("PluginFurnitureCatalog.properties", catalog)
        for name, text in models.items():
            file.writestr(name, text)
    return buffer.getvalue()


CATALOG = """# a catalog
id=Lib
id#1=Lib#post
name#1=Post
model#1=/m/post.obj
id#2=Lib#lying
model#2=/m/post.obj
modelRotation#2=1 0 0 0 0 -1 0 1 0
"""
# Thin along x and z, long along y: upright where y is up.
POST = "v 0 0 0\nv 0 9 0\nv 1 9 0\nv 1 0 0\nv 0 0 1\nf 1 2 3 4\nf 1 2 5\n"


@pytest.fixture
def packages(prep, tmp_path, monkeypatch):
    """Two small packages of the same layout and their table, in place of the real ones."""
    root = tmp_path / "root"
    root.mkdir()
    library = make_library(CATALOG, {"m/post.obj": POST})
    first = make_deb(root / "a.deb", {"usr/share/sweethome3d/furniture/Lib.sh3f": library})
    second = make_deb(
        root / "b.deb", {"usr/share/kicad/3dmodels/X.3dshapes/part.wrl": VRML.encode()}
    )
    table = {
        "packages": {
            "furniture": dict(package="a", version="1", file="a.deb", sha256=first),
            "components": dict(package="b", version="2", file="b.deb", sha256=second),
        },
        "contents": {"furniture": "0", "components": "0"},
        "furniture": {"up": {"one": ["Lib#post"]}, "down": {"two": ["Lib#lying"]}},
        "components": {"part": {"X": ["X.3dshapes/part"]}},
    }
    monkeypatch.setattr(prep, "TABLE", tmp_path / "table.json")
    prep.TABLE.write_text(json.dumps(table))
    return root


# The formats


def test_obj(meshes):
    vertices, faces = meshes.read_obj(OBJ)
    assert vertices.shape == (5, 3) and vertices[4].tolist() == [0, 0, 5]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1]]


def test_vrml(meshes):
    vertices, faces = meshes.read_vrml(VRML)
    assert vertices.shape == (7, 3) and vertices[3].tolist() == [0, 1, -0.5]
    assert vertices[1].tolist() == [1.5, 0, 0]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "change", [("IndexedFaceSet", "Box"), ("Shape", "Transform"), ("0,2,3,-1]", "0,2,9,-1]")]
)
def test_vrml_that_cannot_be_used(meshes, change):
    with pytest.raises(KpnbError):
        meshes.read_vrml(VRML.replace(*change))


def test_obj_without_faces_is_refused(meshes):
    with pytest.raises(KpnbError):
        meshes.read_obj("v 0 0 0\nv 1 0 0\n")


def test_catalog(prep):
    entries = prep.catalog(CATALOG)
    assert set(entries) == {"post", "lying"}
    assert entries["lying"]["modelRotation"] == "1 0 0 0 0 -1 0 1 0"


# The script


def test_furniture_stands_upright_and_is_turned_as_the_catalog_says(prep, packages):
    found = dict(prep.furniture_meshes(packages / "a.deb", ["Lib#lying", "Lib#post"]))
    assert np.ptp(found["Lib#post"][0], axis=0).tolist() == [1, 1, 9]
    # The rotation takes y to z and z to -y; then up, along y, becomes z and the old y -y.
    assert np.ptp(found["Lib#lying"][0], axis=0).tolist() == [1, 9, 1]
    post, lying = found["Lib#post"][0], found["Lib#lying"][0]
    assert post[1].tolist() == [0, 0, 9] and post[4].tolist() == [0, -1, 0]
    assert lying[1].tolist() == [0, -9, 0] and lying[4].tolist() == [0, 0, -1]


def test_main_packs_both_and_says_that_they_differ(prep, packages, tmp_path, capsys):
    out = tmp_path / "out"
    assert prep.main(["--root", str(packages), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("NOT as packaged") == 4
    with np.load(out / "furniture.npz", allow_pickle=False) as arrays:
        assert arrays["points"].shape == (2, 1024, 3) and arrays["points"].dtype == np.float16
        assert arrays["label"].tolist() == [0, 1] and arrays["label"].dtype == np.uint8
        assert arrays["classes"].tolist() == ["up", "down"]
        assert arrays["names"].tolist() == ["Lib#post", "Lib#lying"]
        assert arrays["group"].tolist() == ["one", "two"]
        points = arrays["points"].astype(float)
        assert np.abs(points.mean(1)).max() < 1e-3
        assert np.allclose(np.linalg.norm(points, axis=2).max(1), 1, atol=1e-3)
        content = prep.content_sha256(arrays)
    table = json.loads(prep.TABLE.read_text())
    table["contents"]["furniture"] = content
    prep.TABLE.write_text(json.dumps(table))
    before = (out / "furniture.npz").read_bytes()
    assert prep.main(["--root", str(packages), "--out", str(out)]) == 0
    assert (out / "furniture.npz").read_bytes() == before
    assert capsys.readouterr().out.count("NOT as packaged") == 3


def test_a_cloud_depends_on_its_name_and_mesh_alone(prep, meshes):
    mesh = meshes.read_obj(OBJ)
    assert (prep.cloud("a", mesh) == prep.cloud("a", mesh)).all()
    assert (prep.cloud("a", mesh) != prep.cloud("b", mesh)).any()
    with pytest.raises(KpnbError, match="'flat'"):
        prep.cloud("flat", (np.zeros((3, 3)), np.array([[0, 1, 2]])))


def _failure(prep, packages, capsys):
    assert prep.main(["--root", str(packages), "--out", str(packages / "out")]) == 1
    return capsys.readouterr().err


def test_other_packages_are_refused(prep, packages, capsys):
    file = packages / "a.deb"
    file.write_bytes(file.read_bytes() + b"x")
    assert "SHA-256" in _failure(prep, packages, capsys)
    file.unlink()
    assert "apt-get download a=1" in _failure(prep, packages, capsys)


@pytest.mark.parametrize("name, what", [("Lib#none", "Lib#none"), ("Other#post", "Other.sh3f")])
def test_a_shape_the_package_lacks_is_named(prep, packages, capsys, name, what):
    table = json.loads(prep.TABLE.read_text())
    table["furniture"]["up"]["one"] = [name]
    prep.TABLE.write_text(json.dumps(table))
    assert what in _failure(prep, packages, capsys)


def test_a_shape_twice_in_the_table_is_refused(prep, packages, capsys):
    table = json.loads(prep.TABLE.read_text())
    table["furniture"]["up"]["one"] *= 2
    prep.TABLE.write_text(json.dumps(table))
    assert "twice" in _failure(prep, packages, capsys)


def test_download_fetches_what_is_missing(prep, packages, monkeypatch, capsys):
    (packages / "b.deb").unlink()
    asked = []

    def run(command, cwd, **_):
        asked.append((command, cwd))
        return type("Done", (), dict(returncode=1, stderr="E: no such package\n"))

    monkeypatch.setattr(prep.subprocess, "run", run)
    monkeypatch.setattr(prep.shutil, "which", lambda name: name)
    arguments = ["--root", str(packages), "--out", str(packages / "out"), "--download"]
    assert prep.main(arguments) == 1
    assert asked == [(["apt-get", "download", "b=2"], packages)]
    assert "no such package" in capsys.readouterr().err
    monkeypatch.setattr(prep.shutil, "which", lambda name: None)
    assert prep.main(arguments) == 1
    assert "no apt-get" in capsys.readouterr().err


# What is packaged


@pytest.mark.parametrize("part", cloud_files.FILES)
def test_packaged_data_are_those_of_the_table(prep, part):
    table = json.loads((FOLDER / "embedded_pointclouds_shapes.json").read_text())
    arrays = cloud_files.packed_arrays(cloud_files.FILES[part])
    assert prep.content_sha256(arrays) == table["contents"][part]
    rows = [
        (name, group, kind)
        for kind, groups in table[part].items()
        for group, names in groups.items()
        for name in names
    ]
    kinds = arrays["classes"][arrays["label"]].tolist()
    found = zip(arrays["names"].tolist(), arrays["group"].tolist(), kinds, strict=True)
    assert list(found) == rows
    assert max(Counter(name for name, _, _ in rows).values()) == 1
    assert arrays["points"].dtype == np.float16 and arrays["label"].dtype == np.uint8
    assert {arrays[key].dtype.kind for key in ("names", "group", "classes")} == {"U"}


def test_packed_files_are_small():
    folder = FOLDER.parent / "kpnb" / "datasets" / "embedded" / "pointclouds"
    assert all((folder / name).stat().st_size < 5e6 for name in cloud_files.FILES.values())
