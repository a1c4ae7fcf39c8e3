"""What the pages say of layers that the protocol does not plan, and of Table IX."""

import numpy as np
import pytest
from held_values import by_pair, cell, held_values, verdicts

from book.make.own_photographs import FEWER, MORE, lead_changes
from kpnb.metrics.results import available_cells, read_results
from kpnb.metrics.stats import paired_difference
from kpnb.paper import agreement, published_table


def ways(run, unit):
    """D_mean of student and baseline at the protocol's b."""
    found = {one.role: one.mean for one in run.measures if (one.metric, one.distance, one.threshold,
             one.selection) == ("d_mean", unit, 0.2, "all")}  # fmt: skip
    return found["S"], found["B"]


@pytest.mark.parametrize(
    "network, longer, whole", [("AlexNet", 1.94, 1.59), ("VGG-11", 1.67, 1.78)]
)
def test_at_fc2_the_first_hypothesis_is_supported_and_the_second_opposed(network, longer, whole):
    found = cell(f"v_{network.lower().replace('-', '')}_fc2")
    first = network == "AlexNet"
    assert not found.notes and found.settings["samples"] == 120
    assert len(found.settings["seeds"]) == 8
    assert verdicts(found, "n_fg") == verdicts(found, "lambda") == ["supported"] * 3
    background = ["supported", "equivalent", "undecided"] if first else ["undecided"] * 3
    assert verdicts(found, "n_bg") == background
    for metric in ("d_mean", "d_var"):
        assert verdicts(found, metric, "epoch") == ["opposed"] * 3
    told = [verdicts(found, "d_mean", unit) for unit in ("step", "share", "time")]
    assert told == [["opposed" if first else "undecided"], ["undecided"], ["undecided"]]
    student, baseline = ways(found, "epoch")
    assert student / baseline == pytest.approx(longer, abs=0.02)
    share = ways(found, "share")
    assert student / share[0] * share[1] / baseline == pytest.approx(whole, abs=0.02)
    printed = published_table("V").query("network == @network and layer == 'FC2'")
    by_role = printed.pivot(index="dataset", columns="learning", values="d_mean")
    assert len(by_role) == 3 and (by_role["S"] < by_role["B"]).all()
    assert verdicts(found, "rho") == ["undecided"] * 3
    assert (by_pair(found, "rho") > 0).sum() == (8 if first else 7)
    (kept,) = [one for one in found.comparisons
               if (one.metric, one.selection) == ("rho", "published_filter")]  # fmt: skip
    assert (kept.verdict, kept.n_samples) == (("supported", 32) if first else ("undecided", 30))


def test_at_fc1_the_students_whole_way_is_no_longer():
    for run in (read_results("image_h2", "study"), cell("v_vgg11_fc1")):
        whole = {}
        for unit in ("epoch", "share"):
            for one in run.measures:
                if (one.layer, one.metric, one.distance, one.threshold, one.selection) == (
                    "FC1", "d_mean", unit, 0.2, "all"):  # fmt: skip
                    whole[one.role, unit] = one.mean
        ratio = {role: whole[role, "epoch"] / whole[role, "share"] for role in "SB"}
        assert ratio["S"] < 1.1 * ratio["B"]


def test_vgg_16_at_fc1_is_open_in_the_number_and_has_a_larger_share():
    found = cell("v_vgg16_fc1")
    assert not found.notes and len(found.settings["seeds"]) == 8
    assert verdicts(found, "lambda") == verdicts(found, "n_bg") == ["supported"] * 3
    for other in (read_results("image_h1", "study"), cell("v_vgg11_fc1")):
        fc1 = [one for one in other.comparisons if one.layer == "FC1" and one.metric == "n_bg"]
        own = next(one for one in fc1 if (one.threshold, one.selection) == (0.2, "all"))
        assert own.verdict == "undecided"
    assert verdicts(found, "n_fg") == ["supported", "undecided", "undecided"]
    assert min(one.low for one in found.comparisons if one.metric == "n_fg") > 0
    assert (by_pair(found, "n_fg") > 0).all() and (by_pair(found, "n_fg", "ST") < 0).all()
    told = {unit: verdicts(found, "d_mean", unit) for unit in ("epoch", "step", "share", "time")}
    assert told.pop("share") == ["opposed"]
    assert {one for said in told.values() for one in said} == {"undecided"}
    assert verdicts(found, "rho") == ["undecided"] * 3 and (by_pair(found, "rho") > 0).sum() == 7
    (rho,) = [one for one in found.comparisons
              if (one.metric, one.threshold, one.selection) == ("rho", 0.2, "all")]  # fmt: skip
    assert rho.low < 0


