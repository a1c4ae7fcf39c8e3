"""The text notebooks: each runs, alone, at the smoke preset on a tiny model."""

import contextlib
import io
import json
from pathlib import Path

import nbformat
import pytest
from test_notebooks import FOLDER, METRICS, NAMES, code_cells, source, stored
from text_smoke import LONGEST, SMALL, text_study, wordy_folder

import kpnb.run.__main__
from kpnb.metrics.results import read_results
from kpnb.run import execution
from kpnb.store import damaged

# hypothesis -> metrics, as for the images
HYPOTHESES = {number: METRICS[name] for number, name in enumerate(NAMES, start=1)}
EVERY = [(task, number) for task in LONGEST for number in HYPOTHESES]
SCORES = {"sentiment": {"accuracy"}, "qa": {"f1", "exact_match"}}
SAMPLE = {"sentiment": "sentence", "qa": "question"}
SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return wordy_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One store for all six; the first of a task trains, the others find everything there."""
    root = tmp_path_factory.mktemp("store")
    for kind in ("networks", "maps"):
        (root / kind).mkdir()
    return root


class Executed:
    """A notebook after a run by kpnb.run on the shared store."""

    def __init__(self, task: str, number: int, model: str, root: Path, folder: Path) -> None:
        self.task, self.number, self.name = task, number, f"{task}_h{number}"
        self.file = folder / f"{self.name}.ipynb"
        self.results = folder / "results" / "smoke" / f"{self.name}.json"
        self.model, before = model, stored(root)
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.code = kpnb.run.__main__.main(self.arguments())
        self.told, self.added = told.getvalue(), stored(root) - before
        self.notebook = nbformat.read(self.file, as_version=4)

    def arguments(self) -> list[str]:
        values = SMALL | {"longest": LONGEST[self.task], "network": self.model}
        given = [part for n, v in values.items() if n != "preset" for part in ("-p", f"{n}={v}")]
        given += ["--preset", "smoke", "--writes", str(self.results)]
        return [self.name, "--notebooks", str(FOLDER), "-o", str(self.file), *given]

    def outputs(self, kind: str) -> list[str]:
        found = [output for cell in code_cells(self.notebook) for output in cell.outputs]
        return [o["data"][kind] for o in found if kind in o.get("data", {})]


@pytest.fixture(scope="module", params=EVERY, ids=lambda pair: f"{pair[0]}_h{pair[1]}")
def executed(request, folder, root, tmp_path_factory):
    """Run once for all tests of a notebook."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPNB_STORE", str(root))
        patch.setenv("KPNB_RESULTS", str(place / "results"))
        yield Executed(*request.param, folder, root, place)


def test_it_runs_and_shows_its_figures(executed):
    assert executed.code == 0
    assert execution.error_outputs(executed.notebook) == []
    promised = source(executed.name).metadata["kpnb"]["figures"]
    assert execution.figure_count(executed.notebook) == promised


def test_nothing_is_written_to_stderr(executed):
    """No progress bar and no remark of the library that loads the encoder."""
    assert executed.told == ""
    assert not any("Warning" in text for text in executed.outputs("text/plain"))


def test_texts_are_shown_with_their_words(executed, folder, tmp_path):
    """H1 shows six texts, layers, the definition and points; H3 both networks' points by epoch."""
    shown = [page for page in executed.outputs("text/html") if "dataframe" not in page]
    measured = text_study(executed.task, folder, tmp_path).data.measured
    longest = [max(measured.words(row), key=len) for row in range(len(measured))]
    held = [sum(word in page for word in longest) for page in shown]
    # All texts, the example, the example, all texts; the example twice.
    least = {1: [4, 1, 1, 4], 2: [], 3: [1, 1]}[executed.number]
    assert len(held) == len(least)
    assert all(count >= wanted for count, wanted in zip(held, least, strict=True))


def test_it_takes_networks_and_maps_from_the_store(executed, root):
    """Whichever of a task's notebooks runs first computes them, three of each."""
    used = executed.notebook.metadata["kpnb"]["store"]
    kinds = [Path(folder).parent.name for folder in used]
    assert kinds.count("networks") == kinds.count("maps") == 3 and damaged(used) == []
    added = sorted(entry.split("/")[0] for entry in executed.added)
    assert added in ([], ["maps"] * 3 + ["networks"] * 3)
    assert len(stored(root)) in (6, 12)


def test_its_results_are_those_of_its_hypothesis(executed, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(executed.results.parents[1]))
    results = read_results(executed.name, "smoke")
    task, metrics = executed.task, HYPOTHESES[executed.number]
    assert {c.metric for c in results.comparisons} == metrics
    wanted = text_study(task, folder, tmp_path).parameters.model_dump(mode="json")
    assert json.loads(json.dumps(results.settings)) == wanted
    scores = {f"{score}_{split}" for score in SCORES[task] for split in SPLITS}
    measured = {m.metric for m in results.measures} - metrics
    assert measured == (scores if executed.number == 1 else measured & scores)
    cells = [*results.measures, *results.comparisons]
    assert {(c.sample, c.scale) for c in cells} == {(SAMPLE[task], "narrow")}
    assert {c.dataset for c in cells} == {f"embedded {SAMPLE[task]}s"}
    reading = "\n".join(executed.outputs("text/markdown"))
    verdicts = [c.verdict for c in results.comparisons if results.is_headline(c)]
    assert verdicts and all(f"**{verdict}**" in reading for verdict in verdicts)
    assert f"Of {len(verdicts)} comparison" in reading


def test_a_second_run_is_up_to_date(executed, monkeypatch, capsys):
    def started(*_):
        raise AssertionError("run again")

    monkeypatch.setattr(execution, "execute", started)
    assert kpnb.run.__main__.main(executed.arguments()) == 0
    assert "up to date" in capsys.readouterr().out
