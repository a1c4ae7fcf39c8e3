"""What the measure measures: knowledge points of students whose teachers know something else.

As sanity checks of saliency maps randomize parameters and labels, so here the teacher's: students
of the study's own initial weights and order imitate a teacher of another kind. Only what they end
with is measured, and no gate applies: how well a student imitates stands beside its points.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from kpnb.datasets.images import shown_photographs, split_photos
from kpnb.datasets.samples import ImageSamples
from kpnb.figures.style import ROLES, row_of_panels
from kpnb.fingerprint import Seed
from kpnb.metrics.evidence import Choices, Evidence, final_entropies, metric_values
from kpnb.metrics.formatting import count
from kpnb.metrics.protocol import margin
from kpnb.metrics.results import Values, estimated
from kpnb.metrics.stats import Estimate, crossed, holm, mean, paired_difference, verdict
from kpnb.paper import FINAL_METRICS
from kpnb.study.display import Prose
from kpnb.study.findings import Findings
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ControlParameters
from kpnb.study.study import Keep, Trained
from kpnb.training.checkpoints import Resume
from kpnb.training.fitness import explained_shares, over_chance
from kpnb.training.settings import TrainingRecord

GOOD = "good"  # the kind of the study's own teachers
#: By the name in results: what is measured of a network, with its unit.
QUANTITIES = {
    "n_fg": ("N_fg", "points"),
    "n_bg": ("N_bg", "points"),
    "lambda": ("lambda", "1"),
    "over_chance": ("lambda above other masks'", "1"),
    "auc": ("P(foreground keeps more)", "1"),
    "gap": ("entropy gap", "nats"),
}
#: What says how well networks do, beside it.
COVARIATES = {
    "explained_train": ("explained share, training images", "share"),
    "explained_new": ("explained share, new images", "share"),
    "accuracy": ("accuracy on new images", "share"),
    "accuracy_train": ("accuracy on images trained on", "share"),
}
SIDES = {"up": "more", "down": "less", "": "no lead"}
PRIMARY = ("n_fg", "lambda")  # of the protocol's contrast
FILED = (*PRIMARY, "n_bg")  # with the values of all images
BASELINE = "baseline"
#: What the protocol expects of students: of a kind of teacher, minus those of another or the
#: baseline, in a metric, on a side ("": no lead).
EXPECTED = [(GOOD, "shuffled", name, "up") for name in PRIMARY]
EXPECTED += [
    (kind, BASELINE, name, "") for kind in ("untrained", "shuffled", "equal") for name in PRIMARY
]
EXPECTED += [("photographs", BASELINE, "lambda", "down")]


def shuffled_labels(labels: Tensor, seed: int) -> Tensor:
    """(n,) each label at another place: a random cycle through all places, by the seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    found = torch.empty_like(labels)
    found[order] = labels[np.roll(order, 1)]
    return found


def keeps_more(entropy: Tensor, foreground: Tensor) -> np.ndarray:
    """(samples,) the probability that a random foreground unit has a lower entropy than a random
    background unit, ties counted half: 0.5 where entropy does not tell the object, whatever the
    threshold. Units without entropy (NaN) take no part; NaN for a sample without one of both."""
    found = []
    for values, inside in zip(entropy.double(), foreground, strict=True):
        known = values.isfinite()
        ahead = (values[~inside & known] - values[inside & known, None]).sign()
        found.append(float((ahead.mean() + 1) / 2))
    return np.array(found)


@dataclass(frozen=True)
class ControlStudy(ImageStudy):
    """Students of teachers of one kind, and the baselines; of good ones by default, which are then
    the networks and maps of the other image notebooks."""

    parameters: ControlParameters
    kind: str = GOOD

    @property
    def kinds(self) -> tuple[str, ...]:
        return (GOOD, *self.parameters.kinds)

    @property
    def others(self) -> "Iterator[ControlStudy]":
        """Those of the other kinds, on the same store, clock and data; one after the other, so
        that not all networks are in memory at once."""
        return (self._beside(ControlStudy, kind=kind) for kind in self.parameters.kinds)

    def _beside(self, study: type[ImageStudy], **more: object) -> ImageStudy:
        found = study(self.parameters, self.store, self._seconds, **more)
        found.__dict__["data"] = self.data
        return found

    def teaching(self, seed: int) -> "TeacherStudy":
        return self._beside(TeacherStudy, kind=self.kind, seed=seed)

    def classifier(self, role: str, seed: int, **key: object) -> Trained:
        """The baseline of a seed, as an equal teacher is one, or a teacher of the kind."""
        role = "B" if self.kind == "equal" else role
        if role == "B" or self.kind == GOOD:
            return super().classifier(role, seed)
        return self.teaching(seed).classifier(role, seed)

    def container(self, role: str, seed: int) -> nn.Module:
        return (self.teaching(seed) if role == "T" else super()).container(role, seed)


