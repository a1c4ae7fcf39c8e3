"""Results files and the paper's tables as one tidy frame: every table of the book is a pivot of it.

A row is one fact. `source` says whose ("ours" or "paper"), `kind` what:

    measure      a role's mean in a metric or score; of the paper, a printed number
    comparison   student minus baseline, with its verdict
    number       any other number that a notebook keeps, by `name`
    note         a sentence for the reader, in `what`
    run          a results file as such: time, memory, machine, freshness

Paper and notebooks share the columns; one that a row has no use for is "" or missing.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache

import pandas as pd

from kpnb.metrics.formatting import count, interval, number
from kpnb.metrics.results import CELLS, Comparison, Measure, Results, freshness
from kpnb.metrics.stats import Z95, Pooled, pooled
from kpnb.paper import METRICS, TABLES, outcome, published_table, role
from kpnb.run.__main__ import CELL_NOTEBOOK

#: What stands where nothing does: for a whole table, for a cell, for a cell that needs none.
NOTHING, NOT_HERE, NONE = "Not run here yet.", "not run here", "–"
#: The paper's table that measurements on one kind of samples belong to.
TABLE_OF = {"image": "V", "sentence": "VI", "question": "VI", "cloud": "VII"}
#: In which the paper verifies its hypotheses.
MAIN_TABLES = ("V", "VI", "VII")
#: What makes a cell of the paper's tables one cell.
PAPER_CELL = ["table", "dataset", "network", "layer", "grid_size", "threshold_b"]
#: So many are needed to say how much they differ.
LEAST_CELLS = 3
#: What makes a cell of ours one cell; `depth` sorts layers from the input upwards.
CELL = ["dataset", "network", "scale", "depth", "layer"]

TEXTS = [
    *("source", "kind", "part", "notebook", "run", "preset", "file", "state", "student", "teacher"),
    *("measured_on", "table", "dataset", "network", "scale", "layer", "sample", "role", "metric"),
    *("selection", "distance", "prediction", "verdict", "name", "what", "unit", "learning"),
    *("grid_size", "threshold_b", "printed", "outcome"),
]
#: How runs of ten teachers more begin, which count in no table and no claim but their own.
TEN = "ten_"
#: Settings that do not change what a run asks of a layer: whose networks it is asked, and how many.
OWN = ("run", "layers", "seeds", "teachers", "samples", "followed", "outputs")
#: How a note begins that says why a layer is not measurable (`kpnb.training.fitness`).
UNFIT = re.compile(r"(\S+) is not measurable")
#: nth: place of the results among those given; pair: which student belongs to which baseline.
COUNTS = ["n_samples", "n_seeds", "nth", "pair", "depth", "outputs"]
VALUES = ["threshold", "own_b", "value", "low", "high", "margin", "p", "baseline", "seconds"]
VALUES += ["peak_memory_mb"]
FLAGS = ["headline", "other_b", "larger"]
OBJECTS = ["settings", "provenance", "fingerprint"]
OF_NETWORKS = ["by_seed", "unfit"]
#: What a results file says of itself under the same name.
OF_A_FILE = ["notebook", "run", "preset", "seconds", "peak_memory_mb", *OBJECTS]
COLUMNS = [*TEXTS, *COUNTS, *VALUES, *OBJECTS, *OF_NETWORKS, *FLAGS]


def frame(results: Sequence[Results]) -> pd.DataFrame:
    """All facts of some results, in their order, then all that the paper printed.

    Columns beside those of `kpnb.metrics.results`, which keep their names:
        part: "main" for a notebook's results, "sweep" for a sweep's run, "single" for a run of the
            sweeps' notebook that belongs to no sweep and so to no table.
        file: its path in the repository; state: as `freshness` has it.
        student, teacher, measured_on, outputs: of the settings; own_b: b of the run's verdicts.
        headline: on all samples, at `own_b`, with the weight distance of Eq. 8; other_b: the same
            at any other b; larger: the student's teacher is another network than its own.
        value: the mean, the difference or the number. A student's measure has its verdict too.
        by_seed: of a headline measure, what it rests on, as `kpnb.metrics.results.Values` has it.
        unfit: {layer: why it is not measurable} of the whole results file.
        table, printed, outcome: the paper's table, or the one that ours stands beside; the digits
            in print; on which side of its baseline a student was printed.
        baseline: the baseline's number, of a comparison or of a printed student.
    """
    rows = [row for nth, run in enumerate(results) for row in _facts(run, nth)]
    made = pd.DataFrame([*rows, *_printed()], columns=COLUMNS)
    made[VALUES] = made[VALUES].astype(float)
    made[TEXTS] = made[TEXTS].astype(object).fillna("")
    made[COUNTS] = made[COUNTS].astype("Int64").astype(object)
    made[FLAGS] = made[FLAGS].eq(True)
    other = made["threshold"].notna() & (made["threshold"] != made["own_b"])
    made["other_b"] = other & (made["selection"] == "all") & made["distance"].isin(["", "epoch"])
    return made.copy()  # in few blocks of memory, which makes queries quick


def main_rows(rows: pd.DataFrame, kind: str = "") -> pd.DataFrame:
    """What the notebooks found, but for those that measure single cells; of one kind if named."""
    wanted = rows["part"] == "main"
    return rows[wanted & (rows["kind"] == kind) if kind else wanted]


def sweep_rows(rows: pd.DataFrame, runs: Collection[str]) -> pd.DataFrame:
    """What some runs of a sweep found."""
    return rows[(rows["part"] == "sweep") & rows["run"].isin(runs)]


def paper_rows(rows: pd.DataFrame, table: str) -> pd.DataFrame:
    """What the paper printed in one table."""
    return rows[(rows["source"] == "paper") & (rows["table"] == table)]


def standing_for(rows: pd.DataFrame, name: str, runs: Sequence[str] = ()) -> pd.DataFrame:
    """Our facts that stand for a published table, which is of training samples: main ones first,
    then those of a sweep's runs.

    The sweep's runs for Table V are named v_..., for Table II ii_..., and so on; with `runs`,
    patterns of their names, no other facts are taken. Main results stand for the table of their
    kind of samples.
    """
    rows = rows[rows["measured_on"] == "train"]
    swept = rows[rows["run"].str.startswith(f"{name.lower()}_")]
    if runs:
        return swept[fits(swept["run"], runs)]
    main = main_rows(rows[rows["table"] == name])
    return pd.concat([main, swept])


def identity(name: str) -> list[str]:
    """What makes a cell that stands for a published table one cell. In Tables V to VII a sweep's
    run of a cell that a main study has too is no second one; in the others runs differ in more than
    network and layer."""
    return [*CELL, "threshold", *([] if name in MAIN_TABLES else ["run"])]


def asked(settings: Mapping) -> str:
    """What a run asks of each of its layers, whatever its teachers, pairs and samples, of which a
    smaller number is the first of a larger one; outputs that are not set are as many as classes."""
    alike = {name: value for name, value in settings.items() if name not in OWN}
    outputs = settings.get("outputs") or settings.get("classes")
    return json.dumps(alike | {"outputs": outputs}, sort_keys=True)


def fits(names: pd.Series, patterns: Sequence[str]) -> pd.Series:
    """Which names fit one of the patterns, such as "ii_*"."""
    return names.map(lambda name: any(fnmatchcase(name, one) for one in patterns)).astype(bool)


def records(rows: pd.DataFrame) -> list[dict]:
    """Each row as {column: value}; `to_dict` looks each value up for itself, which is slow."""
    return [dict(zip(rows, row, strict=True)) for row in rows.astype(object).to_numpy()]


def place(row: Mapping) -> str:
    """A network with its scale."""
    return f"{row['network']} ({row['scale']})"


def over(row: Mapping) -> str:
    """What a value is over, as in "60 images, 3 seeds"."""
    return f"{count(row['n_samples'], row['sample'])}, {count(row['n_seeds'], 'seed')}"


def span(rows: pd.DataFrame | list[dict]) -> str:
    """What several values are over, as in "40 to 60 images, 1 to 3 seeds"; `noun`: what samples of
    each are called."""
    items = records(rows) if isinstance(rows, pd.DataFrame) else rows
    nouns = dict.fromkeys(item["noun"] for item in items)
    parts = [spread((i["n_samples"] for i in items if i["noun"] == noun), noun) for noun in nouns]
    parts.append(spread((item["n_seeds"] for item in items), "seed"))
    return ", ".join(part for part in parts if part)


def spread(counts: Iterable, noun: str = "") -> str:
    """Lowest and highest of some counts, as in "40 to 60 images"; "" where none is known."""
    known = sorted({int(n) for n in counts if not pd.isna(n)})
    low = f"{known[0]} to " if len(known) > 1 else ""
    return low + (count(known[-1], noun) if noun else f"{known[-1]}") if known else ""


def estimate(row: Mapping, write: Callable = number, shown: str = "{}") -> str:
    """A value with its interval, if it has one; `shown`: how the value alone is set."""
    low, high = (None if pd.isna(row[end]) else row[end] for end in ("low", "high"))
    return shown.format(write(row["value"])) + interval(low, high, write)


def over_cells(cells: pd.DataFrame) -> Pooled | None:
    """The random-effects mean of `value` over cells, each with the variance of its interval; None
    for fewer than three. Where none has one, as in print, cells count alike and are all there is to
    be random."""
    cells = cells[cells["value"].notna()].astype({name: float for name in ("value", "low", "high")})
    values, wide = cells["value"], cells["high"] - cells["low"]
    wide = wide.fillna(1e-3 * values.std()) if wide.isna().all() else wide
    values, wide = values[wide > 0].to_numpy(), wide[wide > 0].to_numpy()
    return pooled(values, (wide / (2 * Z95)) ** 2) if len(values) >= LEAST_CELLS else None


def joined(value: object) -> str:
    """A parameter's value; of several, one after the other."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _facts(run: Results, nth: int) -> Iterator[dict]:
    about = _about(run, nth)
    yield about | {"kind": "run"}
    verdicts = {_choice(item): item.verdict for item in run.comparisons}
    levels = {_choice(item): item.mean for item in run.measures if item.role == "B"}
    held = {(one.layer, one.role, one.metric): one.by_seed for one in run.values}
    for item in (*run.measures, *run.comparisons):
        fact = {"depth": item.cell[3], "table": TABLE_OF.get(item.sample, "")}
        fact["headline"] = run.is_headline(item)
        if isinstance(item, Comparison):
            fact |= {"kind": "comparison", "value": item.difference}
            fact["baseline"] = levels.get(_choice(item))
        else:
            verdict = verdicts.get(_choice(item), "") if item.role == "S" else ""
            fact |= {"kind": "measure", "value": item.mean, "verdict": verdict}
            fact["by_seed"] = held.get((item.layer, item.role, item.metric))
        yield about | item.model_dump() | fact
    for name, found in run.numbers.items():
        own = {"kind": "number", "name": name, "n_samples": found.n}
        yield about | found.model_dump() | own
    yield from (about | {"kind": "note", "what": note} for note in run.notes)


