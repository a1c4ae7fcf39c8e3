"""The runner: nothing runs with a mistake in it, and an executed copy is what it says."""

import json
import os
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import kpnb.run.__main__
from kpnb.errors import KpnbError
from kpnb.metrics.results import Results, run_fingerprint, write_results
from kpnb.run import notebook as runner
from kpnb.run.notebook import declared_values, parse_assignments, request

NO_MORE = 'preset = "smoke"  # which\nepochs = 30\nlayers = ["FC1"]'
DECLARED = f"{NO_MORE}\nmore = {{}}"
USED = "given = dict(globals())\nprint(preset, epochs, layers, more)"


def write(folder, *cells, name="image_x", declared=DECLARED, used=USED, tagged=1):
    """A notebook with a parameters cell and code cells; `tagged` cells carry the tag."""
    tags = {"tags": ["parameters"]}
    parameters = [new_code_cell(declared, metadata=tags) for _ in range(tagged)]
    code = [cell if not isinstance(cell, str) else new_code_cell(cell) for cell in cells]
    notebook = new_notebook(cells=[*parameters, new_code_cell(used), *code])
    for position, cell in enumerate(notebook.cells):
        notebook.cells[position] = nbformat.from_dict({**cell, "id": f"cell-{position}"})
    nbformat.write(notebook, folder / f"{name}.ipynb")


def run(folder, *arguments):
    common = ["image_x", "--notebooks", str(folder), "-o", str(folder / "out" / "image_x.ipynb")]
    return kpnb.run.__main__.main([*common, *arguments])


def executed(folder, name="image_x.ipynb"):
    return nbformat.read(folder / "out" / name, as_version=4)


