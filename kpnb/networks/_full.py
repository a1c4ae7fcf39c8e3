"""The paper's image networks at full size: torchvision's own modules in one chain."""

import torchvision
from torch import nn

from kpnb.networks._chain import ImageNetwork, fc_names, resnet_chain

# torchvision's name, the last convolution before its ReLU, the smallest input in pixels
_PLAIN = {
    "AlexNet": ("alexnet", "features.10", 63),
    "VGG-11": ("vgg11", "features.18", 32),
    "VGG-16": ("vgg16", "features.28", 32),
    "VGG-19": ("vgg19", "features.34", 32),
}
_RESNETS = {"ResNet-50": "resnet50", "ResNet-101": "resnet101", "ResNet-152": "resnet152"}
RESNET_FC_WIDTH = 2048  # published code
DROPOUT = 0.5  # torchvision and published code


def torchvision_name(name: str) -> str:
    """torchvision's name of one of the paper's networks."""
    return _RESNETS[name] if name in _RESNETS else _PLAIN[name][0]


def build_full(name: str, classes: int, dropout: float = DROPOUT) -> ImageNetwork:
    """One of IMAGE_NETWORKS at full size, with torchvision's parameter names.

    AlexNet and VGG: Conv is the last convolution and FC1 to FC3 the classifier's three linear
    layers, all before their ReLU. ResNets: see `resnet_chain`.
    """
    if name in _RESNETS:
        return _resnet(_RESNETS[name], classes, dropout)
    builder, conv, min_size = _PLAIN[name]
    options = {} if builder == "alexnet" else {"init_weights": False}
    net = torchvision.models.get_model(
        builder, weights=None, num_classes=classes, dropout=dropout, **options
    )
    modules = {
        "features": net.features,
        "avgpool": net.avgpool,
        "flatten": nn.Flatten(),
        "classifier": net.classifier,
    }
    places = (1, 4, 6) if builder == "alexnet" else (0, 3, 6)
    return ImageNetwork(modules, fc_names(conv, places), min_size)


def _resnet(builder: str, classes: int, dropout: float) -> ImageNetwork:
    """torchvision's trunk up to layer4 with the paper's additions."""
    net = torchvision.models.get_model(builder, weights=None)
    trunk = {name: m for name, m in net.named_children() if name not in ("avgpool", "fc")}
    return resnet_chain(trunk, net.fc.in_features, RESNET_FC_WIDTH, classes, dropout)
