"""Figure 1(b): magnitudes by layer, original and rescaled; scores; maps of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.loss import entropy_of
from kpnb.experiments.coherency import ENTROPY, KINDS, VARIANCE, Coherency, magnitudes
from kpnb.experiments.coherency_report import KIND_NAMES, TITLES
from kpnb.figures.image import draw_entropy, draw_picture
from kpnb.figures.panel import entropy_bar
from kpnb.figures.style import (
    LABEL_SIZE,
    TITLE_SIZE,
    WIDTH,
    Array,
    as_array,
    legend_below,
    new_figure,
)
from kpnb.metrics.stats import Estimate, bootstrap

# color, marker, line: blue and vermilion of Okabe and Ito, as everywhere
STYLES = {"original": ("#0072B2", "o", "-"), "rescaled": ("#D55E00", "s", "--")}
KIND_STYLES = {"layer": ("#0072B2", "o", True), "channel": ("#D55E00", "s", False)}
MAP_COLORS = "magma"
LEAST_DECADES = 1.5


def magnitudes_figure(found: Coherency) -> Figure:
    """Figure 1(b): mean |map| by layer with 95% intervals over images, a panel per method.

    All panels span as many decades.
    """
    methods = [m for m in found.methods if len(found.layers(m)) > 1]
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    figure, axes = new_figure(rows, columns, (WIDTH, 2.1 * rows + 0.6))
    for ax in axes.flat[len(methods) :]:
        ax.set_visible(False)
    for ax, method in zip(axes.flat, methods, strict=False):
        ax.set_yscale("log")
        for name, runs in (("original", found.before), ("rescaled", found.after)):
            _magnitude_line(ax, [maps[method] for maps in runs], name)
        ax.set_title(TITLES[method], fontsize=TITLE_SIZE)
        ax.set_xlabel("convolution", fontsize=LABEL_SIZE)
        ax.grid(alpha=0.3)
    _same_span(axes.flat[: len(methods)])
    figure.supylabel("m, mean |value| of the map [the method's own unit]", fontsize=LABEL_SIZE)
    legend_below(figure, axes.flat)
    return figure


def scores_figure(found: Mapping[str, Coherency]) -> Figure:
    """The score of each method: change of magnitude and of shape, by kind of rescaling."""
    methods = found["layer"].methods[::-1]
    figure, axes = new_figure(1, 2, (WIDTH, 0.28 * len(methods) + 1.3), sharey=True)
    measured = (
        ("change of magnitude $|\\log(m'/m)|$ [nats]", Coherency.magnitude_change),
        ("change of shape, over that to a flat map [1]", Coherency.shape_change),
    )
    for ax, (label, score) in zip(axes[0], measured, strict=True):
        for kind in KINDS:
            shapeless = [VARIANCE] if score is Coherency.shape_change else []
            rows = {row: m for row, m in enumerate(methods) if m not in shapeless}
            _dots(ax, {row: score(found[kind], m) for row, m in rows.items()}, kind)
        ax.set_yticks(range(len(methods)), [TITLES[m] for m in methods])
        ax.axvline(0, color="black", linewidth=1)
        ax.set_xlabel(label, fontsize=LABEL_SIZE)
        ax.grid(axis="x", alpha=0.3)
    axes[0, 0].set_ylabel("method", fontsize=LABEL_SIZE)
    legend_below(figure, axes.flat)
    return figure


def maps_figure(
    found: Coherency, picture: Array, index: int, methods: Sequence[str] = ("gradient", "grad_cam")
) -> Figure:
    """One image's maps at every layer, original above rescaled: some methods, then the entropy.

    Every method has one scale for all of its panels, from 0 to its largest value; the entropy has
    the scale of all the book's maps. index: the image among those measured, first seed.
    """
    chosen = [m for m in methods if m in found.methods] + [ENTROPY]
    if any(len(found.layers(m)) < 2 for m in chosen):
        raise KpnbError("these maps are drawn by layer; choose methods with a map per layer.")
    layers = found.layers(ENTROPY)
    columns, panel = len(layers) + 1, 1.2
    size = (WIDTH, 2 * len(chosen) * panel + 0.6)
    figure, axes = new_figure(2 * len(chosen), columns, size, "compressed")
    for row, method in enumerate(chosen):
        for part, maps in enumerate((found.before[0], found.after[0])):
            line = axes[2 * row + part]
            _label_row(line[0], picture, f"{TITLES[method]},\n{list(STYLES)[part]}")
            parts = [maps[method][layer][index] for layer in layers]
            _draw_maps(line[1:], parts, method, _largest(found, method, index))
    for ax, layer in zip(axes[0, 1:], layers, strict=True):
        ax.set_title(layer, fontsize=TITLE_SIZE)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    entropy_bar(figure, axes[-2:, 1:].flat)
    return figure


def _magnitude_line(ax: Axes, runs: Sequence[Mapping[str, Tensor]], name: str) -> None:
    table = np.stack([magnitudes(maps) for maps in runs])  # (seeds, images, layers)
    points = [bootstrap(table[:, :, layer]) for layer in range(table.shape[2])]
    color, marker, line = STYLES[name]
    x = np.arange(1, len(points) + 1)
    ax.plot(x, [p.value for p in points], color=color, marker=marker, linestyle=line,
            markersize=5, markerfacecolor="none" if name == "rescaled" else color,
            label=name)  # fmt: skip
    ax.vlines(x, [p.low for p in points], [p.high for p in points], color=color, linewidth=1.2)
    ax.set_xticks(x)


def _same_span(axes: Sequence[Axes]) -> None:
    """As many decades in every panel: a method's change looks as large as it is."""
    ends = [np.log10(ax.get_ylim()) for ax in axes]
    half = max(LEAST_DECADES, *(high - low for low, high in ends)) / 2
    for ax, (low, high) in zip(axes, ends, strict=True):
        ax.set_ylim(10 ** ((low + high) / 2 - half), 10 ** ((low + high) / 2 + half))
        ax.yaxis.set_minor_formatter(NullFormatter())


def _dots(ax: Axes, scores: Mapping[int, Estimate], kind: str) -> None:
    """scores: row -> score."""
    color, marker, filled = KIND_STYLES[kind]
    y = np.array(list(scores)) + (0.16 if kind == "layer" else -0.16)
    found = list(scores.values())
    ax.hlines(y, [s.low for s in found], [s.high for s in found], color=color, linewidth=1.6)
    ax.plot([s.value for s in found], y, color=color, marker=marker, linestyle="none",
            markersize=6, markerfacecolor=color if filled else "none",
            label=KIND_NAMES[kind])  # fmt: skip


def _largest(found: Coherency, method: str, index: int) -> float:
    runs = (found.before[0], found.after[0])
    return max(float(part[index].abs().max()) for maps in runs for part in maps[method].values())


def _draw_maps(axes: Sequence[Axes], maps: Sequence[Tensor], method: str, largest: float) -> None:
    for ax, values in zip(axes, maps, strict=True):
        if method == ENTROPY:
            draw_entropy(ax, entropy_of(values))
        else:
            shown = np.abs(as_array(values))
            ax.imshow(shown, cmap=MAP_COLORS, vmin=0, vmax=largest, interpolation="nearest")


def _label_row(ax: Axes, picture: Array, label: str) -> None:
    draw_picture(ax, picture, 1)
    ax.set_ylabel(label, fontsize=7.5)
