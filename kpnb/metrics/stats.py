"""Intervals and verdicts: what a number is worth.

Values are kept as (seeds, samples), one row per training seed. Resampling draws seeds and samples
with replacement, the same samples for every seed, because all seeds see the same images. With one
seed only the samples vary, and the interval says nothing about training noise: n_seeds is carried
along so that a reader can tell.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kpnb.errors import KpnbError

#: Standard deviations of a normal distribution to the ends of its middle 95%.
Z95 = 1.959964
RESAMPLES = 2000

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap 95% interval and what it rests on."""

    value: float
    low: float
    high: float
    n_samples: int
    n_seeds: int

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over samples (last axis), ignoring undefined (NaN) samples; NaN where all are."""
    return _quietly(np.nanmean, values)


def variance(values: np.ndarray) -> np.ndarray:
    """Population variance over samples (last axis), as D_var of Eq. 8; NaN where all are NaN."""
    return _quietly(np.nanvar, values)


def _quietly(statistic: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """A resample of few samples may hold undefined ones only: NaN, without numpy's warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return statistic(values, axis=-1)


def bootstrap(
    values: np.ndarray, statistic: Statistic = mean, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """statistic over samples, averaged over seeds, with its 95% percentile interval.

    values: (seeds, samples) or (samples,).
    """
    return _estimate([_table(values)], lambda tables: statistic(tables[0]), resamples, seed)


def paired_difference(
    student: np.ndarray,
    baseline: np.ndarray,
    statistic: Statistic = mean,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """statistic(student) - statistic(baseline), both resampled with the same seeds and samples. A
    sample that is undefined (NaN) for one of the two takes part for neither."""
    pair = [_table(student), _table(baseline)]
    if pair[0].shape != pair[1].shape:
        raise KpnbError(f"a paired difference needs equal shapes, not {[p.shape for p in pair]}.")
    gone = np.isnan(pair[0] + pair[1])
    pair = [_table(np.where(gone, np.nan, values)) for values in pair]
    return _estimate(pair, lambda t: statistic(t[0]) - statistic(t[1]), resamples, seed)


def verdict(difference: Estimate, prediction: str) -> str:
    """`interval_verdict` of an estimate."""
    return interval_verdict(difference.low, difference.high, prediction)


def interval_verdict(low: float | None, high: float | None, prediction: str) -> str:
    """What the 95% interval of student minus baseline says of a predicted side.

    'reproduced' if it excludes 0 on the predicted side, 'contradicted' if on the other, else, and
    where there is no interval (None or NaN), 'inconclusive'. prediction: 'up' if the student is
    expected above the baseline, 'down' if below; anything else raises KpnbError.
    """
    if prediction not in ("up", "down"):
        raise KpnbError(f"prediction={prediction!r} is unknown; use 'up' or 'down'.")
    if low is None or high is None or not (low > 0 or high < 0):
        return "inconclusive"
    return "reproduced" if (low > 0) == (prediction == "up") else "contradicted"


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n independent samples. Raises KpnbError for a share
    outside [0, 1] or no sample."""
    if n < 1 or not 0 <= share <= 1:
        raise KpnbError(f"A share of {share} of {n} samples has no interval: pass 0 to 1, n >= 1.")
    middle = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * (share * (1 - share) / n + Z95**2 / (4 * n**2)) ** 0.5 / (1 + Z95**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation of two vectors; NaN when one of them is constant."""
    from scipy.stats import rankdata  # here: half a second, and few need it

    pair = [rankdata(np.asarray(values, float)) for values in (first, second)]  # ties: mean rank
    constant = any(np.ptp(values) == 0 for values in pair)
    return float("nan") if constant else float(np.corrcoef(*pair)[0, 1])


def _table(values: np.ndarray) -> np.ndarray:
    table = np.atleast_2d(np.asarray(values, dtype=float))
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).any(1).all():
        raise KpnbError(
            "statistics need a table (seeds, samples) with a finite value in every row, not one of "
            f"shape {table.shape} with {int(np.isfinite(table).sum())} finite values."
        )
    return table


def _estimate(
    tables: list[np.ndarray], statistic: Callable[..., np.ndarray], resamples: int, seed: int
) -> Estimate:
    seeds, samples = tables[0].shape
    rng = np.random.default_rng(seed)
    rows = rng.integers(seeds, size=(resamples, seeds, 1))
    columns = rng.integers(samples, size=(resamples, 1, samples))
    # (resamples, seeds, samples) each; the same draws for every table keep pairs together.
    draws = statistic([table[rows, columns] for table in tables]).mean(1)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    used = int(np.isfinite(sum(tables)).any(0).sum())
    return Estimate(float(statistic(tables).mean()), float(low), float(high), used, seeds)
