"""What every notebook needs to open on Colab: its link, its first cell there, its plan."""

import subprocess
import sys
import types
from importlib.metadata import version

import pytest
from test_notebooks import EVERY, code_cells, source

from kpnb.run.plan import plan_lines, study_of
from kpnb.study.parameters import models_for, resolve

HELD = ("torch", "torchvision", "numpy")


@pytest.mark.parametrize("name", EVERY)
def test_its_link_opens_it_on_colab(name):
    top = source(name).cells[0].source.splitlines()
    link = f"https://colab.research.google.com/github/kpnb/kpnb/blob/main/notebooks/{name}.ipynb"
    assert top[0].startswith("# ") and top[2] == f"[Open in Colab]({link})"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Colab as the first cell sees it: no clone, and pip only remembers what it was asked."""
    calls = []
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", lambda args, check: calls.append((args, check)))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return calls


@pytest.mark.parametrize("name", EVERY)
def test_the_first_cell_installs_the_project_and_holds_what_colab_has(name, installed):
    exec(code_cells(source(name))[0].source, {})
    ((command, check),) = installed
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and check
    assert any("git+https://github.com/kpnb/kpnb" in part for part in command)
    assert [f"{held}=={version(held)}" for held in HELD] == command[-3:]


def test_without_colab_and_clone_the_first_cell_installs_nothing(tmp_path, monkeypatch, installed):
    monkeypatch.delitem(sys.modules, "google.colab")
    exec(code_cells(source("image_h1"))[0].source, {})
    assert installed == []


@pytest.mark.parametrize("name", EVERY)
def test_it_says_what_it_takes_here(name):
    (cell,) = [c for c in code_cells(source(name)) if "kpnb.run.plan" in c.source]
    assert "plan_lines(study)" in cell.source
    told = plan_lines(study_of(resolve(models_for(name), {"preset": "demo", "device": "cpu"})))
    assert told.startswith("**") and "about" in told and "B of disk" in told
