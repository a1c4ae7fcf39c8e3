"""A few trials of each quick part of the reliability campaign, and its state and results."""

import json

import pytest

from kpnb.metrics.results import read_results
from tests.check.reliability.__main__ import PARTS, main

QUICK = [part for part in PARTS if part not in ("damaged", "together", "killed")]


@pytest.mark.parametrize("part", QUICK)
def test_trials_are_the_same_again_and_are_not_done_twice(part, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    states = []
    for work in ("one", "two"):
        asked = ["--parts", part, "--work", str(tmp_path / work), "--most", "4"]
        assert main(asked) == 0 == main([*asked, "--results"])
        states.append(json.loads((tmp_path / work / "state.json").read_text())["parts"][part])
        assert len(states[-1]["trials"]) == 4
    first, again = (
        {number: found[:2] for number, found in one["trials"].items()} for one in states
    )
    assert first == again
    numbers = read_results("reliability", "study").numbers
    waiting = "not run yet"  # what is planned and not done is told, too
    assert sum(one.value for name, one in numbers.items() if not name.endswith(waiting)) == 4
    assert all(not found.value for name, found in numbers.items() if name.endswith(": wrong"))


def test_what_goes_wrong_is_counted_and_ends_the_campaign_with_1(tmp_path, monkeypatch, capsys):
    class Broken:
        def __init__(self, work):
            self.work = work

        def trial(self, number, random):
            if number == 1:
                raise OSError("odd")
            return "a thing", "harmless", ""

    monkeypatch.setitem(PARTS, "full", (Broken, 3, "tried"))
    assert main(["--parts", "full", "--work", str(tmp_path)]) == 1
    assert "full 1: full: wrong: OSError in test_reliability.py" in capsys.readouterr().out
