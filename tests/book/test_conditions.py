"""The map of conditions: which runs may be read, what a lead is, what the model says of it."""

import numpy as np
import pandas as pd
import pytest
from made_results import rows_of, run

from book.make import conditions
from book.make.frame import NOTHING
from kpnb.errors import KpnbError
from kpnb.metrics.results import Values, read_results
from kpnb.paper import FINAL_METRICS
from kpnb.run.sweeps import read_sweeps

SWEEP = read_sweeps()["conditions"]
N_FG, N_BG = "$N^{fg}_{point}$", "$N^{bg}_{point}$"
#: What the made leads follow, for one more of each term; N_bg follows nothing.
SLOPES = {"explained": 20.0, "teacher_lead": 0.0, "doublings": -1.0, "is_fc1": 3.0}


def made(name, rng, samples=5):
    """A run of two layers and three pairs whose leads follow SLOPES, pairs apart from each other
    and noise on top; baselines of shorter training are far off."""
    thousands, images, length = map(int, conditions.NAME.fullmatch(name).groups())
    values, base = [], 10.0 if length == 100 else 99.0
    ahead = 0.1 + 0.01 * thousands + np.array([0.0, 0.02, 0.05])

    def keep(layer, role, metric, rows):
        told = [" ".join(f"{value:.6g}" for value in np.atleast_1d(row)) for row in rows]
        values.append(Values(layer=layer, role=role, metric=metric, by_seed=told))

    keep("", "T", "accuracy_new", 0.3 + ahead)
    keep("", "B", "accuracy_new", np.full(3, 0.3 if length == 100 else 0.0))
    for layer in ("Conv", "FC1"):
        share = 0.2 + 0.15 * np.log2(length / 8) + 0.02 * rng.random(3)
        lead = SLOPES["explained"] * share + SLOPES["doublings"] * np.log2(images / 300)
        lead += SLOPES["is_fc1"] * (layer == "FC1") + np.array([-1.0, 0.0, 1.0])
        noise = rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.1, (3, samples))
        keep(layer, "S", "explained_new", share)
        for metric in FINAL_METRICS:
            keep(layer, "B", metric, np.full((3, samples), base))
            keep(layer, "S", metric, 10.0 + (metric != "n_bg") * lead[:, None] + noise)
    settings = {"threshold": 0.2, "layers": ["Conv", "FC1"]}
    return run(notebook="image_cell", preset="study", run=name, values=values, settings=settings)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return [made(name, rng) for name in SWEEP.runs]


@pytest.fixture(scope="module")
def known(cells):
    return conditions.parts(conditions.leads(cells))[0]


@pytest.fixture(scope="module")
def models(known):
    return {metric: conditions.fitted(known, metric) for metric in FINAL_METRICS}


def test_ten_runs_are_held_back_by_the_protocol_hash_and_all_are_measured_on_the_same_images():
    held = [name for name in SWEEP.runs if conditions.is_held_back(name)]
    assert len(SWEEP.runs) == 36 and len(held) == 10
    assert held[0] == "cond_t6k_n300_l20" and held[-1] == "cond_t30k_n1500_l20"
    assert SWEEP.parameters["measured_on"] == "new"


def test_a_lead_is_over_the_baseline_of_the_longest_training_of_its_images_and_teacher(cells):
    table = conditions.leads(cells)
    assert len(table) == 36 * 2 * 3
    assert (table["teacher"].nunique(), table["baseline"].nunique()) == (9, 27)
    assert table["n_fg"].between(-10, 30).all() and (table["level"] == 10.0).all()
    assert sorted(set(table["doublings"])) == pytest.approx([0.0, np.log2(5), np.log2(20)])
    assert set(table["teacher_images"]) == {6000, 15000, 30000}
    assert table["teacher_lead"].min() == pytest.approx(0.16)
    alone = [one for one in cells if not one.run.endswith("_l100")]
    assert conditions.leads(alone).empty
    equal = conditions.leads(cells, longest=False)  # over their own, which are far off here
    short = equal["length"] < 100
    assert (equal.loc[short, "n_fg"] < -60).all() and (equal.loc[~short, "n_fg"] > -10).all()


def test_nothing_is_read_while_a_run_is_missing_and_nothing_held_back_without_all_of_it(cells):
    first = [one for one in cells if not conditions.is_held_back(one.run)]
    # baselines of longest training are read wherever they are
    longest = [one for one in cells if one not in first and one.run.endswith("_l100")]
    known, held = conditions.parts(conditions.leads([*first, *longest]))
    assert known["run"].nunique() == 26 and held is None
    assert not known["run"].map(conditions.is_held_back).any()
    for few in (cells[:5], first, [*first[1:], *longest], []):
        assert conditions.parts(conditions.leads(few))[0] is None
        assert set(conditions.conditions_fragments(few).values()) == {NOTHING}
        assert conditions.conditions_figure(few) is None
    assert conditions.parts(conditions.leads(cells))[1]["run"].nunique() == 10


