"""The paper's tables: every published number in its place, ours beside it, and how both agree."""

import re
from functools import cache

import pytest
from made_results import cells_of, comparison, full_run, measure, rows_of, run

from book.make import __main__ as book
from book.make import published
from book.make.frame import frame
from book.make.published import SHOWN, sweep_table
from kpnb.metrics.formatting import MARKS
from kpnb.paper import METRICS, agreement, agreement_rates, published_table
from kpnb.run.sweeps import read_sweeps

SWEEPS = read_sweeps()
PAGES = {"V": published.table_v, "VI": published.table_vi, "VII": published.table_vii}
ROLE_NAMES = {"S": "student", "B": "baseline"}
TEXT = {"layer": "Last", "network": "MiniLM-L6, 3 layers", "n_samples": 40, "n_seeds": 1}
KINDS = {
    "image": {},
    "sentence": {**TEXT, "dataset": "embedded sentences", "sample": "sentence"},
    "question": {**TEXT, "dataset": "embedded questions", "sample": "question"},
    "cloud": {"layer": "FC2", "network": "PointNet", "dataset": "clouds", "sample": "cloud",
              "n_samples": 40},
}  # fmt: skip


def kind_run(kind):
    """Numbers of one kind of samples, and one at another b."""
    cell = KINDS[kind]
    measures = [
        measure("S", "n_fg", 7.5, **cell),
        measure("B", "n_fg", 3.25, **cell),
        measure("B", "n_fg", 66.6, **{**cell, "threshold": 0.25}),
    ]
    return run(measures=measures, comparisons=[comparison("n_fg", 2.0, 6.0, **cell)])


def sections(page):
    return {part.split("\n")[0]: rows_of(part) for part in page.split("## ")[1:]}


def ours_in(rows):
    return [row for row in rows if "ours" in row[1]]


# Tables V to VII


@cache
def empty_page(name):
    return PAGES[name](frame([]))


@pytest.mark.parametrize("name", PAGES)
def test_every_published_number_stands_on_its_page_in_order(name):
    shown = [
        (section if name != "VI" else "BERT", *row[:3], *(cell.split()[0] for cell in row[3:]))
        for section, rows in sections(empty_page(name)).items()
        for row in rows
        if "ours" not in row[1]
    ]
    rows = published_table(name, as_printed=True).to_dict("records")
    expected = [
        (r["network"], r["layer"], r["dataset"], ROLE_NAMES[r["learning"]],
         *(r[m] for m in METRICS))
        for r in rows
    ]  # fmt: skip
    assert sorted(shown) == sorted(expected) and len(shown) == len(rows)
    for student, baseline in zip(shown[::2], shown[1::2], strict=True):
        assert student[:3] == baseline[:3]
        assert (student[3], baseline[3]) == ("student", "baseline")


@pytest.mark.parametrize("name", PAGES)
def test_marks_are_the_published_sides(name):
    sides = agreement().query(f"table == '{name}'")
    keys = ["network", "layer", "dataset", "metric"]
    expected = {tuple(row[key] for key in keys): row["outcome"] for row in sides.to_dict("records")}
    for section, rows in sections(empty_page(name)).items():
        for row in rows:
            if row[2] == "student":
                network = "BERT" if name == "VI" else section
                marks = [cell.split()[1] for cell in row[3:]]
                assert marks == [MARKS[expected[network, *row[:2], m]] for m in METRICS]
            elif row[2] == "baseline":
                assert not set("".join(row[3:])) & set(MARKS.values())


def test_known_marks():
    row = next(r for r in rows_of(empty_page("V")) if r[:2] == ["Conv", "CUB200-2011"])
    shown = [cell.split() for cell in row[3:]]
    numbers = ["26.59", "4.41", "0.86", "1.92", "1.18", "0.49"]
    assert shown == [[n, mark] for n, mark in zip(numbers, "✓✓✓✓✓✗", strict=True)]
    # PointNet, FC2 by hand: more foreground and background points, smaller ratio, faster, stabler
    rows = [r for r in sections(empty_page("VII"))["PointNet"] if r[0] == "FC2"]
    assert [cell.split()[1] for cell in rows[0][3:]] == ["✓", "✗", "✗", "✓", "✓", "✓"]


def test_table_v_shows_ours_where_measured_and_says_so_where_not():
    page = published.table_v(frame([full_run()]))
    ours = ours_in(rows_of(page))
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


