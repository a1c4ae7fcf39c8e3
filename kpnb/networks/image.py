"""The paper's image networks from one builder, at full size or narrow, each naming its layers."""

import urllib.error

import torch
import torchvision

from kpnb.errors import KpnbError
from kpnb.networks import _full, _narrow
from kpnb.networks._chain import ImageNetwork
from kpnb.networks._init import initialize

IMAGE_NETWORKS = ("AlexNet", "VGG-11", "VGG-16", "VGG-19", "ResNet-50", "ResNet-101", "ResNet-152")
SCALES = ("full", "narrow")


def image_network(
    name: str,
    classes: int,
    scale: str = "full",
    seed: int = 0,
    pretrained: bool = False,
    dropout: float | None = None,
) -> ImageNetwork:
    """One of the paper's image networks (Section 4), input (n, 3, h, w), output (n, classes).

    name: one of IMAGE_NETWORKS. scale: "full" (torchvision's modules; at least 63x63 pixels for
    AlexNet, 32x32 for VGG) or "narrow" (a quarter of the channels, an eighth for ResNets, FC
    layers of 256; at least 16x16 for AlexNet and VGG). Any size above that works, because the last
    pooling is adaptive. ResNets have the paper's two added convolutions and three FC layers.
    seed: equal seeds give equal weights, as the paper wants for student and baseline.
    pretrained: torchvision's ImageNet weights (full scale, downloaded), with all FC layers and a
    ResNet's added convolutions from the seed, as in the published code.
    dropout: between the FC layers; None is 0.5 at full scale (published) and 0 for narrow (ours).

    The result's `layer_names` maps "Conv", "FC1", "FC2", "FC3" to dotted names, all before ReLU.
    Raises KpnbError for an unknown name or scale, bad classes or dropout, or a failed download.
    """
    _check(name, classes, scale, pretrained, dropout)
    build, usual = (
        (_full.build_full, _full.DROPOUT)
        if scale == "full"
        else (_narrow.build_narrow, _narrow.DROPOUT)
    )
    # Built without storage: nothing is drawn from the global generator, no weight set twice.
    with torch.device("meta"):
        net = build(name, classes, usual if dropout is None else dropout)
    net.to_empty(device="cpu")
    initialize(net, seed, linear="published" if scale == "full" else "kaiming")
    if pretrained:
        _load_pretrained(net, name)
    return net


def _check(name: str, classes: int, scale: str, pretrained: bool, dropout: float | None) -> None:
    """Raise KpnbError for a request that no network answers."""
    if name not in IMAGE_NETWORKS:
        raise KpnbError(f"No image network {name!r}: choose one of {', '.join(IMAGE_NETWORKS)}.")
    if scale not in SCALES:
        raise KpnbError(f"No scale {scale!r}: choose 'full' or 'narrow'.")
    if classes < 2:
        raise KpnbError(f"A classifier needs at least 2 classes, not {classes}: pass more.")
    if pretrained and scale != "full":
        raise KpnbError("Narrow networks have no pretrained weights: pass scale='full'.")
    if dropout is not None and not 0 <= dropout < 1:
        raise KpnbError(f"Dropout {dropout} is not a probability: pass a value from 0 to below 1.")


def _load_pretrained(net: ImageNetwork, name: str) -> None:
    """Replace the convolutional part by torchvision's first ImageNet weights (published)."""
    weights = torchvision.models.get_model_weights(_full.torchvision_name(name))["IMAGENET1K_V1"]
    try:
        state = torch.hub.load_state_dict_from_url(
            weights.url, progress=False, map_location="cpu", weights_only=True, check_hash=True
        )
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise KpnbError(
            f"The ImageNet weights of {name} could not be had ({error}): connect to the internet, "
            f"or put {weights.url} into {torch.hub.get_dir()}/checkpoints, or pass "
            "pretrained=False."
        ) from error
    own = net.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and not k.startswith("classifier.")}
    net.load_state_dict(fitting, strict=False)
