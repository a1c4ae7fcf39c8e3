"""Intervals and verdicts against what is known of normal samples and of ranks."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import spearman
from refusals import refused

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


def test_the_interval_has_the_width_of_the_analytic_standard_error():
    """Of a mean; of a normal sample's variance, which is variance times sqrt(2 / n)."""
    values = 3 + 2 * normals(400)
    found = bootstrap(values)
    assert found.value == pytest.approx(values.mean())
    assert width(found) == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.08)
    assert found.low < found.value < found.high and bootstrap(values) == found
    assert bootstrap(values, seed=1).low != found.low
    assert (found.n_samples, found.n_seeds) == (400, 1)
    values = normals(1000)
    found = bootstrap(values, variance)
    assert found.value == pytest.approx(np.var(values))
    assert width(found) == pytest.approx(2 * 1.96 * math.sqrt(2 / 1000), rel=0.2)
    constant = bootstrap(np.full((2, 5), 0.25))
    assert (constant.value, constant.low, constant.high) == (0.25, 0.25, 0.25)
    assert str(Estimate(1.0, 0.5, 1.5, 9, 1)) == "1 [0.5, 1.5]"


def test_the_interval_covers_the_truth_95_times_in_100():
    found = [bootstrap(normals(60, seed=k), resamples=200, seed=k) for k in range(200)]
    assert 0.88 <= np.mean([part.low <= 0 <= part.high for part in found]) <= 0.99


def test_samples_are_drawn_once_for_all_seeds_and_seeds_are_drawn_too():
    """Equal rows add nothing; of rows that differ by seed only, the interval is that of a mean of
    three seeds. A statistic is taken by seed and averaged."""
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


def test_a_sample_undefined_for_one_takes_part_for_neither():
    """Else the far-off value 100 of the student would look like a difference."""
    student = np.array([1.0, 2.0, 3.0, 4.0, 100.0, NAN])
    baseline = np.array([1.0, 2.0, 3.0, 4.0, NAN, 7.0])
    found = paired_difference(student, baseline)
    assert (found.value, found.low, found.high, found.n_samples) == (0, 0, 0, 4)


def test_undefined_samples_are_left_out():
    """Many resamples of few samples hold undefined ones only; those say nothing, and no warning."""
    values = normals(50)
    values[::5] = NAN
    found = bootstrap(values)
    assert found.value == pytest.approx(np.nanmean(values)) and found.n_samples == 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap(np.array([NAN, NAN, NAN, 2.0]))
        assert math.isnan(mean(np.array([NAN])))
    assert (found.value, found.low, found.high, found.n_samples) == (2, 2, 2, 1)


TABLES = [[], [[]], [NAN, NAN], [[1.0, 2.0], [NAN, NAN]], np.zeros((2, 2, 2)), np.full(400, NAN)]


@pytest.mark.parametrize(
    "call, told",
    [
        *((lambda v=values: bootstrap(v), "seeds, samples") for values in TABLES),
        (lambda: paired_difference(normals(3), normals(4)), "equal shapes"),
        (lambda: paired_difference([1.0, NAN], [NAN, 1.0]), "finite value in every row"),
        *((lambda p=p: interval_verdict(0.1, 0.2, p), "'up' or 'down'") for p in ("higher", None)),
        *((lambda a=a: share_interval(*a), "interval") for a in ((1.2, 9), (-0.1, 9), (0.5, 0))),
    ],
)  # fmt: skip
def test_what_has_no_interval_is_refused_in_one_sentence(call, told):
    with refused(told):
        call()


EITHER = [(-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0), (0.0, 0.0), (NAN, NAN), (None, None)]
VERDICTS = {pair: ("inconclusive", "inconclusive") for pair in EITHER}
VERDICTS |= {(0.1, 0.2): ("reproduced", "contradicted"), (-2, -1): ("contradicted", "reproduced")}


@pytest.mark.parametrize("low, high", VERDICTS)
def test_verdicts(low, high):
    for side, expected in zip(("up", "down"), VERDICTS[low, high], strict=True):
        assert interval_verdict(low, high, side) == expected
        assert low is None or verdict(Estimate(0.0, low, high, 9, 1), side) == expected


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_spearman_equals_two_independent_ways_with_ties(pairs):
    a, b = np.array(pairs, dtype=float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert math.isnan(correlation(a, b))
        return
    ranks = pd.DataFrame({"a": a, "b": b}).rank()
    assert correlation(a, b) == pytest.approx(ranks["a"].corr(ranks["b"]))
    assert correlation(a, b) == pytest.approx(spearman(a, b))
    assert correlation(a, b, by_rank=False) == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_wilson_interval_against_published_values():
    assert share_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert share_interval(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert share_interval(1.0, 10) == pytest.approx((0.7225, 1), abs=1e-4)
