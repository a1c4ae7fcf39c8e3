"""The paper's tables with our measurements in place, and how often both lie on the predicted side.

Functions take the frame of `book.make.frame` and return markdown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from book.make import frame
from book.make.chart import Chart, Line, Mark, chart_fragments
from book.make.forest import PLACE, behind, cell_lines, is_relative, panels
from book.make.frame import MAIN_TABLES, NONE, NOT_HERE, over, place, records
from book.make.texts import badge, block, sign, table
from kpnb.metrics.evidence import THRESHOLDS
from kpnb.metrics.formatting import SYMBOLS, signed
from kpnb.metrics.protocol import protocol
from kpnb.paper import METRICS, PREDICTIONS, ROLES, TABLES
from kpnb.run.sweeps import Sweep, read_sweeps

#: The paper's data sets that our stand-ins are not of one table alone, by our kind of samples.
STAND_INS = {"SQuAD": "question", "SST-2": "sentence"}
#: How a sweep's runs are shown beside a table: what sets them apart in words (parameter -> how its
#: value is told), whose numbers of ours, and whether at each b measured, not only at the run's own.
SHOWN: dict[str, tuple[dict[str, str], str, bool]] = {
    "II": ({"teacher": "taught by {}"}, "SB", False),
    "III": ({"grid": "{0}×{0} cells", "threshold": "b = {}"}, "SB", True),
    "IV": ({"augment": "augmented {}"}, "TSB", False),
    "VIII": ({"outputs": "{} outputs"}, "SB", False),
    "IX": ({"measured_on": "{} images", "teacher": "taught by {}"}, "TSB", False),
    "tiny_imagenet": ({"measured_on": "{} images", "epochs": "{} epochs"}, "TSB", False),
}
#: Which samples a run measures, in the words of the charts.
WHICH = {"train": "training", "test": "new"}
#: Sweeps on other data than a table's, which stand beside it on a page of their own.
BESIDE = ("tiny_imagenet",)
#: Table VIII has networks of 10 outputs; the sweep's runs with many more stand for no cell of it.
FEW_OUTPUTS = ("*_outputs2", "*_outputs4", "*_outputs12")


@dataclass(frozen=True)
class Place:
    """A cell of a published table: the network, or of texts the task, that it is listed under, its
    name there, what the paper printed, and what was found here."""

    heading: str
    name: str
    printed: pd.DataFrame
    ours: pd.DataFrame


def published_tables(rows: pd.DataFrame) -> dict[str, str]:
    """{file: content} of Tables II to IX, and of what stands beside them: each one's chart, and the
    numbers behind folds."""
    sweeps, made = read_sweeps(), {}
    for name in (*TABLES, *BESIDE):
        key, shown = key_of(name), name in SHOWN
        found = sweep_places(sweeps[key], rows, name) if shown else main_places(name, rows)
        drawn = chart_fragments(key, chart(name, found), block("published_caption"))
        folds = block("published_folds", tables=tables(name, found))
        told = block("too_few", rows=list(too_few(name, rows)), least=least_with_point())
        absent = block("left_out", cells=left_out(name, found))
        made |= drawn | {key: "\n\n".join(filter(None, (drawn[key], told, absent, folds)))}
    return made


def drawn_places(name: str, places: Sequence[Place]) -> Sequence[Place]:
    """Those with a line in a chart: of `BESIDE` the ones with results, if there are any."""
    return [one for one in places if len(one.ours) or name not in BESIDE] or places


def left_out(name: str, places: Sequence[Place]) -> dict[str, list[str]]:
    """Layers that a chart has no line for, by network."""
    of = lambda one: (one.heading, one.name.partition(",")[0])  # noqa: E731
    drawn, made = {of(one) for one in drawn_places(name, places)}, {}
    for network, layer in dict.fromkeys(map(of, places)):
        if (network, layer) not in drawn:
            made.setdefault(network, []).append(layer)
    return made


def least_with_point() -> float:
    """The least share of samples with a point on the foreground, of the protocol."""
    return protocol()["fitness"]["with_point"]


def too_few(name: str, rows: pd.DataFrame) -> Iterator[dict]:
    """The paper's networks whose mean count of foreground points is below the share of samples with
    one that the protocol asks for: no more than that share of theirs can have any."""
    printed = frame.paper_rows(rows, name)
    printed = printed[(printed["metric"] == "n_fg") & printed["role"].isin([*"SB"])]
    for row in records(printed[printed["value"] < least_with_point()]):
        yield row | {"who": ROLES[row["role"]]}


def key_of(name: str) -> str:
    """What a table's sweep and its page's files are called, as in table_ix."""
    return name if name in BESIDE else f"table_{name.lower()}"


def main_places(name: str, rows: pd.DataFrame) -> list[Place]:
    """Those of Table V, VI or VII, a network's or task's layers. Of ours those of the study, if it
    has the cell; a main study's go before a sweep's of the same cell."""
    swept = frame.sweep_rows(rows, read_sweeps()["table_v"].runs if name == "V" else ())
    ours = pd.concat([swept, frame.main_rows(rows)])
    ours = ours[(ours["table"] == name) & ours["metric"].isin(METRICS) & ours["headline"]]
    known = ours.groupby(PLACE[1:])["preset"].transform(lambda found: "study" in set(found))
    ours = ours[(ours["preset"] == "study") | ~known.astype(bool)]
    by, places = "dataset" if name == "VI" else "network", []
    for (title, layer), part in frame.paper_rows(rows, name).groupby([by, "layer"], sort=False):
        here = (ours["network"] == title) & (ours["layer"] == layer)
        here = ours["sample"] == STAND_INS[title] if name == "VI" else here
        places.append(Place(title, layer, part, ours[here]))
    titles = [one.heading for one in places]
    return sorted(places, key=lambda one: titles.index(one.heading))


def sweep_places(sweep: Sweep, rows: pd.DataFrame, shown: str = "") -> list[Place]:
    """One for each run and layer, and for each b where the table varies it; the paper's rows stand
    above the first of the runs that share them. shown: of `SHOWN`, by default the table's; of
    `BESIDE` without those that the paper does not have and that were not run."""
    tell, _, every_b = SHOWN.get(shown or sweep.table, ({}, "SB", False))
    known, places, before = frame.paper_rows(rows, sweep.table), [], None
    every = [(name, run, layer) for name, run in sweep.runs.items()
             for layer in sweep.given(name, "study")["layers"]]  # fmt: skip
    for name, run, layer in every:
        given = sweep.given(name, "study") | {"layers": [layer]}
        ours = frame.sweep_rows(rows, [name])
        ours = ours[(ours["headline"] | (ours["other_b"] & every_b)) & (ours["layer"] == layer)]
        printed = known[:0]
        if run.published and run.published != before:
            wanted = known[list(run.published)].isin(run.published).all(axis=1)
            printed = known[wanted]
        before = run.published
        parts = {b: (printed[printed["threshold_b"] == str(b)], ours[ours["threshold"] == b])
                 for b in (THRESHOLDS if every_b else ())}  # fmt: skip
        parts = {b: part for b, part in parts.items() if any(map(len, part))}
        for b, part in (parts or {None: (printed, ours)}).items():
            if run.published or any(map(len, part)) or shown not in BESIDE:
                told = _told(given | {"threshold": b}, tell)
                places.append(Place(given["network"], told, *part))
    return places


def _told(settings: dict, tell: dict[str, str]) -> str:
    """Which run this is; a teacher of the student's own kind is called by its name."""
    own = {"teacher": settings["network"]} if settings.get("teacher") == "same" else {}
    known = settings | own | {"measured_on": WHICH.get(settings.get("measured_on"))}
    told = [text.format(known[name]) for name, text in tell.items() if known.get(name)]
    return ", ".join([*settings["layers"], *told])


