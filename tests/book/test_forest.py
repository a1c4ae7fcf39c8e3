"""Student against baseline as a chart: the right cells, sides, intervals and words; sentences."""

import pytest
from made_results import comparison, measure, rows_of, run, text_cell

from book.make import forest
from book.make.chart import FORMS, Chart, Line, Mark, Panel
from book.make.frame import NOTHING, frame
from kpnb.metrics.formatting import SYMBOLS
from kpnb.metrics.protocol import protocol, protocol_seeds
from kpnb.paper import METRICS, PREDICTIONS

FC2 = {"layer": "FC2"}
NEW = {"dataset": "embedded images (new)"}


def results(*comparisons, levels=(("n_fg", 20.0), ("lambda", 0.7), ("d_mean", 0.5)), **changes):
    """Comparisons with a baseline of each metric for every layer that they are of."""
    layers = dict.fromkeys((one.layer, one.dataset) for one in comparisons)
    held = [measure("B", metric, level, layer=layer, dataset=dataset,
                    distance="epoch" if metric.startswith("d_") else None)
            for layer, dataset in layers for metric, level in levels]  # fmt: skip
    return run(**{"preset": "study", "comparisons": list(comparisons), "measures": held} | changes)


def lines(*made):
    """The chart's lines that are no headings, by their words."""
    chart = forest.forest(forest.shown_cells(frame(made)))
    return {line.words: line.marks for line in chart.lines if not line.heading}


def test_differences_are_in_percent_where_the_margin_is_a_share_and_plain_elsewhere():
    found = lines(results(comparison("n_fg", 4.0, 8.0), comparison("lambda", 0.1, 0.3),
                          comparison("d_mean", -0.2, -0.1, prediction="down")))  # fmt: skip
    (marks,) = [marks for words, marks in found.items() if words[0] == "VGG-11, FC1"]
    assert marks["n_fg"] == [Mark("supported", 30.0, 20.0, 40.0)]
    assert marks["lambda"] == [Mark("supported", 0.2, 0.1, 0.3)]
    (mark,) = marks["d_mean"]
    assert (mark.look, mark.value) == ("supported", pytest.approx(-30.0)) and marks["rho"] == []
    for panel in forest.panels():
        asked = protocol()["margins"][panel.name]
        wide = 100 * asked["share"] if "share" in asked else asked["absolute"]
        assert panel.lines == (-wide, wide) and panel.side == PREDICTIONS[panel.name]
        assert panel.unit == ("%" if "share" in asked else "")
    assert [panel.name for panel in forest.panels()] == list(METRICS)
    assert forest.panels(published="V")[0].about[-1] == "paper: 51 of 57"


def test_each_verdict_has_its_look_and_none_is_shown_as_supported_that_is_not():
    made = [
        results(comparison("n_fg", 6.0, 13.0), comparison("n_bg", 1.0, 3.0, prediction="down"),
                levels=(("n_fg", 20.0), ("n_bg", 5.0))),
        results(comparison("n_fg", 6.0, 13.0, unfit=True, layer="Conv")),
        results(comparison("n_fg", None, None, difference=2.0, n_seeds=1, **FC2)),
        results(comparison("n_fg", -1.0, 3.0, layer="FC3")),
    ]  # fmt: skip
    found = lines(*made)
    looks = {words[0]: marks["n_fg"][0] for words, marks in found.items() if marks}
    told = {name: (mark.look, mark.has_interval) for name, mark in looks.items()}
    assert told == {
        "VGG-11, Conv": ("not measurable", False),
        "VGG-11, FC1": ("supported", True),
        "VGG-11, FC2": ("one seed", False),
        "VGG-11, FC3": ("undecided", True),
    }
    words = [words for words in found if words[0] != "not run here"]
    assert words[0] == ("VGG-11, Conv", "60 images, 3 seeds", "not measurable")
    assert words[2] == ("VGG-11, FC2", "60 images, 1 seed", "one seed")
    rows = frame(made)
    every = [mark.look for marks in found.values() for some in marks.values() for mark in some]
    known = rows[rows["headline"] & (rows["kind"] == "comparison")]["verdict"]
    assert sorted(every) == sorted(known) and every.count("supported") == 1
    drawing = forest.forest_fragments(rows)["forest_wide_light.svg"]
    assert drawing.count('class="mark supported"') == 1 + 1  # and in the legend
    # without a baseline there is nothing to be told in percent of
    bare = lines(run(preset="study", comparisons=[comparison("n_fg", 1.0, 2.0)]))
    assert not any(some for marks in bare.values() for some in marks.values())


