"""Maps on the way and at the minimum, held against covered units, and Hypothesis 1 with boxes for
outlines: what `image_measure` filed."""

from collections.abc import Iterator, Sequence
from itertools import product

from book.make.texts import sheet
from kpnb.experiments.occlusion import COVERS, MEASURES
from kpnb.experiments.robustness import BOXED, JUDGED, LOOSE, MINIMUM, UNCHANGED
from kpnb.metrics.results import Number, Results

NOTEBOOK = "image_measure"
#: Data and layers that the page is about.
CELL = "embedded", ["FC1"]
#: Rows of the page's tables: what is asked -> the number's beginning in the results.
APART = {("on the way", "auc"): f"{UNCHANGED} | auc", ("at the minimum", "auc"): f"{MINIMUM} | auc"}
COVERED = {(cover, key): f"covered with {cover} | {key}" for key in MEASURES for cover in COVERS}


def minimum_fragments(results: Sequence[Results]) -> dict[str, str]:
    """Two tables of the estimator's page, and one of the photographs', of the study's networks that
    have the numbers."""
    runs = [one for one in results if one.preset == "study" and one.notebook.startswith(NOTEBOOK)]
    runs = [one for one in runs if (one.settings["data"], one.settings["layers"]) == CELL]
    runs = sorted(runs, key=lambda one: one.settings["network"])
    told = {"minimum_apart": APART, "minimum_covered": COVERED}
    made = {name: sheet(name, [*rows(runs, asked)]) for name, asked in told.items()}
    return made | {"minimum_boxes": sheet("minimum_boxes", [*box_rows(runs)])}


def rows(runs: Sequence[Results], asked: dict[tuple, str]) -> Iterator[dict]:
    """A row for each of what is asked and network: student, baseline and their difference."""
    for (at, key), name in asked.items():
        for run in runs:
            found = {who: run.numbers.get(f"{name}_{who}")
                     for who in ("student", "baseline", "difference")}  # fmt: skip
            if all(found.values()):
                about = {"at": at, "key": key, "network": run.settings["network"]}
                yield about | {who: one.model_dump() for who, one in found.items()}


def box_rows(runs: Sequence[Results]) -> Iterator[dict]:
    """A row for each network and metric of Hypothesis 1: the lead, with the object's outline, its
    box and a box that holds half of the squares as foreground."""
    for run, metric in product(runs, JUDGED):
        found = [run.numbers.get(f"{name} | {metric}") for name in (UNCHANGED, BOXED, LOOSE)]
        if all(found[:2]):
            outline, box, loose = [_said(one) if one else None for one in found]
            row = {"metric": metric, "outline": outline, "box": box, "loose": loose}
            yield {name: run.settings[name] for name in ("network", "samples", "seeds")} | row


def _said(one: Number) -> dict:
    """A difference with its verdict, which `judge_variants` files in words."""
    return one.model_dump() | {"verdict": one.what.rpartition(": ")[2]}
