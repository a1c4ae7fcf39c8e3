"""Tables and sentences of the notebooks: what they list, in which order, and that no is said."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import made_evidence, smoke_study

from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Choices
from kpnb.study.findings import Findings
from kpnb.study.readings import never_learned, reading

LABELS = {1: ["N_fg", "N_bg", "lambda"], 3: ["rho"]}
LABELS[2] = ["D_mean per step", "D_var per step", "D_mean per epoch", "D_var per epoch"]


@pytest.fixture
def findings_of(tmp_path):
    def make(*evidence, hypothesis=1, **changed) -> Findings:
        findings = Findings(smoke_study(tmp_path, **changed), f"image_h{hypothesis}", hypothesis)
        for found in evidence:
            findings.add(found)
        return findings

    return make


@pytest.mark.parametrize("hypothesis", [1, 2, 3])
def test_comparisons_keep_the_order_of_layers_and_metrics(findings_of, hypothesis):
    evidence = [made_evidence(layer=layer) for layer in ("FC2", "Conv")]
    table = comparison_table(findings_of(*evidence, hypothesis=hypothesis))
    filtered = [label for label in LABELS[hypothesis] if "epoch" not in label]
    expected = [
        (layer, label, samples)
        for layer in ("FC2", "Conv")
        for label in LABELS[hypothesis]
        for samples in ("all samples", "published filter")
        if samples == "all samples" or label in filtered
    ]
    assert list(table.index) == expected
    assert table.index.names == ["layer", "metric", "samples"]


def test_comparisons_show_what_was_found(findings_of):
    row = comparison_table(findings_of(made_evidence())).loc["FC1", "N_fg", "all samples"]
    assert row.to_dict() == {
        "predicted": "up",
        "student - baseline": "3 [3, 3]",
        "n samples": 8,
        "n seeds": 1,
        "verdict": "reproduced",
    }


@pytest.mark.parametrize("hypothesis", [1, 2, 3])
def test_measures_by_layer_and_metric(findings_of, hypothesis):
    evidence = [made_evidence(layer=layer) for layer in ("FC2", "Conv")]
    findings = findings_of(*evidence, hypothesis=hypothesis)
    table = measure_table(findings)
    assert list(table.index) == [(la, m) for la in ("FC2", "Conv") for m in LABELS[hypothesis]]
    roles = ["teacher", "student", "baseline"] if hypothesis == 1 else ["student", "baseline"]
    assert list(table.columns) == roles
    filtered = measure_table(findings, "published_filter")
    assert len(filtered) == len([la for la in LABELS[hypothesis] if "epoch" not in la]) * 2


def test_measures_show_mean_and_interval(findings_of):
    table = measure_table(findings_of(made_evidence()))
    assert table.loc[("FC1", "N_fg"), "student"] == "6 [6, 6]"
    assert table.loc[("FC1", "lambda"), "baseline"] == "0.6 [0.6, 0.6]"
    speed = measure_table(findings_of(made_evidence(), hypothesis=2))
    assert speed.loc[("FC1", "D_mean per epoch"), "student"] == "0.05 [0.05, 0.05]"


def test_only_the_threshold_in_use_is_shown(findings_of):
    findings = findings_of(made_evidence(), threshold=0.3)
    assert len(measure_table(findings)) == 3 and len(comparison_table(findings)) == 6


def test_a_filter_that_keeps_too_few_leaves_an_empty_table(findings_of):
    findings = findings_of(made_evidence(samples=2))
    assert len(measure_table(findings, "published_filter")) == 0
    assert set(comparison_table(findings).index.get_level_values("samples")) == {"all samples"}


def test_choices_side_by_side():
    options = [Choices(b, per, start) for b in (0.2, 0.25) for per in ("step", "epoch")
               for start in (False, True)]  # fmt: skip
    table = choices_table(made_evidence(), ["d_mean", "d_var"], options)
    assert len(table) == 16
    assert table.index.names == ["metric", "b", "distance per", "untrained network"]
    assert table.loc["D_mean", 0.2, "epoch", "left out"].to_dict() == {
        "student": "0.05 [0.05, 0.05]",
        "baseline": "0.075 [0.0563, 0.0938]",
        "student - baseline": "-0.025 [-0.0437, -0.00625]",
        "verdict": "reproduced",
    }
    expected = [("D_mean", 0.2, "step", "left out"), ("D_var", 0.2, "step", "left out")]
    assert list(table.index[:2]) == expected


def test_the_untrained_network_can_change_the_choice(smoke):
    start = Choices(untrained=True)
    table = choices_table(smoke.evidence, ["rho"], [Choices(), start])
    assert list(table.index.get_level_values("untrained network")) == ["left out", "included"]


def test_accuracies(smoke):
    findings = Findings(smoke.study, "image_h1", 1)
    findings.add_accuracies(["FC1"])
    table = accuracy_table(findings)
    networks = ["teacher", "baseline", "student (FC1)"]
    splits = ("training", "unseen")
    assert list(table.index) == [(n, split, "accuracy") for n in networks for split in splits]
    assert table.index.names == ["network", "samples", "score"]
    value = smoke.study.of("S", 0, "FC1").accuracy["test"]
    assert table.loc[("student (FC1)", "unseen", "accuracy"), "value"] == f"{value:.1%}"
    assert list(table["n samples"]) == [120, 2000] * 3


def test_schedules(smoke):
    table = schedule_table(smoke.study)
    assert list(table.index) == ["student", "baseline"]
    assert table.loc["student", "lr"] == smoke.study.schedule("S", 0).lr
    assert table.loc["baseline", "epochs"] == 2
    assert not isinstance(table, pd.Series) and not table.isna().any().any()


@pytest.mark.parametrize(
    "student, baseline, answer",
    [
        (True, False, "**Yes, it is reproduced here.** Of 3 comparisons: 3 reproduced."),
        (
            False,
            True,
            "**No: nothing is reproduced here, and the opposite is found.** "
            "Of 3 comparisons: 3 contradicted.",
        ),
        (
            True,
            True,
            "**Inconclusive: the data here say neither yes nor no.** "
            "Of 3 comparisons: 3 inconclusive.",
        ),
    ],
)
def test_the_reading_answers(findings_of, student, baseline, answer):
    text = reading(findings_of(made_evidence(student, baseline)), 1)
    assert text.split("\n")[-1] == answer
    assert sum(word in text for word in ("**Yes", "**No:", "**Inconclusive:")) == 1


@pytest.mark.parametrize(
    "student, baseline, answer, told",
    [
        ((1, 0), (0, 1), "No clear answer", "3 reproduced, 3 contradicted"),
        ((1, 1), (0, 1), "In part", "3 reproduced, 3 inconclusive"),
        ((0, 1), (1, 1), "No: nothing", "3 contradicted, 3 inconclusive"),
    ],
)
def test_mixed_readings(findings_of, student, baseline, answer, told):
    layers = zip(student, baseline, ("FC1", "FC2"), strict=True)
    evidence = [made_evidence(bool(s), bool(b), layer=layer) for s, b, layer in layers]
    last = reading(findings_of(*evidence), 1).split("\n")[-1]
    assert last.startswith(f"**{answer}") and last.endswith(f"Of 6 comparisons: {told}.")


@pytest.mark.parametrize("seeds, told", [(1, "1 seed"), (3, "3 seeds")])
def test_what_the_reading_is_over(findings_of, seeds, told):
    text = reading(findings_of(made_evidence(seeds=seeds), hypothesis=3), 3)
    head = "VGG-11 (narrow) on embedded images, 8 images, "
    assert text.startswith("**Hypothesis 3** (distillation is optimized with fewer detours), ")
    assert f"{head}{told}, b = 0.2:" in text
    assert "(s)" not in text and "Of 1 comparison: 1 reproduced." in text


def test_a_sentence_for_each_metric(findings_of):
    lines = reading(findings_of(made_evidence()), 1).split("\n")
    sentences = [line for line in lines if line.startswith("- ")]
    assert [line.split(":")[0] for line in sentences] == [f"- FC1, {m}" for m in LABELS[1]]
    assert sentences[0] == (
        "- FC1, N_fg: **reproduced** (student minus baseline 3 [3, 3], predicted up; "
        "the same in all 3 variants: other b, published filter)."
    )


def test_distances_per_epoch_are_a_variant_not_a_verdict_of_their_own(findings_of):
    lines = reading(findings_of(made_evidence(), hypothesis=2), 2).split("\n")
    sentences = [line for line in lines if line.startswith("- ")]
    assert len(sentences) == 2 and "Of 2 comparisons" in lines[-1]
    # The filter keeps the even samples alone, in which nobody is faster: another verdict.
    assert (
        "another in 1 of 4 variants: other b, published filter, distance per epoch"
        in (sentences[0])
    )


def test_a_filter_that_was_not_measured_is_no_variant(findings_of):
    text = reading(findings_of(made_evidence(samples=2)), 1)
    assert "the same in all 2 variants: other b)." in text
    assert text.endswith("\nFC1: the published filter keeps 1 of 2 images, too few to measure.")


def test_nothing_to_read(findings_of):
    with pytest.raises(KpnbError, match="add evidence"):
        reading(findings_of(), 1)


def test_never_learned_counts_samples_without_a_point_at_any_checkpoint():
    evidence = made_evidence(samples=4, seeds=2)
    nothing = {epoch: replace(m, sigma=torch.full_like(m.sigma, 0.01)) for epoch, m in
               evidence.maps["B"][0].items()}  # fmt: skip
    once = dict(evidence.maps["B"][1])
    lost = once[2].sigma.clone()
    lost[:, :8] = 1.0  # all dropped in the end, held before: learned once
    once[2] = replace(once[2], sigma=lost)
    evidence = replace(evidence, maps=evidence.maps | {"B": [nothing, once]})
    told = never_learned(evidence, 0.2, "image")
    assert "student: 0 of 8 images" in told and "baseline: 4 of 8 images" in told
    assert "all seeds" in told and "all seeds" not in never_learned(made_evidence(), 0.2, "image")
