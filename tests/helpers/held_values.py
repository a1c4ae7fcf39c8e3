"""Values of every pair and sample that a results file holds, and its verdicts."""

import numpy as np

from kpnb.metrics.results import read_results


def held_values(found, metric, role, layer=None):
    """(pairs, samples), of distances in plain Eq. 8; not a number where a sample has none. layer:
    of the several that a run has."""
    rows = [
        one
        for one in found.values
        if (one.metric, one.role) == (metric, role)
        and one.distance in (None, "epoch")
        and layer in (None, one.layer)
    ]
    assert len({one.layer for one in rows}) == 1
    return np.genfromtxt(rows[0].by_seed, ndmin=2)


def by_pair(found, metric, roles="SB", layer=None):
    """Leads of the first role over the second, means over samples."""
    means = [np.nanmean(held_values(found, metric, role, layer), 1) for role in roles]
    return means[0] - means[1]


def cell(run):
    """The results of a sweep's run of the study."""
    return read_results("image_cell", "study", run)


def verdicts(run, metric, distance=None, selection="all"):
    """Of a metric in one unit of the way, if it has one: by b, lowest first."""
    asked = metric, distance, selection
    found = {one.threshold: one.verdict for one in run.comparisons
             if (one.metric, one.distance, one.selection) == asked}  # fmt: skip
    return [found[b] for b in sorted(found)]
