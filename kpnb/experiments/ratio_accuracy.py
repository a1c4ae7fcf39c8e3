"""lambda (Eq. 7) against accuracy: Section 4.2 and Figure 2.

Over the training of a student: a checkpoint's lambda, and the accuracy that its network reaches
once the layers above the target have been trained on labels. And across networks: teacher,
student and baseline after training.

In the figures epochs are told by a color scale of even lightness (cividis) and by the line that
joins the checkpoints in order; the untrained and the last one are named.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.experiments.correlations import (
    RESAMPLES,
    Relation,
    across_networks,
    correlation_interval,
    given_epoch,
    of_steps,
    of_trained,
    over_checkpoints,
    with_epoch,
)
from kpnb.figures import style
from kpnb.fingerprint import track
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.formatting import count, interval, signed, verdict_sentence
from kpnb.metrics.results import estimated
from kpnb.metrics.stats import Estimate, bootstrap, mean, share_interval, verdict
from kpnb.networks.layers import parameters_above
from kpnb.store import Scratch
from kpnb.study.findings import Findings
from kpnb.study.study import SPLITS, Study
from kpnb.training.costs import Cost
from kpnb.training.distillation import train_above
from kpnb.training.train import to_device

SPLIT_WORDS = {"test": "unseen samples", "train": "training samples"}
LIKELY_LAYER = "FC1"  # the layer of Figure 2; its symbol is lost in our copy of the paper


# Accuracy by checkpoint


def checkpoint_accuracies(study: Study, layer: str, seed: int) -> dict[int, dict[str, float]]:
    """epoch -> {"train", "test"} -> score of a student's checkpoint whose layers above `layer`
    have been trained on labels, by the student's own recipe; further scores as in the study.

    Kept in the store, resumable by checkpoint. At the last one this repeats how the student itself
    came about, so the scores are the student's, to the bit on one CPU.
    """
    trained = study.of("S", seed, layer)
    epochs, data = sorted(trained.states), study.data
    parts = {"train": data.training_samples.source, "test": data.test_samples.source}
    key = {"network": trained.fingerprint, "layer": layer, "epochs": epochs, **parts}
    key |= {"head": study.head_schedule(seed).to_info(), "device": study.device.type}

    def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
        started = time.perf_counter()
        for epoch in track(epochs, f"accuracies S {layer} seed {seed}"):
            if scratch.load(f"{epoch}") is None:
                net = _with_head(study, study.network(trained, epoch), layer, seed)
                scratch.save(f"{epoch}", {}, study.scores_by_split(net))
        found = {f"{epoch}": scratch.load(f"{epoch}")[1] for epoch in epochs}
        return {}, {"scores": found, "seconds": time.perf_counter() - started}

    def cost() -> Cost:
        one = [*study.head_work(layer, study.head_schedule(seed)), study.scoring_work("S")]
        work = tuple(replace(part, units=len(epochs) * part.units) for part in one)
        return Cost(work, {}, {"scores": {f"{e}": dict.fromkeys(SPLITS, 0.0) for e in epochs}})

    code = (*study.training_code("S"), *study.SCORING_CODE)
    record = study.stored("accuracies", key, compute, code, cost)
    # The store gives the names back in another order.
    return {epoch: record.info["scores"][f"{epoch}"] for epoch in epochs}


def _with_head(study: Study, net: nn.Module, layer: str, seed: int) -> nn.Module:
    """The network after the student's second phase, if anything lies above the layer."""
    settings, samples = study.head_schedule(seed), study.data.training_samples
    to_device(net, study.device, settings)  # the layout in which a student is scored
    if parameters_above(net, layer):
        train_above(net, layer, study.inputs(samples), study.labels(samples), settings)
    return net


# lambda and accuracy of several networks a seed


