"""Which pages the book has, and which notebook each page of a notebook is."""

from collections.abc import Iterator
from pathlib import Path

import yaml

BOOK = Path(__file__).resolve().parents[1]
NOTEBOOKS = "notebooks/"


def toc_pages(book: Path) -> list[str]:
    """Every page the table of contents names, in order, without ending."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (str(node[key]) for key in ("root", "file") if key in node)
            node = list(node.values())
        for inner in node if isinstance(node, list) else ():
            yield from walk(inner)

    contents = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    return [page.removesuffix(".md").removesuffix(".ipynb") for page in walk(contents)]


def notebook_names(book: Path) -> list[str]:
    """The notebooks among the pages, such as image_h1."""
    pages = toc_pages(book)
    return [page.removeprefix(NOTEBOOKS) for page in pages if page.startswith(NOTEBOOKS)]


def page_source(book: Path, page: str) -> tuple[str, dict[str, object]]:
    """The notebook that a page is, and the parameters that it is executed with (pages.yaml)."""
    pages = yaml.safe_load((book / "pages.yaml").read_text(encoding="utf-8"))
    found = pages.get(page, {"notebook": page, "parameters": {}})
    return found["notebook"], found["parameters"]
