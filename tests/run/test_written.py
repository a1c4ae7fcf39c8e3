"""Results files that a run has written, which the runner finds by itself, and their state."""

import json

import pytest
from made_notebooks import main, write
from made_results import comparison, run

import kpnb.run.__main__ as runner
from kpnb.metrics.results import results_path, write_results
from kpnb.run.notebook import request


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    write(tmp_path)
    return tmp_path


def files_of(folder, name, **parameters):
    """What stands for papermill: it writes a results file of this name, and one of another
    notebook with the same parameters beside it."""
    settings = request("image_x", folder, parameters).made_from["parameters"]
    write(folder, name="image_x_y")

    def execute(source, working_copy, *_):
        working_copy.write_text(source.read_text())
        for notebook in (name, "image_x_y_z"):
            write_results(run(notebook=notebook, preset="smoke", settings=settings))
        return {"seconds": 1.0, "peak_memory_mib": 1, "store": []}

    return execute


@pytest.mark.parametrize("name", ["image_x", "image_x_sst2", "cloud_of_another_name"])
def test_a_results_file_that_is_gone_or_damaged_is_made_again(folder, name, capsys):
    execute, file = files_of(folder, name), results_path(name, "smoke")
    assert main(folder, execute=execute) == 0
    written = file.read_bytes()
    assert main(folder) == 0 and "up to date" in capsys.readouterr().out
    for change in (file.unlink, lambda: file.write_bytes(written[:50])):
        change()
        assert main(folder, execute=execute) == 0 and file.read_bytes() == written
        assert "a file that it writes is not as it was" in capsys.readouterr().err
    results_path("image_x_y_z", "smoke").unlink()  # another notebook's, with the same parameters
    assert main(folder) == 0 and "up to date" in capsys.readouterr().out


def test_results_in_another_folder_are_made_there(folder, monkeypatch):
    execute = files_of(folder, "image_x")
    assert main(folder, execute=execute) == main(folder, "-p", "epochs=3", execute=execute) == 0
    note = json.loads((folder / "out" / "image_x.ipynb").read_text())["metadata"]["kpnb"]
    assert note["results"] == [] and str(folder) not in json.dumps(note)  # of other parameters
    assert main(folder, execute=execute) == 0
    monkeypatch.setenv("KPNB_RESULTS", str(folder / "elsewhere"))
    assert main(folder, execute=execute) == 0 and results_path("image_x", "smoke").is_file()


def test_the_state_of_each_file_is_told_beside_a_damaged_one(folder, capsys):
    known = comparison("n_fg", 1.0, 2.0)
    write_results(run(notebook="image_h1", preset="smoke", comparisons=[known]))
    write_results(run(notebook="image_cell", preset="smoke", run="v_x"))
    results_path("image_h2", "smoke").write_text("{")
    assert runner.main(["--status", "smoke"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["image_h1", "image_h2", "v_x"]
    assert told[1].startswith("image_h2: stale: ") and "is damaged" in told[1]
    assert [line.split(": ")[1] for line in (told[0], told[2])] == ["unknown"] * 2  # they are read
    for preset, why in {
        "demo": "There are no results of the preset 'demo' in",
        "huge": "one of",
    }.items():
        assert runner.main(["--status", preset]) == 2
        assert why in capsys.readouterr().err
