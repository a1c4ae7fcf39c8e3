"""Chapters of their own: errors of the estimator, Table VIII continued, the paper's scale."""

import pytest
from made_results import comparison, measure, run

from book.make import chapters
from book.make.chapters import BUDGETS, DEFAULT, PUBLISHED
from book.make.frame import NOTHING, frame, sweep_rows
from kpnb.metrics.results import Number
from kpnb.run.sweeps import read_sweeps

# The estimator


def compared(**changes):
    """Published runs 0.03 off after 10 s, 0.01 apart; path's error is 0.4 / probes, its time
    probes / 100, at its default 80 probes."""
    found = {"truth | own error": 0.001, "published | spread": 0.01}
    budgets = [(name, int(name.split()[1])) for name in BUDGETS]
    for name, probes in (*budgets, (DEFAULT, 80)):
        found |= {f"{name} | error": 0.4 / probes, f"{name} | seconds": probes / 100}
    for name, draws in ((name, int(name.split()[1])) for name in PUBLISHED):
        found |= {f"{name} | error": 0.03 * 96 / draws, f"{name} | seconds": draws / 9.6}
    for name in (*BUDGETS, DEFAULT, *PUBLISHED):
        found |= {f"{name} | {what}": 0.9 for what in ("Spearman", "N_fg error", "N_bg error")}
    found |= {f"{DEFAULT} | standard error": 0.01, f"{DEFAULT} | N_fg of the truth": 5.0}
    numbers = {
        f"Toy FC1, epoch 3 | {name}": Number(value=value, what="", n=3)
        for name, value in (found | changes).items()
    }
    return frame([run(notebook="estimator_accuracy", preset="study", numbers=numbers)])


def test_time_at_equal_error_is_read_between_the_budgets():
    """0.03 at 13.3 probes, 0.133 s."""
    ratio, how = chapters.equal_error(chapters.by_case(compared()).loc["Toy FC1, epoch 3"])
    assert how == "" and ratio == pytest.approx(10 / 0.1333, rel=1e-2)
    for error, expected in ((1e-5, (10 / 2.16, "at most")), (0.5, (10 / 0.08, "at least"))):
        cell = chapters.by_case(compared(**{f"{PUBLISHED[-1]} | error": error})).iloc[0]
        assert chapters.equal_error(cell) == (pytest.approx(expected[0]), expected[1])


def test_tables_and_figure_show_what_was_found():
    cases = chapters.by_case(compared())
    row = chapters.accuracy_of_cases(cases).splitlines()[-1]
    for told in ("Toy FC1, epoch 3 (n = 3)", "0.0010", "0.0300", "0.0100", "0.0050", "yes", "75"):
        assert told in row
    assert "1 of 1 cases" in chapters.summary(cases)
    assert "path, 216 probes" in chapters.budget_table(cases)
    axes = chapters.errors_figure(cases).axes
    assert axes[0].get_xlabel() and len(axes[0].lines) == 2
    assert chapters.chapter_tables(compared())["estimator_figure"].startswith("```{figure}")


def test_a_case_beyond_the_spread_is_named():
    told = chapters.summary(chapters.by_case(compared(**{f"{DEFAULT} | error": 0.02})))
    assert "0 of 1 cases" in told and "Beyond it: Toy FC1" in told


def test_nothing_is_shown_before_anything_ran():
    made = chapters.chapter_tables(frame([]))
    names = ["accuracy", "budgets", "figure", "speed", "summary"]
    assert {made[f"estimator_{name}"] for name in names} == {NOTHING}
    assert made["outputs_reading"] == NOTHING and made["outputs_figure"] == ""
    assert set(chapters.chapter_figures(frame([])).values()) == {None}


# Table VIII continued

RUNS = list(read_sweeps()["table_viii"].runs)


def reading(runs):
    return chapters.outputs_reading(sweep_rows(frame(runs), RUNS))


def figure(runs):
    return chapters.outputs_figure(sweep_rows(frame(runs), RUNS))


def outputs_cell(outputs: int, n_fg: tuple, n_bg: tuple, network: str = "AlexNet"):
    """A run whose intervals of student minus baseline are given."""
    items = []
    for metric, (low, high), prediction in (("n_fg", n_fg, "up"), ("n_bg", n_bg, "down")):
        items.append(comparison(metric, low, high, prediction, layer="FC3"))
    settings = {"outputs": outputs, "threshold": 0.2, "layers": ["FC3"], "network": network}
    name = RUNS[outputs % len(RUNS) if network == "AlexNet" else 0]
    return run(notebook="image_cell", run=name, settings=settings, comparisons=items)


