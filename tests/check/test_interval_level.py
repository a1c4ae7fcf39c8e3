"""False decisions where nothing differs: of `crossed` with the study's variances, of a model."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from book.make import conditions
from kpnb.metrics.stats import crossed

RUNS, MOST = 10_000, 0.06
#: Standard deviations of student minus baseline, narrow VGG-11 on embedded images: between seeds,
#: between images, of one image of one seed. The largest of Conv and FC1 by metric.
VARIANCES = {"n_fg": (2.75, 5.2, 7.8), "n_bg": (1.6, 6.2, 8.4), "lambda": (0.010, 0.145, 0.18)}
#: Seeds, images, teachers that seeds share.
DESIGNS = {3: (60, None), 5: (60, None), 8: (60, None), 21: (100, 3)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seeds", DESIGNS)
@pytest.mark.parametrize("metric", VARIANCES)
def test_a_null_is_decided_in_at_most_six_of_a_hundred(metric, seeds, share):
    """share: of the seeds' variance, that of teachers, where seeds share them."""
    (samples, teachers), rng = DESIGNS[seeds], np.random.default_rng(seeds)
    if teachers is None and share:
        pytest.skip("a teacher of each seed's own is part of the seed")
    of_seed, of_sample, rest = VARIANCES[metric]
    shared = np.arange(seeds) % teachers if teachers else None
    decided = 0
    for _ in range(RUNS):
        values = of_seed * rng.normal(size=(seeds, 1)) + of_sample * rng.normal(size=samples)
        values = values + rest * rng.normal(size=(seeds, samples))
        if teachers:
            values = values + share**0.5 * of_seed * rng.normal(size=teachers)[shared][:, None]
        found = crossed(values, teachers=None if shared is None else shared.tolist())
        decided += not found.low <= 0 <= found.high
    assert decided / RUNS <= MOST


def test_the_model_of_the_map_of_conditions_rarely_finds_what_is_not_there():
    """Leads that go with nothing, but share a baseline over lengths and layers, teachers, pairs."""
    grid = product((6, 15, 30), (300, 1500, 6000), (8, 20, 40, 100), (0.0, 1.0), range(3))
    names = ["teacher_images", "images", "length", "is_fc1", "pair"]
    plan = pd.DataFrame(list(grid), columns=names).sample(frac=26 / 36, random_state=0)
    plan["teacher"] = plan["teacher_images"].astype(str) + " " + plan["pair"].astype(str)
    plan["baseline"] = plan["teacher"] + " " + plan["images"].astype(str)
    plan["doublings"] = np.log2(plan["images"] / 300)
    rng = np.random.default_rng(0)

    def drawn(column, deviation):
        levels = sorted(set(plan[column]))
        values = rng.normal(0, deviation, len(levels))
        return plan[column].map(dict(zip(levels, values, strict=True)))

    found = []
    for _ in range(40):
        share = 0.2 + 0.15 * np.log2(plan["length"] / 8) - 0.05 * plan["is_fc1"]
        better = 0.01 * plan["teacher_images"] - 0.02 * plan["doublings"]
        lead = drawn("pair", 0.8) + drawn("teacher", 0.3) + drawn("baseline", 0.9)
        table = plan.assign(
            explained=share + rng.normal(0, 0.03, len(plan)),
            teacher_lead=better + drawn("baseline", 0.02),
            n_fg=lead + rng.normal(0, 0.6, len(plan)),
        )
        model = conditions.fitted(table, "n_fg")
        found += [model.effect(term)["p"] < 0.05 for term in conditions.TERMS]
    assert np.mean(found) <= 0.08
