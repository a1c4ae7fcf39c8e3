"""The book's checks find what is wrong: dead pages and links, foreign fetches, missing figures,
bare TeX, and what keeps pages from who reads by ear, by keyboard or with weak eyes."""

import re
from pathlib import Path

import pytest
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


PAGE = '<html lang="en"><h1 id="top">t</h1>{}</html>'
WRONG = {
    '<script src="https://cdn.example/x.js"></script>': "asks another server",
    '<link rel="stylesheet" href="//fonts.example/x.css">': "asks another server",
    '<img alt="a bird" src="http://example.org/x.png">': "asks another server",
    "<style>@import 'https://fonts.example/x.css';</style>": "asks another server",
    '<p style="background: url(https://example.org/x.png)">': "asks another server",
    '<img alt="a bird" src="gone.png">': "shows gone.png, which is not there",
    '<a href="gone.html">x</a>': "links to gone.html, which is not there",
    '<a href="#gone">x</a>': "links to #gone, which is not there",
    '<a href="other.html#top">x</a><a href="other.html#gone">x</a>': "links to other.html#gone,",
    '<img src="x%20y.png">': "no alternative text for the picture x%20y.png",
    '<img alt=" " src="x%20y.png">': "no alternative text",
    '<img alt="_images/x y.png" src="x y.png">': "no alternative text",
    "<h3>t</h3>": "has a heading <h3> below <h1>",
    '<a tabindex="2">x</a>': "has a <a> out of the order of its text",
    r'<span class="math notranslate">\(x\)</span>': "has a formula, perhaps of a title",
}


@pytest.fixture
def pages(tmp_path):
    """A page to be filled, and a good one beside it."""
    (tmp_path / "x y.png").write_bytes(b"")
    (tmp_path / "other.html").write_text(PAGE.format("<p>x</p>"))
    return tmp_path / "page.html"


@pytest.mark.parametrize("sign", ["#", "?"])
def test_a_link_may_carry_state_to_the_page_that_takes_it(pages, sign):
    pages.write_text(PAGE.format(f'<a href="other.html{sign}b=0.2&amp;role=student">x</a>'))
    assert "which is not there" in str(check.page_problems(pages.parent, ["page"]))
    pages.with_name("other.html").write_text(PAGE.format('<p id="explorer">x</p>'))
    assert check.page_problems(pages.parent, ["page"]) == []


@pytest.mark.parametrize("html", WRONG)
def test_a_page_that_is_wrong_is_named_with_what_is_wrong(pages, html):
    pages.write_text(PAGE.format(html))
    (found,) = check.page_problems(pages.parent, ["page", "other"])
    assert found.startswith("page.html ") and WRONG[html] in found


def test_pages_that_are_right_and_pages_that_are_missing(pages):
    pages.write_text(
        PAGE.format(
            '<a href="https://example.org">x</a><link rel="next" href="gone.html">'
            '<img alt="a bird" src="x%20y.png"><img alt="none" src="data:image/png;base64,AA==">'
            "<style>/* url(https://example.org) */</style><h2>t</h2><h3>t</h3><h2>t</h2>"
            '<a href="#top">x</a><a href="other.html#top">x</a><a href="x%20y.png">x</a>'
            '<p tabindex="-1"><p tabindex="0"><script>window.MathJax = {}</script>'
            r'<span class="math notranslate">\(x\)</span>'
        )
    )
    (pages.parent / "_static").mkdir()
    assert check.page_problems(pages.parent, ["page"]) == []
    assert check.page_problems(pages.parent, ["gone"]) == ["the page gone is missing"]
    (pages.parent / "_static" / "a.css").write_text("p { background: url('https://e.org/x.png') }")
    (found,) = check.page_problems(pages.parent, [])
    assert found == "_static/a.css asks another server for https://e.org/x.png"
    pages.write_text("<html><p>x</p></html>")
    assert "page.html does not say its language" in check.page_problems(pages.parent, [])


def contrast(*colours):
    """Of two colours, #rrggbb, as WCAG 2 has it: from 1 to 21."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def test_words_in_colours_of_our_own_can_be_read():
    """On their own ground, or on the page's, light or dark."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast(*["#777777"] * 2) == 1
    for sheet in (Path(check.__file__).parents[1] / "_static").glob("*.css"):
        for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet.read_text("utf-8")):
            colours = dict(re.findall(r"(?<![-\w])(color|background)[-\w]*: *(#[0-9a-f]{6})", rule))
            page = "#121212" if "dark" in selector else "#ffffff"
            if "color" in colours:
                assert contrast(colours["color"], colours.get("background", page)) >= 4.5, selector
