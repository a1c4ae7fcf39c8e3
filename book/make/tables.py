"""The book's own tables as pivots of its frame: verdicts, scores, runs; and the packages' lists.

Functions take the frame of `book.make.frame`, or rows of it, and return markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from book.make.claims import (
    NOT_RUN,
    SIDE_WORDS,
    Claim,
    Judged,
    judge_all,
    published_text,
    verdict_counts,
)
from book.make.frame import (
    CELL,
    CELL_NOTEBOOK,
    MAIN_TABLES,
    NONE,
    NOT_HERE,
    NOTHING,
    TABLE_OF,
    estimate,
    main_rows,
    over,
    pivot,
    place,
    records,
    span,
)
from book.make.pages import BOOK, NOTEBOOKS, page_source
from book.make.published import decided, paper_rate
from kpnb.datasets.places import embedded_licences
from kpnb.metrics.formatting import (
    SIDES,
    SYMBOLS,
    count,
    number,
    signed,
    table,
)
from kpnb.paper import HYPOTHESES, METRICS, PREDICTIONS, ROLES, SCORES
from kpnb.study.parameters import StudyParameters

FILTERED = (
    "The same cells on the samples that the published filter keeps, which selects on the outcome: "
    "intervals on the predicted side : on the other side, of the cells measured."
)
#: Comparisons that differ in nothing but b and the selection of samples.
SAME = ["nth", *CELL, "metric", "distance"]
#: How a side reads against a bound.
BOUND_WORDS = {"up": "above", "down": "below"}
#: A row names this many files at most; more are in the list of its items.
FILES_SHOWN = 3
HEADER = ("claim", "where", "the paper", "here, 95% interval", "verdict", "notebook, results")
LIST_HEADER = ("cell or number", "here, 95% interval", "over", "verdict", "results")
PRESETS = ("demo", "study", "paper")


def _difference(row: Mapping) -> str:
    return estimate(row, signed)


# Verdicts


def verdict_table(rows: pd.DataFrame, metrics: Sequence[str] = METRICS) -> str:
    """Every comparison at the run's own b, with the published filter, other b and the paper.

    A table per data set and network; for d_mean and d_var both ways to sum the distance.
    """
    every = main_rows(rows, "comparison")
    own_b = every["threshold"].isna() | (every["threshold"] == every["own_b"])
    shown = every[own_b & (every["selection"] == "all") & every["metric"].isin(metrics)]
    shown = shown.assign(rank=shown["metric"].map(METRICS.index))
    groups = shown.groupby(["preset", "dataset", "network", "scale"], sort=False)
    cells = dict(iter(every.groupby(SAME, sort=False)))
    return "\n\n".join(_verdict_group(part, cells) for _, part in groups) or NOTHING


def _verdict_group(part: pd.DataFrame, cells: Mapping[tuple, pd.DataFrame]) -> str:
    part = part.sort_values(["rank", *CELL, "distance"], kind="stable")
    thresholds = ", ".join(sorted({f"b = {b}" for b in part["own_b"]}))
    header = ["metric, student predicted", "layer, data", "student − baseline [95%]", "verdict"]
    header += ["with the published filter", "at other b", "the paper's table agrees"]
    lines = [_verdict_line(row, cells[tuple(row[name] for name in SAME)]) for row in records(part)]
    first = part.iloc[0]
    title = f"Preset `{first['preset']}`: {place(first)} on {first['dataset']}, {thresholds}"
    return f"**{title}**\n\n{table(header, lines)}"


def _verdict_line(row: dict, same: pd.DataFrame) -> list[str]:
    everything, own_b = same["selection"] == "all", same["threshold"] == row["threshold"]
    kept = [f"{o['verdict']} ({over(o)})" for o in records(same[~everything & own_b])]
    other = [f"{o['threshold']}: {o['verdict']}" for o in records(same[everything & ~own_b])]
    distance = f" (per {row['distance']})" if row["distance"] else ""
    side = {"up": "higher", "down": "lower"}[row["prediction"]]
    return [
        f"{SYMBOLS[row['metric']]}{distance}, {side}",
        f"{row['layer']}, {row['dataset']}",
        f"{_difference(row)}, {over(row)}",
        f"**{row['verdict']}**",
        ", ".join(kept) or NOT_HERE,
        "; ".join(other) or NOT_HERE,
        paper_rate(row["metric"], row["table"]),
    ]


def verdict_grid(rows: pd.DataFrame, symbols: Mapping[str, str] = SYMBOLS) -> str:
    """A row per metric, a column per layer measured: verdict, difference and interval.

    A grid for each of the paper's tables. The headline comparisons only: all samples, the run's own
    b, weight distance per step.
    """
    shown = main_rows(rows, "comparison").query("headline")
    parts = [(name, shown[shown["table"] == name]) for name in dict.fromkeys(TABLE_OF.values())]
    return "\n\n".join(_grid(part, name, symbols) for name, part in parts if len(part)) or NOTHING


def _grid(part: pd.DataFrame, published: str, symbols: Mapping[str, str]) -> str:
    told = [f"**{row['verdict']}** {_difference(row)}" for row in records(part)]
    wide = pivot(part, told, CELL, "metric", METRICS, NOT_HERE).sort_index().T
    several = part["dataset"].nunique() > 1
    header = ["hypothesis", "metric", "predicted", f"Table {published}'s cells that agree"]
    for dataset, network, scale, _, layer in wide.columns:
        header.append(f"{layer}, {network} ({scale})" + (f", {dataset}" if several else ""))
    lines = []
    for metric, *cells in wide.itertuples(name=None):
        line = [f"H{HYPOTHESES[metric]}", symbols[metric], SIDES[PREDICTIONS[metric]]]
        lines.append([*line, paper_rate(metric, published), *cells])
    return table(header, lines)


def filter_table(rows: pd.DataFrame, symbols: Mapping[str, str] = SYMBOLS) -> str:
    """Verdicts of the grid's cells on the samples that the published filter keeps, counted.

    A row per data set, a column per metric: how many intervals exclude zero on the predicted side,
    how many on the other, of how many cells where the filter leaves enough samples to measure.
    """
    every = main_rows(rows, "comparison")
    own_b = every["threshold"].isna() | (every["threshold"] == every["own_b"])
    lines = []
    for dataset, part in every[own_b & (every["distance"] != "epoch")].groupby("dataset"):
        kept = part[part["selection"] != "all"]
        counted = [_filtered(kept[kept["metric"] == metric]) for metric in METRICS]
        lines.append([dataset, _kept(part[part["headline"]], kept), *counted])
    header = ["with the published filter", "samples it keeps", *(symbols[m] for m in METRICS)]
    return table(header, lines) if lines else NOTHING


def _kept(every: pd.DataFrame, kept: pd.DataFrame) -> str:
    """As in "35 to 38 of 60 images; 3 of 3 cells measured"."""
    cells, measured = (len(part[CELL].drop_duplicates()) for part in (every, kept))
    told = f"{measured} of {count(cells, 'cell')} measured"
    if kept.empty:
        return f"too few; {told}"
    low, high = kept["n_samples"].min(), kept["n_samples"].max()
    span = f"{low} to {high}" if low < high else f"{low}"
    return f"{span} of {count(every['n_samples'].max(), every['sample'].iloc[0])}; {told}"


def _filtered(kept: pd.DataFrame) -> str:
    return f"{decided(kept)} of {len(kept)}" if len(kept) else NONE


def verdict_grids(rows: pd.DataFrame) -> str:
    """The grid of each preset under its caption, in the order of the results."""
    presets = main_rows(rows, "run")["preset"].unique()
    return "\n\n".join(captioned_grid(rows, preset) for preset in presets) or NOTHING


def captioned_grid(rows: pd.DataFrame, preset: str, symbols: Mapping[str, str] = SYMBOLS) -> str:
    """One preset's grid under its caption, then the verdicts on filtered samples."""
    rows = rows[rows["preset"] == preset]
    grid = f"{_caption(rows, preset)}\n\n{verdict_grid(rows, symbols)}"
    if main_rows(rows, "comparison").empty:
        return grid
    return f"{grid}\n\n{FILTERED}\n\n{filter_table(rows, symbols)}"


