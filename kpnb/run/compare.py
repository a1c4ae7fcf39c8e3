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

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import count
from kpnb.metrics.results import Results

#: What says where and when numbers were computed, not which: left out of the comparison.
#: The fingerprint is over code and versions, of which the numbers may well be independent.
LEFT_OUT = ("provenance", "seconds", "peak_memory_mb", "fingerprint")
#: Numbers in these units are times, memory and speeds of the machine.
MACHINE_UNITS = ("s", "MB", "GFLOP/s")


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
        found = _unlike(_content(ours[name]), _content(theirs[name]), "")
        lines += [f"{name}{line}" for line in found]
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
        content = Results.model_validate_json(file.read_text(encoding="utf-8")).model_dump()
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise KpnbError(f"{file} is no results file or is damaged: make it again.") from error
    numbers = content["numbers"].items()
    content["numbers"] = {k: v for k, v in numbers if v["unit"] not in MACHINE_UNITS}
    return {name: value for name, value in content.items() if name not in LEFT_OUT}


def _unlike(ours: object, theirs: object, place: str) -> Iterator[str]:
    """One line for every leaf that is not equal, such as `.measures[3].mean: 1.5, 1.25`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            missing = "(missing)"
            yield from _unlike(
                ours.get(name, missing), theirs.get(name, missing), f"{place}.{name}"
            )
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            yield f"{place}: {len(ours)} entries, {len(theirs)} entries"
        else:
            for position, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                yield from _unlike(one, other, f"{place}[{position}]")
    elif ours != theirs:
        yield f"{place}: {ours!r}, {theirs!r}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    parser = argparse.ArgumentParser(
        prog="python -m kpnb.run.compare", description="Compare two folders of results."
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    given = parser.parse_args(arguments)
    try:
        found = differences(given.first, given.second)
        files = len(_files(given.first))
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    print("\n".join(found) or f"{count(files, 'results file')}: every number is equal")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
