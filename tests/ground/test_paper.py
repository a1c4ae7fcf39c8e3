"""The published numbers against what was counted by hand from the printed tables."""

import pytest

from kpnb.errors import KpnbError
from kpnb.paper import (
    METRICS,
    PREDICTIONS,
    TABLES,
    agreement,
    agreement_rates,
    likely_misprints,
    published_table,
)

NUMBERS = {"II": 72, "III": 150, "IV": 30, "V": 684, "VI": 24, "VII": 96, "VIII": 16, "IX": 72}


def rates(table, what="agree", **where):
    """{metric: (count, cells)} of one table, or of one part of it."""
    counts = agreement_rates(("table", *where))
    rows = counts[counts["table"] == table]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return {r["metric"]: (r[what], r["cells"]) for r in rows.to_dict("records")}


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_is_there(table):
    metrics = published_table(table)[list(METRICS)]
    thresholds = 6 if table == "III" else 0  # Table III prints b twice over, beside the numbers
    assert metrics.notna().to_numpy().sum() + thresholds == NUMBERS[table]


def test_table_v_has_57_cells_each_with_student_and_baseline():
    rows = published_table("V")
    cells = rows.groupby(["dataset", "network", "layer"])["learning"].apply(sorted)
    assert len(cells) == 57
    assert all(roles == ["B", "S"] for roles in cells)


def test_a_known_cell():
    rows = published_table("V").set_index(["dataset", "network", "layer", "learning"])
    student = rows.loc[("CUB200-2011", "AlexNet", "Conv", "S")]
    assert [student[m] for m in METRICS] == [26.59, 4.41, 0.86, 1.92, 1.18, 0.49]


def test_as_printed_keeps_the_digits():
    assert "0.50" in set(published_table("V", as_printed=True)["rho"])
    assert published_table("VIII", as_printed=True)["rho"].eq("").all()


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("V", [(51, 57), (33, 57), (43, 57), (46, 57), (48, 57), (35, 57)]),
        ("II", [(6, 6), (5, 6), (6, 6), (5, 6), (5, 6), (6, 6)]),
        ("III", [(12, 12), (10, 12), (12, 12), (12, 12), (12, 12), (12, 12)]),
        ("VI", [(2, 2), (1, 2), (2, 2), (2, 2), (2, 2), (2, 2)]),
        ("VII", [(5, 8), (4, 8), (5, 8), (7, 8), (8, 8), (6, 8)]),
        ("IX", [(5, 6), (1, 6), (4, 6), (5, 6), (6, 6), (4, 6)]),
    ],
)
def test_rates_of_agreement(table, expected):
    assert rates(table) == dict(zip(METRICS, expected, strict=True))


def test_rates_of_tables_that_report_fewer_metrics():
    assert rates("IV") == {"n_fg": (4, 5), "lambda": (3, 5)}
    assert rates("VIII") == {"n_fg": (0, 4), "n_bg": (3, 4)}


def test_ties_are_counted_apart():
    ties = rates("V", what="ties")
    assert ties["lambda"] == (5, 57) and ties["rho"] == (5, 57) and ties["n_fg"] == (0, 57)


def test_break_down_by_layer_and_dataset():
    assert rates("V", layer="Conv")["n_fg"] == (8, 8)
    assert rates("V", dataset="Pascal VOC 2012")["n_bg"] == (4, 18)


def test_rates_over_all_tables_add_up():
    total = agreement_rates(()).set_index("metric")["cells"]
    assert total["n_fg"] == 100 and total.sum() == len(agreement())


def test_the_copy_handed_out_is_not_the_stored_one():
    for table, column, value in [(published_table("V"), "n_fg", 0.0), (agreement(), "outcome", "")]:
        table[column] = value
    assert published_table("V")["n_fg"].max() > 0
    assert rates("V")["n_bg"] == (33, 57)


def test_misprints_point_at_printed_numbers():
    keys = ["dataset", "network", "layer", "learning", "grid_size", "threshold_b"]
    for note in likely_misprints().to_dict("records"):
        rows = published_table(note["table"], as_printed=True)
        for key in keys:
            rows = rows[rows[key] == note[key]]
        assert note["printed"] in set(rows[note["column"]]), note


def test_predictions_cover_the_metrics():
    assert tuple(PREDICTIONS) == METRICS and set(PREDICTIONS.values()) == {"up", "down"}


def test_unknown_names_say_what_exists():
    with pytest.raises(KpnbError, match="II, III"):
        published_table("X")
    with pytest.raises(KpnbError, match="by 'weather'"):
        agreement_rates(("weather",))
