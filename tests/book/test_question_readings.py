"""What pages say in words of texts: held against the committed files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from held_values import by_pair, held_values

from book.make.pack import LOWEST, NO_RANK, PER_NAT
from kpnb.metrics.protocol import primary_metrics, protocol
from kpnb.metrics.results import read_results
from kpnb.metrics.stats import LEVEL
from kpnb.study.parameters import models_for, resolve
from kpnb.study.text import QuestionStudy

PACK = Path(__file__).parents[2] / "book" / "results" / "pack"


@pytest.fixture(scope="module")
def questions():
    return [read_results(f"qa_h{nth}", "study") for nth in (1, 2, 3)]


def test_the_reading_of_questions_is_what_was_found(questions):
    for one in questions:
        assert {of.verdict for of in one.comparisons} == {"not measurable"}
        (note,) = [note for note in one.notes if "not measurable" in note]
        assert "(the baseline's loss fell by less than" in note and ";" not in note.split(");")[0]
    points, ways, detours = questions
    some = np.concatenate([held_values(points, "n_fg", "S")[:, :40] > 0]).mean()
    assert some == pytest.approx(protocol()["fitness"]["with_point"], abs=0.02)  # H-bar is of all
    for one in points.comparisons:
        if (one.metric, one.selection) == ("n_bg", "all"):
            assert one.difference > 0 and (one.low > 0) == (one.threshold == 0.15)
    assert (by_pair(detours, "rho") < 0).all()
    adjusted = {one.metric: one.p for found in questions for one in found.comparisons
                if (one.selection, one.threshold) == ("all", 0.2)
                and one.distance in (None, "epoch")}  # fmt: skip
    assert [name for name in primary_metrics() if adjusted[name] < LEVEL] == ["lambda"]
    scores = {(one.role, one.metric): one.mean for one in points.measures}
    assert scores["B", "exact_match_train"] == 1
    assert scores["B", "f1_test"] < scores["S", "f1_test"] < scores["T", "f1_test"] - 0.3
    assert 0.45 < scores["B", "f1_test"] < 0.55
    way = {one.distance: one for one in ways.comparisons
           if (one.metric, one.threshold, one.selection) == ("d_mean", 0.2, "all")}  # fmt: skip
    assert way["epoch"].low > 0
    for unit in ("share", "time"):
        assert way[unit].difference < 0 < way[unit].high
    mean = {(one.role, one.distance): one.mean for one in ways.measures
            if (one.metric, one.threshold, one.selection) == ("d_mean", 0.2, "all")}  # fmt: skip
    whole = {role: mean[role, "epoch"] / mean[role, "share"] for role in "SB"}
    assert whole["S"] > 3 * whole["B"]


def test_the_parts_of_the_foreground_of_questions_are_as_the_page_says():
    """Counted again from the pack, on the texts as the study takes them."""
    texts = QuestionStudy(resolve(models_for("qa_h1"), {"preset": "study"})).data.measured
    with np.load(PACK / "question_minilm_l6_3_layers.npz") as pack:
        inside, ranks = pack["foreground"], {role: pack[f"Last {role}"] for role in "TSB"}
    assert (inside == texts.foreground.numpy()).all()
    rows = torch.arange(len(inside))
    ends = [texts.pieces.words[rows, texts.labels[:, end]].numpy() for end in (0, 1)]
    at = np.arange(inside.shape[1])
    answer = inside & (at >= ends[0][:, None]) & (at <= ends[1][:, None])
    asking = inside & ~answer
    assert answer.any(1).all() and asking.sum() > 2 * answer.sum()

    def counts(part, b):
        held = {role: (one != NO_RANK) & (one > round(b * PER_NAT) - LOWEST)
                for role, one in ranks.items()}  # fmt: skip
        return {role: (one & part).sum(2).mean(1) for role, one in held.items()}

    for b in (0.15, 0.2, 0.25):
        whole, own, led = counts(inside, b), counts(answer, b), counts(asking, b)
        shares = [
            counts(inside, b)[role] / (whole[role] + counts(~inside, b)[role]) for role in "SB"
        ]
        assert (whole["S"] < whole["B"]).all() and (shares[0] < shares[1]).all()
        for role in "TS":
            assert (own["B"] > (1.5 if b < 0.2 else 2) * own[role]).all()
        assert led["T"].sum() / led["B"].sum() == pytest.approx(2, abs=0.15)
        assert (led["S"] < led["T"]).all()
    ahead = {b: counts(inside, b)["T"] - counts(inside, b)["B"] for b in (0.15, 0.2, 0.25)}
    assert (ahead[0.15] > 0).all() and (ahead[0.25] < 0).all()
    assert abs(ahead[0.2].mean()) < 0.1 * counts(inside, 0.2)["B"].mean()


def test_the_reading_of_sentences_is_what_was_found():
    points, ways, detours = (read_results(f"sentiment_h{nth}", "study") for nth in (1, 2, 3))
    for one in (points, ways, detours):
        assert {of.verdict for of in one.comparisons} == {"not measurable"}
        (note,) = [note for note in one.notes if "not measurable" in note]
        failed = note.partition("(")[2].partition(");")[0].split("; ")
        assert [check.partition(" in the ")[0] for check in failed] == [
            "at least 80% of samples have a foreground point"
        ] * 2
    some = {role: (held_values(points, "n_fg", role)[:, :40] > 0).mean() for role in "SB"}
    assert some["B"] < 0.25 < some["S"] < 0.5
    scores = {one.role: one.mean for one in points.measures if one.metric == "accuracy_test"}
    assert scores["B"] < scores["S"] < scores["T"] < scores["S"] + 0.02
    own = {(one.metric, one.threshold, one.distance or "epoch"): one
           for found in (points, ways, detours) for one in found.comparisons
           if one.selection == "all"}  # fmt: skip
    p = {name: own[name, 0.2, "epoch"].p for name in primary_metrics()}
    assert {name for name in p if p[name] < LEVEL} == {"n_fg", "d_mean"}
    assert own["n_fg", 0.2, "epoch"].difference > 0 and own["d_mean", 0.2, "epoch"].low > 0
    assert min(own[name, 0.2, "epoch"].difference for name in ("lambda", "rho")) > 0
    both = [own[name, b, "epoch"] for name in ("n_fg", "n_bg") for b in (0.15, 0.2, 0.25)]
    assert min(one.low for one in both) > 0
    share = own["d_mean", 0.2, "share"]
    assert share.difference < 0 < share.high
    means = {role: [held_values(points, name, role).mean() for name in ("n_fg", "n_bg")]
             for role in "TS"}  # fmt: skip
    assert means["S"][0] > 0.9 * means["T"][0] and means["S"][1] > means["T"][1]
    (never,) = [note for note in ways.notes if note.startswith("Without a foreground")]
    assert "student: 61 of 120" in never


def test_the_reading_of_sst_2_itself_is_what_its_one_pair_showed():
    found = [read_results(f"sentiment_h{nth}_sst2", "study") for nth in (1, 2, 3)]
    points, set_by = found[0], found[0].settings
    asked = ("teacher_samples", "fraction", "epochs", "measured_on")
    assert [set_by[name] for name in asked] == [20000, 0.6, 8, "test"]
    for one in found:
        assert {of.verdict for of in one.comparisons} == {"not measurable"}
        assert len(one.settings["seeds"]) == 1
        (note,) = [note for note in one.notes if "not measurable" in note]
        failed = note.partition("(")[2].partition(");")[0].split("; ")
        assert failed[0].startswith(
            "the baseline's loss fell by less than 5% in the last tenth: by 2"
        )
        assert [check[-3:-1] for check in failed[1:]] == ["48", "57"] and len(failed) == 3
    explained = [points.numbers[f"explained_{split}_Last"].value for split in ("train", "new")]
    assert explained[0] > 0.8 and explained[1] > 0.5
    scores = {one.role: one.mean for one in points.measures if one.metric == "accuracy_test"}
    assert scores["B"] + 0.05 < scores["S"] < scores["T"] < scores["S"] + 0.02
    mean = {(one.role, one.metric): one.mean for one in points.measures
            if (one.threshold, one.selection) == (0.2, "all")}  # fmt: skip
    assert mean["S", "n_fg"] == pytest.approx(mean["B", "n_fg"], rel=0.05)
    assert mean["S", "n_bg"] > 1.4 * mean["B", "n_bg"]
    assert mean["S", "lambda"] < mean["B", "lambda"] < mean["T", "lambda"]
    rho = {one.role: one.mean for one in found[2].measures if one.metric == "rho"
           and (one.threshold, one.selection) == (0.2, "all")}  # fmt: skip
    assert rho["S"] < rho["B"]


def test_students_of_questions_fall_short_of_teachers_and_baselines(questions):
    points = questions[0]
    assert (by_pair(points, "n_fg") < 0).all() and (by_pair(points, "n_fg", "ST") < 0).all()
    mean = {(one.role, one.threshold): one.mean for one in points.measures
            if (one.metric, one.selection) == ("n_fg", "all")}  # fmt: skip
    ahead = [mean["T", b] - mean["B", b] for b in (0.15, 0.2, 0.25)]
    assert ahead[0] > 0.1 and abs(ahead[1]) < 0.1 and ahead[2] < -0.1
    assert all(mean["S", b] < min(mean["T", b], mean["B", b]) for b in (0.15, 0.2, 0.25))


def test_sentences_without_a_point_are_told_for_student_and_baseline():
    (note,) = [note for note in read_results("sentiment_h2", "study").notes if "Without" in note]
    shares = [int(one.split()[0]) / 120 for one in note.split(": ")[2:]]
    assert shares == pytest.approx([1 / 2, 2 / 3], abs=0.03)
