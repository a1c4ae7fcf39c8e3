"""The sweeps: files checked before anything runs, and only what is not fresh executed."""

import json
import re

import made_results
import pytest
import yaml
from refusals import refuses
from sweep_project import EVERY, ROOT, Project, sweep, write_notebook, write_sweep

from book.make.chapters import paper_sweeps
from data_prep import coco, cub200, ilsvrc_det, tiny_imagenet, voc2012
from kpnb.errors import KpnbError
from kpnb.metrics.results import run_fingerprint, write_results
from kpnb.paper import published_table
from kpnb.run import sweeps
from kpnb.run.__main__ import _parser
from kpnb.run.notebook import parse_assignments
from kpnb.run.sweeps import SHIPPED as FOLDER
from kpnb.run.sweeps import Sweeps, read_sweeps

# Those of the embedded images that stand beside a table, and those of the preset `paper`.
SHIPPED = {n: found for n, found in read_sweeps().items() if n.startswith("table_")}
PAPER = paper_sweeps()
PLACES = {"published": {"network": "VGG-11"}}
VGGS = ("AlexNet", "VGG-11", "VGG-16", "VGG-19")
NETS = (*VGGS, "ResNet-50", "ResNet-101", "ResNet-152")
TABLE_V = {(net, "Conv") for net in VGGS} | {(net, f"FC{n}") for net in NETS for n in (1, 2, 3)}
NUMBERS = {"II": 6, "III": 10, "IV": 3, "V": 25, "VIII": 10, "IX": 7}
# The data of the preset `paper` as the paper calls them.
DATA = {reader.NAME: reader.DATASET for reader in (cub200, ilsvrc_det, voc2012, tiny_imagenet)}
DATA |= {coco.NAME: "MSCOCO (10 largest categories)"}


def made(runs=None, **changed) -> dict:
    return sweep({"a_run": {}} if runs is None else runs, **changed)


def a_run(**entries) -> dict:
    return made() | {"runs": {"a_run": entries}}


MISTAKES = {
    "mistake at tables: Extra inputs are not permitted": made(tables="V"),
    "mistake at table: .*'II', 'III'": made(table="X"),
    "mistake at run Upper": made(runs={"Upper": {}}),
    "mistake at runs": made(runs={}),
    "mistake at its beginning": "only a text",
    "run a_run: The notebook image_cel has no parameter 'run'": made(notebook="image_cel"),
    "run a_run: No parameters are known for the notebook 'cell'": made(notebook="cell"),
    "run a_run: There is no parameter 'epoch': did you mean": made(parameters={"epoch": 3}),
    "run a_run: preset is not set in a sweep": made(parameters={"preset": "demo"}),
    "run a_run: run is not set in a sweep": made(parameters={"run": "other"}),
    "mistake at at, papers": made(at={"papers": {}}),
    "run a_run: The parameter epochs is 0": made(at={"study": {"epochs": 0}}),
    "run all: this is already the name of every sweep together": made(runs={"all": {}}),
    "run made: this is already the name of a sweep": made(runs={"made": {}}),
    "run early: this is already the name of a run of first.yaml": made(runs={"early": {}}),
    "run a_run: give either `published`": a_run(),
    "run a_run: give either": a_run(unpublished="no row", **PLACES),
    "mistake at run a_run, published, net: Input should": a_run(published={"net": "VGG-11"}),
    "cannot be read: 'a_run' stands twice.*line": "runs:\n  a_run: {}\n  a_run: {}\n",
    "cannot be read": "\x00",
}


@pytest.mark.parametrize("told", MISTAKES)
def test_a_mistake_is_one_sentence_naming_file_and_run(tmp_path, told):
    write_sweep(tmp_path, "first", made(runs={"early": {}}))
    file, content = write_sweep(tmp_path, "made", MISTAKES[told]), MISTAKES[told]
    if isinstance(content, str):
        file.write_text(content)
    with pytest.raises(KpnbError, match=f"^The sweep made.yaml.*{told}") as caught:
        read_sweeps(tmp_path)
    assert "\n" not in str(caught.value)


def beside(sweep, run, printed):
    """Of the rows of its table those that a run stands beside; none where it says why not."""
    wanted = sweep.runs[run].published
    return printed[printed[list(wanted)].isin(wanted).all(axis=1)] if wanted else printed.iloc[:0]


