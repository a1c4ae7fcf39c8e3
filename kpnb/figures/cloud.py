"""Directions to look at a point cloud from, and how it lies in the picture then.

Projections are orthographic. Lengths are in radii of the object, whose center is the origin; z
points up.

Drawings of point clouds: flat views, the farthest points drawn first.

Entropy has the colors and limits of the image maps (kpnb.figures.image), so a color means one
entropy in
all the book. Foreground is told by shape as well: circles, against crosses for the background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, radians, sin

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from kpnb.errors import KpnbError
from kpnb.figures.image import (
    ENTROPY_LIMITS,
    FATES,
    POINTS,
    PointStyle,
    entropy_colors,
    panels,
    points_title,
)
from kpnb.figures.style import LABEL_SIZE, N_FG, TITLE_SIZE, Array, as_array, label_axes
from kpnb.metrics.points import KnowledgePoints

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


FEWEST = 700


@dataclass(frozen=True)
class Marks:
    """How a kind of point is drawn.

    size: 1 where marks in a square grid of as many as there are points (FEWEST at least) would
    just touch. edge: color of the border, "" for none. smooth: whether its outline is smoothed,
    which crosses and borders need, while it would make a page of plain discs twice as large.
    """

    name: str
    color: str
    marker: str
    size: float
    edge: str = ""
    smooth: bool = False


DARK = Marks("foreground", "#222222", "o", 0.75)
LIGHT = Marks("background", "#A8A8A8", "x", 0.75, smooth=True)
# What is no knowledge point: small and light, and its shape still tells where it belongs.
QUIET = (
    Marks("other foreground", "#BDBDBD", "o", 0.45),
    Marks("other background", "#D2D2D2", "x", 0.5),
)
# For the legend of marks whose color is their entropy.
NEUTRAL = "#707070"


def draw_marks(
    ax: Axes,
    cloud: np.ndarray,
    window: Window,
    marks: Sequence[Marks],
    colors: Array,
    inches: float,
) -> None:
    """One mark per point, the farthest first.

    cloud: (p, 3); marks: of each point; colors: (p, 4) RGBA of each; inches: the panel's width.
    """
    places, near = window.view.project(cloud)
    order = np.argsort(near, kind="stable")
    chosen, colors = [marks[i] for i in order], np.asarray(colors)[order]
    spacing = 72 * inches / np.sqrt(max(FEWEST, len(cloud)))
    drawn = ax.scatter(*places[order].T, s=[(m.size * spacing) ** 2 for m in chosen])
    # One collection with a shape for each point: drawn kind by kind, depth would be lost.
    drawn.set_paths([_path(m.marker) for m in chosen])
    drawn.set_facecolor(colors)
    edges = [to_rgba(m.edge) if m.edge else tuple(c) for m, c in zip(chosen, colors, strict=True)]
    drawn.set_edgecolor(edges)
    drawn.set_antialiased([m.smooth for m in chosen])
    drawn.set_linewidth([0.5 if m.edge else 0.9 * (m.marker == "x") for m in chosen])
    window.set_axes(ax)


def draw_kinds(
    ax: Axes,
    cloud: np.ndarray,
    window: Window,
    kinds: Sequence[tuple[np.ndarray, Marks]],
    inches: float,
) -> None:
    """Each point in the marks of the first of `kinds`, (p,) bool and Marks, that holds it."""
    which = np.argmax([held for held, _ in kinds], axis=0)
    marks = [kinds[i][1] for i in which]
    draw_marks(ax, cloud, window, marks, [to_rgba(m.color) for m in marks], inches)
    for _, kind in kinds:
        name_marks(ax, kind)


def draw_cloud(
    ax: Axes, cloud: np.ndarray, foreground: np.ndarray, window: Window, inches: float
) -> None:
    """Foreground dark, background light; foreground: (p,) bool."""
    draw_kinds(ax, cloud, window, [(foreground, DARK), (~foreground, LIGHT)], inches)


def draw_cloud_entropy(
    ax: Axes,
    cloud: np.ndarray,
    entropy: np.ndarray,
    foreground: np.ndarray,
    window: Window,
    inches: float,
) -> None:
    """Each point in the color of its entropy, (p,) in nats, on the fixed scale; gray for NaN."""
    colors = entropy_colors()(Normalize(*ENTROPY_LIMITS)(np.ma.masked_invalid(entropy)))
    marks = [DARK if inside else LIGHT for inside in foreground]
    draw_marks(ax, cloud, window, marks, colors, inches)
    for kind in (DARK, LIGHT):
        name_marks(ax, replace(kind, color=NEUTRAL))


def draw_cloud_points(
    ax: Axes, cloud: np.ndarray, points: KnowledgePoints, index: int, window: Window, inches: float
) -> None:
    """The knowledge points of sample `index`, all else small and gray; their numbers as title."""
    foreground = of_sample(points.foreground, index, cloud)
    kinds = [
        (as_array(points.foreground_points[index]), point_marks(POINTS["foreground"])),
        (as_array(points.background_points[index]), point_marks(POINTS["background"])),
    ]
    draw_kinds(ax, cloud, window, [*kinds, *quiet(foreground)], inches)
    ax.set_title(points_title(points, index), fontsize=TITLE_SIZE)


def quiet(foreground: np.ndarray) -> list[tuple[np.ndarray, Marks]]:
    """Kinds for the points that are not marked otherwise."""
    return list(zip((foreground, ~foreground), QUIET, strict=True))


def point_marks(style: PointStyle) -> Marks:
    """Marks of a kind of knowledge point: the image figures' color and shape, bordered black."""
    return Marks(style.name, style.color, style.marker, 1.5 * style.size, "black", True)


