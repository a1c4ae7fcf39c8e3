"""From entropy maps by epoch to the metrics of Hypotheses 1-3, with intervals and verdicts.

The same for every modality: what is here knows units and samples, not images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kpnb.estimator.entropy import EntropyMaps
from kpnb.metrics import points as equations
from kpnb.metrics.points import KnowledgePoints, knowledge_points, learning_distance, stability
from kpnb.metrics.protocol import margin, primary_metrics
from kpnb.metrics.stats import (
    Estimate,
    crossed,
    holm,
    mean,
    paired_difference,
    variance,
    verdict,
)
from kpnb.paper import DISTANCE_METRICS, FINAL_METRICS, HYPOTHESES, METRICS, PREDICTIONS

# The thresholds of Table III, in nats.
THRESHOLDS = (0.15, 0.2, 0.25)
#: Units of the way of training, w_k the weights after epoch k of M, of the first layer measured:
#: epoch: sum over epochs j <= k of |w_j - w_(j-1)| / |w_0|, as Eq. 8 has it
#: step: the same over optimizer steps, as the public code sums
#: share: the first over its own value at M: how much of its own whole way a network has gone
#: time: k / M, which leaves the weights out
UNITS = ("epoch", "step", "share", "time")
# The public code applies its sample filter to checkpoints from epoch 40 of 150 on.
FILTER_FROM = 40 / 150


@dataclass(frozen=True)
class Evidence:
    """Maps of teacher T, student S and baseline B at one layer, on the same samples; of other
    checkpoints than the last perhaps on the first of them only, or none.

    epochs: checkpoints of S and B, ascending, the first being 0 (untrained).
    foreground: (samples, units) bool.
    maps: role -> one dict epoch -> EntropyMaps per seed; T has its last epoch only.
    distance: (role, unit) -> per seed the way of training at `epochs` in a unit of `UNITS`.
    teachers: which teacher each seed has, where seeds share them; None: each its own.
    What `evidence_values` has computed once is kept: nothing may be changed after that.
    """

    layer: str
    epochs: tuple[int, ...]
    foreground: Tensor
    maps: dict[str, list[dict[int, EntropyMaps]]]
    distance: dict[tuple[str, str], list[list[float]]]
    teachers: tuple[int, ...] | None = None
    _measured: dict = field(init=False, default_factory=dict, repr=False, compare=False)

    @property
    def seeds(self) -> range:
        return range(len(self.maps["S"]))

    @cached_property
    def followed(self) -> int:
        """How many samples, the first ones, have maps at every checkpoint of S and B."""
        found = [by_epoch for role in "SB" for by_epoch in self.maps[role]]
        whole = all(by_epoch.keys() >= {*self.epochs} for by_epoch in found)
        return min(len(m) for by_epoch in found for m in by_epoch.values()) if whole else 0

    def keep(self, index: Tensor) -> Self:
        """The evidence on some of the samples only (bool mask or ascending indices)."""
        kept = index.nonzero().flatten() if index.dtype == torch.bool else index
        maps = {
            role: [{e: m[kept[kept < len(m)]] for e, m in by_epoch.items()} for by_epoch in seeds]
            for role, seeds in self.maps.items()
        }
        return replace(self, foreground=self.foreground[kept], maps=maps)

    def published_selection(self) -> Tensor:
        """(samples,) bool: kept by the public code's filter for S and for B, for every seed, at
        every checkpoint; at the last where samples are not `followed`."""
        late = [epoch for epoch in self.epochs if epoch >= FILTER_FROM * self.epochs[-1]]
        late, many = (late, self.followed) if self.followed else (late[-1:], len(self.foreground))
        networks = [by_epoch for role in "SB" for by_epoch in self.maps[role]]
        maps = [by_epoch[epoch][:many] for by_epoch in networks for epoch in late]
        found = torch.zeros(len(self.foreground), dtype=torch.bool)
        found[:many] = equations.published_filter(maps, self.foreground[:many])
        return found

    def points(
        self, role: str, seed: int, epoch: int | None, threshold: float, most: int | None = None
    ) -> KnowledgePoints:
        """Knowledge points of one network at a checkpoint (None: the last); of `most` samples, the
        first ones, over which the mean of Eq. 5 and 6 runs then."""
        by_epoch = self.maps[role][seed]
        maps = by_epoch[max(by_epoch) if epoch is None else epoch][:most]
        return knowledge_points(maps, self.foreground[: len(maps)], threshold)

    def trajectory(
        self, role: str, seed: int, threshold: float, untrained: bool = False
    ) -> list[KnowledgePoints]:
        """Knowledge points of the samples `followed` at every checkpoint; with the untrained one
        only on request. Eq. 8 and 9 run over epochs 1..M. The public code includes epoch 0."""
        epochs = self.epochs if untrained else self.epochs[1:]
        return [self.points(role, seed, epoch, threshold, self.followed) for epoch in epochs]


@dataclass(frozen=True)
class Choices:
    """What the metrics leave open.

    threshold: b in nats. per: unit of the way of training, of `UNITS`.
    untrained: count epoch 0 in Eq. 8 and 9 (public code) or not (paper).
    """

    threshold: float = 0.2
    per: str = "epoch"
    untrained: bool = False

    def concerning(self, metric: str) -> tuple[float, str | None, bool | None]:
        """(threshold, distance, untrained) of a metric's rows: None where it does not depend."""
        per = self.per if metric in DISTANCE_METRICS else None
        return self.threshold, per, None if metric in FINAL_METRICS else self.untrained


