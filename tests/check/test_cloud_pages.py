"""The page of a point network with the networks that take longest."""

import cloud_smoke
import pytest
from notebook_runs import Executed

from kpnb.metrics.results import read_results
from kpnb.paper import METRICS


@pytest.mark.parametrize("network", ["DGCNN", "PointConv", "PointNet++"])
def test_a_page_compares_every_metric(network, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    page = f"pointcloud_{network.lower().replace('++', '2')}"
    given = cloud_smoke.SMALL | {"network": network}
    executed = Executed("pointcloud_network", given, tmp_path / "store", tmp_path, page)
    assert executed.code == 0 and executed.told == "", executed.told
    found = read_results(page, "smoke")
    assert {c.metric for c in found.comparisons} == set(METRICS)
    assert "FC1, centroids and neighbors recomputed" in {n.split(" | ")[0] for n in found.numbers}
