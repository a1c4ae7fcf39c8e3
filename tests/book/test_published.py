"""The paper's tables: every published number in its place, ours beside it, and how both agree."""

import re
from functools import cache

import pandas as pd
import pytest
from made_results import comparison, full_run, measure, rows_of, rows_of_all, run, text_cell

from book.make import published
from book.make.frame import MAIN_TABLES, frame
from kpnb.metrics.formatting import MARKS, SYMBOLS
from kpnb.paper import METRICS, TABLES, agreement, agreement_rates, published_table
from kpnb.run.sweeps import read_sweeps

SWEEPS = read_sweeps()
ROLE_NAMES = {"S": "student", "B": "baseline"}
KINDS = {kind: text_cell(kind) for kind in ("sentence", "question")}
CLOUD = {"layer": "FC2", "network": "PointNet", "dataset": "clouds", "sample": "cloud"}
KINDS["cloud"] = CLOUD | {"n_samples": 40}


def kind_run(kind):
    cell = KINDS[kind]
    known = (("S", 7.5, 0.2), ("B", 3.25, 0.2), ("B", 66.6, 0.25))
    measures = [measure(role, "n_fg", mean, **cell, threshold=b) for role, mean, b in known]
    return run(measures=measures, comparisons=[comparison("n_fg", 2.0, 6.0, **cell)])


def places(name, *runs):
    rows = frame(runs)
    of_sweep = name in published.SHOWN
    return (
        published.sweep_places(SWEEPS[published.key_of(name)], rows, name)
        if of_sweep
        else published.main_places(name, rows)
    )


def page(name, *runs):
    """The rows of a table by heading, without the marks' looks."""
    found = published.tables(name, places(name, *runs))
    return {title: rows_of(bare(part)) for title, part in found.items()}


def bare(text):
    return re.sub(r"</?span[^>]*>|\u00a0", " ", text.replace("<br>", " "))


def lines(name, *runs):
    """Lines of a chart that are no headings."""
    chart = published.chart(name, places(name, *runs))
    return [line for line in chart.lines if not line.heading]


@cache
def empty_page(name):
    return page(name)


def ours_in(rows):
    """Rows of ours with numbers, and those that say that nothing was run."""
    ours = [row for row in rows if row[1].startswith("ours")]
    return [row for row in ours if row[2]], [row for row in ours if not row[2]]


@pytest.mark.parametrize("name", MAIN_TABLES)
def test_every_published_number_stands_on_its_page_in_order_with_the_mark_of_its_side(name):
    keys = ["network", "layer", "dataset"]
    sides = agreement().query(f"table == '{name}'").set_index([*keys, "metric"])["outcome"]
    marks = sides.map(MARKS).to_dict()
    shown = [
        [heading if name != "VI" else "BERT", *row[:3], *map(str.split, row[3:])]
        for heading, rows in empty_page(name).items() for row in rows if "ours" not in row[1]
    ]  # fmt: skip
    expected = []
    for row in published_table(name, as_printed=True).to_dict("records"):
        place, student = [row[key] for key in keys], row["learning"] == "S"
        cells = [[row[m], *([marks[*place, m]] if student else [])] for m in METRICS]
        expected.append([*place, ROLE_NAMES[row["learning"]], *cells])
    assert sorted(shown) == sorted(expected)
    for student, baseline in zip(shown[::2], shown[1::2], strict=True):
        assert [*student[:3], "student", "baseline"] == [*baseline[:3], student[3], baseline[3]]


def test_table_v_shows_ours_where_measured_and_says_so_where_not():
    # only Table V's runs join it, where there is no main result of the cell
    swept = map(cell, ("v_vgg16_fc1", "v_vgg11_fc1", "ii_vgg11_from_vgg16"))
    pages = page("V", full_run(), full_run(preset="study"), *swept)
    (student, baseline), absent = ours_in(pages["VGG-11"])
    about = "ours: embedded images, VGG-11 (narrow), study, 60 images, 3 seeds, b = 0.2"
    assert student[:3] == ["FC1", about, "**student**"]
    assert student[3].split() == ["**23.9**", "[22.9,", "24.9]", "✓", "supported"]
    assert student[4] == "–" and baseline[1:4] == ["ours", "**baseline**", "**14.4** [13.4, 15.4]"]
    assert [row[:2] for row in absent] == [[la, "ours: not run here"] for la in OTHERS]
    measured, absent = ours_in(sum(pages.values(), []))
    assert len(absent) + 2 == published_table("V").groupby(["network", "layer"]).ngroups
    assert len(measured) == 4 and "VGG-16 (narrow)" in measured[2][1]
    assert "77.7" not in str(pages) and "88.8" not in str(pages)


