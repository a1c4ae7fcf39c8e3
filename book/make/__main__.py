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
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from book.make import (
    bookcheck,
    cell_pages,
    claims,
    estimator_report,
    output_dimensions,
    paper_pages,
    plan_pages,
    published_pages,
    report,
)
from kpnb.errors import KpnbError
from kpnb.experiments import cloud_construction, cloud_costs
from kpnb.metrics.results import Results, available_cells, available_results, read_results
from kpnb.paper import HYPOTHESES
from kpnb.run import sweeps
from kpnb.study.parameters import (
    CloudParameters,
    ImageParameters,
    QuestionParameters,
    SentimentParameters,
)

CHECKOUT = Path(__file__).resolve().parents[2]
NOTEBOOKS = "notebooks/"
#: Its results are cells of tables, beside the committed ones of sweeps.
CELL_NOTEBOOK = "image_cell"
BUILDERS = ("jupyter-book", "sphinx-book-theme", "sphinx-mathjax-offline", "Sphinx", "myst-nb")
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def toc_pages(book: Path) -> list[str]:
    """Every page the table of contents names, in order, without ending."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (str(node[key]) for key in ("root", "file") if key in node)
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    contents = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    return [page.removesuffix(".md").removesuffix(".ipynb") for page in walk(contents)]


def notebook_names(book: Path) -> list[str]:
    """The notebooks among the pages, such as image_h1."""
    pages = toc_pages(book)
    return [page.removeprefix(NOTEBOOKS) for page in pages if page.startswith(NOTEBOOKS)]


def page_source(book: Path, page: str) -> tuple[str, dict[str, object]]:
    """The notebook that a page is, and the parameters that it is executed with (pages.yaml)."""
    pages = yaml.safe_load((book / "pages.yaml").read_text(encoding="utf-8"))
    found = pages.get(page, {"notebook": page, "parameters": {}})
    return found["notebook"], found["parameters"]


def page_line(book: Path, page: str) -> str:
    """A page's name; with what `python -m kpnb.run` is to be asked for, if that is another."""
    notebook, parameters = page_source(book, page)
    given = [f"-p {name}={value}" for name, value in parameters.items()]
    return " ".join([page, *([notebook, *given] if notebook != page else [])])


def repository(book: Path) -> str:
    """The address of the source repository: _config.yml is the one place that says it."""
    config = yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))
    return config["repository"]["url"]


def collect(names: list[str], preset: str) -> list[Results]:
    """The committed study's results where there are any, then those of this build's preset.

    Raises: KpnbError where a notebook has no results at `preset`.
    """
    here = [read_results(name, preset) for name in names]
    study = available_results("study")  # also of what is no notebook
    return study if preset == "study" else [*study, *here]


def fragments(
    results: list[Results],
    address: str,
    cells: Sequence[Results] = (),
    pages: Collection[str] = (),
) -> dict[str, str]:
    """What the pages include: {name: markdown} of every generated table.

    cells: results of sweeps; pages: of the table of contents, for links to them.
    """
    everything = results
    results = [run for run in results if run.notebook != CELL_NOTEBOOK]
    in_table_v = cell_pages.table_v_cells(cells)
    tables = {
        "accuracies": report.accuracy_table(results),
        "cloud_construction": cloud_construction.construction_table(results),
        "cloud_costs": cloud_costs.costs_table(results),
        "colab": f"```\n!pip install --quiet git+{address}\n```",
        "colab_address": f"```\n{_colab(address)}/notebooks/image_h1.ipynb\n```",
        "clone": f"```\ngit clone {address}\ncd {address.rsplit('/', 1)[-1]}\nmake book\n```",
        "estimator_accuracy": estimator_report.accuracy_table(results),
        "estimator_budgets": estimator_report.budget_table(results),
        "estimator_figure": estimator_report.figure_block(results),
        "estimator_speed": estimator_report.speed_table(results),
        "estimator_summary": estimator_report.summary(results),
        "licences": report.licences_table(),
        "machines": report.machines_table(everything),
        "notes": report.notes_list(results),
        "presets_image": report.presets_table(ImageParameters),
        "presets_sentiment": report.presets_table(SentimentParameters),
        "presets_pointcloud": report.presets_table(CloudParameters),
        "presets_qa": report.presets_table(QuestionParameters),
        "rates": published_pages.rates_table(),
        "status": report.status_table(everything),
        "table_v": published_pages.table_v([*in_table_v, *results]),
        "table_vi": published_pages.table_vi(results),
        "table_vii": published_pages.table_vii(results),
    }
    for hypothesis in (1, 2, 3):
        metrics = [m for m, number in HYPOTHESES.items() if number == hypothesis]
        tables[f"verdicts_h{hypothesis}"] = report.verdict_table(results, metrics)
    tables |= claims.claim_pages(results, cells, address, pages)
    tables |= cell_pages.cell_tables(cells) | {"sweeps": sweeps.sweeps_table("study")}
    tables |= plan_pages.plan_tables(results)
    tables |= paper_pages.paper_tables(available_cells(paper_pages.PRESET))
    return tables | {"verdict_grid": report.verdict_grids(results)}


def _colab(address: str) -> str:
    """Where Colab opens the repository's files."""
    return address.replace("https://github.com", "https://colab.research.google.com/github", 1) + (
        "/blob/main"
    )


def generate(book: Path, tables: dict[str, str]) -> None:
    """Write the tables where the pages include them; one that has not changed is left alone."""
    folder = book / "_generated"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if old.stem not in tables:
            old.unlink()
    for name, text in tables.items():
        path, text = folder / f"{name}.md", text.rstrip() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def draw(book: Path, results: list[Results], cells: Sequence[Results] = ()) -> None:
    """The figures made from results, beside the tables; gone where there are no results."""
    figures = {
        "estimator_errors": estimator_report.errors_figure(results),
        "outputs": output_dimensions.outputs_figure(cells),
    }
    for name, figure in figures.items():
        path = book / "_generated" / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:  # without the date and version that would make every build another file
            figure.savefig(path, metadata={"Software": None})


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
        done = subprocess.run(
            [sys.executable, "-c", start, *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=quiet,
        )
    if done.returncode:
        lines = COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines()
        wrong = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-20:]
        raise KpnbError("\n".join([*wrong, f"the book does not build: see {log}"]))


def notebook_problems(book: Path, notebooks: Path) -> list[str]:
    """What is wrong with the executed notebooks, against what their sources promise."""
    found = []
    for name in notebook_names(book):
        source, _ = page_source(book, name)
        figures = bookcheck.expected_figures(notebooks / f"{source}.ipynb")
        found += bookcheck.notebook_problems(book / NOTEBOOKS / f"{name}.ipynb", figures)
    return found


def page_problems(book: Path) -> list[str]:
    """What is wrong with the built pages."""
    html = book / "_build" / "html"
    return [
        *bookcheck.missing_pages(html, toc_pages(book)),
        *bookcheck.broken_fetches(html),
        *bookcheck.bare_formulas(html),
    ]


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; mistakes go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m book.make", description=__doc__)
    add = parser.add_argument
    add("--notebooks", action="store_true", help="list the book's notebooks and stop")
    add("--preset", default="demo", help="whose results the executed notebooks hold")
    options = parser.parse_args(arguments)
    book = CHECKOUT / "book"
    if options.notebooks:
        print(*(page_line(book, page) for page in notebook_names(book)), sep="\n")
        return 0
    try:
        print(f"book: {make(book, CHECKOUT / 'notebooks', options.preset)}")
    except KpnbError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
