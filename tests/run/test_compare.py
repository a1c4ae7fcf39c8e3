"""Two folders of results are compared exactly, but for times, places and versions."""

import json
from pathlib import Path

import pytest

from kpnb.errors import KpnbError
from kpnb.metrics.results import Measure, Number, Results
from kpnb.run import compare


def results(**changed) -> Results:
    place = {"layer": "FC1", "network": "VGG-11", "scale": "narrow", "dataset": "made up"}
    measure = Measure(**place, role="S", metric="n_fg", mean=1.5, n_samples=3, n_seeds=1)
    made = {"notebook": "image_cell", "preset": "smoke", "run": "a_run", "settings": {"epochs": 2}}
    made |= {"provenance": {"cpu": "one"}, "fingerprint": "0", "measures": [measure]}
    made |= {"seconds": 1.0, "peak_memory_mb": 1.0}
    return Results(**made | changed)


def file(folder: Path, content: Results, name: str = "smoke/cells/a_run.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content.model_dump()), encoding="utf-8")
    return folder


def test_time_place_and_version_do_not_count(tmp_path, capsys):
    cost = {"train_s": Number(value=3.0, what="training", unit="s")}
    other = results(seconds=9.0, provenance={"cpu": "two"}, fingerprint="1", numbers=cost)
    slower = cost | {"train_s": Number(value=4.0, what="training", unit="s")}
    places = file(tmp_path / "a", other), file(tmp_path / "b", results(numbers=slower))
    assert compare.main([str(place) for place in places]) == 0
    assert capsys.readouterr().out == "1 results file: every number is equal\n"


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"settings": {"epochs": 3}}, ".settings.epochs: 2, 3"),
        ({"settings": {}}, ".settings.epochs: 2, '(missing)'"),
        ({"measures": []}, ".measures: 1 entries, 0 entries"),
        ({"measures": [results().measures[0].model_copy(update={"mean": 1.5 + 2**-52})]}, ".mean:"),
        ({"notes": ["word"]}, ".notes: 0 entries, 1 entries"),
        ({"numbers": {"n": Number(value=1.0, what="x", unit="nats")}}, ".numbers.n: '(missing)'"),
    ],
)
def test_a_difference_is_told_with_its_place(tmp_path, capsys, changed, told):
    first, second = file(tmp_path / "a", results()), file(tmp_path / "b", results(**changed))
    assert compare.main([str(first), str(second)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("smoke/cells/a_run.json.") and told in line


def test_a_file_in_one_folder_alone_is_a_difference(tmp_path):
    first, second = file(tmp_path / "a", results()), file(tmp_path / "b", results())
    file(second, results(run=""), "smoke/image_cell.json")
    assert compare.differences(first, second) == [f"smoke/image_cell.json: only in {second}"]
    assert compare.differences(second, first) == [f"smoke/image_cell.json: only in {second}"]


def test_an_empty_or_missing_folder_and_a_damaged_file_are_mistakes(tmp_path, capsys):
    good, empty = file(tmp_path / "a", results()), tmp_path / "empty"
    empty.mkdir()
    for wrong in (empty, tmp_path / "none", good / "smoke/cells/a_run.json"):
        with pytest.raises(KpnbError, match="name"):
            compare.differences(good, wrong)
    cut = file(tmp_path / "cut", results()) / "smoke/cells/a_run.json"
    cut.write_text(cut.read_text()[:-9])
    assert compare.main([str(good), str(tmp_path / "cut")]) == 2
    assert "damaged" in capsys.readouterr().err
