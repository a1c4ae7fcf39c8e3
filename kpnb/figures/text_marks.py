"""Words as boxes, in inline-styled HTML and in plain text: what the displays of texts are made of.

The HTML has no scripts, classes or ids and asks no server. Text takes the color of the page it is
on, light or dark; only a box with a color of its own sets both. Numbers and signs are left out when
a reader selects and copies a text, so that what is copied is the text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite

from matplotlib.colors import Normalize, to_hex, to_rgb

from kpnb.datasets.texts.words import TextSample
from kpnb.figures.image import ENTROPY_LIMITS, PointStyle, entropy_colors

MINUS = "−"
TEXT_WIDTH = 96  # characters a line in plain text

# The markers of kpnb.figures.image as signs, and the frame that goes with each.
SIGNS = {"o": "●", "^": "▲", "X": "✕", "s": "■"}
FRAMES = {"o": "solid", "^": "dotted", "X": "dashed"}

# Some browsers know only the prefixed name.
NOT_COPIED = "-webkit-user-select:none;user-select:none"
NUMBER = f"display:block;font-size:.72em;line-height:1.25;white-space:nowrap;{NOT_COPIED}"
BOX = "display:inline-block;vertical-align:top;text-align:center;line-height:1.25;margin:0 0 3px"
SMALL = "font-size:.8em"

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


# Pieces


def plain(text: str) -> Html:
    """Text as it is, escaped for HTML."""
    return Html(escape(text), text)


def number(value: float) -> str:
    return f"{value:z.2f}".replace("-", MINUS)


def small(text: str) -> str:
    """A number or sign on a line of its own under a word; `text` is HTML."""
    return f' <small dir="ltr" style="{NUMBER}">{text}</small>'


def word(sample: TextSample, unit: int) -> Html:
    """A word as written; bold and underlined, *so* in plain text, if it is foreground."""
    found = plain(sample.units[unit])
    if not sample.foreground[unit]:
        return found
    return Html(f'<b style="text-decoration:underline 2px">{found.html}</b>', f"*{found.text}*")


def marked(content: Html, style: PointStyle) -> Html:
    """`content` with the sign, the color and the frame of a kind of knowledge point."""
    sign = SIGNS[style.marker]
    head = f'<span style="font-size:.9em;{NOT_COPIED}">{sign}\u00a0</span>'
    css = f"{_frame(style)};border-radius:4px;padding:0 4px;margin:0 1px"
    html = f'<span style="{css}">{head}{content.html}</span>'
    return Html(html, f"{sign}{content.text}")


def _frame(style: PointStyle) -> str:
    return f"background:{style.color};color:#000;border:1.5px {FRAMES[style.marker]} #000"


def muted(content: Html) -> Html:
    return Html(f'<span style="{SMALL}">{content.html}</span>', content.text)


# Colors


def entropy_color(value: float, scale: tuple[float, float]) -> str:
    """The color of an entropy in nats, "#rrggbb"; values outside `scale` take that of its end."""
    return to_hex(entropy_colors()(float(Normalize(*scale, clip=True)(value))))


def text_color(background: str) -> str:
    """Black or white, whichever has more contrast; either way it is at least 4.58."""
    channels = zip((0.2126, 0.7152, 0.0722), map(_linear, to_rgb(background)), strict=True)
    luminance = sum(weight * channel for weight, channel in channels)
    return "#000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#fff"


def _linear(channel: float) -> float:
    """A channel of sRGB, 0 to 1, in proportion to light (WCAG 2.2, relative luminance)."""
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def on_color(value: float, scale: tuple[float, float]) -> str:
    """CSS of text on the color of an entropy."""
    color = entropy_color(value, scale)
    return f"background:{color};color:{text_color(color)}"


# Boxes


def colored(content: Html, value: float, scale: tuple[float, float]) -> Html:
    """A word's box in the color of its entropy, which stands under it; without one, no color."""
    if not isfinite(value):
        return Html(f'<span style="{BOX};padding:1px 2px">{content.html}</span>', content.text)
    css = f"{BOX};padding:1px 5px;border-radius:4px;{on_color(value, scale)}"
    html = f'<span style="{css}">{content.html}{small(number(value))}</span>'
    return Html(html, f"{content.text}({number(value)})")


