"""Fine-tuning against training from scratch (Section 4.5, Figure 7).

The classes are split. A source network T learns the source classes; then two networks learn the
target classes from the same few images in the same order: the fine-tuned F, which starts from the
source network below its FC layers, and B from random weights. Their FC layers start equal.

Evidence has the fine-tuned network in role S, the one from scratch in role B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from kpnb.datasets.images import Names
from kpnb.experiments.pretraining import ClassStudy, SourceStudy, take_convolutions
from kpnb.figures.paper import SampleSet, fates_figure
from kpnb.figures.style import N_FG, ROLES, row_of_panels
from kpnb.metrics.evidence import Choices, Evidence, metric_values, trajectory_points
from kpnb.metrics.formatting import count, verdict_sentence
from kpnb.metrics.results import estimated
from kpnb.metrics.stats import Estimate, bootstrap, paired_difference, verdict
from kpnb.study.findings import Findings, thresholds_around
from kpnb.study.study import Trained
from kpnb.training.settings import TrainingSettings

#: Role in the evidence -> what the network is called.
CALLED = {"S": "fine-tuned", "B": "from scratch"}
_MINUS = "fine-tuned minus from scratch"


@dataclass(frozen=True)
class FineTuningStudy(ClassStudy):
    """Fine-tuned network F and network from scratch B on the target classes.

    `of("F", seed)` and `of("B", seed)` give them, `source.of("T", seed)` the source network.
    Evidence has F in the student's place (role S) and no teacher.
    """

    PLACES = {"S": "F", "B": "B"}

    @property
    def names(self) -> Names:
        if self.parameters.source == "ImageNet" and self.prepared:
            return self.whole.test_samples.class_names  # nothing is kept back to learn from
        return self.class_parts[1]

    @cached_property
    def source(self) -> SourceStudy:
        """The source network's study, on the same store and clock."""
        return SourceStudy(self.parameters, self.store, self._seconds, whole=self.whole)

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        """F is trained like B, its learning rate times `fine_tuning_rate`."""
        if role != "F":
            return super().schedule(role, seed)
        settings, factor = super().schedule("B", seed), self.parameters.fine_tuning_rate
        last = None if settings.lr_end is None else settings.lr_end * factor
        return replace(settings, lr=settings.lr * factor, lr_end=last)

    def container(self, role: str, seed: int) -> nn.Module:
        return super().container("B" if role == "F" else role, seed)

    def build(self, role: str, seed: int) -> nn.Module:
        # F is the untrained B with other convolutions: the FC layers of both start equal.
        net = super().build(role, seed)
        if role == "F":
            take_convolutions(net, self.source.handed_on(seed))
        return net

    def student(self, seed: int, layer: str | None = None) -> Trained:
        """The fine-tuned network F; one serves all layers."""
        settings, layers = self.schedule("F", seed), self.tracked_layers
        key = {"fraction": self.parameters.fraction, "training": settings.to_info()}
        key |= {"tracked": list(layers), "fine_tuned_from": self.source.origin(seed)}
        return self._classifier("F", seed, key, settings, self.data.training_samples, layers)

    def check_teacher(self) -> str:
        """That of the source network, which is what is learned from here."""
        return self.source.check_teacher()


# What is counted


@dataclass(frozen=True)
class Quantity:
    """One quantity of a network: label, unit, its values by evidence, role and threshold, (seeds,
    samples) with NaN where not defined, and the side Section 4.5 is on for the fine-tuned network
    ("" where it says nothing) with its claim."""

    label: str
    unit: str
    values: Callable[[Evidence, str, float], np.ndarray]
    prediction: str = ""
    claim: str = ""


def early_counts(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples,) mean N_fg over the first half of the checkpoints after epoch 0."""
    counts = torch.stack([p.n_fg for p in evidence.trajectory(role, seed, threshold)])
    return counts[: max(1, len(counts) // 2)].double().mean(0)


def start_counts(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples,) N_fg before the first step."""
    return evidence.points(role, seed, evidence.epochs[0], threshold).n_fg


def early_rise(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples,) `early_counts` above `start_counts`: what was learned on top of the start."""
    start = start_counts(evidence, role, seed, threshold)
    return early_counts(evidence, role, seed, threshold) - start


def epochs_to_half(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples,) first checkpoint with at least half of the network's own final N_fg.

    Epoch 0 included; NaN for a sample without a point in the end.
    """
    found = evidence.trajectory(role, seed, threshold, untrained=True)
    counts = torch.stack([points.n_fg for points in found])
    first = (2 * counts >= counts[-1]).int().argmax(0)
    epochs = torch.tensor(evidence.epochs, dtype=torch.float64)[first]
    return torch.where(counts[-1] > 0, epochs, torch.nan)


