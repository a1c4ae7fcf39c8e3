"""The cost and construction tables hold what their results files say. No test looks at a time."""

import pytest

from kpnb.experiments import cloud_construction, cloud_costs
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.layers import SCALES


@pytest.fixture
def costs(monkeypatch):
    """A results file whose numbers tell network and scale apart."""

    def counted(name, scale):
        place = 10 * list(BUILDERS).index(name) + 100 * SCALES.index(scale)
        return {what: place + k + 1.0 for k, what in enumerate(cloud_costs.WHAT)}

    monkeypatch.setattr(cloud_costs, "_in_own_process", counted)
    return cloud_costs.measure_cloud_costs()


def test_every_network_and_scale_has_its_row(costs):
    lines = cloud_costs.costs_table([costs]).splitlines()
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
    found = cloud_costs.cloud_costs_of("PointNet++", "narrow")
    weights = point_network("PointNet++", 10, "narrow").parameters()
    assert found["parameters"] == sum(w.numel() for w in weights)
    assert all(value > 0 for value in found.values()) and found.keys() == cloud_costs.WHAT.keys()


def test_nothing_measured_is_said():
    assert cloud_costs.costs_table([]) == cloud_costs.NOTHING
    assert cloud_construction.construction_table([]) == cloud_construction.NOTHING


def test_constructions_are_measured_on_unseen_clouds(monkeypatch, tmp_path):
    monkeypatch.setenv("KPNB_STORE", str(tmp_path))
    some = {cloud_construction.DEFAULT: {}, "clouds two radii away": {"distance": 2.0}}
    monkeypatch.setattr(cloud_construction, "CONSTRUCTIONS", some)
    found = cloud_construction.measure_cloud_constructions("smoke")
    assert found.numbers.keys() == some.keys()
    assert all(0 <= n.value <= 1 and n.n == 40 for n in found.numbers.values())
    lines = cloud_construction.construction_table([found]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(some)
