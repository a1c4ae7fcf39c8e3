"""The notebooks: sources clean and short, and each runs, alone, at the smoke preset."""

import contextlib
import io
import json
import shutil
import statistics
from pathlib import Path

import nbformat
import pytest
from conftest import smoke_study

import kpnb.run.__main__
from kpnb.metrics.results import read_results
from kpnb.run import execution
from kpnb.run.preflight import declared_values, parameters_cell, plan
from kpnb.store import damaged
from kpnb.study.parameters import MODELS, models_for

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = ("image_h1", "image_h2", "image_h3")
# A notebook for each hypothesis, by modality, and how its cells make the study.
MODALITIES = {kind: [f"{kind}h{number}" for number in (1, 2, 3)] for kind in MODELS}
MADE = {
    "image_": "ImageStudy",
    "sentiment_": "SentimentStudy",
    "qa_": "QuestionStudy",
    "pointcloud_": "CloudStudy",
}
TEXTS = ("sentiment_", "qa_")
HYPOTHESIS_NOTEBOOKS = [name for names in MODALITIES.values() for name in names]
EVERY = sorted(file.stem for file in FOLDER.glob("*.ipynb"))
METRICS = dict(zip(NAMES, [{"n_fg", "n_bg", "lambda"}, {"d_mean", "d_var"}, {"rho"}], strict=True))
# Their study has one seed, because a sweep runs them dozens of times.
ONE_SEED = ("image_cell",)
MOST_LINES, MEDIAN_LINES = 25, 8


def source(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def stepping(notebook) -> list[str]:
    """The HTML of the outputs that step through frames."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    shown = [output.get("data", {}).get("text/html", "") for output in outputs]
    return [html for html in shown if '<input type="range"' in html]


def test_all_are_looked_at():
    assert set(HYPOTHESIS_NOTEBOOKS) <= set(EVERY) and set(NAMES) <= set(HYPOTHESIS_NOTEBOOKS)


@pytest.mark.parametrize("name", EVERY)
def test_source_is_stripped(name):
    notebook = source(name)
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None
    assert "widgets" not in notebook.metadata
    assert notebook.metadata["kpnb"]["figures"] > 0
    ids = [cell["id"] for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", EVERY)
def test_cells_are_short(name):
    notebook = source(name)
    declared = notebook.cells[parameters_cell(notebook, name)]  # a line for each, however many
    cells = [cell for cell in code_cells(notebook) if cell is not declared]
    lines = [len(cell.source.splitlines()) for cell in cells]
    assert max(lines) <= MOST_LINES and statistics.median(lines) <= MEDIAN_LINES


@pytest.mark.parametrize("name", HYPOTHESIS_NOTEBOOKS)
def test_parameters_are_those_of_the_model_and_the_presets_decide(name):
    notebook = source(name)
    cell = notebook.cells[parameters_cell(notebook, name)]
    values = declared_values(cell.source, name)
    assert list(values) != [] and set(values) == set(models_for(name).model_fields)
    assert values.pop("preset") == "demo" and set(values.values()) == {None}


@pytest.mark.parametrize("name", EVERY)
def test_preflight(name):
    planned = plan(name, FOLDER, {"preset": "study", "epochs": 3})
    several = tuple(models_for(name).PRESETS["study"]["seeds"])
    assert planned.resolved.epochs == 3 and planned.resolved.seeds == several
    assert (several == (0,)) == (name in ONE_SEED)


def until_the_study(name: str, made: str) -> list[str]:
    cells = [cell.source for cell in code_cells(source(name))]
    study = next(i for i, cell in enumerate(cells) if f"{made}(parameters)" in cell)
    return cells[: study + 1]


@pytest.mark.parametrize("kind", MODALITIES)
def test_what_they_share_is_the_same(kind):
    """The first cells, up to the study, do not drift apart."""
    heads = [until_the_study(name, MADE[kind]) for name in MODALITIES[kind]]
    assert heads[0] == heads[1] == heads[2] and len(heads[0]) >= 3


def test_tasks_on_texts_differ_in_their_study_alone():
    """Beyond names and the lines of parameters: the cells after the study are those of both."""
    for number in (1, 2, 3):
        heads = [len(until_the_study(f"{kind}h{number}", MADE[kind])) for kind in TEXTS]
        found = [
            [c.source.replace("qa_", "sentiment_") for c in code_cells(source(f"{kind}h{number}"))]
            for kind in TEXTS
        ]
        assert found[0][heads[0] :] == found[1][heads[1] :]


class Executed:
    """A notebook after a run by kpnb.run on the shared store."""

    def __init__(self, name: str, smoke, folder: Path) -> None:
        self.name, self.file = name, folder / f"{name}.ipynb"
        self.results = folder / "results" / "smoke" / f"{name}.json"
        before = stored(smoke.root)
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.code = kpnb.run.__main__.main(self.arguments())
        self.told = told.getvalue()
        self.added = stored(smoke.root) - before
        self.notebook = nbformat.read(self.file, as_version=4)

    def arguments(self) -> list[str]:
        given = ["--preset", "smoke", "-p", "device=cpu", "--writes", str(self.results)]
        return [self.name, "--notebooks", str(FOLDER), "-o", str(self.file), *given]

    def text(self) -> str:
        outputs = [output for cell in code_cells(self.notebook) for output in cell.outputs]
        return "\n".join(str(output.get("text") or output.get("data")) for output in outputs)


def stored(root: Path) -> set[str]:
    kinds = ("networks", "maps")
    return {f"{kind}/{folder.name}" for kind in kinds for folder in (root / kind).iterdir()}


@pytest.fixture(scope="module", params=NAMES)
def executed(request, smoke, tmp_path_factory):
    """Run once for all tests of a notebook; the environment is what `make book` sets."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPNB_STORE", str(smoke.root))
        patch.setenv("KPNB_RESULTS", str(folder / "results"))
        yield Executed(request.param, smoke, folder)


