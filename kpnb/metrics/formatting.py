"""Numbers and tables as markdown, and how the book writes metrics, roles and verdicts."""

from collections.abc import Iterable, Sequence

from kpnb.metrics.stats import VERDICTS
from kpnb.paper import METRIC_RULES

#: Every metric as it is typeset, in the order of the paper's columns.
SYMBOLS = {name: metric.symbol for name, metric in METRIC_RULES.items()}
#: The same without TeX.
PLAIN = {name: metric.plain for name, metric in METRIC_RULES.items()}
SIDES = {"up": "student higher", "down": "student lower"}
#: A published student's side: as predicted, equal at the printed digits, the other side.
MARKS = {"agree": "✓", "tie": "=", "disagree": "✗"}
VERDICT_MARKS = dict(zip(VERDICTS, "✓✗≈○·–", strict=True))


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
    size = abs(value)
    if size >= 99.95 or value == 0:
        kind = ".0f"
    else:
        kind = "#.3g" if size >= 1 else ".2f" if size >= 0.1 else ".2g"
    return f"{value:{kind}}".rstrip(".").replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign: +4.10, −0.61."""
    return ("+" if value > 0 else "") + number(value)


def interval(low: float | None, high: float | None, write=number) -> str:
    """The interval after a number, as in 2.1 [1.8, 2.4]; nothing where there is none."""
    return "" if low is None or high is None else f" [{write(low)}, {write(high)}]"


def count(n: int, noun: str) -> str:
    """As in: 1 seed, 3 seeds."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def verdict_sentence(verdicts: Sequence[str], noun: str) -> str:
    """The answer, which may be no, and the verdicts behind it.

    verdicts: of one hypothesis or statement, at least one; noun: what each is on, "layer".
    """
    told = ", ".join(f"{verdicts.count(name)} {name}" for name in VERDICTS if name in verdicts)
    answer = next(answer for needed, answer in _ANSWERS if needed <= set(verdicts))
    if answer.startswith("Yes") and {*verdicts} - {"supported", "not measurable"}:
        answer = "In part: it is supported, but not everywhere."
    return f"**{answer}** Of {count(len(verdicts), noun)}: {told}."


#: The first whose verdicts are all there.
_ANSWERS = (
    ({"supported", "opposed"}, "No clear answer: it is supported in part and opposed in part."),
    ({"supported"}, "Yes, it is supported here."),
    ({"opposed"}, "No: nothing supports it here, and the opposite is found."),
    ({"equivalent"}, "No: there is no difference of a size that would matter."),
    ({"undecided"}, "Undecided: the data here say neither yes nor no."),
    ({"one seed"}, "No verdict: several seeds would tell this from the luck of training."),
    (set(), "Not measurable: the networks here cannot answer."),
)
