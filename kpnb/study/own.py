"""The paper's questions of networks that were trained elsewhere, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError, require
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import layer_name
from kpnb.estimator.inputs import copied, readable
from kpnb.figures import charts, paper
from kpnb.metrics import evidence as measures
from kpnb.metrics.evidence import Choices, Decision, Evidence
from kpnb.metrics.formatting import count, table
from kpnb.metrics.results import Number, estimated
from kpnb.metrics.stats import Estimate, mean
from kpnb.networks.layers import tracked_weight
from kpnb.paper import FINAL_METRICS, HYPOTHESES, METRICS, ROLES
from kpnb.study.display import Prose
from kpnb.study.verdicts import CLAIMED, NAMES, answer
from kpnb.training.fitness import accuracies, explained
from kpnb.training.settings import TrainingRecord
from kpnb.training.weight_distance import WeightDistance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Checkpoints = Mapping[int, nn.Module | Mapping[str, Tensor]]  # by epoch
#: By epoch, ascending; a state dict is loaded when called.
Trail = dict[int, Callable[[], nn.Module]]
FINAL = 1  # in place of the epoch where no checkpoints are given


@dataclass(frozen=True, repr=False)
class ComparedNetworks:
    """What `compare` found; roles are "T" teacher, "S" student, "B" baseline.

    evidence: maps, foreground and weight distances (per "epoch"). images: the samples measured.
    threshold: b in nats. scores: quantity -> role -> mean over seeds, a part of `fitness`. notes:
    what was left out, a sentence each.
    """

    evidence: Evidence
    images: Tensor
    threshold: float
    scores: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()

    @property
    def choices(self) -> Choices:
        return Choices(self.threshold, per="epoch")

    @property
    def asked(self) -> tuple[str, ...]:
        """The metrics that can be had of what was given."""
        known = METRICS if len(self.evidence.epochs) > 1 else FINAL_METRICS
        return tuple(m for m in known if self.evidence.distance or HYPOTHESES[m] != 2)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that some sample has a value of, in student and baseline of each seed."""
        return tuple(m for m in self.asked if measures.is_defined(self.evidence, m, self.choices))

    @property
    def verdicts(self) -> dict[str, Decision]:
        """metric -> student minus baseline with its 95% interval and verdict; a single seed has
        neither, which the luck of training would be."""
        return measures.decided(self.evidence, self.metrics, self.choices)

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """role -> mean with its 95% interval over samples and seeds."""
        roles = "TSB" if metric in FINAL_METRICS else "SB"
        return {r: measures.estimate(self.evidence, r, metric, self.choices) for r in roles}

    def values(self) -> pd.DataFrame:
        """A row for each metric, role, seed and sample, as of `evidence_values`."""
        return measures.evidence_values(self.evidence, self.metrics, [self.choices])

    def table(self) -> pd.DataFrame:
        """By metric: each role's mean [95% interval], student minus baseline, and the verdict."""
        rows = []
        for metric, decision in self.verdicts.items():
            gap = decision.difference
            told = {ROLES[role]: str(found) for role, found in self.estimates(metric).items()}
            told |= {"student - baseline": str(gap), "verdict": decision.verdict}
            told |= {"n samples": gap.n_samples, "n seeds": gap.n_seeds}
            rows.append({"metric": NAMES[metric]} | told)
        return pd.DataFrame(rows).set_index("metric").fillna("")

    def fitness(self) -> pd.DataFrame:
        """Numbers that say whether the networks can answer at all, by role; means over seeds, NaN
        where one is not known. Scores; the share of the variance of the teacher's feature that the
        student explains, 1 - mean squared error / variance, before the ReLU; mean entropy of
        background minus foreground in nats, below 0 where more of the object is discarded; the
        share of samples with a foreground point."""
        gap, held = {}, {}
        for role in ROLES:
            inside, outside = measures.final_entropies(self.evidence, role)
            gap[role] = float(mean(outside - inside).mean())
            counts = measures.metric_values(self.evidence, role, "n_fg", self.choices)
            held[role] = float((counts > 0).mean())
        found = {**self.scores, "entropy of background minus foreground [nats]": gap}
        found["share of samples with a foreground point"] = held
        shown = pd.DataFrame.from_dict(found, orient="index", columns=list(ROLES), dtype=float)
        return shown.rename(columns=ROLES).rename_axis("quantity")

    def reading(self) -> Prose:
        """Verdicts in words, which may say no, what the networks are like, and the notes."""
        lines = []
        for number in sorted({HYPOTHESES[metric] for metric in self.metrics}):
            found = {m: v for m, v in self.verdicts.items() if HYPOTHESES[m] == number}
            lines += [f"**Hypothesis {number}** ({CLAIMED[number]}), b = {self.threshold:g}:", ""]
            lines += [
                f"- {NAMES[m]}: **{d.verdict}** (student minus baseline {d.difference}, predicted "
                f"{d.prediction}; {count(d.difference.n_samples, 'sample')}, "
                f"{count(d.difference.n_seeds, 'seed')})"
                for m, d in found.items()
            ]
            told = answer([(m, d.verdict) for m, d in found.items()], "metric")
            lines += ["", told, ""]
        lines += ["**What the networks are like:**", ""]
        for name, row in self.fitness().iterrows():
            told = ", ".join(f"{role} {value:.3g}" for role, value in row.dropna().items())
            lines.append(f"- {name}: {told}")
        return Prose("\n".join([*lines, *(f"\n{note}" for note in self.notes)]))

    def figures(self) -> dict[str, Figure]:
        """Those of the paper that fit, of the first seed: "metrics"; of colour images on a grid
        "points", the first samples (Fig. 6); of checkpoints "learning" (Fig. 4), "fates" (Fig. 5,
        the sample on which the student ends with most foreground points) and "stability"."""
        evidence, b = self.evidence, self.threshold
        found = {"metrics": charts.estimates_figure({m: self.estimates(m) for m in self.metrics})}
        points = {r: evidence.points(r, 0, None, b) for r in ROLES}
        trails = {r: measures.trajectory_points(evidence, r, 0, b) for r in "SB"}
        units = str(next(iter(evidence.maps["S"][0].values())).settings.get("units"))
        drawn = units.startswith("GridUnits") and self.images.shape[1] == 3
        if drawn:
            few = range(min(4, len(self.images)))
            found["points"] = paper.role_points_figure(self.images, points, few)
        if evidence.distance:
            ways = {r: evidence.distance[r, "epoch"][0][1:] for r in "SB"}
            counts = {r: measures.trajectory_counts(evidence, r, 0, b) for r in "SB"}
            found["learning"] = paper.learning_figure({r: (ways[r], counts[r]) for r in "SB"})
        if drawn and len(evidence.epochs) > 1:
            found["fates"] = paper.fates_figure(self.images, trails, int(points["S"].n_fg.argmax()))
        if "rho" in self.metrics:
            rho = {r: measures.metric_values(evidence, r, "rho", self.choices)[0] for r in "SB"}
            found["stability"] = charts.stability_figure(rho)
        return found

    def numbers(self) -> dict[str, Number]:
        """For a results file: each metric by role, its differences, and `fitness`."""
        found = {}
        for metric, decision in self.verdicts.items():
            told = f"{NAMES[metric]}, student minus baseline: {decision.verdict}"
            found[f"{metric}_difference"] = estimated(decision.difference, told)
            for role, value in self.estimates(metric).items():
                found[f"{metric}_{role}"] = estimated(value, f"{NAMES[metric]}, {ROLES[role]}")
        for (what, role), value in self.fitness().stack().dropna().items():
            found[f"{what}, {role}"] = Number(value=value, what=f"{what}, {role}")
        return found

    def __repr__(self) -> str:
        return "\n".join([self.table().to_string(), *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return self.table().to_html() + self.fitness().round(3).to_html(na_rep="") + notes

    def _repr_markdown_(self) -> str:
        shown = self.table().reset_index()
        return "\n\n".join([table(shown.columns, shown.to_numpy()), *self.notes])


def compare(
    *,
    teacher: nn.Module | Sequence[nn.Module],
    student: nn.Module | Checkpoints | Sequence[nn.Module | Checkpoints],
    baseline: nn.Module | Checkpoints | Sequence[nn.Module | Checkpoints],
    images: Tensor,
    layer: str | None | Mapping[str, str | None],
    masks: Tensor | np.ndarray | None = None,
    foreground: Tensor | None = None,
    model: nn.Module | None = None,
    estimator: EntropyEstimator | None = None,
    threshold: float = 0.2,
    labels: Tensor | None = None,
    test: tuple[Tensor, Tensor] | None = None,
) -> ComparedNetworks:
    """The paper's metrics of a student, distilled from a teacher, and of a baseline, the same
    network trained from scratch, on the same samples.

    teacher: a network, or a list of one per seed; a single one may have taught all students.
    student, baseline: a network, which answers Hypothesis 1; or {epoch: network}, or {epoch: state
        dict} with `model` a network that takes them, which answers all three; or a list of one per
        seed. Epoch 0 is the untrained network. Later ones without any map are left out, and told.
    images: (samples, ...) inputs of the networks, scaled as in training.
    layer: the name of one for all networks, or {"teacher": ..., "student": ..., "baseline": ...};
        None is a network's output.
    masks: as the units' `foreground` takes them, of GridUnits (samples, height, width); or
        foreground: (samples, units) bool. Samples without foreground or background are left out.
    estimator: its other settings; None: quality "fast" and 16 x 16 cells (ours).
    threshold: b of Eqs. 5 and 6 in nats; 0.2 as in the public code.
    labels: (samples,) int64 of `images`; test: unseen images and their labels; for scores.
    The weight distance of Eq. 8 is summed from one checkpoint to the next, so with every epoch
    given it is the paper's; that per optimiser step (public code) cannot be had from checkpoints.
    Raises KpnbError for networks, checkpoints, layers, samples and masks that do not fit together.
    """
    estimator = estimator or EntropyEstimator(None, quality="fast")
    foreground, rows, notes = _usable(estimator, images, masks, foreground)
    given = {"T": teacher, "S": student, "B": baseline}
    trails = {role: _trails(ROLES[role], found, model) for role, found in given.items()}
    _common_epochs(trails)
    last = {role: [trail[max(trail)]() for trail in trails[role]] for role in ROLES}
    layers = {role: _layer(ROLES[role], last[role], layer) for role in ROLES}
    labelled = {"the images": (images, labels), "the test images": test or (None, None)}
    scores = accuracies(last, labelled) | explained(last, layers, images[rows], estimator.feature)

    readers = {role: replace(estimator, layer=layers[role]) for role in ROLES}
    found = {role: [_maps(readers[role], ROLES[role], trail, images[rows])
                    for trail in trails[role]] for role in ROLES}  # fmt: skip
    notes += _leave_out_still(found, trails)
    epochs = tuple(found["S"][0])
    distance, told = _distances(trails, layers) if len(epochs) > 1 else ({}, [])
    found["T"] *= len(found["S"]) // len(found["T"])  # a single teacher of several students
    evidence = Evidence(layers["S"] or "output", epochs, foreground[rows], found, distance)
    whole = ComparedNetworks(evidence, images[rows], threshold, scores, (*notes, *told))
    lost = ", ".join(NAMES[metric] for metric in whole.asked if metric not in whole.metrics)
    why = f"Not measured, because no sample has a map at every checkpoint: {lost}."
    return replace(whole, notes=(*whole.notes, why)) if lost else whole


def _usable(
    estimator: EntropyEstimator, images: Tensor, masks: object, foreground: Tensor | None
) -> tuple[Tensor, Tensor, list[str]]:
    """The foreground of all samples, which of them have background too, and what is left out."""
    require(isinstance(images, Tensor), "images must be a tensor of the networks' inputs.")
    one = (masks is None) != (foreground is None)
    require(one, "give either masks, or foreground as (samples, units) bool.")
    units, kind = estimator.units, type(estimator.units).__name__
    if foreground is None:
        require(hasattr(units, "foreground"), f"{kind} take no masks: pass foreground instead.")
        foreground = units.foreground(masks)
    wanted, held = (len(images), units.count(images)), tuple(foreground.shape)
    told = f"the foreground is {foreground.dtype} {held}, but samples and units are {wanted}"
    require(held == wanted and foreground.dtype == torch.bool, f"{told}: give bool of that shape.")
    foreground = foreground.cpu()
    rows = foreground.any(1) & ~foreground.all(1)
    left = int((~rows).sum())
    told = f"{left} of {len(rows)} samples are left out, without foreground or without background"
    require(len(rows) - left > 1, f"{told}: give two more or mend the masks.")
    return foreground, rows, [f"{told}."] if left else []


def _trails(name: str, given: object, model: nn.Module | None) -> list[Trail]:
    """One for each seed; a network without checkpoints is at FINAL."""
    given = given if isinstance(given, (list, tuple)) else [given]
    require(len(given) > 0, f"there is no {name}: give a network, or a list of one per seed.")
    found = []
    for one in given:
        several = _is_dictionary(one)
        by_epoch = one if several else {FINAL: one}
        require(name != "teacher" or not several, "the teacher is one network, after training.")
        whole = all(type(epoch) is int and epoch >= 0 for epoch in by_epoch)
        told = f"the {name} is a dictionary of {list(by_epoch)[:3]}"
        require(whole, f"{told}: give {{epoch: network}}, epochs whole numbers from 0.")
        epochs = sorted(by_epoch)
        enough = not several or (0 in epochs and len(epochs) > 1)
        told = f"the {name}'s checkpoints are of epochs {epochs}"
        require(enough, f"{told}: give epoch 0, the untrained network, and a later one.")
        states = any(_is_dictionary(saved) for saved in by_epoch.values())
        told = f"the {name} is given by state dicts: pass model=, a network that takes them."
        require(model is not None or not states, told)
        saved = {epoch: (by_epoch[epoch], model, f"{name}, epoch {epoch}") for epoch in epochs}
        found.append({epoch: partial(_network, *parts) for epoch, parts in saved.items()})
    return found


def _is_dictionary(given: object) -> bool:
    return isinstance(given, Mapping) and not isinstance(given, nn.Module)


def _network(saved: nn.Module | Mapping, model: nn.Module | None, which: str) -> nn.Module:
    if not _is_dictionary(saved):
        return saved
    net = copied(model)
    try:
        net.load_state_dict(saved)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise KpnbError(f"a state dict ({which}) does not fit model: {told}.") from error
    return net


def _common_epochs(trails: Mapping[str, list[Trail]]) -> tuple[int, ...]:
    """Of student and baseline; KpnbError where they differ, or the numbers of seeds."""
    many = [len(found) for found in trails.values()]
    one_each = many[1] == many[2] and many[0] in (1, many[1])
    told = f"teacher, student and baseline are {many[0]}, {many[1]} and {many[2]} networks"
    require(one_each, f"{told}: give one of each a seed, or one teacher for all.")
    epochs = sorted({tuple(trail) for role in "SB" for trail in trails[role]})
    told = " and ".join(f"{list(found)}" for found in epochs[:2])
    require(len(epochs) == 1, f"checkpoints differ, {told}: give the same epochs of all.")
    return epochs[0]


def _maps(
    reader: EntropyEstimator, name: str, trail: Trail, images: Tensor
) -> dict[int, EntropyMaps]:
    made = {}
    for epoch, net in trail.items():
        made[epoch] = reader.explain(net(), images).to("cpu")
        told = f"the {name} has no entropy map of any sample (epoch {epoch})"
        enough = made[epoch].defined.any() or min(trail) < epoch < max(trail)
        require(enough, f"{told}: name another layer, or set relu=False.")
    return made


def _leave_out_still(found: Mapping[str, list], trails: Mapping[str, list[Trail]]) -> list[str]:
    """Leave out the epochs at which a network's feature is still on every sample: a student that
    has learned the mean and no more. Gives what is to be said of them."""
    made = sum(found.values(), [])
    still = {epoch for one in made for epoch, maps in one.items() if not maps.defined.any()}
    for trail in (*made, *trails["S"], *trails["B"]):
        [trail.pop(epoch, None) for epoch in still]
    told = f"epoch {', '.join(map(str, sorted(still)))}: some network has no entropy map there"
    why = "and points that come and go by then are not seen"
    return [f"Left out is {told}, {why}."] if still else []


def _layer(name: str, networks: Sequence[nn.Module], given: object) -> str | None:
    """The layer of a role; KpnbError where one of its networks has none of that name."""
    own = given.get(name, ...) if isinstance(given, Mapping) else given
    require(own is not ..., f"layer names none for the {name}: give one for each of the three.")
    for net in networks if own is not None else ():
        try:
            layer_name(*readable(net, own))
        except KpnbError as error:
            raise KpnbError(f"the {name} has another layer: {error}") from error
    return own


def _distances(
    trails: Mapping[str, list[Trail]], layers: Mapping[str, str | None]
) -> tuple[dict[tuple[str, str], list[list[float]]], list[str]]:
    """(role, "epoch") -> per seed the distance at each checkpoint, and what is to be said of it."""
    ways, starts = {("S", "epoch"): [], ("B", "epoch"): []}, {"S": [], "B": []}
    try:
        for role, trail in [(r, trail) for r in "SB" for trail in trails[r]]:
            nets = (readable(net(), layers[role]) for net in trail.values())
            first, *others = (tracked_weight(*net).detach().cpu() for net in nets)
            weight = first.clone()
            travelled = WeightDistance({"": weight})
            record = TrainingRecord(distance_per_step={"": [0.0]}, distance_per_epoch={"": [0.0]})
            for later in others:
                weight.copy_(later)
                travelled.end_epoch(record)
            ways[role, "epoch"].append(record.distance_per_epoch[""])
            starts[role].append(first)
    except KpnbError as error:
        return {}, [f"D is not measured: {error}"]
    same = all(map(torch.equal, starts["S"], starts["B"]))
    return ways, [] if same else ["Student and baseline do not start from the same weights."]
