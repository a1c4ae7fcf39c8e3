"""What fine-tuning does against training from scratch (Section 4.5, Figure 7).

The classes are split. A source network T learns the source classes; then two networks learn the
target classes from the same few images in the same order: the fine-tuned F, which starts from the
source network below its FC layers, and B from random weights. Their FC layers start equal. Evidence
has F in role S. Nothing is split where the source network learns another data set, which the
parameter `pretrained` names as for teachers, or has torchvision's ImageNet weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from kpnb.datasets.images import Names, of_classes, split_classes
from kpnb.datasets.samples import ImageSamples
from kpnb.figures.charts import estimates_figure, stability_figure
from kpnb.figures.paper import SampleSet, fates_figure
from kpnb.figures.style import N_FG, ROLES, row_of_panels
from kpnb.metrics import evidence as measures
from kpnb.metrics.evidence import Choices, Evidence, metric_values, trajectory_points
from kpnb.metrics.formatting import count, interval, verdict_sentence
from kpnb.metrics.results import estimated
from kpnb.metrics.stats import Estimate, crossed, mean, paired_difference, verdict
from kpnb.networks.image import hand_on, image_network
from kpnb.paper import METRICS
from kpnb.study.findings import Findings
from kpnb.study.image import ImageStudy, StudyImages, study_images
from kpnb.study.parameters import FineTuningParameters
from kpnb.study.study import Trained
from kpnb.training.settings import TrainingSettings

# How every image network of kpnb calls its fully connected part. What F takes over lies below: the
# public code starts all FC layers of its pre-trained networks anew.
FC_PART = "classifier."
#: Names torchvision's weights in the store's keys.
IMAGENET = "torchvision IMAGENET1K_V1"
_BATCH = 256  # images at a time, of `right_answers`


@lru_cache(maxsize=4)
def imagenet_state(name: str, seed: int) -> dict[str, Tensor]:
    """What lies below the FC layers of a full network with torchvision's ImageNet weights.

    What these do not hold (the convolutions that the paper adds to ResNets) comes from the seed.
    Raises KpnbError if the weights cannot be had.
    """
    # The number of classes touches the FC layers only, which are left out.
    state = image_network(name, 2, "full", seed=seed, pretrained=True).state_dict()
    return {name: value for name, value in state.items() if not name.startswith(FC_PART)}


@dataclass(frozen=True)
class FineTuningStudy(ImageStudy):
    """Fine-tuned network F and network from scratch B on the target classes.

    `of("F", seed)` and `of("B", seed)` give them, `source.of("T", seed)` the source network.
    Evidence has F in the student's place (role S) and no teacher. The same images, `whole`, serve
    the study of the source classes too.
    """

    parameters: FineTuningParameters
    whole: StudyImages = field(default=None, repr=False)

    PLACES = {"S": "F", "B": "B"}
    TRAINING_CODE = (
        *ImageStudy.TRAINING_CODE, of_classes, split_classes, imagenet_state, hand_on,
    )  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", self.whole or study_images(self.parameters))

    @cached_property
    def class_parts(self) -> tuple[Names, Names]:
        """Source and target classes; of ImageNet's weights no source."""
        p, names = self.parameters, self.whole.test_samples.class_names
        if p.pretrained != "none":
            return self.source.data.test_samples.class_names, names
        if self._from_imagenet and self.prepared:
            return (), names  # nothing is kept back to learn from
        return split_classes(names, p.source_classes, p.split)

    @property
    def names(self) -> Names:
        """The classes of this study."""
        return self.class_parts[1]

    @cached_property
    def data(self) -> StudyImages:
        """The images of this study's classes, labels numbered anew."""
        found, parts = study_images(self.parameters), ["teacher_samples", "test_samples"]
        parts += [] if self.prepared else ["new_samples"]
        for name in parts:  # in place of what it would load
            found.__dict__[name] = of_classes(getattr(self.whole, name), self.names)
        return found

    @property
    def outputs(self) -> int:
        return len(self.names)

    @cached_property
    def source(self) -> SourceStudy | PretrainingStudy:
        """The source networks' study, of each seed once, on the same store and clock."""
        p, teachers = self.parameters, map(self.teacher_seed, self.parameters.seeds)
        changed, own = (
            {"seeds": tuple(dict.fromkeys(teachers)), "teachers": None},
            (self.store, self._seconds),
        )
        if p.pretrained == "none":
            return SourceStudy(p.model_copy(update=changed), *own, whole=self.whole)
        changed |= {"data": p.pretrained, "pretrained": "none", "teacher_samples": "all"}
        return PretrainingStudy(p.model_copy(update=changed), *own)

    @property
    def _from_imagenet(self) -> bool:
        return self.parameters.source == "ImageNet"

    def network_key(self, role: str) -> dict:
        # What a network sees and is scored on, class split included.
        data = self.data
        seen = data.teacher_samples if role == "T" else data.training_samples
        key = super().network_key(role) | {"seen": seen.source}
        return key | {"scored": [data.training_samples.source, data.test_samples.source]}

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
        if role == "F" and self._from_imagenet:
            hand_on(net, imagenet_state(self.parameters.network, 2 * seed), FC_PART)
        elif role == "F":
            trained = self.source.of("T", self.teacher_seed(seed))
            hand_on(net, trained.states[trained.final_epoch], FC_PART)
        return net

    def classifier(self, role: str, seed: int, **key: object) -> Trained:
        """F, B or the source network T; each serves all layers."""
        if role == "F":
            found = None if self._from_imagenet else self.source.of("T", self.teacher_seed(seed))
            key |= {"fine_tuned_from": found.fingerprint if found else IMAGENET}
        return super().classifier(role, seed, **key)

    def check_teacher(self) -> str:
        """One sentence on how good the source network is on unseen objects of its own classes;
        KpnbError where it has learned too little to hand anything on."""
        if self._from_imagenet:
            return f"The source network has the weights {IMAGENET}; how good they are is known."
        return self.source.check_teacher()


