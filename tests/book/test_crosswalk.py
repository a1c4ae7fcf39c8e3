"""The crosswalk lists what the paper has, and leads to what is there."""

import importlib
import re
from functools import reduce
from itertools import takewhile
from pathlib import Path

import pytest

import kpnb
from book.make.pages import BOOK, NOTEBOOKS, toc_pages
from kpnb.paper import TABLES

PAGE = (BOOK / "crosswalk.md").read_text(encoding="utf-8")
#: What the paper has: by the heading of ours, the first cells of its rows.
PAPER = {
    "Sections": [*"123", "3.1", "3.2", "3.3", "3.4", "4", "4.1", "4.2", "4.3", "4.4", "4.5", "5"],
    "Equations": [*"123456789"],
    "Tables": ["I", *TABLES],
    "Figures": ["1(a)", "1(b)", *"234567"],
}
#: How a notebook says that it makes one.
NAMED = {"Tables": "Table", "Figures": "Figure"}


def rows(heading):
    """First cell -> the line of each row below a heading."""
    lines = PAGE.split(f"## {heading}\n")[1].splitlines()
    lines = [
        one for one in takewhile(lambda one: not one.startswith("## "), lines) if one[:2] == "| "
    ]
    return {line.split(" | ")[0][2:]: line for line in lines[1:]}


def found(path):
    """What a dotted name stands for: of the package, or of a module of it."""
    parts = path.split(".")[1:]
    if parts[0] in kpnb._MODULE_OF:
        return reduce(getattr, parts, kpnb)
    for deep in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(["kpnb", *parts[:deep]]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[deep:], module)
    raise AssertionError(f"{path} is not there")


@pytest.mark.parametrize("heading", PAPER)
def test_every_part_of_the_paper_is_listed_once_and_leads_to_what_makes_it(heading):
    assert list(rows(heading)) == PAPER[heading]
    for name, line in rows(heading).items():
        pages = set(re.findall(r"\{doc\}`(?:\w+ <)?([^`>]+)>?`", line))
        assert pages and pages <= set(toc_pages(BOOK)), name
        notebooks = [page for page in pages if page.startswith(NOTEBOOKS)]
        for page in notebooks if heading in NAMED else ():
            source = (BOOK.parent / f"{page}.ipynb").read_text(encoding="utf-8")
            assert re.search(rf"{NAMED[heading]}[^.?\n]*\b{re.escape(name)}(?!\w)", source), (
                name,
                page,
            )
        if heading == "Equations":
            (label,) = re.findall(r"\{eq\}`([^`]+)`", line)
            labels = re.findall(
                r"^\$\$ \((.*)\)$", Path(BOOK / "algorithm.md").read_text("utf-8"), re.M
            )
            assert labels[int(name) - 1] == label


def test_every_name_of_the_code_is_there():
    names = set(re.findall(r"`(kpnb\.[\w.]*\w)`", PAGE))
    assert len(names) > 20 and all(found(name) is not None for name in names)
    for name in ("kpnb.gone", "kpnb.paper.gone", "kpnb.gone.gone"):
        with pytest.raises((AssertionError, AttributeError)):
            found(name)
