"""The paper's point-cloud networks from one builder, at full size or narrow."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kpnb.errors import KpnbError
from kpnb.networks import _dgcnn, _pointconv, _pointnet, _pointnet2
from kpnb.networks.point_network import PointNetwork, initialize

BUILDERS: dict[str, Callable[[int, str], PointNetwork]] = {
    "PointNet": _pointnet.build,
    "DGCNN": _dgcnn.build,
    "PointConv": _pointconv.build,
    "PointNet++": _pointnet2.build,
}
SCALES = ("full", "narrow")


def point_network(name: str, classes: int, scale: str = "full", seed: int = 0) -> PointNetwork:
    """One of the paper's point-cloud networks (Section 4): (n, points, 3) -> (n, classes).

    name: "PointNet" (with both transforms), "DGCNN", "PointConv" or "PointNet++" (single-scale
    grouping). scale: "full" (the sizes of their papers, for 1,024 points and more) or "narrow" (a
    quarter of the channels, fewer centroids and neighbors, for CPUs and some hundred points).
    seed: equal seeds give equal weights, as the paper wants for student and baseline.
    Raises KpnbError for an unknown name or scale and for fewer than 2 classes.
    """
    if name not in BUILDERS:
        raise KpnbError(f"No point-cloud network {name!r}: choose one of {', '.join(BUILDERS)}.")
    if scale not in SCALES:
        raise KpnbError(f"No scale {scale!r}: choose 'full' or 'narrow'.")
    if classes < 2:
        raise KpnbError(f"A classifier needs at least 2 classes, not {classes}: pass more.")
    with torch.device("meta"):  # nothing is drawn from the global generator
        net = BUILDERS[name](classes, scale)
    net.to_empty(device="cpu")
    initialize(net, seed)
    return net
