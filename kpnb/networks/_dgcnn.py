"""DGCNN for classification (Wang et al., ACM TOG 2019): edge convolutions on graphs of neighbors.

Differences from the original PyTorch code (github.com/WangYueFt/dgcnn):
1. Convolutions of size 1 are linear layers on the last dimension: the same weights and results.
2. An edge convolution maps points, not edges, with its one weight (see `EdgeConvolution`), and
   takes the maximum over the neighbors before the activation, which is increasing: both change
   the result by rounding alone, and the edges are held in memory fewer times.
3. "narrow" has a quarter of all channels, 10 neighbors instead of 20, and no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from kpnb.networks.neighbors import gather, nearest
from kpnb.networks.point_network import (
    Choices,
    PointNetwork,
    PointNormalization,
    classifier,
)

LEAKY = partial(nn.LeakyReLU, 0.2)


@dataclass(frozen=True)
class Widths:
    """Neighbors of a point; channels of the edge convolutions, of the layer on all of them, of FC1
    and FC2; dropout after FC1 and FC2."""

    neighbors: int = 20
    edges: tuple[int, ...] = (64, 64, 128, 256)
    points: int = 1024
    fully_connected: tuple[int, ...] = (512, 256)
    dropout: float = 0.5


WIDTHS = {"full": Widths(), "narrow": Widths(10, (16, 16, 32, 64), 256, (128, 64), 0.0)}


class EdgeConvolution(nn.Module):
    """Points x (n, p, c) and neighbors (n, p, k) to (n, p, out): the maximum over the neighbors j
    of LeakyReLU(BN(W (x_j - x_i, x_i))), with batch statistics over all n p k edges.

    `linear` holds the published weight W (out, 2 c), without bias and in the order of the original
    code: first the columns for the difference. With W = (D, S), W (x_j - x_i, x_i) is
    D x_j + (S - D) x_i, so both parts are computed once per point and added per edge.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * inside, outside, bias=False)
        self.norm = PointNormalization(outside)
        self.activation = LEAKY()

    def forward(self, points: Tensor, neighbors: Tensor) -> Tensor:
        difference, itself = self.linear.weight.chunk(2, dim=1)
        of_neighbors = gather(nn.functional.linear(points, difference), neighbors)
        of_itself = nn.functional.linear(points, itself - difference)
        edges = self.norm(of_neighbors + of_itself.unsqueeze(2))
        return self.activation(edges.max(dim=2).values)


class DgcnnFeatures(nn.Module):
    """Points (n, p, 3) to the pooled feature (n, 2048), or (n, 512) when narrow.

    Each edge convolution takes the nearest neighbors in the space of its own inputs, the point
    itself among them: four choices (n, p, k). The cloud is pooled by maximum and by mean.
    Raises KpnbError for clouds of fewer points than neighbors.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.neighbors = widths.neighbors
        steps = zip((3, *widths.edges), widths.edges, strict=False)
        self.convolutions = nn.ModuleList(EdgeConvolution(*step) for step in steps)
        self.points = nn.Sequential(
            nn.Linear(sum(widths.edges), widths.points, bias=False),
            PointNormalization(widths.points),
            LEAKY(),
        )

    def forward(self, points: Tensor, choices: Choices | None = None) -> Tensor:
        choices = Choices() if choices is None else choices
        levels = [points]
        for convolution in self.convolutions:
            below = levels[-1]
            graph = choices(partial(nearest, below, below, self.neighbors))
            levels.append(convolution(below, graph))
        high = self.points(torch.cat(levels[1:], dim=-1))
        return torch.cat((high.max(dim=1).values, high.mean(dim=1)), dim=-1)


def build(classes: int, scale: str) -> PointNetwork:
    """DGCNN for `classes` at "full" size or "narrow"; the weights are not set.

    FC1 (without bias, as published) and FC2 have 512 and 256 units (128 and 64 when narrow) with
    LeakyReLU 0.2 and dropout 0.5 (none).
    """
    widths = WIDTHS[scale]
    fully_connected = (2 * widths.points, *widths.fully_connected)
    head = classifier(fully_connected, classes, widths.dropout, LEAKY, first_bias=False)
    return PointNetwork(DgcnnFeatures(widths), head)
