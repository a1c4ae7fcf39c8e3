"""Variants of the estimator on the smoke study, and the shares against a hand-made Jacobian."""

import pytest
import torch
from conftest import smoke_study
from reference import column_norms, images, linear_net

from kpnb.estimator.units import GridUnits
from kpnb.experiments.robustness import (
    METRICS,
    VARIANTS,
    Variant,
    add,
    changes_figure,
    entropy_changes,
    judge,
    reading,
    results,
    sensitivity_shares,
    shares_figure,
    table,
    variants,
)
from kpnb.metrics.evidence import Choices
from kpnb.metrics.results import freshness
from kpnb.metrics.stats import Estimate
from kpnb.study.findings import Findings, compare


def test_the_unchanged_variant_is_the_study_itself(smoke):
    found = judge(smoke.study, "FC1", Variant())
    threshold = smoke.study.parameters.threshold
    assert found == compare(smoke.evidence, METRICS, Choices(threshold))


def test_a_variant_measures_the_final_networks_alone(smoke, tmp_path):
    study = smoke_study(tmp_path)
    study._networks.update(smoke.study._networks)
    changed = Variant({"target_entropy": -3.0, "units": GridUnits(4)}, threshold=0.1, images=3)
    found = judge(study, "FC1", changed)
    assert set(found) == set(METRICS)
    asked = [record for kind, record in study.store.asked if kind == "maps"]
    assert len(asked) == 2  # student and baseline
    for record in asked:
        (sigma,) = [t for name, t in record.tensors.items() if name.endswith("sigma")]
        assert sigma.shape == (3, 16)
        mean = sigma.log().mean() + 1.4189385
        assert float(mean) == pytest.approx(-3.0, abs=1e-3)


def test_the_published_procedure_is_left_to_the_study():
    assert not any(v.changes.get("method") == "published" for v in variants("demo").values())
    assert any(v.changes.get("method") == "published" for v in variants("study").values())
    assert list(variants("demo")) == list(VARIANTS)


def estimates(*verdicts):
    gap = Estimate(1.0, 0.5, 1.5, 4, 1)
    return {metric: (gap, verdict) for metric, verdict in zip(METRICS, verdicts, strict=True)}


def test_the_reading_names_the_variants_that_change_a_verdict():
    found = {
        "first": estimates("reproduced", "inconclusive", "inconclusive"),
        "same": estimates("reproduced", "inconclusive", "inconclusive"),
        "other": estimates("contradicted", "inconclusive", "inconclusive"),
    }
    told = reading(found).splitlines()
    assert "the same by 1 of 2 variants; not by: other (contradicted)" in told[0]
    assert "the same by 2 of 2 variants." in told[1]
    assert table(found).shape == (3, len(METRICS))


def test_differences_reach_the_results_file(smoke):
    findings = Findings(smoke.study, "image_measure", hypothesis=1)
    add(findings, "a variant", estimates("reproduced", "inconclusive", "contradicted"))
    written = results(findings)
    assert freshness(written) == "fresh" and "judge" in written.provenance["code"]
    number = written.numbers["a variant | n_fg"]
    assert (number.value, number.low, number.high, number.n) == (1.0, 0.5, 1.5, 4)
    assert "reproduced" in number.what


def test_shares_are_squared_columns_of_the_jacobian(monkeypatch):
    net, x, units = linear_net(6), images(2, dtype=torch.float64), GridUnits(4)
    monkeypatch.setattr("kpnb.experiments.robustness.PROBES", 4000)
    with torch.no_grad():
        net[1].bias.fill_(1e3)  # every ReLU open
    found = sensitivity_shares(net, "1", x, units)
    J = column_norms(net[1].weight.detach(), x.shape[1:], 4)
    torch.testing.assert_close(found[0].double(), J / J.sum(), rtol=0.05, atol=0)


def test_the_figure_has_a_panel_for_each_kind_of_maps(smoke):
    maps = smoke.evidence.maps["B"][0][smoke.study.checkpoints[-1]]
    shares = torch.rand(maps.sigma.shape)
    figure = shares_figure(shares, {"optimum": maps, "path": maps})
    assert [ax.get_title() for ax in figure.axes] == ["optimum", "path"]
    assert all("nats" in ax.get_xlabel() and "nats" in ax.get_ylabel() for ax in figure.axes)


def test_a_variant_may_measure_another_layer(smoke, tmp_path):
    study = smoke_study(tmp_path)
    study._networks.update(smoke.study._networks)
    judge(study, "FC1", Variant(layer="FC2"))
    asked = [record for kind, record in study.store.asked if kind == "maps"]
    student = study.of("S", 0, "FC1")
    last = (student.final_epoch,)
    direct = study.maps(student, "FC2", last)
    assert study.store.asked[-1][1].fingerprint in {record.fingerprint for record in asked}
    assert not torch.equal(direct[last[0]].sigma, study.maps(student, "FC1", last)[last[0]].sigma)


def test_entropy_changes_are_means_over_live_units():
    first = torch.tensor([[-2.8, -3.0], [-2.6, torch.nan]])
    found = {"first": first, "moved": first + torch.tensor([[0.1, -0.2], [0.3, 5.0]])}
    changes = entropy_changes(found).iloc[:, 0]
    assert changes["first"] == 0 and changes["moved"] == pytest.approx(0.2)
    figure = changes_figure(found, ["moved"])
    assert len(figure.axes) == 1 and "nats" in figure.axes[0].get_xlabel()
