"""Pages of the sweeps' tables: printed rows with their marks, our runs in place, Table VIII."""

import re

import pytest
from test_results import comparison, measure, results

from book.make.cell_pages import SHOWN, cell_tables, table_v_cells
from book.make.output_dimensions import by_outputs, outputs_figure, outputs_reading
from book.make.published_cells import sweep_table
from kpnb.paper import published_table
from kpnb.run.sweeps import read_sweeps

SWEEPS = read_sweeps()


def cell(run: str, **settings):
    """A run's results with numbers that no table prints."""
    sweep = next(sweep for sweep in SWEEPS.values() if run in sweep.runs)
    settings = sweep.resolved(run, "study").model_dump(mode="json") | settings
    own = {"layer": settings["layers"][0], "network": settings["network"]}
    measures, comparisons = [], []
    for b in (0.15, 0.2, 0.25):
        for role, mean in (("T", 300 + b), ("S", 200 + b), ("B", 100 + b)):
            given = own | {"role": role, "mean": mean, "low": mean - 1, "high": mean + 1}
            measures.append(measure(**given, metric="n_fg", threshold=b))
        comparisons.append(comparison(**own, metric="n_fg", threshold=b))
    given = {"notebook": "image_cell", "preset": "study", "run": run, "settings": settings}
    return results(**given, measures=measures, comparisons=comparisons)


def lines(table: str) -> list[list[str]]:
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in table.split("\n")]


@pytest.mark.parametrize("name", SHOWN)
def test_every_printed_number_of_the_runs_rows_is_there(name):
    table = sweep_table(SWEEPS[name], [], **SHOWN[name])
    rows = [SWEEPS[name].published_rows(run) for run in SWEEPS[name].runs]
    printed = {f"{value:.2f}" for part in rows for value in part["n_fg"]}
    assert printed and all(number in table for number in printed)
    assert table.count("ours: not run here") == len(SWEEPS[name].runs)


def test_a_printed_mark_is_the_side_of_its_own_baseline():
    table = lines(sweep_table(SWEEPS["table_ii"], [], ["teacher"]))
    row = next(line for line in table if line[2] == "distilled from VGG-16" and "VGG-11" in line[0])
    signs = [re.sub(r"[\d.\s\u202f]", "", value) for value in row[3:]]
    assert signs == ["✓", "=", "✓", "✓", "✓", "✓"]
    alexnet = next(line for line in table if line[2] == "distilled from AlexNet")
    assert alexnet[6].endswith("✗")  # D_mean 4.54 against 2.80
    assert [line[2] for line in table[2:4]] == ["distilled from VGG-11", "scratch"]


def test_our_run_stands_below_its_printed_rows_and_nowhere_else():
    ours = cell("ii_vgg11_from_vgg16")
    table = lines(sweep_table(SWEEPS["table_ii"], [ours, cell("v_vgg16_fc1")], ["teacher"]))
    found = [i for i, line in enumerate(table) if "ours: embedded" in line[1]]
    assert len(found) == 2 and "taught by VGG-16" in table[found[0]][0]
    assert table[found[0] - 2][2] == "distilled from VGG-16"
    assert table[found[0]][3].startswith("**200**") and table[found[1]][3].startswith("**100**")


def test_a_teacher_of_its_own_kind_is_called_by_its_name():
    table = sweep_table(SWEEPS["table_ii"], [cell("ii_alexnet_from_alexnet")], ["teacher"])
    assert "AlexNet, FC1, taught by AlexNet" in table


def test_thresholds_are_read_off_one_run():
    table = lines(
        sweep_table(SWEEPS["table_iii"], [cell("iii_vgg16_grid28")], **SHOWN["table_iii"])
    )
    ours = [line for line in table if "ours: embedded" in line[1]]
    assert [line[0].split("b = ")[1] for line in ours] == [
        f"{b}**" for b in (0.15, 0.15, 0.2, 0.2, 0.25, 0.25)
    ]
    assert all("28×28" in line[0] for line in ours)


def test_the_teacher_is_shown_where_it_is_printed():
    table = lines(sweep_table(SWEEPS["table_iv"], [cell("iv_vgg16_fc2")], **SHOWN["table_iv"]))
    ours = [line for line in table if "ours: embedded" in line[1]]
    assert [line[2] for line in ours] == ["**teacher**", "**student**", "**baseline**"]
    assert len(table[0]) == 5  # the table prints two metrics
    assert "augmented teacher" in ours[0][0]


def test_metrics_that_are_not_printed_have_no_column():
    assert published_table("VIII")["lambda"].isna().all()
    header = lines(sweep_table(SWEEPS["table_viii"], [], ["outputs"]))[0]
    assert len(header) == 5


def test_only_table_v_s_runs_join_it():
    runs = [cell("v_vgg16_fc1"), cell("ii_vgg11_from_vgg16")]
    assert [run.run for run in table_v_cells(runs)] == ["v_vgg16_fc1"]


