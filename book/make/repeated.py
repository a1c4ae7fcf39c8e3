"""Cells of the study that were computed once more from an empty store: what came out the same.

Files of a second time lie beside the study's in a folder of their own, which no table and no claim
reads, so that no cell counts twice. Both times are compared over the pairs that both have: value by
value, as their files hold them, and in what they say of student and baseline.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from book.make.texts import block, sheet
from kpnb.errors import KpnbError
from kpnb.metrics.results import Results, Values, results_root
from kpnb.metrics.stats import Statistic, correlation, mean, paired_difference, variance
from kpnb.paper import METRICS

REPEATED = "repeated"  #: The folder of second times, below that of results.
#: The notebooks that decide cells of images; others look at the same networks from another side.
HEADLINE = ("image_h1", "image_h2", "image_h3", "image_cell")
#: What two runs of a cell may differ in: where they lie, which layers and pairs they have.
_APART = {"layers", "seeds", "run", "preset"}


class Twice(NamedTuple):
    """A cell that was computed twice: its layer, both runs, first those of the study, which may
    have a notebook a hypothesis; seeds: of the pairs that both have."""

    layer: str
    first: list[Results]
    again: Results
    seeds: list[int]


def repeated_fragments(results: Sequence[Results]) -> dict[str, str]:
    """The paragraph and the table of each cell of a second time; results: of the study."""
    found = [twice for again in second_times() for twice in cells(results, again)]
    parts = [_about(twice) | {"rows": sheet("repeated", lines(twice))} for twice in found]
    return {"repeated": block("repeated", cells=parts)}


def second_times() -> list[Results]:
    """Raises: KpnbError for a file that does not fit the schema of results."""
    return [_read(path) for path in sorted((results_root() / REPEATED).rglob("*.json"))]


def _read(path: Path) -> Results:
    try:
        return Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise KpnbError(f"{path} is damaged: take the committed one, or run it again") from error


def cells(results: Sequence[Results], again: Results) -> Iterator[Twice]:
    """Each layer of a second time, with the study's runs of the same settings and pairs."""
    asked = again.settings
    study = (one for one in results if one.preset == "study" and one.notebook in HEADLINE)
    alike = [one for one in study if _same(one.settings, asked)]
    for layer in asked["layers"]:
        first = [one for one in alike if layer in one.settings["layers"]]
        if first:
            yield Twice(layer, first, again, asked["seeds"])


def _same(settings: Mapping, asked: Mapping) -> bool:
    """Of what both name. Pairs are counted from the first: each has the same teacher both times."""
    if settings.get("seeds", [])[: len(asked["seeds"])] != asked["seeds"]:
        return False
    names = ({*settings} & {*asked}) - _APART
    return all(settings[name] == asked[name] for name in names)


def pairs_of(twice: Twice) -> list[tuple[Values, Values]]:
    """What both times hold values of, once a quantity: the study's first, then the second's."""
    place = {_quantity(one): one for one in twice.again.values if one.layer == twice.layer}
    held = {_quantity(one): one for run in twice.first for one in run.values}
    return [(held[what], place[what]) for what in place if what in held]


def _quantity(one: Values) -> tuple:
    return one.layer, one.role, one.metric, one.threshold, one.distance


def equal_values(twice: Twice) -> tuple[int, int]:
    """How many values are equal as the files hold them, five digits each, of how many."""
    rows = [(old, new) for one, other in pairs_of(twice)
            for old, new in zip(one.by_seed, other.by_seed, strict=False)]  # fmt: skip
    told = [zip(old.split(), new.split(), strict=True) for old, new in rows]
    same = [old == new for row in told for old, new in row]
    return sum(same), len(same)


def lines(twice: Twice) -> Iterator[dict]:
    """A row a metric: student minus baseline over the pairs of both times, and each time's verdict,
    which is of all pairs that it had."""
    held = {(one.metric, one.role): (one, other) for one, other in pairs_of(twice)}
    for metric in METRICS:
        rests_on, statistic = ("d_mean", variance) if metric == "d_var" else (metric, mean)
        if (rests_on, "S") in held:
            times = [[_table(held[rests_on, role][time], twice) for role in "SB"]
                     for time in (0, 1)]  # fmt: skip
            found = {"metric": metric, "verdicts": _verdicts(metric, twice)}
            yield found | _compared(times, statistic, twice)


def _verdicts(metric: str, twice: Twice) -> list[str]:
    runs = [[one for one in run.comparisons if one.metric == metric and one.layer == twice.layer
             and run.is_headline(one)] for run in (*twice.first, twice.again)]  # fmt: skip
    return [found[0].verdict for found in runs if found]


def _table(one: Values, twice: Twice) -> np.ndarray:
    rows = np.genfromtxt(one.by_seed, ndmin=2, missing_values="-")
    return rows[: len(twice.seeds)]


def _compared(times: list[list[np.ndarray]], statistic: Statistic, twice: Twice) -> dict:
    given = twice.again.settings["teachers"]
    teachers = [given[place % len(given)] for place in range(len(twice.seeds))] if given else None
    first, again = (paired_difference(*time, statistic, teachers) for time in times)
    leads = [np.array([s - b for s, b in zip(*map(statistic, time), strict=True)])
             for time in times]  # fmt: skip
    moved = float(np.sqrt(np.mean((leads[1] - leads[0]) ** 2)))
    return {
        "first": vars(first),
        "again": vars(again),
        "correlation": correlation(*leads) if len(leads[0]) > 2 else np.nan,
        "moved": moved,
        "spread": float(leads[0].std(ddof=1)) if len(leads[0]) > 1 else np.nan,
    }


def _about(twice: Twice) -> dict:
    same, of = equal_values(twice)
    machines = [run.provenance for run in (twice.first[0], twice.again)]
    return {
        "layer": twice.layer,
        "given": twice.again.settings,
        "pairs": len(twice.seeds),
        "of_pairs": len(twice.first[0].settings["seeds"]),
        "processors": [one.get("cpu") or "an unknown processor" for one in machines],
        "commits": [(one.get("commit") or "")[:7] for one in machines],
        "same": same,
        "of": of,
    }
