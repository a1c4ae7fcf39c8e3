"""What it would take to settle the study's undecided cells, planned from their own variances.

Functions take the frame of `book.make.frame` and return markdown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from book.make.effects import paired_values
from book.make.forest import data_name, samples_of, shown_cells
from book.make.frame import asked, records
from book.make.ten_teachers import beside_three
from book.make.texts import block, sheet
from kpnb.metrics.protocol import margin, primary_metrics
from kpnb.metrics.stats import LEVEL

#: Of the margin, what half an interval is planned to be. No difference then comes out equivalent,
#: and one as large as the margin is found, nineteen times in twenty each.
SHARE = 0.5


@dataclass(frozen=True)
class Design:
    """How many of each; widest: which of them, by name, adds most to the interval as it is now."""

    teachers: int
    pairs: int
    samples: int
    widest: str = ""


@dataclass(frozen=True)
class Spread:
    """Of a cell's differences: mean squares of teachers and of pairs, the samples' variance, and
    what they were estimated from. Of the first two the one that `kpnb.metrics.stats.crossed` takes
    counts; the other is 0."""

    between: float
    within: float
    sample: float
    now: Design

    @classmethod
    def of(cls, values: np.ndarray, teachers: np.ndarray) -> "Spread":
        """values: (pairs, samples); teachers: (pairs,) whose pair each is, from 0."""
        pairs, samples = values.shape
        by_pair, by_sample, many = values.mean(1), values.mean(0), np.bincount(teachers)
        by_teacher = np.bincount(teachers, by_pair) / many
        between, within = 0.0, by_pair.var(ddof=1)
        if 1 < len(many) < pairs:
            square = (many * (by_teacher - by_pair.mean()) ** 2).sum() / (len(many) - 1)
            rest = ((by_pair - by_teacher[teachers]) ** 2).sum() / (pairs - len(many))
            between, within = (square, 0.0) if square > rest else (between, within)
        rest = values - by_pair[:, None] - by_sample + values.mean()
        both = (rest**2).sum() / ((pairs - 1) * (samples - 1))
        sample = max(by_sample.var(ddof=1) - both / pairs, 0.0)
        return cls(between, within, sample, Design(len(many), pairs, samples))

    def half_width(self, design: Design) -> float:
        """Of the 95% interval with so many of each."""
        return sum(self._parts(design).values()) ** 0.5

    def settled(self, half: float) -> Design:
        """The smallest design whose half-width is at most `half`: samples first, of which at most
        half of its square may come, then teachers, each with as many pairs, or pairs."""
        now = self.now
        parts = self._parts(now)
        images = max(now.samples, int(np.ceil(now.samples * 2 * parts["images"] / half**2)))
        many = now.pairs / now.teachers
        for more in count():
            teachers, pairs = now.teachers, now.pairs + more
            if self.between:
                teachers, pairs = now.teachers + more, round(many * (now.teachers + more))
            planned = Design(teachers, pairs, images, max(parts, key=parts.get))
            if self.half_width(planned) <= half:
                return planned

    def _parts(self, design: Design) -> dict[str, float]:
        freedom = {"teachers": design.teachers - 1, "pairs": design.pairs - 1}
        squares = {"teachers": self.between / design.pairs, "pairs": self.within / design.pairs}
        freedom["images"], squares["images"] = design.samples - 1, self.sample / design.samples
        return {name: square * stdtrit(freedom[name], 1 - LEVEL / 2) ** 2 if square else 0.0
                for name, square in squares.items()}  # fmt: skip


def undecided_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """A row for each undecided primary metric of a measurable cell of the study."""
    found = list(undecided(rows))
    by_holm = sum(row["low"] > 0 or row["high"] < 0 for row in found)
    told = {"cells": len(found), "by_holm": by_holm}
    return {"undecided": block("undecided", shown=sheet("undecided", found), **told)}


def undecided(rows: pd.DataFrame) -> Iterator[dict]:
    """Each with its cell's name, how it stands, the design that would settle it, and what ten other
    teachers said since, if they were asked."""
    found, by_ten = shown_cells(rows), {}
    for row in beside_three(rows):
        by_ten[row["asked"], row["layer"], row["metric"]] = row["verdict"]
    found = found[(found["preset"] == "study") & (found["verdict"] == "undecided")]
    for row in records(found[found["metric"].isin([*primary_metrics()])]):
        pair, wide = paired_values(rows, row), SHARE * margin(row["metric"], row["baseline"])
        # One pair or sample has no spread, and of nothing there is no share.
        if pair is not None and min(pair[0].shape) > 1 and wide > 0:
            spread = Spread.of(pair[0] - pair[1], taught_by(row["settings"], len(pair[0])))
            about = {"data": data_name(row), "samples": samples_of(row)[1], "wide": wide}
            about["ten"] = by_ten.get((asked(row["settings"]), row["layer"], row["metric"]), "")
            yield row | about | {"now": spread.now, "planned": spread.settled(wide)}


def taught_by(settings: dict, pairs: int) -> np.ndarray:
    """Which teacher each pair has: those of the settings in turn, else one of its own."""
    return np.arange(pairs) % len(settings.get("teachers") or range(pairs))
