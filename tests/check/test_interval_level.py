"""False decisions of `crossed` where nothing differs, by simulation with the study's variances."""

import numpy as np
import pytest

from kpnb.metrics.stats import crossed

RUNS, MOST = 10_000, 0.06
#: Standard deviations of student minus baseline, narrow VGG-11 on embedded images: between seeds,
#: between images, of one image of one seed. The largest of Conv and FC1 by metric.
VARIANCES = {"n_fg": (2.75, 5.2, 7.8), "n_bg": (1.6, 6.2, 8.4), "lambda": (0.010, 0.145, 0.18)}
#: Seeds, images, teachers that seeds share.
DESIGNS = {3: (60, None), 5: (60, None), 8: (60, None), 21: (100, 3)}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seeds", DESIGNS)
@pytest.mark.parametrize("metric", VARIANCES)
def test_a_null_is_decided_in_at_most_six_of_a_hundred(metric, seeds, share):
    """share: of the seeds' variance, that of teachers, where seeds share them."""
    (samples, teachers), rng = DESIGNS[seeds], np.random.default_rng(seeds)
    if teachers is None and share:
        pytest.skip("a teacher of each seed's own is part of the seed")
    of_seed, of_sample, rest = VARIANCES[metric]
    shared = np.arange(seeds) % teachers if teachers else None
    decided = 0
    for _ in range(RUNS):
        values = of_seed * rng.normal(size=(seeds, 1)) + of_sample * rng.normal(size=samples)
        values = values + rest * rng.normal(size=(seeds, samples))
        if teachers:
            values = values + share**0.5 * of_seed * rng.normal(size=teachers)[shared][:, None]
        found = crossed(values, teachers=None if shared is None else shared.tolist())
        decided += not found.low <= 0 <= found.high
    assert decided / RUNS <= MOST
