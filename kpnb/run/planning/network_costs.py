"""What one sample costs a network: operations up to each layer, parameters, activations.

Counted, not timed, on torch's meta device, which holds shapes and no data, so nothing is allocated
whatever the network's size. Only ratios of these counts stand behind a plan, and the estimate for a
GPU that was never measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_name
from kpnb.networks import image as full
from kpnb.networks import image as narrow
from kpnb.networks.cloud import BUILDERS
from kpnb.networks.image import IMAGE_NETWORKS

IMAGE, CLOUD, TEXT = "image", "cloud", "text"
PRETRAINED = "EfficientNet-lite0"
WHOLE = ""  # the layer of a pass through the whole network
LAYERS = {IMAGE: ("Conv", "FC1", "FC2", "FC3"), CLOUD: ("FC1", "FC2", "FC3"), TEXT: ("Last",)}
# Width, feed-forward width, layers, and word pieces of an encoder that no file has to be read for.
ENCODERS = {"MiniLM-L6": (384, 1536, 6, 30522), "BERT-base": (768, 3072, 12, 30522)}
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Net:
    """A network on inputs of a size; what it costs does not depend on its weights.

    scale: "narrow" or "full", "" for texts. size: side in pixels, points of a cloud with its
    background, or word pieces of a text. outputs: dimensions of its output. depth: layers of a text
    encoder, and vocabulary: word pieces that it keeps (0: all); 0 elsewhere.
    """

    kind: str
    network: str
    scale: str
    size: int
    outputs: int
    depth: int = 0
    vocabulary: int = 0

    @property
    def family(self) -> str:
        """ "VGG-11" -> "VGG"."""
        return self.network.partition("-")[0]

    def __str__(self) -> str:
        unit = {IMAGE: "px", CLOUD: "points", TEXT: "pieces"}[self.kind]
        depth = f", {self.depth} layers" if self.depth else ""
        scale = f" ({self.scale})" if self.scale else ""
        return f"{self.network}{scale}{depth}, {self.size} {unit}"


@dataclass(frozen=True)
class Costs:
    """Counts of one sample.

    forward: layer -> floating-point operations (two a multiply-add) of the pass up to it; WHOLE is
    the whole network. parameters: how many. activations: numbers that modules put out.
    """

    forward: dict[str, float]
    parameters: int
    activations: int

    @property
    def state_bytes(self) -> int:
        """Of one checkpoint: its parameters in float32 (buffers are too few to matter)."""
        return FLOAT * self.parameters


def costs(net: Net) -> Costs:
    """Counts for one sample; raises KpnbError for a network that is not known.

    The number of outputs matters next to nothing for the operations but is counted.
    """
    if net.kind == TEXT:
        return _text_costs(net)
    return _counted(net)


@lru_cache(maxsize=256)
def _counted(net: Net) -> Costs:
    with torch.device("meta"):
        module, x = _on_meta(net)
    module.eval()
    counter, places, elements = FlopCounterMode(display=False), {}, [0]
    names = {layer_name(module, layer): layer for layer in LAYERS[net.kind]}
    handles = [
        part.register_forward_hook(_noting(counter, elements, places, names.get(name)))
        for name, part in module.named_modules()
        if name in names or next(part.children(), None) is None
    ]
    with counter, torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    forward = {**places, WHOLE: float(counter.get_total_flops())}
    return Costs(forward, sum(p.numel() for p in module.parameters()), elements[0])


def _noting(counter: FlopCounterMode, elements: list[int], places: dict, layer: str | None):
    def note(module: nn.Module, given: object, output: Tensor) -> None:
        if layer is not None:
            places[layer] = float(counter.get_total_flops())
        # A ReLU in place keeps no numbers of its own.
        if not getattr(module, "inplace", False):
            elements[0] += output.numel()

    return note


def _on_meta(net: Net) -> tuple[nn.Module, Tensor]:
    if net.kind == CLOUD:
        if net.network not in BUILDERS:
            raise KpnbError(f"No point network {net.network!r}: one of {', '.join(BUILDERS)}.")
        return BUILDERS[net.network](net.outputs, net.scale), torch.empty(1, net.size, 3)
    image = torch.empty(1, 3, net.size, net.size)
    if net.network == PRETRAINED:
        # Its builder reads the packaged weights; they are small.
        from kpnb.networks.image import pretrained_teacher

        with torch.device("cpu"):
            module = pretrained_teacher(net.outputs, _fc_width(net.scale))
        return module.to("meta"), image
    if net.network not in IMAGE_NETWORKS:
        known = ", ".join(IMAGE_NETWORKS)
        raise KpnbError(f"No image network {net.network!r}: one of {known}.")
    builder = full.build_full if net.scale == "full" else narrow.build_narrow
    return builder(net.network, net.outputs), image


def _fc_width(scale: str) -> int:
    return full.RESNET_FC_WIDTH if scale == "full" else narrow.FC_WIDTH


def _text_costs(net: Net) -> Costs:
    """Matrix products of a BERT encoder, by hand: its library takes seconds to import.

    A layer: four maps width x width, two width x feed-forward, and the two products of attention.
    """
    if net.network not in ENCODERS:
        # A folder of one's own: the plan then stands on the smaller encoder that we know.
        net = replace(net, network="MiniLM-L6")
    width, wide, _, vocabulary = ENCODERS[net.network]
    length, depth = net.size, net.depth
    maps = 4 * width * width + 2 * width * wide
    layer = 2 * length * maps + 4 * length * length * width
    forward = float(depth * layer)
    kept = net.vocabulary or vocabulary
    parameters = depth * (maps + 9 * width + wide) + (kept + 512) * width
    activations = depth * length * (8 * width + 2 * wide) + depth * 12 * length * length
    last = 2.0 * width * net.outputs * length
    return Costs({"Last": forward, WHOLE: forward + last}, parameters, activations)
