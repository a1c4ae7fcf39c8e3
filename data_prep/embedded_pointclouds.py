"""Make the packed files of the embedded point clouds from two public packages.

    python -m data_prep.embedded_pointclouds --root DIR [--download] [--out DIR]

DIR holds two Debian packages, listed with version and SHA-256 in embedded_pointclouds_shapes.json
beside this script; `--download` fetches those that are missing with apt-get. The same table names
every shape: class, then group, then the shapes of that group. README.md says how they were chosen.
"""

import hashlib
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from data_prep.archives import read_members
from data_prep.builders import main, report, verdict
from kpnb.datasets.clouds import FILES, PACKED_SHA256
from kpnb.datasets.modelnet40 import Mesh, named_generator, surface_points, triangles, y_up_to_z_up
from kpnb.datasets.samples import unit_sphere
from kpnb.errors import KpnbError, require

KIND = "pointclouds"
TABLE = Path(__file__).with_name("embedded_pointclouds_shapes.json")
POINTS = 1024  # of a shape, as many as the paper's objects have
LIMIT = 2**31  # bytes read from one package
CATALOG = "PluginFurnitureCatalog.properties"

Named = Iterator[tuple[str, Mesh]]  # of shapes
Groups = Mapping[str, Mapping[str, list[str]]]  # class: group: names of its shapes


def build(files: Mapping[str, Path], out: Path, table: dict) -> None:
    """Write both files into `out` from the packages."""
    for part, read in READERS.items():
        arrays = pack(table[part], read, files[part])
        np.savez_compressed(out / FILES[part], **arrays)
        describe(out / FILES[part], table["contents"][part])


def furniture_meshes(archive: Path, names: list[str]) -> Named:
    """Meshes of the furniture package, z up; a name is a library's file, "#" and a shape's id.

    Each library is a zip file inside the package, with a catalog that says which model belongs to
    which id and how it is turned. The models have y up.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        wanted[name.partition("#")[0]].append(name)
    paths = {library: f"usr/share/sweethome3d/furniture/{library}.sh3f" for library in wanted}
    found = read_members(archive, paths.values(), LIMIT)
    for library, path in paths.items():
        yield from _library_meshes(Path(path), found[path], wanted[library])


def _library_meshes(file: Path, content: bytes, names: list[str]) -> Named:
    told = read_members(file, [CATALOG], content=content)[CATALOG]
    entries = catalog(told.decode("latin-1"))
    lacking = [name for name in names if name.partition("#")[2] not in entries]
    if lacking:
        raise KpnbError(f"{file.name} has no shape {lacking[0]!r}: get the version asked for.")
    chosen = {name: entries[name.partition("#")[2]] for name in names}
    paths = {name: entry["model"].lstrip("/") for name, entry in chosen.items()}
    models = read_members(file, paths.values(), LIMIT, content)
    for name, entry in chosen.items():
        vertices, faces = read_obj(models[paths[name]].decode("latin-1"))
        rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), dtype=float)
        yield name, (y_up_to_z_up(vertices @ rotation.reshape(3, 3).T), faces)


def catalog(text: str) -> dict[str, dict[str, str]]:
    """The entries of a catalog, lines "key#number=value", by the last part of their id."""
    entries: dict[str, dict[str, str]] = defaultdict(dict)
    for key, number, value in re.findall(r"^(\w+)#(\d+)\s*=\s*(.*?)\s*$", text, re.MULTILINE):
        entries[number][key] = value
    return {entry["id"].rpartition("#")[2]: entry for entry in entries.values() if "id" in entry}


def component_meshes(archive: Path, names: list[str]) -> Named:
    """Meshes of the components package, z up; a name is a model's path without its ending."""
    paths = {f"usr/share/kicad/3dmodels/{name}.wrl": name for name in names}
    for path, content in read_members(archive, paths, LIMIT).items():
        yield paths[path], read_vrml(content.decode("utf-8", "replace"))


READERS = {"furniture": furniture_meshes, "components": component_meshes}


