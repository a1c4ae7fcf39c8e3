"""The page of claims: its rules against hand-made results."""

from pathlib import Path

import pytest
from made_claims import (
    FOR,
    FROM_V,
    LAYERS,
    RATE,
    cell,
    each,
    items,
    judge,
    means,
    number,
    one,
    study,
)
from made_results import comparison, measure, rows_of_all, run
from refusals import fails

from book.make import claims
from book.make.claim_page import ClaimPage, verdict_counts
from book.make.claims import NOT_RUN, SPLIT
from book.make.frame import frame, span
from book.make.pages import toc_pages
from book.make.texts import badge
from kpnb.metrics.results import Values
from kpnb.paper import METRICS, agreement_rates

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://example.org/kpnb"
SHIPPED = claims.shipped_claims()
PAPER, PAGES = frame([]), toc_pages(ROOT / "book")
NO_DATA = {"kind": "none", "reason": "x"}
IMAGE_GAPS = {"kind": "numbers", "notebook": "image_*", "names": ["gap_*"]}


SIDES = ("up", "down")
OTHER_SIDE = comparison("n_fg", -3.0, -1.0)

#: Of cells, by the first letter of their verdict: values, which differ by more than their intervals
#: let expect, and half-widths; margins are 1. "n": of a layer that is not measurable.
ENDS = {"s": ((9, 10, 11, 12), 0.4), "o": ((-9, -10, -11, -12), 0.4), "n": ((9, 9, 9, 9), 0.4)}
ENDS |= {"u": ((4, -3, 2, -1), 5), "e": ((0, 0.3, -0.3, 0.1), 0.1), "1": ((-7, -7, -7, -7), None)}
#: By verdict: cells, each a letter.
OVERALL = {
    NOT_RUN: [""],
    "supported": ["s", "ss", "s1", "sn", "snnn", "ssss", "ss11"],
    "opposed": ["o", "oo", "o1", "on", "ooo"],
    "equivalent": ["e", "ee", "eee", "1en"],
    "undecided": ["u", "su", "se", "oe", "uuu", "suuu"],
    SPLIT: ["so", "son", "so1", "soso"],
    "one seed": ["1", "11", "111", "1n"],
    "not measurable": ["n", "nnnn"],
}


def cells_of_letters(case):
    """A layer each."""
    made = []
    for i, (letter, layer) in enumerate(zip(case, LAYERS, strict=False)):
        value, half = ENDS[letter][0][i], ENDS[letter][1]
        ends = (value - half, value + half) if half else (None, None)
        own = {"difference": value, "layer": layer, "margin": 1, "n_seeds": 3 if half else 1}
        made.append(comparison("n_fg", *ends, unfit=letter == "n", **own))
    unfit = [layer for layer, letter in zip(LAYERS, case, strict=False) if letter == "n"]
    notes = [f"{layer} is not measurable (why); change." for layer in unfit]
    return [study(*made, notes=notes)] if made else []


def test_that_decided_claims_share_results_is_said():
    """A claim and its mirror image rest on the same file; what is undecided adds none."""
    both = [judge(one(side=side), *cells_of_letters("ss")) for side in SIDES]
    assert [found.verdict for found in both] == ["supported", "opposed"]
    told = verdict_counts([*both, judge(one(), *cells_of_letters("u"))])
    assert "The 2 decided ones rest on 1 results file" in told and "no independent votes" in told
    assert "decided ones" not in verdict_counts(both[:1])


@pytest.mark.parametrize("verdict", OVERALL)
def test_one_verdict_over_several(verdict):
    mirror = {"supported": "opposed", "opposed": "supported"}
    for case in OVERALL[verdict]:
        found = judge(one(), *cells_of_letters(case))
        assert found.verdict == verdict, case
        other = judge(one(side="down"), *cells_of_letters(case))
        assert other.verdict == mirror.get(verdict, verdict), case


