"""The comparison with the truth, on runs whose errors are known."""

from dataclasses import replace

import pytest
import torch
from reference import conv_net, images

from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.estimator.units import GridUnits
from kpnb.experiments.accuracy import Found, compare, stored
from kpnb.experiments.cases import (
    SENTENCES,
    TEXT_LENGTH,
    Case,
    _measured,
    _training_sentences,
    smoothed,
)
from kpnb.store import Store

SAMPLES, UNITS = 3, 16
FOREGROUND = torch.zeros(SAMPLES, UNITS, dtype=torch.bool)
FOREGROUND[:, 5:9] = True


def case(**changes):
    net = conv_net()
    estimator = EntropyEstimator("7", GridUnits(4), probes=8)
    made = Case(
        "Toy", "FC1", 3, False, lambda: net, images(SAMPLES), FOREGROUND, estimator, "weights"
    )
    return replace(made, **changes)


def known_maps(offset):
    """Maps with H_i = -2.8 + 0.3 (i mod 4), plus `offset`; foreground cell 8 lies lowest."""
    entropy = -2.8 + 0.3 * (torch.arange(UNITS) % 4).double().expand(SAMPLES, -1) + offset
    sigma, one = (entropy - GAUSSIAN_ENTROPY).exp(), torch.ones(SAMPLES)
    return EntropyMaps(sigma, one, one > 0, torch.full_like(sigma, 0.01))


def run_with_known_errors(estimator):
    """Truths 0.002 apart, published runs 0.03 off, 0.01 apart; path's error is 0.4 / probes."""
    ripple = torch.tensor([1.0, -1.0]).repeat(UNITS // 2)
    if estimator.method == "reference":
        return Found(known_maps(0.002 * estimator.seed * ripple - 0.001 * ripple), 50.0)
    if estimator.method == "published":
        error = 0.03 * 96 / estimator.draws - 0.01 * estimator.seed
        return Found(known_maps(error * ripple), estimator.draws / 9.6)
    probes = estimator.probes if estimator.standard_error is None else 80
    return Found(known_maps(0.4 / probes * ripple), probes / 100)


def test_errors_are_those_put_in():
    found = compare(case(), run_with_known_errors)
    expected = {
        "truth | own error": 0.001,
        "published | spread": 0.01,
        "published, 96 draws | error": 0.03,
        "published, 24 draws | error": 0.12,
        "path, 8 probes | error": 0.05,
        "path, default | error": 0.005,
        "path, 8 probes | standard error": 0.01,
        "path, 8 probes | seconds": 0.08,
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-6), name
    assert found["path, default | Spearman"].value == pytest.approx(1)
    assert found["published, 6 draws | Spearman"].value < 0.9
    assert found["path, default | N_fg error"].value == 0


def test_points_off_are_counted():
    """The background's mean is -2.35 for the truth; cells at -2.5 +- e cross b = 0.2 or do not."""

    def run(estimator):
        if estimator.method == "path":
            lowered = torch.zeros(UNITS)
            lowered[5] = -0.2  # a foreground cell at -2.5 becomes a point
            return Found(known_maps(lowered), 1.0)
        return run_with_known_errors(estimator)

    found = compare(case(), run)
    assert found["path, 8 probes | N_fg error"].value == 1
    assert found["path, 8 probes | N_bg error"].value == 0


def test_a_stored_run_is_taken_from_the_store(tmp_path):
    store, estimator = Store(tmp_path), case().estimator
    estimator = replace(estimator, standard_error=None)
    first = stored(case(), estimator, store)

    def refuse():
        raise AssertionError("computed again")

    again = stored(case(net=refuse), estimator, store)
    assert torch.equal(first.maps.sigma, again.maps.sigma) and first.seconds == again.seconds
    with pytest.raises(AssertionError):
        stored(case(net=refuse, epoch=4), estimator, store)
    with pytest.raises(AssertionError):
        stored(case(net=refuse), replace(estimator, seed=1), store)


# --- the cases --------------------------------------------------------------------------------


def test_smooth_images_keep_their_means_and_lose_their_texture():
    x = images(2, 64)
    soft = smoothed(x)
    assert soft.shape == x.shape
    rough = (x[..., 1:] - x[..., :-1]).abs().mean()
    assert (soft[..., 1:] - soft[..., :-1]).abs().mean() < 0.02 * rough


def test_measured_sentences_fill_their_positions_and_have_a_foreground():
    sentences, vocabulary = _training_sentences()
    ids, foreground = _measured(sentences, vocabulary)
    assert ids.shape == foreground.shape == (SENTENCES, TEXT_LENGTH)
    assert (ids != 0).all() and foreground.any(1).all() and not foreground.all(1).any()
    assert not foreground[:, 0].any() and not foreground[:, -1].any()  # [CLS] and [SEP]
