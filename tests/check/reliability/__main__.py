"""The reliability campaign: `python -m tests.check.reliability --work FOLDER`.

Trials that damage, kill, crowd and mislead, counted by what came of them. A trial is the same
whenever it is run: it is decided by the seed, its part and its number. The state is kept in
FOLDER/state.json after each trial, so that a campaign that was stopped goes on; --results files
what it counted where the book reads it.
"""

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from kpnb.fingerprint import provenance
from kpnb.metrics.results import Number, Results, measured, write_results, write_whole
from tests.check.reliability import crowded, damaged, disk, hostile, killed, mistaken

NAME = "reliability"
#: Part -> what tries it, how many trials (None: each case once), and what is done in one.
PARTS = {
    "damaged": (damaged.Damaged, 1000, "one byte flipped, a file cut off or deleted"),
    "mistaken": (mistaken.Mistaken, None, "a parameter of a notebook passed wrongly"),
    "full": (
        disk.Full,
        None,
        "from one write on, each in turn, the disk is full; then a second run",
    ),
    "clock": (disk.Clock, 20, "the clock goes backwards and files have any time; a second run"),
    "shared": (crowded.Shared, 40, "processes that compute the same at once, in half one killed"),
    "hostile": (hostile.Hostile, None, "an archive that reaches outside, or holds too much"),
    "together": (killed.Together, 2, "make's loop over two notebooks at smoke"),
    "killed": (killed.Killed, 40, "kill -9 at a random moment, then make's loop once more"),
}
EVERY = 2.0  # seconds between writes of the state


class State:
    """What came of each trial so far, in one file that is whole at any time."""

    def __init__(self, file: Path, seed: int) -> None:
        self.file, self.seed, self.written = file, seed, time.monotonic()
        known = json.loads(file.read_text()) if file.exists() else {"seed": seed, "parts": {}}
        if known["seed"] != seed:
            raise SystemExit(f"{file} is of seed {known['seed']}: give that, or another folder.")
        self.parts: dict[str, dict] = known["parts"]

    def of(self, part: str) -> dict:
        return self.parts.setdefault(part, {"trials": {}, "commits": [], "seconds": 0.0})

    def write(self, now: bool = True) -> None:
        if now or time.monotonic() - self.written > EVERY:
            text = json.dumps({"seed": self.seed, "parts": self.parts}, indent=1)
            write_whole(self.file, text)
            self.written = time.monotonic()


def at_commit() -> str:
    """The commit that is checked out, and whether something has been changed since."""
    about = provenance()
    return f"{about.get('commit')}{' with changes' if about.get('dirty') else ''}"


def run(part: str, work: Path, state: State, most: int | None = None) -> None:
    """The part's trials that are still to be done; at most so many of all its trials."""
    made, count, _ = PARTS[part]
    known, here = state.of(part), at_commit()
    if known["commits"] not in ([], [here]):  # its trials were others
        known |= {"trials": {}, "commits": [], "seconds": 0.0}
    if count and len(known["trials"]) >= min(count, most or count):
        return
    (work / part).mkdir(parents=True, exist_ok=True)
    tried = made(work / part if made.__module__ != killed.__name__ else work)
    for number in range(min(count or len(tried), most or sys.maxsize)):
        if str(number) in known["trials"]:
            continue
        started = time.monotonic()
        known["trials"][str(number)] = found = _tried(tried, part, number, state.seed)
        known["seconds"] += time.monotonic() - started
        known["commits"] = sorted({*known["commits"], here})
        state.write(now=time.monotonic() - started > EVERY)
        if found[1] == "wrong":
            print(f"{part} {number}: {': '.join(found)}", flush=True)
    state.write()


def _tried(tried: object, part: str, number: int, seed: int) -> list[str]:
    try:
        return list(tried.trial(number, Random(f"{seed} {part} {number}")))
    except Exception as error:  # what nobody has thought of is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {error}"
        return [part, "wrong", told]


def counted(state: State) -> dict[str, Number]:
    """ "what was tried: what came of it" -> how often, of how many; "wrong" always."""
    numbers = {}
    for part, (_, count, told) in PARTS.items():
        left = (count or 1) - len(state.of(part)["trials"])
        if left > 0:
            n = Number(value=left, n=count or 1, what=told, unit="trials")
            numbers[f"{part}: not run yet"] = n
        found = Counter((label, came) for label, came, _ in state.of(part)["trials"].values())
        for label in sorted({label for label, _ in found}):
            n = sum(times for (of, _), times in found.items() if of == label)
            for came in sorted({came for of, came in found if of == label} | {"wrong"}):
                value = float(found[label, came])
                numbers[f"{label}: {came}"] = Number(value=value, n=n, what=told, unit="trials")
    return numbers


def results(state: State) -> Results:
    """As a results file. Its code is the store's: what else it tries is told by the commits."""
    made = measured(NAME, {"seed": state.seed}, ["Store"], lambda: counted(state))
    parts = {name: part["commits"] for name, part in state.parts.items() if part["commits"]}
    notes = [f"{name}: at {', '.join(commits)}" for name, commits in parts.items()]
    seconds = sum(part["seconds"] for part in state.parts.values())
    return made.model_copy(update={"seconds": seconds, "notes": notes})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m tests.check.{NAME}", description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, required=True, metavar="FOLDER", help="state, copies of the clone")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--seed", type=int, default=0)
    add("--most", type=int, help="of each part's trials, so many")
    add("--results", action="store_true", help="write the results file at the end")
    options = parser.parse_args(arguments)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    state = State(work / "state.json", options.seed)
    for part in options.parts:
        run(part, work, state, options.most)
    numbers = counted(state)
    for name, found in numbers.items():
        print(f"{name:60} {found.value:6.0f} of {found.n}")
    if options.results:
        print(write_results(results(state)))
    return int(any(name.endswith(": wrong") and found.value for name, found in numbers.items()))


if __name__ == "__main__":
    sys.exit(main())
