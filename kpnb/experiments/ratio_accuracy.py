"""lambda (Eq. 7) against accuracy: Section 4.2 and Figure 2.

Over the training of a student: a checkpoint's lambda, and the accuracy that its network reaches
once the layers above the target have been trained on labels. And across networks: teacher,
student and baseline after training.

Checkpoints are a time series, not independent draws. What an interval here covers is the choice of
the measured samples and, with several, of the training seeds, with the checkpoints held fixed; the
error of an accuracy from finitely many test samples is not in it. A resampled lambda is noisier
than the measured one, and noise pulls a correlation towards zero: an interval may lie nearer to
zero than its value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.provenance import track
from kpnb.metrics.stats import Estimate, bootstrap, correlation, mean
from kpnb.networks.layers import parameters_above
from kpnb.store import Scratch
from kpnb.study.costs import Cost
from kpnb.study.study import SPLITS, Study
from kpnb.training.distillation import train_above
from kpnb.training.train import to_device

RESAMPLES = 2000
# Two points always lie on a line; with a third variable taken out, so do three.
LEAST_POINTS, LEAST_PARTIAL = 3, 4
# Below this share of variance left, a rank is a function of the epoch up to rounding.
NOTHING_LEFT = 1e-9

Relation = Callable[[np.ndarray, np.ndarray], float]


# Accuracy by checkpoint


def checkpoint_accuracies(study: Study, layer: str, seed: int) -> dict[int, dict[str, float]]:
    """epoch -> {"train", "test"} -> score of a student's checkpoint whose layers above `layer`
    have been trained on labels, by the student's own recipe; further scores as in the study.

    Kept in the store, resumable by checkpoint. At the last one this repeats how the student itself
    came about, so the scores are the student's, to the bit on one CPU.
    """
    trained = study.of("S", seed, layer)
    epochs, data = sorted(trained.states), study.data
    parts = {"train": data.training_samples.source, "test": data.test_samples.source}
    key = {"network": trained.fingerprint, "layer": layer, "epochs": epochs, **parts}
    key |= {"head": study.head_schedule(seed).to_info(), "device": study.device.type}

    def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
        started = time.perf_counter()
        for epoch in track(epochs, f"accuracies S {layer} seed {seed}"):
            if scratch.load(f"{epoch}") is None:
                net = _with_head(study, study.network(trained, epoch), layer, seed)
                scratch.save(f"{epoch}", {}, study._scores_by_split(net))
        found = {f"{epoch}": scratch.load(f"{epoch}")[1] for epoch in epochs}
        return {}, {"scores": found, "seconds": time.perf_counter() - started}

    def cost() -> Cost:
        one = [*study.head_work(layer, study.head_schedule(seed)), study.scoring_work("S")]
        work = tuple(replace(part, units=len(epochs) * part.units) for part in one)
        return Cost(work, {}, {"scores": {f"{e}": dict.fromkeys(SPLITS, 0.0) for e in epochs}})

    code = (*study.training_code("S"), *study.SCORING_CODE)
    record = study._stored("accuracies", key, compute, code, cost)
    # The store gives the names back in another order.
    return {epoch: record.info["scores"][f"{epoch}"] for epoch in epochs}


def _with_head(study: Study, net: nn.Module, layer: str, seed: int) -> nn.Module:
    """The network after the student's second phase, if anything lies above the layer."""
    settings, samples = study.head_schedule(seed), study.data.training_samples
    to_device(net, study.device, settings)  # the layout in which a student is scored
    if parameters_above(net, layer):
        train_above(net, layer, study.inputs(samples), study.labels(samples), settings)
    return net


# lambda and accuracy of several networks a seed


@dataclass(frozen=True)
class RatioAccuracy:
    """lambda and accuracy of the same networks for each seed, at one layer.

    seeds: the training seeds. places: which networks, the checkpoints (epochs, ascending) of a
        student, or roles.
    ratio: (seeds, places, samples) the terms of lambda in Eq. 7, NaN where one is undefined.
    accuracy: split -> (seeds, places), shares in [0, 1]. tested: test samples behind them.
    Raises KpnbError where shapes do not fit or a network has no defined term.
    """

    layer: str
    seeds: tuple[int, ...]
    places: tuple[int, ...] | tuple[str, ...]
    ratio: np.ndarray
    accuracy: Mapping[str, np.ndarray]
    tested: int

    def __post_init__(self) -> None:
        table, terms = (len(self.seeds), len(self.places)), np.shape(self.ratio)
        shapes = [np.shape(part) for part in self.accuracy.values()]
        if len(terms) != 3 or any(shape != table for shape in (terms[:2], *shapes)):
            raise KpnbError(
                f"{table[1]} networks of {table[0]} seeds, terms of lambda {terms} and accuracies "
                f"{shapes} do not fit: pass (seeds, networks, samples) and (seeds, networks)."
            )
        if not np.isfinite(self.ratio).any(-1).all():
            raise KpnbError("A network has no defined entropy map, so no lambda: check the layer.")

    @property
    def mean_ratio(self) -> np.ndarray:
        """lambda, (seeds, places)."""
        return mean(self.ratio)

    def ratio_estimates(self, row: int) -> list[Estimate]:
        """lambda of the networks of the row-th seed, with 95% intervals over samples."""
        return [bootstrap(terms) for terms in self.ratio[row]]

    def without_first(self) -> RatioAccuracy:
        """The same without the first place: the untrained checkpoint of a student."""
        accuracy = {split: part[:, 1:] for split, part in self.accuracy.items()}
        return replace(self, places=self.places[1:], ratio=self.ratio[:, 1:], accuracy=accuracy)