def test_the_mean_over_cells_decides_where_there_are_three_not_their_number():
    """Two of three intervals exclude 0 on the side, and neither side is decided for."""

    def over(*ends):
        cells = [comparison("n_fg", *pair, network=f"N{i}") for i, pair in enumerate(ends)]
        return judge(one(), study(*cells))

    assert over((6, 13), (5, 12), (-21, -11)).verdict == SPLIT
    assert over((6, 13), (5, 12), (-21, 11)).verdict == "undecided"
    assert over((6, 13), (6, 13), (-1, 2)).mean.cells == 3
    assert over((6, 13), (6, 13)).mean is None


def test_each_threshold_has_a_mean_of_its_own():
    """Four cells, twice: at the lower b on one side, at the higher on the other, 0 over all."""

    def over(low, high, networks=4):
        wide = {0.15: low, 0.25: high}
        cells = [comparison("n_fg", value - 0.5 + i / 9, value + 0.5 + i / 9, network=f"N{i}",
                            threshold=b, margin=1)
                 for b, value in wide.items() for i in range(networks)]  # fmt: skip
        return judge(one(evidence=FROM_V | {"of": "other_b"}), study(*cells))

    for values, verdict in {(9, 9): "supported", (9, -9): SPLIT, (-9, -8): "opposed",
                            (0, 0): "equivalent", (9, 0): "undecided"}.items():  # fmt: skip
        found = over(*values)
        assert found.verdict == verdict and found.mean is None
        assert [mean.cells for mean, _ in found.means] == [4, 4]
    assert found.means[0][0].value == pytest.approx(9 + 1 / 6)
    assert [place for _, place in found.means] == [" at $b = 0.15$", " at $b = 0.25$"]
    assert found.rests_on == "the mean at each of 2 thresholds, 8 measurements in all"
    two = over(9, 9, networks=2)
    assert two.verdict == "supported" and not two.means


def test_what_is_not_measurable_leads_to_the_reason():
    found = judge(one(), *cells_of_letters("sn"))
    assert [item.reason for item in each(found)] == ["", "FC1 is not measurable (why); change."]
    page = ClaimPage(frame(cells_of_letters("nn")), ADDRESS, PAGES).fragments()["claims"]
    row = next(
        row for row in rows_of_all(page) if row[0].startswith("Images: the student's $N^{fg")
    )
    assert row[1] == badge("not measurable") and "{doc}`not measurable <fitness>`" in row[1]
    assert row[2].startswith("2 cells") and "why" not in row[4]


def test_a_single_comparison_keeps_its_verdict_and_its_numbers():
    found = judge(one(), study(FOR))
    assert found.verdict == "supported" and found.tally["on side"] == 1
    told = "+9.50 [+6.00, +13.0]", "60 images, 3 seeds"
    assert (each(found)[0].shown, span(found.items)) == told
    assert judge(one(side="down"), study(FOR)).verdict == "opposed"
    for side in SIDES:  # a point estimate on zero is on no side
        (zero,) = items(one(side=side), study(comparison("n_fg", -1.0, 1.0)))
        assert zero.verdict == "undecided" and not zero.on_side
    adjusted = FOR.model_copy(update={"p": 0.07, "verdict": "undecided"})  # of a family of tests
    assert judge(one(), study(adjusted)).verdict == "undecided"


