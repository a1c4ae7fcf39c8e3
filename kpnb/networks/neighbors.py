"""Centroids and neighbors in batches of point clouds.

Tensors are (clouds, points, channels). All functions are vectorized over clouds and points; only
`farthest_points` loops over its picks, since each depends on those before.

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

from __future__ import annotations

import torch
from torch import Tensor

from kpnb.errors import KpnbError

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
    """Indices (n, centers, k) of the k points nearest to each center, nearest first.

    A center that is a point of the cloud counts among its own neighbors.
    Raises KpnbError unless 1 <= k <= p.
    """
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
        raise KpnbError(
            f"Clouds of {size} points cannot give {count} {what}: pass clouds of at least that "
            "many points or a network with fewer."
        )
