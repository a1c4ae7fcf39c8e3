"""The book's checks find what is wrong, and its pages build without a warning."""

import base64
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.make import __main__ as book
from book.make import bookcheck
from kpnb.errors import KpnbError
from kpnb.metrics.results import Comparison, Measure, Results, write_results

PNG = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
    )
).decode()
CELL = {"layer": "FC1", "network": "VGG-11", "scale": "narrow", "dataset": "embedded images"}
NOTEBOOKS = [
    *("image_h1", "image_h2", "image_h3", "image_unseen"),
    *("sentiment_h1", "sentiment_h2", "sentiment_h3", "qa_h1", "qa_h2", "qa_h3"),
    *("pointcloud_h1", "pointcloud_h2", "pointcloud_h3"),
    *("image_lambda", "image_coherency", "image_fine_tuning", "image_cell"),
    *("image_measure", "sentiment_measure"),
]
MADE = ("table_ii", "table_v", "claims", "verdict_grid", "sweeps", "status", "notes")
OVER = {"low": 1.0, "high": 3.0, "n_samples": 9, "n_seeds": 1, "threshold": 0.2}


def figure():
    return new_output("display_data", data={"image/png": PNG})


def executed(path, *outputs, title="Stub"):
    cells = [new_markdown_cell(f"# {title}\n\n$H_i$"), new_code_cell("1", outputs=list(outputs))]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), path)
    return path


def results(notebook, preset="demo"):
    return Results(
        notebook=notebook,
        preset=preset,
        settings={"threshold": 0.2},
        provenance={"code": ["published_table"]},
        seconds=1.0,
        peak_memory_mb=1.0,
        fingerprint="0" * 64,
        measures=[Measure(role="S", metric="n_fg", mean=2.0, **CELL, **OVER)],
        comparisons=[
            Comparison(
                metric="n_fg",
                prediction="up",
                difference=2.0,
                verdict="reproduced",
                **CELL,
                **OVER,
            )
        ],
    )


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The book's pages with stub notebooks and results, away from the checkout."""
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "book" / "results"))
    made = shutil.ignore_patterns("_build", "_generated", "notebooks", "results")
    shutil.copytree(book.CHECKOUT / "book", tmp_path / "book", ignore=made)
    for name in book.notebook_names(tmp_path / "book"):
        executed(tmp_path / "book" / "notebooks" / f"{name}.ipynb", figure(), title=name)
        source = new_notebook(metadata={"kpnb": {"figures": 1}})
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        nbformat.write(source, tmp_path / "notebooks" / f"{name}.ipynb")
        write_results(results(name))
    return tmp_path


@pytest.fixture
def builds(monkeypatch):
    """Stands in for the builder: one empty page per entry; tells how often it was called."""
    calls = []

    def build(folder):
        calls.append(folder)
        for page in book.toc_pages(folder):
            path = folder / "_build" / "html" / f"{page}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("<p>page</p>")

    monkeypatch.setattr(book, "build", build)
    return calls


def test_contents_name_the_pages_that_exist():
    pages = book.toc_pages(book.CHECKOUT / "book")
    assert pages[0] == "intro" and len(pages) == len(set(pages))
    assert book.notebook_names(book.CHECKOUT / "book") == NOTEBOOKS
    for page in pages:
        if not page.startswith("notebooks/"):
            assert (book.CHECKOUT / "book" / f"{page}.md").exists(), page


def test_the_pages_build_without_a_warning(checkout):
    table = new_output("display_data", data={"text/markdown": "| $\\rho$ |\n|---|\n| 1 |"})
    executed(checkout / "book" / "notebooks" / "image_h1.ipynb", figure(), table)
    index = book.make(checkout / "book", checkout / "notebooks", "demo")
    assert "intro.html" in index.read_text(encoding="utf-8")
    text = (index.parent / "intro.html").read_text(encoding="utf-8")
    assert "reproduced" in text and "+2.00 [+1.00, +3.00]" in text
    algorithm = (index.parent / "algorithm.html").read_text(encoding="utf-8")
    for number in range(1, 10):
        assert f'<span class="eqno">({number})' in algorithm
    h1 = (index.parent / "notebooks" / "image_h1.html").read_text(encoding="utf-8")
    assert r"\(H_i\)" in h1 and r"\(\rho\)" in h1
    for page in (algorithm, h1):
        assert any("/mathjax/tex-chtml.js" in address for address in bookcheck.fetches(page))
    mathjax = index.parent / "_static" / "mathjax"
    assert (mathjax / "tex-chtml.js").exists()
    assert (mathjax / "output/chtml/fonts/woff-v2/MathJax_Math-Italic.woff").exists()
    address = book.repository(checkout / "book").removeprefix("https://github.com/")
    assert f"colab.research.google.com/github/{address}/blob/main/notebooks/image_h1.ipynb" in h1


def test_a_broken_page_fails_the_build(checkout):
    page = checkout / "book" / "related_work.md"
    page.write_text(page.read_text() + "\nSee {doc}`nowhere`.\n")
    with pytest.raises(KpnbError, match="nowhere"):
        book.make(checkout / "book", checkout / "notebooks", "demo")


