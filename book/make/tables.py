"""The book's own tables as pivots of its frame: verdicts, scores, runs; and the packages' lists.

Functions take the frame of `book.make.frame`, or rows of it, and return markdown.
"""

import pandas as pd
import yaml

from book.make import frame
from book.make.frame import CELL, NOT_HERE, NOTHING, estimate, main_rows, over, records
from book.make.published import paper_rate
from book.make.texts import block, sheet
from kpnb.fingerprint import packed_file
from kpnb.metrics.formatting import SIDES, SYMBOLS, table
from kpnb.paper import HYPOTHESES, METRICS, PREDICTIONS, SCORES
from kpnb.study.parameters import StudyParameters

LICENCES = ("images_licences.yaml", "text_licences.yaml", "pointclouds_licences.yaml")
#: What a comparison shares with the one on filtered samples.
_SAME = ["nth", *CELL, "metric"]


def _at_own_b(rows: pd.DataFrame) -> pd.Series:
    return rows["threshold"].isna() | (rows["threshold"] == rows["own_b"])


# Verdicts


def verdict_table(rows: pd.DataFrame, hypothesis: int) -> str:
    """Every comparison for a hypothesis at the run's own b, with the published filter, other b and
    the paper: a table per data set and network, for d_mean and d_var in every unit of the way.
    """
    every = main_rows(rows, "comparison")
    every = every[every["metric"].map(HYPOTHESES) == hypothesis]
    every = every.assign(rank=every["metric"].map(METRICS.index))
    # what differs in nothing but b and the selection of samples
    same = every.groupby(["nth", *CELL, "metric", "distance"], sort=False).ngroup()
    cells = dict(iter(every.groupby(same)))
    shown = every[_at_own_b(every) & (every["selection"] == "all")]
    parts = []
    for _, part in shown.groupby(["preset", "dataset", "network", "scale"], sort=False):
        part = part.sort_values(["rank", *CELL, "distance"], kind="stable")
        lines = [_beside(row, cells[same[at]]) for at, row in part.iterrows()]
        told = {"first": lines[0], "thresholds": sorted({f"b = {b}" for b in part["own_b"]})}
        parts.append(block("verdicts", rows=sheet("verdicts", lines), **told))
    return "\n\n".join(parts) or NOTHING


def _beside(row: pd.Series, same: pd.DataFrame) -> dict:
    """A comparison with those that differ from it in the selection of samples, or in b."""
    everything, own_b = same["selection"] == "all", same["threshold"] == row["threshold"]
    return row.to_dict() | {
        "side": SIDES[row["prediction"]].removeprefix("student "),
        "kept": records(same[~everything & own_b]),
        "other": records(same[everything & ~own_b]),
        "agrees": paper_rate(row["metric"], row["table"]),
    }


def verdict_grid(rows: pd.DataFrame) -> str:
    """A row per metric, a column per layer measured: verdict, difference and interval, and the
    verdict on the samples that the published filter keeps, which selects on the outcome.

    A grid for each of the paper's tables. The headline comparisons only: all samples, the run's own
    b, weight distance as in Eq. 8.
    """
    every = main_rows(rows, "comparison")
    kept = every[_at_own_b(every) & (every["selection"] != "all")]
    kept = kept[kept["distance"].isin(["", "epoch"])].drop_duplicates(_SAME).set_index(_SAME)
    shown = every[every["headline"]].join(kept["verdict"].rename("filtered"), on=_SAME)
    shown["filtered"] = shown["filtered"].fillna("")
    parts = [(name, shown[shown["table"] == name]) for name in frame.MAIN_TABLES]
    return "\n\n".join(_grid(part, name) for name, part in parts if len(part)) or NOTHING


def _grid(part: pd.DataFrame, published: str) -> str:
    told = [block("grid_cell", row=row) for row in records(part)]
    wide = frame.pivot(part, told, CELL, "metric", METRICS, NOT_HERE).sort_index().T
    several = part["dataset"].nunique() > 1
    header = ["hypothesis", "metric", "predicted", f"Table {published}'s cells that agree"]
    for dataset, network, scale, _, layer in wide.columns:
        header.append(f"{layer}, {network} ({scale})" + (f", {dataset}" if several else ""))
    lines = []
    for metric, *cells in wide.itertuples(name=None):
        line = [f"H{HYPOTHESES[metric]}", SYMBOLS[metric], SIDES[PREDICTIONS[metric]]]
        lines.append([*line, paper_rate(metric, published), *cells])
    return table(header, lines)


def verdict_grids(rows: pd.DataFrame) -> str:
    """The grid of each preset under its caption, in the order of the results."""
    presets = main_rows(rows, "comparison")["preset"].unique()
    return "\n\n".join(captioned_grid(rows, preset) for preset in presets) or NOTHING


def captioned_grid(rows: pd.DataFrame, preset: str) -> str:
    """One preset's grid under its caption, which says why what is not measurable is not."""
    rows = rows[rows["preset"] == preset]
    items = main_rows(rows, "comparison").query("headline")
    data, counts = sorted(set(items["dataset"])), sorted({over(row) for row in records(items)})
    thresholds = sorted({f"b = {b}" for b in main_rows(rows, "run")["own_b"]})
    reasons = {f"{r['network']}, {why}" for r in records(items) for why in r["unfit"].values()}
    told = {"data": data, "counts": counts, "thresholds": thresholds, "reasons": sorted(reasons)}
    caption = block("caption", preset=preset, **told)
    return f"{caption}\n\n{verdict_grid(rows)}"


# Scores


def accuracy_table(rows: pd.DataFrame) -> str:
    """Scores of teacher, baseline and students: mean over seeds, lowest and highest seed. Sorted by
    data and network, whatever notebooks they are from; students from the input upwards."""
    found = main_rows(rows, "measure")
    found = found[found["metric"].isin(SCORES)]
    score, samples = ([SCORES[metric][i] for metric in found["metric"]] for i in (0, 1))
    order = found["role"].map("TBS".index)
    keys = ["preset", "dataset", "network", "score", "order", "scale", "depth", "layer", "role"]
    found = found.assign(score=score, samples=samples, order=order).sort_values(keys)
    told = [f"{estimate(row)}, {over(row)}" for row in records(found)]
    wide = frame.pivot(found, told, keys, "samples", ["unseen", "training"], "not measured")
    return sheet("accuracies", records(wide.reset_index()))


# Runs, parameters, data


def run_table(name: str, rows: pd.DataFrame) -> str:
    """A row per notebook's results file, that of single cells too; name: "status" for its minutes,
    memory, fingerprint and whether the code here still fits, "machines" for processor, versions
    and commit."""
    return sheet(name, records(rows[(rows["kind"] == "run") & (rows["part"] != "sweep")]))


def notes_list(rows: pd.DataFrame) -> str:
    """What the notebooks noted for the reader, one bullet each."""
    return block("notes", notes=records(main_rows(rows, "note")))


def presets_table(model: type[StudyParameters]) -> str:
    """Every parameter of the notebooks with its value in three presets. A description may have
    several lines, a row of a table has one."""
    fields = [{"name": name, "field": field} for name, field in model.model_fields.items()]
    return sheet("presets", fields, presets=model.PRESETS)


def embedded_licences() -> list[dict[str, str]]:
    """Of every part of the embedded data: part, source, version, licence and what it is."""
    found = (yaml.safe_load(packed_file(name).read_text(encoding="utf-8")) for name in LICENCES)
    return [entry for entries in found for entry in entries]


def licences_table() -> str:
    """Sources and licences of every part of the embedded data."""
    return sheet("licences", embedded_licences())
