"""What the point-cloud networks share: point-wise layers, the classifier, choices that can be kept.

Tensors of points are (clouds, points, channels) throughout, so a layer that acts on each point
alone is an nn.Linear on the last dimension (a convolution of size 1 in the original codes; same
weights, same result).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.networks.layers import layer_name

FC_LAYERS = ("FC1", "FC2", "FC3")


class Choices:
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


def point_mlp(
    widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear, batch normalization and activation from each of `widths` to the next."""
    layers: list[nn.Module] = []
    for inside, outside in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inside, outside), PointNormalization(outside), activation()]
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

    features(points, choices) must take a `Choices`. `layer_names` maps "FC1" and "FC2" to their
    batch normalization, the last step before the activation, and "FC3" to the output layer.
    """

    def __init__(self, features: nn.Module, classifier: nn.Sequential) -> None:
        super().__init__()
        self.add_module("features", features)
        self.add_module("classifier", classifier)
        self.layer_names = dict(
            zip(FC_LAYERS, ("classifier.1", "classifier.5", "classifier.8"), strict=True)
        )

    def forward(self, points: Tensor, kept: Sequence[Tensor] | None = None) -> Tensor:
        """Logits (n, classes). kept: what `choices` returned, so that nothing is chosen anew."""
        return self.classifier(self.features(points, Choices(kept)))

    @torch.no_grad()
    def choices(self, points: Tensor) -> list[Tensor]:
        """The centroids and neighbors that a pass in the present mode takes, each (n, ...)."""
        made = Choices()
        self.features(points, made)
        return made.made


def tracked_weight(net: PointNetwork, name: str) -> nn.Parameter:
    """The weight whose movement Eq. 8 measures for a layer: that of the linear layer at the name,
    or, for a batch normalization, of the one before it. Raises KpnbError for any other layer."""
    dotted = layer_name(net, name)
    found = None
    for known, module in net.named_modules():
        found = module if isinstance(module, nn.Linear) else found
        if known == dotted:
            if not isinstance(module, (nn.Linear, nn.BatchNorm1d)) or found is None:
                break
            return found.weight
    raise KpnbError(f"Layer {name!r} has no weight to track: name FC1, FC2 or a linear layer.")


def initialize(net: nn.Module, seed: int) -> None:
    """Every weight from `seed`: Kaiming normal by fan-in, biases 0, batch normalization at 1 and 0.

    A linear layer with `starts_at_zero` (the last one of a PointNet transform) gets weight 0. The
    global generator is left alone. Raises KpnbError for a layer that it does not know.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            if getattr(module, "starts_at_zero", False):
                nn.init.zeros_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d):
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            raise KpnbError(f"No initial values are known for a {type(module).__name__}.")
