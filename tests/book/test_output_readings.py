"""What the pages on augmented teachers, on outputs and on second times say is what was found."""

from itertools import product
from pathlib import Path

import pytest
from held_values import by_pair, held_values

from book.make.repeated import cells, equal_values, lines, second_times
from kpnb.metrics.results import available_cells, available_results, read_results
from kpnb.metrics.stats import paired_difference
from kpnb.paper import published_table

BOOK = Path(__file__).resolve().parents[2] / "book"


def cell(run):
    return read_results("image_cell", "study", run)


def page(name):
    return " ".join((BOOK / f"{name}.md").read_text(encoding="utf-8").split())


def verdicts(run, metric, distance=None):
    """By b, lowest first; of all samples."""
    found = {one.threshold: one.verdict for one in run.comparisons
             if (one.metric, one.distance, one.selection) == (metric, distance, "all")}  # fmt: skip
    return [found[b] for b in sorted(found)]


def score(run, role, metric):
    return next(one.mean for one in run.measures if (one.role, one.metric) == (role, metric))


def test_with_an_augmented_teacher_the_order_is_the_papers():
    for layer in ("fc1", "fc2"):
        found = cell(f"iv_vgg16_{layer}")
        assert len(found.settings["seeds"]) == 8 and not found.notes
        assert found.settings["samples"] < 300 and found.settings["augment"] == "teacher"
        for metric in ("n_fg", "lambda", "rho"):
            assert verdicts(found, metric) == ["supported"] * 3
            assert (by_pair(found, metric) > 0).all()
        assert verdicts(found, "n_bg") == ["supported", "supported", "undecided"]
        assert (by_pair(found, "n_bg") < 0).all()
        teachers = [place % 3 for place in range(8)]
        for metric, pair in product(("n_fg", "lambda"), ("TS", "SB")):
            values = (held_values(found, metric, role) for role in pair)
            assert paired_difference(*values, teachers=teachers).low > 0


def test_there_the_second_hypothesis_is_opposed():
    first, second = cell("iv_vgg16_fc1"), cell("iv_vgg16_fc2")
    assert verdicts(first, "d_mean", "epoch") == ["opposed", "opposed", "undecided"]
    assert verdicts(second, "d_mean", "epoch") == ["opposed"] * 3
    told = [verdicts(run, "d_mean", unit) for unit in ("share", "time") for run in (first, second)]
    assert told == [["opposed"], ["opposed"], ["opposed"], ["undecided"]]
    left = [{one.metric: one.verdict for one in run.comparisons
             if one.selection == "published_filter"} for run in (first, second)]  # fmt: skip
    assert left[0]["rho"] == "supported" and left[0]["n_fg"] == left[0]["lambda"] == "undecided"
    assert {left[1][metric] for metric in ("rho", "n_fg", "lambda")} == {"supported"}
    printed = published_table("V").query("network == 'VGG-16'")
    by_role = printed.pivot(index=["dataset", "layer"], columns="learning", values="d_mean")
    assert (by_role["S"] < by_role["B"]).all()


def test_only_under_the_augmented_teacher_students_drop_fewer_points_of_the_object():
    own = [f"iv_vgg16_fc{n}" for n in "12"]
    for n, run in enumerate(own, 1):
        assert cell(run).numbers[f"dropped_difference_FC{n}"].high < 0
    others = [*available_results("study"), *available_cells("study")]
    for run in others:
        embedded = run.settings.get("data") == "embedded" and run.run not in own
        for name, told in run.numbers.items():
            if embedded and name.startswith("dropped_difference") and told.high is not None:
                assert told.high > 0, run.run or run.notebook


def test_twelve_outputs_decide_nothing_and_are_no_fewer_points():
    found = cell("viii_alexnet_outputs12")
    assert not found.notes and len(found.settings["seeds"]) == 8
    for metric, of in (("n_fg", None), ("lambda", None), ("d_mean", "epoch"), ("rho", None)):
        assert verdicts(found, metric, of)[1] == "undecided"
    (told,) = [one for one in found.comparisons
               if (one.metric, one.threshold, one.selection) == ("n_fg", 0.2, "all")]  # fmt: skip
    assert told.low > 0 and told.p > 0.05
    assert verdicts(found, "n_bg")[1] == "equivalent"


def test_fifty_outputs_support_the_first_hypothesis_alone():
    found = cell("viii_alexnet_outputs50")
    assert not found.notes
    assert [verdicts(found, name)[1] for name in ("n_fg", "lambda")] == ["supported"] * 2
    rest = [("n_bg", None), ("d_mean", "epoch"), ("rho", None)]
    assert [verdicts(found, *one)[1] for one in rest] == ["undecided"] * 3


def test_two_hundred_outputs_support_the_first_two_hypotheses():
    found = cell("viii_alexnet_outputs200")
    assert not found.notes
    held = [("n_fg", None), ("lambda", None), ("n_bg", None), ("d_mean", "epoch")]
    assert [verdicts(found, *one)[1] for one in held] == ["supported"] * 4
    assert verdicts(found, "rho")[1] == "undecided"