@dataclass(frozen=True)
class RatioAccuracy:
    """lambda and accuracy of the same networks for each seed, at one layer.

    seeds: the training seeds. places: which networks, the checkpoints (epochs, ascending) of a
        student, or roles.
    ratio: (seeds, places, samples) the terms of lambda in Eq. 7, NaN where one is undefined.
    accuracy: split -> (seeds, places), shares in [0, 1]. tested: test samples behind them.
    Raises KpnbError where shapes do not fit or a network has no defined term.
    """

    layer: str
    seeds: tuple[int, ...]
    places: tuple[int, ...] | tuple[str, ...]
    ratio: np.ndarray
    accuracy: Mapping[str, np.ndarray]
    tested: int

    def __post_init__(self) -> None:
        table, terms = (len(self.seeds), len(self.places)), np.shape(self.ratio)
        shapes = [np.shape(part) for part in self.accuracy.values()]
        if len(terms) != 3 or any(shape != table for shape in (terms[:2], *shapes)):
            raise KpnbError(
                f"{table[1]} networks of {table[0]} seeds, terms of lambda {terms} and accuracies "
                f"{shapes} do not fit: pass (seeds, networks, samples) and (seeds, networks)."
            )
        if not np.isfinite(self.ratio).any(-1).all():
            raise KpnbError("A network has no defined entropy map, so no lambda: check the layer.")

    @property
    def mean_ratio(self) -> np.ndarray:
        """lambda, (seeds, places)."""
        return mean(self.ratio)

    def ratio_estimates(self, row: int) -> list[Estimate]:
        """lambda of the networks of the row-th seed, with 95% intervals over samples."""
        return [bootstrap(terms) for terms in self.ratio[row]]

    def correlation(
        self, split: str, relation: Relation, resamples: int = RESAMPLES, seed: int = 0
    ) -> Estimate:
        """`correlation_interval` of lambda and the accuracy on a split; KpnbError for another."""
        if split not in self.accuracy:
            known = ", ".join(self.accuracy)
            raise KpnbError(f"There is no split {split!r}: choose one of {known}.")
        return correlation_interval(self.ratio, self.accuracy[split], relation, resamples, seed)


def student_curve(study: Study, evidence: Evidence) -> RatioAccuracy:
    """lambda and accuracy of the student of `evidence` at each checkpoint, by seed."""
    found = [checkpoint_accuracies(study, evidence.layer, s) for s in study.parameters.seeds]
    scores = [[by_epoch[epoch] for epoch in evidence.epochs] for by_epoch in found]
    networks = [("S", epoch) for epoch in evidence.epochs]
    return _collected(study, evidence, evidence.epochs, networks, scores)


def final_networks(study: Study, evidence: Evidence) -> RatioAccuracy:
    """lambda and accuracy of teacher, student and baseline after training, by seed."""
    found = [study.accuracies(role, evidence.layer) for role in "TSB"]
    scores = [
        [{split: by_seed[split][seed] for split in SPLIT_WORDS} for by_seed in found]
        for seed in evidence.seeds
    ]
    return _collected(study, evidence, tuple("TSB"), [(role, None) for role in "TSB"], scores)


def _collected(
    study: Study,
    evidence: Evidence,
    places: tuple,
    networks: Sequence[tuple[str, int | None]],
    scores: Sequence[Sequence[Mapping[str, float]]],
) -> RatioAccuracy:
    """networks: role and epoch by place; scores: accuracies by seed and place."""
    b = study.parameters.threshold
    ratio = [
        [evidence.points(role, seed, epoch, b).ratio.numpy() for role, epoch in networks]
        for seed in evidence.seeds
    ]
    accuracy = {s: np.array([[place[s] for place in row] for row in scores]) for s in SPLIT_WORDS}
    seeds, tested = study.parameters.seeds, len(study.data.test_samples)
    return RatioAccuracy(evidence.layer, seeds, places, np.array(ratio), accuracy, tested)


def repeat_gap(study: Study, curve: RatioAccuracy) -> float:
    """Greatest difference between the last checkpoint's accuracy and the stored student's own,
    over seeds and splits; 0 where training repeats to the bit."""
    own = study.accuracies("S", curve.layer)
    gaps = [np.abs(curve.accuracy[split][:, -1] - own[split]).max() for split in SPLIT_WORDS]
    return float(max(gaps))


# What was found


class Question(NamedTuple):
    """One correlation over the checkpoints of a student; fewer: points that it has less than
    checkpoints."""

    text: str
    relation: Relation = over_checkpoints
    split: str = "test"
    fewer: int = 0


_UNSEEN = "lambda and accuracy on unseen samples"
CORRELATIONS = {
    "test": Question(_UNSEEN),
    "train": Question("lambda and accuracy on training samples", split="train"),
    "test_trained": Question(f"{_UNSEEN}, without the untrained network", of_trained, fewer=1),
    "test_detrended": Question(f"{_UNSEEN}, partial: given the epoch", given_epoch),
    "test_steps": Question(
        "changes of lambda and of accuracy on unseen samples, checkpoint to checkpoint",
        of_steps,
        fewer=1,
    ),
    "lambda_trend": Question("lambda and the epoch", with_epoch),
}


@dataclass(frozen=True)
class Answer:
    """A correlation with its interval (NaN where undefined), its points, and what it is."""

    found: Estimate
    n: int
    what: str

    @property
    def defined(self) -> bool:
        """Whether the data give a value and an interval at all."""
        return isfinite(self.found.value) and isfinite(self.found.low)

    @property
    def verdict(self) -> str:
        """Of the paper's statement that a larger lambda goes with better performance."""
        return verdict(self.found, "up")

    def __str__(self) -> str:
        if not self.defined:
            return "undefined"
        return signed(self.found.value) + interval(self.found.low, self.found.high, signed)


