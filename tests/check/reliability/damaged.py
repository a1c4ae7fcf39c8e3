"""Bytes flipped, files cut off and deleted in a store, results and executed copies, in one process.

What is damaged is what `make book`'s loop has written (see killed.py). Each damage must be noticed
or harmless: noticed if the entry is not used, or the notebook would be run again; harmless if what
is read is equal to what was written, or what differs is read by nothing.
"""

import shutil
import warnings
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from random import Random
from unittest.mock import patch

import nbformat
from safetensors.torch import save

from kpnb.run.__main__ import refresh
from kpnb.run.notebook import request
from kpnb.store import INFO, SETTINGS, Store, damaged, read_folder
from tests.check.reliability.killed import NOTEBOOKS, PRESET, WRITTEN, reference

KINDS = {"byte flipped": 6, "cut off": 3, "deleted": 1}  # how often, of ten
#: What the book's builder reads of the metadata of a copy's cells, and of its own.
OF_CELLS, OF_LANGUAGE = ("tags", "mystnb"), ("pygments_lexer", "name")


class Damaged:
    """One damage a trial, mended after it."""

    def __init__(self, work: Path) -> None:
        clone, _ = reference(work.parent)
        self.folder, self.intact = clone.folder, work / "intact"
        self._keep()
        found = {place: self._files(place) for place in WRITTEN}
        self.files = {
            "entry of the store": found[".kpnb_store"],
            "executed copy": found["book/notebooks"],
            "results file": found["book/results/smoke"],
        }
        self.requests = {
            name: request(name, clone.folder / "notebooks", {"preset": PRESET})
            for name in NOTEBOOKS
        }
        states = [self._state(name) for name in NOTEBOOKS]
        if states != ["up to date"] * len(NOTEBOOKS):
            raise RuntimeError(f"undamaged copies are not up to date, commit first: {states}")

    def _keep(self) -> None:
        """Take what was written aside, or put it back after a trial that was stopped."""
        known = self.intact.exists()
        for place in WRITTEN:
            ends = [self.intact / place, self.folder / place]
            source, target = ends if known else ends[::-1]
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)

    def _files(self, place: str) -> list[Path]:
        found = sorted(path for path in (self.folder / place).rglob("*") if path.is_file())
        return [path for path in found if path.stat().st_size]

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        what = random.choice(list(self.files))
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        file = random.choice(self.files[what])
        content = file.read_bytes()
        at = random.randrange(len(content))
        try:
            if kind == "deleted":
                file.unlink()
            else:
                flipped = bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]
                file.write_bytes(content[:at] + (b"" if kind == "cut off" else flipped))
            came = self._entry(file.parent) if what.startswith("entry") else self._run(file)
        finally:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        place = f"{file.relative_to(self.folder)}, {kind} at {at} of {len(content)}"
        return f"{what} {kind}", came.partition(":")[0], f"{place}: {came}"

    def _entry(self, folder: Path) -> str:
        """What comes of an entry when it is asked for again."""
        intact = self.intact / folder.relative_to(self.folder)
        tensors, documents = read_folder(intact, (INFO, SETTINGS))
        key, told = documents[SETTINGS], damaged([str(folder)])
        asked = key["kind"], key["settings"], lambda scratch: (tensors, documents[INFO]), ()
        with warnings.catch_warnings(record=True) as warned, self._code_of(key):
            warnings.simplefilter("always")
            record = Store(folder.parents[1]).compute(*asked, key["data"])
        if (record.path, record.info) != (folder, documents[INFO]) or save(record.tensors) != save(
            tensors
        ):
            return "wrong: another result was read"
        if record.computed and not (told and warned):
            return "wrong: computed again without a word"
        return "noticed" if record.computed else "harmless"

    @staticmethod
    def _code_of(key: dict):
        """The code that computed an entry, by its hash."""
        return patch("kpnb.store.keys.code_fingerprint", lambda *seeds: key["code"])

    def _state(self, name: str) -> str:
        out = self.folder / "book" / "notebooks" / f"{name}.ipynb"
        results = self.folder / "book" / "results" / PRESET / f"{name}.json"
        with redirect_stderr(StringIO()):
            return refresh(self.requests[name], out, [results])

    def _run(self, file: Path) -> str:
        """What `python -m kpnb.run` would do, and what the copy shows if it runs nothing."""
        if not self._state(file.stem):
            return "noticed"
        intact = self.intact / file.relative_to(self.folder)
        if file.suffix == ".json":
            return "harmless" if file.read_bytes() == intact.read_bytes() else "wrong: is taken"
        found, expected = shown(file), shown(intact)
        differing = [name for name in expected if found[name] != expected[name]]
        return f"wrong: differs in {differing}" if differing else "harmless"


def shown(file: Path) -> dict[str, object]:
    """Of an executed copy what the book is made from."""
    notebook = nbformat.read(file, as_version=4)
    metadata, cells = notebook.metadata, notebook.cells
    found = {name: [cell.metadata.get(name) or [] for cell in cells] for name in OF_CELLS}
    language = metadata.get("language_info", {})
    found |= {f"language's {name}": language.get(name) for name in OF_LANGUAGE}
    return found | {
        "kinds": [cell.cell_type for cell in cells],
        "sources": [cell.source for cell in cells],
        "outputs": [cell.get("outputs") for cell in cells],
        "widgets": metadata.get("widgets"),
    }