def stdout(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.fixture(autouse=True)
def no_execution(request, monkeypatch):
    """A started kernel is a failure, but in the tests that ask for `kernel`."""
    if "kernel" not in request.fixturenames:

        def started(*_):
            raise AssertionError("papermill was started")

        monkeypatch.setattr(runner, "execute", started)


@pytest.fixture
def kernel():
    """Asked for by the tests that run a real kernel."""


@pytest.mark.parametrize(
    "notebook, arguments, told",
    [
        ({}, ["-p", "epoch=3"], "no parameter 'epoch': did you mean epochs"),
        ({"declared": NO_MORE}, ["-p", "samples=3"], "neither samples nor `more"),
        ({"declared": f"{NO_MORE}\nmore = 3"}, [], "more is 3: write a dictionary"),
        ({"declared": f"{NO_MORE}\nmore = {{'chunks': 3}}"}, [], "'chunks': did you mean chunk"),
        ({}, ["-p", "epochs=abc"], "epochs is 'abc': it must be a whole number >= 1"),
        ({}, ["-p", "epochs=0"], "epochs is 0"),
        ({}, ["-p", "layers=FC1"], "layers is 'FC1'"),
        ({}, ["-p", "layers=[FC9]"], "Conv, FC1, FC2, FC3"),
        ({}, ["-p", "epochs"], "write name=value"),
        ({}, ["-p", "epochs=1", "-p", "epochs=2"], "given twice"),
        ({}, ["--preset", "papers"], "smoke, demo, study, paper"),
        ({}, ["--preset", "demo", "-p", "preset=study"], "differ"),
        ({"tagged": 0}, [], "0 code cells tagged 'parameters'"),
        ({"tagged": 2}, [], "2 code cells tagged 'parameters'"),
        ({"declared": DECLARED + "\ngrid = 2 * 8"}, [], "grid = 2 \\* 8"),
        ({"declared": DECLARED + "\nimport os"}, [], "import os"),
        ({"declared": DECLARED + "\na = b = 1"}, [], "a = b = 1"),
        ({"declared": DECLARED + "\ngrid: int = 8"}, [], "grid: int = 8"),
        ({"declared": DECLARED + "\nepochs = 4"}, [], "sets epochs twice"),
        ({"declared": DECLARED + "\nepoks = 4"}, [], "no parameter 'epoks'.*epochs"),
        ({"declared": DECLARED + "\ngrid = 1"}, [], "grid is 1"),
        ({"declared": DECLARED + "\ngrid ="}, [], "not Python"),
        ({"used": "print(preset, epochs, layers)"}, [], "no later cell takes them"),
        ({"declared": "epochs = 3"}, [], "preset is missing"),
        ({"name": "image_y"}, [], "no notebook 'image_x' .*did you mean image_y"),
    ],
)
def test_mistakes_stop_before_anything_runs(tmp_path, capsys, notebook, arguments, told):
    write(tmp_path, **notebook)
    assert run(tmp_path, *arguments) == 2
    sentence = capsys.readouterr().err
    assert len(sentence.strip().splitlines()) == 1
    with pytest.raises(KpnbError, match=told):
        raise KpnbError(sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", ["nowhere", "download:nothing", "cub200"])
def test_data_that_lead_nowhere_stop_before_anything_runs(tmp_path, monkeypatch, capsys, data):
    monkeypatch.setenv("KPNB_DATA", str(tmp_path / "none"))
    write(tmp_path)
    assert run(tmp_path, "-p", f"data={data}") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_data_is_passed_on_by_its_full_path(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    assert run(tmp_path, "-p", "data=mine", "--check") == 0
    assert f"data = {str(tmp_path / 'mine')!r}  (given)" in capsys.readouterr().out


def test_kernels_look_for_data_where_the_shell_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, expected in ((None, "kpnb_data"), ("here", "here")):
        monkeypatch.delenv("KPNB_DATA", raising=False)
        if given:
            monkeypatch.setenv("KPNB_DATA", given)
        with runner.kernel_environment():
            assert os.environ["KPNB_DATA"] == str(tmp_path / expected)
        assert os.environ.get("KPNB_DATA") == given


def test_a_file_that_is_no_notebook(tmp_path, capsys):
    (tmp_path / "image_x.ipynb").write_text("{")
    assert run(tmp_path) == 2
    assert "not a notebook" in capsys.readouterr().err


def test_a_use_before_the_parameters_cell_does_not_count(tmp_path):
    write(tmp_path, used="print(preset, layers)")
    notebook = nbformat.read(tmp_path / "image_x.ipynb", as_version=4)
    notebook.cells.insert(0, new_code_cell(USED))
    nbformat.write(notebook, tmp_path / "image_x.ipynb")
    assert run(tmp_path, "--check") == 2


def test_ipython_lines_are_no_obstacle(tmp_path):
    write(tmp_path, "if True:\n    %pip install kpnb\n!ls", "%%html\n<b>")
    assert run(tmp_path, "--check") == 0


def test_check_prints_parameters_and_runs_nothing(tmp_path, capsys):
    """Those of the cell first, then all others, each with where it comes from."""
    write(tmp_path, declared=DECLARED.replace("FC1", "Conv"))
    assert run(tmp_path, "--check", "--preset", "study", "-p", "epochs=7", "-p", "chunk=64") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        "  preset = 'study'  (given)",
        "  epochs = 7  (given)",
        "  layers = ['Conv']  (notebook)",
    ]
    assert "  chunk = 64  (given)" in lines and "  samples = 60  (preset study)" in lines
    assert "  checkpoints = [0, 1, 2, 3, 4, 5, 6, 7]  (preset study)" in lines
    assert run(tmp_path, "--check") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  epochs = 30  (preset demo)" in lines and "  preset = 'smoke'  (notebook)" in lines


def test_what_the_cell_becomes(tmp_path):
    """Its names take the preset's values, its own and those passed, in this order; others that
    are not the demo's stand in `more`, and nothing does that the demo leaves to the model."""
    write(tmp_path, declared=DECLARED.replace("FC1", "Conv"))
    assert request("image_x", tmp_path, {}).values == {
        "preset": "smoke", "epochs": 30, "layers": ["Conv"], "more": {},
    }  # fmt: skip
    found = request("image_x", tmp_path, {"preset": "study", "epochs": 3, "chunk": 64}).values
    assert found == {
        "preset": "study",
        "epochs": 3,
        "layers": ["Conv"],
        "more": {"samples": 60, "seeds": [0, 1, 2], "chunk": 64},
    }
    paper = request("image_x", tmp_path, {"preset": "paper", "network": "AlexNet"})
    assert paper.values["more"]["threshold"] == 0.25  # the network's, where the demo has a number
    assert paper.resolved.threshold == 0.25 and paper.resolved.preset == "paper"


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-1", 0.1),
        ('["FC1"]', ["FC1"]),
        ("[FC1, Conv]", ["FC1", "Conv"]),
        ("('FC1',)", ["FC1"]),
        ("VGG-11", "VGG-11"),
        ("null", None),
        ("None", None),
        ("a=b", "a=b"),
    ],
)
def test_literals_of_the_command_line(text, value):
    parsed = parse_assignments([f"x={text}"])["x"]
    assert parsed == value and type(parsed) is type(value)


