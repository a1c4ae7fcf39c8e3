"""Student against baseline: every cell's differences with intervals beside the paper's, as charts.

Functions take the frame of `book.make.frame`, or comparisons and printed students of it. Counts and
distances, whose size is of a network and its data, are told in percent of the baseline's, lambda
and rho as they are: where the protocol's margin is a share, and where it is a number.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product

import pandas as pd

from book.make.chart import Chart, Line, Mark, Panel, chart_fragments
from book.make.frame import CELL, MAIN_TABLES, NOT_HERE, NOTHING, records, span, sweep_rows
from book.make.texts import block, sheet
from kpnb.metrics.formatting import PLAIN, SYMBOLS
from kpnb.metrics.protocol import margin, primary_metrics, protocol, protocol_seeds
from kpnb.metrics.stats import VERDICTS
from kpnb.paper import HYPOTHESES, METRICS, PREDICTIONS, agreement_rates
from kpnb.run.sweeps import read_sweeps

#: What a headline comparison is of.
PLACE = ["preset", "table", *CELL, "measured_on"]
#: The kinds of samples that the paper's tables are of.
KINDS = dict(zip(MAIN_TABLES, ("Images", "Texts", "Point clouds"), strict=True))
#: Verdicts that are said in words, because they are no answer.
NO_ANSWER = ("not measurable", "one seed")
#: Sweeps with cells that the protocol does not plan, seeds that one needs, and how names of data
#: that come with the project begin.
BEYOND, SEEDS, EMBEDDED = ("table_v", "tiny_imagenet", "table_ix"), 3, "embedded "
FORETOLD = {"up": "predicted →", "down": "← predicted"}
#: What a metric counts, in as many letters as a panel holds.
TOLD = {"n_fg": "on the object", "n_bg": "beside it", "lambda": "share on it"}
TOLD |= {"d_mean": "when learned", "d_var": "spread of when", "rho": "share kept"}


def is_relative(metric: str) -> bool:
    """Whether differences in a metric are told in percent of the baseline's value."""
    return "share" in protocol()["margins"][metric]


def panels(metrics: Sequence[str] = METRICS, published: str = "") -> list[Panel]:
    """An axis a metric, the side of its hypothesis shaded, the protocol's margin on both sides of
    0; published: the paper's table whose rate stands below the title."""
    made = []
    for metric in metrics:
        side, wide = PREDICTIONS[metric], margin(metric, 100.0)
        rate = (f"paper: {paper_rate(metric, published)}",) if published else ()
        unit = "%" if is_relative(metric) else ""
        made.append(
            Panel(
                metric,
                f"H{HYPOTHESES[metric]}: {PLAIN[metric]}",
                (TOLD[metric], FORETOLD[side], *rate),
                unit,
                side,
                (-wide, wide),
            )
        )
    return made


def paper_rate(metric: str, published: str) -> str:
    """How many of a table's cells are on the predicted side in a metric, as in 51 of 57."""
    rate = _rates().set_index(["table", "metric"]).loc[(published, metric)]
    return f"{rate['agree']:.0f} of {rate['cells']:.0f}"


_rates = cache(agreement_rates)  # of tables that do not change


def marks(found: pd.DataFrame) -> dict[str, list[Mark]]:
    """A mark for each comparison, or printed student against its baseline, by metric; none without
    a baseline above 0 that it is told in percent of. What has no verdict has no interval."""
    made: dict[str, list[Mark]] = {}
    for row in records(found):
        base, look = row["baseline"], row["verdict"] or "paper"
        unit = base / 100 if is_relative(row["metric"]) else 1.0
        if unit > 0:
            value = row["value"] - (base if look == "paper" else 0.0)
            ends = () if look in NO_ANSWER else (row["low"] / unit, row["high"] / unit)
            made.setdefault(row["metric"], []).append(Mark(look, value / unit, *ends))
    return made


