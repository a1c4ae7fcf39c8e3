"""What the conclusion sums up is what the results say."""

import re
from pathlib import Path

import numpy as np
import pytest
from held_values import by_pair

from kpnb.metrics.results import available_cells, available_results, read_results
from kpnb.metrics.stats import judged, paired_difference

BOOK = Path(__file__).resolve().parents[2] / "book"
#: The cells that the conclusion speaks of, by network and kind of samples.
HELD = {
    "AlexNet": [("image_h1", ""), ("image_h2", ""), ("image_h3", "")],
    "AlexNet, new": [("image_cell", "new_alexnet")],
    "VGG-11": [("image_cell", "v_vgg11_fc1")],
    "VGG-11, new": [("image_cell", "new_vgg11")],
    "VGG-11, unseen": [("image_unseen", "")],
    "VGG-11 from VGG-16": [("image_cell", "ii_vgg11_from_vgg16")],
    "AlexNet, photographs": [("image_cell", "tin_alexnet_fc1_100")],
    "AlexNet, new photographs": [("image_cell", "tin_alexnet_fc1_new")],
    "VGG-11, photographs": [("image_cell", "tin_vgg11_fc1")],
    "VGG-11, new photographs": [("image_cell", "tin_vgg11_fc1_new")],
    "PointConv": [("pointcloud_h1", ""), ("pointcloud_h2", ""), ("pointcloud_h3", "")],
    "PointConv, unseen": [("pointcloud_pointconv_unseen", "")],
}
EMBEDDED, PHOTOGRAPHS = ("AlexNet", "VGG-11"), ("AlexNet, photographs", "VGG-11, photographs")


def runs(cell):
    return [read_results(notebook, "study", run) for notebook, run in HELD[cell]]


def verdicts(cell, metric, distance=None, every_b=False):
    """Of all samples of FC1, at the b in use or at each."""
    found = {
        one.threshold: one.verdict
        for run in runs(cell)
        for one in run.comparisons
        if (one.layer, one.metric, one.selection) == ("FC1", metric, "all")
        and one.distance == distance
        and (every_b or one.threshold == run.threshold)
    }
    assert len(found) == (3 if every_b else 1)
    return set(found.values())


