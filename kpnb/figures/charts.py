"""Figures of metrics: values by role, over training, over thresholds.

Roles are keyed "T", "S", "B" everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.figures.style import (
    N_BG,
    N_FG,
    ROLES,
    TITLE_SIZE,
    WIDTH,
    Array,
    as_array,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.stats import Estimate

TRAVELLED = r"weight distance $\Sigma_k\, \|w_k - w_{k-1}\|\, /\, \|w_0\|$ [1]"
#: In a row; more would leave no room for the roles' names.
MOST_PANELS = 3
METRIC_LABELS = {
    "n_fg": f"{N_FG} [points]",
    "n_bg": f"{N_BG} [points]",
    "lambda": r"$\lambda$ [1]",
    "d_mean": r"$D_{\mathrm{mean}}$ [1]",
    "d_var": r"$D_{\mathrm{var}}$ [1]",
    "rho": r"$\rho$ [1]",
}


def estimates_figure(estimates: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Metrics (keys of METRIC_LABELS) by role with their 95% intervals, one panel per metric."""
    columns = min(len(estimates), MOST_PANELS)
    rows = -(-len(estimates) // columns)
    size = min(WIDTH, 0.6 + 2.3 * columns), 2.6 * rows + 0.3
    figure, axes = new_figure(rows, columns, size)
    for ax in axes.flat[len(estimates) :]:
        ax.set_visible(False)
    for ax, (metric, by_role) in zip(axes.flat, estimates.items(), strict=False):
        for place, (role, estimate) in enumerate(by_role.items()):
            _interval(ax, place, estimate, ROLES[role].color, ROLES[role].marker)
        ax.set_xticks(range(len(by_role)), [ROLES[role].name for role in by_role])
        ax.set_xlim(-0.5, len(by_role) - 0.5)
        label_axes(ax, "network", METRIC_LABELS.get(metric, metric))
        ax.grid(axis="y", alpha=0.3)
    basis = _basis(e for by_role in estimates.values() for e in by_role.values())
    _note(figure, basis)
    return figure


def learning_figure(curves: Mapping[str, tuple[Array, Array]], mark: bool = True) -> Figure:
    """Fig. 4: N_fg(x) of single samples against the weight distance, one panel per role.

    curves: role -> (distance (epochs,), n_fg (epochs, samples)). Bold: the mean over samples.
    mark: each sample's first maximum, its m-hat of Eq. 8.
    """
    figure, axes = new_figure(1, len(curves), (4.2 * len(curves) + 0.4, 3.6), sharey=True)
    for ax, (role, (distance, n_fg)) in zip(axes[0], curves.items(), strict=True):
        x, y, style = as_array(distance), as_array(n_fg), ROLES[role]
        ax.plot(x, y, color="0.55", linewidth=0.7, alpha=0.7, label="single sample")
        ax.plot(x, y.mean(1), color=style.color, linewidth=2.6, linestyle=style.line,
                label=f"{style.name}, mean")  # fmt: skip
        if mark:
            ax.scatter(x[y.argmax(0)], y.max(0), s=22, marker=style.marker, facecolors="none",
                       edgecolors=style.color, zorder=3,
                       label=rf"{style.name}, at $\hat m$")  # fmt: skip
        ax.set_title(style.name, fontsize=TITLE_SIZE)
        ax.locator_params(axis="x", nbins=6)  # long decimals would run into each other
        label_axes(ax, TRAVELLED, r"$N_{\mathrm{fg}}(x)$ [points]")
        ax.grid(alpha=0.3)
    legend_below(figure, axes.flat, columns=5)
    return figure


def speed_figure(values: Mapping[str, Array]) -> Figure:
    """How the weight distance at m-hat is distributed over samples, with D_mean and D_var (Eq. 8).

    values: role -> (samples,) or (seeds, samples); with seeds, the mean over seeds of D_var.
    """
    told = {
        role: (np.nanmean(v), np.nanvar(v, axis=-1).mean()) for role, v in _arrays(values).items()
    }
    labels = {
        role: rf"$D_{{\mathrm{{mean}}}}$ = {center:.3g}, $D_{{\mathrm{{var}}}}$ = {spread:.3g}"
        for role, (center, spread) in told.items()
    }
    return _distributions(values, labels, TRAVELLED + r" at $\hat m$")


def stability_figure(rho: Mapping[str, Array]) -> Figure:
    """How rho(x) of Eq. 9 is distributed over samples.

    rho: role -> (samples,) or (seeds, samples).
    """
    labels = {
        role: rf"mean $\rho$ = {np.nanmean(values):.3g}" for role, values in _arrays(rho).items()
    }
    figure = _distributions(rho, labels, r"$\rho(x)$ [1]")
    figure.axes[0].set_xlim(-0.03, 1.03)
    return figure


def threshold_figure(
    differences: Mapping[str, Mapping[float, Estimate]], predictions: Mapping[str, str]
) -> Figure:
    """Student minus baseline against the threshold b, with 95% intervals, one panel per metric.

    predictions: metric -> "up" or "down", the side the paper predicts, which is shaded.
    """
    columns = min(3, len(differences))
    rows = -(-len(differences) // columns)
    figure, axes = new_figure(rows, columns, (min(WIDTH, 3 * columns + 0.5), 2.5 * rows + 0.6))
    for ax in axes.flat[len(differences) :]:
        ax.set_visible(False)
    for ax, (metric, by_threshold) in zip(axes.flat, differences.items(), strict=False):
        for threshold, estimate in by_threshold.items():
            _interval(ax, threshold, estimate, "black", "o")
        ax.margins(x=0.15, y=0.15)
        _shade(ax, predictions[metric])
        ax.set_xticks(list(by_threshold))
        label_axes(ax, "threshold b [nats]", f"S − B: {METRIC_LABELS.get(metric, metric)}")
    basis = _basis(e for by_threshold in differences.values() for e in by_threshold.values())
    _note(figure, f"{basis}; shaded: the side the paper predicts")
    return figure


def accuracy_figure(
    accuracies: Mapping[str, Mapping[str, Sequence[float]]],
    lines: Mapping[str, float],
    score: str = "accuracy",
) -> Figure:
    """Score of each role on its training and test samples, one mark per seed.

    accuracies: role -> {"train": by seed, "test": by seed}, shares in [0, 1]; lines: name ->
    share, what to hold them against, such as chance; score: what is shown.
    """
    figure, axes = new_figure(1, 1, (5.0, 3.2))
    ax = axes[0, 0]
    splits = {"train": (-0.12, False), "test": (0.12, True)}
    for place, (role, by_split) in enumerate(accuracies.items()):
        for split, (shift, filled) in splits.items():
            values, color = 100 * np.asarray(by_split[split]), ROLES[role].color
            ax.scatter(np.full(len(values), place + shift), values, s=45, edgecolors=color,
                       facecolors=color if filled else "none",
                       marker=ROLES[role].marker, clip_on=False)  # fmt: skip
    for split, (_, filled) in splits.items():
        ax.scatter([], [], edgecolors="black", facecolors="black" if filled else "none",
                   label=f"{split} samples")  # fmt: skip
    for (name, share), dashes in zip(lines.items(), (":", "--", "-."), strict=False):
        ax.axhline(100 * share, color="black", linestyle=dashes, linewidth=1, label=name)
    ax.set_xticks(range(len(accuracies)), [ROLES[role].name for role in accuracies])
    ax.set_xlim(-0.5, len(accuracies) - 0.5)
    ax.set_ylim(0, 103)
    label_axes(ax, "network", f"{score} [%]")
    ax.grid(axis="y", alpha=0.3)
    legend_below(figure, [ax], columns=3 if len(lines) < 2 else 2)
    return figure


def _note(figure: Figure, text: str) -> None:
    """A remark under the panels, broken where the figure is narrow."""
    figure.supxlabel(fill(text, int(13 * figure.get_figwidth())), fontsize=8.5)


def _arrays(values: Mapping[str, Array]) -> dict[str, np.ndarray]:
    arrays = {role: as_array(part).astype(float) for role, part in values.items()}
    for role, array in arrays.items():
        if not np.isfinite(array).any():
            raise KpnbError(
                f"the {ROLES[role].name} has no defined value; check its maps' `defined`."
            )
    return arrays


def _interval(ax: Axes, x: float, estimate: Estimate, color: str, marker: str) -> None:
    """A value with its interval; a percentile interval need not hold the value, so two draws."""
    ax.vlines(x, estimate.low, estimate.high, color=color, linewidth=1.6)
    ax.plot(x, estimate.value, color=color, marker=marker, markersize=7)


def _basis(estimates: Iterable[Estimate]) -> str:
    """What the intervals of a figure rest on."""
    used = list(estimates)
    parts = []
    for name in ("samples", "seeds"):
        counts = sorted({getattr(estimate, f"n_{name}") for estimate in used})
        noun = name if counts != [1] else name[:-1]
        parts.append(f"{'–'.join(str(c) for c in sorted({counts[0], counts[-1]}))} {noun}")
    return f"95% intervals over {parts[0]}, {parts[1]}"


def _distributions(values: Mapping[str, Array], labels: Mapping[str, str], x: str) -> Figure:
    """Shares of samples at or below each value, a step curve per role; a mark at its mean."""
    figure, axes = new_figure(1, 1, (5.6, 3.5))
    ax = axes[0, 0]
    for role, array in _arrays(values).items():
        found, style = array[np.isfinite(array)], ROLES[role]
        ax.ecdf(found, color=style.color, linestyle=style.line, linewidth=2, label=style.name)
    for role, array in _arrays(values).items():
        style = ROLES[role]
        ax.plot(np.nanmean(array), 0.03, color=style.color, marker=style.marker, markersize=8,
                markeredgecolor="black", linestyle="none", label=labels[role])  # fmt: skip
    ax.locator_params(axis="x", nbins=6)
    label_axes(ax, x, "share of samples at or below [1]")
    ax.set_ylim(0, 1.03)
    ax.grid(alpha=0.3)
    legend_below(figure, [ax], columns=2)
    return figure


def _shade(ax: Axes, prediction: str) -> None:
    low, high = ax.get_ylim()
    room = 0.2 * max(high, -low)  # so that the other side of zero is seen too
    low, high = min(low, -room), max(high, room)
    side = (0, high) if prediction == "up" else (low, 0)
    ax.axhspan(*side, facecolor="0.9", edgecolor="0.7", hatch="..", linewidth=0, zorder=0)
    ax.axhline(0, color="black", linewidth=1)
    ax.set_ylim(low, high)
