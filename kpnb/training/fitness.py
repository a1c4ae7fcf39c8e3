"""Whether networks can answer the questions: the protocol's checks, before any verdict.

A student that did not learn its teacher's feature says nothing of distillation, and where more of
the object is discarded than of the background, points on it are no knowledge of it. A layer that
fails a check is not measurable, with the reason and what to change. Beside the checks stand numbers
that put the metrics into proportion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.features import Choice, FeatureReader
from kpnb.estimator.inputs import moved, readable
from kpnb.metrics.evidence import Choices, Evidence, final_entropies, metric_values
from kpnb.metrics.protocol import protocol
from kpnb.metrics.results import Number, estimated
from kpnb.metrics.stats import Estimate, crossed, mean
from kpnb.paper import ROLES
from kpnb.store import Scratch
from kpnb.training.costs import Cost, Work
from kpnb.training.distillation import teacher_features
from kpnb.training.train import check_labelled

if TYPE_CHECKING:
    from kpnb.study.study import Study

#: The first so many final maps are looked at, so that a check costs little.
LOOKED_AT = 40
ROWS = 256  # samples in one pass, of networks that were trained elsewhere


@dataclass(frozen=True)
class Check:
    """One question to the networks of a layer. found: the answer, in words; remedy: what to change
    where it is no."""

    asked: str
    found: str
    passed: bool
    remedy: str


@dataclass(frozen=True)
class Fitness:
    """The checks of one layer, and numbers by name."""

    layer: str
    checks: tuple[Check, ...]
    numbers: dict[str, Number] = field(default_factory=dict)

    @property
    def fit(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Why the layer is not measurable, and what to change; "" where it is."""
        failed = [check for check in self.checks if not check.passed]
        why = "; ".join(f"{check.asked}: {check.found}" for check in failed)
        changes = ", ".join(dict.fromkeys(check.remedy for check in failed))
        return f"{self.layer} is not measurable ({why}); {changes}." if failed else ""

    def table(self) -> pd.DataFrame:
        rows = [(c.asked, c.found, "yes" if c.passed else f"no: {c.remedy}") for c in self.checks]
        columns = [self.layer, "found", "fit"]
        return pd.DataFrame(rows, columns=columns).set_index(self.layer)


def fitness_of(study: Study, evidence: Evidence, threshold: float) -> Fitness:
    """The protocol's checks of a layer's networks and of their final maps."""
    checks = (*network_checks(study, evidence.layer), *map_checks(evidence, threshold))
    numbers = {f"explained_{name}_{evidence.layer}": _explained_number(study, evidence.layer, split)
               for name, split in (("train", "train"), ("new", study.data.held_out))}  # fmt: skip
    return Fitness(evidence.layer, checks, numbers | map_numbers(evidence, threshold))


def network_checks(study: Study, layer: str) -> list[Check]:
    """Of the trained networks: whether there is anything to learn, and whether it was learned."""
    asked, held = protocol()["fitness"], study.data.held_out
    scores = {r: study.accuracies(r, layer)[held] for r in "TSB"}
    teachers = study.shared_teachers
    lead = _over_seeds(np.subtract(scores["T"], scores["B"]), teachers)
    least = lead.value if np.isnan(lead.low) else lead.low
    explained = {s: np.mean(explained_shares(study, layer, s)) for s in ("train", held)}
    falls = [_last_fall(study.of("B", seed).record.loss) for seed in study.parameters.seeds]
    student, baseline = np.mean(scores["S"]), np.mean(scores["B"])
    longer = "raise epochs or fraction"
    return [
        Check(
            f"the teacher's {study.SCORE} on new samples is above the baseline's", f"by {lead}",
            least > 0, "raise teacher_samples or teacher_epochs",
        ),
        Check(
            "the student's is not below the baseline's", f"{student:.3g} and {baseline:.3g}",
            bool(student >= baseline), longer,
        ),
        *(
            Check(
                f"the student explains at least {asked[f'explained_{name}']:.0%} of the teacher's "
                f"feature on {name} samples", f"{explained[split]:.0%}",
                bool(explained[split] >= asked[f"explained_{name}"]), longer,
            )
            for name, split in (("train", "train"), ("new", held))
        ),
        Check(
            "the baseline's loss fell by less than "
            f"{asked['baseline_loss_fall']:.0%} in the last tenth", f"by {np.mean(falls):.1%}",
            bool(np.mean(falls) < asked["baseline_loss_fall"]), "raise epochs",
        ),
    ]  # fmt: skip


