"""Reading the feature of a named layer without leaving a trace in the model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from types import TracebackType

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError


class _LayerReached(BaseException):
    """Stops the forward pass at the layer; not an Exception, so that no model can swallow it."""

    def __init__(self, feature: Tensor) -> None:
        self.feature = feature


def layer_name(net: nn.Module, name: str) -> str:
    """Dotted module name of a layer: "Conv", "FC1", "FC2", "FC3" or a dotted name as it is.

    Raises KpnbError, listing near names, if `net` has no such layer.
    """
    labels = getattr(net, "layer_names", None)
    labels = labels if isinstance(labels, dict) else {}  # of kpnb's own networks
    dotted = labels.get(name, name)
    modules = [known for known, _ in net.named_modules() if known]
    if dotted in modules:
        return dotted
    known = [*labels, *modules]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:8]
    raise KpnbError(f"No layer {name!r} in this network: use one of its names, such as {near}.")


def layer_module(net: nn.Module, name: str) -> nn.Module:
    """The module that `layer_name` names."""
    return net.get_submodule(layer_name(net, name))


def output_at(model: nn.Module, layer: str, forward: Callable[[], object]) -> Tensor:
    """Output of the layer in forward(), which ends there; gradients flow if they are enabled.

    A copy, so an in-place ReLU that follows cannot change it. The first tensor of a tuple. The hook
    is gone afterwards, also after an exception. Raises KpnbError for an unknown layer, one that
    takes no part in forward(), and one that returns no tensor.
    """

    def stop(module: nn.Module, args: object, output: object) -> None:
        output = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(output, Tensor):
            raise KpnbError(f"layer {layer!r} returns {type(output).__name__}, not a tensor.")
        raise _LayerReached(output.clone())

    handle = layer_module(model, layer).register_forward_hook(stop)
    try:
        forward()
    except _LayerReached as reached:
        return reached.feature
    finally:
        handle.remove()
    raise KpnbError(f"layer {layer!r} takes no part in the model's forward pass.")


class FeatureReader:
    """A context in which a model is read at one layer.

    Inside, the model is in eval mode and its parameters take no gradient; afterwards modes and
    flags are as before, also after an exception. A hook exists only during a call. The forward
    pass ends at the layer, and what is kept is a copy, so an in-place ReLU that follows cannot
    change it.

    layer: dotted name of model.named_modules().
    relu: apply ReLU to the feature (the public code does so at every layer).
    """

    def __init__(self, model: nn.Module, layer: str, relu: bool = False) -> None:
        self.model, self.layer, self.relu = model, layer, relu
        layer_module(model, layer)

    def __enter__(self) -> FeatureReader:
        self._modes = [(module, module.training) for module in self.model.modules()]
        self._flags = [(p, p.requires_grad) for p in self.model.parameters()]
        self.model.eval()
        for parameter, _ in self._flags:
            parameter.requires_grad_(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for module, mode in self._modes:
            module.training = mode
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)

    def __call__(self, forward: Callable[[], object]) -> Tensor:
        """Runs forward() up to the layer and returns its feature, flattened to (rows, d)."""
        feature = output_at(self.model, self.layer, forward).flatten(1)
        return feature.relu() if self.relu else feature

    def check_called_once(self, forward: Callable[[], object]) -> None:
        """Runs forward() whole; KpnbError when the layer is called more than once in it."""
        calls: list[int] = []
        module = layer_module(self.model, self.layer)
        handle = module.register_forward_hook(lambda *_: calls.append(1))
        try:
            with torch.no_grad():
                forward()
        finally:
            handle.remove()
        if len(calls) > 1:
            raise KpnbError(
                f"layer {self.layer!r} is called {len(calls)} times in one forward pass, so its "
                "feature is ambiguous; name a module that is called once."
            )
