"""The map of conditions: how a student's lead goes with what it took over, its teacher, the images.

Made from the runs of the sweep `conditions`. Those that the protocol's hash holds back take no part
in the model, which says beforehand what they should show. Written before any of them was run.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from book.make.frame import NOTHING
from book.make.texts import block, sheet
from kpnb.errors import require
from kpnb.figures.style import (
    TITLE_SIZE,
    WIDTH,
    alternative_text,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.formatting import PLAIN
from kpnb.metrics.protocol import margin, protocol_hash
from kpnb.metrics.results import Results
from kpnb.metrics.stats import LEVEL, holm, judged
from kpnb.paper import FINAL_METRICS, METRIC_RULES
from kpnb.run.sweeps import read_sweeps

if TYPE_CHECKING:
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMResults

#: A run's name: images of the teacher in thousands, of student and baseline, length of imitation.
NAME = re.compile(r"cond_t(?P<thousands>\d+)k_n(?P<images>\d+)_l(?P<length>\d+)")
#: What a lead may hang on, and the step that its effect is told for: from three to eight tenths of
#: the feature, a tenth of accuracy, from 300 to 6,000 images, from Conv to FC1.
TERMS = {"explained": 0.5, "teacher_lead": 0.1, "doublings": float(np.log2(20)), "is_fc1": 1.0}
#: The side on which each is expected, for the metrics that an expectation names.
EXPECTED = {"explained": "up", "teacher_lead": "up", "doublings": "down", "is_fc1": "up"}
ASKED = ("n_fg", "lambda")
#: Degrees of freedom: of a mean over three pairs, and of effects between their nine teachers.
OF_MEAN, OF_EFFECT = 2, 4
#: A share of the feature, and the least number of leads that are asked for one below it.
HALF, LEAST = 0.5, 12
#: Images of the teacher -> colour (Okabe and Ito) and mark; filled at FC1, open at Conv.
LOOKS = {6000: ("#E69F00", "v"), 15000: ("#56B4E9", "o"), 30000: ("#000000", "^")}


def is_held_back(run: str) -> bool:
    """Whether a run is one of those that are not read before the reading of the others."""
    digest = hashlib.sha256(f"{protocol_hash()} {run}".encode()).hexdigest()
    return int(digest, 16) % 3 == 0


def leads(cells: Sequence[Results], longest: bool = True) -> pd.DataFrame:
    """A row a run, layer and pair: conditions, and the student's lead in each of FINAL_METRICS.

    Columns: run, held, layer, pair, teacher (one for each number of its images and pair),
    teacher_images, images, baseline (of pair, teacher and images), length, explained (share of the
    teacher's feature on new images), teacher_lead (accuracy on new images above the baseline's),
    doublings (log2 of images over 300), is_fc1, the metrics, and level (the baseline's N_bg). The
    baseline is that of the longest training on the same images with the same teacher, also where
    that run is held back, of which no more is read; without `longest` it is the run's own. A run
    without it has no row.
    """
    runs = {found[0]: (found, one) for one in cells if (found := NAME.fullmatch(one.run))}
    rows = []
    for name, (found, run) in runs.items():
        base = runs.get(f"{name.rpartition('_l')[0]}_l100" if longest else name, (None, None))[1]
        if base is not None:
            about = {key: int(value) for key, value in found.groupdict().items()}
            about["teacher_images"] = 1000 * about.pop("thousands")
            rows += _of_run(run, base, about | {"run": name, "held": is_held_back(name)})
    return pd.DataFrame(rows)


def _of_run(run: Results, base: Results, about: dict) -> Iterator[dict]:
    own, other = _values(run), _values(base)
    ahead = own["", "T", "accuracy_new"][:, 0] - other["", "B", "accuracy_new"][:, 0]
    about = about | {"doublings": float(np.log2(about["images"] / 300))}
    about["stretched"] = float(np.log2(about["length"]))
    for layer in run.settings["layers"]:
        gaps = {metric: np.nanmean(own[layer, "S", metric] - other[layer, "B", metric], axis=1)
                for metric in FINAL_METRICS}  # fmt: skip
        level = np.nanmean(other[layer, "B", "n_bg"], axis=1)
        for pair, share in enumerate(own[layer, "S", "explained_new"][:, 0]):
            row = {"layer": layer, "is_fc1": float(layer == "FC1"), "pair": pair}
            row |= {"explained": share, "teacher_lead": ahead[pair], "level": level[pair]}
            row["teacher"] = f"{about['teacher_images']} {pair}"
            row["baseline"] = f"{row['teacher']} {about['images']}"
            yield about | row | {metric: gap[pair] for metric, gap in gaps.items()}


def _values(run: Results) -> dict[tuple[str, str, str], np.ndarray]:
    """(pairs, samples) by layer, role and metric."""
    return {(one.layer, one.role, one.metric): np.genfromtxt(one.by_seed, ndmin=2)
            for one in run.values}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A mixed model of the lead in one metric, on terms taken from their means.

    fixed: the lead at the means, then a coefficient a term; errors: of each. random: variances
    between pairs, teachers, baselines, and of the rest.
    """

    middle: pd.Series
    fixed: np.ndarray
    errors: np.ndarray
    random: dict[str, float]

    def effect(self, term: str) -> dict[str, float]:
        """By how much the lead goes up for a step of `TERMS`, of "middle" the lead itself, with
        interval and p."""
        from scipy.special import stdtr, stdtrit

        place, step = ["middle", *self.middle.index].index(term), TERMS.get(term, 1.0)
        value, error = step * self.fixed[place], step * self.errors[place]
        freedom = OF_EFFECT if place else OF_MEAN
        half = stdtrit(freedom, 1 - LEVEL / 2) * error
        p = 2 * float(stdtr(freedom, -abs(value) / error))
        return {"value": value, "low": value - half, "high": value + half, "p": p}

    def expected(self, cell: pd.DataFrame) -> float:
        """The mean lead that rows of the same conditions should have."""
        at = cell[list(self.middle.index)].mean() - self.middle
        return float(self.fixed[0] + at @ self.fixed[1:])


def fitted(table: pd.DataFrame, metric: str, terms: Sequence[str] = tuple(TERMS)) -> Model:
    """The model of some rows of `leads`: terms are fixed; random are pairs of initial weights,
    teachers within them, and the baselines, each of which is taken from the students of several
    runs and both layers (statsmodels, restricted likelihood).

    Raises: KpnbError where the fit does not converge.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM  # here: a second

    table = table.dropna(subset=[metric])
    middle = table[list(terms)].mean()
    about = table.assign(lead=table[metric], **{term: table[term] - middle[term] for term in terms})
    parts = {name: f"0 + C({name})" for name in ("pair", "teacher", "baseline")}
    given = {"groups": np.zeros(len(about)), "vc_formula": parts}
    model = MixedLM.from_formula(f"lead ~ {' + '.join(terms)}", about, **given)
    found = _converged(model)
    require(found, f"The mixed model of {metric} on {len(table)} leads does not converge.")
    errors = _errors(found)[: 1 + len(terms)]
    random = dict(zip(model.exog_vc.names, found.vcomp, strict=True)) | {"rest": found.scale}
    return Model(middle, np.asarray(found.fe_params), errors, random)


def _converged(model: MixedLM) -> MixedLMResults | None:
    """The fit by the first optimizer that ends where variances are variances."""
    for method in ("powell", "lbfgs", "nm"):
        with warnings.catch_warnings(), suppress(np.linalg.LinAlgError):
            warnings.simplefilter("ignore")  # a variance of 0 is an answer
            found = model.fit(method=method)
            good = np.isfinite(_errors(found)).all() and (found.vcomp >= 0).all()
            if found.converged and good and found.scale > 0:
                return found
    return None


def _errors(found: MixedLMResults) -> np.ndarray:
    """Standard errors of the fixed effects."""
    many = len(found.fe_params)
    return np.sqrt(np.diag(np.asarray(found.cov_params()))[:many])


def conditions_fragments(cells: Sequence[Results]) -> dict[str, str]:
    """The figure of the runs that may be read with what their models say, and how well these
    foretell the runs held back, once all of those are there."""
    known, held = parts(leads(cells))
    names = ("conditions_read", "conditions_held", "conditions_images")
    if known is None:
        return dict.fromkeys(names, NOTHING)
    models = {metric: fitted(known, metric) for metric in FINAL_METRICS}
    counts = {"runs": known["run"].nunique(), "pairs": known["pair"].nunique(), "rows": len(known)}
    figure = block("conditions_figure", alt=alternative_text(leads_figure(known)))
    rows = [*effects_of(known, models), *beside(known, parts(leads(cells, longest=False))[0])]
    told = block("conditions_model", counts=counts, models=models)
    read = "\n\n".join([figure, sheet("conditions_model", rows), told])
    came = NOTHING if held is None else sheet("conditions_held", foretold(known, held, models))
    after = sheet("conditions_images", by_images(known))
    return dict(zip(names, (read, came, after), strict=True))


def parts(table: pd.DataFrame) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The rows of the runs that are read first, and of those held back; None for either while one
    of its runs is missing."""
    runs, found = read_sweeps()["conditions"].runs, []
    for back in (False, True):
        wanted = {name for name in runs if is_held_back(name) == back}
        part = table[table["held"] == back] if len(table) else table
        found.append(part if len(part) and set(part["run"]) == wanted else None)
    return found[0], found[1]


def conditions_figure(cells: Sequence[Results]) -> Figure | None:
    """`leads_figure` of the runs that are read first; None while some are missing."""
    known, _ = parts(leads(cells))
    return None if known is None else leads_figure(known)


def effects_of(known: pd.DataFrame, models: dict[str, Model]) -> Iterator[dict]:
    """A row a term: its effect on the lead in each metric, with what that says of the expectation;
    then the mean lead itself.

    Of the metrics that an expectation names all effects are one family (Holm). N_bg is expected to
    go with nothing: there an effect inside the protocol's margin is as expected, and one whose
    interval excludes 0 is not.
    """
    found = {(metric, term): model.effect(term) for metric, model in models.items()
             for term in TERMS}  # fmt: skip
    family = holm({at: one["p"] for at, one in found.items() if at[0] in ASKED})
    none = margin("n_bg", float(known["level"].mean()))
    for (metric, term), one in found.items():
        ends = one["value"], one["low"], one["high"]
        if metric in ASKED:
            one["verdict"] = judged(*ends, EXPECTED[term], 0.0, family[metric, term])
        else:
            said = judged(*ends, "up", none, one["p"])
            one["verdict"] = "opposed" if said == "supported" else said
    for term in TERMS:
        yield {"term": term} | {metric: found[metric, term] for metric in models}
    yield {"term": "middle"} | {metric: model.effect("middle") for metric, model in models.items()}


def beside(known: pd.DataFrame, equal: pd.DataFrame) -> Iterator[dict]:
    """Rows of what was to be looked at beside: the effect of the share explained with the length of
    imitation as one more term, and over baselines of the same length; the mean lead of students
    that explain less than one half."""
    below = known[known["explained"] < HALF]
    looks = [("with_length", known, (*TERMS, "stretched"), "explained")]
    looks += [("equal_length", equal, tuple(TERMS), "explained")]
    looks += [("below_half", below, ("is_fc1",), "middle")] if len(below) >= LEAST else []
    for name, table, terms, asked in looks:
        yield {"term": name} | {
            metric: fitted(table, metric, terms).effect(asked) for metric in FINAL_METRICS
        }


def by_images(known: pd.DataFrame) -> Iterator[dict]:
    """A row for each number of images and side of one half of the feature: how many leads, and the
    mean of each metric's with an interval over the means of pairs. Looked at after the reading."""
    from statsmodels.stats.weightstats import DescrStatsW

    below = known["explained"] < HALF
    for (images, less), part in known.groupby(["images", below.rename("less")]):
        row = {"images": images, "less": less, "leads": len(part)}
        for metric in FINAL_METRICS:
            pairs = DescrStatsW(part.groupby("pair")[metric].mean())
            low, high = pairs.tconfint_mean(LEVEL)
            row[metric] = {"value": float(pairs.mean), "low": low, "high": high}
        yield row


def foretold(known: pd.DataFrame, held: pd.DataFrame, models: dict[str, Model]) -> Iterator[dict]:
    """A row a metric: the mean squared error with which its model foretells the leads of the runs
    held back, a lead a run and layer, beside that of the mean of the runs read at the layer."""
    cells = list(held.groupby(["run", "layer"], sort=False))
    means = known.groupby("layer")[list(FINAL_METRICS)].mean()
    for metric, model in models.items():
        truth = np.array([cell[metric].mean() for _, cell in cells])
        own = np.array([model.expected(cell) for _, cell in cells])
        plain = np.array([means.loc[layer, metric] for (_, layer), _ in cells])
        errors = {"model": ((truth - own) ** 2).mean(), "plain": ((truth - plain) ** 2).mean()}
        yield {"metric": metric, "cells": len(cells), **errors}


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
