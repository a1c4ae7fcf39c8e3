"""Results files: what is written is read back, and what is wrong is refused with a reason."""

import json
import math
import os

import pytest
from pydantic import ValidationError

from kpnb.errors import KpnbError
from kpnb.metrics.results import (
    Comparison,
    Measure,
    Number,
    Results,
    available_results,
    read_results,
    results_path,
    results_root,
    write_results,
)

CELL = {"layer": "FC1", "network": "VGG-11", "scale": "narrow", "dataset": "embedded images"}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def measure(**changes):
    values = {"role": "S", "metric": "n_fg", "mean": 20.0, "n_samples": 60, "n_seeds": 3}
    return Measure(**{**CELL, **values, "low": 18.0, "high": 22.5, "threshold": 0.2, **changes})


def comparison(**changes):
    values = {"metric": "n_fg", "prediction": "up", "difference": 4.0, "low": 2.0, "high": 6.0}
    counts = {"n_samples": 60, "n_seeds": 3, "threshold": 0.2}
    return Comparison(**{**CELL, **values, **counts, "verdict": "reproduced", **changes})


def results(**changes):
    values = {"notebook": "image_h1", "preset": "demo", "provenance": {"torch": "2.14.1"}}
    values |= {"settings": {"threshold": 0.2, "layers": ["FC1"]}, "notes": ["one seed"]}
    values |= {"seconds": 61.5, "peak_memory_mb": 900.0, "fingerprint": "abc"}
    values |= {"measures": [measure()], "comparisons": [comparison()]}
    values["numbers"] = {"spearman": Number(value=0.9, what="rank correlation", n=10)}
    return Results(**values | changes)


def test_what_is_written_is_read_back():
    path = write_results(results())
    assert path == results_path("image_h1", "demo")
    assert read_results("image_h1", "demo") == results()
    write_results(results(seconds=1.0))
    assert read_results("image_h1", "demo").seconds == 1.0
    assert [p.name for p in path.parent.iterdir()] == ["image_h1.json"]


def test_a_write_that_fails_keeps_the_old_file(monkeypatch):
    write_results(results())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(KpnbError, match="No space left"):
        write_results(results(seconds=1.0))
    assert read_results("image_h1", "demo").seconds == 61.5
    assert [p.name for p in results_path("image_h1", "demo").parent.iterdir()] == ["image_h1.json"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: bad} for name in ("mean", "low", "high") for bad in (math.nan, math.inf)),
        *({"metric": "nfg"}, {"role": "X"}, {"selection": "some"}, {"n_samples": 0}),
        {"n_seeds": 0},
        *({"low": 3.0, "high": 2.0}, {"low": None}, {"surprise": 1}, {"mean": "20"}),
    ],
)
def test_a_measure_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        measure(**wrong)


def test_results_that_json_cannot_hold_are_refused_and_records_are_frozen():
    with pytest.raises(ValidationError):
        results(seconds=math.nan)
    with pytest.raises(KpnbError, match="JSON"):
        write_results(results(settings={"lr": math.inf}))
    with pytest.raises(ValidationError):
        measure().mean = 1.0


@pytest.mark.parametrize("wrong", [{"low": -1.0}, {"prediction": "down"}])
def test_a_verdict_must_fit_its_interval(wrong):
    with pytest.raises(ValidationError, match="does not fit"):
        comparison(**wrong)


def test_missing_damaged_and_misplaced_results_are_told():
    with pytest.raises(KpnbError, match=r"python -m kpnb\.run image_h2 --preset study"):
        read_results("image_h2", "study")
    path = write_results(results())
    whole, good = path.read_text(), json.loads(results().model_dump_json())
    path.with_name("image_h3.json").write_text(whole)
    with pytest.raises(KpnbError, match="holds image_h1"):
        read_results("image_h3", "demo")
    good["measures"][0]["mean"] = "much"
    for content, told in ((whole[:-40], "damaged"), (json.dumps(good), r"measures\.0\.mean")):
        path.write_text(content)
        with pytest.raises(KpnbError, match=told):
            read_results("image_h1", "demo")


@pytest.mark.parametrize("name", ["../demo", "", "Image", "a/b"])
def test_names_cannot_leave_the_folder(name):
    with pytest.raises(KpnbError, match="no name"):
        results_path(name, "demo")


def test_available_results_in_order_at_the_root_that_the_environment_names(root, monkeypatch):
    assert available_results("demo") == [] and results_root() == root
    for notebook in ("image_h2", "image_h1"):
        write_results(results(notebook=notebook))
    assert [r.notebook for r in available_results("demo")] == ["image_h1", "image_h2"]
    monkeypatch.delenv("KPNB_RESULTS")
    assert results_root().name == "results"
