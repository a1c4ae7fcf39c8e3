"""What users bring, in a form that the estimator can work with, and what it relies on, checked.

Before the long part a few clean passes say in one sentence what does not hold: that the model is a
function of its input, that no row of a batch talks to another, that a row comes out for each that
goes in, and that numbers are precise enough.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import OUTPUT, FeatureReader, whole
from kpnb.estimator.perturbation import normal
from kpnb.estimator.units import Problem

CHECKED = 4  # samples in the clean passes
# Of the squared change under the first noise: what a second pass, or other rows, may change. Far
# above rounding, far below dropout and batch statistics.
UNSTEADY = 0.02
SEEN = 0.01  # share of a change that a gradient has to show at least
SCALES = (0.05, 20)  # standard deviations of inputs, beyond which they are hardly as in training
NEGATIVE = 0.2  # share of an output below 0 from which a ReLU is warned of
LEAST_DISTINCT = 8  # values of a feature from which low precision is told
# Memory that the rows of one pass may take, bytes: on a CPU; on a GPU a share of what is free.
CPU_ROWS, GPU_SHARE = 3 * 2**29, 0.4
MOST_ROWS = 256
HALF = (torch.float16, torch.bfloat16)


class _Function(nn.Module):
    """A plain function as a module without layers."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.function(*args, **kwargs)


def readable(model: object, *layers: object) -> tuple[nn.Module, ...]:
    """The module in what users have, and the layers in it: without the wrapping of torch.compile
    and DataParallel, a function as a module; half-precision weights as a float32 copy.

    Raises KpnbError for what cannot be called.
    """
    while isinstance(model, nn.Module):
        inside = getattr(model, "_orig_mod", None)  # of torch.compile
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inside = model.module
        if inside is None:
            break
        model = inside
        layers = tuple(
            layer.removeprefix("_orig_mod.").removeprefix("module.")
            if isinstance(layer, str)
            else layer
            for layer in layers
        )
    if not callable(model):
        raise KpnbError(f"a {type(model).__name__} is no model: pass a module or a function.")
    if not isinstance(model, nn.Module):
        return _Function(model), *layers
    if any(t.dtype in HALF for t in (*model.parameters(), *model.buffers())):
        names = {module: name for name, module in model.named_modules()}
        layers = tuple(names.get(la, la) if isinstance(la, nn.Module) else la for la in layers)
        model = copied(model).float()
    return model, *layers


def copied(model: nn.Module) -> nn.Module:
    """A copy; KpnbError for a model that holds what cannot be copied."""
    try:
        return copy.deepcopy(model)
    except (TypeError, RuntimeError, pickle.PicklingError) as error:
        told = f"the model cannot be copied ({error})"
        raise KpnbError(f"{told}: keep files, locks and the like out of its attributes.") from error


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, gradients are on even where the caller has switched them off for good, and float32 is
    computed as such: no autocast, and no TF32 on a GPU. With its ten bits a ResNet-18 on an H200
    gave equal inputs features apart by more than a seventh of their change under the first noise.
    """
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    now = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(cudnn.flags(**now, allow_tf32=False))
        torch.set_float32_matmul_precision("highest")
        stack.callback(torch.set_float32_matmul_precision, matmul)
        yield


def each_batch(inputs: object, transform: Callable[[object], Tensor] | None) -> Iterator[object]:
    """The inputs batch by batch: of a DataLoader or an iterator each one's first part, else one.

    transform: from one picture (PIL, array of bytes) to what the model takes of it.
    """
    if isinstance(inputs, (torch.utils.data.DataLoader, Iterator)):
        for batch in inputs:
            yield _batch(batch[0] if isinstance(batch, (tuple, list)) else batch, transform)
    else:
        yield _batch(inputs, transform)


def _batch(inputs: object, transform: Callable[[object], Tensor] | None) -> object:
    several = isinstance(inputs, (Tensor, np.ndarray, Sequence)) and not isinstance(inputs, str)
    if any(isinstance(one, (str, PathLike)) for one in (inputs if several else [inputs])):
        raise KpnbError("inputs are names of files: open them first, [PIL.Image.open(name), ...].")
    if transform is not None:
        found = [transform(one) for one in (inputs if several else [inputs])]
        shapes = {tuple(one.shape) for one in found}
        if len(shapes) > 1:
            raise KpnbError(f"transform gives {sorted(shapes)[:2]}: let it crop to one size.")
        return torch.stack(found)
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if several and not isinstance(inputs, Tensor):
        if not all(isinstance(one, Tensor) for one in inputs):
            kind = type(inputs[0]).__name__ if len(inputs) else "nothing"
            told = f"inputs are a list of {kind}: pass a tensor, or transform= a function that"
            raise KpnbError(f"{told} makes one of each, scaled as in training.")
        return torch.stack(list(inputs))
    if isinstance(inputs, Tensor) and inputs.dtype == torch.uint8:
        told = "inputs are bytes (uint8): pass floats scaled as in training"
        raise KpnbError(f"{told}, or transform= a function that makes them of one picture.")
    return inputs


def moved(inputs: object, model: nn.Module) -> object:
    """A tensor of inputs where the model's weights are and, if floating, of their precision."""
    weights = next((p for p in model.parameters()), None)
    if not isinstance(inputs, Tensor) or weights is None:
        return inputs.float() if _is_half(inputs) else inputs
    floating = inputs.is_floating_point() and weights.is_floating_point()
    return inputs.to(weights.device, weights.dtype if floating else inputs.dtype)