def in_order(layers: Sequence[str]) -> list[str]:
    """The layers with Figure 2's likely one first, so that every preset tells of it first."""
    return sorted(layers, key=lambda layer: layer != LIKELY_LAYER)


def answers(
    curve: RatioAccuracy, networks: RatioAccuracy, resamples: int = RESAMPLES
) -> dict[str, Answer]:
    """name -> correlation over a student's checkpoints, and across the final networks."""
    found = {}
    for name, asked in CORRELATIONS.items():
        points = (len(curve.places) - asked.fewer) * len(curve.seeds)
        value = curve.correlation(asked.split, asked.relation, resamples)
        found[name] = Answer(value, points, asked.text)
    across = networks.correlation("test", across_networks, resamples)
    what = f"{_UNSEEN}, across teacher, student and baseline"
    return found | {"networks": Answer(across, networks.mean_ratio.size, what)}


def record(findings: Findings, by_layer: Mapping[str, Mapping[str, Answer]]) -> None:
    """Put the correlations among the numbers, those of the first layer without its name; what is
    undefined becomes a note. The results depend on what is computed here, too."""
    findings.depend_on("student_curve", "final_networks", "answers", "record")
    for place, (layer, found) in enumerate(by_layer.items()):
        for name, answer in found.items():
            if not answer.defined:
                findings.notes.append(f"{layer}, {answer.what}: {_UNDEFINED}.")
                continue
            over = f"{count(answer.found.n_samples, 'sample')} and "
            over += count(answer.found.n_seeds, "seed")
            what = f"Spearman's correlation, {layer}: {answer.what}; interval over {over}"
            key = name if name == "lambda_trend" else f"correlation_{name}"
            key += f"_{layer}" if place else ""
            findings.numbers[key] = estimated(answer.found, what, n=answer.n)


_UNDEFINED = "undefined here (too few points, or one of the two does not vary)"


def correlation_table(by_layer: Mapping[str, Mapping[str, Answer]]) -> pd.DataFrame:
    """Layer and correlation: value with interval, points, and what it says of the statement."""
    names = ["layer", "Spearman's correlation of"]
    rows = [
        {
            **dict(zip(names, (layer, answer.what), strict=True)),
            "value": str(answer),
            "points": answer.n,
            "larger lambda, better": "" if name == "lambda_trend" else answer.verdict,
        }
        for layer, found in by_layer.items()
        for name, answer in found.items()
    ]
    return pd.DataFrame(rows).set_index(names)


def ratio_reading(study: Study, by_layer: Mapping[str, Mapping[str, Answer]]) -> str:
    """What the correlations say of Section 4.2, as Markdown, built from the numbers alone."""
    first = next(iter(by_layer.values()))["test"].found
    p = study.parameters
    lines = [
        f"**A larger lambda goes with better performance** (Section 4.2), {study.network_name} "
        f"({study.scale}) on {study.dataset}, {count(len(p.checkpoints), 'checkpoint')}, "
        f"{count(first.n_samples, p.SAMPLE)}, {count(first.n_seeds, 'seed')}, b = {p.threshold:g}:",
        "",
        *(f"- {_of_layer(layer, found)}" for layer, found in by_layer.items()),
        "",
        "Over training, on unseen samples: "
        + verdict_sentence([found["test"].verdict for found in by_layer.values()], "layer"),
    ]
    return "\n".join(lines)


def _of_layer(layer: str, found: Mapping[str, Answer]) -> str:
    told = {name: f"{answer.verdict} ({answer})" for name, answer in found.items()}
    return (
        f"{layer}: over training **{found['test'].verdict}** on unseen samples ({found['test']}) "
        f"and {told['train']} on training samples; without the untrained network "
        f"{told['test_trained']}. {_detrended(found)} Across networks {told['networks']}, of "
        f"{count(found['networks'].n, 'point')} that fall into three groups."
    )


def _detrended(found: Mapping[str, Answer]) -> str:
    """What taking the trend over epochs out does to the verdict on unseen samples."""
    plain, left = found["test"], found["test_detrended"]
    if not left.defined:
        return "With the trend over epochs taken out nothing is left to correlate."
    effect = f"which turns the verdict to {left.verdict}"
    if left.verdict == plain.verdict:
        effect = "which changes no verdict"
    trend = f"lambda correlates with the epoch itself by {found['lambda_trend']}"
    return f"With the trend over epochs taken out it is {left}, {effect} ({trend})."


