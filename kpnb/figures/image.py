"""Drawings of entropy maps and of knowledge points of images.

Entropy is always drawn on the same scale in nats, never stretched per image, so that any two maps
of the book can be compared. No kind of point is told by its color alone. Panels count their axes in
cells of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from kpnb.datasets.samples import normalization
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
    legend_below,
    new_figure,
)
from kpnb.metrics.points import KnowledgePoints

# The limits of the public code's plots, in nats.
ENTROPY_LIMITS = (-4.5, -2.3)
ENTROPY_COLORS = "viridis"
ENTROPY_LABEL = "$H_i$ [nats]"
UNDEFINED_COLOR = "lightgray"


@dataclass(frozen=True)
class PointStyle:
    """How a kind of knowledge point is drawn; told apart by shape and by lightness."""

    name: str
    color: str
    marker: str
    size: float = 1.0


POINTS = {
    "foreground": PointStyle("foreground point", "#F0E442", "o", 0.7),
    "background": PointStyle("background point", "#CC79A7", "X", 0.85),
}


def as_pictures(images: Array) -> np.ndarray:
    """Pictures to draw, (n, height, width, 3) in [0, 1].

    images: a tensor of network inputs (n, 3, height, width), normalized as ImageSamples are; or an
        array of pictures (n, height, width, 3) in [0, 1]. Raises KpnbError for any other shape.
    """
    if isinstance(images, Tensor) and images.ndim == 4 and images.shape[1] == 3:
        center, spread = normalization()
        images = (images.detach().cpu() * spread + center).clamp(0, 1).permute(0, 2, 3, 1)
    pictures = as_array(images)
    if pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise KpnbError(
            f"images have shape {pictures.shape}; pass a tensor (n, 3, height, width) of network "
            "inputs or an array (n, height, width, 3) of pictures."
        )
    return np.clip(pictures, 0, 1)


def as_picture(image: Array) -> np.ndarray:
    """One picture (height, width, 3) from one image, without a samples dimension; see above."""
    return as_pictures(image[None] if hasattr(image, "shape") else [image])[0]


def entropy_colors() -> Colormap:
    """The color scale of every entropy map; gray where entropy is not defined."""
    return plt.get_cmap(ENTROPY_COLORS).with_extremes(bad=UNDEFINED_COLOR)


def grid_of(values: Array) -> np.ndarray:
    """(units,) -> (side, side) of the square grid of GridUnits; KpnbError if there is none."""
    values = as_array(values)
    side = isqrt(values.size)
    if side * side != values.size:
        raise KpnbError(f"{values.size} units make no square grid; these plots need image units.")
    return values.reshape(side, side)


def draw_picture(ax: Axes, picture: np.ndarray, side: int) -> None:
    """A picture, its axes counted in cells of the grid of `side` x `side`."""
    ax.imshow(picture, extent=(0, side, side, 0), interpolation="nearest")
    _cell_axes(ax, side)


def draw_entropy(ax: Axes, entropy: Array) -> None:
    """One entropy map (units,) in nats, on the fixed scale."""
    grid = grid_of(entropy)
    low, high = ENTROPY_LIMITS
    side = len(grid)
    ax.imshow(
        grid, cmap=entropy_colors(), vmin=low, vmax=high, extent=(0, side, side, 0),
        interpolation="nearest",
    )  # fmt: skip
    _cell_axes(ax, side)


def entropy_bar(figure: Figure, axes: Sequence[Axes]) -> None:
    """The color bar of the fixed scale, to the right of `axes`."""
    colored = ScalarMappable(Normalize(*ENTROPY_LIMITS), entropy_colors())
    bar = figure.colorbar(colored, ax=list(axes), extend="both", shrink=0.85, pad=0.015)
    bar.set_label(ENTROPY_LABEL, fontsize=LABEL_SIZE)
    bar.set_ticks(np.arange(-4.5, -2.4, 0.5))
    bar.ax.tick_params(labelsize=8.5)


def draw_outline(ax: Axes, foreground: Array) -> None:
    """The border of the foreground cells, (units,) bool."""
    inside = np.pad(grid_of(foreground).astype(int), 1)
    gap = (np.nan, np.nan)
    ends = [[(c, r), (c + 1, r), gap] for r, c in np.argwhere(np.diff(inside[:, 1:-1], axis=0))]
    ends += [[(c, r), (c, r + 1), gap] for r, c in np.argwhere(np.diff(inside[1:-1], axis=1))]
    halo = [withStroke(linewidth=2.8, foreground="black")]
    x, y = np.reshape(ends, (-1, 2)).T
    ax.plot(x, y, color="white", linewidth=1.3, label="foreground border", path_effects=halo)


def draw_points(ax: Axes, points: Array, style: PointStyle, inches: float) -> None:
    """Marks at the units of `points`, (units,) bool, sized for a panel `inches` wide."""
    grid = grid_of(points)
    rows, columns = np.nonzero(grid)
    width = min(7, style.size * 72 * inches / len(grid))
    ax.scatter(
        columns + 0.5, rows + 0.5, s=width**2, c=style.color, marker=style.marker,
        edgecolors="black", linewidths=min(0.6, width / 8), label=style.name, zorder=3,
    )  # fmt: skip


def draw_sample_points(
    ax: Axes, points: KnowledgePoints, index: int, picture: np.ndarray, inches: float
) -> None:
    """One picture with its foreground border, its points, and their numbers as title."""
    draw_picture(ax, picture, len(grid_of(points.foreground[index])))
    draw_outline(ax, points.foreground[index])
    draw_points(ax, points.foreground_points[index], POINTS["foreground"], inches)
    draw_points(ax, points.background_points[index], POINTS["background"], inches)
    ax.set_title(points_title(points, index), fontsize=TITLE_SIZE)


def points_title(points: KnowledgePoints, index: int) -> str:
    if not points.defined[index]:
        return "no map defined"
    return f"{N_FG} = {points.n_fg[index]}, {N_BG} = {points.n_bg[index]}"


def label_outer(axes: np.ndarray, x: str = "column [cell]", y: str = "row [cell]") -> None:
    """Names the axes of a grid of panels once: at its left column and under each lowest panel."""
    for ax in axes[:, 0]:
        ax.set_ylabel(y, fontsize=LABEL_SIZE)
    for column in axes.T:
        lowest = [ax for ax in column if ax.get_visible()][-1:]
        for ax in lowest:
            ax.set_xlabel(x, fontsize=LABEL_SIZE)


def entropy_maps(maps: EntropyMaps, images: Array | None = None, count: int = 8) -> Figure:
    """The first `count` entropy maps on the fixed scale in nats, their images above if given.

    images: network inputs or pictures, see `as_pictures`, one per map.
    Gray: a sample without an entropy map. Raises KpnbError for units that make no square grid and
    for fewer images than maps drawn.
    """
    count = _count(maps, count)
    pictures = None if images is None else _matching(images, count)
    rows = 1 if pictures is None else 2
    panel = min(2.0, (WIDTH - 1) / count)
    size = (max(3.5, panel * count + 1), rows * panel + 0.7)
    figure, axes = new_figure(rows, count, size, "compressed")
    entropy = maps.entropy
    for index in range(count):
        draw_entropy(axes[-1, index], entropy[index])
        if pictures is not None:
            draw_picture(axes[0, index], pictures[index], len(grid_of(entropy[index])))
    hide_inner_ticks(axes)
    label_outer(axes)
    entropy_bar(figure, axes.flat)
    return figure


def point_maps(points: KnowledgePoints, images: Array, count: int = 8) -> Figure:
    """The knowledge points of the first `count` samples on their images, foreground bordered.

    images: network inputs or pictures, see `as_pictures`, one per sample. Titles: N_fg(x), N_bg(x).
    Raises KpnbError for units that make no square grid and for fewer images than samples drawn.
    """
    count = _count(points.n_fg, count)
    pictures = _matching(images, count)

    def draw(ax: Axes, index: int, inches: float) -> None:
        draw_sample_points(ax, points, index, pictures[index], inches)

    return panels(count, draw)


def panels(count: int, draw: Callable[[Axes, int, float], None], columns: int = 4) -> Figure:
    """A figure of `count` square panels, draw(ax, index, inches) each, and one legend."""
    rows = -(-count // columns)
    columns = -(-count // rows)
    panel = (WIDTH - 0.5) / max(columns, 4)
    size = (max(3.8, columns * panel + 0.5), rows * (panel + 0.35) + 0.7)
    figure, axes = new_figure(rows, columns, size, "compressed")
    for index, ax in enumerate(axes.flat):
        ax.set_visible(index < count)
        if index < count:
            draw(ax, index, 0.85 * panel)
    hide_inner_ticks(axes)
    label_outer(axes)
    legend_below(figure, axes.flat)
    return figure


def hide_inner_ticks(axes: np.ndarray) -> None:
    """Numbers at the left column and under each lowest panel only."""
    for ax in axes[:, 1:].flat:
        ax.set_yticklabels([])
    for upper, lower in zip(axes[:-1].flat, axes[1:].flat, strict=True):
        if lower.get_visible():
            upper.set_xticklabels([])


def _cell_axes(ax: Axes, side: int) -> None:
    ax.set_xticks([0, side // 2, side])
    ax.set_yticks([0, side // 2, side])
    ax.set_xlim(0, side)
    ax.set_ylim(side, 0)


def _count(things: Tensor | EntropyMaps, count: int) -> int:
    if count < 1 or len(things) == 0:
        raise KpnbError(
            f"{len(things)} samples, count={count}: nothing to draw; ask for 1 or more."
        )
    return min(count, len(things))


def _matching(images: Array, count: int) -> np.ndarray:
    if len(images) < count:
        raise KpnbError(f"{len(images)} images for {count} samples; pass one image per sample.")
    return as_pictures(images[:count])


# The three kinds of Fig. 5: in the final set, held now but dropped later, held before and dropped.
FATES = (
    PointStyle("kept to the end", "#F0E442", "o", 0.7),
    PointStyle("held now, dropped later", "#56B4E9", "^", 0.75),
    PointStyle("tried before and dropped", "#CC79A7", "X", 0.85),
)


def draw_fates(
    ax: Axes,
    picture: Array,
    points_by_epoch: Mapping[int, KnowledgePoints],
    index: int,
    epoch: int,
    inches: float,
    foreground: np.ndarray | None = None,
) -> None:
    """One panel of Fig. 5: points held at `epoch` that last or not, and earlier ones held no more.

    foreground: (units,) bool, the border drawn; None: the points' own.
    """
    sets = {e: as_array(points.foreground_points[index]) for e, points in points_by_epoch.items()}
    now, final = sets[epoch], sets[max(sets)]
    tried = np.any([held for earlier, held in sets.items() if earlier <= epoch], axis=0)
    if foreground is None:
        foreground = as_array(points_by_epoch[epoch].foreground[index])
    draw_picture(ax, as_picture(picture), len(grid_of(now)))
    draw_outline(ax, foreground)
    for points, style in zip((now & final, now & ~final, tried & ~now), FATES, strict=True):
        draw_points(ax, points, style, inches)
    ax.set_title(f"epoch {epoch}: {N_FG} = {now.sum()}", fontsize=TITLE_SIZE)