@dataclass(frozen=True)
class SourceStudy(FineTuningStudy):
    """The source network: teacher T of a study of the source classes."""

    CHECKED = {"T": "source network"}
    check_teacher = ImageStudy.check_teacher

    @property
    def names(self) -> Names:
        return self.class_parts[0]


@dataclass(frozen=True)
class PretrainingStudy(ImageStudy):
    """The source network of another data set: the very one that teachers start from."""

    CHECKED = SourceStudy.CHECKED


def right_answers(study: ImageStudy, role: str, samples: ImageSamples) -> np.ndarray:
    """(seeds, samples) 1 where the final network of a role names the class, else 0."""
    rows = []
    for seed in study.parameters.seeds:
        net = study.network(study.of(role, seed)).eval()
        with torch.inference_mode():
            parts = [net(x.to(study.device)).argmax(1) for x in samples.images.split(_BATCH)]
        rows.append(torch.cat(parts).cpu() == samples.labels)
    return torch.stack(rows).double().numpy()


#: Role in the evidence -> what the network is called.
CALLED = {"S": "fine-tuned", "B": "from scratch"}
_MINUS = "fine-tuned minus from scratch"


@dataclass(frozen=True)
class Quantity:
    """One quantity of a network: label and unit, the side Section 4.5 is on for the fine-tuned
    network ("" where it says nothing), and what is claimed of it."""

    label: str
    unit: str
    prediction: str = ""
    claim: str = ""


