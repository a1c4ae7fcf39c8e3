"""What the page on the protocol says of ten teachers is what their results files hold."""

import numpy as np
import pytest
from held_values import by_pair, cell, held_values, verdicts

from book.make.undecided import SHARE, Spread, taught_by
from kpnb.metrics.results import read_results

TEN = {"n_fg": "supported", "lambda": "supported", "d_var": "supported", "rho": "supported",
       "n_bg": "equivalent"}  # fmt: skip
UNIT = {"d_mean": "epoch", "d_var": "epoch"}


@pytest.mark.parametrize(
    "run, d_mean, at_b, share, time",
    [
        ("ten_alexnet_fc1", "equivalent", ["undecided", "undecided"], "opposed", "supported"),
        ("ten_vgg11_fc1", "supported", ["undecided", "supported"], "undecided", "undecided"),
    ],
)
def test_ten_more_teachers_say_what_was_expected(run, d_mean, at_b, share, time):
    found = cell(run)
    assert not found.notes and len(found.settings["seeds"]) == len(found.settings["teachers"]) == 10
    expected = TEN | {"d_mean": d_mean}
    assert {m: verdicts(found, m, UNIT.get(m))[1] for m in expected} == expected
    for metric in ("n_fg", "lambda", "rho"):
        assert (by_pair(found, metric) > 0).all()
    assert all((by_pair(found, metric, "TB") > 0).all() for metric in ("n_fg", "lambda"))
    assert verdicts(found, "n_bg") == ["supported", "equivalent", "opposed"]
    assert verdicts(found, "d_mean", "epoch")[::2] == at_b
    assert [verdicts(found, "d_mean", unit) for unit in ("share", "time")] == [[share], [time]]
    kept = {m: verdicts(found, m, UNIT.get(m), "published_filter") for m in expected}
    assert {m for m in kept if kept[m] == ["supported"]} == {"n_fg", "lambda", "d_var", "rho"}
    assert kept["n_bg"] == kept["d_mean"] == ["undecided"]


def test_three_teachers_points_beside_the_object_turn_with_b_and_ten_of_vgg_11_are_earlier():
    three = cell_of_h1(0.15), cell_of_h1(0.25)
    assert three[0].difference < 0 < three[1].difference
    assert (by_pair(cell("ten_vgg11_fc1"), "d_mean") < 0).sum() == 8


def test_ten_teachers_leave_the_coarse_grid_as_undecided_as_three_did():
    found = cell("ten_vgg11_grid8")
    assert {m: verdicts(found, m, UNIT.get(m))[1] for m in (*TEN, "d_mean")} == {
        "n_fg": "supported", "n_bg": "opposed", "d_var": "supported",
        **dict.fromkeys(("lambda", "d_mean", "rho"), "undecided")}  # fmt: skip
    for metric in ("n_fg", "n_bg", "d_var"):
        assert len({*verdicts(found, metric, UNIT.get(metric))}) == 1
    held = {
        one.metric: one.low <= 0 <= one.high
        for one in found.comparisons
        if (one.threshold, one.selection) == (0.2, "all") and one.distance in (None, "epoch")
    }
    assert held == dict.fromkeys(held, False) | {"lambda": True, "d_mean": True}


def test_ten_teachers_decide_number_and_share_of_alexnets_output():
    found = cell("ten_alexnet_fc3")
    assert verdicts(found, "n_fg") == verdicts(found, "lambda") == ["supported"] * 3
    assert verdicts(found, "n_bg") == ["equivalent"] * 3
    ends = {
        one.metric: (one.low, one.high, one.verdict)
        for one in found.comparisons
        if (one.threshold, one.selection) == (0.2, "all") and one.distance in (None, "epoch")
    }
    assert ends["d_mean"][0] > 0 and ends["rho"][0] > 0 > ends["d_var"][0]
    assert {ends[metric][2] for metric in ("d_mean", "d_var", "rho")} == {"undecided"}
    filtered = [one for one in found.comparisons if one.selection == "published_filter"]
    assert {one.metric for one in filtered if one.verdict != "undecided"} == {"n_bg"}
    assert {one.n_samples for one in filtered} == {29}