def cut_box(content: Html, value: float, gap: float, kind: PointStyle | None) -> Html:
    """A box of four lines: word and entropy in its color; below, in the color of its kind of point,
    the distance H_bar - H_i and the kind's sign, or "no"."""
    if not isfinite(value):
        return colored(content, value, ENTROPY_LIMITS)
    mark = SIGNS[kind.marker] if kind else ""
    frame = _frame(kind) if kind else "border:1.5px solid transparent"
    upper = "display:block;padding:1px 5px;border-radius:4px 4px 0 0;"
    upper += on_color(value, ENTROPY_LIMITS)
    lower = f"display:block;padding:0 4px;border-radius:0 0 4px 4px;{frame}"
    html = (
        f'<span style="{BOX}"><span style="{upper}">{content.html}{small(number(value))}</span>'
        f'<span style="{lower}">{small(number(gap))}{small(mark or "no")}</span></span>'
    )
    return Html(html, f"{mark}{content.text}({number(value)}; {number(gap)})")


def cut_names() -> str:
    """What the four lines of a `cut_box` are, as a box of the same height; HTML."""
    names = (f"{H_I} [nats]", f"{H_BAR} − {H_I}", "over <i>b</i>?")
    css = f"{BOX};text-align:start;padding:1px 4px 1px 0"
    return f'<span dir="ltr" style="{css}">word{"".join(map(small, names))}</span>'


# Lines and blocks


def lines(sample: TextSample, words: Sequence[Html], running: bool = False) -> Html:
    """The words of each part on a line of their own, after the part's label.

    running: spaces as in running text; otherwise there is one between any two words.
    """
    starts = [first for _, first in sample.parts] + [len(words)]
    html, text = [], []
    for (label, first), end in zip(sample.parts, starts[1:], strict=True):
        gaps = ["" if running and sample.touches(unit) else " " for unit in range(first + 1, end)]
        spaced = list(zip(words[first:end], ["", *gaps], strict=True))
        body = "".join(gap + found.html for found, gap in spaced)
        # Marked left to right, so that the words alone decide which way the line runs.
        name = f'<i dir="ltr" style="{SMALL}">{escape(label)}:</i> ' if label else ""
        html.append(f'<div dir="auto">{name}{body}</div>')
        text.append(_wrapped(f"{label}: " if label else "", spaced))
    return Html("".join(html), "\n".join(text))


def _wrapped(label: str, spaced: Iterable[tuple[Html, str]]) -> str:
    whole = label + "".join(gap + found.text for found, gap in spaced)
    return textwrap.fill(whole, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)


def labelled(label: Html, body: Html, width: float = 8.5, color: str | None = None) -> Html:
    """A row: its label, `width` em, after a bar of `color`, and the words beside or below it."""
    bar = f"border-left:5px solid {color};padding-left:6px;" if color else ""
    left = f'<div style="flex:0 0 {width:g}em;line-height:1.3;{bar}">{label.html}</div>'
    html = (
        '<div style="display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 8px;margin:4px 0">'
        f'{left}<div style="flex:1 1 20em;min-width:0">{body.html}</div></div>'
    )
    head = f"[{', '.join(label.text.splitlines())}]\n" if label.text else ""
    return Html(html, head + textwrap.indent(body.text, "  "))


def block(*rows: Html) -> Html:
    """Rows one below the other, as one piece."""
    html = "".join(f"<div>{row.html}</div>" for row in rows if row.html)
    return Html(html, "\n".join(row.text for row in rows if row.text))


def display(*rows: Html) -> Html:
    """What a function of kpnb.figures.text_maps returns: its rows in one frame of type and line
    height."""
    inside = block(*rows)
    css = "font-size:.95rem;line-height:1.75;text-align:start;overflow-wrap:anywhere"
    return Html(f'<div style="{css}">{inside.html}</div>', inside.text)


def legend(pieces: Iterable[Html]) -> Html:
    """The line that explains a display."""
    found = list(pieces)
    css = "display:inline-block;margin-right:1.2em"
    html = "".join(f'<span style="{css}">{piece.html}</span> ' for piece in found)
    text = "; ".join(piece.text for piece in found)
    return Html(f'<div style="{SMALL};margin-top:5px">{html}</div>', f"({text})")