def student_curve(study: Study, evidence: Evidence) -> RatioAccuracy:
    """lambda and accuracy of the student of `evidence` at each checkpoint, by seed."""
    layer, epochs = evidence.layer, evidence.epochs
    scores = [checkpoint_accuracies(study, layer, seed) for seed in study.parameters.seeds]
    accuracy = {
        split: np.array([[found[epoch][split] for epoch in epochs] for found in scores])
        for split in SPLITS
    }
    networks = [[("S", seed, epoch) for epoch in epochs] for seed in evidence.seeds]
    return _collected(study, evidence, epochs, networks, accuracy)


def final_networks(study: Study, evidence: Evidence) -> RatioAccuracy:
    """lambda and accuracy of teacher, student and baseline after training, by seed."""
    roles, layer = tuple("TSB"), evidence.layer
    scores = {role: study.accuracies(role, layer) for role in roles}
    accuracy = {split: np.array([scores[role][split] for role in roles]).T for split in SPLITS}
    networks = [[(role, seed, None) for role in roles] for seed in evidence.seeds]
    return _collected(study, evidence, roles, networks, accuracy)


def _collected(
    study: Study,
    evidence: Evidence,
    places: tuple,
    networks: Sequence[Sequence[tuple[str, int, int | None]]],
    accuracy: Mapping[str, np.ndarray],
) -> RatioAccuracy:
    b = study.parameters.threshold
    ratio = [[evidence.points(*network, b).ratio.numpy() for network in row] for row in networks]
    return RatioAccuracy(
        evidence.layer,
        study.parameters.seeds,
        places,
        np.array(ratio),
        accuracy,
        tested=len(study.data.test_samples),
    )


def repeat_gap(study: Study, curve: RatioAccuracy) -> float:
    """Greatest difference between the last checkpoint's accuracy and the stored student's own,
    over seeds and splits; 0 where training repeats to the bit."""
    own = study.accuracies("S", curve.layer)
    gaps = [np.abs(curve.accuracy[split][:, -1] - own[split]).max() for split in SPLITS]
    return float(max(gaps))


# Correlations: of (seeds, places) lambda and accuracy, NaN where undefined


def over_checkpoints(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation over checkpoints, averaged over the seeds where it is defined.

    Undefined (NaN): with fewer than three checkpoints, or one of the two constant.
    """
    return _over_seeds(_spearman, ratio, accuracy)


def given_epoch(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's partial correlation given the epoch, averaged over seeds: what the two have in
    common beyond each rising or falling with training.

    Undefined (NaN): with fewer than four checkpoints, or where one of the two rises or falls
    without exception, for then its ranks are the epoch's and nothing is left.
    """
    return _over_seeds(_partial, ratio, accuracy)


def with_epoch(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation of lambda with the epoch, averaged over seeds: whether it grows."""
    return over_checkpoints(ratio, np.broadcast_to(np.arange(ratio.shape[1]), ratio.shape))


def of_steps(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation of the changes from one checkpoint to the next, averaged over seeds:
    whether accuracy rises most where lambda does."""
    return over_checkpoints(np.diff(ratio), np.diff(accuracy))


def across_networks(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    """Spearman's correlation over all networks of all seeds together."""
    return _spearman(ratio.ravel(), accuracy.ravel())


def _over_seeds(of_one: Relation, ratio: np.ndarray, accuracy: np.ndarray) -> float:
    found = [of_one(*row) for row in zip(ratio, accuracy, strict=True)]
    return float(mean(np.array(found)))


def _spearman(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    # A resample of few samples may leave a lambda undefined.
    if len(ratio) < LEAST_POINTS or not np.isfinite(ratio).all():
        return float("nan")
    return correlation(ratio, accuracy)


def _partial(ratio: np.ndarray, accuracy: np.ndarray) -> float:
    if len(ratio) < LEAST_PARTIAL:
        return float("nan")
    epoch = np.arange(len(ratio))
    both, first, second = (
        _spearman(*pair) for pair in ((ratio, accuracy), (ratio, epoch), (accuracy, epoch))
    )
    left = (1 - first**2) * (1 - second**2)
    return (both - first * second) / left**0.5 if left > NOTHING_LEFT else float("nan")


def estimate(
    networks: RatioAccuracy,
    split: str,
    relation: Relation,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A correlation with its 95% percentile interval over samples and seeds.

    Seeds and measured samples are drawn with replacement, the same samples for all networks; the
    networks, their accuracies and the background's mean entropy stay. Draws in which the
    correlation is undefined are left out; value and ends are NaN where nothing is defined.
    Raises KpnbError for an unknown split.
    """
    if split not in networks.accuracy:
        known = ", ".join(networks.accuracy)
        raise KpnbError(f"There is no split {split!r}: choose one of {known}.")
    rng = np.random.default_rng(seed)
    accuracy, (seeds, _, samples) = networks.accuracy[split], networks.ratio.shape
    draws = np.empty(resamples)
    for draw in range(resamples):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(samples, size=samples)
        draws[draw] = relation(mean(networks.ratio[rows][:, :, columns]), accuracy[rows])
    defined = draws[np.isfinite(draws)]
    ends = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    value = relation(networks.mean_ratio, accuracy)
    return Estimate(value, float(ends[0]), float(ends[1]), samples, seeds)
