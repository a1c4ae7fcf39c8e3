"""lambda and accuracy of networks, as given or at random."""

import numpy as np

from kpnb.experiments.ratio_accuracy import RatioAccuracy


def rows(*values) -> np.ndarray:
    return np.array(values, dtype=float)


def random_pair(seed: int, seeds: int = 3, places: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(seeds, places)), rng.normal(size=(seeds, places))


def made(ratio, shares=None, places=None) -> RatioAccuracy:
    """Networks with given terms of lambda; accuracies rise evenly unless given."""
    ratio = np.asarray(ratio, float)
    shares = np.linspace(0.2, 0.6, ratio.shape[1]) if shares is None else shares
    table = np.broadcast_to(shares, ratio.shape[:2])
    places, seeds = places or tuple(range(ratio.shape[1])), tuple(range(len(ratio)))
    return RatioAccuracy("FC1", seeds, places, ratio, {"train": table, "test": table}, 100)
