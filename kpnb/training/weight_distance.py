"""The weight distance of Eq. 8, per SGD step and per epoch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.training.settings import TrainingRecord


class WeightDistance:
    """Cumulative distance of tracked weights, relative to the norm of their initial value.

    track: label -> weight tensor, without bias, changed in place by the optimizer.
    In a record, distance_per_step[label][k] is the sum over all SGD steps of epochs 1..k of
    ||w_(s+1) - w_s|| / ||w_0|| (published code), distance_per_epoch[label][k] the sum over epochs
    j = 1..k of ||w_j - w_(j-1)|| / ||w_0|| (Eq. 8), never more. Both start with 0 at epoch 0.
    Weight decay is part of the movement. Raises KpnbError if an initial weight is all zeros.
    """

    def __init__(self, track: Mapping[str, Tensor]):
        self._weights = {label: weight.detach() for label, weight in track.items()}
        self.initial = {label: _norm(weight).item() for label, weight in self._weights.items()}
        if zeros := [label for label, norm in self.initial.items() if norm == 0]:
            raise KpnbError(
                f"The initial weight tracked as {zeros[0]!r} is all zeros, so distances relative "
                "to it are undefined: track a weight or start from random values."
            )
        self.start_epoch()

    def start_epoch(self) -> None:
        """Measure the next epoch from the present weights."""
        weights = self._weights.items()
        self._last, self._epoch_start = ({k: w.clone() for k, w in weights} for _ in range(2))
        self._moved = {k: w.new_zeros((), dtype=torch.float64) for k, w in weights}

    def step(self) -> None:
        """Call after each SGD step."""
        for label, weight in self._weights.items():
            self._moved[label] += _norm(weight - self._last[label])
            self._last[label].copy_(weight)

    def end_epoch(self, record: TrainingRecord) -> None:
        """Call after the last step of each epoch: adds what it went to the record."""
        for label, weight in self._weights.items():
            across = _norm(weight - self._epoch_start[label])
            ways = record.distance_per_epoch[label], record.distance_per_step[label]
            for way, moved in zip(ways, (across, self._moved[label]), strict=True):
                way.append(way[-1] + moved.item() / self.initial[label])
        self.start_epoch()


def _norm(tensor: Tensor) -> Tensor:
    """Euclidean norm over all entries, summed in double precision, without a wait for the GPU."""
    return torch.linalg.vector_norm(tensor, dtype=torch.float64)
