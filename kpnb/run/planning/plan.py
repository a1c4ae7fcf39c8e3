"""What a notebook, a sweep or a run will take, before it starts: `python -m kpnb.run.planning.plan
NAME`.

Counts of work (`kpnb.run.planning.workload`) times measured rates
(`kpnb.run.planning.throughput`). What several runs of a
sweep share is counted once. A time that was not measured for this very network and size is marked:
scaled by operations from the nearest one that was, or, for a T4, from its data sheet.

Exit codes: 0 done, 1 a check that failed, 2 a mistake in a name, a parameter or a file.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import count, table
from kpnb.run.planning.data_counts import EMBEDDED, counts_of
from kpnb.run.planning.run_workload import workload
from kpnb.run.planning.throughput_lookup import (
    MEASURED,
    SCALED,
    SHEET,
    T4,
    T4_MEMORY,
    Lookup,
    Seconds,
    lookup,
)
from kpnb.run.planning.workload import Piece, Workload, joined
from kpnb.study.parameters import StudyParameters, models_for, resolve

if TYPE_CHECKING:
    from kpnb.run.sweeps import Sweeps

GB = 1e9
WELL_KNOWN = 0.95  # share of the time that is measured, from which the rest is not worth a word


@dataclass(frozen=True)
class Run:
    """One run that is planned: its name, and what it does."""

    name: str
    work: Workload


@dataclass(frozen=True)
class Planned:
    """Runs on a device, from nothing: what the store holds already is counted too.

    To ask the store, a study would have to load its data first: keys of maps have them.
    """

    title: str
    runs: tuple[Run, ...]
    lookup: Lookup
    unknown: dict[str, int] = field(default_factory=dict)  # data set -> runs that are not planned

    @cached_property
    def pieces(self) -> list[Piece]:
        """Each once, however many runs share it."""
        return joined(run.work for run in self.runs)

    @property
    def seconds(self) -> Seconds:
        """Of all pieces, and of what each run does anew in its process."""
        found = Seconds()
        for piece in self.pieces:
            found.add(self.lookup.piece(piece))
        for run in self.runs:
            found.add(self.lookup.parts(run.work.process))
        return found

    @property
    def disk(self) -> float:
        return sum(piece.disk for piece in self.pieces)

    def lines(self) -> list[str]:
        """The plan in words, one statement a line."""
        not_planned = [
            f"not in it: {count(runs, 'run')} on {data}, whose size is known once it is prepared"
            for data, runs in self.unknown.items()
        ]
        if not self.runs:
            return [f"{self.title}: nothing to plan", *not_planned]
        seconds, works = self.seconds, [run.work for run in self.runs]
        pieces = f"{len(self.pieces)} networks, maps and scores"
        lines = [f"{self.title}: {count(len(self.runs), 'run')}, {pieces}"]
        lines.append(f"time    {duration(seconds.total)} of computing, about")
        lines.append(f"disk    {size(self.disk)} in the store")
        lines.append(self.memory_line())
        lines.append(f"rates   {self.lookup}")
        lines += [f"        {line}" for line in how_known(seconds)]
        for note in dict.fromkeys(note for work in works for note in work.left_out):
            lines.append(f"note    {note}")
        return lines + [f"note    {line}" for line in not_planned]

    def memory_line(self) -> str:
        """Of the run that needs most, on the device that computes and beside it."""
        works = [run.work for run in self.runs]
        measured = self.lookup.measured
        if measured is not None and measured.device == "cpu":
            return f"memory  {size(max(work.host for work in works))} about"
        device, beside = (max(getattr(w, of) for w in works) for of in ("device", "beside"))
        line = f"memory  {size(device)} of the GPU, about, and {size(beside)} beside it"
        if measured is None and device > T4_MEMORY:
            line += f" (more than a T4's {size(T4_MEMORY)}: lower batch or chunk)"
        return line

    def detail(self) -> str:
        """Every piece as a markdown table."""
        rows = []
        for piece in self.pieces:
            seconds = self.lookup.piece(piece)
            cells = [piece.kind, piece.title, duration(seconds.total)]
            rows.append([*cells, size(piece.disk), _mark(seconds)])
        return table(["kind", "what", "time", "disk", "known"], rows)


def how_known(seconds: Seconds) -> list[str]:
    """Which share of the time was measured, and what the rest was scaled from."""
    if seconds.by[SHEET]:
        beside = 1 - seconds.share(SHEET)
        return [f"{beside:.0%} of the time is the machine around it, as measured here"]
    share = seconds.share(MEASURED)
    if share >= 0.995:
        return ["measured for these networks and sizes"]
    lines = [f"{share:.0%} of the time from rates of these networks and sizes"]
    if seconds.by[SCALED]:
        lines.append(
            f"{seconds.share(SCALED):.0%} not measured: scaled by operations from the nearest "
            "network, size or layer that was"
        )
    return lines + [f"  {label}: {duration(part)}" for label, part in seconds.scaled.most_common(5)]


def _mark(seconds: Seconds) -> str:
    if seconds.share(MEASURED) >= WELL_KNOWN:
        return MEASURED
    return max(seconds.by, key=seconds.by.__getitem__) if seconds.by else ""


def duration(seconds: float) -> str:
    """As in: 40 s, 12 minutes, 3.4 hours, 12 days."""
    for unit, length, least in (("days", 86400, 2), ("hours", 3600, 1.5), ("minutes", 60, 1.5)):
        if seconds >= least * length:
            value = seconds / length
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"


def size(number: float) -> str:
    """Bytes as in: 12 MB, 1.6 GB, 62 GB."""
    if number < 0.1 * GB:
        return f"{number / 1e6:.0f} MB"
    return f"{number / GB:.1f} GB" if number < 9.95 * GB else f"{number / GB:.0f} GB"


def forecast_lines(
    parameters: StudyParameters, device: str | None = None, notebook: str = ""
) -> str:
    """Two bullets of markdown: this machine's device and a T4; see `kpnb.run.planning.forecast`."""
    wanted = device or (None if parameters.device == "auto" else parameters.device)
    work = workload(parameters, notebook)
    lines = []
    for asked in (wanted, T4):
        try:
            planned = Planned("", (Run("", work),), lookup(asked))
        except KpnbError as unknown:
            lines.append(f"- {unknown}")
            continue
        lines.append(f"- {_sentence(planned)}")
    left = f"- Not in these times: {'; '.join(work.left_out)}." if work.left_out else ""
    return "\n".join([*lines, left]).strip()


