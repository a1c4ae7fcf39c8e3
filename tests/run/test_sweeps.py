"""The sweeps: files checked before anything runs, and only what is not fresh executed."""

import json
import shutil
from types import SimpleNamespace

import pytest
import yaml
from sweep_project import EVERY, ROOT, Project, change, sweep, write_notebook, write_sweep

from book.make.chapters import paper_sweeps
from data_prep import coco, cub200, ilsvrc_det, tiny_imagenet, voc2012
from kpnb.errors import KpnbError
from kpnb.metrics.results import Results, run_fingerprint, write_results
from kpnb.paper import published_table
from kpnb.run import sweeps
from kpnb.run.__main__ import _parser
from kpnb.run.notebook import parse_assignments
from kpnb.run.sweeps import SHIPPED as SHIPPED_FOLDER
from kpnb.run.sweeps import Sweeps, read_sweeps
from kpnb.study.parameters import CellParameters

# Those of the embedded images; further below are those of the preset `paper`.
SHIPPED = {n: found for n, found in read_sweeps().items() if "study" in found.presets}
RUNS = [(name, run) for name, found in SHIPPED.items() for run in found.runs]
PLACES = {"published": {"network": "VGG-11"}}
TABLE_V = {f"{net}/Conv" for net in ("AlexNet", "VGG-11", "VGG-16", "VGG-19")} | {
    f"{net}/FC{number}"
    for net in ("AlexNet", "VGG-11", "VGG-16", "VGG-19", "ResNet-50", "ResNet-101", "ResNet-152")
    for number in (1, 2, 3)
}


def made(runs=None, **changed) -> dict:
    return sweep({"a_run": {}} if runs is None else runs, **changed)


# Files


@pytest.mark.parametrize(
    "content, told",
    [
        (made(tables="V"), "mistake at tables: Extra inputs are not permitted"),
        (made(table="X"), "mistake at table: .*'II', 'III'"),
        ({k: v for k, v in made().items() if k != "title"}, "mistake at title: Field required"),
        (made(runs={"Upper": {}}), "mistake at run Upper"),
        (made(runs={}), "mistake at runs"),
        ("only a text", "mistake at its beginning"),
        (made(notebook="image_cel"), "run a_run: The notebook image_cel has no parameter 'run'"),
        (made(notebook="cell"), "run a_run: No parameters are known for the notebook 'cell'"),
        (made(parameters={"epoch": 3}), "run a_run: There is no parameter 'epoch': did you mean"),
        (made(parameters={"preset": "demo"}), "run a_run: preset is not set in a sweep"),
        (made(parameters={"run": "other"}), "run a_run: run is not set in a sweep"),
        (made({"a_run": {"grid": 1000}}), "run a_run: .*grid is 1000: it must be .* <= 64"),
        (made(at={"papers": {}}), "mistake at at, papers"),
        (made(at={"study": {"epochs": 0}}), "run a_run: The parameter epochs is 0"),
        (made(runs={"all": {}}), "run all: this is already the name of every sweep together"),
        (made(runs={"made": {}}), "run made: this is already the name of a sweep"),
    ],
)
def test_a_mistake_is_one_sentence_naming_file_and_run(tmp_path, content, told):
    write_sweep(tmp_path, "made", content)
    with pytest.raises(KpnbError, match=told) as caught:
        read_sweeps(tmp_path)
    message = str(caught.value)
    assert message.startswith("The sweep made.yaml") and "\n" not in message


@pytest.mark.parametrize("run", [{}, PLACES | {"unpublished": "no row"}])
def test_a_run_has_either_rows_beside_it_or_a_reason(tmp_path, run):
    write_sweep(tmp_path, "made", made() | {"runs": {"a_run": run}})
    with pytest.raises(KpnbError, match="run a_run: give either `published`"):
        read_sweeps(tmp_path)


def test_a_run_without_rows_says_why(tmp_path):
    runs = {"a_run": {"unpublished": "the paper has no such layer"}}
    write_sweep(tmp_path, "made", made() | {"runs": runs})
    assert read_sweeps(tmp_path)["made"].published_rows("a_run").empty


def test_a_key_that_stands_twice_is_no_silent_choice(tmp_path):
    file = write_sweep(tmp_path, "made", made())
    file.write_text(file.read_text() + "  a_run:\n    unpublished: again\n")
    with pytest.raises(KpnbError, match="made.yaml cannot be read: 'a_run' stands twice.*line"):
        read_sweeps(tmp_path)


@pytest.mark.parametrize("text", ["title: [", "\x00"])
def test_a_file_that_is_not_yaml(tmp_path, text):
    (tmp_path / "made.yaml").write_text(text)
    with pytest.raises(KpnbError, match="made.yaml cannot be read"):
        read_sweeps(tmp_path)