def test_the_model_finds_the_slopes_that_the_leads_were_made_with(models):
    for term, slope in SLOPES.items():
        found = models["n_fg"].effect(term)
        assert found["low"] < slope * conditions.TERMS[term] < found["high"], term
    assert (
        models["n_fg"].effect("explained")["low"] > 0 > models["n_fg"].effect("doublings")["high"]
    )
    assert models["n_fg"].random["pair"] ** 0.5 == pytest.approx(1.0, rel=0.5)


def test_intervals_have_the_freedom_of_three_pairs_and_of_their_teachers():
    one = conditions.Model(pd.Series({"explained": 0.5}), np.array([3.0, 2.0]), np.ones(2), {})
    mean, effect = one.effect("middle"), one.effect("explained")
    assert mean["high"] == pytest.approx(3 + 4.302653) and mean["p"] == pytest.approx(0.0954660)
    assert effect["value"] == 1.0 and effect["high"] == pytest.approx(1 + 0.5 * 2.776445)
    assert effect["p"] == pytest.approx(0.1161165)
    assert one.expected(pd.DataFrame({"explained": [0.6, 0.8]})) == pytest.approx(3.4)


def test_expectations_are_judged_as_one_family_and_n_bg_by_its_margin(known, models):
    rows = {row["term"]: row for row in conditions.effects_of(known, models)}
    assert rows["explained"]["n_fg"]["verdict"] == "supported"
    assert rows["doublings"]["lambda"]["verdict"] == "supported"
    assert rows["teacher_lead"]["n_fg"]["verdict"] == "undecided"
    assert all(rows[term]["n_bg"]["verdict"] == "equivalent" for term in ("explained", "is_fc1"))
    turned = known.assign(n_bg=known["n_fg"], n_fg=-known["n_fg"])
    models = {metric: conditions.fitted(turned, metric) for metric in FINAL_METRICS}
    rows = {row["term"]: row for row in conditions.effects_of(turned, models)}
    assert rows["explained"]["n_fg"]["verdict"] == rows["explained"]["n_bg"]["verdict"] == "opposed"
    weak = {metric: conditions.Model(one.middle, one.fixed, abs(one.fixed) / 3.0, {})
            for metric, one in models.items()}  # fmt: skip
    rows = {row["term"]: row for row in conditions.effects_of(known, weak)}
    assert rows["explained"]["lambda"]["p"] == pytest.approx(0.0399, abs=1e-4)  # alone it would do
    assert rows["explained"]["lambda"]["verdict"] == "undecided"


def test_what_was_held_back_is_compared_with_the_mean_of_its_layer(cells, known, models):
    held = conditions.parts(conditions.leads(cells))[1]
    found = {row["metric"]: row for row in conditions.foretold(known, held, models)}
    assert found["n_fg"]["cells"] == 20
    assert found["n_fg"]["model"] < 0.1 * found["n_fg"]["plain"]
    moved = held.assign(n_fg=held["n_fg"] + 50.0)
    (row, *_) = conditions.foretold(known, moved, models)
    assert row["model"] == pytest.approx(2500, rel=0.1)
    of_layer = known.groupby("layer")["n_fg"].mean()
    gaps = [
        cell["n_fg"].mean() - of_layer[layer] for (_, layer), cell in held.groupby(["run", "layer"])
    ]
    assert found["n_fg"]["plain"] == pytest.approx(np.mean(np.square(gaps)))
    assert abs(of_layer["FC1"] - of_layer["Conv"]) > 2  # a mean over both layers would not do


def test_pages_have_figure_model_what_is_beside_it_and_the_check(cells):
    found = conditions.conditions_fragments(cells)
    read = found["conditions_read"]
    assert "_generated/conditions.png" in read and "teacher of 6,000 images" in read
    assert "26 runs with 3 pairs each, 156 leads" in read
    rows = rows_of(read)
    assert len(rows) == 8 and "supported" in rows[0][1] and "less than one half" in rows[-1][0]
    said = {row[0]: row[-1] for row in rows_of(found["conditions_held"])}
    # N_bg follows nothing, so that no model foretells it better than its mean
    assert said == {N_FG: "of use", r"$\lambda$": "of use", N_BG: "of no use"}
    figure = conditions.conditions_figure(cells)
    assert len(figure.axes) == 3 and len(figure.legends[0].get_texts()) == 6


