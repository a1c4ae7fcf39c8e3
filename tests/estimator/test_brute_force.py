"""The independent check: Eq. 3 descended by brute force, with forward passes only, on nine small
architectures with random weights, and on max-pooling where it is hardest.

Of kpnb only the estimator and its grid are used. L(sigma) = E||f(x + sigma eps) - f(x)||^2 /
sigma_f^2 - weight * mean_i H_i is followed downhill from sigma = 0.01 to a mean entropy of -2.8
nats. Its first term is derived in one sigma_i after the other by central differences, with the same
noise on both sides.
"""

import math

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import MBConv, MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.resnet import BasicBlock
from torchvision.models.vision_transformer import VisionTransformer

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.units import GridUnits

CELLS, WEIGHT, FIRST, TARGET = 2, 7.0, 0.01, -2.8
STEPS, DRAWS, SEEDS, STEP = 6, 160, 4, 0.05
#: nats; of the closed form: its standard error of 0.003 (quality exact) and its own error.
OWN = 0.006


def norm(channels):
    return nn.BatchNorm2d(channels)


def resnet():
    shorter = nn.Sequential(nn.Conv2d(6, 8, 1, 2), norm(8))
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), norm(6), nn.ReLU(), BasicBlock(6, 6), BasicBlock(6, 8, 2, shorter)
    )


def mobilenet():
    def block(*sizes):
        return InvertedResidualConfig(*sizes, width_mult=1.0)

    blocks = [block(8, 3, 16, 8, True, "RE", 2, 1), block(8, 5, 24, 8, True, "HS", 1, 1)]
    return MobileNetV3(blocks, last_channel=16, num_classes=6).features


def efficientnet():
    def block(*sizes):
        return MBConv(MBConvConfig(*sizes, num_layers=1), 0.0, norm)

    first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), norm(8), nn.SiLU())
    return nn.Sequential(first, block(2, 3, 1, 8, 8), block(3, 5, 2, 8, 8))


def convnext():
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(blocks, stochastic_depth_prob=0.0, layer_scale=0.5, num_classes=6).features


def densenet():
    return DenseNet(4, (2, 2), num_init_features=8, bn_size=2, num_classes=6).features


def pooled():
    """Max-pooling, which noise raises where its inputs are alike: on an image without texture."""
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class Recurrent(nn.Module):
    """The rows of an image as steps in time."""

    def __init__(self, kind):
        super().__init__()
        self.cells = kind(3 * 16, 12, batch_first=True)

    def forward(self, x):
        return self.cells(x.permute(0, 2, 1, 3).flatten(2))[0]


class Attention(nn.Module):
    """Patches of 4 x 4 pixels look at each other."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.attend = nn.MultiheadAttention(12, 2, batch_first=True)
        self.scale = 4.0  # a softmax that is not flat

    def forward(self, x):
        words = self.patches(x).flatten(2).mT
        return self.attend(self.scale * words, self.scale * words, words)[0]


class Tokens(VisionTransformer):
    """A vision transformer up to its tokens; its head is zero as torchvision makes it."""

    def __init__(self):
        sizes = {"image_size": 16, "patch_size": 4, "num_layers": 2, "num_heads": 2}
        super().__init__(**sizes, hidden_dim=12, mlp_dim=24)

    def forward(self, x):
        patches = self._process_input(x)
        return self.encoder(torch.cat([self.class_token.expand(len(x), -1, -1), patches], 1))


NETWORKS = {
    "pooled": pooled,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "efficientnet": efficientnet,
    "convnext": convnext,
    "densenet": densenet,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "vit": Tokens,
    "attention": Attention,
}


class Uneven(nn.Module):
    """A network that sees the four quarters of an image more or less loudly."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        loud = torch.tensor([[1.6, 1.1], [0.7, 0.3]])
        self.register_buffer("gain", loud.repeat_interleave(8, 0).repeat_interleave(8, 1))

    def forward(self, x):
        return self.net(self.gain * x)


def network(name):
    """With random weights, batch norms that know their inputs, in eval mode."""
    torch.manual_seed(1)
    net = Uneven(NETWORKS[name]())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for _ in range(3):
            net.train()(image(seed=7, count=32))
    return net.eval()


def image(seed, count=1, texture=0.2):
    """(count, 3, 16, 16): coarse patterns with a little noise."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4, generator=draw).repeat_interleave(4, 2)
    return coarse.repeat_interleave(4, 3) + texture * torch.randn(count, 3, 16, 16, generator=draw)


# The brute force


def squared_change(f, x, sigma, noise):
    """E||f(x + sigma eps) - f(x)||^2 over the noise (draws, *x), sigma (units,)."""
    grid = sigma.reshape(CELLS, CELLS)
    for axis in (0, 1):
        grid = grid.repeat_interleave(x.shape[-1] // CELLS, axis)
    change = f(x + grid * noise) - f(x)
    return change.flatten(1).double().square().sum(1).mean()


def slope(f, x, entropy, variance, noise):
    """d entropy / d mean entropy (units,) along the gradient flow of L at these entropies."""
    sigma = gaussian_sigma(entropy)
    downhill = WEIGHT / len(sigma) / sigma
    for unit in range(len(sigma)):
        to = torch.zeros_like(sigma)
        to[unit] = STEP * sigma[unit]
        more, less = (squared_change(f, x, sigma + way * to, noise) for way in (1, -1))
        downhill[unit] -= (more - less) / (2 * to[unit]) / variance
    rising = downhill / sigma  # dH = d sigma / sigma
    return rising / rising.mean()


def gaussian_sigma(entropy):
    return (entropy - 0.5 * math.log(2 * math.pi * math.e)).exp().clamp(1e-3, 1.0)


def brute_force(net, x, seed):
    """H (units,) where the flow's mean entropy is TARGET, in STEPS of equal mean entropy, each with
    the slope at its middle, which the last step's slope leads to."""
    draw = torch.Generator().manual_seed(seed)
    first = math.log(FIRST) + 0.5 * math.log(2 * math.pi * math.e)
    entropy, step = torch.full((CELLS**2,), first), (TARGET - first) / STEPS

    def f(x):
        return net(x).flatten(1).relu()

    def noise(draws):
        return torch.randn(draws, *x.shape[1:], generator=draw)

    with torch.no_grad():
        variance = squared_change(f, x, torch.full((CELLS**2,), FIRST), noise(8 * DRAWS))
        rising = slope(f, x, entropy, variance, noise(DRAWS))
        for _ in range(STEPS):
            rising = slope(f, x, entropy + step / 2 * rising, variance, noise(DRAWS))
            entropy = entropy + step * rising
    return entropy


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_those_of_the_brute_force(name):
    """In the root mean square over units within three standard errors of the brute force, from its
    spread over seeds, and OWN."""
    net, x = network(name), image(seed=3, texture=0.0 if name == "pooled" else 0.2)
    runs = torch.stack([brute_force(net, x, seed) for seed in range(SEEDS)])
    expected, noise = runs.mean(0), rms(runs.std(0)) / math.sqrt(SEEDS)
    estimator = EntropyEstimator(None, units=GridUnits(CELLS), quality="exact", most_probes=1536)
    found = estimator.explain(net, x).entropy[0]
    tolerance = 3 * noise + OWN
    assert rms(found - expected) < tolerance
    assert expected.std() > 4 * tolerance  # the maps are far from flat


def rms(values):
    return float(values.square().mean().sqrt())
