"""The book builds, once, and says what is wrong."""

import os
import re
import shutil
from itertools import pairwise

import nbformat
import pytest
import yaml
from made_results import comparison, measure, run
from nbformat.v4 import new_notebook, new_output
from stub_notebooks import executed, figure

from book.make import __main__ as book
from book.make import check, tables
from book.make.executed import write_notes
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
    skipped = shutil.ignore_patterns("_build", "_generated", "notebooks", "results")
    shutil.copytree(book.CHECKOUT / "book", root / "book", ignore=skipped)
    (root / "notebooks").mkdir()
    table = new_output("display_data", data={"text/markdown": "| $\\rho$ |\n|---|\n| 1 |"})
    for name in NOTEBOOKS:
        shown = [figure(), *[table] * (name == "image_h1")]
        executed(root / "book" / "notebooks" / f"{name}.ipynb", *shown, title=name)
        source = new_notebook(metadata={"kpnb": {"figures": 1}})
        nbformat.write(source, root / "notebooks" / f"{name}.ipynb")
    book.generate(root / "book", made)
    book.draw(root / "book", [])
    write_notes(root / "book", NOTEBOOKS, ADDRESS)
    return root


def test_contents_name_the_pages_that_exist():
    pages = book.toc_pages(book.CHECKOUT / "book")
    assert pages[0] == "intro" and len(pages) == len(set(pages)) and "image_h1" in NOTEBOOKS
    for page in pages:  # notebooks lie beside the book, not in it
        path = f"{page}.ipynb" if page.startswith("notebooks/") else f"book/{page}.md"
        assert (book.CHECKOUT / path).exists(), page
    contents = yaml.safe_load((book.CHECKOUT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    parts = [*contents["parts"], *(page for part in contents["parts"] for page in part["chapters"])]
    assert all(len(p.get("chapters", p.get("sections", ()))) <= 9 for p in [contents, *parts])
    assert len(contents["parts"]) <= 9


def test_no_page_or_notebook_skips_a_heading():
    texts = {
        path: path.read_text(encoding="utf-8") for path in (book.CHECKOUT / "book").glob("*.md")
    }
    for path in (book.CHECKOUT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        texts[path] = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    for path, text in texts.items():
        plain = re.sub(r"```.*?```", "", text, flags=re.S)
        levels = [len(signs) for signs in re.findall(r"^(#+) ", plain, re.M)]
        assert levels[0] == 1 and levels.count(1) == 1, path
        assert all(below <= above + 1 for above, below in pairwise(levels)), path


def test_tables_that_have_not_changed_are_left_alone_and_others_go(tmp_path):
    book.generate(tmp_path, {"kept": "a", "changed": "a", "gone": "a"})
    for path in (tmp_path / "_generated").iterdir():
        os.utime(path, ns=(0, 0))
    book.generate(tmp_path, {"kept": "a\n", "changed": "b"})
    found = {path.stem: path.stat().st_mtime for path in (tmp_path / "_generated").iterdir()}
    assert found.keys() == {"kept", "changed"} and found["changed"] > found["kept"] == 0


def test_in_a_tables_cell_no_line_ends_where_it_would_be_read_wrongly():
    row = "| 2.1 [1.8, −2.4] (n = 3) | 1 of 57, 2 to 6 ($N^{fg}$ open) | `[1, 2]` |"
    kept = "| 2.1 [1.8,&nbsp;−2.4] (n&nbsp;=&nbsp;3) | 1&nbsp;of&nbsp;57, 2&nbsp;to&nbsp;6 "
    kept += '<span class="whole">($N^{fg}$</span> open) | `[1, 2]` |'
    assert book.unbroken(f"1 of 5 [1, 2]\n{row}\n") == f"1 of 5 [1, 2]\n{kept}\n"


def test_the_pages_build_and_the_one_broken_link_is_all_that_is_warned_of(pages):
    """The builder goes on after a warning, so one build shows the failure and the pages."""
    page = pages / "book" / "related_work.md"
    page.write_text(page.read_text() + "\nSee {doc}`nowhere`.\n")
    with pytest.raises(KpnbError, match="nowhere.*\nthe book does not build: see ") as error:
        book.build(pages / "book")
    assert len(str(error.value).splitlines()) == 2
    html = pages / "book" / "_build" / "html"
    assert book.page_problems(pages / "book") == []
    page, packed = book.make_archive(pages / "book")
    assert '<div id="notebooks/image_h1">' in page.read_text("utf-8")
    assert packed.stat().st_size > 10**6
    text = (html / "intro.html").read_text(encoding="utf-8")
    assert (
        "✓\u00a0supported" in text
        and "[+1.00,\u00a0+3.00]" in text
        and "knowledge points of three" in text
    )
    shown = re.findall(r'<img alt="([^"]*)" class="([^"]*)" src="(_images/forest_[^"]*)"', text)
    assert len(shown) == 4 and all("VGG-11, FC1" in alternative for alternative, *_ in shown)
    kinds = {frozenset(kinds.split()) for _, kinds, _ in shown}
    assert {"only-dark", "only-narrow"} in kinds and len(kinds) == 4
    algorithm = (html / "algorithm.html").read_text(encoding="utf-8")
    assert all(f'<span class="eqno">({number})' in algorithm for number in range(1, 10))
    h1 = (html / "notebooks" / "image_h1.html").read_text(encoding="utf-8")
    assert '<p class="run-note">Not executed at preset <code>study</code>' in h1
    assert r"\(H_i\)" in h1 and r"\(\rho\)" in h1
    for page in (algorithm, h1):
        assert any("/mathjax/tex-chtml.js" in address for address in check.Page(page).fetches)
    for file in ("tex-chtml.js", "output/chtml/fonts/woff-v2/MathJax_Math-Italic.woff"):
        assert (html / "_static" / "mathjax" / file).exists()
    address = book.repository(pages / "book").removeprefix("https://github.com/")
    assert f"colab.research.google.com/github/{address}/blob/main/notebooks/image_h1.ipynb" in h1


def test_nothing_is_built_twice_or_from_missing_files_or_figures(pages, tmp_path, monkeypatch):
    """By a builder of one empty page per entry, from the notes of the demo's results alone."""
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    skipped = shutil.ignore_patterns("_build")
    checkout, builds = shutil.copytree(pages, tmp_path / "checkout", ignore=skipped), []
    folder = checkout / "book"
    for name in NOTEBOOKS:
        write_results(results(name))

    def build(folder):
        builds.append(folder)
        for page in book.toc_pages(folder):
            path = folder / "_build" / "html" / f"{page}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("<p>page</p>")

    def make(preset="demo"):
        book.make(folder, checkout / "notebooks", preset)
        return len(builds)

    def refuses(told, preset="demo"):
        with pytest.raises(KpnbError, match=told):
            make(preset)

    monkeypatch.setattr(book, "build", build)
    notes = lambda runs, *_: {"notes": tables.notes_list(frame(runs))}  # noqa: E731
    monkeypatch.setattr(book, "fragments", notes)
    assert make() == 1
    with monkeypatch.context() as patch:  # nothing has changed: nothing is generated either
        patch.setattr(book, "fragments", None)
        assert make() == 1
    # what nobody makes any more goes
    assert [path.name for path in (folder / "_generated").glob("*.md")] == ["notes.md"]
    (folder / "intro.md").write_text("# other")
    assert make() == 2
    write_results(results("image_h1", notes=["news"]))
    assert make() == 3
    (folder / "_build" / "html" / "status.html").unlink()
    assert (make(), make()) == (4, 4)
    refuses("--preset smoke", "smoke")
    wrong = executed(folder / "notebooks" / "image_h2.ipynb")
    refuses("image_h2.ipynb shows 0 figures, not 1")
    wrong.unlink()
    refuses("image_h2.ipynb is missing")
    assert len(builds) == 4


def test_a_change_of_code_results_or_preset_is_a_change_of_the_book(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "CHECKOUT", tmp_path)
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    names = ("kpnb/a.py", "data_prep/a.yaml", "results/study/a.json", "notebooks/a.ipynb",
             "book/a.md", "book/_build/html/a.html")  # fmt: skip

    def found(preset="study"):
        return book.whole_hash(tmp_path / "book", tmp_path / "notebooks", preset)

    hashes = {found("demo"), found()}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
        hashes.add(found())
    (tmp_path / "book" / "_build" / "stamp").write_text("a")  # of the build itself
    hashes.add(found())
    assert len(hashes) == 2 + len(names)


def test_what_is_generated_has_every_run_in_its_own_place(made):
    for name, own in (("forest", 2), ("verdicts_h1", 3)):  # the study's, its sweep's and the demo's
        assert made[name].count("| [+1.00, +3.00] |") == own
        assert ("FC1, demo" in made[name]) == (own == 3) and "FC2" in made[name]
    assert "2.00" in made["table_v"] and "The numbers: PointNet\n" in made["table_vii"]
    # a sweep's run is in its table and on the claims page, the sweeps' notebook in no verdict
    assert "not run here" in made["table_ii"] and "v_vgg11_fc2" in made["claims"]
    assert "`table_v`" in made["sweeps"] and "`image_cell`" in made["status"]
    assert made["clone"] == f"```\ngit clone {ADDRESS}\ncd b\nmake book\n```"
    colab = "https://colab.research.google.com/github/a/b/blob/main/notebooks/image_h1.ipynb"
    assert made["colab_address"] == f"```\n{colab}\n```" and f"@ git+{ADDRESS}'" in made["colab"]
