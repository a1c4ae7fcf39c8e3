"""The notebooks: sources clean and short, parameters those of their model, each runs alone."""

import ast
import json
import re
import shutil
import statistics
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import cloud_smoke
import nbformat
import pytest
import text_smoke
from IPython.core.inputtransformer2 import TransformerManager
from notebook_runs import FOLDER, Executed, cell_source, code_cells, source

import kpnb.run.__main__
from kpnb.metrics.results import available_cells, available_results, read_results
from kpnb.paper import METRICS
from kpnb.run import notebook as runner
from kpnb.run.notebook import declared_values, request
from kpnb.store import damaged
from kpnb.study.parameters import models_for, resolve

EVERY = sorted(file.stem for file in FOLDER.glob("*.ipynb"))
TESTED = pytest.mark.parametrize("name", EVERY)
# What a notebook says otherwise than the demo of its parameters.
OWN = {"image_unseen": {"measured_on": "test"}, "pointcloud_network": {"network": "DGCNN"}}
ONE_SEED = ("image_cell",)  # at the study
HYPOTHESES = {1: {"n_fg", "n_bg", "lambda"}, 2: {"d_mean", "d_var"}, 3: {"rho"}}
MOST_NOTEBOOKS, MOST_LINES, LONGEST_CELL, MEDIAN_CELL = 23, 1045, 7, 1


@TESTED
def test_source_is_stripped_and_opens_on_colab(name):
    """No later cell sets a parameter: the study's cell, run again, would take it for given."""
    notebook, transform = source(name), TransformerManager().transform_cell
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(notebook))
    assert "widgets" not in notebook.metadata and notebook.metadata["kpnb"]["figures"] > 0
    assert len({cell["id"] for cell in notebook.cells}) == len(notebook.cells)
    top = notebook.cells[0].source.splitlines()
    link = f"https://colab.research.google.com/github/kpnb/kpnb/blob/main/notebooks/{name}.ipynb"
    assert top[0].startswith("# ") and top[2] == f"[Open in Colab]({link})"
    later = [cell.source for cell in code_cells(notebook) if cell.source != cell_source(name)]
    named = [n for n in ast.walk(ast.parse(transform("\n".join(later)))) if isinstance(n, ast.Name)]
    assigned = {n.id for n in named if isinstance(n.ctx, ast.Store)}
    assert assigned.isdisjoint(models_for(name).model_fields)


def test_they_are_few_and_short():
    texts = [(name, cell.source) for name in EVERY for cell in code_cells(source(name))]
    sizes = {known: len([line for line in known[1].splitlines() if line]) for known in texts}
    assert len(EVERY) <= MOST_NOTEBOOKS and sum(sizes[known] for known in texts) <= MOST_LINES
    later = [sizes[name, text] for name, text in texts if text != cell_source(name)]
    assert max(later) <= LONGEST_CELL and statistics.median(later) <= MEDIAN_CELL


def bounds(schema: dict) -> set[str]:
    """What a parameter's comment must name: its words, and the numbers that bound it."""
    if "items" in schema:
        return {str(value) for value in schema["items"].get("enum", [schema["items"].get("const")])}
    found = {str(value) for option in schema.get("anyOf", ()) for value in bounds(option)}
    found |= {str(value) for value in schema.get("enum", ())}
    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return found | {f"{schema[limit]:g}" for limit in limits if limit in schema}


@TESTED
def test_its_parameters_are_the_demo_s_and_comments_name_the_allowed_values(name):
    values, model = declared_values(cell_source(name), name), models_for(name)
    assert values.pop("more") == {} and len(values) <= 17
    demo = model.PRESETS["demo"] | OWN.get(name, {})
    assert values == {n: demo[n] for n in values}
    lines = {line.split(" = ")[0]: line for line in cell_source(name).splitlines() if " = " in line}
    properties = model.model_json_schema()["properties"]
    for parameter, line in lines.items():
        wanted = bounds(properties.get(parameter, {})) - {"None"}
        if parameter == "teacher":  # the networks are those of the line above
            wanted = {"same", "EfficientNet-lite0"} if len(wanted) > 1 else wanted
        assert all(word in line for word in wanted), (parameter, wanted)
        assert parameter == "more" or re.search(r"  # \S", line)
    given = {"preset": "study", "samples": 3}
    wanted = request(name, FOLDER, given)
    assert wanted.resolved == resolve(model, OWN.get(name, {}) | given)
    assert wanted.values["more"].keys().isdisjoint(wanted.values)
    assert wanted.resolved.seeds == tuple(model.PRESETS["study"]["seeds"])
    assert (len(wanted.resolved.seeds) == 1) == (name in ONE_SEED)


