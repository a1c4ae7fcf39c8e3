"""Variants of the estimator on images and clouds; the shares against a hand-made Jacobian."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cloud_smoke import cloud_parameters, cloud_study
from conftest import single_thread, smoke_study
from reference import column_norms, images, linear_net

from kpnb.estimator.units import GridUnits, PointUnits
from kpnb.experiments import robustness
from kpnb.experiments.robustness import (
    JUDGED,
    SEPARATIONS,
    Variant,
    cloud_variants,
    judge,
    judged_table,
)
from kpnb.metrics.evidence import Choices, Decision, decided
from kpnb.metrics.results import freshness
from kpnb.metrics.stats import Estimate
from kpnb.study.findings import Findings
from kpnb.study.parameters import ImageParameters, resolve

CHANGE, OWN = "mean |change of H| [nats]", "as in this study"


@pytest.fixture
def own(smoke, tmp_path):
    study = smoke_study(tmp_path)
    study._networks.update(smoke.study._networks)
    return study


def asked_maps(study) -> list:
    return [record for kind, record in study.store.asked if kind == "maps"]


def test_a_variant_measures_the_final_networks_alone_and_perhaps_another_layer(own):
    changed = Variant({"target_entropy": -3.0, "units": GridUnits(4)}, threshold=0.1, images=3)
    assert set(judge(own, "FC1", changed)) == set(JUDGED)
    asked = asked_maps(own)
    assert len(asked) == 2  # student and baseline
    for record in asked:
        (sigma,) = [t for name, t in record.tensors.items() if name.endswith("sigma")]
        assert sigma.shape == (3, 16)
        assert float(sigma.log().mean() + 1.4189385) == pytest.approx(-3.0, abs=1e-3)
    judge(own, "FC1", Variant(layer="FC2"))
    student, asked = own.of("S", 0, "FC1"), {record.fingerprint for record in asked_maps(own)}
    for layer, there in (("FC2", True), ("FC1", False)):
        own.maps(student, layer, (student.final_epoch,))
        assert (own.store.asked[-1][1].fingerprint in asked) == there


def test_the_published_procedure_is_left_to_the_study_and_variants_of_clouds():
    """Of clouds: choices the other way, both targets, more draws."""
    assert "published procedure" in robustness.variants("study")
    assert list(robustness.variants("demo")) == list(robustness.IMAGE_VARIANTS)
    for choices, other in (("frozen", "recomputed"), ("recomputed", "frozen")):
        units = {"units": PointUnits(other == "frozen")}
        changes = {OWN: {}, f"centroids and neighbors {other}": units}
        changes |= {f"target entropy {h}": {"target_entropy": h} for h in (-3.0, -2.7)}
        changes |= {"four times as many draws": {"probes": 48}}
        found = cloud_variants(cloud_parameters(choices=choices, probes=12))
        assert found == {name: Variant(changed) for name, changed in changes.items()}


def estimates(*sides):
    """A difference of 1 in each metric, with its predicted side; "" for one that is open."""
    lows = ((side, 0.5 if side else -0.5) for side in sides)
    gaps = [(Estimate(1.0, low, 1.5, 4, 2), 0.0, math.nan, side or "up") for side, low in lows]
    return {metric: Decision(*given) for metric, given in zip(JUDGED, gaps, strict=True)}


SAME = estimates("up", "", "down")


def test_turned_verdicts_are_told_with_their_variant():
    two, four = estimates("down", "up", "down"), estimates("", "", "down")
    single = {m: replace(d, difference=replace(d.difference, n_seeds=1)) for m, d in two.items()}
    turned = "N_fg opposed (two); N_bg supported (two); N_fg undecided (four)"
    for others, told in (
        ({}, "No verdict turns."),
        ({"one": SAME, "one seed": single}, "No verdict turns."),
        ({"one": SAME, "two": two, "four": four}, f"Another verdict: {turned}."),
    ):
        table = judged_table({"first": SAME} | others)
        assert table.shape == (1 + len(others), len(JUDGED))
        # How far the entropy moves is no verdict.
        moved = pd.Series(range(len(table)), table.index, float, CHANGE)
        assert {robustness.turned_verdicts(t) for t in (table, table.join(moved))} == {told}


@pytest.mark.parametrize(
    "preset, network, page",
    [
        ("study", "AlexNet", "image_measure"),
        ("study", "VGG-11", "image_measure_vgg11"),
        ("smoke", "VGG-11", "image_measure"),
        ("paper", "ResNet-50", "image_measure_resnet50"),
    ],
)
def test_another_network_layer_or_data_set_has_a_file_of_its_own(preset, network, page):
    def told(layer, prepared=False, **data):
        given = {"preset": preset, "network": network, "layers": [layer]} | data
        parameters = resolve(ImageParameters, given, "demo")
        return robustness.image_page(SimpleNamespace(parameters=parameters, prepared=prepared))

    assert (told("FC1"), told("FC2")) == (page, f"{page}_fc2")
    photographs = told("Conv", True, data="a/folder/Photos-64-of_20", image_size=64)
    assert photographs == f"{page}_conv_photos_64_of_20"


def test_a_box_holds_its_outline_and_nothing_beyond_and_judges_the_same_maps(smoke):
    box = robustness.IMAGE_VARIANTS["boxes for outlines"]
    assert box == Variant(boxes=True)
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2, 3] = masks[0, 5, 6] = masks[1, 0, 0] = masks[1, 7, 7] = True  # ends of a diagonal
    units = GridUnits(8)
    data = SimpleNamespace(measured=SimpleNamespace(masks=masks), units=units)
    some = SimpleNamespace(data=data, foreground=lambda: units.foreground(masks))
    found = robustness._foreground(some, box).reshape(2, 8, 8)
    assert found[0, 2:6, 3:7].all() and found[0].sum() == 16 and found[1].all()
    assert robustness._foreground(some, Variant()).sum() == 4
    before = len(asked_maps(smoke.study))
    judged = robustness.judge(smoke.study, "FC1", box)
    boxed = robustness._foreground(smoke.study, box)
    assert not any(record.computed for record in asked_maps(smoke.study)[before:])
    rows = (boxed.any(1) & ~boxed.all(1)).nonzero().flatten()
    evidence = replace(smoke.evidence, foreground=boxed).keep(rows)
    assert judged == decided(evidence, JUDGED, Choices(smoke.study.parameters.threshold))
    assert judged != robustness.judge(smoke.study, "FC1", Variant())


def test_a_loose_box_grows_on_each_side_until_it_holds_the_share_and_no_other_box_does():
    masks = torch.zeros(3, 16, 16, dtype=torch.bool)
    masks[0, 4:6, 4:6] = masks[1, :2, :2] = masks[2, :, :10] = True
    study = SimpleNamespace(data=SimpleNamespace(measured=SimpleNamespace(masks=masks),
                                                 units=GridUnits(8)))  # fmt: skip
    found = robustness._foreground(study, Variant(boxes=True, held=0.5)).reshape(3, 8, 8)
    assert found[0].sum() == 36 and found[0, :6, :6].all()  # 1, 9, 25 squares are too few
    assert found[1].sum() == 36 and found[1, :6, :6].all()  # a corner grows on two sides alone
    assert found[2].sum() == 40 and found[2, :, :5].all()  # as it is
    assert robustness.IMAGE_VARIANTS["boxes that hold half of the squares"].held == 0.5


def test_differences_reach_the_results_file_and_unchanged_they_are_the_studys(smoke, monkeypatch):
    findings = Findings(smoke.study, "image_measure", hypothesis=1)
    found = robustness.judge_variants(findings, "FC1", {"itself": Variant()})["itself"]
    assert found == decided(smoke.evidence, JUDGED, Choices(smoke.study.parameters.threshold))
    assert findings.numbers["itself | n_fg"].value == found["n_fg"].difference.value
    monkeypatch.setattr(robustness, "judge", lambda *_: SAME)
    robustness.judge_variants(findings, "FC1", {"variant": Variant()}, "a ")
    written = findings.results()
    assert freshness(written) == "fresh" and "judge_variants" in written.provenance["code"]
    number = written.numbers["a variant | n_fg"]
    assert (number.value, number.low, number.high, number.n) == (1.0, 0.5, 1.5, 8)
    assert "supported" in number.what


def test_without_a_threshold_object_and_silence_are_told_from_maps(smoke):
    findings = Findings(smoke.study, "image_measure", hypothesis=1)
    table, foreground = robustness.separations(findings, "FC1"), smoke.study.foreground()
    kinds = ("auc", "silent_fg", "silent_bg")
    ways = (robustness.UNCHANGED, robustness.MINIMUM)
    assert [*table.index] == [(way, SEPARATIONS[kind][0]) for way in ways for kind in kinds]
    assert "separations" in findings.code
    found = {name: number.value for name, number in findings.numbers.items()}
    assert len(found) == len(ways) * len(kinds) * 3
    for way in ways:
        changes = robustness.IMAGE_VARIANTS[way].changes
        for role, who in (("S", "student"), ("B", "baseline")):
            net = smoke.study.of(role, 0, "FC1")
            (maps,) = smoke.study.maps(net, "FC1", (net.final_epoch,), **changes).values()
            largest = (maps.sigma == 1.0).double()
            of = {"silent_fg": foreground, "silent_bg": ~foreground}
            for kind, among in of.items():
                by_hand = ((largest * among).sum(1) / among.sum(1)).mean()
                assert found[f"{way} | {kind}_{who}"] == pytest.approx(float(by_hand))
            ahead = [
                np.mean([(a < b) + (a == b) / 2 for a in h[inside] for b in h[~inside]])
                for h, inside in zip(maps.entropy.numpy(), foreground.numpy(), strict=True)
            ]
            assert found[f"{way} | auc_{who}"] == pytest.approx(np.mean(ahead))
        for kind in kinds:
            one, other = (found[f"{way} | {kind}_{who}"] for who in ("student", "baseline"))
            assert found[f"{way} | {kind}_difference"] == pytest.approx(one - other)


def test_a_unit_is_silent_at_the_largest_noise_alone():
    sigma = torch.tensor([[1.0, 0.5, 1.0, 0.01]])
    inside = torch.tensor([[True, True, False, False]])
    maps = SimpleNamespace(sigma=sigma)
    shares = {kind: SEPARATIONS[kind][1](maps, inside) for kind in ("silent_fg", "silent_bg")}
    assert shares == {"silent_fg": [0.5], "silent_bg": [0.5]}
    inside = torch.tensor([[True, False, False, False]])
    assert SEPARATIONS["silent_fg"][1](maps, inside) == [1.0]
    assert SEPARATIONS["silent_bg"][1](maps, inside) == [pytest.approx(1 / 3)]


def test_shares_are_squared_columns_of_the_jacobian_drawn_against_all_maps(monkeypatch, smoke):
    net, x, units = linear_net(6), images(2, dtype=torch.float64), GridUnits(4)
    monkeypatch.setattr(robustness, "_DIRECTIONS", 4000)
    with torch.no_grad():
        net[1].bias.fill_(1e3)  # every ReLU open
    found = robustness.sensitivity_shares(net, "1", x, units)
    J = column_norms(net[1].weight.detach(), x.shape[1:], 4)
    torch.testing.assert_close(found[0].double(), J / J.sum(), rtol=0.05, atol=0)
    maps = smoke.evidence.maps["B"][0][smoke.study.checkpoints[-1]]
    maps = {"optimum": maps, "path": maps}
    figure = robustness.shares_figure(torch.rand(maps["path"].sigma.shape), maps)
    assert [ax.get_title() for ax in figure.axes] == ["optimum", "path"]
    assert all("nats" in ax.get_xlabel() and "nats" in ax.get_ylabel() for ax in figure.axes)


def test_entropy_changes_are_means_over_live_units():
    first = torch.tensor([[-2.8, -3.0], [-2.6, torch.nan]])
    found = {"first": first, "moved": first + torch.tensor([[0.1, -0.2], [0.3, 5.0]])}
    changes = robustness.entropy_changes(found)[CHANGE]
    assert changes["first"] == 0 and changes["moved"] == pytest.approx(0.2)
    (panel,) = robustness.changes_figure(found, ["moved"]).axes
    assert "nats" in panel.get_xlabel() and len(panel.collections[0].get_offsets()) == 3


def test_the_table_of_clouds(tmp_path):
    """Only final networks are measured again; PointNet chooses no centroids or neighbors."""
    study = cloud_study(tmp_path, epochs=1)
    with single_thread():
        evidence, before = study.evidence("FC1"), len(asked_maps(study))
        table = robustness.variants_table(study, "FC1", Findings(study, "pointcloud_h1", 1))
    own = decided(evidence, JUDGED, Choices(study.parameters.threshold))
    assert dict(judged_table({OWN: own}).loc[OWN]) == dict(table.loc[OWN].drop(CHANGE))
    assert list(table.index) == list(cloud_variants(study.parameters)) and list(table)[-1] == CHANGE
    assert table.loc[OWN].equals(table.loc["centroids and neighbors recomputed"])
    change = table[CHANGE]
    assert change[OWN] == 0 and 0 < change["four times as many draws"] < 0.2
    for target, moved in (("-3.0", 0.2), ("-2.7", 0.1)):
        assert change[f"target entropy {target}"] == pytest.approx(moved, abs=0.05)
    last = f"{study.checkpoints[-1]:04}/"
    new = [record for record in asked_maps(study)[before:] if record.computed]
    assert all(name.startswith(last) for record in new for name in record.tensors)


def test_constructions_are_measured_on_unseen_clouds(monkeypatch, tmp_path):
    assert robustness.construction_table([]) == "Not run here yet."
    monkeypatch.setenv("KPNB_STORE", str(tmp_path))
    some = {"the default": {}, "clouds two radii away": {"distance": 2.0}}
    monkeypatch.setattr(robustness, "CONSTRUCTIONS", some)
    found = robustness.measure_cloud_constructions("smoke")
    assert found.numbers.keys() == some.keys()
    assert all(0 <= n.value <= 1 and n.n == 40 for n in found.numbers.values())
    lines = robustness.construction_table([found]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(some)