OTHERS = ("Conv", "FC2", "FC3")


@pytest.mark.parametrize(
    ("kind", "name", "heading"),
    [("sentence", "VI", "SST-2"), ("question", "VI", "SQuAD"), ("cloud", "VII", "PointNet")],
)
def test_each_kind_of_samples_stands_in_its_own_place_only(kind, name, heading):
    images = {"VI": [full_run()], "VII": [full_run()], "V": []}
    pages = {other: page(other, *images[other], kind_run(kind)) for other in MAIN_TABLES}
    every = pages[name].pop(heading)
    ours, absent = ours_in(every)
    assert len(absent) == (kind == "cloud")  # a layer without ours beside one with
    empty = {other: dict(empty_page(other)) for other in pages}
    layer = KINDS[kind]["layer"] if kind == "cloud" else empty[name][heading][0][0]
    del empty[name][heading]
    assert pages == empty  # elsewhere nothing is ours, the images neither
    about = f"ours: {KINDS[kind]['dataset']}, {KINDS[kind]['network']} (narrow), demo, 40 {kind}s"
    seeds = "1 seed" if kind != "cloud" else "3 seeds"
    assert ours[0][:3] == [layer, f"{about}, {seeds}, b = 0.2", "**student**"]
    assert ours[0][3].split()[:3] == ["**7.50**", "[6.50,", "8.50]"]
    assert ours[1][2:5] == ["**baseline**", "**3.25** [2.25, 4.25]", "–"]
    assert len(ours) == 2 and "66.6" not in str(ours)  # another b


def cell(run_name):
    sweep = next(sweep for sweep in SWEEPS.values() if run_name in sweep.runs)
    settings = sweep.resolved(run_name, "study").model_dump(mode="json")
    own = {"layer": settings["layers"][0], "network": settings["network"]}
    bs, means = (0.15, 0.2, 0.25), {"T": 300, "S": 200, "B": 100}
    measures = [measure(role, "n_fg", mean + b, **own, threshold=b)
                for b in bs for role, mean in means.items()]  # fmt: skip
    comparisons = [comparison("n_fg", 2.0, 6.0, **own, threshold=b) for b in bs]
    given = {"notebook": "image_cell", "preset": "study", "run": run_name, "settings": settings}
    return run(**given, measures=measures, comparisons=comparisons)


def test_metrics_that_a_table_lacks_are_in_the_numbers_of_ours_and_not_in_the_chart():
    own = cell("iv_vgg16_fc1")
    kept = measure("S", "rho", 0.625, layer="FC1", network="VGG-16", threshold=0.2)
    found = places("IV", own.model_copy(update={"measures": [*own.measures, kept]}))
    header = published.tables("IV", found)["VGG-16"].split("\n")[0]
    assert SYMBOLS["rho"] in header and SYMBOLS["d_mean"] not in header
    assert "**0.62**" in str(published.tables("IV", found))
    assert [panel.name for panel in published.chart("IV", found).panels] == ["n_fg", "lambda"]


def sweep_lines(name, *runs):
    return [row for rows in page(name, *runs).values() for row in rows]


def beside(selector, printed):
    """The rows that a run stands beside."""
    for column, allowed in selector.items():
        printed = printed[printed[column].isin(allowed)]
    return printed if selector else printed.iloc[:0]


@pytest.mark.parametrize("name", published.SHOWN)
def test_every_printed_number_of_the_runs_rows_is_there(name):
    sweep, shown = SWEEPS[published.key_of(name)], sweep_lines(name)
    printed = published_table(sweep.table, as_printed=True)
    rows = pd.concat([beside(run.published, printed) for run in sweep.runs.values()])
    metrics = [metric for metric in METRICS if (printed[metric] != "").any()]
    expected = {tuple(row[metric] for metric in metrics) for row in rows.to_dict("records")}
    assert expected == {
        tuple(value.split()[0] for value in row[3:]) for row in shown if "ours" not in row[1]
    }
    told = {row[0] for row in shown if row[1] == "ours: not run here"}
    beside_some = [run for run in sweep.runs.values() if run.published]
    assert len(told) >= len(beside_some) / len(page(name))


