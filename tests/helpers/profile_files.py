"""The profiles for Slurm and Kubernetes as settings, and what has to be installed for them."""

import importlib.util
import re
import shutil

import pytest
import yaml
from sweep_project import ROOT

PROFILES = ROOT / "profiles"
KUBERNETES = PROFILES / "kubernetes"
EXECUTORS = ("slurm", "kubernetes")
#: A setting that is commented out, in contrast to a sentence.
COMMENTED = re.compile(r"^( *)# ( *[a-z_-]+:(?: .*)?)$", re.MULTILINE)


def profile(name: str, commented: bool = False) -> dict:
    """A profile's settings; on request with those that are commented out."""
    text = (PROFILES / name / "config.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(COMMENTED.sub(r"\1\2", text) if commented else text)


def require_plugin(name: str, *programs: str) -> None:
    modules = ["snakemake", f"snakemake_executor_plugin_{name}"]
    modules += ["snakemake_storage_plugin_fs"] if name == "kubernetes" else []
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    missing += [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: see book/cluster.md")
