"""Reading the feature of a layer, of any model, without leaving a trace in the model."""

from __future__ import annotations

import copy
import difflib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kpnb.errors import KpnbError

#: How a tensor is taken from what a layer gives: a key or an attribute, a place, or a function.
Choice = str | int | Callable[[object], Tensor] | None
OUTPUT = None  # in place of a layer: what the model itself gives
# Where models of transformers keep their tensor, if nothing else is asked for.
_USUAL = ("logits", "last_hidden_state")
_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_OWN = frozenset(vars(nn.Module()))  # what torch itself keeps in a module


class _LayerReached(BaseException):
    """Stops the forward pass at the layer; not an Exception, so that no model can swallow it."""

    def __init__(self, output: object) -> None:
        self.output = output


def layer_name(net: nn.Module, name: str | nn.Module) -> str:
    """Dotted name of a layer: "Conv", "FC1", "FC2", "FC3", a dotted name as it is, or a module; or
    its end, where a single layer, or a single one at the least depth, ends so.

    Raises KpnbError, listing near names, if `net` has no such layer.
    """
    known = [(dotted, module) for dotted, module in net.named_modules() if dotted]
    modules = [dotted for dotted, _ in known]
    if isinstance(name, nn.Module):
        found = next((dotted for dotted, module in known if module is name), None)
        if found is None:
            raise KpnbError(f"the layer {type(name).__name__} given is no part of this network.")
        return found
    labels = getattr(net, "layer_names", None)
    labels = labels if isinstance(labels, dict) else {}  # of kpnb's own networks
    if not isinstance(name, str):
        raise KpnbError(f"layer={name!r} is no layer: give a name, a module or None (output).")
    dotted = labels.get(name, name)
    if dotted in modules:
        return dotted
    ends = [known for known in modules if known.endswith(f".{name}")]
    least = min((known.count(".") for known in ends), default=0)
    outer = [known for known in ends if known.count(".") == least]
    if len(outer) == 1:  # of a network inside another, whose names begin with that one's
        return outer[0]
    near = difflib.get_close_matches(name, [*labels, *modules], n=5, cutoff=0.4)
    children = [child for child, _ in net.named_children()]
    near = outer[:5] or near or list(dict.fromkeys([*labels, *children[:8], *modules[-4:]]))
    raise KpnbError(f"No layer {name!r} in this network: use one of its names, such as {near}.")


def layer_module(net: nn.Module, name: str | nn.Module) -> nn.Module:
    """The module that `layer_name` names."""
    return net.get_submodule(layer_name(net, name))


def chosen_tensor(output: object, layer: str | None, choice: Choice = None) -> Tensor:
    """The feature in what a layer gives: a copy, so that nothing in place can reach it later.

    choice: None takes a tensor, the first of a tuple, `.logits` or `.last_hidden_state`. Raises
    KpnbError where that is not a tensor.
    """
    if callable(choice):
        found = choice(output)
    elif choice is not None:
        found = _part(output, choice)
    else:
        usual = next((name for name in _USUAL if getattr(output, name, None) is not None), None)
        several = isinstance(output, (tuple, list)) and len(output) > 0
        found = getattr(output, usual) if usual else output[0] if several else output
    if not isinstance(found, Tensor):
        held = f" with {list(output)[:6]}" if isinstance(output, dict) else ""
        told = f"layer {layer!r}" if layer else "the model"
        told = f"{told} returns {type(found).__name__}{held}, not a tensor: let feature= name the"
        raise KpnbError(f"{told} key or the place of one, or give a function that takes it out.")
    return found.clone()


def _part(output: object, choice: str | int) -> object:
    try:
        return output[choice] if not hasattr(output, str(choice)) else getattr(output, choice)
    except (KeyError, IndexError, TypeError):
        told = f"feature={choice!r} is no part of the {type(output).__name__}"
        raise KpnbError(f"{told} that the layer gives.") from None


