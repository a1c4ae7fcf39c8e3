"""What fine-tuning takes over from a pre-trained network: all but its FC layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.networks.image import image_network

# How every image network of kpnb calls its fully connected part.
FC_PART = "classifier."
#: Names torchvision's weights in the store's keys.
IMAGENET = "torchvision IMAGENET1K_V1"


def take_convolutions(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put everything below the FC layers of `state` into `net`, in place.

    The FC layers keep the weights they have: the last one has another class at each output, and
    the public code starts all FC layers of its pre-trained networks anew. state: a state dict of
    the same architecture. Raises KpnbError for another architecture.
    """
    own, given = _below(net.state_dict()), _below(state)
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in given.items()}:
        raise KpnbError(
            "the pre-trained network has other convolutions than the one to fine-tune: take one "
            "of the same architecture and scale."
        )
    net.load_state_dict(given, strict=False)


@lru_cache(maxsize=4)
def imagenet_state(name: str, seed: int) -> dict[str, Tensor]:
    """What lies below the FC layers of a full network with torchvision's ImageNet weights.

    What these do not hold (the convolutions that the paper adds to ResNets) comes from the seed.
    Raises KpnbError if the weights cannot be had.
    """
    # The number of classes touches the FC layers only, which are left out.
    return _below(image_network(name, 2, "full", seed=seed, pretrained=True).state_dict())


def _below(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(FC_PART)}
