"""Pages on the protocol: what was planned and reached, whether networks are fit, what came before.

Functions take the frame of `book.make.frame` and return markdown.
"""

import json
import math
import re
from collections.abc import Iterator
from itertools import groupby

import pandas as pd

from book.make.chart import Chart, Line, Mark, Panel
from book.make.conditions import NAME as CONDITIONS
from book.make.forest import (
    EMBEDDED,
    PLACE,
    behind,
    confirmatory,
    data_name,
    forest,
    samples_of,
)
from book.make.frame import CELL, NONE, NOTHING, TABLE_OF, TEN, estimate, over_cells, records
from book.make.texts import badge, block, sheet
from kpnb.fingerprint import packed_file
from kpnb.metrics.formatting import signed, verdict_sentence
from kpnb.metrics.protocol import FILE, protocol, protocol_hash, protocol_seeds
from kpnb.metrics.results import results_root
from kpnb.metrics.stats import judged
from kpnb.paper import ROLES

HISTORY = "history"  #: The folder of what was measured before the protocol, in another schema.
#: Numbers of what intervals decide where nothing differs (`kpnb.study.findings`), and those that
#: put a layer's metrics into proportion, by name (`kpnb.training.fitness`).
_FALSE = r"^false_decisions_(?P<pairs>\d+)_(?P<about>\w+)_(?P<at>[A-Z]\w+)$"
_DROPPED = r"^dropped_(?P<of>S|B|difference)_(?P<at>[A-Z]\w*)$"
_FITNESS = r"^(explained_(?:train|new)|rank_correlation_\w|lambda_over_chance_\w|%s)_([A-Z]\w+)$"
_FITNESS %= "n_fg_untrained|lambda_untrained"
#: The panels of their chart, and in each which number has which look.
_SHOWN = {
    "explained": {"explained_train": "student", "explained_new": "new"},
    "rank": {f"rank_correlation_{role}": ROLES[role] for role in "SB"},
    "chance": {f"lambda_over_chance_{role}": look for role, look in ROLES.items()},
}
_LEAST = tuple(protocol()["fitness"][f"explained_{split}"] for split in ("train", "new"))
_PANELS = (
    Panel("explained", "explained", ("of the teacher's", "feature"), lines=_LEAST),
    Panel("rank", "rank correlation", ("with the", "teacher's map")),
    Panel("chance", "λ over chance", ("above other", "samples' masks")),
)


def protocol_pages(rows: pd.DataFrame) -> dict[str, str]:
    """{name: markdown} of what the pages include."""
    asked, cells = protocol(), confirmatory(rows)
    cells = cells[cells["measured_on"].isin(asked["confirmatory"]["measured_on"])]
    seeds = {name: protocol_seeds(name, asked["confirmatory"][name])
             for name in ("pairs", "teachers")}  # fmt: skip
    printed = rows[(rows["table"] == "V") & (rows["metric"] == "rho") & (rows["outcome"] != "")]
    reached = cells[cells["metric"].isin(asked["planned"]["half_width"])]
    plan = [{"metric": metric, "margin": margin} for metric, margin in asked["margins"].items()]
    return {
        "protocol_text": block("protocol_text", text=packed_file(FILE).read_text(encoding="utf-8")),
        "protocol_hash": block("protocol_hash", hash=protocol_hash(), seeds=seeds),
        "protocol_plan": sheet("protocol_plan", plan, asked=asked),
        **behind(
            "protocol_reached",
            forest(cells.sort_values(PLACE, kind="stable"), kinds=("V",)),
            sheet("protocol_reached", records(reached), asked=asked),
        ),
        "protocol_rho": block(
            "protocol_rho", gaps=printed["value"] - printed["baseline"], asked=asked
        ),
        "protocol_false": false_decisions(rows),
        "protocol_wider": block("protocol_wider", wider=wider_than_planned(reached)),
        "dropped": block("dropped", cells=dropped(rows)),
        "way_units": block("way_units", cells=way_units(rows)),
        "decided": sheet("decided", decided(cells)),
        **fitness_fragments(rows),
        HISTORY: history_tables(),
    }


