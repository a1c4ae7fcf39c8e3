"""The book builds, once, and says what is wrong; and README has the verdicts of the results."""

import os
import shutil

import nbformat
import pytest
from made_results import comparison, full_run, measure, run
from nbformat.v4 import new_notebook, new_output
from stub_notebooks import executed, figure

from book.make import __main__ as book
from book.make import check, tables
from book.make.frame import frame
from kpnb.errors import KpnbError
from kpnb.metrics.results import write_results

NOTEBOOKS = book.notebook_names(book.CHECKOUT / "book")
ADDRESS = "https://github.com/a/b"


def results(notebook, preset="demo", layer="FC1", **changes):
    facts = {"comparisons": [comparison("n_fg", 1.0, 3.0, layer=layer)]}
    facts |= {"measures": [measure("S", "n_fg", 2.0, layer=layer)], "provenance": {}}
    return run(**facts | {"notebook": notebook, "preset": preset} | changes)


@pytest.fixture(scope="module")
def made():
    """What the book generates of a demo and of two runs of the study, a sweep's among them."""
    swept = results("image_cell", "study", "FC2", run="v_vgg11_fc2")
    runs = [results("image_h1", "study"), *map(results, ("image_h1", "image_cell"))]
    return book.fragments(runs, ADDRESS, [swept])


@pytest.fixture(scope="module")
def pages(made, tmp_path_factory):
    """The book's pages with stub notebooks, away from the checkout."""
    root = tmp_path_factory.mktemp("checkout")
    skipped = shutil.ignore_patterns("_build", "_generated", "notebooks", "results", "make")
    shutil.copytree(book.CHECKOUT / "book", root / "book", ignore=skipped)
    (root / "notebooks").mkdir()
    for name in book.notebook_names(root / "book"):
        executed(root / "book" / "notebooks" / f"{name}.ipynb", figure(), title=name)
        source = new_notebook(metadata={"kpnb": {"figures": 1}})
        nbformat.write(source, root / "notebooks" / f"{name}.ipynb")
    table = new_output("display_data", data={"text/markdown": "| $\\rho$ |\n|---|\n| 1 |"})
    executed(root / "book" / "notebooks" / "image_h1.ipynb", figure(), table)
    book.generate(root / "book", made)
    book.draw(root / "book", [])
    return root


def test_contents_name_the_pages_that_exist(capsys):
    pages = book.toc_pages(book.CHECKOUT / "book")
    assert pages[0] == "intro" and len(pages) == len(set(pages)) and "image_h1" in NOTEBOOKS
    for page in pages:  # notebooks lie beside the book, not in it
        path = f"{page}.ipynb" if page.startswith("notebooks/") else f"book/{page}.md"
        assert (book.CHECKOUT / path).exists(), page
    assert book.main(["--notebooks"]) == 0
    assert capsys.readouterr().out.split() == NOTEBOOKS


def test_tables_that_have_not_changed_are_left_alone_and_others_go(tmp_path):
    book.generate(tmp_path, {"kept": "a", "changed": "a", "gone": "a"})
    folder = tmp_path / "_generated"
    for path in folder.iterdir():
        os.utime(path, ns=(0, 0))
    book.generate(tmp_path, {"kept": "a\n", "changed": "b"})
    assert {path.name: path.stat().st_mtime_ns > 0 for path in folder.iterdir()} == {
        "kept.md": False,
        "changed.md": True,
    }


def test_the_pages_build_and_the_one_broken_link_is_all_that_is_warned_of(pages):
    """The builder goes on after a warning, so one build shows the failure and the pages."""
    page = pages / "book" / "related_work.md"
    page.write_text(page.read_text() + "\nSee {doc}`nowhere`.\n")
    with pytest.raises(KpnbError, match="nowhere.*\nthe book does not build: see ") as error:
        book.build(pages / "book")
    assert len(str(error.value).splitlines()) == 2
    html = pages / "book" / "_build" / "html"
    assert book.page_problems(pages / "book") == []
    text = (html / "intro.html").read_text(encoding="utf-8")
    assert "reproduced" in text and "+2.00 [+1.00, +3.00]" in text
    algorithm = (html / "algorithm.html").read_text(encoding="utf-8")
    assert all(f'<span class="eqno">({number})' in algorithm for number in range(1, 10))
    h1 = (html / "notebooks" / "image_h1.html").read_text(encoding="utf-8")
    assert r"\(H_i\)" in h1 and r"\(\rho\)" in h1
    for page in (algorithm, h1):
        assert any("/mathjax/tex-chtml.js" in address for address in check.fetches(page))
    for file in ("tex-chtml.js", "output/chtml/fonts/woff-v2/MathJax_Math-Italic.woff"):
        assert (html / "_static" / "mathjax" / file).exists()
    address = book.repository(pages / "book").removeprefix("https://github.com/")
    assert f"colab.research.google.com/github/{address}/blob/main/notebooks/image_h1.ipynb" in h1


