"""Networks that compute the same function with other magnitudes inside (Section 3.2, coherency).

Divide weights and bias of layer L by c and multiply the weights of layer L+1 by c; the bias of L+1
stays. ReLU, pooling and flattening between the two pass a positive factor on, so the feature of L
is divided by c and everything after L+1 is as before.

`pairs` says which neighboring convolutions are revised:
    "disjoint"    (1, 2), (3, 4), ...: our default. Each is in one pair, so the weights of all are
                  revised (of an odd number, the last is not), and every other feature is divided
                  by c.
    "successive"  (1, 2), (2, 3), ...: the paper's words, "every pair of neighboring convolutional
                  layers", taken literally. Each inner layer is multiplied and divided by c, so its
                  weights stay and its bias is divided: all features but the last are divided by c.
Pairs commute: the feature of layer L is divided by c once for each pair that begins with L.

What then changes in the maps that explain the two networks is their magnitude m, the mean of
|value|, and their shape q = |value| / sum of |value|; no change is coherent.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError, require
from kpnb.metrics.stats import mean

FACTOR = 4.0  # the paper's, by recollection: the text that we have has lost it
PAIRS = {"disjoint": 2, "successive": 1}  # -> convolutions from one pair to the next
# Magnitudes of two layers that are nearer than this, in nats, count as equal.
TIE = 1e-4
# A map that differs less than this from a flat one is flat but for rounding.
FLAT = 1e-9
LayerMaps = dict[str, Tensor]  # layer -> (images, ...)

_HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d,
    nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip


def rescaled(
    net: nn.Module, factor: float = FACTOR, pairs: str = "disjoint", channel_seed: int | None = None
) -> nn.Module:
    """A copy of `net`, in eval mode, with the same function and other magnitudes inside.

    factor: c, above 0; with a power of 2 the two functions agree bit for bit, for then no rounding
        differs. channel_seed: None divides all channels of a feature by c; a seed divides each by c
        or by 1/c, at random, which leaves the function as it is too (ours, not in the paper).

    Raises KpnbError for a factor that is not positive, unknown pairs, a network that is no chain of
    nn.Sequential (a ResNet), and where something between two convolutions does not pass a positive
    factor on (batch norm).
    """
    if not (math.isfinite(factor) and factor > 0):
        raise KpnbError(f"factor={factor} changes the function; use a finite number above 0.")
    random = None if channel_seed is None else torch.Generator().manual_seed(channel_seed)
    with torch.inference_mode(False), torch.no_grad():
        copied = copy.deepcopy(net).eval()
        for names in named_pairs(copied, pairs):
            first, second = map(copied.get_submodule, names)
            factors = first.weight.new_full((len(first.weight),), factor)
            if random is not None:
                turned = torch.randint(2, factors.shape, generator=random).to(factors.device)
                factors = torch.where(turned > 0, 1 / factors, factors)
            first.weight /= factors[:, None, None, None]
            if first.bias is not None:
                first.bias /= factors
            second.weight *= factors[:, None, None]  # its inputs
    return copied


def convolutions(net: nn.Module) -> list[str]:
    """Dotted names of a chain's convolutions, from the input upwards."""
    return [name for name, module in _leaves(net) if isinstance(module, nn.Conv2d)]


def feature_name(net: nn.Module, layer: str) -> str:
    """The module that gives the layer's feature: the ReLU right after it, or else itself."""
    leaves = _leaves(net)
    at = [name for name, _ in leaves].index(layer)
    return next((name for name, m in leaves[at + 1 : at + 2] if isinstance(m, nn.ReLU)), layer)


