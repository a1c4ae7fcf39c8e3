"""Words of several pieces left out: what is dropped, what stays, and what is told of it."""

from types import SimpleNamespace

import pytest
import torch
from conftest import made_evidence

from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Choices, metric_values
from kpnb.study.readings import imitation, of_single_pieces, pieces_reading, pieces_table

CHOICES = Choices()


def without(*units: int, samples: int = 8) -> torch.Tensor:
    """All 16 units are single pieces but these."""
    single = torch.ones(samples, 16, dtype=torch.bool)
    single[:, list(units)] = False
    return single


def counts(evidence, role: str, metric: str) -> list[float]:
    return metric_values(evidence, role, metric, CHOICES)[0].tolist()


def test_nothing_changes_where_all_are_single_pieces():
    evidence = made_evidence()
    same = of_single_pieces(evidence, without())
    assert torch.equal(same.foreground, evidence.foreground)
    for role in "TSB":
        for epoch, maps in evidence.maps[role][0].items():
            assert torch.equal(same.maps[role][0][epoch].sigma, maps.sigma)


def test_words_of_several_pieces_take_no_part():
    """Student: points at 0-5 and 8; baseline in the end: 4-6, 8 and 9."""
    found = of_single_pieces(made_evidence(), without(0, 4, 9))
    assert counts(found, "S", "n_fg") == [4] * 8 and counts(found, "B", "n_fg") == [2] * 8
    assert counts(found, "S", "n_bg") == [1] * 8 and counts(found, "B", "n_bg") == [1] * 8
    assert counts(found, "S", "lambda") == pytest.approx([4 / 5] * 8)
    assert counts(found, "S", "rho") == [1] * 8
    for maps in found.maps["B"][0].values():
        assert maps.entropy[:, [0, 4, 9]].isnan().all()
        assert maps.entropy.isnan().sum() == 3 * 8


def test_the_background_s_mean_is_that_of_the_single_pieces_left():
    """With the one background word left at -1 nat, no word lies below the mean by b."""
    found = of_single_pieces(made_evidence(), without(*range(9, 16)))
    assert counts(found, "S", "n_fg") == [0] * 8
    other = of_single_pieces(made_evidence(), without(*range(8, 15)))
    assert counts(other, "S", "n_fg") == [6] * 8 and counts(other, "S", "n_bg") == [0] * 8


def test_words_and_texts_go_by_text():
    evidence, single = made_evidence(), without()
    single[0, :8] = False  # no foreground left
    single[3, 8:] = False  # no background left
    single[5, 0] = False
    found = of_single_pieces(evidence, single)
    assert len(found.foreground) == 6
    assert counts(found, "S", "n_fg") == [6, 6, 6, 5, 6, 6]
    assert all(len(maps.sigma) == 6 for role in "TSB" for maps in found.maps[role][0].values())
    assert torch.equal(evidence.foreground, made_evidence().foreground)
    assert not evidence.maps["S"][0][2].sigma.isnan().any()  # the evidence given is as before


def test_every_seed_is_cut():
    found = of_single_pieces(made_evidence(seeds=2), without(0))
    assert metric_values(found, "S", "n_fg", CHOICES).tolist() == [[5] * 8] * 2


@pytest.mark.parametrize("left", [0, 1])
def test_too_few_texts_left(left):
    single = without()
    single[left:, 8:] = False
    with pytest.raises(KpnbError, match="Fewer than two texts .*: measure more") as error:
        of_single_pieces(made_evidence(), single)
    assert "\n" not in str(error.value)
    single[1, 8:] = single[0, 8:] = True
    assert len(of_single_pieces(made_evidence(), single).foreground) == 2


def test_table_sets_both_side_by_side():
    table = pieces_table(made_evidence(), without(0, 1, 2, 3), 0.2)
    assert list(table.index) == ["all", "of one piece"] and table.index.name == "words"
    assert list(table.columns) == ["N_fg", "N_bg", "lambda", "n samples"]
    assert table.loc["all", "N_fg"].startswith("3") and "reproduced" in table.loc["all", "N_fg"]
    # student 4 and 5, baseline 4, 5 and 6
    alone = table.loc["of one piece"]
    assert alone["N_fg"].startswith("-1") and alone["N_fg"].endswith(", contradicted")
    assert alone["N_bg"].endswith(", reproduced") and list(table["n samples"]) == [8, 8]


def test_table_counts_the_texts_that_are_left():
    single = without()
    single[:3, 8:] = False
    assert list(pieces_table(made_evidence(), single, 0.2)["n samples"]) == [8, 5]


def test_table_takes_the_threshold():
    """Points lie 1 nat below: with b above that nothing is left to differ in."""
    table = pieces_table(made_evidence(), without(), 1.5)
    assert all("inconclusive" in cell for cell in table["N_fg"])


def test_reading_counts_points_and_turned_verdicts():
    told = pieces_reading(made_evidence(), without(0, 1, 2, 3), 0.2)
    # 7 points a text for the student, 5 for the baseline; 4 of 16 words are of several pieces.
    # lambda stays on its side: 2/3 against 3/5.
    student = "Of the student's 56 knowledge points 32 are words of several pieces, which are 25%"
    baseline = "Of the baseline's 40 knowledge points 0 are words of several pieces, which are 25%"
    assert told.startswith(f"{student} of all words. {baseline} of all words. ")
    assert told.endswith(" Another verdict without them: N_fg.")
    told = pieces_reading(made_evidence(), without(15), 0.2)
    assert "56 knowledge points 0 are" in told and "which are 6% of" in told
    assert told.endswith(" No verdict turns.")


def test_reading_counts_all_seeds():
    told = pieces_reading(made_evidence(seeds=3), without(8), 0.2)
    assert "student's 168 knowledge points 24 are" in told
    assert "baseline's 120 knowledge points 24 are" in told


def test_padding_is_no_word():
    """Entropy is NaN beyond a text's words: those are left out of the share of words."""
    evidence, single = made_evidence(), without(0, 1)
    for role in "TSB":
        for maps in evidence.maps[role][0].values():
            maps.sigma[:, 12:] = torch.nan
    single[:, 12:] = False
    assert "which are 17% of all words" in pieces_reading(evidence, single, 0.2)
    assert counts(of_single_pieces(evidence, single), "S", "n_fg") == [4] * 8


def test_imitation_is_the_last_share_of_every_seed():
    metric = {0: [0.1, 0.25], 1: [0.2, 0.5]}
    study = SimpleNamespace(
        parameters=SimpleNamespace(seeds=(0, 1)),
        of=lambda role, seed, layer: SimpleNamespace(record=SimpleNamespace(metric=metric[seed])),
    )
    assert "explains 25% / 50% of the variance" in imitation(study, "Last")
