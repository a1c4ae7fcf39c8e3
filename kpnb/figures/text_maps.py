"""The paper's figures of single texts: entropy and knowledge points shown on the words.

What kpnb.figures.paper is for images. Everything returns an `Html`: colored words in a notebook or
a page
of the book, the same content in plain text elsewhere. Values come in tensors over units, which may
be wider than a text: beyond its last word they hold NaN or False. A word without an entropy takes
no part and is shown plain. Roles are keyed "T", "S", "B".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

import numpy as np
from torch import Tensor

from kpnb.datasets.texts.words import TextSample, joined_words
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.image import ENTROPY_LIMITS, FATES, POINTS, PointStyle
from kpnb.figures.style import ROLES, as_array
from kpnb.figures.text_marks import (
    H_BAR,
    H_I,
    Html,
    block,
    colored,
    cut_box,
    cut_names,
    display,
    labelled,
    legend,
    lines,
    marked,
    muted,
    number,
    on_color,
    plain,
    word,
)
from kpnb.figures.text_samples import own_entropies, own_points, place_of
from kpnb.metrics.points import KnowledgePoints

__all__ = [
    "Html",
    "TextSample",
    "definition_text",
    "entropy_text",
    "joined_words",
    "layers_text",
    "point_sets_text",
    "role_points_text",
    "sample_text",
]

FOREGROUND = Html('<b style="text-decoration:underline 2px">word</b> foreground', "*foreground*")
NO_PART = plain("words without a value take no part")
SWATCHES = 5


def sample_text(samples: Sequence[TextSample], count: int = 8) -> Html:
    """The first `count` texts in running type, foreground bold and underlined, and their notes.

    Raises KpnbError for a count below 1 and for no texts at all.
    """
    if count < 1 or len(samples) == 0:
        raise KpnbError(f"{len(samples)} texts, count={count}: nothing to show; ask for 1 or more.")
    rows = [labelled(muted(plain(s.note)), _running(s)) for s in samples[:count]]
    return display(*rows, legend([FOREGROUND]))


def entropy_text(
    sample: TextSample, entropy: Tensor, scale: tuple[float, float] | None = None
) -> Html:
    """One text, each word in the color of its entropy, which is written under it.

    entropy: (units,) in nats. scale: the lowest and highest entropy that the colors tell apart;
    the limits of the image maps by default, so that a color means one entropy in all the book.
    Raises KpnbError for fewer values than words, values beyond the words, and an empty scale.
    """
    scale, values = _scale(scale), own_entropies(sample, entropy)
    return display(_entropy_words(sample, values, scale), _entropy_legend([values], scale))


def layers_text(
    sample: TextSample,
    maps_by_layer: Mapping[str, EntropyMaps],
    index: int = 0,
    scale: tuple[float, float] | None = None,
) -> Html:
    """Fig. 1(a): one text and its entropies at layer after layer, on the fixed scale.

    index: the text's place in the maps; scale and errors as in `entropy_text`.
    """
    if not maps_by_layer:
        raise KpnbError("there are no maps to show; pass those of one layer or more.")
    scale, width = _scale(scale), min(9, 1 + 0.55 * max(map(len, maps_by_layer)))
    values = {
        layer: own_entropies(sample, maps.entropy[place_of(index, len(maps))])
        for layer, maps in maps_by_layer.items()
    }
    rows = [
        labelled(plain(layer), _entropy_words(sample, found, scale), width)
        for layer, found in values.items()
    ]
    return display(*rows, _entropy_legend([*values.values()], scale))


def definition_text(sample: TextSample, points: KnowledgePoints, index: int = 0) -> Html:
    """Fig. 3: under each word its entropy H_i, H_bar - H_i, and whether that exceeds b.

    index: the text's place in the points. Raises KpnbError for points of another text.
    """
    points = own_points(sample, points, index)
    values = points.entropy[0].tolist()
    gaps = (points.baseline[0] - points.entropy[0]).tolist()
    found = zip(values, gaps, _kinds(points), strict=True)
    words = [cut_box(word(sample, unit), *cut) for unit, cut in enumerate(found)]
    words[0] = Html(f"{cut_names()} {words[0].html}", words[0].text)
    marks = legend([_counts(points), *_level(points), *_mark_legend(POINTS.values())])
    return display(lines(sample, words), marks, _entropy_legend([values], ENTROPY_LIMITS))


def role_points_text(
    samples: Sequence[TextSample],
    points_by_role: Mapping[str, KnowledgePoints],
    rows: Iterable[int],
) -> Html:
    """Fig. 6: the knowledge points of each role on the same texts, one line per role.

    samples: of all texts that the points are of; rows: the indices of those shown.
    Raises KpnbError for no points, for points of other texts and for texts that do not exist.
    """
    if not points_by_role:
        raise KpnbError("there are no points to show; pass those of one role or more.")
    blocks = [_role_lines(samples[place_of(i, len(samples))], points_by_role, i) for i in rows]
    return display(*blocks, legend([*_mark_legend(POINTS.values()), FOREGROUND]))


def point_sets_text(
    sample: TextSample,
    points_by_epoch: Mapping[int, KnowledgePoints],
    index: int = 0,
    shown: Sequence[int] | None = None,
) -> Html:
    """Fig. 5: one text's foreground points at the epochs `shown` (all): detours on the way.

    At each epoch: points held now that are in the last epoch's set, points held now that are not,
    and points of earlier epochs held no more. Earlier ones are looked for in all of
    points_by_epoch. Raises KpnbError for unknown epochs and points of another text.
    """
    unknown = set(shown or ()) - set(points_by_epoch)
    if unknown or not points_by_epoch:
        raise KpnbError(
            f"epochs {sorted(unknown)} have no points; show some of {[*points_by_epoch]}."
        )
    sets = {e: own_points(sample, points_by_epoch[e], index) for e in sorted(points_by_epoch)}
    held = {e: as_array(points.foreground_points[0]) for e, points in sets.items()}
    rows = [
        labelled(
            block(plain(f"epoch {epoch}"), muted(_counts(sets[epoch], background=False))),
            _running(sample, _fates(held, epoch)),
            5.5,
        )
        for epoch in sorted(shown or sets)
    ]
    return display(*rows, legend([*_mark_legend(FATES), FOREGROUND]))


# Rows of words


def _running(sample: TextSample, kinds: Sequence[PointStyle | None] | None = None) -> Html:
    """The text in running type, the words of each kind marked."""
    kinds = kinds or [None] * len(sample.units)
    words = [word(sample, unit) for unit in range(len(sample.units))]
    found = [marked(w, kind) if kind else w for w, kind in zip(words, kinds, strict=True)]
    return lines(sample, found, running=True)


def _entropy_words(sample: TextSample, values: list[float], scale: tuple[float, float]) -> Html:
    boxes = [colored(word(sample, unit), value, scale) for unit, value in enumerate(values)]
    return lines(sample, boxes)


def _level(points: KnowledgePoints) -> list[Html]:
    """H_bar and b of one text's points, if it has any."""
    if not points.defined[0]:
        return []
    level, cut = number(float(points.baseline[0])), f"{points.threshold:g} nats"
    text = f"after each word H_i, H_bar − H_i; H_bar = {level}, b = {cut}"
    return [Html(f"{H_BAR} = {level}, <i>b</i> = {cut}", text)]


