"""Knowledge points and what the paper counts with them: Equations 5 to 9."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.maps import UnitTable

if TYPE_CHECKING:
    import pandas as pd

NAMES = {1: "foreground", -1: "background", 0: "none"}


@dataclass(frozen=True, eq=False, repr=False)
class KnowledgePoints(UnitTable):
    """The knowledge points of every sample.

    foreground_points, background_points: (samples, units) bool.
    baseline: (samples,) the entropy that units were compared with, nats; NaN where not defined.
    defined: (samples,) bool; samples without an entropy map have no points and a NaN ratio.
    entropy: (samples, units) nats; threshold: b in nats.
    settings: how the maps were made, where that is known.
    """

    PARTS: ClassVar = ("foreground_points", "background_points", "foreground", "baseline",
                       "defined", "entropy")  # fmt: skip
    MARK: ClassVar = "kpnb-knowledge-points-1"
    KIND: ClassVar = "knowledge points"
    foreground_points: Tensor
    background_points: Tensor
    foreground: Tensor
    baseline: Tensor
    defined: Tensor
    entropy: Tensor
    threshold: float
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def kinds(self) -> Tensor:
        """(samples, units) int8: 1 a foreground point, -1 a background point, 0 none."""
        return self.foreground_points.to(torch.int8) - self.background_points.to(torch.int8)

    @property
    def n_fg(self) -> Tensor:
        """(samples,) N_fg(x) of Eq. 6: foreground knowledge points."""
        return self.foreground_points.sum(1)

    @property
    def n_bg(self) -> Tensor:
        """(samples,) N_bg(x) of Eq. 5: background knowledge points."""
        return self.background_points.sum(1)

    @property
    def ratio(self) -> Tensor:
        """(samples,) N_fg / (N_fg + N_bg), the term of lambda in Eq. 7, float64.

        0 for a sample with no knowledge point at all (public code; Eq. 7 leaves it open), NaN for
        a sample without a map.
        """
        total = (self.n_fg + self.n_bg).double()
        ratio = self.n_fg / total.clamp(min=1)
        return torch.where(self.defined, ratio, torch.nan)

    def _own_facts(self) -> dict[str, str]:
        counts = {"N_fg": self.n_fg, "N_bg": self.n_bg, "N_fg / (N_fg + N_bg)": self.ratio}
        means = {name: n[self.defined].double().mean() for name, n in counts.items()}
        told = {name: f"{n:.4g} in the mean" for name, n in means.items() if n.isfinite()}
        return {"b": f"{self.threshold:g} nats"} | told

    def numpy(self) -> np.ndarray:
        """The `kinds` (samples, units) as an array."""
        return self.kinds.cpu().numpy()

    def grid(self) -> Tensor:
        """The `kinds` on a square grid (samples, rows, columns); KpnbError where there is none."""
        return self._on_grid(self.kinds)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each sample and unit: whether it is foreground, its entropy, the baseline and
        the threshold in nats, and its point: "foreground", "background" or "none"."""
        table = self._rows(foreground=self.foreground, entropy=self.entropy,
                           baseline=self.baseline[:, None].expand_as(self.entropy))  # fmt: skip
        point = np.vectorize(NAMES.get)(self.numpy()).ravel()
        return table.assign(threshold=self.threshold, point=point)


def knowledge_points(
    maps: EntropyMaps | Tensor, foreground: Tensor, threshold: float, baseline: str = "dataset"
) -> KnowledgePoints:
    """Units whose entropy lies more than b below the background's: H_bar - H_i > b (Eq. 5, 6).

    maps: EntropyMaps, or entropies (samples, units) in nats; NaN marks units that take no part, and
        a sample of NaN only is not defined.
    foreground: (samples, units) bool, a tensor on any device or an array.
    threshold: b in nats; 0.2 for most image networks of the paper.
    baseline: "dataset": H_bar is the mean over samples of each sample's background mean (Eq. 7 and
        the public code); "sample": each sample's own background mean.
    Raises KpnbError for shapes that do not match, a sample all foreground or without any, a
    threshold that is not positive, and when no sample is defined.
    """
    entropy = maps.entropy if isinstance(maps, EntropyMaps) else maps
    foreground = torch.as_tensor(foreground, device=entropy.device)
    _check(entropy, foreground, threshold, baseline)
    live = entropy.isfinite()
    defined = live.any(1)
    _check_masks(foreground, live | ~defined.unsqueeze(1))
    if not defined.any():
        raise KpnbError("no sample has an entropy map: the feature never moves; check layer.")
    own = _mean_over(entropy, ~foreground & live)
    level = own[defined].mean().expand_as(own) if baseline == "dataset" else own
    level = torch.where(defined, level, torch.nan)
    low = live & (level.unsqueeze(1) - entropy > threshold)
    found = low & foreground, low & ~foreground, foreground, level, defined, entropy
    settings = maps.settings if isinstance(maps, EntropyMaps) else {}
    return KnowledgePoints(*found, float(threshold), settings)


