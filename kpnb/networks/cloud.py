"""The paper's point-cloud networks for classification from one builder, at full size or narrow.

For centroids and neighbors see `kpnb.networks.cloud_layers`. Convolutions of size 1 are linear
layers on the last dimension: the same weights and results. Narrow networks have a quarter of all
channels, fewer centroids and neighbors, and no dropout.

PointNet (Qi et al., CVPR 2017), with its input and feature transforms. Differences from the
original code (github.com/charlesq34/pointnet):
1. The penalty that keeps the feature transform near an orthogonal matrix is 0.001 ||I - A A^T||^2,
   as the paper writes it, averaged over the clouds of a batch; the original code adds half of that
   norm summed over the batch, n / 2 times as much for n clouds.
2. The penalty enters as its gradient in the backward pass (see `OrthogonalPull`), because a
   training loop that serves all networks knows the loss of the classes alone.

PointNet++ with single-scale grouping (Qi et al., NeurIPS 2017). Its last PointNet gets the
centroids' own coordinates, so the network sees where a cloud lies; everything before depends on
relative coordinates alone.

PointConv (Wu, Qi and Fuxin, CVPR 2019), in its memory-saving form. The features of a neighborhood,
weighted by a function of the inverse density, are multiplied with weights that a small network
computes from relative coordinates, and summed. Only differences of coordinates enter, so the whole
network is invariant to translations. There are two original codes, in TensorFlow and in PyTorch,
and the latter changed over time. Layer widths, bandwidths and dropout are those of the PyTorch code
for coordinates alone. Where they differ and where this differs:
1. Densities are inverted and divided by the largest inverse in the neighborhood, as in the paper,
   the TensorFlow code and later PyTorch code; early PyTorch code takes them as they are.
2. The density network has the hidden widths 16 and 8 of later PyTorch code and ends in a sigmoid,
   as in the TensorFlow code. The PyTorch code names one too but never reaches it, and ends in a
   ReLU.
3. The constant factor of the kernel density is left out: the division in 1 cancels it.
4. The narrow network has a quarter of the weight network's outputs.

DGCNN (Wang et al., ACM TOG 2019): edge convolutions on graphs of neighbors. Difference from the
original PyTorch code (github.com/WangYueFt/dgcnn): an edge convolution maps points, not edges, with
its one weight (see `EdgeConvolution`), and takes the maximum over the neighbors before the
activation, which is increasing: both change the result by rounding alone, and the edges are held in
memory fewer times. The narrow network has 10 neighbors instead of 20.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kpnb.networks import cloud_layers as clouds
from kpnb.networks.cloud_layers import KeptChoices, PointNetwork, PointNormalization, gather
from kpnb.networks.layers import built, check_request

PENALTY = 0.001  # as in the paper
# Channels at full size, those of the originals: of PointNet below and above its feature transform
# (a transform has the latter, then those of FC1 and FC2); of the point-wise layers of PointNet++
# and PointConv by level; of DGCNN's edge convolutions; of what is pooled; of FC1 and FC2.
BELOW, ABOVE = (64, 64), (64, 128, 1024)
LEVELS = ((64, 64, 128), (128, 128, 256), (256, 512, 1024))
EDGES = (64, 64, 128, 256)
POOLED = 1024
FULLY_CONNECTED = (512, 256)
DIVISORS = {"full": 1, "narrow": 4}


def scaled(widths: Sequence[int], scale: str) -> tuple[int, ...]:
    """Channels at "full" size, or of a "narrow" network."""
    return tuple(width // DIVISORS[scale] for width in widths)


class OrthogonalPull(torch.autograd.Function):
    """The same matrices A (n, c, c), whose gradient is that of the loss with the penalty
    PENALTY * mean over the batch of ||I - A A^T||^2 (squared Frobenius norm) added to it.

    The penalty is a function of A alone, so its gradient, 4 PENALTY / n (A A^T - I) A, can be added
    where the gradient of the loss passes A, once per backward pass, whatever factor the loss has;
    the value of the loss stays that of the classes.
    """

    @staticmethod
    def forward(ctx, matrices: Tensor) -> Tensor:
        ctx.save_for_backward(matrices)
        return matrices.view_as(matrices)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        (matrices,) = ctx.saved_tensors
        eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
        excess = matrices @ matrices.mT - eye
        return gradient + (4 * PENALTY / len(matrices)) * (excess @ matrices)


class Transform(nn.Module):
    """A T-Net: from points (n, p, c) one matrix (n, c, c) per cloud, at first the identity."""

    def __init__(self, channels: int, scale: str, orthogonal: bool) -> None:
        super().__init__()
        self.channels, self.orthogonal = channels, orthogonal
        above, cloud = scaled(ABOVE, scale), scaled(FULLY_CONNECTED, scale)
        self.points = clouds.point_mlp((channels, *above))
        self.cloud = clouds.point_mlp((above[-1], *cloud))
        self.matrix = nn.Linear(cloud[-1], channels**2)
        self.matrix.starts_at_zero = True

    def forward(self, points: Tensor) -> Tensor:
        pooled = self.points(points).max(dim=1).values
        offsets = self.matrix(self.cloud(pooled)).view(-1, self.channels, self.channels)
        eye = torch.eye(self.channels, dtype=points.dtype, device=points.device)
        matrices = offsets + eye
        return OrthogonalPull.apply(matrices) if self.orthogonal and self.training else matrices


class PointNetFeatures(nn.Module):
    """Points (n, p, 3) to the pooled feature (n, 1024), or (n, 256) when narrow; without `choices`,
    for the maximum over points is continuous in the coordinates."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        below = scaled(BELOW, scale)
        self.input_transform = Transform(3, scale, orthogonal=False)
        self.below = clouds.point_mlp((3, *below))
        self.feature_transform = Transform(below[-1], scale, orthogonal=True)
        self.above = clouds.point_mlp((below[-1], *scaled(ABOVE, scale)))

    def forward(self, points: Tensor, choices: KeptChoices | None = None) -> Tensor:
        low = self.below(points @ self.input_transform(points))
        return self.above(low @ self.feature_transform(low)).max(dim=1).values


