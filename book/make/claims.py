"""The paper's testable claims, each with what the paper prints, what was found here, and where.

What a claim says stands in claims.yaml; every number is a query on the frame of `book.make.frame`.
Only the committed study counts, measured on training samples as in the paper.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, product
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from book.make import frame
from book.make.frame import PAPER_CELL, estimate, fits, joined, paper_rows, records, span
from book.make.pages import BOOK, NOTEBOOKS, page_source
from book.make.texts import block, sheet
from kpnb.errors import KpnbError
from kpnb.metrics.formatting import SYMBOLS, count, signed
from kpnb.metrics.results import MetricName, Role, Score
from kpnb.metrics.stats import interval_verdict, share_interval
from kpnb.paper import PREDICTIONS, ROLES, SCORES, TABLES

NOT_RUN = "not run"
VERDICTS = ("reproduced", "contradicted", "inconclusive", NOT_RUN)
#: How a side reads in a claim.
SIDE_WORDS = {"up": "higher", "down": "lower"}
#: Of an item of evidence, beside columns of the frame: what sets it apart, its numbers with their
#: intervals, whether its point estimate is strictly on the claim's side, what its samples are.
ITEM = ["what", "shown", "verdict", "on_side", "n_samples", "n_seeds", "noun"]
ITEM += ["notebook", "run", "file", "state"]
FILES_SHOWN = 3  # in a row at most; more are in the list of its items

# What a claim is

_PAIRS = {"where", "metric", "first", "second"}
#: By kind of facts: the fields that it needs, and those that it may have.
FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "rate": ({"table"}, _PAIRS),
    "values": ({"table"}, _PAIRS),
    "change": ({"table"}, {"where", "metric"}),
    "quote": ({"text"}, set()),
    "comparisons": ({"table"}, {"where", "runs", "of", "also"}),
    "means": ({"table", "first", "second"}, {"where", "runs", "first_layer", "second_layer"}),
    "numbers": ({"notebook", "names"}, {"bound"}),
    "none": ({"reason"}, {"notebook"}),
}


class Facts(BaseModel, frozen=True, extra="forbid"):
    """Facts of the frame; claims.yaml describes each kind of them and its fields."""

    kind: Literal[tuple(FIELDS)]  # type: ignore[valid-type]
    table: Literal[TABLES] | None = None  # type: ignore[valid-type]
    where: str = ""
    metric: MetricName | None = None
    first: Role = "S"
    second: Role = "B"
    text: str = ""
    runs: tuple[str, ...] = ()
    of: Literal["headline", "other_b"] = "headline"
    also: tuple[str, ...] = ()
    first_layer: str = ""
    second_layer: str = ""
    notebook: str = ""
    names: tuple[str, ...] = ()
    bound: float = 0.0
    reason: str = ""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        needs, may = FIELDS[self.kind]
        given = {name for name in self.model_fields_set if getattr(self, name) not in ("", ())}
        wrong = [f"needs {name}" for name in sorted(needs - given)]
        wrong += [f"takes no {name}" for name in sorted(given - needs - may - {"kind"})]
        if wrong:
            raise ValueError(f"a {self.kind} {wrong[0]}")
        return self


class Claim(BaseModel, frozen=True, extra="forbid"):
    """One testable statement of the paper: a sentence, under the heading `section`; where it makes
    it; metric and side that are expected of the first of the pair, or of the number; what it prints
    (paper) and what speaks to it here (evidence)."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
    section: str
    claim: str
    where: str
    metric: MetricName | Score | None = None
    side: Literal["up", "down"] | None = None
    paper: Annotated[tuple[Facts, ...], Field(min_length=1)]
    evidence: Facts

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        kinds = {item.kind for item in self.paper}
        if kinds & set(EVIDENCE) or self.evidence.kind not in EVIDENCE:
            raise ValueError(f"the evidence is of {', '.join(EVIDENCE)}; the paper's of the others")
        if self.evidence.kind != "none" and self.side is None:
            raise ValueError("evidence needs a side, up or down")
        printed = [item for item in self.paper if item.table and not item.metric]
        if not self.metric and (printed or self.evidence.kind in ("comparisons", "means")):
            raise ValueError("what is of tables needs a metric or a score")
        return self


