"""Pictures of point clouds to step through: a cloud turned about its axis, and points by epoch.

Every frame is drawn beforehand, so that the slider of kpnb.figures.widgets moves in a page without
a
kernel too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.figures.cloud import (
    as_cloud,
    cloud_panels,
    draw_cloud_entropy,
    draw_cloud_fates,
    of_points,
    turned,
    window,
)
from kpnb.figures.image import entropy_bar
from kpnb.figures.style import ROLES, TITLE_SIZE, Array, label_axes, legend_below, new_figure
from kpnb.figures.text_marks import Html
from kpnb.figures.widgets import epoch_slider
from kpnb.metrics.points import KnowledgePoints


def rotating_cloud(
    points: Array, values: Array, foreground: Array, label: str, angles: int = 12
) -> Html:
    """A slider that turns a cloud, colored by entropy, about its upward axis.

    points: (p, 3); values: (p,) entropies in nats; foreground: (p,) bool; label: what is shown,
    the slider's title and, with the angle, the text of each picture for who cannot see it.
    angles: pictures of one full turn. For a page that runs no scripts, set
    kpnb.figures.cloud_figures.cloud_entropy_figure beside it.
    Raises KpnbError for values that are not one per point and fewer than 1 angle.
    """
    frames = cloud_frames(points, values, foreground, angles)
    return epoch_slider(frames, [f"turned by {a:.0f}°" for a in turn(angles)], label)


def cloud_frames(points: Array, values: Array, foreground: Array, angles: int = 12) -> list[Figure]:
    """One figure per angle of a full turn, seen from 20 degrees above; see `rotating_cloud`."""
    cloud = as_cloud(points)
    entropy, inside = of_points(values, cloud), of_points(foreground, cloud)
    return [_turned_frame(cloud, entropy, inside, angle) for angle in turn(angles)]


def turn(angles: int) -> np.ndarray:
    """So many angles of a full turn, in degrees from 0."""
    if angles < 1:
        raise KpnbError(f"angles={angles}: nothing to draw; ask for 1 or more.")
    return np.arange(angles) * 360 / angles


def _turned_frame(
    cloud: np.ndarray, entropy: np.ndarray, inside: np.ndarray, angle: float
) -> Figure:
    shown = window(turned(angle), [cloud])
    figure, axes = new_figure(1, 1, (4.6, 4.2), "compressed")
    draw_cloud_entropy(axes[0, 0], cloud, entropy, inside, shown, 2.8)
    label_axes(axes[0, 0], *shown.view.labels)
    entropy_bar(figure, axes.flat)
    legend_below(figure, axes.flat)
    return figure


def cloud_epoch_frames(
    points: Array,
    trails: Mapping[str, Mapping[int, KnowledgePoints]],
    index: int,
    view: str = "front",
) -> list[Figure]:
    """One figure per checkpoint, a panel per role: what Figure 5 shows, to step through.

    points: (p, 3). trails: role -> epoch -> points, the same epochs for every role; index: the
    sample. Raises KpnbError for points of other samples and an unknown view.
    """
    cloud, roles = as_cloud(points), list(trails)
    shown = window(view, [cloud])

    def frame(epoch: int) -> Figure:
        def draw(ax: Axes, place: int, inches: float) -> None:
            draw_cloud_fates(ax, cloud, trails[roles[place]], index, epoch, shown, inches)
            ax.set_title(f"{ROLES[roles[place]].name}, {ax.get_title()}", fontsize=TITLE_SIZE)

        return cloud_panels(len(roles), draw, shown)

    return [frame(epoch) for epoch in next(iter(trails.values()))]