def page():
    return " ".join((BOOK / "conclusion.md").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("cell", [*EMBEDDED, "VGG-11 from VGG-16"])
@pytest.mark.parametrize("metric", ["n_fg", "lambda", "rho"])
def test_on_embedded_images_h1_and_h3_are_established_at_each_b(cell, metric):
    assert verdicts(cell, metric, every_b=True) == {"supported"}


def test_on_new_images_and_on_unseen_objects_it_is_as_far_as_the_page_says():
    for cell in ("AlexNet, new", "VGG-11, new", "VGG-11, unseen"):
        assert verdicts(cell, "n_fg") == verdicts(cell, "lambda") == {"supported"}
    assert verdicts("VGG-11, unseen", "rho") == {"supported"}
    assert verdicts("VGG-11, unseen", "d_mean", "epoch") == {"supported"}
    assert "undecided" in verdicts("VGG-11, unseen", "lambda", every_b=True)  # the b in use alone
    seeds = {len(run.settings["seeds"]) for cell in EMBEDDED for run in runs(cell)}
    assert seeds == {21} and "21 pairs each" in page()


def test_students_follow_their_teachers_to_the_background_and_follow_no_ignorant_one():
    found = read_results("image_controls", "study").values
    held = {(one.layer, one.metric): np.genfromtxt(one.by_seed, ndmin=2) for one in found}
    base = held["FC1, baseline", "n_fg"]
    assert held["FC1, student photographs", "n_fg"].mean() < base.mean() / 10
    for layer in ("Conv", "FC1"):
        for metric in ("n_fg", "lambda"):
            pair = (held[f"{layer}, {name}", metric] for name in ("student shuffled", "baseline"))
            assert paired_difference(*pair).value < 0
    pair = [held[f"FC1, {name}", "n_fg"] for name in ("student equal", "student good", "baseline")]
    equal, good = (by.mean() - pair[2].mean() for by in pair[:2])
    assert 0 < equal < good and equal / good == pytest.approx(1 / 3, abs=0.03)
    teachers = [place % 3 for place in range(7)]
    pairs = ((held["FC1, student equal", name], held["FC1, baseline", name])
             for name in ("n_fg", "lambda"))  # fmt: skip
    found = [paired_difference(*pair, teachers=teachers).p for pair in pairs]
    assert found[0] < 0.05 < min(2 * found[0], found[1])  # not after correction for two


def test_h2_holds_by_the_way_of_weights_and_as_a_share_of_it_nowhere():
    share = dict.fromkeys(("VGG-11", *PHOTOGRAPHS), "undecided") | {"VGG-11": "equivalent"}
    share |= dict.fromkeys(("AlexNet", "PointConv"), "opposed")
    for network in ("alexnet", "vgg11"):
        second = read_results("image_cell", "study", f"v_{network}_fc2").comparisons
        said = {(one.metric, one.distance): one.verdict for one in second
                if (one.threshold, one.selection) == (0.2, "all")}  # fmt: skip
        assert (said["d_mean", "epoch"], said["rho", None]) == ("opposed", "undecided")
        assert said["n_fg", None] == said["lambda", None] == "supported"
        assert said["d_mean", "share"] == said["d_mean", "time"] == "undecided"
    time = dict.fromkeys(share, "undecided") | {"VGG-11": "supported", PHOTOGRAPHS[0]: "supported"}
    for cell in share:
        expected = "undecided" if cell == "AlexNet" else "supported"
        assert verdicts(cell, "d_mean", "epoch") == {expected}
        assert verdicts(cell, "d_mean", "share") == {share[cell]}
        assert verdicts(cell, "d_mean", "time") == {time[cell]}
    for cell in ("VGG-11, unseen", "VGG-11 from VGG-16"):
        assert verdicts(cell, "d_mean", "share") == {"undecided"}


def ways(metric, unit):
    """By verdict the measurable cells on training samples, at the protocol's b, as network and
    layer with what else sets them apart."""
    said = {}
    for run in [*available_results("study"), *available_cells("study")]:
        if run.run.startswith("cond_") or run.settings.get("measured_on") != "train":
            continue
        own = [one for one in run.comparisons if (one.metric, one.distance, one.selection)
               == (metric, unit, "all") and one.threshold == run.threshold]  # fmt: skip
        for one in own:
            if one.verdict not in ("not measurable", "one seed"):
                name = f"{one.network}, {one.layer}" + f", {run.run.split('_')[-1]}" * (
                    run.run[:2] in ("ii", "vi"))  # fmt: skip
                name += ", ten teachers" * run.run.startswith("ten_")
                name += ", coarse" * run.run.startswith("ten_vgg11_grid")
                name += ", photographs" * run.run.startswith(("tin_", "ix_"))
                name += ", augmented" * (run.settings.get("augment") == "teacher")
                said.setdefault(one.verdict, set()).add(name)
    return said


def test_the_page_names_every_cell_in_which_the_unit_of_the_way_decides():
    asked = ("d_mean", "share"), ("d_mean", "time"), ("d_var", "time")
    share, time, spread = (ways(*one) for one in asked)
    clouds = {"PointConv, FC1", "PointNet++, FC1"}
    assert "supported" not in share
    deep = {f"VGG-16, FC{layer}{teachers}" for layer in "12" for teachers in ("", ", augmented")}
    ten, both = ({f"{name}, FC1, ten teachers" for name in names}
                 for names in (["AlexNet"], ["AlexNet", "VGG-11"]))  # fmt: skip
    outputs = {"AlexNet, FC3, ten teachers"}
    assert share["opposed"] == {"AlexNet, FC1"} | ten | outputs | deep | clouds
    assert time["opposed"] == {"VGG-16, FC1, augmented", "PointNet++, FC1"}
    assert time["supported"] == {
        *("VGG-11, FC1", "VGG-11, FC1, grid32", "VGG-11, FC1, vgg16"),
        *("AlexNet, FC1, photographs", "AlexNet, FC3, outputs200"),
        *ten,
    }
    assert "VGG-11, FC1, grid8" in time["undecided"]
    assert "supported" not in spread
    assert spread["opposed"] == {"PointNet++, FC1"} | both | deep
    spread = ways("d_var", "epoch")
    seconds = {f"{name}, FC2" for name in ("AlexNet", "VGG-11", "VGG-16")}
    seconds |= {f"{name}, FC2, ten teachers" for name in ("AlexNet", "VGG-11")}
    assert spread["opposed"] == seconds | {"VGG-16, FC2, augmented"}
    assert ways("d_mean", "epoch")["opposed"] == spread["opposed"] | {"VGG-16, FC1, augmented"}
    assert len(spread["supported"]) > sum(map(len, spread.values())) / 2
    assert ways("d_mean", "epoch")["supported"] == {
        *("VGG-11, FC1", "VGG-11, FC1, grid32", "VGG-11, FC1, vgg16", "AlexNet, FC3, outputs200"),
        *("AlexNet, FC1, photographs", "VGG-11, FC1, photographs", "VGG-11, FC3, photographs"),
        *(clouds | both - ten),
    }
    many = read_results("image_cell", "study", "viii_alexnet_outputs200").comparisons
    assert {one.verdict for one in many if (one.metric, one.distance, one.threshold)
            == ("d_mean", "epoch", 0.15)} == {"undecided"}  # fmt: skip
    for cell in ("VGG-11", "VGG-11, photographs"):  # with the lower b
        assert at_b(cell, "d_mean", 0.15) == {"undecided"}


def at_b(cell, metric, threshold):
    return {one.verdict for run in runs(cell) for one in run.comparisons
            if (one.layer, one.metric, one.threshold, one.selection)
            == ("FC1", metric, threshold, "all") and one.distance in (None, "epoch")}  # fmt: skip


def test_on_photographs_the_number_hangs_on_the_threshold_as_the_page_says():
    for cell in ("AlexNet, photographs", "AlexNet, new photographs"):
        assert at_b(cell, "n_fg", 0.15) == {"equivalent"}
    for cell in ("VGG-11, photographs", "VGG-11, new photographs"):
        assert at_b(cell, "n_fg", 0.15) == {"undecided"}
    assert at_b("AlexNet, new photographs", "n_fg", 0.25) == {"opposed"}
    assert at_b("AlexNet, photographs", "n_fg", 0.25) == {"undecided"}


def test_on_photographs_no_network_leads_in_the_number():
    of = "photographs"
    assert verdicts(f"AlexNet, {of}", "n_fg") == {"equivalent"}
    assert verdicts(f"AlexNet, new {of}", "n_fg") == {"equivalent"}
    assert verdicts(f"VGG-11, {of}", "n_fg") == {"undecided"}
    assert verdicts(f"VGG-11, new {of}", "n_fg") == verdicts(f"VGG-11, {of}", "rho") == {"opposed"}
    for name in (f"VGG-11, {of}", f"VGG-11, new {of}"):
        (run,) = runs(name)
        assert (by_pair(run, "n_fg") < 0).all()
    fewer = [(by_pair(*runs(f"AlexNet, {name}"), "n_fg") < 0).sum() for name in (of, f"new {of}")]
    assert fewer == [8, 7]
    for name in (f"AlexNet, {of}", f"VGG-11, {of}"):
        (run,) = runs(name)
        scores = {(one.role, one.metric): one.mean for one in run.measures}
        assert scores["T", "accuracy_test"] > scores["B", "accuracy_test"] + 0.1
        share = verdicts(name, "lambda") == {"supported"}
        assert verdicts(name, "n_bg") == {"supported"} and share == name.startswith("AlexNet")


def test_on_photographs_students_of_leading_teachers_are_behind_all_the_same():
    leading = {"tin_vgg11_fc1": 3, "tin_alexnet_fc1_100": 3, "tin_vgg11_fc2": 4,
               "ix_vgg11_from_vgg11": 0, "tin_alexnet_fc1_new": 4,
               "tin_vgg11_fc2_new": 2}  # fmt: skip
    behind = []
    for run, many in leading.items():
        found = read_results("image_cell", "study", run)
        ahead = by_pair(found, "n_fg", "TB") > 0
        assert ahead.sum() == many and by_pair(found, "n_fg", "TB").mean() < 0.01
        assert (by_pair(found, "n_fg")[ahead] < 0).all()
        behind.append((by_pair(found, "n_fg", "ST") < 0).sum())
    assert behind[:2] == [8, 8] and min(behind) > 4


def test_on_point_clouds_the_first_hypothesis_holds_in_number_share_and_background():
    for cell in ("PointConv", "PointConv, unseen"):
        for metric in ("n_fg", "lambda", "n_bg"):
            assert verdicts(cell, metric) == {"supported"}


def test_fewer_points_beside_the_object_have_the_cells_that_the_page_names():
    said = ways("n_bg", None)["supported"]
    assert {name for name in said if "photographs" not in name} == {
        *(f"VGG-16, FC{layer}{of}" for layer in "12" for of in ("", ", augmented")),
        *("VGG-11, FC1, grid32", "AlexNet, FC3, outputs200"),
        *("PointConv, FC1", "PointNet++, FC1"),
    }


def test_points_beside_the_object_turn_with_grid_and_threshold():
    grids = [read_results("image_cell", "study", f"iii_vgg11_grid{n}") for n in (8, 32)]
    sides = [{one.verdict for one in run.comparisons if (one.metric, one.threshold, one.selection)
              == ("n_bg", 0.2, "all")} for run in grids]  # fmt: skip
    assert sides == [{"opposed"}, {"supported"}]
    assert verdicts("VGG-11, new", "n_bg", every_b=True) >= {"supported", "opposed"}


def test_dropped_points_are_about_as_many_on_embedded_images_and_more_on_photographs():
    for cell in EMBEDDED:
        told = next(run.numbers["dropped_difference_FC1"] for run in runs(cell)
                    if "dropped_difference_FC1" in run.numbers)  # fmt: skip
        assert told.low < 0 < told.high and abs(told.value) < 1
    (run,) = runs("VGG-11, photographs")
    assert run.numbers["dropped_difference_FC1"].low > 0


@pytest.mark.parametrize("cell, metric", [("AlexNet", "d_mean"), ("AlexNet", "n_bg"),
                                          ("VGG-11", "n_bg")])  # fmt: skip
def test_what_is_undecided_on_embedded_images_is_so_by_the_spread_of_three_teachers(cell, metric):
    """By the spread of pairs alone, as if each had a teacher of its own, it would be decided."""
    run = next(one for one in runs(cell) if any(value.metric == metric for value in one.values))
    tables = []
    for role in "SB":
        (rows,) = [one.by_seed for one in run.values
                   if (one.layer, one.metric, one.role) == ("FC1", metric, role)]  # fmt: skip
        tables.append(np.genfromtxt(rows, ndmin=2))
    shared = [place % 3 for place in range(21)]
    margin = 0.1 * np.nanmean(tables[1])
    found = [paired_difference(*tables, teachers=of) for of in (shared, None)]
    said = [judged(one.value, one.low, one.high, "down", margin, one.p) for one in found]
    assert said == ["undecided", "equivalent"]


def test_texts_have_no_measurable_cell_and_photographs_runs_that_were_not_made():
    for name in ("qa_h1", "qa_h2", "qa_h3", "sentiment_h1", "sentiment_h2", "sentiment_h3"):
        assert {one.verdict for one in read_results(name, "study").comparisons} == {
            "not measurable"
        }
    made = {path.stem for path in (BOOK / "results" / "study" / "cells").glob("*_*.json")}
    assert {one for one in made if re.search("tin_.*(conv|fc2|fc3|vgg16|vgg19|resnet)", one)} == {
        "tin_vgg11_fc2",
        "tin_vgg11_fc2_new",
        "tin_vgg11_fc3",
        "tin_vgg11_fc3_new",
    }
    assert {one for one in made if one.startswith("ix_")} == {"ix_vgg11_from_vgg11", "ix_vgg11_new"}
    assert "`tiny_imagenet` and `table_ix` are committed and not run to their end" in page()
