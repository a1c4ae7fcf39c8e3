"""An executed copy holds while the entries of the store and the files behind it do."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import kpnb.run.__main__
from kpnb.run import notebook as runner
from kpnb.store import JOURNAL, damaged


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


CELL = """
import torch
from pathlib import Path
from kpnb.store import Store

def compute(scratch):
    return {"a": torch.arange(8.0)}, {"b": 1}

record = Store(Path("store")).compute("net", {}, compute, ("KpnbError",))
Path("found.json").write_text('{"sum": 28.0}')
how, given = "computed" if record.computed else "loaded", dict(globals())
print(how, given["preset"], record.tensors["a"].sum().item())
"""


class Runs:
    """A tiny notebook, and how often its kernel was started."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.started = folder, 0
        tagged = new_code_cell('preset = "smoke"', metadata={"tags": ["parameters"]})
        notebook = new_notebook(cells=[tagged, new_code_cell(CELL.strip())])
        for position, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{position}"
        nbformat.write(notebook, folder / "image_x.ipynb")
        self.execute = runner.execute
        monkeypatch.setattr(runner, "execute", self._execute)

    def _execute(self, *arguments):
        self.started += 1
        return self.execute(*arguments)

    def __call__(self, *more) -> int:
        """Runs the notebook unless it is up to date; returns the number of kernels this took."""
        before = self.started
        places = ["--notebooks", self.folder, "-o", self.folder / "out" / "image_x.ipynb"]
        writes = ["--writes", self.folder / "found.json"]
        assert kpnb.run.__main__.main(["image_x", *map(str, (*places, *writes, *more))]) == 0
        return self.started - before

    def printed(self) -> str:
        executed = nbformat.read(self.folder / "out" / "image_x.ipynb", as_version=4)
        return executed.cells[-1].outputs[0].text

    def entry(self) -> Path:
        return next(f for f in (self.folder / "store" / "net").iterdir() if f.is_dir())


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The notebook after its first run; the tests below leave it whole."""
    with pytest.MonkeyPatch.context() as patch:
        runs = Runs(tmp_path_factory.mktemp("runs"), patch)
        assert runs() == 1
        yield runs


def test_the_copy_lists_the_entries_it_used(ran):
    executed = nbformat.read(ran.folder / "out" / "image_x.ipynb", as_version=4)
    assert executed.metadata["kpnb"]["store"] == [str(ran.entry().resolve())]
    assert ran.printed() == "computed smoke 28.0\n"
    assert JOURNAL not in os.environ


def test_nothing_changed_nothing_runs(ran, capsys):
    assert ran() == 0
    assert "up to date" in capsys.readouterr().out


def test_an_entry_that_is_gone_is_not_missed(ran, tmp_path):
    folder = ran.entry()
    kept = folder.rename(tmp_path / "aside")
    assert ran() == 0
    kept.rename(folder)


def test_a_damaged_entry_is_run_again(ran, capsys):
    before = ran.printed()
    flip(ran.entry() / "tensors.safetensors", -1)
    assert ran() == 1
    told = capsys.readouterr().err
    assert f"{ran.entry()} is damaged; running again" in told
    assert ran.printed() == before.replace("loaded", "computed")
    assert ran() == 0 and damaged([str(ran.entry())]) == []


def test_an_edited_or_lost_file_is_written_again(ran):
    written = ran.folder / "found.json"
    first = written.read_text()
    planned = runner.request("image_x", ran.folder, {})
    out = ran.folder / "out" / "image_x.ipynb"
    written.unlink()
    assert kpnb.run.__main__.refresh(planned, out, [written]) == ""
    written.write_text(json.dumps({"sum": 29.0}))
    assert kpnb.run.__main__.refresh(planned, out, [written]) == ""
    assert ran() == 1 and written.read_text() == first
    assert ran.printed() == "loaded smoke 28.0\n"
    assert ran() == 0