def test_declared_values_are_plain_literals():
    assert declared_values('a = 1  # one\nb = ["x", -2.5]\nc = None', "n") == {
        "a": 1,
        "b": ["x", -2.5],
        "c": None,
    }


def fingerprint_of(folder, **passed):
    return request("image_x", folder, passed).fingerprint


def test_fingerprint_follows_code_and_parameters_not_prose(tmp_path, monkeypatch):
    write(tmp_path)
    first = fingerprint_of(tmp_path)
    assert fingerprint_of(tmp_path, epochs=30) == first  # the cell's own value
    assert fingerprint_of(tmp_path, epochs=3) != first
    write(tmp_path, new_markdown_cell("prose"))
    assert fingerprint_of(tmp_path) == first
    write(tmp_path, "1 + 1")
    assert fingerprint_of(tmp_path) != first
    write(tmp_path, used="from kpnb.metrics.stats import mean\nmean\n" + USED)
    with_import = fingerprint_of(tmp_path)
    monkeypatch.setattr("kpnb.run.notebook.code_fingerprint", lambda *seeds, showing: f"{seeds}")
    monkeypatch.setattr("kpnb.run.notebook.data_fingerprint", lambda *seeds: "other")
    assert len({first, with_import, fingerprint_of(tmp_path)}) == 3


FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
NOISE = (
    "import os, sys, kpnb\n"
    "print('10%|#   | 1/9 [00:01<00:09]', end='\\r', file=sys.stderr)\n"
    "print('a warning', file=sys.stderr)\n"
    "print('one\\rtwo')\n"
    "print(sys.executable, os.getcwd())"
)


