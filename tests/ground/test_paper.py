"""The six metrics, and the published numbers against what was counted by hand in the tables."""

import csv

import pytest
from refusals import fails

from kpnb import paper
from kpnb.fingerprint import packed_file

NUMBERS = {"II": 72, "III": 150, "IV": 30, "V": 684, "VI": 24, "VII": 96, "VIII": 16, "IX": 72}


def rates(table, what="agree", **where):
    """{metric: (count, cells)} of one table, or of one part of it."""
    counts = paper.agreement_rates(("table", *where))
    rows = counts[counts["table"] == table]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return {r["metric"]: (r[what], r["cells"]) for r in rows.to_dict("records")}


@pytest.mark.parametrize("table", paper.TABLES)
def test_every_printed_number_is_there(table):
    metrics = paper.published_table(table)[list(paper.METRICS)]
    thresholds = 6 if table == "III" else 0  # Table III prints b twice over, beside the numbers
    assert metrics.notna().to_numpy().sum() + thresholds == NUMBERS[table]


def test_a_known_cell_as_number_and_as_printed_of_a_copy_that_is_not_the_stored_one():
    rows = paper.published_table("V").set_index(["dataset", "network", "layer", "learning"])
    student = rows.loc[("CUB200-2011", "AlexNet", "Conv", "S")]
    assert [student[m] for m in paper.METRICS] == [26.59, 4.41, 0.86, 1.92, 1.18, 0.49]
    assert "0.50" in set(paper.published_table("V", as_printed=True)["rho"])
    assert paper.published_table("VIII", as_printed=True)["rho"].eq("").all()
    table = paper.published_table("V")
    table["n_fg"] = 0.0
    assert paper.published_table("V")["n_fg"].max() > 0


@pytest.mark.parametrize(
    "table, expected",
    [
        ("V", [(51, 57), (33, 57), (43, 57), (46, 57), (48, 57), (35, 57)]),
        ("II", [(6, 6), (5, 6), (6, 6), (5, 6), (5, 6), (6, 6)]),
        ("III", [(12, 12), (10, 12), (12, 12), (12, 12), (12, 12), (12, 12)]),
        ("VI", [(2, 2), (1, 2), (2, 2), (2, 2), (2, 2), (2, 2)]),
        ("VII", [(5, 8), (4, 8), (5, 8), (7, 8), (8, 8), (6, 8)]),
        ("IX", [(5, 6), (1, 6), (4, 6), (5, 6), (6, 6), (4, 6)]),
        ("IV", [(4, 5), None, (3, 5)]),  # they report fewer metrics
        ("VIII", [(0, 4), (3, 4)]),
    ],
)
def test_rates_of_agreement(table, expected):
    known = dict(zip(paper.METRICS, expected, strict=len(expected) > 3))
    assert rates(table) == {metric: rate for metric, rate in known.items() if rate}


def test_ties_stand_apart_rates_add_up_and_misprints_point_at_printed_numbers():
    ties = rates("V", what="ties")
    assert ties["lambda"] == (5, 57) and ties["rho"] == (5, 57) and ties["n_fg"] == (0, 57)
    assert rates("V", layer="Conv")["n_fg"] == (8, 8)
    assert rates("V", dataset="Pascal VOC 2012")["n_bg"] == (4, 18)
    total = paper.agreement_rates(()).set_index("metric")["cells"]
    assert total["n_fg"] == 100 and total.sum() == len(paper.agreement())
    keys = ["dataset", "network", "layer", "learning", "grid_size", "threshold_b"]
    with packed_file("notes.csv").open(encoding="utf-8") as file:
        notes = list(csv.DictReader(file))
    assert notes
    for note in notes:
        rows = paper.published_table(note["table"], as_printed=True)
        for key in keys:
            rows = rows[rows[key] == note[key]]
        assert note["printed"] in set(rows[note["column"]]), note


def test_the_metrics_are_the_papers():
    told = paper.HYPOTHESES, paper.PREDICTIONS
    assert [(m, *(of[m] for of in told), paper.METRIC_RULES[m].plain) for m in paper.METRICS] == [
        *(("n_fg", 1, "up", "N_fg"), ("n_bg", 1, "down", "N_bg"), ("lambda", 1, "up", "λ")),
        *(("d_mean", 2, "down", "D_mean"), ("d_var", 2, "down", "D_var"), ("rho", 3, "up", "ρ")),
    ]
    assert {*paper.FINAL_METRICS, *paper.DISTANCE_METRICS, "rho"} == set(paper.METRICS)
    for name, metric in paper.METRIC_RULES.items():
        assert metric.symbol.startswith("$") and metric.symbol.endswith("$")
        assert metric.label.endswith(" [points]" if name.startswith("n_") else " [1]")


def test_unknown_names_say_what_exists():
    for call, given, told in (
        (paper.published_table, "X", "II, III"),
        (paper.agreement_rates, ("weather",), "by 'weather'"),
    ):
        fails(call, told, given)
