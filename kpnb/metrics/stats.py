"""Intervals and verdicts: what a number is worth.

Values are kept as (seeds, samples), one row per training seed. Over several seeds an interval is
for other seeds and samples: seeds are random, nested in teachers where they share them, samples
are random and crossed with both, because all seeds see the same ones (`crossed`). One seed says
nothing of training noise: there the point is given, without interval and verdict. Of one network
that is given, and not drawn, `bootstrap` has the interval over samples.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kpnb.errors import KpnbError, require

#: Standard deviations of a normal distribution to the ends of its middle 95%.
Z95 = 1.959964
LEVEL = 0.05
RESAMPLES = 2000
#: p-values are not told apart below.
LEAST_P = 1e-9
VERDICTS = ("supported", "opposed", "equivalent", "undecided", "one seed", "not measurable")

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval and two-sided p against 0 (NaN: none), and what it rests on."""

    value: float
    low: float
    high: float
    n_samples: int
    n_seeds: int
    p: float = math.nan

    def __str__(self) -> str:
        ends = "" if math.isnan(self.low) else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{ends}"


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


def crossed(
    values: np.ndarray, statistic: Statistic = mean, teachers: Sequence | None = None
) -> Estimate:
    """A statistic over samples, averaged over seeds, with the interval for other seeds and samples.

    values: (seeds, samples); samples undefined (NaN) for a seed take part for none. teachers: which
    teacher each seed has; None: its own. The squared half-width is t^2 S / n + t^2 I / n over all
    n values, each t with its own degrees of freedom: S the mean square of teachers, where it is
    above that of the seeds within them, else of all seeds; I the samples' variance component times
    the number of seeds. It decides falsely in at most 6% of simulated nulls (tests/check).
    """
    return _crossed([_table(values)], statistic, teachers)


def paired_difference(
    student: np.ndarray,
    baseline: np.ndarray,
    statistic: Statistic = mean,
    teachers: Sequence | None = None,
) -> Estimate:
    """statistic(student) - statistic(baseline), as `crossed`; a sample that is undefined (NaN) for
    one of the two takes part for neither."""
    pair = [_table(student), _table(baseline)]
    if pair[0].shape != pair[1].shape:
        raise KpnbError(f"a paired difference needs equal shapes, not {[p.shape for p in pair]}.")
    return _crossed(pair, statistic, teachers)


def false_decisions(values: np.ndarray, pairs: int = 3, draws: int = 500) -> Estimate:
    """How often `paired_difference` of a mean decides where nothing differs: between networks that
    were trained alike and drawn, without replacement, to be `pairs` students and as many baselines.

    values: (seeds, samples) of one role, at least 2 * pairs + 1 seeds. The interval is the
    jackknife's over seeds, since draws share them. Draws follow from a fixed seed.
    """
    table, rng = _table(values), np.random.default_rng(0)
    seeds = len(table)
    require(seeds > 2 * pairs, f"{seeds} seeds are too few to draw {pairs} pairs and leave one.")
    chosen = np.stack([rng.permutation(seeds)[: 2 * pairs] for _ in range(draws)])
    found = [paired_difference(table[one[:pairs]], table[one[pairs:]]) for one in chosen]
    wrong = np.array([one.p < LEVEL for one in found])
    without = np.array([wrong[(chosen != seed).all(1)].mean() for seed in range(seeds)])
    half = Z95 * math.sqrt((seeds - 1) / seeds * ((without - without.mean()) ** 2).sum())
    rate = float(wrong.mean())
    return Estimate(rate, max(0.0, rate - half), min(1.0, rate + half), table.shape[1], seeds)


def _crossed(tables: list[np.ndarray], statistic: Statistic, teachers: Sequence | None) -> Estimate:
    known = np.isfinite(sum(tables)).all(0)
    if not known.any():  # no sample has all: the means of what there is
        signed = [statistic(table).mean() for table in tables]
        samples = int(np.isfinite(sum(tables)).any(0).sum())
        return Estimate(
            float(signed[0] - sum(signed[1:])), *[math.nan] * 2, samples, len(tables[0])
        )
    tables = [table[:, known] for table in tables]
    value, *minus = [float(statistic(table).mean()) for table in tables]
    found, *less = [_pseudo_values(table, statistic) for table in tables]
    value, found = value - sum(minus), found - sum(less)
    seeds, samples = found.shape
    if seeds == 1:
        return Estimate(value, math.nan, math.nan, samples, seeds)
    parts = _variances(found, np.unique(teachers or range(seeds), return_inverse=True)[1])
    half = _half_width(LEVEL, parts)
    return Estimate(value, value - half, value + half, samples, seeds, _p_value(value, parts))


def _pseudo_values(table: np.ndarray, statistic: Statistic) -> np.ndarray:
    """(seeds, samples) whose mean over samples is the statistic, its own values for a mean; for
    others the jackknife's, which have its bias removed."""
    samples = table.shape[1]
    if statistic is mean or samples < 3:
        return table
    without = [statistic(np.delete(table, sample, 1)) for sample in range(samples)]
    return samples * statistic(table)[:, None] - (samples - 1) * np.stack(without, 1)


def _variances(values: np.ndarray, teachers: np.ndarray) -> list[tuple[float, int]]:
    """The variance of the mean that comes from seeds, and from samples, with degrees of freedom."""
    seeds, samples = values.shape
    by_seed, by_sample, whole = values.mean(1), values.mean(0), values.mean()
    found = [_of_seeds(by_seed, teachers)]
    if samples > 1:
        rest = values - by_seed[:, None] - by_sample + whole
        rest = (rest**2).sum() / ((seeds - 1) * (samples - 1))
        component = max(seeds * by_sample.var(ddof=1) - rest, 0.0)
        found.append((component / (seeds * samples), samples - 1))
    return found


