"""What the conclusion says of the controls, from a results file alone."""

import pytest
from made_results import run

from book.make.controls import controls_fragments, gaps
from kpnb.metrics.results import Number, Values, read_results, results_root

SETTINGS = {"layers": ["Conv", "FC1"], "seeds": [1, 2, 3, 4], "teachers": [7, 8], "classes": 12}
SETTINGS |= {"network": "VGG-11", "samples": 5}
EQUAL, BLIND = "ahead of it at", "does not follow what a teacher knows"


def controls(leads, preset="study", share=0.9, learned=0.12, auc=0.0):
    """Baselines of 10 points, and as many more for students of a kind as `leads` says of layers."""
    filed, leads = [], {"good": (8.0, 8.0)} | leads
    for metric in ("n_fg", "lambda", "n_bg"):
        for at, layer in enumerate(SETTINGS["layers"]):
            more = {kind: own[at] for kind, own in leads.items()} if metric == "n_fg" else {}
            more = {"baseline": 0.0} | {f"student {kind}": more.get(kind, 0.0) for kind in leads}
            for name, lead in more.items():
                rows = [" ".join(f"{10 + lead + 0.1 * ((seed * image) % 3):.3f}"
                                 for image in range(5)) for seed in SETTINGS["seeds"]]  # fmt: skip
                filed.append(
                    Values(layer=f"{layer}, {name}", role="S", metric=metric, by_seed=rows)
                )
    numbers = {f"explained_train_student_good_{layer}": Number(value=share, what="")
               for layer in SETTINGS["layers"]}  # fmt: skip
    numbers["accuracy_train_teacher_shuffled_Conv"] = Number(value=learned, what="")
    numbers["auc_equal_minus_baseline_FC1"] = Number(
        value=auc, low=auc - 0.1, high=auc + 0.1, what=""
    )
    about = {"notebook": "image_controls", "preset": preset, "values": filed, "numbers": numbers}
    return run(**about, settings=SETTINGS | {"kinds": [kind for kind in leads if kind != "good"]})


def told(*results):
    return controls_fragments(results)["controls_contrast"]


def test_gaps_are_paired_by_seed_and_image_with_what_became_of_the_expectation():
    found = gaps(controls({"shuffled": (-1, -1), "equal": (3, 0.2)}))
    assert set(found) == {("good", "shuffled"), ("good", "equal"), ("good", "baseline"),
                          ("shuffled", "baseline"), ("equal", "baseline")}  # fmt: skip
    row = {(pair, one["layer"]): (round(one["value"], 6), one["outcome"])
           for pair, rows in found.items() for one in rows if one["metric"] == "n_fg"}  # fmt: skip
    assert row[("good", "shuffled"), "FC1"] == (9, "held")
    assert row[("equal", "baseline"), "Conv"] == (3, "did not hold")
    assert row[("equal", "baseline"), "FC1"] == (0.2, "held")  # below a tenth of 10 points
    assert row[("good", "equal"), "Conv"] == (5, "") and row[("good", "baseline"), "Conv"] == (
        8,
        "",
    )


def test_other_presets_and_other_notebooks_say_nothing():
    assert "not run here yet" in told(run(), controls({"equal": (1, 1)}, preset="demo"))


def test_a_lead_without_a_better_teacher_is_told_by_layer():
    text = told(controls({"equal": (3, 3)}))
    assert f"{EQUAL} Conv and FC1, uncorrected" in text
    assert "a part may come with how it is trained" in text
    assert "No such lead is seen in $\\lambda$, nor without a threshold" in text
    assert "nor without a threshold" not in told(controls({"equal": (3, 3)}, auc=0.5))
    assert f"{EQUAL} Conv, uncorrected" in told(controls({"equal": (3, -3)}))
    text = told(controls({"equal": (-3, 0)}))
    assert EQUAL not in text and "No such lead" not in text


@pytest.mark.parametrize("kind", ["shuffled", "untrained"])
def test_a_lead_of_those_that_were_taught_nothing_is_never_passed_over(kind):
    assert BLIND not in told(controls({"equal": (3, 3)})) + told(controls({kind: (-1, -1)}))
    text = told(controls({kind: (9, -9), "equal": (-1, -1)}))
    assert BLIND in text and "of the baseline at Conv: there" in text
    assert ("(did not hold)" in text) and "+9.00" in text


def test_what_the_contrast_rests_on_is_said():
    text = told(controls({"shuffled": (-1, -1)}))
    assert "VGG-11, 4 pairs, 2 teachers of each kind, 5 training images" in text
    assert "name 12.0 % of the labels" in text and "they have learned hardly any" in text
    assert "learned hardly any" not in told(controls({"shuffled": (-1, -1)}, learned=0.9))
    assert "explain less of its feature" not in text
    assert "at Conv and FC1 students of the good" in told(controls({"equal": (1, 1)}, share=0.7))


def test_what_is_told_of_the_study_is_what_its_notebook_found():
    """Its numbers, by another way; and as many expectations with each outcome as it reads out."""
    results = read_results("image_controls", "study")
    found, told = gaps(results), []
    for (one, other), rows in found.items():
        for row in rows:
            told += [row["outcome"]] * bool(row["outcome"])
            number = results.numbers.get(f"{row['metric']}_{one}_minus_{other}_{row['layer']}")
            if number:
                ends = [number.value, number.low, number.high]
                assert [row[end] for end in ("value", "low", "high")] == pytest.approx(
                    ends, rel=1e-3
                )
    copy = (results_root() / "study" / "notebooks" / "image_controls.ipynb").read_text()
    counts = ", ".join(f"{told.count(name)} {name}" for name in ("held", "open", "did not hold"))
    assert f"Of {len(told)} expectations: {counts}." in copy
