"""What a notebook, a sweep or a run will take, before it starts: `python -m kpnb.run.plan NAME`.

The study itself is asked: it runs on a store that counts instead of computing, with samples of
which only the number is known, and says of each network and each set of maps what it costs
(`kpnb.training.costs`). These counts times the speeds of a machine (`kpnb.run.machine`) are the
plan.
What several runs share has one key and is counted once. A network that was not measured takes the
speed of the nearest one, scaled by operations, and is marked.

Exit codes: 0 done, 1 a check that failed, 2 a mistake in a name, a parameter or a file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import torch

from kpnb.datasets.places import EMBEDDED
from kpnb.errors import KpnbError
from kpnb.estimator.rates import BLOCK
from kpnb.fingerprint import Stopwatch, provenance
from kpnb.metrics.formatting import count, table
from kpnb.metrics.results import Number, Results, run_fingerprint, write_results
from kpnb.run.counting import ask, counting, sample_counts
from kpnb.run.machine import (
    Machine,
    kind_of,
    measure_machine,
    probe_study,
    read_machine,
    study_of,
    this_machine,
    title_of,
)
from kpnb.store import Record, Store
from kpnb.study.parameters import StudyParameters, models_for, resolve
from kpnb.study.study import Study
from kpnb.training.costs import FLOAT, Anatomy, Cost, Work

PROCESS = 450 * 1024**2  # bytes of a process with torch and this package, about
STORED_PASSES = 3  # over the bytes of an entry: its parts, the entry, and reading it back
# Of the published procedure: 96 draws for 60 steps, up to 80, each a forward and a backward pass,
# in rows, which have four backward passes to their forward one; descent stops when it converges.
SLOW_ROWS = {"published": 96 * 80 * 2 / 5, "descent": 96 * 3200 * 2 / 5}
BEYOND = "what a notebook computes beyond networks and maps is not counted"


# Seconds and bytes


def seconds_of(
    work: Work, study: Study, machine: Machine, anatomies: dict[str, Anatomy]
) -> tuple[str, float]:
    """Seconds of some work, and what was measured in the place of its network ("": itself).

    anatomies: counts of the study's networks by role, filled on demand.
    """
    if work.role not in anatomies:
        anatomies[work.role] = study.anatomy(work.role)
    own, named, p = anatomies[work.role], title_of(study, work.role), study.parameters
    if work.task == "epochs kept":  # weights and momentum
        return "", work.units * (machine.folder + 2 * FLOAT * own.parameters * machine.byte)
    speed = machine.nearest(kind_of(p), named, p.precision, own)
    instead = "" if speed.network == named else f"{named} from {speed.network}"
    if work.task == "maps":
        one = estimator_rows(work.estimator) * speed.row + speed.fixed
        return instead, work.units * one * own.up_to(work.layer) / speed.below
    passes = own.above(work.layer) if work.task == "above" else own.up_to(work.layer)
    rate = speed.forward if work.task == "forward" else speed.train
    return instead, work.units * rate * passes / speed.operations


def estimator_rows(settings: dict[str, object]) -> float:
    """Noisy inputs of one map, by the settings of its estimator.

    The first of several evaluations of `path` has half as many blocks of draws as the others,
    though not fewer than two (`kpnb.estimator.closed_form.path`).
    """
    if settings["method"] in SLOW_ROWS:
        return SLOW_ROWS[settings["method"]]
    blocks, evaluations = settings["probes"] // BLOCK, settings["evaluations"]
    if settings["method"] == "optimum" or evaluations == 1:
        return float(BLOCK * blocks * evaluations)
    return float(BLOCK * (max(2, blocks // 2) + (evaluations - 1) * blocks))


def stored_bytes(cost: Cost) -> int:
    return sum(FLOAT * tensor.numel() for tensor in cost.tensors.values())


def memory_of(study: Study, costs: Sequence[Cost]) -> tuple[float, float]:
    """Bytes at the peak, about: of the process without its training, and of the training, or of a
    pass of the estimator where that needs more, with the samples.

    A process holds what it has used, the samples, and one entry that is being written, which is
    then there twice more.
    """
    p, own, data = study.parameters, study.anatomy("B"), study.data
    samples = len(data.teacher_samples) + len(data.training_samples) + len(data.test_samples)
    each = 1 if hasattr(p, "image_size") and p.data != EMBEDDED else FLOAT  # images kept as bytes
    held, state = float(each * samples * prod(study.example())), FLOAT * own.parameters
    rows = 2 * FLOAT * own.activations
    computing = max(3 * state + (p.batch or 64) * rows, state + p.chunk * rows)
    sizes = [stored_bytes(cost) for cost in costs]
    return PROCESS + held + sum(sizes) + 2 * max(sizes, default=0), computing + held


def _composing(study: Study, machine: Machine) -> float:
    """Seconds of the embedded images, which each process composes anew."""
    p, data = study.parameters, study.data
    if not hasattr(p, "image_size") or p.data != EMBEDDED:
        return 0.0
    return (len(data.teacher_samples) + len(data.test_samples)) * p.image_size**2 * machine.pixel


@dataclass
class Planned:
    """Seconds, bytes and pieces of some runs on a machine.

    kinds: kind of piece -> seconds. scaled: seconds by what was measured instead of a network; ""
    is the network itself. process, computing: see `memory_of`. rows: (what, seconds, bytes, known)
    of each piece. unknown: data set -> runs whose size is not known yet.
    """

    title: str
    machine: Machine
    runs: int = 0
    kinds: Counter = field(default_factory=Counter)
    scaled: Counter = field(default_factory=Counter)
    disk: int = 0
    process: float = 0.0
    computing: float = 0.0
    rows: list[tuple[str, float, int, str]] = field(default_factory=list)
    unknown: Counter = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set, repr=False)

    @property
    def seconds(self) -> float:
        return sum(self.kinds.values())

    @property
    def measured(self) -> float:
        """The share of the seconds whose networks were measured themselves, 0 to 1."""
        return self.scaled[""] / self.seconds if self.seconds else 1.0

    def add(self, study: Study, left: bool = False) -> Planned:
        """One more run; what an earlier one has is not counted again."""
        asked, anatomies = counting(study, left), {}
        ask(asked)
        new = {k: found for k, found in asked.store.costs.items() if k not in self._seen}
        self._seen |= new.keys()
        for kind, cost in new.values():
            self._add(kind, cost, asked, anatomies)
        composing = _composing(asked, self.machine)
        self.runs += 1
        self.kinds["data"] += composing
        self.scaled[""] += composing
        process, computing = memory_of(asked, [cost for _, cost in asked.store.costs.values()])
        self.process = max(self.process, process)
        self.computing = max(self.computing, computing)
        return self

    def _add(self, kind: str, cost: Cost, study: Study, anatomies: dict[str, Anatomy]) -> None:
        machine, written = self.machine, stored_bytes(cost)
        parts = Counter({"": machine.folder + STORED_PASSES * written * machine.byte})
        for work in cost.work:
            instead, seconds = seconds_of(work, study, machine, anatomies)
            parts[instead] += seconds
        self.kinds[kind] += sum(parts.values())
        self.scaled += parts
        self.disk += written
        known = "scaled" if len(parts) > 1 else "measured"
        last = cost.work[-1]
        what = f"{kind} {last.role} {next((w.layer for w in cost.work[1:] if w.layer), last.layer)}"
        self.rows.append((what, sum(parts.values()), written, known))

    @property
    def memory(self) -> str:
        if self.machine.device == "cpu":
            return size(self.process + self.computing)
        return f"{size(self.computing)} of the GPU and {size(self.process)} beside it"

    def lines(self) -> list[str]:
        """The plan in words, one statement a line."""
        told = [f"{self.title}: {count(self.runs, 'run')}, {len(self.rows)} networks, maps, scores"]
        if self.runs:
            known = f"{self.measured:.0%} of it from speeds of these networks on {self.machine}"
            told.append(f"time    {duration(self.seconds)}, about; {known}")
            for instead, seconds in self.scaled.most_common(6):
                told += [f"        {duration(seconds)} scaled: {instead}"] if instead else []
            told += [f"disk    {size(self.disk)} in the store", f"memory  {self.memory}, about"]
            told.append(f"note    {BEYOND}")
        for data, runs in self.unknown.items():
            told.append(f"note    not in it: {count(runs, 'run')} on {data}, whose size is known "
                        "once it is prepared")  # fmt: skip
        return told

    def detail(self) -> str:
        """Every piece as a markdown table."""
        rows = [[what, duration(s), size(disk), known] for what, s, disk, known in self.rows]
        return table(["what", "time", "disk", "speed"], rows)


def plan_lines(study: Study) -> str:
    """Markdown for a notebook, one line: time, memory and disk on this machine's device, counted
    from nothing. Never raises for what it does not know: it says so instead."""
    try:
        planned = Planned("", this_machine(study.device.type)).add(study)
    except KpnbError as unknown:
        return f"What this run takes is not known: {unknown}"
    scaled = 1 - planned.measured
    known = f", {scaled:.0%} of it scaled from other networks" if scaled > 0.05 else ""
    return (
        f"**{planned.machine.hardware}**: about {duration(planned.seconds)}{known}, "
        f"{planned.memory} of memory, {size(planned.disk)} of disk, from speeds of "
        f"{planned.machine}; {BEYOND}."
    )


def plan_name(
    name: str, preset: str, given: dict[str, object], machine: Machine, left: bool = False
) -> Planned:
    """The plan of a notebook, a sweep or a run of a sweep, by its name.

    given: parameters of a notebook. Raises KpnbError for an unknown name or parameter, and for
    parameters given to a sweep, which has its own.
    """
    from kpnb.run.notebook import find_notebook
    from kpnb.run.sweeps import Sweeps

    sweeps = Sweeps()
    targets, sweep = sweeps.targets(preset), sweeps.sweep_of.get(name) or sweeps.by_name.get(name)
    if name not in targets and sweep is not None:
        presets = ", ".join(sweep.presets)
        raise KpnbError(f"{name} is not run at {preset!r}: its presets are {presets}.")
    if name not in targets:
        find_notebook(name, sweeps.notebooks)
        parameters = resolve(models_for(name), {"preset": preset} | given)
        return Planned(f"{name} at {parameters.preset}", machine).add(study_of(parameters), left)
    if given:
        raise KpnbError(f"{name} has its parameters in its sweep: leave out -p.")
    planned = Planned(f"{name} at {preset}", machine)
    for run in targets[name]:
        parameters = sweeps.sweep_of[run].resolved(run, preset)
        if parameters.teacher_samples == "all" and not _known(parameters):
            planned.unknown[parameters.data] += 1
        else:
            planned.add(study_of(parameters), left)
    return planned


def _known(parameters: StudyParameters) -> bool:
    try:
        sample_counts(parameters)
    except KpnbError:
        return False
    return True


def duration(seconds: float) -> str:
    """As in: 40 s, 12 minutes, 3.4 hours, 12 days."""
    for unit, length, least in (("days", 86400, 2), ("hours", 3600, 1.5), ("minutes", 60, 1.5)):
        if seconds >= least * length:
            value = seconds / length
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"


def size(number: float) -> str:
    """Bytes as in: 12 MB, 1.6 GB, 62 GB."""
    if number < 1e8:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 9.95e9 else f"{number / 1e9:.0f} GB"


# How far a plan is from a run

CHECK = "plan_check"
CODE = ("check_plan",)
WITHIN = 0.3  # of the real seconds
SMALL = {"samples": 32, "teacher_epochs": 6, "epochs": 8, "head_epochs": 4}
SMALL |= {"teacher_samples": 600, "fraction": 0.5, "checkpoints": [0, 2, 8]}


class TimedStore(Store):
    """A store that adds up processor seconds by kind."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.seconds: Counter = Counter()

    def compute(self, kind: str, *arguments: object) -> Record:
        started = time.process_time()
        try:
            return super().compute(kind, *arguments)
        finally:
            self.seconds[kind] += time.process_time() - started