def _is_half(inputs: object) -> bool:
    return isinstance(inputs, Tensor) and inputs.dtype in HALF


def with_arguments(problem: Problem, model: nn.Module, given: object) -> Problem:
    """The problem with further arguments of the model's forward pass: a sequence, or a dictionary
    by name. Tensors with an entry for each sample travel with their samples."""
    given = given if isinstance(given, (dict, tuple, list)) else (given,)
    if len(given) == 0:
        return problem
    if not problem.plain:
        raise KpnbError("forward_args do not fit these units: wrap the model in a function.")
    count, device = len(problem.x), problem.x.device

    def of(value: object, samples: Tensor) -> object:
        if not isinstance(value, Tensor):
            return value
        value = value.to(device)
        return value[samples] if value.ndim and len(value) == count else value

    def forward(noisy: Tensor, samples: Tensor) -> object:
        if isinstance(given, dict):
            return model(noisy, **{name: of(value, samples) for name, value in given.items()})
        return model(noisy, *(of(value, samples) for value in given))

    return Problem(problem.x, forward, plain=True)


def check_scale(problem: Problem) -> None:
    """Warns of inputs that are hardly scaled as in training, since noise has a size of its own."""
    spread = float(problem.x.double().std())
    if problem.plain and spread > 0 and not SCALES[0] <= spread <= SCALES[1]:
        told = f"the inputs' standard deviation is {spread:.2g}, and noise is meant for about 1"
        warnings.warn(f"{told}: scale them as in training.", stacklevel=4)


def check_model(
    readers: Sequence[FeatureReader], problem: Problem, keys: Sequence[bytes], step: float
) -> None:
    """Clean passes of a few samples; KpnbError for what the estimator relies on and does not hold.

    readers: of the layers, which share the passes. step: the noise that changes are held against
    (init_sigma).
    """

    def features(x: Tensor, samples: Tensor, to_end: bool = False) -> list[Tensor]:
        return whole(readers, lambda: problem.forward(x.clone(), samples), to_end)

    few = torch.arange(min(CHECKED, len(keys)), device=problem.x.device)
    x, one = problem.x[few], few[:1]
    with torch.no_grad():
        found = _first_pass(features, x, few)
        for reader, feature in zip(readers, found, strict=True):
            _check_numbers(reader, feature, len(few))
            if reader.layer is OUTPUT and reader.relu:
                plain = reader.at(OUTPUT)
                plain.relu = False
                (raw,) = whole([plain], lambda: problem.forward(x.clone(), few))
                if (raw < 0).double().mean() > NEGATIVE:
                    told = "relu=True drops the negative values of the output: pass relu=False"
                    warnings.warn(f"{told} to keep them.", stacklevel=4)
        again = features(x, few)
        alone = features(x[:1], one) if len(few) > 1 else again
        noise = step * normal(keys[:1], "check", range(1), x.shape[1:], x)[:, 0]
        pair = features(torch.cat([x[:1], x[:1] + noise]), one.repeat(2))
    changes = [both[1] - both[0] for both in pair]
    for others, what in ((again, _RANDOM), (alone, _TALKING), (pair, _TALKING)):
        for feature, other, change in zip(found, others, changes, strict=True):
            off = (other[0] - feature[0]).double().norm()
            if off**2 > UNSTEADY * change.double().norm() ** 2 and off > 1e-4 * feature[0].norm():
                raise KpnbError(f"the model gives another feature {what}.")
    with torch.enable_grad():
        noisy = (x[:1] + noise).requires_grad_()
        for reader, feature, change in zip(readers, features(noisy, one), changes, strict=True):
            _check_gradient(reader, feature, noisy, noise, change, step)


