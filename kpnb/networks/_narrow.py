"""The same families with a fraction of the channels, for small images and for CPUs."""

from torch import nn
from torchvision.models.resnet import Bottleneck

from kpnb.networks._chain import ImageNetwork, fc_names, fully_connected, resnet_chain

FC_WIDTH = 256
DROPOUT = 0.0  # ours: with 256 units and short training, dropout 0.5 leaves little to learn with

# VGG: a quarter of the channels and the first four stages, each ended by a 2x2 pooling.
_VGG_WIDTHS = (16, 32, 64, 128)
_VGG_STAGES = {"VGG-11": (1, 1, 2, 2), "VGG-16": (2, 2, 3, 3), "VGG-19": (2, 2, 4, 4)}
# ResNets: an eighth of the channels; a bottleneck ends in four times its planes.
_RESNET_PLANES = (8, 16, 32, 64)
_RESNET_BLOCKS = {
    "ResNet-50": (3, 4, 6, 3),
    "ResNet-101": (3, 4, 23, 3),
    "ResNet-152": (3, 8, 36, 3),
}
_GRID = 4  # the poolings leave 4x4 of a 64x64 image; other sizes are averaged to it


def build_narrow(name: str, classes: int, dropout: float = DROPOUT) -> ImageNetwork:
    """One of IMAGE_NETWORKS with few channels and FC layers of 256; layers named as at full size.

    Made for 64x64 images; any size from 16x16 on works.
    """
    if name in _RESNET_BLOCKS:
        trunk = _resnet_trunk(_RESNET_BLOCKS[name])
        channels = _RESNET_PLANES[-1] * Bottleneck.expansion
        return resnet_chain(trunk, channels, FC_WIDTH, classes, dropout)
    features = _alexnet_features() if name == "AlexNet" else _vgg_features(_VGG_STAGES[name])
    last = max(i for i, module in enumerate(features) if isinstance(module, nn.Conv2d))
    inputs = features[last].out_channels * _GRID * _GRID
    modules = {
        "features": features,
        "avgpool": nn.AdaptiveAvgPool2d(_GRID),
        "flatten": nn.Flatten(),
        "classifier": fully_connected(inputs, FC_WIDTH, classes, dropout),
    }
    return ImageNetwork(modules, fc_names(f"features.{last}", (0, 3, 6)), min_size=16)


def _vgg_features(stages: tuple[int, ...]) -> nn.Sequential:
    """Stages of 3x3 convolutions without batch norm."""
    layers: list[nn.Module] = []
    channels = 3
    for width, depth in zip(_VGG_WIDTHS, stages, strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _alexnet_features() -> nn.Sequential:
    """Five convolutions of a quarter of AlexNet's channels; the stem has stride 2, not 4."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(16, 48, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(48, 96, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(96, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


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
