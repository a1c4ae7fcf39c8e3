"""Chapters of their own: errors of the estimator, the paper's scale."""

import pytest
from made_results import measure, rows_of, run

from book.make import chapters
from book.make.chapters import BUDGETS, DEFAULT, PUBLISHED
from book.make.frame import NOTHING, frame
from kpnb.metrics.results import Number


def compared(**changes):
    """Published runs 0.03 off after 10 s; path's error is 0.4 / probes, time probes / 100."""
    found = {"truth | own error": 0.001, "published | spread": 0.01}
    for name in (*BUDGETS, DEFAULT, *PUBLISHED):
        n = 80 if name == DEFAULT else int(name.split()[1])
        error, seconds = (2.88 / n, n / 9.6) if name in PUBLISHED else (0.4 / n, n / 100)
        found |= {f"{name} | error": error, f"{name} | seconds": seconds}
        found |= {f"{name} | {what}": 0.9 for what in ("Spearman", "N_fg error", "N_bg error")}
    found |= {f"{DEFAULT} | standard error": 0.01, f"{DEFAULT} | N_fg of the truth": 5.0}
    numbers = {f"Toy FC1, epoch 3 | {name}": Number(value=value, what="", n=3)
               for name, value in (found | changes).items()}  # fmt: skip
    return frame([run(notebook="estimator_accuracy", preset="study", numbers=numbers)])


@pytest.mark.parametrize(
    ("error", "ratio", "how"),
    [(0.03, 10 / 0.1333, ""), (1e-5, 10 / 2.16, "at most"), (0.5, 10 / 0.08, "at least")],
)
def test_time_at_equal_error_is_read_between_the_budgets(error, ratio, how):
    """0.03 at 13.3 probes, 0.133 s."""
    ((_, cell),) = chapters.by_case(compared(**{f"{PUBLISHED[-1]} | error": error})).iterrows()
    assert chapters.equal_error(cell) == (pytest.approx(ratio, rel=1e-2), how)


def test_tables_and_figure_show_what_was_found_by_network_then_by_epoch():
    made, cases = chapters.chapter_tables(compared()), chapters.by_case(compared())
    row = made["estimator_accuracy"].splitlines()[-1]
    for told in ("Toy FC1, epoch 3 (n = 3)", "0.0010", "0.0300", "0.0100", "0.0050", "yes", "75"):
        assert told in row
    assert "1 of 1 cases" in made["estimator_summary"]
    assert "path, 216 probes | 0.0019 (0.0019 to 0.0019)" in made["estimator_budgets"]
    axes = chapters.errors_figure(cases).axes
    assert axes[0].get_xlabel() and len(axes[0].lines) == 2
    assert made["estimator_figure"].startswith("```{figure}")
    beyond = chapters.summary(chapters.by_case(compared(**{f"{DEFAULT} | error": 0.02})))
    assert "0 of 1 cases" in beyond and "Beyond it: Toy FC1" in beyond
    names = ["B FC1, epoch 3", "A FC1, epoch 20", "A FC1, untrained", "A FC1, epoch 3"]
    numbers = {f"{name} | {DEFAULT} | error": Number(value=1, what="", n=1) for name in names}
    found = chapters.by_case(frame([run(notebook="estimator_accuracy", numbers=numbers)]))
    assert list(found.index) == [names[2], names[3], names[1], names[0]]


def test_errors_at_the_minimum_stand_beside_those_of_the_descents():
    found = {"truth | own error": 0.004, "truth | settled": 0.75}
    for probes, error in ((8, 0.07), (24, 0.05)):
        told = {"error": error, "Spearman": 0.99, "standard error": 0.06, "N_fg error": 1.5}
        told |= {"N_fg of the truth": 40.0, "N_fg difference": -0.5, "N_bg error": 6.0}
        told |= {"N_bg of the truth": 30.0, "N_bg difference": 2.5}
        found |= {f"optimum, {probes} probes | {name}": value for name, value in told.items()}
    numbers = {f"Toy FC1, student | {name}": Number(value=value, what="", n=3)
               for name, value in found.items()}  # fmt: skip
    made = chapters.chapter_tables(frame([run(notebook="estimator_minimum", numbers=numbers)]))
    expected = ["0.004", "75 %", "0.070", "0.060", "0.990", "1.5 of 40.0", "-0.5"]
    expected += ["6.0 of 30.0", "+2.5", "0.050"]
    assert rows_of(made["estimator_minimum"]) == [["Toy FC1, student (n = 3)", *expected]]


