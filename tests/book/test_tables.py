"""Tables of the book's own results: verdicts that may say no, scores, runs, what ships."""

from collections import Counter

import pytest
from made_results import comparison, full_run, measure, rows_of, run, text_cell

from book.make import tables
from book.make.frame import NOTHING, frame
from book.make.published import paper_rate
from kpnb.datasets import clouds, images
from kpnb.fingerprint import packed_file
from kpnb.study.parameters import MODELS


def text_run(kind):
    score = "f1_test" if kind == "question" else "accuracy_test"
    teacher = measure("T", score, 0.75, **{**text_cell(kind), "threshold": None, "layer": ""})
    return run(measures=[teacher], comparisons=[comparison("n_fg", 2.0, 6.0, **text_cell(kind))])


def test_each_modality_gets_a_grid_with_the_paper_s_own_table_and_says_what_it_is_over():
    cloud = comparison("n_fg", 1.0, 2.0, sample="cloud", network="PointNet", dataset="clouds")
    runs = [full_run(), text_run("sentence"), text_run("question"), run(comparisons=[cloud])]
    images, texts, clouds = tables.verdict_grid(frame(runs)).split("\n\n")
    assert "Table V's cells" in images and "Table VI's cells" in texts
    assert rows_of(images)[0][3] == "51 of 57" == paper_rate("n_fg", "V")
    assert rows_of(texts)[0][3] == "2 of 2" == paper_rate("n_fg", "VI")
    assert rows_of(texts)[0][4:] == ["**supported** +4.00 [+2.00, +6.00]"] * 2
    assert "embedded questions" in texts and "embedded sentences" in texts.split("\n")[0]
    assert "Table VII's cells" in clouds and rows_of(clouds)[0][3] == "5 of 8"
    rows = rows_of(images)  # every metric, and what was not run
    assert [row[0] for row in rows] == ["H1", "H1", "H1", "H2", "H2", "H3"]
    assert rows[1][4] == "**opposed** +2.00 [+1.00, +3.00]"
    assert rows[0][4] == "**supported** +9.50 [+6.00, +13.0] (filtered: opposed)"
    assert rows[3][4].startswith("**undecided**") and rows[5][4] == "not run here"
    rows = frame([text_run("question")])
    (row,) = rows_of(tables.verdict_table(rows, 1))
    assert row[1:3] == ["Last, embedded questions", "+4.00 [+2.00, +6.00], 40 questions, 1 seed"]
    assert row[6] == paper_rate("n_fg", "VI")
    (row,) = rows_of(tables.accuracy_table(rows))
    assert row[3:5] == ["F1", "0.75 [−0.25, 1.75], 40 questions, 1 seed"]


def test_verdict_table_sets_filter_other_thresholds_and_paper_beside():
    parts = [rows_of(tables.verdict_table(frame([full_run()]), number)) for number in (1, 2, 3)]
    assert [len(rows) for rows in parts] == [2, 2, 0]
    by_metric = {row[0]: row for rows in parts for row in rows}
    n_fg = by_metric["$N^{fg}_{point}$, higher"]
    difference = "+9.50 [+6.00, +13.0], 60 images, 3 seeds"
    assert n_fg[1:4] == ["FC1, embedded images", difference, "**supported**"]
    assert n_fg[4:] == ["opposed (60 images, 3 seeds)", "0.25: undecided", "51 of 57"]
    assert by_metric["$N^{bg}_{point}$, lower"][3:6] == ["**opposed**", *["not run here"] * 2]
    assert by_metric["$D_{mean}$ (summed per step), lower"][3] == "**supported**"
    assert by_metric["$D_{mean}$ (summed per epoch), lower"][3] == "**undecided**"


def test_what_is_not_measurable_says_why_above_the_grid():
    """And one seed has no verdict."""
    found = [comparison("n_fg", 6.0, 13.0, unfit=True),
             comparison("n_bg", None, None, difference=-2.0, layer="FC2", n_seeds=1)]  # fmt: skip
    why = "FC1 is not measurable (the student explains at least 80%: 3%); raise epochs."
    page = tables.verdict_grids(frame([run(comparisons=found, notes=[why])]))
    assert f"VGG-11, {why}" in page.split("| hypothesis")[0]
    first, second, *_ = rows_of(page)
    assert first[4:] == ["**not measurable** +9.50 [+6.00, +13.0]", "not run here"]
    assert second[4:] == ["not run here", "**one seed** −2.00"]


def test_nothing_run_is_said():
    nothing = frame([])
    made = {tables.run_table(name, nothing) for name in ("status", "machines")}
    made |= {tables.verdict_table(nothing, number) for number in (1, 2, 3)}
    made |= {tables.verdict_grids(nothing), tables.accuracy_table(nothing)}
    assert made | {tables.verdict_grid(nothing), tables.verdict_grids(frame([run()]))} == {NOTHING}
    assert tables.notes_list(nothing) == "No notes."


