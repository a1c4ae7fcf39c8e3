"""Tables of the book's own results: scores, runs, what ships."""

from collections import Counter

import pytest
from made_results import comparison, full_run, measure, rows_of, run, text_cell

from book.make import tables
from book.make.frame import NOTHING, frame
from kpnb.datasets import clouds, images
from kpnb.fingerprint import packed_file
from kpnb.metrics.protocol import protocol_seeds
from kpnb.metrics.results import Number
from kpnb.study.parameters import MODELS


def test_nothing_run_is_said():
    nothing = frame([])
    made = {tables.run_table(name, nothing) for name in ("status", "machines")}
    made |= {*tables.accuracy_fragments(nothing).values()}
    assert made == {NOTHING}
    assert tables.notes_list(nothing) == "No notes."


def test_what_fine_tuning_does_stands_beside_training_from_scratch():
    def told(value, what):
        return Number(value=value, low=value - 1, high=value + 1, n=9, what=f"{what}; over x")

    numbers = {
        "a": told(2.0, "N_fg, first half at Conv, fine-tuned"),
        "b": told(5.0, "N_fg, first half at Conv, from scratch"),
        "c": told(-3.0, "N_fg, first half at Conv, fine-tuned minus from scratch"),
        "d": told(0.5, "accuracy, source network, unseen"),
        "e": told(0.25, "accuracy, fine-tuned, unseen"),
    }
    given = {"settings": {"data": "photos", "network": "VGG-11"}, "numbers": numbers}
    rows = frame([run(notebook="image_fine_tuning_photographs", **given), run(numbers=numbers)])
    first, source, second = rows_of(tables.fine_tuning_table(rows))
    assert first[:2] == ["N_fg, first half at Conv [1]", "photos, VGG-11, demo"]
    assert [cell.split(" ")[0] for cell in first[2:5]] == ["2.00", "5.00", "−3.00"]
    assert first[5] == "over x, n = 9" and second[0] == "accuracy, unseen [1]"
    assert second[2].startswith("0.25") and second[3:5] == ["–", "–"]
    assert source[0] == "accuracy, source network, unseen [1]" and source[2].startswith("0.50")
    given["settings"] |= {"split": 3}
    other = tables.fine_tuning_table(frame([run(notebook="image_fine_tuning_split3", **given)]))
    assert {row[1] for row in rows_of(other)} == {"photos, VGG-11, split 3, demo"}


def test_correlations_have_a_row_each_with_what_they_are_over():
    told = "Spearman's correlation, FC1: lambda and accuracy, partial; 15 points of 21 seeds"
    own = Number(value=0.5, low=0.25, high=0.75, n=15, what=told)
    rows = frame([run(numbers={"correlation_test": own, "other": own})])
    (row,) = rows_of(tables.correlation_table(rows))
    assert row[0] == "FC1: $\\lambda$ and accuracy, partial"
    assert row[1:] == ["0.50 [0.25, 0.75]", "15 points of 21 seeds, demo"]


def test_scores_of_the_protocols_runs_of_single_cells_stand_once_and_other_sweeps_not():
    """Each run of a layer has the scores of teacher and baseline, which are the same networks."""
    seeds = list(protocol_seeds("pairs", 21))
    given = {"threshold": 0.2, "network": "VGG-11", "measured_on": "train", "seeds": seeds}

    def cell(name, at, seeds=seeds):
        places = (("T", "", 0.7), ("B", "", 0.2), ("S", at, 0.4))
        found = [measure(role, "accuracy_test", value, layer=layer, threshold=None)
                 for role, layer, value in places]  # fmt: skip
        held = [comparison("n_fg", 1.0, 2.0, layer=at)]
        about = {"notebook": "image_cell", "preset": "study", "run": name, "measures": found}
        return run(**about, comparisons=held, settings=given | {"seeds": seeds})

    runs = [cell("v_conv", "Conv"), cell("v_fc1", "FC1"), cell("iii_fc2", "FC2", seeds[:3])]
    made = tables.accuracy_fragments(frame(runs))
    rows = rows_of(made["accuracies"])
    assert [(row[0].split(",")[0], row[2]) for row in rows] == [
        ("teacher", "–"), ("baseline", "–"), ("student", "Conv"), ("student", "FC1"),
    ]  # fmt: skip
    assert made["accuracies_wide_light.svg"].count('class="mark teacher"') == 2  # and the legend's


