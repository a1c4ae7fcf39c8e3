"""Findings: each verdict is that of its interval, variants are complete, the file is valid."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import made_evidence, smoke_study
from studied import findings_of

from kpnb.metrics.evidence import UNITS, final_entropies, hypothesis_metrics, thresholds_around
from kpnb.metrics.protocol import primary_metrics
from kpnb.metrics.results import Results
from kpnb.paper import METRICS
from kpnb.study.findings import Findings
from kpnb.study.verdicts import reading
from kpnb.training.fitness import Check, Fitness, fitness_of


@pytest.fixture(scope="module")
def real(smoke) -> Findings:
    """Findings of the smoke study, all hypotheses, accuracies included."""
    findings = Findings(smoke.study, "image_measure")
    findings.add_accuracies(["FC1"])
    findings.add(smoke.evidence)
    return findings


def test_differences_are_student_minus_baseline():
    findings = findings_of(made_evidence(seeds=3), hypothesis=None)
    found = {c.metric: c for c in findings.comparisons if c.threshold == 0.2}
    wanted = {"n_fg": 3, "n_bg": -1, "lambda": 6 / 7 - 3 / 5}
    assert {m: found[m].difference for m in wanted} == pytest.approx(wanted)
    assert [found[m].prediction for m in METRICS] == ["up", "down", "up", "down", "down", "up"]
    assert (found["n_fg"].n_samples, found["n_fg"].n_seeds) == (4, 3)  # the filtered ones last
    assert {item.n_seeds for item in findings.measures + findings.comparisons} == {3}
    every = [c for c in findings.comparisons if (c.metric, c.selection) == ("d_mean", "all")]
    found = {c.distance: c for c in every}
    assert [round(found[u].difference, 6) for u in UNITS] == [-0.05, -0.1, -0.25, -0.25]
    every = [c for c in findings.comparisons if (c.metric, c.selection) == ("d_var", "all")]
    assert [round(c.difference, 6) for c in every if c.distance == "epoch"] == [-0.0025] * 3


def test_a_layer_that_is_not_fit_has_no_verdict_and_its_reason_is_kept(smoke):
    """Its numbers stay; the other layer's verdicts, too. `measure` asks by itself."""
    layers = {name: made_evidence(seeds=3, layer=name) for name in ("FC1", "Conv")}
    findings = findings_of(hypothesis=None)
    checks = {"FC1": Check("fit?", "no", False, "raise it"), "Conv": Check("fit?", "yes", True, "")}
    for layer, evidence in layers.items():
        findings.fitness[layer] = Fitness(layer, (checks[layer],))
        findings.add(evidence)
    said = {
        layer: {c.verdict for c in findings.comparisons if c.layer == layer} for layer in layers
    }
    assert said["FC1"] == {"not measurable"} and "supported" in said["Conv"] - said["FC1"]
    gaps = [[c.difference for c in findings.comparisons if c.layer == k] for k in layers]
    assert gaps[0] == gaps[1]
    asked = Findings(smoke.study, "image_h1", 1)
    asked.measure("FC1")
    known = fitness_of(smoke.study, smoke.evidence, asked.threshold)
    assert asked.fitness == {"FC1": known} and not known.fit  # two epochs teach nothing
    assert known.reason in asked.notes and known.numbers.items() <= asked.numbers.items()
    assert {c.verdict for c in asked.comparisons} == {"not measurable"}
    shares = {v.metric: v.by_seed for v in asked.values if v.metric.startswith("explained")}
    means = {name: asked.numbers[f"{name}_FC1"].value for name in shares}
    assert len(shares) == 2 and {k: float(*v) for k, v in shares.items()} == pytest.approx(
        means, rel=1e-4
    )


def test_scores_are_kept_by_seed(real):
    held = {(v.layer, v.role, v.metric): v.by_seed for v in real.values}
    scores = [m for m in real.measures if m.metric.startswith("accuracy")]
    assert len(scores) == 9  # three networks, three kinds of samples
    for one in scores:
        assert float(*held[one.layer, one.role, one.metric]) == pytest.approx(one.mean, rel=1e-4)


def test_with_enough_seeds_baselines_are_compared_with_each_other():
    """Seeds of the made evidence are alike: nothing is decided between them. Then four of nine
    baselines are students: draws that part the two kinds are decided."""

    def told(evidence):
        found = findings_of(evidence, hypothesis=None).numbers
        return {name: n for name, n in found.items() if name.startswith("false_decisions")}

    alike = made_evidence(seeds=9)
    assert told(made_evidence(seeds=6)) == {}
    names = {f"false_decisions_{n}_{m}_FC1" for n in (3, 4) for m in primary_metrics()}
    assert set(told(alike)) == names and {n.value for n in told(alike).values()} == {0}
    mixed = alike.maps | {"B": [*alike.maps["S"][:4], *alike.maps["B"][4:]]}
    assert told(replace(alike, maps=mixed))["false_decisions_3_n_fg_FC1"].value > 0


