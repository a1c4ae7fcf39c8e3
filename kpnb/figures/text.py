"""Texts with entropies and points on their words: running text in HTML and in plain text.

A notebook or a page of the book shows colored words, a terminal the same content in plain text.
The HTML has no scripts, classes or ids and asks no server. Text takes the color of the page it is
on, light or dark; only a box with a color of its own sets both. Numbers and signs are left out when
a reader selects and copies a text, so that what is copied is the text. Values come in tensors over
units, which may be wider than a text: beyond its last word they hold NaN or False. A word without
an entropy takes no part and is shown plain.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape, unescape
from itertools import zip_longest
from math import isfinite
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from kpnb.datasets.texts.word_pieces import TextSample
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
ROW = "display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 8px;margin:4px 0"

H_I = "<i>H<sub>i</sub></i>"
H_BAR = '<i style="text-decoration:overline">H</i>'
# What stands in a terminal for the markup below, in this order; other tags are left out.
IN_TERMINAL = {
    '<div style="flex:0 0[^>]*>((?!</div>).+?)</div>': r"\n[\1]\n",  # a label
    re.escape(H_BAR): "H_bar",
    "<sub>": "_",
    "</?b( [^>]*)?>": "*",
    "</small>(</span><span[^>]*>)? <small[^>]*>": "; ",  # numbers under one word
    " <small[^>]*>": "(",
    "</small>": ")",
    '<div dir="auto">': "\n  ",
    "</?div[^>]*>": "\n",
    "<[^>]*>": "",
}


@dataclass(frozen=True, repr=False)
class Html:
    """A display: `html` in a notebook or a page; in a terminal its text, or `text` instead."""

    html: str
    text: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text or in_terminal(self.html)

    def save(self, path: str | Path) -> None:
        """Writes a page of it."""
        page = f"<!doctype html><meta charset='utf-8'><title>kpnb</title>{self.html}"
        Path(path).write_text(page, encoding="utf-8")


def in_terminal(html: str) -> str:
    """The plain text of HTML made here: [label], *foreground*, (number), the words indented."""
    for markup, sign in IN_TERMINAL.items():
        html = re.sub(markup, sign, html)
    how = dict(break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
    lines = [unescape(line) for line in html.split("\n") if line.strip()]
    return "\n".join(textwrap.fill(line, TEXT_WIDTH, **how) for line in lines)


def brief(value: float) -> str:
    return f"{value:z.2f}".replace("-", "−")


def styled(css: str, html: str, tag: str = "span") -> str:
    return f'<{tag} style="{css}">{html}</{tag}>'


def small(html: str) -> str:
    """A number or sign on a line of its own under a word."""
    return f' <small dir="ltr" style="{NUMBER}">{html}</small>'


def written(sample: TextSample) -> list[str]:
    """The words as written; bold and underlined where they are foreground."""
    found = zip(map(escape, sample.units), sample.foreground, strict=True)
    return [styled(UNDERLINE, word, "b") if inside else word for word, inside in found]


def marked(html: str, style: PointStyle | None) -> str:
    """Words with the sign, the color and the frame of a kind of knowledge point, if any."""
    if style is None:
        return html
    sign = styled(f"font-size:.9em;margin-inline-end:.25em;{NOT_COPIED}", SIGNS[style.marker])
    return styled(f"{_frame(style)};border-radius:4px;padding:0 4px;margin:0 1px", sign + html)


def _frame(style: PointStyle) -> str:
    return f"background:{style.color};color:#000;border:1.5px {FRAMES[style.marker]} #000"


def text_color(background: str) -> str:
    """Black or white, whichever has more contrast; either way it is at least 4.58."""
    channels = np.array(to_rgb(background))
    # sRGB in proportion to light: WCAG 2.2, relative luminance
    light = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000" if (light @ (0.2126, 0.7152, 0.0722) + 0.05) ** 2 > 1.05 * 0.05 else "#fff"


def on_color(value: float) -> str:
    """CSS of text on the color of an entropy; values outside the scale take that of its end."""
    color = to_hex(panel.entropy_rgba(value))
    return f"background:{color};color:{text_color(color)}"


def colored(html: str, value: float, below: str = "") -> str:
    """A word's box in the color of its entropy, which stands under it, and what is below; without
    an entropy the word alone, in no color."""
    if not isfinite(value):
        return styled(f"{BOX};padding:1px 2px", html)
    css = f"display:block;padding:1px 5px;border-radius:4px;{on_color(value)}"
    return styled(BOX, styled(css, html + small(brief(value))) + below)


def cut_lines(gap: float, kind: PointStyle | None) -> str:
    """In the color of its kind of point the distance H_bar - H_i and the kind's sign, or "no"."""
    frame = _frame(kind) if kind else "border:1.5px solid transparent"
    css = f"display:block;padding:0 4px;border-radius:4px;{frame}"
    return styled(css, small(brief(gap)) + small(SIGNS[kind.marker] if kind else "no"))