def test_accuracies_are_sorted_and_named_by_their_score():
    def scored(network, *places):
        spread = {"threshold": None, "network": network}
        return run(measures=[measure(r, "accuracy_test", 0.5, layer=at, **spread)
                             for r, at in places])  # fmt: skip

    one = scored("VGG-13", ("S", "FC2"), ("S", "Conv"), ("B", ""), ("T", ""))
    runs = [one, scored("AlexNet", ("T", "")), full_run()]
    made = tables.accuracy_fragments(frame(runs))
    told = made["accuracies"]
    assert "images, accuracy, demo: unseen samples +0.50 [−0.50, +1.50], teacher;" in told
    assert "accuracies_narrow_dark.svg" in made
    rows = rows_of(told)
    assert [" ".join([*row[0].split(" (")[0].split(", "), row[2]]) for row in rows] == [
        "teacher AlexNet –", "teacher VGG-11 –", "student VGG-11 FC1", "teacher VGG-13 –",
        "baseline VGG-13 –", "student VGG-13 Conv", "student VGG-13 FC2",
    ]  # fmt: skip
    unseen = ["accuracy", "0.56 [0.50, 0.60], 60 images, 3 seeds", "–", "not measured"]
    assert rows[1][1:] == ["demo", "–", *unseen]
    assert rows[2][1:5] == ["demo", "FC1", "accuracy", "0.38, 60 images, 3 seeds"]
    score = measure(
        "T", "f1_test", 0.75, **text_cell("question") | {"threshold": None, "layer": ""}
    )
    (row,) = rows_of(tables.accuracy_fragments(frame([run(measures=[score])]))["accuracies"])
    assert row[3:5] == ["F1", "0.75 [−0.25, 1.75], 40 questions, 1 seed"]


def test_scores_on_new_images_have_a_column_and_a_panel():
    found = [measure("T", f"accuracy_{split}", value, threshold=None, layer="")
             for split, value in (("new", 0.6), ("train", 0.9))]  # fmt: skip
    made = tables.accuracy_fragments(frame([run(measures=found)]))
    (row,) = rows_of(made["accuracies"])
    assert [text[:4] for text in row[4:]] == ["not ", "0.60", "0.90"]
    drawn = made["accuracies_wide_light.svg"]
    assert "new images" in drawn and drawn.count("not measured") == 1


def test_status_machines_and_notes():
    where = {"gpu": None, "cpu": "a processor", "threads": 2, "commit": "f" * 40, "dirty": True}
    where |= {"code": ["published_table"], "versions": {"b": "1", "a": "2"}}
    missing = "FC1: rho not measured, because no image is followed."
    told = ["told", "FC1 is not measurable (a: b); change."]
    one = run(provenance=where, notes=told, measures=[measure("S", "n_fg", 1.0)])
    end = one.model_copy(update={"settings": {"followed": 0}, "notes": [missing]})
    other = run(notebook="reliability", notes=["not of networks"])
    rows = frame([one, run(notebook="image_cell", notes=["aside"], provenance={}), other])
    row, single, _ = rows_of(tables.run_table("status", rows))
    assert row[:5] == ["`image_h1`", "demo", "1.50", "1234", "`0123456789ab`"]
    assert row[5].startswith("stale") and single[0] == "`image_cell`"
    machine, bare, _ = rows_of(tables.run_table("machines", rows))
    assert machine[2:] == ["a processor, 2 threads", "a 2, b 1", "ffffffffffff with changes"]
    assert bare[2:] == ["not recorded"] * 3
    assert tables.notes_list(rows) == "- `image_h1`, demo: told"
    assert tables.notes_list(frame([end])) == "No notes."  # nothing was to be followed
    failed = end.model_copy(update={"settings": {"followed": 9}})
    assert missing in tables.notes_list(frame([failed]))


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