def _mean_over(entropy: Tensor, chosen: Tensor) -> Tensor:
    """(samples,) mean of entropy over the chosen units; 0 where there are none."""
    return torch.where(chosen, entropy, 0.0).sum(1) / chosen.sum(1).clamp(min=1)


def _check(entropy: Tensor, foreground: Tensor, threshold: float, baseline: str) -> None:
    if baseline not in ("dataset", "sample"):
        raise KpnbError(f"baseline={baseline!r} is unknown; use 'dataset' or 'sample'.")
    if not threshold > 0:
        raise KpnbError(f"threshold={threshold!r} must be positive (nats); the paper uses 0.2.")
    if foreground.dtype != torch.bool or foreground.shape != entropy.shape or entropy.ndim != 2:
        held = f"{foreground.dtype} {tuple(foreground.shape)}"
        told = f"foreground must be bool of the maps' shape {tuple(entropy.shape)}, not {held}"
        raise KpnbError(f"{told}; of masks of pixels maps.foreground(masks) makes it.")


def _check_masks(foreground: Tensor, live: Tensor) -> None:
    """Every sample needs foreground and background among the units that take part (live)."""
    needed = {
        "have an empty foreground": foreground,
        "are all foreground, so there is no background to compare with": ~foreground,
    }
    for told, units in needed.items():
        wrong = ~(units & live).any(1)
        if wrong.any():
            samples = wrong.nonzero().flatten().tolist()[:5]
            raise KpnbError(f"samples {samples} {told}; drop them or mend the mask.")


def learning_distance(n_fg_by_epoch: Tensor, weight_distance: Tensor | Sequence[float]) -> Tensor:
    """Weight distance at the epoch with most foreground knowledge points, (samples,), Eq. 8.

    n_fg_by_epoch: (epochs, samples); weight_distance: (epochs,) cumulative distance over the
    initial norm at the same epochs. The first of equal maxima counts (public code).
    """
    distance = torch.as_tensor(weight_distance, dtype=torch.float64)
    if n_fg_by_epoch.ndim != 2 or distance.shape != n_fg_by_epoch.shape[:1]:
        told = f"n_fg_by_epoch {tuple(n_fg_by_epoch.shape)} must be (epochs, samples) and"
        raise KpnbError(f"{told} weight_distance {tuple(distance.shape)} must be (epochs,).")
    return distance[(n_fg_by_epoch == n_fg_by_epoch.max(0).values).int().argmax(0)]


def learning_speed(
    n_fg_by_epoch: Tensor, weight_distance: Tensor | Sequence[float]
) -> tuple[float, float]:
    """(D_mean, D_var) of Eq. 8: mean and population variance over samples of `learning_distance`.
    Small values mean that knowledge points are learned quickly and at similar speeds."""
    distance = learning_distance(n_fg_by_epoch, weight_distance)
    return float(distance.mean()), float(distance.var(correction=0))


def stability(foreground_points_by_epoch: Tensor) -> Tensor:
    """rho of Eq. 9 per sample, (samples,) float64: final points over all points ever tried.

    foreground_points_by_epoch: (epochs, samples, units) bool, the last epoch being the final one.
    0 for a sample that never had a point (public code).
    """
    if foreground_points_by_epoch.ndim != 3 or foreground_points_by_epoch.dtype != torch.bool:
        raise KpnbError("foreground_points_by_epoch must be bool (epochs, samples, units).")
    tried = foreground_points_by_epoch.any(0).sum(1).double()
    return foreground_points_by_epoch[-1].sum(1) / tried.clamp(min=1)


def dropped(foreground_points_by_epoch: Tensor) -> Tensor:
    """Points ever tried that are none in the end, per sample, (samples,): ours, since rho is larger
    with more final points, too, even if as many are dropped. As `stability`."""
    last = foreground_points_by_epoch[-1]
    return (foreground_points_by_epoch.any(0) & ~last).sum(1)


def published_filter(maps_by_epoch: Sequence[EntropyMaps], foreground: Tensor) -> Tensor:
    """Which samples the public code would keep, (samples,) bool: defined at every epoch given, and
    with a mean background entropy of at least the mean foreground entropy at each of them.

    The public code applies it to its checkpoints from epoch 40 of 150 on (defined: all). It selects
    on the outcome, so results are shown with and without it. The paper does not mention it.
    """
    keep = torch.ones(len(foreground), dtype=torch.bool)
    for maps in maps_by_epoch:
        inside, outside = mean_entropies(maps.entropy, foreground)
        keep &= maps.defined & (outside >= inside)
    return keep


def mean_entropies(entropy: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of each sample's foreground and of its background, (samples,) each, nats.

    entropy, foreground: (samples, units); units of NaN entropy take no part. 0 where there is none.
    """
    live = entropy.isfinite()
    return _mean_over(entropy, foreground & live), _mean_over(entropy, ~foreground & live)