def lines(sample: TextSample, found: Sequence[str], running: bool = False) -> str:
    """The words of each part, as `found`, on a line of their own, after the part's label.

    running: spaces as in running text; otherwise there is one between any two words.
    """
    starts, html = [first for _, first in sample.parts] + [len(found)], ""
    for (label, first), end in zip(sample.parts, starts[1:], strict=True):
        own = range(first, end)
        gaps = [" " * (u > first and not (running and sample.touches(u))) for u in own]
        body = "".join(gap + found[u] for gap, u in zip(gaps, own, strict=True))
        # Marked left to right, so that the words alone decide which way the line runs.
        name = f'<i dir="ltr" style="{SMALL}">{escape(label)}:</i> ' if label else ""
        html += f'<div dir="auto">{name}{body}</div>'
    return html


FOREGROUND = styled(UNDERLINE, "word", "b") + " foreground"


def entropy_legend(values: Sequence[float]) -> list[str]:
    """The scale as swatches; which of `values`, in nats, lie outside it or are none."""
    low, high = panel.ENTROPY_LIMITS
    box, ticks = "display:inline-block;padding:0 6px;", np.linspace(low, high, 5).tolist()
    swatches = "".join(styled(box + on_color(tick), f"{brief(tick)} ") for tick in ticks)
    pieces = [f"{H_I} [nats] {swatches}, low: kept"]
    live = [value for value in values if isfinite(value)]
    # As written, so that rounding in the tensor puts nothing outside.
    outside = [value for value in live if not low <= round(value, 2) <= high]
    if outside:
        span = f"{brief(min(outside))} to {brief(max(outside))}"
        pieces.append(f"outside the scale, in the color of its end: {len(outside)} ({span})")
    if len(live) < len(values):
        pieces.append("words without a value take no part")
    return pieces


def counts_label(counts: Mapping[str, int] | None, more: str = "") -> str:
    """N_fg and N_bg, those of them that `counts` has, see `Marked`, and more; or that none are."""
    told = [f"<i>N</i><sub>{name}</sub> = {n}" for name, n in (counts or {}).items()]
    return styled(SMALL, ", ".join(told) + more if told else panel.NO_MAP)


@dataclass(frozen=True)
class Line:
    """One text of a display: its words in HTML, after a label behind a bar of `color`.

    values: entropies shown, for the legend; styles: kinds of points that may occur.
    """

    body: str
    label: str | None = None
    color: str = ""
    values: Sequence[float] = ()
    styles: Sequence[PointStyle] = ()

    @property
    def row(self) -> str:
        """The words beside or below their label."""
        if self.label is None:
            return self.body
        bar = f"border-left:5px solid {self.color};padding-left:6px;" * bool(self.color)
        left = styled(f"flex:0 0 8.5em;line-height:1.3;{bar}", self.label, "div")
        return styled(ROW, left + styled("flex:1 1 20em;min-width:0", self.body, "div"), "div")


