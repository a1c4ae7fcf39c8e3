"""Texts as their input units, and the values of tensors that belong to one of them."""

from __future__ import annotations

import numpy as np

from kpnb.datasets.texts.words import TextSample
from kpnb.errors import KpnbError
from kpnb.figures.style import Array, as_array
from kpnb.metrics.points import KnowledgePoints


def place_of(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise KpnbError(f"there is no text {index} among {count}; give an index from 0.")
    return index


def own_entropies(sample: TextSample, entropy: Array) -> list[float]:
    """The entropies of the text's own words, from a row that may be wider."""
    row, count = as_array(entropy), len(sample.units)
    if row.ndim != 1 or len(row) < count or np.isfinite(row[count:]).any():
        raise KpnbError(
            f"entropy of shape {row.shape} does not fit a text of {count} words; pass one row, "
            "with NaN beyond the last word."
        )
    return row[:count].tolist()


def own_points(sample: TextSample, points: KnowledgePoints, index: int) -> KnowledgePoints:
    """The points of one text alone, (1, words), once it is sure that they are this text's."""
    place, count = place_of(index, len(points.entropy)), len(sample.units)
    own_entropies(sample, points.entropy[place])
    beyond = (points.foreground_points | points.background_points)[place, count:]
    live = points.entropy[place, :count].isfinite().tolist()
    inside = points.foreground[place, :count].tolist()
    other = [a and b != c for a, b, c in zip(live, inside, sample.foreground, strict=True)]
    if beyond.any() or any(other):
        raise KpnbError(
            f"the points at index {index} are of another text than the one given: foreground or "
            "length differ; pass the text of the same index."
        )
    own = (slice(place, place + 1), slice(count))
    return KnowledgePoints(
        points.foreground_points[own], points.background_points[own], points.foreground[own],
        points.baseline[own[0]], points.defined[own[0]], points.entropy[own], points.threshold,
    )  # fmt: skip
