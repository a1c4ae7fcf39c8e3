"""Intervals and verdicts against what is known of normal samples and of ranks."""

import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import spearman
from refusals import refuses
from scipy.stats import t, ttest_1samp

from kpnb.metrics.stats import (
    VERDICTS,
    Estimate,
    bootstrap,
    correlation,
    crossed,
    false_decisions,
    holm,
    judged,
    mean,
    paired_difference,
    pooled,
    share_interval,
    variance,
    verdict,
)

NAN = math.nan


def normals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def width(estimate):
    return estimate.high - estimate.low


@pytest.mark.parametrize(
    "n, statistic, known, error, within",
    [(400, mean, np.mean, 1 / math.sqrt(400), 0.08), (1000, variance, np.var, 0.0447, 0.2)],
)
def test_the_interval_is_as_wide_as_the_analytic_error(n, statistic, known, error, within):
    """Of a normal sample's variance: the variance times sqrt(2 / n)."""
    values = normals(n)
    found = bootstrap(3 + values, statistic)
    assert found.value == pytest.approx(known(3 + values))
    assert width(found) == pytest.approx(2 * 1.96 * error, rel=within)
    assert found.low < found.value < found.high and bootstrap(3 + values, statistic) == found
    assert bootstrap(3 + values, statistic, seed=1).low != found.low
    assert (found.n_samples, found.n_seeds) == (n, 1)


def test_the_interval_covers_the_truth_95_times_in_100():
    found = [bootstrap(normals(60, seed=k), resamples=200, seed=k) for k in range(200)]
    assert 0.88 <= np.mean([part.low <= 0 <= part.high for part in found]) <= 0.99


def test_samples_are_drawn_once_for_all_seeds_and_seeds_are_drawn_too():
    """Equal rows add nothing; of rows that differ by seed alone, a mean of three seeds remains."""
    values = normals(50)
    one, three = bootstrap(values), bootstrap(np.tile(values, (3, 1)))
    assert three.value == pytest.approx(one.value) and three.n_seeds == 3
    assert width(three) == pytest.approx(width(one), rel=0.15)
    found = bootstrap(np.repeat([[0.0], [1.0], [2.0]], 10, axis=1))
    assert found.value == 1.0 and found.n_seeds == 3 and width(found) > 1
    draws = np.array([[a, b, c] for a in range(3) for b in range(3) for c in range(3)]).mean(1)
    known = np.percentile(draws, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(known), abs=0.34)
    assert bootstrap([[0.0, 2.0], [10.0, 14.0]], variance).value == pytest.approx((1 + 4) / 2)


def by_hand(values, teachers=None):
    """The half-width of `crossed`, sum after sum."""
    seeds, samples = values.shape
    rows, columns, whole = values.mean(1), values.mean(0), values.mean()
    own = range(seeds) if teachers is None else teachers
    groups = [[k for k in range(seeds) if own[k] == one] for one in dict.fromkeys(own)]
    spread, df = sum((row - whole) ** 2 for row in rows) / (seeds - 1) / seeds, seeds - 1
    if 1 < len(groups) < seeds:
        middles = [np.mean([rows[k] for k in group]) for group in groups]
        pairs = list(zip(groups, middles, strict=True))
        between = sum(len(g) * (m - whole) ** 2 for g, m in pairs) / (len(groups) - 1)
        within = sum((rows[k] - m) ** 2 for g, m in pairs for k in g) / (seeds - len(groups))
        spread, df = (between / seeds, len(groups) - 1) if between > within else (spread, df)
    square = 0.0
    for k in range(seeds):
        for i in range(samples):
            square += (values[k, i] - rows[k] - columns[i] + whole) ** 2
    rest = square / (seeds - 1) / (samples - 1)
    images = seeds * sum((c - whole) ** 2 for c in columns) / (samples - 1)
    part = max(images - rest, 0) / (seeds * samples)
    return math.sqrt(spread * t.ppf(0.975, df) ** 2 + part * t.ppf(0.975, samples - 1) ** 2)


TEACHERS = [None, (4, 4, 7, 7, 9, 9), (4, 4, 4, 7, 9, 9), (1,) * 6, tuple(range(6))]


