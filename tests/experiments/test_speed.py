"""The measuring program runs, its helpers compute what they say, and its table holds what the
results file says. No test looks at a time."""

import numpy as np
import pytest
import torch

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.experiments import speed
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.layers import SCALES

CPU = torch.device("cpu")


def test_the_exponent_is_the_slope_on_logarithmic_scales():
    sizes = (32, 64, 128)
    assert speed._exponent(sizes, [3.0 * n for n in sizes]).value == pytest.approx(1)
    assert speed._exponent(sizes, [n**1.5 for n in sizes]).value == pytest.approx(1.5)


def test_floor_counts_the_passes_that_path_makes(monkeypatch):
    """Rows forward with a graph, forward without, and backward, against a count by a hook."""
    net, images = speed._network("narrow", CPU), speed._images(2, 32, CPU)
    estimator = speed._estimator(net, probes=8)
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
    assert rows["plain"] == 2 * speed.RESPONSE_DRAWS * len(images) + clean


def once(work, *_, **__):
    """In place of the clock: runs the work a single time."""
    work()
    return 1.0


def test_measurements_at_a_tiny_size(monkeypatch):
    assert speed._in_own_process("memory", "1") > 100  # MiB: torch alone takes more
    monkeypatch.setattr(speed, "_seconds", once)
    numbers = speed.precision(CPU, 1)
    assert 0 < numbers["bfloat16 against float32, H"].value < 0.5
    assert np.isfinite([n.value for n in numbers.values()]).all()
    numbers = speed.against_published("narrow", 32, CPU, steps=1)
    assert len(numbers) == 6 and all(n.value > 0 for n in numbers.values())
    assert numbers["VGG-11 narrow, 32 pixels: published / path, 8 probes"].value == 60


def test_the_estimator_of_the_benchmark_is_the_default_but_for_its_fixed_draws():
    net = speed._network("narrow", CPU)
    made = speed._estimator(net)
    assert made == EntropyEstimator(layer_name(net, "FC1"), standard_error=None)


def test_an_unknown_subject_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.main(["speed"])
    assert stopped.value.code == 2 and "estimator" in capsys.readouterr().err


def test_every_network_and_scale_has_its_row(monkeypatch):
    """Numbers tell network and scale apart."""
    names = list(BUILDERS)

    def counted(subject, name, scale):
        assert subject == "cloud"
        place = 10 * names.index(name) + 100 * SCALES.index(scale)
        return {what: place + k + 1.0 for k, what in enumerate(speed.COSTS)}

    monkeypatch.setattr(speed, "_in_own_process", counted)
    costs = speed.measure_cloud_costs()
    assert speed.costs_table([]) == "Not run here yet."
    *_, last = lines = speed.costs_table([costs]).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:10]]
    assert [(row[0], row[1]) for row in rows] == [(n, scale) for scale in SCALES for n in BUILDERS]
    (full,) = [row for row in rows if row[:2] == ["PointConv", "full"]]
    assert full[2:4] == ["1024 + 500", "8"] and costs.provenance["cpu"] in last
    place = 10 * names.index("PointConv") + 100 * SCALES.index("full")
    wanted = [place + k + 1 for k in range(5)]
    assert [float(cell) for cell in full[4:]] == pytest.approx(wanted, rel=0.01)
    assert {n.unit for n in costs.numbers.values()} == {"", "s", "MB"}
    assert costs.peak_memory_mb == max(
        n.value for name, n in costs.numbers.items() if name.endswith("memory")
    )


def test_one_network_is_measured():
    found = speed.cloud_costs_of("PointNet++", "narrow")
    weights = point_network("PointNet++", 10, "narrow").parameters()
    assert found["parameters"] == sum(w.numel() for w in weights)
    assert all(value > 0 for value in found.values()) and found.keys() == speed.COSTS.keys()
