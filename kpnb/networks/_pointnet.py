"""PointNet for classification (Qi et al., CVPR 2017), with its input and feature transforms.

Differences from the original code (github.com/charlesq34/pointnet):
1. Convolutions of size 1 are linear layers on the last dimension: the same weights and results.
2. The penalty that keeps the feature transform near an orthogonal matrix is 0.001 ||I - A A^T||^2,
   as the paper writes it, averaged over the clouds of a batch; the original code adds half of that
   norm summed over the batch, n / 2 times as much for n clouds.
3. The penalty enters as its gradient in the backward pass (see `pulled_to_orthogonal`), because a
   training loop that serves all networks knows the loss of the classes alone.
4. "narrow" has a quarter of all channels and no dropout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kpnb.networks.point_network import (
    Choices,
    PointNetwork,
    classifier,
    point_mlp,
)

PENALTY = 0.001


@dataclass(frozen=True)
class Widths:
    """Channels: before the feature transform, after it, of the transforms, of FC1 and FC2."""

    below: tuple[int, ...] = (64, 64)
    above: tuple[int, ...] = (64, 128, 1024)
    transform_points: tuple[int, ...] = (64, 128, 1024)
    transform_cloud: tuple[int, ...] = (512, 256)
    fully_connected: tuple[int, ...] = (512, 256)
    dropout: float = 0.3  # the original code keeps 0.7 after FC1 and after FC2


WIDTHS = {
    "full": Widths(),
    "narrow": Widths((16, 16), (16, 32, 256), (16, 32, 256), (128, 64), (128, 64), dropout=0.0),
}


class _OrthogonalPull(torch.autograd.Function):
    """The identity on matrices, with the gradient of the penalty added on the way back."""

    @staticmethod
    def forward(ctx, matrices: Tensor, weight: float) -> Tensor:
        ctx.save_for_backward(matrices)
        ctx.weight = weight
        return matrices.view_as(matrices)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (matrices,) = ctx.saved_tensors
        size = matrices.shape[-1]
        eye = torch.eye(size, dtype=matrices.dtype, device=matrices.device)
        excess = matrices @ matrices.mT - eye
        return gradient + (4 * ctx.weight / len(matrices)) * (excess @ matrices), None


def pulled_to_orthogonal(matrices: Tensor, weight: float = PENALTY) -> Tensor:
    """The same matrices A (n, c, c), whose gradient is that of the loss with the penalty
    weight * mean over the batch of ||I - A A^T||^2 (squared Frobenius norm) added to it.

    The penalty is a function of A alone, so its gradient, 4 weight / n (A A^T - I) A, can be added
    where the gradient of the loss passes A: all parameters below then receive exactly what an
    added term of the loss would give them, and the value of the loss stays that of the classes.
    It is added once per backward pass, whatever factor the loss has. weight: 0.001 as in the paper.
    """
    return _OrthogonalPull.apply(matrices, weight)


class Transform(nn.Module):
    """A T-Net: from points (n, p, c) one matrix (n, c, c) per cloud, at first the identity."""

    def __init__(self, channels: int, widths: Widths, orthogonal: bool) -> None:
        super().__init__()
        self.channels = channels
        self.orthogonal = orthogonal
        self.points = point_mlp((channels, *widths.transform_points))
        self.cloud = point_mlp((widths.transform_points[-1], *widths.transform_cloud))
        self.matrix = nn.Linear(widths.transform_cloud[-1], channels**2)
        self.matrix.starts_at_zero = True

    def forward(self, points: Tensor) -> Tensor:
        pooled = self.points(points).max(dim=1).values
        offsets = self.matrix(self.cloud(pooled)).view(-1, self.channels, self.channels)
        eye = torch.eye(self.channels, dtype=points.dtype, device=points.device)
        matrices = offsets + eye
        return pulled_to_orthogonal(matrices) if self.orthogonal and self.training else matrices


class PointNetFeatures(nn.Module):
    """Points (n, p, 3) to the pooled feature (n, 1024), or (n, 256) when narrow.

    The only choice of points is the maximum over them, which is continuous in the coordinates:
    nothing goes through `choices`.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.input_transform = Transform(3, widths, orthogonal=False)
        self.below = point_mlp((3, *widths.below))
        self.feature_transform = Transform(widths.below[-1], widths, orthogonal=True)
        self.above = point_mlp((widths.below[-1], *widths.above))

    def forward(self, points: Tensor, choices: Choices | None = None) -> Tensor:
        low = self.below(points @ self.input_transform(points))
        return self.above(low @ self.feature_transform(low)).max(dim=1).values


def build(classes: int, scale: str) -> PointNetwork:
    """PointNet for `classes` at "full" size or "narrow"; the weights are not set.

    FC1 and FC2 have 512 and 256 units (128 and 64 when narrow) with dropout 0.3 (none).
    """
    widths = WIDTHS[scale]
    fully_connected = (widths.above[-1], *widths.fully_connected)
    return PointNetwork(
        PointNetFeatures(widths), classifier(fully_connected, classes, widths.dropout)
    )