def test_a_chart_of_some_metrics_has_the_cells_that_have_one_of_them():
    made = results(comparison("n_fg", 1.0, 2.0), comparison("rho", 0.1, 0.2, **FC2))
    chart = forest.forest(forest.shown_cells(frame([made])), ["rho"])
    assert [line.words[0] for line in chart.lines if not line.heading][0] == "VGG-11, FC2"


def test_a_kind_without_results_says_so_and_the_studys_stand_before_others():
    demo = results(comparison("n_fg", 1.0, 2.0), comparison("n_fg", 1.0, 2.0, **FC2), preset="demo")
    text = comparison("n_fg", None, None, difference=1.5, **text_cell("question"))
    texts = results(text, preset="demo")
    found = list(lines(results(comparison("n_fg", 6.0, 13.0)), demo, texts))
    assert found == [
        ("VGG-11, FC1", "60 images, 3 seeds"),
        ("MiniLM-L6, 3 layers, Last", "40 questions, 1 seed, demo", "one seed"),
        ("not run here",),
    ]
    assert [words[0] for words in lines(demo)][:2] == ["VGG-11, FC1", "VGG-11, FC2"]
    chart = forest.forest(forest.shown_cells(frame([])))
    rates = [line.notes["n_fg"] for line in chart.lines if line.heading]
    assert rates == ["51 of 57", "2 of 2", "5 of 8"]
    assert forest.forest_fragments(frame([]))["forest"] == NOTHING


def test_runs_of_sweeps_are_shown_that_have_the_protocols_own_pairs():
    seeds = list(protocol_seeds("pairs", protocol()["confirmatory"]["pairs"]))
    swept = {"notebook": "image_cell", "settings": {"threshold": 0.2, "seeds": seeds}}
    own = results(comparison("n_fg", 6.0, 13.0, **NEW), run="new_vgg11", **swept)
    grid = results(comparison("n_fg", 6.0, 13.0), run="iii_vgg11_grid8", notebook="image_cell")
    few = comparison("n_fg", 6.0, 13.0, **FC2, n_seeds=2)
    few = results(few, run="v_vgg11_fc2", notebook="image_cell")
    found = [words[0] for words in lines(own, grid, few)]
    assert found == ["VGG-11, FC1 (new images)", "not run here"]
    more = results(comparison("n_fg", 6.0, 13.0, **FC2), run="v_vgg11_fc2", notebook="image_cell")
    assert "VGG-11, FC2" in [words[0] for words in lines(own, more)]  # as many pairs as it takes
    rows = rows_of(forest.forest_fragments(frame([own, grid]))["verdicts_h1"])
    assert [row[0] for row in rows] == ["VGG-11, FC1 (new images)"]


def test_larger_teachers_are_no_cells_of_the_overview():
    def taught(teacher, run):
        settings = {"threshold": 0.2, "network": "VGG-11", "teacher": teacher}
        return results(comparison("n_fg", 6.0, 13.0), notebook="image_cell", run=run,
                       settings=settings)  # fmt: skip

    both = frame([taught("VGG-16", "ix_vgg11_from_vgg16"), taught("same", "ix_vgg11_from_vgg11")])
    assert {*forest.beyond(both)["run"]} == {"ix_vgg11_from_vgg11"}


@pytest.mark.parametrize("seeds, samples", [(3, ""), (8, " (unseen objects)"), (2, "")])
def test_photographs_are_cells_of_their_own_from_three_seeds_on(seeds, samples):
    data = {"dataset": f"Tiny ImageNet, 20 classes{samples}", "n_seeds": seeds}
    both = [comparison(metric, 6.0, 13.0, **data) for metric in ("n_fg", "lambda")]
    found = results(*both, run="tin_vgg11_fc1", notebook="image_cell")
    told = "Tiny ImageNet, 20 classes" + (" + new images" if samples else "")
    other = results(comparison("n_fg", 6.0, 13.0))
    chart = forest.forest(forest.shown_cells(frame([found, other])))
    names = [line.words[0] for line in chart.lines if not line.notes]
    mine = ["Tiny ImageNet, 20 classes", "VGG-11, FC1" + (" (new images)" if samples else "")]
    shown = names[1:3] == mine
    assert shown == (seeds > 2) and names[0] == "VGG-11, FC1"  # photographs stand after it
    assert (said(found).get(told) == {"H1": holds("VGG-11, FC1")}) == shown


def test_of_photographs_those_of_the_longest_imitation_are_shown():
    def trained(run, epochs, low):
        own = comparison("n_fg", low, low + 2.0, dataset="Tiny ImageNet, 20 classes", n_seeds=8)
        settings = {"threshold": 0.2, "epochs": epochs}
        return results(own, run=run, notebook="image_cell", settings=settings)

    both = frame([trained("tin_alexnet_fc1", 60, 6.0), trained("tin_alexnet_fc1_100", 100, 16.0)])
    assert {*forest.shown_cells(both)["low"]} == {16.0}
    assert {*forest.shown_cells(both[both["run"] == "tin_alexnet_fc1"])["low"]} == {6.0}