@dataclass(frozen=True)
class TeacherStudy(ImageStudy):
    """The teacher of a seed: of other labels of the good one's images, or untrained."""

    parameters: ControlParameters
    kind: str = ""
    seed: int = 0

    MADE_BY: ClassVar = {"photographs": (shown_photographs,), "shuffled": (shuffled_labels,)}

    @property
    def outputs(self) -> int:
        return len(split_photos("train")) if self.kind == "photographs" else super().outputs

    def labels(self, samples: ImageSamples) -> Tensor:
        if self.kind == "photographs":
            return shown_photographs(samples)
        shuffled = self.kind == "shuffled"
        return shuffled_labels(samples.labels, self.seed) if shuffled else samples.labels

    def training_code(self, role: str) -> tuple[Seed, ...]:
        return super().training_code(role) + self.MADE_BY.get(self.kind, ())

    def scores_by_split(self, net: nn.Module) -> dict[str, float]:
        """Under its own labels: on the images that it learned, and on new ones."""
        held = self.data.held_out
        scored = {"train": self.data.teacher_samples, held: self.data.splits[held]}
        return {split: self.scores(net, samples)["accuracy"] for split, samples in scored.items()}

    def classifier(self, role: str, seed: int, **key: object) -> Trained:
        if self.kind != "untrained":
            return super().classifier(role, seed, labels=self.kind)

        def keep_start(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            keep(0, {name: t.detach().cpu().clone() for name, t in net.state_dict().items()})
            return TrainingRecord()

        settings, key = self.settings(role, seed), {"untrained": True}
        return self._trained(role, None, seed, key, keep_start, settings, [])


def quantity_values(evidence: Evidence, role: str, name: str, threshold: float) -> np.ndarray:
    """(seeds, samples) of one of QUANTITIES in the final networks of a role."""
    if name in FINAL_METRICS:
        return metric_values(evidence, role, name, Choices(threshold))
    if name == "gap":
        inside, outside = final_entropies(evidence, role)
        return outside - inside
    if name == "over_chance":
        return np.stack([over_chance(evidence, role, s, threshold) for s in evidence.seeds])
    maps = [by_epoch[max(by_epoch)] for by_epoch in evidence.maps[role]]
    return np.stack([keeps_more(one.entropy, evidence.foreground) for one in maps])


def outcome_of(found: Estimate, side: str, wide: float, p: float) -> str:
    """Whether an expectation held: "up", "down", or "" for no lead, for which a lead must be out of
    the question and not only unseen. wide: the margin of what counts as none."""
    told = verdict(found, side or "up", wide, p)
    if told == "one seed":
        return told
    if side:
        return {"supported": "held", "undecided": "open"}.get(told, "did not hold")
    return "held" if found.high < wide else "did not hold" if found.low > 0 else "open"


class ControlFindings(Findings):
    """The numbers of the notebook on controls; no cell of the paper's tables is among them.

    networks: (layer, networks, quantity) -> (networks, images) values; networks are "baseline", or
    "student" or "teacher" and its kind. A teacher counts once, however many students it has.
    """

    study: ControlStudy

    def __init__(self, study: ControlStudy, notebook: str) -> None:
        super().__init__(study, notebook)
        self.networks: dict[tuple[str, str, str], np.ndarray] = {}

    def measure(self, *layers: str) -> None:
        """Train what the store does not have, estimate the final maps, and add the numbers of all
        kinds of teachers: the long part of the notebook."""
        layers = layers or self.study.parameters.layers
        for study in chain([self.study], self.study.others):
            for layer in layers:
                self._take(study, layer)
        for layer, networks, name in self.networks:
            key = f"{name}_{networks.replace(' ', '_')}_{layer}"
            self._keep(key, layer, name, networks)
        for layer, (one, other), name in product(layers, self.contrasts, QUANTITIES):
            key, pair = f"{name}_{one}_minus_{other}_{layer}", map(_student, (one, other))
            self._keep(key, layer, name, *pair)

    def _take(self, study: ControlStudy, layer: str) -> None:
        """The values of one kind's networks; the baseline's go with the good ones'."""
        evidence, seeds = study.evidence(layer), study.parameters.seeds
        held, teachers = study.data.held_out, [study.teacher_seed(seed) for seed in seeds]
        first = [teachers.index(teacher) for teacher in dict.fromkeys(teachers)]
        networks = {"S": f"student {study.kind}", "T": f"teacher {study.kind}", "B": BASELINE}
        for role in "TSB" if study.kind == GOOD else "TS":
            rows = first if role == "T" else slice(None)
            found = {n: quantity_values(evidence, role, n, self.threshold) for n in QUANTITIES}
            for name, split in (("accuracy", held), ("accuracy_train", "train")):
                right = [study.of(role, seed, layer).accuracy[split] for seed in seeds]
                found[name] = np.array(right)[:, None]
            if role == "S":
                for name, split in (("explained_train", "train"), ("explained_new", held)):
                    found[name] = np.array(explained_shares(study, layer, split))[:, None]
            found = {name: values[rows] for name, values in found.items()}
            self.networks |= {(layer, networks[role], name): v for name, v in found.items()}
            for name in FILED:
                told = [" ".join("-" if v != v else f"{v:.5g}" for v in row) for row in found[name]]
                about = {"layer": f"{layer}, {networks[role]}", "role": role, "metric": name}
                about |= {"threshold": self.threshold, "distance": None, "by_seed": told}
                self.values.append(Values(**about))

    @property
    def contrasts(self) -> list[tuple[str, str]]:
        """Pairs of kinds whose students are compared; the other may be the baseline."""
        pairs = [(kind, BASELINE) for kind in self.study.kinds]
        return [(GOOD, kind) for kind in ("shuffled", "equal") if kind in self.study.kinds] + pairs

    def estimate(self, layer: str, name: str, *networks: str) -> Estimate | None:
        """Of one quantity of some networks, or of theirs minus that of others, paired by seed and
        image; None where it is not defined for any image of a network."""
        values = [self.networks[layer, one, name] for one in networks]
        if not np.isfinite(sum(values)).any(1).all():
            return None
        teachers = None if networks[0].startswith("teacher") else self.study.shared_teachers
        return (paired_difference if values[1:] else crossed)(*values, mean, teachers)

    def _keep(self, key: str, layer: str, name: str, *networks: str) -> None:
        """Add an `estimate` to the numbers, or to the notes that there is none."""
        found, (what, unit) = self.estimate(layer, name, *networks), (QUANTITIES | COVARIATES)[name]
        role, _, kind = networks[0].partition(" ")
        shown = {"student": f"students of {kind} teachers", "teacher": f"{kind} teachers"}
        minus = [other.removeprefix("student ") for other in networks[1:]]
        whose = " minus ".join([shown.get(role, "baselines"), *minus])
        if found is None:
            self.notes.append(f"{what}, {whose} at {layer}: not defined.")
        else:
            self.numbers[key] = estimated(found, f"{what}, {whose} at {layer}", unit)

    def outcomes(self) -> pd.DataFrame:
        """What the protocol expects of students, found, and whether it held. Holm's correction is
        over the primary contrast's two metrics; margins are the protocol's."""
        rows = []
        for layer in dict.fromkeys(layer for layer, *_ in self.networks):
            asked = [e for e in EXPECTED if {e[0], e[1]} <= {*self.study.kinds, BASELINE}]
            gaps = {e: self.estimate(layer, e[2], *map(_student, e[:2])) for e in asked}
            primary = holm({e: gaps[e].p for e in asked if gaps[e] and e[1] == "shuffled"})
            for (one, other, name, side), found in gaps.items():
                if found is None:
                    continue
                wide = margin(name, self.estimate(layer, name, BASELINE).value)
                p = primary.get((one, other, name, side), found.p)
                about = layer, f"{one} minus {other}", QUANTITIES[name][0], SIDES[side]
                rows.append((*about, str(found), outcome_of(found, side, wide, p)))
        columns = ["layer", "students of", "metric", "expected", "found", "outcome"]
        return pd.DataFrame(rows, columns=columns).set_index(columns[:3])

    def table(self) -> pd.DataFrame:
        """Every quantity and covariate of every kind's networks, with 95% intervals."""
        rows = {}
        for layer, networks, name in self.networks:
            label = (QUANTITIES | COVARIATES)[name][0]
            found = self.estimate(layer, name, networks)
            rows.setdefault((layer, networks), {})[label] = str(found or "not defined")
        table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
        return table.rename_axis(["layer", "networks"])

    def forest(self) -> Figure:
        """Students and teachers by kind, a panel for each layer and quantity; the line is the
        baseline, the band its interval."""

        def draw(ax: Axes, of: tuple[str, str]) -> None:
            kinds, (layer, name) = self.study.kinds, of
            for style, shift in ((ROLES["S"], -0.15), (ROLES["T"], 0.15)):
                found = [self.estimate(layer, name, f"{style.name} {kind}") for kind in kinds]
                known = [(place + shift, one) for place, one in enumerate(found) if one]
                for place, one in known:
                    ax.hlines(place, one.low, one.high, color=style.color, linewidth=1.6)
                ax.plot([one.value for _, one in known], [place for place, _ in known],
                        style.marker, color=style.color, label=style.name)  # fmt: skip
            if base := self.estimate(layer, name, BASELINE):
                style = ROLES["B"]
                ax.axvspan(base.low, base.high, color=style.color, alpha=0.15, linewidth=0)
                ax.axvline(base.value, color=style.color, linestyle=style.line, label=style.name)
            ax.set_yticks(range(len(kinds)), kinds)
            ax.set_xlabel(f"[{QUANTITIES[name][1]}]")

        layers = dict.fromkeys(layer for layer, *_ in self.networks)
        panels = {
            f"{la}: {QUANTITIES[name][0]}": (la, name) for la in layers for name in QUANTITIES
        }
        figure = row_of_panels(panels, draw, "", "", (2.9, 2.4), most=3, sharey=True)
        figure.axes[0].invert_yaxis()  # shared
        return figure

    def reading(self) -> Prose:
        """What became of the protocol's expectations, in words; it may be no."""
        study, p, outcomes = self.study, self.study.parameters, self.outcomes()
        lines = [
            f"**What the measure measures**, {study.network_name} ({study.scale}) on "
            f"{study.dataset}, {count(p.samples, p.SAMPLE)}, {count(len(p.seeds), 'seed')}, "
            f"{count(len(p.teachers), 'teacher')}, b = {self.threshold:g} nats:",
            "",
        ]
        for (layer, students, metric), row in outcomes.iterrows():
            told = f"expected: {row['expected']}; found {row['found']}"
            lines.append(f"- {layer}, {students}, {metric}: **{row['outcome']}** ({told}).")
        found = list(outcomes["outcome"])
        told = ", ".join(f"{found.count(name)} {name}" for name in dict.fromkeys(found))
        primary = [o for (_, students, _), o in outcomes["outcome"].items() if GOOD in students]
        lines += ["", f"**{_answer(primary)}** Of {count(len(found), 'expectation')}: {told}."]
        return Prose("\n".join([*lines, *(f"\n{note}" for note in self.notes)]))


def _answer(outcomes: list[str]) -> str:
    """Of the protocol's contrast."""
    if not outcomes:
        return "The protocol's contrast was not measured."
    if "did not hold" in outcomes:
        return "No: students of the good teacher do not have more than those of the shuffled one."
    if {*outcomes} == {"held"}:
        return "Yes: students of the good teacher have more than those of the shuffled one."
    if "one seed" in outcomes:
        return "No verdict: several seeds would tell this from the luck of training."
    return "Undecided: whether good teachers hand on more than shuffled ones is open."


def _student(kind: str) -> str:
    """What `ControlFindings.networks` calls the students of a kind, or the baseline."""
    return kind if kind == BASELINE else f"student {kind}"
