"""Builds the book: tables from results, pages by jupyter-book, then checks what was built.

`python -m book.make` builds unless nothing has changed since the last good build; the exit code
is 1 where the build fails or a page, figure or result is missing.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from book.make import (
    api,
    chapters,
    check,
    claims,
    executed,
    first_figure,
    forest,
    plan_pages,
    protocol_pages,
    published,
    tables,
)
from book.make.chart import FORMS, THEMES
from book.make.frame import frame
from book.make.pages import BOOK, NOTEBOOKS, notebook_names, page_source, toc_pages
from book.make.texts import block
from kpnb.errors import KpnbError, answered
from kpnb.experiments.robustness import construction_table
from kpnb.metrics.results import Results, available_cells, available_results, read_results
from kpnb.run import sweeps
from kpnb.study.parameters import MODELS

CHECKOUT = Path(__file__).resolve().parents[2]
START, END = "<!-- verdicts:start -->", "<!-- verdicts:end -->"
BUILDERS = ("jupyter-book", "sphinx-book-theme", "sphinx-mathjax-offline", "Sphinx", "myst-nb")
#: What README, which is read as plain text too, does without; a link's words stay.
MARKUP = re.compile(r"<[^>]*>|\{doc\}`([^<`]*?) <[^>]*>`")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def repository(book: Path) -> str:
    """The address of the source repository: _config.yml is the one place that says it."""
    return yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def collect(names: list[str], preset: str) -> list[Results]:
    """The committed study's results where there are any, then those of this build's preset.

    Raises: KpnbError where a notebook has no results at `preset`; of the study some may be missing.
    """
    study = available_results("study")  # also of what is no notebook
    return study + [read_results(name, preset) for name in names if preset != "study"]


def fragments(
    results: list[Results], address: str, cells: Sequence = (), pages: Collection[str] = ()
) -> dict[str, str]:
    """What the pages include: {name: markdown} of every generated table, {file: content} of charts.

    cells: results of sweeps; pages: of the table of contents, for links to them.
    """
    rows = frame([*results, *cells, *available_cells(chapters.PAPER)])
    made = {
        "accuracies": tables.accuracy_table(rows),
        "api": api.api_page(),
        "cloud_construction": construction_table(results),
        "cloud_sizes": chapters.cloud_sizes(),
        "licences": tables.licences_table(),
        "notes": tables.notes_list(rows),
        "sweeps": sweeps.sweeps_table("study"),
        **{name: block(name, address=address) for name in ("colab", "colab_address", "clone")},
        **{name: tables.run_table(name, rows) for name in ("machines", "status")},
        **{f"presets_{of.strip('_')}": tables.presets_table(MODELS[of]) for of in MODELS},
    }
    made |= first_figure.first_fragments(first_figure.packed_path())
    made |= forest.forest_fragments(rows) | published.rates_fragments(rows)
    made |= claims.ClaimPage(rows, address, pages).fragments() | published.published_tables(rows)
    made |= chapters.chapter_tables(rows) | plan_pages.plan_tables()
    return made | protocol_pages.protocol_pages(rows)


def generate(book: Path, tables: dict[str, str]) -> None:
    """Write the tables where the pages include them, and leave nothing of an earlier build but a
    table that has not changed: its pages are not read again."""
    folder = book / "_generated"
    folder.mkdir(exist_ok=True)
    named = {name if "." in name else f"{name}.md": text for name, text in tables.items()}
    texts = {folder / name: f"{text.rstrip()}\n" for name, text in named.items()}
    for old in set(folder.iterdir()) - texts.keys():
        old.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def draw(book: Path, results: list[Results], cells: Sequence[Results] = ()) -> None:
    """The figure made from results, beside the tables."""
    figure = chapters.errors_figure(chapters.by_case(frame([*results, *cells])))
    if figure is not None:  # without the version that would make every build another file
        where = book / "_generated" / "estimator_errors.png"
        figure.savefig(where, metadata={"Software": None})


def inputs_hash(book: Path) -> str:
    """One hash over every file the pages are built from and the versions of the builders."""
    digest = hashlib.sha256(repr([(name, version(name)) for name in BUILDERS]).encode())
    for path in sorted(book.rglob("*")):
        inside = path.relative_to(book)
        if path.is_file() and inside.parts[0] != "_build" and inside.suffix != ".lock":
            digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def build(book: Path) -> None:
    """Run jupyter-book with warnings as errors. Raises: KpnbError with what it complained of."""
    start = "from jupyter_book.cli.main import main; main()"
    options = ["build", "--all", "-W", "-n", "--keep-going", str(book)]
    log = book / "_build" / "build.log"
    log.parent.mkdir(exist_ok=True)
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with log.open("w", encoding="utf-8") as output:
        said = {"stdout": output, "stderr": subprocess.STDOUT, "env": quiet}
        done = subprocess.run([sys.executable, "-c", start, *options], **said)
    if done.returncode:
        lines = COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines()
        wrong = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-20:]
        raise KpnbError("\n".join([*wrong, f"the book does not build: see {log}"]))


def notebook_problems(book: Path, notebooks: Path, preset: str) -> list[str]:
    """What is wrong with the executed notebooks, against what their sources promise; of the study
    some may not have been executed."""
    found = []
    for name in notebook_names(book):
        copy = book / NOTEBOOKS / f"{name}.ipynb"
        figures = check.expected_figures(notebooks / f"{page_source(book, name)[0]}.ipynb")
        if preset != "study" or executed.was_executed(copy):
            found += check.notebook_problems(copy, figures)
    return found


def page_problems(book: Path) -> list[str]:
    """What is wrong with the built pages."""
    html = book / "_build" / "html"
    missing = check.missing_pages(html, toc_pages(book))
    return [*missing, *check.broken_fetches(html), *check.bare_formulas(html)]


def make(book: Path, notebooks: Path, preset: str) -> Path:
    """Generate, check, build if anything changed, check again; returns the first page's path.

    Raises: KpnbError for missing results, a failed build, or what the checks found.
    """
    pages, address = notebook_names(book), repository(book)
    if preset == "study":
        executed.show_study(book, notebooks, pages)
    results, cells = collect(pages, preset), available_cells("study")
    _refuse(notebook_problems(book, notebooks, preset))
    generate(book, fragments(results, address, cells, toc_pages(book)))
    draw(book, results, cells)
    executed.write_notes(book, pages, address)
    stamp = book / "_build" / "inputs.sha256"
    key = inputs_hash(book)
    if not stamp.exists() or stamp.read_text() != key or page_problems(book):
        stamp.unlink(missing_ok=True)
        build(book)
        _refuse(page_problems(book))
        stamp.write_text(key)
    return book / "_build" / "html" / "index.html"


def _refuse(problems: list[str]) -> None:
    if problems:
        raise KpnbError("\n".join(problems))


def readme_block() -> tuple[str, dict[str, str]]:
    """README's two figures and its sentences, those of the committed study; and {file: content} of
    the drawings that they show, beside the pages' own."""
    found = forest.shown_cells(frame([*available_results("study"), *available_cells("study")]))
    figures, told = {}, block("readme_nothing")
    if first := first_figure.first_figure(first_figure.packed_path()):
        figures["readme_first"] = first
    if len(found):
        figures["readme_forest"] = forest.forest(found)
        told = MARKUP.sub(r"\1", forest.sentences(found))
    shown = [block("readme_figure", file=name, alternative=one.alternative)
             for name, one in figures.items()]  # fmt: skip
    drawings = {f"{name}_{theme}.svg": one.draw(FORMS["wide"], theme)
                for name, one in figures.items() for theme in THEMES}  # fmt: skip
    return "\n\n".join([*shown, told]), drawings


