"""Sweeps: many runs of one notebook, described in files; `python -m kpnb.run.sweeps` lists them.

A sweep is a file `sweeps/<name>.yaml`, a `Sweep`, and each of its runs a `Run`. What a run says of
its own goes before what is shared; what neither says is the preset's.

Whether a run is done is decided from what its results file says it was made from, not from times
of files: a clone of the repository gives every file a new time and brings no records of Snakemake,
which runs the sweeps (see the Snakefile); yet what was committed need not be computed again.

Exit codes: 0 done, 1 a run that was to be checked is not fresh, 2 a mistake in a name or a file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kpnb.errors import KpnbError, answered, did_you_mean, require
from kpnb.metrics.formatting import count, table
from kpnb.metrics.results import freshness, read_results, results_path, why_stale, write_whole
from kpnb.run.__main__ import HERE, written_at
from kpnb.run.notebook import NOTE, Request, request
from kpnb.study.parameters import StudyParameters, models_for, resolve
from kpnb.study.presets.own_model import PRESET_NAMES

SHIPPED = Path(__file__).with_name("sweeps")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Parameters = dict[str, object]
Preset = Literal[PRESET_NAMES]
Column = Literal["dataset", "network", "layer", "learning", "grid_size", "threshold_b"]


Listed = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
Choice = Annotated[list[str], Listed, Field(min_length=1)]


class _Effort(BaseModel):
    """parameters: of the notebook, at all presets. at: those of one preset only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: Parameters = {}
    at: dict[Preset, Parameters] = {}

    def at_preset(self, preset: str) -> Parameters:
        return self.parameters | self.at.get(preset, {})


class Run(_Effort):
    """One run of a sweep, as its file has it.

    published: which rows of the paper's table it stands beside, one value or a list for each column
    named, any for the others; values as in `kpnb.paper.published_table`. unpublished: why none.
    """

    published: dict[Column, Choice] = {}
    unpublished: str = ""

    @model_validator(mode="after")
    def _stands_somewhere(self) -> Self:
        if bool(self.published) == bool(self.unpublished):
            raise ValueError("give either `published` (rows of the table) or `unpublished` (why)")
        return self


class Sweep(_Effort):
    """One file of runs. title: what they show together. table: of the paper, beside which they
    stand. presets: at which they can be run. parameters, at: shared by all runs."""

    title: str
    table: Literal["II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
    notebook: Name
    presets: Annotated[tuple[Preset, ...], Field(min_length=1)] = ("smoke", "demo", "study")
    runs: dict[Name, Run] = Field(min_length=1)

    def given(self, run: str, preset: str) -> Parameters:
        """The parameters that a run passes to its notebook at a preset, the preset left out."""
        return self.at_preset(preset) | self.runs[run].at_preset(preset) | {"run": run}

    def resolved(self, run: str, preset: str) -> StudyParameters:
        """All parameters of a run, checked; KpnbError as `kpnb.study.parameters.resolve`."""
        return resolve(models_for(self.notebook), self.given(run, preset) | {"preset": preset})


def read_sweeps(folder: Path = SHIPPED) -> dict[str, Sweep]:
    """All sweeps of a folder by name, each run checked against its notebook's parameters.

    Raises: KpnbError, naming file and run, for a file that is no sweep, a run's name used twice,
    and a parameter that the notebook does not take, at any preset.
    """
    files = sorted(folder.glob("*.yaml"))
    require(files, f"There are no sweeps (*.yaml) in {folder}: name another folder.")
    sweeps = {file.stem: _read(file) for file in files}
    # Runs and sweeps are both targets, and a run's name is also that of its results.
    owner = {name: f"a sweep ({name}.yaml)" for name in sweeps} | {"all": "every sweep together"}
    for name, sweep in sweeps.items():
        for run in sweep.runs:
            try:
                if run in owner:
                    raise KpnbError(f"this is already the name of {owner[run]}.")
                owner[run] = f"a run of {name}.yaml"
                _require_resolves(sweep, run)
            except KpnbError as mistake:
                raise KpnbError(f"The sweep {name}.yaml, run {run}: {mistake}") from None
    return sweeps


def _read(file: Path) -> Sweep:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Unrepeated)
        return Sweep.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise KpnbError(f"The sweep {file.name} cannot be read: {cause}.") from error
    except ValidationError as error:
        raise KpnbError(f"The sweep {file.name} {_sentence(error)}.") from None


