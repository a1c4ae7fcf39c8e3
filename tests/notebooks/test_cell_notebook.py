"""The notebook of one cell, run at the smoke preset: filed as a sweep files it, all metrics."""

import shutil

import nbformat
import pytest
from test_notebooks import FOLDER, code_cells, source, stored

import kpnb.run.__main__
from kpnb.metrics.results import available_cells, available_results
from kpnb.paper import METRICS
from kpnb.run import execution
from kpnb.run.preflight import declared_values, parameters_cell
from kpnb.study.parameters import CellParameters

NAME = "image_cell"
RUN = "ii_vgg11_from_alexnet"
GIVEN = {"network": "VGG-11", "teacher": "AlexNet", "run": RUN, "device": "cpu", "samples": 3}


def test_parameters_are_those_of_the_model_and_the_presets_decide():
    notebook = source(NAME)
    values = declared_values(notebook.cells[parameters_cell(notebook, NAME)].source, NAME)
    assert set(values) == set(CellParameters.model_fields)
    assert values.pop("preset") == "demo" and set(values.values()) == {None}


def test_the_first_cell_is_that_of_the_other_notebooks():
    assert code_cells(source(NAME))[0].source == code_cells(source("image_h1"))[0].source


@pytest.fixture(scope="module")
def executed(smoke, tmp_path_factory):
    """Exit code, executed copy, and what was added to a copy of the shared study's store."""
    folder = tmp_path_factory.mktemp(NAME)
    store = folder / "store"
    shutil.copytree(smoke.root, store)
    before = stored(store)
    given = [part for item in GIVEN.items() for part in ("-p", "{}={}".format(*item))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPNB_STORE", str(store))
        patch.setenv("KPNB_RESULTS", str(folder / "results"))
        file = folder / f"{NAME}.ipynb"
        options = ["--preset", "smoke", "--notebooks", str(FOLDER), "-o", str(file)]
        code = kpnb.run.__main__.main([NAME, *options, *given])
        yield code, nbformat.read(file, as_version=4), stored(store) - before


def test_it_runs_and_shows_its_figures_and_printed_rows(executed):
    code, notebook, _ = executed
    assert code == 0 and execution.error_outputs(notebook) == []
    assert execution.figure_count(notebook) == source(NAME).metadata["kpnb"]["figures"]
    shown = str([output for cell in code_cells(notebook) for output in cell.outputs])
    assert "distilled from VGG-19" in shown  # a row of Table II
    assert all(f"Hypothesis {number}" in shown for number in (1, 2, 3))


def test_its_results_are_filed_under_the_run_with_all_six_metrics(executed):
    (found,) = available_cells("smoke")
    assert found.run == RUN and found.settings["teacher"] == "AlexNet"
    assert available_results("smoke") == []
    headline = {c.metric for c in found.comparisons if found.is_headline(c)}
    assert headline == set(METRICS)
    assert {m.threshold for m in found.measures if m.metric == "rho"} == {0.15, 0.2, 0.25}
    assert found.provenance["code"] == ["CellStudy", "Findings"]


def test_the_teacher_is_the_one_named(executed):
    """AlexNet's teacher, the student and its baseline are new; VGG-11's own teacher is not used."""
    _, _, added = executed
    assert len([entry for entry in added if "networks" in str(entry)]) == 3
