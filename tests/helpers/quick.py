"""Quick settings of the estimator for tiny networks, shared by the tests of its methods."""

import torch
from reference import column_norms, images, linear_net, linear_optimum, linear_path
from torch import nn

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.perturbation import Perturbation, sample_keys
from kpnb.estimator.rates import BLOCK_DIRECTIONS
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


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def perturbed(net, x, layer, relu, chunk=4096, units=UNITS):
    """All samples of x under noise, as a method of estimation gets them."""
    with FeatureReader(net, layer, relu) as reader:
        keys = sample_keys(x, 0)
        return Perturbation(reader, units.problem(net, x), units, torch.arange(len(x)), keys, chunk)


D = BLOCK_DIRECTIONS  # features of `linear_net` so that the directions of a block are a basis
SETTINGS = {
    "path": {"probes": 8, "standard_error": None},
    "optimum": {"probes": 8},
    "published": {"draws": 96, "lr": LR / 4, "iterations": 240, "extra_iterations": 0},
    "descent": {"draws": 96, "descent_iterations": 400},
    "reference": {"reference_draws": 4800},
}
LIMIT = {"path": 1e-6, "optimum": 1e-6, "published": 0.03, "descent": 0.03, "reference": 0.012}


def error_on_linear_net(method, weight=7.0, target=-2.8, d=D, **changes):
    """Mean |difference| to the closed form, nats, worst sample; infinite if not converged."""
    net, x = linear_net(d), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    path = method in ("path", "published", "reference")
    known = linear_path(J, weight, target) if path else linear_optimum(J, weight)
    chosen = {"units": UNITS, "relu": False, "target_entropy": target, "entropy_weight": weight}
    found = EntropyEstimator("1", method=method, **chosen | SETTINGS[method] | changes)
    maps = found.explain(net, x)
    error = (maps.entropy - torch.tensor(known)).abs().mean(1).max()
    return float(error) if maps.reached.all() else float("inf")
