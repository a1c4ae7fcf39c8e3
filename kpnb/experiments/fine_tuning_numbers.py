"""What fine-tuning changes: counts over training, detours, discarded points.

Evidence has the fine-tuned network in role S, the one from scratch in role B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kpnb.metrics.evidence import Choices, Evidence, metric_values, trajectory_counts
from kpnb.metrics.stats import Estimate, bootstrap, paired_difference

#: Role in the evidence -> what the network is called.
NAMES = {"S": "fine-tuned", "B": "from scratch"}


@dataclass(frozen=True)
class Quantity:
    """One quantity of a network: label, unit, the side Section 4.5 is on for the fine-tuned
    network ("" where it says nothing), and its values by evidence, role and threshold."""

    label: str
    unit: str
    prediction: str
    values: Callable[[Evidence, str, float], np.ndarray]  # (seeds, samples), NaN: not defined


def early_counts(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples,) mean N_fg over the first half of the checkpoints after epoch 0."""
    counts = trajectory_counts(evidence, role, seed, threshold)
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


def discarded_points(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples, units) bool: foreground points learned at a checkpoint 1..M and gone at the last,
    the union of Eq. 9 without the final set."""
    held = torch.stack(
        [points.foreground_points for points in evidence.trajectory(role, seed, threshold)]
    )
    return held.any(0) & ~held[-1]


def ever_points(evidence: Evidence, role: str, seed: int, threshold: float) -> Tensor:
    """(samples, units) bool: the union of Eq. 9, all points learned at some checkpoint."""
    found = evidence.trajectory(role, seed, threshold)
    return torch.stack([points.foreground_points for points in found]).any(0)


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


#: By the name their difference has in the results file.
QUANTITIES: dict[str, Quantity] = {
    "n_fg": Quantity("N_fg in the end", "points", "", _metric("n_fg")),
    "start_n_fg": Quantity("N_fg at epoch 0", "points", "", _by_seed(start_counts)),
    "early_n_fg": Quantity("N_fg, first half", "points", "up", _by_seed(early_counts)),
    "early_rise": Quantity("N_fg, first half, above epoch 0", "points", "", _by_seed(early_rise)),
    "epochs_to_half": Quantity(
        "epochs to half of the final N_fg", "epochs", "", _by_seed(epochs_to_half)
    ),
    "d_mean": Quantity("D_mean", "1", "", _metric("d_mean")),
    "ever": Quantity("points ever learned", "points", "", _by_seed(ever_points)),
    "discarded": Quantity("points discarded", "points", "down", _by_seed(discarded_points)),
    "rho": Quantity("rho", "1", "up", _metric("rho")),
}
CLAIMS = {
    "early_n_fg": "foreground points are learned more quickly",
    "rho": "there are fewer detours",
    "discarded": "fewer temporarily learned points are discarded",
}


def difference(evidence: Evidence, name: str, threshold: float) -> Estimate | None:
    """Fine-tuned minus from scratch, paired by sample and seed; None where a seed has no sample
    that is defined for both."""
    pair = [QUANTITIES[name].values(evidence, role, threshold) for role in NAMES]
    if not np.isfinite(sum(pair)).any(1).all():
        return None
    return paired_difference(*pair)


def own_value(evidence: Evidence, role: str, name: str, threshold: float) -> Estimate | None:
    """A quantity of one network; None where a seed has no defined sample."""
    values = QUANTITIES[name].values(evidence, role, threshold)
    return bootstrap(values) if np.isfinite(values).any(1).all() else None
