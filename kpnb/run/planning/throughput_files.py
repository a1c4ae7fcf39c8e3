"""Measured rates on disk: what a sample costs in time and memory on one machine.

    kpnb/run/speeds/<device>.json

`python -m kpnb.run.planning.throughput` writes such a file, `python -m kpnb.run.planning.plan`
reads it. Times are of the
machine, the versions and the settings that the file names, and of no other.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kpnb.errors import KpnbError
from kpnb.run.planning.network_costs import Net

FOLDER = Path(__file__).resolve().parents[1] / "speeds"
FORMAT = "kpnb-throughput-1"

# What is timed. A sample is an image, a cloud or a text; a row is one noisy input of the estimator.
TRAIN = "training step"  # a sample, all weights, forward to backward and optimizer
DISTILL = "distillation step"  # a sample, up to the layer
HEAD = "head step"  # a sample, the layers above, from kept features
FORWARD = "forward pass"  # a sample, no gradients, up to the layer
ROW = "map, a row"  # of the estimator: one pass with a graph and the gradients that it takes
FIXED = "map, fixed part"  # a sample's map, whatever its number of rows
FLOOR_TRAIN = "plain training passes"  # a sample: forward and backward, nothing else
FLOOR_ROW = "plain passes of a row"  # forward to the layer and as many gradients of the input
COMPOSE = "an image composed"  # of the embedded images
SAVE = "a byte stored"  # in the store: written, hashed, flushed
SAVES = "a folder stored"  # its part that does not grow with bytes
TASKS = (TRAIN, DISTILL, HEAD, FORWARD, ROW, FIXED, FLOOR_TRAIN, FLOOR_ROW, COMPOSE, SAVE, SAVES)


@dataclass(frozen=True)
class Rate:
    """Seconds of one unit of a task: the median of n timings, and their quartiles.

    seconds, low, high: by the wall clock. cpu: median of the process's processor time, None on a
    GPU. net: None for what no network takes part in. layer: as
    `kpnb.run.planning.network_costs.LAYERS`, "" for
    the whole network. memory: peak bytes that the task needed beyond the idle process (GPU: that
    torch allocated), 0 where it was not taken.
    """

    task: str
    seconds: float
    low: float
    high: float
    n: int
    net: Net | None = None
    layer: str = ""
    batch: int = 0
    precision: str = "float32"
    compiled: bool = False
    cpu: float | None = None
    memory: int = 0

    def of(self, clock: str) -> float:
        """Seconds by the clock "wall" or, where it was taken, "cpu"."""
        return self.cpu if clock == "cpu" and self.cpu is not None else self.seconds


@dataclass(frozen=True)
class Measured:
    """One file: rates of a device, and where they come from.

    device: "cpu" or "cuda"; hardware: its name; threads: that torch used on the CPU; date: UTC, to
    the day; about: provenance, as `kpnb.metrics.provenance.provenance` gives it.
    """

    device: str
    hardware: str
    threads: int
    date: str
    rates: tuple[Rate, ...]
    about: dict

    @property
    def clock(self) -> str:
        """The clock a plan reads: one thread's processor time does not count what else runs."""
        return "cpu" if self.device == "cpu" and self.threads == 1 else "wall"

    def __str__(self) -> str:
        threads = f", {self.threads} thread" + ("s" if self.threads > 1 else "")
        return f"{self.hardware}{threads if self.device == 'cpu' else ''}, measured {self.date}"


def write(measured: Measured, path: Path | None = None) -> Path:
    """Write a file in one step, under the device's name in FOLDER unless a path is given."""
    path = path or FOLDER / f"{file_name(measured)}.json"
    content = {"format": FORMAT} | asdict(measured)
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KpnbError(f"Rates cannot be written to {path}: {error.strerror}.") from error
    return path


def file_name(measured: Measured) -> str:
    """As in: cpu_amd_epyc_1_thread, cuda_nvidia_h100_80gb_hbm3."""
    hardware = re.sub(r"[^a-z0-9]+", "_", measured.hardware.lower()).strip("_")
    threads = f"_{measured.threads}_thread" + ("s" if measured.threads > 1 else "")
    return f"{measured.device}_{hardware}{threads if measured.device == 'cpu' else ''}"


def read(path: Path) -> Measured:
    """The rates of a file; KpnbError for one that is missing, damaged or of another format."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        rates = tuple(_rate(entry) for entry in content.pop("rates"))
        return Measured(**content, rates=rates)
    except FileNotFoundError:
        raise KpnbError(
            f"There are no rates at {path}: run `python -m kpnb.run.planning.throughput`."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KpnbError(
            f"{path} holds no rates that can be read ({error}): "
            "run `python -m kpnb.run.planning.throughput`."
        ) from error


def _rate(entry: dict) -> Rate:
    net = entry.pop("net")
    rate = Rate(**entry, net=None if net is None else Net(**net))
    if rate.task not in TASKS:
        raise ValueError(f"{rate.task!r} is no task")
    if not 0 < rate.seconds < float("inf"):
        raise ValueError(f"{rate.task} takes {rate.seconds} s")
    return rate


def known(folder: Path = FOLDER) -> list[Measured]:
    """All files of a folder, in order of their names; none is no error."""
    paths = sorted(folder.glob("cpu_*.json")) + sorted(folder.glob("cuda_*.json"))
    return [read(path) for path in paths]


def joined(first: Measured, second: Measured) -> Measured:
    """The rates of `second`, and those of `first` that it does not measure again."""

    def key(rate: Rate) -> tuple:
        return rate.task, rate.net, rate.layer, rate.batch, rate.precision, rate.compiled

    again = {key(rate) for rate in second.rates}
    kept = tuple(rate for rate in first.rates if key(rate) not in again)
    return replace(second, rates=kept + second.rates)
