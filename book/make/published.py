"""The paper's tables with our measurements in place, and how often both lie on the predicted side.

Functions take the frame of `book.make.frame` and return markdown.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from book.make import frame
from book.make.frame import CELL, MAIN_TABLES, NONE, NOT_HERE, over, pivot, place, records
from kpnb.metrics.formatting import MARKS, SYMBOLS, VERDICT_MARKS, signed, table
from kpnb.metrics.protocol import protocol
from kpnb.paper import METRICS, PREDICTIONS, ROLES, TABLES, agreement_rates
from kpnb.run.sweeps import Sweep, read_sweeps

#: A space that does not break, between a number and its mark.
NARROW = "\u202f"
#: The paper's data sets that our stand-ins are not of one table alone, by our kind of samples.
STAND_INS = {"SQuAD": "question", "SST-2": "sentence"}
#: How a sweep's runs are shown beside a table: what sets them apart in words (parameter -> how its
#: value is told), whose numbers of ours, and whether at each b measured, not only at the run's own.
SHOWN: dict[str, tuple[dict[str, str], str, bool]] = {
    "II": ({"teacher": "taught by {}"}, "SB", False),
    "III": ({"grid": "{0}×{0} cells", "threshold": "b = {}"}, "SB", True),
    "IV": ({"augment": "augmented {}"}, "TSB", False),
    "VIII": ({"outputs": "{} outputs"}, "SB", False),
    "IX": ({"teacher": "taught by {}"}, "SB", False),
}
#: Table VIII has networks of 10 outputs; the sweep's runs with many more stand for no cell of it.
FEW_OUTPUTS = ("*_outputs2", "*_outputs4", "*_outputs12")

Lines = list[list[str]]


def published_tables(rows: pd.DataFrame) -> dict[str, str]:
    """{name: markdown} of Tables II to IX."""
    sweeps, names = read_sweeps(), {f"table_{name.lower()}": name for name in TABLES}
    return {
        key: sweep_table(sweeps[key], rows) if name in SHOWN else verification_table(name, rows)
        for key, name in names.items()
    }


def verification_table(name: str, rows: pd.DataFrame) -> str:
    """Every cell of Table V, VI or VII, a section per network or, of texts, per task, and after
    each layer what was run here.

    Ours are the headline numbers: all samples, the run's own b, mean and 95% interval; a main
    study's go before a sweep's of the same cell.
    """
    swept = frame.sweep_rows(rows, read_sweeps()["table_v"].runs if name == "V" else ())
    ours = _measured(pd.concat([swept, frame.main_rows(rows)]))
    ours, by = ours[ours["table"] == name], "dataset" if name == "VI" else "network"
    sections, printed = [], _printed(frame.paper_rows(rows, name), METRICS)
    for title, part in printed.groupby(by, sort=False):
        lines = []
        for layer, cells in part.groupby("layer", sort=False):
            here = (ours["network"] == title) & (ours["layer"] == layer)
            here = ours["sample"] == STAND_INS[title] if name == "VI" else here
            lines += _printed_lines(cells, METRICS, lambda row: row["layer"])
            lines += _study_lines(ours[here], layer) or [_absent(layer, METRICS)]
        sections.append(f"## {title}\n\n{_table('layer', METRICS, lines)}")
    return "\n\n".join(sections)


def sweep_table(sweep: Sweep, rows: pd.DataFrame) -> str:
    """Each run's published rows, then ours: mean, 95% interval, and the verdict's mark."""
    tell, roles, every_b = SHOWN.get(sweep.table, ({}, "SB", False))
    known = frame.paper_rows(rows, sweep.table)
    metrics = [metric for metric in METRICS if metric in set(known["metric"])]
    lines, before, printed = [], None, _printed(known, metrics)
    for name, run in sweep.runs.items():
        if run.published and run.published != before:
            beside = printed[printed[list(run.published)].isin(run.published).all(axis=1)]
            lines += _printed_lines(beside, metrics, _cell)
        before, ours = run.published, frame.sweep_rows(rows, [name])
        if ours.empty:
            lines.append(_absent(_told(sweep.given(name, "study"), tell), metrics))
        for b, cell in _measured(ours, every_b).groupby("threshold"):
            what = _told(cell["settings"].iloc[0] | {"threshold": b}, tell)
            lines += _our_lines(cell, what, roles, metrics, NONE)
    return _table("cell", metrics, lines)


def _table(first: str, metrics: Sequence[str], lines: Lines) -> str:
    return table([first, "data", "network", *(SYMBOLS[metric] for metric in metrics)], lines)


def _measured(ours: pd.DataFrame, every_b: bool = False) -> pd.DataFrame:
    shown = ours["headline"] | (ours["other_b"] & every_b)
    return ours[shown & (ours["kind"] == "measure") & ours["metric"].isin(METRICS)]


def _printed(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """A row for each printed one, roles in their order within a cell, with a column a metric; a
    student's numbers carry the mark of the side of its baseline that they are on."""
    same = frame.PAPER_CELL[1:]
    group, order = rows.groupby(same, sort=False).ngroup(), rows["role"].map("TSB".index)
    keys = ["group", "order", *same, "learning", "pair"]
    text = [f"{r['printed']}{NARROW}{MARKS.get(r['outcome'], '')}" for r in records(rows)]
    wide = pivot(rows.assign(group=group, order=order), text, keys, "metric", metrics, NONE)
    wide = wide.reset_index().drop(columns="pair").drop_duplicates()
    return wide.sort_values(["group", "order"], kind="stable")


