"""Ten more teachers: beside the three, and in claims in their place."""

from collections import Counter

from committed import committed
from made_claims import FROM_V, each, judge, one, study
from made_results import comparison, measure, rows_of

from book.make import claims, protocol_pages, ten_teachers
from book.make.frame import NOTHING, frame
from book.make.texts import badge
from kpnb.metrics.protocol import protocol, protocol_seeds
from kpnb.metrics.results import Measure, Number
from kpnb.run.sweeps import Sweeps, read_sweeps

SETTINGS = {"threshold": 0.2, "measured_on": "train", "network": "VGG-11", "classes": 12}
THREE = {"seeds": [1, 2, 3], "teachers": [7, 8, 9]}
TEN = {"seeds": [4, 5, 6], "teachers": [1, 2, 3]}
N_FG = "$N^{fg}_{point}$"


def made(*facts, run="", **settings):
    """Results of a notebook, or of a sweep's run, with ten teachers or three by its name."""
    settings = SETTINGS | (TEN if run.startswith("ten_") else THREE) | settings
    measures = [fact for fact in facts if isinstance(fact, Measure)]
    found = [fact for fact in facts if not isinstance(fact, Measure)]
    named = {"notebook": "image_cell", "run": run} if run else {}
    return study(*found, measures=measures, settings=settings, **named)


def shown(*results):
    return ten_teachers.ten_fragments(frame(results))


def test_ten_teachers_stand_beside_the_three_of_the_same_question_and_no_other():
    three = made(comparison("n_fg", 6.0, 13.0), comparison("rho", -3.0, 3.0))
    ten = made(comparison("n_fg", -3.0, 3.0), comparison("lambda", 6.0, 13.0), run="ten_vgg11_fc1")
    for alone in (three, ten):
        assert set(shown(alone).values()) == {NOTHING}
    (row,) = rows_of(shown(three, ten)["protocol_ten"])  # of what both have
    assert row[:2] == ["VGG-11, FC1", N_FG]
    assert badge("supported") in row[2] and badge("undecided") in row[3]
    assert "+9.50" in row[2] and row[3].startswith("0 [")
    other = made(comparison("n_fg", -3.0, 3.0), run="ten_vgg11_grid8", grid=8)
    assert shown(three, other)["protocol_ten"] == NOTHING
    coarse = made(comparison("n_fg", -9.0, -3.0), run="iii_vgg11_grid8", grid=8)
    (row,) = rows_of(shown(three, other, coarse)["protocol_ten"])
    assert row[0] == "VGG-11, FC1, 8 × 8 squares" and "−6.00" in row[2]
    same = made(comparison("n_fg", -3.0, 3.0), run="ten_vgg11_fc1", layers=["FC1"], outputs=12)
    assert len(rows_of(shown(three, same)["protocol_ten"])) == 1


def test_they_decide_nothing_but_beside_the_three():
    three, ten = made(comparison("n_fg", 6.0, 13.0)), made(run="ten_vgg11_fc1")
    false = {f"false_decisions_5_{metric}_FC1": Number(value=0.05, what="", n=10)
             for metric in ("n_fg", "rho")}  # fmt: skip
    alone, both = (protocol_pages.protocol_pages(frame(results)) for results in (
        [three], [three, ten.model_copy(update={"numbers": false})]))  # fmt: skip
    told = ("decided", "protocol_reached", "protocol_false", "protocol_wider", "way_units")
    assert all(alone[name] == both[name] for name in told)


def by_ten(claim, *results):
    return claims.judge_claim(claim, ten_teachers.in_place_of_three(frame(results)))