def named_pairs(net: nn.Module, pairs: str = "disjoint") -> list[tuple[str, str]]:
    """The pairs as dotted names; KpnbError where a factor cannot pass from one to the other."""
    require(pairs in PAIRS, f"pairs={pairs!r} is unknown; use one of {', '.join(PAIRS)}.")
    leaves, names = _leaves(net), convolutions(net)
    found = list(zip(names[:-1], names[1:], strict=True))[:: PAIRS[pairs]]
    require(found, "there is no pair to revise; the network needs two convolutions in a row.")
    order = [name for name, _ in leaves]
    for first, second in found:
        if leaves[order.index(second)][1].groups > 1:
            raise KpnbError(f"{second} is a grouped convolution; rescale a network without.")
        for name, module in leaves[order.index(first) + 1 : order.index(second)]:
            if not isinstance(module, _HOMOGENEOUS):
                raise KpnbError(
                    f"{name} ({type(module).__name__}) lies between {first} and {second} and does "
                    "not pass a positive factor on; rescale neighbors with ReLU or pooling between."
                )
    return found


def _leaves(net: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Modules of a chain in forward order, with their dotted names."""
    if next(net.children(), None) is None:
        return [(prefix, net)]
    if not isinstance(net, nn.Sequential):
        raise KpnbError(f"{type(net).__name__} is no chain of modules; rescale AlexNet or a VGG.")
    parts = [
        (f"{prefix}.{name}" if prefix else name, child) for name, child in net.named_children()
    ]
    return [leaf for name, child in parts for leaf in _leaves(child, name)]


def magnitudes(maps: LayerMaps) -> np.ndarray:
    """(images, layers) mean of |value|; NaN where a map is zero or not defined."""
    found = torch.stack([part.double().abs().flatten(1).mean(1) for part in maps.values()], 1)
    return torch.where(found > 0, found, torch.nan).numpy()


def magnitude_changes(before: LayerMaps, after: LayerMaps) -> np.ndarray:
    """(images,) mean over layers of |log(m'/m)|, nats."""
    _check_layers(before, after)
    return mean(np.abs(np.log(magnitudes(after) / magnitudes(before))))


def shape_changes(before: LayerMaps, after: LayerMaps) -> np.ndarray:
    """(images,) mean over layers of sum |q' - q| over sum |q - 1/n|, q the map over its sum; NaN
    for maps that are zero or flat, which have no shape."""
    _check_layers(before, after)
    moved = []
    for b, a in ((_shape(before[layer]), _shape(after[layer])) for layer in before):
        contrast = (b - 1 / b.shape[1]).abs().sum(1)
        moved.append((a - b).abs().sum(1) / torch.where(contrast > FLAT, contrast, torch.nan))
    return mean(torch.stack(moved, 1).numpy())


_ONE_MAP = "one map has no spread over layers; pass a method with a map per layer."


def layer_spread(maps: LayerMaps) -> np.ndarray:
    """(images,) standard deviation over layers of log m, nats; KpnbError for a single layer."""
    require(len(maps) > 1, _ONE_MAP)
    logs = np.log(magnitudes(maps))
    return np.sqrt(mean((logs - mean(logs)[:, None]) ** 2))


def order_changes(before: LayerMaps, after: LayerMaps) -> np.ndarray:
    """(images,) share of pairs of layers whose order by magnitude is another afterwards; pairs
    with a magnitude that is not defined are left out."""
    _check_layers(before, after)
    require(len(before) > 1, _ONE_MAP)
    first, second = np.triu_indices(len(before), 1)
    signs = []
    for maps in (before, after):
        logs = np.log(magnitudes(maps))
        gaps = logs[:, first] - logs[:, second]
        signs.append(np.where(np.abs(gaps) < TIE, 0 * gaps, np.sign(gaps)))
    known = np.isfinite(signs[0] + signs[1])
    return mean(np.where(known, signs[0] * signs[1] < 0, np.nan).astype(float))


def _shape(maps: Tensor) -> Tensor:
    """(images, values) of |map| over its sum; NaN where the map is zero."""
    flat = maps.double().abs().flatten(1)
    total = flat.sum(1, keepdim=True)
    return flat / torch.where(total > 0, total, torch.nan)


def _check_layers(before: LayerMaps, after: LayerMaps) -> None:
    if list(before) != list(after) or not before:
        raise KpnbError(f"maps are of layers {list(before)} and {list(after)}; pass the same ones.")
