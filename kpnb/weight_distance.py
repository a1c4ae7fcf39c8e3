"""How far a layer's weight travels while it is learned (Eq. 8), per SGD step and per epoch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kpnb.errors import KpnbError


class WeightDistance:
    """Cumulative distance of tracked weights, relative to the norm of their initial value.

    track: label -> weight tensor, without bias, changed in place by the optimizer.
    per_step[label][k]: sum over all SGD steps of epochs 1..k of ||w_(s+1) - w_s|| / ||w_0||
        (published code).
    per_epoch[label][k]: sum over epochs j = 1..k of ||w_j - w_(j-1)|| / ||w_0|| (Eq. 8); never
        more than per_step.
    Both start with 0 at epoch 0. Weight decay is part of the movement.
    Raises KpnbError if an initial weight is all zeros.
    """

    def __init__(self, track: Mapping[str, Tensor]):
        self._weights = {label: weight.detach() for label, weight in track.items()}
        self._initial = {label: _norm(weight).item() for label, weight in self._weights.items()}
        for label, norm in self._initial.items():
            if norm == 0:
                raise KpnbError(
                    f"The initial weight tracked as {label!r} is all zeros, so distances relative "
                    "to it are undefined: track a weight or start from random values."
                )
        self.per_step = {label: [0.0] for label in self._weights}
        self.per_epoch = {label: [0.0] for label in self._weights}
        self._start_here()

    def step(self) -> None:
        """Call after each SGD step."""
        for label, weight in self._weights.items():
            self._moved[label] += _norm(weight - self._last[label])
            self._last[label].copy_(weight)

    def end_epoch(self) -> None:
        """Call after the last step of each epoch."""
        for label, weight in self._weights.items():
            initial = self._initial[label]
            across = _norm(weight - self._epoch_start[label]).item() / initial
            along = self._moved[label].item() / initial
            self.per_epoch[label].append(self.per_epoch[label][-1] + across)
            self.per_step[label].append(self.per_step[label][-1] + along)
        self._start_here()

    def to_info(self) -> dict:
        """Everything but the weights, for JSON; call between epochs."""
        return {"initial": self._initial, "per_step": self.per_step, "per_epoch": self.per_epoch}

    def resume(self, info: dict) -> None:
        """Go on from `to_info`; the tracked weights must have the values they had then."""
        self._initial = dict(info["initial"])
        self.per_step = {label: list(info["per_step"][label]) for label in self._weights}
        self.per_epoch = {label: list(info["per_epoch"][label]) for label in self._weights}
        self._start_here()

    def _start_here(self) -> None:
        """Measure the next epoch from the present weights."""
        self._last = {label: weight.clone() for label, weight in self._weights.items()}
        self._epoch_start = {label: weight.clone() for label, weight in self._weights.items()}
        self._moved = {
            label: torch.zeros((), dtype=torch.float64, device=weight.device)
            for label, weight in self._weights.items()
        }


def _norm(tensor: Tensor) -> Tensor:
    """Euclidean norm over all entries, summed in double precision, without a wait for the GPU."""
    return torch.linalg.vector_norm(tensor, dtype=torch.float64)
