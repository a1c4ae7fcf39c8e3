"""What pages say in words of how the entropy is estimated: held against the committed files."""

import numpy as np
import pytest
from made_results import rows_of, run

from book.make.frame import NOT_HERE
from book.make.minimum import APART, COVERED, minimum_fragments
from kpnb.datasets.places import find_data
from kpnb.errors import KpnbError
from kpnb.experiments.occlusion import COVERS
from kpnb.experiments.robustness import (
    BOXED,
    JUDGED,
    LOOSE,
    MINIMUM,
    UNCHANGED,
    Variant,
    _foreground,
)
from kpnb.metrics.formatting import SYMBOLS
from kpnb.metrics.results import Number, read_results
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import CellParameters, ImageParameters, resolve

AT_MINIMUM = [f"{MINIMUM}{more}" for more in ("", ", b = 0.5")]
ONE_PAIR = ("published procedure", "closed form, on the same images")
COARSE, FINE = (f"grid of {n} cells a side" for n in (8, 32))
WHO = ("student", "baseline")
FILES = {"AlexNet": "image_measure", "VGG-11": "image_measure_vgg11"}


@pytest.fixture(params=FILES)
def network(request):
    return request.param


def verdicts(network, metric):
    found = read_results(FILES[network], "study")
    assert found.settings["network"] == network and found.settings["data"] == "embedded"
    assert found.settings["layers"] == ["FC1"] and len(found.settings["seeds"]) == 8
    ends = {name: one.what.rpartition(": ")[2] for name, one in found.numbers.items()}
    return {name.partition(" | ")[0]: said for name, said in ends.items()
            if name.endswith(f" | {metric}") and not name.startswith(ONE_PAIR)}  # fmt: skip


def test_on_the_way_verdicts_on_number_and_share_do_not_turn(network):
    for metric in ("n_fg", "lambda"):
        found = verdicts(network, metric)
        way = {name: found[name] for name in found if name not in (*AT_MINIMUM, BOXED, LOOSE)}
        assert len(way) == 7
        coarse = way.pop(COARSE)
        undecided = (network, metric) == ("VGG-11", "lambda")
        assert coarse == ("undecided" if undecided else "supported")
        assert {*way.values()} == {"supported"}


def test_at_the_minimum_the_number_leads_and_the_share_does_not(network):
    found = verdicts(network, "n_fg")
    assert {found[name] for name in AT_MINIMUM} == {"supported"}
    numbers = read_results(FILES[network], "study").numbers
    for name in AT_MINIMUM:
        share, beside = (numbers[f"{name} | {metric}"] for metric in ("lambda", "n_bg"))
        assert share.low < 0 < share.high and beside.value > 0
    assert verdicts(network, "n_bg")[AT_MINIMUM[1]] == "opposed"


def test_points_beside_the_object_turn_with_the_setting(network):
    found = verdicts(network, "n_bg")
    fewer = {"target entropy -2.7", "entropy weight 5", FINE} if network == "VGG-11" else set()
    more = {"target entropy -3.0", "entropy weight 10"} | (
        {COARSE} if network == "VGG-11" else set()
    )
    way = {name: said for name, said in found.items() if name not in (*AT_MINIMUM, BOXED, LOOSE)}
    assert {name for name, said in way.items() if said == "supported"} == fewer
    assert {name for name, said in way.items() if said == "opposed"} == more


def test_the_published_procedure_lies_on_the_closed_forms_sides(network):
    found = read_results(FILES[network], "study").numbers
    for metric in ("n_fg", "lambda"):
        sides = [np.sign(found[f"{name} | {metric}"].value) for name in ONE_PAIR]
        assert sides[0] == sides[1] != 0


def test_without_a_threshold_students_tell_the_object_better_on_the_way_and_at_the_minimum(network):
    found = read_results(FILES[network], "study").numbers
    for way in (UNCHANGED, MINIMUM):
        assert found[f"{way} | auc_difference"].low > 0
        silent = [found[f"{way} | silent_{at}_{who}"].value for at in ("fg", "bg") for who in WHO]
        assert max(silent) < 0.01 and (way == MINIMUM or max(silent) == 0)


