"""Images with what belongs to the cells of their grid: axes are counted in cells."""

from collections.abc import Iterable, Mapping
from math import isqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from kpnb.datasets.samples import ImageSamples, normalization
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures import panel
from kpnb.figures.panel import Marked, Panel, Panels, PointStyle, in_rows, sheet
from kpnb.figures.style import Array, as_array
from kpnb.metrics.points import KnowledgePoints

CELLS = ("column [cell]", "row [cell]")
MOST_LAYERS = 6  # panels in a row of Fig. 1(a)


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


def grid_of(values: Array) -> np.ndarray:
    """(units,) -> (side, side) of the square grid of GridUnits; KpnbError if there is none."""
    values = as_array(values)
    side = isqrt(values.size)
    if side * side != values.size:
        raise KpnbError(f"{values.size} units make no square grid; these plots need image units.")
    return values.reshape(side, side)


def draw_picture(ax: Axes, picture: np.ndarray, side: int, **options: object) -> None:
    """A picture, its axes counted in cells of the grid of `side` x `side`; options: of imshow."""
    ax.imshow(picture, extent=(0, side, side, 0), interpolation="nearest", **options)
    ticks = [0, side // 2, side]
    ax.set(xticks=ticks, yticks=ticks, xlim=(0, side), ylim=(side, 0))


def draw_entropy(ax: Axes, entropy: Array) -> None:
    """One entropy map (units,) in nats, on the fixed scale."""
    grid, (low, high) = grid_of(entropy), panel.ENTROPY_LIMITS
    draw_picture(ax, grid, len(grid), cmap=panel.entropy_colors(), vmin=low, vmax=high)


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
        edgecolors=style.edge, linewidths=min(0.6, width / 8), label=style.name, zorder=3,
    )  # fmt: skip


class ImagePanels(Panels):
    """Samples, inputs or pictures (`as_pictures`) at `rows`, maps on their grid, marks in cells."""

    KIND, UNITS, DEFINITION = "image", "units", 4

    def __init__(self, images: ImageSamples | Array, rows: Iterable[int]) -> None:
        rows, self.classes = panel.known_rows(rows, len(images), self.KIND), {}
        if isinstance(images, ImageSamples):
            names, labels, images = images.class_names, images.labels, images.images
            self.classes = {row: names[int(labels[row])] for row in rows}
        self.pictures = {row: as_pictures(images[row : row + 1])[0] for row in rows}

    def sample(self, index: int, foreground: Array | None) -> Panel:
        if foreground is None:
            raise KpnbError("images hold no foreground of units; pass it, (samples, units) bool.")
        title = self.classes.get(index, self.KIND)
        return Panel(title, lambda ax, _: self._bordered(ax, index, foreground), CELLS)

    def entropy(
        self, index: int, values: Array, title: str, foreground: Array | None = None
    ) -> Panel:
        def draw(ax: Axes, _inches: float) -> None:
            draw_entropy(ax, values)
            if foreground is not None:
                draw_outline(ax, foreground)

        return Panel(title, draw, CELLS, colored=True)

    def marked(self, index: int, marked: Marked, title: str | None = None) -> Panel:
        def draw(ax: Axes, inches: float) -> None:
            self._bordered(ax, index, marked.foreground)
            for held, style in marked.kinds:
                draw_points(ax, held, style, inches)

        return Panel(title or marked.title, draw, CELLS)

    def layers(self, index: int, maps_by_layer: Mapping[str, EntropyMaps]) -> list[list[Panel]]:
        maps = {layer: maps.entropy[index] for layer, maps in maps_by_layer.items()}
        shown = [self.entropy(index, values, layer) for layer, values in maps.items()]
        return in_rows([self.picture(index, next(iter(maps.values()))), *shown], MOST_LAYERS)

    def picture(self, index: int, values: Array, title: str = KIND) -> Panel:
        """The picture alone, on the grid of `values`, (units,)."""
        side = len(grid_of(values))
        return Panel(title, lambda ax, _: draw_picture(ax, self.pictures[index], side), CELLS)

    def _bordered(self, ax: Axes, index: int, foreground: Array) -> None:
        draw_picture(ax, self.pictures[index], len(grid_of(foreground)))
        draw_outline(ax, foreground)


# What `show` of maps and points draws


def entropy_maps(maps: EntropyMaps, images: Array | None = None, count: int = 8) -> Figure:
    """The first `count` entropy maps on the fixed scale in nats, their images above if given.

    images: samples, network inputs or pictures, see `as_pictures`, one per map.
    Gray: a sample without an entropy map. Raises KpnbError for units that make no square grid and
    for fewer images than maps drawn.
    """
    rows, entropy = _first(count, maps, images), maps.entropy
    lower = [Panel("", lambda ax, _, row=entropy[row]: draw_entropy(ax, row), CELLS, True)
             for row in rows]  # fmt: skip
    if images is None:
        return sheet([lower])
    found = ImagePanels(images, rows)
    return sheet([[found.picture(row, entropy[row], "") for row in rows], lower])


def point_maps(points: KnowledgePoints, images: Array, count: int = 8) -> Figure:
    """The knowledge points of the first `count` samples on their images, foreground bordered.

    images: as in `entropy_maps`. Titles: N_fg(x), N_bg(x). Raises KpnbError as that does.
    """
    rows = _first(count, points.n_fg, images)
    found = ImagePanels(images, rows)
    return sheet(in_rows([found.marked(row, panel.marked_points(points, row)) for row in rows]))


def _first(count: int, samples: EntropyMaps | Array, images: Array | None) -> list[int]:
    """The indices of the first `count` samples, all of which have an image, if there are any."""
    rows = panel.known_rows(range(min(len(samples), count)), len(samples), "sample")
    if images is not None and len(images) < len(rows):
        raise KpnbError(f"{len(images)} images for {len(rows)} samples; pass one image per sample.")
    return rows
