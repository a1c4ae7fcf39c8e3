"""Tables of the book: every published number stands there, ours beside it, verdicts say no."""

import re

import pytest

from book.make import published_pages, report
from kpnb.errors import KpnbError
from kpnb.fingerprint import library_versions
from kpnb.metrics.formatting import MARKS, interval, number, signed, table
from kpnb.metrics.results import (
    Comparison,
    Measure,
    Results,
    freshness,
    run_fingerprint,
    write_results,
)
from kpnb.metrics.stats import interval_verdict
from kpnb.paper import METRICS, agreement, published_table
from kpnb.study.parameters import MODELS

CELL = {"layer": "FC1", "network": "VGG-11", "scale": "narrow", "dataset": "embedded images"}
COUNTS = {"n_samples": 60, "n_seeds": 3, "threshold": 0.2}


def measure(role, metric, mean, **changes):
    values = {**CELL, **COUNTS, "low": mean - 1, "high": mean + 1, **changes}
    return Measure(role=role, metric=metric, mean=mean, **values)


def comparison(metric, low, high, prediction="up", **changes):
    values = {**CELL, **COUNTS, "difference": (low + high) / 2, **changes}
    said = interval_verdict(low, high, prediction)
    return Comparison(
        metric=metric, prediction=prediction, low=low, high=high, verdict=said, **values
    )


def run(**changes):
    values = {
        "notebook": "image_h1",
        "preset": "demo",
        "settings": {"threshold": 0.2},
        "provenance": {"code": ["published_table"], "cpu": "a processor", "threads": 2},
        "seconds": 90.0,
        "peak_memory_mb": 1234.0,
        "fingerprint": "0123456789abcdef",
        "measures": [
            measure("S", "n_fg", 23.9),
            measure("B", "n_fg", 14.4),
            measure("S", "n_fg", 77.7, threshold=0.25),
            measure("S", "n_fg", 88.8, selection="published_filter"),
            measure("T", "accuracy_test", 0.56, layer="", threshold=None, low=0.5, high=0.6),
            measure("S", "accuracy_test", 0.38, threshold=None, low=None, high=None),
        ],
        "comparisons": [
            comparison("n_fg", 6.0, 13.0),
            comparison("n_fg", -1.0, 3.0, threshold=0.25),
            comparison("n_fg", -9.0, -3.0, selection="published_filter"),
            comparison("n_bg", 1.0, 3.0, prediction="down"),
            comparison("d_mean", -0.5, -0.1, prediction="down", distance="step"),
            comparison("d_mean", -0.4, 0.1, prediction="down", distance="epoch"),
        ],
        "notes": ["one dataset only"],
    }
    return Results(**{**values, **changes})


