"""What a run does, as counts: pieces that the store keeps, and the parts that each is made of.

`kpnb.run.planning.run_workload` makes them from a run's parameters. A piece is what the store
keeps under one
key, so pieces of several runs that share a key are done once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kpnb.run.planning.network_costs import WHOLE, Net

BASE_MEMORY = 450 * 1024**2  # of a process with torch and this package, about


@dataclass(frozen=True)
class Part:
    """Units of one task; see `kpnb.run.planning.throughput_files`."""

    task: str
    units: float
    net: Net | None = None
    layer: str = WHOLE
    batch: int = 0
    precision: str = "float32"


@dataclass(frozen=True)
class Piece:
    """What the store keeps under one key.

    kind: "network", "maps" or "accuracies". disk: bytes in the store. held: bytes of it that the
    process keeps until it ends.
    """

    kind: str
    key: tuple
    title: str
    parts: tuple[Part, ...]
    disk: float = 0.0
    held: float = 0.0


@dataclass(frozen=True)
class Workload:
    """Pieces of one run, in order, and what is done anew in each process.

    process: parts that no store keeps (embedded images are composed each time). data: bytes of the
    samples in memory. memory: bytes that the process needs on top of what pieces hold. device:
    bytes on the GPU, where there is one. left_out: in words, what is not counted.
    """

    pieces: tuple[Piece, ...]
    process: tuple[Part, ...] = ()
    data: float = 0.0
    memory: float = 0.0
    device: float = 0.0
    left_out: tuple[str, ...] = ()

    @property
    def disk(self) -> float:
        return sum(piece.disk for piece in self.pieces)

    @property
    def host(self) -> float:
        """Bytes of memory at the peak where the CPU computes, about: what is held, the samples, a
        training, and one entry that is being written, which is then there three times (states,
        file, what was read back)."""
        return self.beside + self.memory

    @property
    def beside(self) -> float:
        """Bytes of memory beside a GPU that computes."""
        held = sum(piece.held for piece in self.pieces)
        largest = max((piece.disk for piece in self.pieces), default=0.0)
        return BASE_MEMORY + self.data + held + 2 * largest


def joined(workloads: Iterable[Workload]) -> list[Piece]:
    """The pieces of several runs, each key once, in order."""
    found: dict[tuple, Piece] = {}
    for workload in workloads:
        for piece in workload.pieces:
            found.setdefault(piece.key, piece)
    return list(found.values())