def test_nothing_is_built_twice_or_with_missing_results_notebooks_or_figures(
    pages, tmp_path, monkeypatch
):
    """By a builder of one empty page per entry, from the notes of the demo's results alone."""
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    checkout = tmp_path / "checkout"
    shutil.copytree(pages, checkout, ignore=shutil.ignore_patterns("_build"))
    for name in NOTEBOOKS:
        write_results(results(name))
    notes = lambda runs, *rest: {"notes": tables.notes_list(frame(runs))}  # noqa: E731
    monkeypatch.setattr(book, "fragments", notes)
    folder, builds = checkout / "book", []

    def build(folder):
        builds.append(folder)
        for page in book.toc_pages(folder):
            path = folder / "_build" / "html" / f"{page}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("<p>page</p>")

    monkeypatch.setattr(book, "build", build)

    def count():
        book.make(folder, checkout / "notebooks", "demo")
        return len(builds)

    assert (count(), count()) == (1, 1)
    # what nobody makes any more goes
    assert [path.name for path in (folder / "_generated").glob("*.md")] == ["notes.md"]
    (folder / "intro.md").write_text("# other")
    assert count() == 2
    write_results(results("image_h1", notes=["news"]))
    assert count() == 3
    (folder / "_build" / "html" / "status.html").unlink()
    assert (count(), count()) == (4, 4)

    def refused(preset, why):
        with pytest.raises(KpnbError, match=why):
            book.make(folder, checkout / "notebooks", preset)

    refused("smoke", "--preset smoke")
    executed(folder / "notebooks" / "image_h2.ipynb")
    refused("demo", "image_h2.ipynb shows 0 figures, not 1")
    (folder / "notebooks" / "image_h2.ipynb").unlink()
    refused("demo", "image_h2.ipynb is missing")
    assert len(builds) == 4


def test_what_is_generated_has_every_run_in_its_own_place(made):
    """A sweep's run is in its table and on the claims page, the sweeps' notebook in no verdict."""
    grid = made["verdict_grid"]
    assert grid.index("Preset `study`") < grid.index("Preset `demo`")
    assert "3 seeds; b = 0.2" in grid and grid.count("+2.00 [+1.00, +3.00]") == 2
    assert "not run here" in made["table_ii"] and "v_vgg11_fc2" in made["claims"]
    assert "2.00" in made["table_v"] and made["table_vii"].startswith("## PointNet\n")
    assert "`table_v`" in made["sweeps"]
    assert "`image_cell`" in made["status"] and "image_cell" not in made["notes"]
    assert made["clone"] == f"```\ngit clone {ADDRESS}\ncd b\nmake book\n```"
    colab = "https://colab.research.google.com/github/a/b/blob/main/notebooks/image_h1.ipynb"
    assert made["colab_address"] == f"```\n{colab}\n```" and f"@ git+{ADDRESS}'" in made["colab"]


def test_readmes_verdicts_are_rewritten_and_checked_and_prefer_the_study(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(book, "CHECKOUT", tmp_path)
    monkeypatch.setattr(book.claims, "judge_all", lambda rows: [])  # is tested on its own
    readme = tmp_path / "README.md"
    readme.write_text(f"# before\n{book.START}\nold\n{book.END}\nafter\n")
    for preset, low, shown in (("demo", 1.0, "+2.00"), ("study", -3.0, "−2.00")):
        write_results(full_run(preset=preset, comparisons=[comparison("n_fg", low, low + 2)]))
        assert book.main(["--check"]) == 1
        assert "stale" in capsys.readouterr().err
        assert book.main(["--readme"]) == book.main(["--check"]) == 0
        text = readme.read_text()
        assert text.startswith("# before\n") and text.endswith("after\n") and "old" not in text
        assert f"{shown} [" in text and f"Preset `{preset}`" in text and "**0 claims**" in text
    for broken in ("# no markers\n", book.END, f"{book.START}{book.START}{book.END}"):
        readme.write_text(broken)
        assert book.main(["--readme"]) == 1 and book.START in capsys.readouterr().err
    readme.unlink()
    assert book.main(["--check"]) == 1