def decided(cells: pd.DataFrame) -> list[dict]:
    """A row a primary metric and kind of images: the verdicts of its cells, and their mean with
    its verdict. Training is followed on training images only."""
    asked, lines = protocol(), []
    total = len(asked["confirmatory"]["networks"]) * len(asked["confirmatory"]["layers"])
    for metric, of in asked["primary"].items():
        for on in asked["confirmatory"]["measured_on"][: 2 if of["hypothesis"] == 1 else 1]:
            part = cells[(cells["metric"] == metric) & (cells["measured_on"] == on)]
            answer = verdict_sentence(list(part["verdict"]), "cell") if len(part) else "not run"
            fit = part[part["verdict"] != "not measurable"]
            if fit["network"].nunique() == 1:  # of several that were planned
                answer = re.sub(r"^\*\*.*?\*\*", "**No answer from one network.**", answer)
            line = {"metric": metric, "on": on, "answer": answer, "mean": "", "found": len(part)}
            if mean := over_cells(fit):
                ends = mean.value, mean.low, mean.high
                said = judged(*ends, of["side"], fit["margin"].mean(), math.nan)
                line["mean"] = f"{badge(said)} {estimate(vars(mean), signed)}"
            lines.append(of | line | {"total": total})
    return lines


def wider_than_planned(cells: pd.DataFrame) -> list[dict]:
    """Comparisons whose interval is wider than both that were planned."""
    planned = protocol()["planned"]["half_width"]
    return [row for row in records(cells)
            if row["high"] - row["low"] > 2 * max(planned[row["metric"]])]  # fmt: skip


def dropped(rows: pd.DataFrame) -> list[dict[str, dict]]:
    """By cell of the protocol the numbers of points that were tried and dropped: of both, and their
    difference. Notebooks that say the same of a cell do so once."""
    found = rows[(rows["kind"] == "number") & (rows["preset"] == "study")]
    found = found.join(found["name"].str.extract(_DROPPED)).dropna(subset="of")
    found = found[found["nth"].isin(set(confirmatory(rows)["nth"]))]
    parts = found.groupby(["student", "measured_on", "at"], sort=False)
    return [{one["of"]: one for one in records(part)} for _, part in parts]


def way_units(rows: pd.DataFrame) -> list[tuple[str, list[dict]]]:
    """By measurable cell of the protocol what D_mean says in each unit of the way."""
    found = rows[(rows["kind"] == "comparison") & (rows["metric"] == "d_mean")]
    found = found[found["nth"].isin(set(confirmatory(rows)["nth"])) & (found["selection"] == "all")]
    found = found[(found["threshold"] == found["own_b"]) & (found["verdict"] != "not measurable")]
    found = found.drop_duplicates([*CELL, "measured_on", "distance"])
    parts = found.groupby(["network", "layer", "measured_on"], sort=False)
    return [(", ".join(at[:2]), records(part)) for at, part in parts]


def false_decisions(rows: pd.DataFrame) -> str:
    """A row a metric and number of pairs: how often intervals decide between baselines, a cell
    after the other."""
    found = rows[(rows["kind"] == "number") & (rows["preset"] == "study")]
    found = found[~found["run"].str.startswith(TEN)]
    found = found.join(found["name"].str.extract(_FALSE)).dropna(subset="pairs")
    parts = found.groupby(["about", "pairs"], sort=False)
    return sheet(
        "protocol_false", (records(part)[0] | {"items": records(part)} for _, part in parts)
    )