def _sentence(planned: Planned) -> str:
    """Where, how long, how much memory, and how known."""
    seconds, memory = planned.seconds, planned.memory_line()
    where = planned.lookup.measured
    place = f"**{where.hardware}**" if where else "**T4-class GPU**"
    told = (
        f"{place}: about {duration(seconds.total)}, {memory.removeprefix('memory  ')}, "
        f"{size(planned.disk)} of disk"
    )
    if where is None:
        return f"{told}; an estimate from {planned.lookup}."
    share = seconds.share(MEASURED)
    known = "measured rates" if share >= WELL_KNOWN else (
        f"{share:.0%} from rates of these networks and sizes, the rest scaled by operations"
    )  # fmt: skip
    return f"{told}; {known} ({where})."


def plan_name(name: str, preset: str, given: dict[str, object], rates: Lookup) -> Planned:
    """The plan of a notebook, a sweep or a run of a sweep, by its name.

    given: parameters of a notebook. Raises KpnbError for an unknown name or parameter, and for
    parameters given to a sweep, which has its own.
    """
    from kpnb.run.notebook import find_notebook
    from kpnb.run.sweeps import Sweeps

    sweeps = Sweeps()
    targets = sweeps.targets(preset)
    if name not in targets:
        _require_no_sweep(name, preset, sweeps)
        find_notebook(name, sweeps.notebooks)
        parameters = resolve(models_for(name), {"preset": preset} | given)
        return Planned(
            f"{name} at {parameters.preset}", (Run(name, workload(parameters, name)),), rates
        )
    if given:
        raise KpnbError(f"{name} has its parameters in its sweep: leave out -p.")
    runs, unknown = [], Counter()
    for run in targets[name]:
        sweep = sweeps.sweep_of[run]
        parameters = sweep.resolved(run, preset)
        try:
            runs.append(Run(run, workload(parameters, sweep.notebook)))
        except KpnbError:  # a data set whose size is known once it is prepared
            if counted(parameters.data):
                raise
            unknown[parameters.data] += 1
    return Planned(f"{name} at {preset}", tuple(runs), rates, dict(unknown))


def counted(data: str) -> bool:
    """Whether the size of a data set is known."""
    try:
        counts_of(data)
    except KpnbError:
        return data == EMBEDDED
    return True


def _require_no_sweep(name: str, preset: str, sweeps: Sweeps) -> None:
    sweep = sweeps.sweep_of.get(name) or sweeps.by_name.get(name)
    if sweep is not None:
        presets = ", ".join(sweep.presets)
        raise KpnbError(f"{name} is not run at {preset!r}: its presets are {presets}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    from kpnb.run.notebook import parse_assignments

    options = _parser().parse_args(arguments)
    try:
        if options.check:
            from kpnb.run.planning.plan_check import main as check

            return check(options.repeats)
        if options.name is None:
            raise KpnbError("Name a notebook, a sweep or a run, or pass --check.")
        rates = lookup(options.device, options.rates)
        given = parse_assignments(options.parameters)
        planned = plan_name(options.name, given.pop("preset", options.preset), given, rates)
        print("\n".join(planned.lines()))
        if options.detail:
            print("", planned.detail(), sep="\n")
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kpnb.run.planning.plan", description=__doc__)
    add = parser.add_argument
    add("name", nargs="?", help="a notebook such as image_h1, a sweep, or one of its runs")
    add("--preset", default="demo")
    add("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    add("--device", choices=("cpu", "cuda", T4), help="default: what this machine computes on")
    add("--rates", type=Path, metavar="FILE", help="rates of another machine")
    add("--detail", action="store_true", help="every network and set of maps")
    add("--check", action="store_true", help="plan a small study, run it, and compare")
    add("--repeats", type=int, default=3, help="of the check")
    return parser


if __name__ == "__main__":
    sys.exit(main())
