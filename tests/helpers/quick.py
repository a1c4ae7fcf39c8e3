"""Quick settings of the estimator for tiny networks, shared by the tests of its methods."""

import torch

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.perturbation import Perturbation, sample_keys
from kpnb.estimator.units import GridUnits

UNITS = GridUnits(4)
# The public code's step size for 256 cells: the pull of the entropy on a cell is 1 / cells.
LR = 1e-4 * 16 / 256
QUICK = {
    "units": UNITS,
    "probes": 8,
    "standard_error": None,
    "draws": 6,
    "iterations": 6,
    "extra_iterations": 3,
    "lr": LR,
    "descent_iterations": 50,
    "reference_draws": 60,
}


def explain(net, x, layer="7", **changes):
    return EntropyEstimator(layer, **QUICK | changes).explain(net, x)


def perturbed(net, x, layer, relu, chunk=4096, units=UNITS):
    """All samples of x under noise, as a method of estimation gets them."""
    with FeatureReader(net, layer, relu) as reader:
        keys = sample_keys(x, 0)
        return Perturbation(reader, units.problem(net, x), units, torch.arange(len(x)), keys, chunk)