def rows_of(markdown):
    """The cells of a markdown table's body."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_published_number_of_table_v_stands_on_its_page_in_order():
    page = published_pages.table_v([run()])
    published = published_table("V", as_printed=True)
    for network, part in published.groupby("network", sort=False):
        section = page.split(f"## {network}\n")[1].split("\n## ")[0]
        shown = [row for row in rows_of(section) if "ours" not in row[1]]
        numbers = [[cell.split()[0] for cell in row[3:]] for row in shown]
        key = {(r["layer"], r["dataset"], r["learning"]): r for r in part.to_dict("records")}
        assert len(shown) == len(key)
        for row, values in zip(shown, numbers, strict=True):
            expected = key[row[0], row[1], {"student": "S", "baseline": "B"}[row[2]]]
            assert values == [expected[m] for m in METRICS]


def test_table_v_marks_the_side_of_the_published_student():
    row = next(r for r in rows_of(published_pages.table_v([])) if r[:2] == ["Conv", "CUB200-2011"])
    shown = [cell.split() for cell in row[3:]]
    numbers = ["26.59", "4.41", "0.86", "1.92", "1.18", "0.49"]
    assert shown == [[n, mark] for n, mark in zip(numbers, "✓✓✓✓✓✗", strict=True)]


def test_table_v_shows_ours_where_measured_and_says_so_where_not():
    page = published_pages.table_v([run()])
    ours = [row for row in rows_of(page) if "ours" in row[1]]
    measured = [row for row in ours if row[2]]
    assert [row[2] for row in measured] == ["**student**", "**baseline**"]
    assert measured[0][0] == "**FC1**" and measured[0][1] == (
        "**ours: embedded images, VGG-11 (narrow), demo, 60 images, 3 seeds, b = 0.2**"
    )
    assert measured[0][3].split() == ["**23.9**", "[22.9,", "24.9]", "✓"]
    assert measured[0][4] == "not run here"
    assert measured[1][3] == "**14.4** [13.4, 15.4]"
    layers = published_table("V").groupby(["network", "layer"]).ngroups
    assert len(ours) == layers - 1 + 2
    assert all(row[1] == "ours: not run here" for row in ours if not row[2])
    assert "77.7" not in page and "88.8" not in page


TEXT = {"layer": "Last", "network": "MiniLM-L6, 3 layers", "n_samples": 40, "n_seeds": 1}
SENTENCES = {**TEXT, "dataset": "embedded sentences", "sample": "sentence"}
QUESTIONS = {**TEXT, "dataset": "embedded questions", "sample": "question"}


def text_run(kind, name="sentiment_h1"):
    score = "f1" if kind["sample"] == "question" else "accuracy"
    return run(
        notebook=name,
        measures=[
            measure("S", "n_fg", 7.5, **kind),
            measure("B", "n_fg", 3.25, **kind),
            measure("B", "n_fg", 66.6, **{**kind, "threshold": 0.25}),
            measure("T", f"{score}_test", 0.75, **{**kind, "threshold": None, "layer": ""}),
        ],
        comparisons=[comparison("n_fg", 2.0, 6.0, **kind)],
    )


def test_every_published_number_of_table_vi_stands_on_its_page():
    page = published_pages.table_vi([])
    published = published_table("VI", as_printed=True)
    for dataset, part in published.groupby("dataset", sort=False):
        section = page.split(f"## {dataset}\n")[1].split("\n## ")[0]
        *shown, ours = rows_of(section)
        assert [[cell.split()[0] for cell in row[3:]] for row in shown] == [
            [row[m] for m in METRICS] for row in part.to_dict("records")
        ]
        assert [row[2] for row in shown] == ["student", "baseline"]
        assert ours[1] == "ours: not run here"
    outcomes = agreement().query("table == 'VI'")["outcome"]
    students = [row for row in rows_of(page) if row[2] == "student"]
    marks = [cell.split()[1] for row in students for cell in row[3:]]
    assert marks == [MARKS[outcome] for outcome in outcomes]


def test_table_vi_puts_sentences_and_questions_where_they_belong():
    page = published_pages.table_vi([run(), text_run(SENTENCES), text_run(QUESTIONS, "qa_h1")])
    sections = {part.split("\n")[0]: part for part in page.split("## ")[1:]}
    assert set(sections) == {"SQuAD", "SST-2"}
    for name, data, samples in (
        ("SST-2", "embedded sentences", "40 sentences"),
        ("SQuAD", "embedded questions", "40 questions"),
    ):
        ours = [row for row in rows_of(sections[name]) if "ours" in row[1]]
        assert [row[2] for row in ours] == ["**student**", "**baseline**"]
        about = f"ours: {data}, MiniLM-L6, 3 layers (narrow), demo, {samples}, 1 seed, b = 0.2"
        assert ours[0][1] == f"**{about}**"
        assert ours[0][3].split() == ["**7.50**", "[6.50,", "8.50]", "✓"]
        assert ours[1][3] == "**3.25** [2.25, 4.25]" and ours[1][4] == "not run here"
    assert "66.6" not in page and "23.9" not in page  # another b, and the images


def test_images_are_no_rows_of_table_vi_nor_texts_of_table_v():
    assert published_pages.table_vi([run()]) == published_pages.table_vi([])
    assert published_pages.table_v([text_run(SENTENCES)]) == published_pages.table_v([])


def test_each_modality_gets_a_grid_with_the_paper_s_own_table():
    grid = report.verdict_grid([run(), text_run(SENTENCES), text_run(QUESTIONS, "qa_h1")])
    images, texts = grid.split("\n\n")
    assert "Table V's cells" in images and "Table VI's cells" in texts
    assert rows_of(images)[0][3] == "51 of 57" == published_pages.paper_rate("n_fg", "V")
    agreed = agreement().query("table == 'VI' and metric == 'n_fg'")["outcome"]
    count = f"{(agreed == 'agree').sum()} of {len(agreed)}"
    assert rows_of(texts)[0][3] == count == published_pages.paper_rate("n_fg", "VI")
    assert rows_of(texts)[0][4:] == ["**reproduced** +4.00 [+2.00, +6.00]"] * 2
    assert "embedded questions" in texts and "embedded sentences" in texts.split("\n")[0]


def test_verdicts_and_scores_of_texts_say_what_they_are_over():
    row = rows_of(report.verdict_table([text_run(QUESTIONS)]))[0]
    assert row[1:3] == ["Last, embedded questions", "+4.00 [+2.00, +6.00], 40 questions, 1 seed"]
    assert row[6] == published_pages.paper_rate("n_fg", "VI")
    (row,) = rows_of(report.accuracy_table([text_run(QUESTIONS)]))
    assert row[3:5] == ["F1", "0.75 [−0.25, 1.75], 40 questions, 1 seed"]


def test_verdict_table_sets_filter_other_thresholds_and_paper_beside():
    rows = rows_of(report.verdict_table([run()]))
    by_metric = {row[0]: row for row in rows}
    n_fg = by_metric["$N^{fg}_{point}$, higher"]
    difference = "+9.50 [+6.00, +13.0], 60 images, 3 seeds"
    assert n_fg[1:4] == ["FC1, embedded images", difference, "**reproduced**"]
    assert n_fg[4].startswith("contradicted") and n_fg[5] == "0.25: inconclusive"
    assert n_fg[6] == "51 of 57"
    assert by_metric["$N^{bg}_{point}$, lower"][3] == "**contradicted**"
    assert by_metric["$D_{mean}$ (per step), lower"][3] == "**reproduced**"
    assert by_metric["$D_{mean}$ (per epoch), lower"][3] == "**inconclusive**"
    assert len(rows) == 4
    assert len(rows_of(report.verdict_table([run()], ("n_bg",)))) == 1


def test_verdict_grid_has_every_metric_and_says_what_was_not_run():
    rows = rows_of(report.verdict_grid([run()]))
    assert [row[0] for row in rows] == ["H1", "H1", "H1", "H2", "H2", "H3"]
    assert rows[1][4] == "**contradicted** +2.00 [+1.00, +3.00]"
    assert rows[3][4].startswith("**reproduced**")
    assert rows[5][4] == "not run here"


def test_filtered_verdicts_are_counted_beside_how_many_samples_are_left():
    filtered = {"selection": "published_filter"}
    items = [
        comparison("n_fg", 6.0, 13.0),
        comparison("n_fg", 6.0, 13.0, layer="FC2"),
        comparison("n_fg", 6.0, 13.0, layer="Conv"),
        comparison("n_fg", -9.0, -3.0, n_samples=35, **filtered),
        comparison("n_fg", -1.0, 3.0, n_samples=38, layer="FC2", **filtered),
        comparison("n_fg", 1.0, 3.0, n_samples=38, threshold=0.25, **filtered),
        comparison("d_mean", -3.0, -1.0, "down", n_samples=35, distance="step", **filtered),
        comparison("d_mean", 1.0, 3.0, "down", n_samples=35, distance="epoch", **filtered),
    ]
    (row,) = rows_of(report.filter_table([run(comparisons=items)]))
    kept = "35 to 38 of 60 images; 2 of 3 cells measured"
    assert row == ["embedded images", kept, "0 : 1 of 2", "–", "–", "1 : 0 of 1", "–", "–"]
    (row,) = rows_of(report.filter_table([run(comparisons=items[:3])]))
    assert row[1] == "too few; 0 of 3 cells measured" and set(row[2:]) == {"–"}
    assert report.FILTERED in report.verdict_grids([run(comparisons=items)])
    assert report.filter_table([]) == report.NOTHING


def test_nothing_run_is_said():
    assert report.verdict_table([]) == report.verdict_grid([]) == report.NOTHING
    assert report.accuracy_table([]) == report.status_table([]) == report.NOTHING
    assert report.verdict_grids([]) == report.machines_table([]) == report.NOTHING


def test_accuracies():
    rows = rows_of(report.accuracy_table([run()]))
    assert [row[0].split(",")[0] for row in rows] == ["teacher", "student"]
    over = "60 images, 3 seeds"
    unseen = ["accuracy", f"0.56 [0.50, 0.60], {over}", "not measured"]
    assert rows[0][1:] == ["demo", "–", *unseen]
    assert rows[1][1:5] == ["demo", "FC1", "accuracy", f"0.38, {over}"]


def test_another_network_gets_a_table_of_its_own():
    other = comparison("n_fg", -2.0, -1.0, network="AlexNet")
    page = report.verdict_table([run(), run(preset="study", comparisons=[other])])
    assert page.count("| metric") == 2
    assert "**Preset `study`: AlexNet (narrow) on embedded images, b = 0.2**" in page
    grids = report.verdict_grids([run(), run(preset="study", comparisons=[other])])
    assert grids.index("**Preset `demo`**") < grids.index("AlexNet (narrow)")


def test_status_rows():
    row = rows_of(report.status_table([run()]))[0]
    assert row[:5] == ["`image_h1`", "demo", "1.50", "1234", "`0123456789ab`"]
    assert row[5].startswith("stale")
    where = {"gpu": None, "cpu": "a processor", "threads": 2, "commit": "f" * 40, "dirty": True}
    machine = rows_of(report.machines_table([run(provenance={**where, "versions": {"b": "1"}})]))
    assert machine[0][2:] == ["a processor, 2 threads", "b 1", "ffffffffffff with changes"]


@pytest.mark.parametrize("model", MODELS.values())
def test_presets_are_listed_with_their_values(model):
    rows = {row[0]: row for row in rows_of(report.presets_table(model))}
    presets = model.PRESETS
    expected = [", ".join(map(str, presets[p]["seeds"])) for p in ("demo", "study")]
    assert rows["`seeds`"][1:3] == expected and expected[0] != expected[1]
    assert len(rows) == len(presets["demo"]) and all(row[3] for row in rows.values())


def test_freshness_follows_settings_code_and_versions():
    code = ["published_table"]
    key = run_fingerprint({"threshold": 0.2}, code)
    here = {"code": code, "versions": library_versions()}
    assert freshness(run(fingerprint=key, provenance=here)) == "fresh"
    changed = run(fingerprint=key, provenance=here, settings={"threshold": 0.25})
    assert freshness(changed) == "stale: code or data of kpnb have changed since"
    assert key != run_fingerprint({"threshold": 0.2}, ["write_results"])
    older = {"code": code, "versions": {**library_versions(), "torch": "1.0"}}
    assert freshness(run(provenance=older)).startswith("stale: torch 1.0, here ")
    assert "no 'vanished'" in freshness(run(provenance={"code": ["vanished"]}))
    assert freshness(run(provenance={})).startswith("unknown")


def test_licences_of_every_part():
    rows = rows_of(report.licences_table())
    assert {row[0] for row in rows} >= {"objects", "backgrounds"}
    assert all(all(row) for row in rows)


@pytest.fixture
def readme(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    path = tmp_path / "README.md"
    path.write_text(f"# before\n{report.START}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "README", path)
    return path


def test_readme_block_is_rewritten_and_checked(readme, capsys):
    write_results(run())
    assert report.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert report.main(["--readme"]) == 0
    assert report.main(["--check"]) == 0
    text = readme.read_text()
    assert text.startswith("# before\n") and text.endswith("after\n") and "old" not in text
    assert "**contradicted** +2.00" in text and "Preset `demo`" in text


def test_readme_prefers_the_study(readme):
    write_results(run())
    write_results(run(preset="study", comparisons=[comparison("n_fg", -3.0, -1.0)]))
    assert "**contradicted** −2.00" in report.readme_block()
    assert "Preset `study`" in report.readme_block()


def test_readme_without_markers_is_a_mistake(readme, capsys):
    readme.write_text("# no markers\n")
    assert report.main(["--readme"]) == 2
    assert report.START in capsys.readouterr().err
    with pytest.raises(KpnbError):
        report.with_verdicts(report.END)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (23.14, "23.1"),
        (0.614, "0.61"),
        (0.0082, "0.0082"),
        (142807.0, "142807"),
        (99.99, "100"),
        (-1.5, "−1.50"),
        (0.0, "0"),
        (4.0, "4.00"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_signed_numbers_and_intervals():
    assert signed(4.1) == "+4.10" and signed(-4.1) == "−4.10" and signed(0.0) == "0"
    assert interval(None, None) == "" and interval(1.0, 2.0) == " [1.00, 2.00]"


def test_a_table_keeps_its_shape():
    assert re.fullmatch(r"\| a \|\n\| --- \|\n\| x\\\|y \|", table(["a"], [["x|y"]]))
    with pytest.raises(ValueError, match="2 cells"):
        table(["a"], [["x", "y"]])
