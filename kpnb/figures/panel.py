"""What the drawings of images, clouds and words share: kinds of points, panels, and how they lie.

A figure of single samples is a grid of panels, made by the `Panels` of their modality and laid out
by its `sheet`: what each panel shows is said once, in kpnb.figures.paper, for all modalities.
Entropy is always drawn on the same scale in nats, never stretched per sample, so that any two maps
of the book can be compared. No kind of point is told by its color alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from kpnb.errors import require
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures import style as look
from kpnb.figures.style import Array, as_array
from kpnb.metrics.points import KnowledgePoints

ENTROPY_LIMITS = (-4.5, -2.3)  # nats, of the public code's plots
NO_MAP = "no map defined"
WIDEST_PANEL = 2.3  # inches
FLATTEST, TALLEST = 0.5, 2.0  # height of a row of panels over their width


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
    """Sample `index` of `points`, its units marked by their kind.

    kinds: (units,) bool and the style of each kind; no unit is in two. numbers: "fg", "bg" ->
    number of points. name: what the panel is of, such as a role; color: of the role, "" for none.
    """

    points: KnowledgePoints
    index: int
    kinds: Sequence[tuple[np.ndarray, PointStyle]]
    numbers: Mapping[str, int]
    name: str = ""
    color: str = ""

    @property
    def foreground(self) -> np.ndarray:
        return as_array(self.points.foreground[self.index])

    @property
    def counts(self) -> Mapping[str, int] | None:
        """The numbers; None for a sample without a map."""
        return self.numbers if self.points.defined[self.index] else None

    @property
    def title(self) -> str:
        """Name and numbers, for matplotlib."""
        names, counts = {"fg": look.N_FG, "bg": look.N_BG}, self.counts
        told = NO_MAP if counts is None else ", ".join(f"{names[k]} = {counts[k]}" for k in counts)
        return f"{self.name}: {told}" if self.name else told


def marked_points(points: KnowledgePoints, index: int, name: str = "", color: str = "") -> Marked:
    """The foreground and background points of sample `index`."""
    held = points.foreground_points[index], points.background_points[index]
    kinds = list(zip(map(as_array, held), POINTS.values(), strict=True))
    numbers = {"fg": int(points.n_fg[index]), "bg": int(points.n_bg[index])}
    return Marked(points, index, kinds, numbers, name, color)


def marked_fates(
    trail: Mapping[int, KnowledgePoints], index: int, epoch: int, name: str = ""
) -> Marked:
    """Foreground points of sample `index` held at `epoch`, that last or not, and those of earlier
    epochs of `trail` held no more."""
    sets = {e: as_array(points.foreground_points[index]) for e, points in trail.items()}
    now, final = sets[epoch], sets[max(sets)]
    tried = np.any([held for earlier, held in sets.items() if earlier <= epoch], axis=0)
    kinds = list(zip((now & final, now & ~final, tried & ~now), FATES, strict=True))
    return Marked(trail[epoch], index, kinds, {"fg": int(now.sum())}, name)


@dataclass(frozen=True)
class Panel:
    """One panel: draw(ax, width in inches), its title, and the names of its axes with units.

    Panels of a figure with the same name of an axis have the same limits there.
    colored: whether it needs the color bar of the entropies. aspect: its height over its width.
    """

    title: str
    draw: Callable[[Axes, float], None]
    labels: tuple[str, str]
    colored: bool = False
    aspect: float = 1.0


class Panels:
    """Some samples of one modality, ready to be shown; index: a sample's place among all.

    Its methods give panels, and `sheet` makes a figure of rows of them: drawn by matplotlib here,
    lines of words in kpnb.figures.text. KpnbError for samples that are not there or of another
    shape, and for values of other units. A modality has, beside those below:

    sample(index, foreground): the sample under its class or note, its foreground told apart;
        foreground: (units,) bool, where the samples do not hold it.
    entropy(index, values, title, foreground): it in the colors of its entropies, (units,) in nats.
    marked(index, marked, title): it with its knowledge points; title: instead of their numbers.
    layers(index, maps by layer): rows of panels, Fig. 1(a), its entropies at each layer.
    KIND, UNITS: what one sample and its units are called. DEFINITION: panels of Fig. 3 in a row.
    """

    KIND: str
    UNITS: str
    DEFINITION: int

    def definition(self, index: int, maps: EntropyMaps, points: KnowledgePoints) -> list[list]:
        """Fig. 3: from entropies to knowledge points."""
        found, entropy = marked_points(points, index), maps.entropy[index]
        whole = self.marked(index, replace(found, kinds=[]), self.KIND)
        colored = self.entropy(index, entropy, "information discarding", found.foreground)
        cut = cut_panel(points, index, self.UNITS)
        return in_rows([whole, colored, cut, self.marked(index, found)], self.DEFINITION)

    def note(self, index: int) -> str:
        """What stands over the sample's row, if anything."""
        return ""

    def sheet(self, grid: Sequence[Sequence[Panel]], notes: Sequence[str] = ()) -> Figure:
        """The rows of panels in one figure."""
        return sheet(grid)