def ever_points(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples, units) bool: the union of Eq. 9, all points learned at some checkpoint 1..M."""
    found = evidence.trajectory(role, seed, threshold)
    return torch.stack([points.foreground_points for points in found]).any(0)


def discarded_points(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples, units) bool: `ever_points` that are gone at the last checkpoint."""
    last = evidence.points(role, seed, None, threshold).foreground_points
    return ever_points(evidence, role, seed, threshold) & ~last


def _metric(name: str) -> Callable[[Evidence, str, float], np.ndarray]:
    return lambda evidence, role, b: metric_values(evidence, role, name, Choices(b))


def _by_seed(
    values: Callable[[Evidence, str, int, float], Tensor],
) -> Callable[[Evidence, str, float], np.ndarray]:
    """(seeds, samples) of values by seed; a (samples, units) result is counted. Samples without a
    map at some checkpoint are NaN."""

    def table(evidence: Evidence, role: str, threshold: float) -> np.ndarray:
        rows = []
        for seed in evidence.seeds:
            found = values(evidence, role, seed, threshold)
            found = found.sum(1) if found.ndim == 2 else found
            trail = evidence.trajectory(role, seed, threshold, untrained=True)
            whole = torch.stack([points.defined for points in trail]).all(0)
            rows.append(torch.where(whole, found.double(), torch.nan))
        return torch.stack(rows).numpy()

    return table


_HALF = "epochs to half of the final N_fg"
_QUICKLY = "foreground points are learned more quickly"
_FEWER = "fewer temporarily learned points are discarded"
#: By the name their difference has in the results file.
QUANTITIES: dict[str, Quantity] = {
    "n_fg": Quantity("N_fg in the end", "points", _metric("n_fg")),
    "start_n_fg": Quantity("N_fg at epoch 0", "points", _by_seed(start_counts)),
    "early_n_fg": Quantity("N_fg, first half", "points", _by_seed(early_counts), "up", _QUICKLY),
    "early_rise": Quantity("N_fg, first half, above epoch 0", "points", _by_seed(early_rise)),
    "epochs_to_half": Quantity(_HALF, "epochs", _by_seed(epochs_to_half)),
    "d_mean": Quantity("D_mean", "1", _metric("d_mean")),
    "ever": Quantity("points ever learned", "points", _by_seed(ever_points)),
    "discarded": Quantity("points discarded", "points", _by_seed(discarded_points), "down", _FEWER),
    "rho": Quantity("rho", "1", _metric("rho"), "up", "there are fewer detours"),
}
CLAIMED = ("early_n_fg", "rho", "discarded")  # in Section 4.5's order


def fine_tuned_difference(evidence: Evidence, name: str, threshold: float) -> Estimate | None:
    """Fine-tuned minus from scratch, paired by sample and seed; None where a seed has no sample
    that is defined for both."""
    pair = [QUANTITIES[name].values(evidence, role, threshold) for role in CALLED]
    if not np.isfinite(sum(pair)).any(1).all():
        return None
    return paired_difference(*pair)


def own_value(evidence: Evidence, role: str, name: str, threshold: float) -> Estimate | None:
    """A quantity of one network; None where a seed has no defined sample."""
    values = QUANTITIES[name].values(evidence, role, threshold)
    return bootstrap(values) if np.isfinite(values).any(1).all() else None


# What was found


class FineTuningFindings(Findings):
    """The numbers of the fine-tuning notebook; no cell of the paper's tables is among them."""

    study: FineTuningStudy

    def add(self, evidence: Evidence) -> None:
        """All quantities of one layer: of both networks, and their differences."""
        layer = evidence.layer.lower()
        for name, quantity in QUANTITIES.items():
            about = f"{quantity.label} at {evidence.layer}"
            for role, called in CALLED.items():
                key = f"{name}_{_key(called)}_{layer}"
                found = own_value(evidence, role, name, self.threshold)
                self._keep(key, found, f"{about}, {called}", quantity.unit)
            # The difference of epochs_to_half goes by its plain name.
            key = name if name == "epochs_to_half" else f"{name}_difference"
            found = fine_tuned_difference(evidence, name, self.threshold)
            self._keep(f"{key}_{layer}", found, f"{about}, {_MINUS}", quantity.unit)

    def measure_accuracies(self) -> None:
        """Shares of right answers on unseen and on training images, and their difference."""
        study, data = self.study, self.study.data
        if study.parameters.source == "classes":
            found = bootstrap(study.source.right_answers("T", study.source.data.test_samples))
            self._keep("accuracy_source", found, "accuracy, source network, unseen", "share")
        for start, seen, samples in (
            ("accuracy", "unseen", data.test_samples),
            ("accuracy_train", "training images", data.training_samples),
        ):
            right = {role: study.right_answers(role, samples) for role in "FB"}
            for role, called in zip("FB", CALLED.values(), strict=True):
                told = f"accuracy, {called}, {seen}"
                self._keep(f"{start}_{_key(called)}", bootstrap(right[role]), told, "share")
            gap = paired_difference(right["F"], right["B"])
            self._keep(f"{start}_difference", gap, f"accuracy, {_MINUS}, {seen}", "share")

    def _keep(self, key: str, found: Estimate | None, what: str, unit: str) -> None:
        if found is None:
            self.notes.append(f"{what}: not defined, for no image ends with a point.")
            return
        what = f"{what}; interval over images and {count(found.n_seeds, 'seed')}"
        self.numbers[key] = estimated(found, what, unit)


