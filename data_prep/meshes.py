"""Meshes of the two 3D formats that the packages of the embedded point clouds hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from kpnb.datasets.modelnet40 import Mesh, triangles
from kpnb.errors import KpnbError

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
POINTS = re.compile(r"\bpoint\s*\[([^\]]*)\]")
CORNERS = re.compile(r"\bcoordIndex\s*\[([^\]]*)\]")


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
    meshes = [_face_set(part) for part in text.split("IndexedFaceSet")[1:]]
    meshes = [mesh for mesh in meshes if mesh is not None]
    if not meshes:
        raise KpnbError("A VRML file has no faces: leave it out.")
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def _face_set(part: str) -> Mesh | None:
    points, corners = POINTS.search(part), CORNERS.search(part)
    if points is None or corners is None:
        return None
    vertices = np.array(NUMBER.findall(points[1]), dtype=np.float64).reshape(-1, 3)
    polygons = [corners for corners in _polygons(corners[1]) if len(corners) > 2]
    # Some files hold sets of no or degenerate faces beside the real ones.
    return (vertices, triangles(polygons, len(vertices))) if polygons else None


def _polygons(corners: str) -> Iterator[list[int]]:
    """The polygons of a coordIndex, which -1 ends."""
    for run in re.split(r"-1\b", corners):
        polygon = [int(word) for word in re.findall(r"\d+", run)]
        if polygon:
            yield polygon
