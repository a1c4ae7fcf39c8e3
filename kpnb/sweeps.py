"""`python -m kpnb.sweeps`: the sweeps, their runs, and which of them are done.

Sweeps are run by Snakemake (see the Snakefile); this lists them, gives the command of each run,
and checks that a run's results are what it was asked for.

Exit codes: 0 done, 1 a run that was to be checked is not fresh, 2 a mistake in a name or a file.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from kpnb.errors import KpnbError
from kpnb.markdown import count, table
from kpnb.sweep_files import SHIPPED, Preset
from kpnb.sweep_state import Sweeps

PRESETS = get_args(Preset)


def command(run: str, preset: str, sweeps: Sweeps | None = None) -> list[str]:
    """Arguments of the Python interpreter that execute one run: `-m kpnb.run NOTEBOOK ...`.

    Paths are relative where they lie below the current folder, so that the same command serves
    on another machine. Raises KpnbError for an unknown run.
    """
    sweeps = sweeps or Sweeps()
    _require_known(run, list(sweeps.sweep_of), "run")
    sweep = sweeps.sweep_of[run]
    given = [f"{name}={json.dumps(value)}" for name, value in sweep.given(run, preset).items()]
    arguments = ["-m", "kpnb.run", sweep.notebook, "--preset", preset]
    arguments += [part for text in given for part in ("-p", text)]
    arguments += ["-o", relative(sweeps.executed_copy(run, preset))]
    arguments += ["--writes", relative(sweeps.results_file(run, preset))]
    if sweeps.notebooks != Sweeps.notebooks:
        arguments += ["--notebooks", relative(sweeps.notebooks)]
    return arguments


def check_command(run: str, preset: str, sweeps: Sweeps) -> list[str]:
    """Arguments of the interpreter that check a run's results after it: exit code 1 if stale."""
    places = ["--sweeps", relative(sweeps.folder)] if sweeps.folder != SHIPPED else []
    places += ["--notebooks", relative(sweeps.notebooks), "--executed", relative(sweeps.executed)]
    return ["-m", "kpnb.sweeps", run, "--preset", preset, "--check", *places]


def relative(path: Path) -> str:
    """As seen from the current folder where it lies below it, else as it is."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def sweeps_table(preset: str | None = None, sweeps: Sweeps | None = None) -> str:
    """The sweeps as a markdown table; with a preset, also how many of their runs are done."""
    sweeps = sweeps or Sweeps()
    rows = []
    for name, sweep in sweeps.by_name.items():
        if preset is not None and preset not in sweep.presets:
            continue
        row = [f"`{name}`", f"Table {sweep.table}", sweep.title, len(sweep.runs)]
        rows.append([*row, _done(sweeps, list(sweep.runs), preset)] if preset else row)
    header = ["sweep", "beside", "what it shows", "runs"]
    return table([*header, f"at `{preset}`"] if preset else header, rows)


def _done(sweeps: Sweeps, runs: list[str], preset: str) -> str:
    """As in: 4 fresh, 2 missing."""
    kinds = Counter(sweeps.state(run, preset).kind for run in runs)
    return ", ".join(
        f"{kinds[kind]} {kind}" for kind in ("fresh", "stale", "missing") if kinds[kind]
    )


def summary(sweeps: Sweeps, name: str, runs: list[str], preset: str) -> str:
    """One line on a target, before anything runs."""
    return f"{name} at {preset}: {count(len(runs), 'run')}, {_done(sweeps, runs, preset)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    options = _parser().parse_args(arguments)
    sweeps = Sweeps(options.sweeps, options.notebooks, options.executed)
    try:
        return _answer(sweeps, options)
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2


def _answer(sweeps: Sweeps, options: argparse.Namespace) -> int:
    if options.name is None:
        print("\n".join(_listing(sweeps)))
        return 0
    targets = sweeps.targets(options.preset)
    _require_known(options.name, list(targets), f"sweep or run at {options.preset}")
    runs = targets[options.name]
    states = {run: sweeps.state(run, options.preset) for run in runs}
    print(summary(sweeps, options.name, runs, options.preset))
    print("\n".join(f"  {run}  {state}" for run, state in states.items()))
    if options.name in sweeps.sweep_of:
        print("python", shlex.join(command(options.name, options.preset, sweeps)))
    return int(options.check and not all(state.fresh for state in states.values()))


def _listing(sweeps: Sweeps) -> list[str]:
    lines = []
    for name, sweep in sweeps.by_name.items():
        at = ", ".join(sweep.presets)
        lines.append(f"{name}: {sweep.title} ({count(len(sweep.runs), 'run')}; at {at})")
        lines += [f"  {run}" for run in sweep.runs]
    return lines


def _require_known(name: str, known: list[str], kind: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
        raise KpnbError(f"There is no {kind} {name!r}: did you mean {' or '.join(near)}?")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kpnb.sweeps", description="List the sweeps.")
    add = parser.add_argument
    add("name", nargs="?", help="a sweep or a run; without it, all of them are listed")
    add("--preset", choices=PRESETS, default="demo")
    add("--check", action="store_true", help="exit code 1 unless all of its runs are fresh")
    add("--sweeps", type=Path, default=Sweeps.folder, metavar="DIR")
    add("--notebooks", type=Path, default=Sweeps.notebooks, metavar="DIR")
    add("--executed", type=Path, default=Sweeps.executed, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