def check_plan(repeats: int, small: dict[str, object] = SMALL, seconds: float = 3.0) -> Results:
    """Measures this machine, plans a small study, runs it on a store of its own, and compares,
    several times: planned over real processor seconds on one thread, by kind and in all.

    small: parameters of the study; seconds: effort of measuring.
    """
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, float]]] = {"networks": [], "maps": [], "total": []}
    study = probe_study("AlexNet", **small)
    with Stopwatch() as watch:
        for _ in range(repeats):
            machine = measure_machine([probe_study("AlexNet")], "cpu", seconds)
            planned = Planned("", machine).add(study)
            real, total = _run(study)
            for kind in ("networks", "maps"):
                found[kind].append((planned.kinds[kind], real[kind]))
            found["total"].append((planned.seconds, total))
    settings = {"repeats": repeats} | study.parameters.model_dump(mode="json")
    return Results(
        notebook=CHECK,
        preset="study",
        settings=settings,
        provenance=provenance() | {"code": list(CODE)},
        seconds=watch.as_dict()["seconds"],
        peak_memory_mb=watch.as_dict()["peak_memory_mib"],
        fingerprint=run_fingerprint(settings, CODE),
        numbers=dict(_numbers(found)),
    )


def _run(study: Study) -> tuple[Counter, float]:
    with tempfile.TemporaryDirectory() as folder:
        timed = replace(study, store=TimedStore(folder), _seconds={}, _networks={})
        started = time.process_time()
        ask(timed)
        return timed.store.seconds, time.process_time() - started


