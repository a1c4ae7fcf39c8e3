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


def test_precision_and_ratios_are_finite_numbers():
    numbers = speed.precision(CPU, 1)
    assert 0 < numbers["bfloat16 against float32, H"].value < 0.5
    assert np.isfinite([n.value for n in numbers.values()]).all()


def test_side_by_side_at_a_tiny_size():
    numbers = speed.against_published("narrow", 32, CPU, steps=1)
    assert len(numbers) == 6 and all(n.value > 0 for n in numbers.values())


def test_the_estimator_of_the_benchmark_is_the_default_but_for_its_fixed_draws():
    net = speed._network("narrow", CPU)
    made = speed._estimator(net)
    assert made == EntropyEstimator(layer_name(net, "FC1"), standard_error=None)


def test_an_unknown_subject_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.main(["speed"])
    assert stopped.value.code == 2 and "estimator" in capsys.readouterr().err


@pytest.fixture
def costs(monkeypatch):
    """A results file whose numbers tell network and scale apart."""

    def counted(subject, name, scale):
        assert subject == "cloud"
        place = 10 * list(BUILDERS).index(name) + 100 * SCALES.index(scale)
        return {what: place + k + 1.0 for k, what in enumerate(speed.COSTS)}

    monkeypatch.setattr(speed, "_in_own_process", counted)
    return speed.measure_cloud_costs()


def test_every_network_and_scale_has_its_row(costs):
    lines = speed.costs_table([costs]).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:10]]
    expected = [(name, scale) for scale in SCALES for name in BUILDERS]
    assert [(row[0], row[1]) for row in rows] == expected
    full = rows[expected.index(("PointConv", "full"))]
    assert full[2:4] == ["1024 + 500", "8"]
    place = 10 * list(BUILDERS).index("PointConv") + 100 * SCALES.index("full")
    cells = [float(cell) for cell in full[4:]]
    assert cells == pytest.approx([place + k + 1 for k in range(5)], rel=0.01)
    assert costs.provenance["cpu"] in lines[-1]


def test_one_network_is_measured():
    found = speed.cloud_costs_of("PointNet++", "narrow")
    weights = point_network("PointNet++", 10, "narrow").parameters()
    assert found["parameters"] == sum(w.numel() for w in weights)
    assert all(value > 0 for value in found.values()) and found.keys() == speed.COSTS.keys()


def test_a_process_of_its_own_gives_its_peak_memory():
    assert speed._in_own_process("memory", "1") > 100  # MiB: torch alone takes more


def test_nothing_measured_is_said():
    assert speed.costs_table([]) == "Not run here yet."
