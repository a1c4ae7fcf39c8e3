"""The map of conditions: which runs may be read, what a lead is, what the model says of it."""

import numpy as np
import pytest
from made_results import run

from book.make import conditions
from book.make.frame import NOTHING
from kpnb.metrics.results import Values
from kpnb.paper import FINAL_METRICS
from kpnb.run.sweeps import read_sweeps

SWEEP = read_sweeps()["conditions"]
#: What the made runs follow, a unit of each term.
SLOPES = {"explained": 20.0, "teacher_lead": 0.0, "doublings": -1.0, "is_fc1": 3.0}


def made(name, rng, samples=5):
    """A run of two layers and three pairs whose leads follow SLOPES, pairs and teachers apart from
    each other and noise on top; baselines of shorter training are far off."""
    thousands, images, length = map(int, conditions.NAME.fullmatch(name).groups())
    values, base = [], 10.0 if length == 100 else 99.0
    ahead = 0.1 + 0.01 * thousands + np.array([0.0, 0.02, 0.05])

    def keep(layer, role, metric, rows):
        told = [" ".join(f"{value:.6g}" for value in np.atleast_1d(row)) for row in rows]
        values.append(Values(layer=layer, role=role, metric=metric, by_seed=told))

    keep("", "T", "accuracy_new", 0.3 + ahead)
    keep("", "B", "accuracy_new", np.full(3, 0.3 if length == 100 else 0.0))
    for layer in ("Conv", "FC1"):
        share = 0.2 + 0.1 * np.log2(length / 8) + 0.02 * rng.random(3)
        lead = SLOPES["explained"] * share + SLOPES["doublings"] * np.log2(images / 300)
        lead += SLOPES["is_fc1"] * (layer == "FC1") + np.array([-1.0, 0.0, 1.0])
        noise = rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.5, (3, samples))
        keep(layer, "S", "explained_new", share)
        for metric in FINAL_METRICS:
            keep(layer, "B", metric, np.full((3, samples), base))
            keep(layer, "S", metric, 10.0 + lead[:, None] + noise)
    settings = {"threshold": 0.2, "layers": ["Conv", "FC1"]}
    return run(notebook="image_cell", preset="study", run=name, values=values, settings=settings)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return [made(name, rng) for name in SWEEP.runs]


def test_ten_runs_are_held_back_by_the_protocol_hash_whatever_they_hold():
    held = [name for name in SWEEP.runs if conditions.is_held_back(name)]
    assert len(SWEEP.runs) == 36 and len(held) == 10
    assert held[0] == "cond_t6k_n300_l20" and held[-1] == "cond_t30k_n1500_l20"


def test_a_lead_is_over_the_baseline_of_the_longest_training_of_its_images_and_teacher(cells):
    table = conditions.leads(cells)
    assert len(table) == 36 * 2 * 3 and table["teacher"].nunique() == 9
    assert table["n_fg"].between(-10, 30).all()  # with their own baselines they were at -70
    whole = {name: set(table[name]) for name in ("images", "doublings", "teacher_images")}
    assert sorted(whole["doublings"]) == pytest.approx([0.0, np.log2(5), np.log2(20)])
    assert whole["teacher_images"] == {6000, 15000, 30000}
    assert table["teacher_lead"].min() == pytest.approx(0.16)
    alone = [one for one in cells if not one.run.endswith("_l100")]
    assert conditions.leads(alone).empty


def test_the_model_finds_the_slopes_that_the_leads_were_made_with(cells):
    table = conditions.leads(cells)
    model = conditions.fitted(table[~table["held"]], "n_fg")
    for term, slope in SLOPES.items():
        found = model.coefficient(term)
        wanted = slope * conditions.TERMS[term]
        assert found["low"] < wanted < found["high"], term
        assert found["low"] < found["value"] < found["high"]
    assert model.coefficient("explained")["low"] > 0 > model.coefficient("doublings")["high"]
    assert model.random["pairs"] ** 0.5 == pytest.approx(1.0, rel=0.5)


def test_what_is_held_back_takes_no_part_in_the_model_and_is_checked_against_it(cells):
    table = conditions.leads(cells)
    known, held = table[~table["held"]], table[table["held"]]
    moved = held.assign(n_fg=held["n_fg"] + 50.0)
    models = {metric: conditions.fitted(known, metric) for metric in FINAL_METRICS}
    right, wrong = (list(conditions.checked(one, models)) for one in (held, moved))
    assert len(right) == 10 * 2 * 3 and sum(row["inside"] for row in right) >= 54
    assert not any(row["inside"] for row in wrong if row["metric"] == "n_fg")
    others = [[row for row in one if row["metric"] != "n_fg"] for one in (right, wrong)]
    assert others[0] == others[1]


def test_pages_have_figure_model_and_check_and_nothing_of_few_runs(cells):
    found = conditions.conditions_fragments(cells)
    assert "_generated/conditions.png" in found["conditions_read"]
    assert "26 runs with 3 pairs each, 156 leads" in found["conditions_read"]
    assert "twice as many images" in found["conditions_read"]
    assert "of 20 leads" in found["conditions_held"]
    figure = conditions.conditions_figure(cells)
    assert len(figure.axes) == 3 and len(figure.legends[0].get_texts()) == 6
    assert "teacher of 6,000 images" in found["conditions_read"]
    few = conditions.conditions_fragments(cells[:5])
    assert set(few.values()) == {NOTHING} == set(conditions.conditions_fragments([]).values())