def test_ten_teachers_decide_the_number_of_vgg_11s_output_and_no_more():
    found = cell("ten_vgg11_fc3")
    assert verdicts(found, "n_fg") == ["undecided", "supported", "supported"]
    assert verdicts(found, "n_bg") == ["equivalent", "equivalent", "undecided"]
    assert verdicts(found, "lambda") == verdicts(found, "rho") == ["undecided"] * 3
    at = {(one.metric, one.threshold): one for one in found.comparisons if one.selection == "all"}
    assert all(at["lambda", b].low > 0 > at["rho", b].low for b in (0.15, 0.2, 0.25))
    assert {verdicts(found, metric, "epoch")[1] for metric in ("d_mean", "d_var")} == {"undecided"}


def cell_of_h1(b):
    """AlexNet's points beside the object at FC1, by three teachers."""
    found = read_results("image_h1", "study").comparisons
    (one,) = (one for one in found if (one.metric, one.layer, one.threshold, one.selection)
              == ("n_bg", "FC1", b, "all"))  # fmt: skip
    return one


@pytest.mark.parametrize("run, lowest, beside", [
    ("ten_alexnet_fc2", "supported", "equivalent"), ("ten_vgg11_fc2", "undecided", "undecided")
])  # fmt: skip
def test_ten_teachers_say_of_the_second_layer_what_was_expected_but_for_one(run, lowest, beside):
    found = cell(run)
    for metric in ("n_fg", "lambda"):
        assert verdicts(found, metric) == ["supported"] * 3
    assert verdicts(found, "rho") == [lowest, "supported", "supported"]
    for metric in ("d_mean", "d_var"):
        assert verdicts(found, metric, "epoch") == ["opposed"] * 3
        assert [verdicts(found, metric, unit) for unit in ("share", "time")] == [["undecided"]] * 2
    assert verdicts(found, "n_bg") == ["supported", beside, "undecided"]
    (one,) = (one for one in found.comparisons
              if (one.metric, one.threshold, one.selection) == ("n_bg", 0.2, "all"))  # fmt: skip
    assert -1.1 * one.margin < one.low < 0 < one.high < one.margin


def planned(run, metric):
    """What widens a cell's interval most, and how many pairs would settle it."""
    found = cell(run)
    gap = held_values(found, metric, "S") - held_values(found, metric, "B")
    gap = gap[:, np.isfinite(gap).all(0)]
    spread = Spread.of(gap, taught_by(found.settings, len(gap)))
    asked = metric, 0.2, "all", UNIT.get(metric)
    (margin,) = (one.margin for one in found.comparisons
                 if (one.metric, one.threshold, one.selection, one.distance) == asked)  # fmt: skip
    design = spread.settled(SHARE * margin)
    return design.widest, design.pairs


def test_of_what_was_expected_and_is_undecided_pairs_widen_the_interval_most():
    asked = [("ten_vgg11_grid8", metric) for metric in ("lambda", "d_mean", "rho")]
    asked += [("ten_vgg11_fc3", metric) for metric in ("lambda", "rho")]
    told = [planned(*one) for one in asked]
    assert {widest for widest, _ in told} == {"pairs"}
    assert 90 < min(pairs for _, pairs in told) < max(pairs for _, pairs in told) < 240


def test_at_other_b_more_is_decided_as_the_page_says():
    grid, outputs = cell("ten_vgg11_grid8"), cell("ten_alexnet_fc3")
    assert [verdicts(grid, "d_mean", "epoch")[2], verdicts(grid, "rho")[2]] == ["supported"] * 2
    assert verdicts(outputs, "d_mean", "epoch")[2] == "opposed"
    assert verdicts(outputs, "rho")[2] == "supported"
    assert verdicts(cell("ten_vgg11_fc3"), "d_var", "epoch")[0] == "opposed"


def test_of_thirteen_expectations_for_cells_chosen_afterwards_eight_came_out():
    expected = {
        "ten_vgg11_grid8": {"n_fg": "supported", "d_var": "supported", "n_bg": "opposed",
                            "lambda": "supported", "d_mean": "supported", "rho": "supported"},
        "ten_alexnet_fc3": {"n_fg": "supported", "lambda": "supported", "n_bg": "equivalent"},
        "ten_vgg11_fc3": {"n_fg": "supported", "lambda": "supported", "n_bg": "equivalent",
                          "rho": "supported"},
    }  # fmt: skip
    pairs = [(said, verdicts(cell(run), metric, UNIT.get(metric))[1])
             for run, told in expected.items() for metric, said in told.items()]  # fmt: skip
    assert len(pairs) == 13 and sum(said == found for said, found in pairs) == 8
    assert {found for said, found in pairs if said != found} == {"undecided"}
