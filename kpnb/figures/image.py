"""Images with what belongs to the cells of their grid: axes are counted in cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from kpnb.datasets.samples import IMAGENET_MEAN, IMAGENET_STD, ImageSamples
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures import panel
from kpnb.figures.panel import Marked, Panel, Panels, PointStyle, in_rows
from kpnb.figures.style import Array, as_array

CELLS = ("column [cell]", "row [cell]")
MOST_LAYERS = 6  # panels in a row of Fig. 1(a)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
BEYOND = 20  # no normalized picture goes so far; one of floats up to 255 that is not black does
Normalization = Sequence[float | Sequence[float]]


def as_pictures(images: Array, normalization: Normalization | None = None) -> np.ndarray:
    """Pictures to draw, (n, height, width, 3) in [0, 1].

    images: (n, 3, height, width), (n, height, width, 3), or either with one channel, which is grey;
        or a list of single ones, PIL images too. Whole numbers are 0 to 255. Floats are taken as
        they are where all lie in [0, 1], else as normalized; but an array (n, height, width, ...)
        holds pictures, and is clipped.
    normalization: mean and standard deviation of the floats, each a number or one per channel;
        None: ImageNet's, if they are normalized.
    Raises KpnbError for other shapes and values.
    """
    if isinstance(images, list | tuple):
        images = np.stack([np.atleast_3d(as_array(image)) for image in images])
    tensor = isinstance(images, Tensor)
    found = as_array(images.float() if tensor and images.is_floating_point() else images)
    first, last = (found.ndim == 4 and found.shape[axis] in (1, 3) for axis in (1, -1))
    if not (first or last) or found.dtype.kind not in "biuf":
        told = f"images have shape {found.shape}; pass (n, channels, height, width) or (n, height"
        raise KpnbError(f"{told}, width, channels) with three channels or one.")
    first &= tensor or not last
    values = np.moveaxis(found, 1, -1) if first else found
    pictures = _colors(values, normalization, clipped=not (tensor or first))
    return np.repeat(pictures, 3 // values.shape[-1], -1)


def _colors(values: np.ndarray, normalization: Normalization | None, clipped: bool) -> np.ndarray:
    """Values (n, height, width, channels) as colors in [0, 1]; see `as_pictures`."""
    low, high = (float(end(values, initial=0)) for end in (np.min, np.max))
    whole = values.dtype.kind in "iu"
    if high > (255 if whole else BEYOND) and (whole or normalization is None):
        told = f"images hold values up to {high:g}; pass whole numbers from 0 to 255"
        raise KpnbError(f"{told}, floats from 0 to 1, or normalization=(mean, standard deviation).")
    if whole:
        return values.astype(np.float32) / 255
    if normalization is None and (clipped or (low >= 0 and high <= 1)):
        return np.clip(values, 0, 1)
    channels = values.shape[-1]
    if normalization is None:
        normalization = IMAGENET if channels == 3 else [np.mean(part) for part in IMAGENET]
    mean, spread = (as_array(part).astype(np.float32).ravel() for part in normalization)
    if {mean.size, spread.size} - {1, channels}:
        raise KpnbError(f"normalization has {mean.size} means for {channels} channels.")
    return np.clip(values * spread + mean, 0, 1)


def grid_of(values: Array) -> np.ndarray:
    """(units,) -> (side, side) of the square grid of GridUnits; KpnbError if there is none."""
    values = as_array(values)
    side = isqrt(values.size)
    if side * side != values.size:
        raise KpnbError(f"{values.size} units make no square grid; these plots need image units.")
    return values.reshape(side, side)


def draw_picture(ax: Axes, picture: np.ndarray, side: int, **options: object) -> None:
    """A picture in its proportions, axes in cells of a grid `side` x `side`; options: of imshow."""
    options = {"aspect": len(picture) / picture.shape[1], "interpolation": "nearest"} | options
    ax.imshow(picture, extent=(0, side, side, 0), **options)
    ticks = [0, side // 2, side]
    ax.set(xticks=ticks, yticks=ticks, xlim=(0, side), ylim=(side, 0))


def draw_entropy(ax: Axes, entropy: Array, aspect: float = 1.0) -> None:
    """One entropy map (units,) in nats, on the fixed scale, in the proportions of its image."""
    grid, (low, high) = grid_of(entropy), panel.ENTROPY_LIMITS
    look = {"cmap": panel.entropy_colors(), "vmin": low, "vmax": high, "aspect": aspect}
    draw_picture(ax, grid, len(grid), **look)


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
    """Marks at the units of `points`, (units,) bool, in cells of a square `inches` wide."""
    grid = grid_of(points)
    rows, columns = np.nonzero(grid)
    width = min(7, style.size * 72 * inches / len(grid))
    ax.scatter(
        columns + 0.5, rows + 0.5, s=width**2, c=style.color, marker=style.marker,
        edgecolors=style.edge, linewidths=min(0.6, width / 8), label=style.name, zorder=3,
    )  # fmt: skip


class ImagePanels(Panels):
    """Images at `rows`, maps on their grid, marks in cells, of maps where images are None;
    normalization: see `as_pictures`."""

    KIND, UNITS, DEFINITION = "image", "units", 4

    def __init__(
        self,
        images: ImageSamples | Array | None,
        rows: Iterable[int],
        normalization: Normalization | None = None,
    ) -> None:
        self.pictures, self.classes, self.aspects = {}, {}, {}
        if images is None:
            return
        rows = panel.known_rows(rows, len(images), self.KIND)
        if isinstance(images, ImageSamples):
            names, labels, images = images.class_names, images.labels, images.images
            self.classes = {row: names[int(labels[row])] for row in rows}
            normalization = IMAGENET
        # At once, so that all are read in the same way; lists may be of several sizes.
        single = isinstance(images, list | tuple)
        parts = [images[row : row + 1] for row in rows] if single else [images[rows]]
        drawn = [picture for part in parts for picture in as_pictures(part, normalization)]
        self.pictures = dict(zip(rows, drawn, strict=True))
        self.aspects = {row: len(drawn) / drawn.shape[1] for row, drawn in self.pictures.items()}

    def sample(self, index: int, foreground: Array | None) -> Panel:
        if foreground is None:
            raise KpnbError("images hold no foreground of units; pass it, (samples, units) bool.")
        title = self.classes.get(index, self.KIND)
        return self._panel(index, title, lambda ax, _: self._bordered(ax, index, foreground))

    def entropy(self, index: int, values: Array, title: str, foreground: object = None) -> Panel:
        def draw(ax: Axes, _inches: float) -> None:
            draw_entropy(ax, values, self.aspects.get(index, 1.0))
            if foreground is not None:
                draw_outline(ax, foreground)

        return self._panel(index, title, draw, colored=True)

    def marked(self, index: int, marked: Marked, title: str | None = None) -> Panel:
        def draw(ax: Axes, inches: float) -> None:
            if index in self.pictures:
                self._bordered(ax, index, marked.foreground)
            else:
                draw_entropy(ax, marked.points.entropy[index])
                draw_outline(ax, marked.foreground)
            aspect = self.aspects.get(index, 1.0)
            for held, style in marked.kinds:
                draw_points(ax, held, style, inches * min(1, aspect, panel.TALLEST / aspect))

        return self._panel(index, title or marked.title, draw, index not in self.pictures)

    def layers(self, index: int, maps_by_layer: Mapping[str, EntropyMaps]) -> list[list[Panel]]:
        maps = {layer: maps.entropy[index] for layer, maps in maps_by_layer.items()}
        shown = [self.entropy(index, values, layer) for layer, values in maps.items()]
        return in_rows([self.picture(index, next(iter(maps.values()))), *shown], MOST_LAYERS)

    def picture(self, index: int, values: Array, title: str = KIND) -> Panel:
        """The picture alone, on the grid of `values`, (units,)."""
        side, picture = len(grid_of(values)), self.pictures[index]
        return self._panel(index, title, lambda ax, _: draw_picture(ax, picture, side))

    def _panel(
        self, index: int, title: str, draw: Callable[[Axes, float], None], colored: bool = False
    ) -> Panel:
        return Panel(title, draw, CELLS, colored, self.aspects.get(index, 1.0))

    def _bordered(self, ax: Axes, index: int, foreground: Array) -> None:
        draw_picture(ax, self.pictures[index], len(grid_of(foreground)))
        draw_outline(ax, foreground)
