"""Values of every pair and sample that a results file holds."""

import numpy as np


def held_values(found, metric, role):
    """(pairs, samples), of distances in plain Eq. 8; not a number where a sample has none."""
    rows = [
        one.by_seed
        for one in found.values
        if (one.metric, one.role) == (metric, role) and one.distance in (None, "epoch")
    ]
    return np.genfromtxt(rows[0], ndmin=2)


def by_pair(found, metric, roles="SB"):
    """Leads of the first role over the second, means over samples."""
    means = [np.nanmean(held_values(found, metric, role), 1) for role in roles]
    return means[0] - means[1]
