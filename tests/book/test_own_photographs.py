"""Leads with fewer photographs of the student's own, set against those with more."""

import numpy as np
import pytest
from made_results import comparison, rows_of, run

from book.make.own_photographs import FEWER, MORE, lead_changes, leads, photographs_fragments
from kpnb.errors import KpnbError
from kpnb.metrics.results import Values
from kpnb.metrics.stats import paired_difference
from kpnb.paper import FINAL_METRICS

SETTINGS = {"layers": ["FC1"], "network": "VGG-11", "data": "photographs", "measured_on": "test"}
SETTINGS |= {"samples": 40, "threshold": 0.2, "teachers": [7, 8, 9], "fraction": 0.4, "epochs": 60}
SEEDS = [11, 12, 13, 14, 15, 16, 17]
SCORES = {"accuracy_test": "TSB", "explained_train": "S", "explained_new": "S"}


def of_pairs(name, by_pair, unfit=False, **changes):
    """A run whose students are ahead by so many in every metric, by pair, and whose images have
    levels of their own."""
    level = np.random.default_rng(5).normal(20, 4, size=SETTINGS["samples"])
    ahead = np.random.default_rng(len(by_pair)).normal(0, 0.1, (len(by_pair), len(level)))
    tables = {"B": np.tile(level, (len(by_pair), 1))}
    tables["S"] = tables["B"] + np.array(by_pair)[:, None] + ahead
    held = [
        Values(layer="FC1", role=role, metric=metric, threshold=0.2, by_seed=written(table))
        for metric in FINAL_METRICS
        for role, table in tables.items()
    ]
    held += [
        Values(layer="FC1", role=role, metric=score, by_seed=["0.5"] * len(by_pair))
        for score, roles in SCORES.items()
        for role in roles
    ]
    settings = SETTINGS | {"seeds": SEEDS[: len(by_pair)]} | changes
    found = [comparison("n_fg", 1.0, 2.0, unfit=unfit)]
    return run(run=name, preset="study", settings=settings, values=held, comparisons=found)


def written(table):
    return [" ".join(f"{value:.8g}" for value in row) for row in table]


few = of_pairs(FEWER, (3.0, 4.0, 5.0, 3.5, 4.5, 4.0), fraction=0.1, epochs=240)
many = of_pairs(MORE, (-1.0, 0.0, 1.0, -0.5, 0.5, 0.0, 90.0))


def test_each_pair_is_set_against_its_own_lead_with_more():
    rows = {row["metric"]: row for row in lead_changes(few, many)}
    assert [*rows] == list(FINAL_METRICS)
    found = rows["n_fg"]
    assert found["with_fewer"]["value"] == pytest.approx(4, abs=0.05)
    assert found["with_more"]["value"] == pytest.approx(
        0, abs=0.05
    )  # the seventh pair takes no part
    alone = found["with_fewer"]
    assert alone["high"] - alone["low"] > found["change"]["high"] - found["change"]["low"]
    tables = [leads(one, SEEDS[:6], "n_fg") for one in (few, many)]
    by_hand = paired_difference(*tables, teachers=[7, 8, 9, 7, 8, 9])
    assert found["change"] == {end: getattr(by_hand, end) for end in ("value", "low", "high")}
    assert found["change"]["value"] == pytest.approx(np.mean(tables[0] - tables[1]))


def test_pairs_are_found_by_their_seeds():
    turned = many.model_copy(
        update={
            "values": [
                one.model_copy(update={"by_seed": one.by_seed[3:6] + one.by_seed[:3]})
                for one in many.values
            ],
            "settings": many.settings | {"seeds": SEEDS[3:6] + SEEDS[:3]},
        }
    )
    assert [*lead_changes(few, turned)] == [*lead_changes(few, many)]


def test_what_is_expected_has_a_verdict_and_the_background_none():
    said = {row["metric"]: row["verdict"] for row in lead_changes(few, many)}
    assert said == {"n_fg": "supported", "lambda": "supported", "n_bg": ""}
    other = of_pairs(FEWER, (-13.0, -12.0, -13.0, -13.5, -12.5, -13.0))
    assert {r["verdict"] for r in lead_changes(other, many)} == {"opposed", ""}
    none = of_pairs(FEWER, (5.0, -5.0, 1.0, 0.5, 0.0, -1.0))
    assert {r["verdict"] for r in lead_changes(none, many)} == {"undecided", ""}


def test_an_interval_above_zero_is_undecided_where_two_were_asked():
    by_little = of_pairs(FEWER, (7.0, 17.0, 15.0, 8.0, 18.0, 14.0))
    rows = [row for row in lead_changes(by_little, many) if row["metric"] != "n_bg"]
    assert len(rows) == 2 and all(row["change"]["low"] > 0 for row in rows)
    assert {row["verdict"] for row in rows} == {"undecided"}  # by Holm's correction


@pytest.mark.parametrize("unfit", [(True, False), (False, True)])
def test_a_run_that_is_not_measurable_decides_nothing(unfit):
    runs = [
        of_pairs(name, (3.0, 4.0, 5.0, 3.5, 4.5, 4.0), missing)
        for name, missing in zip((FEWER, MORE), unfit, strict=True)
    ]
    assert {row["verdict"] for row in lead_changes(*runs)} == {""}


@pytest.mark.parametrize(
    "changed", [{"data": "others"}, {"samples": 41}, {"teachers": [8, 7, 9]}, {"seeds": SEEDS[1:7]}]
)
def test_runs_that_differ_in_more_than_the_photographs_are_refused(changed):
    other = many.model_copy(update={"settings": many.settings | changed})
    with pytest.raises(KpnbError, match="differ in more than the student's own photographs"):
        [*lead_changes(few, other)]


def test_the_page_has_photographs_scores_and_a_row_a_metric_or_says_that_nothing_ran():
    page = photographs_fragments([few, many])["own_photographs"]
    assert "- 1,000 photographs of the student's own, 240 epochs" in page
    assert "- 4,000 photographs of the student's own, 60 epochs" in page
    rows = rows_of(page)
    assert len(rows) == len(FINAL_METRICS) and "supported" in rows[0][-1]
    assert "6 pairs" in page and "3 teachers" in page
    for some in ([few], [many], [few.model_copy(update={"preset": "demo"}), many]):
        assert "|" not in photographs_fragments(some)["own_photographs"]