def update_readme(path: Path, write: bool) -> None:
    """Put the present verdicts between README's two markers and draw its figures, or only check
    that they are there.

    Raises: KpnbError where the markers are not there once each, or the verdicts are stale.
    """
    old, (shown, drawings) = path.read_text(encoding="utf-8"), readme_block()
    if old.count(START) != 1 or old.count(END) != 1:
        raise KpnbError(f"README.md needs the lines {START} and {END} once each: add them")
    before, after = old.split(START)[0], old.split(END)[1]
    texts = {path.parent / "book" / "_static" / name: text for name, text in drawings.items()}
    texts |= {path: f"{before}{START}\n{shown}\n{END}{after}"}
    for file, text in texts.items():
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            raise KpnbError("README.md's verdicts are stale: run python -m book.make --readme")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; mistakes go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m book.make", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    add = what.add_argument
    add("--readme", action="store_true", help="rewrite the verdicts in README.md and stop")
    add("--check", action="store_true", help="fail if README.md's verdicts are stale")
    parser.add_argument("--preset", default="demo", help="whose results the notebooks hold")
    options = parser.parse_args(arguments)
    return answered(lambda: _answer(options))


def built(preset: str) -> int:
    """Build the book of this checkout and say where it lies; returns the exit code."""
    return _told(lambda: print(f"book: {make(BOOK, CHECKOUT / 'notebooks', preset)}"))


def _answer(options: argparse.Namespace) -> int:
    if options.readme or options.check:
        return _told(lambda: update_readme(CHECKOUT / "README.md", options.readme))
    return built(options.preset)


def _told(work: Callable[[], None]) -> int:
    try:
        work()
    except (OSError, KpnbError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
