"""Two folders of results are compared exactly, but for times, places and versions."""

import json
from pathlib import Path

import made_results
import pytest

from kpnb.fingerprint import library_versions
from kpnb.metrics.results import CHANGED, Number, Results, run_fingerprint, write_results
from kpnb.run.__main__ import main

NAME = "smoke/cells/a_run.json"


def results(**changed) -> Results:
    made = {"notebook": "image_cell", "preset": "smoke", "run": "a_run", "settings": {"epochs": 2}}
    made |= {"measures": [made_results.measure("S", "n_fg", 1.5)]}
    return made_results.run(**made | changed)


def folder(path: Path, content: Results, name: str = NAME) -> Path:
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(json.dumps(content.model_dump()), encoding="utf-8")
    return path


def number(value: float, unit: str) -> dict:
    return {"numbers": {"n": Number(value=value, what="x", unit=unit)}}


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"seconds": 9.0, "provenance": {"cpu": "two"}, "fingerprint": "1"}, ""),
        (number(3.0, "s"), ""),
        ({"settings": {"epochs": 3}}, '+settings: ["epochs", 3]'),
        ({"settings": {}}, '-settings: ["epochs", 2]'),
        ({"measures": [results().measures[0].model_copy(update={"mean": 1.5 + 2**-52})]}, "0002"),
        ({"measures": [results().measures[0]] * 2}, "+measures: {"),
        ({"notes": ["word"]}, '+notes: "word"'),
        (number(1.0, "nats"), '+numbers: ["n", {'),
    ],
)
def test_a_difference_is_told_with_its_place(tmp_path, capsys, changed, told):
    slow = results(**number(4.0, "s") if not told else {})
    places = folder(tmp_path / "a", slow), folder(tmp_path / "b", results(**changed))
    assert main(["--compare", *map(str, places)]) == int(bool(told))
    lines = capsys.readouterr().out.splitlines()
    assert told in "\n".join(lines) and (told or lines == ["1 results file: every number is equal"])
    heads = [f"--- {places[0] / NAME}", f"+++ {places[1] / NAME}"]
    assert not told or lines[:2] == heads


def test_a_file_in_one_folder_alone_is_a_difference_and_a_wrong_folder_a_mistake(tmp_path, capsys):
    first, second, cut = (folder(tmp_path / name, results()) for name in ("a", "b", "cut"))
    folder(second, results(run=""), "smoke/image_cell.json")
    for two in ((first, second), (second, first)):
        assert main(["--compare", *map(str, two)]) == 1
        assert capsys.readouterr().out == f"smoke/image_cell.json: only in {second}\n"
    (cut / NAME).write_text((cut / NAME).read_text()[:-9])
    (tmp_path / "empty").mkdir()
    wrong = dict.fromkeys((tmp_path / "empty", tmp_path / "none", first / NAME), "name")
    for path, told in (wrong | {cut: "damaged"}).items():
        assert main(["--compare", str(first), str(path)]) == 2
        assert told in capsys.readouterr().err


def test_the_status_of_results_fails_where_one_is_stale(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    fresh, where = run_fingerprint({}, ["published_table"]), {"code": ["published_table"]}
    for name, found, by in (("b", fresh, where), ("c", "2:0", {}), ("a", "2:0", where)):
        told = dict(notebook=name, preset="study", settings={}, provenance=by, fingerprint=found)
        write_results(made_results.run(**told))
        assert main(["--status", "study"]) == (name == "a")
    other = library_versions() | {"torch": "1.0"}
    told = where | {"versions": other | {"python": f"{other['python']}.99", "kpnb": "absent"}}
    found = run_fingerprint({}, ["published_table"], other)
    told = dict(notebook="d", preset="study", settings={}, provenance=told, fingerprint=found)
    write_results(made_results.run(**told))
    assert main(["--status", "study"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split(":")[1].strip() for line in lines] == ["stale", "fresh", "unknown"]
    assert last.startswith("d: other versions: torch 1.0, here ")
    write_results(made_results.run(**told | {"fingerprint": "3:0"}))  # by other code as well
    assert main(["--status", "study"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("d: stale: torch 1.0, here ") and last.endswith(f", and {CHANGED}")