def test_a_real_run(tmp_path, monkeypatch, capsys, kernel):
    """Parameters arrive, figures stay, noise goes, and a second call runs nothing."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    write(tmp_path, FIGURE, NOISE, new_markdown_cell("old prose"))
    assert run(tmp_path, "-p", "epochs=3") == 0
    assert os.environ["MPLBACKEND"] == "Agg"
    done = executed(tmp_path)
    assert "smoke 3 ['FC1'] {}\n" in stdout(done)
    assert f"two\n{sys.executable} {tmp_path}\n" in stdout(done)
    assert "one" not in stdout(done) and "warning" not in stdout(done)
    told = capsys.readouterr()
    assert "a warning" in told.err and "10%" not in told.err
    assert runner.figure_count(done) == 1
    note = done.metadata["kpnb"]
    assert note["parameters"]["epochs"] == 3 and note["parameters"]["grid"] == 16
    assert note["given"] == {"epochs": 3} and note["figures"] == 1
    assert note["seconds"] > 0 and note["peak_memory_mib"] > 10
    assert str(tmp_path) not in json.dumps(done.metadata)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["image_x.ipynb"]

    def started(*_):
        raise AssertionError("run again")

    monkeypatch.setattr(runner, "execute", started)
    before = (tmp_path / "out" / "image_x.ipynb").read_bytes()
    assert run(tmp_path, "-p", "epochs=3") == 0
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "out" / "image_x.ipynb").read_bytes() == before

    write(tmp_path, new_markdown_cell("new prose"), FIGURE, NOISE)
    assert run(tmp_path, "-p", "epochs=3") == 0
    assert "text refreshed" in capsys.readouterr().out
    kinds = [cell.source.split("\n")[0] for cell in executed(tmp_path).cells]
    assert kinds[3:] == ["new prose", *(text.split("\n")[0] for text in (FIGURE, NOISE))]
    assert runner.figure_count(executed(tmp_path)) == 1
    assert run(tmp_path, "-p", "epochs=3") == 0
    assert "text refreshed" not in capsys.readouterr().out

    out = tmp_path / "out" / "image_x.ipynb"
    for arguments in (["-p", "epochs=4"], ["-p", "epochs=3", "--force"]):
        assert run(tmp_path, *arguments) == 1  # the runner that fails was reached
    assert run(tmp_path, "-p", "epochs=3", "--writes", str(tmp_path / "none.json")) == 1
    out.write_text(out.read_text().replace("two", "six"))
    assert run(tmp_path, "-p", "epochs=3") == 1
    out.write_text("{")
    assert run(tmp_path, "-p", "epochs=3") == 1


def test_a_failing_notebook(tmp_path, capsys, kernel):
    write(tmp_path, "raise ValueError('first\\nthe reason')", "print('never')")
    assert run(tmp_path) == 1
    told = capsys.readouterr().err
    assert "the reason" in told.splitlines()[0]
    assert "image_x.failed.ipynb" in told
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["image_x.failed.ipynb"]
    failed = executed(tmp_path, "image_x.failed.ipynb")
    assert "smoke 30" in stdout(failed) and "never" not in stdout(failed)


def finished(folder, monkeypatch, *outputs, arguments=()):
    """A run whose papermill left these outputs in the last cell."""

    def execute(source, working_copy, *_):
        notebook = nbformat.read(source, as_version=4)
        notebook.cells[-1].outputs = list(outputs)
        nbformat.write(notebook, working_copy)
        return {"seconds": 1.0, "peak_memory_mib": 1}

    monkeypatch.setattr(runner, "execute", execute)
    write(folder)
    return run(folder, *arguments)


def test_an_error_in_the_outputs_is_a_failure(tmp_path, monkeypatch, capsys):
    error = new_output("error", ename="OSError", evalue="quiet", traceback=[])
    assert finished(tmp_path, monkeypatch, error) == 1
    assert "OSError: quiet" in capsys.readouterr().err
    assert not (tmp_path / "out" / "image_x.ipynb").exists()


def test_a_file_that_was_not_written_is_a_failure(tmp_path, monkeypatch, capsys):
    missing = tmp_path / "results.json"
    arguments = ["--writes", str(missing)]
    assert finished(tmp_path, monkeypatch, arguments=arguments) == 1
    assert "did not write" in capsys.readouterr().err
    missing.write_text("{}")
    assert finished(tmp_path, monkeypatch, arguments=arguments) == 0


def test_an_earlier_failure_is_forgotten_after_success(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "image_x.failed.ipynb").write_text("old")
    assert finished(tmp_path, monkeypatch) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["image_x.ipynb"]


def test_the_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "/somewhere")
    before = dict(os.environ)
    with pytest.raises(RuntimeError), runner.kernel_environment():
        assert os.environ["JUPYTER_PATH"].endswith("/somewhere")
        raise RuntimeError
    assert dict(os.environ) == before


@pytest.mark.parametrize("named, code", [((), 1), (("image_h1",), 0)])
def test_the_status_of_results_fails_for_those_that_must_be_fresh(
    tmp_path, monkeypatch, capsys, named, code
):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    told = dict(preset="study", settings={}, seconds=0.0, peak_memory_mb=0.0)
    names = {"image_h1": "2:0", "image_h2": run_fingerprint({}, ["published_table"])}
    for name, key in names.items():
        where = {"code": ["published_table"]}
        write_results(Results(notebook=name, fingerprint=key, provenance=where, **told))
    write_results(Results(notebook="unnamed", fingerprint="2:0", provenance={}, **told))
    may_be_stale = ["--may-be-stale", *named] if named else []
    assert kpnb.run.__main__.main(["--status", "study", *may_be_stale]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["stale", "fresh", "unknown"]
