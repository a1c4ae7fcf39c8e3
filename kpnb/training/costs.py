"""What a computation of a study costs, said where it is computed, so that a plan only adds up.

`Cost` is what a study hands to its store beside the computation itself; a store that counts
(`kpnb.run.plan`) takes it instead of computing. Operations are counted, not timed, on torch's meta
device, which holds shapes and no numbers, so nothing is allocated whatever the network's size.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

WHOLE = ""  # the layer of a pass through the whole network
FLOAT = 4  # bytes
Task = Literal["train", "above", "forward", "maps"]


@dataclass(frozen=True)
class Work:
    """How much of one task a computation does.

    task: "train", samples through a training step, up to `layer`; "above", through one of the
        layers above it; "forward", through a forward pass up to it; "maps", entropy maps at it.
    role: whose network. estimator: the settings that maps are made by.
    """

    task: Task
    units: float
    role: str
    layer: str = WHOLE
    estimator: dict[str, object] | None = None


@dataclass(frozen=True)
class Cost:
    """The work of a computation, and what it would hand over: tensors on the meta device and an
    info in which nothing is measured."""

    work: tuple[Work, ...]
    tensors: dict[str, Tensor]
    info: dict


@dataclass(frozen=True)
class Anatomy:
    """Counts of one sample in a network.

    operations: layer -> floating-point operations (two a multiply-add) of the forward pass up to
        it; WHOLE is the whole network. activations: numbers that its modules put out.
    parameters: of the network.
    """

    operations: dict[str, float]
    activations: int
    parameters: int

    def up_to(self, layer: str) -> float:
        """Operations up to a layer, at least one; the whole network for a layer not counted."""
        return max(1.0, self.operations.get(layer, self.operations[WHOLE]))

    def above(self, layer: str) -> float:
        """Operations above a layer; 0 for the last one."""
        return max(0.0, self.operations[WHOLE] - self.up_to(layer))


def count_anatomy(
    net: nn.Module, example: tuple[int, ...], layers: Iterable[tuple[str, str]]
) -> Anatomy:
    """Counts of `net`, on the meta device, for one sample of the shape `example`.

    layers: dotted name and label of each layer to count up to.
    """
    from torch.utils.flop_counter import FlopCounterMode  # half a second to import

    counter, operations, elements, names = FlopCounterMode(display=False), {}, [], dict(layers)

    def note(label: str | None, module: nn.Module, given: object, output: Tensor) -> None:
        if label is not None:
            operations[label] = float(counter.get_total_flops())
        # A ReLU in place keeps no numbers of its own.
        elements.append(0 if getattr(module, "inplace", False) else output.numel())

    handles = [
        part.register_forward_hook(partial(note, names.get(name)))
        for name, part in net.named_modules()
        if name in names or next(part.children(), None) is None
    ]
    with counter, torch.no_grad():
        net.eval()(torch.empty((1, *example), device="meta"))
    for handle in handles:
        handle.remove()
    operations[WHOLE] = float(counter.get_total_flops())
    return Anatomy(operations, sum(elements), sum(p.numel() for p in net.parameters()))


def encoder_anatomy(
    width: int, wide: int, depth: int, length: int, vocabulary: int, outputs: int
) -> Anatomy:
    """Of a BERT encoder with a head, by hand: its library takes seconds to import.

    A layer: four maps width x width, two width x feed-forward `wide`, and the two products of
    attention, for `length` word pieces.
    """
    maps = 4 * width * width + 2 * width * wide
    last = float(depth * (2 * length * maps + 4 * length * length * width))
    operations = {"Last": last, WHOLE: last + 2.0 * width * outputs * length}
    activations = depth * length * (8 * width + 2 * wide) + depth * 12 * length * length
    return Anatomy(operations, activations, depth * (maps + 9 * width + wide) + vocabulary * width)