_RANDOM = (
    "for the same input when asked twice, in eval mode: switch off what it draws at random "
    "(dropout without training=self.training?)"
)
_TALKING = (
    "for an input alone than beside others, so its rows depend on each other: use one that keeps "
    "them apart (batch norm with running statistics?)"
)


def _check_gradient(
    reader: FeatureReader, found: Tensor, noisy: Tensor, noise: Tensor, change: Tensor, step: float
) -> None:
    """KpnbError where the feature changes under noise, and its gradient shows next to nothing of
    it, along this noise or any other: rounding, integer kernels, parts under no_grad. Features that
    jump, as with neighbors taken anew, have a gradient beside the jumps."""
    seen, given = torch.zeros((), device=noisy.device), {"retain_graph": True, "allow_unused": True}
    if found.requires_grad:
        (slope,) = torch.autograd.grad(found, noisy, change[None], **given)
        if slope is not None:
            seen = torch.maximum((slope * noise).sum().abs(), step * slope.norm())
    size = change.square().sum()
    if size > 0 and seen < SEEN * size:
        raise KpnbError(
            f"the feature of {reader.name} is not differentiable in the input: it "
            "changes, but no gradient shows it (rounding, integers, torch.no_grad); name a layer "
            "before that."
        )


def _first_pass(features: Callable[..., list[Tensor]], x: Tensor, few: Tensor) -> list[Tensor]:
    try:
        return features(x, few, to_end=True)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        told = f"the model takes other arguments than its input alone ({error})"
        raise KpnbError(f"{told}: pass them as forward_args, or wrap it in a function.") from error
    except RuntimeError as error:
        if not any(word in str(error) for word in ("Half", "BFloat16", "same dtype")):
            raise
        told = f"the model cannot be computed in float32 ({str(error).splitlines()[0]}): pass one"
        raise KpnbError(f"{told} that does not change to another precision inside.") from error


def _check_numbers(reader: FeatureReader, feature: Tensor, rows: int) -> None:
    if len(feature) != rows:
        raise KpnbError(
            f"{reader.name} gives {len(feature)} rows for {rows} samples: the batch is not its "
            "first dimension; let feature= be a function that puts samples first, or name another."
        )
    if not feature.is_floating_point():
        raise KpnbError(f"{reader.name} gives {feature.dtype}, without gradient: name another.")
    telling = feature[feature != feature.round()]  # whole numbers fit into any precision
    enough = len(telling.unique()) >= LEAST_DISTINCT
    for dtype in HALF:
        low = feature.dtype == dtype
        if low or (enough and torch.equal(telling, telling.to(dtype).to(telling.dtype))):
            told = f"{reader.name} is computed in {str(dtype).removeprefix('torch.')}, too coarse"
            raise KpnbError(f"{told} for small noise: have the model compute in float32.")


def rows_in_memory(reader: FeatureReader, problem: Problem) -> int:
    """How many noisy rows one pass may have, from what a single one keeps for its gradient; a
    multiple of four, from 4 to MOST_ROWS."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in reader.model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    first = torch.zeros(1, dtype=torch.long, device=problem.x.device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        x = problem.x[:1].clone().requires_grad_()
        feature = reader(lambda: problem.forward(x.clone(), first))
    one = sum(kept.values()) + feature.nbytes + 4 * x.nbytes
    room = CPU_ROWS
    if problem.x.device.type == "cuda":
        room = GPU_SHARE * torch.cuda.mem_get_info(problem.x.device)[0]
    return int(max(4, min(MOST_ROWS, room // one // 4 * 4)))
