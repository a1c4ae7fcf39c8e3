"""lambda (Eq. 7) against accuracy: Section 4.2 and Figure 2.

Over the training of a student: a checkpoint's lambda, and the accuracy that its network reaches
once the layers above the target have been trained on labels. And across networks: teacher,
student and baseline after training.

Checkpoints are a time series, not independent draws: a correlation is taken for each seed, and what
an interval covers is the choice of seeds; one seed has none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from math import isfinite
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.figures import style
from kpnb.fingerprint import track
from kpnb.metrics import stats
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.formatting import count, verdict_sentence
from kpnb.metrics.results import estimated
from kpnb.metrics.stats import Estimate, bootstrap, crossed, mean, verdict
from kpnb.store import Scratch
from kpnb.study.findings import Findings
from kpnb.study.study import SPLITS, Study
from kpnb.training.costs import Cost
from kpnb.training.train import on_device

# Two points always lie on a line; with a third variable taken out, so do three.
LEAST_POINTS, LEAST_PARTIAL = 3, 4
# Below this share of variance left, a rank is a function of the epoch up to rounding.
NOTHING_LEFT = 1e-9
SPLIT_WORDS = {"test": "unseen samples", "train": "training samples"}
LIKELY_LAYER = "FC1"  # the layer of Figure 2; its symbol is lost in our copy of the paper


def checkpoint_accuracies(study: Study, layer: str, seed: int) -> dict[int, dict[str, float]]:
    """epoch -> {"train", "test"} -> score of a student's checkpoint whose layers above `layer`
    have been trained on labels, by the student's own recipe; further scores as in the study.

    Kept in the store, resumable by checkpoint. At the last one this repeats how the student itself
    came about, so the scores are the student's, to the bit on one CPU.
    """
    trained = study.of("S", seed, layer)
    epochs, data, head = sorted(trained.states), study.data, study.settings("head", seed)
    parts = {"train": data.training_samples.source, "test": data.test_samples.source}
    key = {"network": trained.fingerprint, "layer": layer, "epochs": epochs, **parts}
    key |= {"head": head.to_info(), "device": study.device.type}

    def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
        for epoch in track(epochs, f"accuracies S {layer} seed {seed}"):
            if scratch.load(f"{epoch}") is None:
                net = study.network(trained, epoch)
                on_device(net, head)  # the layout in which a student is scored
                study.train_head(net, layer, head)
                scratch.save(f"{epoch}", {}, study.scores_by_split(net))
        found = {f"{epoch}": scratch.load(f"{epoch}")[1] for epoch in epochs}
        return {}, {"scores": found}

    def cost() -> Cost:
        one = [*study.head_work(layer, head), study.scoring_work("S")]
        work = tuple(replace(part, units=len(epochs) * part.units) for part in one)
        return Cost(work, {}, {"scores": {f"{e}": dict.fromkeys(SPLITS, 0.0) for e in epochs}})

    code = (*study.training_code("S"), *study.SCORING_CODE)
    record = study.stored("accuracies", key, compute, code, cost)
    # The store gives the names back in another order.
    return {epoch: record.info["scores"][f"{epoch}"] for epoch in epochs}


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

    def ratio_estimates(self, row: int) -> list[Estimate]:
        """lambda of the networks of the row-th seed, with 95% intervals over samples."""
        return [bootstrap(terms) for terms in self.ratio[row]]


def student_curve(study: Study, evidence: Evidence) -> RatioAccuracy:
    """lambda and accuracy of the student of `evidence` at each checkpoint, by seed."""
    found = [checkpoint_accuracies(study, evidence.layer, s) for s in study.parameters.seeds]
    scores = {split: [[by_epoch[epoch][split] for epoch in evidence.epochs] for by_epoch in found]
              for split in SPLIT_WORDS}  # fmt: skip
    return _collected(study, evidence, {epoch: ("S", epoch) for epoch in evidence.epochs}, scores)


def final_networks(study: Study, evidence: Evidence) -> RatioAccuracy:
    """lambda and accuracy of teacher, student and baseline after training, by seed."""
    found = [study.accuracies(role, evidence.layer) for role in "TSB"]
    scores = {split: np.transpose([by_seed[split] for by_seed in found]) for split in SPLIT_WORDS}
    return _collected(study, evidence, {role: (role, None) for role in "TSB"}, scores)


def _collected(
    study: Study,
    evidence: Evidence,
    networks: Mapping[int | str, tuple[str, int | None]],
    scores: Mapping[str, Sequence],
) -> RatioAccuracy:
    """networks: place -> role and epoch; scores: split -> (seeds, places)."""
    b, most = study.parameters.threshold, None if "T" in networks else evidence.followed
    ratio = [
        [evidence.points(role, s, e, b, most).ratio.numpy() for role, e in networks.values()]
        for s in evidence.seeds
    ]
    accuracy = {split: np.array(table) for split, table in scores.items()}
    seeds, tested = study.parameters.seeds, len(study.data.test_samples)
    return RatioAccuracy(evidence.layer, seeds, tuple(networks), np.array(ratio), accuracy, tested)


def repeat_gap(study: Study, curve: RatioAccuracy) -> float:
    """Greatest difference between the last checkpoint's accuracy and the stored student's own,
    over seeds and splits; 0 where training repeats to the bit."""
    own = study.accuracies("S", curve.layer)
    gaps = [np.abs(curve.accuracy[split][:, -1] - own[split]).max() for split in SPLIT_WORDS]
    return float(max(gaps))


def _partial(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's partial correlation given the epoch: what the two have in common beyond each
    rising or falling with training. Undefined with fewer than four checkpoints, or where one of the
    two rises or falls without exception, for then its ranks are the epoch's and nothing is left."""
    epoch = np.arange(len(ratio))
    both, first, second = (
        _spearman(*pair) for pair in ((ratio, accuracy), (ratio, epoch), (accuracy, epoch))
    )
    left = (1 - first**2) * (1 - second**2) if len(ratio) >= LEAST_PARTIAL else 0.0
    return (both - first * second) / left**0.5 if left > NOTHING_LEFT else float("nan")


