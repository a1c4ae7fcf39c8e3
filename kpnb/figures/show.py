"""What `show` of entropy maps and of knowledge points draws: units as what they are.

Cells of a grid lie on their images, words are text, points are clouds, units of labels areas or
stretches. Which of them units are is in the settings of maps; where these say nothing, what is
passed to draw on tells.
"""

from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.datasets.texts.aligned import text_samples
from kpnb.errors import KpnbError
from kpnb.estimator.maps import EntropyMaps, UnitTable
from kpnb.estimator.units import MaskUnits
from kpnb.figures.areas import AreaPanels
from kpnb.figures.cloud import CloudPanels
from kpnb.figures.image import ImagePanels, Normalization
from kpnb.figures.panel import Panel, Panels, in_rows, known_rows, marked_points
from kpnb.figures.paper import SampleSet, panels_of
from kpnb.figures.text import Html, Line, TextPanels
from kpnb.metrics.points import KnowledgePoints

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
    if not isinstance(found, wanted):
        raise KpnbError(f"these units are {told}.")
    if kind == "grid":
        _check_seen(found, table.settings.get("inputs"))
    return found


def _check_seen(found: ImagePanels, inputs: Sequence[int] | None) -> None:
    """That pictures have the proportions of what the network saw, where that is known."""
    for row, aspect in found.aspects.items() if inputs else ():
        seen = inputs[-2] / inputs[-1]
        if abs(aspect / seen - 1) > ASPECT:
            told = f"image {row} is {aspect:.2f} times as high as wide, what the network saw"
            raise KpnbError(f"{told} {seen:.2f}: pass that, or the transform= of explain.")


def _whole(found: Panels, shown: list[Panel | Line], rows: list[int]) -> Figure | Html:
    """All panels in rows, each text below its note."""
    columns = 1 if isinstance(found, TextPanels) else 4
    return found.sheet(in_rows(shown, columns), [found.note(row) for row in rows])
