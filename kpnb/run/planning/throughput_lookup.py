"""Seconds of a part of a workload: measured, scaled from what was measured, or from a data sheet.

Where a network, size or layer was not measured, the nearest measured one is taken times the ratio
of their operations (`kpnb.run.planning.network_costs`). Every answer says which of these it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from kpnb.errors import KpnbError
from kpnb.metrics.provenance import cpu_name
from kpnb.run.planning.network_costs import WHOLE, Net, costs
from kpnb.run.planning.throughput_files import (
    COMPOSE,
    DISTILL,
    FIXED,
    FOLDER,
    FORWARD,
    HEAD,
    ROW,
    SAVE,
    SAVES,
    TRAIN,
    Measured,
    Rate,
    known,
    read,
)
from kpnb.run.planning.workload import Part, Piece

MEASURED, SCALED, SHEET = "measured", "scaled", "data sheet"
T4 = "T4"
# NVIDIA T4 data sheet (nvidia.com/en-us/data-center/tesla-t4): single precision 8.1 TFLOPS, memory
# 16 GB. The T4 has no bfloat16.
T4_PEAK = 8.1e12
T4_MEMORY = 16e9
# Assumed, not measured: the share of the peak that a training step or a map reaches. Colab's T4
# was never at hand.
T4_EFFICIENCY = 0.3
# Forward passes that a unit costs, for the data sheet: a backward pass through all weights is two,
# one to the input alone is one; a row of the estimator takes four of these.
PASSES = {TRAIN: 3, DISTILL: 3, HEAD: 3, FORWARD: 1, ROW: 5, FIXED: 33}
SAME_WORK = 0.05  # FC2 is next to FC1, and Conv right below it: their passes differ by less
BESIDE = (COMPOSE, SAVE, SAVES)  # the machine's, whatever computes


@dataclass
class Seconds:
    """Seconds in all, and by how they are known; scaled: "what from what" -> seconds."""

    by: Counter = field(default_factory=Counter)
    scaled: Counter = field(default_factory=Counter)

    @property
    def total(self) -> float:
        return sum(self.by.values())

    def share(self, how: str) -> float:
        """Of the total, 0 to 1; 0 where there is nothing."""
        return self.by[how] / self.total if self.total else 0.0

    def add(self, other: Seconds) -> Seconds:
        self.by.update(other.by)
        self.scaled.update(other.scaled)
        return self


@dataclass(frozen=True)
class Lookup:
    """Rates of one device. measured: None for a T4, whose rates are a data sheet's; beside: rates
    of the machine around it, for what no GPU does."""

    measured: Measured | None
    beside: Measured | None = None

    def __str__(self) -> str:
        if self.measured is not None:
            return f"{self.measured}"
        return (
            f"a T4 by its data sheet ({T4_PEAK / 1e12:.1f} TFLOPS in single precision), of which "
            f"{T4_EFFICIENCY:.0%} are assumed to be reached; not measured"
        )

    def piece(self, piece: Piece) -> Seconds:
        return self.parts(piece.parts)

    def parts(self, parts: Iterable[Part]) -> Seconds:
        found = Seconds()
        for part in parts:
            found.add(self.part(part))
        return found

    def part(self, part: Part) -> Seconds:
        """Seconds of a part; KpnbError if nothing of its task was measured."""
        if part.task in BESIDE:
            return self._beside(part)
        if self.measured is None:
            seconds = PASSES[part.task] * _operations(part.task, part.net, part.layer)
            seconds *= part.units / (T4_PEAK * T4_EFFICIENCY)
            return Seconds(Counter({SHEET: seconds}))
        return self._measured(part, self.measured)

    def _measured(self, part: Part, measured: Measured) -> Seconds:
        candidates = [rate for rate in measured.rates if rate.task == part.task]
        if not candidates:
            raise KpnbError(
                f"No rate of {part.task!r} was measured on {measured}: run "
                "`python -m kpnb.run.planning.throughput` there."
            )
        nearest = min(candidates, key=lambda rate: _distance(part, rate))
        ratio = _ratio(part, nearest)
        seconds = part.units * nearest.of(measured.clock) * ratio
        if _same(part, nearest) and abs(ratio - 1) <= SAME_WORK:
            return Seconds(Counter({MEASURED: seconds}))
        label = f"{part.net} ← {nearest.net}"
        return Seconds(Counter({SCALED: seconds}), Counter({label: seconds}))

    def _beside(self, part: Part) -> Seconds:
        machine = self.beside or self.measured
        rates = [] if machine is None else [r for r in machine.rates if r.task == part.task]
        if not rates:
            return Seconds()
        rate = min(rates, key=lambda r: abs(r.batch - part.batch))
        seconds = part.units * rate.of(machine.clock if machine.device == "cpu" else "wall")
        if part.task != COMPOSE or rate.batch == part.batch:
            return Seconds(Counter({MEASURED: seconds}))
        return Seconds(Counter({SCALED: seconds * (part.batch / rate.batch) ** 2}))


def lookup(device: str | None = None, file: Path | None = None, folder: Path = FOLDER) -> Lookup:
    """The rates to plan with.

    device: "cpu", "cuda", "T4"; None is what this machine would compute on. file: rates of another
    machine. Files of this machine's own hardware come first. Raises KpnbError where there are no
    rates for the device.
    """
    if file is not None:
        return Lookup(read(file))
    measured = known(folder)
    machine = _best([m for m in measured if m.device == "cpu"], cpu_name())
    if device == T4:
        return Lookup(None, machine)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu" and machine is not None:
        return Lookup(machine)
    own = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    found = _best([m for m in measured if m.device == device], own)
    if found is None:
        raise KpnbError(
            f"There are no rates of a {device} here: "
            f"run `python -m kpnb.run.planning.throughput --device "
            f"{device}` on one, or plan with --device {T4}."
        )
    return Lookup(found, machine)


def _best(measured: list[Measured], hardware: str) -> Measured | None:
    """Of this hardware if there is one, with as few threads as possible, else any."""
    ordered = sorted(measured, key=lambda m: (m.hardware != hardware, m.threads))
    return ordered[0] if ordered else None


def _same(part: Part, rate: Rate) -> bool:
    """Whether a rate is of the part's own network, size and precision.

    Its outputs, and a layer with the same operations but for SAME_WORK, make no difference.
    """
    net = replace(part.net, outputs=0, vocabulary=0)
    return replace(rate.net, outputs=0, vocabulary=0) == net and rate.precision == part.precision


def _distance(part: Part, rate: Rate) -> tuple:
    """How far a rate is from a part: what it is of first, then by operations."""
    return (
        rate.compiled,
        rate.net.kind != part.net.kind,
        rate.precision != part.precision,
        rate.net.scale != part.net.scale,
        rate.net.family != part.net.family,
        abs(math.log(_ratio(part, rate))),
    )


def _ratio(part: Part, rate: Rate) -> float:
    own = _operations(part.task, part.net, part.layer)
    return own / _operations(part.task, rate.net, rate.layer)


def _operations(task: str, net: Net, layer: str) -> float:
    """Operations of a forward pass of what the task runs, at least one."""
    forward = costs(net).forward
    below = forward.get(layer, forward[WHOLE])
    return max(1.0, forward[WHOLE] - below if task == HEAD else below)