def test_accuracies_are_sorted_and_another_network_gets_a_table_of_its_own():
    def scored(network, *places):
        spread = {"threshold": None, "network": network}
        return run(measures=[measure(r, "accuracy_test", 0.5, layer=at, **spread)
                             for r, at in places])  # fmt: skip

    one = scored("VGG-13", ("S", "FC2"), ("S", "Conv"), ("B", ""), ("T", ""))
    runs = [one, scored("AlexNet", ("T", "")), full_run()]
    rows = rows_of(tables.accuracy_table(frame(runs)))
    assert [" ".join([*row[0].split(" (")[0].split(", "), row[2]]) for row in rows] == [
        "teacher AlexNet –", "teacher VGG-11 –", "student VGG-11 FC1", "teacher VGG-13 –",
        "baseline VGG-13 –", "student VGG-13 Conv", "student VGG-13 FC2",
    ]  # fmt: skip
    unseen = ["accuracy", "0.56 [0.50, 0.60], 60 images, 3 seeds", "not measured"]
    assert rows[1][1:] == ["demo", "–", *unseen]
    assert rows[2][1:5] == ["demo", "FC1", "accuracy", "0.38, 60 images, 3 seeds"]
    other = run(preset="study", comparisons=[comparison("n_fg", -2.0, -1.0, network="AlexNet")])
    rows = frame([full_run(), other])
    page = tables.verdict_table(rows, 1)
    assert page.count("| metric") == 2
    assert "**Preset `study`: AlexNet (narrow) on embedded images, b = 0.2**" in page
    grids = tables.verdict_grids(rows)
    assert grids.index("**Preset `demo`**") < grids.index("AlexNet (narrow)")


def test_status_machines_and_notes():
    where = {"gpu": None, "cpu": "a processor", "threads": 2, "commit": "f" * 40, "dirty": True}
    where |= {"code": ["published_table"], "versions": {"b": "1", "a": "2"}}
    one = run(provenance=where, notes=["told"])
    rows = frame([one, run(notebook="image_cell", notes=["aside"], provenance={})])
    row, single = rows_of(tables.run_table("status", rows))
    assert row[:5] == ["`image_h1`", "demo", "1.50", "1234", "`0123456789ab`"]
    assert row[5].startswith("stale") and single[0] == "`image_cell`"
    machine, bare = rows_of(tables.run_table("machines", rows))
    assert machine[2:] == ["a processor, 2 threads", "a 2, b 1", "ffffffffffff with changes"]
    assert bare[2:] == ["not recorded"] * 3
    assert tables.notes_list(rows) == "- `image_h1`, demo: told"


@pytest.mark.parametrize("model", MODELS.values())
def test_presets_are_listed_with_their_values(model):
    rows, presets = {row[0]: row for row in rows_of(tables.presets_table(model))}, model.PRESETS
    expected = [", ".join(map(str, presets[p]["seeds"])) for p in ("demo", "study")]
    assert rows["`seeds`"][1:3] == expected and expected[0] != expected[1]
    assert len(tables.presets_table(model).splitlines()) == 2 + len(rows)  # no row is broken
    assert len(rows) == len(presets["demo"]) and all(row[3] for row in rows.values())


def test_licences_of_every_part():
    rows = rows_of(tables.licences_table())
    assert {row[0] for row in rows} >= {"objects", "backgrounds", "sentences", "furniture"}
    assert all(all(row) for row in rows)


def test_every_part_of_the_embedded_data_has_a_licence():
    entries = tables.embedded_licences()
    assert all(all(entry.values()) for entry in entries)
    counts = Counter(entry["part"] for entry in entries)
    for part, items in (("objects", images.cut_outs()), ("backgrounds", images.photos())):
        assert counts.pop(part) == len({item.source for item in items})
    texts = {"ratings and words", "sentences", "people, places and natural objects"}
    assert counts.keys() == {*clouds.FILES, *texts, "chemical elements"}
    notes = (packed_file("sentences.tsv.gz").parent / "README.md").read_text()
    versions = {e["source"].split()[-1]: e["version"] for e in entries}
    known = {"vaderSentiment": "3.3.2", "wordnet-base": "3.0-37", "mendeleev": "1.3.0"}
    assert versions | known == versions
    holders = ("Copyright 2006 by Princeton University", "Copyright (c) 2015 Lukasz Mentel")
    assert all(text in notes for text in ("MIT", "WordNet 3.0 licence", *holders, *known.values()))
