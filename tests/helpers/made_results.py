"""Results made by hand for the tables of the book, and the cells of a markdown table."""

import math

from kpnb.metrics.results import Comparison, Measure, Results
from kpnb.metrics.stats import judged

CELL = {"layer": "FC1", "network": "VGG-11", "scale": "narrow", "dataset": "embedded images"}
COUNTS = {"n_samples": 60, "n_seeds": 3, "threshold": 0.2}


def text_cell(kind):
    """What a cell of text networks is: of "sentence" or "question"."""
    network = {"layer": "Last", "network": "MiniLM-L6, 3 layers", "n_samples": 40, "n_seeds": 1}
    return network | {"dataset": f"embedded {kind}s", "sample": kind}


def measure(role, metric, mean, **changes):
    values = {**CELL, **COUNTS, "low": mean - 1, "high": mean + 1, **changes}
    return Measure(role=role, metric=metric, mean=mean, **values)


def comparison(metric, low, high, prediction="up", unfit=False, **changes):
    """unfit: of a layer that is not measurable; low, high: None for one seed."""
    distance = "epoch" if metric in ("d_mean", "d_var") else None
    values = {**CELL, **COUNTS, "distance": distance, "margin": 0.0, **changes}
    values.setdefault("difference", None if low is None else (low + high) / 2)
    ends = values["difference"], low, high
    one = values["n_seeds"] == 1
    verdict = "one seed" if one else judged(*ends, prediction, values["margin"], math.nan)
    values |= {"low": low, "high": high, "verdict": "not measurable" if unfit else verdict}
    return Comparison(metric=metric, prediction=prediction, **values)


def run(**changes):
    """A notebook's results that name no code, so that their freshness is unknown."""
    values = dict(notebook="image_h1", preset="demo", settings={"threshold": 0.2})
    values |= dict(provenance={"cpu": "a processor", "threads": 2}, seconds=90.0)
    values |= dict(peak_memory_mb=1234.0, fingerprint="0123456789abcdef")
    return Results(**values | changes)


def full_run(**changes):
    """Results with every kind of fact that tables tell apart."""
    facts = {
        "measures": [
            measure("S", "n_fg", 23.9),
            measure("B", "n_fg", 14.4),
            measure("S", "n_fg", 77.7, threshold=0.25),
            measure("S", "n_fg", 88.8, selection="published_filter"),
            measure("T", "accuracy_test", 0.56, layer="", threshold=None, low=0.5, high=0.6),
            measure("S", "accuracy_test", 0.38, threshold=None, low=None, high=None),
        ],
        "comparisons": [
            comparison("n_fg", 6.0, 13.0),
            comparison("n_fg", -1.0, 3.0, threshold=0.25),
            comparison("n_fg", -9.0, -3.0, selection="published_filter"),
            comparison("n_bg", 1.0, 3.0, prediction="down"),
            comparison("d_mean", -0.5, -0.1, prediction="down", distance="step"),
            comparison("d_mean", -0.4, 0.1, prediction="down", distance="epoch"),
        ],
        "notes": ["one dataset only"],
    }
    return run(**{**facts, **changes})


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def rows_of(markdown):
    return [cells_of(line) for line in markdown.splitlines() if line.startswith("|")][2:]


def rows_of_all(page):
    """The rows of every table of a page."""
    return [row for part in page.split("\n\n") if part.startswith("|") for row in rows_of(part)]