def test_leads_by_images_are_means_of_pairs_with_their_interval(known):
    rows = list(conditions.by_images(known))
    assert sum(row["leads"] for row in rows) == len(known)
    at = {(row["images"], row["less"]): row for row in rows}
    part = known[(known["images"] == 6000) & (known["explained"] < conditions.HALF)]
    means = part.groupby("pair")["n_fg"].mean()
    half = 4.302653 * means.std() / 3**0.5  # t with two degrees of freedom
    found = at[6000, True]["n_fg"]
    told = [found["value"], found["low"], found["high"]]
    assert told == pytest.approx([means.mean(), means.mean() - half, means.mean() + half])


def test_a_model_that_does_not_converge_is_refused(known):
    flat = known.assign(n_fg=0.0)
    with pytest.raises(KpnbError, match=r"mixed model of n_fg on 156 leads does not converge"):
        conditions.fitted(flat, "n_fg")


@pytest.fixture(scope="module")
def committed():
    """The runs of this repository: the page's reading is prose about them."""
    return [read_results("image_cell", "study", name) for name in SWEEP.runs]


def test_the_reading_says_what_the_committed_runs_say(committed):
    known, held = conditions.parts(conditions.leads(committed))
    models = {metric: conditions.fitted(known, metric) for metric in FINAL_METRICS}
    came = {row["metric"]: row for row in conditions.foretold(known, held, models)}
    useful = {metric: row["model"] <= row["plain"] / 2 for metric, row in came.items()}
    assert useful == {"n_fg": True, "n_bg": False, "lambda": True}
    effects = {row.pop("term"): row for row in conditions.effects_of(known, models)}
    told = {term: [row[metric].get("verdict") for metric in ("n_fg", "lambda", "n_bg")]
            for term, row in effects.items()}  # fmt: skip
    assert told == {
        "explained": ["supported", "supported", "opposed"],
        "teacher_lead": ["supported", "undecided", "equivalent"],
        "doublings": ["supported", "undecided", "undecided"],
        "is_fc1": ["undecided", "undecided", "equivalent"],
        "middle": [None] * 3,
    }
    on_its_side = [effects[term]["lambda"]["value"] for term in ("teacher_lead", "doublings")]
    assert on_its_side[0] > 0 > on_its_side[1] and effects["explained"]["n_bg"]["low"] < 0.01
    equal, _ = conditions.parts(conditions.leads(committed, longest=False))
    rows = {row.pop("term"): row for row in conditions.beside(known, equal)}
    shares = [rows[term]["n_fg"]["value"] for term in ("with_length", "equal_length")]
    assert shares[0] > 0 > shares[1] and rows["equal_length"]["n_fg"]["high"] > 0
    assert rows["with_length"]["lambda"]["value"] > 0 > rows["with_length"]["lambda"]["low"]
    assert rows["equal_length"]["lambda"]["low"] > 0 > rows["equal_length"]["n_bg"]["high"]
    assert effects["middle"]["n_bg"]["low"] < 0 < effects["middle"]["n_bg"]["high"]
    below = rows["below_half"]
    assert below["n_fg"]["low"] < 0 and below["n_fg"]["high"] > effects["middle"]["n_fg"]["value"]
    assert below["lambda"]["low"] > 0


def test_what_the_reading_adds_is_seen_in_the_committed_runs(committed):
    known, _ = conditions.parts(conditions.leads(committed))
    means = known.groupby(["images", known["explained"] < conditions.HALF])["n_fg"].mean()
    assert means[300, True] == pytest.approx(means[300, False], rel=0.1)
    assert means[6000, True] < 0 < means[6000, False]
    layers = known.pivot_table("n_fg", ["images", "pair"], "layer")
    ahead = (layers["FC1"] > layers["Conv"]).groupby("images").agg(["all", "any"])
    assert ahead.values.tolist() == [[False, False], [False, False], [True, True]]
    short = known[(known["images"] == 6000) & (known["explained"] < conditions.HALF)]
    assert (short["length"] != 8).sum() == 1
    at = {(row["images"], row["less"]): row for row in conditions.by_images(known)}
    assert at[300, True]["lambda"]["low"] > 0
    assert max(at[size, True]["lambda"]["low"] for size in (1500, 6000)) < 0
    assert min(at[6000, False][metric]["low"] for metric in ("n_fg", "lambda")) > 0
    corner = known[(known["teacher_images"] == 6000) & (known["images"] == 6000)]
    assert (corner["teacher_lead"] < 0).all()
    assert (corner.loc[corner["length"] == 40, ["n_fg", "lambda"]] > 0).all(axis=None)
