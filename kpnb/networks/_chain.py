"""The chain of modules that every image network of kpnb is."""

from collections import OrderedDict

from torch import Tensor, nn

from kpnb.errors import KpnbError


class ImageNetwork(nn.Sequential):
    """Modules run one after the other; input (n, 3, h, w) ImageNet-normalized, output (n, classes).

    layer_names: dotted names of the layers that the paper analyses, under "Conv", "FC1", "FC2",
    "FC3". min_size: the smallest h and w that the poolings leave something of.
    Raises KpnbError for an input of another shape.
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


def fully_connected(
    inputs: int, width: int, classes: int, dropout: float, device: str | None = None
) -> nn.Sequential:
    """FC1, FC2, FC3 (at 0, 3, 6) with ReLU and dropout between, as in torchvision's VGG."""
    return nn.Sequential(
        nn.Linear(inputs, width, device=device),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(width, width, device=device),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(width, classes, device=device),
    )


def added_convolutions(channels: int) -> nn.Sequential:
    """The two 3x3 convolutions with batch norm that the paper adds; the last norm is at 4."""
    return nn.Sequential(*(layer for _ in range(2) for layer in _convolution_bn(channels)))


def _convolution_bn(channels: int) -> tuple[nn.Module, ...]:
    """Convolution (with bias, as published), batch norm, ReLU; the number of channels stays."""
    return (
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def resnet_chain(
    trunk: dict[str, nn.Module], channels: int, width: int, classes: int, dropout: float
) -> ImageNetwork:
    """A ResNet's trunk with the paper's two convolutions and three FC layers on top.

    Conv is the second added convolution with its batch norm, before the ReLU (published code).
    """
    modules = {
        **trunk,
        "added": added_convolutions(channels),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": fully_connected(channels, width, classes, dropout),
    }
    return ImageNetwork(modules, fc_names("added.4", (0, 3, 6)))


def fc_names(conv: str, places: tuple[int, int, int]) -> dict[str, str]:
    """Names of Conv and of the three FC layers at `places` of the classifier."""
    return {"Conv": conv, **{f"FC{i + 1}": f"classifier.{at}" for i, at in enumerate(places)}}
