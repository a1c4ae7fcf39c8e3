"""Cells that ten more teachers were asked about: beside the three's, and in their place."""

from collections import Counter

import pandas as pd

from book.make.claims import VERDICTS, judge_all
from book.make.forest import PLACE
from book.make.frame import NOTHING, TEN, asked, records
from book.make.texts import block, sheet
from kpnb.paper import METRICS

#: What makes two facts of such runs the same fact.
_FACT = ["asked", "layer", "kind", "role", "metric", "threshold", "selection", "distance"]
#: What a fact that stands in for another takes from it, so that it is found where that was.
_PLACED = ["nth", "part", "notebook", "run", "table", "outputs", "headline", "other_b", "own_b"]


def _sides(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The metrics of the layers that ten teachers were asked about: by three, and by ten. Scores
    stay, for networks that several layers share have theirs once."""
    found = rows[rows["kind"].isin(["comparison", "measure"]) & (rows["preset"] == "study")]
    found = found[found["metric"].isin(METRICS) & (found["part"] != "single")]
    runs = found.drop_duplicates("nth")
    by_run = dict(zip(runs["nth"], map(asked, runs["settings"]), strict=True))
    found = found.assign(asked=found["nth"].map(by_run))
    ten = found["run"].str.startswith(TEN)
    cells = set(zip(found[ten]["asked"], found[ten]["layer"], strict=True))
    same = pd.Series(zip(found["asked"], found["layer"], strict=True), index=found.index)
    return found[same.isin(cells) & ~ten], found[ten]


def ten_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """{name: markdown} of what the pages on the protocol and on claims include."""
    beside = beside_three(rows)
    return {
        "protocol_ten": sheet("protocol_ten", beside),
        "claims_by_ten": claims_by_ten(rows, list(dict.fromkeys(row["cell"] for row in beside))),
    }


def beside_three(rows: pd.DataFrame) -> list[dict]:
    """A row a headline comparison of the runs with ten teachers, with `three`, that of the three,
    and `cell`, its name. Where several of the three's runs hold it the first one's is taken."""
    three, ten = (side[(side["kind"] == "comparison") & side["headline"]] for side in _sides(rows))
    known: dict[tuple, dict] = {}
    for row in records(three):
        known.setdefault(tuple(row[name] for name in _FACT), row)
    told = records(ten.sort_values([*PLACE, "run"], kind="stable"))
    found = [(row, known.get(tuple(row[name] for name in _FACT))) for row in told]
    return [row | {"three": first, "cell": _cell(row)} for row, first in found if first]


def in_place_of_three(rows: pd.DataFrame) -> pd.DataFrame:
    """The frame in which the cells that ten teachers were asked about are theirs."""
    three, ten = _sides(rows)
    new = ten.drop(columns=_PLACED).merge(three[[*_FACT, *_PLACED]], on=_FACT)
    return pd.concat([rows.drop(index=three.index), new[rows.columns]], ignore_index=True)


def claims_by_ten(rows: pd.DataFrame, cells: list[str]) -> str:
    """What the count of claims would be with ten teachers in the three's place, and which claims
    would have another verdict."""
    if not cells:
        return NOTHING
    before, after = judge_all(rows), judge_all(in_place_of_three(rows))
    # Of two layers of one teacher the ten may have one alone: such a claim is as before.
    after = [old if old.claim.evidence.first_layer else new
             for old, new in zip(before, after, strict=True)]  # fmt: skip
    pairs = [{"one": one, "other": other} for one, other in zip(before, after, strict=True)
             if one.counted]  # fmt: skip
    changed = [pair for pair in pairs if pair["one"].verdict != pair["other"].verdict]
    three, ten = (Counter(pair[of].verdict for pair in pairs) for of in ("one", "other"))
    tally = [{"verdict": name, "three": three[name], "ten": ten[name]} for name in VERDICTS]
    told = {"tally": sheet("tally_by_ten", tally), "changed": sheet("claims_by_ten", changed)}
    return block("claims_by_ten", cells=cells, **told)


def _cell(row: dict) -> str:
    grid = row["settings"].get("grid", 16)
    return f"{row['network']}, {row['layer']}" + f", {grid} × {grid} squares" * (grid != 16)
