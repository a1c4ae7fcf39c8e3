"""Figure 2 and its company: lambda against accuracy, and both against the epoch.

Epochs are told by a color scale of even lightness (cividis) and by the line that joins the
checkpoints in order; the untrained and the last one are named.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from kpnb.experiments.ratio_accuracy import SPLITS, RatioAccuracy
from kpnb.figures.style import LABEL_SIZE, ROLES, TITLE_SIZE, label_axes, legend_below, new_figure
from kpnb.metrics.stats import Estimate, share_interval

RATIO_LABEL = r"$\lambda$ [1]"
EPOCH_COLORS = "cividis"
SPLIT_NAMES = {"test": "unseen samples", "train": "training samples"}
SPLIT_LINES = {"test": "-", "train": "--"}
SEED_MARKERS = "os^Dv"


def training_figure(curve: RatioAccuracy) -> Figure:
    """Figure 2: lambda against accuracy at a student's checkpoints, a panel for each split and
    seed; bars are 95% intervals, of lambda over measured samples, of accuracy over test samples."""
    splits, seeds = ("test", "train"), curve.seeds
    rows, columns = (2, len(seeds)) if len(seeds) > 1 else (1, 2)
    size = (0.9 + 2.9 * columns, 0.4 + 2.8 * rows)
    shared = "row" if rows > 1 else False  # rows are splits, and seeds of a split compare
    figure, axes = new_figure(rows, columns, size, sharex=True, sharey=shared)
    norm = PowerNorm(0.5, vmin=curve.places[0], vmax=curve.places[-1])
    panels = [(split, row) for split in splits for row in range(len(seeds))]
    for ax, (split, row) in zip(axes.flat, panels, strict=True):
        _checkpoints(ax, curve, split, row, norm)
        where = f", seed {seeds[row]}" if len(seeds) > 1 else ""
        ax.set_title(f"{curve.layer}, {SPLIT_NAMES[split]}{where}", fontsize=TITLE_SIZE)
        label_axes(ax, RATIO_LABEL, "accuracy [%]")
    bar = figure.colorbar(ScalarMappable(norm, EPOCH_COLORS), ax=list(axes.flat), pad=0.02)
    bar.set_label("epoch of distillation", fontsize=LABEL_SIZE)
    return figure


def _checkpoints(ax: Axes, curve: RatioAccuracy, split: str, row: int, norm: PowerNorm) -> None:
    """One seed's checkpoints, joined in order of epoch."""
    share, ratios = curve.accuracy[split][row], curve.ratio_estimates(row)
    x, y = [ratio.value for ratio in ratios], 100 * share
    ax.plot(x, y, color="0.6", linewidth=0.9, zorder=1)
    for ratio, part in zip(ratios, share, strict=True):
        tested = curve.tested if split == "test" else None
        _bars(ax, ratio, part, tested, "0.75", linewidth=0.8)
    ax.scatter(x, y, c=curve.places, cmap=EPOCH_COLORS, norm=norm, s=32, edgecolors="black",
               linewidths=0.6, zorder=3)  # fmt: skip
    for place in (0, -1):
        ax.annotate(f"{curve.places[place]}", (x[place], y[place]), (5, 5), fontsize=8.5,
                    textcoords="offset points", zorder=4)  # fmt: skip
    ax.margins(y=0.12)  # room for the last checkpoint's name
    ax.grid(alpha=0.3)


def _bars(
    ax: Axes, ratio: Estimate, share: float, tested: int | None, color: str, linewidth: float
) -> None:
    """95% intervals: of lambda, and of an accuracy on `tested` samples (None: none is drawn)."""
    style = {"color": color, "linewidth": linewidth, "zorder": 0}
    ax.hlines(100 * share, ratio.low, ratio.high, **style)
    if tested is not None:
        low, high = share_interval(share, tested)
        ax.vlines(ratio.value, 100 * low, 100 * high, **style)


def epochs_figure(curve: RatioAccuracy) -> Figure:
    """lambda (left, with 95% intervals over samples) and accuracy (right) against the epoch of
    distillation, a curve for each seed: what both have in common by growing with training."""
    figure, axes = new_figure(1, 2, (8.4, 3.4))
    left, right = axes[0]
    colors = plt.colormaps["viridis"](np.linspace(0.1, 0.75, len(curve.seeds)))
    for row, (seed, color) in enumerate(zip(curve.seeds, colors, strict=True)):
        mark = {"color": color, "marker": SEED_MARKERS[row % len(SEED_MARKERS)], "markersize": 4}
        ratios = curve.ratio_estimates(row)
        left.vlines(curve.places, [r.low for r in ratios], [r.high for r in ratios],
                    color=color, linewidth=0.9, alpha=0.6)  # fmt: skip
        left.plot(curve.places, [r.value for r in ratios], label=f"seed {seed}", **mark)
        for split in SPLITS:
            shown = 100 * curve.accuracy[split][row]
            right.plot(curve.places, shown, linestyle=SPLIT_LINES[split], **mark)
    for split in SPLITS:
        right.plot([], [], color="black", linestyle=SPLIT_LINES[split], label=SPLIT_NAMES[split])
    label_axes(left, f"epoch of distillation at {curve.layer}", RATIO_LABEL)
    label_axes(right, f"epoch of distillation at {curve.layer}", "accuracy [%]")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    legend_below(figure, [left, right], columns=5)
    return figure


def networks_figure(by_layer: Mapping[str, RatioAccuracy]) -> Figure:
    """lambda against accuracy on unseen samples after training, a mark for each seed of teacher,
    student and baseline, a panel for each layer; bars are 95% intervals as in Figure 2."""
    figure, axes = new_figure(1, len(by_layer), (0.6 + 3.1 * len(by_layer), 3.3), sharey=True)
    for ax, (layer, networks) in zip(axes[0], by_layer.items(), strict=True):
        for row in range(len(networks.seeds)):
            _networks(ax, networks, row)
        ax.set_title(layer, fontsize=TITLE_SIZE)
        label_axes(ax, RATIO_LABEL, "accuracy on unseen samples [%]")
        ax.grid(alpha=0.3)
    legend_below(figure, axes.flat, columns=3)
    return figure


def _networks(ax: Axes, networks: RatioAccuracy, row: int) -> None:
    """The networks of the row-th seed."""
    shares = networks.accuracy["test"][row]
    for role, ratio, share in zip(
        networks.places, networks.ratio_estimates(row), shares, strict=True
    ):
        style = ROLES[role]
        _bars(ax, ratio, share, networks.tested, style.color, linewidth=1.1)
        ax.scatter(ratio.value, 100 * share, s=45, color=style.color, marker=style.marker,
                   edgecolors="black", linewidths=0.6, zorder=3, label=style.name)  # fmt: skip