def test_only_the_headline_of_the_claims_metric_on_training_samples_of_the_study_counts_once():
    filtered = comparison("n_fg", 1.0, 2.0, selection="published_filter")
    other = [comparison("n_fg", 1.0, 2.0, threshold=0.25), comparison("n_bg", 1.0, 2.0)]
    unseen = study(FOR, settings={"threshold": 0.2, "measured_on": "test"})
    alone = study(OTHER_SIDE, notebook="image_cell")  # no run of a sweep
    aside = [study(filtered, *other), run(comparisons=[FOR]), unseen, alone]
    assert items(one(), *aside) == [] and len(items(one(), *aside, study(FOR))) == 1
    per_step = comparison("d_mean", -2.0, -1.0, prediction="down", distance="step")
    assert items(one(metric="d_mean"), study(per_step)) == []
    # no cell counts twice, and the main result is taken
    fc2, fc3 = (comparison("n_fg", -3.0, -1.0, layer=layer) for layer in ("FC2", "FC3"))
    cells = [cell("v_vgg11_fc1", OTHER_SIDE), cell("v_vgg11_fc2", fc2)]
    found = judge(one(), study(FOR), *cells, cell("ii_vgg11_from_vgg16", fc3), cell("vi_x", fc3))
    assert [item.run for item in each(found)] == ["", "v_vgg11_fc2"]
    assert each(found)[0].verdict == "supported" and found.verdict == SPLIT
    three = judge(one(), study(FOR), *cells, cell("v_vgg11_fc3", fc3))
    assert (three.verdict, three.rests_on) == (SPLIT, "1 supported, 2 opposed of 3 measurements")
    full = cell("v_full", comparison("n_fg", 1.0, 2.0, scale="full"))
    assert len(items(one(), study(FOR), cells[0], full)) == 2


GRIDS = [study(FOR)] + [cell(f"iii_vgg11_grid{g}", FOR) for g in (8, 16, 32)]
OWN = {"threshold": 0.2, "network": "VGG-11"}
TAUGHT = [cell(f"ii_{teacher}", FOR, settings=OWN | {"teacher": teacher})
          for teacher in ("same", "VGG-16", "VGG-11")]  # fmt: skip
DIMS = [cell(f"viii_vgg11_outputs{n}", FOR, settings=OWN | {"outputs": n}) for n in (4, 12)]
PLACED = [comparison("n_fg", 1, 2, **own) for own in ({}, {"layer": "FC2"}, {"network": "X"})]
TEXTS = [study(comparison("n_fg", 1.0, 2.0, sample=kind, dataset=kind, layer=kind))
         for kind in ("sentence", "question", "image")]  # fmt: skip
AT_BS = [comparison("n_fg", 1.0, 2.0, threshold=b) for b in (0.15, 0.2, 0.25)]
AT_BS.append(comparison("n_fg", 1.0, 2.0, threshold=0.3, selection="published_filter"))


@pytest.mark.parametrize(
    ("asked", "results", "expected"),
    [
        ({"table": "III"}, GRIDS, ["VGG-11, FC1"] * 3),  # runs of Table III count one by one
        ({"table": "III", "runs": ["*_grid8", "*_grid32"]}, GRIDS, ["VGG-11, FC1"] * 2),
        ({"table": "II"}, GRIDS, []),
        ({"table": "II", "where": "larger"}, TAUGHT, ["VGG-11, FC1, teacher VGG-16"]),
        ({"table": "VIII"}, DIMS, [f"VGG-11, FC1, {n} outputs" for n in (4, 12)]),
        ({"where": "network == 'VGG-11' and layer == 'FC1'"}, [study(*PLACED)], ["VGG-11, FC1"]),
        ({"table": "VI"}, TEXTS, ["VGG-11, sentence", "VGG-11, question"]),
        ({"table": "VI", "where": "sample == 'question'"}, TEXTS, ["VGG-11, question"]),
        # other thresholds count on request
        ({"of": "other_b"}, [study(*AT_BS)], [f"VGG-11, FC1, b = {b}" for b in (0.15, 0.25)]),
    ],
)
def test_tables_runs_teachers_places_samples_and_thresholds_select(asked, results, expected):
    found = items(one(evidence=FROM_V | asked), *results)
    assert [item.what for item in found] == expected
    if "runs" in asked:
        assert [item.run for item in found] == ["iii_vgg11_grid8", "iii_vgg11_grid32"]
    if asked.get("table") == "VI":
        assert [f"VGG-11, {item.noun}" for item in found] == expected


