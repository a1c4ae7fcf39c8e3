"""What a training run reports, and what it leaves behind so that it can be taken up again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn


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
