"""Texts as their input units, and the values of tensors that belong to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kpnb.errors import KpnbError
from kpnb.points import KnowledgePoints
from kpnb.style import Array, as_array
from kpnb.words import Span

CLOSING = frozenset(",.;:!?)]}%…”’")
OPENING = frozenset("([{“‘¿¡")


@dataclass(frozen=True)
class TextSample:
    """One text as its input units.

    units: the words as written, punctuation signs included, in reading order.
    foreground: whether each of them is foreground.
    parts: (label, first unit) of each part; a label is written before its part, on a new line.
    note: what else is known, such as the label and the rating.
    joined: whether each unit follows the one before without a space; see `joined_words`. Empty: not
        known, and running text has no space before closing signs and after opening ones.
    Raises KpnbError for a text without units, for lengths that differ, and for parts that do not
    start at 0 or do not ascend.
    """

    units: tuple[str, ...]
    foreground: tuple[bool, ...]
    parts: tuple[tuple[str, int], ...] = (("", 0),)
    note: str = ""
    joined: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.units)
        if count == 0 or len(self.foreground) != count or len(self.joined) not in (0, count):
            raise KpnbError(
                f"a text has {count} units, {len(self.foreground)} foreground values and "
                f"{len(self.joined)} joined ones; give one value per unit, and one unit or more."
            )
        starts = [first for _, first in self.parts]
        if starts[:1] != [0] or starts != sorted({*starts}) or starts[-1] >= count:
            raise KpnbError(
                f"parts start at units {starts} of {count}; start the first at 0 and each later "
                "one at a higher unit of the text."
            )

    def touches(self, unit: int) -> bool:
        """Whether running text has no space before `unit`."""
        if self.joined:
            return bool(self.joined[unit])
        return self.units[unit] in CLOSING or (unit > 0 and self.units[unit - 1] in OPENING)


def joined_words(spans: Sequence[Span]) -> tuple[bool, ...]:
    """Whether each word begins where the one before ends, from their character spans."""
    ends = [None, *(end for _, end in spans)]
    return tuple(start == end for (start, _), end in zip(spans, ends, strict=False))


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