def test_vgg_16_at_fc2_decides_all_three():
    found = cell("v_vgg16_fc2")
    assert not found.notes and len(found.settings["seeds"]) == 8
    for metric in ("n_fg", "lambda", "n_bg", "rho"):
        assert verdicts(found, metric) == ["supported"] * 3
    assert verdicts(found, "d_mean", "epoch") == ["opposed"] * 3
    told = [verdicts(found, "d_mean", unit) for unit in ("step", "share", "time")]
    assert told == [["opposed"], ["opposed"], ["undecided"]]
    student, baseline = ways(found, "epoch")
    assert student > 2 * baseline
    share = ways(found, "share")
    assert student / share[0] * share[1] / baseline == pytest.approx(1.73, abs=0.02)
    left = {one.metric: one.verdict for one in found.comparisons
            if one.selection == "published_filter"}  # fmt: skip
    assert {left[name] for name in ("n_fg", "lambda", "n_bg", "rho")} == {"supported"}
    assert left["d_mean"] == "opposed"
    printed = published_table("V").query("network == 'VGG-16' and layer == 'FC2'")
    by_role = printed.pivot(index="dataset", columns="learning", values="d_mean")
    assert (by_role["S"] < by_role["B"]).all()


def test_twelve_outputs_stand_under_two_names():
    found, other = cell("v_alexnet_fc3"), cell("viii_alexnet_outputs12")
    for metric in ("n_fg", "n_bg", "lambda"):
        for role in "TSB":
            assert np.array_equal(
                held_values(found, metric, role), held_values(other, metric, role)
            )
    for metric, distance in (("n_fg", None), ("lambda", None), ("d_mean", "epoch"), ("rho", None)):
        assert verdicts(found, metric, distance) == ["undecided"] * 3
    assert verdicts(found, "n_bg") == ["supported", "equivalent", "equivalent"]
    above = [one.low for one in found.comparisons
             if one.metric in ("n_fg", "lambda") and one.selection == "all"]  # fmt: skip
    assert len(above) == 6 and min(above) > 0


def test_vgg_11_at_fc3_leads_in_the_number_and_is_open_in_the_share():
    found = cell("v_vgg11_fc3")
    assert not found.notes and len(found.settings["seeds"]) == 8
    assert verdicts(found, "n_fg") == ["supported"] * 3
    assert verdicts(found, "lambda") == ["supported", "undecided", "undecided"]
    own = {one.metric: (one.verdict, one.low) for one in found.comparisons if one.distance in
           (None, "epoch") and (one.threshold, one.selection) == (0.2, "all")}  # fmt: skip
    assert {own[m][0] for m in ("n_bg", "d_mean", "d_var", "rho")} == {"undecided"}
    assert own["rho"][1] > 0
    assert min(one.low for one in found.comparisons
               if one.metric == "lambda" and one.selection == "all") > 0  # fmt: skip


@pytest.mark.parametrize("run", ["v_alexnet_fc2", "v_alexnet_fc3", "v_vgg11_fc2", "v_vgg11_fc3"])
def test_all_students_or_nearly_all_are_ahead_in_number_and_share(run):
    assert (by_pair(cell(run), "n_fg") > 0).all()
    assert (by_pair(cell(run), "lambda") > 0).sum() >= 7


def table_ix():
    return cell("ix_vgg11_from_vgg11"), cell("ix_vgg11_new")


def test_the_last_convolution_on_photographs_is_measurable_by_little():
    for found in table_ix():
        assert len(found.settings["seeds"]) == 8 and not any("measurable" in n for n in found.notes)
        for split in ("train", "new"):
            assert found.numbers[f"explained_{split}_Conv"].value == pytest.approx(0.81, abs=0.005)