def test_a_name_serves_one_run_over_all_files(tmp_path):
    for name in ("one", "two"):
        write_sweep(tmp_path, name, made())
    with pytest.raises(KpnbError, match="two.yaml, run a_run: .*name of a run of one.yaml"):
        read_sweeps(tmp_path)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(KpnbError, match="no sweeps"):
        read_sweeps(tmp_path)


def test_a_runs_own_values_go_before_shared_ones_and_a_preset_before_all_presets(tmp_path):
    runs = {"a_run": {"epochs": 4}, "b_run": {}}
    content = made(runs, parameters={"epochs": 2, "samples": 8}, at={"study": {"epochs": 3}})
    content["runs"]["a_run"]["at"] = {"demo": {"epochs": 5}}
    write_sweep(tmp_path, "made", content)
    found = read_sweeps(tmp_path)["made"]
    epochs = {p: found.resolved("a_run", p).epochs for p in found.presets}
    assert epochs == {"smoke": 4, "demo": 5, "study": 4}
    assert found.resolved("b_run", "study").epochs == 3 and found.resolved("b_run", "demo").run
    assert found.resolved("b_run", "demo").epochs == 2 == found.given("b_run", "demo")["epochs"]


# The shipped ones


def test_tables_and_their_numbers_of_runs():
    assert {name: len(found.runs) for name, found in SHIPPED.items()} == {
        "table_ii": 6,
        "table_iii": 8,
        "table_iv": 3,
        "table_v": 25,
        "table_viii": 10,
        "table_ix": 6,
    }
    assert {f"table_{found.table.lower()}" for found in SHIPPED.values()} == set(SHIPPED)


@pytest.mark.parametrize("name, run", RUNS, ids=[run for _, run in RUNS])
def test_a_shipped_run_stands_beside_rows_of_its_own_network_and_layer(name, run):
    found = SHIPPED[name]
    rows = found.published_rows(run)
    for preset in found.presets:
        parameters = found.resolved(run, preset)
        assert parameters.run == run and len(parameters.layers) == 1
        assert set(rows["network"]) == {parameters.network}
        assert set(rows["layer"]) == set(parameters.layers)
    roles = {"distilled": "S", "scratch": "B"}
    learned = {roles.get(word, word) for word in (row.split()[0] for row in rows["learning"])}
    assert learned in ({"S", "B"}, {"T", "S", "B"})
    assert run.startswith(f"{found.table.lower()}_{parameters.network.lower().replace('-', '')}")


@pytest.mark.parametrize("name, run", RUNS, ids=[run for _, run in RUNS])
def test_a_shipped_run_passes_the_check_before_running(name, run):
    """On the notebook itself, whose cell of parameters has to declare what is passed."""
    given = SHIPPED[name].given(run, "study")
    planned = Sweeps().plan(run, "study")
    assert planned.given == given | {"preset": "study"} and planned.name == "image_cell"


def test_a_named_teacher_is_the_one_of_the_rows():
    for name in ("table_ii", "table_ix"):
        for run in SHIPPED[name].runs:
            p = SHIPPED[name].resolved(run, "study")
            teacher = p.network if p.teacher == "same" else p.teacher
            said = {row for row in SHIPPED[name].published_rows(run)["learning"]}
            assert said == {f"distilled from {teacher}", "scratch"}


def test_table_v_is_whole():
    found = SHIPPED["table_v"]
    all_of_them = [found.resolved(run, "study") for run in found.runs]
    assert {f"{p.network}/{p.layers[0]}" for p in all_of_them} == TABLE_V
    assert {p.teacher for p in all_of_them} == {"same"}
    assert {p.seeds for p in all_of_them} == {(0,)}
    assert {p.teacher_epochs for p in all_of_them if "ResNet" in p.network} == {10}


