"""Coherency, measured: what happens to explanations of a network that is rescaled (Figure 1(b)).

The network and its copy compute the same function (`kpnb.experiments.rescaling`), so that a
coherent
explanation is the same for both. Two things can change: a map's magnitude, and its shape.

    magnitude   m = mean over the map of |value|, for one image and layer; its change is
                |log(m'/m)|, nats, averaged over layers; 0 is coherent
    shape       q = |value| / sum of |value|; its change is the share of the map that has moved,
                0.5 sum |q' - q|, over the share that would move to make the map flat,
                0.5 sum |q - 1/n|, averaged over layers; 0 is coherent, 1 as far as flat is

The second is not asked in the paper. It belongs here because the entropy is divided by the
feature's own variance (sigma_f^2 in Eq. 3) and read off at one mean for all layers: it has no
magnitude to lose, by construction. A gradient map that is divided by its sum has none either.

The entropy takes part as the map of its noise sigma_i (log m' - log m is then a change of H in
nats), and sigma_f^2 as a map of a single number: what the entropy would be without the division.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.loss import entropy_of
from kpnb.experiments.attributions import attributions
from kpnb.experiments.rescaling import convolutions, feature_name, rescaled
from kpnb.metrics.provenance import track
from kpnb.metrics.stats import Estimate, bootstrap, mean
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import CoherencyParameters

ENTROPY, VARIANCE = "entropy", "feature_variance"
# How channels of a layer are rescaled: all alike, or each by a factor of its own (ours).
KINDS = ("layer", "channel")
# Magnitudes of two layers that are nearer than this, in nats, count as equal.
TIE = 1e-4
# A map that differs less than this from a flat one is flat but for rounding.
FLAT = 1e-9

Maps = dict[str, dict[str, Tensor]]  # method -> layer -> (images, ...)
Change = Callable[[dict[str, Tensor], dict[str, Tensor]], np.ndarray]


@dataclass(frozen=True)
class Coherency:
    """Maps of networks and of their rescaled copies, one entry per training seed.

    output_difference: largest |y' - y| over seeds, images and classes, in units of the scores.
    """

    before: list[Maps]
    after: list[Maps]
    output_difference: float
    _known: dict[tuple, Estimate] = field(default_factory=dict, repr=False)

    @property
    def methods(self) -> list[str]:
        return list(self.before[0])

    def layers(self, method: str) -> list[str]:
        return list(self.before[0][method])

    def magnitude_change(self, method: str) -> Estimate:
        """|log(m'/m)|, nats, mean over layers and images (and seeds)."""
        return self._estimate(method, magnitude_changes)

    def shape_change(self, method: str) -> Estimate:
        """What has moved within a layer, over what would move to make the map flat."""
        return self._estimate(method, shape_changes)

    def swaps(self, method: str) -> Estimate:
        """Share of pairs of layers that change places when ordered by magnitude, 0 to 1."""
        return self._estimate(method, order_changes)

    def spread(self, method: str, rescaled: bool = False) -> Estimate:
        """Standard deviation over layers of log m, nats: how far layers are from comparable."""
        chosen = self.after if rescaled else self.before
        return bootstrap(np.stack([layer_spread(maps[method]) for maps in chosen]))

    def entropy_difference(self) -> float:
        """Largest |H' - H| in nats over seeds, images, layers and units; infinite where only one
        of the two is defined."""
        pairs = zip(self.before, self.after, strict=True)
        parts = [(b[ENTROPY][k], a[ENTROPY][k]) for b, a in pairs for k in b[ENTROPY]]
        return max(_largest_gap(entropy_of(first), entropy_of(second)) for first, second in parts)

    def _estimate(self, method: str, change: Change) -> Estimate:
        if (method, change) not in self._known:
            pairs = zip(self.before, self.after, strict=True)
            values = np.stack([change(b[method], a[method]) for b, a in pairs])
            self._known[method, change] = bootstrap(values)
        return self._known[method, change]


def measure_coherency(study: ImageStudy) -> dict[str, Coherency]:
    """Explanations of the study's teachers and of their copies, by how they are rescaled (KINDS).

    All convolutions, the measured images, the class that the teacher itself predicts. Raises
    KpnbError for networks that cannot be rescaled (ResNets, the pretrained teacher).
    """
    p, images = study.parameters, study.data.measured.images.to(study.device)
    before: list[Maps] = []
    after: dict[str, list[Maps]] = {kind: [] for kind in KINDS}
    moved = dict.fromkeys(KINDS, 0.0)
    for seed in track(p.seeds, "coherency"):
        net = study.network(study.of("T", seed)).eval()
        copies = {kind: _copy(net, p, kind, seed) for kind in KINDS}
        scores = _scores(net, images)
        before.append(explanations(study, net, scores.argmax(1)))
        for kind, copied in copies.items():
            after[kind].append(explanations(study, copied, scores.argmax(1)))
            moved[kind] = max(moved[kind], float((_scores(copied, images) - scores).abs().max()))
    return {kind: Coherency(before, after[kind], moved[kind]) for kind in KINDS}


def explanations(study: ImageStudy, net: nn.Module, targets: Tensor) -> Maps:
    """Every method's maps of the measured images, the entropy's sigma and sigma_f^2 with them.

    The layers are the convolutions ("conv 1", ...), their feature what comes out of their ReLU.
    """
    p, samples = study.parameters, study.data.measured
    names = convolutions(net)
    labels = {feature_name(net, name): f"conv {i + 1}" for i, name in enumerate(names)}
    images = samples.images.to(study.device)
    found = attributions(net, images, targets, p.methods, list(labels))
    maps = {m: {labels.get(k, k): v for k, v in parts.items()} for m, parts in found.items()}
    entropies = [study.explain(study.explainer(name), net, samples) for name in names]
    by_label = dict(zip(labels.values(), entropies, strict=True))
    return maps | {
        ENTROPY: {label: e.sigma.cpu() for label, e in by_label.items()},
        VARIANCE: {label: e.feature_variance.cpu()[:, None] for label, e in by_label.items()},
    }


def magnitudes(maps: dict[str, Tensor]) -> np.ndarray:
    """(images, layers) mean of |value|; NaN where a map is zero or not defined."""
    found = torch.stack([part.double().abs().flatten(1).mean(1) for part in maps.values()], 1)
    return torch.where(found > 0, found, torch.nan).numpy()


def magnitude_changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> np.ndarray:
    """(images,) mean over layers of |log(m'/m)|, nats."""
    _check_layers(before, after)
    return mean(np.abs(np.log(magnitudes(after) / magnitudes(before))))


def shape_changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> np.ndarray:
    """(images,) mean over layers of sum |q' - q| over sum |q - 1/n|, q the map over its sum; NaN
    for maps that are zero or flat, which have no shape."""
    _check_layers(before, after)
    pairs = [(_shape(before[layer]), _shape(after[layer])) for layer in before]
    moved = [(a - b).abs().sum(1) / _contrast(b) for b, a in pairs]
    return mean(torch.stack(moved, 1).numpy())


def layer_spread(maps: dict[str, Tensor]) -> np.ndarray:
    """(images,) standard deviation over layers of log m, nats; KpnbError for a single layer."""
    _check_several(maps)
    logs = np.log(magnitudes(maps))
    return np.sqrt(mean((logs - mean(logs)[:, None]) ** 2))


def order_changes(before: dict[str, Tensor], after: dict[str, Tensor]) -> np.ndarray:
    """(images,) share of pairs of layers whose order by magnitude is another afterwards; pairs
    with a magnitude that is not defined are left out."""
    _check_layers(before, after)
    _check_several(before)
    first, second = np.triu_indices(len(before), 1)
    signs = []
    for maps in (before, after):
        logs = np.log(magnitudes(maps))
        gaps = logs[:, first] - logs[:, second]
        signs.append(np.where(np.abs(gaps) < TIE, 0 * gaps, np.sign(gaps)))
    known = np.isfinite(signs[0] + signs[1])
    return mean(np.where(known, signs[0] * signs[1] < 0, np.nan).astype(float))


def _largest_gap(first: Tensor, second: Tensor) -> float:
    gaps = (first - second).abs()
    return float(torch.where(first.isnan() & second.isnan(), 0, gaps).nan_to_num(torch.inf).max())


def _shape(maps: Tensor) -> Tensor:
    """(images, values) of |map| over its sum; NaN where the map is zero."""
    flat = maps.double().abs().flatten(1)
    total = flat.sum(1, keepdim=True)
    return flat / torch.where(total > 0, total, torch.nan)


def _contrast(shape: Tensor) -> Tensor:
    """(images,) sum |q - 1/n|; NaN for a flat map."""
    found = (shape - 1 / shape.shape[1]).abs().sum(1)
    return torch.where(found > FLAT, found, torch.nan)


def _check_layers(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    if list(before) != list(after) or not before:
        raise KpnbError(
            f"maps before have the layers {list(before)}, after {list(after)}; pass the same ones."
        )


def _check_several(maps: dict[str, Tensor]) -> None:
    if len(maps) < 2:
        raise KpnbError("one map has no spread over layers; pass a method with a map per layer.")


def _copy(net: nn.Module, p: CoherencyParameters, kind: str, seed: int) -> nn.Module:
    return rescaled(net, p.factor, p.pairs, seed if kind == "channel" else None)


def _scores(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return net(images)
