"""Builds the book: tables from results, pages by jupyter-book, then checks what was built.

`python -m book.make` builds unless nothing has changed since the last good build; the exit code
is 1 where the build fails or a page, figure or result is missing. `--notebooks` lists the
notebooks that the table of contents names.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from book.make import (
    api,
    chapters,
    check,
    claims,
    explorer,
    plan_pages,
    protocol_pages,
    published,
    tables,
)
from book.make.frame import frame, main_rows
from book.make.pages import NOTEBOOKS, notebook_names, page_line, page_source, toc_pages
from book.make.texts import block
from kpnb.errors import KpnbError, answered
from kpnb.experiments.robustness import construction_table
from kpnb.metrics.formatting import PLAIN, SYMBOLS
from kpnb.metrics.results import Results, available_cells, available_results, read_results
from kpnb.run import sweeps
from kpnb.study.parameters import MODELS

CHECKOUT = Path(__file__).resolve().parents[2]
START, END = "<!-- verdicts:start -->", "<!-- verdicts:end -->"
BUILDERS = ("jupyter-book", "sphinx-book-theme", "sphinx-mathjax-offline", "Sphinx", "myst-nb")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def repository(book: Path) -> str:
    """The address of the source repository: _config.yml is the one place that says it."""
    return yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def collect(names: list[str], preset: str) -> list[Results]:
    """The committed study's results where there are any, then those of this build's preset.

    Raises: KpnbError where a notebook has no results at `preset`.
    """
    here = [read_results(name, preset) for name in names]
    study = available_results("study")  # also of what is no notebook
    return study if preset == "study" else study + here


def fragments(
    results: list[Results], address: str, cells: Sequence = (), pages: Collection[str] = ()
) -> dict[str, str]:
    """What the pages include: {name: markdown} of every generated table.

    cells: results of sweeps; pages: of the table of contents, for links to them.
    """
    rows = frame([*results, *cells, *available_cells(chapters.PAPER)])
    packs = explorer.read_packs()
    links = explorer.links(packs)
    made = {
        "accuracies": tables.accuracy_table(rows),
        "api": api.api_page(),
        "claim_rates": published.rates_beside(rows),
        "cloud_construction": construction_table(results),
        "cloud_sizes": chapters.cloud_sizes(),
        "explorer": explorer.page(rows, packs, address),
        "licences": tables.licences_table(),
        "notes": tables.notes_list(rows),
        "sweeps": sweeps.sweeps_table("study"),
        "verdict_grid": tables.verdict_grids(rows),
        **{name: block(name, address=address) for name in ("colab", "colab_address", "clone")},
        **{name: tables.run_table(name, rows) for name in ("machines", "status")},
        **{f"presets_{of.strip('_')}": tables.presets_table(MODELS[of]) for of in MODELS},
        **{f"verdicts_h{n}": tables.verdict_table(rows, n, links) for n in (1, 2, 3)},
    }
    made |= claims.ClaimPage(rows, address, pages).fragments() | published.published_tables(rows)
    made |= chapters.chapter_tables(rows) | plan_pages.plan_tables()
    return made | protocol_pages.protocol_pages(rows)


def generate(book: Path, tables: dict[str, str]) -> None:
    """Write the tables where the pages include them, and leave nothing of an earlier build but a
    table that has not changed: its pages are not read again."""
    folder = book / "_generated"
    folder.mkdir(exist_ok=True)
    texts = {folder / f"{name}.md": f"{text.rstrip()}\n" for name, text in tables.items()}
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


def notebook_problems(book: Path, notebooks: Path) -> list[str]:
    """What is wrong with the executed notebooks, against what their sources promise."""
    found = []
    for name in notebook_names(book):
        figures = check.expected_figures(notebooks / f"{page_source(book, name)[0]}.ipynb")
        found += check.notebook_problems(book / NOTEBOOKS / f"{name}.ipynb", figures)
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
    results, cells = collect(notebook_names(book), preset), available_cells("study")
    _refuse(notebook_problems(book, notebooks))
    generate(book, fragments(results, repository(book), cells, toc_pages(book)))
    draw(book, results, cells)
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


def readme_block() -> str:
    """README's verdicts, those of the committed study."""
    rows = frame([*available_results("study"), *available_cells("study")])
    if main_rows(rows, "comparison").empty:
        return block("readme_nothing")
    grid = tables.captioned_grid(rows, "study")
    for metric, symbol in SYMBOLS.items():  # README is read as plain text too
        grid = grid.replace(symbol, PLAIN[metric])
    return grid


def update_readme(path: Path, write: bool) -> None:
    """Put the present verdicts between README's two markers, or only check that they are there.

    Raises: KpnbError where the markers are not there once each, or the verdicts are stale.
    """
    old = path.read_text(encoding="utf-8")
    if old.count(START) != 1 or old.count(END) != 1:
        raise KpnbError(f"README.md needs the lines {START} and {END} once each: add them")
    before, after = old.split(START)[0], old.split(END)[1]
    new = f"{before}{START}\n{readme_block()}\n{END}{after}"
    if write:
        path.write_text(new, encoding="utf-8")
    elif new != old:
        raise KpnbError("README.md's verdicts are stale: run python -m book.make --readme")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; mistakes go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m book.make", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    add = what.add_argument
    add("--notebooks", action="store_true", help="list the book's notebooks and stop")
    add("--readme", action="store_true", help="rewrite the verdicts in README.md and stop")
    add("--check", action="store_true", help="fail if README.md's verdicts are stale")
    parser.add_argument("--preset", default="demo", help="whose results the notebooks hold")
    options = parser.parse_args(arguments)
    return answered(lambda: _answer(options))


def _answer(options: argparse.Namespace) -> int:
    book = CHECKOUT / "book"
    try:
        if options.notebooks:
            print(*(page_line(book, page) for page in notebook_names(book)), sep="\n")
        elif options.readme or options.check:
            update_readme(CHECKOUT / "README.md", options.readme)
        else:
            print(f"book: {make(book, CHECKOUT / 'notebooks', options.preset)}")
    except (OSError, KpnbError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
