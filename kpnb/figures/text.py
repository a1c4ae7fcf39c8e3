"""Texts with entropies and points on their words: running text in HTML and in plain text.

A notebook or a page of the book shows colored words, a terminal the same content in plain text.
The HTML has no scripts, classes or ids and asks no server. Text takes the color of the page it is
on, light or dark; only a box with a color of its own sets both. Numbers and signs are left out when
a reader selects and copies a text, so that what is copied is the text. Values come in tensors over
units, which may be wider than a text: beyond its last word they hold NaN or False. A word without
an entropy takes no part and is shown plain.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import isfinite

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from kpnb.datasets.texts.words import TextSample
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures import panel
from kpnb.figures.panel import Marked, Panels, PointStyle
from kpnb.figures.style import Array, as_array
from kpnb.metrics.points import KnowledgePoints

TEXT_WIDTH = 96  # characters a line in plain text

# The markers of kpnb.figures.panel as signs, and the frame that goes with each.
SIGNS = {"o": "●", "^": "▲", "X": "✕", "s": "■"}
FRAMES = {"o": "solid", "^": "dotted", "X": "dashed"}

# Some browsers know only the prefixed name.
NOT_COPIED = "-webkit-user-select:none;user-select:none"
NUMBER = f"display:block;font-size:.72em;line-height:1.25;white-space:nowrap;{NOT_COPIED}"
BOX = "display:inline-block;vertical-align:top;text-align:center;line-height:1.25;margin:0 0 3px"
SMALL, UNDERLINE = "font-size:.8em", "text-decoration:underline 2px"
WHOLE = "font-size:.95rem;line-height:1.75;text-align:start;overflow-wrap:anywhere"

H_I = "<i>H<sub>i</sub></i>"
H_BAR = '<i style="text-decoration:overline">H</i>'


@dataclass(frozen=True, repr=False)
class Html:
    """A piece of a display: `html` in a notebook or a page, `text` in a terminal."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


# Pieces of a display


def plain(text: str) -> Html:
    """Text as it is, escaped for HTML."""
    return Html(escape(text), text)


def brief(value: float) -> str:
    return f"{value:z.2f}".replace("-", "−")


def styled(css: str, html: str, tag: str = "span") -> str:
    return f'<{tag} style="{css}">{html}</{tag}>'


def small(text: str) -> str:
    """A number or sign on a line of its own under a word; `text` is HTML."""
    return f' <small dir="ltr" style="{NUMBER}">{text}</small>'


def word(sample: TextSample, unit: int) -> Html:
    """A word as written; bold and underlined, *so* in plain text, if it is foreground."""
    found = plain(sample.units[unit])
    if not sample.foreground[unit]:
        return found
    return Html(styled(UNDERLINE, found.html, "b"), f"*{found.text}*")


def marked(content: Html, style: PointStyle) -> Html:
    """`content` with the sign, the color and the frame of a kind of knowledge point."""
    sign = SIGNS[style.marker]
    head = styled(f"font-size:.9em;{NOT_COPIED}", f"{sign}\u00a0")
    css = f"{_frame(style)};border-radius:4px;padding:0 4px;margin:0 1px"
    return Html(styled(css, head + content.html), f"{sign}{content.text}")


def _frame(style: PointStyle) -> str:
    return f"background:{style.color};color:#000;border:1.5px {FRAMES[style.marker]} #000"


def muted(content: Html) -> Html:
    return Html(styled(SMALL, content.html), content.text)


def entropy_color(value: float) -> str:
    """The color of an entropy in nats, "#rrggbb"; values outside the scale take that of its end."""
    return to_hex(panel.entropy_rgba(value))


def text_color(background: str) -> str:
    """Black or white, whichever has more contrast; either way it is at least 4.58."""
    channels = np.array(to_rgb(background))
    # sRGB in proportion to light: WCAG 2.2, relative luminance
    light = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000" if (light @ (0.2126, 0.7152, 0.0722) + 0.05) ** 2 > 1.05 * 0.05 else "#fff"


def on_color(value: float) -> str:
    """CSS of text on the color of an entropy."""
    color = entropy_color(value)
    return f"background:{color};color:{text_color(color)}"


def colored(content: Html, value: float) -> Html:
    """A word's box in the color of its entropy, which stands under it; without one, no color."""
    if not isfinite(value):
        return Html(styled(f"{BOX};padding:1px 2px", content.html), content.text)
    css = f"{BOX};padding:1px 5px;border-radius:4px;{on_color(value)}"
    html = styled(css, content.html + small(brief(value)))
    return Html(html, f"{content.text}({brief(value)})")


def cut_box(content: Html, value: float, gap: float, kind: PointStyle | None) -> Html:
    """A box of four lines: word and entropy in its color; below, in the color of its kind of point,
    the distance H_bar - H_i and the kind's sign, or "no"."""
    if not isfinite(value):
        return colored(content, value)
    mark = SIGNS[kind.marker] if kind else ""
    frame = _frame(kind) if kind else "border:1.5px solid transparent"
    upper = f"display:block;padding:1px 5px;border-radius:4px 4px 0 0;{on_color(value)}"
    lower = f"display:block;padding:0 4px;border-radius:0 0 4px 4px;{frame}"
    html = styled(upper, content.html + small(brief(value)))
    html += styled(lower, small(brief(gap)) + small(mark or "no"))
    return Html(styled(BOX, html), f"{mark}{content.text}({brief(value)}; {brief(gap)})")