def pack(
    groups: Groups, read: Callable[[Path, list[str]], Named], archive: Path
) -> dict[str, np.ndarray]:
    """The arrays of one packed file, shapes in the order of the table."""
    rows = [
        (name, group, label)
        for label, members in enumerate(groups.values())
        for group, names in members.items()
        for name in names
    ]
    names = [name for name, _, _ in rows]
    require(len(set(names)) == len(names), "A shape is in the table twice: correct the table.")
    clouds = {name: cloud(name, mesh) for name, mesh in read(archive, names)}
    return dict(
        points=np.stack([clouds[name] for name in names]),
        label=np.array([label for _, _, label in rows], dtype=np.uint8),
        names=np.array(names),
        group=np.array([group for _, group, _ in rows]),
        classes=np.array(list(groups)),
    )


def cloud(name: str, mesh: Mesh) -> np.ndarray:
    """(1024, 3) float16 points of a mesh, from a generator seeded with the shape's name."""
    try:
        points = surface_points(mesh, POINTS, named_generator(name))
        return unit_sphere(points).astype(np.float16)
    except KpnbError as error:
        raise KpnbError(f"The shape {name!r} cannot be used ({error}): take it out.") from error


def describe(path: Path, packaged: str) -> None:
    """Print what a file holds and whether its bytes and its content are those packaged.

    packaged: SHA-256 of the packaged content, the arrays without the compression around them.
    """
    with np.load(path, allow_pickle=False) as arrays:
        content = content_sha256(arrays)
        for label, name in enumerate(arrays["classes"]):
            chosen = arrays["group"][arrays["label"] == label]
            print(f"  {name}: {len(chosen)} shapes in {len(set(chosen))} groups")
    report(path, PACKED_SHA256[path.name])
    print(f"{content}  its content: {verdict(content, packaged)}", flush=True)


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the arrays themselves, whatever the compression around them."""
    state = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        state.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        state.update(array.tobytes())
    return state.hexdigest()


VRML_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
VRML_POINTS = re.compile(r"\bpoint\s*\[([^\]]*)\]")
VRML_CORNERS = re.compile(r"\bcoordIndex\s*\[([^\]]*)\]")


def read_obj(text: str) -> Mesh:
    """The mesh of a Wavefront OBJ file: all its objects and groups, materials left out."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    for line in text.splitlines():
        if line.startswith("v "):
            vertices.append([float(word) for word in line.split()[1:4]])
        elif line.startswith("f "):
            numbers = [int(word.split("/")[0]) for word in line.split()[1:]]
            # From 1, or back from the latest vertex when negative.
            polygons.append([n - 1 if n > 0 else len(vertices) + n for n in numbers])
    return np.array(vertices, dtype=np.float64), triangles(polygons, len(vertices))


def read_vrml(text: str) -> Mesh:
    """The mesh of a VRML 2.0 file: all its IndexedFaceSets, in their own coordinates.

    Raises `KpnbError` for a Transform, which is not applied, and when there is no face.
    """
    if re.search(r"\bTransform\b", text):
        raise KpnbError("A VRML file has a Transform, which is not supported: leave it out.")
    meshes = [mesh for part in text.split("IndexedFaceSet")[1:] if (mesh := _face_set(part))]
    require(meshes, "A VRML file has no faces: leave it out.")
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def _face_set(part: str) -> Mesh | None:
    points, corners = VRML_POINTS.search(part), VRML_CORNERS.search(part)
    if points is None or corners is None:
        return None
    vertices = np.array(VRML_NUMBER.findall(points[1]), dtype=np.float64).reshape(-1, 3)
    runs = re.split(r"-1\b", corners[1])  # -1 ends a polygon
    polygons = [[int(word) for word in re.findall(r"\d+", run)] for run in runs]
    polygons = [polygon for polygon in polygons if len(polygon) > 2]
    # Some files hold sets of no or degenerate faces beside the real ones.
    return (vertices, triangles(polygons, len(vertices))) if polygons else None


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
