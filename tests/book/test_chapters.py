"""Chapters of their own: errors of the estimator, Table VIII continued, the paper's scale."""

import pytest
from made_results import comparison, measure, run

from book.make import chapters
from book.make.chapters import BUDGETS, DEFAULT, PUBLISHED
from book.make.frame import NOTHING, frame
from kpnb.metrics.results import Number
from kpnb.run.sweeps import read_sweeps


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


def test_nothing_is_shown_before_anything_ran():
    made = chapters.chapter_tables(frame([]))
    names = ["accuracy", "budgets", "figure", "speed", "summary"]
    assert {made[f"estimator_{name}"] for name in names} == {NOTHING}
    assert made["outputs_reading"] == NOTHING and made["outputs_figure"] == ""
    assert set(chapters.chapter_figures(frame([])).values()) == {None}
    # the paper's scale: every sweep is there, and what was not run
    assert all(f"`{name}`" in made["paper_sweeps"] for name in chapters.paper_sweeps())
    assert made["paper_results"].startswith("No run at the preset `paper`")
    assert "| teacher, pretrained | VGG | all | 0.001 to 0.0001 | code |" in made["paper_rates"]
    assert "`grid`" in made["paper_settings_images"]


# Table VIII continued

RUNS = list(read_sweeps()["table_viii"].runs)
FIRST, SECOND, OPEN = ((1, 3), (-1, 1)), ((-3, -1), (-2, -1)), ((-1, 1), (-1, 1))
HALF, BACKGROUND = ((-3, -1), (-1, 1)), ((-1, 1), (-3, -1))


def reading(runs):
    return chapters.outputs_reading(chapters.viii_rows(frame(runs)))


def outputs_cell(outputs: int, how: tuple, network: str = "AlexNet", share: float | None = None):
    """A run whose intervals of student minus baseline, in N_fg and N_bg, are given; and its
    student's share of training images that it gets right, which no other network has."""
    sides = zip(("n_fg", "n_bg"), how, ("up", "down"), strict=True)
    items = [comparison(metric, *ends, side, layer="FC3") for metric, ends, side in sides]
    known = {"T": 0.99, "B": 0.98, "S": share} if share else {}
    at = {"layer": "FC3", "threshold": None}
    scores = [measure(role, "accuracy_train", value, **at) for role, value in known.items()]
    settings = {"outputs": outputs, "threshold": 0.2, "layers": ["FC3"], "network": network}
    name = RUNS[outputs % len(RUNS) if network == "AlexNet" else 0]
    own = {"run": name, "settings": settings, "comparisons": items, "measures": scores}
    return run(notebook="image_cell", **own)


#: By what is said of it: dimensions with their intervals.
SAID = {
    "no interval of N_fg excludes zero": [(2, OPEN), (200, OPEN)],
    "only ever more": [(2, OPEN), (200, FIRST)],
    "the first utility: more foreground points": [(2, OPEN), (200, FIRST)],
    "neither: no interval excludes zero": [(2, OPEN), (200, FIRST)],
    "only ever fewer": [(2, SECOND), (200, OPEN)],
    "the second utility: fewer points of both kinds": [(2, SECOND), (200, OPEN)],
    "in no order": [(2, FIRST), (200, SECOND)],
    "shows at no number of dimensions": [(2, HALF), (200, FIRST)],
    "fewer foreground points only": [(2, HALF), (200, OPEN)],
    "fewer background points only": [(2, BACKGROUND), (200, OPEN)],
    # the turn is between the last with fewer and the first with more
    "between 4 and 200 dimensions here, with 3 seeds. The second utility in full, fewer points of "
    "both kinds, shows at 2.**": [(200, FIRST), (2, SECOND), (4, HALF), (12, OPEN)],
}


def test_what_is_said_of_the_dimensions_and_of_what_their_students_have_learned():
    for said, cells in SAID.items():
        assert said in reading([outputs_cell(n, how) for n, how in cells])
    runs = [outputs_cell(2, HALF, share=0.7), outputs_cell(200, FIRST, share=0.024)]
    told = reading([*runs, outputs_cell(12, OPEN)])
    ends = [line.partition("). ")[2] for line in told.splitlines() if line.startswith("- ")]
    right = "The student classifies {} of its training images correctly."
    assert ends == [right.format("70.0%"), "", right.format("2.4%")]
    assert "with 3 seeds, where the student gets 2.4% at 200 of its training images right." in told


def test_the_figure_has_the_intervals_and_networks_are_read_apart():
    runs = [outputs_cell(2, SECOND), outputs_cell(2, OPEN, "VGG-11"), outputs_cell(9, FIRST)]
    told = reading(runs).split("VGG-11")
    assert "between 2 and 9" in told[0] and "no interval of N_fg" in told[1]
    axes = chapters.chapter_figures(frame(runs))["outputs"].axes
    drawn = [ax.collections[0].get_segments()[0][:, 1].tolist() for ax in axes]
    assert drawn == [[-3, -1], [-2, -1]]
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["2", "9"]
    assert axes[0].lines[0].get_label() == "AlexNet, 60 images, 3 seeds"
    assert len({line.get_marker() for line in axes[0].lines[:2]}) == 2


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
