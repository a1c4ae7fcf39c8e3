"""What it would take to settle undecided cells: the study's own intervals, planned further."""

from dataclasses import replace

import numpy as np
import pytest
from made_results import comparison, measure, run

from book.make.effects import paired_values
from book.make.frame import frame
from book.make.undecided import Spread, taught_by, undecided, undecided_fragments
from kpnb.metrics.results import Values, available_cells, available_results
from kpnb.metrics.stats import crossed


def drawn(teacher, pair, image, seed=0):
    """Values of 12 pairs and 40 images with these deviations between three teachers, whose pairs
    have no other mean, between pairs, images, and 1 of each value."""
    rng = np.random.default_rng(seed)
    pairs = rng.normal(0, pair, (4, 3))
    pairs = (pairs - pairs.mean(0) + [-teacher, 0, teacher]).ravel()
    return pairs[:, None] + rng.normal(0, image, 40) + rng.normal(0, 1, (12, 40))


def spread_of(values):
    return Spread.of(values, taught_by({"teachers": [1, 2, 3]}, len(values)))


CASES = {"teachers": (5, 1, 1), "pairs": (0, 2, 0.1), "images": (0, 0.1, 6)}


@pytest.mark.parametrize("widest, deviations", CASES.items())
@pytest.mark.parametrize("seed", range(3))
def test_half_widths_are_those_of_the_studys_intervals(widest, deviations, seed):
    values = drawn(*deviations, seed=seed)
    spread, found = spread_of(values), crossed(values, teachers=[0, 1, 2] * 4)
    assert 2 * spread.half_width(spread.now) == pytest.approx(found.high - found.low)
    own = Spread.of(values, taught_by({"teachers": None}, len(values)))
    found = crossed(values)
    assert 2 * own.half_width(own.now) == pytest.approx(found.high - found.low)
    assert spread.settled(0.1).widest == widest


@pytest.mark.parametrize("deviations", CASES.values())
def test_a_design_is_the_smallest_that_is_narrow_enough(deviations):
    spread = spread_of(drawn(*deviations))
    half = spread.half_width(spread.now) / 3
    found = spread.settled(half)
    assert spread.half_width(found) <= half
    fewer = replace(found, pairs=found.pairs - 1)
    if found.teachers > 3:
        assert found.pairs == 4 * found.teachers
        fewer = replace(found, pairs=found.pairs - 4, teachers=found.teachers - 1)
    assert spread.half_width(fewer) > half or found.pairs == spread.now.pairs
    assert spread.half_width(replace(found, samples=spread.now.samples)) >= spread.half_width(found)


def test_what_is_narrow_enough_needs_no_more():
    spread = spread_of(drawn(1, 1, 1))
    found = spread.settled(spread.half_width(spread.now) * 2)
    assert (found.teachers, found.pairs, found.samples) == (3, 12, 40)


def test_of_the_study_each_row_has_the_interval_that_is_printed():
    rows = frame([*available_results("study"), *available_cells("study")])
    found = list(undecided(rows))
    assert found and {row["verdict"] for row in found} == {"undecided"}
    for row in found:
        half = (row["high"] - row["low"]) / 2
        planned, now = row["planned"], row["now"]
        assert now.pairs == row["n_seeds"] and now.samples == row["n_samples"]
        assert planned.pairs > now.pairs or planned.samples > now.samples
        assert half > row["wide"]
        student, baseline = paired_values(rows, row)
        teachers = taught_by(row["settings"], now.pairs)
        spread = Spread.of(student - baseline, teachers)
        assert spread.half_width(now) == pytest.approx(half, rel=2e-3)  # of five digits
        if row["metric"] == "lambda":
            assert row["wide"] == 0.01
    ten = {(row["network"], row["layer"], row["metric"]): row["ten"] for row in found if row["ten"]}
    assert ten["AlexNet", "FC1", "d_mean"] == "equivalent"
    told = undecided_fragments(rows)["undecided"]
    assert told.count("; ten others: ") == len(ten)
    assert f"{len(found)} are undecided" in told and told.count("\n| ") == len(found) + 2


@pytest.mark.parametrize("level, samples, planned", [(8.0, 2, 1), (8.0, 1, 0), (0.0, 2, 0)])
def test_one_sample_and_a_baseline_without_points_have_no_plan(level, samples, planned):
    """The build goes on without them: the one has no spread, the other no margin."""
    told = {"S": [[level + 1, level - 1], [level - 1, level + 2]], "B": [[level, level]] * 2}
    values = [Values(layer="FC1", role=role, metric="n_fg",
                     by_seed=[" ".join(map(str, row[:samples])) for row in rows])
              for role, rows in told.items()]  # fmt: skip
    measures = [measure(role, "n_fg", level) for role in told]
    settings = {"threshold": 0.2, "seeds": [1, 2], "teachers": None}
    made = run(preset="study", settings=settings, comparisons=[comparison("n_fg", -1.0, 1.5)],
               measures=measures, values=values)  # fmt: skip
    assert len(list(undecided(frame([made])))) == planned