def held(role, layer, by_seed, metric="n_fg"):
    """A measure and the values that it rests on."""
    known = [float(value) for row in by_seed for value in row.split() if value != "-"]
    at = {"layer": layer, "metric": metric, "threshold": 0.2, "distance": None, "role": role}
    mean = sum(known) / len(known)
    return measure(role, metric, mean, layer=layer), Values(by_seed=by_seed, **at)


def with_values(*found, **changes):
    measures, values = zip(*found, strict=True)
    return study(measures=list(measures), values=list(values), **changes)


def test_two_roles_are_compared_sample_by_sample():
    """Intervals of the means overlap, those of the paired difference of 2 are narrow. Of scores
    there is one value a seed, and no margin."""
    teacher = ["12 22 32 42 -", "12.5 22 32 42.1 9"]
    other = ["10 20 30 40 1", "10.3 20 30 40.2 1"]
    found = with_values(held("T", "FC1", teacher), held("S", "FC1", other))
    (item,), (down,) = (items(means("T", "S").model_copy(update={"side": side}), found)
                        for side in SIDES)  # fmt: skip
    assert (item.verdict, item.on_side, down.verdict) == ("supported", True, "opposed")
    assert item.value == pytest.approx(2.0125)  # without the last sample, which one has not
    assert item.margin == pytest.approx(0.1 * 20.25)  # a tenth of the other's mean over all
    assert item.shown.startswith("+2.01 [") and " against " in item.shown
    shared = with_values(held("T", "FC1", teacher), held("S", "FC1", other),
                         settings={"threshold": 0.2, "seeds": [7, 9], "teachers": [1]})  # fmt: skip
    assert items(means("T", "S"), shared)[0].value == item.value
    kept = [held(role, "FC1", rows, "accuracy_test")
            for role, rows in (("T", ["0.5", "0.61"]), ("S", ["0.4", "0.5"]))]  # fmt: skip
    (score,) = items(means("T", "S", metric="accuracy_test"), with_values(*kept))
    assert (score.margin, score.value) == (0, pytest.approx(0.105)) and score.low < score.value
    alone = with_values(held("T", "FC1", teacher[1:]), held("S", "FC1", other[1:]))
    assert items(means("T", "S"), alone)[0].verdict == "one seed"
    why = ["FC1 is not measurable (why); change."]
    unfit = with_values(held("T", "FC1", teacher), held("S", "FC1", other), notes=why)
    assert items(means("T", "S"), unfit)[0].verdict == "not measurable"


def test_roles_are_paired_within_a_network_and_layer():
    starts, roles = {"FC1": 20.0, "FC2": 10.0}, {"T": 4, "S": 0, "B": -9}
    found = [held(role, layer, [f"{start + more} {start + more + 1}", f"{start + more} {start}"])
             for layer, start in starts.items() for role, more in roles.items()]  # fmt: skip
    pairs = [f"VGG-11, FC{i}: teacher, student" for i in "12"]
    assert [item.what for item in items(means("T", "S"), with_values(*found))] == pairs
    split = [with_values(*[one for one in found if one[0].role == role]) for role in "TS"]
    assert items(means("T", "S"), *split) == []  # S here and T there are no pair
    ends = means("T", "T", first_layer="FC2", second_layer="FC1")
    (item,) = items(ends, with_values(*found))
    assert item.what == "VGG-11, FC2: teacher at FC2, teacher at FC1" and not item.on_side
    more = held("T", "FC1", [f"{start} 3 99" for start in (5, 6, 99)])
    given = {"threshold": 0.2, "teachers": [7], "classes": 2}
    short, long = (
        with_values(one, settings=given | {"seeds": seeds, "layers": at})
        for one, seeds, at in ((found[3], [1, 2], ["FC2"]), (more, [1, 2, 3], ["FC1"]))
    )
    wider = [one.model_copy(update={"n_samples": 90, "n_seeds": 7}) for one in long.measures]
    long = long.model_copy(update={"measures": wider})
    (item,) = items(ends, short, long)  # the same two teachers and images, of two runs
    assert (item.n_samples, item.n_seeds) == (60, 3)
    assert item.shown.startswith("+9.00") and item.shown.endswith("(the second in `image_h1`)")
    assert item.on_side and judge(ends, short, long).verdict == "undecided"
    why = ["FC1 is not measurable (why); change."]  # of the layer that the other is held against
    (item,) = items(ends, short, long.model_copy(update={"notes": why}))
    assert (item.verdict, item.reason) == ("not measurable", why[0])
    other = long.model_copy(update={"settings": long.settings | {"seeds": [2, 1, 3]}})
    assert items(ends, short, other) == []
    strangers = [found[0][0], found[3][0].model_copy(update={"network": "AlexNet"})]
    assert items(ends, study(measures=strangers)) == []