def output_at(
    model: nn.Module, layer: str | None, forward: Callable[[], object], choice: Choice = None
) -> Tensor:
    """The feature at a layer in forward(), which ends there; gradients flow if they are enabled.

    The hook is gone afterwards, also after an exception; other threads pass it by. Raises KpnbError
    for an unknown layer, one that takes no part in forward(), and what `chosen_tensor` refuses.
    """
    if layer is OUTPUT:
        return chosen_tensor(forward(), layer, choice)
    owner = threading.get_ident()

    def stop(module: nn.Module, args: object, output: object) -> None:
        if threading.get_ident() == owner:
            raise _LayerReached(output)

    handle = layer_module(model, layer).register_forward_hook(stop)
    try:
        forward()
    except _LayerReached as reached:
        return chosen_tensor(reached.output, layer, choice)
    finally:
        handle.remove()
    raise KpnbError(f"layer {layer!r} takes no part in the model's forward pass.")


class FeatureReader:
    """A context in which a model is read at one layer.

    Inside, the model is in eval mode, its parameters take no gradient and nothing of it runs
    compiled; one thread at a time is inside. Afterwards modes, flags, buffers and what modules keep
    in attributes of their own (a counter, the last activation) are as before, also after an
    exception. The forward pass ends at the layer, and what is kept is a copy, so an in-place ReLU
    that follows cannot change it.

    layer: a name or module as for `layer_name`, or None for the model's own output.
    relu: apply ReLU to the feature (the public code does so at every layer).
    choice: how the feature is taken from what the layer gives, see `chosen_tensor`.
    Raises KpnbError for an unknown layer, and for models that cannot be read: TorchScript at a
    layer, lazy modules that have not seen an input, weights made in inference mode.
    """

    def __init__(
        self, model: nn.Module, layer: object, relu: bool = False, choice: Choice = None
    ) -> None:
        self.model, self.relu, self.choice = model, relu, choice
        _check_readable(model, layer)
        self.layer = OUTPUT if layer is OUTPUT else layer_name(model, layer)

    @property
    def name(self) -> str:
        """What is read, in a sentence."""
        return "the model's output" if self.layer is OUTPUT else f"layer {self.layer!r}"

    def __enter__(self) -> FeatureReader:
        with ExitStack() as stack:
            stack.enter_context(_LOCKS.setdefault(self.model, threading.RLock()))
            stack.enter_context(_left_as_it_was(self.model))
            self.model.eval()
            for parameter in self.model.parameters():
                parameter.requires_grad_(False)
            self._attributes = _Attributes(self.model)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.__exit__(*error)

    def __call__(self, forward: Callable[[], object]) -> Tensor:
        """Runs forward() up to the layer and returns its feature, flattened to (rows, d)."""
        try:
            feature = output_at(self.model, self.layer, forward, self.choice)
        finally:
            self._attributes.put_back()
        return self._shaped(feature)

    def at(self, layer: str | nn.Module | None) -> FeatureReader:
        """The reader of another layer, in the context of this one."""
        other = copy.copy(self)
        _check_readable(self.model, layer)
        other.layer = OUTPUT if layer is OUTPUT else layer_name(self.model, layer)
        return other

    def taken(self, output: object) -> Tensor:
        """The feature (rows, d) in what the layer gives."""
        return self._shaped(chosen_tensor(output, self.layer, self.choice))

    def _shaped(self, feature: Tensor) -> Tensor:
        feature = feature.flatten(1) if feature.ndim > 1 else feature.reshape(-1, 1)
        return feature.relu() if self.relu else feature