def map_checks(evidence: Evidence, threshold: float) -> list[Check]:
    """Of the first final maps: whether points can mean what they are taken for."""
    first = evidence.keep(torch.arange(min(LOOKED_AT, len(evidence.foreground))))
    least, checks = protocol()["fitness"]["with_point"], []
    for role, name in ROLES.items():
        inside, outside = final_entropies(first, role)
        gap = float(np.nanmean(outside - inside))
        checks.append(
            Check(
                f"the {name} discards no less of the background than of the foreground",
                f"{gap:+.3f} nats", gap >= 0, "choose samples whose object tells the class",
            )
        )  # fmt: skip
    for role in "SB":
        share = float((metric_values(first, role, "n_fg", Choices(threshold)) > 0).mean())
        asked = f"at least {least:.0%} of samples have a foreground point in the {ROLES[role]}"
        checks.append(Check(asked, f"{share:.0%}", share >= least, "lower threshold"))
    return checks


def map_numbers(evidence: Evidence, threshold: float) -> dict[str, Number]:
    """How near maps are to the teacher's by rank, how far lambda lies above that of the same points
    under the masks of other samples, and what an untrained network has; none of what some network
    has no sample with."""
    teachers, rows = evidence.teachers, {}
    for role, name in ROLES.items():
        if role in "SB":
            pairs = zip(evidence.maps[role], evidence.maps["T"], strict=True)
            values = [rank_correlations(_last(own), _last(taught)) for own, taught in pairs]
            told = f"rank correlation of the {name}'s map with the teacher's"
            rows[f"rank_correlation_{role}"] = values, told, teachers
        values = [over_chance(evidence, role, seed, threshold) for seed in evidence.seeds]
        told = f"lambda minus that under the masks of other samples, {name}"
        rows[f"lambda_over_chance_{role}"] = values, told, teachers
    if evidence.followed:
        points = [evidence.points("B", s, 0, threshold) for s in evidence.seeds]
        for metric, name in (("n_fg", "n_fg"), ("ratio", "lambda")):
            values = [getattr(p, metric).double().numpy() for p in points]
            rows[f"{name}_untrained"] = values, f"{name} of the untrained network", None
    return {
        f"{name}_{evidence.layer}": estimated(
            crossed(np.stack(values), mean, given), f"{told} at {evidence.layer}"
        )
        for name, (values, told, given) in rows.items()
        if all(np.isfinite(row).any() for row in values)  # a network without points has no lambda
    }


def explained_shares(study: Study, layer: str, split: str) -> list[float]:
    """By seed: the share of the variance of the teacher's feature that the student explains."""
    return [_explained(study, layer, split, seed) for seed in study.parameters.seeds]


def explained_share(teacher: nn.Module, student: nn.Module, layer: str, inputs: Tensor) -> float:
    """1 - mean squared error / variance of the teacher's feature at `layer`, before the ReLU, both
    averaged over dimensions, the variance over samples; below 0 where its mean would do better."""
    taught, own = (teacher_features(net, layer, inputs).double() for net in (teacher, student))
    return float(1 - (taught - own).square().mean() / taught.var(dim=0, correction=0).mean())


def rank_correlations(maps: EntropyMaps, others: EntropyMaps) -> np.ndarray:
    """(samples,) Spearman's correlation over units of two networks' entropies, NaN where one is not
    defined; units of no sample (padding) left out."""
    found = []
    for one, other in zip(maps.entropy.double(), others.entropy.double(), strict=True):
        known = one.isfinite() & other.isfinite()
        ranks = [part[known].argsort().argsort().double() for part in (one, other)]
        enough = int(known.sum()) > 2
        found.append(float(torch.corrcoef(torch.stack(ranks))[0, 1]) if enough else np.nan)
    return np.array(found)


