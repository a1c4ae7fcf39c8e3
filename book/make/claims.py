"""The paper's testable claims, each with what the paper prints, what was found here, and where.

What a claim says stands in claims.yaml; every number is a query on the frame of `book.make.frame`.
Only the committed study counts, measured on training samples as in the paper.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, Field

from book.make import frame
from book.make.frame import (
    PAPER_CELL,
    estimate,
    fits,
    over_cells,
    paper_rows,
    records,
)
from kpnb.errors import KpnbError
from kpnb.metrics import stats
from kpnb.metrics.formatting import SYMBOLS, count, signed
from kpnb.metrics.protocol import margin
from kpnb.metrics.results import MetricName, Role, Score
from kpnb.paper import METRICS, PREDICTIONS, ROLES, TABLES

NOT_RUN, UNFIT, ONE_SEED = "not run", "not measurable", "one seed"
SPLIT = "cells disagree"  # some support the claim, some oppose it: more of the same decides nothing
VERDICTS = (*stats.VERDICTS, SPLIT, NOT_RUN)
#: How a side reads in a claim.
SIDE_WORDS = {"up": "higher", "down": "lower"}
#: Of an item of evidence, beside columns of the frame: what sets it apart, its numbers with their
#: intervals, whether its point estimate is strictly on the claim's side, what its samples are, and
#: why its layer is not measurable.
ITEM = ["what", "shown", "verdict", "on_side", "n_samples", "n_seeds", "noun", "reason"]
ITEM += ["value", "low", "high", "margin", "threshold", "notebook", "run", "file", "state"]
#: Verdicts that say something of a claim.
DECIDED = ("supported", "opposed", "equivalent")

# What a claim is

#: Of facts: what the paper has, then what there may be here.
KINDS = ("rate", "values", "change", "quote", "comparisons", "means", "numbers", "none")


class Facts(BaseModel, frozen=True, extra="forbid"):
    """Facts of the frame; claims.yaml describes each kind of them and its fields."""

    kind: Literal[KINDS]  # type: ignore[valid-type]
    table: Literal[TABLES] | None = None  # type: ignore[valid-type]
    where: str = ""
    metric: MetricName | None = None
    first: Role = "S"
    second: Role = "B"
    text: str = ""
    runs: tuple[str, ...] = ()
    of: Literal["headline", "other_b"] = "headline"
    first_layer: str = ""
    second_layer: str = ""
    notebook: str = ""
    names: tuple[str, ...] = ()
    bound: float = 0.0
    given: bool = False
    rule: Literal["shared", "all", "most"] = "shared"
    reason: str = ""


class Claim(BaseModel, frozen=True, extra="forbid"):
    """One testable statement of the paper: a sentence, under the heading `section`; where it makes
    it; metric and side that are expected of the first of the pair, or of the number; what it prints
    (paper) and what speaks to it here (evidence). Not counted are a claim that the evidence of
    another, `joined`, judges already, and one that could not fail here, for a reason (certain)."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
    section: str
    claim: str
    where: str
    metric: MetricName | Score | None = None
    side: Literal["up", "down"] | None = None
    paper: Annotated[tuple[Facts, ...], Field(min_length=1)]
    evidence: Facts
    joined: str = ""
    certain: str = ""


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
    return Claim(**values | {"side": side, "claim": sentence})


# What the paper prints for it


def published_text(claim: Claim, rows: pd.DataFrame) -> str:
    """The paper's numbers for a claim, such as "51 of 57"."""
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
    first = _queried(item, found[found["role"] == item.first])
    second = found[found["role"] == item.second]
    pairs = first.merge(second, on=[*PAPER_CELL, "pair"], suffixes=("", "_second"))
    if pairs.empty or len(pairs) < len(first):
        roles = f"{metric} of {item.first} and {item.second} in Table {item.table}"
        raise KpnbError(f"the paper has not what claim {claim.id!r} asks for, {roles}: correct it")
    return pairs


