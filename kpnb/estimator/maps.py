"""Entropy maps: what an estimate says of each input unit, how it is shown, handed on and stored."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.loss import entropy_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMAT = "kpnb-entropy-maps-2"
TENSORS = ("sigma", "feature_variance", "reached", "standard_error")


@dataclass(frozen=True, eq=False, repr=False)
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
        """(samples,) mean of H_i over the units that a sample has, nats; NaN without a map."""
        return self.entropy.nanmean(1)

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

    def __eq__(self, other: object) -> bool:
        """Whether all numbers (NaN equals NaN) and settings are the same."""
        if not isinstance(other, EntropyMaps):
            return NotImplemented
        pairs = [(getattr(self, name), getattr(other, name)) for name in TENSORS]
        same = [a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
                for a, b in pairs]  # fmt: skip
        return all(same) and self.settings == other.settings

    __hash__ = None

    def __repr__(self) -> str:
        return "; ".join(f"{name} {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{n}</th><td>{v}</td></tr>" for n, v in self._facts().items())
        return f"<table><caption>entropy maps</caption>{rows}</table>"

    def _facts(self) -> dict[str, str]:
        samples, units = self.sigma.shape
        kind = self.settings.get("units", "units")
        found = {"EntropyMaps": f"{samples} samples, {units} units each ({kind})"}
        found |= {"layer": f"{self.settings.get('layer')}"}
        live, error = self.entropy[self.entropy.isfinite()], self.standard_error.nanmean()
        if len(live):
            found["H"] = f"{live.mean():.3f} nats in the mean, {live.min():.2f} to {live.max():.2f}"
        if error.isfinite():
            found["standard error"] = f"{error:.4f} nats in the mean"
        lost = int((~self.defined).sum())
        return found | ({"without a map": f"{lost} samples"} if lost else {})

    def numpy(self) -> np.ndarray:
        """The entropies (samples, units), nats, as an array."""
        return self.entropy.detach().cpu().numpy()

    def grid(self) -> Tensor:
        """The entropies on a square grid (samples, rows, columns), nats; KpnbError for units that
        make none."""
        side = isqrt(self.sigma.shape[1])
        if "Grid" not in str(self.settings.get("units", "Grid")) or side**2 != self.sigma.shape[1]:
            raise KpnbError("these units make no square grid: take .entropy.")
        return self.entropy.unflatten(1, (side, side))

    def to_pandas(self) -> pd.DataFrame:
        """A row for each sample and unit: entropy and its standard error in nats, sigma."""
        import pandas as pd

        sample, unit = np.indices(self.sigma.shape).reshape(2, -1)
        names = ("entropy", "standard_error", "sigma")
        values = {name: getattr(self, name).detach().cpu().numpy().ravel() for name in names}
        return pd.DataFrame({"sample": sample, "unit": unit} | values)

    def to(self, device: str | torch.device) -> EntropyMaps:
        """The maps on a device."""
        parts = {name: getattr(self, name).to(device) for name in TENSORS}
        return EntropyMaps(**parts, settings=self.settings)

    @staticmethod
    def joined(parts: Sequence[EntropyMaps]) -> EntropyMaps:
        """Maps of more samples as one, with NaN beyond the units of those that have fewer. Raises
        KpnbError for none, and for maps that were made in different ways."""
        if not parts or any(part.settings != parts[0].settings for part in parts):
            raise KpnbError("join one set of maps or more, all made with the same settings.")
        most, found = max(part.sigma.shape[1] for part in parts), {}
        for name in TENSORS:
            tensors = [getattr(part, name) for part in parts]
            if tensors[0].ndim == 2:
                tensors = [_wide(tensor, most) for tensor in tensors]
            found[name] = torch.cat(tensors)
        return EntropyMaps(**found, settings=parts[0].settings)

    def show(self, images: object = None, count: int = 8) -> Figure:
        """Draws the first `count` maps on the fixed scale in nats, their images above if given; see
        kpnb.figures.image. Raises KpnbError for units that make no square grid."""
        from kpnb.figures.image import entropy_maps

        self.grid()
        return entropy_maps(self, images, count)


def _wide(tensor: Tensor, units: int) -> Tensor:
    missing = units - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (0, missing), value=torch.nan)
