"""How a device is timed: clocks, effort, and what no network takes part in."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from kpnb.datasets.images import embedded_images
from kpnb.metrics.provenance import MIB, peak_memory_mib
from kpnb.run.planning.throughput_files import COMPOSE, SAVE, SAVES, Rate
from kpnb.store import write_folder

BYTES = (64 * 1024, 16 * 1024**2)  # of two folders: their difference is what a byte costs


@dataclass(frozen=True)
class Effort:
    """How a device is measured.

    seconds: that a timing of steps may take, at least LEAST_STEPS steps. repeats: of what is timed
    as a whole. chunk: rows of an estimator's pass, which maps are timed at, since their cost by row
    depends on it; maps: at most so many samples of them.
    """

    device: torch.device
    batch: int = 64
    precision: str = "float32"
    compiled: bool = False
    seconds: float = 3.0
    repeats: int = 3
    maps: int = 32
    chunk: int = 256

    @property
    def autocast(self) -> str | None:
        return None if self.precision == "float32" else self.precision


@dataclass
class Clock:
    """Wall and processor time between marks; on a GPU by events, which do not hold it up."""

    device: torch.device
    marks: list = field(default_factory=list)

    def mark(self, *_: object) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append((time.perf_counter(), time.process_time()))

    @contextmanager
    def every_step(self) -> Iterator[None]:
        """A mark after each step of any optimizer."""
        handle = register_optimizer_step_post_hook(self.mark)
        try:
            yield
        finally:
            handle.remove()

    def intervals(self) -> tuple[list[float], list[float] | None]:
        """Seconds between successive marks: by the wall, and by the processor (None on a GPU)."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in pairs], None
        return [b[0] - a[0] for a, b in pairs], [b[1] - a[1] for a, b in pairs]


def peak_bytes(device: torch.device) -> int:
    """Of memory so far: the process's, or on a GPU what torch allocated since it was last reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return int(peak_memory_mib() * MIB)


def compose_rate(effort: Effort, size: int) -> Rate:
    """Of one embedded image of a side."""
    count, taken = 4 if effort.repeats == 1 else 200, []
    embedded_images(1, "train", 12, size, 0)  # unpacks the pictures
    for seed in range(effort.repeats):
        started = time.perf_counter(), time.process_time()
        embedded_images(count, "train", 12, size, seed)
        taken.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return _plain(COMPOSE, np.array(taken) / count, size)


def storage_rates(effort: Effort) -> list[Rate]:
    """Of a byte and of a folder in the store, where temporary files lie."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for size in BYTES:
            tensors = {"weights": torch.zeros(size // 4)}
            row = []
            for number in range(effort.repeats + 1):
                started = time.perf_counter(), time.process_time()
                write_folder(Path(folder) / f"{size}_{number}", tensors, {})
                row.append((time.perf_counter() - started[0], time.process_time() - started[1]))
            taken.append(row[1:])
    few, many = np.array(taken)
    byte = np.maximum((many - np.median(few, 0)) / (BYTES[1] - BYTES[0]), 1e-12)
    return [_plain(SAVE, byte), _plain(SAVES, few)]


def _plain(task: str, taken: np.ndarray, batch: int = 0) -> Rate:
    low, middle, high = (float(q) for q in np.quantile(taken[:, 0], (0.25, 0.5, 0.75)))
    cpu = max(float(np.median(taken[:, 1])), 1e-12)
    return Rate(task, middle, low, high, len(taken), batch=batch, cpu=cpu)
