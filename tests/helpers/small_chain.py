"""Networks that are chains of modules, and images for them."""

import torch
from torch import nn

from kpnb.networks.image import image_network


def network(name="VGG-11"):
    """With biases, which a new network has at zero."""
    net, random = image_network(name, 5, "narrow", 0).eval(), torch.Generator().manual_seed(0)
    for module in net.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data = torch.randn(module.bias.shape, generator=random) / 10
    return net


def images(count=3, side=32):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def chain():
    """Two convolutions with biases, pooling between, an FC layer above: small enough to reason."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5),
    ).eval()  # fmt: skip