def chart(name: str, places: Sequence[Place]) -> Chart:
    """A line for each cell of ours, with the paper's as marks."""
    lines = []
    for heading, group in groupby(drawn_places(name, places), key=lambda place: place.heading):
        lines.append(Line((heading,), heading=True))
        for one in group:
            lines += cell_lines(one.ours[one.ours["kind"] == "comparison"], one.printed, one.name)
    beside, given = name in BESIDE, read_sweeps().get(name)
    title = block("published_title", table=f"Table {name}" if not beside else given.title)
    return Chart(title, panels(_metrics(places), given.table if beside else name), lines)


def tables(name: str, places: Sequence[Place]) -> dict[str, str]:
    """By heading, the numbers of each place: every printed one, then ours, of the paper's metrics
    that this table has not, too: mean, 95% interval, and a student's verdict."""
    measured = {metric for one in places for metric in one.ours["metric"]}
    metrics = [metric for metric in METRICS if metric in {*_metrics(places), *measured}]
    roles = SHOWN.get(name, ({}, "SB", False))[1]
    header = ["cell", "data", "network", *(SYMBOLS[metric] for metric in metrics)]
    made = {}
    for heading, group in groupby(places, key=lambda place: place.heading):
        lines = []
        for one in group:
            # The paper's have none of what sets apart runs that no table of it has.
            plain = one.name.partition(", ")[0] if name in BESIDE else one.name
            named = [(plain, line) for line in _printed_lines(one.printed)]
            for at, (data, told) in named + [(one.name, li) for li in _our_lines(one.ours, roles)]:
                lines.append([at, *data, *(told.get(metric, NONE) for metric in metrics)])
        made[heading] = table(header, lines, flush=len(metrics))
    return made


def _metrics(places: Sequence[Place]) -> list[str]:
    known = {metric for one in places for metric in one.printed["metric"]}
    return [metric for metric in METRICS if metric in known]


#: A line of a table: data and network, and the text of each metric.
TableLine = tuple[tuple[str, str], dict[str, str]]