# Of PointNet++ and PointConv: centroids (a cloud needs as many points) and neighbors by level.
NEIGHBORHOODS = {"full": ((512, 32), (128, 64)), "narrow": ((128, 16), (32, 16))}
RADII = (0.2, 0.4)


class SetAbstraction(nn.Module):
    """From points (n, p, 3) and their features (n, p, c), perhaps none, to fewer of both.

    sample: number of centroids and of neighbors of each; radius: of the ball query. widths: of the
    point-wise layers, the first one 3 + c. Returns the centroids (n, centroids, 3) and the largest
    of each channel over a ball (n, centroids, widths[-1]).
    """

    def __init__(self, sample: tuple[int, int], radius: float, widths: Sequence[int]) -> None:
        super().__init__()
        (self.centroids, self.k), self.radius = sample, radius
        self.layers = clouds.point_mlp(widths)

    def forward(
        self, points: Tensor, features: Tensor | None, choices: KeptChoices
    ) -> tuple[Tensor, Tensor]:
        centers = gather(points, choices(lambda: clouds.farthest_points(points, self.centroids)))
        index = choices(lambda: clouds.within(points, centers, self.radius, self.k))
        local = _with_features(gather(points, index) - centers.unsqueeze(2), features, index)
        return centers, self.layers(local).max(2).values


def _with_features(relative: Tensor, features: Tensor | None, index: Tensor) -> Tensor:
    """Coordinates (n, q, k, 3) relative to a center, and behind them the points' features."""
    return relative if features is None else torch.cat([relative, gather(features, index)], -1)


class HierarchicalFeatures(nn.Module):
    """Clouds (n, p, 3) -> (n, width): two set abstractions, and a PointNet on what is left."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        first, second, last = (scaled(widths, scale) for widths in LEVELS)
        samples = NEIGHBORHOODS[scale]
        self.first = SetAbstraction(samples[0], RADII[0], (3, *first))
        self.second = SetAbstraction(samples[1], RADII[1], (3 + first[-1], *second))
        self.last = clouds.point_mlp((3 + second[-1], *last))

    def forward(self, points: Tensor, choices: KeptChoices | None = None) -> Tensor:
        choices = choices or KeptChoices()
        centers, features = self.first(points, None, choices)
        centers, features = self.second(centers, features, choices)
        return self.last(torch.cat([centers, features], -1)).max(1).values


BANDWIDTHS = (0.1, 0.2, 0.4)
WEIGHTS = 16
HIDDEN_WEIGHT = (8, 8)
HIDDEN_DENSITY = (16, 8)


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
    """From points and features to fewer of both, as `SetAbstraction`; sample and widths as there.

    bandwidth: of the kernel density, in the unit of the coordinates. weights: outputs of the weight
    network. sample None is a single neighborhood, all points around their mean.
    """

    def __init__(
        self, widths: Sequence[int], bandwidth: float, weights: int, sample: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self.bandwidth, self.sample = bandwidth, sample
        self.layers = clouds.point_mlp(widths)
        self.density = nn.Sequential(
            *clouds.point_mlp((1, *HIDDEN_DENSITY)),
            nn.Linear(HIDDEN_DENSITY[-1], 1),
            PointNormalization(1),
            nn.Sigmoid(),
        )
        self.weights = clouds.point_mlp((3, *HIDDEN_WEIGHT, weights))
        self.output = clouds.point_mlp((widths[-1] * weights, widths[-1]))

    def forward(
        self, points: Tensor, features: Tensor | None, choices: KeptChoices
    ) -> tuple[Tensor, Tensor]:
        if self.sample is None:
            centers = points.mean(1, keepdim=True)
            index = torch.arange(points.shape[1], device=points.device).expand(len(points), 1, -1)
        else:
            centroids, k = self.sample
            centers = gather(points, choices(lambda: clouds.farthest_points(points, centroids)))
            index = choices(lambda: clouds.nearest(points, centers, k))  # (n, q, k)
        relative = gather(points, index) - centers.unsqueeze(2)
        local = _with_features(relative, features, index)
        inverse = 1 / gather(kernel_density(points, self.bandwidth).unsqueeze(-1), index)
        share = self.density(inverse / inverse.amax(2, keepdim=True))
        sums = (self.layers(local) * share).mT @ self.weights(relative)
        return centers, self.output(sums.flatten(2))


class ConvolutionalFeatures(nn.Module):
    """Clouds (n, p, 3) -> (n, width): three PointConv layers, the last one over all centroids."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        layers, inside, weights = [], 3, WEIGHTS // DIVISORS[scale]
        samples = (*NEIGHBORHOODS[scale], None)
        for row, bandwidth, sample in zip(LEVELS, BANDWIDTHS, samples, strict=True):
            widths = (inside, *scaled(row, scale))
            layers.append(PointConvolution(widths, bandwidth, weights, sample))
            inside = 3 + widths[-1]
        self.layers = nn.ModuleList(layers)

    def forward(self, points: Tensor, choices: KeptChoices | None = None) -> Tensor:
        choices, features = choices or KeptChoices(), None
        for layer in self.layers:
            points, features = layer(points, features, choices)
        return features.squeeze(1)


