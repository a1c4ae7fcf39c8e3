"""The paper's tables with our measurements in place, and how often both lie on the predicted side.

Functions take the frame of `book.make.frame` and return markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import pandas as pd

from book.make.frame import (
    CELL,
    MAIN_TABLES,
    NONE,
    NOT_HERE,
    estimate,
    identity,
    main_rows,
    over,
    paper_rows,
    pivot,
    place,
    records,
    standing_for,
    sweep_rows,
)
from kpnb.metrics.formatting import MARKS, SYMBOLS, VERDICT_MARKS, count, number, table
from kpnb.paper import METRICS, ROLES, TABLES, agreement_rates
from kpnb.run.sweeps import Sweep, read_sweeps

#: A space that does not break, between a number and its mark.
NARROW = "\u202f"
#: The paper's data sets that our stand-ins are not of one table alone, by our kind of samples.
STAND_INS = {"SQuAD": "question", "SST-2": "sentence"}
#: What sets a run of a sweep apart, in words: parameter -> how its value is told.
TOLD = {
    "teacher": "taught by {}",
    "grid": "{0}×{0} cells",
    "augment": "augmented {}",
    "outputs": "{} outputs",
    "threshold": "b = {}",
}
#: How each sweep's table is shown: what sets its runs apart, whose numbers, at which thresholds.
SHOWN: dict[str, dict] = {
    "table_ii": {"tell": ["teacher"]},
    "table_iii": {"tell": ["grid", "threshold"], "every_threshold": True},
    "table_iv": {"tell": ["augment"], "roles": "TSB"},
    "table_viii": {"tell": ["outputs"]},
    "table_ix": {"tell": ["teacher"]},
}
#: Table VIII has networks of 10 outputs; the sweep's runs with many more stand for no cell of it.
FEW_OUTPUTS = ("*_outputs2", "*_outputs4", "*_outputs12")

Lines = list[list[str]]


def published_tables(rows: pd.DataFrame) -> dict[str, str]:
    """{name: markdown} of Tables II to IX."""
    sweeps = read_sweeps()
    made = {"table_v": table_v(rows), "table_vi": table_vi(rows), "table_vii": table_vii(rows)}
    return made | {name: sweep_table(sweeps[name], rows, **how) for name, how in SHOWN.items()}


def table_v(rows: pd.DataFrame) -> str:
    """Every cell of Table V, a section per network, and after each layer what was run here.

    Ours are the headline numbers: all samples, the run's own b, mean and 95% interval.
    """
    ours = [sweep_rows(rows, list(read_sweeps()["table_v"].runs)), main_rows(rows)]
    return _by_network("V", rows, pd.concat(ours))


def table_vii(rows: pd.DataFrame) -> str:
    """Every cell of Table VII (point clouds), as `table_v` has them of Table V."""
    return _by_network("VII", rows, main_rows(rows))


def _by_network(name: str, rows: pd.DataFrame, ours: pd.DataFrame) -> str:
    ours, sections = ours[ours["table"] == name], []
    for network, part in paper_rows(rows, name).groupby("network", sort=False):
        lines = []
        for layer, cells in part.groupby("layer", sort=False):
            lines += _published_lines(cells, lambda row: row["layer"])
            here = (ours["network"] == network) & (ours["layer"] == layer)
            lines += _our_lines(ours[here], layer)
        sections.append(_section(network, lines))
    return "\n\n".join(sections)


def table_vi(rows: pd.DataFrame) -> str:
    """Every cell of Table VI, a section per task, and after each what was run here."""
    ours, sections = main_rows(rows), []
    for dataset, part in paper_rows(rows, "VI").groupby("dataset", sort=False):
        lines = _published_lines(part, lambda row: row["layer"])
        here = ours["sample"] == STAND_INS[dataset]
        lines += _our_lines(ours[here], part["layer"].iloc[0])
        sections.append(_section(dataset, lines))
    return "\n\n".join(sections)


def _section(title: str, lines: Lines) -> str:
    header = ["layer", "data", "network", *SYMBOLS.values()]
    return f"## {title}\n\n{table(header, lines)}"


def _published_lines(
    rows: pd.DataFrame,
    where: Callable[[dict], str],
    metrics: Sequence[str] = METRICS,
    roles: str = "SB",
) -> Lines:
    """A line for each printed row, roles in their order within a cell; a student's numbers carry
    the mark of the side of its baseline that they are on."""
    same = ["dataset", "network", "layer", "grid_size", "threshold_b"]
    rows = rows.assign(
        group=rows.groupby(same, sort=False).ngroup(),
        order=rows["role"].map(roles.index),
    )
    keys = ["group", "order", *same, "learning", "pair"]
    text = [f"{r['printed']}{NARROW}{MARKS.get(r['outcome'], '')}" for r in records(rows)]
    wide = pivot(rows, text, keys, "metric", metrics, NONE).reset_index()
    wide = wide.drop(columns="pair").drop_duplicates()
    wide = wide.sort_values(["group", "order"], kind="stable")
    return [
        [where(row), row["dataset"], ROLES.get(row["learning"], row["learning"])]
        + [row[metric] for metric in metrics]
        for row in records(wide)
    ]


def _our_lines(ours: pd.DataFrame, layer: str) -> Lines:
    """Two lines for each of our cells; a main study's numbers go before a sweep's of the cell."""
    found = ours[ours["headline"] & ours["metric"].isin(METRICS) & (ours["kind"] == "measure")]
    lines = []
    for _, cell in found.groupby(["preset", *CELL], sort=False):
        cell = cell.drop_duplicates(["role", "metric"], keep="last")
        what = f"**{_ours(cell.iloc[0])}, b = {cell['own_b'].iloc[0]}**"
        lines += [
            [f"**{layer}**", what, *line] for line in _role_lines(cell, "SB", METRICS, NOT_HERE)
        ]
    return lines or [[layer, f"ours: {NOT_HERE}", "", *[NONE] * len(METRICS)]]


def _ours(row: Mapping) -> str:
    return f"ours: {row['dataset']}, {place(row)}, {row['preset']}, {over(row)}"


def _role_lines(
    rows: pd.DataFrame, roles: Sequence[str], metrics: Sequence[str], blank: str
) -> Lines:
    """A line per role, with a student's verdicts as marks: the role's name, then its numbers."""
    text = [
        estimate(row, value=f"**{number(row['value'])}**")
        + NARROW + VERDICT_MARKS.get(row["verdict"], "")
        for row in records(rows)
    ]  # fmt: skip
    wide = pivot(rows, text, "role", "metric", metrics, blank).reindex(list(roles)).fillna(blank)
    return [[f"**{ROLES[role]}**", *values] for role, *values in wide.itertuples(name=None)]


def sweep_table(
    sweep: Sweep,
    rows: pd.DataFrame,
    tell: Sequence[str],
    roles: str = "SB",
    every_threshold: bool = False,
) -> str:
    """Each run's published rows, then ours: mean, 95% interval, and the verdict's mark.

    tell: the parameters, keys of `TOLD`, that set the runs apart. roles: whose numbers of ours are
    shown. every_threshold: at each b that was measured, not only at the run's own.
    """
    printed = paper_rows(rows, sweep.table)
    metrics = [metric for metric in METRICS if metric in set(printed["metric"])]
    lines = []
    for _, names in groupby(sweep.runs, key=lambda run: str(sweep.runs[run].published)):
        group = list(names)
        lines += _published_lines(sweep.beside(group[0], printed), _cell, metrics, "TSB")
        for name in group:
            ours = sweep_rows(rows, [name])
            if ours.empty:
                what = [_told(sweep.given(name, "study"), tell), f"ours: {NOT_HERE}", ""]
                lines.append([*what, *[NONE] * len(metrics)])
            lines += _run_lines(ours, tell, roles, metrics, every_threshold)
    return table(["cell", "data", "network", *(SYMBOLS[m] for m in metrics)], lines)


def _cell(row: dict) -> str:
    threshold = f"b = {row['threshold_b']}" if row["threshold_b"] else ""
    parts = (row["network"], row["layer"], row["grid_size"], threshold)
    return ", ".join(part for part in parts if part)


def _run_lines(
    ours: pd.DataFrame,
    tell: Sequence[str],
    roles: str,
    metrics: Sequence[str],
    every_threshold: bool,
) -> Lines:
    shown = ours[(ours["selection"] == "all") & (ours["distance"] != "epoch")]
    shown = shown[(shown["kind"] == "measure") & shown["threshold"].notna()]
    if not every_threshold:
        shown = shown[shown["threshold"] == shown["own_b"]]
    lines = []
    for b, part in shown.groupby("threshold"):
        settings = part["settings"].iloc[0] | {"threshold": b}
        head = [f"**{_told(settings, tell)}**", f"**{_ours(part.iloc[0])}**"]
        lines += [[*head, *line] for line in _role_lines(part, roles, metrics, NONE)]
    return lines


def _told(settings: dict, tell: Sequence[str]) -> str:
    layer = ", ".join(settings["layers"])
    told = [TOLD[name].format(_setting(settings, name)) for name in tell if settings.get(name)]
    return ", ".join([settings["network"], layer, *told])


def _setting(settings: dict, name: str) -> object:
    """A teacher of the student's own kind by its name."""
    value = settings[name]
    return settings["network"] if (name, value) == ("teacher", "same") else value


