"""The book's checks find what is wrong: dead pages, foreign fetches, missing figures, bare TeX."""

from nbformat.v4 import new_output
from stub_notebooks import executed, figure

from book.make import check


def test_notebook_problems(tmp_path):
    path = tmp_path / "n.ipynb"
    assert check.notebook_problems(path, 1) == ["the executed notebook n.ipynb is missing"]
    executed(path, figure(), figure())
    assert check.notebook_problems(path, 2) == []
    assert "2 figures, not 3" in check.notebook_problems(path, 3)[0]
    error = new_output("error", ename="ValueError", evalue="x", traceback=[])
    widget = new_output("display_data", data={check.WIDGET: {"model_id": "a"}})
    executed(path, error, new_output("stream", name="stderr", text="careful"), widget, figure())
    assert check.notebook_problems(path, 1) == [
        "n.ipynb shows the error ValueError",
        "n.ipynb shows text written to stderr",
        "n.ipynb shows a widget, which is dead without a kernel",
    ]


FETCHES = (
    '<script src="https://cdn.example/x.js"></script>',
    '<link rel="stylesheet" href="//fonts.example/x.css">',
    '<img src="http://example.org/x.png">',
    "<style>@import 'https://fonts.example/x.css';</style>",
    '<p style="background: url(https://example.org/x.png)">',
)


def test_requests_to_other_servers_and_formulas_without_mathjax_are_found(tmp_path):
    page = tmp_path / "page.html"
    for fetch in FETCHES:
        page.write_text(f"<html>{fetch}</html>")
        assert "asks another server" in next(check.broken_fetches(tmp_path)), fetch
    (tmp_path / "x y.png").write_bytes(b"")
    page.write_text(
        '<a href="https://example.org">x</a><link rel="next" href="gone.html">'
        '<img src="x%20y.png"><img src="data:image/png;base64,AA==">'
        "<style>/* url(https://example.org) */</style>"
    )
    assert list(check.broken_fetches(tmp_path)) == []
    (tmp_path / "x y.png").unlink()
    assert "not there" in next(check.broken_fetches(tmp_path))
    page.unlink()
    (tmp_path / "a.css").write_text("p { background: url('https://example.org/x.png') }")
    assert "a.css asks" in next(check.broken_fetches(tmp_path))
    formula = r'<span class="math notranslate">\(x\)</span>'
    script = '<script src="_static/mathjax/a.js"></script>'
    for name, text in (("bare", formula), ("set", script + formula), ("none", "<p>x</p>")):
        (tmp_path / f"{name}.html").write_text(text)
    (found,) = check.bare_formulas(tmp_path)
    assert found.startswith("bare.html has a formula")