@pytest.mark.parametrize("cover", COVERS)
def test_covered_squares_say_what_maps_say_which_follow_them_alike(network, cover):
    found = read_results(FILES[network], "study").numbers
    assert found[f"covered with {cover} | auc_difference"].low > 0
    for way in ("path", "optimum"):
        for who in WHO:
            assert 0.35 < found[f"covered with {cover} | {way}_{who}"].value < 0.65


def test_the_tables_have_a_row_for_each_network_that_was_asked():
    def filed(network, *missing, **more):
        names = {f"{name}_{who}" for name in (*APART.values(), *COVERED.values())
                 for who in ("student", "baseline", "difference")}  # fmt: skip
        numbers = {name: Number(value=0.5, low=0.4, high=0.6, what="") for name in names}
        about = {"network": network, "layers": ["FC1"], "data": "embedded"}
        about |= {"notebook": f"image_measure_{network.lower()}", "preset": "study"} | more
        held = {name: one for name, one in numbers.items() if not name.startswith(missing)}
        settings = {name: about.pop(name) for name in ("network", "layers", "data")}
        return run(**about, settings=settings, numbers=held)

    made = minimum_fragments([filed("B"), filed("A"), filed("C", "covered")])
    assert "|" not in made.pop("minimum_boxes")  # none has these numbers
    rows = {name: rows_of(shown) for name, shown in made.items()}
    assert [row[1] for row in rows["minimum_apart"]] == ["A", "B", "C"] * len(APART)
    assert [row[2] for row in rows["minimum_covered"]] == ["A", "B"] * len(COVERED)
    assert all("0.50 [0.40, 0.60]" in row[2] for row in rows["minimum_apart"])
    others = [filed("A", preset="demo"), filed("A", notebook="sentiment_measure")]
    others += [filed("A", layers=["FC2"]), filed("A", data="photographs")]
    assert all("|" not in shown for shown in minimum_fragments(others).values())


def test_with_boxes_a_row_has_both_leads_and_what_each_says():
    def lead(value, said):
        low, high = value - 1, value + 1
        return Number(value=value, low=low, high=high, what=f"student minus baseline: {said}")

    about = {"network": "A", "layers": ["FC1"], "data": "embedded", "samples": 7, "seeds": [1, 2]}
    numbers = {f"{UNCHANGED} | {m}": lead(3.0, "supported") for m in JUDGED}
    numbers |= {f"{BOXED} | {m}": lead(-4.0, "opposed") for m in JUDGED[1:]}
    numbers[f"{LOOSE} | {JUDGED[1]}"] = lead(5.0, "undecided")
    made = run(notebook="image_measure", preset="study", settings=about, numbers=numbers)
    rows = rows_of(minimum_fragments([made])["minimum_boxes"])
    assert [row[:2] for row in rows] == [["A", SYMBOLS[m]] for m in JUDGED[1:]]
    for row in rows:
        assert "+3" in row[2] and "supported" in row[2]
        assert "−4" in row[3] and "opposed" in row[3] and row[5] == "7, 2"
    assert "+5" in rows[0][4] and "undecided" in rows[0][4] and rows[1][4] == NOT_HERE


def test_numbers_of_sentences_are_on_the_predicted_side_under_every_setting_on_the_way():
    found = read_results("sentiment_measure", "study")
    assert found.settings["samples"] == 40 and len(found.settings["seeds"]) == 3
    points = {name: one for name, one in found.numbers.items() if name.endswith(" | n_fg")}
    way = [one.value for name, one in points.items() if MINIMUM not in name]
    assert (len(points), len(way)) == (10, 8) and min(way) > 0


def test_boxes_for_outlines_leave_number_and_share_supported(network):
    for metric, said in (("n_fg", "supported"), ("lambda", "supported"), ("n_bg", "undecided")):
        assert verdicts(network, metric)[BOXED] == said
        beside = metric == "n_bg" and network == "AlexNet"
        assert verdicts(network, metric)[LOOSE] == ("supported" if beside else said)