# Figures

RATIO_LABEL = r"$\lambda$ [1]"
EPOCH_COLORS = "cividis"
SPLIT_LINES = {"test": "-", "train": "--"}
SEED_MARKERS = "os^Dv"


def training_figure(curve: RatioAccuracy) -> Figure:
    """Figure 2: lambda against accuracy at a student's checkpoints, a panel for each split and
    seed; bars are 95% intervals, of lambda over measured samples, of accuracy over test samples."""
    seeds = curve.seeds
    rows, columns = (2, len(seeds)) if len(seeds) > 1 else (1, 2)
    size = (0.9 + 2.9 * columns, 0.4 + 2.8 * rows)
    shared = "row" if rows > 1 else False  # rows are splits, and seeds of a split compare
    figure, axes = style.new_figure(rows, columns, size, sharex=True, sharey=shared)
    norm = PowerNorm(0.5, vmin=curve.places[0], vmax=curve.places[-1])
    panels = [(split, row) for split in SPLIT_WORDS for row in range(len(seeds))]
    for ax, (split, row) in zip(axes.flat, panels, strict=True):
        _checkpoints(ax, curve, split, row, norm)
        where = f", seed {seeds[row]}" if len(seeds) > 1 else ""
        ax.set_title(f"{curve.layer}, {SPLIT_WORDS[split]}{where}", fontsize=style.TITLE_SIZE)
        style.label_axes(ax, RATIO_LABEL, "accuracy [%]")
    bar = figure.colorbar(ScalarMappable(norm, EPOCH_COLORS), ax=list(axes.flat), pad=0.02)
    bar.set_label("epoch of distillation", fontsize=style.LABEL_SIZE)
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
    look = {"color": color, "linewidth": linewidth, "zorder": 0}
    ax.hlines(100 * share, ratio.low, ratio.high, **look)
    if tested is not None:
        low, high = share_interval(share, tested)
        ax.vlines(ratio.value, 100 * low, 100 * high, **look)


def epochs_figure(curve: RatioAccuracy) -> Figure:
    """lambda (left, with 95% intervals over samples) and accuracy (right) against the epoch of
    distillation, a curve for each seed: what both have in common by growing with training."""
    figure, axes = style.new_figure(1, 2, (8.4, 3.4))
    left, right = axes[0]
    colors = plt.colormaps["viridis"](np.linspace(0.1, 0.75, len(curve.seeds)))
    for row, (seed, color) in enumerate(zip(curve.seeds, colors, strict=True)):
        mark = {"color": color, "marker": SEED_MARKERS[row % len(SEED_MARKERS)], "markersize": 4}
        ratios = curve.ratio_estimates(row)
        left.vlines(curve.places, [r.low for r in ratios], [r.high for r in ratios],
                    color=color, linewidth=0.9, alpha=0.6)  # fmt: skip
        left.plot(curve.places, [r.value for r in ratios], label=f"seed {seed}", **mark)
        for split in SPLIT_WORDS:
            shown = 100 * curve.accuracy[split][row]
            right.plot(curve.places, shown, linestyle=SPLIT_LINES[split], **mark)
    for split in SPLIT_WORDS:
        right.plot([], [], color="black", linestyle=SPLIT_LINES[split], label=SPLIT_WORDS[split])
    style.label_axes(left, f"epoch of distillation at {curve.layer}", RATIO_LABEL)
    style.label_axes(right, f"epoch of distillation at {curve.layer}", "accuracy [%]")
    for ax in (left, right):
        ax.grid(alpha=0.3)
    style.legend_below(figure, [left, right], columns=5)
    return figure


def networks_figure(by_layer: Mapping[str, RatioAccuracy]) -> Figure:
    """lambda against accuracy on unseen samples after training, a mark for each seed of teacher,
    student and baseline, a panel for each layer; bars are 95% intervals as in Figure 2."""
    y, shared = "accuracy on unseen samples [%]", {"columns": 3, "sharey": True}
    return style.row_of_panels(by_layer, _networks, RATIO_LABEL, y, (3.1, 3.3), **shared)


def _networks(ax: Axes, networks: RatioAccuracy) -> None:
    for row, shares in enumerate(networks.accuracy["test"]):
        found = zip(networks.places, networks.ratio_estimates(row), shares, strict=True)
        for role, ratio, share in found:
            look = style.ROLES[role]
            _bars(ax, ratio, share, networks.tested, look.color, linewidth=1.1)
            ax.scatter(ratio.value, 100 * share, s=45, color=look.color, marker=look.marker,
                       edgecolors="black", linewidths=0.6, zorder=3, label=look.name)  # fmt: skip
