"""The comparison with the truth, on runs whose errors are known."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from reference import conv_net, images

from kpnb.datasets.texts.embedded import embedded_sentences
from kpnb.datasets.texts.encoded import encoded_sentences
from kpnb.datasets.texts.foreground import sentiment_foreground
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.estimator.units import GridUnits
from kpnb.experiments import accuracy
from kpnb.experiments.accuracy import SENTENCE_WORDS, Case, Explained, compare_methods, stored
from kpnb.networks.text import scratch_network
from kpnb.store import Store
from kpnb.study.text import TextEstimator

SAMPLES, UNITS = 3, 16
NET = conv_net()
RIPPLE = torch.tensor([1.0, -1.0]).repeat(UNITS // 2)


def case(**changes):
    foreground = torch.zeros(SAMPLES, UNITS, dtype=torch.bool)
    foreground[:, 5:9] = True
    given = lambda: NET, images(SAMPLES), foreground, EntropyEstimator("7", GridUnits(4), probes=8)
    return replace(Case("Toy", "FC1", 3, False, *given, "weights"), **changes)


def known(offset, seconds):
    """H_i = -2.8 + 0.3 (i mod 4), plus `offset`; foreground cell 8 lies lowest."""
    entropy = -2.8 + 0.3 * (torch.arange(UNITS) % 4).double().expand(SAMPLES, -1) + offset
    sigma, one = (entropy - GAUSSIAN_ENTROPY).exp(), torch.ones(SAMPLES)
    return Explained(EntropyMaps(sigma, one, one > 0, torch.full_like(sigma, 0.01)), seconds)


def run_with_known_errors(estimator):
    """Truths 0.002 apart, published runs 0.03 off, 0.01 apart; path's error is 0.4 / probes."""
    if estimator.method == "reference":
        return known((0.002 * estimator.seed - 0.001) * RIPPLE, 50.0)
    if estimator.method == "published":
        error = 0.03 * 96 / estimator.draws - 0.01 * estimator.seed
        return known(error * RIPPLE, estimator.draws / 9.6)
    probes = estimator.probes if estimator.standard_error is None else 80
    return known(0.4 / probes * RIPPLE, probes / 100)


def test_errors_are_those_put_in():
    found = compare_methods(case(), run_with_known_errors)
    expected = {
        "truth | own error": 0.001, "published | spread": 0.01,
        "published, 96 draws | error": 0.03, "published, 24 draws | error": 0.12,
        "path, 8 probes | error": 0.05, "path, default | error": 0.005,
        "path, 8 probes | standard error": 0.01, "path, 8 probes | seconds": 0.08,
        "path, default | Spearman": 1, "path, default | N_fg error": 0,
    }  # fmt: skip
    told = {name: found[name].value for name in expected}
    assert told == pytest.approx(expected, rel=1e-6)
    assert found["published, 6 draws | Spearman"].value < 0.9
    # Points off are counted: the background's mean is -2.35 for the truth; cells at -2.5 +- e
    # cross b = 0.2 or do not.
    lowered = torch.zeros(UNITS)
    lowered[5] = -0.2  # a foreground cell at -2.5 becomes a point
    path, others = known(lowered, 1.0), run_with_known_errors
    found = compare_methods(case(), lambda e: path if e.method == "path" else others(e))
    errors = [found[f"path, 8 probes | N_{ground} error"].value for ground in ("fg", "bg")]
    assert errors == [1, 0]