def test_there_students_have_fewer_points_of_both_kinds():
    trained, new = table_ix()
    for found in (trained, new):
        assert verdicts(found, "n_bg") == ["supported"] * 3
        assert (by_pair(found, "n_fg") < 0).all() and (by_pair(found, "n_bg") < 0).all()
    assert verdicts(trained, "lambda") == ["undecided"] * 3
    assert verdicts(new, "lambda") == ["equivalent", "supported", "undecided"]
    assert (by_pair(new, "lambda") > 0).all() and new.settings["samples"] == 927
    chance = [new.numbers[f"lambda_over_chance_{role}_Conv"].value for role in "SB"]
    beyond = (chance[0] - chance[1]) / by_pair(new, "lambda").mean()
    assert beyond == pytest.approx(2 / 3, abs=0.06)
    assert verdicts(new, "n_fg") == ["opposed"] * 3
    assert verdicts(trained, "n_fg") == ["opposed", "undecided", "opposed"]
    own = next(one for one in trained.comparisons if (one.metric, one.threshold, one.selection)
               == ("n_fg", 0.2, "all"))  # fmt: skip
    assert own.high < 0 and own.p > 0.05  # Holm's correction
    assert sorted(by_pair(trained, "lambda") > 0) == [False] + [True] * 7
    printed = published_table("IX").query("learning in ['distilled from VGG-11', 'scratch']")
    student, baseline = (
        printed.query("network == 'VGG-11'")[["n_fg", "n_bg"]].iloc[i] for i in (0, 1)
    )
    assert (student > baseline).all()
    sides = agreement().query("table == 'IX' and metric in ['n_fg', 'n_bg']")
    said = sides.groupby("metric")["outcome"].value_counts()
    assert said["n_fg", "agree"] == said["n_bg", "disagree"] == 5  # of six


def test_there_teachers_have_no_more_of_either_kind():
    trained, new = table_ix()
    teachers = [place % 3 for place in range(8)]
    ends = {}
    for metric in ("n_fg", "n_bg"):
        values = {role: held_values(trained, metric, role) for role in "TSB"}
        ends[metric] = paired_difference(values["T"], values["B"], teachers=teachers)
        for found in (trained, new):
            assert (by_pair(found, metric, "TB") < 0).all()
    assert ends["n_bg"].high < 0 < ends["n_fg"].high
    values = [held_values(new, "n_fg", role) for role in "TB"]
    assert paired_difference(*values, teachers=teachers).high < 0
    for found in (trained, new):
        assert (by_pair(found, "n_fg", "ST") < 0).all()
    behind = paired_difference(*(held_values(trained, "n_fg", r) for r in "ST"), teachers=teachers)
    assert behind.low < 0 < behind.high


def test_there_four_followed_photographs_are_left_and_each_pair_says_the_same():
    trained, _ = table_ix()
    told = {(one.metric, one.role): one.n_samples for one in trained.measures
            if (one.threshold, one.selection) == (0.2, "all")}  # fmt: skip
    assert told["rho", "S"] == 4
    for metric in ("rho", "d_mean"):
        values = {role: held_values(trained, metric, role) for role in "SB"}
        each = np.isfinite(values["S"]).sum(1)
        assert min(each) == 9 and sorted(each)[2] >= 35
        assert {*np.flatnonzero(each < 35) % 3} == {1}  # of one teacher
        rest = np.flatnonzero(each >= 35)
        kept = np.isfinite(values["S"][rest]).all(0)
        pairs = (values[role][rest][:, kept] for role in "SB")
        assert kept.sum() == 29
        assert paired_difference(*pairs, teachers=list(rest % 3)).high < 0
        unit = "epoch" if metric == "d_mean" else None
        assert set(verdicts(trained, metric, unit)) == {"undecided"}


