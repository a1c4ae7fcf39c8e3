"""What every network shares: initial weights from a seed, what lies above a layer, and the weight
whose movement is measured for it."""

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from kpnb.errors import KpnbError, require
from kpnb.estimator.features import layer_name

SCALES = ("full", "narrow")
_Network = TypeVar("_Network", bound=nn.Module)
# How the weight of a kind of module is drawn, from the generator given.
Rules = Mapping[type[nn.Module], Callable[[nn.Module, torch.Generator], object]]


def built(build: Callable[[], _Network], seed: int, rules: Rules) -> _Network:
    """What build() makes, with weights from `seed` by `rules` (see `initialize`). It is built
    without storage: nothing is drawn from the global generator, no weight set twice."""
    with torch.device("meta"):
        net = build()
    net.to_empty(device="cpu")
    initialize(net, seed, rules)
    return net


def initialize(net: nn.Module, seed: int, rules: Rules) -> None:
    """Set every weight of `net` from `seed`, whatever it was: equal seeds, equal weights.

    Normalizations start at 1 and 0 and draw nothing, biases at 0; the other modules' weights are
    set by the rule of their kind, in the order of registration. The global generator is left alone.
    Raises KpnbError for a module with weights of another kind.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, (_BatchNorm, nn.LayerNorm)):
            module.reset_parameters()  # the running statistics, too
            continue
        rule = next((rules[kind] for kind in rules if isinstance(module, kind)), None)
        if rule is not None:
            rule(module, generator)
        elif next(module.parameters(recurse=False), None) is not None:
            known = ", ".join(kind.__name__ for kind in rules)
            raise KpnbError(f"No rule for {type(module).__name__}: use {known} and normalizations.")
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)


def kaiming_by_inputs(module: nn.Module, generator: torch.Generator) -> None:
    """Normal with variance 2 / inputs: the signal survives ReLU layers of any width."""
    nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)


def kaiming_by_outputs(module: nn.Module, generator: torch.Generator) -> None:
    """Normal with variance 2 / outputs (of a convolution: times its area)."""
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)


def normal_weights(std: float) -> Callable[[nn.Module, torch.Generator], object]:
    """The rule of normal weights with one standard deviation."""
    return lambda module, generator: nn.init.normal_(module.weight, 0.0, std, generator=generator)


def check_request(kind: str, name: str, known: Collection[str], scale: str, classes: int) -> None:
    """Raise KpnbError for a network that no builder of this kind makes."""
    require(name in known, f"No {kind} network {name!r}: choose one of {', '.join(known)}.")
    require(scale in SCALES, f"No scale {scale!r}: choose 'full' or 'narrow'.")
    require(classes >= 2, f"A classifier needs at least 2 classes, not {classes}: pass more.")


def modules_above(net: nn.Module, name: str) -> list[nn.Module]:
    """Leaf modules that come after layer `name`, in the order of registration. All networks of kpnb
    register their modules in forward order; so must a network of your own."""
    dotted = layer_name(net, name)
    named = list(net.named_modules())
    position = [known for known, _ in named].index(dotted)
    after = [m for known, m in named[position + 1 :] if not known.startswith(f"{dotted}.")]
    return [module for module in after if next(module.children(), None) is None]


def parameters_above(net: nn.Module, name: str) -> list[nn.Parameter]:
    """Parameters of `modules_above`."""
    return [p for module in modules_above(net, name) for p in module.parameters(recurse=False)]


def split_at(net: nn.Module, name: str) -> tuple[nn.Sequential, nn.Sequential] | None:
    """The network as two chains that share its modules: up to and with layer `name`, and above it.

    None if the layer does not lie in a chain of nn.Sequential from the root down, because only
    then is the forward pass known to be one module after the other.
    """
    below, above, parent = [], [], net
    for step in layer_name(net, name).split("."):
        if not isinstance(parent, nn.Sequential):
            return None
        names, children = zip(*parent.named_children(), strict=True)
        here = names.index(step)
        below, above = [*below, *children[:here]], [*children[here + 1 :], *above]
        parent = children[here]
    return nn.Sequential(*below, parent), nn.Sequential(*above)


def tracked_weight(net: nn.Module, name: str) -> nn.Parameter:
    """The weight (no bias) of the linear map or convolution whose movement Eq. 8 measures for layer
    `name`, as the public code takes the weight of the target layer.

    It is the layer's own; of a layer made of others (an encoder) the last one inside, which writes
    its output; for a batch norm the one before it, since the scale of the batch norm alone would
    not tell how far the layer has moved. Raises KpnbError where there is none.
    """
    dotted = layer_name(net, name)
    layer, found = net.get_submodule(dotted), None
    for known, module in net.named_modules():
        mine = known == dotted or known.startswith(f"{dotted}.")
        if isinstance(module, (nn.Linear, _ConvNd)) and (mine or isinstance(layer, _BatchNorm)):
            found = module
        if known == dotted and isinstance(layer, _BatchNorm):
            break
    if found is None:
        told = f"Layer {name!r} has no weight to track: name a convolution, a linear map"
        raise KpnbError(f"{told} or a batch norm that follows one.")
    return found.weight
