"""Quick settings of the estimator for tiny networks, shared by the tests of its methods."""

from kpnb.entropy import EntropyEstimator
from kpnb.units import GridUnits

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