def test_the_books_example_is_a_run_of_the_sweep_it_names(tmp_path):
    page = (ROOT / "book" / "sweeps.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    sweep_file = (SHIPPED_FOLDER / "table_viii.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(sweep_file)
    content["runs"] |= example["runs"]
    write_sweep(tmp_path, "table_viii", content)
    (run,) = example["runs"]
    found = read_sweeps(tmp_path)["table_viii"]
    assert not found.published_rows(run).empty and run not in SHIPPED["table_viii"].runs
    assert found.resolved(run, "study").layers == ("FC3",)


# Commands


def options(arguments: list[str]) -> SimpleNamespace:
    assert arguments[:2] == ["-m", "kpnb.run"]
    return _parser().parse_args(arguments[2:])


def test_a_command_says_all_that_the_run_was_given(monkeypatch):
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    monkeypatch.chdir(ROOT)
    read = options(sweeps.command("v_vgg11_fc3", "study"))
    given = SHIPPED["table_v"].given("v_vgg11_fc3", "study")
    assert parse_assignments(read.parameters) == given | {"seeds": [0]}
    assert (read.notebook, read.preset) == ("image_cell", "study")
    assert str(read.output) == "executed/sweeps/study/v_vgg11_fc3.ipynb"
    assert [str(file) for file in read.writes] == ["book/results/study/cells/v_vgg11_fc3.json"]


def test_an_unknown_run_gives_the_near_ones():
    with pytest.raises(KpnbError, match="no run 'v_vgg11_fc4': did you mean v_vgg11_fc"):
        sweeps.command("v_vgg11_fc4", "study")


@pytest.mark.parametrize("name, near", [("table_vi", "table_v"), ("v_vgg11_fc4", "v_vgg11_fc3")])
def test_an_unknown_name_on_the_command_line(capsys, name, near):
    assert sweeps.main([name]) == 2
    assert f"did you mean {near}" in capsys.readouterr().err


def test_listing(capsys):
    assert sweeps.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.strip() for line in lines} >= {run for _, run in RUNS}
    assert any(line.startswith("table_v: ") and "25 runs" in line for line in lines)


def test_the_books_table_counts():
    lines = sweeps.sweeps_table().splitlines()
    assert len(lines) == 2 + len(read_sweeps()) and "| `table_v` | Table V |" in "\n".join(lines)
    assert all(line.count("|") == 5 for line in lines)


def test_the_books_table_says_what_is_done(project):
    file_results(project.sweeps, "a_one")
    rows = sweeps.sweeps_table("smoke", project.sweeps).splitlines()[2:]
    assert [row.split(" | ")[-1] for row in rows] == ["1 fresh, 1 missing |", "1 missing |"]


# States


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    return Project(tmp_path).fill()


def file_results(found: Sweeps, run: str, preset: str = "smoke", **changed) -> Results:
    settings = found.plan(run, preset).resolved.model_dump(mode="json")
    code = ["ImageParameters"]
    content = dict(notebook="image_cell", preset=preset, run=run, settings=settings)
    content |= dict(provenance={"code": code}, seconds=0.0, peak_memory_mb=0.0)
    content |= dict(fingerprint=run_fingerprint(settings, code)) | changed
    results = Results(**content)
    write_results(results)
    return results


def states(project: Project) -> dict[str, str]:
    found = project.sweeps
    return {run: found.state(run, "smoke").kind for run in EVERY}


def test_a_run_is_fresh_if_its_results_say_so(project):
    assert set(states(project).values()) == {"missing"}
    file_results(project.sweeps, "a_two")
    assert states(project) == {"a_one": "missing", "a_two": "fresh", "b_three": "missing"}
    assert project.sweeps.state("a_two", "demo").kind == "missing"


def test_a_changed_parameter_makes_its_own_run_stale_alone(project):
    for run in EVERY:
        file_results(project.sweeps, run)
    change(project, "a_one", epochs=5)
    assert states(project) == {"a_one": "stale", "a_two": "fresh", "b_three": "fresh"}
    assert "epochs was 1, is 5" in str(project.sweeps.state("a_one", "smoke"))


def test_a_changed_shared_parameter_makes_its_whole_sweep_stale(project):
    for run in EVERY:
        file_results(project.sweeps, run)
    content = sweep({"a_one": {"epochs": 1}, "a_two": {"epochs": 2}}, parameters={"samples": 9})
    write_sweep(project.root / "sweeps", "first", content)
    assert states(project) == {"a_one": "stale", "a_two": "stale", "b_three": "fresh"}


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"fingerprint": "0" * 64}, "code or data of kpnb have changed"),
        ({"provenance": {}}, "do not name their code"),
        ({"provenance": {"code": ["vanished"]}}, "no 'vanished'"),
    ],
)
def test_results_of_other_code_are_stale(project, changed, told):
    file_results(project.sweeps, "a_one", **changed)
    state = project.sweeps.state("a_one", "smoke")
    assert state.kind == "stale" and told in state.why


def test_damaged_and_misplaced_results_are_stale(project):
    file_results(project.sweeps, "a_one")
    shutil.copy(project.file("a_one"), project.file("a_two"))
    assert states(project)["a_two"] == "stale"
    project.file("a_one").write_text(project.file("a_one").read_text()[:40])
    state = project.sweeps.state("a_one", "smoke")
    assert state.kind == "stale" and "damaged" in state.why