def _key(called: str) -> str:
    """A network's name as part of a number's name: fine_tuned, from_scratch."""
    return called.replace("-", "_").replace(" ", "_")


def scores_by_network(findings: FineTuningFindings) -> pd.DataFrame:
    """Shares of right answers with intervals, by network and images."""
    rows = {}
    for name, found in findings.numbers.items():
        if name.startswith("accuracy"):
            _, network, images = found.what.partition(";")[0].split(", ")
            share = f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
            rows[network, images] = {"share right": share, "n images": found.n}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["network", "images"])


def differences_table(evidence: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """Layer and quantity: both networks and their difference with 95% intervals, and the verdict
    on what Section 4.5 reports."""
    rows = {}
    for layer, found in evidence.items():
        for name, quantity in QUANTITIES.items():
            own = {CALLED[r]: _told(own_value(found, r, name, threshold)) for r in CALLED}
            gap = fine_tuned_difference(found, name, threshold)
            rows[layer, f"{quantity.label} [{quantity.unit}]"] = own | {
                "difference": _told(gap),
                "paper": quantity.prediction or "not stated",
                "verdict": _verdict(gap, quantity.prediction),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["layer", "quantity"])


def thresholds_table(evidence: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """The differences that the claims rest on, at the thresholds of Table III and the one in
    use."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for layer, found in evidence.items():
        for name in CLAIMED:
            row = rows[layer, QUANTITIES[name].label] = {}
            for b in thresholds_around(threshold):
                gap = fine_tuned_difference(found, name, b)
                row[f"b = {b:g}"] = f"{_told(gap)} {_verdict(gap, QUANTITIES[name].prediction)}"
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["layer", "difference of"])


def fine_tuning_reading(evidence: Mapping[str, Evidence], findings: FineTuningFindings) -> str:
    """What became of the three statements of Section 4.5, as Markdown; it may be no."""
    study, first = findings.study, next(iter(evidence.values()))
    images, seeds = count(len(first.foreground), "image"), count(len(first.seeds), "seed")
    network = f"{study.network_name} ({study.scale}) on {study.dataset}"
    lines = [
        f"**Fine-tuning against training from scratch**, {network}, {images}, {seeds}, "
        f"b = {findings.threshold:g} nats:",
        "",
    ]
    judged: list[str] = []
    for layer, found in evidence.items():
        for name in CLAIMED:
            asked, gap = QUANTITIES[name], fine_tuned_difference(found, name, findings.threshold)
            judged.append(_verdict(gap, asked.prediction))
            told = f"{asked.label}, {_MINUS}: {_told(gap)} {asked.unit.removeprefix('1')}".strip()
            lines.append(f"- {layer}, {asked.claim}: **{judged[-1]}** ({told}).")
    lines += ["", *(_head_start(found, findings.threshold) for found in evidence.values())]
    return "\n".join([*lines, "", verdict_sentence(judged, "statement")])


def _head_start(evidence: Evidence, threshold: float) -> str:
    """Whether an early lead is more than what the fine-tuned network starts with."""
    gaps = [fine_tuned_difference(evidence, n, threshold) for n in ("start_n_fg", "early_rise")]
    start, rise = gaps
    if start is None or rise is None:
        return f"{evidence.layer}: what the networks start with is not defined here."
    told = {
        "reproduced": "so *new* points are learned more quickly too.",
        "contradicted": "so *new* points are learned more slowly: a lead is a head start.",
        "inconclusive": "so that *new* points are learned more quickly is not shown.",
    }[verdict(rise, "up")]
    return (
        f"At {evidence.layer}, {_MINUS} is {start} points before the first step, and {rise} points "
        f"in what the first half of training adds to that, {told}\n"
    )


def _told(found: Estimate | None) -> str:
    return "not defined" if found is None else str(found)


def _verdict(gap: Estimate | None, prediction: str) -> str:
    if gap is None or not prediction:
        return "inconclusive" if prediction else ""
    return verdict(gap, prediction)


# Figures


_STYLES = {"S": ROLES["F"], "B": replace(ROLES["B"], name=CALLED["B"])}
COUNTED = {"ever": "ever learned", "n_fg": "held in the end", "discarded": "discarded"}
_PANEL = (4.2, 3.6)  # inches


def curves_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """Fig. 7: mean N_fg over training, a panel per layer; bands are 95% intervals over images and
    seeds at each checkpoint. Epoch 0 is the start: pre-trained or random convolutions."""

    def draw(ax: Axes, found: Evidence) -> None:
        for role, style in _STYLES.items():
            estimates = counts_by_epoch(found, role, threshold)
            low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
            ax.fill_between(found.epochs, low, high, color=style.color, alpha=0.2, linewidth=0)
            ax.plot(found.epochs, [e.value for e in estimates], color=style.color,
                    linestyle=style.line, marker=style.marker, markersize=4,
                    label=f"{style.name}, mean with 95% interval")  # fmt: skip
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _from_zero(evidence, draw, "epoch", f"{N_FG} [points]")


def counts_by_epoch(evidence: Evidence, role: str, threshold: float) -> list[Estimate]:
    """Mean N_fg with its interval at every checkpoint, the untrained network first."""
    trails = [evidence.trajectory(role, seed, threshold, untrained=True) for seed in evidence.seeds]
    counts = [[torch.where(p.defined, p.n_fg.double(), torch.nan) for p in t] for t in trails]
    return [bootstrap(torch.stack(seeds).numpy()) for seeds in zip(*counts, strict=True)]


def discarded_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """Foreground points per image: ever learned, held in the end, and discarded on the way."""

    def draw(ax: Axes, found: Evidence) -> None:
        for shift, (role, style) in zip((-0.12, 0.12), _STYLES.items(), strict=True):
            for place, name in enumerate(COUNTED):
                estimate = own_value(found, role, name, threshold)
                ax.vlines(place + shift, estimate.low, estimate.high, color=style.color)
                ax.plot(place + shift, estimate.value, color=style.color, marker=style.marker,
                        linestyle="none", label=f"{style.name}, 95% interval")  # fmt: skip
        ax.set_xticks(range(len(COUNTED)), COUNTED.values())
        ax.set_xlim(-0.5, len(COUNTED) - 0.5)

    return _from_zero(evidence, draw, "foreground points", "points per image")


def _from_zero(
    evidence: Mapping[str, Evidence], draw: Callable[[Axes, Evidence], None], x: str, y: str
) -> Figure:
    figure = row_of_panels(evidence, draw, x, y, _PANEL, columns=2, sharey=True)
    figure.axes[0].set_ylim(bottom=0)  # shared, so after all panels are drawn
    return figure


def rho_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """How rho(x) of Eq. 9 is distributed over images and seeds; a mark at each mean."""

    def draw(ax: Axes, found: Evidence) -> None:
        for role, style in _STYLES.items():
            values = QUANTITIES["rho"].values(found, role, threshold)
            values = values[np.isfinite(values)]
            ax.ecdf(values, color=style.color, linestyle=style.line, linewidth=2, label=style.name)
            ax.plot(values.mean(), 0.03, color=style.color, marker=style.marker, markersize=8,
                    markeredgecolor="black", linestyle="none",
                    label=f"{style.name}, mean")  # fmt: skip
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(0, 1.03)

    share = "share of images at or below [1]"
    return row_of_panels(evidence, draw, r"$\rho(x)$ [1]", share, _PANEL, columns=4, sharey=True)


def fine_tuning_fates(
    images: SampleSet, evidence: Evidence, index: int, threshold: float
) -> Figure:
    """One image at an early, a middle and the last checkpoint of both networks (first seed):
    points that stay, points held now and dropped later, points dropped before.

    images: all measured ones; index: the one drawn.
    """
    trails = {}
    for role, name in CALLED.items():
        trail = trajectory_points(evidence, role, 0, threshold)
        trails[name] = {epoch: points for epoch, points in trail.items() if epoch > 0}
    return fates_figure(images, trails, index, shown_epochs(evidence.epochs))


def shown_epochs(epochs: Sequence[int]) -> tuple[int, ...]:
    """The first checkpoint after epoch 0, the one in the middle, and the last; fewer if they are
    the same."""
    learned = epochs[1:]
    return tuple(dict.fromkeys((learned[0], learned[len(learned) // 2], learned[-1])))
