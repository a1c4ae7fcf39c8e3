"""The point-cloud notebooks: each runs, alone, at the smoke preset made smaller still."""

import contextlib
import io
import json
from pathlib import Path

import nbformat
import pytest
from cloud_smoke import SMALL, cloud_parameters
from test_notebooks import FOLDER, METRICS, NAMES, code_cells, source, stepping, stored

import kpnb.run.__main__
from kpnb.metrics.results import read_results
from kpnb.run import execution
from kpnb.run.preflight import declared_values, parameters_cell
from kpnb.store import damaged
from kpnb.study.parameters import CloudParameters

# PointNet's notebooks, one a hypothesis as for the images; the others' hold all three.
HYPOTHESES = {f"pointcloud_h{n}": METRICS[name] for n, name in enumerate(NAMES, start=1)}
OTHERS = {
    "pointcloud_dgcnn": "DGCNN",
    "pointcloud_pointconv": "PointConv",
    "pointcloud_pointnet2": "PointNet++",
}
EVERY = [*HYPOTHESES, *OTHERS]
VARIED = 2 * 4  # maps of student and baseline under four variants of the estimator
SCORES = {"accuracy_train", "accuracy_test"}


def network_of(name: str) -> str:
    return OTHERS.get(name, "PointNet")


# --- sources


def test_all_are_looked_at():
    assert sorted(EVERY) == sorted(file.stem for file in FOLDER.glob("pointcloud_*.ipynb"))


@pytest.mark.parametrize("name", OTHERS)
def test_the_network_is_the_one_of_the_name_and_the_presets_decide_the_rest(name):
    notebook = source(name)
    values = declared_values(notebook.cells[parameters_cell(notebook, name)].source, name)
    assert set(values) == set(CloudParameters.model_fields)
    assert values.pop("network") == OTHERS[name] and values.pop("preset") == "demo"
    assert set(values.values()) == {None}


def test_notebooks_of_other_networks_differ_in_the_network_alone():
    found = set()
    for name, network in OTHERS.items():
        code = "\n".join(cell.source for cell in code_cells(source(name)))
        assert code.count(f'network = "{network}"') == 1
        assert code.count(f'"{name}"') == 2  # the findings' name and the forecast's
        found.add(code.replace(f'network = "{network}"', "network").replace(name, "NAME"))
    assert len(found) == 1


# --- runs


class Executed:
    """A notebook after a run by kpnb.run on the shared store."""

    def __init__(self, name: str, root: Path, folder: Path) -> None:
        self.name, self.file = name, folder / f"{name}.ipynb"
        self.results = folder / "results" / "smoke" / f"{name}.json"
        before = stored(root)
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.code = kpnb.run.__main__.main(self.arguments())
        self.told, self.added = told.getvalue(), stored(root) - before
        self.notebook = nbformat.read(self.file, as_version=4)

    def arguments(self) -> list[str]:
        values = {n: v for n, v in SMALL.items() if n != "preset"}
        given = [part for n, v in values.items() for part in ("-p", f"{n}={v}")]
        given += ["--preset", "smoke", "--writes", str(self.results)]
        return [self.name, "--notebooks", str(FOLDER), "-o", str(self.file), *given]

    def outputs(self, kind: str) -> list[str]:
        found = [output for cell in code_cells(self.notebook) for output in cell.outputs]
        return [o["data"][kind] for o in found if kind in o.get("data", {})]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One store for all; PointNet's first notebook trains, the others find its networks there."""
    root = tmp_path_factory.mktemp("store")
    for kind in ("networks", "maps"):
        (root / kind).mkdir()
    return root


@pytest.fixture(scope="module", params=EVERY)
def executed(request, root, tmp_path_factory) -> Executed:
    """Run once for all tests of a notebook."""
    place = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPNB_STORE", str(root))
        patch.setenv("KPNB_RESULTS", str(place / "results"))
        yield Executed(request.param, root, place)


def test_it_runs_and_shows_its_figures(executed):
    assert executed.code == 0
    assert execution.error_outputs(executed.notebook) == []
    promised = source(executed.name).metadata["kpnb"]["figures"]
    assert execution.figure_count(executed.notebook) == promised


def test_nothing_is_written_to_stderr(executed):
    assert executed.told == ""
    assert not any("Warning" in text for text in executed.outputs("text/plain"))


def test_it_takes_networks_and_maps_from_the_store(executed):
    """Teacher, student and baseline; variants of the estimator where it asks for them."""
    used = executed.notebook.metadata["kpnb"]["store"]
    kinds = [Path(folder).parent.name for folder in used]
    varied = 0 if executed.name in ("pointcloud_h2", "pointcloud_h3") else VARIED
    assert (kinds.count("networks"), kinds.count("maps")) == (3, 3 + varied)
    assert damaged(used) == []
    added = sorted(entry.split("/")[0] for entry in executed.added)
    everything = ["maps"] * (3 + varied) + ["networks"] * 3
    assert added in ([], everything, ["maps"] * varied)


def test_its_results_are_those_of_its_hypothesis(executed, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(executed.results.parents[1]))
    results, name = read_results(executed.name, "smoke"), executed.name
    metrics = HYPOTHESES.get(name, set().union(*HYPOTHESES.values()))
    assert {c.metric for c in results.comparisons} == metrics
    wanted = cloud_parameters(network=network_of(name)).model_dump(mode="json")
    assert json.loads(json.dumps(results.settings)) == wanted
    scores = {m.metric for m in results.measures} - metrics
    assert scores == (set() if name in ("pointcloud_h2", "pointcloud_h3") else SCORES)
    cells = [*results.measures, *results.comparisons]
    assert {(c.sample, c.scale, c.layer) for c in cells if c.metric in metrics} == {
        ("cloud", "narrow", "FC1")
    }
    assert {(c.network, c.dataset) for c in cells} == {
        (network_of(name), "embedded clouds of furniture")
    }
    reading = "\n".join(executed.outputs("text/markdown"))
    verdicts = [c.verdict for c in results.comparisons if results.is_headline(c)]
    assert len(verdicts) == len(metrics)
    assert all(f"**{verdict}**" in reading for verdict in verdicts)


def test_variants_are_among_the_numbers(executed, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(executed.results.parents[1]))
    names = {name.split(" | ")[0] for name in read_results(executed.name, "smoke").numbers}
    other = "FC1, centroids and neighbors recomputed"
    assert (other in names) == (executed.name not in ("pointcloud_h2", "pointcloud_h3"))


def test_a_second_run_is_up_to_date(executed, monkeypatch, capsys):
    def started(*_):
        raise AssertionError("run again")

    monkeypatch.setattr(execution, "execute", started)
    assert kpnb.run.__main__.main(executed.arguments()) == 0
    assert "up to date" in capsys.readouterr().out


def test_controls_work_without_a_kernel(executed):
    """H1's turning cloud and H3's epochs lie in the page: sliders of the browser."""
    if executed.name not in ("pointcloud_h1", "pointcloud_h3"):
        return
    sliders = stepping(executed.notebook)
    assert len(sliders) == 1 and sliders[0].count("<img ") > 1
