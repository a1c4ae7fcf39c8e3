"""One look for every figure of the book: sizes, the style of each role, legends, labels.

No role is told by its color alone. Figures are let go by pyplot as soon as they exist, so that a
notebook shows each one once, as a cell's result.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Array = np.ndarray | Tensor | Sequence

N_FG = r"$N_{\mathrm{fg}}$"
N_BG = r"$N_{\mathrm{bg}}$"

DPI = 110
WIDTH = 9.0
TITLE_SIZE = 9.5
LABEL_SIZE = 9.0


@dataclass(frozen=True)
class RoleStyle:
    """How a network is drawn in every figure; colors of Okabe and Ito."""

    name: str
    color: str
    marker: str
    line: str | tuple


ROLES = {
    "T": RoleStyle("teacher", "#009E73", "^", ":"),
    "S": RoleStyle("student", "#D55E00", "o", "-"),
    "B": RoleStyle("baseline", "#0072B2", "s", "--"),
    "F": RoleStyle("fine-tuned", "#E69F00", "D", "-"),
}


def new_figure(
    rows: int, columns: int, size: tuple[float, float], layout: str = "constrained", **options: bool
) -> tuple[Figure, np.ndarray]:
    """A figure of size (inches) and its axes, (rows, columns), that pyplot does not show again.

    layout: "compressed" brings panels of a fixed aspect (pictures, maps) together.
    """
    options |= {"FigureClass": _ToldFigure, "dpi": DPI, "layout": layout}
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    plt.close(figure)
    for ax in axes.flat:
        ax.tick_params(labelsize=8.5)
    return figure, axes


class _ToldFigure(Figure):
    """A figure whose output in a notebook carries a text for who cannot see it."""

    def _repr_mimebundle_(self, **_asked: object) -> tuple[dict, dict]:
        return {}, {"image/png": {"alt": alternative_text(self)}}


def alternative_text(figure: Figure) -> str:
    """What a figure shows in words: its title, those of its panels, their axes and legends, and
    the remark."""
    panels = [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]
    axes = [" against ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel()))) for ax in panels]
    marks = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    parts = {"Panels": [ax.get_title() for ax in panels], "Axes": axes, "Marks": marks}
    found = {name: "; ".join(dict.fromkeys(filter(None, part))) for name, part in parts.items()}
    told = [f"{name}: {part}." for name, part in found.items() if part]
    title = figure.get_suptitle() and f"{figure.get_suptitle()}."
    text = " ".join([title, *told, figure.get_supxlabel()]).replace("\n", " ").strip()
    return re.sub(r"\\mathrm|\\[,|]|[\\{}$]", "", text)  # the signs of mathematical text


def as_array(values: Array) -> np.ndarray:
    """A tensor of any device, or anything numpy takes, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def label_axes(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=LABEL_SIZE)
    ax.set_ylabel(y, fontsize=LABEL_SIZE)


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int | None = None) -> int:
    """One legend under the figure with each label of `axes` once, in so many columns at most;
    gives its rows, 0 without one."""
    handles: dict[str, object] = {}
    for ax in axes:
        found = zip(*ax.get_legend_handles_labels(), strict=True)
        handles |= {label: handle for handle, label in found if label not in handles}
    if not handles:
        return 0
    rows = -(-len(handles) // (columns or max(1, int(figure.get_figwidth() / 1.9))))
    legend = figure.legend(
        list(handles.values()), list(handles), loc="outside lower center",
        ncols=-(-len(handles) // rows), fontsize=LABEL_SIZE, frameon=False,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([45])
    return rows


def row_of_panels(
    parts: Mapping[str, object],
    draw: Callable[[Axes, object], None],
    x: str,
    y: str,
    size: tuple[float, float],
    columns: int | None = None,
    most: int | None = None,
    **shared: bool,
) -> Figure:
    """A panel for each of `parts` side by side, titled by its key and drawn by draw(ax, part).

    x, y: labels of the axes; size: width and height of a panel, inches; columns: of the legend;
    most: panels in a row, None for all; shared: sharex, sharey. What `draw` sets stays.
    """
    wide = min(len(parts), most or len(parts))
    high = -(-len(parts) // wide)
    width = min(WIDTH, 0.5 + size[0] * wide)
    figure, axes = new_figure(high, wide, (width, size[1] * high), **shared)
    for ax in axes.flat[len(parts) :]:
        ax.set_visible(False)
    for ax, (title, part) in zip(axes.flat, parts.items(), strict=False):
        ax.set_title(title, fontsize=TITLE_SIZE)
        label_axes(ax, x, y)
        ax.grid(alpha=0.3)
        draw(ax, part)
    legend_below(figure, axes.flat, columns)
    return figure