def test_in_their_place_claims_are_judged_by_the_ten_and_found_where_the_three_were():
    claim = one()
    three = made(comparison("n_fg", 6.0, 13.0), comparison("n_fg", 2.0, 3.0, layer="Conv"))
    ten = made(comparison("n_fg", -3.0, 3.0, n_seeds=10), run="ten_vgg11_fc1")
    assert judge(claim, three, ten).verdict == "supported" == by_ten(claim, three).verdict
    changed = by_ten(claim, three, ten)
    assert changed.verdict == "undecided"
    found = {item.what: (item.verdict, item.n_seeds) for item in each(changed)}
    assert found == {"VGG-11, Conv": ("supported", 3), "VGG-11, FC1": ("undecided", 10)}
    swept = made(comparison("n_fg", 6.0, 13.0), run="iii_vgg11_grid8", grid=8)
    coarse = made(comparison("n_fg", -9.0, -3.0), run="ten_vgg11_grid8", grid=8)
    grids = one(evidence=FROM_V | {"table": "III", "runs": ["*_grid8"]})
    assert [judge(grids, swept, coarse).verdict, by_ten(grids, swept, coarse).verdict] == [
        "supported", "opposed"]  # fmt: skip


def test_scores_and_what_was_not_asked_again_stay():
    score = measure("T", "accuracy_test", 0.6, layer="", threshold=None)
    three = made(comparison("n_fg", 6.0, 13.0), comparison("rho", 1.0, 2.0, layer="Conv"), score)
    other = made(comparison("n_fg", 1.0, 2.0, layer="FC2"), run="v_vgg11_fc2")
    ten = made(comparison("n_fg", -3.0, 3.0, n_seeds=10), score, run="ten_vgg11_fc1")
    kept = ten_teachers.in_place_of_three(frame([three, other, ten]))
    kept = kept[(kept["source"] == "ours") & ~kept["run"].str.startswith("ten_")]
    told = sorted(zip(kept["metric"], kept["layer"], kept["n_seeds"], kept["run"], strict=True))
    assert [one for one in told if one[0]] == [
        ("accuracy_test", "", 3, ""),
        ("n_fg", "FC1", 10, ""),
        ("n_fg", "FC2", 3, "v_vgg11_fc2"),
        ("rho", "Conv", 3, ""),
    ]


def test_committed_ones_are_asked_about_cells_of_the_three_and_say_what_claims_would():
    rows = committed()
    beside = ten_teachers.beside_three(rows)
    ours = {row["run"] for row in beside}
    assert ours == set(rows[rows["run"].str.startswith("ten_")]["run"])
    assert "ten_alexnet_fc1" in ours
    assert all(len([row for row in beside if row["run"] == run]) == 6 for run in ours)
    told = ten_teachers.claims_by_ten(rows, ["a cell"])
    before = {one.claim.id: one for one in claims.judge_all(rows) if one.counted}
    after = claims.judge_all(ten_teachers.in_place_of_three(rows))
    (layers,) = (one.claim.id for one in after if one.claim.evidence.first_layer)
    assert not any(row[0].startswith(before[layers].claim.claim) for row in rows_of(told))
    after = [before[layers] if one.claim.id == layers else one for one in after]
    changed = [one for one in after if one.counted and one.verdict != before[one.claim.id].verdict]
    tally, shown = (rows_of(part) for part in told.split("Claims that have another"))
    assert len(shown) == len(changed) > 0
    for place, verdicts in ((1, before.values()), (2, (new for new in after if new.counted))):
        counts = Counter(found.verdict for found in verdicts)
        assert {row[0]: row[place] for row in tally} == {
            name: str(counts[name] or "–") for name in claims.VERDICTS}  # fmt: skip
    files = {item.file for one in changed for item in each(one)}
    assert any("ten_" in file for file in files)


def test_their_seeds_are_the_next_of_the_protocols_streams():
    asked, settings = protocol()["confirmatory"], protocol()["settings"]
    runs = read_sweeps()["ten_teachers"].runs
    assert len(runs) == 8
    for name in runs:
        own = Sweeps().sweep_of[name].resolved(name, "study")
        for purpose, seeds in (("pairs", own.seeds), ("teachers", own.teachers)):
            first = asked[purpose]
            assert tuple(seeds) == protocol_seeds(purpose, first + 10)[first:]
        if name in ("ten_alexnet_fc1", "ten_vgg11_fc1"):
            told = own.model_dump(mode="json", include=set(settings))
            assert told == {name: settings[name] for name in told} and len(told) > 15
