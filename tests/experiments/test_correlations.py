"""Correlations of lambda with accuracy: closed forms, twins, and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_ratios import made, random_pair, rows
from reference import spearman

from kpnb.errors import KpnbError
from kpnb.experiments.correlations import (
    across_networks,
    given_epoch,
    of_steps,
    of_trained,
    over_checkpoints,
    with_epoch,
)
from kpnb.experiments.ratio_accuracy import RatioAccuracy

RELATIONS = (over_checkpoints, given_epoch, of_steps, with_epoch, across_networks)


# --- correlations


def test_rising_together_is_one_and_falling_minus_one():
    up, curved = rows([1, 2, 3, 4]), rows([0.1, 0.2, 0.9, 5.0])
    assert over_checkpoints(up, curved) == across_networks(up, curved) == pytest.approx(1)
    assert over_checkpoints(up, -curved) == pytest.approx(-1)


def test_seeds_are_averaged_and_those_undefined_left_out():
    ratio = rows([1, 2, 3], [1, 2, 3], [5, 5, 5])
    assert over_checkpoints(ratio, rows([1, 2, 3], [3, 1, 2], [1, 2, 3])) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_the_twins(seed):
    ratio, shares = random_pair(seed)
    twins = [spearman(*pair) for pair in zip(ratio, shares, strict=True)]
    assert over_checkpoints(ratio, shares) == pytest.approx(np.mean(twins), abs=1e-9)
    together = spearman(ratio.ravel(), shares.ravel())
    assert across_networks(ratio, shares) == pytest.approx(together, abs=1e-9)
    steps = [spearman(np.diff(a), np.diff(b)) for a, b in zip(ratio, shares, strict=True)]
    assert of_steps(ratio, shares) == pytest.approx(np.mean(steps), abs=1e-9)
    epochs = [spearman(part, np.arange(9)) for part in ratio]
    assert with_epoch(ratio, shares) == pytest.approx(np.mean(epochs), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_partial_correlation_is_that_of_the_residuals(seed):
    """Ranks with the line over the epoch taken out, then Pearson."""
    ratio, shares = random_pair(seed, seeds=1)
    epoch = np.arange(ratio.shape[1])

    def residual(values):
        ranks = values.argsort().argsort()
        return ranks - np.polyval(np.polyfit(epoch, ranks, 1), epoch)

    twin = np.corrcoef(residual(ratio[0]), residual(shares[0]))[0, 1]
    assert given_epoch(ratio, shares) == pytest.approx(twin, abs=1e-9)


def test_taking_the_trend_out_leaves_nothing_of_a_shared_trend():
    """Two curves that rise, each with its own wiggle: close to one before, not after."""
    ratio = rows([1, 0, 2, 4, 3, 5, 7, 6])
    shares = rows([0, 1, 3, 2, 4, 6, 5, 7])
    assert over_checkpoints(ratio, shares) > 0.8
    assert given_epoch(ratio, shares) < 0


@pytest.mark.parametrize("relation", [over_checkpoints, given_epoch, across_networks])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_only_ranks_count(relation, seed):
    ratio, shares = random_pair(seed)
    assert relation(np.exp(ratio), shares**3) == relation(ratio, shares)


@pytest.mark.parametrize("relation", RELATIONS)
def test_undefined_without_enough_points_or_variation(relation):
    two, four = rows([1, 2]), rows([1, 2, 3, 4])
    assert np.isnan(relation(two, two))
    assert np.isnan(relation(np.ones_like(four), four))
    if relation is not with_epoch:
        assert np.isnan(relation(rows([1, 3, 2, 4]), np.ones_like(four)))
    assert np.isnan(relation(rows([1, np.nan, 2, 4]), four))


def test_nothing_is_left_of_a_curve_that_only_rises():
    assert np.isnan(given_epoch(rows([1, 2, 3, 5, 8]), rows([1, 3, 2, 5, 4])))
    assert np.isnan(given_epoch(rows([1, 3, 2, 5, 4]), rows([9, 8, 5, 4, 1])))
    assert np.isnan(given_epoch(rows([1, 3, 2]), rows([2, 1, 3])))  # three points: a line fits


# --- intervals


def test_equal_samples_leave_no_spread():
    ratio = np.repeat(rows([0.1, 0.3, 0.2, 0.5])[..., None], 7, axis=-1)
    found = made(ratio).correlation("test", over_checkpoints, resamples=50)
    assert found.low == found.high == found.value == pytest.approx(0.8)
    assert (found.n_samples, found.n_seeds) == (7, 1)


def test_two_samples_give_three_possible_curves():
    """Both the first (1 of 4 draws), both the second (1 of 4), or both: the ends are theirs."""
    first, second = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.9, 0.2, 0.3, 0.1])
    networks = made(np.stack([first, second], axis=-1)[None])
    curves = (first, second, (first + second) / 2)
    twins = [spearman(curve, networks.accuracy["test"][0]) for curve in curves]
    found = networks.correlation("test", over_checkpoints, resamples=400)
    assert found.low == pytest.approx(min(twins)) and found.high == pytest.approx(max(twins))
    assert found.value == pytest.approx(twins[2])


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [(rows([1, 2, 3], [1, 2, 3]), rows([1, 2, 3], [3, 2, 1])),
     (rows([1, 2, 3], [3, 2, 1]), rows([1, 2, 3], [1, 2, 3]))],
)  # fmt: skip
def test_seeds_are_resampled_with_their_own_accuracies(ratio, shares):
    """One seed at 1, one at -1: a draw holds either or both."""
    terms = np.repeat(ratio[..., None], 4, axis=-1)
    found = made(terms, shares).correlation("test", over_checkpoints, 200)
    assert (found.value, found.low, found.high) == pytest.approx((0, -1, 1))


def test_the_interval_leaves_out_a_fortieth_at_each_end():
    """A curve that only 1 draw of 27 has, all three times the first sample, is within."""
    falling, rising = np.array([0.3, 0.2, 0.1]), np.array([1.0, 2.0, 3.0])
    networks = made(np.stack([falling, rising, rising], axis=-1)[None])
    found = networks.correlation("test", over_checkpoints)
    assert (found.low, found.high) == pytest.approx((-1, 1))
    seldom = made(np.stack([falling, *[rising] * 3], axis=-1)[None])  # 1 draw of 256
    assert seldom.correlation("test", over_checkpoints).low == pytest.approx(1)


def test_the_same_images_are_drawn_for_all_networks():
    """An offset a sample, equal for all networks, must not blur a correlation."""
    offsets = np.random.default_rng(0).normal(size=30) * 100
    ratio = rows([1, 2, 3, 4])[..., None] + offsets
    found = made(ratio).correlation("test", over_checkpoints, resamples=50)
    assert found.low == found.high == pytest.approx(1)


def test_same_seed_same_interval_and_other_seeds_others():
    networks = made(np.random.default_rng(1).random((2, 6, 9)))
    found = [networks.correlation("test", over_checkpoints, 60, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_undefined_samples_are_passed_over_and_undefined_networks_refused():
    ratio = np.random.default_rng(2).random((1, 5, 6))
    holed = ratio.copy()
    holed[0, 2, 3] = np.nan
    found = made(holed).correlation("test", over_checkpoints, 60)
    assert np.isfinite([found.value, found.low, found.high]).all()
    holed[0, 2] = np.nan
    with pytest.raises(KpnbError, match="no defined entropy map"):
        made(holed)


def test_nothing_defined_has_no_value():
    found = made(np.full((1, 4, 5), 0.5)).correlation("test", over_checkpoints, 20)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_unknown_splits_and_unfit_tables_are_refused():
    networks = made(np.random.default_rng(3).random((1, 4, 5)))
    with pytest.raises(KpnbError, match="train, test"):
        networks.correlation("validation", over_checkpoints)
    for ratio, shares, places in [
        (np.ones((1, 4, 5)), np.ones((1, 3)), (0, 1, 2, 3)),
        (np.ones((1, 4, 5)), np.ones((1, 4)), (0, 1, 2)),
        (np.ones((4, 5)), np.ones((4, 5)), tuple(range(5))),
    ]:
        with pytest.raises(KpnbError, match="do not fit"):
            RatioAccuracy("FC1", (0,), places, ratio, {"test": shares}, 100)


def test_the_untrained_checkpoint_can_be_left_out():
    """It alone turns a perfect order into its opposite here."""
    ratio = np.repeat(rows([9, 1, 2, 3])[..., None], 3, axis=-1)
    curve = made(ratio, places=(0, 5, 10, 20))
    assert curve.correlation("test", over_checkpoints, 5).value < 0
    assert curve.correlation("test", of_trained, 5).value == pytest.approx(1)