@pytest.mark.parametrize("teachers", TEACHERS)
@pytest.mark.parametrize("effect", [0.0, 2.0])
def test_crossed_intervals_equal_sums_by_hand(teachers, effect):
    """effect: of teachers, so that both mean squares are the larger one once."""
    values = normals(6, 11) + effect * np.array([[0], [0], [1], [1], [2], [2]]) + normals(6, 1)
    found, half = crossed(values, teachers=teachers), by_hand(values, teachers)
    assert (found.n_seeds, found.n_samples) == (6, 11)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, -1.0, 50.0])
def test_p_is_the_level_at_which_the_interval_ends_at_zero(shift):
    found = crossed(normals(5, 30) + shift)
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high) and 0 < found.p <= 1
    samples = normals(1, 400)[0]  # all seeds equal: Student's test of the samples alone
    known = ttest_1samp(samples + 0.1, 0).pvalue
    assert crossed(np.tile(samples + 0.1, (4, 1))).p == pytest.approx(known, rel=1e-6)
    rows = normals(7, 1)  # one sample: of the seeds alone
    assert crossed(rows).p == pytest.approx(ttest_1samp(rows[:, 0], 0).pvalue, rel=1e-6)


def test_a_difference_is_that_of_the_pairs_and_one_seed_has_no_interval():
    """Of means it is the mean of differences; swapping the two mirrors it."""
    student, baseline = normals(3, 30), normals(3, 30, seed=1)
    pair, single = paired_difference(student, baseline), crossed(student - baseline)
    assert astuple(pair) == pytest.approx(astuple(single))
    back = paired_difference(baseline, student)
    assert (pair.low, pair.high) == pytest.approx((-back.high, -back.low))
    for one in (crossed(student[:1]), paired_difference(student[0], baseline[0])):
        assert math.isnan(one.low) and math.isnan(one.high) and math.isnan(one.p)
        assert (one.n_seeds, one.n_samples) == (1, 30) and "[" not in str(one)
        assert verdict(one, "up") == "one seed"


def test_a_variance_enters_by_its_jackknife():
    """Whose mean over samples is the unbiased variance; the value stays Eq. 8's."""
    values = normals(4, 25)
    found = crossed(values, variance)
    assert found.value == pytest.approx(np.var(values, axis=1).mean())
    middle = np.var(values, axis=1, ddof=1).mean()
    pseudo = np.stack([
        [25 * row.var() - 24 * np.delete(row, i).var() for i in range(25)] for row in values
    ])  # fmt: skip
    assert pseudo.mean() == pytest.approx(middle)
    assert (found.high - found.low) / 2 == pytest.approx(by_hand(pseudo))
    gap = paired_difference(2 * values, values, variance)
    assert gap.value == pytest.approx(3 * found.value)
    assert width(gap) == pytest.approx(3 * width(found))


def test_holm_by_hand_and_against_an_undefined_one():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": NAN, "e": 0.6})
    assert math.isnan(found.pop("d"))
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "e": 0.6})
    assert holm({}) == {} and holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_pooled_cells_are_those_of_the_textbook_formulas():
    effects, variances = np.array([0.1, 0.2, 0.05, 0.4]), np.array([0.002, 0.001, 0.003, 0.002])
    weights = 1 / variances
    fixed = (weights * effects).sum() / weights.sum()
    spread = (weights * (effects - fixed) ** 2).sum()
    tau2 = (spread - 3) / (weights.sum() - (weights**2).sum() / weights.sum())
    weights = 1 / (variances + tau2)
    value = (weights * effects).sum() / weights.sum()
    error = math.sqrt((weights * (effects - value) ** 2).sum() / 3 / weights.sum())
    found = pooled(effects, variances)
    assert (found.value, found.tau) == pytest.approx((value, math.sqrt(tau2)))
    assert (found.low, found.high) == pytest.approx(
        (value - t.ppf(0.975, 3) * error, value + t.ppf(0.975, 3) * error)
    )
    # Cells that agree: the fixed weights, and an interval by the cells' own variances.
    same = pooled([9, 9.1, 9.2], [0.1, 1, 4])
    weights = 1 / np.array([0.1, 1, 4])
    value, half = (weights * [9, 9.1, 9.2]).sum() / weights.sum(), weights.sum() ** -0.5
    assert same.tau == 0 and same.value == pytest.approx(value)
    assert same.high - same.value == pytest.approx(t.ppf(0.975, 2) * half)
    refuses(pooled, "too few to pool", [0.1, 0.2], [0.1, 0.1])


