"""Builds the book: tables from results, pages by jupyter-book, then checks what was built.

`python -m book.make` builds unless nothing has changed since the last good build; the exit code
is 1 where the build fails or a page, figure or result is missing. `--archive` adds what is kept
elsewhere.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from book.make import (
    api,
    chapters,
    check,
    claim_page,
    conditions,
    controls,
    effects,
    executed,
    explorer,
    first_figure,
    forest,
    minimum,
    own_photographs,
    plan_pages,
    protocol_pages,
    published,
    repeated,
    tables,
    ten_teachers,
    undecided,
)
from book.make.archive import single_page, write_results_zip
from book.make.chart import FORMS, THEMES
from book.make.frame import frame
from book.make.pages import BOOK, NOTEBOOKS, notebook_names, page_source, toc_pages
from book.make.texts import block
from kpnb.errors import KpnbError, answered
from kpnb.experiments.robustness import construction_table
from kpnb.fingerprint import fingerprint, library_versions
from kpnb.metrics.results import (
    Results,
    available_cells,
    available_results,
    read_results,
    results_root,
)
from kpnb.run import sweeps
from kpnb.study.parameters import MODELS

CHECKOUT = Path(__file__).resolve().parents[2]
BUILDERS = ("jupyter-book", "sphinx-book-theme", "sphinx-mathjax-offline", "Sphinx", "myst-nb")
#: Spaces at which a table's cell shall not be broken.
_BREAKS = re.compile(
    r"(?<=\d) (?=(of|to) [\d+−])|(?<=\d (of|to)) (?=[\d+−])"
    r"|(?<=n) (?== \d)|(?<=n =) (?=\d)|(?<=\d,) (?=[+−]?[\d.]+\])"
)
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
    packs = explorer.read_packs()
    links = explorer.links(packs)
    made = {
        **tables.accuracy_fragments(rows),
        "api": api.api_page(),
        "cloud_construction": construction_table(results),
        "cloud_sizes": chapters.cloud_sizes(),
        "correlations": tables.correlation_table(rows),
        "explorer": explorer.page(rows, packs, address),
        "fine_tuning": tables.fine_tuning_table(rows),
        "licences": tables.licences_table(),
        "notes": tables.notes_list(rows),
        "sweeps": sweeps.sweeps_table("study"),
        **{name: block(name, address=address) for name in ("colab", "colab_address", "clone")},
        **{name: tables.run_table(name, rows) for name in ("machines", "status")},
        **{f"presets_{of.strip('_')}": tables.presets_table(MODELS[of]) for of in MODELS},
    }
    made |= first_figure.first_fragments(packs)
    made |= forest.forest_fragments(rows, links) | published.rates_fragments(rows)
    made |= claim_page.ClaimPage(rows, address, pages).fragments()
    made |= published.published_tables(rows)
    made |= chapters.chapter_tables(rows) | plan_pages.plan_tables()
    made |= conditions.conditions_fragments(cells) | effects.effects_fragments(rows)
    made |= minimum.minimum_fragments(results) | ten_teachers.ten_fragments(rows)
    made |= undecided.undecided_fragments(rows) | own_photographs.photographs_fragments(cells)
    made |= controls.controls_fragments(results) | executed.picture_fragments(BOOK)
    made |= repeated.repeated_fragments([*results, *cells])
    return made | protocol_pages.protocol_pages(rows)


def generate(book: Path, tables: dict[str, str]) -> None:
    """Write the tables where the pages include them, and leave nothing of an earlier build but a
    table that has not changed: its pages are not read again."""
    folder = book / "_generated"
    folder.mkdir(exist_ok=True)
    named = {name if "." in name else f"{name}.md": text for name, text in tables.items()}
    texts = {folder / name: f"{unbroken(text.rstrip())}\n" for name, text in named.items()}
    for old in set(folder.iterdir()) - texts.keys():
        old.unlink()
    _write_changed(texts)


def unbroken(text: str) -> str:
    """Markdown in whose tables no line ends within an interval, "n = 3", "1 of 5" or "2 to 6", or
    between a bracket and the symbol that it begins with; code apart."""
    return re.sub(r"^\|.*", lambda row: _unbroken_row(row[0]), text, flags=re.MULTILINE)


def _unbroken_row(row: str) -> str:
    parts = row.split("`")
    whole = (re.sub(r"\(\$[^$]+\$", r'<span class="whole">\g<0></span>', p) for p in parts[::2])
    parts[::2] = [_BREAKS.sub("&nbsp;", part) for part in whole]
    return "`".join(parts)


def _write_changed(texts: Mapping[Path, str]) -> None:
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def draw(book: Path, results: list[Results], cells: Sequence[Results] = ()) -> None:
    """The figures made from results, beside the tables."""
    errors = chapters.errors_figure(chapters.by_case(frame([*results, *cells])))
    figures = {"estimator_errors": errors, "conditions": conditions.conditions_figure(cells)}
    for name, figure in figures.items():
        if figure is not None:  # without the version that would make every build another file
            where = book / "_generated" / f"{name}.png"
            figure.savefig(where, metadata={"Software": None})
    for name, shown in executed.kept_pictures(BOOK).items():
        (book / "_generated" / f"{name}.png").write_bytes(shown[0])


def readme_drawings() -> dict[str, str]:
    """{file: SVG} of README's two figures, of the committed study."""
    rows = frame([*available_results("study"), *available_cells("study")])
    figures = {"forest": forest.forest(forest.shown_cells(rows))}
    if first := first_figure.first_figure(explorer.read_packs()):
        figures["first"] = first
    return {
        f"readme_{name}_{theme}.svg": figure.draw(FORMS["wide"], theme)
        for name, figure in figures.items()
        for theme in THEMES
    }