def test_a_run_of_several_layers_has_a_place_for_each_and_prints_nothing():
    """Held-out photographs stand beside no cell of the paper's, which measures training ones."""
    name, run_name = "tiny_imagenet", "tin_alexnet_new"
    found = [one for one in places(name, cell(run_name)) if one.heading == "AlexNet"]
    told = [("FC1", 100), ("FC1", 60), ("FC2", 100), ("FC3", 100)]
    told = [f"{layer}, {epochs} epochs" for layer, epochs in told]
    assert [one.name for one in found] == [*told, "FC2, new images, 100 epochs"]  # what was run
    assert [len(one.ours) > 0 for one in found] == [False] * 4 + [True]
    # the printed cell stands above the first of its runs
    assert [len(one.printed) > 0 for one in found] == [True, False, True, True, False]
    assert published.chart(name, found).lines[-1].words[0] == "FC2, new images, 100 epochs"
    assert "Tiny ImageNet" in published.chart(name, places(name)).title
    drawn = [line for line in published.published_tables(frame([cell(run_name)]))[name].split("\n")
             if line.startswith("Not run, and so not drawn")]  # fmt: skip
    assert "VGG-11 at FC1, FC2, FC3; AlexNet at FC1, FC3; VGG-16 at" in drawn[0]
    rows = rows_of(published.tables(name, found)["AlexNet"])
    printed = {row[0] for row in rows if not row[1].startswith("ours")}
    assert printed == {"FC1", "FC2", "FC3"}


def test_a_printed_mark_is_the_side_of_its_own_baseline():
    table = page("II")
    row = next(line for line in table["VGG-11"] if line[2] == "distilled from VGG-16")
    signs = [re.sub(r"[\d.\s]", "", value) for value in row[3:]]
    assert signs == ["✓", "=", "✓", "✓", "✓", "✓"]
    alexnet = next(line for line in table["AlexNet"] if line[2] == "distilled from AlexNet")
    assert alexnet[6].endswith("✗")  # D_mean 4.54 against 2.80
    assert [line[2] for line in table["VGG-11"][:2]] == ["distilled from VGG-11", "scratch"]
    # our run stands below its printed rows and nowhere else
    table = sweep_lines("II", cell("ii_vgg11_from_vgg16"), cell("v_vgg16_fc1"))
    (student,) = (i for i, line in enumerate(table) if "ours: embedded" in line[1])
    assert "taught by VGG-16" in table[student][0] and table[student + 1][1] == "ours"
    assert table[student - 2][2] == "distilled from VGG-16"
    assert table[student][3].startswith("**200**") and table[student][3].endswith("✓ supported")
    assert table[student + 1][3].startswith("**100**")


def test_a_run_is_told_by_what_its_table_varies():
    def ours(table, run_name):
        return ours_in(sweep_lines(table, cell(run_name)))[0]

    own = ours("II", "ii_alexnet_from_alexnet")
    assert own[0][0] == "FC1, taught by AlexNet"  # the one of its own kind
    grid = ours("III", "iii_vgg16_grid28")
    bs = [float(line[0].split("b = ")[1]) for line in grid]
    assert bs == [0.15, 0.15, 0.2, 0.2, 0.25, 0.25] and all("28×28" in line[0] for line in grid)
    taught = ours("IV", "iv_vgg16_fc2")
    assert [line[2] for line in taught] == ["**teacher**", "**student**", "**baseline**"]
    assert "augmented teacher" in taught[0][0]
    assert len(taught[0]) == len(sweep_lines("VIII")[0]) == 5  # these tables print two metrics


# Charts


def test_the_papers_cells_are_marks_at_the_printed_difference_beside_ours():
    found = {line.words[0]: line for line in lines("V", full_run(preset="study"))[4:8]}
    printed = published_table("V").query("network == 'VGG-11' and layer == 'FC1'")
    student, baseline = (printed[printed["learning"] == role] for role in "SB")
    *paper, ours = found["FC1"].marks["n_fg"]
    gaps = 100 * (student["n_fg"].to_numpy() / baseline["n_fg"].to_numpy() - 1)
    assert [mark.value for mark in paper] == pytest.approx(list(gaps))
    assert {mark.look for mark in paper} == {"paper"} and not any(m.has_interval for m in paper)
    assert (ours.look, ours.value) == ("supported", pytest.approx(100 * 9.5 / 14.4))
    gaps = student["rho"].to_numpy() - baseline["rho"].to_numpy()
    assert [mark.value for mark in found["FC1"].marks["rho"]] == pytest.approx(list(gaps))
    assert found["Conv"].words == ("Conv", "not run here") and found["Conv"].marks["n_fg"]
    every = [mark for line in lines("V") for some in line.marks.values() for mark in some]
    assert len(every) == 6 * 57 and {mark.look for mark in every} == {"paper"}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_chart_first_and_its_numbers_behind_folds(name, made_tables):
    page = made_tables[f"table_{name.lower()}"]
    chart, _, folds = page.partition(":::{dropdown}")
    assert chart.count("```{image}") == 4 and "|" not in chart and f"Table {name}" in chart
    assert rows_of_all(folds) and "supported" not in bare(page)
    metrics = {metric for metric in METRICS if (published_table(name)[metric] > -1).any()}
    drawing = made_tables[f"table_{name.lower()}_wide_light.svg"]
    assert drawing.count("paper: ") == len(metrics) and 'class="mark supported"' not in drawing


