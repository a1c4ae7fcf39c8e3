"""The benchmark runs, and its helpers compute what they say. No test looks at a time."""

import numpy as np
import pytest
import torch

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.experiments import speed as bench

CPU = torch.device("cpu")


def test_the_exponent_is_the_slope_on_logarithmic_scales():
    sizes = (32, 64, 128)
    assert bench._exponent(sizes, [3.0 * n for n in sizes]).value == pytest.approx(1)
    assert bench._exponent(sizes, [n**1.5 for n in sizes]).value == pytest.approx(1.5)


def test_floor_counts_the_passes_that_path_makes(monkeypatch):
    """Rows forward with a graph, forward without, and backward, against a count by a hook."""
    net, images = bench._network("narrow", CPU), bench._images(2, 32, CPU)
    estimator = bench._estimator(net, probes=8)
    rows = {"graph": 0, "plain": 0, "backward": 0}
    read = FeatureReader.__call__

    def counting(self, forward):
        y = read(self, forward)
        rows["graph" if y.requires_grad else "plain"] += len(y)
        if y.requires_grad:
            y.register_hook(lambda g: rows.__setitem__("backward", rows["backward"] + len(g)))
        return y

    monkeypatch.setattr(FeatureReader, "__call__", counting)
    estimator.explain(net, images)
    with_graph = (estimator.evaluations - 0.5) * estimator.probes * len(images)
    first = max(8, estimator.probes // 2) * len(images)  # never fewer than two blocks
    with_graph += first - 0.5 * estimator.probes * len(images)
    assert rows["graph"] == with_graph
    assert rows["backward"] == 4 * with_graph
    clean = len(images) + 0
    assert rows["plain"] == 2 * bench.RESPONSE_DRAWS * len(images) + clean


def test_precision_and_ratios_are_finite_numbers():
    numbers = bench.precision(CPU, 1)
    assert 0 < numbers["bfloat16 against float32, H"].value < 0.5
    assert np.isfinite([n.value for n in numbers.values()]).all()


def test_side_by_side_at_a_tiny_size():
    numbers = bench.against_published("narrow", 32, CPU, steps=1)
    assert len(numbers) == 6 and all(n.value > 0 for n in numbers.values())


def test_the_estimator_of_the_benchmark_is_the_default_but_for_its_fixed_draws():
    net = bench._network("narrow", CPU)
    made = bench._estimator(net)
    assert made == EntropyEstimator(layer_name(net, "FC1"), standard_error=None)


def test_an_unknown_subject_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["speed"])
    assert stopped.value.code == 2 and "estimator" in capsys.readouterr().err