def _queried(asked: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.query(asked.where) if asked.where else rows


# What results say to it


@dataclass(frozen=True)
class Judged:
    """A claim with its evidence, a row an item with the columns of `ITEM`."""

    claim: Claim
    items: pd.DataFrame

    @property
    def label(self) -> str:
        return f"claim-{self.claim.id.replace('_', '-')}"

    def _by_rule(self, verdicts: list[str]) -> str:
        """The verdict of a claim on all, which one counterexample refutes, or on most."""
        rule = self.claim.evidence.rule
        if rule == "all" and "opposed" in verdicts:
            return "opposed"
        most = [
            said for said in ("supported", "opposed") if 2 * verdicts.count(said) > len(verdicts)
        ]
        return most[0] if rule == "most" and most else ""

    @property
    def rests_on(self) -> str:
        """The measurable items, one or two by name; of more how many have the verdict."""
        fit = self.items[self.items["verdict"] != UNFIT]
        names, said = list(dict.fromkeys(fit["what"])), (fit["verdict"] == self.verdict).sum()
        many = count(len(fit), "measurement")
        if self.verdict == SPLIT:
            told = (f"{(fit['verdict'] == one).sum()} {one}" for one in ("supported", "opposed"))
            many = f"{', '.join(told)} of {many}"
        elif len(self.by_b) > 1:
            many = f"the mean at each of {len(self.by_b)} thresholds, {many} in all"
        elif self.mean or said:
            many = f"the mean of {many}" if self.mean else f"{said} of {many}"
        return "; ".join(names) if len(names) < 3 else many

    @property
    def verdict(self) -> str:
        """One over the items: not run without any; of those on layers that are measurable, the
        side of their random-effects mean where it can be had, else the verdict that they share;
        where neither is, `SPLIT` or "undecided". Of several thresholds, the one that they share.
        Items of one seed say nothing beside others."""
        if len(self.by_b) > 1:
            return _over_thresholds({part.verdict for part in self.by_b.values()})
        fit = self.items[self.items["verdict"] != UNFIT]
        fit = fit if (fit["verdict"] == ONE_SEED).all() else fit[fit["verdict"] != ONE_SEED]
        if fit.empty:
            return UNFIT if len(self.items) else NOT_RUN
        if ruled := self._by_rule(list(fit["verdict"])):
            return ruled
        mean, shared = self.mean, set(fit["verdict"])
        if mean:
            wide, ends = fit["margin"].mean(), (mean.value, mean.low, mean.high)
            shared = {stats.judged(*ends, self.claim.side, wide, math.nan)}
        if len(shared) == 1 and shared != {"undecided"}:
            return shared.pop()
        return SPLIT if {"supported", "opposed"} <= {*fit["verdict"]} else "undecided"

    @property
    def by_b(self) -> dict[float, "Judged"]:
        """The other thresholds, if they are asked for: each has the same cells once more, so that
        over all of them at once no mean is taken."""
        asked = self.claim.evidence.of == "other_b"
        return {b: Judged(self.claim, some) for b, some in self.items.groupby("threshold")
                if asked}  # fmt: skip

    @property
    def mean(self) -> stats.Pooled | None:
        """Over cells that are measurable; numbers of several kinds have no mean."""
        fit = self.items[~self.items["verdict"].isin([UNFIT, ONE_SEED])]
        several = self.claim.evidence.kind == "numbers" or len(self.by_b) > 1
        return None if several else over_cells(fit)

    @property
    def means(self) -> list[tuple[stats.Pooled, str]]:
        """What means there are, with the threshold where there is more than one."""
        parts = {f" at $b = {b}$": part for b, part in self.by_b.items()}
        parts = parts if len(parts) > 1 else {"": self}
        return [(part.mean, place) for place, part in parts.items() if part.mean]

    @property
    def counted(self) -> bool:
        return not (self.claim.joined or self.claim.certain)

    @property
    def tally(self) -> dict[str, int]:
        """How many items have each verdict, and how many lie "on side"."""
        return {**self.items["verdict"].value_counts(), "on side": int(self.items["on_side"].sum())}


def _over_thresholds(verdicts: set[str]) -> str:
    """The verdict that all thresholds share."""
    if len(verdicts) == 1:
        return verdicts.pop()
    return SPLIT if SPLIT in verdicts or {"supported", "opposed"} <= verdicts else "undecided"


def judge_all(rows: pd.DataFrame) -> list[Judged]:
    """Every shipped claim with its evidence."""
    return [judge_claim(claim, rows) for claim in shipped_claims()]


def judge_claim(claim: Claim, rows: pd.DataFrame) -> Judged:
    """A claim's evidence in the results of the study and of its sweeps."""
    study = rows[(rows["preset"] == "study") & (rows["part"] != "single")]
    study = study[~study["run"].str.startswith(frame.TEN)]
    return Judged(claim, pd.DataFrame(EVIDENCE[claim.evidence.kind](claim, study), columns=ITEM))


def _item(side: str, row: Mapping, what: str, ends: Mapping | None = None, **own: object) -> dict:
    """An item of evidence. ends: value, low, high, margin and p, the row's own if none are given,
    of what is to lie on a side of 0."""
    found = {name: (ends or row).get(name) for name in ("value", "low", "high", "margin", "p")}
    layer = row["layer"] or next((la for la in row["unfit"] if row["name"].endswith(la)), "")
    reason = row["unfit"].get(layer, "")
    seeds = (ends or row).get("n_seeds")
    one = pd.isna(found["low"]) and (pd.isna(seeds) or seeds == 1)
    said = ONE_SEED if one else stats.judged(prediction=side, **found)
    made = {
        "what": what,
        "shown": estimate(row, signed),
        "verdict": UNFIT if reason else said,
        "on_side": found["value"] > 0 if side == "up" else found["value"] < 0,
        "noun": row["sample"],
        "reason": reason,
    }
    return {name: row.get(name) for name in ITEM} | found | made | own


def _wanted(claim: Claim, kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    asked = claim.evidence
    rows = rows[(rows["kind"] == kind) & (rows["metric"] == claim.metric) & rows[asked.of]]
    return _queried(asked, frame.standing_for(rows, asked.table, asked.runs))


def _comparisons(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    asked, items = claim.evidence, []
    found = _wanted(claim, "comparison", rows).drop_duplicates(frame.identity(asked.table))
    for row in records(found):
        b = f", b = {row['threshold']}" if asked.of == "other_b" else ""
        items.append(_item(claim.side, row, _words(row, "network", "layer") + b))
    return items


def _words(row: Mapping, *columns: str) -> str:
    """Some columns, the teacher where it is another network than the student, outputs if given."""
    teacher = f"teacher {row['teacher']}" if row["teacher"] != "same" else ""
    outputs = f"{row['outputs']} outputs" if pd.notna(row["outputs"]) else ""
    return ", ".join(word for word in (*(row[name] for name in columns), teacher, outputs) if word)


def _means(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Pairs of roles within a network and layer; of any layers where one of the two, a score of a
    teacher or baseline, belongs to none. Layers that are compared may be of two runs, of which the
    same networks are the first."""
    asked, found, items = claim.evidence, _wanted(claim, "measure", rows), {}
    sought = ((asked.first, asked.first_layer), (asked.second, asked.second_layer))
    ends = [
        records(found[(found["role"] == role) & ((found["layer"] == layer) | (layer == ""))])
        for role, layer in sought
    ]
    for pair in product(*ends):
        layers = {one["layer"] for one in pair}
        same = {tuple(one[name] for name in frame.CELL[:3]) for one in pair}
        near = _same_networks(pair) if asked.first_layer else pair[0]["nth"] == pair[1]["nth"]
        if len(same) == 1 and near and (len(layers) == 1 or "" in layers or asked.first_layer):
            key = str([one[name] for one in pair for name in frame.identity(asked.table)])
            items.setdefault(key, _pair(claim.side, *pair))
    return list(items.values())


def _same_networks(pair: Sequence[Mapping]) -> bool:
    """Whether two runs ask the same of the same networks, of which one may have more pairs."""
    settings = [one["settings"] for one in pair]
    seeds = zip(*(given.get("seeds", ()) for given in settings), strict=False)
    told = {(frame.asked(given), str(given.get("teachers"))) for given in settings}
    return len(told) == 1 and all(one == other for one, other in seeds)


def _pair(side: str, first: Mapping, second: Mapping) -> dict:
    """The paired difference where both hold their values; none has an interval otherwise. Scores
    have no margin."""
    several = len({first["layer"], second["layer"]} - {""}) > 1
    named = [ROLES[e["role"]] + (f" at {e['layer']}" if several else "") for e in (first, second)]
    cell = first if first["layer"] else second
    if several:  # the check of either layer counts
        why = [one["unfit"].get(one["layer"], "") for one in (first, second)]
        cell = cell | {"unfit": {cell["layer"]: next(filter(None, why), "")}}
    what = f"{_words(cell, 'network', 'layer')}: {', '.join(named)}"
    told = f"{estimate(first)} against {estimate(second)}"
    found = stats.Estimate(first["value"] - second["value"], math.nan, math.nan, 1, 1)
    wide, shared = 0.0, first["settings"].get("teachers")
    if all(isinstance(one["by_seed"], list) for one in (first, second)):
        values = [np.genfromtxt(one["by_seed"], ndmin=2) for one in (first, second)]
        if several:  # of two runs, which share the first pairs and samples
            pairs, samples = np.min([part.shape for part in values], axis=0)
            values = [part[:pairs, :samples] for part in values]
        teachers = [shared[i % len(shared)] for i in range(len(values[0]))] if shared else None
        found = stats.paired_difference(*values, teachers=teachers)
        if several:
            each = (vars(stats.crossed(part, teachers=teachers)) for part in values)
            told = " against ".join(map(estimate, each))
            told += f" (the second in `{second['run'] or second['notebook']}`)"
        wide = margin(first["metric"], second["value"]) if first["metric"] in METRICS else 0.0
        told = f"{estimate(vars(found), signed)}: {told}"
    ends = vars(found) | {"margin": wide}
    least = {name: min(first[name], second[name]) for name in ("n_samples", "n_seeds")}
    return _item(side, cell, what, ends, shown=told, **least)


def _numbers(claim: Claim, rows: pd.DataFrame) -> list[dict]:
    """Runs of a sweep share networks: the same number of the same name is one item. Each is held
    against the bound. Of a given network a number without an interval is exact; otherwise one seed
    says nothing, whatever its interval is over."""
    asked, items = claim.evidence, []
    found = rows[(rows["kind"] == "number") & (rows["measured_on"] == "train")]
    found = found[fits(found["notebook"], [asked.notebook]) & fits(found["name"], asked.names)]
    for row in records(found.drop_duplicates(["student", "name", "value", "low", "high"])):
        network, value = _words(row, "student"), row["value"]
        what = (f"{network}, " if network else "") + f"`{row['name']}`: {row['what']}"
        ends = [value if asked.given and pd.isna(row[end]) else row[end] for end in ("low", "high")]
        if not asked.given and len(row["settings"].get("seeds", "")) == 1:
            ends = [math.nan] * 2
        low, high = (end - asked.bound for end in ends)
        gap = {"value": value - asked.bound, "low": low, "high": high, "margin": 0.0, "p": math.nan}
        shown = f"{estimate(row)} {row['unit']}".strip()
        items.append(_item(claim.side, row, what, gap, shown=shown, noun="value"))
    return items


#: How the evidence of each kind is found.
EVIDENCE = {"comparisons": _comparisons, "means": _means, "numbers": _numbers}
EVIDENCE["none"] = lambda claim, rows: []
