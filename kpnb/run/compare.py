"""`python -m kpnb.run.compare A B`: whether two folders of results hold the same numbers.

For runs of one code in two places: on a cluster and on one machine, before and after a kill.
Exit codes: 0 the same, 1 something differs, 2 a folder or a file that cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from kpnb.errors import KpnbError, answered
from kpnb.metrics.formatting import count
from kpnb.metrics.results import Results

#: What says where and when numbers were computed, not which: left out of the comparison.
#: The fingerprint is over code and versions, of which the numbers may well be independent.
LEFT_OUT = {"provenance", "seconds", "peak_memory_mb", "fingerprint"}
#: Numbers in these units are times, memory and speeds of the machine.
MACHINE_UNITS = ("s", "MB", "GFLOP/s")
MISSING = "(missing)"


def differences(first: Path, second: Path) -> list[str]:
    """What differs between the results files of two folders, a line each; empty if nothing does.

    Arguments: folders as KPNB_RESULTS names them, or any folder within; files are matched by
        their paths below, and compared exactly: settings, measures with their intervals,
        comparisons with their verdicts, notes, numbers.
    Raises: KpnbError for a folder without results files, and for a damaged file.
    """
    ours, theirs = _files(first), _files(second)
    lines = [f"{name}: only in {first}" for name in sorted(ours.keys() - theirs.keys())]
    lines += [f"{name}: only in {second}" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = (dict(_leaves(_content(files[name]))) for files in (ours, theirs))
        for place in dict.fromkeys([*one, *other]):
            values = one.get(place, MISSING), other.get(place, MISSING)
            if values[0] != values[1]:
                lines.append(f"{name}{place}: {values[0]!r}, {values[1]!r}")
    return lines


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise KpnbError(f"{folder} is no folder: name two folders of results.")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.json")}
    if not files:
        raise KpnbError(f"There are no results files in {folder}: name a folder that holds some.")
    return files


def _content(file: Path) -> dict:
    """All of a results file that does not depend on the machine's speed."""
    try:
        results = Results.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise KpnbError(f"{file} is no results file or is damaged: make it again.") from error
    numbers = {n: v for n, v in results.numbers.items() if v.unit not in MACHINE_UNITS}
    return results.model_copy(update={"numbers": numbers}).model_dump(exclude=LEFT_OUT)


def _leaves(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Every value that holds no others, by its place, such as `.measures[3].mean`."""
    if isinstance(value, dict) and value:
        for name in sorted(value):
            yield from _leaves(value[name], f"{place}.{name}")
    elif isinstance(value, list | tuple) and value:
        for position, item in enumerate(value):
            yield from _leaves(item, f"{place}[{position}]")
    else:
        yield place, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    parser = argparse.ArgumentParser(
        prog="python -m kpnb.run.compare", description="Compare two folders of results."
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    given = parser.parse_args(arguments)

    def compare() -> int:
        found = differences(given.first, given.second)
        files = count(len(_files(given.first)), "results file")
        print("\n".join(found) or f"{files}: every number is equal")
        return int(bool(found))

    return answered(compare)


if __name__ == "__main__":
    sys.exit(main())
