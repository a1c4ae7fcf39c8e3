"""Effects beside the paper's: what varies, what a design can tell, and which cells are shown."""

import numpy as np
import pytest
from made_results import comparison, measure, rows_of, run

from book.make import effects
from book.make.frame import frame, paper_rows
from kpnb.metrics.protocol import protocol, protocol_seeds
from kpnb.metrics.results import Values
from kpnb.paper import TABLES

SEEDS = list(protocol_seeds("pairs", protocol()["confirmatory"]["pairs"]))


def drawn(pair, sample, both, pairs=60, samples=400, seed=0):
    """A table of values with these standard deviations between pairs, samples, and of both."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, pair, (pairs, 1)), rng.normal(0, sample, (1, samples))
    return sum(parts) + rng.normal(0, both, (pairs, samples))


def confirmed(metric, student, baseline, unfit=False, **changes):
    """Results of the protocol's pairs in one metric, which hold these values."""
    values = [
        Values(layer="FC1", role=role, metric=metric,
               by_seed=[" ".join("-" if v != v else f"{v:.6g}" for v in row) for row in table])
        for role, table in (("S", student), ("B", baseline))
    ]  # fmt: skip
    unit = {"distance": "epoch"} if metric == "d_mean" else {}
    measures = [measure(role, metric, float(np.nanmean(table)), **unit)
                for role, table in (("S", student), ("B", baseline))]  # fmt: skip
    gap = float(np.nanmean(student) - np.nanmean(baseline))
    found = [comparison(metric, gap - 1, gap + 1, unfit=unfit)]
    settings = {"threshold": 0.2, "seeds": SEEDS, "measured_on": "train", "network": "VGG-11"}
    given = {"preset": "study", "settings": settings, "comparisons": found, "measures": measures}
    return run(**given | {"values": values} | changes)


@pytest.mark.parametrize("deviations", [(2.0, 3.0, 5.0), (0.0, 3.0, 5.0), (2.0, 0.0, 5.0)])
def test_components_are_those_that_values_were_drawn_with(deviations):
    found = effects.components(drawn(*deviations)) ** 0.5
    assert found == pytest.approx(deviations, abs=0.5)
    flat = effects.components(np.full((3, 4), 7.0))
    assert (flat == 0).all()


def test_a_design_tells_what_its_standard_error_allows_in_percent_of_the_baseline():
    """Twice as large baselines, half the percents; lambda stays a difference."""
    gap = drawn(2.0, 3.0, 5.0)
    for level in (20.0, 40.0):
        (row,) = effects.detectable(
            frame([confirmed("n_fg", level + gap, np.full(gap.shape, level))])
        )
        pair, sample, both = effects.components(gap) * (100 / level) ** 2
        error = (pair + sample / 40 + both / 40) ** 0.5
        assert row["line"] == pytest.approx(1.959964 * error, rel=1e-4)
        assert row["least"][40] == pytest.approx(2.801585 * error, rel=1e-4)
        assert row["least"][60] < row["least"][40] < row["least"][20]
        assert row["unit"] == "%" and row["cells"] == 57 and row["cells_here"] == ["VGG-11 FC1"]
    (row,) = effects.detectable(frame([confirmed("lambda", gap, np.zeros(gap.shape))]))
    assert row["least"][40] == pytest.approx(
        2.801585 * (effects.components(gap) @ [1, 1 / 40, 1 / 40]) ** 0.5, rel=1e-4
    )
    printed = paper_rows(frame([]), "V")
    gaps = (printed["value"] - printed["baseline"])[printed["metric"] == "lambda"].dropna()
    small = confirmed("lambda", gap / 100, np.zeros(gap.shape))
    (small,) = effects.detectable(frame([small]))
    ahead, behind = ((sign * gaps > small["line"]).sum() for sign in (1, -1))
    assert (row["middle"], row["beyond"]) == (gaps.abs().median(), (0, 0))
    assert small["beyond"] == (ahead, behind) and ahead > behind
    down = confirmed("n_bg", 1 + gap / 100, np.ones(gap.shape))  # fewer are predicted
    (down,) = effects.detectable(frame([down]))
    assert down["beyond"][0] > 0
    relative = printed[printed["metric"] == "n_bg"].dropna(subset="baseline")
    relative = 100 * (relative["value"] / relative["baseline"] - 1)
    assert down["beyond"][0] == (relative < -down["line"]).sum()