# Lines and blocks


def lines(sample: TextSample, words: Sequence[Html], running: bool = False) -> Html:
    """The words of each part on a line of their own, after the part's label.

    running: spaces as in running text; otherwise there is one between any two words.
    """
    starts = [first for _, first in sample.parts] + [len(words)]
    html, text = [], []
    for (label, first), end in zip(sample.parts, starts[1:], strict=True):
        gaps = ["" if running and sample.touches(unit) else " " for unit in range(first + 1, end)]
        spaced = list(zip(["", *gaps], words[first:end], strict=True))
        # Marked left to right, so that the words alone decide which way the line runs.
        name = f'<i dir="ltr" style="{SMALL}">{escape(label)}:</i> ' if label else ""
        body = "".join(gap + found.html for gap, found in spaced)
        html.append(f'<div dir="auto">{name}{body}</div>')
        told = f"{label}: " * bool(label) + "".join(gap + found.text for gap, found in spaced)
        text.append(textwrap.fill(told, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False))
    return Html("".join(html), "\n".join(text))


def block(*rows: Html) -> Html:
    """Rows one below the other, as one piece."""
    html = "".join(f"<div>{row.html}</div>" for row in rows if row.html)
    return Html(html, "\n".join(row.text for row in rows if row.text))


FOREGROUND = Html(styled(UNDERLINE, "word", "b") + " foreground", "*foreground*")


def entropy_legend(values: Sequence[float]) -> list[Html]:
    """The scale as swatches; which of `values`, in nats, lie outside it or are none."""
    low, high = panel.ENTROPY_LIMITS
    box, ticks = "display:inline-block;padding:0 6px;", np.linspace(low, high, 5).tolist()
    swatches = "".join(styled(box + on_color(tick), brief(tick)) for tick in ticks)
    text = f"H_i [nats] colored from {brief(low)} to {brief(high)}"
    pieces = [Html(f"{H_I} [nats] {swatches}", text), FOREGROUND]
    live = [value for value in values if isfinite(value)]
    # As written, so that rounding in the tensor puts nothing outside.
    outside = [value for value in live if not low <= round(value, 2) <= high]
    if outside:
        span = f"{brief(min(outside))} to {brief(max(outside))}"
        pieces.append(plain(f"outside the scale, in the color of its end: {len(outside)} ({span})"))
    if len(live) < len(values):
        pieces.append(plain("words without a value take no part"))
    return pieces


def counts_line(counts: Mapping[str, int] | None) -> Html:
    """N_fg and N_bg, those of them that `counts` has; see `Marked`."""
    if counts is None:
        return plain(panel.NO_MAP)
    html = ", ".join(f"<i>N</i><sub>{name}</sub> = {n}" for name, n in counts.items())
    return Html(html, ", ".join(f"N_{name} = {n}" for name, n in counts.items()))


@dataclass(frozen=True)
class Line:
    """One text of a display: its words, after a label of `width` em behind a bar of `color`.

    values: entropies shown, for the legend; styles: kinds of points that may occur; said: what
    else the legend says.
    """

    body: Html
    label: Html | None = None
    width: float = 8.5
    color: str = ""
    values: Sequence[float] = ()
    styles: Sequence[PointStyle] = ()
    said: Sequence[Html] = ()

    @property
    def row(self) -> Html:
        """The words beside or below their label."""
        if self.label is None:
            return self.body
        bar = f"border-left:5px solid {self.color};padding-left:6px;" * bool(self.color)
        left = styled(f"flex:0 0 {self.width:g}em;line-height:1.3;{bar}", self.label.html, "div")
        right = styled("flex:1 1 20em;min-width:0", self.body.html, "div")
        css = "display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 8px;margin:4px 0"
        head = f"[{', '.join(self.label.text.splitlines())}]\n" if self.label.text else ""
        return Html(styled(css, left + right, "div"), head + textwrap.indent(self.body.text, "  "))


