"""The map of conditions: how a student's lead goes with what it took over, its teacher, the images.

Made from the runs of the sweep `conditions`. Those that the protocol's hash holds back take no part
in the model, which says beforehand what they should show. Written before any of them was run.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from book.make.frame import NOTHING
from book.make.texts import block, sheet
from kpnb.figures.style import (
    TITLE_SIZE,
    WIDTH,
    alternative_text,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.formatting import PLAIN
from kpnb.metrics.protocol import protocol_hash
from kpnb.metrics.results import Results
from kpnb.paper import FINAL_METRICS, METRIC_RULES

#: A run's name: images of the teacher in thousands, of student and baseline, length of imitation.
NAME = re.compile(r"cond_t(?P<thousands>\d+)k_n(?P<images>\d+)_l(?P<length>\d+)")
#: What a lead may hang on, each with the step that its coefficient is told for.
TERMS = {"explained": 0.1, "teacher_lead": 0.1, "doublings": 1.0, "is_fc1": 1.0}
#: The least number of runs that a model is made from.
LEAST_RUNS = 12
#: Images of the teacher -> colour (Okabe and Ito) and mark; filled at FC1, open at Conv.
LOOKS = {6000: ("#E69F00", "v"), 15000: ("#56B4E9", "o"), 30000: ("#000000", "^")}


def is_held_back(run: str) -> bool:
    """Whether a run is one of those that are not read before the reading of the others."""
    digest = hashlib.sha256(f"{protocol_hash()} {run}".encode()).hexdigest()
    return int(digest, 16) % 3 == 0


def leads(cells: Sequence[Results]) -> pd.DataFrame:
    """A row a run, layer and pair: conditions, and the student's lead in each of FINAL_METRICS.

    Columns: run, held, layer, pair, teacher (one for each number of its images and pair),
    teacher_images, images, length, explained (share of the teacher's feature on new images),
    teacher_lead (accuracy on new images above the baseline's), doublings (log2 of images over 300),
    is_fc1, and the metrics. The baseline is that of the longest training on the same images and
    with the same teacher, also where that run is held back, of which no more is read; a run without
    it has no row.
    """
    runs = {found[0]: (found, one) for one in cells if (found := NAME.fullmatch(one.run))}
    rows = []
    for name, (found, run) in runs.items():
        longest = runs.get(f"{name.rpartition('_l')[0]}_l100", (None, None))[1]
        if longest is not None:
            numbers = {key: int(value) for key, value in found.groupdict().items()}
            numbers["teacher_images"] = 1000 * numbers.pop("thousands")
            rows += _of_run(run, longest, numbers | {"run": name, "held": is_held_back(name)})
    return pd.DataFrame(rows)


def _of_run(run: Results, longest: Results, about: dict) -> list[dict]:
    held, rows = _values(run), []
    base = _values(longest)
    for layer in run.settings["layers"]:
        explained = held[layer, "S", "explained_new"][:, 0]
        ahead = held["", "T", "accuracy_new"][:, 0] - base["", "B", "accuracy_new"][:, 0]
        gaps = {metric: np.nanmean(held[layer, "S", metric] - base[layer, "B", metric], axis=1)
                for metric in FINAL_METRICS}  # fmt: skip
        shared = {"layer": layer, "is_fc1": float(layer == "FC1")}
        shared |= {"doublings": float(np.log2(about["images"] / 300))}
        for pair, share in enumerate(explained):
            own = {"pair": pair, "explained": share, "teacher_lead": ahead[pair]}
            own |= {"teacher": f"{about['teacher_images']} {pair}"}
            rows.append(about | shared | own | {m: gap[pair] for m, gap in gaps.items()})
    return rows


def _values(run: Results) -> dict[tuple[str, str, str], np.ndarray]:
    """(pairs, samples) by layer, role and metric."""
    return {(one.layer, one.role, one.metric): np.genfromtxt(one.by_seed, ndmin=2)
            for one in run.values}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A mixed model of the lead in one metric, on terms taken from their means.

    fixed: the lead at the means, then a coefficient a term; spread: their covariance. random:
    variances of pairs, of teachers within them, and of the rest. t: to the ends of 95%.
    """

    middle: pd.Series
    fixed: np.ndarray
    spread: np.ndarray
    random: dict[str, float]
    t: float

    def coefficient(self, term: str) -> dict[str, float]:
        """By how much the lead goes up for a step of `TERMS`, with its interval; of "middle" the
        lead itself with all terms at their means."""
        place, step = ["middle", *TERMS].index(term), TERMS.get(term, 1.0)
        value, half = self.fixed[place], self.t * self.spread[place, place] ** 0.5
        return {"value": step * value, "low": step * (value - half), "high": step * (value + half)}

    def expected(self, cell: pd.DataFrame) -> dict[str, float]:
        """The mean lead of a run's pairs at a layer, with the interval that it should lie in."""
        at = np.array([1.0, *(cell[list(TERMS)].mean() - self.middle)])
        own = sum(self.random.values()) / len(cell)
        value, half = at @ self.fixed, self.t * (at @ self.spread @ at + own) ** 0.5
        return {"value": value, "low": value - half, "high": value + half}


def fitted(table: pd.DataFrame, metric: str) -> Model:
    """The model of some rows of `leads`: terms are fixed, pairs of initial weights random, and
    teachers within them (statsmodels, restricted likelihood).

    There are three pairs and nine teachers, too few for normal intervals: t has as many degrees of
    freedom as there are teachers less one.
    """
    from scipy.special import stdtrit
    from statsmodels.regression.mixed_linear_model import MixedLM  # here: a second

    middle = table[list(TERMS)].mean()
    about = table.assign(lead=table[metric], **{term: table[term] - middle[term] for term in TERMS})
    terms, parts = " + ".join(TERMS), {"teacher": "0 + C(teacher)"}
    given = {"groups": "pair", "re_formula": "1", "vc_formula": parts}
    with warnings.catch_warnings():  # a variance of 0 is an answer
        warnings.simplefilter("ignore")
        found = MixedLM.from_formula(f"lead ~ {terms}", about, **given).fit(method="powell")
    many = 1 + len(TERMS)
    random = {"pairs": found.cov_re.iloc[0, 0], "teachers": found.vcomp[0], "rest": found.scale}
    spread = np.asarray(found.cov_params())[:many, :many]
    t = float(stdtrit(table["teacher"].nunique() - 1, 0.975))
    return Model(middle, np.asarray(found.fe_params), spread, random, t)


def conditions_fragments(cells: Sequence[Results]) -> dict[str, str]:
    """The figure of the runs that may be read, what their models say, and whether those held back
    came out as these expect."""
    names = ("conditions_read", "conditions_held")
    table, figure = leads(cells), conditions_figure(cells)
    if figure is None:
        return dict.fromkeys(names, NOTHING)
    known = table[~table["held"]]
    models = {metric: fitted(known, metric) for metric in FINAL_METRICS}
    lines = [{"term": term} | {metric: model.coefficient(term) for metric, model in models.items()}
             for term in (*TERMS, "middle")]  # fmt: skip
    counts = {"runs": known["run"].nunique(), "pairs": known["pair"].nunique(), "rows": len(known)}
    shown = block("conditions_figure", alt=alternative_text(figure))
    told = block("conditions_model", counts=counts, models=models)
    held = list(checked(table[table["held"]], models))
    came = f"{block('conditions_held', lines=held)}\n\n{sheet('conditions_held', held)}"
    read = "\n\n".join([shown, sheet("conditions_model", lines), told])
    return dict(zip(names, (read, came if held else NOTHING), strict=True))


def conditions_figure(cells: Sequence[Results]) -> Figure | None:
    """`leads_figure` of the runs that may be read; None of fewer than LEAST_RUNS."""
    table = leads(cells)
    known = table[~table["held"]] if len(table) else table
    enough = len(known) and known["run"].nunique() >= LEAST_RUNS
    return leads_figure(known) if enough else None


def checked(table: pd.DataFrame, models: dict[str, Model]) -> Iterator[dict]:
    """A row a run held back, layer and metric: what was expected, what was found."""
    for (run, layer), cell in table.groupby(["run", "layer"], sort=False):
        for metric, model in models.items():
            asked, found = model.expected(cell), float(cell[metric].mean())
            inside = asked["low"] <= found <= asked["high"]
            about = {"run": run, "layer": layer, "metric": metric, "pairs": len(cell)}
            yield about | {"expected": asked, "found": found, "inside": inside}


def leads_figure(known: pd.DataFrame) -> Figure:
    """The lead against the share explained, a panel a metric: the mean over pairs of each run and
    layer, a stroke from the lowest pair to the highest."""
    figure, axes = new_figure(1, len(FINAL_METRICS), (WIDTH, 3.4))
    for ax, metric in zip(axes.flat, FINAL_METRICS, strict=True):
        for (_, layer), cell in known.groupby(["run", "layer"], sort=False):
            images = int(cell["teacher_images"].iloc[0])
            colour, mark = LOOKS[images]
            at, lead = cell["explained"].mean(), cell[metric]
            label = f"{layer}, teacher of {images:,} images"
            ax.plot([at, at], [lead.min(), lead.max()], color=colour, linewidth=0.8, alpha=0.6)
            ax.plot(at, lead.mean(), mark, color=colour, label=label, markersize=5,
                    fillstyle="full" if layer == "FC1" else "none")  # fmt: skip
        ax.axhline(0, color="0.4", linewidth=0.8)
        unit = METRIC_RULES[metric].label.rpartition(" ")[2]
        ax.set_title(PLAIN[metric], fontsize=TITLE_SIZE)
        label_axes(ax, "share of the teacher's feature explained [1]", f"student − baseline {unit}")
        ax.grid(alpha=0.3)
    legend_below(figure, axes.flat, columns=3)
    return figure
