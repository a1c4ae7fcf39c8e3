"""What `show` of entropy maps and of knowledge points draws: units as what they are.

Cells of a grid lie on their images, words are text, points are clouds. Which of them units are is
in the settings of maps; where these say nothing, what is passed to draw on tells.
"""

from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.estimator.maps import EntropyMaps, UnitTable
from kpnb.figures.cloud import CloudPanels
from kpnb.figures.image import ImagePanels, Normalization
from kpnb.figures.panel import Panel, Panels, in_rows, known_rows, marked_points
from kpnb.figures.paper import SampleSet, panels_of
from kpnb.figures.text import Html, Line, TextPanels
from kpnb.metrics.points import KnowledgePoints

#: What a kind of units, by a word of its name, is drawn on.
KINDS: dict[str, tuple[type[Panels], str]] = {
    "grid": (ImagePanels, "cells of a grid: pass the images"),
    "word": (TextPanels, "words: pass the texts, EncodedTexts or a list of TextSample"),
    "point": (CloudPanels, "points: pass the clouds, PointSamples or (samples, points, 3)"),
}


def entropy_maps(
    maps: EntropyMaps,
    samples: SampleSet | None = None,
    count: int = 8,
    normalization: Normalization | None = None,
) -> Figure | Html:
    """The first `count` entropy maps on the fixed scale in nats: words and points in their colors,
    grids below their images, if these are given.

    samples: one per map; see kpnb.figures.paper. normalization: see kpnb.figures.image.as_pictures.
    Gray: a sample without an entropy map. Raises KpnbError for units that what is passed does not
    fit, or that make no square grid without it, and for fewer samples than maps drawn.
    """
    found, rows = _drawn_on(maps, samples, count, normalization)
    cells, entropy = isinstance(found, ImagePanels), maps.entropy
    titles = ["" if cells else f"sample {row}" for row in rows]
    shown = [found.entropy(*one) for one in zip(rows, entropy, titles, strict=False)]
    if not cells:
        return _whole(found, rows, shown)
    upper = [found.picture(row, entropy[row], "") for row in found.pictures]
    return found.sheet([upper, shown] if upper else [shown])


def point_maps(
    points: KnowledgePoints,
    samples: SampleSet | None = None,
    count: int = 8,
    normalization: Normalization | None = None,
) -> Figure | Html:
    """The knowledge points of the first `count` samples, foreground told apart: on their words,
    clouds or images, or without images on the entropy maps.

    Titles: N_fg(x), N_bg(x). All else, KpnbError too, as in `entropy_maps`.
    """
    found, rows = _drawn_on(points, samples, count, normalization)
    return _whole(found, rows, [found.marked(row, marked_points(points, row)) for row in rows])


def _drawn_on(
    shown: UnitTable, samples: SampleSet | None, count: int, normalization: Normalization | None
) -> tuple[Panels, list[int]]:
    """The panels of what is passed, once it fits the units, and the indices of those shown."""
    rows = known_rows(range(min(len(shown), count)), len(shown), "sample")
    units, shape = str(shown.settings.get("units", "")).lower(), getattr(samples, "shape", ())
    kind = next((name for name in KINDS if name in units), "")
    if kind == "grid" or (not kind and (units or samples is None)):
        shown.grid()
    several = hasattr(samples, "__len__") and not isinstance(samples, str)
    if samples is not None and (not several or len(samples) < len(rows)):
        raise KpnbError(f"pass a tensor, an array or a list with one per sample, {len(rows)} here.")
    if kind == "point" and len(shape) == 3 and shape[1] == 3 != shape[2]:
        samples = samples.swapaxes(1, 2)  # as networks with channels first take them
    wanted, told = KINDS.get(kind, (Panels, ""))
    nothing = ImagePanels(None, rows)
    found = nothing if samples is None else panels_of(samples, rows, normalization)
    if not isinstance(found, wanted):
        raise KpnbError(f"these units are {told}.")
    return found, rows


def _whole(found: Panels, rows: list[int], shown: list[Panel | Line]) -> Figure | Html:
    """All panels in rows, each text below its note."""
    columns = 1 if isinstance(found, TextPanels) else 4
    return found.sheet(in_rows(shown, columns), [found.note(row) for row in rows])
