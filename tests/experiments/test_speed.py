"""The measuring program runs, and its helpers compute what they say. No test looks at a time."""

from functools import partial

import pytest
import torch

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.experiments import speed
from kpnb.metrics.results import Number

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
    # And what a row keeps; those of the checks go through the whole network, not counted here.
    assert (rows["graph"], rows["backward"]) == (with_graph + 1, 4 * with_graph)
    assert rows["plain"] == 2 * speed.RESPONSE_DRAWS * len(images) + len(images)


@pytest.mark.long
def test_measurements_at_a_tiny_size(monkeypatch, capsys):
    for power in (1, 1.5):  # the exponent is the slope on logarithmic scales
        found = speed._exponent((32, 64, 128), [3.0 * n**power for n in (32, 64, 128)])
        assert found.value == pytest.approx(power) and found.n == 3
    assert speed._alone("peak_memory_of(1)") > 100  # MiB: torch alone takes more

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


@pytest.mark.long
def test_networks_and_an_interval_at_a_tiny_size(monkeypatch, tmp_path):
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    monkeypatch.setattr(speed, "BertConfig", partial(speed.BertConfig, **small, vocab_size=9))
    monkeypatch.setattr(speed, "SIDE", 32)
    monkeypatch.setattr(speed, "TOKENS", 5)
    monkeypatch.setenv("KPNB_STORE", str(tmp_path))
    for name in ("mobilenet_v3_large", speed.BERT):
        found = {told: Number(**made) for told, made in speed.network_numbers(name, "cpu").items()}
        assert list(found)[2] == f"{name} | standard | memory" and len(found) == 7
        assert found[f"{name} | standard | forward passes"].value > 24  # its probes
        assert found[f"{name} | standard | standard error"].value < 0.02
    found = speed.cost_of_an_interval(CPU, preset="smoke", count=2, draws=2)
    both = [found[f"VGG-11 narrow, 2 images: N_fg, {m}"] for m in ("published", "path, 8 probes")]
    assert all(n.low <= n.value <= n.high and n.n == 2 for n in both)
