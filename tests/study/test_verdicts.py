"""Sentences of the notebooks: what they are over, and that no is said."""

from dataclasses import replace
from types import SimpleNamespace as Some

import pytest
import torch
from conftest import made_evidence
from refusals import refuses
from studied import findings_of

from kpnb.metrics.evidence import Choices, metric_values
from kpnb.study import verdicts
from kpnb.study.display import NotebookFindings
from kpnb.study.verdicts import answer, of_single_pieces, pieces_reading, reading


def test_verdicts_and_the_answer_follow_what_was_built_in():
    up, down, even = ({"student": s, "baseline": b} for s, b in ((1, 0), (0, 1), (1, 1)))
    for layers, told, found in (
        ([up], "Yes, it is supported here", "{0} supported"),
        ([down], "No: nothing supports it here, and", "{0} opposed"),
        ([up, even], "In part", "{0} supported, {0} equivalent"),
    ):
        made = [made_evidence(**given, seeds=2, layer=f"{n}") for n, given in enumerate(layers)]
        findings = findings_of(*made, hypothesis=None)
        for hypothesis, count in ((1, 2), (2, 1), (3, 1)):  # primary metrics
            last = reading(findings, hypothesis).split("\n")[-1]
            assert last.startswith(f"**{told}") and last.endswith(f": {found.format(count)}.")


def sentences(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("- ")]


def test_what_the_reading_is_over_and_a_sentence_for_each_metric_but_not_for_variants():
    for seeds, told, verdict in ((1, "1 seed", "one seed"), (3, "3 seeds", "supported")):
        text = reading(findings_of(made_evidence(seeds=seeds), hypothesis=3), 3)
        assert text.startswith("**Hypothesis 3** (distillation is optimized with fewer detours), ")
        assert f"VGG-11 (narrow) on embedded images, 8 images, {told}, b = 0.2:" in text
        assert "(s)" not in text and f"Of 1 comparison: 1 {verdict}." in text
    found = sentences(reading(findings_of(made_evidence(seeds=2)), 1))
    names = ["- FC1, N_fg", "- FC1, N_bg", "- FC1, lambda"]
    assert [line.split(":")[0] for line in found] == names
    gap = "student minus baseline 3 [3, 3], predicted up; the same in all 3 variants"
    assert found[0] == f"- FC1, N_fg: **supported** ({gap}: other b, published filter)."
    assert "minus baseline 3, predicted up" in reading(findings_of(made_evidence()), 1)
    text = reading(findings_of(made_evidence(seeds=2), hypothesis=2), 2)
    assert len(sentences(text)) == 2 and "Of 1 comparison" in text.split("\n")[-1]
    assert "Of 2 comparisons: 1 opposed, 1 undecided." in answer(
        [("d_var", "opposed"), ("n_bg", "undecided")], "comparison"
    )  # without a primary one
    # The filter keeps the even samples alone, in which nobody is faster: another verdict.
    told = "another in 1 of 6 variants: other b, published filter, other units of D"
    assert told in sentences(text)[0]
    # A filter that was not measured is no variant.
    text = reading(findings_of(made_evidence(samples=2)), 1)
    assert "the same in all 2 variants: other b)." in text
    assert text.endswith("\nFC1: the published filter keeps 1 of 2 images, too few to measure.")
    refuses(reading, "add evidence", findings_of(), 1)


def never_learned(evidence):
    study = Some(parameters=Some(SAMPLE="image"))
    return NotebookFindings.never_learned(
        Some(_trained=evidence, threshold=0.2, study=study, note=str)
    )


def test_never_learned_counts_samples_without_a_point_at_any_checkpoint():
    evidence = made_evidence(samples=4, seeds=2)
    first, once = evidence.maps["B"][0], dict(evidence.maps["B"][1])
    nothing = {e: replace(m, sigma=torch.full_like(m.sigma, 0.01)) for e, m in first.items()}
    lost = once[2].sigma.clone()
    lost[:, :8] = 1.0  # all dropped in the end, held before: learned once
    once[2] = replace(once[2], sigma=lost)
    evidence = replace(evidence, maps=evidence.maps | {"B": [nothing, once]})
    told = never_learned(evidence)
    assert "student: 0 of 8 images" in told and "baseline: 4 of 8 images" in told
    assert "all seeds" in told and "all seeds" not in never_learned(made_evidence())


def without(*units: int, samples: int = 8) -> torch.Tensor:
    single = torch.ones(samples, 16, dtype=torch.bool)
    single[:, list(units)] = False
    return single


def counts(evidence, role: str, metric: str) -> list[float]:
    return metric_values(evidence, role, metric, Choices())[0].tolist()