def in_rows(items: Sequence, columns: int = 4) -> list[list]:
    """Rows of at most `columns`, as equally long as can be."""
    rows = -(-len(items) // columns)
    columns = -(-len(items) // rows)
    return [list(items[first : first + columns]) for first in range(0, len(items), columns)]


def sheet(grid: Sequence[Sequence[Panel]]) -> Figure:
    """A figure of rows of panels, with one legend, and one color bar for those with entropies."""
    every = [panel for row in grid for panel in row]
    columns, colored = max(map(len, grid)), any(panel.colored for panel in every)
    room = 0.6 + 0.5 * colored
    width = min(WIDEST_PANEL, (look.WIDTH - room) / columns)
    lines = 1 + max(panel.title.count("\n") for panel in every)
    height = width * max(FLATTEST, min(TALLEST, max(panel.aspect for panel in every)))
    size = (max(4.2, columns * width + room), len(grid) * (height + 0.2 + 0.15 * lines) + 0.8)
    figure, axes = look.new_figure(len(grid), columns, size, "compressed")
    for line, row in zip(axes, grid, strict=True):
        for ax, panel in zip_longest(line, row):
            ax.set_visible(panel is not None)
            if panel:
                panel.draw(ax, 0.85 * width)
                ax.set_title(panel.title, fontsize=look.TITLE_SIZE)
                look.label_axes(ax, *panel.labels)
    _name_axes_once(axes, grid)
    if colored:
        entropy_bar(figure, axes.flat)
    legend_rows = look.legend_below(figure, axes.flat)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, legend_rows - 2))
    return figure


def _name_axes_once(axes: np.ndarray, grid: Sequence[Sequence[Panel]]) -> None:
    """Neighbors that share an axis: its name and numbers at the left and the lowest one only."""
    for row, panels, below in zip(axes, grid, [*grid[1:], []], strict=True):
        for ax, panel, lower, left in zip_longest(row, panels, below, [None, *panels]):
            if panel and lower and panel.labels[0] == lower.labels[0]:
                ax.set(xlabel="", xticklabels=[])
            if panel and left and panel.labels[1] == left.labels[1]:
                ax.set(ylabel="", yticklabels=[])


def entropy_colors() -> Colormap:
    """The color scale of every entropy map; gray where entropy is not defined."""
    return plt.get_cmap("viridis").with_extremes(bad="lightgray")


def entropy_rgba(entropy: Array) -> np.ndarray:
    """(..., 4) the color of each entropy, in nats, on the fixed scale."""
    return entropy_colors()(Normalize(*ENTROPY_LIMITS)(np.ma.masked_invalid(entropy)))


def entropy_bar(figure: Figure, axes: Iterable[Axes]) -> None:
    """The color bar of the fixed scale, to the right of `axes`."""
    colored = ScalarMappable(Normalize(*ENTROPY_LIMITS), entropy_colors())
    bar = figure.colorbar(colored, ax=list(axes), extend="both", shrink=0.85, pad=0.015,
                          ticks=np.arange(-4.5, -2.4, 0.5))  # fmt: skip
    bar.set_label(r"kept $\leftarrow$ $H_i$ [nats] $\rightarrow$ discarded", fontsize=8.5)
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
    require(found, f"there is no {kind} to show; ask for 1 or more.")
    for row in found:
        told = f"there is no {kind} {row} among {count}; give an index from 0."
        require(0 <= row < count, told)
    return found