def test_boxes_for_outlines_make_a_lead_in_the_share_smaller():
    found = read_results(FILES["VGG-11"], "study").numbers
    leads = [found[f"{name} | lambda"].value for name in (UNCHANGED, BOXED, LOOSE)]
    assert leads[1] / leads[0] == pytest.approx(2 / 3, abs=0.05)
    assert leads[2] / leads[0] == pytest.approx(1 / 3, abs=0.05)
    assert read_results(FILES["AlexNet"], "study").numbers[f"{LOOSE} | n_fg"].low < 1


def test_boxes_hold_a_third_of_the_squares_and_outlines_a_fifth_and_loose_ones_over_half():
    found = read_results("image_measure", "study").settings
    given = {name: found[name] for name in ("preset", "network", "layers", "samples", "followed")}
    study = ImageStudy(resolve(ImageParameters, given))
    variants = Variant(), Variant(boxes=True), Variant(boxes=True, held=0.5)
    outline, box, loose = (_foreground(study, variant).double() for variant in variants)
    assert 0.17 < outline.mean() < 0.22 and 0.3 < box.mean() < 0.36
    assert 0.5 < loose.mean() < 0.6


def test_boxes_of_photographs_hold_half_of_the_squares():
    found = read_results("image_cell", "study", "tin_vgg11_fc1").settings
    study = CellStudy(resolve(CellParameters, found | {"preset": "study"}))
    try:
        find_data(found["data"])  # below KPNB_DATA
    except KpnbError:
        pytest.skip("the photographs are not here")
    foreground = study.foreground()
    assert foreground.double().mean() == pytest.approx(0.5, abs=0.05)


def test_the_closed_form_of_the_minimum_is_as_far_from_it_as_the_page_says():
    found = read_results("estimator_minimum", "study").numbers
    told = {name.split(" | ", 1)[1]: [] for name in found}
    for name, one in found.items():
        told[name.split(" | ", 1)[1]].append(one.value)
    assert set(map(len, told.values())) == {4} and set(told["truth | settled"]) == {1.0}
    assert max(told["truth | own error"]) < 0.012  # half of the difference of two descents
    few, many = told["optimum, 8 probes | error"], told["optimum, 24 probes | error"]
    assert 0.04 < min(few) < max(few) < 0.08 and min(told["optimum, 8 probes | Spearman"]) > 0.99
    assert all(0.4 < more / less < 0.55 for more, less in zip(many, few, strict=True))
    way = read_results("estimator_accuracy", "study").numbers
    way = way["VGG-11 FC1, epoch 30 | path, 8 probes | error"].value
    assert 1.8 < min(few) / way < max(few) / way < 4
    wide = told["optimum, 8 probes | standard error"]
    assert all(0.7 < one / error < 1.5 for one, error in zip(wide, few, strict=True))
    errors = {name.split(" | ")[0]: one.value for name, one in found.items()
              if name.endswith("8 probes | error")}  # fmt: skip
    for network in ("AlexNet", "VGG-11"):
        assert errors[f"{network} FC1, student"] > errors[f"{network} FC1, baseline"]
    off, beside = (told[f"optimum, 8 probes | N_{ground} error"] for ground in ("fg", "bg"))
    assert max(off) < 4.5 and 5.5 < min(beside) < max(beside) < 11.5
    signed = [abs(one) for ground in ("fg", "bg")
              for one in told[f"optimum, 8 probes | N_{ground} difference"]]  # fmt: skip
    assert max(signed) < 3.2
    assert 40 < min(told["optimum, 8 probes | N_fg of the truth"]) < 60
    assert 55 < min(told["optimum, 8 probes | N_bg of the truth"]) < 80
    highest = [one.high for name, one in found.items() if name.endswith("8 probes | error")]
    assert max(highest) < 0.135  # of three images, the bootstrap's end is the worst one


def test_what_the_page_says_of_the_cost_of_bfloat16():
    found = read_results("estimator_speed", "study").numbers
    assert 0.4 < found["bfloat16 / float32, time"].value < 0.6
    assert found["bfloat16 against float32, H"].value > 0.01