def _numbers(found: dict[str, list[tuple[float, float]]]) -> Iterator[tuple[str, Number]]:
    """Medians over the repeats; an interval is from the lowest to the highest."""
    for kind, pairs in found.items():
        parts = {"planned": [p for p, _ in pairs], "real": [r for _, r in pairs]}
        parts["ratio"] = [planned / real for planned, real in pairs]
        for what, values in parts.items():
            middle, unit = sorted(values)[len(values) // 2], "times" if what == "ratio" else "s"
            told = {"what": "planned over real" if what == "ratio" else what, "unit": unit}
            ends = {"low": min(values), "high": max(values), "n": len(values)}
            yield f"{kind} | {what}", Number(value=middle, **told, **ends)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    from kpnb.run.notebook import parse_assignments

    options = _parser().parse_args(arguments)
    try:
        if options.check:
            return _check(options.repeats)
        if options.name is None:
            raise KpnbError("Name a notebook, a sweep or a run, or pass --check.")
        machine = read_machine(options.speeds) if options.speeds else this_machine(options.device)
        given = parse_assignments(options.parameters)
        asked = options.name, given.pop("preset", options.preset), given
        planned = plan_name(*asked, machine, options.left)
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    print("\n".join(planned.lines()))
    if options.detail:
        print("", planned.detail(), sep="\n")
    return 0


def _check(repeats: int) -> int:
    if repeats < 1:
        raise KpnbError(f"repeats is {repeats}: compare at least once.")
    results = check_plan(repeats)
    for name, number in results.numbers.items():
        print(f"{name:20} {number.value:8.3g} [{number.low:.3g}, {number.high:.3g}] {number.unit}")
    print(write_results(results))
    off = abs(results.numbers["total | ratio"].value - 1)
    print("within" if off <= WITHIN else "NOT within", f"{WITHIN:.0%} of the real seconds")
    return int(off > WITHIN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kpnb.run.plan", description=__doc__)
    add = parser.add_argument
    add("name", nargs="?", help="a notebook such as image_h1, a sweep, or one of its runs")
    add("--preset", default="demo")
    add("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    add("--device", choices=("cpu", "cuda"), help="default: what this machine computes on")
    add("--speeds", type=Path, metavar="FILE", help="of another machine")
    add("--left", action="store_true", help="only what the store has not; loads the data")
    add("--detail", action="store_true", help="every network and set of maps")
    add("--check", action="store_true", help="plan a small study, run it, and compare")
    add("--repeats", type=int, default=3, help="of the check")
    return parser


if __name__ == "__main__":
    sys.exit(main())
