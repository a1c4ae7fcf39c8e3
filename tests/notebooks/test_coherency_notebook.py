"""The notebook on coherency, run at the smoke preset on the shared study's networks."""

import shutil
from pathlib import Path

import nbformat
import pytest
from test_notebooks import FOLDER, code_cells, source, stored

import kpnb.run.__main__
from kpnb.metrics.results import read_results
from kpnb.run import execution
from kpnb.run.preflight import declared_values, parameters_cell
from kpnb.study.parameters import CoherencyParameters

NAME = "image_coherency"
# A few are enough for the run: test_attributions has them all.
METHODS = ["gradient", "grad_cam", "saliency"]


def test_parameters_are_those_of_the_model_and_the_presets_decide():
    notebook = source(NAME)
    values = declared_values(notebook.cells[parameters_cell(notebook, NAME)].source, NAME)
    assert set(values) == set(CoherencyParameters.model_fields)
    assert values.pop("preset") == "demo" and set(values.values()) == {None}


def test_the_first_cell_is_that_of_the_other_notebooks():
    assert code_cells(source(NAME))[0].source == code_cells(source("image_h1"))[0].source


class Executed:
    """The notebook after a run by kpnb.run on a copy of the shared study's store."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.file, before = folder / f"{NAME}.ipynb", stored(root)
        given = ["--preset", "smoke", "-p", "device=cpu", "-p", "samples=3"]
        given += ["-p", f"methods={METHODS}", "--notebooks", str(FOLDER), "-o", str(self.file)]
        self.code = kpnb.run.__main__.main([NAME, *given])
        self.added = stored(root) - before
        self.notebook = nbformat.read(self.file, as_version=4)
        self.results = read_results(NAME, "smoke")

    def text(self) -> str:
        outputs = [output for cell in code_cells(self.notebook) for output in cell.outputs]
        return "\n".join(str(output.get("text") or output.get("data")) for output in outputs)


@pytest.fixture(scope="module")
def executed(smoke, tmp_path_factory) -> Executed:
    folder = tmp_path_factory.mktemp(NAME)
    shutil.copytree(smoke.root, folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPNB_STORE", str(folder / "store"))
        patch.setenv("KPNB_RESULTS", str(folder / "results"))
        yield Executed(folder / "store", folder)


def test_it_runs_on_the_networks_of_the_study_and_shows_its_figures(executed):
    assert executed.code == 0 and executed.added == set()
    assert execution.error_outputs(executed.notebook) == []
    promised = source(NAME).metadata["kpnb"]["figures"]
    assert execution.figure_count(executed.notebook) == promised
    assert "Warning" not in executed.text()


def test_results_are_numbers_alone_with_those_that_theory_fixes(executed):
    results = executed.results
    assert results.measures == [] and results.comparisons == []
    numbers = results.numbers
    for prefix in ("", "channel_"):
        names = {f"{prefix}coherency_{m}" for m in [*METHODS, "entropy", "feature_variance"]}
        names |= {f"{prefix}{what}_largest_difference" for what in ("entropy", "output")}
        assert names <= set(numbers)
        assert numbers[f"{prefix}output_largest_difference"].value == 0  # c is a power of 2
        assert numbers[f"{prefix}coherency_grad_cam"].value < 1e-5
    # Of six convolutions, three have their feature divided by 4.
    half = 1.3862943611 / 2
    assert numbers["coherency_gradient"].value == pytest.approx(half, rel=1e-5)
    assert numbers["coherency_feature_variance"].value == pytest.approx(2 * half, rel=1e-5)
    assert numbers["entropy_largest_difference"].value < 1e-5
    assert numbers["channel_coherency_shape_entropy"].value > 0.01
    assert numbers["channel_coherency_feature_variance"].value > 0.1
    assert numbers["coherency_gradient"].n == 3
    assert "measure_coherency" in results.provenance["code"]


def test_the_reading_is_that_of_the_numbers(executed):
    text = executed.text()
    assert "The entropy is **unchanged**" in text and "Grad-CAM 0 [0, 0] nats" in text
