"""How an input splits into input units.

An input unit is what one entropy value belongs to: a cell of a grid laid over an image here, a word
or a point elsewhere. The estimator only ever asks three things of a kind of units: what to perturb
(`problem`), how a value per unit spreads over the perturbed tensor (`spread`), and how components
add up to units (`gather`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError


@dataclass(frozen=True)
class Problem:
    """What is perturbed, and how the model sees it.

    x: (samples, ...) floating point tensor that takes the noise (an image batch, word embeddings).
    forward: called as forward(noisy, samples); `noisy` is (rows, ...) and `samples` (rows,) says
        which sample of x each row came from (for masks that travel with a sample).
    plain: it is the model at `noisy` and nothing else, so that it may take further arguments.
    """

    x: Tensor
    forward: Callable[[Tensor, Tensor], object]
    plain: bool = False


class Units(Protocol):
    """What a kind of input units must offer to the estimator."""

    def problem(self, model: nn.Module, inputs: object) -> Problem: ...

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        """(rows, units) -> a tensor that broadcasts against x (rows, ...)."""
        ...

    def gather(self, components: Tensor) -> Tensor:
        """(rows, ...) like x -> (rows, units): the sum over the components of each unit."""
        ...

    def count(self, x: Tensor) -> int: ...


@dataclass(frozen=True)
class GridUnits:
    """A square grid of cells over an image batch (samples, channels, height, width).

    cells: cells a side; 16 in the paper (settings of Section 4.1, confirmed by the public code).
    All channels of a cell share one sigma, while noise is independent per pixel and channel. Pixel
    row r of H lies in cell floor(r * cells / H), a nearest-neighbor enlargement of the grid, so
    sizes that the grid does not divide work too. Unit index = row * cells + column.
    """

    cells: int = 16

    def __post_init__(self) -> None:
        if not isinstance(self.cells, int) or self.cells < 2:
            raise KpnbError(f"GridUnits(cells={self.cells!r}) needs an integer of at least 2.")

    def problem(self, model: nn.Module, inputs: Tensor) -> Problem:
        """Images are perturbed as they are; raises KpnbError for another shape or a finer grid."""
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            held = tuple(getattr(inputs, "shape", ())) or type(inputs).__name__
            told = "GridUnits needs a tensor of images (samples, channels, height, width)"
            raise KpnbError(f"{told}, not {held}; images[None] is a batch of one.")
        if min(inputs.shape[-2:]) < self.cells:
            last = inputs.shape[-1] <= 4 < inputs.shape[1]
            remedy = "are channels last? permute(0, 3, 1, 2)" if last else "choose fewer cells"
            told = f"a grid of {self.cells} cells does not fit images of {tuple(inputs.shape[-2:])}"
            raise KpnbError(f"{told} pixels; {remedy} or larger images.")
        return Problem(inputs, _anew(model), plain=True)

    def count(self, x: Tensor) -> int:
        return self.cells**2

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        grid = values.unflatten(-1, (self.cells, self.cells))
        rows, columns = (self._cell_of(size, x.device) for size in x.shape[-2:])
        return grid[:, rows][:, :, columns].unsqueeze(1)  # (rows, 1, height, width)

    def gather(self, components: Tensor) -> Tensor:
        image = components.sum(1)  # (rows, height, width)
        down, across = (self._membership(size, image) for size in image.shape[-2:])
        return (down @ image @ across.T).flatten(1)

    def foreground(self, masks: object, label: int | None = None) -> Tensor:
        """(samples, height, width) pixel masks -> (samples, units) bool.

        masks: an array, or a list of single ones, PIL images too; bool, or numbers that are 0 and
        1, or 0 and 255 as in PNG files; with `label`, a map of labels, of which that one is
        foreground. A cell is foreground when at least half of its pixels are (difference 6 of the
        book's list: the public code takes the pixel nearest to the cell's center instead). Raises
        KpnbError for another shape, fewer pixels than cells a side, and other numbers.
        """
        masks = as_masks(masks, label)
        if min(masks.shape[1:]) < self.cells:
            told = f"masks of {tuple(masks.shape[1:])} pixels are coarser than {self.cells} cells"
            raise KpnbError(f"{told} a side: pass masks of the size of the inputs.")
        inside = self.gather(masks.unsqueeze(1).double())
        return 2 * inside >= self.gather(torch.ones_like(masks[:1]).unsqueeze(1).double())

    def foreground_of_boxes(
        self, boxes: Tensor | np.ndarray | Sequence, height: int, width: int
    ) -> Tensor:
        """(samples, units) bool of one box a sample, (samples, 4): left, upper, right, lower in
        pixels of images of that height and width. Raises KpnbError for a box without a pixel."""
        edges = torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4).T[..., None]
        left, upper, right, lower = edges
        down, across = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        rows, columns = (down > upper) & (down < lower), (across > left) & (across < right)
        masks = rows[:, :, None] & columns[:, None, :]
        if not masks.any((1, 2)).all():
            raise KpnbError("a box holds no pixel: give left, upper, right, lower in pixels.")
        return self.foreground(masks)

    def _cell_of(self, size: int, device: torch.device) -> Tensor:
        return torch.arange(size, device=device) * self.cells // size

    def _membership(self, size: int, like: Tensor) -> Tensor:
        cell = self._cell_of(size, like.device)
        return nn.functional.one_hot(cell, self.cells).T.to(like.dtype)  # (cells, size)


def as_masks(masks: object, label: int | None = None) -> Tensor:
    """Masks (samples, height, width) as bool; see `GridUnits.foreground`."""
    if not isinstance(masks, (Tensor, np.ndarray)):
        parts = [np.asarray(one) for one in (masks if isinstance(masks, Sequence) else [masks])]
        if len({part.shape for part in parts}) != 1:
            raise KpnbError("masks have different sizes: resize and crop each as its picture.")
        masks = np.stack(parts)
    masks = torch.as_tensor(masks)
    if masks.ndim != 3:
        raise KpnbError(f"masks are {tuple(masks.shape)}: pass (samples, height, width).")
    if label is not None:
        return masks == label
    values = masks.unique().tolist()
    if masks.dtype != torch.bool and set(values) - {0, 1} and set(values) - {0, 255}:
        told = f"masks hold {values[:5]}: pass bool, 0 and 1, or 0 and 255"
        raise KpnbError(f"{told}; of a map of labels say which is the foreground with label=.")
    return masks != 0


@dataclass(frozen=True, eq=False)
class MaskUnits:
    """Units of any form, each a set of places: superpixels, stretches of a series, frequencies.

    labels: integers of the form of one input without its channels (a series of length 100 in 5
    channels, inputs (samples, 5, 100), has labels (100,)), the same for all samples: the unit of
    each place, from 0; places of -1 take no noise. All channels of a place share its sigma.
    Raises KpnbError for labels that leave a unit out.
    """

    labels: Tensor

    def __post_init__(self) -> None:
        labels = torch.as_tensor(self.labels).long()
        object.__setattr__(self, "labels", labels)
        known = labels.unique()
        known = known[known >= 0].tolist()
        if len(known) < 2 or known != list(range(len(known))):
            raise KpnbError("labels must number two units or more from 0, without a gap.")

    def problem(self, model: nn.Module, inputs: Tensor) -> Problem:
        shape = tuple(self.labels.shape)
        if not isinstance(inputs, Tensor) or inputs.ndim < 2 or inputs.shape[2:] != shape:
            raise KpnbError(f"inputs must be (samples, channels, *{shape}), as the labels are.")
        return Problem(inputs, _anew(model), plain=True)

    def count(self, x: Tensor) -> int:
        return int(self.labels.max()) + 1

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        labels = self.labels.to(x.device)
        return (values[:, labels.clamp(min=0)] * (labels >= 0)).unsqueeze(1)

    def gather(self, components: Tensor) -> Tensor:
        labels, sums = self.labels.to(components.device).flatten(), components.sum(1).flatten(1)
        held = labels >= 0
        whole = sums.new_zeros(len(sums), self.count(components))
        return whole.index_add(1, labels[held], sums[:, held])

    def __str__(self) -> str:
        digest = hashlib.sha256(self.labels.numpy().tobytes()).hexdigest()[:16]
        return f"MaskUnits(shape={tuple(self.labels.shape)}, labels={digest})"


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
            told = "PointUnits needs a tensor of clouds (samples, points, 3)"
            raise KpnbError(f"{told}, or (samples, 3, points) with channels_first=True.")
        forward = self._frozen(model, inputs) if self.frozen else _anew(model)
        return Problem(inputs, forward, plain=not self.frozen)

    def _frozen(self, model: nn.Module, inputs: Tensor) -> Callable[[Tensor, Tensor], object]:
        if not callable(getattr(model, "choices", None)):
            told = "PointUnits(frozen=True) needs a network with choices(points), such as"
            raise KpnbError(f"{told} point_network makes; pass frozen=False for any other.")
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