def whole(
    readers: Sequence[FeatureReader], forward: Callable[[], object], to_end: bool = True
) -> list[Tensor]:
    """The features of several layers of one model, from one forward().

    readers: the first one's context is entered. to_end: else it ends where all have been reached.
    Raises KpnbError for a layer that is called more than once, or not at all.
    """
    owner, found = threading.get_ident(), [[] for _ in readers]

    def note(number: int, module: object, args: object, output: object) -> None:
        if threading.get_ident() == owner:
            found[number].append(readers[number].taken(output))
            if not to_end and all(found):
                raise _LayerReached(output)

    with ExitStack() as stack, suppress(_LayerReached):
        stack.callback(readers[0]._attributes.put_back)
        for number, reader in enumerate(readers):
            if reader.layer is not OUTPUT:
                module = layer_module(reader.model, reader.layer)
                stack.callback(module.register_forward_hook(partial(note, number)).remove)
        end = forward()
        for number, reader in enumerate(readers):
            if reader.layer is OUTPUT:
                note(number, reader, (), end)
    for number, reader in enumerate(readers):
        if len(found[number]) > 1:
            told = f"{reader.name} is called {len(found[number])} times in one forward pass, so its"
            raise KpnbError(f"{told} feature is ambiguous; name a module that is called once.")
        if not found[number]:
            raise KpnbError(f"{reader.name} takes no part in the model's forward pass.")
    return [features[0] for features in found]


def _check_readable(model: nn.Module, layer: object) -> None:
    if isinstance(model, torch.jit.ScriptModule) and layer is not OUTPUT:
        told = "layers of a TorchScript model cannot be read: pass layer=None for its output"
        raise KpnbError(f"{told}, or the Python model that it was made from.")
    tensors = [*model.parameters(), *model.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise KpnbError("the model has lazy layers without weights yet: run it once on an input.")
    if any(tensor.is_inference() for tensor in tensors):
        told = "the model's weights were made in torch.inference_mode()"
        raise KpnbError(f"{told}, where gradients are off for good: make or load it outside.")


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Modes, flags, compiled calls and buffers are put back at the end."""
    modules, parameters = list(model.modules()), list(model.parameters())
    modes, flags = [m.training for m in modules], [p.requires_grad for p in parameters]
    calls = [getattr(module, "_compiled_call_impl", None) for module in modules]
    buffers = [(b, b._version, b.detach().clone()) for b in model.buffers()]
    try:
        for module, call in zip(modules, calls, strict=True):
            if call is not None:
                module._compiled_call_impl = None
        yield
    finally:
        for module, mode, call in zip(modules, modes, calls, strict=True):
            if module.training != mode:
                module.training = mode
            if call is not None:
                module._compiled_call_impl = call
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, version, content in buffers:
                if buffer._version != version:
                    buffer.copy_(content)


class _Attributes:
    """What modules keep in attributes of their own, buffers by name among them: a pass that ends
    at the layer leaves undone what its model does after it, and may leave a graph behind."""

    def __init__(self, model: nn.Module) -> None:
        script = torch.jit.ScriptModule  # keeps nothing in Python
        places = [vars(m) for m in model.modules() if not isinstance(m, script)]
        self._kept = [(place, self._of(place)) for place in places]
        # Lists and the like are changed without a new object.
        self._content = [
            (value, copy.copy(value))
            for _, kept in self._kept
            for value in kept.values()
            if type(value) in (list, dict, set)
        ]

    @staticmethod
    def _of(place: dict) -> dict:
        return {name: value for name, value in place.items() if name not in _OWN} | {
            "_buffers": place["_buffers"]
        }

    def put_back(self) -> None:
        for place, kept in self._kept:
            for name in [n for n in place if n not in _OWN and n not in kept]:
                del place[name]
            for name, value in kept.items():
                if place.get(name) is not value:
                    place[name] = value
        for value, content in self._content:
            if not _same(value, content):
                value.clear()
                (value.extend if type(value) is list else value.update)(content)


def _same(value: list | dict | set, content: list | dict | set) -> bool:
    """Whether a container still holds the same objects."""
    if type(value) is set:
        return value == content
    if type(value) is dict:
        return value.keys() == content.keys() and all(value[k] is content[k] for k in value)
    return len(value) == len(content) and all(map(lambda a, b: a is b, value, content))