def evidence_values(
    evidence: Evidence,
    metrics: Sequence[str] = METRICS,
    options: Sequence[Choices] = (Choices(),),
    roles: str = "TSB",
) -> pd.DataFrame:
    """Every value that the metrics rest on, one a row, computed once for an `Evidence`.

    Columns: layer; role ("T" for the metrics of final networks only, "S", "B"); seed, sample:
    positions; metric; threshold: b in nats; distance: what the weight distance is summed per, None
    for other metrics than D; untrained: whether epoch 0 counts, None for metrics of the final
    network; value: float64, NaN where the sample has no entropy map that it takes. The value of a
    metric is its mean over samples, of d_var (which rests on the values of d_mean) their variance.
    """
    parts = []
    for metric in metrics:
        cases = dict.fromkeys(choices.concerning(metric) for choices in options)
        for role in roles if metric in FINAL_METRICS else roles.replace("T", ""):
            for threshold, distance, untrained in cases:
                values = _measured(evidence, role, threshold, untrained)[metric, distance]
                seed, sample = np.indices(values.shape).reshape(2, -1)
                columns = {"layer": evidence.layer, "role": role, "seed": seed, "sample": sample}
                columns |= {"metric": metric, "threshold": threshold, "distance": distance}
                columns |= {"untrained": untrained, "value": values.ravel()}
                parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def metric_values(evidence: Evidence, role: str, metric: str, choices: Choices) -> np.ndarray:
    """(seeds, samples) float64 of one metric; D_mean and D_var share the same values."""
    rows = evidence_values(evidence, [metric], [choices], role)
    return rows["value"].to_numpy().reshape(len(evidence.seeds), -1)


def _measured(evidence: Evidence, role: str, threshold: float, untrained: bool | None) -> dict:
    """(metric, distance) -> (seeds, samples) float64 of all metrics of the final network
    (untrained: None), or of all that follow its training; computed once."""
    key = role, threshold, untrained
    if key not in evidence._measured:
        rows = [_of_network(evidence, seed, *key) for seed in evidence.seeds]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        evidence._measured[key] = {name: part.numpy() for name, part in stacked.items()}
    return evidence._measured[key]


def _of_network(
    evidence: Evidence, seed: int, role: str, threshold: float, untrained: bool | None
) -> dict[tuple[str, str | None], Tensor]:
    """(metric, distance) -> (samples,): of the final network Eq. 5 to 7; of its checkpoints Eq. 8,
    for each of the weight distances there are, and 9."""
    if untrained is None:
        trail = [points := evidence.points(role, seed, None, threshold)]
        found = {("n_fg", None): points.n_fg, ("n_bg", None): points.n_bg}
        found["lambda", None] = points.ratio
    else:
        trail = evidence.trajectory(role, seed, threshold, untrained)
        counts = torch.stack([points.n_fg for points in trail])
        held = torch.stack([p.foreground_points for p in trail])
        found = {("rho", None): stability(held), ("dropped", None): equations.dropped(held)}
        for per in [per for owner, per in evidence.distance if owner == role]:
            travelled = evidence.distance[role, per][seed][0 if untrained else 1 :]
            found["d_mean", per] = found["d_var", per] = learning_distance(counts, travelled)
    defined = torch.stack([points.defined for points in trail]).all(0)
    return {name: torch.where(defined, part.double(), torch.nan) for name, part in found.items()}