def test_nothing_is_shown_before_anything_ran():
    made = chapters.chapter_tables(frame([]))
    names = ["accuracy", "budgets", "figure", "minimum", "speed", "summary"]
    assert {made[f"estimator_{name}"] for name in names} == {NOTHING}
    assert chapters.errors_figure(chapters.by_case(frame([]))) is None
    # the paper's scale: every sweep is there, and what was not run
    assert all(f"`{name}`" in made["paper_sweeps"] for name in chapters.paper_sweeps())
    assert made["paper_results"].startswith("No run at the preset `paper`")
    assert "| teacher, pretrained | VGG | all | 0.001 to 0.0001 | code |" in made["paper_rates"]
    assert "`grid`" in made["paper_settings_images"]


def test_a_run_at_the_papers_scale_stands_beside_its_rows():
    sweep = chapters.paper_sweeps()["paper_ii"]
    name = next(iter(sweep.runs))
    settings = sweep.resolved(name, "paper").model_dump(mode="json")
    done = run(notebook="image_cell", preset="paper", run=name, settings=settings,
               measures=[measure("S", "n_fg", 200.0, threshold=settings["threshold"])])  # fmt: skip
    told = chapters.paper_results(frame([done]))
    assert told.startswith(f"**Table II**, 1 run of {len(sweep.runs)}") and "**200**" in told


def test_sizes_of_point_cloud_networks_have_a_row_for_each_scale():
    """Parameters, narrow and full, as they were once counted on real weights."""
    rows = [line.strip("| ").split(" | ") for line in chapters.cloud_sizes().splitlines()[2:]]
    parameters = {(network, scale): int(n.replace(",", "")) for network, scale, _, n, _ in rows}
    known = {"PointNet": (172291, 3472339), "DGCNN": (114090, 1801866),
             "PointConv": (379263, 19561755), "PointNet++": (94362, 1467978)}  # fmt: skip
    assert parameters == {(network, scale): n for network, both in known.items()
                          for scale, n in zip(("narrow", "full"), both, strict=True)}  # fmt: skip
    assert {row[2] for row in rows} == {"256 + 125", "1024 + 500"}


def test_what_networks_cost_is_a_row_a_quality_then_the_rest():
    told = {"forward passes": 338.0, "integrated gradients": 3.2, "standard error": 0.0033}
    numbers = {f"toy | standard | {name}": Number(value=v, what="") for name, v in told.items()}
    numbers["ratio"] = Number(value=27.0, what="ratio in one run", unit="times")
    numbers["N_fg"] = Number(value=4.0, low=3.0, high=5.0, what="mean", unit="points", n=60)
    made = [run(notebook="network_speed_cpu", preset="study", numbers=numbers)]
    shown = chapters.network_speed_table(frame(made))
    for text in ("| toy | standard |", "338", "3.2", "0.0033", "N_fg (n = 60)", "[3.0", "points"):
        assert text in shown
    assert chapters.network_speed_table(frame([])) == NOTHING


def test_what_was_tried_is_a_row_with_each_outcome_and_how_many_went_wrong():
    ended = {"disk full: told": 3, "disk full: again": 1, "disk full: wrong": 1, "clock: equal": 2}
    numbers = {name: Number(value=v, what="a write", unit="trials", n=5)
               for name, v in (ended | {"clock: harmless": 0}).items()}  # fmt: skip
    made = run(notebook="reliability", preset="study", numbers=numbers)
    first, second = rows_of(chapters.trials_table(frame([made])))
    assert first == ["disk full", "a write", "5", "3 told, 1 again", "1"]
    assert second == ["clock", "a write", "5", "2 equal", "–"]
    assert chapters.trials_table(frame([])) == NOTHING
