"""Charts of dots with intervals, a line a cell and a panel a metric, as SVG.

One description is drawn light and dark, for a wide page and for a phone, by chart.svg.jinja. A
build draws dozens in a second, which figures of matplotlib would not, and texts stay texts.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low
from typing import Protocol

from book.make.texts import block, drawing
from kpnb.metrics.stats import VERDICTS

#: What marks are, and how a legend says it.
LOOKS = {name: name for name in (*VERDICTS, "here", "teacher", "student")}
LOOKS |= {"new": "student, new samples", "baseline": "baseline", "paper": "the paper"}
LOOKS["not measurable"] = "not measurable, so without verdict"
BEYOND = 5  #: Times as far out as the others is at the border.
OTHER = 0.35  #: Of the longer side of a shaded axis, the shorter is at least.
LETTER = 6.3  #: Pixels of a letter, about.
BETWEEN = 8  #: Pixels between two numbers below an axis, at least.


@dataclass(frozen=True)
class Mark:
    """A value with the ends of its 95% interval, NaN for none. look: of `LOOKS`."""

    look: str
    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low)


@dataclass(frozen=True)
class Axis:
    """From low to high in so many pixels; ticks: round numbers with their texts."""

    low: float
    high: float
    width: float

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return round(self.width * (inside - self.low) / (self.high - self.low), 1)

    def beyond(self, value: float) -> int:
        """On which side of the axis a value is, 0 on it."""
        return (value > self.high) - (value < self.low)

    @property
    def ticks(self) -> dict[float, str]:
        """As many multiples of a round step as have room."""
        base = 10 ** math.floor(math.log10(self.high - self.low) - 1)
        for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100):
            step = base * factor
            ends = math.ceil(self.low / step), math.floor(self.high / step)
            inside = [step * n for n in range(ends[0], ends[1] + 1)]
            inside = [tick for tick in inside if 5 < self.at(tick) < self.width - 5]
            found = {tick: f"{tick:.6g}".replace("-", "−") for tick in inside}
            places = [(self.at(tick), LETTER * len(told) / 2) for tick, told in found.items()]
            if all(b - a > BETWEEN + one + other for (a, one), (b, other) in pairwise(places)):
                break
        return found


@dataclass(frozen=True)
class Panel:
    """An axis under a title, in which what follows "_" is set low; about: small lines below it.

    unit: of its values. side: "up" or "down", the side of 0 that is shaded. lines: where dotted
    lines stand.
    """

    name: str
    title: str
    about: tuple[str, ...] = ()
    unit: str = ""
    side: str = ""
    lines: tuple[float, ...] = ()

    def axis(self, marks: Sequence[Mark], width: float) -> Axis:
        """One on which 0, the lines and every interval are; of marks without interval those that
        do not press all the rest together, and such as have no verdict only if all are such."""
        ends = [0.0, *(1.5 * line for line in self.lines)]
        for mark in marks:
            ends += [mark.value, mark.low, mark.high] if mark.has_interval else []
        told = [mark for mark in marks if mark.look != "not measurable"] or marks
        loose = [mark.value for mark in told if not mark.has_interval]
        far = BEYOND * max([*map(abs, ends), median_low(map(abs, loose)) if loose else 0.0])
        ends += [value for value in loose if abs(value) <= far]
        low, high = min(ends), max(ends)
        if self.side:  # the other side of 0 is seen too
            low, high = min(low, -OTHER * high), max(high, -OTHER * low)
        room = 0.06 * (high - low) or 1.0
        return Axis(low - room, high + room, width)


@dataclass(frozen=True)
class Line:
    """Words, of which the first are the line's name, and marks by panel; a heading has no marks,
    and short notes by panel instead."""

    words: tuple[str, ...]
    marks: Mapping[str, Sequence[Mark]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    heading: bool = False

    @property
    def is_measured(self) -> bool:
        """Whether anything on it is ours: only then does an empty panel say that nothing is."""
        return any(mark.look != "paper" for marks in self.marks.values() for mark in marks)


@dataclass(frozen=True)
class Form:
    """Pixels of a drawing, and of them for words, letters of these, panels beside each other."""

    width: int
    words: int
    letters: int
    columns: int


FORMS = {"wide": Form(800, 182, 28, 6), "narrow": Form(360, 118, 18, 2)}
THEMES = ("light", "dark")


class Drawn(Protocol):
    """What can be drawn in a form and a theme, and told to those who cannot see it."""

    @property
    def alternative(self) -> str: ...

    def draw(self, form: Form, theme: str) -> str: ...


@dataclass(frozen=True)
class Chart:
    """title: what it shows, in one sentence."""

    title: str
    panels: Sequence[Panel]
    lines: Sequence[Line]

    def marks(self, panel: Panel) -> list[Mark]:
        return [mark for line in self.lines for mark in line.marks.get(panel.name, ())]

    @property
    def alternative(self) -> str:
        """The chart in words: every line with its numbers, those of the paper left out."""
        return block("chart_alternative", chart=self)

    def draw(self, form: Form, theme: str) -> str:
        """The chart as SVG."""
        every = [mark for panel in self.panels for mark in self.marks(panel)]
        used = {look: [mark.has_interval for mark in every if mark.look == look] for look in LOOKS}
        looks = [(look, told, any(used[look])) for look, told in LOOKS.items() if used[look]]
        far = any(panel.axis(self.marks(panel), 1.0).beyond(mark.value)
                  for panel in self.panels for mark in self.marks(panel))  # fmt: skip
        looks += [("beyond", "beyond the axis", False)] if far else []
        return drawing("chart", chart=self, looks=looks, form=form, dark=theme == "dark")


def chart_fragments(name: str, chart: Drawn, caption: str = "") -> dict[str, str]:
    """{file: content}: markdown that shows a chart, with its alternative text and a caption, and
    its four drawings, of which a page shows one."""
    files = {(form, theme): f"{name}_{form}_{theme}.svg" for form in FORMS for theme in THEMES}
    alternative = json.dumps(chart.alternative, ensure_ascii=False)
    shown = block("chart", files=files, alternative=alternative, caption=caption)
    drawn = {file: chart.draw(FORMS[form], theme) for (form, theme), file in files.items()}
    return {name: shown} | drawn
