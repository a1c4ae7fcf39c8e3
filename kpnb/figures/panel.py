"""What the drawings of images, clouds and words share: kinds of points, panels, and how they lie.

A figure of single samples is a grid of panels, made by the `Panels` of their modality and laid out
by its `sheet`: what each panel shows is said once, in kpnb.figures.paper, for all modalities.
Entropy is always drawn on the same scale in nats, never stretched per sample, so that any two maps
of the book can be compared. No kind of point is told by its color alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.style import (
    LABEL_SIZE,
    N_BG,
    N_FG,
    TITLE_SIZE,
    WIDTH,
    Array,
    as_array,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.points import KnowledgePoints

# The limits of the public code's plots, in nats.
ENTROPY_LIMITS = (-4.5, -2.3)
ENTROPY_COLORS = "viridis"
ENTROPY_LABEL = "$H_i$ [nats]"
UNDEFINED_COLOR = "lightgray"
NO_MAP = "no map defined"
WIDEST_PANEL = 2.3  # inches

Item = TypeVar("Item")


@dataclass(frozen=True)
class PointStyle:
    """How a kind of unit is drawn; told apart by shape and by lightness.

    size: 1 where the marks of all units would just touch. edge: color of the border, "" for none.
    """

    name: str
    color: str
    marker: str
    size: float = 1.0
    edge: str = "black"


POINTS = {
    "foreground": PointStyle("foreground point", "#F0E442", "o", 0.7),
    "background": PointStyle("background point", "#CC79A7", "X", 0.85),
}
# The three kinds of Fig. 5: in the final set, held now but dropped later, held before and dropped.
FATES = (
    PointStyle("kept to the end", "#F0E442", "o", 0.7),
    PointStyle("held now, dropped later", "#56B4E9", "^", 0.75),
    PointStyle("tried before and dropped", "#CC79A7", "X", 0.85),
)


@dataclass(frozen=True)
class Marked:
    """Units of one sample marked by their kind.

    name: what the panel is of, such as a role. kinds: (units,) bool and the style of each kind;
    no unit is in two. foreground: (units,) bool. live: (units,) bool, units with an entropy.
    counts: "fg", "bg" -> number of points; None for a sample without a map.
    color: of the role, "" for none.
    """

    name: str
    kinds: Sequence[tuple[np.ndarray, PointStyle]]
    foreground: np.ndarray
    live: np.ndarray
    counts: Mapping[str, int] | None
    color: str = ""

    @property
    def title(self) -> str:
        """Name and numbers, for matplotlib."""
        names = {"fg": N_FG, "bg": N_BG}
        counts = self.counts
        told = NO_MAP if counts is None else ", ".join(f"{names[k]} = {counts[k]}" for k in counts)
        return f"{self.name}: {told}" if self.name else told


def marked_points(points: KnowledgePoints, index: int, name: str = "", color: str = "") -> Marked:
    """The foreground and background points of sample `index`."""
    held = points.foreground_points[index], points.background_points[index]
    kinds = list(zip(map(as_array, held), POINTS.values(), strict=True))
    counts = {"fg": int(points.n_fg[index]), "bg": int(points.n_bg[index])}
    return _marked(points, index, name, kinds, counts, color)


def marked_fates(
    trail: Mapping[int, KnowledgePoints], index: int, epoch: int, name: str = ""
) -> Marked:
    """Foreground points of sample `index` held at `epoch`, that last or not, and those of earlier
    epochs of `trail` held no more."""
    sets = {e: as_array(points.foreground_points[index]) for e, points in trail.items()}
    now, final = sets[epoch], sets[max(sets)]
    tried = np.any([held for earlier, held in sets.items() if earlier <= epoch], axis=0)
    kinds = list(zip((now & final, now & ~final, tried & ~now), FATES, strict=True))
    return _marked(trail[epoch], index, name, kinds, {"fg": int(now.sum())})


def _marked(
    points: KnowledgePoints,
    index: int,
    name: str,
    kinds: Sequence[tuple[np.ndarray, PointStyle]],
    counts: Mapping[str, int],
    color: str = "",
) -> Marked:
    inside = as_array(points.foreground[index])
    live = np.isfinite(as_array(points.entropy[index]))
    return Marked(name, kinds, inside, live, counts if points.defined[index] else None, color)


@dataclass(frozen=True)
class Panel:
    """One panel: draw(ax, width in inches), its title, and the names of its axes with units.

    Panels of a figure with the same name of an axis have the same limits there.
    colored: whether it needs the color bar of the entropies.
    """

    title: str
    draw: Callable[[Axes, float], None]
    labels: tuple[str, str]
    colored: bool = False


class Panels(ABC):
    """Some samples of one modality, ready to be shown; index: a sample's place among all.

    Its methods give panels in rows, and `sheet` makes a figure of them: drawn by matplotlib here,
    lines of words in kpnb.figures.text. KIND: what one sample is called. UNITS: what its units are
    called. DEFINITION: panels of Fig. 3 beside each other.
    """

    KIND: str
    UNITS: str
    DEFINITION: int

    @abstractmethod
    def sample(self, index: int, foreground: Array | None) -> Panel:
        """The sample under its class or note, its foreground told apart.

        foreground: (units,) bool, where the samples do not hold it.
        """

    @abstractmethod
    def entropy(self, index: int, values: Array, title: str, foreground: Array | None) -> Panel:
        """The sample in the colors of its entropies, (units,) in nats."""

    @abstractmethod
    def marked(self, index: int, marked: Marked, title: str | None = None) -> Panel:
        """The sample with its knowledge points; title: instead of their numbers."""

    @abstractmethod
    def layers(self, index: int, maps_by_layer: Mapping[str, EntropyMaps]) -> list[list[Panel]]:
        """Fig. 1(a): the sample's entropies at each layer."""

    def definition(
        self, index: int, maps: EntropyMaps, points: KnowledgePoints
    ) -> list[list[Panel]]:
        """Fig. 3: from entropies to knowledge points."""
        found = marked_points(points, index)
        panels = [
            self.marked(index, replace(found, kinds=[]), self.KIND),
            self.entropy(index, maps.entropy[index], "information discarding", found.foreground),
            cut_panel(points, index, self.UNITS),
            self.marked(index, found),
        ]
        return in_rows(panels, self.DEFINITION)

    def note(self, index: int) -> str:
        """What stands over the sample's row, if anything."""
        return ""

    def sheet(self, grid: Sequence[Sequence[Panel]], notes: Sequence[str] = ()) -> Figure:
        """The rows of panels in one figure."""
        return sheet(grid)


