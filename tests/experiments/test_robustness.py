"""Variants of the estimator on images and clouds; the shares against a hand-made Jacobian."""

import pandas as pd
import pytest
import torch
from cloud_smoke import cloud_parameters, cloud_study
from conftest import single_thread, smoke_study
from reference import column_norms, images, linear_net

from kpnb.estimator.units import GridUnits, PointUnits
from kpnb.experiments import robustness
from kpnb.experiments.robustness import (
    IMAGE_VARIANTS,
    JUDGED,
    UNCHANGED,
    Variant,
    add,
    changes_figure,
    cloud_variants,
    entropy_changes,
    judge,
    judge_variants,
    judged_table,
    sensitivity_shares,
    shares_figure,
    turned_verdicts,
    variants,
    variants_reading,
    variants_table,
)
from kpnb.metrics.evidence import Choices
from kpnb.metrics.results import freshness
from kpnb.metrics.stats import Estimate
from kpnb.study.findings import Findings, compare
from kpnb.study.verdicts import NAMES

CHANGE = "mean |change of H| [nats]"


def test_the_unchanged_variant_is_the_study_itself(smoke):
    found = judge(smoke.study, "FC1", Variant())
    threshold = smoke.study.parameters.threshold
    assert found == compare(smoke.evidence, JUDGED, Choices(threshold))


def test_a_variant_measures_the_final_networks_alone(smoke, tmp_path):
    study = smoke_study(tmp_path)
    study._networks.update(smoke.study._networks)
    changed = Variant({"target_entropy": -3.0, "units": GridUnits(4)}, threshold=0.1, images=3)
    found = judge(study, "FC1", changed)
    assert set(found) == set(JUDGED)
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
    assert list(variants("demo")) == list(IMAGE_VARIANTS)


def estimates(*verdicts):
    gap = Estimate(1.0, 0.5, 1.5, 4, 1)
    return {metric: (gap, verdict) for metric, verdict in zip(JUDGED, verdicts, strict=True)}


def test_the_reading_names_the_variants_that_change_a_verdict():
    found = {
        "first": estimates("reproduced", "inconclusive", "inconclusive"),
        "same": estimates("reproduced", "inconclusive", "inconclusive"),
        "other": estimates("contradicted", "inconclusive", "inconclusive"),
    }
    told = variants_reading(found).splitlines()
    assert "the same by 1 of 2 variants; not by: other (contradicted)" in told[0]
    assert "the same by 2 of 2 variants." in told[1]
    assert judged_table(found).shape == (3, len(JUDGED))


def test_differences_reach_the_results_file(smoke):
    findings = Findings(smoke.study, "image_measure", hypothesis=1)
    found = judge_variants(findings, "FC1", {"itself": Variant()})
    assert findings.numbers["itself | n_fg"].value == found["itself"]["n_fg"][0].value
    add(findings, "a variant", estimates("reproduced", "inconclusive", "contradicted"))
    written = findings.results()
    assert freshness(written) == "fresh" and "judge" in written.provenance["code"]
    number = written.numbers["a variant | n_fg"]
    assert (number.value, number.low, number.high, number.n) == (1.0, 0.5, 1.5, 4)
    assert "reproduced" in number.what


def test_shares_are_squared_columns_of_the_jacobian(monkeypatch):
    net, x, units = linear_net(6), images(2, dtype=torch.float64), GridUnits(4)
    monkeypatch.setattr("kpnb.experiments.robustness._DIRECTIONS", 4000)
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


# --- point clouds


@pytest.mark.parametrize(
    "choices, other, frozen", [("frozen", "recomputed", False), ("recomputed", "frozen", True)]
)
def test_variants_treat_choices_the_other_way(choices, other, frozen):
    found = cloud_variants(cloud_parameters(choices=choices))
    assert next(iter(found)) == UNCHANGED and found[UNCHANGED] == Variant()
    own = f"centroids and neighbors {other}"
    assert found[own].changes == {"units": PointUnits(frozen=frozen)}
    assert f"centroids and neighbors {choices}" not in found
    assert len(found) == 5 and all(v.changes for name, v in found.items() if name != UNCHANGED)


def test_variants_move_the_target_and_the_draws():
    found = cloud_variants(cloud_parameters(probes=12))
    targets = [v.changes["target_entropy"] for v in found.values() if "target_entropy" in v.changes]
    assert targets == [-3.0, -2.7]
    assert found["four times as many draws"].changes == {"probes": 48}
    assert all(v.threshold is None and v.layer is None for v in found.values())