def test_tasks_on_texts_differ_in_their_study_alone():
    """And in the names of results. So one task of two is executed below for each hypothesis."""
    names = {"qa_": "sentiment_", "_squad": "_sst2"}
    for number in HYPOTHESES:
        pair = [code_cells(source(f"{task}_h{number}")) for task in text_smoke.LONGEST]
        first, other = ([cell.source for cell in cells[3:]] for cells in pair)
        for own, name in names.items():
            other = [cell.replace(own, name) for cell in other]
        assert first == other


@pytest.mark.parametrize("colab", [True, False])
@pytest.mark.parametrize("beside", ["kpnb/__init__.py", "kpnb/kpnb/__init__.py", ""])
def test_the_first_cell_finds_the_clone_s_kpnb_or_installs_it(colab, beside, tmp_path, monkeypatch):
    """Not a clone beside the notebook's folder, whose name is the package's; with the packages of
    networks that the demos of texts and of own_model start from."""
    (cell,), asked = {code_cells(source(name))[0].source for name in EVERY}, []
    shell = types.SimpleNamespace(run_line_magic=lambda *call: asked.append(call))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / beside).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / (beside or "kpnb")).touch()
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert len([line for line in cell.splitlines() if line]) <= 6
    exec(TransformerManager().transform_cell(cell), {"get_ipython": lambda: shell})
    assert (sys.path[0] == "..") == (beside == "kpnb/__init__.py") and len(asked) == colab
    for magic, line in asked:
        assert magic == "pip"
        assert "kpnb[notebooks,pretrained,text] @ git+https://github.com/kpnb/kpnb" in line
        assert not re.search(r" (-U|--upgrade|--force-reinstall|torch)\b", line)


@dataclass(frozen=True)
class Case:
    """A page. kind: "images" on the shared study's store; others on one that the first of a kind
    fills. taken, added: networks and maps; None: all that it takes, or none of them."""

    notebook: str
    kind: str
    given: dict = field(default_factory=dict)
    metrics: frozenset = frozenset()
    taken: tuple[int, int] = (3, 3)
    added: tuple[int, int] | None = None
    sliders: int = 0


ALL = frozenset(METRICS)
H1, H2, H3 = (frozenset(some) for some in HYPOTHESES.values())
RUN = "ii_vgg11_from_alexnet"
CELL = {"network": "VGG-11", "teacher": "AlexNet", "run": RUN, "samples": 3}
# A few are enough for the run: test_attributions has them all.
FEW = {"samples": 3, "methods": ["gradient", "grad_cam", "saliency"]}
VARIED = 2 * 4  # maps of student and baseline under four variants of the estimator
CASES = {
    "image_h1": Case("image_h1", "images", metrics=H1, added=(0, 0)),
    "image_h2": Case("image_h2", "images", metrics=H2, added=(0, 0)),
    "image_h3": Case("image_h3", "images", metrics=H3, added=(0, 0), sliders=1),
    "image_unseen": Case("image_unseen", "copy", metrics=ALL, added=(0, 3)),
    "image_coherency": Case("image_coherency", "copy", FEW, taken=(1, 0), added=(0, 0)),
    # The cell's student and teacher of another architecture are new.
    "image_cell": Case("image_cell", "copy", CELL, ALL, added=(2, 3)),
    "own_model": Case("own_model", "copy", taken=(0, 0)),  # neither trained nor stored
    "sentiment_h2": Case("sentiment_h2", "sentiment", metrics=H2, added=(3, 3)),
    "sentiment_h3": Case("sentiment_h3", "sentiment", metrics=H3, added=(0, 0)),
    "qa_h1": Case("qa_h1", "qa", metrics=H1, added=(3, 3)),
    "pointcloud_h1": Case("pointcloud_h1", "pointcloud", {}, H1, (3, 3 + VARIED), sliders=1),
    "pointcloud_h2": Case("pointcloud_h2", "pointcloud", metrics=H2, added=(0, 0)),
    "pointcloud_h3": Case("pointcloud_h3", "pointcloud", metrics=H3, added=(0, 0), sliders=1),
    # Networks and maps of pointcloud_h1; tests/check runs the page with the other networks.
    "pointcloud_pointnet": Case(
        "pointcloud_network", "pointcloud", {"network": "PointNet"}, ALL, (3, 3 + VARIED), (0, 0)
    ),
}
TEXTS = re.compile("sentiment|qa")
NO_SCORES = re.compile(r"_h[23]$|image_unseen|coherency")
#: By the beginning of a page's name: what one sample is, the data set, further scores.
SEEN = {
    "image": ("image", "embedded images", {"accuracy"}),
    "own": ("image", "embedded images", set()),
    "sentiment": ("sentence", "embedded sentences", {"accuracy"}),
    "qa": ("question", "embedded questions", {"f1", "exact_match"}),
    "pointcloud": ("cloud", "embedded clouds of furniture", {"accuracy"}),
}


