"""The paper's tables with our measurements in place, and how often both lie on the predicted side.

Functions take the frame of `book.make.frame` and return markdown.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from book.make import frame
from book.make.chart import Chart, Line, Mark, chart_fragments
from book.make.forest import PLACE, behind, cell_lines, cell_name, is_relative, panels
from book.make.frame import CELL, MAIN_TABLES, NONE, NOT_HERE, over, pivot, place, records
from book.make.texts import badge, block, sign, table
from kpnb.metrics.evidence import THRESHOLDS
from kpnb.metrics.formatting import SYMBOLS, signed
from kpnb.paper import METRICS, PREDICTIONS, ROLES, TABLES
from kpnb.run.sweeps import Run, Sweep, read_sweeps

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
    """{file: content} of Tables II to IX: each one's chart, and the numbers behind folds."""
    sweeps, made = read_sweeps(), {}
    for name in TABLES:
        key = f"table_{name.lower()}"
        if name in SHOWN:
            chart, parts = sweep_chart(sweeps[key], rows), {"": sweep_table(sweeps[key], rows)}
        else:
            chart, parts = verification_chart(name, rows), verification_tables(name, rows)
        folds = [block("fold", title=f"The numbers{title and f': {title}'}", shown=shown)
                 for title, shown in parts.items()]  # fmt: skip
        drawn = chart_fragments(key, chart)
        made |= drawn | {key: "\n\n".join([drawn[key], *folds])}
    return made


# Their charts: a line for each cell of ours, the paper's as marks


def verification_chart(name: str, rows: pd.DataFrame) -> Chart:
    """A line for each network and layer of Table V, VI or VII, or for each task of texts."""
    ours, by = _ours(name, rows), "dataset" if name == "VI" else "network"
    ours = ours[(ours["kind"] == "comparison") & ours["headline"]]
    best = ours.assign(study=ours["preset"] == "study").sort_values("study", kind="stable")
    ours, lines = best.drop_duplicates([*PLACE[1:], "metric"], keep="last"), []
    for title, part in frame.paper_rows(rows, name).groupby(by, sort=False):
        lines.append(Line((title,), heading=True))
        for layer, printed in part.groupby("layer", sort=False):
            here = ours[_stands_in(ours, name, title, layer)]
            lines += cell_lines(here, _name_in_network, printed, layer)
    return _chart(name, METRICS, lines)


def _name_in_network(row: dict) -> str:
    return cell_name(row).removeprefix(f"{row['network']}, ")


def sweep_chart(sweep: Sweep, rows: pd.DataFrame) -> Chart:
    """A line for each run, and at each b measured where the table varies it."""
    tell, _, every_b = SHOWN[sweep.table]
    known, lines, network, before = frame.paper_rows(rows, sweep.table), [], "", None
    for name, run in sweep.runs.items():
        given = sweep.given(name, "study")
        if given["network"] != network:
            network = given["network"]
            lines.append(Line((network,), heading=True))
        ours = frame.sweep_rows(rows, [name])
        ours = ours[(ours["kind"] == "comparison") & (ours["headline"] | ours["other_b"] & every_b)]
        printed = _beside(run, known[: 0 if run.published == before else None])
        before = run.published
        bs = [b for b in THRESHOLDS if every_b and any(map(len, _at_b(ours, printed, b)))]
        for b in bs or [None]:
            here, beside = _at_b(ours, printed, b)
            told = _told(given | {"threshold": b}, tell).removeprefix(f"{network}, ")
            lines += cell_lines(here, lambda _, told=told: told, beside, told)
    metrics = [metric for metric in METRICS if metric in set(known["metric"])]
    return _chart(sweep.table, metrics, lines)


