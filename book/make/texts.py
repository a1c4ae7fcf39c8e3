"""The words of generated tables and paragraphs: texts.yaml, filled in by jinja2.

`sheets` there are tables, each column's heading with the template of its cells; `blocks` are text.
Templates see the values of their row, the row itself as `row`, and the functions of `KNOWN`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from book.make.frame import NONE, NOT_HERE, NOTHING, estimate, joined, over, place, span
from kpnb.metrics import formatting
from kpnb.metrics.formatting import MARKS, SYMBOLS, VERDICT_MARKS, count, interval, number, signed
from kpnb.paper import ROLES

FOLDER = Path(__file__).parent
#: A cell of a table that is a number, with its interval or unit, or stands for one.
NUMBER = re.compile(r"[+−]?[\d.,]+(e[+−]?\d+)?( \[[^]]*\])?|\[[^]]*\]|\d+ of \d+|–|")
#: The units of D in words.
UNITS = {"epoch": "summed per epoch", "step": "summed per step", "share": "share of the own way"}
UNITS |= {"time": "epochs"}
#: Answers to a hypothesis, each with the verdict that it looks like.
LOOKS = {"holds": "supported", "opposed": "opposed", "equivalent": "equivalent"}
LOOKS |= {"open": "undecided"}
KNOWN = {
    **{"NONE": NONE, "NOT_HERE": NOT_HERE, "SYMBOLS": SYMBOLS, "ROLES": ROLES},
    **{"count": count, "estimate": estimate, "number": number, "over": over, "place": place},
    **{"joined": joined, "signed": signed, "span": span, "UNITS": UNITS, "interval": interval},
}


def badge(verdict: str, word: str = "") -> str:
    """A verdict as a coloured sign with its word, or another; what is not measurable leads to the
    reason."""
    if verdict not in VERDICT_MARKS:
        return verdict
    word = word or verdict
    word = "{doc}`not measurable <fitness>`" if verdict == "not measurable" else word
    kind = verdict.replace(" ", "-")
    return f'<span class="verdict {kind}">{VERDICT_MARKS[verdict]}\u00a0{word}</span>'


def answered(layers: Mapping[str, Iterable[str]], none: str = "") -> str:
    """Answers to a hypothesis, or verdicts that are none, each with the layers that give it; none:
    what stands where there is nothing."""
    order = sorted(layers, key=[*LOOKS, *layers].index)
    told = [f"{badge(LOOKS.get(said, said), said)} {'; '.join(layers[said])}" for said in order]
    return "<br>".join(told) or none


def sign(outcome: str) -> str:
    """The mark of a published student's side, or as much room."""
    told = {"agree": "predicted side", "tie": "equal", "disagree": "other side"}.get(outcome, "")
    return f'<span class="sign {outcome}" title="{told}">{MARKS.get(outcome, "")}</span>'


def table(header: Sequence[str], rows: Iterable[Sequence[object]], flush: int = 0) -> str:
    """A pipe table; columns of numbers are flush right, and the last `flush` whatever they hold."""
    lines = [[str(cell).strip() for cell in row] for row in rows]
    head, _, *body = formatting.table(header, lines).split("\n")
    columns = list(zip(*lines, strict=True)) or [()] * len(header)
    right = [len(columns) - place <= flush or (column and all(map(NUMBER.fullmatch, column)))
             for place, column in enumerate(columns)]  # fmt: skip
    return "\n".join([head, f"| {' | '.join('---:' if r else '---' for r in right)} |", *body])


@cache
def _texts() -> dict[str, dict]:
    return yaml.safe_load((FOLDER / "texts.yaml").read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    made = Environment(loader=FileSystemLoader(FOLDER), **options)
    made.globals |= KNOWN
    made.filters["symbol"] = SYMBOLS.get
    return made


@cache
def _template(text: str) -> Template:
    return _environment().from_string(text)


def drawing(name: str, **values: object) -> str:
    """An SVG by the template <name>.svg.jinja. Raises as `block` does."""
    return _environment().get_template(f"{name}.svg.jinja").render(values)


def set_low(text: str) -> str:
    """SVG text in which what follows "_" is set low: N_fg."""
    low = r'<tspan class="low" dy="3">\1</tspan><tspan dy="-3">&#8203;</tspan>'
    return re.sub(r"_(\w+)", low, text)


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


KNOWN |= {"badge": badge, "answered": answered, "set_low": set_low}