def name_marks(ax: Axes, marks: Marks) -> None:
    """An entry for the legend."""
    edge = {"edgecolors": marks.edge} if marks.edge else {}
    ax.scatter([], [], c=[marks.color], marker=marks.marker, label=marks.name, **edge)


def draw_cut(ax: Axes, points: KnowledgePoints, index: int) -> None:
    """H_bar - H_i of the foreground and background points of sample `index`, and the cut at b."""
    gap = as_array(points.baseline[index] - points.entropy[index])
    inside, live = as_array(points.foreground[index]), np.isfinite(gap)
    bins = np.linspace(gap[live].min(), gap[live].max(), 33) if live.any() else [0, 1]
    ax.hist(
        gap[~inside & live], bins, color=POINTS["background"].color, hatch="////",
        edgecolor="black", linewidth=0.5, label="background, histogram",
    )  # fmt: skip
    ax.hist(
        gap[inside & live], bins, histtype="step", color="black", linewidth=1.8,
        label="foreground, histogram",
    )  # fmt: skip
    ax.axvline(points.threshold, color="black", linestyle="--", linewidth=1.2, label="cut at b")
    label_axes(ax, r"$\bar H - H_i$ [nats]", "points")


def cloud_panels(count: int, draw: Callable[[Axes, int, float], None], window: Window) -> Figure:
    """`kpnb.figures.image.panels` with the axes of a view: draw(ax, index, inches) for each of
    `count`."""
    figure = panels(count, draw)
    if count < 3:  # in a narrow figure, the names of gray points take another line of the legend
        figure.set_figheight(figure.get_figheight() + 0.3)
    for ax in figure.axes:
        if ax.get_xlabel():
            ax.set_xlabel(window.view.labels[0], fontsize=LABEL_SIZE)
        if ax.get_ylabel():
            ax.set_ylabel(window.view.labels[1], fontsize=LABEL_SIZE)
    return figure


def _path(marker: str) -> object:
    style = MarkerStyle(marker)
    return style.get_path().transformed(style.get_transform())


def draw_cloud_fates(
    ax: Axes,
    cloud: np.ndarray,
    points_by_epoch: Mapping[int, KnowledgePoints],
    index: int,
    epoch: int,
    part: Window,
    inches: float,
) -> None:
    """One panel of Fig. 5: points held at `epoch`, that last or not, and earlier ones dropped."""
    sets = {
        e: of_sample(found.foreground_points, index, cloud) for e, found in points_by_epoch.items()
    }
    now, final = sets[epoch], sets[max(sets)]
    tried = np.any([held for earlier, held in sets.items() if earlier <= epoch], axis=0)
    held = (now & final, now & ~final, tried & ~now)
    kinds = [(fate, point_marks(style)) for fate, style in zip(held, FATES, strict=True)]
    foreground = as_array(points_by_epoch[epoch].foreground[index])
    draw_kinds(ax, cloud, part, [*kinds, *quiet(foreground)], inches)
    ax.set_title(f"epoch {epoch}: {N_FG} = {now.sum()}", fontsize=TITLE_SIZE)