def _printed_lines(printed: pd.DataFrame, metrics: Sequence[str], where: Callable) -> Lines:
    return [
        [where(row), row["dataset"], ROLES.get(row["learning"], row["learning"])]
        + [row[metric] for metric in metrics]
        for row in records(printed)
    ]


def _study_lines(ours: pd.DataFrame, layer: str) -> Lines:
    """Two lines for each of our cells."""
    lines = []
    for _, cell in ours.groupby(["preset", *CELL], sort=False):
        cell, b = cell.drop_duplicates(["role", "metric"], keep="last"), cell["own_b"].iloc[0]
        lines += _our_lines(cell, layer, "SB", METRICS, NOT_HERE, f", b = {b}")
    return lines


def _our_lines(
    cell: pd.DataFrame, what: str, roles: str, metrics: Sequence[str], blank: str, b: str = ""
) -> Lines:
    """A line per role, with a student's verdicts as marks."""
    marks = [VERDICT_MARKS.get(verdict, "") for verdict in cell["verdict"]]
    values = [frame.estimate(row, shown="**{}**") for row in records(cell)]
    text = [value + NARROW + mark for value, mark in zip(values, marks, strict=True)]
    first = cell.iloc[0]
    head = f"**ours: {first['dataset']}, {place(first)}, {first['preset']}, {over(first)}{b}**"
    wide = pivot(cell, text, "role", "metric", metrics, blank).reindex(list(roles)).fillna(blank)
    return [
        [f"**{what}**", head, f"**{ROLES[role]}**", *values]
        for role, *values in wide.itertuples(name=None)
    ]


def _absent(what: str, metrics: Sequence[str]) -> list[str]:
    return [what, f"ours: {NOT_HERE}", "", *[NONE] * len(metrics)]


def _cell(row: dict) -> str:
    threshold = f"b = {row['threshold_b']}" if row["threshold_b"] else ""
    parts = (row["network"], row["layer"], row["grid_size"], threshold)
    return ", ".join(part for part in parts if part)


def _told(settings: dict, tell: dict[str, str]) -> str:
    """Which run this is; a teacher of the student's own kind is called by its name."""
    own = {"teacher": settings["network"]} if settings.get("teacher") == "same" else {}
    known = settings | own
    told = [text.format(known[name]) for name, text in tell.items() if known.get(name)]
    return ", ".join([settings["network"], *settings["layers"], *told])


# How often the paper agrees with itself


def paper_rate(metric: str, published: str) -> str:
    """How many of a table's cells are on the predicted side in a metric, as in 51 of 57."""
    rate = _rates().set_index(["table", "metric"]).loc[(published, metric)]
    return f"{rate['agree']:.0f} of {rate['cells']:.0f}"


_rates = cache(agreement_rates)  # of tables that do not change


def rates_beside(rows: pd.DataFrame) -> str:
    """Each table's cells, the paper's above ours, which are the measurable ones: how many lie
    strictly on the predicted side, and the random-effects mean of student against baseline."""
    lines = []
    ours = rows[(rows["preset"] == "study") & (rows["kind"] == "comparison") & rows["headline"]]
    ours = ours[ours["verdict"] != "not measurable"]
    for names in (*((name,) for name in TABLES), MAIN_TABLES):
        title = " to ".join(dict.fromkeys((names[0], names[-1])))
        printed = pd.concat([frame.paper_rows(rows, name) for name in names])
        printed = printed.assign(value=printed["value"] - printed["baseline"])
        sets = {"the paper": printed[printed["outcome"] != ""]}
        sets["here"] = pd.concat([_cells_of(name, ours) for name in names])
        for whose, found in sets.items():
            told = [_counted(found[found["metric"] == metric], metric) for metric in METRICS]
            lines.append([f"{title}, {whose}", *told])
    return table(["table", *SYMBOLS.values()], lines)


def _cells_of(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    found = frame.standing_for(ours, name, FEW_OUTPUTS if name == "VIII" else ())
    return found.drop_duplicates(["metric", *frame.identity(name)])


def _counted(cells: pd.DataFrame, metric: str) -> str:
    """As in "51 of 57; +30 % [+25 %, +35 %]": counts and distances, whose size is of a network and
    its data, by their ratio, lambda and rho by their difference."""
    if cells.empty:
        return NONE
    on_side = (cells["value"] > 0) if PREDICTIONS[metric] == "up" else (cells["value"] < 0)
    ratio = "share" in protocol()["margins"][metric]
    ends = cells[["value", "low", "high"]].astype(float)
    if ratio:  # of what is not above 0 there is no logarithm
        above = ends.div(cells["baseline"].astype(float), axis=0).add(1)
        ends = np.log(above.where(above > 0))
    mean = frame.over_cells(ends)
    write = (lambda value: f"{100 * np.expm1(value):+.0f} %".replace("-", "−")) if ratio else signed
    told = f"; {frame.estimate(vars(mean), write)}" if mean else ""
    return f"{on_side.sum()} of {len(cells)}{told}"