def cell_lines(
    found: pd.DataFrame, printed: pd.DataFrame | None = None, name: str = "", under: str = ""
) -> Iterator[Line]:
    """A line for each cell of headline comparisons: its name, by default network and layer, what it
    is over, and the words that stand for a verdict; the paper's marks on the first of them. Without
    comparisons the paper's alone, and that nothing was run. under: the data of the heading above.
    """
    beside = {} if printed is None else marks(printed[printed["outcome"] != ""])
    if found.empty:
        yield Line(tuple(filter(None, (name, NOT_HERE))), beside)
    for _, cell in found.groupby([*PLACE, "threshold"], sort=False):
        row = records(cell[:1])[0]
        preset = f", {row['preset']}" if row["preset"] != "study" else ""
        basis = span(cell.assign(noun=cell["sample"])) + preset
        said = [word for word in NO_ANSWER if word in set(cell["verdict"])]
        own = marks(cell.drop_duplicates("metric", keep="last"))
        own = {metric: [*beside.get(metric, []), *own.get(metric, [])] for metric in METRICS}
        yield Line((cell_name(row, name, under), basis, *said), own)
        beside = {}


def confirmatory(rows: pd.DataFrame) -> pd.DataFrame:
    """Headline comparisons of the protocol's own pairs, which their seeds tell."""
    seeds = list(protocol_seeds("pairs", protocol()["confirmatory"]["pairs"]))
    found = rows[(rows["kind"] == "comparison") & rows["headline"] & (rows["preset"] == "study")]
    mine = found["settings"].map(lambda settings: settings.get("seeds") == seeds).astype(bool)
    return found[mine].drop_duplicates([*CELL, "measured_on", "metric"])


def beyond(rows: pd.DataFrame) -> pd.DataFrame:
    """The study's comparisons at other layers than the protocol's and on other data, by teachers of
    the student's own kind, of `SEEDS` and more; of runs of one cell those that imitate longest."""
    sweeps = read_sweeps()
    found = sweep_rows(rows, [run for name in BEYOND for run in sweeps[name].runs])
    enough = found["n_seeds"].map(lambda seeds: seeds is not pd.NA and seeds >= SEEDS)
    found = found[(found["kind"] == "comparison") & (found["preset"] == "study") & enough]
    found = found[~found["larger"]]
    epochs = found["settings"].map(lambda settings: settings.get("epochs", 0)).astype(int)
    return found[epochs == epochs.groupby([found[name] for name in PLACE]).transform("max")]


