"""Resuming after a kill, and what a run reports, among it the weight distance of Eq. 8, per SGD
step and per epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.store import Scratch
from kpnb.training.settings import TrainingSettings

OnCheckpoint = Callable[[int, dict[str, Tensor]], None]


@dataclass
class TrainingRecord:
    """One training run, epoch by epoch.

    loss, metric, learning_rate: one value per epoch 1..E; loss and metric are means over the
    samples while the epoch went on (metric: share of right answers for classification, share of
    explained variance for feature distillation).
    distance_per_step, distance_per_epoch: label -> E + 1 distances; see `WeightDistance`.
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
        """The record for JSON, which `TrainingRecord(**info)` gives back."""
        return asdict(self)


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


class RunState:
    """All that moves while a network is trained, from which the run can go on.

    track: see `WeightDistance`. identity: what must agree for a kept state to belong to this run.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.SGD,
        track: Mapping[str, Tensor],
        identity: dict,
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
        """The weights (`cpu_state` of the model) and the optimizer's momentum, by name."""
        found = {f"model/{name}": value for name, value in weights.items()}
        for name, parameter in self.model.named_parameters():
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                found[f"momentum/{name}"] = _on_cpu(buffer)
        return found

    def go_back(self, tensors: Mapping[str, Tensor], info: dict) -> None:
        """To where `Resume.save` took them."""
        weights = {k.removeprefix("model/"): v for k, v in tensors.items() if k[:6] == "model/"}
        self.model.load_state_dict(weights)
        for name, parameter in self.model.named_parameters():
            if f"momentum/{name}" in tensors:
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum/{name}"])
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
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