def _printed_lines(printed: pd.DataFrame) -> list[TableLine]:
    """Of each data set teacher, students and baselines, once each; a student's numbers carry the
    mark of the side of its baseline that they are on."""
    lines: dict[tuple, dict[str, str]] = {}
    for row in records(printed):
        data = ", ".join(filter(None, (row["dataset"], row["grid_size"])))
        line = lines.setdefault((data, row["role"], row["learning"]), {})
        line[row["metric"]] = row["printed"] + sign(row["outcome"])
    known = [data for data, *_ in lines]
    order = sorted(lines, key=lambda at: (known.index(at[0]), "TSB".index(at[1])))
    return [((at[0], ROLES.get(at[2], at[2])), lines[at]) for at in order]


def _our_lines(ours: pd.DataFrame, roles: str) -> list[TableLine]:
    """A line per cell and role: under a number its interval, under a student's the verdict."""
    lines: list[TableLine] = []
    measures = ours[ours["kind"] == "measure"]
    for _, cell in measures.groupby([*PLACE, "threshold"], sort=False):
        row = records(cell[:1])[0]
        basis = f"{row['preset']}, {over(row)}, b = {row['threshold']}"
        head = f"ours: {row['dataset']}, {place(row)}, {basis}"
        for role in roles:
            told = {}
            for one in records(cell[cell["role"] == role]):  # of several the last
                parts = frame.estimate(one, shown="**{}**").split(" ", 1), [badge(one["verdict"])]
                told[one["metric"]] = "<br>".join(filter(None, sum(parts, [])))
            lines.append(((head if role == roles[0] else "ours", f"**{ROLES[role]}**"), told))
    return lines or [((f"ours: {NOT_HERE}", ""), {})]


# How often the paper agrees with itself


def rates_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """Each table's cells, the paper's above ours, which are the measurable ones: how many lie
    strictly on the predicted side, and the random-effects mean of student against baseline."""
    lines, drawn = [], {}
    for title, whose, found in _sets(rows):
        told = {metric: _agreeing(found[found["metric"] == metric], metric) for metric in METRICS}
        lines.append([f"{title}, {whose}", *(_told_rate(*told[m], m) for m in METRICS)])
        look = "here" if whose == "here" else "paper"
        for metric, (_, _, mean) in told.items():
            made = [Mark(look, **mean)] if mean else []
            drawn.setdefault(title, {}).setdefault(metric, []).extend(made)
    charted = [Line((f"Table {title}",), marks) for title, marks in drawn.items()
               if any(marks.values())]  # fmt: skip
    chart = Chart(block("rates_title"), panels(), charted)
    shown = table(["table", *SYMBOLS.values()], lines)
    return behind("claim_rates", chart, shown, block("rates_caption"))


def _sets(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The cells of each table, and of the main ones together: the paper's, then ours."""
    ours = rows[(rows["preset"] == "study") & (rows["kind"] == "comparison") & rows["headline"]]
    ours = ours[ours["verdict"] != "not measurable"]
    for names in (*((name,) for name in TABLES), MAIN_TABLES):
        title = " to ".join(dict.fromkeys((names[0], names[-1])))
        printed = pd.concat([frame.paper_rows(rows, name) for name in names])
        printed = printed.assign(value=printed["value"] - printed["baseline"])
        yield title, "the paper", printed[printed["outcome"] != ""]
        yield title, "here", pd.concat([_cells_of(name, ours) for name in names])


def _cells_of(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    found = frame.standing_for(ours, name, FEW_OUTPUTS if name == "VIII" else ())
    return found.drop_duplicates(["metric", *frame.identity(name)])


def _agreeing(cells: pd.DataFrame, metric: str) -> tuple[int, int, dict[str, float] | None]:
    """How many cells are on the predicted side, of how many, and their mean with its interval:
    counts and distances, whose size is of a network and its data, by their ratio, in percent."""
    on_side = (cells["value"] > 0) if PREDICTIONS[metric] == "up" else (cells["value"] < 0)
    ends = cells[["value", "low", "high"]].astype(float)
    if is_relative(metric):  # of what is not above 0 there is no logarithm
        above = ends.div(cells["baseline"].astype(float), axis=0).add(1)
        ends = np.log(above.where(above > 0))
    mean = frame.over_cells(ends)
    found = {name: getattr(mean, name) for name in ends} if mean else None
    if found and is_relative(metric):
        found = {name: 100 * float(np.expm1(end)) for name, end in found.items()}
    return int(on_side.sum()), len(cells), found


def _told_rate(agree: int, cells: int, mean: dict[str, float] | None, metric: str) -> str:
    """As in "51 of 57", and below it "+30 % [+25 %, +35 %]"."""
    percent = lambda value: f"{value:+.0f}\u00a0%".replace("-", "−")  # noqa: E731
    told = f"<br>{frame.estimate(mean, percent if is_relative(metric) else signed)}" if mean else ""
    return f"{agree} of {cells}{told}" if cells else NONE
