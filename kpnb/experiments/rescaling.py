"""Networks that compute the same function with other magnitudes inside (Section 3.2, coherency).

Divide weights and bias of layer L by c and multiply the weights of layer L+1 by c; the bias of L+1
stays. ReLU, pooling and flattening between the two pass a positive factor on, so the feature of L
is divided by c and everything after L+1 is as before.

`pairs` says which neighboring layers are revised:
    "disjoint"    (1, 2), (3, 4), ...: our default. Each convolution is in one pair, so the weights
                  of all are revised (of an odd number, the last is not), and every other feature
                  is divided by c.
    "successive"  (1, 2), (2, 3), ...: the paper's words, "every pair of neighboring convolutional
                  layers", taken literally. Each inner layer is multiplied and divided by c, so its
                  weights stay and its bias is divided: all features but the last are divided by c.
    a list        of (name, name), layers of the chain with weights that follow each other.
Pairs commute: the feature of layer L is divided by c once for each pair that begins with L.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_name

FACTOR = 4.0  # the paper's, by recollection: the text that we have has lost it
PAIRS = ("disjoint", "successive")
Pairs = str | Sequence[tuple[str, str]]

_WEIGHTED = (nn.Conv2d, nn.Linear)
_HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d,
    nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity,
)  # fmt: skip


def rescaled(
    net: nn.Module,
    factor: float = FACTOR,
    pairs: Pairs = "disjoint",
    channel_seed: int | None = None,
) -> nn.Module:
    """A copy of `net`, in eval mode, with the same function and other magnitudes inside.

    factor: c, above 0; with a power of 2 the two functions agree bit for bit, for then no rounding
        differs. channel_seed: None divides all channels of a feature by c; a seed divides each by c
        or by 1/c, at random, which leaves the function as it is too (ours, not in the paper).

    Raises KpnbError for a factor that is not positive, a network that is no chain of nn.Sequential
    (a ResNet), and for pairs that are not neighbors or have something between them that a positive
    factor does not pass through (batch norm).
    """
    _check_factor(factor)
    random = None if channel_seed is None else torch.Generator().manual_seed(channel_seed)
    with torch.inference_mode(False), torch.no_grad():
        copied = copy.deepcopy(net).eval()
        for first, second in named_pairs(copied, pairs):
            _revise(copied.get_submodule(first), copied.get_submodule(second), factor, random)
    return copied


def convolutions(net: nn.Module) -> list[str]:
    """Dotted names of a chain's convolutions, from the input upwards."""
    return [name for name, module in _leaves(net) if isinstance(module, nn.Conv2d)]


def feature_name(net: nn.Module, layer: str) -> str:
    """The module that gives the layer's feature: the ReLU right after it, or else itself."""
    leaves = _leaves(net)
    at = [name for name, _ in leaves].index(layer_name(net, layer))
    after = leaves[at + 1 : at + 2]
    return after[0][0] if after and isinstance(after[0][1], nn.ReLU) else leaves[at][0]


def named_pairs(net: nn.Module, pairs: Pairs = "disjoint") -> list[tuple[str, str]]:
    """The pairs as dotted names; KpnbError where a factor cannot pass from one to the other."""
    if isinstance(pairs, str):
        if pairs not in PAIRS:
            raise KpnbError(f"pairs={pairs!r} is unknown; use one of {', '.join(PAIRS)} or a list.")
        names = convolutions(net)
        step = 2 if pairs == "disjoint" else 1
        found = list(zip(names[:-1:step], names[1::step], strict=True))
    else:
        found = [(layer_name(net, first), layer_name(net, second)) for first, second in pairs]
    if not found:
        raise KpnbError("there is no pair to revise; the network needs two convolutions in a row.")
    for pair in found:
        _check_pair(_leaves(net), *pair)
    return found


def _leaves(net: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Modules of a chain in forward order, with their dotted names."""
    if next(net.children(), None) is None:
        return [(prefix, net)]
    if not isinstance(net, nn.Sequential):
        raise KpnbError(
            f"{type(net).__name__} is no chain of modules, so a factor cannot be followed through "
            "it; rescale an AlexNet or a VGG."
        )
    parts = [
        (f"{prefix}.{name}" if prefix else name, child) for name, child in net.named_children()
    ]
    return [leaf for name, child in parts for leaf in _leaves(child, name)]


def _check_factor(factor: float) -> None:
    if not (math.isfinite(factor) and factor > 0):
        raise KpnbError(f"factor={factor} changes the function; use a finite number above 0.")


def _check_pair(leaves: list[tuple[str, nn.Module]], first: str, second: str) -> None:
    names = [name for name, _ in leaves]
    if first not in names or second not in names or names.index(first) >= names.index(second):
        raise KpnbError(f"{first} does not come before {second}; name two layers of the chain.")
    between = leaves[names.index(first) + 1 : names.index(second)]
    ends = [leaves[names.index(name)][1] for name in (first, second)]
    if (
        not all(isinstance(module, _WEIGHTED) for module in ends)
        or getattr(ends[1], "groups", 1) > 1
    ):
        raise KpnbError(f"{first} and {second} must be convolutions (not grouped) or linear.")
    for name, module in between:
        if not isinstance(module, _HOMOGENEOUS):
            raise KpnbError(
                f"{name} ({type(module).__name__}) lies between {first} and {second} and does not "
                "pass a positive factor on; rescale neighbors with ReLU and pooling between."
            )


def _revise(
    first: nn.Module, second: nn.Module, factor: float, random: torch.Generator | None
) -> None:
    channels = len(first.weight)
    factors = first.weight.new_full((channels,), factor)
    if random is not None:
        turned = torch.randint(2, (channels,), generator=random).to(first.weight.device)
        factors = torch.where(turned > 0, 1 / factors, factors)
    first.weight /= _along(factors, 0, first.weight)
    if first.bias is not None:
        first.bias /= factors
    # A flattened feature has a channel's places next to each other.
    inputs = factors.repeat_interleave(second.weight.shape[1] // channels)
    second.weight *= _along(inputs, 1, second.weight)


def _along(values: Tensor, dim: int, like: Tensor) -> Tensor:
    """values as a tensor of like's number of dimensions, along one of them."""
    shape = [1] * like.dim()
    shape[dim] = -1
    return values.view(shape)