_QUICKLY = "foreground points are learned more quickly"
_NEW = "*new* ones, beyond a head start, are learned more quickly (ours)"
_FEWER = "fewer temporarily learned points are discarded"
#: By the name their difference has in the results file.
QUANTITIES: dict[str, Quantity] = {
    "n_fg": Quantity("N_fg in the end", "points"),
    "start_n_fg": Quantity("N_fg at epoch 0", "points"),
    "early_n_fg": Quantity("N_fg, first half of checkpoints", "points", "up", _QUICKLY),
    "early_rise": Quantity("N_fg, first half of checkpoints, above epoch 0", "points", claim=_NEW),
    "epochs_to_half": Quantity("epochs to half of the final N_fg", "epochs"),
    "d_mean": Quantity("D_mean", "1"),
    "ever": Quantity("points ever learned", "points"),
    "discarded": Quantity("points discarded", "points", "down", _FEWER),
    "rho": Quantity("rho", "1", "up", "there are fewer detours"),
}
CLAIMED = ("early_n_fg", "rho", "discarded")  # in Section 4.5's order
UNDEFINED = "not defined"


def network_values(evidence: Evidence, role: str, name: str, threshold: float) -> np.ndarray:
    """(seeds, samples) of one of QUANTITIES, NaN where it is not defined."""
    if name in METRICS:
        return metric_values(evidence, role, name, Choices(threshold))
    seeds = [training_values(evidence, role, seed, threshold)[name] for seed in evidence.seeds]
    return torch.stack(seeds).numpy()