def test_words_of_several_pieces_take_no_part():
    """Student: points at 0-5 and 8; baseline in the end: 4-6, 8 and 9."""
    evidence = made_evidence()
    same = of_single_pieces(evidence, without())
    assert torch.equal(same.foreground, evidence.foreground)
    for role in "TSB":
        for epoch, maps in evidence.maps[role][0].items():
            assert torch.equal(same.maps[role][0][epoch].sigma, maps.sigma)
    found = of_single_pieces(evidence, without(0, 4, 9))
    expected = {"n_fg": (4, 2), "n_bg": (1, 1), "rho": (1, None), "lambda": (4 / 5, None)}
    for metric, values in expected.items():
        for role, value in zip("SB", values, strict=True):
            assert value is None or counts(found, role, metric) == pytest.approx([value] * 8)
    for maps in found.maps["B"][0].values():
        assert maps.entropy[:, [0, 4, 9]].isnan().all() and maps.entropy.isnan().sum() == 3 * 8
    assert not evidence.maps["S"][0][2].sigma.isnan().any()  # the evidence given is as before
    found = of_single_pieces(made_evidence(seeds=2), without(0))  # every seed is cut
    assert metric_values(found, "S", "n_fg", Choices()).tolist() == [[5] * 8] * 2
    # With the one background word left at -1 nat, no word lies below the mean by b.
    found = of_single_pieces(made_evidence(), without(*range(9, 16)))
    assert counts(found, "S", "n_fg") == [0] * 8
    other = of_single_pieces(made_evidence(), without(*range(8, 15)))
    assert counts(other, "S", "n_fg") == [6] * 8 and counts(other, "S", "n_bg") == [0] * 8


def test_words_of_several_pieces_take_no_part_where_few_texts_are_followed_through_training():
    evidence = made_evidence()
    few = {role: [{e: maps[: 8 if e == 2 else 3] for e, maps in seeds[0].items()}]
           for role, seeds in evidence.maps.items()}  # fmt: skip
    evidence, single = replace(evidence, maps=few), without(0, 4, 9)
    single[1] = torch.arange(16) < 8  # no background is left in this text
    found = of_single_pieces(evidence, single)
    assert found.followed == 2 and counts(found, "S", "n_fg") == [4] * 7
    assert counts(found, "S", "rho") == pytest.approx([1, 1])


def test_words_and_texts_go_by_text():
    evidence, single = made_evidence(), without()
    single[0, :8] = False  # no foreground left
    single[3, 8:] = False  # no background left
    single[5, 0] = False
    found = of_single_pieces(evidence, single)
    assert counts(found, "S", "n_fg") == [6, 6, 6, 5, 6, 6] and len(found.foreground) == 6
    assert all(len(maps.sigma) == 6 for role in "TSB" for maps in found.maps[role][0].values())
    for left in (0, 1):
        single = without()
        single[left:, 8:] = False
        refuses(of_single_pieces, "Fewer than two texts .*: measure more", evidence, single)
        single[1, 8:] = single[0, 8:] = True
        assert len(of_single_pieces(evidence, single).foreground) == 2


def test_the_table_sets_both_side_by_side_and_the_reading_counts_points():
    made = made_evidence(seeds=2)
    table = verdicts.pieces_table(made, without(0, 1, 2, 3), 0.2)
    assert list(table.index) == ["all", "of one piece"] and table.index.name == "words"
    assert list(table.columns) == ["N_fg", "N_bg", "lambda", "n samples"]
    assert table.loc["all", "N_fg"].startswith("3") and "supported" in table.loc["all", "N_fg"]
    alone = table.loc["of one piece"]  # student 4 and 5, baseline 4, 5 and 6
    assert alone["N_fg"].startswith("-1") and alone["N_fg"].endswith(", opposed")
    assert alone["N_bg"].endswith(", supported") and list(table["n samples"]) == [8, 8]
    # Points lie 1 nat below: with b above that nothing is left to differ in.
    single = without()
    single[:3, 8:] = False
    table = verdicts.pieces_table(made, single, 1.5)
    assert list(table["n samples"]) == [8, 5]
    assert all("undecided" in cell for cell in table["N_fg"])
    # The reading counts points and turned verdicts.
    told = pieces_reading(made, without(0, 1, 2, 3), 0.2)
    # 7 points a text for the student, 5 for the baseline; 4 of 16 words are of several pieces.
    # lambda stays on its side: 2/3 against 3/5.
    student = "Of the student's 112 knowledge points 64 are words of several pieces"
    baseline = "Of the baseline's 80 knowledge points 0 are words of several pieces"
    other = "Another verdict: N_fg opposed (of one piece)."
    usual = "of all words 25% are such."
    assert told == f"{student}; {usual} {baseline}; {usual} {other}"
    # Of a layer that is not measurable numbers alone are told.
    unfit = verdicts.pieces_table(made, without(0, 1, 2, 3), 0.2, fit=False)
    assert all(
        cell.endswith("], not measurable") for name in ("N_fg", "lambda") for cell in unfit[name]
    )
    told = pieces_reading(made, without(0, 1, 2, 3), 0.2, fit=False)
    assert told.rstrip() == f"{student}; {usual} {baseline}; {usual}"
    told = pieces_reading(made_evidence(seeds=3), without(15), 0.2)
    assert "student's 168 knowledge points 0 are" in told and "of all words 6% are" in told
    assert "baseline's 120 knowledge points 0 are" in told and told.endswith(" No verdict turns.")
    told = pieces_reading(made_evidence(), without(0, 1, 2, 3), 0.2)
    assert told.endswith(" With one seed there is no verdict to turn.")
    # Entropy is NaN beyond a text's words: those are left out of the share of words.
    evidence, single = made_evidence(), without(0, 1)
    for maps in (m for role in "TSB" for m in evidence.maps[role][0].values()):
        maps.sigma[:, 12:] = torch.nan
    single[:, 12:] = False
    assert "of all words 17% are" in pieces_reading(evidence, single, 0.2)
    assert counts(of_single_pieces(evidence, single), "S", "n_fg") == [4] * 8
