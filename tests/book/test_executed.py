"""Which executed copies the pages show, and what each page says of its own."""

import base64
import json
from types import SimpleNamespace

import nbformat
import pytest
from made_results import comparison, run
from nbformat.v4 import new_markdown_cell, new_notebook

from book.make import executed, page_notes
from book.make import pages as book
from kpnb.metrics.results import write_results

ADDRESS = "https://github.com/a/b"


def notebook(path, preset=None, **parameters):
    noted = {"parameters": {"preset": preset, **parameters}, "seconds": 90} if preset else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell(preset or "source")]
    nbformat.write(new_notebook(cells=cells, metadata={"kpnb": noted}), path)
    return path


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_the_studys_copies_are_kept_with_its_results_and_sources_stand_for_missing_ones(tmp_path):
    book, sources = tmp_path / "book", tmp_path / "notebooks"
    book.mkdir()
    (book / "pages.yaml").write_text("image_h2: {notebook: image_h3, parameters: {}}")
    assert executed.executed_folder("demo", book) == book / "notebooks"
    for name in ("image_h1", "image_h3"):
        notebook(sources / f"{name}.ipynb")
    notebook(executed.executed_folder("study", book) / "image_h1.ipynb", "study")
    executed.show_study(book, sources, ["image_h1", "image_h2"])
    shown = [nbformat.read(book / "notebooks" / f"image_h{n}.ipynb", 4) for n in (1, 2)]
    assert [found.cells[0].source for found in shown] == ["study", "source"]
    ran = [executed.was_executed(book / "notebooks" / f"image_h{n}.ipynb") for n in (1, 2)]
    assert ran == [True, False]


def test_a_page_says_what_was_executed_and_where_its_numbers_and_code_lie(tmp_path):
    source = executed.page_note(notebook(tmp_path / "image_h1.ipynb"), ADDRESS, {})
    assert source.startswith("Not executed at preset <code>study</code>")
    demo = notebook(tmp_path / "image_h1.ipynb", "demo", seeds=[0, 1], data="<x>", layers=None)
    told = executed.page_note(demo, ADDRESS, {})
    assert "preset <code>demo</code>, data &lt;x&gt;, seeds 0, 1; 1.50 minutes. " in told
    assert "name no layer" not in told
    several = notebook(tmp_path / "image_h1.ipynb", "demo", layers=["Conv", "FC1"])
    assert "name no layer are of Conv." in executed.page_note(several, ADDRESS, {})
    many = notebook(tmp_path / "image_h1.ipynb", "demo", seeds=[*range(21)])
    assert "seeds 0, 1, … (21 in all); " in executed.page_note(many, ADDRESS, {})
    assert "smaller study" in told and "layers" not in told
    study = notebook(tmp_path / "image_h1.ipynb", "study", seeds=[5])
    assert "Numbers" not in executed.page_note(study, ADDRESS, {})  # it wrote none
    write_results(run(preset="study", provenance={"commit": "c" * 40, "cpu": "X5"}))
    told = executed.page_note(study, ADDRESS, {})
    assert "</a>, X5," in told and "minutes where" not in told
    assert f'<a href="{ADDRESS}/blob/main/book/results/study/image_h1.json">' in told
    assert "explorer" not in told
    write_results(run(preset="study", seconds=7200.0))
    long = executed.page_note(study, ADDRESS, {})
    assert "; 2.00 hours, 1.50 minutes where its networks" in long
    key = "study", "embedded images", "VGG-11", "narrow"
    found = [comparison("n_fg", 1.0, 2.0)]
    write_results(
        run(preset="study", provenance={"commit": "c" * 40, "cpu": "X5"}, comparisons=found)
    )
    linked = executed.page_note(study, ADDRESS, {key: "explorer.html?b=0.2"})
    assert linked.endswith('<a href="../explorer.html?b=0.2">Its samples in the explorer</a>.')
    assert f'<a href="{ADDRESS}/tree/{"c" * 40}">{"c" * 12}</a>,' in told and "unknown: " in told


def test_the_page_of_a_sweeps_run_leads_to_the_runs_own_results(tmp_path):
    write_results(run(notebook="image_cell", preset="study", run="v_x"))
    kept = notebook(tmp_path / "image_cell.ipynb", "study", run="v_x")
    told = executed.page_note(kept, ADDRESS, {})
    assert f'<a href="{ADDRESS}/blob/main/book/results/study/cells/v_x.json">' in told


def test_the_note_stands_below_the_title_of_its_page_alone(tmp_path):
    (tmp_path / "_generated").mkdir()
    app = SimpleNamespace(srcdir=tmp_path, connect=lambda event, call: calls.append(call))
    calls = []
    page_notes.setup(app)
    notebook(tmp_path / "notebooks" / "a.ipynb")
    executed.write_notes(tmp_path, ["a"], ADDRESS, {})
    assert json.loads((tmp_path / "_generated" / executed.FILE).read_text()).keys() == {
        "notebooks/a"
    }
    bodies = {page: {"body": "<h1>T</h1><h1>U</h1>"} for page in ("notebooks/a", "intro")}
    for page, context in bodies.items():
        calls[0](app, page, "", context, None)
    made = bodies["notebooks/a"]["body"]
    assert made.startswith('<h1>T</h1>\n<p class="run-note">Not') and made.endswith("<h1>U</h1>")
    assert bodies["intro"]["body"] == "<h1>T</h1><h1>U</h1>"


def test_every_picture_that_a_page_shows_is_there_under_a_call_of_its_notebook():
    """Of copies that are kept, which have not the newest words, and of every source."""
    for name, (notebook_name, call, _) in executed.PICTURES.items():
        source = (book.BOOK.parent / "notebooks" / f"{notebook_name}.ipynb").read_text("utf-8")
        assert call in "".join(sum((cell["source"] for cell in json.loads(source)["cells"]), []))
        assert f"_generated/{name}.md" in "".join(
            page.read_text("utf-8") for page in book.BOOK.glob("*.md"))  # fmt: skip
    shown = executed.kept_pictures(book.BOOK)
    made = executed.picture_fragments(book.BOOK)
    assert all((name in shown) == (f"{name}.png" in text) for name, text in made.items())
    assert all(picture.startswith(b"\x89PNG") and told for picture, told in shown.values())


def test_a_pages_picture_is_what_the_kept_copy_shows(tmp_path):
    copy = tmp_path / "own_model.ipynb"
    assert executed.picture(copy, "own.maps_figure()") is None
    bundle = {"image/png": base64.b64encode(b"picture").decode(), "text/plain": "<Figure>"}
    shown = nbformat.v4.new_output("display_data", bundle, metadata={"image/png": {"alt": "maps"}})
    cells = [nbformat.v4.new_code_cell(source, outputs=outputs)
             for source, outputs in (("own", [shown]), ("own.maps_figure()", [shown]))]  # fmt: skip
    nbformat.write(nbformat.v4.new_notebook(cells=cells), copy)
    assert executed.picture(copy, "own.maps_figure()") == (b"picture", "maps")
    assert executed.picture(copy, "own.table()") is None