def score(role, layer, mean, low=None, high=None, n=2000):
    spread = {"threshold": None, "low": low, "high": high, "n_samples": n}
    return measure(role, "accuracy_test", mean, layer=layer, **spread)


def test_scores_meet_the_one_of_the_baseline_once_and_have_no_verdict():
    networks = [score("B", "", 0.2), score("T", "", 0.6)]
    runs = [cell(f"v_{at}", measures=[*networks, score("S", at, 0.4)]) for at in ("FC1", "FC2")]
    found = items(means("S", "B", "accuracy_test"), *runs)
    assert [item.what for item in found] == [f"VGG-11, FC{i}: student, baseline" for i in "12"]
    assert found[0].shown == "0.40 against 0.20" and found[0].verdict == "one seed"
    assert len(items(means("T", "B", "accuracy_test"), *runs)) == 1  # the same two networks in both
    assert all(claim.certain for claim in SHIPPED if claim.metric and "_" in claim.metric
               and claim.metric not in METRICS)  # fmt: skip


ABOVE, BELOW, OPEN, EXACT = (2.0, 1.0, 3.0), (-2.0, -3.0, -1.0), (1.0, -1.0, 3.0), (2.0,)


@pytest.mark.parametrize(
    ("bound", "values", "on_side", "expected"),
    [
        *((0.0, [ABOVE], 1, "supported"), (0.0, [BELOW], 0, "opposed")),
        *((0.0, [OPEN], 1, "undecided"), (1.5, [ABOVE], 1, "undecided")),
        *((2.0, [ABOVE], 0, "undecided"), (5.0, [ABOVE], 0, "opposed")),
        *((0.0, [EXACT], 1, "supported"), (3.0, [EXACT], 0, "opposed")),
        *((2.0, [EXACT], 0, "undecided"), (0.0, [ABOVE, BELOW], 1, SPLIT)),
        # of several kinds there is no mean
        *((0.0, [ABOVE, ABOVE, BELOW], 2, SPLIT), (0.0, [], 0, NOT_RUN)),
    ],
)
def test_numbers_against_a_bound(bound, values, on_side, expected):
    keys = {f"gap_{i}": number(*value) for i, value in enumerate(values)} | {"other": number(-9)}
    claim = one(side="up", evidence=IMAGE_GAPS | {"bound": bound, "given": True})
    found = judge(claim, study(numbers=keys), study(notebook="qa_h1", numbers=keys))
    assert (found.verdict, found.tally["on side"]) == (expected, on_side)
    if values[:1] == [ABOVE]:
        assert each(found)[0].shown == "2.00 [1.00, 3.00]" and each(found)[0].n_samples == 7


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [("all", [ABOVE, ABOVE, BELOW], "opposed"), ("all", [ABOVE, ABOVE], "supported"),
     ("all", [ABOVE, OPEN], "undecided"), ("most", [ABOVE, ABOVE, BELOW], "supported"),
     ("most", [BELOW, BELOW, OPEN], "opposed"), ("most", [ABOVE, BELOW], SPLIT)],
)  # fmt: skip
def test_a_claim_on_all_or_on_most_is_judged_as_it_says(rule, values, expected):
    keys = {f"gap_{i}": number(*value) for i, value in enumerate(values)}
    claim = one(side="up", evidence=IMAGE_GAPS | {"given": True, "rule": rule})
    assert judge(claim, study(numbers=keys)).verdict == expected


