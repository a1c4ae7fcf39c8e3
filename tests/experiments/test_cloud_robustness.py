"""Variants of the estimator on point clouds, and the sentence about verdicts that turn."""

import pandas as pd
import pytest
import torch
from cloud_smoke import cloud_parameters, cloud_study

from kpnb.estimator.units import PointUnits
from kpnb.experiments.cloud_robustness import FIRST, cloud_variants, turned_verdicts, variants_table
from kpnb.experiments.robustness import METRICS, Variant
from kpnb.metrics.evidence import Choices
from kpnb.study.findings import Findings, compare
from kpnb.study.readings import NAMES

CHANGE = "mean |change of H| [nats]"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "choices, other, frozen", [("frozen", "recomputed", False), ("recomputed", "frozen", True)]
)
def test_variants_treat_choices_the_other_way(choices, other, frozen):
    found = cloud_variants(cloud_parameters(choices=choices))
    assert next(iter(found)) == FIRST and found[FIRST] == Variant()
    own = f"centroids and neighbors {other}"
    assert found[own].changes == {"units": PointUnits(frozen=frozen)}
    assert f"centroids and neighbors {choices}" not in found
    assert len(found) == 5 and all(v.changes for name, v in found.items() if name != FIRST)


def test_variants_move_the_target_and_the_draws():
    found = cloud_variants(cloud_parameters(probes=12))
    targets = [v.changes["target_entropy"] for v in found.values() if "target_entropy" in v.changes]
    assert targets == [-3.0, -2.7]
    assert found["four times as many draws"].changes == {"probes": 48}
    assert all(v.threshold is None and v.layer is None for v in found.values())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """PointNet chooses no centroids or neighbors, so their treatment must change nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    study = cloud_study(tmp_path_factory.mktemp("store"), epochs=1)
    evidence, findings = study.evidence("FC1"), Findings(study, "pointcloud_h1", 1)
    before = len(study.store.asked)
    table = variants_table(study, "FC1", findings)
    torch.set_num_threads(threads)
    asked = [record for kind, record in study.store.asked[before:] if kind == "maps"]
    return study, evidence, findings, table, asked


def test_the_first_row_is_the_study_itself(measured):
    study, evidence, _, table, _ = measured
    own = compare(evidence, METRICS, Choices(study.parameters.threshold))
    assert {NAMES[m]: f"{gap}, {verdict}" for m, (gap, verdict) in own.items()} == dict(
        table.loc[FIRST].drop(CHANGE)
    )
    assert list(table.index) == list(cloud_variants(study.parameters)) and list(table)[-1] == CHANGE


def test_changes_of_the_entropy_by_variant(measured):
    table = measured[3]
    change = table[CHANGE]
    assert change[FIRST] == change["centroids and neighbors recomputed"] == 0
    assert change["target entropy -3.0"] == pytest.approx(0.2, abs=0.05)
    assert change["target entropy -2.7"] == pytest.approx(0.1, abs=0.05)
    assert 0 < change["four times as many draws"] < 0.2
    same = table.drop(columns=CHANGE)
    assert same.loc[FIRST].equals(same.loc["centroids and neighbors recomputed"])


def test_only_final_networks_are_measured_again(measured):
    study, *_, asked = measured
    new = {record.fingerprint: record for record in asked if record.computed}
    assert len(new) == 2 * 4  # student and baseline, all variants but the first
    last = f"{study.checkpoints[-1]:04}/"
    assert all(name.startswith(last) for record in new.values() for name in record.tensors)


def test_every_variant_reaches_the_results_file(measured):
    study, _, findings, table, _ = measured
    names = {f"FC1, {name} | {metric}" for name in table.index for metric in METRICS}
    assert set(findings.numbers) == names
    assert set(findings.results().numbers) == names


# --- the sentence


def hand_made(**rows):
    """Verdicts of two metrics by variant; cells as `variants_table` writes them."""
    table = pd.DataFrame.from_dict(
        {
            name.replace("_", " "): {"N_fg": f"+1.2 [-0.4, 2.8], {one}", "lambda": f"0.1, {other}"}
            for name, (one, other) in ({FIRST: rows.pop("first")} | rows).items()
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
