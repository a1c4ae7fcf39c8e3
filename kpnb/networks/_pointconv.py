"""PointConv for classification (Wu, Qi and Fuxin, CVPR 2019), in its memory-saving form.

The features of a neighborhood, weighted by a function of the inverse density, are multiplied with
weights that a small network computes from relative coordinates, and summed. Only differences of
coordinates enter, so the whole network is invariant to translations.

There are two original codes, in TensorFlow and in PyTorch, and the latter changed over time. Layer
widths, bandwidths and dropout are those of the PyTorch code for coordinates alone. Beside the
choice of centroids (see `kpnb.networks.neighbors`), where they differ and where this differs:
1. Densities are inverted and divided by the largest inverse in the neighborhood, as in the paper,
   the TensorFlow code and later PyTorch code; early PyTorch code takes them as they are.
2. The density network has the hidden widths 16 and 8 of later PyTorch code and ends in a sigmoid,
   as in the TensorFlow code. The PyTorch code names one too but never reaches it, and ends in a
   ReLU.
3. The constant factor of the kernel density is left out: the division in 1 cancels it.
4. The narrow network has no dropout and a quarter of the weight network's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kpnb.networks.neighbors import farthest_points, gather, nearest
from kpnb.networks.point_network import (
    Choices,
    PointNetwork,
    PointNormalization,
    classifier,
    point_mlp,
)

# Per layer: centroids and neighbors; the full ones are the original's. The last layer takes all.
NEIGHBORHOODS = {"full": ((512, 32), (128, 64)), "narrow": ((128, 16), (32, 16))}
BANDWIDTHS = (0.1, 0.2, 0.4)
CHANNELS = ((64, 64, 128), (128, 128, 256), (256, 512, 1024))
WEIGHTS = 16
HIDDEN_WEIGHT = (8, 8)
HIDDEN_DENSITY = (16, 8)
DIVISORS = {"full": 1, "narrow": 4}
DROPOUT = {"full": 0.4, "narrow": 0.0}


def build(classes: int, scale: str) -> PointNetwork:
    """PointConv at scale "full" (clouds of at least 512 points) or "narrow" (128)."""
    divisor = DIVISORS[scale]
    channels = [[width // divisor for width in row] for row in CHANNELS]
    features = ConvolutionalFeatures(NEIGHBORHOODS[scale], channels, WEIGHTS // divisor)
    last = channels[-1][-1]
    return PointNetwork(features, classifier((last, last // 2, last // 4), classes, DROPOUT[scale]))


def kernel_density(points: Tensor, bandwidth: float) -> Tensor:
    """Mean (n, p) over all points of exp(-squared distance / (2 bandwidth^2)); at least 1 / p.

    Coordinates are centered, and the exponent is one matrix product: with `others` it is
    (x.y - |x|^2 / 2 - |y|^2 / 2) / bandwidth^2. That keeps one tensor (n, p, p) for the gradient.
    """
    points = (points - points.mean(1, keepdim=True)) / bandwidth
    halves = points.square().sum(-1, keepdim=True) / 2
    ones = torch.ones_like(halves)
    others = torch.cat([points, -halves, -ones], -1)
    return (torch.cat([points, ones, halves], -1) @ others.mT).exp().mean(-1)


class PointConvolution(nn.Module):
    """From points (n, p, 3) and their features (n, p, c), perhaps none, to fewer of both.

    widths: of the point-wise layers, the first one 3 + c. bandwidth: of the kernel density, in the
    unit of the coordinates. weights: outputs of the weight network. sample: number of centroids and
    of neighbors of each, or None for a single neighborhood, all points around their mean.
    Returns the centroids (n, centroids, 3) and their features (n, centroids, widths[-1]).
    """

    def __init__(
        self,
        widths: Sequence[int],
        bandwidth: float,
        weights: int,
        sample: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.bandwidth, self.sample = bandwidth, sample
        self.layers = point_mlp(widths)
        self.density = nn.Sequential(
            *point_mlp((1, *HIDDEN_DENSITY)),
            nn.Linear(HIDDEN_DENSITY[-1], 1),
            PointNormalization(1),
            nn.Sigmoid(),
        )
        self.weights = point_mlp((3, *HIDDEN_WEIGHT, weights))
        self.output = point_mlp((widths[-1] * weights, widths[-1]))

    def forward(
        self, points: Tensor, features: Tensor | None, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        centers, index = self._neighborhoods(points, choices)
        relative = gather(points, index) - centers.unsqueeze(2)
        local = relative
        if features is not None:
            local = torch.cat([relative, gather(features, index)], -1)
        inverse = 1 / gather(kernel_density(points, self.bandwidth).unsqueeze(-1), index)
        share = self.density(inverse / inverse.amax(2, keepdim=True))
        sums = (self.layers(local) * share).mT @ self.weights(relative)
        return centers, self.output(sums.flatten(2))

    def _neighborhoods(self, points: Tensor, choices: Choices) -> tuple[Tensor, Tensor]:
        """Centers (n, q, 3) and the neighbors of each (n, q, k)."""
        if self.sample is None:
            everything = torch.arange(points.shape[1], device=points.device)
            return points.mean(1, keepdim=True), everything.expand(len(points), 1, -1)
        centroids, k = self.sample
        centers = gather(points, choices(lambda: farthest_points(points, centroids)))
        return centers, choices(lambda: nearest(points, centers, k))


class ConvolutionalFeatures(nn.Module):
    """Clouds (n, p, 3) -> (n, width): three PointConv layers, the last one over all centroids."""

    def __init__(
        self,
        samples: Sequence[tuple[int, int]],
        widths: Sequence[Sequence[int]],
        weights: int,
    ) -> None:
        super().__init__()
        layers, inside = [], 3
        for row, bandwidth, sample in zip(widths, BANDWIDTHS, (*samples, None), strict=True):
            layers.append(PointConvolution((inside, *row), bandwidth, weights, sample))
            inside = 3 + row[-1]
        self.layers = nn.ModuleList(layers)

    def forward(self, points: Tensor, choices: Choices | None = None) -> Tensor:
        choices, features = choices or Choices(), None
        for layer in self.layers:
            points, features = layer(points, features, choices)
        return features.squeeze(1)
