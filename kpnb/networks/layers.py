"""Find a layer of a network by name, what lies above it, and the weight that is tracked for it."""

from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_name


def modules_above(net: nn.Module, name: str) -> list[nn.Module]:
    """Leaf modules that come after layer `name`, in the order of registration.

    All networks of kpnb register their modules in forward order; so must a network of your own.
    """
    dotted = layer_name(net, name)
    named = list(net.named_modules())
    position = [known for known, _ in named].index(dotted)
    inside = dotted + "."
    return [
        module
        for known, module in named[position + 1 :]
        if not known.startswith(inside) and next(module.children(), None) is None
    ]


def parameters_above(net: nn.Module, name: str) -> list[nn.Parameter]:
    """Parameters of `modules_above`."""
    return [p for module in modules_above(net, name) for p in module.parameters(recurse=False)]


def split_at(net: nn.Module, name: str) -> tuple[nn.Sequential, nn.Sequential] | None:
    """The network as two chains that share its modules: up to and with layer `name`, and above it.

    None if the layer does not lie in a chain of nn.Sequential from the root down, because only
    then is the forward pass known to be one module after the other.
    """
    path = layer_name(net, name).split(".")
    below: list[nn.Module] = []
    above: list[nn.Module] = []
    parent = net
    for step in path:
        if not _is_chain(parent):
            return None
        names = [child for child, _ in parent.named_children()]
        children = list(parent.children())
        here = names.index(step)
        below += children[:here]
        above = children[here + 1 :] + above
        parent = children[here]
    return nn.Sequential(*below, parent), nn.Sequential(*above)


def tracked_weight(net: nn.Module, name: str) -> nn.Parameter:
    """The weight tensor (no bias) whose movement Eq. 8 measures for layer `name`.

    For a batch norm (the ResNets' Conv layer) it is the weight of the convolution before it:
    the scale of the batch norm alone would not tell how far the layer has moved.
    Raises KpnbError if the layer has no weight of at least two dimensions.
    """
    dotted = layer_name(net, name)
    module = net.get_submodule(dotted)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        module = _convolution_before(net, dotted)
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() < 2:
        raise KpnbError(f"Layer {name!r} has no weight to track: name a convolution or a linear.")
    return weight


def _convolution_before(net: nn.Module, dotted: str) -> nn.Module | None:
    """The last convolution registered before the module `dotted`."""
    found = None
    for known, module in net.named_modules():
        if known == dotted:
            return found
        if isinstance(module, nn.modules.conv._ConvNd):
            found = module
    return None


def _is_chain(module: nn.Module) -> bool:
    """Whether the module's forward pass is that of nn.Sequential (perhaps with input checks)."""
    return isinstance(module, nn.Sequential)