def _caption(rows: pd.DataFrame, preset: str) -> str:
    items = main_rows(rows, "comparison").query("headline")
    data, counts = sorted(set(items["dataset"])), sorted({over(row) for row in records(items)})
    thresholds = sorted({f"b = {b}" for b in main_rows(rows, "run")["own_b"]})
    return (
        f"**Preset `{preset}`**, {', '.join(data)}; {'; '.join(counts)}; {', '.join(thresholds)}; "
        "student − baseline, mean and 95% interval:"
    )


# Scores


def accuracy_table(rows: pd.DataFrame) -> str:
    """Scores of teacher, baseline and students: mean over seeds, lowest and highest seed. Sorted by
    data and network, whatever notebooks they are from; students from the input upwards."""
    found = main_rows(rows, "measure")
    found = found[found["metric"].isin(SCORES)]
    if found.empty:
        return NOTHING
    score, samples = zip(*(SCORES[metric] for metric in found["metric"]), strict=True)
    order = found["role"].map("TBS".index)
    keys = ["preset", "dataset", "network", "score", "order", "scale", "depth", "layer", "role"]
    found = found.assign(score=score, samples=samples, order=order).sort_values(keys)
    told = [f"{estimate(row)}, {over(row)}" for row in records(found)]
    wide = pivot(found, told, keys, "samples", ["unseen", "training"], "not measured")
    lines = []
    for (preset, dataset, network, score, _, scale, _, layer, role), *values in wide.itertuples(
        name=None
    ):
        name = f"{ROLES[role]}, {network} ({scale}), {dataset}"
        lines.append([name, preset, layer if role == "S" else NONE, score, *values])
    header = ["network", "preset", "distilled at", "score", "unseen samples", "training samples"]
    return table(header, lines)


