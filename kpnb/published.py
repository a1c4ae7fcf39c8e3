"""The numbers the paper printed, as data, and how often they agree with its own hypotheses.

The CSV files hold every number of Tables II to IX as printed. The text that reached us had lost
the layer and data-set labels of some rows; labels put back with less than certainty end in "?".
"""

from collections.abc import Sequence
from functools import cache

import pandas as pd

from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file
from kpnb.vocabulary import METRICS, PREDICTIONS

FILES = {
    "II": "table_II.csv",
    "III": "table_III.csv",
    "IV": "table_IV.csv",
    "V": "table_V.csv",
    "VI": "table_VI.csv",
    "VII": "table_VII.csv",
    "VIII": "table_VIII.csv",
    "IX": "table_IX.csv",
}
TABLES = tuple(FILES)
NOTES = "notes.csv"

_CELL = ["table", "dataset", "network", "layer", "grid_size", "threshold_b"]


@cache
def _read(name: str) -> pd.DataFrame:
    with packed_file(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def published_table(table: str, as_printed: bool = False) -> pd.DataFrame:
    """One of the paper's tables, a row per network, layer, data set and way of learning.

    Arguments:
        table: "II" to "IX".
        as_printed: keep the numbers as the strings in print ("0.50") instead of floats;
            what a table does not report is then "" instead of NaN.
    Returns: columns table, dataset, network, layer, learning ("T", "S", "B", or "distilled from
        ..." and "scratch"), grid_size, threshold_b (empty where the table names none), and the
        six metrics n_fg, n_bg, lambda (Eq. 5-7), d_mean, d_var (Eq. 8), rho (Eq. 9).
    Raises: KpnbError for a table that is not there.
    """
    if table not in TABLES:
        raise KpnbError(f"there is no published table {table!r}: choose one of {', '.join(TABLES)}")
    printed = _read(FILES[table])
    if as_printed:
        return printed.copy()
    numbers = printed[list(METRICS)].apply(pd.to_numeric)
    return printed.assign(**{metric: numbers[metric] for metric in METRICS})


def published_rows(network: str, layers: Sequence[str]) -> pd.DataFrame:
    """Every row of the paper's tables for one network at some layers, numbers as printed."""
    rows = pd.concat([published_table(table, as_printed=True) for table in TABLES])
    rows = rows[(rows["network"] == network) & rows["layer"].isin(layers)]
    return rows.set_index(["table", "dataset", "layer", "learning"]).drop(columns="network")


def likely_misprints() -> pd.DataFrame:
    """Printed numbers that look odd: where they stand, what was likely meant, and why."""
    return _read(NOTES).copy()


def role(learning: str) -> str:
    """The role (T, S or B) of a row's `learning`."""
    if learning.startswith("distilled"):
        return "S"
    return "B" if learning == "scratch" else learning


def outcome(metric: str, student: float, baseline: float) -> str:
    """ "agree" if strictly on the predicted side at the printed precision, "tie", "disagree"."""
    if student == baseline:
        return "tie"
    went = "up" if student > baseline else "down"
    return "agree" if went == PREDICTIONS[metric] else "disagree"


def _pairs(table: str) -> pd.DataFrame:
    """Student and baseline of each cell side by side: the i-th student with the i-th baseline."""
    rows = published_table(table)
    rows["role"] = rows["learning"].map(role)
    rows["pair"] = rows.groupby([*_CELL, "role"]).cumcount()
    student = rows[rows["role"] == "S"]
    baseline = rows[rows["role"] == "B"]
    return student.merge(baseline, on=[*_CELL, "pair"], suffixes=("_s", "_b"), validate="1:1")


@cache
def _agreement() -> pd.DataFrame:
    rows = []
    for table in TABLES:
        for pair in _pairs(table).to_dict("records"):
            cell = {name: pair[name] for name in _CELL}
            for metric in METRICS:
                student, baseline = pair[f"{metric}_s"], pair[f"{metric}_b"]
                if pd.isna(student):
                    continue
                came_out = outcome(metric, student, baseline)
                rows.append({**cell, "metric": metric, "outcome": came_out})
    return pd.DataFrame(rows)


def agreement() -> pd.DataFrame:
    """Every published comparison of a student with its baseline, and how it came out.

    Returns: a row per pair and metric: table, dataset, network, layer, grid_size, threshold_b,
        metric, outcome ("agree", "tie" or "disagree" with `PREDICTIONS`; ties are no agreement).
    """
    return _agreement().copy()


def agreement_rates(by: tuple[str, ...] = ("table",)) -> pd.DataFrame:
    """How often the paper's own cells agree with its hypotheses: the rate to be held against.

    Arguments:
        by: columns of `agreement()` to break down by, beside the metric; () for all tables.
    Returns: columns *by, metric, agree, ties, cells, rate (= agree / cells).
    Raises: KpnbError for a column that is not there.
    """
    rows = _agreement()
    unknown = [name for name in by if name not in _CELL]
    if unknown:
        raise KpnbError(f"agreement_rates cannot break down by {unknown[0]!r}: use {_CELL}")
    counts = (
        rows.assign(agree=rows["outcome"] == "agree", ties=rows["outcome"] == "tie")
        .groupby([*by, "metric"], sort=False)
        .agg(agree=("agree", "sum"), ties=("ties", "sum"), cells=("agree", "size"))
        .reset_index()
    )
    return counts.assign(rate=counts["agree"] / counts["cells"])