def test_a_runs_own_values_go_before_shared_ones_and_a_preset_before_all_presets(tmp_path):
    refuses(read_sweeps, "no sweeps", tmp_path)
    write_sweep(tmp_path, "made", a_run(unpublished="the paper has no such layer"))
    assert beside(read_sweeps(tmp_path)["made"], "a_run", published_table("V")).empty
    runs, at = {"a_run": {"epochs": 4}, "b_run": {}}, {"study": {"epochs": 3}}
    content = made(runs, parameters={"epochs": 2, "samples": 8}, at=at)
    content["runs"]["a_run"]["at"] = {"demo": {"epochs": 5}}
    write_sweep(tmp_path, "made", content)
    found = read_sweeps(tmp_path)["made"]
    epochs = {(run, p): found.resolved(run, p).epochs for run in runs for p in found.presets}
    assert list(epochs.values()) == [4, 5, 4, 2, 2, 3]  # smoke, demo, study of each
    assert found.given("b_run", "demo")["epochs"] == 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_run_stands_beside_rows_of_its_own_network_layer_and_teacher(name):
    found, printed = SHIPPED[name], published_table(SHIPPED[name].table)
    roles = {"distilled": "S", "scratch": "B"}
    for run in found.runs:
        rows = beside(found, run, printed)
        if found.runs[run].unpublished:
            assert rows.empty
            continue
        for preset in found.presets:
            p = found.resolved(run, preset)
            assert p.run == run and len(p.layers) == 1
            assert set(zip(rows["network"], rows["layer"], strict=True)) == {(p.network, *p.layers)}
        if name in ("table_ii", "table_ix"):
            teacher = p.network if p.teacher == "same" else p.teacher
            assert set(rows["learning"]) == {f"distilled from {teacher}", "scratch"}
        learned = {roles.get(word, word) for word in rows["learning"].str.split().str[0]}
        assert learned in ({"S", "B"}, {"T", "S", "B"})
        assert run.startswith(f"{found.table}_{p.network}".lower().replace("-", ""))
    planned = Sweeps().plan(run, "study")
    assert planned.given == found.given(run, "study") | {"preset": "study"}


def test_tables_have_their_numbers_of_runs_and_table_v_is_whole(tmp_path):
    assert {s.table: len(s.runs) for s in SHIPPED.values()} == NUMBERS
    assert {f"table_{table.lower()}" for table in NUMBERS} == set(SHIPPED)
    every = [SHIPPED["table_v"].resolved(run, "study") for run in SHIPPED["table_v"].runs]
    assert {(p.network, *p.layers) for p in every} == TABLE_V
    protocols = [p.run for p in every if len(p.seeds) == 21]  # tests/book/test_protocol_pages.py
    assert protocols == [f"v_{of}_{at}" for of in ("alexnet", "vgg11") for at in ("conv", "fc1")]
    assert {p.teacher for p in every} == {"same"}
    assert {p.teacher_epochs for p in every if "ResNet" in p.network} == {10}
    page = (ROOT / "book" / "sweeps.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    content = yaml.safe_load((FOLDER / "table_viii.yaml").read_text(encoding="utf-8"))
    content["runs"] |= example["runs"]
    write_sweep(tmp_path, "table_viii", content)
    (run,), found = example["runs"], read_sweeps(tmp_path)["table_viii"]
    assert not beside(found, run, published_table("VIII")).empty
    assert run not in SHIPPED["table_viii"].runs and found.resolved(run, "study").layers == ("FC3",)


@pytest.mark.parametrize("table", NUMBERS)
def test_every_published_cell_has_a_run_on_its_data_network_and_layer(table):
    found, printed = PAPER[f"paper_{table.lower()}"], published_table(table)
    keys, reached = ["dataset", "network", "layer"], set()
    assert found.table == table and found.presets == ("paper",)
    for run in found.runs:
        rows, p = beside(found, run, printed), found.resolved(run, "paper")
        reached |= {tuple(row) for row in rows[keys].itertuples(index=False)}
        assert p.scale == "full" and p.recipe == "published" and p.run == run
        if found.runs[run].unpublished:
            continue
        assert {row.rstrip("?") for row in rows["dataset"]} == {DATA[p.data]}
        assert set(rows["network"]) == {p.network} and set(rows["layer"]) == set(p.layers)
        augmented = p.data in ("ilsvrc_det", "voc2012") and table == "V"
        assert p.augment == ("teacher" if table == "IV" else "all" if augmented else "none")
        assert p.pretrained == ("none" if table == "IV" else "ImageNet")
    assert reached == {tuple(row) for row in printed[keys].itertuples(index=False)}
    assert Sweeps().plan(run, "paper").resolved.preset == "paper"


def test_a_preset_has_its_own_targets_listed_and_an_unknown_name_gives_the_near_ones(capsys):
    paper, study = (Sweeps().targets(preset) for preset in ("paper", "study"))
    assert set(PAPER) <= set(paper) and "table_v" not in paper and not set(PAPER) & set(study)
    assert len(paper["all"]) == sum(len(s.runs) for s in PAPER.values())
    for name in ("paper_v", next(iter(PAPER["paper_v"].runs))):
        assert sweeps.main([name, "--preset", "study"]) == 2
        assert f"{name} is not run at 'study': its presets are paper." in capsys.readouterr().err
    assert sweeps.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.strip() for line in lines} >= {run for s in SHIPPED.values() for run in s.runs}
    assert any(line.startswith("table_v: ") and "25 runs" in line for line in lines)
    for name, near in (("table_vi", "table_v"), ("v_vgg11_fc4", "v_vgg11_fc3")):
        assert sweeps.main([name]) == 2
        assert near in capsys.readouterr().err.partition("did you mean")[2]