def training_values(
    evidence: Evidence, role: str, seed: int, threshold: float
) -> dict[str, Tensor]:
    """What knowledge points do over the training of one network, (samples,) each; NaN for samples
    without a map at some checkpoint.

    start_n_fg: N_fg before the first step. early_n_fg: its mean over the first half of the
    checkpoints after epoch 0; early_rise: that above the start. epochs_to_half: the first
    checkpoint, epoch 0 included, with at least half of the final N_fg, NaN for none in the end.
    ever: points of the union of Eq. 9, over checkpoints 1..M; discarded: those gone at the last.
    """
    trail = evidence.trajectory(role, seed, threshold, untrained=True)
    counts = torch.stack([points.n_fg for points in trail])
    held = torch.stack([points.foreground_points for points in trail])
    ever = held[1:].any(0)
    early = counts[1:][: max(1, (len(counts) - 1) // 2)].double().mean(0)
    first = (2 * counts >= counts[-1]).int().argmax(0)
    epochs = torch.tensor(evidence.epochs, dtype=torch.float64)[first]
    found = {
        "start_n_fg": counts[0],
        "early_n_fg": early,
        "early_rise": early - counts[0],
        "epochs_to_half": torch.where(counts[-1] > 0, epochs, torch.nan),
        "ever": ever.sum(1),
        "discarded": (ever & ~held[-1]).sum(1),
    }
    whole = torch.stack([points.defined for points in trail]).all(0)
    return {name: torch.where(whole, part.double(), torch.nan) for name, part in found.items()}


def estimate_of(evidence: Evidence, name: str, threshold: float, *roles: str) -> Estimate | None:
    """A quantity of one network or, by default, fine-tuned minus from scratch, paired by sample and
    seed; None where a seed has no sample that is defined for all of them."""
    values = [network_values(evidence, role, name, threshold) for role in roles or CALLED]
    if not np.isfinite(sum(values)).any(1).all():
        return None
    shared = (mean, evidence.teachers)
    return crossed(*values, *shared) if len(values) == 1 else paired_difference(*values, *shared)


class FineTuningFindings(Findings):
    """The numbers of the fine-tuning notebook; no cell of the paper's tables is among them."""

    study: FineTuningStudy

    def add(self, evidence: Evidence) -> None:
        """All quantities of one layer: of both networks, and their differences."""
        layer, b = evidence.layer, self.threshold
        for name, asked in QUANTITIES.items():
            # The difference of epochs_to_half goes by its plain name.
            key = name if name == "epochs_to_half" else f"{name}_difference"
            found = {f"{name}_{CALLED[r]}": estimate_of(evidence, name, b, r) for r in CALLED}
            found[key] = estimate_of(evidence, name, b)
            for (key, value), of in zip(found.items(), (*CALLED.values(), _MINUS), strict=True):
                what = f"{asked.label} at {layer}, {of}"
                self._keep(f"{key}_{layer.lower()}", value, what, asked.unit)

    def measure_accuracies(self) -> None:
        """Shares of right answers on unseen and on training images, and their difference."""
        study, data = self.study, self.study.data
        shared = (mean, study.shared_teachers)
        if study.parameters.source == "classes":
            found = crossed(right_answers(study.source, "T", study.source.data.test_samples))
            self._keep("accuracy_source", found, "accuracy, source network, unseen", "share")
        for start, seen, samples in (
            ("accuracy", "unseen", data.test_samples),
            ("accuracy_train", "training images", data.training_samples),
        ):
            right = [right_answers(study, role, samples) for role in study.PLACES.values()]
            for values, called in zip(right, CALLED.values(), strict=True):
                told = f"accuracy, {called}, {seen}"
                self._keep(f"{start}_{called}", crossed(values, *shared), told, "share")
            gap = paired_difference(*right, *shared)
            self._keep(f"{start}_difference", gap, f"accuracy, {_MINUS}, {seen}", "share")

    def _keep(self, key: str, found: Estimate | None, what: str, unit: str) -> None:
        """key: a network's name in it may have signs that a number's name has not."""
        if found is None:
            self.notes.append(f"{what}: not defined, for no image ends with a point.")
            return
        one, over = found.n_seeds == 1, f"interval over images and {found.n_seeds} seeds"
        what = f"{what}; {'one seed: no interval' if one else over}"
        self.numbers[re.sub(r"\W", "_", key)] = estimated(found, what, unit)


def scores_by_network(findings: FineTuningFindings) -> pd.DataFrame:
    """Shares of right answers with intervals, by network and images."""
    rows = {}
    for name, found in findings.numbers.items():
        if name.startswith("accuracy"):
            _, network, images = found.what.partition(";")[0].split(", ")
            share = f"{found.value:.1%}" + interval(found.low, found.high, "{:.1%}".format)
            rows[network, images] = {"share right": share, "n images": found.n}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["network", "images"])


def _judged(evidence: Evidence, name: str, threshold: float, side: str) -> tuple[str, str]:
    """A difference as text, and the verdict on the side that it should be on, "" for none."""
    gap = estimate_of(evidence, name, threshold)
    judged = verdict(gap, side) if gap and side else "undecided" if side else ""
    return str(gap or UNDEFINED), judged


def differences_table(evidence: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """Layer and quantity: both networks and their difference with 95% intervals, and the verdict
    on what Section 4.5 reports."""
    rows = {}
    for layer, found in evidence.items():
        for name, asked in QUANTITIES.items():
            own = {role: estimate_of(found, name, threshold, role) for role in CALLED}
            row = {CALLED[role]: str(value or UNDEFINED) for role, value in own.items()}
            gap, judged = _judged(found, name, threshold, asked.prediction)
            row |= {"difference": gap, "paper": asked.prediction or "not stated"}
            rows[layer, f"{asked.label} [{asked.unit}]"] = row | {"verdict": judged}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["layer", "quantity"])


def thresholds_table(evidence: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """The differences that the claims rest on, at Table III's thresholds and the one in use."""
    rows, around = {}, measures.thresholds_around(threshold)
    for layer, found in evidence.items():
        for asked, name in ((QUANTITIES[name], name) for name in CLAIMED):
            told = {b: _judged(found, name, b, asked.prediction) for b in around}
            rows[layer, asked.label] = {f"b = {b:g}": " ".join(pair) for b, pair in told.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["layer", "difference of"])


def fine_tuning_reading(evidence: Mapping[str, Evidence], findings: FineTuningFindings) -> str:
    """What became of the three statements of Section 4.5, and of the first without a head start,
    as Markdown; it may be no."""
    study, first, b = findings.study, next(iter(evidence.values())), findings.threshold
    images, seeds = count(len(first.foreground), "image"), count(len(first.seeds), "seed")
    network = f"{study.network_name} ({study.scale}) on {study.dataset}"
    lines, verdicts = [], []
    for layer, found in evidence.items():
        for name in (CLAIMED[0], "early_rise", *CLAIMED[1:]):
            asked = QUANTITIES[name]
            gap, judged = _judged(found, name, b, asked.prediction or "up")
            lines.append(
                f"- {layer}, {asked.claim}: **{judged}** ({asked.label}, {_MINUS}: {gap})."
            )
            verdicts += [judged] if name in CLAIMED else []
    title = f"**Fine-tuning against training from scratch**, {network}, {images}, {seeds}"
    head, answer = f"{title}, b = {b:g} nats:", verdict_sentence(verdicts, "statement")
    return "\n".join([head, "", *lines, "", answer])


def curves_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """Fig. 7: mean N_fg over training, a panel per layer; bands are 95% intervals over images and
    several seeds at each checkpoint. Epoch 0 is the start: pre-trained or random convolutions."""

    def draw(ax: Axes, found: Evidence) -> None:
        told = " with 95% interval" if len(found.seeds) > 1 else ""
        for place, role in FineTuningStudy.PLACES.items():
            estimates, style = counts_by_epoch(found, place, threshold), ROLES[role]
            low, high = ([getattr(e, end) for e in estimates] for end in ("low", "high"))
            ax.fill_between(found.epochs, low, high, color=style.color, alpha=0.2, linewidth=0)
            ax.plot(found.epochs, [e.value for e in estimates], color=style.color,
                    linestyle=style.line, marker=style.marker, markersize=4,
                    label=f"{CALLED[place]}, mean{told}")  # fmt: skip
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    size, label = (4.2, 3.6), f"{N_FG} [points]"
    figure = row_of_panels(evidence, draw, "epoch", label, size, columns=2, sharey=True)
    figure.axes[0].set_ylim(bottom=0)  # shared, so after all panels are drawn
    return figure


def counts_by_epoch(evidence: Evidence, role: str, threshold: float) -> list[Estimate]:
    """Mean N_fg with its interval at every checkpoint, the untrained network first."""
    trails = [evidence.trajectory(role, seed, threshold, untrained=True) for seed in evidence.seeds]
    counts = [[torch.where(p.defined, p.n_fg.double(), torch.nan) for p in t] for t in trails]
    return [crossed(torch.stack(seeds).numpy()) for seeds in zip(*counts, strict=True)]


def discarded_figure(evidence: Mapping[str, Evidence], threshold: float) -> Figure:
    """Foreground points per image: ever learned, held in the end, and discarded on the way, by
    layer; the network from scratch is the baseline."""
    shown, places = {}, FineTuningStudy.PLACES.items()
    for layer, found in evidence.items():
        for name in ("ever", "n_fg", "discarded"):
            values = {role: estimate_of(found, name, threshold, place) for place, role in places}
            shown[f"{layer}: {QUANTITIES[name].label}"] = values
    return estimates_figure(shown)


def rho_figure(evidence: Evidence, threshold: float) -> Figure:
    """How rho(x) of Eq. 9 is distributed over images and seeds at one layer."""
    places = FineTuningStudy.PLACES.items()
    return stability_figure({r: network_values(evidence, p, "rho", threshold) for p, r in places})


def fine_tuning_fates(
    images: SampleSet, evidence: Evidence, index: int, threshold: float
) -> Figure:
    """One image at an early, a middle and the last checkpoint of both networks (first seed):
    points that stay, points held now and dropped later, points dropped before.

    images: all measured ones; index: the one drawn.
    """
    trails = {
        name: {e: p for e, p in trajectory_points(evidence, role, 0, threshold).items() if e > 0}
        for role, name in CALLED.items()
    }
    learned = evidence.epochs[1:]
    shown = {learned[0], learned[len(learned) // 2], learned[-1]}  # fewer if they are the same
    return fates_figure(images, trails, index, sorted(shown))