@pytest.mark.parametrize(
    ("kind", "name", "section"),
    [("sentence", "VI", "SST-2"), ("question", "VI", "SQuAD"), ("cloud", "VII", "PointNet")],
)
def test_each_kind_of_samples_stands_in_its_own_place_only(kind, name, section):
    page = PAGES[name](frame([full_run(), kind_run(kind)]))
    for title, rows in sections(page).items():
        ours = [row for row in ours_in(rows) if row[2]]
        if title != section:
            assert ours == []
            continue
        assert [row[2] for row in ours] == ["**student**", "**baseline**"]
        about = KINDS[kind]
        seeds = "1 seed" if kind != "cloud" else "3 seeds"
        layer = about["layer"] if kind == "cloud" else rows[0][0]  # texts: the paper's one layer
        assert ours[0][:2] == [
            f"**{layer}**",
            f"**ours: {about['dataset']}, {about['network']} (narrow), demo, 40 {kind}s, {seeds}, "
            "b = 0.2**",
        ]
        assert ours[0][3].split() == ["**7.50**", "[6.50,", "8.50]", "✓"]
        assert ours[1][3] == "**3.25** [2.25, 4.25]" and ours[1][4] == "not run here"
    assert "66.6" not in page and "23.9" not in page  # another b, and the images
    others = [other for other in PAGES if other != name]
    for other in others:
        assert PAGES[other](frame([kind_run(kind)])) == empty_page(other)


def test_a_layer_without_ours_says_so_beside_one_with():
    rows = ours_in(sections(published.table_vii(frame([kind_run("cloud")])))["PointNet"])
    assert rows[0][:2] == ["FC1", "ours: not run here"] and rows[1][0] == "**FC2**"


def test_the_book_generates_the_pages():
    made = book.fragments([], "https://example.org/a/b")
    assert made["table_vii"].startswith("## PointNet\n")
    assert set(SHOWN) < set(made) and made["outputs_figure"] == ""


# Tables with a sweep's runs


def cell(run_name, **settings):
    """A run's results with numbers that no table prints."""
    sweep = next(sweep for sweep in SWEEPS.values() if run_name in sweep.runs)
    settings = sweep.resolved(run_name, "study").model_dump(mode="json") | settings
    own = {"layer": settings["layers"][0], "network": settings["network"]}
    measures, comparisons = [], []
    for b in (0.15, 0.2, 0.25):
        for role, mean in (("T", 300 + b), ("S", 200 + b), ("B", 100 + b)):
            measures.append(measure(role, "n_fg", mean, **own, threshold=b))
        comparisons.append(comparison("n_fg", 2.0, 6.0, **own, threshold=b))
    given = {"notebook": "image_cell", "preset": "study", "run": run_name, "settings": settings}
    return run(**given, measures=measures, comparisons=comparisons)


def sweep_lines(name, *runs):
    table = sweep_table(SWEEPS[name], frame(list(runs)), **SHOWN[name])
    return [cells_of(line) for line in table.split("\n")]


def ours_of(lines):
    return [line for line in lines if "ours: embedded" in line[1]]


@pytest.mark.parametrize("name", SHOWN)
def test_every_printed_number_of_the_runs_rows_is_there(name):
    table = sweep_table(SWEEPS[name], frame([]), **SHOWN[name])
    printed = published_table(SWEEPS[name].table)
    rows = [SWEEPS[name].beside(run, printed) for run in SWEEPS[name].runs]
    printed = {f"{value:.2f}" for part in rows for value in part["n_fg"]}
    assert printed and all(number in table for number in printed)
    assert table.count("ours: not run here") == len(SWEEPS[name].runs)


def test_a_printed_mark_is_the_side_of_its_own_baseline():
    table = sweep_lines("table_ii")
    row = next(line for line in table if line[2] == "distilled from VGG-16" and "VGG-11" in line[0])
    signs = [re.sub(r"[\d.\s\u202f]", "", value) for value in row[3:]]
    assert signs == ["✓", "=", "✓", "✓", "✓", "✓"]
    alexnet = next(line for line in table if line[2] == "distilled from AlexNet")
    assert alexnet[6].endswith("✗")  # D_mean 4.54 against 2.80
    assert [line[2] for line in table[2:4]] == ["distilled from VGG-11", "scratch"]


