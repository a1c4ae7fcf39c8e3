"""From entropy maps by epoch to the metrics of Hypotheses 1-3, with intervals and verdicts.

The same for every modality: what is here knows units and samples, not images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kpnb.estimator.entropy import EntropyMaps
from kpnb.metrics.points import (
    KnowledgePoints,
    knowledge_points,
    learning_distance,
    mean_entropies,
    published_filter,
    stability,
)
from kpnb.metrics.stats import Estimate, bootstrap, mean, paired_difference, variance
from kpnb.paper import HYPOTHESES, METRICS, PREDICTIONS

# The public code applies its sample filter to checkpoints from epoch 40 of 150 on.
FILTER_FROM = 40 / 150


@dataclass(frozen=True)
class Evidence:
    """Maps of teacher T, student S and baseline B at one layer, on the same samples.

    epochs: checkpoints of S and B, ascending, the first being 0 (untrained).
    foreground: (samples, units) bool.
    maps: role -> one dict epoch -> EntropyMaps per seed; T has its last epoch only.
    distance: (role, "step" or "epoch") -> per seed the cumulative weight distance at `epochs`,
        over the initial norm: summed over SGD steps (public code) or over epochs (Eq. 8).
    """

    layer: str
    epochs: tuple[int, ...]
    foreground: Tensor
    maps: dict[str, list[dict[int, EntropyMaps]]]
    distance: dict[tuple[str, str], list[list[float]]]

    @property
    def seeds(self) -> range:
        return range(len(self.maps["S"]))

    def keep(self, index: Tensor) -> Evidence:
        """The evidence on some of the samples only (bool mask or indices)."""
        maps = {
            role: [{epoch: m[index] for epoch, m in by_epoch.items()} for by_epoch in seeds]
            for role, seeds in self.maps.items()
        }
        return replace(self, foreground=self.foreground[index], maps=maps)

    def in_epochs(self) -> Evidence:
        """The same evidence with the number of epochs in place of the weight distance, which
        takes the size of the steps out of Eq. 8."""
        count = [[float(epoch) for epoch in self.epochs] for _ in self.seeds]
        return replace(self, distance={key: count for key in self.distance})

    def published_selection(self) -> Tensor:
        """(samples,) bool: kept by the public code's filter for S and for B, for every seed."""
        late = [epoch for epoch in self.epochs if epoch >= FILTER_FROM * self.epochs[-1]]
        kept = torch.ones(len(self.foreground), dtype=torch.bool)
        for role in "SB":
            for by_epoch in self.maps[role]:
                kept &= published_filter([by_epoch[epoch] for epoch in late], self.foreground)
        return kept

    def points(self, role: str, seed: int, epoch: int | None, threshold: float) -> KnowledgePoints:
        """Knowledge points of one network at a checkpoint (None: the last)."""
        by_epoch = self.maps[role][seed]
        maps = by_epoch[max(by_epoch) if epoch is None else epoch]
        return knowledge_points(maps, self.foreground, threshold)

    def trajectory(
        self, role: str, seed: int, threshold: float, untrained: bool = False
    ) -> list[KnowledgePoints]:
        """Knowledge points at every checkpoint; with the untrained one only on request.

        Eq. 8 and 9 run over epochs 1..M. The public code includes epoch 0 (random weights).
        """
        epochs = self.epochs if untrained else self.epochs[1:]
        return [self.points(role, seed, epoch, threshold) for epoch in epochs]


@dataclass(frozen=True)
class Choices:
    """What the metrics leave open.

    threshold: b in nats. per: weight distance summed per "step" (public code) or "epoch" (Eq. 8).
    untrained: count epoch 0 in Eq. 8 and 9 (public code) or not (paper).
    """

    threshold: float = 0.2
    per: str = "step"
    untrained: bool = False


