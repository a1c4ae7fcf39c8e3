"""Resuming after a kill: all that moves while a network is trained, kept after each epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kpnb.store import Scratch
from kpnb.training.settings import TrainingRecord, TrainingSettings
from kpnb.training.weight_distance import WeightDistance

OnCheckpoint = Callable[[int, dict[str, Tensor]], None]


class RunState:
    """All that moves while a network is trained, from which the run can go on.

    track: see `WeightDistance`. identity: what must agree for a kept state to belong to this run.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, track: Mapping[str, Tensor], identity: dict
    ) -> None:
        self.model, self.optimizer, self.distance = model, optimizer, WeightDistance(track)
        self.identity = {**identity, "tracked": sorted(track)}
        step, epoch = ({label: [0.0] for label in track} for _ in range(2))
        self.record = TrainingRecord(distance_per_step=step, distance_per_epoch=epoch)

    def end_epoch(self, loss: float, metric: float, lr: float) -> None:
        """One line in the record."""
        self.distance.end_epoch(self.record)
        self.record.loss.append(loss)
        self.record.metric.append(metric)
        self.record.learning_rate.append(lr)

    def tensors(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights (`cpu_state` of the model) and what the optimizer keeps of each, by name."""
        found = {f"model/{name}": value for name, value in weights.items()}
        for name, parameter in self.model.named_parameters():
            for kept, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    found[f"{kept}/{name}"] = _on_cpu(value)
        return found

    def go_back(self, tensors: Mapping[str, Tensor], info: dict) -> None:
        """To where `Resume.save` took them."""
        named, weights = dict(self.model.named_parameters()), {}
        for key, value in tensors.items():
            kept, _, name = key.partition("/")
            if kept == "model":
                weights[name] = value
            else:
                like = named[name] if value.ndim else value  # a count of steps stays where it is
                self.optimizer.state[named[name]][kept] = torch.empty_like(like).copy_(value)
        self.model.load_state_dict(weights)
        self.record = TrainingRecord(**info["record"])
        self.distance.initial = info["initial"]
        self.distance.start_epoch()


@dataclass(frozen=True)
class Resume:
    """Resuming after a kill: a run keeps its state in `scratch` under `name`, after each epoch.

    A run taken up again hands over its earlier checkpoints once more and then goes on, bit for bit
    as if it had never stopped. State of a run with other settings is ignored.
    """

    scratch: Scratch
    name: str

    def save(self, epoch: int, state: RunState, weights: Mapping[str, Tensor]) -> None:
        """Keep the whole state after `epoch`; weights: `cpu_state` of the model."""
        info = {"run": state.identity, "epoch": epoch, "initial": state.distance.initial}
        info["record"] = state.record.to_info()
        self.scratch.save(f"{self.name}.latest", state.tensors(weights), info)

    def save_checkpoint(self, epoch: int, weights: dict[str, Tensor]) -> None:
        """Keep the weights after `epoch` for handing over again."""
        self.scratch.save(self._checkpoint(epoch), weights, {"epoch": epoch})

    def take_up(
        self, state: RunState, settings: TrainingSettings, on_checkpoint: OnCheckpoint | None
    ) -> int | None:
        """Bring `state` back to the latest one kept and hand over the checkpoints up to there; its
        epoch, or None if this run has to start anew, as no state or not all of it is there."""
        found = self.scratch.load(f"{self.name}.latest")
        if found is None or found[1]["run"] != state.identity:
            return None
        tensors, info = found
        if on_checkpoint is not None:
            for epoch in (k for k in settings.checkpoints if k <= info["epoch"]):
                kept = self.scratch.load(self._checkpoint(epoch))
                if kept is None:
                    return None
                on_checkpoint(epoch, kept[0])
        state.go_back(tensors, info)
        return info["epoch"]

    def _checkpoint(self, epoch: int) -> str:
        return f"{self.name}.epoch{epoch:04d}"


def cpu_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's state dict as contiguous copies on the CPU."""
    return {name: _on_cpu(value) for name, value in model.state_dict().items()}


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
