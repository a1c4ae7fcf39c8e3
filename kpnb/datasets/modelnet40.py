"""ModelNet40 (Wu et al., CVPR 2015), the paper's point cloud data, from files on disk.

Two public layouts are read: the HDF5 files with 2,048 points a shape that PointNet (Qi et al.,
CVPR 2017) was published with, and the original OFF meshes in folders ModelNet40/<class>/<split>.
The full release has 40 classes, 9,843 training shapes (9,840 in the HDF5 files) and 2,468 test
shapes. Nothing is downloaded.

The OFF meshes have z up and the HDF5 points y up (PointNet's own augmentation turns them about y).
Here both have z up, since scenes turn about z; the points are turned by 90 degrees about x, not
mirrored. Shapes of both layouts are centered at their mean and scaled into the unit sphere.

A folder of the HDF5 layout whose points are not the publisher's says so in the file `DERIVED`, as
that of `data_prep.modelnet10` does: its first line is the name of the data set.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from kpnb.datasets import samples as data
from kpnb.datasets.clouds import point_scenes
from kpnb.errors import KpnbError, remedy, require

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (v, 3) float64, triangles (t, 3) int64


def read_off(text: str) -> Mesh:
    """The mesh of an OFF file; polygons are split into triangles around their first corner.

    Some ModelNet files lack the line break after the first word ("OFF490 518 0"): both spellings
    are read. Colors after a vertex or a face's corners are left out, and so are comments ("#").
    Raises `KpnbError` when numbers are missing, are no numbers, or name no vertex.
    """
    lines = [line.split("#", 1)[0].strip() for line in text.splitlines()]
    content = " \n".join(line for line in lines if line)
    require(content.startswith("OFF"), "An OFF file must begin with OFF: fetch the file again.")
    rows = [row.split() for row in content.removeprefix("OFF").strip().split("\n")]
    try:
        vertices, faces = int(rows[0][0]), int(rows[0][1])
        points = np.array([row[:3] for row in rows[1 : 1 + vertices]], dtype=np.float64)
        polygons = [(int(row[0]), row[1:]) for row in rows[1 + vertices :][:faces]]
        corners = [[*map(int, row[:many])] for many, row in polygons if 0 <= many <= len(row)]
    except (ValueError, IndexError, TypeError) as error:
        raise KpnbError(f"The OFF file is damaged ({error}): fetch it again.") from error
    if points.shape != (vertices, 3) or len(corners) != faces:
        raise KpnbError("The OFF file ends early or has too few numbers: fetch it again.")
    return points, triangles(corners, vertices)


def triangles(polygons: Iterable[Sequence[int]], vertices: int) -> np.ndarray:
    """(t, 3) triangles of polygons, given as positions of their corners, around the first corner.

    Raises `KpnbError` for a corner outside the `vertices`, and when there is no triangle.
    """
    fans = [
        (corners[0], corners[k], corners[k + 1])
        for corners in polygons
        for k in range(1, len(corners) - 1)
    ]
    found = np.array(fans, dtype=np.int64).reshape(-1, 3)
    if not found.size or found.min() < 0 or found.max() >= vertices:
        raise KpnbError("A mesh has no faces, or faces of missing vertices: leave it out.")
    return found


def named_generator(name: str) -> np.random.Generator:
    """A generator seeded by a shape's name, so that its points depend on no other shape."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))


def surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) float64 points, independent and uniform on the mesh's surface by area.

    Raises `KpnbError` when the area is not a positive finite number.
    """
    vertices, faces = mesh
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    total = area.sum()
    whole = np.isfinite(total) and total > 0
    require(whole, "A mesh has no surface or coordinates that are not finite: leave it out.")
    chosen = rng.choice(len(faces), count, p=area / total)
    # The square root makes (u, v) uniform on the triangle: its width grows with the first one.
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return (1 - u) * first[chosen] + u * (1 - v) * second[chosen] + u * v * third[chosen]


SAMPLED = 2048  # points of a mesh, as many as the HDF5 files have
NAMES = "shape_names.txt"
DERIVED = "dataset.txt"
Shape = tuple[str, str, np.ndarray]  # class, name, points (k, 3) with z up


def modelnet40(
    folder: str | Path,
    split: str,
    points: int = 1024,
    background: int = 500,
    distance: float = 0.0,
    turn: float = 0.0,
    seed: int = 0,
    count: int | None = None,
) -> data.PointSamples:
    """Scenes of `modelnet40_shapes` among background points, see `point_scenes`; errors are theirs.

    Defaults are the paper's 1,024 + 500 points, as the shapes stand (no turn), every shape of the
    split once.
    """
    shapes = modelnet40_shapes(folder, split)
    return point_scenes(shapes, count, points, background, distance, turn, seed, split)


def modelnet40_shapes(folder: str | Path, split: str) -> data.Shapes:
    """The shapes of `split` ("train" or "test") in `folder`, 2,048 points each; the classes are
    those of `modelnet40_classes`, others are left out.

    folder: the HDF5 release (shape_names.txt, train_files.txt, test_files.txt, ply_data_*.h5), or
        the OFF release (a folder for each class with folders train and test).

    Raises `KpnbError` for a missing folder or file, a damaged file, as `modelnet40_classes` does,
    and when h5py, which the HDF5 layout needs, is not installed.
    """
    folder = Path(folder)
    data.require_split(split)
    classes, hdf5 = modelnet40_classes(folder), (folder / NAMES).is_file()
    found = (_hdf5_shapes if hdf5 else _off_shapes)(folder, split, classes)
    kinds, names, clouds = zip(*found, strict=True)
    points = torch.from_numpy(np.stack(clouds).astype(np.float32))
    labels = torch.tensor([classes.index(name) for name in kinds])
    source = dict(dataset=dataset_name(folder), layout="hdf5" if hdf5 else "off")
    source |= dict(data=data.tensor_digest(points, labels))
    return data.Shapes(points, labels, tuple(classes), names, source)


def dataset_name(folder: Path) -> str:
    """ "ModelNet40", or what the folder itself says."""
    return _lines(folder / DERIVED)[0] if (folder / DERIVED).is_file() else "ModelNet40"


def modelnet40_classes(folder: Path) -> list[str]:
    """The classes with shapes in both splits, in the order of shape_names.txt or of the folders.

    Raises `KpnbError` for a missing folder, and where there is none.
    """
    require(folder.is_dir(), f"There is no folder {folder}: unpack ModelNet40 there.")
    train, test = (_kinds(folder, split) for split in data.SPLITS)
    listed = _lines(folder / NAMES) if (folder / NAMES).is_file() else sorted(train)
    classes = [name for name in listed if name in train & test]
    places = f"{NAMES} or by folders <class>/train and <class>/test"
    told = f"{folder} has no class with shapes in both splits, by {places}"
    require(classes, f"{told}: give the folder of ModelNet40's HDF5 or OFF files.")
    return classes


def _kinds(folder: Path, split: str) -> set[str]:
    """The classes with shapes in one split."""
    if not (folder / NAMES).is_file():
        return {file.parent.parent.name for file in off_files(folder, split)}
    labels = (_hdf5_array(file, "label", np.int64) for file in _hdf5_files(folder, split))
    found = {label for part in labels for label in part.reshape(-1).tolist()}
    return {name for i, name in enumerate(_lines(folder / NAMES)) if i in found}


def y_up_to_z_up(points: np.ndarray) -> np.ndarray:
    """`points` (..., 3) turned by 90 degrees about x, so that what was up along y is along z."""
    return points[..., [0, 2, 1]] * [1, -1, 1]


def z_up_to_y_up(points: np.ndarray) -> np.ndarray:
    """The other way round."""
    return points[..., [0, 2, 1]] * [1, 1, -1]


def _hdf5_files(folder: Path, split: str) -> list[Path]:
    """The files that <split>_files.txt names, in that order.

    The lists name files by a path on the publisher's machine: only the last part counts.
    """
    return [folder / Path(line).name for line in _lines(folder / f"{split}_files.txt")]


def _hdf5_shapes(folder: Path, split: str, chosen: Sequence[str]) -> Iterator[Shape]:
    classes = _lines(folder / NAMES)
    for file in _hdf5_files(folder, split):
        points = _hdf5_array(file, "data", np.float64)
        labels = _hdf5_array(file, "label", np.int64).reshape(-1)
        shape = points.shape == (len(labels), SAMPLED, 3)
        if not shape or not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
            raise KpnbError(
                f"{file} has data of shape {points.shape} or labels that do not fit n x {SAMPLED} "
                f"x 3 and the {len(classes)} classes: fetch the file again."
            )
        with _about(file):
            clouds = data.unit_sphere(y_up_to_z_up(points))
        for i, label in enumerate(labels.tolist()):
            if classes[label] in chosen:
                yield classes[label], f"{file.name}#{i}", clouds[i]


def _hdf5_array(file: Path, name: str, kind: type) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        told = "The HDF5 files of ModelNet40 need the package h5py: install h5py (pip install h5py)"
        raise KpnbError(f"{told}, or give the folder of the OFF files.") from error
    try:
        # Files that are only read need no lock, which some network file systems refuse.
        with h5py.File(file, "r", locking=False) as content:
            return np.asarray(content[name][...], dtype=kind)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        told = f"{file} is missing or no HDF5 file with {name} ({error})"
        raise KpnbError(f"{told}: {remedy(error, 'fetch it again')}.") from error


def _lines(file: Path) -> list[str]:
    lines = file.read_text().splitlines() if file.is_file() else []
    lines = [line.strip() for line in lines if line.strip()]
    require(lines, f"{file} is missing or empty: unpack ModelNet40 again.")
    return lines


def off_files(folder: Path, split: str) -> list[Path]:
    """The meshes of a split, without what macOS leaves beside them (._*)."""
    return sorted(folder.glob(f"[!.]*/{split}/[!.]*.off"))


def _off_shapes(folder: Path, split: str, chosen: Sequence[str]) -> Iterator[Shape]:
    for file in off_files(folder, split):
        kind = file.parent.parent.name
        if kind not in chosen:
            continue
        name = f"{kind}/{file.name}"
        with _about(file):
            mesh = read_off(file.read_text(encoding="ascii", errors="replace"))
            points = data.unit_sphere(surface_points(mesh, SAMPLED, named_generator(name)))
        yield kind, name, points


@contextmanager
def _about(file: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except (KpnbError, OSError) as error:
        raise KpnbError(f"{file} cannot be used: {error}") from error
