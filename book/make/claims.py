"""The paper's testable claims, each with what the paper prints, what was found here, and where.

What a claim says stands in claims.yaml; every number is a query on the frame of `book.make.frame`.
Only the committed study counts, measured on training samples as in the paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from book.make import frame
from book.make.frame import estimate, fits, paper_rows, records
from kpnb.errors import KpnbError
from kpnb.metrics.formatting import SYMBOLS, count, signed
from kpnb.metrics.results import MetricName, Role, Score
from kpnb.metrics.stats import interval_verdict, share_interval
from kpnb.paper import PREDICTIONS, ROLES, SCORES, TABLES

PRESET = "study"
NOT_RUN = "not run"
VERDICTS = ("reproduced", "contradicted", "inconclusive", NOT_RUN)
#: How a side reads in a claim.
SIDE_WORDS = {"up": "higher", "down": "lower"}
#: Of an item of evidence, beside columns of the frame: what sets it apart, its numbers with their
#: intervals, whether its point estimate is strictly on the claim's side, what its samples are.
ITEM = ["what", "shown", "verdict", "on_side", "n_samples", "n_seeds", "noun"]
ITEM += ["notebook", "run", "file", "state"]

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
Names = tuple[str, ...]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Facts(_Data):
    """Facts of the frame; claims.yaml describes each kind of them and its fields."""

    kind: Literal[tuple(FIELDS)]  # type: ignore[valid-type]
    table: Literal[TABLES] | None = None  # type: ignore[valid-type]
    where: str = ""
    metric: MetricName | None = None
    first: Role = "S"
    second: Role = "B"
    text: str = ""
    runs: Names = ()
    of: Literal["headline", "other_b"] = "headline"
    also: Names = ()
    first_layer: str = ""
    second_layer: str = ""
    notebook: str = ""
    names: Names = ()
    bound: float = 0.0
    reason: str = ""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Facts:
        needs, may = FIELDS[self.kind]
        given = {name for name in self.model_fields_set if getattr(self, name) not in ("", ())}
        wrong = [f"needs {name}" for name in sorted(needs - given)]
        wrong += [f"takes no {name}" for name in sorted(given - needs - may - {"kind"})]
        if wrong:
            raise ValueError(f"a {self.kind} {wrong[0]}")
        return self


class Claim(_Data):
    """One testable statement of the paper.

    Attributes: id; section: heading it is listed under; claim: one sentence; where: section,
        table, figure or equation; metric, side: what is expected of the first of the pair, or of
        the number; paper: what the paper prints; evidence: what here speaks to it.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
    section: str
    claim: str
    where: str
    metric: MetricName | Score | None = None
    side: Literal["up", "down"] | None = None
    paper: Annotated[tuple[Facts, ...], Field(min_length=1)]
    evidence: Facts

    @model_validator(mode="after")
    def _can_be_judged(self) -> Claim:
        kinds = {item.kind for item in self.paper}
        if kinds & set(EVIDENCE) or self.evidence.kind not in EVIDENCE:
            raise ValueError(f"the evidence is of {', '.join(EVIDENCE)}; the paper's of the others")
        if self.evidence.kind != "none" and self.side is None:
            raise ValueError("evidence needs a side, up or down")
        if self.evidence.kind in ("comparisons", "means") and not self.metric:
            raise ValueError("evidence from tables needs a metric or a score")
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
    entries = ((section, each) for section, some in yaml.safe_load(text).items() for each in some)
    claims = tuple(_claim(one) for section, entry in entries for one in _expanded(section, entry))
    ids = [claim.id for claim in claims]
    twice = {name for name in ids if ids.count(name) > 1}
    if twice:
        raise KpnbError(f"two claims have the id {min(twice)!r}: rename one in claims.yaml")
    return claims


def _expanded(section: str, entry: dict) -> Iterator[dict]:
    """An entry with metrics, once for each."""
    shared = {"section": section} | entry
    metrics = shared.pop("metrics", None)
    if metrics is None:
        yield shared
    for metric in metrics or ():
        yield shared | {"id": f"{entry['id']}_{metric}", "metric": metric}


def _claim(values: dict) -> Claim:
    metric = values.get("metric")
    side = values.get("side") or PREDICTIONS.get(metric)
    words = {"{metric}": SYMBOLS.get(metric, ""), "{side}": SIDE_WORDS.get(side, "")}
    sentence = re.sub(r"\{metric\}|\{side\}", lambda found: words[found[0]], values["claim"])
    try:
        return Claim(**values | {"side": side, "claim": sentence})
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'the claim'}: {first['msg']}"
        raise KpnbError(f"claim {values.get('id')!r} cannot be read ({reason}): see it") from error


