"""What the paper says, as data: its metrics and layers, the numbers it prints, its settings.

The CSV files hold every number of Tables II to IX as printed. The text that reached us had lost
the layer and data-set labels of some rows; labels put back with less than certainty end in "?".
The paper's settings, with their source, are the YAML files of SETTING_FILES.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import yaml

from kpnb.errors import KpnbError, require
from kpnb.fingerprint import packed_file

if TYPE_CHECKING:  # the functions that need it import it, as it takes half a second
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """One of the paper's six metrics.

    symbol: as TeX, as it is printed. plain: without TeX. label: with its unit, for axes.
    hypothesis: which one it belongs to. prediction: the side ("up" or "down") of the baseline on
    which the paper expects the student.
    """

    name: str
    symbol: str
    plain: str
    label: str
    hypothesis: int
    prediction: str


_POINTS = r"$N_{\mathrm{%s}}$ [points]"
_SPEED = r"$D_{\mathrm{%s}}$ [1]"
#: In the order of the paper's columns; Eq. 5-7, 8 and 9.
METRIC_RULES = {
    metric.name: metric
    for metric in (
        Metric("n_fg", r"$N^{fg}_{point}$", "N_fg", _POINTS % "fg", 1, "up"),
        Metric("n_bg", r"$N^{bg}_{point}$", "N_bg", _POINTS % "bg", 1, "down"),
        Metric("lambda", r"$\lambda$", "λ", r"$\lambda$ [1]", 1, "up"),
        Metric("d_mean", r"$D_{mean}$", "D_mean", _SPEED % "mean", 2, "down"),
        Metric("d_var", r"$D_{var}$", "D_var", _SPEED % "var", 2, "down"),
        Metric("rho", r"$\rho$", "ρ", r"$\rho$ [1]", 3, "up"),
    )
}
METRICS = tuple(METRIC_RULES)
#: Those of the final network alone; the others follow its training.
FINAL_METRICS = ("n_fg", "n_bg", "lambda")
#: Those of the weight distance, which may be summed per step or per epoch.
DISTANCE_METRICS = ("d_mean", "d_var")
HYPOTHESES = {name: metric.hypothesis for name, metric in METRIC_RULES.items()}
PREDICTIONS = {name: metric.prediction for name, metric in METRIC_RULES.items()}
#: Of image networks, from the input upwards, as the tables list them.
LAYERS = ("Conv", "FC1", "FC2", "FC3")
ROLES = {"T": "teacher", "S": "student", "B": "baseline"}
#: Scores of networks: what each is, and on which samples.
SCORES = {
    f"{key}_{split}": (name, samples)
    for key, name in (("accuracy", "accuracy"), ("f1", "F1"), ("exact_match", "exact match"))
    for split, samples in (("test", "unseen"), ("new", "new"), ("train", "training"))
}

TABLE_FILES = {
    "II": "table_II.csv", "III": "table_III.csv", "IV": "table_IV.csv", "V": "table_V.csv",
    "VI": "table_VI.csv", "VII": "table_VII.csv", "VIII": "table_VIII.csv", "IX": "table_IX.csv",
}  # fmt: skip
TABLES = tuple(TABLE_FILES)
_CELL = ["table", "dataset", "network", "layer", "grid_size", "threshold_b"]


@cache
def _read(name: str) -> pd.DataFrame:
    import pandas as pd

    with packed_file(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def published_table(table: str, as_printed: bool = False) -> pd.DataFrame:
    """One of the paper's tables, "II" to "IX", a row per network, layer, data set and learning.

    as_printed: keep the numbers as the strings in print ("0.50") instead of floats; what a table
        does not report is then "" instead of NaN.
    Returns: columns table, dataset, network, layer, learning ("T", "S", "B", or "distilled from
        ..." and "scratch"), grid_size, threshold_b (empty where the table names none), and METRICS.
    Raises: KpnbError for a table that is not there.
    """
    import pandas as pd

    if table not in TABLES:
        raise KpnbError(f"there is no published table {table!r}: choose one of {', '.join(TABLES)}")
    printed = _read(TABLE_FILES[table])
    numbers = {} if as_printed else printed[list(METRICS)].apply(pd.to_numeric)
    return printed.assign(**numbers)


def published_rows(network: str, layers: Sequence[str]) -> pd.DataFrame:
    """Every row of the paper's tables for one network at some layers, numbers as printed."""
    import pandas as pd

    rows = pd.concat([published_table(table, as_printed=True) for table in TABLES])
    rows = rows[(rows["network"] == network) & rows["layer"].isin(layers)]
    return rows.set_index(["table", "dataset", "layer", "learning"]).drop(columns="network")


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
    student, baseline = (rows[rows["role"] == side] for side in "SB")
    return student.merge(baseline, on=[*_CELL, "pair"], suffixes=("_s", "_b"), validate="1:1")


def agreement() -> pd.DataFrame:
    """Every published comparison of a student with its baseline, and how it came out.

    Returns: a row per pair and metric: table, dataset, network, layer, grid_size, threshold_b,
        metric, outcome ("agree", "tie" or "disagree" with `PREDICTIONS`; ties are no agreement).
    """
    import pandas as pd

    pairs = [pair for table in TABLES for pair in _pairs(table).to_dict("records")]
    rows = [
        {name: pair[name] for name in _CELL}
        | {"metric": metric, "outcome": outcome(metric, pair[f"{metric}_s"], pair[f"{metric}_b"])}
        for pair in pairs
        for metric in METRICS
        if not pd.isna(pair[f"{metric}_s"])
    ]
    return pd.DataFrame(rows)


def agreement_rates(by: tuple[str, ...] = ("table",)) -> pd.DataFrame:
    """How often the paper's own cells agree with its hypotheses: the rate to be held against.

    by: columns of `agreement()` to break down by, beside the metric; () for all tables.
    Returns: columns *by, metric, agree, ties, cells, rate (= agree / cells).
    Raises: KpnbError for a column that is not there.
    """
    unknown = [name for name in by if name not in _CELL]
    if unknown:
        raise KpnbError(f"agreement_rates cannot break down by {unknown[0]!r}: use {_CELL}")
    rows, cells = agreement(), [*by, "metric"]
    rows = rows.assign(agree=rows["outcome"] == "agree", ties=rows["outcome"] == "tie", cells=1)
    counts = rows.groupby(cells, sort=False)[["agree", "ties", "cells"]].sum().reset_index()
    return counts.assign(rate=counts["agree"] / counts["cells"])


SETTING_FILES = {"images": "images.yaml", "texts": "texts.yaml", "clouds": "clouds.yaml"}
SOURCES = ("text", "code", "recollection", "ours")


@cache
def paper_settings(subject: str) -> dict:
    """The file of "images", "texts" or "clouds"; KpnbError unless every setting has a source."""
    content = yaml.safe_load(packed_file(SETTING_FILES[subject]).read_text(encoding="utf-8"))
    for part, found in content.items():
        for name, setting in found.items() if isinstance(found, dict) else ():
            stated = isinstance(setting, dict) and "value" in setting
            if stated and setting.get("source") not in SOURCES:
                raise KpnbError(
                    f"{SETTING_FILES[subject]}, {part}.{name}: its source is "
                    f"{setting.get('source')!r}; give one of {', '.join(SOURCES)}."
                )
    return content


def paper_preset(subject: str, *parts: str) -> dict[str, object]:
    """Values of the preset `paper`: those of `preset` and of the named parts of a file."""
    chosen = _settings_of(subject, parts)
    return {"preset": "paper"} | {name: setting["value"] for name, setting in chosen.items()}


def origins(subject: str, *parts: str) -> dict[str, str]:
    """Where each value of `paper_preset` comes from, in words for readers."""
    return {
        name: setting["source"] + (f": {setting['why']}" if "why" in setting else "")
        for name, setting in _settings_of(subject, parts).items()
    }


def _settings_of(subject: str, parts: Sequence[str]) -> dict[str, dict]:
    content = paper_settings(subject)
    return {name: found for part in ("preset", *parts) for name, found in content[part].items()}


PUBLISHED_EPOCHS = 150
#: The epochs at which the authors' public code keeps a network.
PUBLISHED_CHECKPOINTS = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90, 110, 130, 150)


def checkpoint_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs at which a network is kept: ascending, with 0, 1 and the last.

    The authors' public code keeps 15 of 150 epochs, denser at the beginning; this scales them
    to `epochs` and rounds. Raises `KpnbError` for fewer than one epoch.
    """
    require(epochs >= 1, f"epochs is {epochs}: train for at least 1 epoch.")
    scale = epochs / PUBLISHED_EPOCHS
    scaled = {math.floor(epoch * scale + 0.5) for epoch in PUBLISHED_CHECKPOINTS}
    return tuple(sorted(scaled | {0, 1, epochs}))
