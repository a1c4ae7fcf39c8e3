"""Source notebooks, and their runs by kpnb.run as `make book` makes them."""

import contextlib
import io
import json
from pathlib import Path

import nbformat

import kpnb.run.__main__
from kpnb.run.notebook import parameters_cell

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def source(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_source(name: str) -> str:
    notebook = source(name)
    return notebook.cells[parameters_cell(notebook, name)].source


def stored(root: Path) -> set[str]:
    """Networks and maps in a store: "networks/<fingerprint>"."""
    entries = [*root.glob("networks/*"), *root.glob("maps/*")]
    return {str(entry.relative_to(root)) for entry in entries}


class Executed:
    """A notebook after a run by kpnb.run on the store and results that the environment names."""

    def __init__(self, notebook: str, given: dict, root: Path, folder: Path, page="") -> None:
        self.notebook_name, self.name = notebook, page or notebook
        self.given = {"preset": "smoke"} | given
        self.file = folder / f"{self.name}.ipynb"
        run = f"cells/{given['run']}" if given.get("run") else self.name
        self.results = folder / "results" / self.given["preset"] / f"{run}.json"
        before = stored(root)
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.code = kpnb.run.__main__.main(self.arguments())
        self.told, self.added = told.getvalue(), stored(root) - before
        self.notebook = nbformat.read(self.file, as_version=4) if self.file.is_file() else None

    def arguments(self) -> list[str]:
        texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in self.given.items()}
        values = [part for name, text in texts.items() for part in ("-p", f"{name}={text}")]
        places = ["--notebooks", str(FOLDER), "-o", str(self.file), "--writes", str(self.results)]
        return [self.notebook_name, *places, *values]

    def _found(self) -> list:
        return [output for cell in code_cells(self.notebook) for output in cell.outputs]

    def outputs(self, kind: str) -> list[str]:
        return [o["data"][kind] for o in self._found() if kind in o.get("data", {})]

    def text(self) -> str:
        """All that the copy shows, as text."""
        return "\n".join(str(output.get("text") or output.get("data")) for output in self._found())
