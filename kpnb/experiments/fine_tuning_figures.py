"""Figures of fine-tuning against training from scratch: Figure 7 and what goes with it.

Evidence has the fine-tuned network in role S, the one from scratch in role B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kpnb.experiments.fine_tuning_numbers import NAMES, QUANTITIES, own_value
from kpnb.figures.paper import SampleSet, fates_figure
from kpnb.figures.style import N_FG, ROLES, TITLE_SIZE, WIDTH, label_axes, legend_below, new_figure
from kpnb.metrics.evidence import Evidence, trajectory_points
from kpnb.metrics.points import KnowledgePoints
from kpnb.metrics.stats import Estimate, bootstrap

STYLES = {"S": ROLES["F"], "B": replace(ROLES["B"], name=NAMES["B"])}
COUNTED = {"ever": "ever learned", "n_fg": "held in the end", "discarded": "discarded"}


def curves_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """Fig. 7: mean N_fg over training, a panel per layer; bands are 95% intervals over images and
    seeds at each checkpoint. Epoch 0 is the start: pre-trained or random convolutions."""
    figure, axes = _layer_panels(evidence)
    for ax, (layer, found) in zip(axes[0], evidence.items(), strict=True):
        for role, style in STYLES.items():
            estimates = counts_by_epoch(found, role, threshold)
            low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
            ax.fill_between(found.epochs, low, high, color=style.color, alpha=0.2, linewidth=0)
            ax.plot(found.epochs, [e.value for e in estimates], color=style.color,
                    linestyle=style.line, marker=style.marker, markersize=4,
                    label=f"{style.name}, mean with 95% interval")  # fmt: skip
        ax.set_title(layer, fontsize=TITLE_SIZE)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_axes(ax, "epoch", f"{N_FG} [points]")
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylim(bottom=0)  # shared, so after all panels are drawn
    legend_below(figure, axes.flat, columns=2)
    return figure


def counts_by_epoch(evidence: Evidence, role: str, threshold: float) -> list[Estimate]:
    """Mean N_fg with its interval at every checkpoint, the untrained network first."""
    trails = [evidence.trajectory(role, seed, threshold, untrained=True) for seed in evidence.seeds]
    by_epoch = zip(*trails, strict=True)
    return [bootstrap(np.stack([_counts(points) for points in seeds])) for seeds in by_epoch]


def _counts(points: KnowledgePoints) -> np.ndarray:
    """(samples,) N_fg, NaN for samples without a map."""
    return torch.where(points.defined, points.n_fg.double(), torch.nan).numpy()


def discarded_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """Foreground points per image: ever learned, held in the end, and discarded on the way."""
    figure, axes = _layer_panels(evidence)
    for ax, (layer, found) in zip(axes[0], evidence.items(), strict=True):
        for shift, (role, style) in zip((-0.12, 0.12), STYLES.items(), strict=True):
            for place, name in enumerate(COUNTED):
                estimate = own_value(found, role, name, threshold)
                ax.vlines(place + shift, estimate.low, estimate.high, color=style.color)
                ax.plot(place + shift, estimate.value, color=style.color, marker=style.marker,
                        linestyle="none", label=f"{style.name}, 95% interval")  # fmt: skip
        ax.set_xticks(range(len(COUNTED)), COUNTED.values())
        ax.set_xlim(-0.5, len(COUNTED) - 0.5)
        ax.set_title(layer, fontsize=TITLE_SIZE)
        label_axes(ax, "foreground points", "points per image")
        ax.grid(axis="y", alpha=0.3)
    axes[0, 0].set_ylim(bottom=0)  # shared, so after all panels are drawn
    legend_below(figure, axes.flat, columns=2)
    return figure


def rho_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """How rho(x) of Eq. 9 is distributed over images and seeds; a mark at each mean."""
    figure, axes = _layer_panels(evidence)
    for ax, (layer, found) in zip(axes[0], evidence.items(), strict=True):
        for role, style in STYLES.items():
            values = QUANTITIES["rho"].values(found, role, threshold)
            values = values[np.isfinite(values)]
            ax.ecdf(values, color=style.color, linestyle=style.line, linewidth=2, label=style.name)
            ax.plot(values.mean(), 0.03, color=style.color, marker=style.marker, markersize=8,
                    markeredgecolor="black", linestyle="none",
                    label=f"{style.name}, mean")  # fmt: skip
        ax.set_title(layer, fontsize=TITLE_SIZE)
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(0, 1.03)
        label_axes(ax, r"$\rho(x)$ [1]", "share of images at or below [1]")
        ax.grid(alpha=0.3)
    legend_below(figure, axes.flat, columns=4)
    return figure


def example_figure(images: SampleSet, evidence: Evidence, index: int, threshold: float) -> Figure:
    """One image at an early, a middle and the last checkpoint of both networks (first seed):
    points that stay, points held now and dropped later, points dropped before.

    images: all measured ones; index: the one drawn.
    """
    trails = {}
    for role, name in NAMES.items():
        trail = trajectory_points(evidence, role, 0, threshold)
        trails[name] = {epoch: points for epoch, points in trail.items() if epoch > 0}
    return fates_figure(images, trails, index, shown_epochs(evidence.epochs))


def shown_epochs(epochs: Sequence[int]) -> tuple[int, ...]:
    """The first checkpoint after epoch 0, the one in the middle, and the last; fewer if they are
    the same."""
    learned = epochs[1:]
    return tuple(dict.fromkeys((learned[0], learned[len(learned) // 2], learned[-1])))


def _layer_panels(evidence: Mapping[str, Evidence]) -> tuple[Figure, np.ndarray]:
    width = min(WIDTH, 4.2 * len(evidence) + 0.4)
    return new_figure(1, len(evidence), (width, 3.6), sharey=True)