def test_nothing_is_built_twice(checkout, builds):
    folder = checkout / "book"
    for _ in range(2):
        book.make(folder, checkout / "notebooks", "demo")
    assert len(builds) == 1
    (folder / "intro.md").write_text("# other")
    book.make(folder, checkout / "notebooks", "demo")
    write_results(results("image_h1").model_copy(update={"notes": ["news"]}))
    book.make(folder, checkout / "notebooks", "demo")
    assert len(builds) == 3
    (folder / "_build" / "html" / "status.html").unlink()
    book.make(folder, checkout / "notebooks", "demo")
    assert len(builds) == 4


def test_missing_results_notebooks_and_figures_stop_the_build(checkout, builds):
    folder, sources = checkout / "book", checkout / "notebooks"
    with pytest.raises(KpnbError, match="--preset smoke"):
        book.make(folder, sources, "smoke")
    executed(folder / "notebooks" / "image_h2.ipynb")
    with pytest.raises(KpnbError, match="image_h2.ipynb shows 0 figures, not 1"):
        book.make(folder, sources, "demo")
    (folder / "notebooks" / "image_h2.ipynb").unlink()
    with pytest.raises(KpnbError, match="image_h2.ipynb is missing"):
        book.make(folder, sources, "demo")
    assert not builds


def test_the_study_stands_beside_the_demo(checkout, builds):
    write_results(results("image_h1", preset="study"))
    book.make(checkout / "book", checkout / "notebooks", "demo")
    grid = (checkout / "book" / "_generated" / "verdict_grid.md").read_text()
    assert grid.index("Preset `study`") < grid.index("Preset `demo`")


def test_notebook_problems(tmp_path):
    path = tmp_path / "n.ipynb"
    assert bookcheck.notebook_problems(path, 1) == ["the executed notebook n.ipynb is missing"]
    executed(path, figure(), figure())
    assert bookcheck.notebook_problems(path, 2) == []
    assert "2 figures, not 3" in bookcheck.notebook_problems(path, 3)[0]
    error = new_output("error", ename="ValueError", evalue="x", traceback=[])
    widget = new_output("display_data", data={bookcheck.WIDGET: {"model_id": "a"}})
    executed(path, error, new_output("stream", name="stderr", text="careful"), widget, figure())
    assert bookcheck.notebook_problems(path, 1) == [
        "n.ipynb shows the error ValueError",
        "n.ipynb shows text written to stderr",
        "n.ipynb shows a widget, which is dead without a kernel",
    ]


@pytest.mark.parametrize(
    "fetch",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        '<img src="http://example.org/x.png">',
        "<style>@import 'https://fonts.example/x.css';</style>",
        '<p style="background: url(https://example.org/x.png)">',
    ],
)
def test_requests_to_other_servers_are_found(tmp_path, fetch):
    (tmp_path / "page.html").write_text(f"<html>{fetch}</html>")
    assert "asks another server" in next(bookcheck.broken_fetches(tmp_path))


def test_links_to_click_and_files_that_are_there_are_fine(tmp_path):
    (tmp_path / "x y.png").write_bytes(b"")
    (tmp_path / "page.html").write_text(
        '<a href="https://example.org">x</a><link rel="next" href="gone.html">'
        '<img src="x%20y.png"><img src="data:image/png;base64,AA==">'
        "<style>/* url(https://example.org) */</style>"
    )
    assert list(bookcheck.broken_fetches(tmp_path)) == []
    (tmp_path / "x y.png").unlink()
    assert "not there" in next(bookcheck.broken_fetches(tmp_path))


def test_a_formula_without_mathjax_is_found(tmp_path):
    formula = r'<span class="math notranslate">\(x\)</span>'
    (tmp_path / "bare.html").write_text(formula)
    (tmp_path / "set.html").write_text(f'<script src="_static/mathjax/a.js"></script>{formula}')
    (tmp_path / "none.html").write_text("<p>x</p>")
    (found,) = bookcheck.bare_formulas(tmp_path)
    assert found.startswith("bare.html has a formula")


def test_style_sheets_are_read_too(tmp_path):
    (tmp_path / "a.css").write_text("p { background: url('https://example.org/x.png') }")
    assert "a.css asks" in next(bookcheck.broken_fetches(tmp_path))


def test_generated_pages_that_nobody_makes_any_more_go(tmp_path):
    book.generate(tmp_path, {"old": "x"})
    book.generate(tmp_path, {"new": "y"})
    assert [p.name for p in (tmp_path / "_generated").iterdir()] == ["new.md"]


def test_command_line_lists_notebooks(capsys):
    assert book.main(["--notebooks"]) == 0
    assert capsys.readouterr().out.split() == NOTEBOOKS


def test_cells_stand_in_their_tables_and_in_no_verdict(checkout, builds):
    """A run of a sweep is in its table and on the claims page, and not among the verdicts."""
    path = write_results(results("image_cell", "study").model_copy(update={"run": "v_vgg11_fc1"}))
    book.make(checkout / "book", checkout / "notebooks", "demo")
    made = {name: (checkout / "book" / "_generated" / f"{name}.md").read_text() for name in MADE}
    assert "not run here" in made["table_ii"] and path.stem in made["claims"]
    assert "2.00" in made["table_v"] and "Preset `study`" not in made["verdict_grid"]
    assert "`table_v`" in made["sweeps"] and "1 stale" in made["sweeps"]


def test_a_single_cell_of_the_demo_is_in_no_verdict(checkout, builds):
    book.make(checkout / "book", checkout / "notebooks", "demo")
    made = {name: (checkout / "book" / "_generated" / f"{name}.md").read_text() for name in MADE}
    assert "`image_cell`" in made["status"] and "image_cell" not in made["notes"]
