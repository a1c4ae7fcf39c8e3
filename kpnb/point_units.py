"""Points as input units: noise on the coordinates of a cloud, one sigma a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.units import Problem

KEPT_CLOUDS = 32  # clouds in one pass that keeps choices; bounds memory only


@dataclass(frozen=True)
class PointUnits:
    """Each point of a cloud is a unit: its three coordinates share one sigma, in their own unit.

    Noise is independent for each coordinate. With clouds in the unit sphere, as those of kpnb, the
    published settings of the estimator mean: sigma starts at a hundredth of the radius.

    frozen: which points are centroids and which are neighbors is a function of the coordinates that
        jumps under noise. False: it is taken anew for each noisy cloud, so what is measured is the
        network as it is. True: it stays as it is for the clean cloud, which takes a network with
        `choices(points)` and `forward(points, kept)`, such as `point_network` makes.
    channels_first: clouds are (n, 3, points), as many public networks take them, instead of
        (n, points, 3).
    """

    frozen: bool = False
    channels_first: bool = False

    def problem(self, model: nn.Module, inputs: Tensor) -> Problem:
        """Clouds are perturbed as they are; KpnbError for another shape, and for frozen choices of
        a network that cannot keep them."""
        axis = 1 if self.channels_first else 2
        if not isinstance(inputs, Tensor) or inputs.ndim != 3 or inputs.shape[axis] != 3:
            raise KpnbError(
                "PointUnits needs a tensor of clouds (samples, points, 3), or (samples, 3, points) "
                "with channels_first=True."
            )
        return Problem(inputs, self._frozen(model, inputs) if self.frozen else _anew(model))

    def _frozen(self, model: nn.Module, inputs: Tensor) -> Callable[[Tensor, Tensor], object]:
        if not callable(getattr(model, "choices", None)):
            raise KpnbError(
                "PointUnits(frozen=True) needs a network with choices(points), such as "
                "point_network makes; pass frozen=False for any other."
            )
        kept = _kept(model, inputs)
        return lambda noisy, samples: model(noisy, [choice[samples] for choice in kept])

    def count(self, x: Tensor) -> int:
        return x.shape[2 if self.channels_first else 1]

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        return values.unsqueeze(1 if self.channels_first else 2)

    def gather(self, components: Tensor) -> Tensor:
        return components.sum(1 if self.channels_first else 2)


def _anew(model: nn.Module) -> Callable[[Tensor, Tensor], object]:
    return lambda noisy, samples: model(noisy)


def _kept(model: nn.Module, inputs: Tensor) -> Sequence[Tensor]:
    """The choices for the clean clouds in eval mode, in which maps are measured."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        parts = [model.choices(clouds) for clouds in inputs.split(KEPT_CLOUDS)]
    finally:
        for module, training in modes:
            module.training = training
    return [torch.cat(choice) for choice in zip(*parts, strict=True)]
