"""Results files: what is written is read back, and what is wrong is refused with a reason."""

import json
import math
import os
from unittest.mock import Mock

import pytest
from made_results import comparison, full_run, measure
from pydantic import ValidationError
from refusals import fails

from kpnb.metrics.results import (
    Comparison,
    Measure,
    Number,
    available_results,
    read_results,
    results_path,
    results_root,
    write_results,
)

GIVEN = {"role": "S", "metric": "n_fg", "mean": 20.0}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def results(**changes):
    return full_run(numbers={"spearman": Number(value=0.9, what="rank", n=10)}, **changes)


def test_what_is_written_is_read_back():
    path = write_results(results())
    assert path == results_path("image_h1", "demo")
    assert read_results("image_h1", "demo") == results()
    write_results(results(seconds=1.0))
    assert read_results("image_h1", "demo").seconds == 1.0
    assert [p.name for p in path.parent.iterdir()] == ["image_h1.json"]


def test_a_write_that_fails_keeps_the_old_file(monkeypatch):
    path = write_results(results(seconds=61.5))
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    fails(write_results, "No space left", results(seconds=1.0))
    assert read_results("image_h1", "demo").seconds == 61.5
    assert [p.name for p in path.parent.iterdir()] == ["image_h1.json"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: bad} for name in ("mean", "low", "high") for bad in (math.nan, math.inf)),
        *({"metric": "nfg"}, {"role": "X"}, {"selection": "some"}, {"n_samples": 0}),
        {"n_seeds": 0},
        *({"low": 3.0, "high": 2.0}, {"low": None}, {"surprise": 1}, {"mean": "20"}),
    ],
)
def test_a_measure_that_makes_no_sense_fails(wrong):
    good = measure(**GIVEN)
    with pytest.raises(ValidationError):
        Measure(**good.model_dump() | wrong)


def test_results_that_json_cannot_hold_are_refused_and_records_are_frozen():
    with pytest.raises(ValidationError):
        results(seconds=math.nan)
    fails(write_results, "JSON", results(settings={"lr": math.inf}))
    with pytest.raises(ValidationError):
        measure(**GIVEN).mean = 1.0


@pytest.mark.parametrize("wrong", [{"low": -1.0}, {"prediction": "down"}])
def test_a_verdict_must_fit_its_interval(wrong):
    with pytest.raises(ValidationError, match="does not fit"):
        Comparison(**comparison("n_fg", 2.0, 6.0).model_dump() | wrong)


def test_missing_damaged_misplaced_results_and_names_that_leave_the_folder_are_told():
    run = r"python -m kpnb\.run image_h2 --preset study"
    fails(read_results, run, "image_h2", "study")
    path = write_results(results())
    whole, good = path.read_text(), json.loads(results().model_dump_json())
    path.with_name("image_h3.json").write_text(whole)
    fails(read_results, "holds image_h1", "image_h3", "demo")
    good["measures"][0]["mean"] = "much"
    for content, told in ((whole[:-40], "damaged"), (json.dumps(good), r"measures\.0\.mean")):
        path.write_text(content)
        fails(read_results, told, "image_h1", "demo")
    for name in ("../demo", "", "Image", "a/b"):
        fails(results_path, "no name", name, "demo")


def test_available_results_in_order_at_the_root_that_the_environment_names(root, monkeypatch):
    assert available_results("demo") == [] and results_root() == root
    for notebook in ("image_h2", "image_h1"):
        write_results(results(notebook=notebook))
    assert [r.notebook for r in available_results("demo")] == ["image_h1", "image_h2"]
    monkeypatch.delenv("KPNB_RESULTS")
    assert results_root().name == "results"