class TextPanels(Panels):
    """The texts at `rows`, with a line of words for each panel."""

    KIND = "text"

    def __init__(self, samples: Sequence[TextSample], rows: Iterable[int]) -> None:
        self.texts = {row: samples[row] for row in panel.known_rows(rows, len(samples), self.KIND)}

    def sample(self, index: int, foreground: Array | None = None) -> Line:
        note = self.note(index)
        return Line(self._running(index), styled(SMALL, escape(note)) if note else None)

    def marked(self, index: int, marked: Marked, title: str | None = None) -> Line:
        sample = self.texts[index]
        if not any(sample.foreground):  # strings alone: the points know it
            own = tuple(marked.foreground[: len(sample.units)].tolist())
            self.texts[index] = replace(sample, foreground=own)
        running = self._running(index, _of_words(self.texts[index], marked))
        name = escape(marked.name.replace("\n", ", ") + ": ") if marked.name else ""
        styles = [style for _, style in marked.kinds]
        return Line(running, name + counts_label(marked.counts), marked.color, styles=styles)

    def entropy(self, index: int, values: Array, title: str, foreground: object = None) -> Line:
        sample = self.texts[index]
        values = own_entropies(sample, values)
        boxes = [*map(colored, written(sample), values)]
        return Line(lines(sample, boxes), escape(title), values=values)

    def layers(self, index: int, maps_by_layer: Mapping[str, EntropyMaps]) -> list[list[Line]]:
        return [[self.entropy(index, m.entropy[index], name)] for name, m in maps_by_layer.items()]

    def definition(
        self, index: int, maps: EntropyMaps, points: KnowledgePoints
    ) -> list[list[Line]]:
        """Under each word its entropy H_i, H_bar - H_i, and whether that exceeds b."""
        sample, marked = self.texts[index], panel.marked_points(points, index)
        kinds, values = _of_words(sample, marked), own_entropies(sample, maps.entropy[index])
        level = float(points.baseline[index])
        cuts = [cut_lines(level - value, kind) for value, kind in zip(values, kinds, strict=True)]
        found = [*map(colored, written(sample), values, cuts)]
        # What the four lines of a box are, as a box of the same height.
        names = map(small, (f"{H_I} [nats]", f"{H_BAR} − {H_I}", "over <i>b</i>?"))
        css = f"{BOX};text-align:start;padding:1px 4px 1px 0"
        found[0] = f'<span dir="ltr" style="{css}">word{"".join(names)}</span> {found[0]}'
        cut = f"; {H_BAR} = {brief(level)}, <i>b</i> = {points.threshold:g} nats"
        label = counts_label(marked.counts, cut)
        styles = [*panel.POINTS.values()]
        return [[Line(lines(sample, found), label, values=values, styles=styles)]]

    def note(self, index: int) -> str:
        return self.texts[index].note

    def sheet(self, grid: Sequence[Sequence[Line]], notes: Sequence[str] = ()) -> Html:
        """One line below the other, those of a row under its note, and the legends at the end."""
        html, space = "", f"margin-bottom:{10 if notes else 0}px"
        for part, note in zip_longest(grid, notes, fillvalue=""):
            head = styled(SMALL, escape(note), "div") if note else ""
            html += styled(space, head + "".join(line.row for line in part), "div")
        html += "".join(_legends([line for part in grid for line in part]))
        return Html(styled(WHOLE, html, "div"))

    def _running(self, index: int, kinds: Sequence[PointStyle | None] | None = None) -> str:
        """The text in running type, the words of each kind marked."""
        sample = self.texts[index]
        kinds = kinds or [None] * len(sample.units)
        return lines(sample, [*map(marked, written(sample), kinds)], running=True)


def _legends(shown: Sequence[Line]) -> list[str]:
    """The lines that explain a display."""
    values = [value for line in shown for value in line.values]
    marks = [marked(escape(style.name), style) for style in shown[0].styles]
    told = [FOREGROUND] * any(UNDERLINE in line.body for line in shown)
    legends = [marks, entropy_legend(values) + told] if values else [marks + told]
    spread = [[styled("display:inline-block", piece) for piece in pieces] for pieces in legends]
    return [
        styled(f"{SMALL};margin-top:5px", "\u2003".join(part), "div") for part in spread if part
    ]


def own_entropies(sample: TextSample, entropy: Array) -> list[float]:
    """The entropies of the text's own words, from a row that may be wider."""
    row, count = as_array(entropy), len(sample.units)
    if row.ndim != 1 or len(row) < count or np.isfinite(row[count:]).any():
        told = f"entropy of shape {row.shape} does not fit a text of {count} words"
        raise KpnbError(f"{told}; pass one row, with NaN beyond the last word.")
    return row[:count].tolist()


def _of_words(sample: TextSample, marked: Marked) -> list[PointStyle | None]:
    """How each word is marked, once it is sure that the marks are of this text."""
    count = len(sample.units)
    live = np.isfinite(own_entropies(sample, marked.points.entropy[marked.index]))
    beyond = any(held[count:].any() for held, _ in marked.kinds)
    if beyond or (marked.foreground[:count] != sample.foreground)[live].any():
        told = "the points are of another text than the one given: foreground or length differ"
        raise KpnbError(f"{told}; pass samples, maps and points in the same order.")
    return [
        next((style for held, style in marked.kinds if held[unit]), None) for unit in range(count)
    ]
