"""Units of labels on what they are parts of: superpixels on images, stretches along a series."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.figures.image import Normalization, as_pictures
from kpnb.figures.panel import Marked, Panel, Panels, entropy_rgba, known_rows
from kpnb.figures.style import Array, as_array

AROUND = (0.6, 0.6, 0.6, 0.7)  # over what is no foreground
PIXELS = ("column [pixel]", "row [pixel]")
FLAT = 0.6  # height of a series over its width
MARGIN = 0.05  # of a series, above and below
MARK = 40  # size of a mark, points squared


class AreaPanels(Panels):
    """Inputs at `rows` with areas of labels, as of MaskUnits: images (n, channels, height, width)
    as pictures, series (n, channels, steps) as a line each; places of -1 have no color.

    normalization: of images, see `as_pictures`. Raises KpnbError for inputs of another form.
    """

    KIND, UNITS = "input", "units"

    def __init__(
        self, inputs: Array, rows: list[int], labels: Tensor, normalization: Normalization | None
    ) -> None:
        inputs, self.labels = as_array(inputs), as_array(labels)
        rows = known_rows(rows, len(inputs), self.KIND)
        if self.labels.ndim > 2 or inputs.shape[2:] != self.labels.shape:
            told = f"inputs {inputs.shape} are no series or images of labels {self.labels.shape}"
            raise KpnbError(f"{told}: pass those of the maps.")
        pictures = as_pictures(inputs[rows], normalization) if self.labels.ndim == 2 else ()
        self.pictures = dict(zip(rows, pictures, strict=False))
        self.series = {row: inputs[row] for row in rows if not self.pictures}
        low, high = inputs[rows].min(), inputs[rows].max()
        self.ends = low - MARGIN * (high - low), high + MARGIN * (high - low)

    def picture(self, index: int, values: Array, title: str = KIND) -> Panel:
        """The input alone."""
        return self._panel(index, title, np.zeros((len(values), 4)))

    def entropy(self, index: int, values: Array, title: str, foreground: object = None) -> Panel:
        return self._panel(index, title, entropy_rgba(as_array(values)))

    def marked(self, index: int, marked: Marked, title: str | None = None) -> Panel:
        shades = np.where(marked.foreground[:, None], 0, AROUND)
        return self._panel(index, title or marked.title, shades, marked)

    def _panel(self, index: int, title: str, colors: Array, marked: Marked | None = None) -> Panel:
        """An input under the colors (units, 4) of its areas, with marks in their middle."""
        areas = np.where(self.labels[..., None] < 0, 0, colors[self.labels])

        def draw(ax: Axes, _inches: float) -> None:
            if self.pictures:
                ax.imshow(self.pictures[index])
                ax.imshow(areas)
            else:
                halo = [withStroke(linewidth=2.2, foreground="white")]
                ax.plot(self.series[index].T, color="black", linewidth=0.9, path_effects=halo)
                ends = (-0.5, len(areas) - 0.5, *self.ends)
                ax.imshow(areas[None], extent=ends, aspect="auto", interpolation="nearest")
                ax.set(xlim=ends[:2], ylim=self.ends)
            for held, style in marked.kinds if marked else ():
                places = np.reshape([self._middle(unit) for unit in np.flatnonzero(held)], (-1, 2))
                ax.scatter(*places.T, MARK, style.color, marker=style.marker, label=style.name,
                           zorder=3, edgecolors=style.edge, linewidths=0.6)  # fmt: skip

        axes = ("place [step]", "value [as given]") if self.series else PIXELS
        aspect = FLAT if self.series else np.divide(*self.labels.shape)
        return Panel(title, draw, axes, marked is None, aspect)

    def _middle(self, unit: int) -> tuple[float, float]:
        """Where the mark of a unit goes: its place that is nearest to the mean of all."""
        places = np.argwhere(self.labels == unit)
        place = places[np.square(places - places.mean(0)).sum(1).argmin()]
        return (place[0], np.mean(self.ends)) if self.series else (place[1], place[0])
