"""The paper's effects beside ours: every cell on one axis a metric, and what one seed can tell.

Functions take the frame of `book.make.frame` and return markdown.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from book.make import frame
from book.make.chart import Chart, Line
from book.make.forest import behind, cell_lines, confirmatory, is_relative, marks, panels
from book.make.frame import CELL, records
from book.make.texts import block, sheet
from kpnb.metrics.stats import Z95
from kpnb.paper import METRICS, TABLES

#: Designs, (pairs, samples): those of the paper's cells, and ours.
DESIGNS = ((1, 20), (1, 40), (1, 60), (21, 100))
#: The design that the chart's dotted lines are of, and the table whose cells are counted beyond.
USUAL, COUNTED = (1, 40), "V"
#: Standard errors from 0 to what a two-sided test at 5% finds in four cases of five.
POWER = Z95 + 0.841621


def effects_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """The chart of all cells, the paper's by table and the measurable ones of ours, and behind it
    how large a difference each design tells from none."""
    told = list(detectable(rows))
    least = {row["metric"]: row["least"][USUAL] for row in told}
    axes = [replace(panel, lines=(-least[panel.name], least[panel.name]))
            if panel.name in least else replace(panel, lines=()) for panel in panels()]  # fmt: skip
    chart = Chart(block("effects_title"), axes, list(_lines(rows)))
    shown = sheet("effects", told, designs=DESIGNS, counted=COUNTED)
    caption = block("effects_caption", usual=USUAL, told=told, counted=COUNTED)
    return behind("effects", chart, shown, caption)


def _lines(rows: pd.DataFrame) -> Iterator[Line]:
    for name in TABLES:
        printed = frame.paper_rows(rows, name)
        printed = printed[printed["outcome"] != ""]
        cells = len(printed.drop_duplicates([*frame.PAPER_CELL, "pair"]))
        yield Line((f"Table {name}", f"{cells} cells of the paper"), marks(printed))
        ours = confirmatory(rows)
        ours = ours[(ours["table"] == name) & (ours["verdict"] != "not measurable")]
        if len(ours):
            yield from cell_lines(ours)


def detectable(rows: pd.DataFrame) -> Iterator[dict]:
    """A row a metric: the least difference that each design tells from none four times in five, if
    it knew how its values vary, and how many of the paper's cells of a table are further out.

    The variance of a difference between pairs, between samples, and of both together is the mean
    over the measurable cells of the protocol's own pairs. Counts and distances in percent.
    """
    cells = confirmatory(rows)
    cells = cells[(cells["verdict"] != "not measurable") & (cells["measured_on"] == "train")]
    printed = frame.paper_rows(rows, COUNTED)
    for metric in METRICS:
        found = [_parts(rows, cell) for cell in records(cells[cells["metric"] == metric])]
        if found := [parts for parts in found if parts is not None]:
            parts = np.mean(found, axis=0)
            least = {(n, m): POWER * float(parts @ [1 / n, 1 / m, 1 / (n * m)]) ** 0.5
                     for n, m in DESIGNS}  # fmt: skip
            sizes = _sizes(printed[(printed["metric"] == metric) & (printed["outcome"] != "")])
            beyond = int((sizes > least[USUAL]).sum())
            about = {"metric": metric, "least": least, "middle": float(np.median(sizes))}
            unit = "%" if is_relative(metric) else ""
            yield about | {"beyond": beyond, "cells": len(sizes), "unit": unit, "of": len(found)}


def _sizes(printed: pd.DataFrame) -> np.ndarray:
    """How far printed students are from their baselines, whatever the side."""
    metric = set(printed["metric"])
    gaps = (printed["value"] - printed["baseline"]).abs()
    scale = printed["baseline"] / 100 if metric and is_relative(*metric) else 1.0
    return (gaps / scale).replace(np.inf, np.nan).dropna().to_numpy()


def _parts(rows: pd.DataFrame, cell: dict) -> np.ndarray | None:
    """Variances of student minus baseline between pairs, between samples, and of both together, in
    the unit of the chart; None without values. D_var rests on squared distances from the mean."""
    metric = "d_mean" if cell["metric"] == "d_var" else cell["metric"]
    same = (rows["kind"] == "measure") & rows["headline"] & (rows["metric"] == metric)
    for name in ("nth", *CELL):
        same &= rows[name] == cell[name]
    held = {row["role"]: row["by_seed"] for row in records(rows[same])}
    if not all(isinstance(held.get(role), list) for role in "SB"):
        return None
    tables = [np.genfromtxt(held[role], ndmin=2) for role in "SB"]
    known = np.isfinite(sum(tables)).all(0)
    student, baseline = (table[:, known] for table in tables)
    if cell["metric"] == "d_var":
        student, baseline = ((one - one.mean(1, keepdims=True)) ** 2 for one in (student, baseline))
    scale = baseline.mean() / 100 if is_relative(cell["metric"]) else 1.0
    return components((student - baseline) / scale)


def components(values: np.ndarray) -> np.ndarray:
    """Variances (pairs, samples, both together) of a table (pairs, samples) of one value a field,
    by its mean squares; none is below 0."""
    pairs, samples = values.shape
    by_pair, by_sample = values.mean(1), values.mean(0)
    rest = values - by_pair[:, None] - by_sample + values.mean()
    both = (rest**2).sum() / ((pairs - 1) * (samples - 1))
    between = (by_pair.var(ddof=1) - both / samples, by_sample.var(ddof=1) - both / pairs)
    return np.maximum([*between, both], 0.0)
