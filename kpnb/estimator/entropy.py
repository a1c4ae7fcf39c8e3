"""How much of each input unit's information a layer discards: the estimator."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from kpnb.errors import KpnbError, is_out_of_memory
from kpnb.estimator import inputs as given
from kpnb.estimator.closed_form import STEPS, optimum, path
from kpnb.estimator.descent import descent, published, reference
from kpnb.estimator.features import Choice, FeatureReader
from kpnb.estimator.loss import GAUSSIAN_ENTROPY, Outcome
from kpnb.estimator.maps import FORMAT, TENSORS, EntropyMaps
from kpnb.estimator.perturbation import Perturbation, sample_keys
from kpnb.estimator.rates import BLOCK
from kpnb.estimator.units import GridUnits, Problem, Units

__all__ = ["LADDER", "METHODS", "TENSORS", "EntropyEstimator", "EntropyMaps", "Stopped"]

#: From a layer's answer to noise to one sigma per input unit, in [0.001, 1] as in the public code.
METHODS: dict[str, Callable[[Perturbation, EntropyEstimator], Outcome]] = {
    "path": path,
    "published": published,
    "optimum": optimum,
    "descent": descent,
    "reference": reference,
}
#: quality -> what it sets where nothing else is said: noisy passes of a measurement, measurements,
#: and the mean standard error in nats up to which `path` doubles them (ours; costs in the book).
LADDER: dict[str, dict[str, float | None]] = {
    "fast": {"probes": 8, "evaluations": 2, "standard_error": None},
    "standard": {"probes": 24, "evaluations": 3, "standard_error": 0.02},
    "exact": {"probes": 24, "evaluations": 3, "standard_error": 0.003},
}
Layer = str | nn.Module | None


class Stopped(KeyboardInterrupt):
    """Ctrl-C during `explain`; maps: those of the samples that were finished, as `explain` gives
    them, None for none."""

    def __init__(self, maps: EntropyMaps | dict[str, EntropyMaps] | None) -> None:
        if isinstance(maps, dict):
            told = ", ".join(f"{layer}: {len(found)}" for layer, found in maps.items())
            told = f"the maps of finished samples by layer ({told})"
        else:
            told = f"the maps of the first {len(maps or ())} samples"
        super().__init__(f"stopped; {told} are in the error's .maps")
        self.maps = maps


@dataclass(frozen=True)
class EntropyEstimator:
    """Estimates EntropyMaps of any layer of any model.

        maps = EntropyEstimator(layer="classifier.0").explain(model, images)

    layer: dotted name of model.named_modules(), or a module, called once per forward pass; None for
        the model's own output; or a list of these.
    units: how an input splits into units; a 16 x 16 grid, as in the paper.
    method: "path" (closed form of the published descent, default), "published" (that descent,
        slow), "optimum" (closed form of the minimum of Eq. 3), "descent" (Monte Carlo to it),
        "reference" (the published path without its noise, slower still).
    target_entropy: mean entropy in nats at which path and published are read off (public code).
    entropy_weight: weight of the mean entropy in the loss; 7 for VGG and AlexNet, 6 for ResNets
        (public code); the alpha of Eq. 3 is entropy_weight / units.
    init_sigma: where sigma starts, and the noise that defines sigma_f^2 (public code: 0.01).
    quality: "fast", "standard" or "exact", what LADDER then says of the three below (ours).
    probes: noisy passes per evaluation of the closed forms, in fours (ours; path and optimum).
    evaluations: how often the closed forms measure the feature's answer anew (ours); optimum
        does so eight times as often.
    standard_error: nats; path doubles the probes of a sample until the mean standard error of its
        entropies is at most this, or most_probes are used (ours). None: probes are as given.
    relu: apply ReLU to the feature first (public code, at every layer).
    feature: how the feature is taken from what the layer gives: None (a tensor, the first of a
        tuple, `.logits` or `.last_hidden_state`), a key or attribute, a place, or a function of it
        that returns (samples, ...).
    draws, lr, iterations, extra_iterations: of the published descent (public code: 96, 1e-4, 60,
        20). draws also serve descent, which takes at most descent_iterations steps (ours).
    reference_draws: of reference, over its whole path (ours).
    tolerance: nats; for `reached` (ours).
    chunk: most rows (sample x draw) in one pass through the model, though never fewer than the
        four of a block of draws. The one setting that bounds memory; it changes no result beyond
        rounding. "auto" finds it from what one row takes, and halves it where memory runs out.
    autocast: None, "bfloat16" or "float16": run the model in mixed precision (GPU; its effect on H
        is in the book's chapter on the estimator).
    seed: of the noise; a sample's noise depends on seed and its content only.
    Raises KpnbError for a setting that cannot work, as for a target that lies below the start.
    """

    layer: Layer | Sequence[Layer]
    units: Units = GridUnits(16)
    method: str = "path"
    target_entropy: float = -2.8
    entropy_weight: float = 7.0
    init_sigma: float = 0.01
    probes: int | None = None
    relu: bool = True
    seed: int = 0
    evaluations: int | None = None
    standard_error: float | Literal["by quality"] | None = "by quality"
    most_probes: int = 768
    draws: int = 96
    lr: float = 1e-4
    iterations: int = 60
    extra_iterations: int = 20
    descent_iterations: int = 3200
    reference_draws: int = 16384
    tolerance: float = 0.02
    chunk: int | Literal["auto"] = "auto"
    autocast: str | None = None
    feature: Choice = None
    quality: str = "standard"

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("quality", LADDER)):
            if getattr(self, name) not in known:
                value, every = getattr(self, name), ", ".join(known)
                raise KpnbError(f"{name}={value!r} is unknown; use one of {every}.")
        for name, usual in LADDER[self.quality].items():
            if getattr(self, name) == ("by quality" if name == "standard_error" else None):
                object.__setattr__(self, name, usual)
        for name, least in _SMALLEST.items():
            value = getattr(self, name)
            if name == "chunk" and value == "auto":
                continue
            if not isinstance(value, int) or value < least:
                raise KpnbError(f"{name}={value!r} must be a whole number; use {least} or more.")
        for name in ("entropy_weight", "init_sigma", "lr", "tolerance", "standard_error"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise KpnbError(f"{name}={getattr(self, name)!r} must be positive.")
        if self.probes % BLOCK:
            told = f"probes={self.probes} does not divide by {BLOCK}: draws come in blocks"
            raise KpnbError(f"{told}, so use {self.probes // BLOCK * BLOCK + BLOCK}.")
        if self.autocast not in _PRECISIONS:
            told = f"autocast={self.autocast!r} is unknown"
            raise KpnbError(f"{told}; use None, 'bfloat16' or 'float16'.")
        start = torch.tensor(self.init_sigma).log() + GAUSSIAN_ENTROPY
        if self.method not in ("optimum", "descent") and not self.target_entropy > start:
            raise KpnbError(
                f"target_entropy={self.target_entropy!r} lies below the start, {start:.2f} nats at "
                f"init_sigma={self.init_sigma:g}: raise it, or lower init_sigma."
            )

    def explain(
        self,
        model: nn.Module | Callable[..., object],
        inputs: object,
        forward_args: Sequence | dict | Tensor = (),
        transform: Callable[[object], Tensor] | None = None,
        progress: bool | None = None,
    ) -> EntropyMaps | dict[str, EntropyMaps]:
        """Maps of all samples of `inputs`; with several layers a dictionary of maps by layer.

        model: a module, which is left as it was, or a function.
        inputs: what the units take; images (samples, channels, height, width) for GridUnits, scaled
        as in training; or a DataLoader or an iterator of such batches (of tuples the first part).
        They are moved to the model's device.
        forward_args: further arguments of the model's forward pass, by place or by name; tensors
        with an entry for each sample travel with their samples.
        transform: from one picture (PIL, bytes) to a tensor, where inputs are a list of pictures.
        progress: a bar with the time left; None shows it on a terminal and in a live notebook.
        Warns of samples without a map, a target or standard error that was not reached. Raises
        KpnbError for an unknown layer, a layer that is called twice or not at all, empty or
        non-finite inputs, a model that is no function of its input, and when memory runs out
        (naming `chunk`); `Stopped` on Ctrl-C.
        """
        several = isinstance(self.layer, (list, tuple))
        model, *layers = given.readable(model, *(self.layer if several else [self.layer]))
        if not layers:
            raise KpnbError("layer is an empty list: name one layer or more.")
        parts: dict[str, list[EntropyMaps]] = {}
        shapes = set()
        try:
            for x in given.each_batch(inputs, transform):
                shapes.add(tuple(getattr(x, "shape", ())[1:]))
                self._batch(model, layers, x, forward_args, progress, parts)
        except KeyboardInterrupt:
            raise Stopped(_joined(parts, several, shapes) or None) from None
        if not parts:
            raise KpnbError("there are no samples to explain; pass at least one.")
        return _joined(parts, several, shapes)

    def _batch(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        x: object,
        arguments: object,
        progress: bool | None,
        into: dict[str, list[EntropyMaps]],
    ) -> None:
        """The maps of one batch, layer by layer, into lists by layer."""
        with given.full_precision():
            problem = self.units.problem(model, given.moved(x, model))
            problem = given.with_arguments(problem, model, arguments)
            _check_samples(problem.x)
            keys = sample_keys(problem.x, self.seed)
            with FeatureReader(model, layers[0], self.relu, self.feature) as first:
                each = {(one := first.at(layer)).layer: one for layer in layers}
                readers = list(each.values())  # two names of one layer are one
                given.check_scale(problem)
                given.check_model(readers, problem, keys, self.init_sigma)
                for reader in readers:
                    named, outcomes = replace(self, layer=reader.layer), []
                    try:
                        named._blocks(reader, problem, keys, progress, outcomes)
                    finally:
                        maps = [named._collect(outcomes)] if outcomes else []
                        into.setdefault(str(reader.layer), []).extend(maps)

    def _blocks(
        self,
        reader: FeatureReader,
        problem: Problem,
        keys: list[bytes],
        progress: bool | None,
        outcomes: list[dict[str, Tensor]],
    ) -> None:
        """The outcomes of all samples at one layer, block by block."""
        chunk = given.rows_in_memory(reader, problem) if self.chunk == "auto" else self.chunk
        done, live = 0, sys.stderr.isatty() or "ipykernel" in sys.modules
        bar = tqdm(total=len(keys), desc=f"maps of {reader.layer or 'output'}", unit="sample",
                   disable=not (live if progress is None else progress), leave=False)  # fmt: skip
        with bar:
            while done < len(keys):
                size = max(1, chunk // (self.probes if self._closed else self.draws))
                block = range(done, min(done + size, len(keys)))
                try:
                    outcomes.append(self._explain_block(reader, problem, keys, block, chunk, bar))
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    if self.chunk != "auto" or chunk <= BLOCK:
                        raise KpnbError(
                            f"out of memory with chunk={chunk} rows of "
                            f"{tuple(problem.x.shape[1:])}; give EntropyEstimator a smaller chunk."
                        ) from error
                    chunk = max(BLOCK, chunk // 2)
                    continue
                done = block.stop
                bar.n = done
                bar.refresh()

    @property
    def _closed(self) -> bool:
        return self.method in ("path", "optimum")

    @property
    def settings(self) -> dict[str, object]:
        """Every setting that changes a map, JSON-able."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("chunk", "quality"):  # the latter is told by what it sets
            del found[name]
        if self.feature is None:
            del found["feature"]
        elif callable(self.feature):
            found["feature"] = getattr(self.feature, "__qualname__", str(self.feature))
        if isinstance(self.layer, nn.Module):
            found["layer"] = type(self.layer).__name__
        return found | {"units": f"{self.units}", "format": FORMAT}

    def _explain_block(
        self,
        reader: FeatureReader,
        problem: Problem,
        keys: list[bytes],
        block: range,
        chunk: int,
        bar: tqdm,
    ) -> dict[str, Tensor]:
        samples = torch.tensor(block, device=problem.x.device)
        chosen, precision = [keys[index] for index in block], _PRECISIONS[self.autocast]
        rows = self._rows * len(block)  # about; with a standard error there may be more

        def tick(count: int) -> None:
            bar.update(min(count * len(block) / rows, block.stop - 0.01 - bar.n))

        given_to = reader, problem, self.units, samples, chosen, chunk, precision, tick
        outcome = METHODS[self.method](Perturbation(*given_to), self)
        return {name: value.detach() for name, value in vars(outcome).items()}

    @property
    def _rows(self) -> int:
        """Noisy passes of a sample, those that may be added left aside."""
        if self._closed:
            return 2 * 16 + 2 * self.probes * self.evaluations * (
                STEPS if self.method == "optimum" else 1
            )
        steps = {"published": self.iterations * self.draws, "reference": self.reference_draws}
        return steps.get(self.method, self.descent_iterations * self.draws)

    def _collect(self, outcomes: list[dict[str, Tensor]]) -> EntropyMaps:
        whole = {name: torch.cat([outcome[name] for outcome in outcomes]) for name in outcomes[0]}
        defined = whole["feature_variance"] > 0
        for name in ("sigma", "standard_error"):
            whole[name] = torch.where(defined.unsqueeze(1), whole[name], torch.nan)
        whole["reached"] = whole["reached"] & defined
        maps = EntropyMaps(**whole, settings=self.settings)
        for told in self._shortcomings(maps):
            warnings.warn(told, stacklevel=4)
        return maps

    def _shortcomings(self, maps: EntropyMaps) -> list[str]:
        """What was asked for and not got, a sentence each."""
        told, defined = [], maps.defined
        lost = (~defined).nonzero().flatten().tolist()
        if lost:
            why = "behind the ReLU, which relu=False leaves out" if self.relu else "there"
            told.append(f"samples {lost[:5]} have no entropy map: their feature is still {why}.")
        if not maps.reached[defined].all():
            late = (defined & ~maps.reached).nonzero().flatten().tolist()
            told.append(f"samples {late[:5]} did not get to where method={self.method!r} ends.")
        error = maps.standard_error.nanmean(1)[defined]
        if self.standard_error is not None and (error > self.standard_error).any():
            over = int((error > self.standard_error).sum())
            told.append(
                f"standard_error={self.standard_error:g} nats is not met by {over} of {len(error)} "
                f"samples (up to {error.max():.2g}) with most_probes={self.most_probes}; raise it."
            )
        return told


def _joined(
    parts: dict[str, list[EntropyMaps]], several: bool, shapes: set[tuple[int, ...]]
) -> EntropyMaps | dict[str, EntropyMaps] | None:
    """As `explain` returns them, with the shape of an input, if it is one; None where there are
    none."""
    maps = {layer: EntropyMaps.joined(some) for layer, some in parts.items() if some}
    for found in maps.values() if len(shapes) == 1 else ():
        found.settings["inputs"] = list(*shapes)
    return maps if several else next(iter(maps.values()), None)


_SMALLEST = {
    "probes": 2 * BLOCK, "evaluations": 1, "most_probes": 1, "draws": 1, "iterations": 1,
    "extra_iterations": 0, "descent_iterations": 50, "reference_draws": 1, "chunk": 2,
}  # fmt: skip
_PRECISIONS = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _check_samples(x: Tensor) -> None:
    if len(x) == 0:
        raise KpnbError("there are no samples to explain; pass at least one.")
    if not x.is_floating_point():
        raise KpnbError(f"inputs are {x.dtype}; pass floating point, normalized as in training.")
    bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise KpnbError(f"samples {bad[:5]} contain NaN or infinite values; repair or drop them.")