def test_it_runs_and_shows_its_figures(executed):
    assert executed.code == 0
    promised = source(executed.name).metadata["kpnb"]["figures"]
    assert execution.figure_count(executed.notebook) == promised
    assert execution.error_outputs(executed.notebook) == []


def test_nothing_is_written_to_stderr(executed):
    """kpnb.run takes what the kernel writes there out of the copy, and shows it on its own."""
    assert executed.told == ""
    assert str(Path.home()) not in executed.text() and "Warning" not in executed.text()


def test_it_takes_networks_and_maps_from_the_store(executed, smoke):
    assert executed.added == set()
    used = executed.notebook.metadata["kpnb"]["store"]
    known = {record.fingerprint: kind for kind, record in smoke.study.store.asked}
    kinds = [known[Path(folder).name] for folder in used]
    assert kinds.count("networks") == kinds.count("maps") == 3  # teacher, student, baseline
    assert damaged(used) == []


def test_its_results_are_those_of_its_hypothesis(executed, smoke, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(executed.results.parents[1]))
    results = read_results(executed.name, "smoke")
    assert {c.metric for c in results.comparisons} == METRICS[executed.name]
    wanted = smoke.study.parameters.model_dump(mode="json")
    assert json.loads(json.dumps(results.settings)) == wanted
    verdicts = [c.verdict for c in results.comparisons if results.is_headline(c)]
    shown = executed.text()
    assert all(f"**{verdict}**" in shown for verdict in verdicts)
    assert f"Of {len(verdicts)} comparison" in shown


def test_a_second_run_is_up_to_date(executed, monkeypatch, capsys):
    def started(*_):
        raise AssertionError("run again")

    monkeypatch.setattr(execution, "execute", started)
    assert kpnb.run.__main__.main(executed.arguments()) == 0
    assert "up to date" in capsys.readouterr().out


def test_the_slider_works_without_a_kernel(executed):
    """H3's frames lie in the page: a slider of the browser over as many pictures."""
    if executed.name != "image_h3":
        return
    sliders = stepping(executed.notebook)
    assert len(sliders) == 1 and sliders[0].count("<img ") > 1


def test_the_notebooks_ask_for_what_the_shared_study_has(smoke):
    """Otherwise the tests above would train networks of their own and take minutes."""
    planned = plan("image_h1", FOLDER, {"preset": "smoke", "device": "cpu"})
    assert planned.resolved == smoke_study(smoke.root).parameters


def test_unseen_images_take_the_same_networks_and_new_maps(smoke, tmp_path, monkeypatch):
    shutil.copytree(smoke.root, tmp_path / "store")
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    before = stored(tmp_path / "store")
    out = tmp_path / "image_unseen.ipynb"
    given = ["--preset", "smoke", "-p", "device=cpu", "-o", str(out)]
    assert kpnb.run.__main__.main(["image_unseen", *given]) == 0
    added = sorted(entry.split("/")[0] for entry in stored(tmp_path / "store") - before)
    assert added == ["maps"] * 3  # teacher, student, baseline
    results = read_results("image_unseen", "smoke")
    assert {c.dataset for c in results.comparisons} == {"embedded images (unseen objects)"}
    assert {c.metric for c in results.comparisons} == set().union(*METRICS.values())
    figures = execution.figure_count(nbformat.read(out, as_version=4))
    assert figures == source("image_unseen").metadata["kpnb"]["figures"]
