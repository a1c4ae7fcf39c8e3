"""The comparison with the truth, on runs whose errors are known."""

from dataclasses import replace

import pytest
import torch
from reference import conv_net, images
from text_tiny import tiny_folder

from kpnb.datasets.texts.embedded import embedded_sentences
from kpnb.datasets.texts.encoded import encoded_sentences
from kpnb.datasets.texts.foreground import sentiment_foreground
from kpnb.datasets.texts.words import PieceEncoder
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.estimator.units import GridUnits
from kpnb.experiments.accuracy import (
    MEASURED_SENTENCES,
    SENTENCE_WORDS,
    Case,
    Explained,
    compare_methods,
    measured_sentences,
    smoothed,
    stored,
)
from kpnb.networks.text import load_tokenizer, scratch_network
from kpnb.store import Store
from kpnb.study.text import TextEstimator

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
        return Explained(known_maps(0.002 * estimator.seed * ripple - 0.001 * ripple), 50.0)
    if estimator.method == "published":
        error = 0.03 * 96 / estimator.draws - 0.01 * estimator.seed
        return Explained(known_maps(error * ripple), estimator.draws / 9.6)
    probes = estimator.probes if estimator.standard_error is None else 80
    return Explained(known_maps(0.4 / probes * ripple), probes / 100)


def test_errors_are_those_put_in():
    found = compare_methods(case(), run_with_known_errors)
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
            return Explained(known_maps(lowered), 1.0)
        return run_with_known_errors(estimator)

    found = compare_methods(case(), run)
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


@pytest.fixture(scope="module")
def text_case(tmp_path_factory):
    """Sentences of the study on a tiny model, and a case of them."""
    folder = tiny_folder(tmp_path_factory.mktemp("models"))
    encoder = PieceEncoder(load_tokenizer(folder))
    sentences = embedded_sentences("train")  # long ones have more letters than the model positions
    short = [row for row, text in enumerate(sentences.texts) if len(text) < 90][:200]
    encoded = encoded_sentences(sentences.subset(short), encoder, sentiment_foreground)
    samples = measured_sentences(encoded)
    net = scratch_network(folder, "sentence", encoder)
    estimator = TextEstimator(EntropyEstimator("Last", relu=False, probes=8))
    given = samples.pieces, samples.foreground, estimator, "weights"
    return samples, Case("BERT", "Last", 1, False, lambda: net, *given)


def test_measured_sentences_have_equally_many_words_and_a_foreground(text_case):
    samples, _ = text_case
    assert samples.foreground.shape == (MEASURED_SENTENCES, SENTENCE_WORDS)
    assert list(samples.pieces.units) == [SENTENCE_WORDS] * MEASURED_SENTENCES
    assert samples.foreground.any(1).all() and not samples.foreground.all(1).any()


def test_a_text_case_is_explained_and_stored_by_the_studys_estimator(text_case, tmp_path):
    samples, one = text_case
    changed = one.changed(standard_error=None, seed=3)
    assert changed.estimator.seed == 3 and changed.estimator.relu is False
    few = replace(one, inputs=samples.pieces.subset([0, 1]))
    found = stored(few, changed, Store(tmp_path))
    expected = changed.explain(few.net(), few.inputs)
    assert torch.equal(found.maps.sigma, expected.sigma) and found.maps.sigma.isfinite().all()
    assert found.maps.sigma.shape == (2, SENTENCE_WORDS) and found.maps.settings["units"] == "words"
