"""Networks by a name that a shell or a notebook can give, and the layers worth naming in them."""

import importlib
import pickle
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from kpnb.errors import KpnbError, did_you_mean, require
from kpnb.estimator.features import FeatureReader, whole
from kpnb.estimator.inputs import moved
from kpnb.networks.image import packaged_network

PACKAGED = "EfficientNet-lite0"  # with its weights in a package, so nothing is downloaded
DEFAULT, NONE = "DEFAULT", "none"
SEVERAL = 3  # resolutions by which blocks are told from the parts of one


def named_network(name: str, weights: str = DEFAULT) -> nn.Module:
    """A network in eval mode.

    name: "EfficientNet-lite0" (of the extra kpnb[pretrained]), a name of torchvision's,
        "timm:NAME", the folder or name of a Hugging Face model for image classification (with a
        "/"), or "module:function" of a function that takes nothing and gives a module.
    weights: "DEFAULT", the published ones (of a function: as it gives them); "none", untrained,
        drawn from seed 0; or a file of a state dict, safetensors or torch, loaded without code.
    Raises KpnbError for a name, a package, weights or a file that are not there or do not fit.
    """
    file = None if weights in (DEFAULT, NONE) else Path(weights).expanduser()
    if file is not None and not file.is_file():
        raise KpnbError(f"weights={weights!r} is no file: give {DEFAULT}, {NONE} or a state dict.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = _made(name, weights == DEFAULT)
    if not isinstance(net, nn.Module):
        raise KpnbError(f"{name} gives a {type(net).__name__}: let it return a torch.nn.Module.")
    if file is not None:
        _load(net, file)
    return net.eval()


def _made(name: str, trained: bool) -> object:
    """What the name gives, with published weights or without."""
    if name == PACKAGED:
        require(trained, f"{PACKAGED} comes with its weights: leave weights at {DEFAULT}.")
        return packaged_network()
    timm = _imported("timm", "create_model") if name.startswith("timm:") else None
    try:
        if name in torchvision.models.list_models():
            return torchvision.models.get_model(name, weights=DEFAULT if trained else None)
        if timm:
            return timm(name.removeprefix("timm:"), pretrained=trained)
        if "/" in name or Path(name).is_dir():
            automatic = _imported("transformers", "AutoModelForImageClassification")
            if trained:
                return automatic.from_pretrained(name)
            config = _imported("transformers", "AutoConfig").from_pretrained(name)
            return automatic.from_config(config)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        told = " ".join(str(error).split())[:200].rstrip(".")
        raise KpnbError(
            f"{name} could not be had ({told}): connect to the internet, or give a file of weights."
        ) from error
    if ":" in name:
        module, _, function = name.partition(":")
        return _imported(module, function)()
    hint = did_you_mean(name, [PACKAGED, *torchvision.models.list_models()])
    more = "timm:NAME, a Hugging Face name with a / and module:function work too."
    raise KpnbError(f"there is no network {name!r} in torchvision: {hint or more}")


def _imported(module: str, function: str) -> Callable:
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        told = f"the module {error.name} cannot be imported"
        raise KpnbError(f"{told}: install it, or start where it lies.") from error
    except AttributeError:
        raise KpnbError(f"the module {module} has no {function!r}: name one of it.") from None


def _load(net: nn.Module, file: Path) -> None:
    try:
        safe = file.suffix == ".safetensors"
        state = load_file(file) if safe else torch.load(file, "cpu", weights_only=True)
        state = next((state[k] for k in ("state_dict", "model") if k in state), state)
        net.load_state_dict({name.removeprefix("module."): t for name, t in state.items()})
    except (SafetensorError, pickle.UnpicklingError, AttributeError, TypeError, EOFError) as error:
        raise KpnbError(f"{file} is no state dict: save net.state_dict() alone.") from error
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200].rstrip(".")
        raise KpnbError(
            f"{file} does not fit the network ({told}): give module:function, which builds it."
        ) from error


def stage_layers(net: nn.Module, example: Tensor, count: int = 4) -> list[str]:
    """The last layer of each resolution of the feature maps, the last `count` of them.

    Those come into question that are called once, whose output has a place for parts of the image,
    (n, channels, height, width) or (n, tokens, channels), and is not the network's; but for the
    last of all at the least depth of names that has several resolutions, that of blocks. Where
    there are none, it is the last layer before the output. example: (n, 3, h, w), of which one is
    passed through. Raises KpnbError for a network without any layer.
    """
    called = _outputs(net, example[:1].repeat(2, 1, 1, 1))
    require(called, "the network has no layer that could be named: give one that is modules.")
    placed = {name: shape[2:] if len(shape) == 4 else shape[1:-1] for name, shape in called}
    placed = {name: places for name, places in placed.items() if max(places, default=1) > 1}
    if not placed:
        return [called[-1][0]]
    by_depth: dict[int, dict] = {}
    for name, places in placed.items():
        by_depth.setdefault(name.count("."), {})[places] = name  # the last one stays
    depths = sorted(depth for depth, ends in by_depth.items() if len(ends) >= SEVERAL)
    ends, order = by_depth[depths[0]] if depths else {}, list(placed)
    last = order[-1]
    before = sorted((n for p, n in ends.items() if p != placed[last]), key=order.index)
    return [*before, last][-count:]


def check_layers(net: nn.Module, layers: Sequence[str], x: Tensor) -> None:
    """That each layer can be read of inputs (n, 3, h, w), in a pass of one of them; KpnbError for
    one that is not there, and one that is called more than once or not at all."""
    with FeatureReader(net, None) as reader, torch.no_grad():
        whole([reader.at(layer) for layer in layers], lambda: net(moved(x[:1].clone(), net)))


def _outputs(net: nn.Module, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of the output of every module that is called once, in the order in which they
    are done, but for those that give what the network gives."""
    known = {module: name for name, module in net.named_modules() if name}
    done: list[tuple[str, Tensor]] = []

    def note(module: nn.Module, _args: object, output: object) -> None:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        shown = isinstance(first, Tensor) and first.is_floating_point() and len(first) == len(x)
        if shown and module in known:
            done.append((known[module], first))

    with FeatureReader(net, None), torch.no_grad(), register_module_forward_hook(note):
        end = net(moved(x, net))
    ends = end.values() if isinstance(end, dict) else [end]
    places = {tensor.data_ptr() for tensor in ends if isinstance(tensor, Tensor)}
    names = [name for name, _ in done]
    return [
        (name, tuple(tensor.shape))
        for name, tensor in done
        if names.count(name) == 1 and tensor.data_ptr() not in places
    ]
