"""The paper's figures: those of single images here, those of metrics from kpnb.figures.charts.

Roles are keyed "T", "S", "B" everywhere; single samples are chosen by their index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.charts import (
    accuracy_figure,
    estimates_figure,
    learning_figure,
    speed_figure,
    stability_figure,
    threshold_figure,
)
from kpnb.figures.image import (
    POINTS,
    as_picture,
    draw_entropy,
    draw_fates,
    draw_outline,
    draw_picture,
    draw_sample_points,
    entropy_bar,
    grid_of,
    hide_inner_ticks,
    label_outer,
    panels,
)
from kpnb.figures.style import (
    ROLES,
    TITLE_SIZE,
    WIDTH,
    Array,
    as_array,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.points import KnowledgePoints

__all__ = [
    "accuracy_figure",
    "definition_figure",
    "estimates_figure",
    "layers_figure",
    "learning_figure",
    "point_sets_figure",
    "role_points_figure",
    "speed_figure",
    "stability_figure",
    "threshold_figure",
]


def layers_figure(
    picture: Array, maps_by_layer: Mapping[str, EntropyMaps], index: int = 0
) -> Figure:
    """Fig. 1(a): one image and its entropy map at layer after layer, on the fixed scale.

    picture: (3, height, width) network input or (height, width, 3) picture; index: its place in
    the maps.
    """
    if not maps_by_layer:
        raise KpnbError("there are no maps to draw; pass those of one layer or more.")
    count = len(maps_by_layer) + 1
    rows = -(-count // 6)
    columns = -(-count // rows)
    panel = min(2.2, (WIDTH - 1) / columns)
    size = (columns * panel + 1, rows * (panel + 0.25) + 0.5)
    figure, axes = new_figure(rows, columns, size, "compressed")
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    for ax, (layer, maps) in zip(axes.flat[1:], maps_by_layer.items(), strict=False):
        draw_entropy(ax, maps.entropy[index])
        ax.set_title(layer, fontsize=TITLE_SIZE)
        side = len(grid_of(maps.entropy[index]))
    draw_picture(axes[0, 0], as_picture(picture), side)
    axes[0, 0].set_title("image", fontsize=TITLE_SIZE)
    hide_inner_ticks(axes)
    label_outer(axes)
    entropy_bar(figure, axes.flat)
    return figure


def definition_figure(
    picture: Array, maps: EntropyMaps, points: KnowledgePoints, index: int
) -> Figure:
    """Fig. 3: image, its map H_i, the cut of H_bar - H_i at b, the knowledge points.

    picture: as in `layers_figure`; maps and points of the same samples.
    """
    picture, panel = as_picture(picture), 1.45
    figure, axes = new_figure(1, 4, (WIDTH, 2.9))
    image, entropy, cut, marked = axes[0]
    draw_picture(image, picture, len(grid_of(points.foreground[index])))
    draw_outline(image, points.foreground[index])
    draw_entropy(entropy, maps.entropy[index])
    draw_outline(entropy, points.foreground[index])
    entropy_bar(figure, [entropy])
    _cut_histogram(cut, points, index)
    draw_sample_points(marked, points, index, picture, panel)
    titles = ("image", "information discarding", f"cut at b = {points.threshold:g}")
    for ax, title in zip((image, entropy, cut), titles, strict=True):
        ax.set_title(title, fontsize=TITLE_SIZE)
    for ax in (image, entropy, marked):
        label_axes(ax, "column [cell]", "row [cell]")
    cut.set_box_aspect(1)
    legend_below(figure, axes.flat)
    return figure


def role_points_figure(
    pictures: Sequence | Tensor, points_by_role: Mapping[str, KnowledgePoints], rows: Sequence[int]
) -> Figure:
    """Fig. 6: the knowledge points of each role on the same images, one row per sample.

    pictures: of all samples that the points are of (see `layers_figure` for each); rows: the
    indices of those drawn.
    """
    count = len(points_by_role)
    panel = min(2.6, (WIDTH - 1) / count)
    size = (max(4.5, panel * count + 0.7), len(rows) * (panel + 0.2) + 0.8)
    figure, axes = new_figure(len(rows), count, size, "compressed")
    for row, index in zip(axes, rows, strict=True):
        for ax, (role, points) in zip(row, points_by_role.items(), strict=True):
            draw_sample_points(ax, points, index, as_picture(pictures[index]), 0.85 * panel)
            ax.set_title(f"{ROLES[role].name}: {ax.get_title()}", fontsize=TITLE_SIZE)
    hide_inner_ticks(axes)
    label_outer(axes)
    legend_below(figure, axes.flat)
    return figure


def point_sets_figure(
    picture: Array,
    points_by_epoch: Mapping[int, KnowledgePoints],
    index: int,
    foreground: Array,
    shown: Sequence[int] | None = None,
) -> Figure:
    """Fig. 5: one sample's foreground points at the epochs `shown` (all): detours on the way.

    At each epoch: points held now that are in the last epoch's set, points held now that are not,
    and points of earlier epochs held no more. Earlier ones are looked for in all of
    points_by_epoch. foreground: (samples, units) or (units,) bool.
    """
    if unknown := set(shown or ()) - set(points_by_epoch):
        raise KpnbError(
            f"epochs {sorted(unknown)} have no points; show some of {[*points_by_epoch]}."
        )
    epochs, outlined = sorted(shown or points_by_epoch), as_array(foreground)
    outlined = outlined[index] if outlined.ndim == 2 else outlined

    def draw(ax: Axes, place: int, inches: float) -> None:
        draw_fates(ax, picture, points_by_epoch, index, epochs[place], inches, outlined)

    return panels(len(epochs), draw)


def _cut_histogram(ax: Axes, points: KnowledgePoints, index: int) -> None:
    """H_bar - H_i of foreground and background units, and the cut at b."""
    gap = as_array(points.baseline[index] - points.entropy[index])
    inside, live = as_array(points.foreground[index]), np.isfinite(gap)
    bins = np.linspace(gap[live].min(), gap[live].max(), 24) if live.any() else [0, 1]
    ax.hist(gap[~inside & live], bins, color=POINTS["background"].color, hatch="////",
            edgecolor="black", linewidth=0.5, label="background units")  # fmt: skip
    ax.hist(gap[inside & live], bins, histtype="step", color="black", linewidth=1.8,
            label="foreground units")  # fmt: skip
    ax.axvline(points.threshold, color="black", linestyle="--", linewidth=1.2, label="cut at b")
    label_axes(ax, r"$\bar H - H_i$ [nats]", "units")