def test_undefined_samples_are_left_out():
    """Resamples of undefined ones say nothing; of a pair, one undefined drops both (else 100)."""
    values = np.where(np.arange(50) % 5 == 0, NAN, normals(50))
    found = bootstrap(values)
    assert found.value == pytest.approx(np.nanmean(values)) and found.n_samples == 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap(np.array([NAN, NAN, NAN, 2.0]))
        assert math.isnan(mean(np.array([NAN])))
    assert (found.value, found.low, found.high, found.n_samples) == (2, 2, 2, 1)
    pair = np.array([[1.0, 2.0, 3.0, 4.0, 100.0, NAN], [1.0, 2.0, 3.0, 4.0, NAN, 7.0]])
    found = paired_difference(pair, pair[::-1])
    assert (found.value, found.low, found.high, found.n_samples) == (0, 0, 0, 4)
    nowhere = crossed([[1.0, NAN], [NAN, 3.0]])  # no sample of both seeds
    assert (nowhere.value, nowhere.n_samples) == (2, 2) and math.isnan(nowhere.low)
    assert verdict(nowhere, "up") == "undecided"


def test_baselines_against_baselines_are_decided_at_the_level_and_apart_ones_more_often():
    """Networks that are alike, then two kinds of them, which three pairs tell apart when all
    students drawn happen to be of one kind and all baselines of the other: 2 * 60 * 60 of 151,200
    draws."""
    noise = normals(21, 1) + normals(40) + normals(21, 40, seed=1) / 9
    found = false_decisions(noise)
    assert found.low < 0.05 < found.high < 0.2 and (found.n_seeds, found.n_samples) == (21, 40)
    kinds = np.repeat([0.0, 100.0], 5)[:, None] + normals(10, 40) / 9
    assert false_decisions(kinds).value == pytest.approx(2 * 3600 / 151200, abs=0.03)
    assert false_decisions(np.zeros((7, 9))).value == 0


TABLES = [], [NAN, NAN], [[1.0, 2.0], [NAN, NAN]], np.zeros((2, 2, 2))


@pytest.mark.parametrize(
    "call, told, given",
    [
        *((bootstrap, "seeds, samples", [values]) for values in TABLES),
        (paired_difference, "equal shapes", [normals(3), normals(4)]),
        (paired_difference, "finite value in every row", [[NAN, NAN], [NAN, 1.0]]),
        (crossed, "seeds, samples", [np.zeros((2, 2, 2))]),
        (false_decisions, "too few to draw", [np.zeros((6, 9))]),
        *((share_interval, "interval", given) for given in ((1.2, 9), (-0.1, 9), (0.5, 0))),
    ],
)
def test_what_has_no_interval_is_refused_in_one_sentence(call, told, given):
    refuses(call, told, *given)


#: Ends of an interval -> verdict where the student is expected above, and below.
CASES = {pair: ("undecided", "undecided") for pair in [(-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0)]}
CASES |= {(0.1, 0.2): ("supported", "opposed"), (-2, -1): ("opposed", "supported")}
CASES |= {pair: ("undecided", "undecided") for pair in [(NAN, NAN), (None, None)]}
CASES |= {(-0.01, 0.02): ("equivalent", "equivalent"), (0.001, 0.029): ("equivalent", "equivalent")}


@pytest.mark.parametrize("low, high", CASES)
def test_verdicts(low, high):
    """At a margin of 0.03, which goes before the other two."""
    value = 0.0 if low is None else (low + high) / 2
    for side, expected in zip(("up", "down"), CASES[low, high], strict=True):
        assert judged(value, low, high, side, 0.03, 0.01 if low else NAN) == expected
        assert low is None or verdict(Estimate(value, low, high, 9, 2), side, 0.03) == expected
    assert judged(0.15, 0.1, 0.2, "up", 0.03, 0.06) == "undecided"  # after Holm's correction
    assert judged(0.15, 0.1, 0.2, "up", 0.21, NAN) == "equivalent"
    refuses(judged, "'up' or 'down'", 0.15, 0.1, 0.2, "higher", 0.0, NAN)
    assert verdict(Estimate(0.15, 0.1, 0.2, 9, 1), "up") == "one seed"
    assert set(VERDICTS) >= {word for pair in CASES.values() for word in pair}


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_correlations_equal_their_twins_with_ties(pairs):
    a, b = np.array(pairs, dtype=float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert math.isnan(correlation(a, b))
        return
    assert correlation(a, b) == pytest.approx(spearman(a, b))


def test_wilson_interval_against_published_values():
    assert share_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert share_interval(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