def test_a_number_of_trained_networks_needs_several_seeds_and_a_layer_that_is_measurable():
    claim, keys = one(side="up", evidence=IMAGE_GAPS), {"gap_T_FC1": number(2.0, 1.0, 3.0)}

    def said(**changes):
        return items(claim, study(numbers=keys, **changes))[0].verdict

    assert said() == said(settings={"threshold": 0.2, "seeds": [0, 1]}) == "supported"
    assert said(settings={"threshold": 0.2, "seeds": [0]}) == "one seed"
    assert said(notes=["FC1 is not measurable (why); change."]) == "not measurable"
    assert said(notes=["FC2 is not measurable (why); change."]) == "supported"
    keys["gap_T_FC1"] = number(2.0)
    assert said() == "one seed"


def test_numbers_of_all_notebooks_of_a_kind_count_those_of_shared_networks_once():
    def of(make, value, *args, **settings):
        keys = {"gap_T_FC1": number(value, 1.0, 3.0)}
        return make(*args, numbers=keys, settings={"threshold": 0.2} | settings)

    alexnet = [of(cell, 2.5, name, network="AlexNet") for name in ("v_a", "ii_a")]
    unseen = of(study, 2.2, measured_on="test")
    elsewhere = of(study, 2.1).model_copy(update={"notebook": "pointcloud_h1"})
    runs = [of(study, 2.0), elsewhere, unseen, *alexnet, of(cell, 2.5, "v_b")]
    found = items(one(side="up", evidence=IMAGE_GAPS), *runs)
    assert [item.run for item in found] == ["", "v_a", "v_b"]
    assert found[1].what == "AlexNet, `gap_T_FC1`: a gap"


def test_a_rate_counts_as_the_published_rates_do():
    for row in agreement_rates().to_dict("records"):
        claim = one(metric=row["metric"], paper=[{"kind": "rate", "table": row["table"]}])
        ties = f" ({row['ties']} tie{'s' * (row['ties'] > 1)})" if row["ties"] else ""
        assert claims.published_text(claim, PAPER) == f"{row['agree']} of {row['cells']}{ties}"


FC1_OF_ALEXNET = "network == 'AlexNet' and layer == 'FC1' and dataset == 'CUB200-2011'"


@pytest.mark.parametrize(
    ("metric", "side", "printed", "said"),
    [
        ("n_fg", "down", {"kind": "rate", "table": "VIII"}, "4 of 4"),
        ("n_fg", "up", {"kind": "rate", "table": "IV", "first": "T", "second": "S"}, "4 of 5"),
        ("rho", "up", {"kind": "rate", "table": "II", "where": "larger"}, "4 of 4"),
        ("n_fg", "up", {"kind": "rate", "table": "III", "where": "grid_size == '8x8?'"}, "2 of 2"),
        ("d_mean", "up", {"kind": "values", "table": "V", "where": FC1_OF_ALEXNET},
         "5.13 against 2.96"),
        ("n_bg", "up", {"kind": "change", "table": "IX"}, "$N^{bg}_{point}$ +12.0%"),
    ],
)  # fmt: skip
def test_other_sides_roles_and_rows_of_the_paper(metric, side, printed, said):
    assert claims.published_text(one(metric=metric, side=side, paper=[printed]), PAPER) == said


def test_a_claim_that_asks_for_what_is_not_there_is_an_error():
    fails(lambda: claims.published_text(one(paper=[RATE | {"first": "T"}]), PAPER), "has not what")
    with pytest.raises(ValueError, match="kind"):
        one(evidence={"kind": "guess"})
    with pytest.raises(ValueError, match="Extra inputs"):
        one(verdict="supported")