# What the paper prints for it


def published_text(claim: Claim, rows: pd.DataFrame) -> str:
    """The paper's numbers for a claim, such as "51 of 57".

    Raises: KpnbError where a query matches nothing that the paper has.
    """
    return "; ".join(_text(claim, item, rows) for item in claim.paper)


def check_queries(claim: Claim, rows: pd.DataFrame) -> None:
    """Raise KpnbError where what a claim asks of the paper or of results is not in the paper: its
    queries quote data sets, networks and layers of the table, or kinds of samples."""
    published_text(claim, rows)
    for asked in (*claim.paper, claim.evidence):
        printed = paper_rows(rows, asked.table)
        known = {*frame.TABLE_OF, *printed[frame.PAPER_CELL].to_numpy().ravel()}
        unknown = set(re.findall(r"'(.*?)'", asked.where)) - known
        if unknown:
            raise _nothing(claim, f"{min(unknown)!r} in Table {asked.table}")


def strictly(side: str, first: float, second: float) -> bool:
    """Whether first lies strictly on a side of second: the paper's cells are read like this."""
    return first > second if side == "up" else first < second


def _text(claim: Claim, item: Facts, rows: pd.DataFrame) -> str:
    if item.kind == "quote":
        return item.text
    pairs = _pairs(claim, item, rows)
    first, second = pairs["value"], pairs["value_second"]
    if item.kind == "values":
        return " and ".join(pairs["printed"] + " against " + pairs["printed_second"])
    if item.kind == "change":
        change = 100 * ((first / second).mean() - 1)
        return f"{SYMBOLS[item.metric or claim.metric]} {change:+.1f}%"
    agree, ties = strictly(claim.side, first, second).sum(), (first == second).sum()
    return f"{agree} of {len(pairs)}" + (f" ({count(ties, 'tie')})" if ties else "")


