"""The measuring program runs, and its helpers compute what they say. No test looks at a time."""

from functools import partial

import pytest
import torch

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.experiments import speed

CPU = torch.device("cpu")


def test_floor_counts_the_passes_that_path_makes(monkeypatch):
    """Rows forward with a graph, forward without, and backward, against a count by a hook."""
    net, images = speed._network("narrow", CPU), speed._images(2, 32, CPU)
    estimator = speed._estimator(net, probes=8)
    assert estimator == EntropyEstimator(layer_name(net, "FC1"), probes=8, standard_error=None)
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
    # And those of the checks: a gradient, what a row keeps, and five clean ones.
    assert (rows["graph"], rows["backward"]) == (with_graph + 2, 4 * with_graph + 1)
    assert rows["plain"] == 2 * speed.RESPONSE_DRAWS * len(images) + len(images) + 5


def test_measurements_at_a_tiny_size(monkeypatch, capsys):
    for power in (1, 1.5):  # the exponent is the slope on logarithmic scales
        found = speed._exponent((32, 64, 128), [3.0 * n**power for n in (32, 64, 128)])
        assert found.value == pytest.approx(power) and found.n == 3
    assert speed._in_own_process(1) > 100  # MiB: torch alone takes more

    def once(work, *_):  # in place of the clock
        work()
        return 1.0

    monkeypatch.setattr(speed, "_seconds", once)
    monkeypatch.setattr(speed, "_estimator", partial(speed._estimator, probes=8))
    numbers = {name: number.value for name, number in speed.precision(CPU, 1).items()}
    assert 0 < numbers["bfloat16 against float32, H"] < 0.5
    numbers = speed.against_published("narrow", 32, CPU, steps=1)
    assert len(numbers) == 6 and all(n.value > 0 for n in numbers.values())
    assert numbers["VGG-11 narrow, 32 pixels: published / path, 8 probes"].value == 60
    with pytest.raises(SystemExit):
        speed.main(["clouds"])
    assert "unrecognized" in capsys.readouterr().err