@pytest.fixture(scope="module")
def made_tables():
    return published.published_tables(frame([]))


# Rates


def rates(*runs):
    return published.rates_fragments(frame(runs))["claim_rates"]


def test_both_rates_go_by_one_rule_and_stand_above_each_other_with_the_mean_over_cells():
    less = comparison("d_mean", -3.0, 1.0, prediction="down")
    main = [comparison("n_fg", 6.0, 13.0), comparison("n_fg", -1.0, 1.0, layer="FC2"), less]
    main.append(comparison("n_fg", 6.0, 13.0, layer="Conv", unfit=True))
    runs = [run(preset="study", comparisons=main)]
    for name, low, high, layer in (
        ("v_vgg11_fc1", -3.0, -1.0, "FC1"),  # main has it
        ("v_vgg11_fc3", -3.0, -1.0, "FC3"),
        ("viii_alexnet_outputs4", -3.0, -1.0, "FC3"),
        ("viii_alexnet_outputs200", 1.0, 3.0, "FC3"),
    ):
        found = [comparison("n_fg", low, high, layer=layer)]
        runs.append(run(preset="study", notebook="image_cell", run=name, comparisons=found))
    rows = {row[0]: row[1:] for row in rows_of(bare(rates(*runs)))}
    assert list(rows)[:2] == ["II, the paper", "II, here"]
    counted = [" ".join(cell.split()[:3]) for cell in rows["V, the paper"]]
    assert counted == [f"{n} of 57" for n in (51, 33, 43, 46, 48, 35)]
    assert rows["VI, the paper"][0] == "2 of 2"  # too few for a mean, and so for the chart
    drawn = published.rates_fragments(frame(runs))["claim_rates_wide_light.svg"]
    assert ">Table VI<" not in drawn and ">Table V<" in drawn and ">Table VII<" in drawn
    assert rows["V, here"] == ["1 of 3", "–", "–", "1 of 1", "–", "–"]  # without levels, no ratio
    assert rows["VIII, here"][0] == "0 of 1" and rows["IV, here"] == ["–"] * 6
    assert rows["V to VII, here"][0] == "1 of 3"
    known = agreement_rates().query("table in @MAIN_TABLES and metric == 'rho'")
    said = f"{known.agree.sum()} of {known.cells.sum()} "
    assert rows["V to VII, the paper"][5].startswith(said)


def test_counts_are_set_beside_by_their_ratio_and_lambda_by_its_difference():
    """Students of 20, 23 and 26 points over baselines of 10, 11 and 12; lambda is .11 more."""
    layers = {"Conv": 10.0, "FC1": 11.0, "FC2": 12.0}
    measures = [measure("B", metric, level, layer=layer)
                for layer, level in layers.items() for metric in ("n_fg", "lambda")]  # fmt: skip
    more = {layer: 2 * n - 10 for layer, n in layers.items()}
    found = [comparison("n_fg", n - 0.1, n + 0.1, layer=layer) for layer, n in more.items()]
    found += [comparison("lambda", n / 1e2 - 2e-3, n / 1e2, layer=la) for la, n in layers.items()]
    made = run(preset="study", measures=measures, comparisons=found)
    row = {row[0]: row[1:] for row in rows_of(bare(rates(made)))}["V, here"]
    drawing = published.rates_fragments(frame([made]))["claim_rates_wide_light.svg"]
    assert drawing.count('class="mark here"') == 2 * 2 + 1  # V, V to VII, in the legend
    assert row[0].startswith("3 of 3 +108 % [+") and row[2].startswith("3 of 3 +0.11 [")


def test_a_printed_mean_below_the_bound_on_points_is_told_to_be_not_measurable_either():
    pages = published.published_tables(frame([]))
    told = "SST-2 baseline at most 68 % of them have one, since they have 0.68 in the mean"
    assert [name for name, page in pages.items() if told in page] == ["table_vi"]
    assert [name for name, page in pages.items() if "By the bound" in page] == ["table_vi"]