def test_at_fc2_on_photographs_nothing_is_decided_but_what_is_said():
    found = cell("tin_vgg11_fc2")
    assert not found.notes and len(found.settings["seeds"]) == 8
    assert verdicts(found, "n_bg") == ["undecided", "supported", "supported"]
    assert verdicts(found, "lambda") == ["undecided", "undecided", "supported"]
    own = {one.metric: one for one in found.comparisons if one.distance in (None, "epoch")
           and (one.threshold, one.selection) == (0.2, "all")}  # fmt: skip
    assert own["lambda"].low > 0
    for metric in ("n_fg", "d_mean", "rho"):
        assert own[metric].verdict == "undecided" and own[metric].low < 0 < own[metric].high
    assert verdicts(found, "n_fg")[0] == "undecided" == verdicts(found, "rho")[0]
    assert own["d_var"].verdict == "supported"
    units = [verdicts(found, "d_mean", unit) for unit in ("step", "share", "time")]
    assert units == [["supported"], ["undecided"], ["undecided"]]
    baseline = held_values(found, "n_bg", "B").mean()
    assert own["n_bg"].difference / baseline == pytest.approx(-1 / 7, abs=0.01)
    fewer = {metric: (by_pair(found, metric) < 0).sum() for metric in ("n_fg", "n_bg", "rho")}
    assert fewer == {"n_fg": 7, "n_bg": 8, "rho": 7}
    assert (by_pair(found, "lambda") > 0).all()
    (student, baseline), (own_s, own_b) = ways(found, "epoch"), ways(found, "share")
    assert student / own_s == pytest.approx(baseline / own_b, rel=0.03)
    for metric, sign in (("n_bg", -1), ("lambda", 1)):
        assert (sign * by_pair(found, metric, "TB") > 0).all()
    level = held_values(found, "n_fg", "B").mean()
    assert abs(by_pair(found, "n_fg", "TB").mean()) < 0.01 * level


def test_at_fc2_on_new_photographs_number_and_share_part():
    found = cell("tin_vgg11_fc2_new")
    assert not any("measurable" in note for note in found.notes)
    assert found.settings["samples"] == 927
    assert verdicts(found, "n_fg") == ["undecided", "undecided", "opposed"]
    assert (by_pair(found, "n_fg") < 0).all() and (by_pair(found, "lambda") > 0).all()
    assert verdicts(found, "lambda") == ["supported"] * 3
    assert verdicts(found, "n_bg") == ["undecided", "supported", "supported"]
    own = {one.threshold: one for one in found.comparisons
           if (one.metric, one.selection) == ("n_fg", "all")}  # fmt: skip
    assert own[0.2].low < 0 < own[0.2].high
    for run in (found, cell("tin_vgg11_fc2")):
        beyond = [run.numbers[f"lambda_over_chance_{role}_FC2"].value for role in "SB"]
        assert 0 < beyond[0] < beyond[1] < beyond[0] + 0.02
    by_teacher = [by_pair(found, "n_fg")[place::3].mean() for place in range(3)]
    alone = paired_difference(*(held_values(found, "n_fg", role) for role in "SB"))
    assert alone.high < 0 and max(by_teacher) - min(by_teacher) > 1  # as if each had its own


def test_fewer_photographs_bring_a_lead_in_the_share_and_none_in_the_number():
    few, many = cell(FEWER), cell(MORE)
    assert not any("measurable" in note for note in few.notes) and len(few.settings["seeds"]) == 6
    said = {row["metric"]: row["verdict"] for row in lead_changes(few, many)}
    assert said == {"n_fg": "undecided", "n_bg": "", "lambda": "supported"}
    pairs = {metric: (by_pair(few, metric), by_pair(many, metric)[:6])
             for metric in ("n_fg", "n_bg", "lambda")}  # fmt: skip
    assert (pairs["n_fg"][0] < 0).all() and (pairs["n_bg"][0] < pairs["n_bg"][1]).all()
    assert ((pairs["n_fg"][0] > pairs["n_fg"][1]).sum(), len(pairs["n_fg"][0])) == (5, 6)
    assert (pairs["lambda"][0] > pairs["lambda"][1]).all()
    above = [few.numbers[f"lambda_over_chance_{role}_FC1"].value for role in "SB"]
    assert 0 < above[0] - above[1] < pairs["lambda"][0].mean() / 10
    explained = [run.numbers["explained_new_FC1"].value for run in (few, many)]
    assert 0.5 < explained[0] < 0.55 and explained[1] == pytest.approx(0.75, abs=0.01)
    assert (by_pair(few, "n_fg", "TB") < 0).all()
    assert verdicts(few, "n_fg") == ["undecided", "undecided", "opposed"]
    assert verdicts(few, "lambda") == ["undecided", "undecided", "supported"]
    assert verdicts(few, "n_bg") == ["supported"] * 3
    ends = {(one.metric, one.threshold): one for one in few.comparisons if one.selection == "all"}
    assert (
        ends["n_fg", 0.15].difference > 0 and ends["lambda", 0.2].low > 0 < ends["lambda", 0.15].low
    )
    embedded = read_results("image_h1", "study"), cell("v_vgg11_fc1")
    for run in embedded:
        assert run.settings["teacher_samples"] * run.settings["fraction"] == 1500
        baseline = held_values(run, "n_fg", "B", "FC1").mean()
        assert by_pair(run, "n_fg", layer="FC1").mean() > baseline / 3


