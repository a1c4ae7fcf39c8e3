"""What is archived is whole: a page that asks for nothing, a zip of the same bytes each time."""

import base64
import hashlib
import zipfile

import pytest

from book.make import __main__ as book
from book.make import archive, check

HEAD = (
    "<title>Book</title>"
    '<link rel="preload" href="gone.js"><link href="_static/a.css?v=1" rel="stylesheet" />'
    '<script>window.MathJax = {}</script><script src="_static/mathjax/tex-chtml.js"></script>'
)
PAGES = {
    "intro": '<h1 id="same">intro<a class="headerlink" href="#same">#</a></h1>'
    '<a href="sub/other.html">1</a><a href="sub/other.html#same">2</a><a href="#own">3</a>'
    r'<span id="own" class="math notranslate">\(x\)</span><a href="https://e.org/a.html">4</a>'
    '<p id="explorer">x</p>',
    "sub/other": '<h1 id="same">other</h1><img alt="a bird" src="../_images/a%20b.png">'
    '<img alt="b" src="data:,b"><a href="../intro.html#same">5</a><a href="../intro.html?b=1">6</a>'
    '<p id="free">free</p>',
}


@pytest.fixture
def built(tmp_path):
    """The folder of a book of two pages."""
    html = tmp_path / "_build" / "html"
    files = {"_static/a.css": "@font-face { src: url(../a.woff2) } p { margin: 0 }"}
    files |= {"a.woff2": "letters", "_images/a b.png": "picture"}
    files |= {"_static/mathjax/tex-svg.js": "let x = '</script>';"}
    nav = '<nav class="bd-links">{}<details><summary>v</summary></details></nav>'
    links = '<a href="#">intro</a><a href="sub/other.html">other</a>'
    for page, text in PAGES.items():
        body = f'<body>{nav.format(links)}<article class="bd-article">{text}</article></body>'
        files[f"{page}.html"] = f"<html><head>{HEAD}</head>{body}</html>"
    for name, text in files.items():
        path = html / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_one_page_has_all_pages_and_all_that_they_ask_for(built, tmp_path):
    text = archive.single_page(built, list(PAGES))
    made = check.Page(text)
    held = [base64.b64decode(one.split(",")[1]) for one in made.fetches if "base64" in one]
    assert held == [b"picture"] and all(one.startswith("data:") for one in made.fetches)
    letters = base64.b64encode(b"letters").decode()
    assert f"src: url(data:font/woff2;base64,{letters})" in text and "p { margin: 0 }" in text
    assert r"let x = '<\/script>';" in text
    assert "<details>" not in text and "headerlink" not in text and "preload" not in text
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "book.html").write_text(text, encoding="utf-8")
    assert check.page_problems(tmp_path / "all", ["book"]) == []


def test_links_between_pages_lead_to_places_of_the_one(built):
    made = check.Page(archive.single_page(built, list(PAGES)))
    assert made.links == [
        *("#intro", "#sub/other"),
        *("#sub/other", "#sub/other--same", "#intro--own", "https://e.org/a.html"),
        *("#intro--same", "#b=1"),
    ]
    assert {"intro", "sub/other", "intro--same", "sub/other--same", "free"} <= made.ids


def test_the_zip_has_the_committed_results_and_their_checksums_and_the_same_bytes(
    tmp_path, monkeypatch
):
    results = tmp_path / "results"
    for part in ("study/cells", "history", "demo"):
        (results / part).mkdir(parents=True)
        (results / part / "a.json").write_text(part)
    monkeypatch.setenv("KPNB_RESULTS", str(results))
    packed = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for path in packed:
        archive.write_results_zip(book.CHECKOUT, path)
    assert packed[0].read_bytes() == packed[1].read_bytes()
    with zipfile.ZipFile(packed[0]) as opened:
        held = {name: opened.read(name) for name in opened.namelist()}
    names = {"results/study/cells/a.json", "results/history/a.json", "protocol.yaml", "SHA256SUMS"}
    assert set(held) == names | set(archive.ABOUT)
    sums = held.pop("SHA256SUMS").decode().splitlines()
    assert sums == [f"{hashlib.sha256(held[name]).hexdigest()}  {name}" for name in sorted(held)]
