"""Reading the text tables that data sets describe themselves with."""

from __future__ import annotations

import math
from pathlib import Path

from kpnb.errors import KpnbError

ADVICE = "unpack the data set again"


def rows(path: Path, columns: int, separator: str | None = None) -> list[list[str]]:
    """The lines of a table, each as its columns; empty lines are left out.

    separator: None for any space, of which the last column may hold more. Raises `KpnbError` for a
    file that is missing, empty or not text, and for a line with fewer columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise KpnbError(f"{path} is missing: {ADVICE}.") from None
    except (OSError, ValueError) as error:
        raise KpnbError(f"{path} cannot be read ({error}): {ADVICE}.") from error
    found = [line.strip().split(separator, columns - 1) for line in lines if line.strip()]
    if not found:
        raise KpnbError(f"{path} is empty: {ADVICE}.")
    for number, row in enumerate(found, 1):
        if len(row) != columns:
            raise KpnbError(
                f"{path} has {len(row)} of {columns} columns in row {number}: {ADVICE}."
            )
    return found


def keyed(path: Path, columns: int = 2, separator: str | None = None) -> dict[str, list[str]]:
    """`rows` by their first column, which must be unique; raises as `rows` does."""
    found = rows(path, columns, separator)
    table = {row[0]: row[1:] for row in found}
    if len(table) != len(found):
        raise KpnbError(f"{path} names something twice: {ADVICE}.")
    return table


def floats(path: Path, key: str, texts: list[str]) -> list[float]:
    """Finite numbers of the row `key`; KpnbError where one is not."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise KpnbError(f"{path} has no numbers for {key} but {' '.join(texts)!r}: {ADVICE}.")
    return values


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a table names, which must not leave `folder`."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise KpnbError(f"{name!r} is a path outside of {folder}: do not use this copy.")
    return folder / name