LEAKY = partial(nn.LeakyReLU, 0.2)
NEIGHBORS = {"full": 20, "narrow": 10}  # of a point


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

    def __init__(self, scale: str) -> None:
        super().__init__()
        self.neighbors = NEIGHBORS[scale]
        edges, (points,) = scaled(EDGES, scale), scaled([POOLED], scale)
        steps = zip((3, *edges), edges, strict=False)
        self.convolutions = nn.ModuleList(EdgeConvolution(*step) for step in steps)
        self.points = nn.Sequential(
            nn.Linear(sum(edges), points, bias=False), PointNormalization(points), LEAKY()
        )

    def forward(self, points: Tensor, choices: KeptChoices | None = None) -> Tensor:
        choices = KeptChoices() if choices is None else choices
        levels = [points]
        for convolution in self.convolutions:
            below = levels[-1]
            graph = choices(partial(clouds.nearest, below, below, self.neighbors))
            levels.append(convolution(below, graph))
        high = self.points(torch.cat(levels[1:], dim=-1))
        return torch.cat((high.max(dim=1).values, high.mean(dim=1)), dim=-1)


def _network(
    features: type[nn.Module], pooled: int, dropout: float, classes: int, scale: str, **own: object
) -> PointNetwork:
    """What pools a cloud, and FC1 to FC3 on top; the weights are not set. pooled, dropout: at full
    size. own: of FC1 and FC2, see `classifier`."""
    widths, rate = scaled((pooled, *FULLY_CONNECTED), scale), dropout if scale == "full" else 0.0
    return PointNetwork(features(scale), clouds.classifier(widths, classes, rate, **own))


#: name -> builder of (classes, scale). As published DGCNN's FC1 has no bias; PointNet keeps 0.7.
BUILDERS = {
    "PointNet": partial(_network, PointNetFeatures, POOLED, 0.3),
    "DGCNN": partial(_network, DgcnnFeatures, 2 * POOLED, 0.5, activation=LEAKY, first_bias=False),
    "PointConv": partial(_network, ConvolutionalFeatures, POOLED, 0.4),
    "PointNet++": partial(_network, HierarchicalFeatures, POOLED, 0.5),
}


def point_network(name: str, classes: int, scale: str = "full", seed: int = 0) -> PointNetwork:
    """One of the paper's point-cloud networks (Section 4): (n, points, 3) -> (n, classes).

    name: "PointNet" (with both transforms), "DGCNN", "PointConv" or "PointNet++" (single-scale
    grouping). scale: "full" (the sizes of their papers, for 1,024 points and more) or "narrow" (a
    quarter of the channels, fewer centroids and neighbors, for CPUs and some hundred points).
    seed: equal seeds give equal weights, as the paper wants for student and baseline.
    Raises KpnbError for an unknown name or scale and for fewer than 2 classes.
    """
    check_request("point-cloud", name, BUILDERS, scale, classes)
    return built(lambda: BUILDERS[name](classes, scale), seed, clouds.CLOUD_WEIGHTS)