def _about(run: Results, nth: int) -> dict:
    """What all facts of a results file share."""
    settings, teacher = run.settings, run.settings.get("teacher", "same")
    name = f"{CELLS}/{run.run}" if run.run else run.notebook
    whole = "single" if run.notebook == CELL_NOTEBOOK else "main"
    return {
        "source": "ours",
        "part": "sweep" if run.run else whole,
        **{name: getattr(run, name) for name in OF_A_FILE},
        "nth": nth,
        "file": f"book/results/{run.preset}/{name}.json",
        "state": freshness(run),
        "own_b": run.threshold,
        "student": settings.get("network", ""),
        "teacher": teacher,
        "measured_on": settings.get("measured_on", "train"),
        "outputs": settings.get("outputs") or None,
        "larger": teacher not in ("same", settings.get("network")),
        "unfit": {found[1]: note for note in run.notes if (found := UNFIT.match(note))},
    }


def _choice(item: Measure | Comparison) -> tuple:
    """What tells the values of a cell apart; a student's measure and its comparison share it."""
    return item.cell, item.metric, item.threshold, item.selection, item.distance


@cache
def _printed() -> tuple[dict, ...]:
    """Every number of the paper's tables; a student's with the side of its baseline it is on: the
    i-th student of a cell belongs to its i-th baseline."""
    lines = pd.concat([published_table(table, as_printed=True) for table in TABLES])
    lines["role"] = lines["learning"].map(role)
    lines["pair"] = lines.groupby([*PAPER_CELL, "role"]).cumcount()
    own = ("distilled from " + lines["network"]) == lines["learning"]
    lines["larger"] = lines["learning"].str.startswith("distilled") & ~own
    lines = lines.reset_index(drop=True).assign(source="paper", kind="measure")
    about = [name for name in lines if name not in METRICS]
    rows = lines.melt(about, METRICS, "metric", "printed", ignore_index=False)
    rows = rows[rows["printed"] != ""].sort_index(kind="stable").reset_index(drop=True)
    rows["value"] = rows["printed"].astype(float)
    same = [*PAPER_CELL, "pair", "metric"]
    baselines = rows[rows["role"] == "B"].set_index(same)["value"].rename("baseline")
    pairs = rows[rows["role"] == "S"].join(baselines, on=same, how="inner")
    sides = map(outcome, pairs["metric"], pairs["value"], pairs["baseline"])
    rows["baseline"] = pairs["baseline"]
    rows["outcome"] = pd.Series(list(sides), index=pairs.index)
    return tuple(records(rows))
