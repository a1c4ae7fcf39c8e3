"""Made-up maps of three layers, as explanations give them."""

import torch

CONVS = ("conv 1", "conv 2", "conv 3")


def layer_maps(seed=0, layers=CONVS, units=16):
    random = torch.Generator().manual_seed(seed)
    return {k: torch.rand(5, units, generator=random) + 0.1 for k in layers}


def times(parts, *factors):
    return {k: v * f for (k, v), f in zip(parts.items(), factors, strict=True)}