def test_the_alternative_text_and_the_table_have_the_numbers_of_the_chart():
    filtered = comparison("n_fg", -9.0, -3.0, selection="published_filter")
    other = comparison("n_fg", -1.0, 3.0, threshold=0.25)
    step = comparison("d_mean", -0.5, -0.3, prediction="down", distance="step")
    made = forest.forest_fragments(
        frame([results(comparison("n_fg", 4.0, 8.0), filtered, other, step)])
    )
    told = "VGG-11, FC1, 60 images, 3 seeds: H1: N_fg +30.0 [+20.0, +40.0], supported."
    assert told in made["forest"]
    assert "Texts, in the paper, as predicted: H1: N_fg 2 of 2" in made["forest"]
    (row,) = rows_of(made["forest"])
    supported = '<span class="verdict supported">✓\u00a0supported</span>'
    assert row == ["VGG-11, FC1", "$N^{fg}_{point}$", "20.0", "+6.00", "[+4.00, +8.00]", "0",
                   supported, "opposed (60)", "0.25: undecided", "60, 3"]  # fmt: skip
    (row,) = rows_of(made["verdicts_h2"])
    assert row[1] == "$D_{mean}$, summed per step" and made["verdicts_h3"] == NOTHING


def said(*made):
    """Kind of samples -> hypothesis -> answer -> layers."""
    found = forest.answers(forest.shown_cells(frame(made)))
    return {" + ".join(filter(None, (row["data"], row["measured"]))):
            {f"H{number}": {answer: [*layers] for answer, layers in of.items()}
             for number, of in row["columns"].items()} for row in found}  # fmt: skip


def holds(*layers):
    return {"holds": [*layers]}


H1 = ("n_fg", "lambda")
CLOUD = {"sample": "cloud", "network": "PointNet", "dataset": "embedded clouds of furniture"}


def test_one_table_says_what_holds_what_does_not_and_what_has_no_answer():
    both = [comparison("n_fg", 6.0, 13.0), comparison("lambda", 0.1, 0.2)]
    half = [comparison("n_fg", 6.0, 13.0, **FC2), comparison("lambda", -0.2, -0.1, **FC2)]
    new = [comparison("n_fg", -1.0, 3.0, **NEW), comparison("lambda", 0.1, 0.2, **NEW)]
    sooner = comparison("d_mean", 0.3, 0.4, prediction="down")
    aside = [comparison("n_bg", low, low + 2, prediction="down", **where)
             for low, where in ((1.0, {}), (-3.0, FC2), (-1.0, NEW))]  # fmt: skip
    unfit = comparison("n_fg", 6.0, 13.0, unfit=True, **CLOUD)
    made = results(*both, *half, *new, *aside, sooner), results(unfit)
    apart = [f"$N^{{fg}}_{{point}}$ {one}, $\\lambda$ {other}"
             for one, other in (("supported", "opposed"), ("undecided", "supported"))]  # fmt: skip
    assert said(*made) == {
        "embedded images": {"H1": holds("VGG-11, FC1") | {"opposed": [f"VGG-11, FC2 ({apart[0]})"]},
                            "H2": {"opposed": ["VGG-11, FC1"]}},
        "embedded images + new images": {"H1": {"open": [f"VGG-11, FC1 ({apart[1]})"]}},
        "Texts": {},
        "embedded point clouds": {"H1": {"not measurable": ["PointNet, FC1"]}},
    }  # fmt: skip
    shown = forest.forest_fragments(frame(made))["answers"]
    head, *rows = [line.split(" | ") for line in shown.split("\n") if line.startswith("| ")]
    for number, metrics in forest.deciding().items():
        assert head[number].startswith(f"H{number}: ")
        assert [metric for metric in METRICS if SYMBOLS[metric] in head[number]] == metrics
    cells = {row[0].strip("| "): row[1:] for row in rows}
    told = "✓\u00a0holds</span> VGG-11, FC1<br>", "✗\u00a0opposed</span> VGG-11, FC2"
    assert all(one in cells["Embedded images"][0] for one in told)
    assert cells["Embedded images, new images"][1] == "not measured"
    assert cells["Texts"] == ["not run here", "not run here", "not run here |"]
    assert "{doc}`not measurable <fitness>`</span> PointNet" in cells["Embedded point clouds"][0]
    counted = forest.forest_fragments(frame(made))["answer_counts"]
    assert "object: holds in 1 of 2 on embedded images (1 opposed).\n" in counted
    assert "each for itself: H1 holds in 0 of 1 on embedded images (1 open).\n" in counted
    assert "in epochs: holds in 0 of 1 on embedded images (1 opposed).\n" in counted
    assert "were ever knowledge points: no answer.\n" in counted and "Not run: AlexNet." in shown
    assert "\nOf embedded point clouds no measured layer passes the check." in counted
    rates = "supported in 1 on embedded images, opposed in 1 on embedded images"
    assert f"training samples: $N^{{bg}}_{{point}}$ {rates}" in shown


