"""Which runs of the sweeps are there and fresh, which are stale, which are missing.

Whether a run is done is decided from what its results file says it was made from, not from
times of files: a clone of the repository gives every file a new time and brings no records of
Snakemake, yet what was committed need not be computed again.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from kpnb.errors import KpnbError
from kpnb.execution import NOTE
from kpnb.preflight import Plan, plan
from kpnb.results import freshness, read_results, results_path
from kpnb.run import HERE
from kpnb.sweep_files import SHIPPED, Sweep, read_sweeps


@dataclass(frozen=True)
class State:
    """kind: whether a run's results are there and would come out the same. why: if stale."""

    kind: Literal["fresh", "stale", "missing"]
    why: str = ""

    @property
    def fresh(self) -> bool:
        return self.kind == "fresh"

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}" if self.why else self.kind


@dataclass(frozen=True)
class Sweeps:
    """All sweeps of a folder, and the state of their runs.

    folder: the sweeps' files. notebooks: the sources. executed: where the executed copies go.
    """

    folder: Path = SHIPPED
    notebooks: Path = HERE / "notebooks"
    executed: Path = HERE / "executed" / "sweeps"
    _states: dict[tuple[str, str], State] = field(default_factory=dict, repr=False)

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

    def plan(self, run: str, preset: str) -> Plan:
        """The checked plan of a run; its fingerprint is over parameters, code, data, versions."""
        sweep = self.sweep_of[run]
        given = sweep.given(run, preset) | {"preset": preset}
        return plan(sweep.notebook, self.notebooks, given)

    def results_file(self, run: str, preset: str) -> Path:
        return results_path(self.sweep_of[run].notebook, preset, run)

    def executed_copy(self, run: str, preset: str) -> Path:
        return self.executed / preset / f"{run}.ipynb"

    def state(self, run: str, preset: str) -> State:
        """Looked up once: while runs are under way the answer does not change."""
        key = run, preset
        if key not in self._states:
            self._states[key] = self._look(run, preset)
        return self._states[key]

    def _look(self, run: str, preset: str) -> State:
        planned = self.plan(run, preset)
        if not self.results_file(run, preset).is_file():
            return State("missing")
        try:
            results = read_results(planned.name, preset, run)
        except KpnbError as error:
            return State("stale", str(error))
        changed = _changes(results.settings, planned.resolved.model_dump(mode="json"))
        if changed:
            return State("stale", changed)
        found = freshness(results)
        if found != "fresh":
            return State("stale", found.removeprefix("stale: "))
        # The results name what computed them but not the notebook's cells; the executed copy, where
        # there is one, knows those too.
        if _noted_fingerprint(self.executed_copy(run, preset)) in (None, planned.fingerprint):
            return State("fresh")
        return State("stale", "cells of the notebook or code behind them have changed since")

    def request(self, run: str, preset: str) -> Path:
        """A small file saying what a run is asked for; newer than its outputs unless it is fresh.

        This is how Snakemake, which knows times and its own records alone, learns of a stale run:
        results that came with git have no record there, and damaged ones have the right one.
        """
        path = self.executed / preset / f"{run}.request.json"
        planned, state = self.plan(run, preset), self.state(run, preset)
        asked = {"notebook": planned.name, "fingerprint": planned.fingerprint}
        asked |= {"parameters": planned.resolved.model_dump(mode="json")}
        outputs = [self.results_file(run, preset), self.executed_copy(run, preset)]
        newest = max(_time(file) for file in outputs)
        if not _asks(path, asked) or (not state.fresh and _time(path) <= newest):
            _write(path, asked)
        if state.fresh:
            os.utime(path, (0, 0))
        return path


def _changes(then: dict, now: dict) -> str:
    """The parameters that differ, in words; "" for none."""
    names = sorted(then.keys() | now.keys())
    changed = [name for name in names if then.get(name) != now.get(name)]
    return ", ".join(f"{name} was {then.get(name)!r}, is {now.get(name)!r}" for name in changed)


def _noted_fingerprint(copy: Path) -> str | None:
    """What an executed copy was made from; None where there is no copy that says so."""
    try:
        return json.loads(copy.read_text(encoding="utf-8"))["metadata"][NOTE]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _time(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else -1


def _asks(file: Path, asked: dict) -> bool:
    """Whether a request is for just this."""
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return {name: value for name, value in there.items() if name != "asked"} == asked


def _write(path: Path, asked: dict) -> None:
    """In one step, because nodes of a cluster may read while another process writes.

    With the time inside, for Snakemake takes a newer file with the old content as unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    text = json.dumps(asked | {"asked": time.time_ns()}, indent=1, sort_keys=True)
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)
