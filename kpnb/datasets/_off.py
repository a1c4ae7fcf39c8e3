"""Triangle meshes: the OFF file format, and points drawn uniformly from a mesh's surface."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kpnb.errors import KpnbError

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (v, 3) float64, triangles (t, 3) int64


def read_off(text: str) -> Mesh:
    """The mesh of an OFF file; polygons are split into triangles around their first corner.

    Some ModelNet files lack the line break after the first word ("OFF490 518 0"): both spellings
    are read. What follows a face's corners, a color, is left out, and so are comments ("#").
    Raises `KpnbError` when numbers are missing, are no numbers, or name no vertex.
    """
    lines = [line.split("#", 1)[0].strip() for line in text.splitlines()]
    content = " \n".join(line for line in lines if line)
    if not content.startswith("OFF"):
        raise KpnbError("An OFF file must begin with OFF: fetch the file again.")
    rows = [row.split() for row in content.removeprefix("OFF").strip().split("\n")]
    try:
        vertices, faces = int(rows[0][0]), int(rows[0][1])
        points = np.array(rows[1 : 1 + vertices], dtype=np.float64)
        polygons = [[int(word) for word in row] for row in rows[1 + vertices :][:faces]]
        corners = [row[1 : 1 + row[0]] for row in polygons if len(row) > row[0]]
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


def surface_points(mesh: Mesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) float64 points, independent and uniform on the mesh's surface by area.

    Raises `KpnbError` when the area is not a positive finite number.
    """
    vertices, faces = mesh
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    total = area.sum()
    if not np.isfinite(total) or total <= 0:
        raise KpnbError("A mesh has no surface or coordinates that are not finite: leave it out.")
    chosen = rng.choice(len(faces), count, p=area / total)
    # The square root makes (u, v) uniform on the triangle: its width grows with the first one.
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return (1 - u) * first[chosen] + u * (1 - v) * second[chosen] + u * v * third[chosen]