def inputs_hash(book: Path) -> str:
    """One hash over every file the pages are built from and the versions of the builders."""
    digest = hashlib.sha256(repr([(name, version(name)) for name in BUILDERS]).encode())
    for path in sorted(book.rglob("*")):
        inside = path.relative_to(book)
        passed = {"_build", "__pycache__"} & {*inside.parts} or inside.suffix == ".lock"
        if path.is_file() and not passed:
            digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def whole_hash(book: Path, notebooks: Path, preset: str) -> str:
    """One hash over all that a book of a preset is made from, with code, results and versions, and
    over the names and sizes of its built pages."""
    built = book / "_build" / "html"
    pages = [(f"{path.relative_to(built)}", path.stat().st_size)
             for path in sorted(built.rglob("*")) if path.is_file()]  # fmt: skip
    places = book, notebooks, results_root(), CHECKOUT / "kpnb", CHECKOUT / "data_prep"
    made_from = {"from": [*map(inputs_hash, places)], "versions": library_versions()}
    return fingerprint({"preset": preset, "pages": pages} | made_from)


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
    return check.page_problems(book / "_build" / "html", toc_pages(book))


def make(book: Path, notebooks: Path, preset: str) -> Path:
    """Generate, check, build if anything changed, check again; returns the first page's path.

    Raises: KpnbError for missing results, a failed build, or what the checks found.
    """
    first, whole = book / "_build" / "html" / "index.html", book / "_build" / "whole.sha256"
    if whole.exists() and whole.read_text() == whole_hash(book, notebooks, preset):
        return first
    pages, address = notebook_names(book), repository(book)
    if preset == "study":
        executed.show_study(book, notebooks, pages)
    results, cells = collect(pages, preset), available_cells("study")
    _refuse(notebook_problems(book, notebooks, preset))
    generate(book, fragments(results, address, cells, toc_pages(book)))
    draw(book, results, cells)
    _write_changed({book / "_static" / name: text for name, text in readme_drawings().items()})
    links = explorer.links(explorer.read_packs())
    executed.write_notes(book, pages, address, links)
    stamp = book / "_build" / "inputs.sha256"
    key = inputs_hash(book)
    if not stamp.exists() or stamp.read_text() != key or page_problems(book):
        stamp.unlink(missing_ok=True)
        build(book)
        _refuse(page_problems(book))
        stamp.write_text(key)
    whole.write_text(whole_hash(book, notebooks, preset))
    return first


def make_archive(book: Path) -> list[Path]:
    """The built book as one page, and the results as one zip, in book/_build/archive.

    Raises: KpnbError for what the checks find in the page.
    """
    folder = book / "_build" / "archive"
    folder.mkdir(exist_ok=True)
    page, packed = folder / "kpnb-book.html", folder / "kpnb-results.zip"
    page.write_text(single_page(book, toc_pages(book)), encoding="utf-8")
    _refuse(check.page_problems(folder, [page.stem]))
    write_results_zip(CHECKOUT, packed)
    return [page, packed]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise KpnbError("\n".join(problems))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; mistakes go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m book.make", description=__doc__)
    add = parser.add_argument
    add("--archive", action="store_true", help="also one page of all, and a zip of the results")
    add("--preset", default="demo", help="whose results the notebooks hold")
    options = parser.parse_args(arguments)
    return answered(lambda: built(options.preset, options.archive))


def built(preset: str, archive: bool = False) -> int:
    """Build the book of this checkout and say where it lies; returns the exit code."""
    try:
        print(f"book: {make(BOOK, CHECKOUT / 'notebooks', preset)}")
        for path in make_archive(BOOK) if archive else ():
            print(f"archive: {path}")
    except (OSError, KpnbError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