def test_what_students_of_many_outputs_know_is_as_the_page_says():
    many = [cell(f"viii_alexnet_outputs{n}") for n in (50, 200)]
    shares = [f"{score(run, 'S', 'accuracy_train'):.0%}".replace("%", " %") for run in many]
    told = "{} with 50 outputs and {} with 200".format(*shares)
    assert told in page("table_viii")
    assert all(score(run, "B", "accuracy_train") > 0.999 for run in many)
    ratios = [score(run, "S", "accuracy_test") / score(run, "B", "accuracy_test") for run in many]
    assert [round(ratio) for ratio in ratios] == [2, 3]


def test_the_lead_in_the_share_grows_with_outputs_and_that_in_the_number_does_not():
    runs = [cell(f"viii_alexnet_outputs{n}") for n in (12, 50, 200)]
    leads = {metric: [next(one.difference for one in run.comparisons
                           if (one.metric, one.threshold, one.selection) == (metric, 0.2, "all"))
                      for run in runs] for metric in ("n_fg", "lambda")}  # fmt: skip
    assert leads["lambda"] == sorted(leads["lambda"])
    assert leads["n_fg"] == sorted(leads["n_fg"], reverse=True)


@pytest.mark.parametrize("outputs, about", [(2, 0.25), (4, 0.4)])
def test_few_outputs_are_learned_by_heart(outputs, about):
    found = cell(f"viii_alexnet_outputs{outputs}")
    assert {one.verdict for one in found.comparisons} == {"not measurable"}
    explained = [found.numbers[f"explained_{on}_FC3"].value for on in ("train", "new")]
    assert explained[0] > 0.99 and explained[1] == pytest.approx(about, abs=0.04)
    assert not [one for one in found.comparisons if one.metric in ("d_mean", "d_var", "rho")]


def twice(network):
    study = [*available_results("study"), *available_cells("study")]
    again = next(one for one in second_times() if one.settings["network"] == network)
    (found,) = cells(study, again)
    return found, {row["metric"]: row for row in lines(found)}


def test_alexnet_on_another_processor_has_the_same_means_and_other_pairs():
    found, rows = twice("AlexNet")
    cpus = {run.provenance["cpu"] for run in (*found.first, found.again)}
    assert len(cpus) == 2 and len(found.seeds) == 21
    same, of = equal_values(found)
    assert same / of < 0.1
    for metric in ("n_fg", "lambda", "d_var", "rho"):
        assert set(rows[metric]["verdicts"]) == {"supported"}
        first, again = rows[metric]["first"]["value"], rows[metric]["again"]["value"]
        assert again == pytest.approx(first, rel=0.05)
    for metric in ("n_bg", "d_mean"):
        assert (rows[metric]["verdicts"][0], rows[metric]["verdicts"][-1]) == (
            "undecided",
            "equivalent",
        )
    assert all(0.7 < row["moved"] / row["spread"] < 1.3 for row in rows.values())


def test_by_pairs_the_second_alexnet_leads_as_the_first():
    found, _ = twice("AlexNet")
    assert (by_pair(found.again, "n_fg") > 0).all()


def test_vgg11_on_the_same_kind_of_processor_is_equal_in_every_value():
    found, rows = twice("VGG-11")
    same, of = equal_values(found)
    assert same == of > 24_000 and len(found.seeds) == 8
    assert {one.role for one in found.again.values} == set("TSB")
    runs = (*found.first, found.again)
    assert len({run.provenance["cpu"] for run in runs}) == 1
    assert len({run.provenance["commit"] for run in runs}) == 2
    assert {row["moved"] for row in rows.values()} == {0}


def test_its_baselines_are_equal_at_full_precision():
    """Those of the run from VGG-16 are the same networks, on the same images."""
    held = [{(one.metric, one.threshold, one.selection, one.distance): (one.mean, one.low, one.high)
             for one in run.measures if one.role == "B"}
            for run in (cell("ii_vgg11_from_vgg16"), twice("VGG-11")[0].again)]  # fmt: skip
    assert held[0] == held[1] and len(held[0]) > 30


def test_number_and_way_of_many_outputs_hang_on_the_lowest_b():
    for outputs in (50, 200):
        run = cell(f"viii_alexnet_outputs{outputs}")
        assert verdicts(run, "n_fg") == ["undecided", "supported", "supported"]
        assert verdicts(run, "lambda") == ["supported"] * 3
    assert verdicts(run, "d_mean", "epoch") == ["undecided", "supported", "supported"]
    few = cell("viii_alexnet_outputs12")
    assert verdicts(few, "n_bg") == ["supported", "equivalent", "equivalent"]
    for metric, distance in (("n_fg", None), ("lambda", None), ("d_mean", "epoch"), ("rho", None)):
        assert verdicts(few, metric, distance) == ["undecided"] * 3


@pytest.mark.parametrize("layer, ahead", [("conv", 1), ("fc1", 9)])
def test_of_the_three_networks_in_lambda_the_baseline_alone_is_behind(layer, ahead):
    run = cell(f"v_vgg11_{layer}")
    assert (by_pair(run, "lambda") > 0).all() and (by_pair(run, "lambda", "TB") > 0).all()
    assert len(run.settings["seeds"]) == 21 and (by_pair(run, "lambda", "TS") > 0).sum() == ahead
    assert score(run, "T", "accuracy_test") > score(run, "S", "accuracy_test")
