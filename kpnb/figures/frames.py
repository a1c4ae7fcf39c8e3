"""Pictures beside the paper's figures: the samples with their foreground, and frames by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.datasets.samples import ImageSamples
from kpnb.figures.image import draw_fates, draw_outline, draw_picture, grid_of, panels
from kpnb.figures.style import ROLES, TITLE_SIZE, Array
from kpnb.metrics.points import KnowledgePoints


def samples_figure(images: ImageSamples, foreground: Tensor, count: int = 8) -> Figure:
    """The first images with the border of their foreground on the grid, and their class."""
    pictures = images.pictures()

    def draw(ax: Axes, index: int, inches: float) -> None:
        draw_picture(ax, pictures[index], len(grid_of(foreground[index])))
        draw_outline(ax, foreground[index])
        ax.set_title(images.class_names[int(images.labels[index])], fontsize=TITLE_SIZE)

    return panels(min(count, len(images)), draw)


def epoch_frames(
    picture: Array, trails: Mapping[str, Mapping[int, KnowledgePoints]], index: int
) -> list[Figure]:
    """One figure per checkpoint, a panel per role: what Figure 5 shows, to step through.

    trails: role -> epoch -> points, the same epochs for every role; index: the sample.
    """
    epochs = list(next(iter(trails.values())))
    return [_frame(picture, trails, index, epoch) for epoch in epochs]


def _frame(
    picture: Array, trails: Mapping[str, Mapping[int, KnowledgePoints]], index: int, epoch: int
) -> Figure:
    roles = list(trails)

    def draw(ax: Axes, place: int, inches: float) -> None:
        points = trails[roles[place]]
        draw_fates(ax, picture, points, index, epoch, inches)
        ax.set_title(f"{ROLES[roles[place]].name}, {ax.get_title()}", fontsize=TITLE_SIZE)

    return panels(len(roles), draw)