def test_our_run_stands_below_its_printed_rows_and_nowhere_else():
    table = sweep_lines("table_ii", cell("ii_vgg11_from_vgg16"), cell("v_vgg16_fc1"))
    found = [i for i, line in enumerate(table) if "ours: embedded" in line[1]]
    assert len(found) == 2 and "taught by VGG-16" in table[found[0]][0]
    assert table[found[0] - 2][2] == "distilled from VGG-16"
    assert table[found[0]][3].startswith("**200**") and table[found[0]][3].endswith("✓")
    assert table[found[1]][3].startswith("**100**")


def test_a_teacher_of_its_own_kind_is_called_by_its_name():
    (student, _) = ours_of(sweep_lines("table_ii", cell("ii_alexnet_from_alexnet")))
    assert student[0] == "**AlexNet, FC1, taught by AlexNet**"


def test_thresholds_are_read_off_one_run():
    ours = ours_of(sweep_lines("table_iii", cell("iii_vgg16_grid28")))
    assert [line[0].split("b = ")[1] for line in ours] == [
        f"{b}**" for b in (0.15, 0.15, 0.2, 0.2, 0.25, 0.25)
    ]
    assert all("28×28" in line[0] for line in ours)


def test_the_teacher_is_shown_where_it_is_printed():
    table = sweep_lines("table_iv", cell("iv_vgg16_fc2"))
    ours = ours_of(table)
    assert [line[2] for line in ours] == ["**teacher**", "**student**", "**baseline**"]
    assert len(table[0]) == 5  # the table prints two metrics
    assert "augmented teacher" in ours[0][0]


def test_metrics_that_are_not_printed_have_no_column():
    assert published_table("VIII")["lambda"].isna().all()
    assert len(sweep_lines("table_viii")[0]) == 5


def test_only_table_v_s_runs_join_it():
    page = published.table_v(frame([cell("v_vgg16_fc1"), cell("ii_vgg11_from_vgg16")]))
    measured = [row for row in ours_in(rows_of(page)) if row[2]]
    assert len(measured) == 2 and all("VGG-16 (narrow)" in row[1] for row in measured)


# Rates


def test_rates_of_every_table_with_their_ties():
    rows = {row[0]: row[1:] for row in rows_of(published.rates_table())}
    assert rows["Table V"][:3] == ["51 of 57", "33 of 57", "43 of 57 (5 ties)"]
    assert rows["Table VIII"][2:] == ["not reported"] * 4
    assert rows["Table II"][1] == "5 of 6 (1 tie)"


def test_rates_stand_above_each_other_by_one_rule():
    def swept(name, *comparisons):
        return run(preset="study", notebook="image_cell", run=name, comparisons=list(comparisons))

    less = comparison("d_mean", -3.0, 1.0, prediction="down", distance="step")
    main = [comparison("n_fg", 6.0, 13.0), comparison("n_fg", -1.0, 1.0, layer="FC2"), less]
    runs = [
        run(preset="study", comparisons=main),
        swept("v_vgg11_fc1", comparison("n_fg", -3.0, -1.0)),  # main has it
        swept("v_vgg11_fc3", comparison("n_fg", -3.0, -1.0, layer="FC3")),
        swept("viii_alexnet_outputs4", comparison("n_fg", -3.0, -1.0, layer="FC3")),
        swept("viii_alexnet_outputs200", comparison("n_fg", 1.0, 3.0, layer="FC3")),
    ]
    rows = {row[0]: row[1:] for row in rows_of(published.rates_beside(frame(runs)))}
    assert list(rows)[:2] == ["II, the paper", "II, here"]
    assert rows["V, the paper"][0] == "51 of 57"
    on_side = ["**1 of 3** (1 : 1)", "not run", "not run", "**1 of 1** (0 : 0)", *["not run"] * 2]
    assert rows["V, here"] == on_side
    assert rows["VIII, here"][:3] == ["**0 of 1** (0 : 1)", "not run", "–"]
    assert rows["IV, here"] == ["not run", "–", "not run", "–", "–", "–"]
    assert rows["V to VII, here"][0] == "**1 of 3** (1 : 1)"
    rates = agreement_rates()
    rho = rates[rates["table"].isin(["V", "VI", "VII"]) & (rates["metric"] == "rho")]
    assert rows["V to VII, the paper"][5] == f"{rho.agree.sum()} of {rho.cells.sum()}"