# Table VIII


def outputs_cell(outputs: int, n_fg: tuple, n_bg: tuple, network: str = "AlexNet"):
    """A run whose intervals of student minus baseline are given."""
    items = []
    for metric, (low, high), prediction in (("n_fg", n_fg, "up"), ("n_bg", n_bg, "down")):
        side = "up" if low > 0 else "down" if high < 0 else ""
        verdict = {prediction: "reproduced", "": "inconclusive"}.get(side, "contradicted")
        given = {"metric": metric, "prediction": prediction, "verdict": verdict, "layer": "FC3"}
        items.append(comparison(**given, difference=(low + high) / 2, low=low, high=high))
    settings = {"outputs": outputs, "threshold": 0.2, "layers": ["FC3"], "network": network}
    return results(notebook="image_cell", settings=settings, comparisons=items)


FIRST, SECOND, OPEN = ((1, 3), (-1, 1)), ((-3, -1), (-2, -1)), ((-1, 1), (-1, 1))
HALF = ((-3, -1), (-1, 1))


def test_the_turn_is_between_the_last_with_fewer_and_the_first_with_more():
    runs = [outputs_cell(n, *how) for n, how in ((200, FIRST), (2, SECOND), (4, HALF), (12, OPEN))]
    assert list(by_outputs(runs)["AlexNet"]) == [2, 4, 12, 200]
    told = outputs_reading(runs)
    assert "between 4 and 200 dimensions here, with 3 seeds. The" in told
    assert "both kinds, shows at 2.**" in told


def test_what_the_students_have_learned_stands_beside():
    runs = [taught(outputs_cell(2, *HALF), 0.7), taught(outputs_cell(200, *FIRST), 0.024)]
    told = outputs_reading([*runs, outputs_cell(12, *OPEN)])
    lines_ = [line for line in told.splitlines() if line.startswith("- ")]
    ends = ["classifies 70.0% of its training images correctly.", ").", "classifies 2.4% of its "
            "training images correctly."]  # fmt: skip
    assert all(line.endswith(end) for line, end in zip(lines_, ends, strict=True))
    assert "with 3 seeds, where the student gets 2.4% at 200 of its training images right." in told


def taught(run, share: float):
    """A run whose student, and no other network, gets this share of its training images right."""
    items = [
        measure(role=role, metric="accuracy_train", mean=value, layer="FC3", threshold=None)
        for role, value in (("T", 0.99), ("B", 0.98), ("S", share))
    ]
    return run.model_copy(update={"measures": items})


@pytest.mark.parametrize(
    "kinds, said",
    [
        ([(2, OPEN), (200, OPEN)], "no interval of N_fg excludes zero"),
        ([(2, OPEN), (200, FIRST)], "only ever more"),
        ([(2, SECOND), (200, OPEN)], "only ever fewer"),
        ([(2, FIRST), (200, SECOND)], "in no order"),
        ([(2, HALF), (200, FIRST)], "shows at no number of dimensions"),
        ([(2, HALF), (200, OPEN)], "fewer foreground points only"),
        ([(2, ((-1, 1), (-3, -1))), (200, OPEN)], "fewer background points only"),
        ([(2, SECOND), (200, OPEN)], "the second utility: fewer points of both kinds"),
        ([(2, OPEN), (200, FIRST)], "the first utility: more foreground points"),
        ([(2, OPEN), (200, FIRST)], "neither: no interval excludes zero"),
    ],
)
def test_what_is_said_of_the_dimensions(kinds, said):
    assert said in outputs_reading([outputs_cell(n, *how) for n, how in kinds])


def test_nothing_run_is_said_and_not_drawn():
    assert outputs_reading([]) == "Not run here yet." and outputs_figure([]) is None
    tables = cell_tables([])
    assert tables["outputs_figure"] == "" and set(SHOWN) < set(tables)


def test_the_figure_has_the_intervals():
    figure = outputs_figure([outputs_cell(2, *SECOND), outputs_cell(200, *FIRST)])
    drawn = [ax.collections[0].get_segments()[0][:, 1].tolist() for ax in figure.axes]
    assert drawn == [[-3, -1], [-2, -1]]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2", "200"]
    label = figure.axes[0].lines[0].get_label()
    assert label == "AlexNet, 60 images, 3 seeds"


def test_networks_are_read_apart():
    runs = [outputs_cell(2, *SECOND), outputs_cell(2, *OPEN, "VGG-11"), outputs_cell(9, *FIRST)]
    told = outputs_reading(runs).split("VGG-11")
    assert "between 2 and 9" in told[0] and "no interval of N_fg" in told[1]
    figure = outputs_figure(runs)
    assert len({line.get_marker() for line in figure.axes[0].lines[:2]}) == 2
