"""What the point-cloud networks share: centroids and neighbors in batches of clouds, choices that
can be kept, point-wise layers and the classifier.

Tensors are (clouds, points, channels) throughout, so a layer that acts on each point alone is an
nn.Linear on the last dimension (a convolution of size 1 in the original codes; the same result).

The original codes of PointNet++ and PointConv differ in these points:
1. Farthest-point sampling starts there at the first point in storage or at a random one. Here it
   starts at the point farthest from the cloud's centroid, so that it depends on the set of points
   alone.
2. Where fewer distinct places than picks exist, they pick one point several times; here all picks
   differ.
3. A ball query takes there the first k points in storage that lie in the ball. Here it takes the k
   nearest ones, again a function of the set.
All this holds up to exact ties, which storage order decides, and up to rounding.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.networks.layers import kaiming_by_inputs

# Up to so many channels differences are taken one by one; above, a matrix product is far faster.
FEW_CHANNELS = 8
# Distances that are held at a time, 64 MiB in single precision.
HELD = 2**24


def squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """(n, p, channels) and (n, q, channels) -> (n, p, q).

    Up to 8 channels they come from differences, with full relative precision. Above, from a matrix
    product after the mean of `others` is subtracted, with an error of some units of rounding of the
    cloud's squared extent.
    """
    if points.shape[-1] <= FEW_CHANNELS:
        mode = "donot_use_mm_for_euclid_dist"
        return torch.cdist(points, others, compute_mode=mode).square()
    middle = others.mean(1, keepdim=True)
    points, others = points - middle, others - middle
    lengths = points.square().sum(-1).unsqueeze(2) + others.square().sum(-1).unsqueeze(1)
    return torch.baddbmm(lengths, points, others.mT, alpha=-2).clamp(min=0)


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices (n, count) by farthest-point sampling: each pick is farthest from all before it.

    The first is the point farthest from the centroid. All picks of a cloud differ.
    Raises KpnbError unless 1 <= count <= p.
    """
    clouds, size, channels = points.shape
    _check(count, size, "centroids")
    places = points.detach().mT.contiguous()  # (n, channels, p): sums over the first axis are fast
    gaps = (places - places.mean(-1, keepdim=True)).square().sum(1)
    pick = gaps.argmax(1, keepdim=True)
    gaps = torch.full_like(gaps, torch.inf)
    picks = torch.empty(clouds, count, dtype=torch.int64, device=points.device)
    for number in range(count):
        picks[:, number] = pick.squeeze(1)
        picked = places.gather(2, pick.unsqueeze(1).expand(-1, channels, -1))
        gaps = torch.minimum(gaps, (places - picked).square_().sum(1))
        gaps.scatter_(1, pick, -1.0)  # never again, even where all others coincide with picks
        pick = gaps.argmax(1, keepdim=True)
    return picks


def nearest(points: Tensor, centers: Tensor, k: int) -> Tensor:
    """Indices (n, centers, k) of the k points nearest to each center, nearest first. A center that
    is a point of the cloud counts among its own neighbors. Raises KpnbError unless 1 <= k <= p."""
    _check(k, points.shape[1], "neighbors")
    return _closest(points, centers, k)[1]


def within(points: Tensor, centers: Tensor, radius: float, k: int) -> Tensor:
    """Indices (n, centers, k) of a ball query: the nearest points at most `radius` away, at most k.

    Places that remain are filled with the nearest point, which also stands for an empty ball.
    k may exceed the cloud's size. Raises KpnbError for k below 1 and a radius not above 0.
    """
    if k < 1 or not radius > 0:
        raise KpnbError(f"No ball query has k={k} and radius={radius}: pass k >= 1 and radius > 0.")
    found = min(k, points.shape[1])
    squared, index = _closest(points, centers, found)
    index = torch.where(squared <= radius**2, index, index[..., :1])
    return torch.cat([index, index[..., :1].expand(*index.shape[:2], k - found)], -1)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows (n, ..., c) of values (n, p, c) at index (n, ...), each cloud's from its own."""
    clouds = torch.arange(len(values), device=values.device)
    return values[clouds.view(-1, *[1] * (index.dim() - 1)), index]