def shown_comparisons(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the notebooks, of the runs of sweeps with the protocol's own pairs, and those beyond
    the protocol."""
    mine = rows["nth"].isin({*confirmatory(rows)["nth"], *beyond(rows)["nth"]})
    return rows[((rows["part"] == "main") | mine) & (rows["kind"] == "comparison")]


def shown_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Headline comparisons of the study, and of kinds of samples that it has none of those of this
    build's preset; by kind, data, network and layer."""
    found = shown_comparisons(rows)
    found = found[found["headline"]]
    study = found["preset"] == "study"
    found = found[study | ~found["table"].isin(found.loc[study, "table"])]
    found = found.drop_duplicates([*PLACE, "metric"])
    return found.sort_values(PLACE[1:], kind="stable", key=_letters)


def _letters(column: pd.Series) -> pd.Series:
    """Names of data sets in small letters: capitals would put photographs first."""
    return column.str.lower() if column.name == "dataset" else column


def cell_name(row: dict, name: str = "", under: str = "") -> str:
    """By default network and layer; and samples that are not a network's training images, but for
    what the name says already, the page that it stands on, and the data of the heading above. Of
    texts a name says whose they are: the heading is then the paper's."""
    kind, samples = samples_of(row)
    kind = "" if kind == under else kind
    texts = row["table"] == "VI"
    kind = row["dataset"].partition(" (")[0] if name and texts else kind
    told = ", ".join(filter(None, (kind if name or not texts else "", samples))) or kind
    told = told if not name or texts else "" if samples in name else samples
    return (name or f"{row['network']}, {row['layer']}") + (f" ({told})" if told else "")


def samples_of(row: dict) -> tuple[str, str]:
    """Whose samples that are not embedded ones, what embedded texts are, "" for others; and which
    samples are measured, "" for training ones."""
    data, _, samples = row["dataset"].rstrip(")").partition(" (")
    named = not data.startswith(EMBEDDED)
    kind = data if named else f"{row['sample']}s" if row["table"] == "VI" else ""
    photographs = named and row["table"] == "V"
    return kind, "new images" if samples and (photographs or samples == "new") else samples


def forest(
    found: pd.DataFrame, metrics: Sequence[str] = METRICS, kinds: Sequence[str] = MAIN_TABLES
) -> Chart:
    """All cells that have one of the metrics, by kind of samples, under the rates of the paper's
    table of that kind, and data that need a name under it; a kind without any says so."""
    found, lines = found[found["metric"].isin(metrics)], []
    for published in kinds:
        part = found[found["table"] == published]
        notes = {metric: paper_rate(metric, published) for metric in metrics}
        told = KINDS[published], "in the paper, as predicted"
        lines.append(Line(told, notes=notes, heading=True))
        data = [samples_of(row)[0] for row in records(part)]
        lines += [] if data else cell_lines(part)
        for named in dict.fromkeys(data):
            lines += [Line((named[0].upper() + named[1:],), heading=True)] if named else []
            lines += cell_lines(part[[one == named for one in data]], under=named)
    return Chart(block("forest_title"), panels(metrics), lines)


def behind(name: str, chart: Chart, shown: str, caption: str = "") -> dict[str, str]:
    """A chart's fragments, with the table of its numbers behind a fold; nothing without one."""
    if shown == NOTHING:
        return {name: NOTHING}
    made = chart_fragments(name, chart, caption)
    return made | {name: f"{made[name]}\n\n{block('fold', title='The numbers', shown=shown)}"}


def forest_fragments(
    rows: pd.DataFrame, links: Mapping[tuple, str] | None = None
) -> dict[str, str]:
    """The chart of all cells and its numbers, what they say in one table; the same of each
    hypothesis, with the distances in all units of the way and whatever else notebooks compare.

    links: to what else there is to see, by preset, data set, network and scale.
    """
    found, every = shown_cells(rows), shown_comparisons(rows)
    shown = sheet("verdicts", beside(every, found, links or {}))
    made = behind("forest", forest(found), shown, block("forest_caption"))
    told = answers(found)
    counts, elsewhere = (holds_in([row for row in told if bool(row["measured"]) == other])
                         for other in (False, True))  # fmt: skip
    without = [data for data in counts[1] if not any(of.get(data) for of in counts.values())]
    about = {"elsewhere": elsewhere, "unanswered": without}
    made["answer_counts"] = block("answer_counts", holds_in=counts, **about)
    trained = found.loc[[not samples_of(row)[1] for row in records(found)]]
    about = {"asides": asides(trained), "absent": absent(found)}
    made["answers"] = block("answers", shown=sheet("answers", told), **about)
    own_b = every["threshold"].isna() | (every["threshold"] == every["own_b"])
    every = every.assign(rank=every["metric"].map(METRICS.index))
    whole = every[own_b & (every["selection"] == "all")].sort_values(["rank", *PLACE, "distance"])
    for number in sorted({*HYPOTHESES.values()}):
        metrics = [metric for metric in METRICS if HYPOTHESES[metric] == number]
        part = whole[whole["metric"].isin(metrics)]
        shown = sheet("verdicts", beside(every, part, links or {}))
        made |= behind(f"verdicts_h{number}", forest(found, metrics), shown)
    return made


def beside(every: pd.DataFrame, found: pd.DataFrame, links: Mapping[tuple, str]) -> list[dict]:
    """Comparisons, each with those that differ from it in b or in the samples selected alone."""
    same = ["nth", *CELL, "metric", "distance"]
    known = {at: records(part) for at, part in every.groupby(same, sort=False)}
    made = []
    for row in records(found):
        kinds: dict[tuple, list[dict]] = {}
        for one in known[tuple(row[name] for name in same)]:
            kind = one["selection"] == "all", one["threshold"] == row["threshold"]
            kinds.setdefault(kind, []).append(one)
        told = {"kept": kinds.get((False, True), []), "other": kinds.get((True, False), [])}
        link = links.get(tuple(row[name] for name in ("preset", *CELL[:3])), "")
        made.append(row | told | {"cell": cell_name(row), "link": link})
    return made


# What it says, in one table


def answers(found: pd.DataFrame) -> list[dict]:
    """A row for each kind of samples, with its layers by hypothesis and answer; a kind without
    results has none."""
    asked = found[found["metric"].isin(primary_metrics())]
    made = []
    for published, kind in KINDS.items():
        held = by_answer(asked[asked["table"] == published]) or {(kind, ""): {}}
        made += [{"data": data, "measured": samples, "columns": columns}
                 for (data, samples), columns in held.items()]  # fmt: skip
    return made


def by_answer(asked: pd.DataFrame) -> dict[tuple[str, str], dict[int, dict[str, dict]]]:
    """Data, and which samples of them -> hypothesis -> answer -> layers: by the primary metrics of
    the protocol, all of which have to be supported."""
    held: dict[tuple[str, str], dict[int, dict[str, dict]]] = {}
    of = asked["metric"].map(HYPOTHESES)
    for (number, *_), cell in asked.groupby([of, *PLACE], sort=False):
        row = records(cell[:1])[0]
        by_number = held.setdefault((data_name(row), samples_of(row)[1]), {})
        said = dict(zip(cell["metric"], cell["verdict"], strict=True))
        layers = by_number.setdefault(number, {}).setdefault(answer({*said.values()}), {})
        layers[f"{row['network']}, {row['layer']}{_apart(said)}"] = None
    return held


def _apart(said: Mapping[str, str]) -> str:
    """Each metric's verdict in brackets, where they differ."""
    told = ", ".join(f"{SYMBOLS[metric]} {verdict}" for metric, verdict in said.items())
    return f" ({told})" if len({*said.values()}) > 1 else ""


def data_name(row: dict) -> str:
    """Samples by what they are, or whose."""
    return samples_of(row)[0] or f"{EMBEDDED}{KINDS[row['table']].lower()}"


def holds_in(made: Sequence[dict]) -> dict[int, dict[str, Counter]]:
    """Hypothesis -> data -> how many of the cells with an answer have which."""
    found: dict[int, dict[str, Counter]] = {number: {} for number in deciding()}
    for row, number in product(made, found):
        for said, layers in row["columns"].get(number, {}).items():
            of = {} if said in NO_ANSWER else {said: len(layers)}
            found[number].setdefault(row["data"], Counter()).update(of)
    return found


def asides(found: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Of metrics that decide no hypothesis: metric -> verdict -> data -> cells."""
    rest = found[~found["metric"].isin(primary_metrics()) & ~found["verdict"].isin(NO_ANSWER)]
    held: dict[str, dict[str, dict[str, int]]] = {}
    order = {"metric": METRICS.index, "verdict": VERDICTS.index}
    for row in records(rest.sort_values([*order], key=lambda one: one.map(order[one.name]))):
        of = held.setdefault(row["metric"], {}).setdefault(row["verdict"], {})
        of[data_name(row)] = of.get(data_name(row), 0) + 1
    return held


def deciding() -> dict[int, list[str]]:
    """The metrics that decide each hypothesis by the protocol."""
    return {number: [name for name in primary_metrics() if HYPOTHESES[name] == number]
            for number in sorted({*HYPOTHESES.values()})}  # fmt: skip


def absent(found: pd.DataFrame) -> list[str]:
    """Networks of the protocol, which are of images, without any results among those of images."""
    known = set(found.loc[found["table"] == MAIN_TABLES[0], "network"])
    planned = protocol()["confirmatory"]["networks"] if known else ()
    return [name for name in planned if name not in known]


def answer(verdicts: set[str]) -> str:
    """One word for the verdicts of a cell's primary metrics, by the one that is furthest from what
    the paper says."""
    for word in NO_ANSWER:
        if word in verdicts:
            return word
    if verdicts == {"supported"}:
        return "holds"
    return next((one for one in ("opposed", "equivalent") if one in verdicts), "open")
