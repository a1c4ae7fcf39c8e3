"""The frame: every fact of results and of the paper once, with what tables select by."""

import pandas as pd
import pytest
from made_results import comparison, full_run, measure, run

from book.make.frame import (
    estimate,
    frame,
    main_rows,
    over,
    over_cells,
    span,
    standing_for,
)
from kpnb.fingerprint import library_versions
from kpnb.metrics.results import Number, Values, run_fingerprint


def test_every_fact_of_a_results_file_is_a_row():
    numbers = {"gap": Number(value=1.5, low=1.0, high=2.0, what="a gap", unit="nats", n=7)}
    made = frame([full_run(numbers=numbers)])
    ours = made[made["source"] == "ours"]
    counts = {"run": 1, "measure": 6, "comparison": 6, "number": 1, "note": 1}
    assert ours["kind"].value_counts().to_dict() == counts
    number = main_rows(made, "number").iloc[0]
    assert estimate(number) == "1.50 [1.00, 2.00]" and number["n_samples"] == 7
    assert (number["name"], number["what"], number["unit"]) == ("gap", "a gap", "nats")
    assert main_rows(made, "note")["what"].tolist() == ["one dataset only"]
    assert set(ours["file"]) == {"book/results/demo/image_h1.json"}
    score = ours[(ours["role"] == "S") & (ours["metric"] == "accuracy_test")].iloc[0]
    assert estimate(score) == "0.38" and over(score) == "60 images, 3 seeds"
    # flags select the headline and the other thresholds
    found = main_rows(made, "comparison")
    assert found.loc[found["headline"], "value"].tolist() == [9.5, 2.0, pytest.approx(-0.15)]
    assert found.loc[found["other_b"], "value"].tolist() == [1.0]
    filtered = comparison("n_fg", 1, 2, threshold=0.3, selection="published_filter")
    assert not frame([run(comparisons=[filtered])])[["headline", "other_b"]].any(axis=None)
    # a student's measure has its place and the verdict of its own comparison: at b = 0.2, 0.25
    # and with the published filter
    found = main_rows(made, "measure").query("role == 'S' and metric == 'n_fg'")
    assert found["verdict"].tolist() == ["supported", "undecided", "opposed"]
    one = main_rows(frame([run(measures=[measure("S", "rho", 0.5, layer="FC2")])]), "measure")
    assert one[["layer", "depth", "table"]].to_numpy().tolist() == [["FC2", 2, "V"]]


def test_parts_and_settings():
    cell = {"notebook": "image_cell", "preset": "study", "comparisons": [comparison("n_fg", 1, 2)]}
    settings = {"threshold": 0.2, "network": "VGG-11", "teacher": "VGG-16", "outputs": 4}
    runs = [full_run(), run(**cell), run(**cell, run="ii_a", settings=settings)]
    made = frame([*runs, run(**cell, run="v_a", settings=settings | {"teacher": "VGG-11"})])
    parts = made[made["kind"] == "run"].set_index("run")
    assert parts["part"].tolist() == ["main", "single", "sweep", "sweep"]
    assert parts.loc["ii_a", ["student", "teacher", "outputs"]].tolist() == ["VGG-11", "VGG-16", 4]
    assert parts["larger"].tolist() == [False, False, True, False]
    assert parts.loc["ii_a", "file"] == "book/results/study/cells/ii_a.json"
    assert standing_for(made, "II")["run"].unique().tolist() == ["ii_a"]
    assert standing_for(made, "V")["run"].unique().tolist() == ["", "v_a"]
    assert standing_for(made, "V", ["*_a"])["run"].unique().tolist() == ["v_a"]


def test_freshness_follows_settings_code_and_versions():
    code = ["published_table"]
    key = run_fingerprint({"threshold": 0.2}, code)
    here = {"code": code, "versions": library_versions()}
    older = here | {"versions": library_versions() | {"torch": "1.0"}}
    fresh = run(fingerprint=key, provenance=here)
    moved = fresh.model_copy(update={"settings": {"threshold": 0.25}})
    runs = [fresh, moved, run(provenance=older), run(provenance={"code": ["vanished"]}), run()]
    states = frame(runs).query("kind == 'run'")["state"].tolist()
    assert states[:2] == ["fresh", "stale: code or data of kpnb have changed since"]
    assert states[2].startswith("stale: torch 1.0, here ") and "no 'vanished'" in states[3]
    assert states[4].startswith("unknown")
    assert key != run_fingerprint({"threshold": 0.2}, ["write_results"])


def test_what_values_are_over():
    known = [(60, 1, "image"), (40, 3, "image"), (7, None, "map")]
    items = pd.DataFrame(known, columns=["n_samples", "n_seeds", "noun"])
    assert span(items) == "40 to 60 images, 7 maps, 1 to 3 seeds"
    assert span(items[:1]) == "60 images, 1 seed"
    assert span(items[:1].assign(n_samples=None, n_seeds=None)) == "" == span(items[:0])


def test_a_measure_has_its_values_a_comparison_its_baseline_and_a_file_what_is_not_measurable():
    at = {"layer": "FC1", "metric": "n_fg", "threshold": 0.2, "distance": None}
    values = [Values(role="S", by_seed=["1 2", "3 -"], **at)]
    notes = ["FC1 is not measurable (a check: 3%); raise epochs.", "FC2 is not of interest"]
    made = frame([full_run(values=values, notes=notes)])
    found = main_rows(made, "measure").query("metric == 'n_fg' and headline").set_index("role")
    assert found["by_seed"].tolist() == [["1 2", "3 -"], None]
    first = main_rows(made, "comparison").query("metric == 'n_fg' and headline").iloc[0]
    assert first["baseline"] == 14.4 and first["unfit"] == {"FC1": notes[0]}


def test_the_mean_over_cells_goes_by_their_intervals_and_needs_three():
    ends = pd.DataFrame({"value": [1.0, 2.0, 9.0], "low": [0.9, 1.9, -90], "high": [1.1, 2.1, 108]})
    mean = over_cells(ends)
    assert mean.cells == 3 and mean.value == pytest.approx(1.5, abs=0.01)  # the third says nothing
    assert over_cells(ends[:2]) is None and over_cells(ends[:0]) is None
    printed = ends.assign(low=float("nan"), high=float("nan"))
    mean = over_cells(printed)  # the t interval of the three numbers
    half = 4.302653 * printed["value"].std() / 3**0.5
    assert [mean.value, mean.high - mean.value] == pytest.approx([4.0, half], rel=1e-3)
    one_seed = ends.assign(low=[0.9, float("nan"), float("nan")])
    assert over_cells(one_seed) is None
