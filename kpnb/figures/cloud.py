"""Point clouds in flat views, orthographic; the farthest points are drawn first.

Lengths are in radii of the object, whose center is the origin; z points up. Foreground is told by
shape as well: circles, against crosses for the background.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import cos, radians, sin

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.markers import MarkerStyle

from kpnb.datasets.samples import PointSamples
from kpnb.errors import KpnbError, require
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.panel import Marked, Panel, Panels, PointStyle, entropy_rgba, known_rows
from kpnb.figures.style import Array, as_array

MARGIN = 1.06


@dataclass(frozen=True)
class View:
    """A direction: unit vectors to the picture's right and up, and the names of both axes."""

    right: tuple[float, float, float]
    up: tuple[float, float, float]
    axes: tuple[str, str]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., 3) -> places in the picture (..., 2), and closeness to the viewer (...)."""
        toward = np.cross(self.right, self.up)
        return points @ np.transpose([self.right, self.up]), points @ toward

    def show(self, ax: Axes, clouds: Iterable[np.ndarray]) -> None:
        """Limits with room for all of `clouds`, each (p, 3), the same however they are turned, in
        one scale both ways; whole radii as ticks."""
        points = np.concatenate([*clouds])
        center = (points.min(0) + points.max(0)) / 2
        along_axes = {*self.right, *self.up} == {0, 1}
        far = np.abs(points - center) if along_axes else np.linalg.norm(points - center, axis=1)
        reach = MARGIN * max(float(far.max()), 0.5)
        ends = self.project(center)[0][:, None] + [-reach, reach]
        ax.set(xlim=ends[0], ylim=ends[1], aspect="equal")
        for (low, high), set_ticks in zip(ends, (ax.set_xticks, ax.set_yticks), strict=True):
            set_ticks(np.arange(np.ceil(low), np.floor(high) + 1, max(1, round(reach / 2))))


def turned(angle: float, height: float = 20.0) -> View:
    """The front view from `angle` degrees around the z axis and `height` degrees above."""
    a, h = radians(angle), radians(height)
    up = (-sin(a) * sin(h), cos(a) * sin(h), cos(h))
    return View((cos(a), sin(a), 0.0), up, ("horizontal", "upward in the view"))


VIEWS = {
    "front": View((1, 0, 0), (0, 0, 1), ("x", "z")),
    "side": View((0, 1, 0), (0, 0, 1), ("y", "z")),
    "top": View((1, 0, 0), (0, 1, 0), ("x", "y")),
    "oblique": turned(35.0),
}


def as_cloud(points: Array) -> np.ndarray:
    """One cloud (p, 3) as an array; KpnbError for another shape or points that are not finite."""
    cloud = as_array(points)
    if cloud.ndim != 2 or cloud.shape[1] != 3 or not len(cloud) or not np.isfinite(cloud).all():
        raise KpnbError(f"{cloud.shape} is no cloud to draw; pass finite coordinates (p, 3).")
    return cloud.astype(float)


def of_points(values: Array, cloud: np.ndarray) -> np.ndarray:
    """(p,) one value per point, as an array; KpnbError for another number."""
    row = as_array(values)
    told = f"values of shape {row.shape} do not fit a cloud of {len(cloud)} points"
    require(row.shape == cloud.shape[:1], f"{told}; pass one each.")
    return row


# Marks touch in a square grid of as many as there are points, this many at least.
FEWEST = 700
# Color, or in a map of entropies only shape, tells the object from what is around it.
WHOLE = (
    PointStyle("foreground", "#222222", "o", 0.75, ""),
    PointStyle("background", "#A8A8A8", "x", 0.75, ""),
)
PLAIN = PointStyle("point", "#222222", "o", 0.75, "")  # foreground is not known
# What is no knowledge point: small and light, and its shape still tells where it belongs.
QUIET = (
    PointStyle("other foreground", "#BDBDBD", "o", 0.45, ""),
    PointStyle("other background", "#D2D2D2", "x", 0.5, ""),
)
BIGGER = 1.5  # knowledge points among many others
NEUTRAL = "#707070"  # in the legend of marks whose color is their entropy
Kinds = Sequence[tuple[np.ndarray, PointStyle]]
Side = str | View  # of `VIEWS`, or any other


def draw_kinds(
    ax: Axes,
    cloud: np.ndarray,
    view: View,
    kinds: Kinds,
    inches: float,
    colors: np.ndarray | None = None,
) -> None:
    """Each point in the marks of the first of `kinds` that holds it, the farthest drawn first.

    cloud: (p, 3); kinds: (p,) bool and style of each; colors: (p, 4) RGBA of each point instead of
    those of its kind; inches: the panel's width.
    """
    places, near = view.project(cloud)
    order = np.argsort(near, kind="stable")
    which = np.argmax([held for held, _ in kinds], axis=0)[order]
    chosen = [kinds[i][1] for i in which]
    fill = [to_rgba(style.color) for style in chosen] if colors is None else colors[order]
    spacing = 72 * inches / np.sqrt(max(FEWEST, len(cloud)))
    # One collection with a shape for each point: drawn kind by kind, depth would be lost.
    shapes = [MarkerStyle(style.marker) for style in chosen]
    drawn = ax.scatter(*places[order].T, s=[(style.size * spacing) ** 2 for style in chosen])
    drawn.set(
        paths=[shape.get_path().transformed(shape.get_transform()) for shape in shapes],
        facecolor=fill,
        edgecolor=[to_rgba(s.edge) if s.edge else c for s, c in zip(chosen, fill, strict=True)],
        linewidth=[0.5 if s.edge else 0.9 * (s.marker == "x") for s in chosen],
        # Crosses and borders need smooth outlines, which make a page of plain discs twice as large.
        antialiased=[bool(s.edge) or s.marker == "x" for s in chosen],
    )
    for _, style in kinds:
        edge = {"edgecolors": style.edge} if style.edge else {}
        color = style.color if colors is None else NEUTRAL
        ax.scatter([], [], c=[color], marker=style.marker, label=style.name, **edge)


class CloudPanels(Panels):
    """Clouds at `rows`, seen from the front, those of Fig. 1(a) from three sides.

    samples: or points (n, p, 3) alone, whose foreground is what a panel is given, if anything.
    All panels of one view have one scale, in which every cloud of `rows` has room.
    """

    KIND, UNITS, DEFINITION = "cloud", "points", 2
    VIEW, GALLERY, SIDES = "front", "oblique", ("front", "side", "top")

    def __init__(self, samples: PointSamples | Array, rows: Iterable[int]) -> None:
        rows, told = known_rows(rows, len(samples), self.KIND), isinstance(samples, PointSamples)
        self.samples = samples if told else None
        points = samples.points if told else samples
        self.clouds = {row: as_cloud(points[row]) for row in rows}

    def sample(self, index: int, foreground: Array | None) -> Panel:
        told = self.samples
        title = self.KIND if told is None else told.class_names[int(told.labels[index])]
        return self._panel(index, title, self.GALLERY, foreground)

    def marked(self, index: int, marked: Marked, title: str | None = None) -> Panel:
        of_points(marked.foreground, self.clouds[index])
        kinds = [(held, replace(style, size=BIGGER * style.size)) for held, style in marked.kinds]
        return self._panel(index, title or marked.title, self.VIEW, marked.foreground, kinds)

    def entropy(
        self, index: int, values: Array, title: str, foreground: object = None, view: Side = VIEW
    ) -> Panel:
        colors = entropy_rgba(of_points(values, self.clouds[index]))
        return self._panel(index, title, view, foreground, colors=colors)

    def layers(self, index: int, maps_by_layer: Mapping[str, EntropyMaps]) -> list[list[Panel]]:
        maps = {layer: maps.entropy[index] for layer, maps in maps_by_layer.items()}
        return [[self.entropy(index, values, f"{layer}, {view}", view=view) for view in self.SIDES]
                for layer, values in maps.items()]  # fmt: skip

    def _panel(
        self,
        index: int,
        title: str,
        view: Side,
        foreground: Array | None,
        kinds: Kinds = (),
        colors: np.ndarray | None = None,
    ) -> Panel:
        """A cloud with the marks of `kinds`, and of foreground and background elsewhere;
        foreground: (p,) bool, where the samples hold none."""
        cloud, view = self.clouds[index], VIEWS[view] if isinstance(view, str) else view
        held = foreground if self.samples is None else self.samples.foreground[index]
        inside = of_points(np.ones(len(cloud), bool) if held is None else held, cloud)
        around = (PLAIN,) if held is None else QUIET if kinds else WHOLE
        every = [*kinds, *zip((inside, ~inside), around, strict=False)]

        def draw(ax: Axes, inches: float) -> None:
            draw_kinds(ax, cloud, view, every, inches, colors)
            view.show(ax, self.clouds.values())

        length = "as given" if self.samples is None else "object radius"
        across, along = (f"{name} [{length}]" for name in view.axes)
        return Panel(title, draw, (across, along), colors is not None)
