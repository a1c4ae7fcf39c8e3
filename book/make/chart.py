"""Charts of dots with intervals, a line a cell and a panel a metric, as SVG.

One description is drawn light and dark, for a wide page and for a phone, by chart.svg.jinja. A
build draws dozens in a second, which figures of matplotlib would not, and texts stay texts.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from textwrap import wrap

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from book.make.texts import block
from kpnb.metrics.formatting import interval, signed
from kpnb.metrics.stats import VERDICTS

#: What marks are, and how a legend says it.
LOOKS = {name: name for name in (*VERDICTS, "here", "teacher", "student")}
LOOKS |= {"new": "student, new samples", "baseline": "baseline", "paper": "the paper"}
BEYOND = 3  #: Times as far out as the others is at the border.
OTHER = 0.35  #: Of the longer side of a shaded axis, the shorter is at least.
LETTER = 6.3  #: Pixels of a letter, about.


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
        """As many as have room."""
        for most in (6, 5, 4, 3, 2):
            steps = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
            inside = [tick for tick in steps if 8 < self.at(tick) < self.width - 8]
            found = {tick: f"{round(tick, 10):g}".replace("-", "−") for tick in inside}
            room = self.at(inside[1]) - self.at(inside[0]) if len(inside) > 1 else self.width
            if room > 8 + LETTER * max(map(len, found.values()), default=0):
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
        do not press all the rest together."""
        ends = [0.0, *(1.5 * line for line in self.lines)]
        for mark in marks:
            ends += [mark.value, mark.low, mark.high] if mark.has_interval else []
        loose = [mark.value for mark in marks if not mark.has_interval]
        far = BEYOND * max([*map(abs, ends), median(map(abs, loose)) if loose else 0.0])
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


@dataclass(frozen=True)
class Form:
    """Pixels of a drawing, and of them for words, letters of these, panels beside each other."""

    width: int
    words: int
    letters: int
    columns: int


FORMS = {"wide": Form(800, 182, 28, 6), "narrow": Form(360, 118, 18, 2)}
THEMES = ("light", "dark")


@dataclass(frozen=True)
class Chart:
    """title: what it shows, in one sentence, for those who cannot see it."""

    title: str
    panels: Sequence[Panel]
    lines: Sequence[Line]

    def marks(self, panel: Panel) -> list[Mark]:
        return [mark for line in self.lines for mark in line.marks.get(panel.name, ())]

    @property
    def alternative(self) -> str:
        """The chart in words: every line with its numbers, those of the paper left out."""
        return " ".join([self.title, *(f"{self._told(line)}." for line in self.lines)])

    def _told(self, line: Line) -> str:
        parts = [f"{panel.title} {line.notes[panel.name]}" for panel in self.panels
                 if panel.name in line.notes]  # fmt: skip
        for panel in self.panels:
            for mark in line.marks.get(panel.name, ()):
                if mark.look not in ("paper", "not measurable"):
                    ends = interval(mark.low, mark.high, signed) if mark.has_interval else ""
                    parts.append(f"{panel.title} {signed(mark.value)}{ends}, {LOOKS[mark.look]}")
        return ", ".join(line.words) + (f": {'; '.join(parts)}" if parts else "")

    def draw(self, form: Form, theme: str) -> str:
        """The chart as SVG."""
        rows, top = [], 0
        for line in self.lines:
            kinds = ["bold" if line.heading else "", *["small"] * len(line.words)]
            words = [(kind, text) for kind, told in zip(kinds, line.words, strict=False)
                     for text in wrap(told, form.letters)]  # fmt: skip
            rows.append({"line": line, "words": words, "top": top, "high": 14 * len(words) + 10})
            top += rows[-1]["high"]
        used = [mark for panel in self.panels for mark in self.marks(panel)]
        looks = [(look, told, any(m.has_interval for m in used if m.look == look))
                 for look, told in LOOKS.items() if look in {m.look for m in used}]  # fmt: skip
        given = {"panels": self.panels, "marks": self.marks, "rows": rows, "looks": looks}
        return template("chart.svg.jinja").render(form=form, dark=theme == "dark", **given)


def chart_fragments(name: str, chart: Chart, caption: str = "") -> dict[str, str]:
    """{file: content} of a chart, as `fragments`."""
    return fragments(name, chart.alternative, chart.draw, caption)


def fragments(
    name: str, alternative: str, draw: Callable[[Form, str], str], caption: str = ""
) -> dict[str, str]:
    """{file: content}: markdown that shows what `draw` draws for a form and a theme, with its
    alternative text and a caption, and the four drawings, of which a page shows one."""
    files = {(form, theme): f"{name}_{form}_{theme}.svg" for form in FORMS for theme in THEMES}
    quoted = json.dumps(alternative, ensure_ascii=False)
    shown = block("chart", files=files, alternative=quoted, caption=caption)
    drawn = {file: draw(FORMS[form], theme) for (form, theme), file in files.items()}
    return {name: shown} | drawn


@cache
def template(name: str) -> Template:
    """A template of a drawing, beside this file."""
    options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    folder = FileSystemLoader(Path(__file__).parent)
    made = Environment(loader=folder, autoescape=True, **options)
    low = r'<tspan class="low" dy="3">\1</tspan><tspan dy="-3">&#8203;</tspan>'
    made.filters["low"] = lambda text: Markup(re.sub(r"_(\w+)", low, escape(text)))
    return made.get_template(name)