@cache
def shipped_claims() -> tuple[Claim, ...]:
    """The claims of claims.yaml."""
    return load_claims(Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8"))


def load_claims(text: str) -> tuple[Claim, ...]:
    """The claims of a text of the form of claims.yaml.

    An entry with a list of `metrics` stands for one claim each, whose side is the hypothesis's
    unless it names one; {metric} and {side} are written out in its sentence.
    Raises: KpnbError for a text that does not fit the schema, or two claims of one id.
    """
    claims = []
    for section, entries in yaml.safe_load(text).items():
        for entry in entries:
            shared = {"section": section} | entry
            for metric in shared.pop("metrics", None) or [""]:
                own = {"id": f"{entry['id']}_{metric}", "metric": metric} if metric else {}
                claims.append(_claim(shared | own))
    ids = [claim.id for claim in claims]
    twice = {name for name in ids if ids.count(name) > 1}
    if twice:
        raise KpnbError(f"two claims have the id {min(twice)!r}: rename one in claims.yaml")
    return tuple(claims)


def _claim(values: dict) -> Claim:
    metric = values.get("metric")
    side = values.get("side") or PREDICTIONS.get(metric)
    sentence = values["claim"].replace("{metric}", SYMBOLS.get(metric, ""))
    sentence = sentence.replace("{side}", SIDE_WORDS.get(side, ""))
    try:
        return Claim(**values | {"side": side, "claim": sentence})
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the claim'}: {first['msg']}"
        raise KpnbError(f"claim {values.get('id')!r} cannot be read ({reason}): see it") from error


# What the paper prints for it


def published_text(claim: Claim, rows: pd.DataFrame) -> str:
    """The paper's numbers for a claim, such as "51 of 57".

    Raises: KpnbError where a query matches nothing that the paper has, or quotes data sets,
    networks, layers or kinds of samples that are not in its table; that of the evidence too.
    """
    for asked in (*claim.paper, claim.evidence):
        quoted = set(re.findall(r"'(.*?)'", asked.where))
        printed = paper_rows(rows, asked.table)[PAPER_CELL] if quoted else pd.DataFrame()
        unknown = quoted - {*frame.TABLE_OF, *printed.to_numpy().ravel()}
        if unknown:
            raise _nothing(claim, f"{min(unknown)!r} in Table {asked.table}")
    return "; ".join(_text(claim, item, rows) for item in claim.paper)


def _text(claim: Claim, item: Facts, rows: pd.DataFrame) -> str:
    if item.kind == "quote":
        return item.text
    pairs = _pairs(claim, item, rows)
    first, second = pairs["value"], pairs["value_second"]
    if item.kind == "values":
        return " and ".join(pairs["printed"] + " against " + pairs["printed_second"])
    if item.kind == "change":
        more = (first / second).mean() - 1
        return f"{SYMBOLS[item.metric or claim.metric]} {more:+.1%}"
    agree = (first > second if claim.side == "up" else first < second).sum()
    ties = (first == second).sum()
    return f"{agree} of {len(pairs)}" + (f" ({count(ties, 'tie')})" if ties else "")


def _pairs(claim: Claim, item: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    """The printed numbers of first and second, the i-th row of one with the i-th of the other."""
    metric = item.metric or claim.metric
    found = paper_rows(rows, item.table)
    found = found[found["metric"] == metric]
    first = _queried(claim, item, found[found["role"] == item.first])
    second = found[found["role"] == item.second]
    pairs = first.merge(second, on=[*PAPER_CELL, "pair"], suffixes=("", "_second"))
    if pairs.empty or len(pairs) < len(first):
        raise _nothing(claim, f"{metric} of {item.first} and {item.second} in Table {item.table}")
    return pairs


def _queried(claim: Claim, asked: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    try:
        return rows.query(asked.where) if asked.where else rows
    except (ValueError, SyntaxError, TypeError, pd.errors.UndefinedVariableError) as error:
        raise KpnbError(f"claim {claim.id!r}: {asked.where!r} is no query: {error}") from error


def _nothing(claim: Claim, what: str) -> KpnbError:
    return KpnbError(f"claim {claim.id!r} asks for what the paper has not, {what}: correct it")


# What results say to it


@dataclass(frozen=True)
class Judged:
    """A claim with its evidence, a row an item with the columns of `ITEM`."""

    claim: Claim
    items: pd.DataFrame

    @property
    def label(self) -> str:
        return f"claim-{self.claim.id.replace('_', '-')}"

    @property
    def verdict(self) -> str:
        return overall(list(self.items["verdict"]), self.tally["on side"])

    @property
    def tally(self) -> dict[str, int]:
        """How many items have each verdict, and how many lie "on side"."""
        counts = {v: int((self.items["verdict"] == v).sum()) for v in VERDICTS[:3]}
        return counts | {"on side": int(self.items["on_side"].sum())}


def overall(verdicts: Sequence[str], on_side: int) -> str:
    """One verdict over the items' own, `on_side` of which have their point estimate on the side.

    Decided are items whose interval excludes the other side. Reproduced: more are decided for the
    claim than against it, these are at least half of all, and more than half of the point
    estimates lie on its side (one of two is no reproduction); contradicted: the mirror of that;
    not run: there are none; else inconclusive. A single item keeps its verdict.
    """
    total, found = len(verdicts), VERDICTS[:2]
    for verdict, other, points in zip(found, found[::-1], (on_side, total - on_side), strict=True):
        ours = verdicts.count(verdict)
        if ours > verdicts.count(other) and 2 * ours >= total and 2 * points > total:
            return verdict
    return "inconclusive" if verdicts else NOT_RUN


def judge_all(rows: pd.DataFrame) -> list[Judged]:
    """Every shipped claim with its evidence."""
    return [judge_claim(claim, rows) for claim in shipped_claims()]


def judge_claim(claim: Claim, rows: pd.DataFrame) -> Judged:
    """A claim's evidence in the results of the study and of its sweeps."""
    study = rows[(rows["preset"] == "study") & (rows["part"] != "single")]
    return Judged(claim, pd.DataFrame(EVIDENCE[claim.evidence.kind](claim, study), columns=ITEM))


def _item(side: str, row: Mapping, what: str, gap: Sequence | None = None, **own: object) -> dict:
    """An item of evidence; gap: lower end, estimate and upper end of what is to lie on a side of
    zero, the row's own if none are given."""
    low, value, high = gap or (row["low"], row["value"], row["high"])
    made = {
        "what": what,
        "shown": estimate(row, signed),
        "verdict": interval_verdict(low, high, side),
        "on_side": value > 0 if side == "up" else value < 0,
        "noun": row["sample"],
    }
    return {name: row.get(name) for name in ITEM} | made | own


def _wanted(claim: Claim, kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    asked = claim.evidence
    rows = rows[(rows["kind"] == kind) & (rows["metric"] == claim.metric) & rows[asked.of]]
    return _queried(claim, asked, frame.standing_for(rows, asked.table, asked.runs))


def _comparisons(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Also the same difference where a main notebook holds it as a number, "setting | metric"."""
    asked, items = claim.evidence, []
    found = _wanted(claim, "comparison", rows).drop_duplicates(frame.identity(asked.table))
    for row in records(found):
        b = f", b = {row['threshold']}" if asked.of == "other_b" else ""
        items.append(_item(claim.side, row, _words(row, "network", "layer") + b))
    patterns = [name.replace("{metric}", claim.metric) for name in asked.also]
    found = frame.main_rows(rows, "number")
    for row in records(found[fits(found["name"], patterns)]):
        what = f"{_words(row, 'student')}, {row['name'].split(' | ')[0]}"
        seeds = len(row["settings"]["seeds"])
        items.append(_item(claim.side, row, what, n_seeds=seeds, noun="map"))
    return items


def _words(row: Mapping, *columns: str) -> str:
    """Some columns, and the teacher where it is another network than the student."""
    teacher = f"teacher {row['teacher']}" if row["teacher"] != "same" else ""
    return ", ".join(word for word in (*(row[name] for name in columns), teacher) if word)


def _means(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Pairs of roles within a network and layer; of any layers where these are compared, or where
    one of the two, a score of a teacher or baseline, belongs to none."""
    asked, found, items = claim.evidence, _wanted(claim, "measure", rows), {}
    sought = ((asked.first, asked.first_layer), (asked.second, asked.second_layer))
    ends = [
        records(found[(found["role"] == role) & ((found["layer"] == layer) | (layer == ""))])
        for role, layer in sought
    ]
    for pair in product(*ends):
        layers = {one["layer"] for one in pair}
        networks = {tuple(one[name] for name in ("nth", *frame.CELL[:3])) for one in pair}
        if len(networks) == 1 and (len(layers) == 1 or "" in layers or asked.first_layer):
            key = str([one[name] for one in pair for name in frame.identity(asked.table)])
            items.setdefault(key, _pair(claim.side, *pair))
    return list(items.values())


def _pair(side: str, first: Mapping, second: Mapping) -> dict:
    """Decided where the two intervals do not overlap: a weaker test than a paired difference."""
    one, other = ({**each, **measure_interval(each)} for each in (first, second))
    several = len({one["layer"], other["layer"]} - {""}) > 1
    named = [ROLES[e["role"]] + (f" at {e['layer']}" if several else "") for e in (one, other)]
    cell = _words(first if first["layer"] else second, "network", "layer")
    gap = one["low"] - other["high"], one["value"] - other["value"], one["high"] - other["low"]
    shown = f"{estimate(one)} against {estimate(other)}"
    n = min(one["n_samples"], other["n_samples"])
    return _item(side, first, f"{cell}: {', '.join(named)}", gap, shown=shown, n_samples=n)


def measure_interval(row: Mapping) -> dict[str, float]:
    """A measure's own interval, low and high. A score carries its range over seeds only: that range
    together with Wilson's interval of the mean over samples, as if each were right or wrong."""
    low, high = row["low"], row["high"]
    if row["metric"] in SCORES:
        ends = share_interval(row["value"], row["n_samples"])
        low, high = np.fmin(ends[0], low), np.fmax(ends[1], high)
    return {"low": low, "high": high}


def _numbers(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Runs of a sweep share networks: the same number of the same name is one item. Each is held
    against the bound; one without an interval is exact, and is its own interval."""
    asked, items = claim.evidence, []
    found = rows[(rows["kind"] == "number") & (rows["measured_on"] == "train")]
    found = found[fits(found["notebook"], [asked.notebook]) & fits(found["name"], asked.names)]
    for row in records(found.drop_duplicates(["student", "name", "value", "low", "high"])):
        network, value = _words(row, "student"), row["value"]
        low, high = (value if pd.isna(row[end]) else row[end] for end in ("low", "high"))
        what = (f"{network}, " if network else "") + f"`{row['name']}`: {row['what']}"
        shown = f"{estimate(row)} {row['unit']}".strip()
        gap = [one - asked.bound for one in (low, value, high)]
        items.append(_item(claim.side, row, what, gap, shown=shown, noun="value"))
    return items


#: How the evidence of each kind is found.
EVIDENCE = {"comparisons": _comparisons, "means": _means, "numbers": _numbers}
EVIDENCE["none"] = lambda claim, rows: []


def verdict_counts(judged: Sequence[Judged]) -> str:
    """How many claims have which verdict, as a sentence."""
    return block("verdict_counts", verdicts=[one.verdict for one in judged], names=VERDICTS)


# The page


@dataclass(frozen=True)
class ClaimPage:
    """The page of claims. Every number of ours comes from a results file that its row names.

    address: of the repository; pages: of the table of contents, which notebooks are linked by.
    """

    rows: pd.DataFrame
    address: str
    pages: Collection[str]

    def fragments(self) -> dict[str, str]:
        """What the page includes, by name: how many claims have which verdict with a table of
        claims for each part of the paper, and the cells behind them, folded."""
        judged = judge_all(self.rows)
        used = pd.concat([one.items for one in judged]).drop_duplicates("file")
        parts = groupby(judged, lambda one: one.claim.section)
        sections = [(name, sheet("claims", map(self._row, some))) for name, some in parts]
        cells = [
            (one, sheet("claim_cells", records(one.items), link=self._results))
            for one in judged
            if len(one.items) > 1
        ]
        said = {"counts": verdict_counts(judged), "sections": sections, "files": len(used)}
        claims = block("claims", stale=(used["state"] != "fresh").sum(), **said)
        return {"claims": claims, "claim_cells": block("claim_cells", cells=cells)}

    def _row(self, one: Judged) -> dict:
        """Of many notebooks or files not their links, but that to the list that names them."""
        items, links = records(one.items), []
        notebooks = [item["notebook"] for item in items] or _planned(one.claim.evidence)
        for each in (map(self._notebook, notebooks), map(self._results, items)):
            found = list(dict.fromkeys(each))
            links += found if len(found) <= FILES_SHOWN else []
        if len(items) > 1:
            links.append(f"{{ref}}`all {len(items)} <{one.label}>`")
        said = {"paper": published_text(one.claim, self.rows), "over": span(one.items)}
        return {"one": one, "items": items, "links": joined(links) or frame.NONE} | said

    def _results(self, item: Mapping) -> str:
        """A link to a results file, which says so where the code here no longer fits it."""
        return block("results_link", address=self.address, **item)

    def _notebook(self, name: str) -> str:
        """A notebook's page; where it has none, the notebook that is executed for it."""
        if NOTEBOOKS + name in self.pages:
            return f"{{doc}}`{name} <{NOTEBOOKS}{name}>`"
        return f"[{name}]({self.address}/blob/main/{NOTEBOOKS}{page_source(BOOK, name)[0]}.ipynb)"


def _planned(asked: Facts) -> list[str]:
    """The notebook that shows something of a claim without results, or would measure it."""
    of_cells = asked.table not in (None, *frame.MAIN_TABLES[1:])
    name = frame.CELL_NOTEBOOK if of_cells else asked.notebook
    return [name] if name and "*" not in name else []
