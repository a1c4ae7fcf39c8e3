"""Cells computed once more from an empty store: what is held against what, and what is said."""

import numpy as np
import pytest
from made_results import comparison, rows_of, run

from book.make import repeated
from book.make.repeated import cells, equal_values, lines, repeated_fragments
from kpnb.errors import KpnbError
from kpnb.metrics.results import Values, write_whole

SETTINGS = {"layers": ["FC1"], "seeds": [1, 2, 3, 4], "teachers": [7, 8], "network": "VGG-11"}
SETTINGS |= {"threshold": 0.2, "samples": 3}
LEADS = (6.0, 8.0, 9.0, 5.0)


def values(role, metric, by_pair, layer="FC1"):
    rows = [" ".join(f"{one + image:.5g}" for image in range(3)) for one in by_pair]
    distance = "epoch" if metric == "d_mean" else None
    at = {"layer": layer, "threshold": 0.2, "distance": distance}
    return Values(role=role, metric=metric, by_seed=rows, **at)


def computed(leads, metric="n_fg", **changes):
    """A run whose students lead baselines of ten points by so many, pair by pair."""
    settings = SETTINGS | {"seeds": SETTINGS["seeds"][: len(leads)]} | changes.pop("settings", {})
    held = [values("S", metric, [10 + lead for lead in leads]), values("B", metric, [10] * 4)]
    held[1] = held[1].model_copy(update={"by_seed": held[1].by_seed[: len(leads)]})
    about = {"preset": "study", "values": held, "comparisons": [comparison(metric, 4.0, 9.0)]}
    return run(**about | changes, settings=settings)


def only(first, again):
    (twice,) = cells([first], again)
    return twice


def test_the_same_numbers_are_all_equal_and_move_no_pair():
    twice = only(computed(LEADS), computed(LEADS))
    assert equal_values(twice) == (24, 24)
    (row,) = lines(twice)
    assert (row["metric"], row["moved"], row["verdicts"]) == ("n_fg", 0, ["supported"] * 2)
    assert row["correlation"] == pytest.approx(1) and row["first"] == row["again"]
    assert row["first"]["value"] == pytest.approx(7) and row["spread"] == np.std(LEADS, ddof=1)


def test_one_value_that_differs_is_counted_and_moves_its_pair():
    again = computed((6.0, 8.0, 9.0, 8.0))
    twice = only(computed(LEADS), again)
    assert equal_values(twice) == (21, 24)
    (row,) = lines(twice)
    assert row["moved"] == pytest.approx(3 / 2)  # one of four pairs by 3
    assert row["again"]["value"] - row["first"]["value"] == pytest.approx(3 / 4)
    assert row["correlation"] == pytest.approx(3 / 22.5**0.5)  # of ranks


def test_a_second_time_of_the_first_pairs_is_held_against_these_alone():
    twice = only(computed(LEADS), computed(LEADS[:2]))
    assert equal_values(twice) == (12, 12)
    (row,) = lines(twice)
    assert row["first"]["value"] == row["again"]["value"] == pytest.approx(7)
    assert row["first"]["n_seeds"] == 2 and np.isnan(row["correlation"])


def test_of_d_var_the_spread_over_samples_is_compared():
    made = computed((0.0,) * 4, "d_mean")
    wide = [" ".join(f"{2 * float(one):.5g}" for one in row.split())
            for row in made.values[0].by_seed]  # fmt: skip
    held = [made.values[0].model_copy(update={"by_seed": wide}), made.values[1]]
    twice = only(made, made.model_copy(update={"values": held}))
    row = {one["metric"]: one for one in lines(twice)}
    assert set(row) == {"d_mean", "d_var"}
    assert row["d_var"]["first"]["value"] == pytest.approx(0)
    assert row["d_var"]["again"]["value"] > 1


@pytest.mark.parametrize(
    "changed",
    [
        {"preset": "demo"},  # and a run that tells no pairs
        {"notebook": "image_measure"},  # other questions to the same networks
        {"settings": {"samples": 4}},
        {"settings": {"network": "AlexNet"}},
        {"settings": {"seeds": [2, 1, 3, 4]}},
        {"settings": {"layers": ["Conv"]}},
        {"settings": {"outputs": 12}},
    ],
)
def test_other_settings_pairs_and_presets_are_another_cell(changed):
    again = computed(LEADS, settings={"outputs": None})
    assert not list(cells([computed(LEADS, **changed), run(preset="study")], again))


def test_a_result_that_is_new_in_a_layer_or_a_run_is_the_same_cell():
    both = computed(LEADS, settings={"layers": ["Conv", "FC1"]}, notebook="image_h1")
    assert only(both, computed(LEADS, notebook="image_cell", run="v_vgg11_fc1")).layer == "FC1"


@pytest.fixture
def filed(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    return tmp_path / "repeated" / "cells" / "again.json"


def test_the_page_says_so_where_all_is_equal_and_where_it_is_not(filed):
    first = computed(LEADS)
    assert "No cell was computed" in repeated_fragments([first])["repeated"]
    other = {"provenance": {"cpu": "another processor", "commit": "abcdef0123"}}
    write_whole(filed, computed(LEADS, **other).model_dump_json())
    page = repeated_fragments([first])["repeated"]
    assert "**All 24 values are equal**" in page and "the first of" not in page
    assert "4 pairs, on another processor by commit `abcdef0`; the first time on a proc" in page
    (row,) = rows_of(page)
    assert row[1] == row[2] and row[1].startswith("+7.00 [") and row[4:] == ["0", "1.00"]
    write_whole(filed, computed((6.0, 8.0, 9.0), **other).model_dump_json())
    assert "3 pairs, the first of 4, on" in repeated_fragments([first])["repeated"]
    write_whole(filed, computed((6.0, 8.0, 9.0, 8.0), **other).model_dump_json())
    page = repeated_fragments([first])["repeated"]
    assert "\n21 of 24 values are equal" in page and "**All" not in page


def test_a_damaged_second_time_stops_the_build_with_its_name(filed):
    write_whole(filed, "{")
    with pytest.raises(KpnbError, match=r"again\.json is damaged: take the committed one"):
        repeated.second_times()
