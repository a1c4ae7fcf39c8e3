"""Entropy maps: what an estimate says of each input unit, how it is shown, handed on and stored."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from html import escape
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.loss import entropy_of
from kpnb.estimator.units import GridUnits, as_masks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kpnb.figures.text import Html

FORMAT = "kpnb-entropy-maps-2"
TENSORS = ("sigma", "feature_variance", "reached", "standard_error")


class UnitTable:
    """Values of every input unit of every sample; a base of frozen data classes.

    PARTS: the fields that are tensors (samples, ...), of which the first is (samples, units); the
        other fields are JSON-able and the same for all samples; `settings` is among them.
    MARK: of its files. KIND: what it is called in messages.
    """

    PARTS: ClassVar[tuple[str, ...]]
    MARK: ClassVar[str]
    KIND: ClassVar[str]
    settings: dict[str, object]

    @property
    def _shape(self) -> torch.Size:
        return getattr(self, self.PARTS[0]).shape

    @property
    def _shared(self) -> dict[str, object]:
        """What is the same for all samples, by name."""
        names = [one.name for one in fields(self) if one.name not in self.PARTS]
        return {name: getattr(self, name) for name in names}

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Self:
        """Those of some samples; a single index keeps the samples dimension."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):  # what ends a for loop over the samples
                raise IndexError(f"there is no sample {index} among {len(self)}.")
            index = slice(index, index + 1 or None)
        return replace(self, **{name: getattr(self, name)[index] for name in self.PARTS})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that `save` writes, by name, on the CPU."""
        return {name: getattr(self, name).detach().cpu().contiguous() for name in self.PARTS}

    def to(self, device: str | torch.device) -> Self:
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.PARTS})

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file (settings as JSON in its header), whole or not at all."""
        path = Path(path)
        shared = {name: json.dumps(value, sort_keys=True) for name, value in self._shared.items()}
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        # Copies: two tensors that share their memory would be refused.
        parts = {name: tensor.clone() for name, tensor in self.tensors().items()}
        try:
            partial.write_bytes(save(parts, {"format": self.MARK} | shared))
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise KpnbError(f"cannot write {self.KIND} to {path}: {error.strerror}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote; KpnbError for a missing, foreign or damaged file."""
        try:
            with safe_open(Path(path), framework="pt") as stored:
                header = stored.metadata() or {}
                if header.pop("format", None) != cls.MARK:
                    raise KpnbError(f"{path} holds no {cls.KIND}; pass a file that save() wrote.")
                parts = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                return cls(**parts, **{name: json.loads(text) for name, text in header.items()})
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, KpnbError):
                raise
            raise KpnbError(f"cannot read {cls.KIND} from {path}: {error}.") from error

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of more samples as one, with NaN, or False, beyond the units of those that have
        fewer. Raises KpnbError for none, and for some that were made in different ways."""
        # The shape of the inputs is no matter of how they were made.
        plain = [replace(part, settings={k: v for k, v in part.settings.items() if k != "inputs"})
                 for part in parts]  # fmt: skip
        if not parts or any(part._shared != plain[0]._shared for part in plain):
            raise KpnbError(f"join one set of {cls.KIND} or more, all made with the same settings.")
        most, found = max(part._shape[1] for part in parts), {}
        for name in cls.PARTS:
            found[name] = torch.cat([_wide(getattr(part, name), most) for part in parts])
        same = all(part.settings == parts[0].settings for part in parts)
        return replace(parts[0] if same else plain[0], **found)

    def __eq__(self, other: object) -> bool:
        """Whether all numbers (NaN equals NaN) and settings are the same."""
        if type(other) is not type(self):
            return NotImplemented
        pairs = zip(self.tensors().values(), other.tensors().values(), strict=True)
        same = [a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
                for a, b in pairs]  # fmt: skip
        return all(same) and self._shared == other._shared

    __hash__ = None

    def __repr__(self) -> str:
        return "; ".join(f"{name} {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = [f"<tr><th>{n}</th><td>{escape(v)}</td></tr>" for n, v in self._facts().items()]
        return f"<table><caption>{self.KIND}</caption>{''.join(rows)}</table>"

    def _facts(self) -> dict[str, str]:
        """What a reader is told, by name."""
        (samples, units), kind = self._shape, self.settings.get("units", "units")
        found = {type(self).__name__: f"{samples} samples, {units} units each ({kind})"}
        found |= {"layer": f"{self.settings['layer']}"} if "layer" in self.settings else {}
        found, lost = found | self._own_facts(), int((~self.defined).sum())
        return found | ({"without a map": f"{lost} samples"} if lost else {})

    def _on_grid(self, values: Tensor) -> Tensor:
        """(samples, units) -> (samples, rows, columns) of a square grid."""
        side = isqrt(self._shape[1])
        if "Grid" not in str(self.settings.get("units", "Grid")) or side**2 != self._shape[1]:
            raise KpnbError("these units make no square grid: take .entropy.")
        return values.unflatten(1, (side, side))

    def _rows(self, **columns: Tensor) -> pd.DataFrame:
        """A row for each sample and unit; with the row and column of a cell."""
        import pandas as pd

        sample, unit = np.indices(self._shape).reshape(2, -1)
        places = {"sample": sample, "unit": unit}
        if "Grid" in str(self.settings.get("units")):
            places["row"], places["column"] = divmod(unit, isqrt(self._shape[1]))
        values = {name: column.detach().cpu().numpy().ravel() for name, column in columns.items()}
        return pd.DataFrame(places | values)

    def show(
        self, images: object = None, count: int = 8, normalization: object = None, **how: object
    ) -> Figure | Html:
        """Draws the first `count` samples as what the units are, maps on the fixed scale in nats:
        cells on their images, if given; words and points, which need the texts or clouds in place
        of `images`. normalization: mean and standard deviation, where images are normalized, but
        not as for ImageNet. how: transform=, as for `explain`, where pictures are given as they
        were there; units=, the MaskUnits of the maps. More, and errors: kpnb.figures.show.shown."""
        from kpnb.figures.show import shown

        return shown(self, images, count, normalization, **how)


def _wide(tensor: Tensor, units: int) -> Tensor:
    """(samples, fewer units) -> (samples, units); (samples,) as it is."""
    missing = units - tensor.shape[1] if tensor.ndim == 2 else 0
    beyond = torch.nan if tensor.is_floating_point() else False
    return torch.nn.functional.pad(tensor, (0, missing), value=beyond)


@dataclass(frozen=True, eq=False, repr=False)
class EntropyMaps(UnitTable):
    """Information discarding of every input unit of every sample, at one layer of one network.

    sigma: (samples, units) noise that each unit takes; NaN where not defined.
    feature_variance: (samples,) sigma_f^2 of Eq. 3, the feature's squared change under noise of
        init_sigma; 0 where the feature does not move at all.
    reached: (samples,) bool; path, published: the mean entropy is within `tolerance` of the target;
        descent: it converged; optimum: its last step left the mean entropy within `tolerance`.
    standard_error: (samples, units) of each H_i, nats, from the spread over the draws; it does not
        hold the (smaller) error of the closed form itself. NaN for methods that know none.
    settings: how the maps were made, JSON-able.
    """

    PARTS: ClassVar = TENSORS
    MARK: ClassVar = FORMAT
    KIND: ClassVar = "entropy maps"
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
        """(samples,) mean of H_i over the units that a sample has, nats; NaN without a map."""
        return self.entropy.nanmean(1)

    @property
    def defined(self) -> Tensor:
        """(samples,) bool: sigma_f > 0. A feature that never moves has no entropy map."""
        return self.feature_variance > 0

    def _own_facts(self) -> dict[str, str]:
        live, error = self.entropy[self.entropy.isfinite()], self.standard_error.nanmean()
        found = {"standard error": f"{error:.4f} nats in the mean"} if error.isfinite() else {}
        if len(live):
            ends = f"{live.min():.2f} to {live.max():.2f}"
            found = {"H": f"{live.mean():.3f} nats in the mean, {ends}"} | found
        return found

    def numpy(self) -> np.ndarray:
        """The entropies (samples, units), nats, as an array."""
        return self.entropy.detach().cpu().numpy()

    def grid(self) -> Tensor:
        """The entropies on a square grid (samples, rows, columns), nats; KpnbError for units that
        make none."""
        return self._on_grid(self.entropy)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each sample and unit: entropy and its standard error in nats, sigma."""
        own = {"entropy": self.entropy, "standard_error": self.standard_error}
        return self._rows(**own, sigma=self.sigma)

    def foreground(self, masks: object, label: int | None = None) -> Tensor:
        """(samples, units) bool for `knowledge_points`, of masks as `GridUnits.foreground` takes
        them. Raises KpnbError for units that are no cells, and for masks that are not one per
        sample, of the size of the inputs."""
        side, found = self.grid().shape[1], as_masks(masks, label)
        wanted = (len(self), *self.settings.get("inputs", found.shape)[-2:])
        if found.shape != wanted:
            told = f"masks are {tuple(found.shape)}, but the network saw {wanted}"
            raise KpnbError(f"{told}: resize and crop a mask as its picture.")
        return GridUnits(side).foreground(found)