def _at_b(
    ours: pd.DataFrame, printed: pd.DataFrame, b: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What there is at one b; None: at any."""
    if b is None:
        return ours, printed
    return ours[ours["threshold"] == b], printed[printed["threshold_b"] == str(b)]


def _chart(name: str, metrics: Sequence[str], lines: Sequence[Line]) -> Chart:
    return Chart(block("published_title", table=name), panels(metrics, name), lines)


def _beside(run: Run, known: pd.DataFrame) -> pd.DataFrame:
    """The printed rows that a run stands beside."""
    wanted = known[list(run.published)].isin(run.published).all(axis=1)
    return known[wanted & bool(run.published)]


# Their tables


def verification_tables(name: str, rows: pd.DataFrame) -> dict[str, str]:
    """Every cell of Table V, VI or VII: a table per network or, of texts, per task, and after each
    layer what was run here.

    Ours are the headline numbers: all samples, the run's own b, mean and 95% interval; a main
    study's go before a sweep's of the same cell.
    """
    ours, by = _measured(_ours(name, rows)), "dataset" if name == "VI" else "network"
    tables, printed = {}, _printed(frame.paper_rows(rows, name), METRICS)
    for title, part in printed.groupby(by, sort=False):
        lines = []
        for layer, cells in part.groupby("layer", sort=False):
            here = ours[_stands_in(ours, name, title, layer)]
            lines += _printed_lines(cells, METRICS, lambda row: row["layer"])
            lines += _study_lines(here, layer) or [_absent(layer, METRICS)]
        tables[title] = _table("layer", METRICS, lines)
    return tables


def _ours(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """What was found here that stands beside a table, a sweep's before a main study's."""
    swept = frame.sweep_rows(rows, read_sweeps()["table_v"].runs if name == "V" else ())
    ours = pd.concat([swept, frame.main_rows(rows)])
    return ours[ours["table"] == name]


def _stands_in(ours: pd.DataFrame, name: str, title: str, layer: str) -> pd.Series:
    """Which of ours belong to a network and layer of a table, or to one of its tasks."""
    if name == "VI":
        return ours["sample"] == STAND_INS[title]
    return (ours["network"] == title) & (ours["layer"] == layer)


def sweep_table(sweep: Sweep, rows: pd.DataFrame) -> str:
    """Each run's published rows, then ours: mean, 95% interval, and the verdict's mark."""
    tell, roles, every_b = SHOWN.get(sweep.table, ({}, "SB", False))
    known = frame.paper_rows(rows, sweep.table)
    metrics = [metric for metric in METRICS if metric in set(known["metric"])]
    lines, before, printed = [], None, _printed(known, metrics)
    for name, run in sweep.runs.items():
        if run.published and run.published != before:
            lines += _printed_lines(_beside(run, printed), metrics, _cell)
        before, ours = run.published, frame.sweep_rows(rows, [name])
        if ours.empty:
            lines.append(_absent(_told(sweep.given(name, "study"), tell), metrics))
        for b, cell in _measured(ours, every_b).groupby("threshold"):
            what = _told(cell["settings"].iloc[0] | {"threshold": b}, tell)
            lines += _our_lines(cell, what, roles, metrics, NONE)
    return _table("cell", metrics, lines)


def _table(first: str, metrics: Sequence[str], lines: Lines) -> str:
    header = [first, "data", "network", *(SYMBOLS[metric] for metric in metrics)]
    return table(header, lines, flush=len(metrics))


def _measured(ours: pd.DataFrame, every_b: bool = False) -> pd.DataFrame:
    shown = ours["headline"] | (ours["other_b"] & every_b)
    return ours[shown & (ours["kind"] == "measure") & ours["metric"].isin(METRICS)]


def _printed(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """A row for each printed one, roles in their order within a cell, with a column a metric; a
    student's numbers carry the mark of the side of its baseline that they are on."""
    same = frame.PAPER_CELL[1:]
    group, order = rows.groupby(same, sort=False).ngroup(), rows["role"].map("TSB".index)
    keys = ["group", "order", *same, "learning", "pair"]
    text = [f"{row['printed']}{sign(row['outcome'])}" for row in records(rows)]
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
    """A line per role; under a number its interval, and under a student's the verdict."""
    told = [(frame.estimate(row, shown="**{}**"), badge(row["verdict"])) for row in records(cell)]
    text = ["<br>".join([*value.split(" ", 1), *filter(None, [said])]) for value, said in told]
    first = cell.iloc[0]
    head = f"ours: {first['dataset']}, {place(first)}, {first['preset']}, {over(first)}{b}"
    wide = pivot(cell, text, "role", "metric", metrics, blank).reindex(list(roles)).fillna(blank)
    return [
        [f"**{what}**", head if role == roles[0] else "ours", f"**{ROLES[role]}**", *values]
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


def rates_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """Each table's cells, the paper's above ours, which are the measurable ones: how many lie
    strictly on the predicted side, and the random-effects mean of student against baseline."""
    lines, drawn = [], {}
    for title, whose, found in _sets(rows):
        told = {metric: _agreeing(found[found["metric"] == metric], metric) for metric in METRICS}
        lines.append([f"{title}, {whose}", *(_told_rate(*told[m], m) for m in METRICS)])
        look = "here" if whose == "here" else "paper"
        for metric, (_, _, mean) in told.items():
            made = [Mark(look, **mean)] if mean else []
            drawn.setdefault(title, {}).setdefault(metric, []).extend(made)
    charted = [Line((f"Table {title}",), marks) for title, marks in drawn.items()]
    chart = Chart(block("rates_title"), panels(), charted)
    return behind("claim_rates", chart, table(["table", *SYMBOLS.values()], lines))


def _sets(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The cells of each table, and of the main ones together: the paper's, then ours."""
    ours = rows[(rows["preset"] == "study") & (rows["kind"] == "comparison") & rows["headline"]]
    ours = ours[ours["verdict"] != "not measurable"]
    for names in (*((name,) for name in TABLES), MAIN_TABLES):
        title = " to ".join(dict.fromkeys((names[0], names[-1])))
        printed = pd.concat([frame.paper_rows(rows, name) for name in names])
        printed = printed.assign(value=printed["value"] - printed["baseline"])
        yield title, "the paper", printed[printed["outcome"] != ""]
        yield title, "here", pd.concat([_cells_of(name, ours) for name in names])


def _cells_of(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    found = frame.standing_for(ours, name, FEW_OUTPUTS if name == "VIII" else ())
    return found.drop_duplicates(["metric", *frame.identity(name)])


def _agreeing(cells: pd.DataFrame, metric: str) -> tuple[int, int, dict[str, float] | None]:
    """How many cells are on the predicted side, of how many, and their mean with its interval:
    counts and distances, whose size is of a network and its data, by their ratio, in percent."""
    on_side = (cells["value"] > 0) if PREDICTIONS[metric] == "up" else (cells["value"] < 0)
    ends = cells[["value", "low", "high"]].astype(float)
    if is_relative(metric):  # of what is not above 0 there is no logarithm
        above = ends.div(cells["baseline"].astype(float), axis=0).add(1)
        ends = np.log(above.where(above > 0))
    mean = frame.over_cells(ends)
    found = {name: getattr(mean, name) for name in ends} if mean else None
    if found and is_relative(metric):
        found = {name: 100 * float(np.expm1(end)) for name, end in found.items()}
    return int(on_side.sum()), len(cells), found


def _told_rate(agree: int, cells: int, mean: dict[str, float] | None, metric: str) -> str:
    """As in "51 of 57", and below it "+30 % [+25 %, +35 %]"."""
    percent = lambda value: f"{value:+.0f}\u00a0%".replace("-", "−")  # noqa: E731
    told = f"<br>{frame.estimate(mean, percent if is_relative(metric) else signed)}" if mean else ""
    return f"{agree} of {cells}{told}" if cells else NONE
