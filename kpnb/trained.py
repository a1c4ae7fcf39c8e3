"""A network after training, as the store keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kpnb.store import Record
from kpnb.training_record import TrainingRecord


@dataclass(frozen=True)
class Trained:
    """One network after training: weights by checkpoint epoch, its record, its accuracies."""

    role: str
    layer: str | None
    seed: int
    states: dict[int, dict[str, Tensor]]
    record: TrainingRecord
    accuracy: dict[str, float]
    fingerprint: str

    @property
    def final_epoch(self) -> int:
        return max(self.states)

    @property
    def bytes(self) -> int:
        """Of the weights of all checkpoints."""
        return sum(t.nbytes for state in self.states.values() for t in state.values())

    @staticmethod
    def from_record(record: Record, role: str, layer: str | None, seed: int) -> Trained:
        return Trained(
            role,
            layer,
            seed,
            by_epoch(record.tensors),
            TrainingRecord.from_info(record.info["record"]),
            record.info["accuracy"],
            record.fingerprint,
        )


def flat(parts: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """{epoch: {name: tensor}} as one flat dictionary for a file."""
    return {f"{epoch:04d}/{name}": t for epoch, part in parts.items() for name, t in part.items()}


def by_epoch(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    parts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        epoch, _, own = name.partition("/")
        parts.setdefault(int(epoch), {})[own] = tensor
    return parts