# How often the paper agrees with itself


def paper_rate(metric: str, published: str) -> str:
    """How many of a table's cells are on the predicted side in a metric, as in 51 of 57."""
    rates = agreement_rates().set_index(["table", "metric"])[["agree", "cells"]]
    return "{agree} of {cells}".format(
        **rates.loc[(published, metric), ["agree", "cells"]].astype(int)
    )


def rates_table() -> str:
    """How often each published table agrees with the hypotheses, by metric."""
    rates = agreement_rates()
    tie = rates["ties"].map(lambda n: f" ({count(n, 'tie')})" if n else "")
    told = rates["agree"].astype(str) + " of " + rates["cells"].astype(str) + tie
    wide = pivot(rates, told, "table", "metric", METRICS, "not reported")
    return table(
        ["", *SYMBOLS.values()],
        wide.rename("Table {}".format).reset_index().to_numpy(),
    )


def rates_beside(rows: pd.DataFrame) -> str:
    """How often each table's cells lie on the predicted side: the paper's above ours.

    The same rule for both, a point estimate strictly on the side; in brackets how many of ours have
    an interval that excludes zero on that side, and how many on the other.
    """
    ours, rates = (
        rows[(rows["preset"] == "study") & (rows["kind"] == "comparison")],
        agreement_rates(),
    )
    ours, lines = ours[ours["headline"]], []
    for names in (*((name,) for name in TABLES), MAIN_TABLES):
        title = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        printed = rates[rates["table"].isin(names)].groupby("metric")[["agree", "cells"]].sum()
        found = pd.concat([_cells_of(name, ours) for name in names])
        told = [
            ("{agree} of {cells}".format(**printed.loc[m]), _counted(found[found["metric"] == m]))
            if m in printed.index else (NONE, NONE)
            for m in METRICS
        ]  # fmt: skip
        for whose, line in zip(("the paper", "here"), zip(*told, strict=True), strict=True):
            lines.append([f"{title}, {whose}", *line])
    return table(["table", *SYMBOLS.values()], lines)


def _cells_of(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    found = standing_for(ours, name, FEW_OUTPUTS if name == "VIII" else ())
    return found.drop_duplicates(["metric", *identity(name)])


def _counted(cells: pd.DataFrame) -> str:
    sign = cells["prediction"].map({"up": 1, "down": -1})
    on_side = (cells["value"] * sign > 0).sum()
    return f"**{on_side} of {len(cells)}** ({decided(cells)})" if len(cells) else "not run"


def decided(rows: pd.DataFrame) -> str:
    """Intervals on the predicted side : on the other."""
    return " : ".join(str((rows["verdict"] == v).sum()) for v in ("reproduced", "contradicted"))
