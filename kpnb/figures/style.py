"""One look for every figure of the book: sizes, the style of each role, legends, labels.

No role is told by its color alone. Figures are let go by pyplot as soon as they exist, so that a
notebook shows each one once, as a cell's result.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    figure, axes = plt.subplots(
        rows, columns, figsize=size, dpi=DPI, layout=layout, squeeze=False, **options
    )
    plt.close(figure)
    for ax in axes.flat:
        ax.tick_params(labelsize=8.5)
    return figure, axes


def as_array(values: Array) -> np.ndarray:
    """A tensor of any device, or anything numpy takes, as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def label_axes(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=LABEL_SIZE)
    ax.set_ylabel(y, fontsize=LABEL_SIZE)


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int | None = None) -> None:
    """One legend under the figure with each label that occurs in `axes` once; none without."""
    handles: dict[str, object] = {}
    for ax in axes:
        found = zip(*ax.get_legend_handles_labels(), strict=True)
        handles |= {label: handle for handle, label in found if label not in handles}
    if not handles:
        return
    if columns is None:
        rows = -(-len(handles) // max(1, int(figure.get_figwidth() / 1.9)))
        columns = -(-len(handles) // rows)
    legend = figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns,
        fontsize=LABEL_SIZE, frameon=False,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([45])
