"""What the pages say of PointNet++ on point clouds; PointConv's are in test_readings."""

import pytest
from held_values import by_pair

from book.make.pages import BOOK
from kpnb.metrics.results import Results, read_results
from kpnb.paper import published_table

SIDES = {"n_fg": 1, "n_bg": -1, "lambda": 1, "d_mean": -1, "rho": 1}


@pytest.fixture(scope="module")
def found():
    return read_results("pointcloud_pointnet2", "study")


def verdicts(run, metric, distance=None):
    """By b, lowest first."""
    told = {one.threshold: one.verdict for one in run.comparisons
            if (one.metric, one.distance, one.selection) == (metric, distance, "all")}  # fmt: skip
    return [told[b] for b in sorted(told)]


def test_the_shorter_run_is_not_measurable_by_the_share_explained_alone(found):
    path = BOOK / "results" / "shorter" / "pointcloud_pointnet2.json"
    shorter = Results.model_validate_json(path.read_bytes())
    (note,) = [note for note in shorter.notes if "not measurable" in note]
    assert "80% of the teacher's feature on train samples: 78%" in note and note.count(";") == 1
    own = ("epochs", "checkpoints")  # what follows from the length
    settings = [{name: value for name, value in run.settings.items() if name not in own}
                for run in (shorter, found)]  # fmt: skip
    assert settings[0] == settings[1]
    assert (shorter.settings["epochs"], found.settings["epochs"]) == (30, 60)
    for metric, side in SIDES.items():
        assert (side * by_pair(shorter, metric) > 0).all()


def test_all_three_hypotheses_hold_in_each_pair_and_at_each_b(found):
    assert not any("not measurable" in note for note in found.notes)
    assert {one.n_seeds for one in found.comparisons} == {8}
    for metric, side in SIDES.items():
        unit = "epoch" if metric == "d_mean" else None
        assert verdicts(found, metric, unit) == ["supported"] * 3
        assert (side * by_pair(found, metric) > 0).all()
    units = [verdicts(found, "d_mean", unit) for unit in ("step", "share", "time")]
    assert units == [["supported"], ["opposed"], ["opposed"]]
    way = {(one.role, one.distance): one.mean for one in found.measures
           if (one.metric, one.threshold, one.selection) == ("d_mean", 0.25, "all")}  # fmt: skip
    whole = {role: way[role, "epoch"] / way[role, "share"] for role in "SB"}
    assert whole["S"] / whole["B"] == pytest.approx(1 / 4, abs=0.02)


def test_what_its_lead_hangs_on_is_what_the_page_says(found):
    leads = {name: one for name, one in found.numbers.items() if " | " in name}
    sides = {name: SIDES[name.split(" | ")[1]] for name in leads}
    holds = [name for name, one in leads.items()
             if min(sides[name] * one.low, sides[name] * one.high) <= 0]  # fmt: skip
    assert holds == ["FC1, centroids and neighbors recomputed | n_fg"]
    own = leads["FC1, as in this study | n_fg"].value
    assert leads[holds[0]].value == pytest.approx(own / 5, rel=0.05)
    (told,) = [note for note in found.notes if note.startswith("How the entropy is measured")]
    lower = "N_fg undecided (target entropy -3.0); lambda undecided (target entropy -3.0)."
    assert told.endswith(lower) and told.count("undecided") == 3


def test_its_students_keep_more_because_they_end_with_more(found):
    dropped = found.numbers["dropped_difference_FC1"]
    assert dropped.low < 0 < dropped.value
    printed = published_table("VII").query("network == 'PointNet++'")
    by_role = printed.pivot(index="layer", columns="learning", values="rho")
    assert len(by_role) == 2 and (by_role["S"] < by_role["B"]).all()
    others = published_table("VII").query("network != 'PointNet++'")
    by_role = others.pivot(index=["network", "layer"], columns="learning", values="rho")
    assert (by_role["S"] >= by_role["B"]).all()


def test_its_students_go_beyond_their_teachers(found):
    for metric in ("n_fg", "n_bg", "lambda"):
        assert (SIDES[metric] * by_pair(found, metric, "TB") > 0).all()
    for metric in ("n_fg", "n_bg"):
        assert (SIDES[metric] * by_pair(found, metric, "ST") > 0).all()
    near = {role: found.numbers[f"rank_correlation_{role}_FC1"] for role in "SB"}
    assert near["B"].low < near["S"].value < near["B"].high


def test_on_unseen_shapes_the_first_hypothesis_holds_with_frozen_choices(found):
    unseen = read_results("pointcloud_pointnet2_unseen", "study")
    changes = {"measured_on": "test", "followed": 0, "checkpoints": None}
    assert unseen.settings | changes == found.settings | changes
    for metric in ("n_fg", "n_bg", "lambda"):
        assert verdicts(unseen, metric) == ["supported"] * 3
        assert (SIDES[metric] * by_pair(unseen, metric) > 0).all()
    leads = {name.split(" | ")[1]: one for name, one in unseen.numbers.items()
             if "recomputed" in name}  # fmt: skip
    own = unseen.numbers["FC1, as in this study | n_fg"].value
    assert leads["n_fg"].low < 0 < leads["n_fg"].high and abs(leads["n_fg"].value) < own / 20
    assert leads["lambda"].low > 0 > leads["n_bg"].high
    (told,) = [note for note in unseen.notes if note.startswith("How the entropy is measured")]
    assert told.endswith("Another verdict: N_fg undecided (centroids and neighbors recomputed).")
