"""PointNet++ with single-scale grouping, for classification (Qi et al., NeurIPS 2017).

Two set abstractions, each a small PointNet on the ball around every centroid, and a PointNet on
what is left. The last one gets the centroids' own coordinates, so the network sees where a cloud
lies; everything before depends on relative coordinates alone.

Beside the choice of centroids and neighbors (see `kpnb.networks.neighbors`) it differs from the
original code in this:
1. The narrow network has no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kpnb.networks.neighbors import farthest_points, gather, within
from kpnb.networks.point_network import Choices, PointNetwork, classifier, point_mlp

# Per abstraction: centroids, radius, neighbors; the full ones are the original's.
BALLS = {
    "full": ((512, 0.2, 32), (128, 0.4, 64)),
    "narrow": ((128, 0.2, 16), (32, 0.4, 16)),
}
CHANNELS = ((64, 64, 128), (128, 128, 256), (256, 512, 1024))
DIVISORS = {"full": 1, "narrow": 4}
DROPOUT = {"full": 0.5, "narrow": 0.0}


def build(classes: int, scale: str) -> PointNetwork:
    """PointNet++ at scale "full" (clouds of at least 512 points) or "narrow" (128)."""
    first, second, last = ([width // DIVISORS[scale] for width in row] for row in CHANNELS)
    features = HierarchicalFeatures(BALLS[scale], (first, second, last))
    widths = (last[-1], last[-1] // 2, last[-1] // 4)
    return PointNetwork(features, classifier(widths, classes, DROPOUT[scale]))


class SetAbstraction(nn.Module):
    """From points (n, p, 3) and their features (n, p, c), perhaps none, to fewer of both.

    centroids, radius, k: of the sampling and the ball query. widths: of the point-wise layers, the
    first one 3 + c. Returns the centroids (n, centroids, 3) and the largest of each channel over a
    ball (n, centroids, widths[-1]).
    """

    def __init__(self, centroids: int, radius: float, k: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.centroids, self.radius, self.k = centroids, radius, k
        self.layers = point_mlp(widths)

    def forward(
        self, points: Tensor, features: Tensor | None, choices: Choices
    ) -> tuple[Tensor, Tensor]:
        centers = gather(points, choices(lambda: farthest_points(points, self.centroids)))
        index = choices(lambda: within(points, centers, self.radius, self.k))
        local = gather(points, index) - centers.unsqueeze(2)
        if features is not None:
            local = torch.cat([local, gather(features, index)], -1)
        return centers, self.layers(local).max(2).values


class HierarchicalFeatures(nn.Module):
    """Clouds (n, p, 3) -> (n, width): two set abstractions, and a PointNet on what is left."""

    def __init__(
        self, balls: Sequence[tuple[int, float, int]], widths: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        first, second, last = widths
        self.first = SetAbstraction(*balls[0], (3, *first))
        self.second = SetAbstraction(*balls[1], (3 + first[-1], *second))
        self.last = point_mlp((3 + second[-1], *last))

    def forward(self, points: Tensor, choices: Choices | None = None) -> Tensor:
        choices = choices or Choices()
        centers, features = self.first(points, None, choices)
        centers, features = self.second(centers, features, choices)
        return self.last(torch.cat([centers, features], -1)).max(1).values
