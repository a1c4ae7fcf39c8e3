"""How far a layer's weight travels while it is learned (Eq. 8), per SGD step and per epoch.

What a training run reports, and what it leaves behind so that it can be taken up again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

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


@dataclass
class TrainingRecord:
    """One training run, epoch by epoch.

    loss, metric, learning_rate: one value per epoch 1..E; loss and metric are means over the
    samples while the epoch went on (metric: share of right answers for classification, share of
    explained variance for feature distillation).
    distance_per_step, distance_per_epoch: label -> E + 1 cumulative relative distances of the
    tracked weight from epoch 0 on (`WeightDistance`, Eq. 8).
    """

    loss: list[float] = field(default_factory=list)
    metric: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    distance_per_step: dict[str, list[float]] = field(default_factory=dict)
    distance_per_epoch: dict[str, list[float]] = field(default_factory=dict)

    def distance(self, per: str) -> dict[str, list[float]]:
        """`distance_per_step` or `distance_per_epoch`, for per = "step" or "epoch"."""
        return {"step": self.distance_per_step, "epoch": self.distance_per_epoch}[per]

    def to_info(self) -> dict:
        """The record for JSON."""
        return asdict(self)

    @classmethod
    def from_info(cls, info: dict) -> "TrainingRecord":
        """The record that `to_info` wrote."""
        return cls(**info)


class Scratch(Protocol):
    """Where a run keeps its state: the store's scratch, or anything with these two methods."""

    def save(self, name: str, tensors: dict[str, Tensor], info: dict) -> None: ...

    def load(self, name: str) -> tuple[dict[str, Tensor], dict] | None: ...


@dataclass(frozen=True)
class Resume:
    """Take a killed run up again from `scratch`, where it keeps its state under `name`.

    State is kept after each epoch. A run taken up again hands over its
    earlier checkpoints once more and then goes on, bit for bit as if it had never stopped. State
    of a run with other settings is ignored.
    """

    scratch: Scratch
    name: str

    def save(self, epoch: int, tensors: dict[str, Tensor], info: dict) -> None:
        """Keep the whole state after `epoch`."""
        self.scratch.save(f"{self.name}.latest", tensors, {**info, "epoch": epoch})

    def load(self) -> tuple[dict[str, Tensor], dict] | None:
        """The latest state, if any."""
        return self.scratch.load(f"{self.name}.latest")

    def save_checkpoint(self, epoch: int, state: dict[str, Tensor]) -> None:
        """Keep the weights after `epoch` for handing over again."""
        self.scratch.save(f"{self.name}.epoch{epoch:04d}", state, {"epoch": epoch})

    def load_checkpoint(self, epoch: int) -> dict[str, Tensor] | None:
        """The weights after `epoch`, if kept."""
        found = self.scratch.load(f"{self.name}.epoch{epoch:04d}")
        return None if found is None else found[0]


def cpu_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict as contiguous copies on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in model.state_dict().items()
    }


def join_state(model_state: Mapping[str, Tensor], momentum: Mapping[str, Tensor]) -> dict:
    """One flat dict of the model's state and of the optimizer's momentum by parameter name."""
    return {f"model/{k}": v for k, v in model_state.items()} | {
        f"momentum/{k}": v for k, v in momentum.items()
    }


def split_state(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two parts that `join_state` joined."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}}
    for name, value in tensors.items():
        part, _, own = name.partition("/")
        parts[part][own] = value
    return parts["model"], parts["momentum"]


def momentum_of(optimizer: torch.optim.SGD, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's momentum buffers on the CPU, by parameter name."""
    found = {}
    for name, parameter in model.named_parameters():
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            found[name] = buffer.detach().to("cpu", copy=True).contiguous()
    return found


def set_momentum(optimizer: torch.optim.SGD, model: nn.Module, momentum: dict) -> None:
    """Put momentum buffers back where `momentum_of` found them."""
    for name, parameter in model.named_parameters():
        if name in momentum:
            buffer = torch.empty_like(parameter).copy_(momentum[name])
            optimizer.state[parameter]["momentum_buffer"] = buffer
