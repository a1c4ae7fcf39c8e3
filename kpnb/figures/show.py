"""What `show` of entropy maps and of knowledge points draws: units as what they are.

Cells of a grid lie on their images, words are text, points are clouds, units of labels areas or
stretches. Which of them units are is in the settings of maps; where these say nothing, what is
passed to draw on tells.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from kpnb.datasets.texts.aligned import text_samples
from kpnb.errors import KpnbError, require
from kpnb.estimator.maps import EntropyMaps, UnitTable
from kpnb.estimator.units import MaskUnits
from kpnb.figures import panel
from kpnb.figures.cloud import CloudPanels
from kpnb.figures.image import ImagePanels, Normalization, as_pictures
from kpnb.figures.panel import Marked, Panel, Panels, in_rows, known_rows, marked_points
from kpnb.figures.paper import SampleSet, panels_of
from kpnb.figures.style import Array, as_array
from kpnb.figures.text import Html, Line, TextPanels
from kpnb.metrics.points import KnowledgePoints

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
        return self._panel(index, title, panel.entropy_rgba(as_array(values)))

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


#: What a kind of units, by a word of its name, is drawn on.
KINDS: dict[str, tuple[type[Panels], str]] = {
    "grid": (ImagePanels, "cells of a grid: pass the images"),
    "word": (TextPanels, "words: pass the texts, strings or what kpnb.text_samples makes of them"),
    "point": (CloudPanels, "points: pass the clouds, PointSamples or (samples, points, 3)"),
    "mask": (AreaPanels, ""),
}
ASPECT = 0.02  # relative difference of proportions, beyond which a picture is another
Transform = Callable[[object], Tensor]


def shown(
    table: EntropyMaps | KnowledgePoints,
    samples: SampleSet | Sequence[str] | None = None,
    count: int = 8,
    normalization: Normalization | None = None,
    transform: Transform | None = None,
    units: MaskUnits | None = None,
) -> Figure | Html:
    """The first `count` entropy maps on the fixed scale in nats: words, points and areas in their
    colors, grids below their images, if these are given. Or the knowledge points, foreground told
    apart: on words, clouds, areas or images, or without images on the entropy maps.

    samples: one per map; see kpnb.figures.paper; strings too. normalization: see
    kpnb.figures.image.as_pictures. Titles of points: N_fg(x), N_bg(x). Gray: a sample without an
    entropy map. Raises KpnbError for units that what is passed does not fit, or that make no square
    grid without it, for fewer samples than maps drawn, and for images that are not those seen.
    """
    rows = known_rows(range(min(len(table), count)), len(table), "sample")
    kind = next((name for name in KINDS if name in _units(table).lower()), "")
    samples = [samples] if kind == "word" and isinstance(samples, str) else samples
    several = hasattr(samples, "__len__") and not isinstance(samples, str)
    if samples is not None and (not several or len(samples) < len(rows)):
        raise KpnbError(f"pass a tensor, an array or a list with one per sample, {len(rows)} here.")
    if transform is not None and samples is not None:
        samples = torch.stack([transform(samples[row]) for row in rows])
    if isinstance(samples, list | tuple) and all(isinstance(one, str) for one in samples):
        samples = text_samples(samples)
    if kind != "mask":
        found = _drawn_on(table, kind, samples, rows, normalization)
    elif samples is None or str(units) != _units(table):
        raise KpnbError("these units are areas of labels: pass the inputs, and units= of the maps.")
    else:
        found = AreaPanels(samples, rows, units.labels, normalization)
    if isinstance(table, KnowledgePoints):
        return _whole(found, [found.marked(row, marked_points(table, row)) for row in rows], rows)
    pictures, entropy = getattr(found, "pictures", {}), table.entropy
    upper = [found.picture(row, entropy[row], f"sample {row}") for row in pictures]
    names = ["entropy" if upper else f"sample {row}" for row in rows]
    maps = [found.entropy(row, entropy[row], name) for row, name in zip(rows, names, strict=True)]
    return found.sheet([upper, maps]) if upper else _whole(found, maps, rows)


def _units(table: UnitTable) -> str:
    return str(table.settings.get("units", ""))


def _drawn_on(
    table: UnitTable, kind: str, samples: SampleSet | None, rows: list[int], normalization: object
) -> Panels:
    """The panels of what is passed, once it fits the units."""
    if kind == "grid" or (not kind and (_units(table) or samples is None)):
        table.grid()
    shape = getattr(samples, "shape", ())
    if kind == "point" and len(shape) == 3 and shape[1] == 3 != shape[2]:
        samples = samples.swapaxes(1, 2)  # as networks with channels first take them
    wanted, told = KINDS.get(kind, (Panels, ""))
    found = ImagePanels(None, rows) if samples is None else panels_of(samples, rows, normalization)
    require(isinstance(found, wanted), f"these units are {told}.")
    if kind == "grid":
        _check_seen(found, table.settings.get("inputs"))
    return found


def _check_seen(found: ImagePanels, inputs: Sequence[int] | None) -> None:
    """That pictures have the proportions of what the network saw, where that is known."""
    for row, aspect in found.aspects.items() if inputs else ():
        seen = inputs[-2] / inputs[-1]
        told = f"image {row} is {aspect:.2f} times as high as wide, what the network saw {seen:.2f}"
        fits = abs(aspect / seen - 1) <= ASPECT
        require(fits, f"{told}: pass that, or the transform= of explain.")


def _whole(found: Panels, shown: list[Panel | Line], rows: list[int]) -> Figure | Html:
    """All panels in rows, each text below its note."""
    columns = 1 if isinstance(found, TextPanels) else 4
    return found.sheet(in_rows(shown, columns), [found.note(row) for row in rows])
