"""The book's own tables as pivots of its frame: scores, runs; and the packages' lists.

Functions take the frame of `book.make.frame`, or rows of it, and return markdown.
"""

import pandas as pd
import yaml

from book.make.chart import Chart, Line, Mark, Panel
from book.make.forest import behind, shown_comparisons
from book.make.frame import NONE, UNFIT, estimate, main_rows, over, place, records
from book.make.texts import block, sheet
from kpnb.fingerprint import packed_file
from kpnb.paper import ROLES, SCORES
from kpnb.study.parameters import StudyParameters

LICENCES = ("images_licences.yaml", "text_licences.yaml", "pointclouds_licences.yaml")

FINE_TUNING = "image_fine_tuning"
NOT_FOLLOWED = " not measured, because no "
OF_FINE_TUNING = ("fine-tuned", "from scratch", "fine-tuned minus from scratch")

# Scores


def accuracy_fragments(rows: pd.DataFrame) -> dict[str, str]:
    """Scores of teacher, baseline and students: mean over seeds, lowest and highest seed. Sorted by
    data and network, whatever notebooks or runs they are from; students from the input upwards. A
    line of the chart is a network with all of its students."""
    swept = rows["nth"].isin(shown_comparisons(rows)["nth"]) & (rows["measured_on"] == "train")
    found = rows[((rows["part"] == "main") | swept) & (rows["kind"] == "measure")]
    found = found[found["metric"].isin(SCORES)]
    score, samples = ([SCORES[metric][i] for metric in found["metric"]] for i in (0, 1))
    order = found["role"].map("TBS".index)
    keys = ["preset", "dataset", "network", "score", "order", "scale", "depth", "layer", "role"]
    found = found.assign(score=score, samples=samples, order=order).sort_values(keys)
    found = found.drop_duplicates([*keys, "samples", "value"])  # a run a layer has them all
    told = [f"{estimate(row)}, {over(row)}" for row in records(found)]
    wide = found.assign(told=told).pivot_table("told", keys, "samples", aggfunc="last")
    wide = wide.reindex(columns=["unseen", "new", "training"]).astype(object)
    wide = wide.fillna({"new": NONE}).fillna("not measured")  # only images are composed anew
    titles = {"unseen": "unseen samples", "new": "new images", "training": "training samples"}
    panels = [Panel(name, title) for name, title in titles.items() if set(wide[name]) != {NONE}]
    lines = [_scores(part) for _, part in found.groupby([*keys[:4], "scale"], sort=False)]
    chart = Chart(block("accuracies_title"), panels, lines)
    return behind("accuracies", chart, sheet("accuracies", records(wide.reset_index())))


def _scores(found: pd.DataFrame) -> Line:
    marks: dict[str, list[Mark]] = {}
    for row in records(found):
        ends = (row[end] for end in ("value", "low", "high"))
        marks.setdefault(row["samples"], []).append(Mark(ROLES[row["role"]], *ends))
    preset = "" if row["preset"] == "study" else f", {row['preset']}"
    return Line((place(row), row["dataset"], f"{row['score']}{preset}"), marks)


# Runs, parameters, data


def run_table(name: str, rows: pd.DataFrame) -> str:
    """A row per notebook's results file, that of single cells too; name: "status" for its minutes,
    memory, fingerprint and whether the code here still fits, "machines" for processor, versions
    and commit."""
    return sheet(name, records(rows[(rows["kind"] == "run") & (rows["part"] != "sweep")]))


def fine_tuning_table(rows: pd.DataFrame) -> str:
    """A line a quantity of the notebook on fine-tuning, by run: both networks and their
    difference. The text of each number has whose it is between commas; the source network's stands
    in the place of the fine-tuned one's."""
    found = rows[(rows["kind"] == "number") & rows["notebook"].str.startswith(FINE_TUNING)]
    lines: dict[tuple, dict] = {}
    for row in records(found):
        words = row["what"].partition("; ")[0].split(", ")
        of = next((word for word in words if word in OF_FINE_TUNING), OF_FINE_TUNING[0])
        quantity = ", ".join(word for word in words if word != of)
        line = lines.setdefault(
            (row["nth"], quantity),
            row | {"quantity": quantity, "told": dict.fromkeys(OF_FINE_TUNING, NONE)},
        )
        line["told"][of] = estimate(row)
    return sheet("fine_tuning", lines.values(), columns=OF_FINE_TUNING)


def correlation_table(rows: pd.DataFrame) -> str:
    """Every correlation of points and accuracy."""
    found = rows[(rows["kind"] == "number") & rows["name"].str.startswith("correlation_")]
    return sheet("correlations", records(found))


def notes_list(rows: pd.DataFrame) -> str:
    """What the notebooks that measure networks noted for the reader, one bullet each, but for why
    layers are not measurable, which the page on fitness has, and for metrics of training in runs
    that follow none."""
    found = main_rows(rows, "note")
    found = records(found[found["nth"].isin(main_rows(rows, "measure")["nth"])])
    ends = [note["settings"].get("followed") == 0 and NOT_FOLLOWED in note["what"]
            for note in found]  # fmt: skip
    told = [note for note, end in zip(found, ends, strict=True)
            if not end and not UNFIT.match(note["what"])]  # fmt: skip
    return block("notes", notes=told)


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
