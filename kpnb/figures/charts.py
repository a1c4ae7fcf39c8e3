"""Figures of metrics: values by role, over training, over thresholds.

Roles are keyed "T", "S", "B" everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.figures.style import LABEL_SIZE, ROLES, Array, as_array, row_of_panels
from kpnb.metrics.stats import Estimate
from kpnb.paper import METRIC_RULES, PREDICTIONS

TRAVELLED = r"weight distance $\Sigma_k\, \|w_k - w_{k-1}\|\, /\, \|w_0\|$ [1]"
#: In a row; more would leave no room for the roles' names.
MOST_PANELS = 3


def estimates_figure(estimates: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Metrics by role with their 95% intervals, one panel per metric."""

    def draw(ax: Axes, metric: str) -> None:
        for place, (role, estimate) in enumerate(estimates[metric].items()):
            _interval(ax, place, estimate, ROLES[role].color, ROLES[role].marker)
        _name_roles(ax, estimates[metric])

    return _by_metric(estimates, draw, "network", "", (2.3, 2.8), "")


def threshold_figure(differences: Mapping[str, Mapping[float, Estimate]]) -> Figure:
    """Student minus baseline against the threshold b, with 95% intervals, one panel per metric; the
    side that the paper predicts is shaded."""

    def draw(ax: Axes, metric: str) -> None:
        for threshold, estimate in differences[metric].items():
            _interval(ax, threshold, estimate, "black", "o")
        ax.margins(x=0.15, y=0.15)
        low, high = ax.get_ylim()
        room = 0.2 * max(high, -low)  # so that the other side of zero is seen too
        low, high = min(low, -room), max(high, room)
        side = (0, high) if PREDICTIONS[metric] == "up" else (low, 0)
        ax.axhspan(*side, facecolor="0.9", edgecolor="0.7", hatch="..", linewidth=0, zorder=0)
        ax.axhline(0, color="black", linewidth=1)
        ax.set_ylim(low, high)
        ax.set_xticks(list(differences[metric]))
        ax.grid(visible=False)

    shaded = "; shaded: the side the paper predicts"
    return _by_metric(differences, draw, "threshold b [nats]", "S − B: ", (2.9, 2.9), shaded)


def speed_figure(values: Mapping[str, Array]) -> Figure:
    """How the weight distance at m-hat is distributed over samples, with D_mean and D_var (Eq. 8).

    values: role -> (samples,) or (seeds, samples); with seeds, the mean over seeds of D_var.
    """

    def told(v: np.ndarray) -> str:
        center, spread = np.nanmean(v), np.nanvar(v, axis=-1).mean()
        return rf"$D_{{\mathrm{{mean}}}}$ = {center:.3g}, $D_{{\mathrm{{var}}}}$ = {spread:.3g}"

    return _distributions(values, told, TRAVELLED + r" at $\hat m$")


def stability_figure(rho: Mapping[str, Array]) -> Figure:
    """How rho(x) of Eq. 9 is distributed over samples.

    rho: role -> (samples,) or (seeds, samples).
    """
    figure = _distributions(rho, lambda v: rf"mean $\rho$ = {np.nanmean(v):.3g}", r"$\rho(x)$ [1]")
    figure.axes[0].set_xlim(-0.03, 1.03)
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

    def draw(ax: Axes, _part: object) -> None:
        for split, shift, filled in (("train", -0.12, False), ("test", 0.12, True)):
            for place, (role, by_split) in enumerate(accuracies.items()):
                values, color = 100 * np.asarray(by_split[split]), ROLES[role].color
                ax.scatter(np.full(len(values), place + shift), values, s=45, edgecolors=color,
                           facecolors=color if filled else "none",
                           marker=ROLES[role].marker, clip_on=False)  # fmt: skip
            ax.scatter([], [], edgecolors="black", facecolors="black" if filled else "none",
                       label=f"{split} samples")  # fmt: skip
        for (name, share), dashes in zip(lines.items(), (":", "--", "-."), strict=False):
            ax.axhline(100 * share, color="black", linestyle=dashes, linewidth=1, label=name)
        _name_roles(ax, accuracies)
        ax.set_ylim(0, 103)

    columns = 3 if len(lines) < 2 else 2
    return row_of_panels({"": None}, draw, "network", f"{score} [%]", (4.5, 3.2), columns)


def _by_metric(
    estimates: Mapping[str, Mapping[object, Estimate]],
    draw: Callable[[Axes, str], None],
    x: str,
    before: str,
    size: tuple[float, float],
    remark: str,
) -> Figure:
    """A panel per metric, its name after `before` at the upward axis; below them, broken where the
    figure is narrow, what their intervals rest on and the remark."""

    def named(ax: Axes, metric: str) -> None:
        draw(ax, metric)
        ax.set_title("")
        label = METRIC_RULES[metric].label if metric in METRIC_RULES else metric
        ax.set_ylabel(before + label, fontsize=LABEL_SIZE)

    figure = row_of_panels({m: m for m in estimates}, named, x, "", size, most=MOST_PANELS)
    text = _basis([e for panel in estimates.values() for e in panel.values()]) + remark
    figure.supxlabel(fill(text, int(13 * figure.get_figwidth())), fontsize=8.5)
    return figure


def _basis(estimates: Sequence[Estimate]) -> str:
    """What the intervals of a figure rest on; a single seed has none."""
    parts = []
    for noun in ("sample", "seed"):
        counts = {getattr(estimate, f"n_{noun}s") for estimate in estimates}
        ends = "–".join(map(str, sorted({min(counts), max(counts)})))
        parts.append(f"{ends} {noun}" + "s" * (counts != {1}))
    if all(np.isnan(estimate.low) for estimate in estimates):
        return f"one seed: no interval; {parts[0]}"
    return f"95% intervals over {', '.join(parts)}"


def _name_roles(ax: Axes, roles: Mapping[str, object]) -> None:
    ax.set_xticks(range(len(roles)), [ROLES[role].name for role in roles])
    ax.set_xlim(-0.5, len(roles) - 0.5)
    ax.grid(visible=False, axis="x")


def _interval(ax: Axes, x: float, estimate: Estimate, color: str, marker: str) -> None:
    """A value with its interval; a percentile interval need not hold the value, so two draws."""
    ax.vlines(x, estimate.low, estimate.high, color=color, linewidth=1.6)
    ax.plot(x, estimate.value, color=color, marker=marker, markersize=7)


def _distributions(
    values: Mapping[str, Array], told: Callable[[np.ndarray], str], x: str
) -> Figure:
    """Shares of samples at or below each value, a step curve per role; a mark at its mean.

    told: what the legend says of a role's values. Raises KpnbError for a role without any.
    """
    arrays = {ROLES[role]: as_array(found).astype(float) for role, found in values.items()}
    for style, array in arrays.items():
        if not np.isfinite(array).any():
            raise KpnbError(f"the {style.name} has no defined value; check its maps' `defined`.")

    def draw(ax: Axes, _part: object) -> None:
        for style, array in arrays.items():
            found = array[np.isfinite(array)]
            ax.ecdf(found, color=style.color, linestyle=style.line, linewidth=2, label=style.name)
        for style, array in arrays.items():
            ax.plot(np.nanmean(array), 0.03, color=style.color, marker=style.marker, markersize=8,
                    markeredgecolor="black", linestyle="none", label=told(array))  # fmt: skip
        ax.locator_params(axis="x", nbins=6)
        ax.set_ylim(0, 1.03)

    label = "share of samples at or below [1]"
    return row_of_panels({"": None}, draw, x, label, (5.1, 3.5), columns=2)
