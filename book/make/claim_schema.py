"""The paper's testable claims as data: what each says, where it stands, and what would show it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import SYMBOLS
from kpnb.metrics.results import MetricName, Role, Score
from kpnb.paper import PREDICTIONS

Side = Literal["up", "down"]
Table = Literal["II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
Names = tuple[str, ...]
#: How a side reads in a claim.
SIDE_WORDS = {"up": "higher", "down": "lower"}


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Rows(_Data):
    """Rows of a published table, or the results that stand for it; empty: all of them.

    larger: only students whose teacher is another network than their own.
    """

    table: Table
    networks: Names = ()
    layers: Names = ()
    larger: bool = False


class _Printed(_Rows):
    """Rows of a published table, by what our data do not share with it too.

    metric: where it is not the claim's own.
    """

    datasets: Names = ()
    grid_sizes: Names = ()
    threshold_bs: Names = ()
    metric: MetricName | None = None


class Rate(_Printed):
    """How many of a table's pairs have `first` strictly on the claim's side of `second`."""

    kind: Literal["rate"]
    first: Role = "S"
    second: Role = "B"


class Values(_Printed):
    """The two printed numbers of one pair."""

    kind: Literal["values"]
    first: Role = "S"
    second: Role = "B"


class Change(_Printed):
    """By how much the students exceed their baselines: mean of the pairs' ratios, minus 1."""

    kind: Literal["change"]
    first: Literal["S"] = "S"
    second: Literal["B"] = "B"


class Quote(_Data):
    """What the paper gives where it is no number of a table."""

    kind: Literal["quote"]
    text: str


class Comparisons(_Rows):
    """Student minus baseline, one item a cell that was run for `table`.

    runs: patterns of a sweep's runs, then no other results are taken; sample: kind of samples;
    thresholds: "own", the run's b, or "other", all others it was repeated at; also: patterns of
    names of numbers that a main notebook holds of the same difference, {metric} written out.
    """

    kind: Literal["comparisons"]
    runs: Names = ()
    sample: str = ""
    thresholds: Literal["own", "other"] = "own"
    also: Names = ()


class Means(_Rows):
    """Two means with their own intervals, because no paired difference is stored.

    first, second: roles; first_layer, second_layer: layers to compare within a network; score: a
    score of the networks instead of the claim's metric.
    """

    kind: Literal["means"]
    first: Role
    second: Role
    first_layer: str = ""
    second_layer: str = ""
    runs: Names = ()
    sample: str = ""
    score: Score | None = None


class Numbers(_Data):
    """Numbers against a bound, by patterns of their names and a pattern of notebooks.

    One without an interval is taken as exact and compared as it is: name only such as are
    determined, like a largest difference between two given maps.
    """

    kind: Literal["numbers"]
    notebook: str
    names: Annotated[Names, Field(min_length=1)]
    bound: float = 0.0


class NotMeasured(_Data):
    """Nothing here measures it: why, and the notebook that shows something of it, if any."""

    kind: Literal["none"]
    reason: str
    notebook: str = ""


Published = Annotated[Rate | Values | Change | Quote, Field(discriminator="kind")]
Evidence = Annotated[Comparisons | Means | Numbers | NotMeasured, Field(discriminator="kind")]


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
    metric: MetricName | None = None
    side: Side | None = None
    paper: Annotated[tuple[Published, ...], Field(min_length=1)]
    evidence: Evidence

    @model_validator(mode="after")
    def _can_be_judged(self) -> Claim:
        found = self.evidence
        if found.kind != "none" and self.side is None:
            raise ValueError("evidence needs a side, up or down")
        if found.kind in ("comparisons", "means") and not self.quantity:
            raise ValueError("evidence from tables needs a metric or a score")
        return self

    @property
    def quantity(self) -> str | None:
        """The metric, or the score, that its evidence compares."""
        return getattr(self.evidence, "score", None) or self.metric


def load_claims(text: str | None = None) -> list[Claim]:
    """The claims of claims.yaml, or of a text of the same form.

    An entry with a list of `metrics` stands for one claim each, whose side is the hypothesis's
    unless it names one; {metric} and {side} are written out in its sentence.
    Raises: KpnbError for a text that does not fit the schema, or two claims of one id.
    """
    return list(_shipped()) if text is None else _parsed(text)


@cache
def _shipped() -> tuple[Claim, ...]:
    return tuple(_parsed(Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")))


def _parsed(text: str) -> list[Claim]:
    claims = []
    for section, entries in yaml.safe_load(text).items():
        for entry in entries:
            claims += [_claim(values | {"section": section}) for values in _expanded(entry)]
    ids = [claim.id for claim in claims]
    twice = {name for name in ids if ids.count(name) > 1}
    if twice:
        raise KpnbError(f"two claims have the id {min(twice)!r}: rename one in claims.yaml")
    return claims


def _expanded(entry: dict) -> Iterator[dict]:
    """An entry with metrics, once for each."""
    if "metrics" not in entry:
        yield entry
        return
    shared = {name: value for name, value in entry.items() if name != "metrics"}
    for metric in entry["metrics"]:
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
        place = ".".join(map(str, first["loc"])) or "the claim"
        reason = f"{place}: {first['msg']}"
        raise KpnbError(f"claim {values.get('id')!r} cannot be read ({reason}): see it") from error