def test_the_executed_copy_tells_of_changed_cells_where_there_is_one(project):
    found = project.sweeps
    file_results(found, "a_one")
    copy = found.executed_copy("a_one", "smoke")
    copy.parent.mkdir(parents=True)
    note = {"fingerprint": found.plan("a_one", "smoke").fingerprint}
    copy.write_text(json.dumps({"metadata": {"kpnb": note}}))
    assert states(project)["a_one"] == "fresh"
    write_notebook(project.root / "notebooks", extra="print(1)")
    assert states(project)["a_one"] == "stale"
    copy.write_text("no notebook")
    assert states(project)["a_one"] == "fresh"


def test_a_request_is_newer_than_the_outputs_unless_the_run_is_fresh(project):
    file_results(project.sweeps, "a_one", fingerprint="0" * 64)
    stale = project.sweeps.request("a_one", "smoke")
    asked = json.loads(stale.read_text())
    assert stale.stat().st_mtime_ns > project.file("a_one").stat().st_mtime_ns
    assert asked["parameters"]["epochs"] == 1 and asked["parameters"]["run"] == "a_one"
    before = stale.stat().st_mtime_ns
    assert project.sweeps.request("a_one", "smoke").stat().st_mtime_ns == before
    file_results(project.sweeps, "a_one")
    fresh = project.sweeps.request("a_one", "smoke")
    assert fresh.stat().st_mtime_ns < project.file("a_one").stat().st_mtime_ns


def test_the_command_line_lists_states_and_checks_them(project, capsys):
    places = ["--sweeps", "sweeps", "--notebooks", "notebooks", "--executed", "executed"]
    places = [str(project.root / p) if not p.startswith("--") else p for p in places]
    file_results(project.sweeps, "a_one")
    assert sweeps.main(["first", "--preset", "smoke", *places]) == 0
    told = capsys.readouterr().out
    assert "2 runs, 1 fresh, 1 missing" in told and "a_two  missing" in told
    assert sweeps.main(["a_one", "--preset", "smoke", "--check", *places]) == 0
    assert sweeps.main(["first", "--preset", "smoke", "--check", *places]) == 1
    assert sweeps.main(["a_one", "--preset", "study", "--check", *places]) == 1


def test_the_stub_takes_all_parameters():
    """Else it would test another command than the one that is shipped."""
    assert {"run", "augment", "outputs"} <= set(CellParameters.model_fields)


# The preset `paper`: every cell of the paper's image tables, on its own data

PAPER = paper_sweeps()
PAPER_RUNS = [(name, run) for name, found in PAPER.items() for run in found.runs]
DATA = {reader.NAME: reader.DATASET for reader in (cub200, ilsvrc_det, voc2012, tiny_imagenet)}
DATA |= {coco.NAME: "MSCOCO (10 largest categories)"}


@pytest.mark.parametrize("table", ["II", "III", "IV", "V", "VIII", "IX"])
def test_every_published_cell_has_a_run(table):
    found = PAPER[f"paper_{table.lower()}"]
    assert found.table == table and found.presets == ("paper",)
    keys = ["dataset", "network", "layer"]
    cells = {tuple(row) for row in published_table(table)[keys].itertuples(index=False)}
    reached = set()
    for run in found.runs:
        rows = found.published_rows(run)[keys].itertuples(index=False)
        reached |= {tuple(row) for row in rows}
    assert reached == cells


@pytest.mark.parametrize("name, run", PAPER_RUNS, ids=[run for _, run in PAPER_RUNS])
def test_a_paper_run_is_on_the_data_network_and_layer_of_its_rows(name, run):
    found, rows = PAPER[name], PAPER[name].published_rows(run)
    p = found.resolved(run, "paper")
    assert p.scale == "full" and p.recipe == "published" and p.run == run
    if found.runs[run].unpublished:
        return
    assert {row.rstrip("?") for row in rows["dataset"]} == {DATA[p.data]}
    assert set(rows["network"]) == {p.network} and set(rows["layer"]) == set(p.layers)
    augmented = p.data in ("ilsvrc_det", "voc2012") and found.table == "V"
    assert p.augment == ("teacher" if found.table == "IV" else "all" if augmented else "none")
    assert p.pretrained == ("none" if found.table == "IV" else "ImageNet")


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_run_passes_the_check_of_its_notebook(name):
    run = next(iter(PAPER[name].runs))
    assert Sweeps().plan(run, "paper").resolved.preset == "paper"


def test_a_preset_has_its_own_targets(capsys):
    found = Sweeps()
    assert set(PAPER) <= set(found.targets("paper")) and "table_v" not in found.targets("paper")
    assert not set(PAPER) & set(found.targets("study"))
    assert len(found.targets("paper")["all"]) == len(PAPER_RUNS)
    assert sweeps.main(["paper_v", "--preset", "study"]) == 2
    assert "no sweep or run at study 'paper_v'" in capsys.readouterr().err
