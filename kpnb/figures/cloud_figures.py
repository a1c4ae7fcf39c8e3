"""The paper's figures of single point clouds: what kpnb.figures.paper is for images.

Roles are keyed "T", "S", "B"; single samples are chosen by their index. A view is one of
kpnb.figures.cloud.VIEWS: "front", "side", "top" or "oblique". All panels of a figure that share an
axis label have one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kpnb.datasets.samples import PointSamples
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.cloud import (
    as_cloud,
    cloud_panels,
    draw_cloud,
    draw_cloud_entropy,
    draw_cloud_fates,
    draw_cloud_points,
    draw_cut,
    of_points,
    of_sample,
    window,
)
from kpnb.figures.image import entropy_bar, hide_inner_ticks, label_outer
from kpnb.figures.style import (
    ROLES,
    TITLE_SIZE,
    WIDTH,
    Array,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.points import KnowledgePoints


def clouds_figure(samples: PointSamples, count: int = 8, view: str = "oblique") -> Figure:
    """The first `count` clouds, foreground dark on light background, with their class as title.

    Raises KpnbError for a count below 1 and an unknown view.
    """
    if count < 1:
        raise KpnbError(f"count={count}: nothing to draw; ask for 1 or more.")
    clouds = [as_cloud(points) for points in samples.points[:count]]
    shown = window(view, clouds)

    def draw(ax: Axes, index: int, inches: float) -> None:
        inside = of_sample(samples.foreground, index, clouds[index])
        draw_cloud(ax, clouds[index], inside, shown, inches)
        ax.set_title(samples.class_names[int(samples.labels[index])], fontsize=TITLE_SIZE)

    return cloud_panels(len(clouds), draw, shown)


def cloud_entropy_figure(
    points: Array,
    foreground: Array,
    maps_by_layer: Mapping[str, EntropyMaps],
    index: int = 0,
    views: Sequence[str] = ("front", "side", "top"),
) -> Figure:
    """Fig. 1(a): one cloud in the colors of H_i, a row per layer and a column per view.

    points: (p, 3); foreground: (p,) bool; index: the cloud's place in the maps.
    Raises KpnbError without maps or views, and for values that are not one per point.
    """
    if not maps_by_layer or not views:
        raise KpnbError("there is nothing to draw; pass maps of one layer or more, and a view.")
    cloud, panel = as_cloud(points), min(2.15, (WIDTH - 1.2) / len(views))
    inside, shown = of_points(foreground, cloud), [window(name, [cloud]) for name in views]
    rows = len(maps_by_layer)
    size = (max(3.8, panel * len(views) + 1.2), rows * panel + 0.9)
    figure, axes = new_figure(rows, len(views), size, "compressed")
    for row, (layer, maps) in zip(axes, maps_by_layer.items(), strict=True):
        values = of_sample(maps.entropy, index, cloud)
        for ax, name, part in zip(row, views, shown, strict=True):
            draw_cloud_entropy(ax, cloud, values, inside, part, 0.85 * panel)
            ax.set_title(f"{layer}, {name}", fontsize=TITLE_SIZE)
            label_axes(ax, *part.view.labels)
    for ax in axes[:-1].flat:  # views, and so their scales, differ between columns only
        ax.set_xlabel("")
        ax.set_xticklabels([])
    entropy_bar(figure, axes.flat)
    legend_below(figure, axes.flat)
    return figure


def cloud_definition_figure(
    points: Array,
    maps: EntropyMaps,
    knowledge_points: KnowledgePoints,
    index: int,
    view: str = "front",
) -> Figure:
    """Fig. 3: one cloud, its H_i, the cut of H_bar - H_i at b, the knowledge points.

    points: (p, 3) of the sample at `index` of maps and knowledge_points.
    Raises KpnbError for values that are not one per point and an unknown view.
    """
    cloud, inches = as_cloud(points), 2.4
    shown, inside = window(view, [cloud]), of_sample(knowledge_points.foreground, index, cloud)
    figure, axes = new_figure(2, 2, (7.0, 6.7))
    whole, entropy, cut, marked = axes.flat
    draw_cloud(whole, cloud, inside, shown, inches)
    values = of_sample(maps.entropy, index, cloud)
    draw_cloud_entropy(entropy, cloud, values, inside, shown, inches)
    entropy_bar(figure, [entropy])
    draw_cut(cut, knowledge_points, index)
    draw_cloud_points(marked, cloud, knowledge_points, index, shown, inches)
    titles = ("cloud", "information discarding", f"cut at b = {knowledge_points.threshold:g}")
    for ax, title in zip((whole, entropy, cut), titles, strict=True):
        ax.set_title(title, fontsize=TITLE_SIZE)
    for ax in (whole, entropy, marked):
        label_axes(ax, *shown.view.labels)
    cut.set_box_aspect(1)
    for ax in axes.flat:
        ax.set_anchor("W")  # the color bar takes width of the upper row only
    legend_below(figure, axes.flat)
    return figure


def cloud_roles_figure(
    samples: PointSamples,
    points_by_role: Mapping[str, KnowledgePoints],
    rows: Sequence[int],
    view: str = "front",
) -> Figure:
    """Fig. 6: the knowledge points of each role on the same clouds, one row per sample.

    samples: all that the points are of; rows: the indices of those drawn.
    Raises KpnbError without roles or rows, for other samples and an unknown view.
    """
    if not len(rows) or not points_by_role:
        raise KpnbError("there is nothing to draw; pass the points of one role or more, and rows.")
    clouds = [as_cloud(samples.points[index]) for index in rows]
    shown, count = window(view, clouds), len(points_by_role)
    panel = min(2.2, (WIDTH - 1) / count)
    size = (max(4.5, panel * count + 0.7), len(rows) * (panel + 0.2) + 0.9)
    figure, axes = new_figure(len(rows), count, size, "compressed")
    for row, index, cloud in zip(axes, rows, clouds, strict=True):
        for ax, (role, points) in zip(row, points_by_role.items(), strict=True):
            draw_cloud_points(ax, cloud, points, index, shown, 0.85 * panel)
            ax.set_title(f"{ROLES[role].name}: {ax.get_title()}", fontsize=TITLE_SIZE)
    hide_inner_ticks(axes)
    label_outer(axes, *shown.view.labels)
    legend_below(figure, axes.flat)
    return figure


def cloud_point_sets_figure(
    points: Array,
    points_by_epoch: Mapping[int, KnowledgePoints],
    index: int,
    shown: Sequence[int] | None = None,
    view: str = "front",
) -> Figure:
    """Fig. 5: one cloud's foreground points at the epochs `shown` (all): detours on the way.

    points: (p, 3). At each epoch: points held now that are in the last epoch's set, points held
    now that are not, and points of earlier epochs held no more. Earlier ones are looked for in all
    of points_by_epoch. Raises KpnbError for epochs without points and an unknown view.
    """
    unknown = set(shown or ()) - set(points_by_epoch)
    if unknown or not points_by_epoch:
        raise KpnbError(
            f"epochs {sorted(unknown)} have no points; show some of {[*points_by_epoch]}."
        )
    cloud, epochs = as_cloud(points), sorted(shown or points_by_epoch)
    part = window(view, [cloud])

    def draw(ax: Axes, place: int, inches: float) -> None:
        draw_cloud_fates(ax, cloud, points_by_epoch, index, epochs[place], part, inches)

    return cloud_panels(len(epochs), draw, part)
