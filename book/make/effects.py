"""The paper's effects beside ours: every cell on one axis a metric, and what one seed can tell.

Functions take the frame of `book.make.frame` and return markdown.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from book.make import frame
from book.make.chart import Chart, Line
from book.make.forest import (
    NO_ANSWER,
    behind,
    cell_lines,
    confirmatory,
    is_relative,
    marks,
    panels,
    shown_cells,
)
from book.make.frame import CELL, records
from book.make.texts import block, sheet
from kpnb.metrics.stats import Z95
from kpnb.paper import METRICS, PREDICTIONS, TABLES

#: Images of one pair: the fewest and the most in a cell of the paper, and between them what the
#: chart's dotted lines are of.
DESIGNS, USUAL = (20, 40, 60), 40
#: The table whose cells are counted beyond the lines.
COUNTED = "V"
#: Standard errors from 0 to the true difference that a two-sided test at 5% finds four times in
#: five; it finds what is observed beyond Z95 of them.
POWER = Z95 + 0.841621


def effects_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """The chart of all cells, the paper's by table and the measurable ones of ours, and behind it
    how large a difference each design tells from none."""
    told = list(detectable(rows))
    lines = {row["metric"]: (-row["line"], row["line"]) for row in told}
    axes = [replace(panel, lines=lines.get(panel.name, ())) for panel in panels()]
    chart = Chart(block("effects_title"), axes, list(_lines(rows)))
    shown = sheet("effects", told, counted=COUNTED)
    caption = block("effects_caption", usual=USUAL, told=told, counted=COUNTED)
    return behind("effects", chart, shown, caption)


def _lines(rows: pd.DataFrame) -> Iterator[Line]:
    ours = shown_cells(rows)
    answered = ours[(ours["preset"] == "study") & ~ours["verdict"].isin(NO_ANSWER)]
    for name in TABLES:
        printed = frame.paper_rows(rows, name)
        printed = printed[printed["outcome"] != ""]
        cells = len(printed.drop_duplicates([*frame.PAPER_CELL, "pair"]))
        yield Line((f"Table {name}",), heading=True)
        yield Line((f"the paper, {cells} cells",), marks(printed))
        ours = answered[answered["table"] == name]
        if len(ours):
            yield from cell_lines(ours)


def detectable(rows: pd.DataFrame) -> Iterator[dict]:
    """A row a metric: how far from 0 a cell of one pair must be observed to differ from chance, how
    large a true difference is found so four times in five, and how many of the paper's cells of a
    table are further out, on the predicted side and on the other.

    How values vary is the mean over the measurable cells of the protocol's own pairs, of which
    `cells_here` names all. Counts and distances are in percent.
    """
    cells = confirmatory(rows)
    cells = cells[(cells["verdict"] != "not measurable") & (cells["measured_on"] == "train")]
    printed = frame.paper_rows(rows, COUNTED)
    for metric in METRICS:
        varies = {}
        for cell in records(cells[cells["metric"] == metric]):
            if (parts := _parts(rows, cell)) is not None:
                varies[f"{cell['network']} {cell['layer']}"] = parts
        if varies:
            pair, sample, both = np.maximum(np.mean([*varies.values()], axis=0), 0.0)
            error = {n: float(pair + (sample + both) / n) ** 0.5 for n in DESIGNS}
            gaps = _gaps(printed[(printed["metric"] == metric) & (printed["outcome"] != "")])
            line = Z95 * error[USUAL]
            ahead = gaps if PREDICTIONS[metric] == "up" else -gaps
            yield {
                "metric": metric,
                "unit": "%" if is_relative(metric) else "",
                "line": line,
                "least": {n: POWER * one for n, one in error.items()},
                "middle": float(np.median(np.abs(gaps))),
                "beyond": (int((ahead > line).sum()), int((ahead < -line).sum())),
                "cells": len(gaps),
                "cells_here": [*varies],
            }


def _gaps(printed: pd.DataFrame) -> np.ndarray:
    """How far printed students are from their baselines."""
    gaps = printed["value"] - printed["baseline"]
    if is_relative(printed["metric"].iloc[0]):
        gaps = gaps / (printed["baseline"] / 100)
    return gaps.replace([np.inf, -np.inf], np.nan).dropna().to_numpy()


def _parts(rows: pd.DataFrame, cell: dict) -> np.ndarray | None:
    """Variances of student minus baseline between pairs, between samples, and of both together, in
    the unit of the chart; None without values. D_var rests on squared distances from the mean."""
    pair = paired_values(rows, cell)
    if pair is None:
        return None
    if cell["metric"] == "d_var":
        pair = [(one - one.mean(1, keepdims=True)) ** 2 for one in pair]
    scale = pair[1].mean() / 100 if is_relative(cell["metric"]) else 1.0
    return components((pair[0] - pair[1]) / scale)


def paired_values(rows: pd.DataFrame, cell: dict) -> list[np.ndarray] | None:
    """Student's and baseline's (pairs, samples), of samples that all of them have a value of; of
    D_var those of D_mean. None without values."""
    metric = "d_mean" if cell["metric"] == "d_var" else cell["metric"]
    same = (rows["kind"] == "measure") & rows["headline"] & (rows["metric"] == metric)
    for name in ("nth", *CELL):
        same &= rows[name] == cell[name]
    held = {row["role"]: row["by_seed"] for row in records(rows[same])}
    if not all(isinstance(held.get(role), list) for role in "SB"):
        return None
    tables = [np.genfromtxt(held[role], ndmin=2) for role in "SB"]
    known = np.isfinite(sum(tables)).all(0)
    return [table[:, known] for table in tables]


def components(values: np.ndarray) -> np.ndarray:
    """Variances (pairs, samples, both together) of a table (pairs, samples) of one value a field,
    by its mean squares; an estimate may be below 0."""
    pairs, samples = values.shape
    by_pair, by_sample = values.mean(1), values.mean(0)
    rest = values - by_pair[:, None] - by_sample + values.mean()
    both = (rest**2).sum() / ((pairs - 1) * (samples - 1))
    between = by_pair.var(ddof=1) - both / samples, by_sample.var(ddof=1) - both / pairs
    return np.array([*between, both])
