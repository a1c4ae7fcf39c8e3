"""What is archived: the book as one page without other files, and the results as one zip."""

import base64
import hashlib
import mimetypes
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zipfile import ZipFile, ZipInfo

from book.make.texts import block
from kpnb.fingerprint import packed_file
from kpnb.metrics.protocol import FILE
from kpnb.metrics.results import results_root

#: Beside results and protocol: how they were made, whose they are, how they are cited.
ABOUT = ("README.md", "LICENSE", "CITATION.cff", "requirements.lock")
#: Folders of results that are made to be looked at, and are not committed.
PASSING = ("demo", "smoke")
#: MathJax whose letters are in its script; those of the book's pages are files.
MATHJAX = "_static/mathjax/tex-svg.js"
_HREF, _ID = re.compile(r' href="([^"]+)"'), re.compile(r' id="([^"]+)"')
#: Addresses that a script makes, with a $, are none.
_PICTURE = re.compile(r'(<img\b[^>]*? src=")(?!data:)([^"$]+)')
_IN_STYLE = re.compile(r"""url\((?!["']?data:)["']?([^"')]+)["']?\)""")
_FOLDED = re.compile(r"</?details[^>]*>|<summary>.*?</summary>", re.DOTALL)
_TO_ITSELF = re.compile(r'<a class="headerlink".*?</a>', re.DOTALL)
_SHEET = re.compile(r'<link (?=[^>]*rel="stylesheet")[^>]*href="([^"?]+)')


def single_page(book: Path, pages: Sequence[str]) -> str:
    """The built pages one after the other, with styles, pictures and MathJax inside.

    The list of contents stands before them, and links between pages lead to places within the one.
    pages: their names, the one with contents and head first.
    Raises: OSError for a page, or a file of one, that is not there.
    """
    html = book / "_build" / "html"
    texts = {page: (html / f"{page}.html").read_text(encoding="utf-8") for page in pages}
    first = texts[pages[0]]
    parts = {page: _article(text) for page, text in texts.items()}
    linked = {_target(page, to) for page, text in parts.items() for to in _HREF.findall(text)}
    contents = _FOLDED.sub("", _cut(first, '<nav class="bd-links', "</nav>"))
    code = (html / MATHJAX).read_text(encoding="utf-8").replace("</script", "<\\/script")
    return block(
        "single_page",
        title=_cut(first, "<title>", "</title>"),
        sheets=[_style(html / sheet) for sheet in _SHEET.findall(first)],
        scripts=[_cut(first, "<script>window.MathJax", "</script>"), f"<script>{code}</script>"],
        contents=_moved(html, pages[0], contents, linked),
        parts={page: _moved(html, page, part, linked) for page, part in parts.items()},
    )


def _article(page: str) -> str:
    return _TO_ITSELF.sub("", _cut(page, '<article class="bd-article"', "</article>"))


def _cut(text: str, start: str, end: str) -> str:
    at = text.index(start)
    return text[at : text.index(end, at) + len(end)]


def _target(page: str, link: str) -> tuple[str, str]:
    """Page and place that a link of a page leads to; "" for a page of another server."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return "", link
    path = posixpath.join(posixpath.dirname(page), unquote(parts.path))
    name = posixpath.normpath(path).removesuffix(".html") if parts.path else page
    return name, unquote(parts.fragment or parts.query)


def _moved(html: Path, page: str, text: str, linked: set[tuple[str, str]]) -> str:
    """A part of a page as it stands among others: places that are linked get its name, as two
    pages may use the same."""

    def place(name: str, at: str) -> str:
        if "=" in at:  # the explorer's state, no place
            return at
        return f"{name}--{at}" if at else name

    def anchor(found: re.Match) -> str:
        return f' id="{place(page, found[1])}"' if (page, found[1]) in linked else found[0]

    def link(found: re.Match) -> str:
        name, at = _target(page, found[1])
        return f' href="#{place(name, at)}"' if name else found[0]

    def picture(found: re.Match) -> str:
        return found[1] + _inside(html.joinpath(page).parent / unquote(found[2]))

    return _PICTURE.sub(picture, _HREF.sub(link, _ID.sub(anchor, text)))


def _inside(path: Path) -> str:
    """A file as an address that holds it."""
    kind = mimetypes.guess_type(path.name)[0]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _style(sheet: Path) -> str:
    """A style sheet with the files, such as fonts, that it asks for."""
    text = sheet.read_text(encoding="utf-8")
    return _IN_STYLE.sub(lambda found: f"url({_inside(sheet.parent / found[1])})", text)


def archived(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in the zip: committed results, protocol, and what is `ABOUT`
    them, in the order of their names; then the checksums, as `sha256sum --check` reads them."""
    paths = {name: checkout / name for name in ABOUT} | {FILE: packed_file(FILE)}
    for path in results_root().rglob("*"):
        inside = path.relative_to(results_root())
        if path.is_file() and inside.parts[0] not in PASSING:
            paths[f"results/{inside.as_posix()}"] = path
    sums = ""
    for name, path in sorted(paths.items()):
        content = path.read_bytes()
        sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        yield name, content
    yield "SHA256SUMS", sums.encode()


def write_results_zip(checkout: Path, target: Path) -> None:
    """The same bytes of the same files wherever it is made: without times, owners, compression."""
    with ZipFile(target, "w") as packed:
        for name, content in archived(checkout):
            about = ZipInfo(name)
            about.create_system, about.external_attr = 3, 0o644 << 16
            packed.writestr(about, content)