@dataclass(frozen=True)
class MetricRule:
    """One metric: hypothesis, the side the paper predicts for the student, how it is computed."""

    hypothesis: int
    prediction: str
    values: Callable[[Evidence, str, int, Choices], Tensor]  # per-sample values of one seed
    statistic: Callable[[np.ndarray], np.ndarray] = mean


def _points_metric(name: str) -> Callable[[Evidence, str, int, Choices], Tensor]:
    def values(evidence: Evidence, role: str, seed: int, choices: Choices) -> Tensor:
        points = evidence.points(role, seed, None, choices.threshold)
        return torch.where(points.defined, getattr(points, name).double(), torch.nan)

    return values


def _distance(evidence: Evidence, role: str, seed: int, choices: Choices) -> Tensor:
    points = evidence.trajectory(role, seed, choices.threshold, choices.untrained)
    travelled = evidence.distance[role, choices.per][seed][0 if choices.untrained else 1 :]
    distance = learning_distance(torch.stack([p.n_fg for p in points]), travelled)
    return _where_defined(points, distance)


def _stability(evidence: Evidence, role: str, seed: int, choices: Choices) -> Tensor:
    points = evidence.trajectory(role, seed, choices.threshold, choices.untrained)
    return _where_defined(points, stability(torch.stack([p.foreground_points for p in points])))


def _where_defined(points: list[KnowledgePoints], values: Tensor) -> Tensor:
    """values, NaN for samples without an entropy map at some checkpoint."""
    return torch.where(torch.stack([p.defined for p in points]).all(0), values, torch.nan)


_COMPUTED: dict[str, tuple] = {
    "n_fg": (_points_metric("n_fg"),),
    "n_bg": (_points_metric("n_bg"),),
    "lambda": (_points_metric("ratio"),),
    "d_mean": (_distance,),
    "d_var": (_distance, variance),
    "rho": (_stability,),
}
METRIC_RULES: dict[str, MetricRule] = {
    name: MetricRule(HYPOTHESES[name], PREDICTIONS[name], *_COMPUTED[name]) for name in METRICS
}


def metric_values(evidence: Evidence, role: str, metric: str, choices: Choices) -> np.ndarray:
    """(seeds, samples) float64 of one metric; D_mean and D_var share the same values."""
    rule = METRIC_RULES[metric]
    rows = [rule.values(evidence, role, seed, choices) for seed in evidence.seeds]
    return torch.stack(rows).double().numpy()


def is_defined(evidence: Evidence, metric: str, choices: Choices) -> bool:
    """Whether, for every seed, some sample has a value of the metric in student and in baseline.

    D and rho need a map at every checkpoint: with an output of two dimensions behind a ReLU there
    may be none.
    """
    pair = [metric_values(evidence, role, metric, choices) for role in "SB"]
    return bool(np.isfinite(pair[0] + pair[1]).any(1).all())


def estimate(evidence: Evidence, role: str, metric: str, choices: Choices) -> Estimate:
    """The metric of one role with its bootstrap 95% interval over samples and seeds."""
    values = metric_values(evidence, role, metric, choices)
    return bootstrap(values, METRIC_RULES[metric].statistic)


def difference(evidence: Evidence, metric: str, choices: Choices) -> Estimate:
    """Student minus baseline, paired by sample and seed, with its interval."""
    pair = (metric_values(evidence, role, metric, choices) for role in "SB")
    return paired_difference(*pair, statistic=METRIC_RULES[metric].statistic)


def final_entropies(evidence: Evidence, role: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean entropy of foreground and of background in the final networks of a role, nats.

    (seeds, samples) each; NaN for samples without a map.
    """
    rows = []
    for by_epoch in evidence.maps[role]:
        maps = by_epoch[max(by_epoch)]
        pair = mean_entropies(maps.entropy, evidence.foreground)
        rows.append([torch.where(maps.defined, part, torch.nan).double() for part in pair])
    inside, outside = (torch.stack(part).numpy() for part in zip(*rows, strict=True))
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
