"""A project of sweeps whose notebook takes a second, and the profiles as settings."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from kpnb.run.sweeps import Sweeps

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "profiles"
KUBERNETES = PROFILES / "kubernetes"
EXECUTORS = ("slurm", "kubernetes")
#: A setting that is commented out, in contrast to a sentence.
COMMENTED = re.compile(r"^( *)# ( *[a-z_-]+:(?: .*)?)$", re.MULTILINE)
SWEEPS = {
    "first": {"a_one": {"epochs": 1}, "a_two": {"epochs": 2}},
    "second": {"b_three": {"epochs": 3}},
}
PLACES = ("sweeps=sweeps", "notebooks=notebooks", "preset=smoke")
EVERY = sorted(run for runs in SWEEPS.values() for run in runs)
# Files its results as a real notebook does, without computing; RUNS lists what was executed.
WORK = """
import os
from pathlib import Path
from kpnb.study.parameters import CellParameters, resolve
from kpnb.study.presets.own_model import with_more
from kpnb.metrics.results import Results, run_fingerprint, write_results
known, names = {"more", *CellParameters.model_fields}, dict(globals())
given = with_more({name: value for name, value in names.items() if name in known})
p = resolve(CellParameters, given, "smoke")
with open(os.environ["RUNS"], "a") as log:
    log.write(p.run + "\\n")
assert p.run != os.environ.get("FAIL"), "told to fail"
settings, code = p.model_dump(mode="json"), ["ImageParameters"]
made = dict(settings=settings, provenance=dict(code=code), seconds=0.0, peak_memory_mb=0.0)
made["fingerprint"] = run_fingerprint(settings, code)
if p.run != os.environ.get("SILENT"):
    write_results(Results(notebook="image_cell", preset=p.preset, run=p.run, **made))
"""


def sweep(runs: dict, **changed) -> dict:
    beside = {"published": {"network": "VGG-11"}}
    described = {name: beside | {"parameters": given} for name, given in runs.items()}
    made = {"title": "made up", "table": "V", "notebook": "image_cell"}
    return made | {"parameters": {"layers": ["FC1"]}, "runs": described} | changed


def write_sweep(folder: Path, name: str, content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def write_notebook(folder: Path, extra: str = "") -> None:
    """The stub image_cell; `extra` is one more line of code."""
    folder.mkdir(parents=True, exist_ok=True)
    declared = 'epochs = 2\nlayers = ["FC1"]\npreset = "smoke"\nmore = {}'
    cells = [new_code_cell(declared, metadata={"tags": ["parameters"]})]
    cells.append(new_code_cell(WORK + extra))
    nbformat.write(new_notebook(cells=cells), folder / "image_cell.ipynb")


@dataclass(frozen=True)
class Project:
    """Folders of a sweep project below `root`, run through the repository's own Snakefile."""

    root: Path

    @property
    def sweeps(self) -> Sweeps:
        """Read anew each time, as a new process would."""
        places = self.root / "sweeps", self.root / "notebooks", self.root / "executed" / "sweeps"
        return Sweeps(*places)

    def fill(self) -> "Project":
        for name, runs in SWEEPS.items():
            write_sweep(self.root / "sweeps", name, sweep(runs))
        write_notebook(self.root / "notebooks")
        return self

    def file(self, run: str) -> Path:
        return self.root / "results" / "smoke" / "cells" / f"{run}.json"

    def executed(self) -> list[str]:
        """Runs executed since the last time this was asked, sorted."""
        log = self.root / "runs.txt"
        found = sorted(log.read_text().split()) if log.is_file() else []
        log.unlink(missing_ok=True)
        return found

    def snakemake(self, *arguments, places=PLACES, **variables) -> subprocess.CompletedProcess:
        """One call of Snakemake on the stub's folders at the preset smoke."""
        own = {"KPNB_RESULTS": str(self.root / "results"), "RUNS": str(self.root / "runs.txt")}
        own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        how = dict(cwd=self.root, env=os.environ | own | variables, capture_output=True, text=True)
        common = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]
        return subprocess.run([*common, *arguments, "--config", *places], **how)

    def settings(self, run: str) -> dict:
        return json.loads(self.file(run).read_text(encoding="utf-8"))["settings"]

    def change(self, run: str, **parameters) -> None:
        """Other parameters of one run of the first sweep."""
        write_sweep(self.root / "sweeps", "first", sweep(SWEEPS["first"] | {run: parameters}))


def profile(name: str, commented: bool = False) -> dict:
    """A profile's settings; on request with those that are commented out."""
    text = (PROFILES / name / "config.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(COMMENTED.sub(r"\1\2", text) if commented else text)


def require_plugin(name: str = "", *programs: str) -> None:
    modules = ["snakemake"] + [f"snakemake_executor_plugin_{name}"] * bool(name)
    modules += ["snakemake_storage_plugin_fs"] if name == "kubernetes" else []
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    missing += [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: see book/cluster.md")