@pytest.fixture(scope="module")
def on_clouds(tmp_path_factory):
    """PointNet chooses no centroids or neighbors, so their treatment must change nothing."""
    study = cloud_study(tmp_path_factory.mktemp("store"), epochs=1)
    findings = Findings(study, "pointcloud_h1", 1)
    with single_thread():
        evidence = study.evidence("FC1")
        before = len(study.store.asked)
        table = variants_table(study, "FC1", findings)
    asked = [record for kind, record in study.store.asked[before:] if kind == "maps"]
    return study, evidence, findings, table, asked


def test_the_first_row_is_the_study_itself(on_clouds):
    study, evidence, _, table, _ = on_clouds
    own = compare(evidence, JUDGED, Choices(study.parameters.threshold))
    assert {NAMES[m]: f"{gap}, {verdict}" for m, (gap, verdict) in own.items()} == dict(
        table.loc[UNCHANGED].drop(CHANGE)
    )
    assert list(table.index) == list(cloud_variants(study.parameters)) and list(table)[-1] == CHANGE


def test_changes_of_the_entropy_by_variant(on_clouds):
    table = on_clouds[3]
    change = table[CHANGE]
    assert change[UNCHANGED] == change["centroids and neighbors recomputed"] == 0
    assert change["target entropy -3.0"] == pytest.approx(0.2, abs=0.05)
    assert change["target entropy -2.7"] == pytest.approx(0.1, abs=0.05)
    assert 0 < change["four times as many draws"] < 0.2
    same = table.drop(columns=CHANGE)
    assert same.loc[UNCHANGED].equals(same.loc["centroids and neighbors recomputed"])


def test_only_final_networks_are_measured_again(on_clouds):
    study, *_, asked = on_clouds
    new = {record.fingerprint: record for record in asked if record.computed}
    assert len(new) == 2 * 4  # student and baseline, all variants but the first
    last = f"{study.checkpoints[-1]:04}/"
    assert all(name.startswith(last) for record in new.values() for name in record.tensors)


def test_every_variant_reaches_the_results_file(on_clouds):
    study, _, findings, table, _ = on_clouds
    names = {f"FC1, {name} | {metric}" for name in table.index for metric in JUDGED}
    assert set(findings.numbers) == names
    assert set(findings.results().numbers) == names


# --- the sentence


def hand_made(**rows):
    """Verdicts of two metrics by variant; cells as `variants_table` writes them."""
    table = pd.DataFrame.from_dict(
        {
            name.replace("_", " "): {"N_fg": f"+1.2 [-0.4, 2.8], {one}", "lambda": f"0.1, {other}"}
            for name, (one, other) in ({UNCHANGED: rows.pop("first")} | rows).items()
        },
        orient="index",
    )
    return table.assign(**{CHANGE: 0.1})


def test_nothing_turns():
    table = hand_made(first=("reproduced", "inconclusive"), more=("reproduced", "inconclusive"))
    assert turned_verdicts(table) == turned_verdicts(table.iloc[:1]) == "No verdict turns."


def test_turned_verdicts_are_told_with_their_variant():
    table = hand_made(
        first=("reproduced", "inconclusive"),
        target_one=("inconclusive", "inconclusive"),
        same=("reproduced", "inconclusive"),
        target_two=("contradicted", "reproduced"),
    )
    assert turned_verdicts(table) == (
        "Another verdict: N_fg inconclusive (target one); N_fg contradicted (target two); "
        "lambda reproduced (target two)."
    )


def test_the_entropy_s_own_column_is_no_verdict():
    table = hand_made(first=("reproduced", "reproduced"), more=("reproduced", "reproduced"))
    table[CHANGE] = [0.0, 9.9]
    assert turned_verdicts(table) == "No verdict turns."


def test_no_construction_measured_is_said():
    assert robustness.construction_table([]) == "Not run here yet."


def test_constructions_are_measured_on_unseen_clouds(monkeypatch, tmp_path):
    monkeypatch.setenv("KPNB_STORE", str(tmp_path))
    some = {"the default": {}, "clouds two radii away": {"distance": 2.0}}
    monkeypatch.setattr(robustness, "CONSTRUCTIONS", some)
    found = robustness.measure_cloud_constructions("smoke")
    assert found.numbers.keys() == some.keys()
    assert all(0 <= n.value <= 1 and n.n == 40 for n in found.numbers.values())
    lines = robustness.construction_table([found]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(some)
