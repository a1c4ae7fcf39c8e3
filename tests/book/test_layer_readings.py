"""What the pages say of layers that the protocol does not plan, and of Table IX."""

import pytest
from held_values import by_pair

from kpnb.metrics.results import read_results
from kpnb.paper import published_table


def cell(run):
    return read_results("image_cell", "study", run)


def verdicts(run, metric, distance=None, selection="all"):
    """By b, lowest first."""
    asked = metric, distance, selection
    found = {one.threshold: one.verdict for one in run.comparisons
             if (one.metric, one.distance, one.selection) == asked}  # fmt: skip
    return [found[b] for b in sorted(found)]


def ways(run, unit):
    """D_mean of student and baseline at the protocol's b."""
    found = {one.role: one.mean for one in run.measures if (one.metric, one.distance, one.threshold,
             one.selection) == ("d_mean", unit, 0.2, "all")}  # fmt: skip
    return found["S"], found["B"]


def test_alexnet_at_fc2_supports_the_first_hypothesis_and_opposes_the_second():
    found = cell("v_alexnet_fc2")
    assert (
        not found.notes and len(found.settings["seeds"]) == 8 and found.settings["samples"] == 120
    )
    assert verdicts(found, "n_fg") == verdicts(found, "lambda") == ["supported"] * 3
    assert verdicts(found, "n_bg") == ["supported", "equivalent", "undecided"]
    assert verdicts(found, "d_mean", "epoch") == ["opposed"] * 3
    told = [verdicts(found, "d_mean", unit) for unit in ("step", "share", "time")]
    assert told == [["opposed"], ["undecided"], ["undecided"]]
    printed = published_table("V").query("network == 'AlexNet' and layer == 'FC2'")
    by_role = printed.pivot(index="dataset", columns="learning", values="d_mean")
    assert len(by_role) == 3 and (by_role["S"] < by_role["B"]).all()
    student, baseline = ways(found, "epoch")
    assert student / baseline == pytest.approx(1.9, abs=0.1)
    whole = [
        epoch / share
        for epoch, share in zip(ways(found, "epoch"), ways(found, "share"), strict=True)
    ]
    assert whole[1] < 0.7 * whole[0]
    assert verdicts(found, "rho") == ["undecided"] * 3 and (by_pair(found, "rho") > 0).all()