def over_chance(evidence: Evidence, role: str, seed: int, threshold: float) -> np.ndarray:
    """(samples,) lambda minus the share of the same points that lies on the foreground of the next
    sample, the last one's on that of the first; NaN without a point or a map."""
    points = evidence.points(role, seed, None, threshold)
    held = (points.kinds != 0).double()
    share = (held * evidence.foreground.roll(-1, 0)).sum(1) / held.sum(1)
    known = points.defined & (held.sum(1) > 0)
    return torch.where(known, points.ratio.double() - share, torch.nan).numpy()


def _explained(study: Study, layer: str, split: str, seed: int) -> float:
    teacher, student = study.of("T", seed), study.of("S", seed, layer)
    samples = study.data.splits[split]

    def compute(scratch: Scratch) -> tuple[dict, dict]:
        nets = study.network(teacher), study.network(student)
        inputs = study.inputs(samples)
        return {}, {"share": explained_share(*nets, layer, inputs)}

    key = {"networks": [teacher.fingerprint, student.fingerprint], "layer": layer}
    key |= {"samples": samples.source, "device": study.device.type}
    work = tuple(Work("forward", len(samples), role, layer) for role in "TS")
    cost: Callable[[], Cost] = lambda: Cost(work, {}, {"share": 0.0})  # noqa: E731
    return study.stored("explained", key, compute, (explained_share,), cost).info["share"]


def _explained_number(study: Study, layer: str, split: str) -> Number:
    found = _over_seeds(explained_shares(study, layer, split), study.shared_teachers)
    told = f"share of the teacher's feature at {layer} that the student explains, {split} samples"
    return estimated(found, told, "share", len(study.data.splits[split]))


def _over_seeds(values: Sequence[float], teachers: Sequence | None) -> Estimate:
    return crossed(np.asarray(values, float)[:, None], mean, teachers)


def _last_fall(losses: Sequence[float]) -> float:
    """The share by which a loss fell over the last tenth of the epochs."""
    before = losses[max(round(0.9 * len(losses)) - 1, 0)]
    return 1 - losses[-1] / before


def _last(by_epoch: dict[int, EntropyMaps]) -> EntropyMaps:
    return by_epoch[max(by_epoch)]


# Networks that were trained elsewhere


def read_feature(net: nn.Module, layer: str | None, images: Tensor, choice: Choice) -> Tensor:
    """(samples, d) of a layer, before the ReLU."""
    net, layer = readable(net, layer)
    with torch.no_grad(), FeatureReader(net, layer, choice=choice) as reader:
        batches = (moved(batch, net) for batch in images.split(ROWS))
        return torch.cat([reader(lambda x=x: net(x)).cpu() for x in batches])


def accuracies(
    networks: Mapping[str, list[nn.Module]], labelled: Mapping[str, tuple[Tensor, Tensor | None]]
) -> dict[str, dict[str, float]]:
    """Accuracies, 0 to 1, where there are labels."""
    found = {}
    for name, (images, labels) in labelled.items():
        if labels is not None:
            check_labelled(images, labels)
            right = {
                role: [
                    read_feature(net, None, images, None).argmax(1) == labels.cpu() for net in nets
                ]
                for role, nets in networks.items()
            }
            found[f"accuracy on {name}"] = {
                role: float(torch.cat(parts).double().mean()) for role, parts in right.items()
            }
    return found


def explained(
    networks: Mapping[str, list[nn.Module]], layers: dict, images: Tensor, choice: Choice
) -> dict[str, dict[str, float]]:
    """How much of the variance of the teacher's feature the student explains; {} where their
    features have other shapes, or the teacher's does not vary."""
    shares, students = [], networks["S"]
    teachers = networks["T"] * (len(students) // len(networks["T"]))
    for pair in zip(teachers, students, strict=True):
        read = ((net, layers[role], images, choice) for role, net in zip("TS", pair, strict=True))
        wanted, own = (read_feature(*given).double() for given in read)
        variance = wanted.var(0, correction=0).mean()
        if wanted.shape != own.shape or not variance > 0:
            return {}
        shares.append(float(1 - (wanted - own).square().mean() / variance))
    return {"share of the teacher's feature that is explained": {"S": float(np.mean(shares))}}
