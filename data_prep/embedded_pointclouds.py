"""Make the packed files of the embedded point clouds from two public packages.

    python -m data_prep.embedded_pointclouds --root DIR [--download] [--out
    kpnb/datasets/embedded/pointclouds]

DIR holds two Debian packages, listed with version and SHA-256 in embedded_pointclouds_shapes.json
beside this script; `--download` fetches those that are missing with apt-get. The same table names
every shape: class, then group, then the shapes of that group. README.md says how they were chosen.

Needs kpnb only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from meshes import read_obj, read_vrml

from data_prep.fetch import check_sha256, read_members
from kpnb.datasets.clouds import FILES, PACKED_SHA256
from kpnb.datasets.modelnet40 import Mesh, surface_points
from kpnb.datasets.samples import unit_sphere
from kpnb.errors import KpnbError

TABLE = Path(__file__).with_name("embedded_pointclouds_shapes.json")
OUT = Path(__file__).resolve().parents[1] / "kpnb" / "datasets" / "embedded" / "pointclouds"
POINTS = 1024  # of a shape, as many as the paper's objects have
LIMIT = 2**31  # bytes read from one package
CATALOG = "PluginFurnitureCatalog.properties"

Meshes = Mapping[str, Mesh]
Groups = Mapping[str, Mapping[str, list[str]]]  # class: group: names of its shapes


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns the exit status: 0, or 1 after a `KpnbError`."""
    options = _options(arguments)
    table = json.loads(TABLE.read_text())
    try:
        for package in table["packages"].values():
            if options.download:
                download(package, options.root)
            check_sha256(
                options.root / package["file"],
                package["sha256"],
                f"fetch it there with `{shlex.join(fetch_command(package))}`",
            )
        options.out.mkdir(parents=True, exist_ok=True)
        for part, read in READERS.items():
            archive = options.root / table["packages"][part]["file"]
            path = write(options.out / FILES[part], pack(table[part], read, archive))
            report(path, table["contents"][part])
    except KpnbError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the packages")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the packed files")
    parser.add_argument("--download", action="store_true", help="fetch missing packages")
    return parser.parse_args(arguments)


# The packages


def fetch_command(package: Mapping[str, str]) -> list[str]:
    """The command that puts a package's file into the current folder."""
    return ["apt-get", "download", f"{package['package']}={package['version']}"]


def download(package: Mapping[str, str], root: Path) -> None:
    """Fetch the package with apt-get if its file is missing under `root`."""
    root.mkdir(parents=True, exist_ok=True)
    if (root / package["file"]).exists():
        return
    command = fetch_command(package)
    print("fetching:", shlex.join(command), flush=True)
    by_hand = f"run `{shlex.join(command)}` elsewhere and put {package['file']} into {root}"
    if shutil.which(command[0]) is None:
        raise KpnbError(f"There is no {command[0]} here: {by_hand}.")
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KpnbError(f"apt-get could not fetch {package['file']} ({reason}): {by_hand}.")


def furniture_meshes(archive: Path, names: list[str]) -> Iterator[tuple[str, Mesh]]:
    """Meshes of the furniture package, z up; a name is a library's file, "#" and a shape's id.

    Each library is a zip file inside the package, with a catalog that says which model belongs to
    which id and how it is turned. The models have y up.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        wanted[name.partition("#")[0]].append(name)
    paths = {library: f"usr/share/sweethome3d/furniture/{library}.sh3f" for library in wanted}
    found = read_members(archive, paths.values(), LIMIT)
    with tempfile.TemporaryDirectory() as folder:
        for library, path in paths.items():
            file = Path(folder) / f"{library}.sh3f"
            file.write_bytes(found[path])
            yield from _library_meshes(file, wanted[library])


def _library_meshes(file: Path, names: list[str]) -> Iterator[tuple[str, Mesh]]:
    entries = catalog(read_members(file, [CATALOG])[CATALOG].decode("latin-1"))
    lacking = [name for name in names if name.partition("#")[2] not in entries]
    if lacking:
        raise KpnbError(f"{file.name} has no shape {lacking[0]!r}: get the version asked for.")
    chosen = {name: entries[name.partition("#")[2]] for name in names}
    paths = {name: entry["model"].lstrip("/") for name, entry in chosen.items()}
    models = read_members(file, paths.values(), LIMIT)
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


def y_up_to_z_up(vertices: np.ndarray) -> np.ndarray:
    """`vertices` (..., 3) turned by 90 degrees about x, so that what was up along y is along z."""
    return vertices[..., [0, 2, 1]] * [1, -1, 1]


def component_meshes(archive: Path, names: list[str]) -> Iterator[tuple[str, Mesh]]:
    """Meshes of the components package, z up; a name is a model's path without its ending."""
    paths = {f"usr/share/kicad/3dmodels/{name}.wrl": name for name in names}
    for path, content in read_members(archive, paths, LIMIT).items():
        yield paths[path], read_vrml(content.decode("utf-8", "replace"))


READERS = {"furniture": furniture_meshes, "components": component_meshes}


# The packed files


def pack(
    groups: Groups,
    read: Callable[[Path, list[str]], Iterator[tuple[str, Mesh]]],
    archive: Path,
) -> dict[str, np.ndarray]:
    """The arrays of one packed file, shapes in the order of the table."""
    rows = [
        (name, group, label)
        for label, members in enumerate(groups.values())
        for group, names in members.items()
        for name in names
    ]
    names = [name for name, _, _ in rows]
    if len(set(names)) < len(names):
        raise KpnbError("A shape is in the table twice: correct the table.")
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
    digest = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
    try:
        return unit_sphere(surface_points(mesh, POINTS, rng)).astype(np.float16)
    except KpnbError as error:
        raise KpnbError(f"The shape {name!r} cannot be used ({error}): take it out.") from error


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def report(path: Path, packaged: str) -> None:
    """Print what a file holds and whether its bytes and its content are those packaged.

    packaged: SHA-256 of the packaged content, the arrays without the compression around them.
    """
    with np.load(path, allow_pickle=False) as arrays:
        content = content_sha256(arrays)
        for label, name in enumerate(arrays["classes"]):
            chosen = arrays["group"][arrays["label"] == label]
            print(f"  {name}: {len(chosen)} shapes in {len(set(chosen))} groups")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path}: {path.stat().st_size} bytes")
    print(f"  SHA-256 {found}, {_verdict(found == PACKED_SHA256[path.name])}")
    print(f"  of the content {content}, {_verdict(content == packaged)}", flush=True)


def _verdict(same: bool) -> str:
    return "as packaged" if same else "NOT as packaged"


def content_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the arrays themselves, whatever the compression around them."""
    state = hashlib.sha256()
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        state.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        state.update(array.tobytes())
    return state.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