def test_samples_without_a_value_take_no_part_and_cells_that_are_not_measurable_neither():
    gap = drawn(2.0, 3.0, 5.0, samples=50)
    hole = gap.copy()
    hole[3, 7] = np.nan
    whole = np.delete(gap, 7, axis=1)
    found = [next(effects.detectable(frame([confirmed("rho", one, np.zeros(one.shape))])))["least"]
             for one in (hole, whole)]  # fmt: skip
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    unfit = confirmed("rho", gap, np.zeros(gap.shape), unfit=True)
    assert not list(effects.detectable(frame([unfit])))
    assert not list(effects.detectable(frame([confirmed("rho", gap, gap, values=[])])))


def test_a_variance_below_0_counts_as_none():
    """Images that differ less than by chance, since each is the other's opposite."""
    gap = drawn(0.0, 0.0, 5.0, pairs=21, samples=50)
    gap = gap - gap.mean(0)  # no variance between samples is left, and its estimate is below 0
    parts = effects.components(gap)
    assert parts[1] < 0 < parts[2]
    (row,) = effects.detectable(frame([confirmed("rho", gap, np.zeros(gap.shape))]))
    error = (max(parts[0], 0.0) + parts[2] / 40) ** 0.5
    assert row["line"] == pytest.approx(1.959964 * error, rel=1e-3)


def test_the_variance_over_samples_rests_on_squares_around_each_networks_own_mean():
    rng = np.random.default_rng(1)
    student, baseline = rng.normal(5, 2, (21, 100)), rng.normal(9, 1, (21, 100))
    given = confirmed("d_mean", student, baseline)
    var = comparison("d_var", 2.0, 4.0, "down", distance="epoch")
    given = given.model_copy(update={"comparisons": [var]})
    (row,) = effects.detectable(frame([given]))
    squares = [(one - one.mean(1, keepdims=True)) ** 2 for one in (student, baseline)]
    parts = effects.components((squares[0] - squares[1]) / squares[1].mean() * 100).clip(min=0)
    assert row["least"][20] == pytest.approx(
        2.801585 * (parts @ [1, 1 / 20, 1 / 20]) ** 0.5, rel=1e-3
    )


def test_the_page_has_every_table_of_the_paper_and_the_numbers_behind_it():
    gap = drawn(2.0, 3.0, 5.0)
    made = effects.effects_fragments(frame([confirmed("n_fg", 20 + gap, np.full(gap.shape, 20.0))]))
    drawing = made["effects_wide_light.svg"]
    assert all(f"Table {name}" in drawing for name in TABLES) and "VGG-11, FC1" in drawing
    ((metric, line, ahead, behind, *sizes, cell),) = rows_of(made["effects"])
    assert (metric, cell) == ("$N^{fg}_{point}$", "VGG-11 FC1")
    told = f"in {metric} {ahead.partition(' ')[0]} and {behind.partition(' ')[0]}."
    assert told in made["effects"] and ahead.endswith("of 57")
    assert all(number.endswith("%") for number in (line, *sizes))


def test_the_chart_has_what_is_measurable_with_other_pairs_and_nothing_else():
    """The dotted lines alone ask for the protocol's pairs."""
    cloud = {"sample": "cloud", "dataset": "embedded clouds of furniture"}
    names = {"PointConv": {}, "DGCNN": {"unfit": True}, "PointNet": {"n_seeds": 1}}
    found = [comparison("n_fg", 1.0, 2.0, network=name, **cloud, **changes)
             for name, changes in names.items()]  # fmt: skip
    base = [measure("B", "n_fg", 10.0, network=name, **cloud) for name in names]
    given = dict(preset="study", notebook="pointcloud_h1", measures=base)
    gap = drawn(2.0, 3.0, 5.0)
    own = confirmed("n_fg", 20 + gap, np.full(gap.shape, 20.0))
    made = effects.effects_fragments(frame([own, run(**given, comparisons=found)]))
    drawing = made["effects_wide_light.svg"]
    assert [name in drawing for name in names] == [True, False, False]
