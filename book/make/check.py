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
FORMULA, MATHJAX = 'class="math ', "<script>window.MathJax"
HEADING = re.compile("h[1-6]")
STATEFUL = "explorer"  #: The id on a page that takes state.
WIDGET = "application/vnd.jupyter.widget-view+json"


class Page(HTMLParser):
    """What the checks ask of a page, read once.

    fetches: addresses that a browser fetches to show it; links: those to click; ids: what a link
    may lead to in it; wrong: what keeps it from those who read by ear or by keyboard.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetches: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.wrong: list[str] = []
        self._in_style, self._level = False, 0
        self.feed(html)
        if FORMULA in html and MATHJAX not in html:
            # Sphinx loads it only where a page's own text has a formula, not where the title of
            # another, in the list of contents, has one.
            self.wrong.append("has a formula, perhaps of a title, but no MathJax")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.ids.add(values.get("id", ""))
        self.links += [values["href"]] if tag == "a" and "href" in values else []
        self.fetches += IN_STYLE.findall(values.get("style", ""))
        target = values.get(FETCHED.get(tag, ""))
        if target and not (tag == "link" and set(values.get("rel", "").split()) <= NOT_FETCHED):
            self.fetches.append(target)
        self.wrong += self._unreadable(tag, values)

    def _unreadable(self, tag: str, values: dict[str, str]) -> Iterator[str]:
        if tag == "html" and not values.get("lang"):
            yield "does not say its language"
        if values.get("tabindex", "0").lstrip("0").isdigit():
            yield f"has a <{tag}> out of the order of its text (tabindex)"
        text, source = values.get("alt", ""), values.get("src", "")
        if tag == "img" and (not text.strip() or text.endswith(Path(source).name)):
            yield f"has no alternative text for the picture {source[:60]}"
        if HEADING.fullmatch(tag):
            if int(tag[1]) > self._level + 1:
                yield f"has a heading <{tag}> below <h{self._level}>"
            self._level = int(tag[1])

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.fetches += IN_STYLE.findall(COMMENT.sub("", data))


def page_problems(html: Path, wanted: list[str]) -> list[str]:
    """What is wrong with a built book: pages of its contents that are missing; what a page or style
    sheet asks of other servers or in vain; links that lead nowhere; pictures without alternative
    text, skipped headings, formulas that stay TeX."""
    missing = [page for page in wanted if not (html / f"{page}.html").exists()]
    found = [f"the page {page} is missing" for page in missing]
    paths = sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    for path, page in pages.items():
        broken = [_broken_fetch(path.parent, address) for address in page.fetches]
        broken += [_broken_link(path, link, pages) for link in page.links]
        name = path.relative_to(html.resolve())
        found += [f"{name} {one}" for one in dict.fromkeys([*page.wrong, *broken]) if one]
    for sheet in sorted(html.rglob("*.css")):
        text = COMMENT.sub("", sheet.read_text(encoding="utf-8"))
        name = sheet.relative_to(html)
        found += [f"{name} asks another server for {where}" for where in IN_STYLE.findall(text)]
    return found


def _broken_fetch(folder: Path, address: str) -> str:
    if EXTERNAL.match(address):
        return f"asks another server for {address}"
    parts = urlsplit(address)
    if parts.scheme or not parts.path or (folder / unquote(parts.path)).exists():
        return ""
    return f"shows {address}, which is not there"


def _broken_link(path: Path, link: str, pages: dict[Path, Page]) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    asked = parts.fragment or parts.query
    known = not asked or target not in pages
    # State, which the explorer's script takes from its address, is no place in a page.
    place = STATEFUL if "=" in asked else unquote(asked)
    if target.exists() and (known or place in pages[target].ids):
        return ""
    return f"links to {link}, which is not there"


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