def fitness_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """A line a layer of networks and samples: whether it is measurable, which checks failed, and
    the numbers beside. What notebooks say of the same one is said once; the map of conditions has
    no gate."""
    gated = (rows["part"] != "single") & ~rows["run"].str.fullmatch(CONDITIONS.pattern)
    found = rows[(rows["kind"] == "number") & gated]
    found = found.join(found["name"].str.extract(_FITNESS).set_axis(["about", "at"], axis=1))
    found["family"] = found["notebook"].map(lambda name: name.split("_")[0])  # tells texts apart
    same = ["preset", "family", "student", "teacher", "at", "measured_on", "run", "own_b"]
    told = rows[rows["kind"] == "comparison"].groupby("nth")[["dataset", "table", "sample"]].first()
    found = found.drop(columns=[*told]).join(told, on="nth")
    found[[*told]] = found[[*told]].fillna("")  # of a run without comparisons
    lines = []
    for _, part in found.dropna(subset="at").groupby(same, sort=False):
        rows_here = records(part)
        row, numbers = rows_here[0], {one["about"]: one for one in reversed(rows_here)}
        notes = dict.fromkeys(one["unfit"].get(row["at"], "") for one in rows_here)
        failed, changes = zip(*map(failed_checks, notes), strict=True)
        row |= {"failed": list(dict.fromkeys(sum(failed, []))), "change": max(changes, key=len)}
        row |= {"notebooks": list(part["notebook"].unique()), "numbers": numbers}
        row["data"] = data_name(row) if row["table"] else ""
        photographs = samples_of(row)[0] if row["table"] == "V" else ""
        row["cell"] = block("fitness_cell", row=row, photographs=photographs, TEN=TEN)
        lines.append(row)
    order = ("preset", "table", "data", "family", "student", "at")
    lines.sort(key=lambda row: [row[name] for name in order])
    lines.sort(key=lambda row: not row["data"].startswith(EMBEDDED))
    unfit = sheet("unfit", [line for line in lines if line["failed"]])
    about = {"least": _LEAST, "asked": protocol()["fitness"]}
    caption = block("fitness_caption", unfit=unfit if unfit != NOTHING else "", **about)
    chart = Chart(block("fitness_title"), _PANELS, list(_fitness_lines(lines)))
    return behind("fitness", chart, sheet("fitness", lines, told=_told), caption)


def _fitness_lines(lines: list[dict]) -> Iterator[Line]:
    """A line a layer, under what its samples are."""
    for data, part in groupby(lines, lambda row: row["data"]):
        yield Line((data[:1].upper() + data[1:],), heading=True)
        for row in part:
            numbers, said = row["numbers"], ["not measurable"] if row["failed"] else []
            marks = {panel: [Mark(look, *(numbers[name][end] for end in ("value", "low", "high")))
                             for name, look in looks.items() if name in numbers]
                     for panel, looks in _SHOWN.items()}  # fmt: skip
            yield Line((row["cell"].replace(f"({data}, ", "("), *said), marks)


def _told(numbers: dict[str, dict], name: str) -> str:
    return estimate(numbers[name]) if name in numbers else NONE


def failed_checks(note: str) -> tuple[list[str], str]:
    """The checks that a note on a layer names, "what was asked? No: what was found" each, and what
    to change; the note itself where it is of another form."""
    parts = re.fullmatch(r"\S+ is not measurable \((.*)\); (.*)\.", note)
    if not parts:
        return [note] if note else [], ""
    return ["? No: ".join(one.rsplit(": ", 1)) for one in parts[1].split("; ")], parts[2]


def unfit_sentence(layer: str, note: str) -> str:
    """Why a layer is not measurable and what to change, "" for no note."""
    failed, change = failed_checks(note)
    told = [f"{layer} is not measurable", *failed, f"to change: {change}"] if change else failed
    return " ".join(one[0].upper() + one[1:].removesuffix(".") + "." for one in told)


def history_tables() -> str:
    """A table per modality, a row a cell, of the headline differences as they were printed."""
    lines: dict[str, dict[tuple, dict]] = {}
    files = (results_root() / HISTORY).rglob("*.json")
    for path in sorted(files, key=lambda file: (len(file.parts), file)):  # notebooks, then sweeps
        run = json.loads(path.read_bytes())
        for one in run["comparisons"]:
            own = (one["threshold"], "all") == (run["settings"]["threshold"], one["selection"])
            if own and one["distance"] != "epoch":
                about = one["network"], one["layer"], one["dataset"], run["run"]
                line = lines.setdefault(TABLE_OF[one["sample"]], {}).setdefault(about, one | run)
                told = {"value": one["difference"], "low": one["low"], "high": one["high"]}
                line[one["metric"] + "_told"] = estimate(told, signed)
    parts = {name: sheet("history", part.values()) for name, part in sorted(lines.items())}
    return block("history", parts=parts)