# The page of claims


@dataclass(frozen=True)
class ClaimPage:
    """The page of claims. Every number of ours comes from a results file that its row names.

    address: of the repository; pages: of the table of contents, which notebooks are linked by.
    """

    rows: pd.DataFrame
    address: str
    pages: Collection[str]

    def fragments(self) -> dict[str, str]:
        """What the page includes, by name: the claims, the cells behind them."""
        judged = judge_all(self.rows)
        lists = [self._list(one) for one in judged if len(one.items) > 1]
        return {
            "claims": self._claims(judged),
            "claim_cells": "\n\n".join(lists) or "No claim rests on several cells yet.",
        }

    def _claims(self, judged: Sequence[Judged]) -> str:
        """How many claims have which verdict, then a table of claims for each part of the paper."""
        parts = [f"{verdict_counts(judged)} {_staleness(judged)}".strip()]
        for section in dict.fromkeys(one.claim.section for one in judged):
            lines = [self._row(one) for one in judged if one.claim.section == section]
            parts.append(f"```{{rubric}} {section}\n```\n\n{table(HEADER, lines)}")
        return "\n\n".join(parts)

    def _row(self, one: Judged) -> list[str]:
        claim, by_means = one.claim, " (by means)" if one.claim.evidence.kind == "means" else ""
        said = one.verdict if one.verdict == NOT_RUN else f"**{one.verdict}**{by_means}"
        paper = published_text(claim, self.rows)
        return [claim.claim, claim.where, paper, _here(one), said, self._from(one)]

    def _from(self, one: Judged) -> str:
        """Notebooks and results files of a row; of many files, the list that names them."""
        items, shown = records(one.items), []
        notebooks = [item["notebook"] for item in items] or _planned(one.claim)
        for links in (map(self._notebook, notebooks), map(self._results, items)):
            each = list(dict.fromkeys(links))
            shown += each if len(each) <= FILES_SHOWN else []
        if len(items) > 1:
            shown.append(f"{{ref}}`all {len(items)} <{_label(one.claim)}>`")
        return ", ".join(shown) or NONE

    def _list(self, one: Judged) -> str:
        """The items behind a claim that rests on several, folded."""
        lines = []
        for i, item in enumerate(records(one.items)):
            told = item["what"], item["shown"], span(one.items[i : i + 1]), item["verdict"]
            lines.append([*told, self._results(item)])
        head = f":::{{dropdown}} {one.claim.claim}\n:name: {_label(one.claim)}"
        return f"{head}\n\n{table(LIST_HEADER, lines)}\n:::"

    def _results(self, item: Mapping) -> str:
        """A link to a results file, which says so where the code here no longer fits it."""
        state = item["state"].split(":")[0]
        stale = "" if state == "fresh" else f" ({state})"
        return f"[{item['run'] or item['notebook']}.json]({self._source(item['file'])}){stale}"

    def _notebook(self, name: str) -> str:
        """A notebook's page; where it has none, the notebook that is executed for it."""
        page = f"{NOTEBOOKS}{name}"
        if page in self.pages:
            return f"{{doc}}`{name} <{page}>`"
        source, _ = page_source(BOOK, name)
        return f"[{name}]({self._source(f'{NOTEBOOKS}{source}.ipynb')})"

    def _source(self, path: str) -> str:
        return f"{self.address}/blob/main/{path}"