class TextPanels(Panels):
    """The texts at `rows`, with a line of words for each panel."""

    KIND = "text"

    def __init__(self, samples: Sequence[TextSample], rows: Iterable[int]) -> None:
        self.texts = {row: samples[row] for row in panel.known_rows(rows, len(samples), self.KIND)}

    def sample(self, index: int, foreground: Array | None = None) -> Line:
        return Line(self._running(index), muted(plain(self.note(index))))

    def marked(self, index: int, marked: Marked, title: str | None = None) -> Line:
        kinds, told = _of_words(self.texts[index], marked), counts_line(marked.counts)
        width = min(9, max(1 + 0.55 * len(marked.name), 0.47 * len(told.text)))
        label, styles = block(plain(marked.name), muted(told)), [style for _, style in marked.kinds]
        return Line(self._running(index, kinds), label, width, marked.color, styles=styles)

    def entropy(
        self, index: int, values: Array, title: str, foreground: Array | None = None
    ) -> Line:
        sample = self.texts[index]
        values = own_entropies(sample, values)
        boxes = [colored(word(sample, unit), value) for unit, value in enumerate(values)]
        return Line(lines(sample, boxes), plain(title), min(9, 1 + 0.55 * len(title)), "", values)

    def layers(self, index: int, maps_by_layer: Mapping[str, EntropyMaps]) -> list[list[Line]]:
        found = [self.entropy(index, m.entropy[index], name) for name, m in maps_by_layer.items()]
        width = max(line.width for line in found)
        return [[replace(line, width=width)] for line in found]

    def definition(
        self, index: int, maps: EntropyMaps, points: KnowledgePoints
    ) -> list[list[Line]]:
        """Under each word its entropy H_i, H_bar - H_i, and whether that exceeds b."""
        sample, marked = self.texts[index], panel.marked_points(points, index)
        kinds, values = _of_words(sample, marked), own_entropies(sample, maps.entropy[index])
        level, b = float(points.baseline[index]), f"{points.threshold:g} nats"
        found = [
            cut_box(word(sample, unit), value, level - value, kind)
            for unit, (value, kind) in enumerate(zip(values, kinds, strict=True))
        ]
        # What the four lines of a box are, as a box of the same height.
        names = map(small, (f"{H_I} [nats]", f"{H_BAR} − {H_I}", "over <i>b</i>?"))
        css = f"{BOX};text-align:start;padding:1px 4px 1px 0"
        head = f'<span dir="ltr" style="{css}">word{"".join(names)}</span>'
        found[0] = Html(f"{head} {found[0].html}", found[0].text)
        said = [counts_line(marked.counts)]
        if marked.counts is not None:
            text = f"after each word H_i, H_bar − H_i; H_bar = {brief(level)}, b = {b}"
            said.append(Html(f"{H_BAR} = {brief(level)}, <i>b</i> = {b}", text))
        line = Line(lines(sample, found), values=values, styles=[*panel.POINTS.values()], said=said)
        return [[line]]

    def note(self, index: int) -> str:
        return self.texts[index].note

    def sheet(self, grid: Sequence[Sequence[Line]], notes: Sequence[str] = ()) -> Html:
        """One line below the other, those of a row under its note, and the legends at the end."""
        rows = [block(*(line.row for line in part)) for part in grid]
        for place, note in enumerate(notes):
            parts = [muted(plain(note))] * bool(note) + [line.row for line in grid[place]]
            whole = block(*parts)
            rows[place] = Html(styled("margin-bottom:10px", whole.html, "div"), whole.text)
        inside = block(*rows, *_legends([line for part in grid for line in part]))
        return Html(styled(WHOLE, inside.html, "div"), inside.text)

    def _running(self, index: int, kinds: Sequence[PointStyle | None] | None = None) -> Html:
        """The text in running type, the words of each kind marked."""
        sample = self.texts[index]
        words = [word(sample, unit) for unit in range(len(sample.units))]
        kinds = kinds or [None] * len(words)
        found = [marked(w, kind) if kind else w for w, kind in zip(words, kinds, strict=True)]
        return lines(sample, found, running=True)


def _legends(shown: Sequence[Line]) -> list[Html]:
    """The lines that explain a display."""
    values = [value for line in shown for value in line.values]
    marks = [*shown[0].said, *(marked(plain(style.name), style) for style in shown[0].styles)]
    legends = [marks, entropy_legend(values)] if values else [[*marks, FOREGROUND]]
    return [_legend(pieces) for pieces in legends if pieces]


def _legend(pieces: Sequence[Html]) -> Html:
    css = "display:inline-block;margin-right:1.2em"
    html = "".join(styled(css, piece.html) + " " for piece in pieces)
    text = "; ".join(piece.text for piece in pieces)
    return Html(styled(f"{SMALL};margin-top:5px", html, "div"), f"({text})")


# Values that belong to one text


def own_entropies(sample: TextSample, entropy: Array) -> list[float]:
    """The entropies of the text's own words, from a row that may be wider."""
    row, count = as_array(entropy), len(sample.units)
    if row.ndim != 1 or len(row) < count or np.isfinite(row[count:]).any():
        raise KpnbError(
            f"entropy of shape {row.shape} does not fit a text of {count} words; pass one row, "
            "with NaN beyond the last word."
        )
    return row[:count].tolist()


def _of_words(sample: TextSample, marked: Marked) -> list[PointStyle | None]:
    """How each word is marked, once it is sure that the marks are of this text."""
    count = len(sample.units)
    own_entropies(sample, np.where(marked.live, 0.0, np.nan))
    live = marked.live[:count]
    beyond = any(held[count:].any() for held, _ in marked.kinds)
    if beyond or (marked.foreground[:count] != sample.foreground)[live].any():
        raise KpnbError(
            "the points are of another text than the one given: foreground or length differ; pass "
            "samples, maps and points in the same order."
        )
    return [
        next((style for held, style in marked.kinds if held[unit]), None) for unit in range(count)
    ]