def test_at_fc3_on_photographs_teachers_lead_in_the_number_and_students_do_not():
    found = cell("tin_vgg11_fc3")
    assert not found.notes and len(found.settings["seeds"]) == 8
    assert verdicts(found, "n_fg") == ["equivalent", "equivalent", "opposed"]
    assert verdicts(found, "lambda") == ["equivalent", "undecided", "undecided"]
    assert verdicts(found, "n_bg") == ["equivalent", "equivalent", "supported"]
    assert verdicts(found, "d_mean", "epoch") == ["undecided", "supported", "supported"]
    assert verdicts(found, "d_var", "epoch") == ["supported"] * 3
    assert set(verdicts(found, "rho")) == {"undecided"} == set(verdicts(found, "d_var", "time"))
    units = [verdicts(found, "d_mean", unit) for unit in ("step", "share", "time")]
    assert units == [["supported"], ["undecided"], ["undecided"]]
    leads = {metric: by_pair(found, metric) for metric in ("n_fg", "n_bg", "lambda")}
    assert (leads["n_fg"] < 0).sum() == 7 and (leads["n_bg"] < 0).all()
    (margin,) = {one.margin for one in found.comparisons
                 if (one.metric, one.threshold, one.selection) == ("n_fg", 0.2, "all")}  # fmt: skip
    assert (abs(leads["n_fg"]) < margin).sum() == 7 and leads["n_fg"].min() < -margin
    assert found.numbers["explained_train_FC3"].value > 0.98
    teachers = {metric: by_pair(found, metric, "TB") for metric in ("n_fg", "lambda")}
    ahead = teachers["n_fg"] > 0
    assert (ahead.sum(), (leads["n_fg"][ahead] < 0).sum()) == (6, 5)
    assert (teachers["lambda"] > 0).sum() == 7 and (by_pair(found, "lambda", "ST") < 0).all()
    assert (by_pair(found, "n_fg", "ST") < 0).sum() == 6
    (student, baseline), (own_s, own_b) = ways(found, "epoch"), ways(found, "share")
    assert 0.5 < (student / own_s) / (baseline / own_b) < 0.6
    kept = {one.verdict for one in found.comparisons if one.selection == "published_filter"}
    assert kept == {"undecided"}


def test_at_fc3_on_new_photographs_the_number_is_equivalent_and_the_share_supported():
    found = cell("tin_vgg11_fc3_new")
    assert not any("measurable" in note for note in found.notes)
    assert found.settings["samples"] == 927 and len(found.settings["seeds"]) == 8
    assert verdicts(found, "n_fg") == ["equivalent", "equivalent", "undecided"]
    assert verdicts(found, "lambda") == ["equivalent", "supported", "supported"]
    assert verdicts(found, "n_bg") == ["equivalent", "supported", "supported"]
    assert (by_pair(found, "n_fg") > 0).sum() == 5 and abs(by_pair(found, "n_fg").mean()) < 0.1
    assert (by_pair(found, "n_fg", "TB") > 0).sum() == 7
    assert (by_pair(found, "n_bg") < 0).all() and (by_pair(found, "lambda") > 0).all()
    above = [found.numbers[f"lambda_over_chance_{role}_FC3"].value for role in "SB"]
    assert above[1] - 0.01 < above[0] < above[1]


def test_points_dropped_differ_in_three_cells_of_image_sweeps_alone():
    differ = {
        run.run: one.value
        for run in available_cells("study")
        for name, one in run.numbers.items()
        if name.startswith("dropped_difference") and not one.low <= 0 <= one.high
    }
    assert {run: value < 0 for run, value in differ.items()} == {
        "iv_vgg16_fc1": True,
        "iv_vgg16_fc2": True,
        "tin_vgg11_fc1": False,
    }
