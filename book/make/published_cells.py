"""The paper's Tables II, III, IV, VIII and IX with the runs of our sweeps in place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from book.make.published_pages import NARROW
from kpnb.metrics.formatting import MARKS, SYMBOLS, VERDICT_MARKS, count, interval, number, table
from kpnb.metrics.results import Comparison, Measure, Results
from kpnb.paper import METRICS, ROLES, outcome, published_table, role
from kpnb.run.sweeps import Sweep

HEADER = ("cell", "data", "network", *SYMBOLS.values())
#: What sets a run of a sweep apart, in words: parameter -> how its value is told.
TOLD = {
    "teacher": "taught by {}",
    "grid": "{0}×{0} cells",
    "augment": "augmented {}",
    "outputs": "{} outputs",
    "threshold": "b = {}",
}
_SAME_ROWS = ["dataset", "network", "layer", "grid_size", "threshold_b"]


def sweep_table(
    sweep: Sweep,
    cells: Sequence[Results],
    tell: Sequence[str],
    roles: str = "SB",
    every_threshold: bool = False,
) -> str:
    """Each run's published rows, then ours: mean, 95% interval, and the verdict's mark.

    cells: results of any sweeps, found by their runs' names. tell: the parameters, keys of `TOLD`,
    that set the runs apart. roles: whose numbers of ours are shown. every_threshold: at each b that
    was measured, not only at the run's own.
    """
    found = {run.run: run for run in cells}
    metrics = _reported(sweep)
    lines = []
    for _, names in groupby(sweep.runs, key=lambda run: str(sweep.runs[run].published)):
        group = list(names)
        lines += _published_lines(sweep.published_rows(group[0]), metrics)
        for name in group:
            lines += _our_lines(sweep, name, found.get(name), (tell, roles, every_threshold))
    width = 3 + len(metrics)
    header = [*HEADER[:3], *(SYMBOLS[metric] for metric in metrics)]
    return table(header, [[*line[:3], *_chosen(line[3], metrics)][:width] for line in lines])


def _reported(sweep: Sweep) -> list[str]:
    """The metrics that the paper's table prints; a table of two columns stays one."""
    rows = published_table(sweep.table)
    return [metric for metric in METRICS if rows[metric].notna().any()]


def _chosen(values: dict[str, str], metrics: Sequence[str]) -> list[str]:
    return [values.get(metric, "–") for metric in metrics]


def _published_lines(rows: pd.DataFrame, metrics: Sequence[str]) -> list[tuple]:
    """Printed rows; the student's numbers are marked with the side of its baseline they are on."""
    lines = []
    for _, pair in rows.groupby(_SAME_ROWS, sort=False):
        baselines = pair[pair["learning"].map(role) == "B"].to_dict("records")
        order = sorted(pair.to_dict("records"), key=lambda row: "TSB".index(role(row["learning"])))
        for row in order:
            against = baselines[0] if baselines and role(row["learning"]) == "S" else None
            values = {m: _printed(row, against, m) for m in metrics}
            where = ", ".join(part for part in (row["network"], row["layer"], *_place(row)) if part)
            lines.append((where, row["dataset"], _learning(row["learning"]), values))
    return lines


def _place(row: dict) -> tuple[str, str]:
    threshold = f"b = {row['threshold_b']}" if row["threshold_b"] else ""
    return row["grid_size"], threshold


def _printed(row: dict, baseline: dict | None, metric: str) -> str:
    if pd.isna(row[metric]):
        return "–"
    mark = MARKS[outcome(metric, row[metric], baseline[metric])] if baseline else ""
    return f"{row[metric]:.2f}{NARROW}{mark}".strip()


def _learning(learning: str) -> str:
    return ROLES.get(learning, learning)


def _our_lines(sweep: Sweep, name: str, run: Results | None, how: tuple) -> list[tuple]:
    tell, roles, every_threshold = how
    if run is None:
        return [(_told(sweep.given(name, "study"), tell), "ours: not run here", "", {})]
    b = sorted({m.threshold for m in run.measures if m.threshold is not None})
    lines = []
    for threshold in b if every_threshold else [run.threshold]:
        for one in roles:
            values = {metric: _ours(run, one, metric, threshold) for metric in METRICS}
            first = next(m for m in run.measures if m.threshold == threshold)
            over = f"{count(first.n_samples, first.sample)}, {count(first.n_seeds, 'seed')}"
            what = (
                f"**ours: {first.dataset}, {first.network} ({first.scale}), {run.preset}, {over}**"
            )
            cell = f"**{_told(run.settings | {'threshold': threshold}, tell)}**"
            lines.append((cell, what, f"**{ROLES[one]}**", values))
    return lines


def _told(settings: dict, tell: Sequence[str]) -> str:
    layer = ", ".join(settings["layers"])
    told = [TOLD[name].format(_value(settings, name)) for name in tell if settings.get(name)]
    return ", ".join([settings["network"], layer, *told])


def _value(settings: dict, name: str) -> object:
    """A teacher of the student's own kind by its name."""
    value = settings[name]
    return settings["network"] if (name, value) == ("teacher", "same") else value


def _ours(run: Results, one: str, metric: str, threshold: float) -> str:
    def same(item: Measure | Comparison) -> bool:
        all_samples = item.selection == "all" and item.distance in (None, "step")
        return all_samples and (item.metric, item.threshold) == (metric, threshold)

    measured = [m for m in run.measures if same(m) and m.role == one]
    if not measured:
        return "–"
    mark = ""
    if one == "S":
        mark = next((VERDICT_MARKS[c.verdict] for c in run.comparisons if same(c)), "")
    item = measured[0]
    return f"**{number(item.mean)}**{interval(item.low, item.high)}{NARROW}{mark}".strip()
