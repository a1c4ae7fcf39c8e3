"""What must hold of a built book, whatever the build's exit code said.

A build can succeed while a page or a figure is missing, while a control is dead, or while a page
asks another server for a script; each check here returns sentences, none where all is well.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat

#: Tags that make a browser fetch something, and the attribute that says what.
FETCHED = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")
FETCHED |= {"link": "href", "object": "data"}
#: Kinds of <link> that only name another page.
NOT_FETCHED = {"canonical", "next", "prev", "search", "index", "author", "copyright", "license"}
EXTERNAL = re.compile(r"(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
FORMULA = 'class="math '
WIDGET = "application/vnd.jupyter.widget-view+json"


class _Fetches(HTMLParser):
    """Collects what a page makes the browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._in_style = tag == "style"
        self.found += IN_STYLE.findall(values.get("style") or "")
        target = values.get(FETCHED.get(tag, ""))
        if target and not (tag == "link" and set((values.get("rel") or "").split()) <= NOT_FETCHED):
            self.found.append(target)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += IN_STYLE.findall(COMMENT.sub("", data))


def fetches(html: str) -> list[str]:
    """Addresses that a browser fetches to show a page, links to click left aside."""
    parser = _Fetches()
    parser.feed(html)
    return parser.found


def missing_pages(html: Path, pages: list[str]) -> list[str]:
    """Pages of the table of contents that were not built."""
    return [f"the page {page} is missing" for page in pages if not (html / f"{page}.html").exists()]


def broken_fetches(html: Path) -> Iterator[str]:
    """Requests to other servers, and local files that a page or style sheet asks for in vain."""
    for page in _pages(html):
        found = (_problem(page.parent, one) for one in fetches(page.read_text(encoding="utf-8")))
        yield from (f"{page.relative_to(html)} {problem}" for problem in found if problem)
    for sheet in sorted(html.rglob("*.css")):
        for address in IN_STYLE.findall(COMMENT.sub("", sheet.read_text(encoding="utf-8"))):
            yield f"{sheet.relative_to(html)} asks another server for {address}"


def bare_formulas(html: Path) -> Iterator[str]:
    """Pages that show TeX as it is written: Sphinx loads MathJax only where a page's own text has
    a formula, not where the title of another, in the list of contents, has one."""
    for page in _pages(html):
        text = page.read_text(encoding="utf-8")
        if FORMULA in text and not any("mathjax" in address for address in fetches(text)):
            yield f"{page.relative_to(html)} has a formula, perhaps of a title, but no MathJax"


def _pages(html: Path) -> list[Path]:
    return sorted(page for page in html.rglob("*.html") if "_static" not in page.parts)


def _problem(folder: Path, address: str) -> str:
    if EXTERNAL.match(address):
        return f"asks another server for {address}"
    parts = urlsplit(address)
    if parts.scheme or not parts.path or (folder / unquote(parts.path)).exists():
        return ""
    return f"shows {address}, which is not there"


def notebook_problems(executed: Path, figures: int) -> list[str]:
    """What is wrong with an executed notebook: missing, errors, stderr, widgets (the pages have
    no scripts that draw them), or fewer PNG pictures than `figures`."""
    name = executed.name
    if not executed.exists():
        return [f"the executed notebook {name} is missing"]
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    kinds = [set(output.get("data", {})) | {output.get("name")} for output in outputs]
    shown = sum("image/png" in kind for kind in kinds)
    problems = {f"the error {o.ename}": True for o in outputs if o.output_type == "error"} | {
        "text written to stderr": any("stderr" in kind for kind in kinds),
        "a widget, which is dead without a kernel": any(WIDGET in kind for kind in kinds),
        f"{shown} figures, not {figures}": shown < figures,
    }
    return [f"{name} shows {problem}" for problem, there in problems.items() if there]


def expected_figures(source: Path) -> int:
    """The number of figures a source notebook's metadata promises ("kpnb": {"figures": N})."""
    return nbformat.read(source, as_version=4).metadata.get("kpnb", {}).get("figures", 1)