def test_variants_are_complete():
    def variants(items) -> list[tuple]:
        return [(i.threshold, i.selection, i.distance) for i in items]

    findings = findings_of(made_evidence(), hypothesis=None, threshold=0.3)
    by_hypothesis = {1: ("n_fg", "n_bg", "lambda"), 2: ("d_mean", "d_var"), 3: ("rho",)}
    for hypothesis, metrics in by_hypothesis.items():
        distance = "epoch" if hypothesis == 2 else None
        expected = [(b, "all", distance) for b in (0.15, 0.2, 0.25, 0.3)]
        expected += [(0.3, "all", unit) for unit in UNITS[1:] if hypothesis == 2]
        expected += [(0.3, "published_filter", distance)]
        for metric in metrics:
            assert variants(c for c in findings.comparisons if c.metric == metric) == expected
            for role in "TSB":
                own = [m for m in findings.measures if (m.metric, m.role) == (metric, role)]
                teacher_untracked = role == "T" and hypothesis > 1
                assert variants(own) == ([] if teacher_untracked else expected)
        assert hypothesis_metrics(hypothesis) == metrics
    assert [thresholds_around(b)[0] for b in (0.1, 0.2)] == [0.1, 0.15]
    filtered = {m.n_samples for m in findings.measures if m.selection != "all"}
    assert filtered == {4} and findings.notes == []
    # Too few images pass the filter.
    assert findings_of(made_evidence(samples=3)).notes == []  # two even samples
    findings = findings_of(made_evidence(samples=2, layer="Conv"))
    note = "Conv: the published filter keeps 1 of 2 images, too few to measure."
    assert findings.notes == findings.results().notes == [note]
    assert {c.selection for c in findings.comparisons} == {"all"}


def test_accuracies_by_seed_show_their_range(smoke, real, monkeypatch):
    found = {(m.role, m.layer, m.metric): m for m in real.measures if m.threshold is None}
    assert len(found) == 9
    for (role, _, metric), measure in found.items():
        scores = smoke.study.of(role, 0, "FC1").accuracy
        assert measure.mean == scores[metric.removeprefix("accuracy_")]
        assert (measure.low, measure.high, measure.n_seeds) == (None, None, 1)
    values = {"train": [0.5, 0.25, 0.75], "test": [0.1, 0.2, 0.6]}  # no new ones
    monkeypatch.setattr(type(smoke.study), "accuracies", lambda *_: values)
    findings = Findings(smoke.study, "image_h1", 1)
    findings.add_accuracies([])
    first, second = (m for m in findings.measures if m.metric == "accuracy_test")
    assert (first.role, second.role, first.n_seeds) == ("T", "B", 3)
    assert (first.mean, first.low, first.high) == pytest.approx((0.3, 0.1, 0.6))


def test_results_say_what_was_measured_how_and_how_long(real, smoke):
    results = real.results()
    assert results == Results.model_validate_json(results.model_dump_json())
    assert (results.measures, results.comparisons) == (real.measures, real.comparisons)
    assert results.settings["epochs"] == 2 and results.threshold == 0.2
    # A study that only reads the store reports the seconds its entries once took.
    study = smoke_study(smoke.root)
    study.evidence("FC1")
    spent = sum(record.info["seconds"] for _, record in study.store.asked)
    assert 0 < spent <= Findings(study, "image_h1").results().seconds < spent + 60
    # What is discarded, with Hypothesis 1: entropies of foreground and background.
    assert findings_of(made_evidence(), hypothesis=2).numbers == {}
    keys = ("background_entropy", "entropy_gap")
    named = {f"{key}_{role}_FC1" for key in keys for role in "TSB"}
    assert set(real.numbers) == named | {f"dropped_{of}_FC1" for of in ("S", "B", "difference")}
    both = [real.numbers[f"dropped_{role}_FC1"].value for role in "SB"]
    assert real.numbers["dropped_difference_FC1"].value == pytest.approx(both[0] - both[1])
    for role in "TSB":
        inside, outside = final_entropies(smoke.evidence, role)
        level, gap = (real.numbers[f"{key}_{role}_FC1"] for key in keys)
        assert level.value == pytest.approx(outside.mean()) and level.unit == gap.unit == "nats"
        assert gap.value == pytest.approx((outside - inside).mean())
        assert gap.low is None and gap.n == len(smoke.evidence.foreground)  # one seed
        assert "minus that of foreground" in gap.what and "minus" not in level.what


def test_what_no_sample_has_is_noted_and_the_rest_is_measured():
    """D and rho need every checkpoint, and each sample's map is missing at one of two."""
    evidence, half = made_evidence(), torch.arange(8) % 2 == 0
    for epoch, gone in ((1, half), (2, ~half)):
        maps = evidence.maps["B"][0][epoch]
        nothing = torch.where(gone[:, None], math.nan, maps.sigma)
        still = torch.where(gone, 0.0, maps.feature_variance)
        evidence.maps["B"][0][epoch] = replace(maps, sigma=nothing, feature_variance=still)
    findings = findings_of(evidence, hypothesis=None)
    assert {c.metric for c in findings.comparisons} == {"n_fg", "n_bg", "lambda"}
    assert findings.defined(evidence) == ("n_fg", "n_bg", "lambda")
    note = findings.notes[0]
    assert "d_mean, d_var, rho not measured" in note and "every checkpoint" in note
    assert "was not measured" in reading(findings, 3) and note in reading(findings, 3)
    assert "Hypothesis 1" in reading(findings, 1)
