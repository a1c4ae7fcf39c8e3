"""The book builds without a warning, once; and README has the verdicts of the results."""

import shutil

import nbformat
import pytest
from made_results import comparison, full_run, measure, run
from nbformat.v4 import new_notebook, new_output
from stub_notebooks import executed, figure

from book.make import __main__ as book
from book.make import check
from kpnb.errors import KpnbError
from kpnb.metrics.results import write_results

NOTEBOOKS = [
    *("image_h1", "image_h2", "image_h3", "image_unseen"),
    *("sentiment_h1", "sentiment_h2", "sentiment_h3", "qa_h1", "qa_h2", "qa_h3"),
    *("pointcloud_h1", "pointcloud_h2", "pointcloud_h3"),
    *("image_lambda", "image_coherency", "image_fine_tuning", "image_cell"),
    *("image_measure", "sentiment_measure"),
]
MADE = ("table_ii", "table_v", "claims", "verdict_grid", "sweeps", "status", "notes")


def results(notebook, preset="demo", **changes):
    facts = {"measures": [measure("S", "n_fg", 2.0)], "comparisons": [comparison("n_fg", 1.0, 3.0)]}
    code = {"code": ["published_table"]}
    return run(**{"notebook": notebook, "preset": preset, "provenance": code} | facts | changes)


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
        assert any("/mathjax/tex-chtml.js" in address for address in check.fetches(page))
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
    write_results(results("image_h1", notes=["news"]))
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


def test_generated_pages_that_nobody_makes_any_more_go(tmp_path):
    book.generate(tmp_path, {"old": "x"})
    book.generate(tmp_path, {"new": "y"})
    assert [p.name for p in (tmp_path / "_generated").iterdir()] == ["new.md"]


def test_command_line_lists_notebooks(capsys):
    assert book.main(["--notebooks"]) == 0
    assert capsys.readouterr().out.split() == NOTEBOOKS


def test_cells_stand_in_their_tables_and_in_no_verdict(checkout, builds):
    """A run of a sweep is in its table and on the claims page, and not among the verdicts."""
    path = write_results(results("image_cell", "study", run="v_vgg11_fc1"))
    book.make(checkout / "book", checkout / "notebooks", "demo")
    made = {name: (checkout / "book" / "_generated" / f"{name}.md").read_text() for name in MADE}
    assert "not run here" in made["table_ii"] and path.stem in made["claims"]
    assert "2.00" in made["table_v"] and "Preset `study`" not in made["verdict_grid"]
    assert "`table_v`" in made["sweeps"] and "1 stale" in made["sweeps"]


def test_a_single_cell_of_the_demo_is_in_no_verdict(checkout, builds):
    book.make(checkout / "book", checkout / "notebooks", "demo")
    made = {name: (checkout / "book" / "_generated" / f"{name}.md").read_text() for name in MADE}
    assert "`image_cell`" in made["status"] and "image_cell" not in made["notes"]


@pytest.fixture
def readme(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    path = tmp_path / "README.md"
    path.write_text(f"# before\n{book.START}\nold\n{book.END}\nafter\n")
    monkeypatch.setattr(book, "CHECKOUT", tmp_path)
    return path


def test_readme_block_is_rewritten_and_checked(readme, capsys):
    write_results(full_run())
    assert book.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert book.main(["--readme"]) == 0
    assert book.main(["--check"]) == 0
    text = readme.read_text()
    assert text.startswith("# before\n") and text.endswith("after\n") and "old" not in text
    assert "**contradicted** +2.00" in text and "Preset `demo`" in text


def test_readme_prefers_the_study(readme):
    write_results(full_run())
    write_results(run(preset="study", comparisons=[comparison("n_fg", -3.0, -1.0)]))
    assert "**contradicted** −2.00" in book.readme_block()
    assert "Preset `study`" in book.readme_block()


def test_readme_without_markers_is_a_mistake(readme, capsys):
    readme.write_text("# no markers\n")
    assert book.main(["--readme"]) == 1
    assert book.START in capsys.readouterr().err
    with pytest.raises(KpnbError):
        book.with_verdicts(book.END)
    readme.unlink()
    assert book.main(["--check"]) == 1