def is_defined(evidence: Evidence, metric: str, choices: Choices) -> bool:
    """Whether, for every seed, some sample has a value of the metric in student and in baseline.

    D and rho need a map at every checkpoint, which two outputs behind a ReLU may not give.
    """
    unknown = metric in DISTANCE_METRICS and ("S", choices.per) not in evidence.distance
    followed = len(evidence.epochs) > 1 and evidence.followed
    if metric not in FINAL_METRICS and (unknown or not followed):
        return False
    pair = [metric_values(evidence, role, metric, choices) for role in "SB"]
    return bool(np.isfinite(pair[0] + pair[1]).any(1).all())


def estimate(evidence: Evidence, role: str, metric: str, choices: Choices) -> Estimate:
    """The metric of one role with its 95% interval over samples and seeds."""
    values = metric_values(evidence, role, metric, choices)
    return crossed(values, _statistic(metric), evidence.teachers)


def difference(evidence: Evidence, metric: str, choices: Choices, roles: str = "SB") -> Estimate:
    """Student minus baseline, or of two other roles, paired by sample and seed, with interval."""
    pair = (metric_values(evidence, role, metric, choices) for role in roles)
    return paired_difference(*pair, _statistic(metric), evidence.teachers)


def _statistic(metric: str) -> Callable[[np.ndarray], np.ndarray]:
    return variance if metric == "d_var" else mean


def final_entropies(evidence: Evidence, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean entropy of foreground and of background in the final networks of a role, nats.

    (seeds, samples) each; NaN for samples without a map.
    """
    pairs = []
    for by_epoch in evidence.maps[role]:
        maps = by_epoch[max(by_epoch)]
        pair = torch.stack(equations.mean_entropies(maps.entropy, evidence.foreground)).double()
        pairs.append(torch.where(maps.defined, pair, torch.nan).numpy())
    inside, outside = np.stack(pairs, 1)
    return inside, outside


def trajectory_points(
    evidence: Evidence, role: str, seed: int, threshold: float
) -> dict[int, KnowledgePoints]:
    """Knowledge points by checkpoint, the untrained network (epoch 0) first."""
    found = evidence.trajectory(role, seed, threshold, untrained=True)
    return dict(zip(evidence.epochs, found, strict=True))


def trajectory_counts(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """N_fg of every sample at checkpoints 1..M, (epochs, samples)."""
    return torch.stack([p.n_fg for p in evidence.trajectory(role, seed, threshold)])


def hypothesis_metrics(hypothesis: int) -> tuple[str, ...]:
    """The metrics that Hypothesis 1, 2 or 3 is judged on."""
    return tuple(name for name in METRICS if HYPOTHESES[name] == hypothesis)


@dataclass(frozen=True)
class Decision:
    """Student minus baseline in one metric, with the verdict on the paper's side.

    margin: what it must be inside to be equivalent. p: adjusted for the other primary metrics.
    """

    difference: Estimate
    margin: float
    p: float
    prediction: str

    @property
    def verdict(self) -> str:
        return verdict(self.difference, self.prediction, self.margin, self.p)

    def __str__(self) -> str:
        return f"{self.difference}, {self.verdict}"


def decided(evidence: Evidence, metrics: Sequence[str], choices: Choices) -> dict[str, Decision]:
    """The decision on each metric, under the protocol's margins; primary metrics with Holm's
    correction over all that the evidence has of them, whichever are asked for."""
    family = [m for m in primary_metrics() if is_defined(evidence, m, choices)]
    gaps = {m: difference(evidence, m, choices) for m in dict.fromkeys([*metrics, *family])}
    adjusted = holm({m: gaps[m].p for m in family})
    found = {}
    for m in metrics:
        wide = margin(m, estimate(evidence, "B", m, choices).value)
        found[m] = Decision(gaps[m], wide, adjusted.get(m, gaps[m].p), PREDICTIONS[m])
    return found


def thresholds_around(threshold: float) -> tuple[float, ...]:
    """Table III's thresholds and the one in use, ascending."""
    return tuple(sorted({*THRESHOLDS, threshold}))
