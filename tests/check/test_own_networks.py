"""The notebook that trains three networks in its own cells, whole."""

from notebook_runs import Executed, source

from kpnb.metrics.results import read_results
from kpnb.paper import METRICS
from kpnb.run import notebook as runner


def test_the_notebook_of_one_s_own_networks(tmp_path, monkeypatch):
    """It trains in its cells, and its results are numbers: no study's metrics."""
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    run = Executed("own_study", {}, tmp_path / "store", tmp_path)
    assert run.code == 0 and run.told == "" and run.added == set()
    assert runner.figure_count(run.notebook) == source("own_study").metadata["kpnb"]["figures"]
    found = read_results("own_study", "smoke")
    metrics = {name.removesuffix("_difference") for name in found.numbers if "_difference" in name}
    assert {"n_fg", "n_bg", "lambda"} <= metrics <= set(METRICS) and found.seconds > 1
    told = "\n".join(run.outputs("text/markdown"))
    assert "Hypothesis 1" in told and "explained: student" in told
