"""The paper's Tables V to VII with our measurements in place, and how often their cells agree."""

from collections.abc import Callable, Collection

import pandas as pd

from kpnb.metrics.formatting import MARKS, SYMBOLS, VERDICT_MARKS, count, interval, number, table
from kpnb.metrics.results import Comparison, Measure, Results
from kpnb.paper import METRICS, ROLES, agreement, agreement_rates, published_table

#: A space that does not break, between a number and its mark.
NARROW = "\u202f"


#: The paper's table that measurements on one kind of samples belong to.
TABLES = {"image": "V", "sentence": "VI", "question": "VI", "cloud": "VII"}
#: Our stand-ins by the paper's data set.
STAND_INS = {"SQuAD": "question", "SST-2": "sentence"}
#: Of every table here.
HEADER = ("layer", "data", "network", *SYMBOLS.values())


def paper_rate(metric: str, published: str) -> str:
    """How many of a table's cells are on the predicted side in a metric, as in 51 of 57."""
    rates = agreement_rates().set_index(["table", "metric"])
    agree, cells = rates[["agree", "cells"]].loc[(published, metric)]
    return f"{agree} of {cells}"


def rates_table() -> str:
    """How often each published table agrees with the hypotheses, by metric."""
    rates = agreement_rates()
    rows = []
    for name in dict.fromkeys(rates["table"]):
        part = rates[rates["table"] == name].set_index("metric")
        rows.append([f"Table {name}", *(_rate(part, metric) for metric in METRICS)])
    return table(["", *SYMBOLS.values()], rows)


def _rate(rates: pd.DataFrame, metric: str) -> str:
    if metric not in rates.index:
        return "not reported"
    agree, ties, cells = rates[["agree", "ties", "cells"]].loc[metric]
    return f"{agree} of {cells}" + (f" ({count(ties, 'tie')})" if ties else "")


def table_v(results: list[Results]) -> str:
    """Every cell of Table V, a section per network, and after each layer what was run here.

    Ours are the headline numbers: all samples, the run's own b, mean and 95% interval.
    """
    return _sections_by_network("V", results)


def table_vii(results: list[Results]) -> str:
    """Every cell of Table VII (point clouds), as `table_v` has them of Table V."""
    return _sections_by_network("VII", results)


def _sections_by_network(name: str, results: list[Results]) -> str:
    published = published_table(name, as_printed=True)
    ours = _headlines(results, [sample for sample, shown in TABLES.items() if shown == name])
    sections = []
    for network, part in published.groupby("network", sort=False):
        rows = []
        for layer, cells in part.groupby("layer", sort=False):
            for dataset, pair in cells.groupby("dataset", sort=False):
                rows += _published_pair(pair, (name, dataset, network, layer))
            place = (network, layer)
            rows += _our_rows(ours, layer, lambda cell, at=place: cell[1:2] + cell[4:] == at)
        sections.append(f"## {network}\n\n{table(HEADER, rows)}")
    return "\n\n".join(sections)


def table_vi(results: list[Results]) -> str:
    """Every cell of Table VI, a section per task, and after each what was run here."""
    published = published_table("VI", as_printed=True)
    sections = []
    for dataset, pair in published.groupby("dataset", sort=False):
        layer, sample = pair.iloc[0]["layer"], STAND_INS[dataset]
        rows = _published_pair(pair, ("VI", dataset, "BERT", layer))
        rows += _our_rows(_headlines(results, [sample]), layer, lambda cell: True)
        sections.append(f"## {dataset}\n\n{table(HEADER, rows)}")
    return "\n\n".join(sections)


def _published_pair(pair: pd.DataFrame, cell: tuple[str, ...]) -> list[list[str]]:
    outcomes = agreement().set_index(["table", "dataset", "network", "layer", "metric"])["outcome"]
    rows = []
    for role in ("S", "B"):
        row = pair[pair["learning"] == role].iloc[0]
        marks = {m: MARKS[outcomes[(*cell, m)]] if role == "S" else "" for m in METRICS}
        values = [f"{row[m]}{NARROW}{marks[m]}" for m in METRICS]
        rows.append([cell[3], cell[1], ROLES[role], *values])
    return rows


def _headlines(results: list[Results], samples: Collection[str]) -> dict:
    """{(preset, cell): {(role or "verdict", metric): (run, item)}} of the headline items that were
    measured on one of the kinds of `samples`."""
    found: dict = {}
    for run in results:
        for item in [*run.measures, *run.comparisons]:
            if item.sample in samples and run.is_headline(item) and item.metric in METRICS:
                what = item.role if isinstance(item, Measure) else "verdict"
                found.setdefault((run.preset, item.cell), {})[what, item.metric] = run, item
    return found


def _our_rows(ours: dict, layer: str, wanted: Callable[[tuple], bool]) -> list[list[str]]:
    """Rows of the cells (data set, network, scale, depth, layer) that are `wanted`."""
    rows = []
    for (preset, cell), items in ours.items():
        if wanted(cell):
            dataset, network, scale, *_ = cell
            run, item = next(iter(items.values()))
            over = f"{count(item.n_samples, item.sample)}, {count(item.n_seeds, 'seed')}"
            what = f"ours: {dataset}, {network} ({scale}), {preset}, {over}, b = {run.threshold}"
            for role in ("S", "B"):
                cells = [_our_cell(items, role, metric) for metric in METRICS]
                rows.append([f"**{layer}**", f"**{what}**", f"**{ROLES[role]}**", *cells])
    return rows or [[layer, "ours: not run here", "", *["–"] * len(METRICS)]]


def _our_cell(items: dict, role: str, metric: str) -> str:
    if (role, metric) not in items:
        return "not run here"
    measure: Measure = items[role, metric][1]
    mark = ""
    if role == "S" and ("verdict", metric) in items:
        comparison: Comparison = items["verdict", metric][1]
        mark = VERDICT_MARKS[comparison.verdict]
    return f"**{number(measure.mean)}**{interval(measure.low, measure.high)}{NARROW}{mark}".strip()
