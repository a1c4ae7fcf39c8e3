"""Directions to look at a point cloud from, and how it lies in the picture then.

Projections are orthographic. Lengths are in radii of the object, whose center is the origin; z
points up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from matplotlib.axes import Axes

from kpnb.errors import KpnbError
from kpnb.style import Array, as_array

UNIT = "[object radius]"
MARGIN = 1.06


@dataclass(frozen=True)
class View:
    """A direction: unit vectors to the picture's right and up, and the names of both axes."""

    right: tuple[float, float, float]
    up: tuple[float, float, float]
    across: str
    along: str

    @property
    def labels(self) -> tuple[str, str]:
        return f"{self.across} {UNIT}", f"{self.along} {UNIT}"

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., 3) -> places in the picture (..., 2), and closeness to the viewer (...)."""
        toward = np.cross(self.right, self.up)
        return points @ np.transpose([self.right, self.up]), points @ toward


def turned(angle: float, height: float = 20.0) -> View:
    """The front view from `angle` degrees around the z axis and `height` degrees above."""
    a, h = radians(angle), radians(height)
    up = (-sin(a) * sin(h), cos(a) * sin(h), cos(h))
    return View((cos(a), sin(a), 0.0), up, "horizontal", "upward in the view")


VIEWS = {
    "front": View((1, 0, 0), (0, 0, 1), "x", "z"),
    "side": View((0, 1, 0), (0, 0, 1), "y", "z"),
    "top": View((1, 0, 0), (0, 1, 0), "x", "y"),
    "oblique": turned(35.0),
}


@dataclass(frozen=True)
class Window:
    """The part of a view that a panel shows: a square, the same for every turn of the clouds.

    center: (3,) the middle of all clouds; reach: half of the square's side.
    """

    view: View
    center: np.ndarray
    reach: float

    def set_axes(self, ax: Axes) -> None:
        """Limits, whole radii as ticks, and one scale both ways."""
        x, y = self.view.project(self.center)[0]
        ax.set(xlim=(x - self.reach, x + self.reach), ylim=(y - self.reach, y + self.reach))
        ax.set_aspect("equal")
        for middle, set_ticks in ((x, ax.set_xticks), (y, ax.set_yticks)):
            lowest, highest = np.ceil(middle - self.reach), np.floor(middle + self.reach)
            set_ticks(np.arange(lowest, highest + 1, max(1, round(self.reach / 2))))


def window(view: str | View, clouds: Sequence[np.ndarray]) -> Window:
    """A view, or the name of one in VIEWS, onto all of `clouds`, each (p, 3).

    Raises KpnbError for an unknown name.
    """
    if isinstance(view, str):
        if view not in VIEWS:
            raise KpnbError(f"there is no view {view!r}; choose one of {', '.join(VIEWS)}.")
        view = VIEWS[view]
    points = np.concatenate(clouds)
    center = (points.min(0) + points.max(0)) / 2
    along_axes = {*view.right, *view.up} == {0, 1}
    far = np.abs(points - center) if along_axes else np.linalg.norm(points - center, axis=1)
    return Window(view, center, MARGIN * max(float(far.max()), 0.5))


def as_cloud(points: Array) -> np.ndarray:
    """One cloud (p, 3) as an array; KpnbError for another shape or points that are not finite."""
    cloud = as_array(points)
    if cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud) or not np.isfinite(cloud).all():
        raise KpnbError(
            f"points of shape {cloud.shape} are no cloud to draw; pass finite coordinates (p, 3)."
        )
    return cloud.astype(float)


def of_sample(values: Array, index: int, cloud: np.ndarray) -> np.ndarray:
    """Row `index` of (samples, p), as an array; KpnbError where it is not one value per point."""
    if not 0 <= index < len(values):
        raise KpnbError(f"there is no cloud {index} among {len(values)}; give an index from 0.")
    return of_points(values[index], cloud)


def of_points(values: Array, cloud: np.ndarray) -> np.ndarray:
    """(p,) one value per point, as an array; KpnbError for another number."""
    row = as_array(values)
    if row.shape != cloud.shape[:1]:
        raise KpnbError(
            f"values of shape {row.shape} do not fit a cloud of {len(cloud)} points; pass one each."
        )
    return row