def _spearman(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    return stats.correlation(ratio, accuracy) if len(ratio) >= LEAST_POINTS else float("nan")


class Question(NamedTuple):
    """One correlation over the checkpoints, or the networks, of each seed."""

    text: str
    split: str = "test"
    relation: Callable[[np.ndarray, np.ndarray], float] = _spearman


_UNSEEN = "lambda and accuracy on unseen samples"
CORRELATIONS = {
    "test": Question(_UNSEEN),
    "train": Question("lambda and accuracy on training samples", "train"),
    "test_detrended": Question(f"{_UNSEEN}, partial: given the epoch", "test", _partial),
    "lambda_trend": Question(
        "lambda and the epoch", "test", lambda ratio, _: _spearman(ratio, np.arange(len(ratio)))
    ),
}
ACROSS = Question(f"{_UNSEEN}, across teacher, student and baseline")


@dataclass(frozen=True)
class Answer:
    """A correlation, the mean over seeds (NaN where undefined for all), with the interval for other
    seeds; the points of each, and what it is."""

    found: Estimate
    n: int
    what: str

    @property
    def defined(self) -> bool:
        return isfinite(self.found.value)

    @property
    def verdict(self) -> str:
        """Of the paper's statement that a larger lambda goes with better performance."""
        return verdict(self.found, "up") if self.defined else "undecided"

    def __str__(self) -> str:
        return str(self.found) if self.defined else "undefined"


def answer_to(part: RatioAccuracy, question: Question) -> Answer:
    """The correlation of each seed, and their mean."""
    pairs = zip(mean(part.ratio), part.accuracy[question.split], strict=True)
    values = np.array([question.relation(*pair) for pair in pairs])
    known = values[np.isfinite(values)][:, None]
    undefined = Estimate(*[float("nan")] * 3, part.ratio.shape[-1], len(values))
    found = crossed(known) if len(known) else undefined
    found = replace(found, n_samples=part.ratio.shape[-1])
    return Answer(found, len(part.places), question.text)


def in_order(layers: Sequence[str]) -> list[str]:
    """The layers with Figure 2's likely one first, so that every preset tells of it first."""
    return sorted(layers, key=lambda layer: layer != LIKELY_LAYER)


def answers(curve: RatioAccuracy, networks: RatioAccuracy) -> dict[str, Answer]:
    """name -> correlation over a student's checkpoints, and across the final networks."""
    found = {name: answer_to(curve, question) for name, question in CORRELATIONS.items()}
    return found | {"networks": answer_to(networks, ACROSS)}


def record(findings: Findings, by_layer: Mapping[str, Mapping[str, Answer]]) -> None:
    """Put the correlations among the numbers, those of the first layer without its name; what is
    undefined becomes a note. The results depend on what is computed here, too."""
    findings.depend_on("student_curve", "final_networks", "answers", "record")
    undefined = "undefined here (too few points, or one of the two does not vary)"
    for place, (layer, found) in enumerate(by_layer.items()):
        for name, answer in found.items():
            if not answer.defined:
                findings.notes.append(f"{layer}, {answer.what}: {undefined}.")
                continue
            over = f"{count(answer.n, 'point')} of {count(answer.found.n_seeds, 'seed')} each"
            what = f"Spearman's correlation, {layer}: {answer.what}; {over}"
            key = name if name == "lambda_trend" else f"correlation_{name}"
            key += f"_{layer}" if place else ""
            findings.numbers[key] = estimated(answer.found, what, n=answer.n)


def correlation_table(by_layer: Mapping[str, Mapping[str, Answer]]) -> pd.DataFrame:
    """Layer and correlation: value with interval, points, and what it says of the statement."""
    rows = {
        (layer, answer.what): {
            "value": str(answer),
            "points": answer.n,
            "larger lambda, better": "" if name == "lambda_trend" else answer.verdict,
        }
        for layer, found in by_layer.items()
        for name, answer in found.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["layer", "Spearman's correlation of"])


def ratio_reading(study: Study, by_layer: Mapping[str, Mapping[str, Answer]]) -> str:
    """What the correlations say of Section 4.2, as Markdown, built from the numbers alone."""
    first = next(iter(by_layer.values()))["test"].found
    p, network = study.parameters, f"{study.network_name} ({study.scale}) on {study.dataset}"
    lines = [
        f"**A larger lambda goes with better performance** (Section 4.2), {network}, "
        f"{count(len(p.checkpoints), 'checkpoint')}, {count(first.n_samples, p.SAMPLE)}, "
        f"{count(first.n_seeds, 'seed')}, b = {p.threshold:g}:",
        "",
    ]
    for layer, found in by_layer.items():
        judged = [answer for name, answer in found.items() if name != "lambda_trend"]
        lines += [f"- {layer}, {part.what}: **{part.verdict}** ({part})." for part in judged]
    answer = verdict_sentence([found["test"].verdict for found in by_layer.values()], "layer")
    return "\n".join([*lines, "", f"Over training, on unseen samples: {answer}"])


RATIO_LABEL = r"$\lambda$ [1]"
EPOCH_COLORS = "cividis"  # of even lightness; the line that joins checkpoints tells epochs too
SEED_MARKERS = "os^Dv"
FEW = 5  # seeds, each with a marker of its own


def training_figure(curve: RatioAccuracy) -> Figure:
    """Figure 2: lambda against accuracy at a student's checkpoints, a panel for each split, a mark
    for each seed; bars are 95% intervals over samples, of accuracy over test samples. Of more than
    `FEW` seeds a line each, without bars, and marks at their mean."""
    norm = PowerNorm(0.5, vmin=curve.places[0], vmax=curve.places[-1])
    look = {"cmap": EPOCH_COLORS, "norm": norm, "s": 32, "edgecolors": "black", "linewidths": 0.6}

    def marked(ax: Axes, x: Sequence[float], y: np.ndarray, marker: str, label: str) -> None:
        ax.scatter(x, y, c=curve.places, marker=marker, zorder=3, label=label, **look)
        for place in (0, -1):
            ax.annotate(f"{curve.places[place]}", (x[place], y[place]), (5, 5), fontsize=8.5,
                        textcoords="offset points", zorder=4)  # fmt: skip

    def draw(ax: Axes, split: str) -> None:
        few, ways = len(curve.seeds) <= FEW, []
        for row, (seed, marker) in enumerate(zip(curve.seeds, cycle(SEED_MARKERS))):
            ratios, y = curve.ratio_estimates(row), 100 * curve.accuracy[split][row]
            ways.append([ratio.value for ratio in ratios])
            ax.plot(ways[-1], y, color="0.6", linewidth=0.9 if few else 0.4, zorder=1)  # by epoch
            for ratio, share in zip(ratios, y / 100, strict=True) if few else ():
                tested = curve.tested if split == "test" else None
                _bars(ax, ratio, share, tested, color="0.75", linewidth=0.8)
            if few:
                marked(ax, ways[-1], y, marker, f"seed {seed}")
        if not few:
            told = 100 * curve.accuracy[split].mean(0)
            marked(ax, np.mean(ways, axis=0), told, "o", f"mean of {len(ways)} seeds")
        ax.margins(y=0.12)  # room for the last checkpoint's name

    parts = {f"{curve.layer}, {words}": split for split, words in SPLIT_WORDS.items()}
    figure = style.row_of_panels(parts, draw, RATIO_LABEL, "accuracy [%]", (4.2, 3.6))
    bar = figure.colorbar(ScalarMappable(norm, EPOCH_COLORS), ax=figure.axes, pad=0.02)
    bar.set_label("epoch of distillation", fontsize=style.LABEL_SIZE)
    return figure


def _bars(ax: Axes, ratio: Estimate, share: float, tested: int | None, **look: object) -> None:
    """95% intervals: of lambda, and of an accuracy on `tested` samples (None: none is drawn)."""
    ax.hlines(100 * share, ratio.low, ratio.high, zorder=0, **look)
    if tested is not None:
        low, high = stats.share_interval(share, tested)
        ax.vlines(ratio.value, 100 * low, 100 * high, zorder=0, **look)


def epochs_figure(curve: RatioAccuracy) -> Figure:
    """lambda and accuracy against the epoch of distillation, a curve for each seed, of more than
    `FEW` their mean before thin ones: what both have in common by growing with training."""

    def draw(ax: Axes, tables: Mapping[str, np.ndarray]) -> None:
        for (words, table), line in zip(tables.items(), ("-", "--"), strict=False):
            if len(curve.seeds) > FEW:
                ax.plot(curve.places, table.T, color="0.7", linestyle=line, linewidth=0.4)
                label = f"{words}, mean of {len(curve.seeds)} seeds"
                ax.plot(curve.places, table.mean(0), f"o{line}", color="0.1", label=label)
                continue
            for values, seed, marker in zip(table, curve.seeds, cycle(SEED_MARKERS), strict=False):
                look = {"linestyle": line, "marker": marker, "markersize": 4}
                ax.plot(curve.places, values, label=f"{words}, seed {seed}", **look)

    shares = {words: 100 * curve.accuracy[split] for split, words in SPLIT_WORDS.items()}
    parts = {RATIO_LABEL: {"lambda": mean(curve.ratio)}, "accuracy [%]": shares}
    return style.row_of_panels(parts, draw, f"epoch, student of {curve.layer}", "", (4, 3.4))


def networks_figure(by_layer: Mapping[str, RatioAccuracy]) -> Figure:
    """lambda against accuracy on unseen samples after training, a mark for each seed of teacher,
    student and baseline, a panel for each layer; bars are 95% intervals as in Figure 2."""

    def draw(ax: Axes, networks: RatioAccuracy) -> None:
        for row, shares in enumerate(networks.accuracy["test"]):
            found = zip(networks.places, networks.ratio_estimates(row), shares, strict=True)
            for role, ratio, share in found:
                look = style.ROLES[role]
                _bars(ax, ratio, share, networks.tested, color=look.color, linewidth=1.1)
                ax.scatter(ratio.value, 100 * share, s=45, color=look.color, marker=look.marker,
                           edgecolors="black", linewidths=0.6, zorder=3,
                           label=look.name)  # fmt: skip

    y, shared = "accuracy on unseen samples [%]", {"columns": 3, "sharey": True}
    return style.row_of_panels(by_layer, draw, RATIO_LABEL, y, (3.1, 3.3), **shared)
