"""How much of each input unit's information a layer discards: the estimator and its result."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.closed_form import optimum, path
from kpnb.estimator.descent import descent, published, reference
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.loss import Outcome, entropy_of
from kpnb.estimator.perturbation import Perturbation, sample_keys
from kpnb.estimator.rates import BLOCK
from kpnb.estimator.units import GridUnits, Problem, Units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: From a layer's answer to noise to one sigma per input unit, in [0.001, 1] as in the public code.
METHODS: dict[str, Callable[[Perturbation, EntropyEstimator], Outcome]] = {
    "path": path,
    "published": published,
    "optimum": optimum,
    "descent": descent,
    "reference": reference,
}


FORMAT = "kpnb-entropy-maps-2"
TENSORS = ("sigma", "feature_variance", "reached", "standard_error")


@dataclass(frozen=True)
class EntropyMaps:
    """Information discarding of every input unit of every sample, at one layer of one network.

    sigma: (samples, units) noise that each unit takes; NaN where not defined.
    feature_variance: (samples,) sigma_f^2 of Eq. 3, the feature's squared change under noise of
        init_sigma; 0 where the feature does not move at all.
    reached: (samples,) bool; path, published: the mean entropy is within `tolerance` of the target;
        descent: it converged; optimum: always true, there is nothing to reach.
    standard_error: (samples, units) of each H_i, nats, from the spread over the draws; it does not
        hold the (smaller) error of the closed form itself. NaN for methods that know none.
    settings: how the maps were made, JSON-able.
    """

    sigma: Tensor
    feature_variance: Tensor
    reached: Tensor
    standard_error: Tensor
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def entropy(self) -> Tensor:
        """H_i = log sigma_i + 0.5 log(2 pi e), Eq. 2, (samples, units), nats."""
        return entropy_of(self.sigma)

    @property
    def mean_entropy(self) -> Tensor:
        """(samples,) mean of H_i over units, nats."""
        return self.entropy.mean(1)

    @property
    def defined(self) -> Tensor:
        """(samples,) bool: sigma_f > 0. A feature that never moves has no entropy map."""
        return self.feature_variance > 0

    def __len__(self) -> int:
        return len(self.sigma)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> EntropyMaps:
        """The maps of some samples; a single index keeps the samples dimension."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):  # what ends a for loop over the maps
                raise IndexError(f"there is no sample {index} among {len(self)}.")
            index = slice(index, index + 1 or None)
        parts = {name: getattr(self, name)[index] for name in TENSORS}
        return EntropyMaps(**parts, settings=self.settings)

    def tensors(self) -> dict[str, Tensor]:
        """What `save` writes, by the names of TENSORS, on the CPU."""
        return {name: getattr(self, name).detach().cpu().contiguous() for name in TENSORS}

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file (settings as JSON in its header), whole or not at all."""
        path = Path(path)
        header = {"format": FORMAT, "settings": json.dumps(self.settings, sort_keys=True)}
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            partial.write_bytes(save(self.tensors(), header))
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise KpnbError(f"cannot write entropy maps to {path}: {error.strerror}.") from error

    @staticmethod
    def load(path: str | Path) -> EntropyMaps:
        """Reads what `save` wrote; KpnbError for a missing, foreign or damaged file."""
        try:
            with safe_open(Path(path), framework="pt") as stored:
                header = stored.metadata() or {}
                if header.get("format") != FORMAT:
                    raise KpnbError(f"{path} holds no entropy maps; pass a file that save() wrote.")
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                return EntropyMaps(**tensors, settings=json.loads(header["settings"]))
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, KpnbError):
                raise
            raise KpnbError(f"cannot read entropy maps from {path}: {error}.") from error

    def show(self, images: Tensor | None = None, count: int = 8) -> Figure:
        """Draws the first `count` maps on the fixed scale in nats (kpnb.figures.image)."""
        from kpnb.figures.image import entropy_maps

        return entropy_maps(self, images, count)


@dataclass(frozen=True)
class EntropyEstimator:
    """Estimates EntropyMaps of any layer of any nn.Module.

        maps = EntropyEstimator(layer="classifier.0").explain(model, images)

    layer: dotted name of model.named_modules(), called once per forward pass.
    units: how an input splits into units; a 16 x 16 grid, as in the paper.
    method: "path" (closed form of the published descent, default), "published" (that descent,
        slow), "optimum" (closed form of the minimum of Eq. 3), "descent" (Monte Carlo to it),
        "reference" (the published path without its noise, slower still).
    target_entropy: mean entropy in nats at which path and published are read off (public code).
    entropy_weight: weight of the mean entropy in the loss; 7 for VGG and AlexNet, 6 for ResNets
        (public code); the alpha of Eq. 3 is entropy_weight / units.
    init_sigma: where sigma starts, and the noise that defines sigma_f^2 (public code: 0.01).
    probes: noisy passes per evaluation of the closed forms, in fours (ours; path and optimum).
    evaluations: how often the closed forms measure the feature's answer anew (ours).
    standard_error: nats; path doubles the probes of a sample until the mean standard error of its
        entropies is at most this, or most_probes are used (ours; the default was settled on
        the VGG-11 cases of the book's chapter). None: probes are as given.
    relu: apply ReLU to the feature first (public code, at every layer).
    draws, lr, iterations, extra_iterations: of the published descent (public code: 96, 1e-4, 60,
        20). draws also serve descent, which takes at most descent_iterations steps (ours).
    reference_draws: of reference, over its whole path (ours).
    tolerance: nats; for `reached` (ours).
    chunk: most rows (sample x draw) in one pass through the model, though never fewer than the
        four of a block of draws. The one setting that bounds memory; it changes no result beyond
        rounding.
    autocast: None, "bfloat16" or "float16": run the model in mixed precision (GPU; its effect on H
        is in the book's chapter on the estimator).
    seed: of the noise; a sample's noise depends on seed and its content only.
    """

    layer: str
    units: Units = GridUnits(16)
    method: str = "path"
    target_entropy: float = -2.8
    entropy_weight: float = 7.0
    init_sigma: float = 0.01
    probes: int = 24
    relu: bool = True
    seed: int = 0
    evaluations: int = 3
    standard_error: float | None = 0.003
    most_probes: int = 768
    draws: int = 96
    lr: float = 1e-4
    iterations: int = 60
    extra_iterations: int = 20
    descent_iterations: int = 3200
    reference_draws: int = 16384
    tolerance: float = 0.02
    chunk: int = 256
    autocast: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise KpnbError(f"method={self.method!r} is unknown; use one of {', '.join(METHODS)}.")
        for name, least in _SMALLEST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise KpnbError(f"{name}={value!r} must be a whole number; use {least} or more.")
        for name in ("entropy_weight", "init_sigma", "lr", "tolerance", "standard_error"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise KpnbError(f"{name}={getattr(self, name)!r} must be positive.")
        if self.probes % BLOCK:
            raise KpnbError(
                f"probes={self.probes} does not divide by {BLOCK}: draws come in blocks, so use "
                f"{self.probes // BLOCK * BLOCK + BLOCK}."
            )
        if self.autocast not in _PRECISIONS:
            raise KpnbError(
                f"autocast={self.autocast!r} is unknown; use None, 'bfloat16' or 'float16'."
            )

    def explain(self, model: nn.Module, inputs: Tensor) -> EntropyMaps:
        """Maps of all samples of `inputs`, on the model's device.

        inputs: what the units take; images (samples, channels, height, width) for GridUnits.
        Raises KpnbError for an unknown layer, a layer that is called twice or not at all, empty or
        non-finite inputs, and when memory runs out (naming `chunk`).
        """
        problem = self.units.problem(model, inputs)
        _check_samples(problem.x)
        keys = sample_keys(problem.x, self.seed)
        block = max(1, self.chunk // (self.probes if self._closed else self.draws))
        # Gradients are needed even where the caller has switched them off for good.
        with torch.inference_mode(False), FeatureReader(model, self.layer, self.relu) as reader:
            first = torch.zeros(1, dtype=torch.long, device=problem.x.device)
            reader.check_called_once(lambda: problem.forward(problem.x[:1].clone(), first))
            outcomes = [
                self._explain_block(
                    reader, problem, keys, range(start, min(start + block, len(keys)))
                )
                for start in range(0, len(keys), block)
            ]
        return self._collect(outcomes)

    @property
    def _closed(self) -> bool:
        return self.method in ("path", "optimum")

    @property
    def settings(self) -> dict[str, object]:
        """Every setting that changes a map, JSON-able."""
        settings = asdict(self) | {"units": f"{self.units}", "format": FORMAT}
        settings.pop("chunk")
        return settings

    def _explain_block(
        self, reader: FeatureReader, problem: Problem, keys: list[bytes], block: range
    ) -> dict[str, Tensor]:
        samples = torch.tensor(block, device=problem.x.device)
        chosen = [keys[index] for index in block]
        try:
            precision = _PRECISIONS[self.autocast]
            p = Perturbation(reader, problem, self.units, samples, chosen, self.chunk, precision)
            outcome = METHODS[self.method](p, self)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            # On the CPU torch raises a plain RuntimeError.
            if type(error) is RuntimeError and "can't allocate memory" not in str(error):
                raise
            raise KpnbError(
                f"out of memory with chunk={self.chunk} rows of {tuple(problem.x.shape[1:])}; "
                "give EntropyEstimator a smaller chunk."
            ) from error
        return {name: value.detach() for name, value in vars(outcome).items()}

    def _collect(self, outcomes: list[dict[str, Tensor]]) -> EntropyMaps:
        whole = {name: torch.cat([outcome[name] for outcome in outcomes]) for name in outcomes[0]}
        defined = whole["feature_variance"] > 0
        for name in ("sigma", "standard_error"):
            whole[name] = torch.where(defined.unsqueeze(1), whole[name], torch.nan)
        whole["reached"] = whole["reached"] & defined
        return EntropyMaps(**whole, settings=self.settings)


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