def _pairs(claim: Claim, item: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    """The printed numbers of first and second, the i-th row of one with the i-th of the other."""
    metric = item.metric or claim.metric
    if metric is None:
        raise KpnbError(f"claim {claim.id!r} names no metric for Table {item.table}: name one")
    found = paper_rows(rows, item.table)
    found = found[found["metric"] == metric]
    first = _queried(claim, item, found[found["role"] == item.first])
    second = found[found["role"] == item.second]
    pairs = first.merge(second, on=[*frame.PAPER_CELL, "pair"], suffixes=("", "_second"))
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
    study = rows[(rows["preset"] == PRESET) & (rows["part"] != "single")]
    return Judged(claim, pd.DataFrame(EVIDENCE[claim.evidence.kind](claim, study), columns=ITEM))


def _wanted(claim: Claim, kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    asked = claim.evidence
    rows = rows[(rows["kind"] == kind) & (rows["metric"] == claim.metric) & rows[asked.of]]
    return _queried(claim, asked, frame.standing_for(rows, asked.table, asked.runs))


def _comparisons(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    found, items = _wanted(claim, "comparison", rows), []
    for row in records(found.drop_duplicates(frame.identity(claim.evidence.table))):
        b = f", b = {row['threshold']}" if claim.evidence.of == "other_b" else ""
        items.append(_item(row, claim.side, _words(row, "network", "layer") + b))
    return items + _repeated(claim, rows)


def _repeated(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """The same difference where a main notebook holds it as a number, named "setting | metric"."""
    patterns = [name.replace("{metric}", claim.metric) for name in claim.evidence.also]
    found = frame.main_rows(rows, "number")
    return [
        _item(row, claim.side, f"{_words(row, 'student')}, {row['name'].split(' | ')[0]}")
        | {"n_seeds": len(row["settings"]["seeds"]), "noun": "map"}
        for row in records(found[fits(found["name"], patterns)])
    ]


def _item(row: Mapping, side: str, what: str) -> dict:
    """A difference as an item of evidence."""
    made = {
        "what": what,
        "shown": estimate(row, signed),
        "verdict": interval_verdict(row["low"], row["high"], side),
        "on_side": strictly(side, row["value"], 0.0),
        "noun": row["sample"],
    }
    return {name: row.get(name) for name in ITEM} | made


def _words(row: Mapping, *columns: str) -> str:
    """Some columns, and the teacher where it is another network than the student."""
    teacher = f"teacher {row['teacher']}" if row["teacher"] != "same" else ""
    return ", ".join(word for word in (*(row[name] for name in columns), teacher) if word)


def _means(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Pairs of roles within a network and layer; of any layers where these are compared, or where
    one of the two, a score of a teacher or baseline, belongs to none."""
    asked, found = claim.evidence, _wanted(claim, "measure", rows)
    first, second = found[found["role"] == asked.first], found[found["role"] == asked.second]
    first = first[first["layer"] == asked.first_layer] if asked.first_layer else first
    second = second[second["layer"] == asked.second_layer] if asked.second_layer else second
    first, second = (part.rename_axis("at").reset_index() for part in (first, second))
    same = ["nth", "dataset", "network", "scale"]
    pairs = first.merge(second[[*same, "layer", "at"]], on=same, suffixes=("", "_second"))
    layers = pairs[["layer", "layer_second"]]
    loose = layers.eq("").any(axis=1) | bool(asked.first_layer)
    pairs = pairs[loose | (layers["layer"] == layers["layer_second"])]
    items: dict = {}
    for pair in zip(pairs["at"], pairs["at_second"], strict=True):
        one, other = (found.loc[at].to_dict() for at in pair)
        key = str([each[name] for each in (one, other) for name in frame.identity(asked.table)])
        items.setdefault(key, _pair(claim.side, one, other))
    return list(items.values())


def _pair(side: str, first: Mapping, second: Mapping) -> dict:
    ends = [measure_interval(one) for one in (first, second)]
    several = len({first["layer"], second["layer"]} - {""}) > 1
    shown, named = [], []
    for one, (low, high) in zip((first, second), ends, strict=True):
        shown.append(estimate({**one, "low": low, "high": high}))
        named.append(ROLES[one["role"]] + (f" at {one['layer']}" if several else ""))
    cell = _words(first if first["layer"] else second, "network", "layer")
    return _item(first, side, f"{cell}: {', '.join(named)}") | {
        "shown": " against ".join(shown),
        "verdict": means_verdict(side, *ends),
        "on_side": strictly(side, first["value"], second["value"]),
        "n_samples": min(first["n_samples"], second["n_samples"]),
    }


def measure_interval(row: Mapping) -> tuple[float, float]:
    """A measure's own interval. A score carries its range over seeds only: that range together
    with Wilson's interval of the mean over samples, as if each were right or wrong."""
    if row["metric"] not in SCORES:
        return row["low"], row["high"]
    low, high = share_interval(row["value"], row["n_samples"])
    return (low, high) if pd.isna(row["low"]) else (min(low, row["low"]), max(high, row["high"]))


def means_verdict(side: str, first: Sequence[float], second: Sequence[float]) -> str:
    """Decided where the two intervals do not overlap; a weaker test than a paired difference."""
    return interval_verdict(first[0] - second[1], first[1] - second[0], side)


def _numbers(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Runs of a sweep share networks: the same number of the same name is one item. Each is held
    against the bound; one without an interval is exact, and is its own interval."""
    asked, items = claim.evidence, []
    found = rows[(rows["kind"] == "number") & (rows["measured_on"] == "train")]
    found = found[fits(found["notebook"], [asked.notebook]) & fits(found["name"], asked.names)]
    for row in records(found.drop_duplicates(["student", "name", "value", "low", "high"])):
        network, value = _words(row, "student"), row["value"]
        ends = [(value if pd.isna(row[end]) else row[end]) - asked.bound for end in ("low", "high")]
        what = (f"{network}, " if network else "") + f"`{row['name']}`: {row['what']}"
        own = {"shown": f"{estimate(row)} {row['unit']}".strip(), "noun": "value"}
        own |= {"on_side": strictly(claim.side, value, asked.bound)}
        own |= {"verdict": interval_verdict(*ends, claim.side)}
        items.append(_item(row, claim.side, what) | own)
    return items


#: How the evidence of each kind is found.
EVIDENCE = {
    "comparisons": _comparisons,
    "means": _means,
    "numbers": _numbers,
    "none": lambda claim, rows: [],
}


def verdict_counts(judged: Sequence[Judged]) -> str:
    """How many claims have which verdict, as a sentence."""
    verdicts = [one.verdict for one in judged]
    told = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    return f"**{count(len(judged), 'claim')}**: {told}."