def test_a_command_says_all_that_the_run_was_given(monkeypatch):
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    monkeypatch.chdir(ROOT)
    arguments, given = sweeps.command("v_vgg16_fc3", "study", Sweeps()), SHIPPED["table_v"].given
    read = _parser().parse_args(arguments[2:])
    passed = parse_assignments(read.parameters, read.notebook)
    assert passed == given("v_vgg16_fc3", "study") | {"seeds": [0], "preset": "study"}
    assert (*arguments[:2], read.notebook) == ("-m", "kpnb.run", "image_cell")
    places = [str(file) for file in (read.output, *read.writes)]
    names = ["executed/sweeps/study/{}.ipynb", "book/results/study/cells/{}.json"]
    assert places == [name.format("v_vgg16_fc3") for name in names]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    return Project(tmp_path).fill()


def file_results(found: Sweeps, run: str, preset: str = "smoke", **changed) -> None:
    settings, code = found.plan(run, preset).resolved.model_dump(mode="json"), ["ImageParameters"]
    content = dict(notebook="image_cell", preset=preset, run=run, settings=settings)
    content |= dict(provenance={"code": code}, fingerprint=run_fingerprint(settings, code))
    write_results(made_results.run(**content | changed))


def states(project: Project) -> list[str]:
    return [project.sweeps.state(run, "smoke").partition(":")[0] for run in EVERY]


def test_a_run_is_fresh_if_its_results_say_so(project, capsys):
    assert states(project) == ["missing"] * 3
    file_results(project.sweeps, "a_two")
    assert states(project) == ["missing", "fresh", "missing"]
    assert project.sweeps.state("a_two", "demo") == "missing"
    rows = sweeps.sweeps_table("smoke", project.sweeps).splitlines()[2:]
    assert [row.split(" | ")[-1] for row in rows] == ["1 fresh, 1 missing |", "1 missing |"]
    assert all(row.count("|") == 6 for row in rows)
    places = [f"--{part}={project.root / part}" for part in ("sweeps", "notebooks", "executed")]
    assert sweeps.main(["first", "--preset", "smoke", *places]) == 0
    told = capsys.readouterr().out
    assert "2 runs, 1 fresh, 1 missing" in told and "a_one  missing" in told
    checks = {("a_two", "smoke"): 0, ("first", "smoke"): 1, ("a_two", "study"): 1}
    for (name, preset), code in checks.items():
        assert sweeps.main([name, "--preset", preset, "--check", *places]) == code


def test_changed_parameters_and_results_that_do_not_fit_are_not_fresh(project):
    """By what else results grow stale: tests/book/test_frame."""
    for run in EVERY:
        file_results(project.sweeps, run)
    project.change("a_one", epochs=5)
    assert states(project) == ["stale", "fresh", "fresh"]
    assert "epochs was 1, is 5" in project.sweeps.state("a_one", "smoke")
    content = sweep({"a_one": {"epochs": 1}, "a_two": {"epochs": 2}}, parameters={"samples": 9})
    write_sweep(project.root / "sweeps", "first", content)
    assert states(project) == ["stale", "stale", "fresh"]
    file, other = project.file("b_three"), project.file("a_two").read_text()
    for text, told in ((file.read_text()[:40], "damaged"), (other, "holds a_two")):
        file.write_text(text)
        assert re.match(f"stale: .*{told}", project.sweeps.state("b_three", "smoke"))


def test_the_executed_copy_tells_of_changed_cells_where_there_is_one(project):
    found = project.sweeps
    file_results(found, "a_one")
    copy = found.executed_copy("a_one", "smoke")
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps({"metadata": {"kpnb": found.plan("a_one", "smoke").made_from}}))
    assert states(project)[0] == "fresh"
    write_notebook(project.root / "notebooks", extra="print(1)")
    assert states(project)[0] == "stale"
    copy.write_text("no notebook")
    assert states(project)[0] == "fresh"


def test_a_request_is_newer_than_the_outputs_unless_the_run_is_fresh(project):
    def asked():
        """What is asked for, when, and when the results were written."""
        request, results = project.sweeps.request("a_one", "smoke"), project.file("a_one")
        times = (file.stat().st_mtime_ns for file in (request, results))
        return json.loads(request.read_text())["parameters"], *times

    file_results(project.sweeps, "a_one", fingerprint="0" * 64)
    parameters, before, results = asked()
    assert before > results and asked()[1] == before
    assert parameters["epochs"] == 1 and parameters["run"] == "a_one"
    file_results(project.sweeps, "a_one", fingerprint="1" * 64)  # another stale one, newer
    _, before, results = asked()
    assert before > results
    project.change("a_one", epochs=4)
    assert asked()[0]["epochs"] == 4
    file_results(project.sweeps, "a_one")
    _, before, results = asked()
    assert before < results