def _staleness(judged: Sequence[Judged]) -> str:
    """How many of the results files that claims rest on no longer fit the code here."""
    used = pd.concat([one.items for one in judged]).drop_duplicates("file")
    files, stale = count(len(used), "results file"), (used["state"] != "fresh").sum()
    return f"They rest on {files}, {stale} of them stale." if len(used) else ""


def _here(one: Judged) -> str:
    """The one item's numbers, or how many lie on the claim's side and what their intervals say."""
    asked, side, total = one.claim.evidence, one.claim.side, len(one.items)
    if not total:
        return asked.reason or "no results file yet"
    shown = one.items["shown"].iloc[0]
    if total > 1:
        for_, against, open_, there = one.tally.values()
        bound = f"{BOUND_WORDS[side]} {asked.bound:g}"
        words = bound if asked.kind == "numbers" else SIDE_WORDS[side]
        intervals = f"intervals: {for_} for, {against} against, {open_} open"
        shown = f"{there} of {total} {words}; {intervals}"
    return "; ".join(part for part in (shown, span(one.items)) if part)


def _planned(claim: Claim) -> list[str]:
    """The notebook that shows something of a claim without results, or would measure it."""
    asked = claim.evidence
    of_cells = asked.table is not None and asked.table not in MAIN_TABLES[1:]
    name = CELL_NOTEBOOK if of_cells else asked.notebook
    return [name] if name and "*" not in name else []


def _label(claim: Claim) -> str:
    return f"claim-{claim.id.replace('_', '-')}"


# Runs, parameters, data


def status_table(rows: pd.DataFrame) -> str:
    """Minutes, memory, fingerprint of each notebook, and whether the code here still fits."""
    header = ["notebook", "preset", "minutes", "peak memory (MiB)", "fingerprint"]
    return _run_table(rows, [*header, "against the code here"], _status)


def _status(row: dict) -> list[str]:
    memory, fingerprint = f"{row['peak_memory_mb']:.0f}", f"`{row['fingerprint'][:12]}`"
    return [number(row["seconds"] / 60), memory, fingerprint, row["state"]]


def machines_table(rows: pd.DataFrame) -> str:
    """Processor, versions and commit of each notebook's run."""
    return _run_table(rows, ["notebook", "preset", "processor", "versions", "commit"], _machine)


def _run_table(rows: pd.DataFrame, header: list[str], told: Callable[[dict], list[str]]) -> str:
    """A row per notebook's results file, that of single cells too."""
    runs = rows[(rows["kind"] == "run") & (rows["part"] != "sweep")]
    lines = [[f"`{r['notebook']}`", r["preset"], *told(r)] for r in records(runs)]
    return table(header, lines) if lines else NOTHING


def _machine(row: dict) -> list[str]:
    where = row["provenance"]
    processor = where.get("gpu") or where.get("cpu") or "not recorded"
    threads = f", {count(where['threads'], 'thread')}" if "threads" in where else ""
    versions = ", ".join(f"{n} {v}" for n, v in sorted(where.get("versions", {}).items()))
    commit = (where.get("commit") or "not recorded")[:12]
    changed = " with changes" if where.get("dirty") else ""
    return [processor + threads, versions or "not recorded", commit + changed]


def notes_list(rows: pd.DataFrame) -> str:
    """What the notebooks noted for the reader, one bullet each."""
    notes = records(main_rows(rows, "note"))
    lines = [f"- `{note['notebook']}`, {note['preset']}: {note['what']}" for note in notes]
    return "\n".join(lines) or "No notes."


def presets_table(model: type[StudyParameters]) -> str:
    """Every parameter of the notebooks with its value in three presets. A description may have
    several lines, a row of a table has one."""
    lines = [
        [
            f"`{name}`",
            *(_value(model.PRESETS[p][name]) for p in PRESETS),
            " ".join(field.description.split()),
        ]
        for name, field in model.model_fields.items()
    ]
    return table(["parameter", *PRESETS, "what, and why this value"], lines)


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def licences_table() -> str:
    """Sources and licences of every part of the embedded data."""
    columns = ("part", "what", "source", "version", "licence")
    return table(columns, [[str(part[c]) for c in columns] for part in embedded_licences()])