def test_at_the_minimum_errors_are_those_put_in_and_a_descent_that_did_not_settle_is_told():
    def run(estimator):
        if estimator.method == "descent":
            assert (estimator.draws, estimator.descent_iterations) == (96, 3200)
            one = known((0.004 * estimator.seed - 0.002) * RIPPLE, 50.0)
            settled = torch.tensor([True, True, estimator.seed == 1])
            return replace(one, maps=replace(one.maps, reached=settled))
        assert (estimator.method, estimator.standard_error) == ("optimum", None)
        return known(0.4 / estimator.probes * RIPPLE, 1.0)

    fast = replace(case().estimator, quality="fast", standard_error=None)
    found = accuracy.compare_at_minimum(case(estimator=fast), run)
    expected = {"truth | own error": 0.002, "truth | settled": 5 / 6}
    expected |= {"optimum, 8 probes | error": 0.05, "optimum, 24 probes | error": 0.4 / 24}
    assert {name: found[name].value for name in expected} == pytest.approx(expected, rel=1e-6)
    lowered = torch.zeros(UNITS)
    lowered[5], lowered[1] = -0.2, -0.2  # a foreground cell at -2.5 becomes a point, one beside too
    path = known(lowered, 1.0)
    found = accuracy.compare_at_minimum(
        case(estimator=fast), lambda e: run(e) if e.method == "descent" else path
    )
    for name in ("N_fg", "N_bg"):
        assert found[f"optimum, 8 probes | {name} difference"].value == 1


@pytest.mark.parametrize(
    "given, name", [([], "estimator_accuracy"), (["--minimum"], "estimator_minimum")]
)
def test_the_program_measures_what_is_asked_for(given, name, monkeypatch, capsys):
    for what in ("measure_estimator_accuracy", "measure_minimum"):
        file = {"measure_minimum": "estimator_minimum"}.get(what, "estimator_accuracy")
        monkeypatch.setattr(accuracy, what, lambda file=file: file)
    monkeypatch.setattr(accuracy.results, "write_results", lambda found: f"written: {found}")
    assert accuracy.main(given) == 0 and capsys.readouterr().out == f"written: {name}\n"


def test_a_stored_run_is_taken_from_the_store(tmp_path):
    refuse = partial(pytest.fail, "computed again")
    store, estimator = Store(tmp_path), replace(case().estimator, standard_error=None)
    first, again = (stored(case(**net), estimator, store) for net in ({}, {"net": refuse}))
    assert torch.equal(first.maps.sigma, again.maps.sigma) and first.seconds == again.seconds
    for changed, other in (({"epoch": 4}, estimator), ({}, replace(estimator, seed=1))):
        with pytest.raises(pytest.fail.Exception):
            stored(case(net=refuse, **changed), other, store)


def test_smooth_images_keep_their_means_and_lose_their_texture():
    x = images(2, 64)
    soft = accuracy.smoothed(x)
    rough, left = ((part[..., 1:] - part[..., :-1]).abs().mean() for part in (x, soft))
    assert soft.shape == x.shape and left < 0.02 * rough
    torch.testing.assert_close(soft.mean((2, 3)), x.mean((2, 3)), rtol=0, atol=0.02)


def test_a_text_case_is_explained_and_stored_by_the_studys_estimator(tmp_path, tiny_model, encoder):
    """On sentences of equally many words with a foreground, by a tiny model."""
    sentences, count = embedded_sentences("train"), accuracy.MEASURED_SENTENCES
    short = [row for row, text in enumerate(sentences.texts) if len(text) < 90][:200]
    texts = encoded_sentences(sentences.subset(short), encoder, sentiment_foreground)
    samples = accuracy.measured_sentences(texts)
    assert samples.foreground.shape == (count, SENTENCE_WORDS)
    assert list(samples.pieces.units) == [SENTENCE_WORDS] * count
    assert samples.foreground.any(1).all() and not samples.foreground.all(1).any()
    net = scratch_network(tiny_model, "sentence", encoder)
    estimator = TextEstimator(EntropyEstimator("Last", relu=False, probes=8))
    few = case(net=lambda: net, inputs=samples.pieces.subset([0, 1]), estimator=estimator)
    changed = few.changed(standard_error=None, seed=3)
    assert changed.estimator.seed == 3 and changed.estimator.relu is False
    found, expected = stored(few, changed, Store(tmp_path)), changed.explain(net, few.inputs)
    assert torch.equal(found.maps.sigma, expected.sigma) and found.maps.sigma.isfinite().all()
    assert found.maps.sigma.shape == (2, SENTENCE_WORDS) and found.maps.settings["units"] == "words"