def _of_seeds(by_seed: np.ndarray, teachers: np.ndarray) -> tuple[float, int]:
    """The variance of a mean over seeds that share teachers, and its degrees of freedom."""
    seeds, groups = len(by_seed), teachers.max() + 1
    plain = by_seed.var(ddof=1) / seeds, seeds - 1
    if not 1 < groups < seeds:
        return plain
    many = np.bincount(teachers)
    by_teacher = np.bincount(teachers, by_seed) / many
    between = (many * (by_teacher - by_seed.mean()) ** 2).sum() / (groups - 1)
    within = ((by_seed - by_teacher[teachers]) ** 2).sum() / (seeds - groups)
    return (between / seeds, groups - 1) if between > within else plain


def _half_width(level: float, parts: Sequence[tuple[float, int]]) -> float:
    from scipy.special import stdtrit  # here: a tenth of a second, and reading needs none

    return math.sqrt(sum(part * stdtrit(df, 1 - level / 2) ** 2 for part, df in parts))


def _p_value(value: float, parts: Sequence[tuple[float, int]]) -> float:
    """The level at which the interval would end at 0; LEAST_P for all below."""
    low, high = LEAST_P, 1.0
    if _half_width(low, parts) < abs(value):
        return low
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        wide = _half_width(middle, parts) >= abs(value)
        low, high = (middle, high) if wide else (low, middle)
    return high


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values of a family of tests; NaN where there is none."""
    known = sorted((p, name) for name, p in values.items() if not math.isnan(p))
    found, least = dict.fromkeys(values, math.nan), 0.0
    for place, (p, name) in enumerate(known):
        found[name] = least = min(1.0, max(least, (len(known) - place) * p))
    return found


@dataclass(frozen=True)
class Pooled:
    """The mean effect over cells with its interval, and how far cells differ.

    tau: standard deviation between cells. cells: their number.
    """

    value: float
    low: float
    high: float
    tau: float
    cells: int


def pooled(effects: Sequence[float], variances: Sequence[float]) -> Pooled:
    """Random effects over cells: DerSimonian and Laird's variance between them, Hartung and Knapp's
    interval (statsmodels), never narrower than by the cells' own variances, which the protocol does
    not ask for: cells that agree by luck would make it so. variances: of each effect, above 0.
    Raises KpnbError for fewer than three cells, whose spread says next to nothing."""
    require(len(effects) >= 3, f"{len(effects)} cells are too few to pool: give at least 3.")
    from scipy.special import stdtrit
    from statsmodels.stats.meta_analysis import combine_effects  # here: a second

    # Where its variance between cells is below 0, statsmodels goes on with it, and says so.
    with np.errstate(invalid="ignore"):
        found = combine_effects(np.asarray(effects), np.asarray(variances), method_re="dl")
    kind = "re" if found.tau2 > 0 else "fe"
    errors = (getattr(found, f"sd_eff_w_{kind}{ending}") for ending in ("", "_hksj"))
    half = float(stdtrit(len(effects) - 1, 1 - LEVEL / 2) * max(errors))
    value = float(getattr(found, f"mean_effect_{kind}"))
    return Pooled(value, value - half, value + half, max(found.tau2, 0.0) ** 0.5, len(effects))


def bootstrap(
    values: np.ndarray, statistic: Statistic = mean, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """statistic over samples of a given network, averaged over rows, with its 95% percentile
    interval. values: (samples,), or (rows, samples), of which rows are drawn, too."""
    table = _table(values)
    rows, samples = table.shape
    rng = np.random.default_rng(seed)
    chosen = rng.integers(rows, size=(resamples, rows, 1))
    draws = statistic(table[chosen, rng.integers(samples, size=(resamples, 1, samples))]).mean(1)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    used = int(np.isfinite(table).any(0).sum())
    return Estimate(float(statistic(table).mean()), float(low), float(high), used, rows)


def verdict(found: Estimate, prediction: str, margin: float = 0.0, p: float | None = None) -> str:
    """`judged` of an estimate; p: its adjusted one, where it is of a family."""
    if found.n_seeds == 1:  # whatever its interval is over
        return "one seed"
    p = found.p if p is None else p
    return judged(found.value, found.low, found.high, prediction, margin, p)


def judged(
    value: float, low: float | None, high: float | None, prediction: str, margin: float, p: float
) -> str:
    """What the difference between student and baseline says of a predicted side.

    "equivalent" if the interval lies inside the margin on both sides of 0; "supported" or "opposed"
    if it excludes 0 on the predicted or the other side and p, which may be adjusted for other
    tests, is below 0.05 (NaN: as the interval says); else, and where several seeds give no interval
    (None or NaN), "undecided". One seed is not asked, see `verdict`. prediction: "up" or "down";
    anything else raises KpnbError.
    """
    if prediction not in ("up", "down"):
        raise KpnbError(f"prediction={prediction!r} is unknown; use 'up' or 'down'.")
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "undecided"
    if -margin < low and high < margin:
        return "equivalent"
    if not (low > 0 or high < 0) or p >= LEVEL:
        return "undecided"
    return "supported" if (value > 0) == (prediction == "up") else "opposed"


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
