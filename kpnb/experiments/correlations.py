"""Rank correlations of lambda with accuracy, over checkpoints and across networks.

Checkpoints are a time series, not independent draws. What an interval here covers is the choice of
the measured samples and, with several, of the training seeds, with the checkpoints held fixed; the
error of an accuracy from finitely many test samples is not in it. A resampled lambda is noisier
than the measured one, and noise pulls a correlation towards zero: an interval may lie nearer to
zero than its value.

Relations take lambda and accuracy, (seeds, places) each, and are NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kpnb.metrics.stats import Estimate, correlation, mean

RESAMPLES = 2000
# Two points always lie on a line; with a third variable taken out, so do three.
LEAST_POINTS, LEAST_PARTIAL = 3, 4
# Below this share of variance left, a rank is a function of the epoch up to rounding.
NOTHING_LEFT = 1e-9

Relation = Callable[[np.ndarray, np.ndarray], float]


def over_checkpoints(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation over checkpoints, averaged over the seeds where it is defined.

    Undefined (NaN): with fewer than three checkpoints, or one of the two constant.
    """
    return _over_seeds(_spearman, ratio, accuracy)


def given_epoch(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's partial correlation given the epoch, averaged over seeds: what the two have in
    common beyond each rising or falling with training.

    Undefined (NaN): with fewer than four checkpoints, or where one of the two rises or falls
    without exception, for then its ranks are the epoch's and nothing is left.
    """
    return _over_seeds(_partial, ratio, accuracy)


def with_epoch(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation of lambda with the epoch, averaged over seeds: whether it grows."""
    return over_checkpoints(ratio, np.broadcast_to(np.arange(ratio.shape[1]), ratio.shape))


def of_trained(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """`over_checkpoints` without the first, the untrained network."""
    return over_checkpoints(ratio[:, 1:], accuracy[:, 1:])


def of_steps(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation of the changes from one checkpoint to the next, averaged over seeds:
    whether accuracy rises most where lambda does."""
    return over_checkpoints(np.diff(ratio), np.diff(accuracy))


def across_networks(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation over all networks of all seeds together."""
    return _spearman(ratio.ravel(), accuracy.ravel())


def _over_seeds(of_one: Relation, ratio: np.ndarray, accuracy: np.ndarray) -> float:
    found = [of_one(*row) for row in zip(ratio, accuracy, strict=True)]
    return float(mean(np.array(found)))


def _spearman(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    # A resample of few samples may leave a lambda undefined.
    if len(ratio) < LEAST_POINTS or not np.isfinite(ratio).all():
        return float("nan")
    return correlation(ratio, accuracy)


def _partial(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    if len(ratio) < LEAST_PARTIAL:
        return float("nan")
    epoch = np.arange(len(ratio))
    both, first, second = (
        _spearman(*pair) for pair in ((ratio, accuracy), (ratio, epoch), (accuracy, epoch))
    )
    left = (1 - first**2) * (1 - second**2)
    return (both - first * second) / left**0.5 if left > NOTHING_LEFT else float("nan")


def correlation_interval(
    terms: np.ndarray,
    accuracy: np.ndarray,
    relation: Relation,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A correlation with its 95% percentile interval over samples and seeds.

    terms: (seeds, places, samples) of lambda, NaN where undefined; accuracy: (seeds, places).
    Seeds and measured samples are drawn with replacement, the same samples for all networks; the
    networks, their accuracies and the background's mean entropy stay. Draws in which the
    correlation is undefined are left out; value and ends are NaN where nothing is defined.
    """
    rng = np.random.default_rng(seed)
    seeds, _, samples = terms.shape
    draws = np.empty(resamples)
    for draw in range(resamples):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(samples, size=samples)
        draws[draw] = relation(mean(terms[rows][:, :, columns]), accuracy[rows])
    defined = draws[np.isfinite(draws)]
    ends = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    value = relation(mean(terms), accuracy)
    return Estimate(value, float(ends[0]), float(ends[1]), samples, seeds)
