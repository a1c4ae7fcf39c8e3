"""Intervals and verdicts against what is known of normal samples and of ranks."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import spearman
from refusals import refuses

from kpnb.metrics.stats import (
    Estimate,
    bootstrap,
    correlation,
    interval_verdict,
    mean,
    paired_difference,
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


@pytest.mark.parametrize("shape", [(30,), (3, 30)])
def test_a_difference_is_that_of_the_pairs(shape):
    """Of means it is the mean of differences; swapping the two mirrors it."""
    student, baseline = normals(*shape), normals(*shape, seed=1)
    pair, single = paired_difference(student, baseline), bootstrap(student - baseline)
    for name in ("value", "low", "high", "n_samples", "n_seeds"):
        assert getattr(pair, name) == pytest.approx(getattr(single, name))
    back = paired_difference(baseline, student)
    assert (pair.low, pair.high) == pytest.approx((-back.high, -back.low))


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
    found = paired_difference([1.0, 2.0, 3.0, 4.0, 100.0, NAN], [1.0, 2.0, 3.0, 4.0, NAN, 7.0])
    assert (found.value, found.low, found.high, found.n_samples) == (0, 0, 0, 4)


TABLES = [], [NAN, NAN], [[1.0, 2.0], [NAN, NAN]], np.zeros((2, 2, 2))


@pytest.mark.parametrize(
    "call, told, given",
    [
        *((bootstrap, "seeds, samples", [values]) for values in TABLES),
        (paired_difference, "equal shapes", [normals(3), normals(4)]),
        (paired_difference, "finite value in every row", [[1.0, NAN], [NAN, 1.0]]),
        (interval_verdict, "'up' or 'down'", [0.1, 0.2, "higher"]),
        *((share_interval, "interval", given) for given in ((1.2, 9), (-0.1, 9), (0.5, 0))),
    ],
)
def test_what_has_no_interval_is_refused_in_one_sentence(call, told, given):
    refuses(call, told, *given)


EITHER = [(-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0), (0.0, 0.0), (NAN, NAN), (None, None)]
VERDICTS = {pair: ("inconclusive", "inconclusive") for pair in EITHER}
VERDICTS |= {(0.1, 0.2): ("reproduced", "contradicted"), (-2, -1): ("contradicted", "reproduced")}


@pytest.mark.parametrize("low, high", VERDICTS)
def test_verdicts(low, high):
    for side, expected in zip(("up", "down"), VERDICTS[low, high], strict=True):
        assert interval_verdict(low, high, side) == expected
        assert low is None or verdict(Estimate(0.0, low, high, 9, 1), side) == expected


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