def _role_lines(
    sample: TextSample, points_by_role: Mapping[str, KnowledgePoints], index: int
) -> Html:
    rows = [muted(plain(sample.note))] if sample.note else []
    for role, points in points_by_role.items():
        points, look = own_points(sample, points, index), ROLES[role]
        label = block(plain(look.name), muted(_counts(points)))
        rows.append(labelled(label, _running(sample, _kinds(points)), color=look.color))
    return Html(f'<div style="margin-bottom:10px">{block(*rows).html}</div>', block(*rows).text)


# Kinds of words


def _kinds(points: KnowledgePoints) -> list[PointStyle | None]:
    """How each word of one text is marked."""
    inside, outside = points.foreground_points[0], points.background_points[0]
    names = np.select([as_array(inside), as_array(outside)], ["foreground", "background"], "")
    return [POINTS.get(str(name)) for name in names]


def _fates(held: Mapping[int, np.ndarray], epoch: int) -> list[PointStyle | None]:
    """Which of the three fates of Fig. 5 each word has at `epoch`, if any."""
    now, final = held[epoch], held[max(held)]
    tried = np.any([points for earlier, points in held.items() if earlier <= epoch], axis=0)
    sets = zip((now & final, now & ~final, tried & ~now), FATES, strict=True)
    fates: list[PointStyle | None] = [None] * len(now)
    for words, style in sets:
        fates = [style if chosen else fate for chosen, fate in zip(words, fates, strict=True)]
    return fates


def _counts(points: KnowledgePoints, background: bool = True) -> Html:
    if not points.defined[0]:
        return plain("no map defined")
    counts = {"fg": int(points.n_fg[0])} | ({"bg": int(points.n_bg[0])} if background else {})
    html = ", ".join(f"<i>N</i><sub>{name}</sub> = {n}" for name, n in counts.items())
    return Html(html, ", ".join(f"N_{name} = {n}" for name, n in counts.items()))


# Legends


def _mark_legend(styles: Iterable[PointStyle]) -> list[Html]:
    return [marked(plain(style.name), style) for style in styles]


def _entropy_legend(values: Sequence[list[float]], scale: tuple[float, float]) -> Html:
    """The scale as swatches; what lies outside it; what foreground and plain words look like."""
    ticks = np.linspace(*scale, SWATCHES).tolist()
    swatches = "".join(_swatch(tick, scale) for tick in ticks)
    text = f"H_i [nats] colored from {number(scale[0])} to {number(scale[1])}"
    pieces = [Html(f"{H_I} [nats] {swatches}", text), FOREGROUND]
    every = [value for row in values for value in row]
    live = [value for value in every if isfinite(value)]
    # As written, so that rounding in the tensor puts nothing outside.
    outside = [value for value in live if not scale[0] <= round(value, 2) <= scale[1]]
    if outside:
        span = f"{number(min(outside))} to {number(max(outside))}"
        pieces.append(plain(f"outside the scale, in the color of its end: {len(outside)} ({span})"))
    if len(live) < len(every):
        pieces.append(NO_PART)
    return legend(pieces)


def _swatch(value: float, scale: tuple[float, float]) -> str:
    css = f"display:inline-block;padding:0 6px;{on_color(value, scale)}"
    return f'<span style="{css}">{number(value)}</span>'


def _scale(scale: tuple[float, float] | None) -> tuple[float, float]:
    low, high = scale or ENTROPY_LIMITS
    if not low < high:
        raise KpnbError(f"scale=({low}, {high}) is empty; give a lower and a higher entropy.")
    return low, high
