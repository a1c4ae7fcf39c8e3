"""The words of generated tables and paragraphs: texts.yaml, filled in by jinja2.

`sheets` there are tables, each column's heading with the template of its cells; `blocks` are text.
Templates see the values of their row, the row itself as `row`, and the functions of `KNOWN`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined, Template

from book.make.frame import NONE, NOT_HERE, NOTHING, estimate, joined, over, place, span
from kpnb.metrics.formatting import SYMBOLS, count, number, signed, table
from kpnb.paper import ROLES

#: The units of D in words.
UNITS = {"epoch": "summed per epoch", "step": "summed per step", "share": "share of the own way"}
UNITS |= {"time": "epochs"}
KNOWN = {
    **{"NONE": NONE, "NOT_HERE": NOT_HERE, "SYMBOLS": SYMBOLS, "ROLES": ROLES},
    **{"count": count, "estimate": estimate, "number": number, "over": over, "place": place},
    **{"joined": joined, "signed": signed, "span": span, "UNITS": UNITS},
}


@cache
def _texts() -> dict[str, dict]:
    return yaml.safe_load(Path(__file__).with_name("texts.yaml").read_text(encoding="utf-8"))


@cache
def _template(text: str) -> Template:
    made = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals |= KNOWN
    return made.from_string(text)


def block(name: str, **values: object) -> str:
    """A paragraph. Raises: jinja2.UndefinedError where a value is missing."""
    return _template(_texts()["blocks"][name]).render(values).strip()


def sheet(name: str, rows: Iterable[Mapping], **shared: object) -> str:
    """A table with a line for each row, or that nothing has run; shared: what every cell may use.

    Raises as `block` does.
    """
    columns = _texts()["sheets"][name]
    cells = [_template(str(cell)) for cell in columns.values()]
    lines = [[cell.render({**shared, **row, "row": row}) for cell in cells] for row in rows]
    return table(list(columns), lines) if lines else NOTHING