class _Unrepeated(yaml.SafeLoader):
    """YAML in which a key stands once; the plain loader keeps the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                mark = node.value[place][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", mark)
        return super().construct_mapping(node, deep)


def _sentence(error: ValidationError) -> str:
    """The first mistake: the run it is in, the key, and what is wrong with it."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "[key]"]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    if place[:1] == ["runs"] and len(place) > 1:
        place = [f"run {place[1]}", *place[2:]]
    return f"has a mistake at {', '.join(place) or 'its beginning'}: {reason}"


def _require_resolves(sweep: Sweep, run: str) -> None:
    if "run" not in models_for(sweep.notebook).model_fields:
        raise KpnbError(f"The notebook {sweep.notebook} has no parameter 'run' to file under.")
    for preset in sweep.presets:
        given = sweep.at_preset(preset) | sweep.runs[run].at_preset(preset)
        # The run's name and the preset asked for decide these.
        if own := [name for name in ("run", "preset") if name in given]:
            raise KpnbError(f"{own[0]} is not set in a sweep: leave it out.")
        sweep.resolved(run, preset)


FRESH, STATES = "fresh", ("fresh", "other versions", "stale", "unknown", "missing")


@dataclass(frozen=True)
class Sweeps:
    """All sweeps of a folder, and the state of their runs.

    folder: the sweeps' files. notebooks: the sources. executed: where the executed copies go.
    """

    folder: Path = SHIPPED
    notebooks: Path = HERE / "notebooks"
    executed: Path = HERE / "executed" / "sweeps"

    @cached_property
    def by_name(self) -> dict[str, Sweep]:
        return read_sweeps(self.folder)

    @cached_property
    def sweep_of(self) -> dict[str, Sweep]:
        """The sweep that a run belongs to, by the run's name."""
        return {run: sweep for sweep in self.by_name.values() for run in sweep.runs}

    def targets(self, preset: str) -> dict[str, list[str]]:
        """What can be asked for by name at a preset, each with its runs: `all`, the sweeps that
        the preset has, their runs."""
        sweeps = {n: list(s.runs) for n, s in self.by_name.items() if preset in s.presets}
        everything = [run for runs in sweeps.values() for run in runs]
        return {"all": everything} | sweeps | {run: [run] for run in everything}

    def asked(self, name: str, preset: str) -> list[str]:
        """The runs of a target; KpnbError where the preset has none of this name."""
        targets = self.targets(preset)
        if name in targets:
            return targets[name]
        if sweep := self.sweep_of.get(name) or self.by_name.get(name):
            presets = ", ".join(sweep.presets)
            raise KpnbError(f"{name} is not run at {preset!r}: its presets are {presets}.")
        near = did_you_mean(name, targets) or f"known: {', '.join(self.by_name)}."
        raise KpnbError(f"There is no sweep or run {name!r} at {preset!r}: {near}")

    def plan(self, run: str, preset: str) -> Request:
        """The checked plan of a run; its fingerprint is over parameters, code, data, versions."""
        sweep = self.sweep_of[run]
        given = sweep.given(run, preset) | {"preset": preset}
        return request(sweep.notebook, self.notebooks, given)

    def results_file(self, run: str, preset: str) -> Path:
        return results_path(self.sweep_of[run].notebook, preset, run)

    def executed_copy(self, run: str, preset: str) -> Path:
        return self.executed / preset / f"{run}.ipynb"

    @cached_property
    def state(self) -> Callable[[str, str], str]:
        """Of a run at a preset, whether its results are there and would come out the same: one of
        `STATES`, with why. Looked up once: while runs are under way it does not change."""
        return cache(self._look)

    def _look(self, run: str, preset: str) -> str:
        planned = self.plan(run, preset)
        if not self.results_file(run, preset).is_file():
            return "missing"
        try:
            results = read_results(planned.name, preset, run)
        except KpnbError as error:
            return f"stale: {error}"
        found = freshness(results, planned.made_from["parameters"])
        if found != FRESH:
            return found
        # The results name what computed them but not the notebook's cells; the executed copy, where
        # there is one, knows those too.
        try:
            copy = json.loads(self.executed_copy(run, preset).read_text(encoding="utf-8"))
            why = why_stale(copy["metadata"][NOTE], planned.made_from)
        except (OSError, ValueError, KeyError, TypeError):
            return FRESH
        told = "stale: cells of the notebook or code behind them have changed since"
        return told if why else FRESH

    def request(self, run: str, preset: str) -> Path:
        """A small file saying what a run is asked for; newer than its outputs unless it is fresh.

        This is how Snakemake, which knows times and its own records alone, learns of a stale run:
        results that came with git have no record there, and damaged ones have the right one.
        """
        path, planned = self.executed / preset / f"{run}.request.json", self.plan(run, preset)
        fresh = self.state(run, preset) == FRESH
        asked = json.dumps({"notebook": planned.name} | planned.made_from, sort_keys=True)[1:]
        outputs = self.results_file(run, preset), self.executed_copy(run, preset)
        same = path.is_file() and path.read_bytes().endswith(f", {asked}".encode())
        if not same or (not fresh and written_at(path) <= max(map(written_at, outputs))):
            # With the time inside, for Snakemake takes a newer file with the old content as
            # unchanged; in one step, because nodes of a cluster read while another writes.
            write_whole(path, f'{{"asked": {time.time_ns()}, {asked}')
        if fresh:
            os.utime(path, (0, 0))
        return path


