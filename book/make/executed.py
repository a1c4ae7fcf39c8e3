"""Which executed copies the notebooks' pages show, and what each page says of its own.

`make book` executes notebooks at the demo; the study's executed copies are kept with its results,
and `make read` shows these, without computing.
"""

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from book.make.frame import joined
from book.make.pages import NOTEBOOKS, page_source
from book.make.texts import block
from kpnb.errors import KpnbError
from kpnb.metrics.results import Results, freshness, read_results, results_path, results_root
from kpnb.run.notebook import NOTE, read_notebook

#: Read by `book/make/page_notes.py`, which puts each page's note below its title.
FILE = "page_notes.json"
#: Parameters that a page tells of its run, where its notebook has them.
TOLD = ("network", "layers", "data", "samples", "seeds", "epochs")
SHOWN = 5  # values of a list, at most
PNG = "image/png"
#: Pictures of the study's executed copies that pages show: notebook, call, caption.
PICTURES = {
    "own_maps": (
        "own_model",
        "own.maps_figure()",
        "What layers of a network that somebody else has trained discard of embedded pictures: "
        "dark squares are kept.",
    ),
    "figure_2": (
        "image_lambda",
        "ratio_accuracy.training_figure(",
        r"$\lambda$ and accuracy over the students' training; thin lines are seeds.",
    ),
    "figure_7": (
        "image_fine_tuning",
        "fine_tuning.curves_figure(",
        "Points on the foreground over training, with 95% intervals.",
    ),
    "figure_1b": (
        "image_coherency",
        "coherency.scores_figure(",
        "How much each explanation changes where factors on one layer are taken back at the next, "
        "and the network's function stays.",
    ),
    "controls_forest": (
        "image_controls",
        "findings.forest()",
        "Students and their teachers, by kind of teacher, beside the baseline, with 95% intervals.",
    ),
}


def executed_folder(preset: str, book: Path) -> Path:
    """Where executed copies go: the study's are kept with its results, others are the build's."""
    return results_root() / preset / "notebooks" if preset == "study" else book / NOTEBOOKS


def show_study(book: Path, sources: Path, pages: list[str]) -> None:
    """Put the study's executed copies where pages are built from; in the place of one that is not
    kept its source, which has no outputs."""
    shown = book / NOTEBOOKS
    shown.mkdir(exist_ok=True)
    for page in pages:
        kept = executed_folder("study", book) / f"{page}.ipynb"
        source = sources / f"{page_source(book, page)[0]}.ipynb"
        shutil.copyfile(kept if kept.is_file() else source, shown / f"{page}.ipynb")


def write_notes(
    book: Path, pages: list[str], address: str, links: Mapping[tuple, str] | None = None
) -> None:
    """Write what each notebook's page says below its title; links: of `book.make.explorer`."""
    notes = {NOTEBOOKS + page: page_note(book / NOTEBOOKS / f"{page}.ipynb", address, links or {})
             for page in pages}  # fmt: skip
    (book / "_generated" / FILE).write_text(json.dumps(notes, indent=1), encoding="utf-8")


def was_executed(copy: Path) -> bool:
    """Whether a notebook is an executed copy, and not a source."""
    return "parameters" in read_notebook(copy).metadata.get(NOTE, {})


def page_note(copy: Path, address: str, links: Mapping[tuple, str]) -> str:
    """What was executed, with which parameters and code, where its numbers lie, and where its
    samples are seen, as HTML."""
    note = read_notebook(copy).metadata.get(NOTE, {})
    parameters = note.get("parameters", {})
    if not parameters:  # a source
        return block("page_not_executed")
    preset, run = parameters["preset"], parameters.get("run") or ""
    results = _results(copy.stem, preset, run)
    told = {name: _short(parameters[name]) for name in TOLD if parameters.get(name) is not None}
    about = {"preset": preset, "told": told, "seconds": note["seconds"], "address": address}
    path = results_path(copy.stem, preset, run).relative_to(results_root())
    about |= {"file": f"book/results/{path.as_posix()}", "results": results}
    about["first"] = (parameters.get("layers") or [])[:-1][:1]  # where there are several
    cells = results.comparisons if results else ()
    seen = [links.get((preset, one.dataset, one.network, one.scale)) for one in cells]
    about["link"] = next(filter(None, seen), "")
    return block("page_executed", **about, state=results and freshness(results))


def picture(copy: Path, call: str) -> tuple[bytes, str] | None:
    """What the cell that makes a call shows in an executed copy, as PNG, and its alternative text;
    None where there is no such copy, cell or picture."""
    cells = read_notebook(copy).cells if copy.is_file() else []
    shown = (output for cell in cells if call in cell.source for output in cell.get("outputs", ()))
    for output in shown:
        if PNG in output.get("data", {}):
            told = output.metadata.get(PNG, {}).get("alt", "")
            return base64.b64decode(output.data[PNG]), told
    return None


def kept_pictures(book: Path) -> dict[str, tuple[bytes, str]]:
    """Those of `PICTURES` whose copies are kept, with their alternative texts."""
    kept = executed_folder("study", book)
    found = {name: picture(kept / f"{notebook}.ipynb", call)
             for name, (notebook, call, _) in PICTURES.items()}  # fmt: skip
    return {name: shown for name, shown in found.items() if shown}


def picture_fragments(book: Path) -> dict[str, str]:
    """What pages include of each of `PICTURES`, nothing of one that is not there."""
    shown, made = kept_pictures(book), {}
    for name, (notebook, _, caption) in PICTURES.items():
        about = {"file": f"{name}.png", "notebook": notebook, "caption": caption}
        made[name] = block("kept_picture", shown=shown.get(name), **about)
    return made


def _short(value: object) -> str:
    """A parameter's value; of a long list the first two, and how many there are."""
    if not isinstance(value, list) or len(value) <= SHOWN:
        return joined(value)
    return f"{joined(value[:2])}, … ({len(value)} in all)"


def _results(page: str, preset: str, run: str) -> Results | None:
    try:
        return read_results(page, preset, run)
    except KpnbError:  # not every notebook writes some
        return None
