"""Numbers and tables as markdown, and how the book writes metrics, roles and verdicts."""

from collections.abc import Iterable, Sequence

from kpnb.paper import METRIC_RULES

#: Every metric as it is typeset, in the order of the paper's columns.
SYMBOLS = {name: metric.symbol for name, metric in METRIC_RULES.items()}
#: The same without TeX, for README.md, which is read as plain text too.
PLAIN = {name: metric.plain for name, metric in METRIC_RULES.items()}
SIDES = {"up": "student higher", "down": "student lower"}
#: A published student's side: as predicted, equal at the printed digits, the other side.
MARKS = {"agree": "✓", "tie": "=", "disagree": "✗"}
VERDICT_MARKS = {"reproduced": "✓", "inconclusive": "○", "contradicted": "✗"}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A pipe table; bars in cells are escaped. Raises ValueError for a row of another width."""
    lines = [list(header), ["---"] * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}")
        lines.append([str(cell).strip().replace("|", r"\|") for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """A number at three significant digits, whole from 100 on: 23.1, 0.61, 0.0082, 142807."""
    if abs(value) >= 100 or value == 0:
        text = f"{value:.0f}"
    elif abs(value) >= 1:
        text = f"{value:.3g}" if abs(value) >= 99.95 else f"{value:#.3g}"
    elif abs(value) >= 0.1:
        text = f"{value:.2f}"
    else:
        text = f"{value:.2g}"
    return text.rstrip(".").replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign: +4.10, −0.61."""
    return ("+" if value > 0 else "") + number(value)


def interval(low: float | None, high: float | None, write=number) -> str:
    """The interval after a number, as in 2.1 [1.8, 2.4]; nothing where there is none."""
    return "" if low is None or high is None else f" [{write(low)}, {write(high)}]"


def count(n: int, noun: str) -> str:
    """As in: 1 seed, 3 seeds."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