@pytest.fixture(scope="module")
def places(smoke, tmp_path_factory) -> dict[str, Path]:
    """The text model; stores: the shared study's, a copy for those that add to it, empty ones."""
    copied = shutil.copytree(smoke.root, tmp_path_factory.mktemp("copy") / "store")
    empty = {kind: tmp_path_factory.mktemp(kind) for kind in ("sentiment", "qa", "pointcloud")}
    model = text_smoke.wordy_folder(tmp_path_factory.mktemp("model"))
    return {"images": smoke.root, "copy": copied, "model": model} | empty


#: Each of their hypotheses is shown on another modality too, by a page of the same cells.
LONG = {"image_unseen", "sentiment_h3", "pointcloud_h2", "pointcloud_h3", "pointcloud_pointnet"}
LONG |= {"image_coherency"}  # whose tables and figures tests/experiments has
PAGES = [pytest.param(n, marks=[pytest.mark.long] if n in LONG else []) for n in CASES]


@pytest.fixture(scope="module", params=PAGES)
def executed(request, places, tmp_path_factory):
    """Run once for all tests of a page; the environment is what `make book` sets."""
    case, folder = CASES[request.param], tmp_path_factory.mktemp("run")
    # The smoke preset made smaller still, where that is not the shared study.
    small = {"device": "cpu"} | (cloud_smoke.SMALL if case.kind == "pointcloud" else {})
    if case.kind in text_smoke.LONGEST:
        longest = text_smoke.LONGEST[case.kind]
        small = text_smoke.SMALL | {"longest": longest, "network": places["model"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KPNB_STORE", str(places[case.kind]))
        patch.setenv("KPNB_RESULTS", str(folder / "results"))
        given = places[case.kind], folder, request.param
        yield Executed(case.notebook, small | case.given, *given)


def results_of(executed):
    if run := executed.given.get("run"):
        (found,) = available_cells("smoke")
        assert found.run == run and available_results("smoke") == []
    return found if run else read_results(executed.name, "smoke")


def test_it_runs_from_the_store_with_figures_and_is_up_to_date(
    executed, places, monkeypatch, capsys
):
    """The copy has no stderr of the kernel; turning clouds and Figure 5's epochs are sliders of
    the browser. Shared networks and maps are there; texts or clouds may be the first of a kind."""
    case, notebook = CASES[executed.name], executed.notebook
    assert executed.code == 0 and executed.told == "", executed.told
    promised = source(executed.notebook_name).metadata["kpnb"]["figures"]
    assert runner.figure_count(notebook) == promised and runner.error_outputs(notebook) == []
    assert str(Path.home()) not in executed.text() and "Warning" not in executed.text()
    sliders = [html for html in executed.outputs("text/html") if '<input type="range"' in html]
    assert len(sliders) == case.sliders and all(html.count("<img ") > 1 for html in sliders)

    def count(kinds):
        return kinds.count("networks"), kinds.count("maps")

    used, added = notebook.metadata["kpnb"]["store"], [e.split("/")[0] for e in executed.added]
    of_others = [case.taken, (0, VARIED)] if case.kind not in ("images", "copy") else []
    assert count(added) in [case.added or case.taken, *of_others]
    taken = count([Path(folder).parent.name for folder in used])
    assert all((places[case.kind] / entry).is_dir() for entry in used)
    assert damaged(str(places[case.kind] / entry) for entry in used) == []
    assert taken == case.taken or executed.name == "image_coherency"
    monkeypatch.setattr(runner, "execute", None)  # is not called
    assert kpnb.run.__main__.main(executed.arguments()) == 0
    assert "up to date" in capsys.readouterr().out


def test_its_results_are_those_of_its_hypothesis(executed):
    case, results = CASES[executed.name], results_of(executed)
    given = {"preset": "smoke"} | OWN.get(case.notebook, {}) | executed.given
    wanted = resolve(models_for(case.notebook), given).model_dump(mode="json")
    assert json.loads(json.dumps(results.settings)) == wanted
    headline = [c for c in results.comparisons if results.is_headline(c)]
    told = "\n".join(executed.outputs("text/markdown"))
    assert all(f"**{comparison.verdict}**" in told for comparison in headline)
    shares = {f"explained_{part}_{c.layer}" for part in ("train", "new") for c in headline}
    assert shares <= set(results.numbers)
    assert {c.metric for c in results.comparisons} == set(case.metrics)
    assert len(headline) == len(case.metrics)
    names = {name.split(" | ")[0] for name in results.numbers}
    assert ("FC1, centroids and neighbors recomputed" in names) == (case.taken[1] > 3)
    sample, dataset, scores = SEEN[executed.name.split("_")[0]]
    dataset += " (unseen objects)" if executed.name == "image_unseen" else ""
    cells = {(c.sample, c.scale, c.dataset) for c in [*results.measures, *results.comparisons]}
    assert cells == ({(sample, "narrow", dataset)} if case.metrics else set())
    splits = ("train", "test", *(["new"] if sample == "image" else []))
    scores = {f"{score}_{split}" for score in scores for split in splits}
    found = {m.metric for m in results.measures} - set(METRICS)
    assert found == (set() if NO_SCORES.search(executed.name) else scores)
    if results.run:  # beside a row of Table II
        text, bs = executed.text(), {m.threshold for m in results.measures if m.metric == "rho"}
        assert "distilled from VGG-19" in text and bs == {0.15, 0.2, 0.25}
        assert all(f"Hypothesis {number}" in text for number in HYPOTHESES)
        assert results.provenance["code"] == ["CellStudy", "Findings"]
    if executed.name == "image_coherency":
        assert "the entropy is **unchanged**" in executed.text()
        assert results.numbers["entropy_largest_difference"].value < 1e-5


@pytest.mark.parametrize("executed", [p for p in PAGES if TEXTS.match(p.values[0])], indirect=True)
def test_texts_are_shown_with_their_words(executed, places, tmp_path):
    """H1 shows six texts, layers, the definition and points; H3 both networks' points by epoch."""
    shown = [page for page in executed.outputs("text/html") if "dataframe" not in page]
    kind = executed.name.split("_")[0]
    measured = text_smoke.text_study(kind, places["model"], tmp_path).data.measured
    longest = [max(measured.words(row), key=len) for row in range(len(measured))]
    held = [sum(word in page for word in longest) for page in shown]
    # All texts, the example, the example, all texts; the example twice.
    least = {"1": [4, 1, 1, 4], "2": [], "3": [1, 1]}[executed.name[-1]]
    assert all(count >= wanted for count, wanted in zip(held, least, strict=True))


@pytest.mark.parametrize("measured_on, end", [("train", ""), ("test", "_unseen")])
def test_clouds_of_unseen_shapes_are_filed_under_a_name_of_their_own(measured_on, end):
    """Else they would take the place of the results on training clouds."""
    (cell,) = [c.source for c in code_cells(source("pointcloud_network")) if "page =" in c.source]
    some = types.SimpleNamespace
    study = some(parameters=some(network="PointNet++", measured_on=measured_on))
    names = {"study": study, "kpnb": some(Findings=lambda study, page: page)}
    exec(cell, names)
    assert names["findings"] == f"pointcloud_pointnet2{end}"


@pytest.mark.parametrize(
    "data, preset, public",
    [("embedded", "study", False), ("a/folder", "study", True), ("sst2", "paper", False)],
)
@pytest.mark.parametrize("name", [name for name in EVERY if re.match(r"(sentiment|qa)_h\d$", name)])
def test_public_texts_are_filed_beside_the_embedded_ones(name, data, preset, public):
    """But at the paper's preset, which has them as its own: the book looks for its pages' names."""
    (cell,) = [c.source for c in code_cells(source(name)) if "Findings(" in c.source]
    some = types.SimpleNamespace
    page = lambda study, page, hypothesis: page  # noqa: E731
    names = {"study": some(parameters=some(data=data, preset=preset)), "kpnb": some(Findings=page)}
    exec(cell, names)
    other = "_sst2" if name.startswith("sentiment") else "_squad"
    assert names["findings"] == name + (other if public else "")