def command(run: str, preset: str, sweeps: Sweeps) -> list[str]:
    """Arguments of the Python interpreter that execute one run: `-m kpnb.run NOTEBOOK ...`.

    Paths below the current folder are relative, so that the command serves on another machine.
    """
    sweep = sweeps.sweep_of[run]
    arguments = ["-m", "kpnb.run", sweep.notebook, "--preset", preset]
    for name, value in sweep.given(run, preset).items():
        plain = value if isinstance(value, str) else json.dumps(value)
        arguments += ["-p", f"{name}={plain}"]
    arguments += ["-o", relative(sweeps.executed_copy(run, preset))]
    arguments += ["--writes", relative(sweeps.results_file(run, preset))]
    if sweeps.notebooks != Sweeps.notebooks:
        arguments += ["--notebooks", relative(sweeps.notebooks)]
    return arguments


def check_command(run: str, preset: str, sweeps: Sweeps) -> list[str]:
    """Arguments of the interpreter that check a run's results after it: exit code 1 if stale."""
    places = ["--sweeps", relative(sweeps.folder)] if sweeps.folder != SHIPPED else []
    places += ["--notebooks", relative(sweeps.notebooks), "--executed", relative(sweeps.executed)]
    return ["-m", "kpnb.run.sweeps", run, "--preset", preset, "--check", *places]


def relative(path: Path) -> str:
    """As seen from the current folder where it lies below it, else as it is."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def sweeps_table(preset: str, sweeps: Sweeps | None = None) -> str:
    """The sweeps of a preset as a markdown table, and how many of their runs are done."""
    sweeps = sweeps or Sweeps()
    rows = [
        [f"`{name}`", f"Table {s.table}", s.title, len(s.runs), _done(sweeps, s.runs, preset)]
        for name, s in sweeps.by_name.items()
        if preset in s.presets
    ]
    return table(["sweep", "beside", "what it shows", "runs", f"at `{preset}`"], rows)


def _done(sweeps: Sweeps, runs: Sequence[str], preset: str) -> str:
    """As in: 4 fresh, 2 missing."""
    kinds = Counter(sweeps.state(run, preset).partition(":")[0] for run in runs)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in STATES if kinds[kind])


def summary(sweeps: Sweeps, name: str, runs: list[str], preset: str) -> str:
    """One line on a target, before anything runs."""
    return f"{name} at {preset}: {count(len(runs), 'run')}, {_done(sweeps, runs, preset)}"


def _answer(options: argparse.Namespace) -> int:
    sweeps = Sweeps(options.sweeps, options.notebooks, options.executed)
    if options.name is None:
        for name, sweep in sweeps.by_name.items():
            at = ", ".join(sweep.presets)
            print(f"{name}: {sweep.title} ({count(len(sweep.runs), 'run')}; at {at})")
            print("\n".join(f"  {run}" for run in sweep.runs))
        return 0
    runs = sweeps.asked(options.name, options.preset)
    states = {run: sweeps.state(run, options.preset) for run in runs}
    print(summary(sweeps, options.name, runs, options.preset))
    print("\n".join(f"  {run}  {state}" for run, state in states.items()))
    if options.name in sweeps.sweep_of:
        print("python", shlex.join(command(options.name, options.preset, sweeps)))
    return int(options.check and set(states.values()) != {FRESH})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    program = "python -m kpnb.run.sweeps"
    parser = argparse.ArgumentParser(prog=program, description="List the sweeps.")
    add = parser.add_argument
    add("name", nargs="?", help="a sweep or a run; without it, all of them are listed")
    add("--preset", choices=PRESET_NAMES, default="demo", help="default: demo")
    add("--check", action="store_true", help="exit code 1 unless all of its runs are fresh")
    add("--sweeps", type=Path, default=Sweeps.folder, metavar="DIR")
    add("--notebooks", type=Path, default=Sweeps.notebooks, metavar="DIR")
    add("--executed", type=Path, default=Sweeps.executed, metavar="DIR")
    options = parser.parse_args(arguments)
    return answered(lambda: _answer(options))


if __name__ == "__main__":
    sys.exit(main())