def test_the_answer_of_a_kind_counts_its_data_alone():
    data = {"dataset": "Tiny ImageNet, 20 classes", "n_seeds": 8}
    found = [
        results(*(comparison(metric, low, low + 2.0, **of) for metric in H1), **about)
        for low, of, about in ((1.0, {}, {}), (-3.0, data, {"run": "tin_vgg11_fc1"}))
    ]
    shown = forest.forest_fragments(frame(found))["answer_counts"]
    told = "in 1 of 1 on embedded images; in 0 of 1 on Tiny ImageNet, 20 classes (1 opposed)"
    assert f"object: holds {told}." in shown and "passes the check." not in shown


@pytest.mark.parametrize("kind", ["sentence", "question"])
def test_questions_and_sentences_are_kinds_of_their_own(kind):
    held = results(*(comparison(metric, 1.0, 2.0, network="N", layer="Last", sample=kind,
                                dataset=f"{kind}s") for metric in H1))  # fmt: skip
    found = said(held, results(*(comparison(metric, 1.0, 2.0) for metric in H1)))
    assert found[f"{kind}s"] == {"H1": holds("N, Last")} and "Texts" not in found
    assert [*found][0] == "embedded images"


def test_only_a_line_of_ours_says_what_is_not_measured():
    ours, paper = ({"a": [Mark(look, 1.0)], "b": []} for look in ("here", "paper"))
    drawn = [Chart("t", [Panel("a", "A"), Panel("b", "B")], [Line(("x",), marks)])
             .draw(FORMS["wide"], "light") for marks in (ours, paper)]  # fmt: skip
    assert [text.count("not measured") for text in drawn] == [1, 0]
    # No axis lies under these words.
    assert ['<clipPath id="b"></clipPath>' in text for text in drawn] == [True, False]
    assert not any('<clipPath id="a"></clipPath>' in text for text in drawn)


def test_nothing_is_said_to_hold_without_an_answer():
    one = comparison("n_fg", None, None, difference=9.0, n_seeds=1)
    assert not any(said().values())
    for word, made in (("one seed", one),
                       ("not measurable", comparison("n_fg", 6.0, 13.0, unfit=True))):  # fmt: skip
        found = said(results(made))["embedded images"]
        assert found == {"H1": {word: ["VGG-11, FC1"]}}
    assert "·\u00a0one seed</span>" in forest.forest_fragments(frame([results(one)]))["answers"]


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [({"supported"}, "holds"), ({"supported", "undecided"}, "open"), ({"equivalent"}, "equivalent"),
     ({"equivalent", "opposed"}, "opposed"), ({"supported", "opposed"}, "opposed"),
     ({"supported", "equivalent"}, "equivalent"),
     ({"supported", "not measurable"}, "not measurable"), ({"one seed"}, "one seed")],
)  # fmt: skip
def test_a_cell_holds_only_where_all_its_primary_metrics_do(verdicts, word):
    assert forest.answer(verdicts) == word


def test_clouds_that_are_not_embedded_are_named():
    told = "ModelNet10, points drawn on occupancy grids"
    row = {"table": "VII", "network": "PointConv", "layer": "FC1", "sample": "cloud"}
    assert forest.cell_name(row | {"dataset": told}) == f"PointConv, FC1 ({told})"
    unseen = forest.cell_name(row | {"dataset": f"{told} (unseen shapes)"})
    assert unseen == f"PointConv, FC1 ({told}, unseen shapes)"
    assert forest.cell_name(row | {"dataset": "embedded clouds of furniture"}) == "PointConv, FC1"


def test_public_texts_are_named_beside_the_embedded_ones():
    row = {"table": "VI", "network": "MiniLM", "layer": "Last", "sample": "sentence"}
    public, own = (row | {"dataset": name} for name in ("SST-2 (held out)", "embedded sentences"))
    assert [forest.samples_of(one) for one in (public, own)] == [
        *(("SST-2", "held out"), ("sentences", ""))
    ]
    assert forest.data_name(public) == "SST-2"
    assert forest.cell_name(public, under="SST-2") == "MiniLM, Last (held out)"
    assert forest.cell_name(public, "last layer") == "last layer (SST-2, held out)"
    assert forest.cell_name(own, "last layer") == "last layer (embedded sentences)"
