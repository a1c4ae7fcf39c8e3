"""What the conclusion says of the controls, from values by pair and image alone."""

import pytest
from made_results import run

from book.make.controls import controls_fragments, gaps
from kpnb.metrics.results import Values

SETTINGS = {"kinds": ["shuffled", "equal"], "layers": ["FC1"], "seeds": [1, 2, 3, 4]}
SETTINGS |= {"teachers": [7, 8]}


def controls(equal=3.0, shuffled=-1.0, preset="study", **changes):
    """Baselines of 10 points; students of the good teacher have 8 more."""
    leads = {"baseline": 0.0, "student good": 8.0, "student equal": equal}
    leads |= {"student shuffled": shuffled}
    filed = []
    for metric, scale in (("n_fg", 1.0), ("lambda", 0.0)):
        for name, lead in leads.items():
            rows = [" ".join(f"{10 + scale * lead + 0.1 * ((seed * image) % 3)}"
                             for image in range(5)) for seed in (1, 2, 3, 4)]  # fmt: skip
            filed.append(Values(layer=f"FC1, {name}", role="S", metric=metric, by_seed=rows))
    about = {"notebook": "image_controls", "preset": preset, "values": filed}
    return run(**about, settings=SETTINGS | changes)


def told(*results):
    return controls_fragments(results)["controls_contrast"]


def test_gaps_are_paired_by_seed_and_image_and_of_the_study_alone():
    found = gaps([controls(preset="demo"), run(), controls()])
    assert set(found) == {("good", "shuffled"), ("good", "equal"), ("good", "baseline"),
                          ("shuffled", "baseline"), ("equal", "baseline")}  # fmt: skip
    for pair, value in {
        ("good", "equal"): 5,
        ("equal", "baseline"): 3,
        ("good", "shuffled"): 9,
    }.items():
        points, share = found[pair]
        assert points["value"] == pytest.approx(value) and points["low"] == pytest.approx(value)
        assert (points["metric"], share["metric"], share["value"]) == ("n_fg", "lambda", 0)


@pytest.mark.parametrize(("equal", "shuffled"), [(3.0, -1.0), (3.0, 1.0), (-1.0, -1.0)])
def test_a_lead_without_a_better_teacher_is_said_where_there_is_one(equal, shuffled):
    text = told(controls(equal, shuffled))
    assert f"{'+' if equal > 0 else '−'}{abs(equal):.2f}" in text and "+8.00" not in text
    assert ("They lead in $N^{fg}_{point}$, which was not expected." in text) == (equal > 0)
    assert ("a part comes with learning a feature" in text) == (equal > 0)
    assert ("show no lead" in text) == (equal > 0 > shuffled)
    assert ("No lead is seen." in text) == (equal < 0)
    assert "not run here yet" in told(run())
