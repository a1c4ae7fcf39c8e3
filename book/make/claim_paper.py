"""What the paper prints for a claim, computed from the published tables."""

from __future__ import annotations

from itertools import starmap

import pandas as pd

from book.make.claim_schema import Change, Claim, Quote, Rate, Values
from kpnb.errors import KpnbError
from kpnb.metrics.formatting import SYMBOLS, count
from kpnb.paper import published_table

_CELL = ["network", "layer", "dataset", "grid_size", "threshold_b"]


def published_text(claim: Claim) -> str:
    """The paper's numbers for a claim, such as "51 of 57".

    Raises: KpnbError where a selector matches nothing that the paper has.
    """
    return "; ".join(_text(claim, item) for item in claim.paper)


def check_selectors(claim: Claim) -> None:
    """Raise KpnbError where what a claim asks of the paper or of results is not in the paper."""
    published_text(claim)
    if claim.evidence.kind not in ("comparisons", "means"):
        return
    rows = published_table(claim.evidence.table)
    for column in ("network", "layer"):
        unknown = set(getattr(claim.evidence, f"{column}s")) - set(rows[column])
        if unknown:
            raise _nothing(claim, f"{column} {min(unknown)!r} in Table {claim.evidence.table}")


def strictly(side: str, first: float, second: float) -> bool:
    """Whether first lies strictly on a side of second: the paper's cells are read like this."""
    return first > second if side == "up" else first < second


def _text(claim: Claim, item: Rate | Values | Change | Quote) -> str:
    if isinstance(item, Quote):
        return item.text
    pairs = _pairs(claim, item)
    if isinstance(item, Rate):
        return _rate(claim.side, pairs)
    if isinstance(item, Values):
        return " and ".join(f"{a} against {b}" for a, b in pairs)
    ratio = sum(float(a) / float(b) for a, b in pairs) / len(pairs)
    return f"{SYMBOLS[item.metric or claim.metric]} {100 * (ratio - 1):+.1f}%"


def _rate(side: str, pairs: list[tuple[str, str]]) -> str:
    """Pairs on the side at the printed digits; a tie is none."""
    numbers = [(float(a), float(b)) for a, b in pairs]
    agree = sum(starmap(lambda a, b: strictly(side, a, b), numbers))
    ties = sum(starmap(lambda a, b: a == b, numbers))
    return f"{agree} of {len(pairs)}" + (f" ({count(ties, 'tie')})" if ties else "")


def _pairs(claim: Claim, item: Rate | Values | Change) -> list[tuple[str, str]]:
    """The printed numbers of first and second, the i-th row of one with the i-th of the other."""
    metric = item.metric or claim.metric
    if metric is None:
        raise KpnbError(f"claim {claim.id!r} names no metric for Table {item.table}: name one")
    rows = _selected(item)
    roles = item.first, item.second
    first, second = (rows[rows["role"] == role].reset_index(drop=True) for role in roles)
    if item.larger:
        own = "distilled from " + first["network"]
        kept = first["learning"].str.startswith("distilled") & (first["learning"] != own)
        first, second = first[kept], second[kept]
    if first.empty or not first[_CELL].equals(second[_CELL]) or "" in set(first[metric]):
        raise _nothing(claim, f"{metric} of {' and '.join(roles)} in Table {item.table}")
    return list(zip(first[metric], second[metric], strict=True))


def _selected(item: Rate | Values | Change) -> pd.DataFrame:
    rows = published_table(item.table, as_printed=True)
    rows["role"] = rows["learning"].map(_role)
    for column in _CELL:
        wanted = getattr(item, f"{column}s")
        rows = rows[rows[column].isin(wanted)] if wanted else rows
    return rows


def _role(learning: str) -> str:
    if learning.startswith("distilled"):
        return "S"
    return "B" if learning == "scratch" else learning


def _nothing(claim: Claim, what: str) -> KpnbError:
    return KpnbError(f"claim {claim.id!r} asks for what the paper has not, {what}: correct it")