def in_rows(items: Sequence[Item], columns: int = 4) -> list[list[Item]]:
    """Rows of at most `columns`, as equally long as can be."""
    rows = -(-len(items) // columns)
    columns = -(-len(items) // rows)
    return [list(items[first : first + columns]) for first in range(0, len(items), columns)]


def sheet(grid: Sequence[Sequence[Panel]]) -> Figure:
    """A figure of rows of panels, with one legend, and one color bar for those with entropies."""
    columns, colored = max(map(len, grid)), any(panel.colored for row in grid for panel in row)
    room = 0.6 + 0.5 * colored
    width = min(WIDEST_PANEL, (WIDTH - room) / columns)
    lines = 1 + max(panel.title.count("\n") for row in grid for panel in row)
    size = (max(4.2, columns * width + room), len(grid) * (width + 0.2 + 0.15 * lines) + 0.8)
    figure, axes = new_figure(len(grid), columns, size, "compressed")
    bearers = []
    for line, row in zip(axes, grid, strict=True):
        for ax, panel in zip_longest(line, row):
            ax.set_visible(panel is not None)
            if panel:
                panel.draw(ax, 0.85 * width)
                ax.set_title(panel.title, fontsize=TITLE_SIZE)
                label_axes(ax, *panel.labels)
                bearers += [ax] * panel.colored
    _name_axes_once(axes, grid)
    if bearers:
        entropy_bar(figure, bearers)
    legend_rows = legend_below(figure, axes.flat)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, legend_rows - 2))
    return figure


def _name_axes_once(axes: np.ndarray, grid: Sequence[Sequence[Panel]]) -> None:
    """Neighbors that share an axis: its name and numbers at the left and the lowest one only."""
    for upper, lower, row in zip(grid, grid[1:], axes, strict=False):
        for ax, panel, below in zip(row, upper, lower, strict=False):
            if panel.labels[0] == below.labels[0]:
                ax.set(xlabel="", xticklabels=[])
    for panels, row in zip(grid, axes, strict=True):
        for left, panel, ax in zip(panels, panels[1:], row[1:], strict=False):
            if panel.labels[1] == left.labels[1]:
                ax.set(ylabel="", yticklabels=[])


def entropy_colors() -> Colormap:
    """The color scale of every entropy map; gray where entropy is not defined."""
    return plt.get_cmap(ENTROPY_COLORS).with_extremes(bad=UNDEFINED_COLOR)


def entropy_bar(figure: Figure, axes: Iterable[Axes]) -> None:
    """The color bar of the fixed scale, to the right of `axes`."""
    colored = ScalarMappable(Normalize(*ENTROPY_LIMITS), entropy_colors())
    bar = figure.colorbar(colored, ax=list(axes), extend="both", shrink=0.85, pad=0.015)
    bar.set_label(ENTROPY_LABEL, fontsize=LABEL_SIZE)
    bar.set_ticks(np.arange(-4.5, -2.4, 0.5))
    bar.ax.tick_params(labelsize=8.5)


def cut_panel(points: KnowledgePoints, index: int, units: str) -> Panel:
    """H_bar - H_i of the foreground and background units of sample `index`, and the cut at b."""
    gap = as_array(points.baseline[index] - points.entropy[index])
    inside, live = as_array(points.foreground[index]), np.isfinite(gap)
    bins = np.linspace(gap[live].min(), gap[live].max(), 24) if live.any() else [0, 1]

    def draw(ax: Axes, _inches: float) -> None:
        ax.hist(gap[~inside & live], bins, color=POINTS["background"].color, hatch="////",
                edgecolor="black", linewidth=0.5, label=f"background {units}")  # fmt: skip
        ax.hist(gap[inside & live], bins, histtype="step", color="black", linewidth=1.8,
                label=f"foreground {units}")  # fmt: skip
        ax.axvline(points.threshold, color="black", linestyle="--", linewidth=1.2, label="cut at b")
        ax.set_box_aspect(1)

    title = f"cut at b = {points.threshold:g}"
    return Panel(title, draw, (r"$\bar H - H_i$ [nats]", units))


def known_rows(rows: Iterable[int], count: int, kind: str) -> list[int]:
    """`rows` as a list; KpnbError where there are none, or one that is not among `count`."""
    found = [int(row) for row in rows]
    if not found:
        raise KpnbError(f"there is no {kind} to show; ask for 1 or more.")
    for row in found:
        if not 0 <= row < count:
            raise KpnbError(f"there is no {kind} {row} among {count}; give an index from 0.")
    return found