def _closest(points: Tensor, centers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances and indices (n, centers, k), sorted; a few clouds at a time."""
    clouds = max(1, HELD // (points.shape[1] * centers.shape[1]))
    pairs = zip(points.detach().split(clouds), centers.detach().split(clouds), strict=True)
    parts = [squared_distances(at, part).topk(k, largest=False) for part, at in pairs]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def _check(count: int, size: int, what: str) -> None:
    if not 1 <= count <= size:
        raise KpnbError(f"Clouds of {size} points cannot give {count} {what}: pass more points.")


class KeptChoices:
    """The discrete choices of one forward pass: which points are centroids, which are neighbors.

    They are functions of the coordinates that jump. A pass with `kept`, the list that an earlier
    pass `made`, takes those instead of choosing anew: the choices are frozen.
    """

    def __init__(self, kept: Sequence[Tensor] | None = None) -> None:
        self._kept = None if kept is None else list(kept)
        self.made: list[Tensor] = []

    def __call__(self, choose: Callable[[], Tensor]) -> Tensor:
        """The next choice, an index tensor (clouds, ...): choose() without gradient, or the kept
        one. Raises KpnbError when fewer choices were kept than are asked for."""
        if self._kept is None:
            with torch.no_grad():
                self.made.append(choose())
        elif len(self.made) == len(self._kept):
            raise KpnbError("the kept choices are of another network; make them with this one.")
        else:
            self.made.append(self._kept[len(self.made)])
        return self.made[-1]


class PointNormalization(nn.BatchNorm1d):
    """Batch normalization of the last dimension, over all others."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)


def point_mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear, batch normalization and ReLU from each of `widths` to the next."""
    layers: list[nn.Module] = []
    for inside, outside in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inside, outside), PointNormalization(outside), nn.ReLU()]
    return nn.Sequential(*layers)


def classifier(
    widths: Sequence[int],
    classes: int,
    dropout: float,
    activation: Callable[[], nn.Module] = nn.ReLU,
    first_bias: bool = True,
) -> nn.Sequential:
    """FC1 and FC2, each with batch normalization, activation and dropout, and FC3.

    widths: of the pooled feature, FC1 and FC2.
    """
    layers: list[nn.Module] = []
    for number, (inside, outside) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Linear(inside, outside, bias=first_bias or number > 0)]
        layers += [nn.BatchNorm1d(outside), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


class PointNetwork(nn.Sequential):
    """A network on clouds (n, points, 3): `features` pools a cloud into (n, width), `classifier`
    follows. A chain in the sense of `kpnb.networks.layers`.

    features(points, choices) must take a `KeptChoices`. `layer_names` maps "FC1" and "FC2" to their
    batch normalization, the last step before the activation, and "FC3" to the output layer.
    """

    def __init__(self, features: nn.Module, classifier: nn.Sequential) -> None:
        super().__init__(OrderedDict(features=features, classifier=classifier))
        self.layer_names = {"FC1": "classifier.1", "FC2": "classifier.5", "FC3": "classifier.8"}

    def forward(self, points: Tensor, kept: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (n, classes). kept: what `choices` returned, so that nothing is chosen anew."""
        return self.classifier(self.features(points, KeptChoices(kept)))

    @torch.no_grad()
    def choices(self, points: Tensor) -> list[Tensor]:
        """The centroids and neighbors that a pass in the present mode takes, each (n, ...)."""
        made = KeptChoices()
        self.features(points, made)
        return made.made


def _linear_weight(module: nn.Linear, generator: torch.Generator) -> None:
    """Kaiming by inputs; 0 for the last layer of a PointNet transform, which says so."""
    if getattr(module, "starts_at_zero", False):
        nn.init.zeros_(module.weight)
    else:
        kaiming_by_inputs(module, generator)


CLOUD_WEIGHTS = {nn.Linear: _linear_weight}