FIRST, SECOND, OPEN = ((1, 3), (-1, 1)), ((-3, -1), (-2, -1)), ((-1, 1), (-1, 1))
HALF = ((-3, -1), (-1, 1))


def test_the_turn_is_between_the_last_with_fewer_and_the_first_with_more():
    runs = [outputs_cell(n, *how) for n, how in ((200, FIRST), (2, SECOND), (4, HALF), (12, OPEN))]
    found = chapters.gaps(frame(runs))["AlexNet"]
    assert list(found.loc["n_fg"].index) == [2, 4, 12, 200]
    told = reading(runs)
    assert "between 4 and 200 dimensions here, with 3 seeds. The" in told
    assert "both kinds, shows at 2.**" in told


def test_what_the_students_have_learned_stands_beside():
    runs = [taught(outputs_cell(2, *HALF), 0.7), taught(outputs_cell(200, *FIRST), 0.024)]
    told = reading([*runs, outputs_cell(12, *OPEN)])
    lines_ = [line for line in told.splitlines() if line.startswith("- ")]
    ends = ["classifies 70.0% of its training images correctly.", ").", "classifies 2.4% of its "
            "training images correctly."]  # fmt: skip
    assert all(line.endswith(end) for line, end in zip(lines_, ends, strict=True))
    assert "with 3 seeds, where the student gets 2.4% at 200 of its training images right." in told


def taught(made, share: float):
    """A run whose student, and no other network, gets this share of its training images right."""
    items = [
        measure(role, "accuracy_train", value, layer="FC3", threshold=None)
        for role, value in (("T", 0.99), ("B", 0.98), ("S", share))
    ]
    return made.model_copy(update={"measures": items})


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
    assert said in reading([outputs_cell(n, *how) for n, how in kinds])


def test_the_figure_has_the_intervals():
    drawn_figure = figure([outputs_cell(2, *SECOND), outputs_cell(200, *FIRST)])
    drawn = [ax.collections[0].get_segments()[0][:, 1].tolist() for ax in drawn_figure.axes]
    assert drawn == [[-3, -1], [-2, -1]]
    assert [label.get_text() for label in drawn_figure.axes[0].get_xticklabels()] == ["2", "200"]
    label = drawn_figure.axes[0].lines[0].get_label()
    assert label == "AlexNet, 60 images, 3 seeds"


def test_networks_are_read_apart():
    runs = [outputs_cell(2, *SECOND), outputs_cell(2, *OPEN, "VGG-11"), outputs_cell(9, *FIRST)]
    told = reading(runs).split("VGG-11")
    assert "between 2 and 9" in told[0] and "no interval of N_fg" in told[1]
    drawn_figure = figure(runs)
    assert len({line.get_marker() for line in drawn_figure.axes[0].lines[:2]}) == 2


# The paper's scale


def test_the_page_has_every_sweep_and_says_what_was_not_run():
    made, sweeps = chapters.chapter_tables(frame([])), chapters.paper_sweeps()
    assert all(f"`{name}`" in made["paper_sweeps"] for name in sweeps)
    assert set(chapters.TELL) <= set(sweeps)
    assert made["paper_results"].startswith("No run at the preset `paper`")
    assert "| teacher, pretrained | VGG | all | 0.001 to 0.0001 | code |" in made["paper_rates"]
    assert "`grid`" in made["paper_settings_images"]


def test_a_run_at_the_papers_scale_stands_beside_its_rows():
    name = next(iter(chapters.paper_sweeps()["paper_ii"].runs))
    sweep = chapters.paper_sweeps()["paper_ii"]
    settings = sweep.resolved(name, "paper").model_dump(mode="json")
    done = run(notebook="image_cell", preset="paper", run=name, settings=settings,
               measures=[measure("S", "n_fg", 200.0, threshold=settings["threshold"])])  # fmt: skip
    told = chapters.paper_results(frame([done]))
    assert told.startswith(f"**Table II**, 1 run of {len(sweep.runs)}") and "**200**" in told
