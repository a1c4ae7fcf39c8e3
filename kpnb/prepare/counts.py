"""Whether a copy of a data set is complete, by the counts that its release is known to have."""

from __future__ import annotations

from collections.abc import Mapping

from kpnb.errors import KpnbError


def check_counts(
    dataset: str, found: Mapping[str, int], expected: Mapping[str, int], partial: bool
) -> dict:
    """`found` and `expected` side by side, for `ObjectSet.about`.

    Raises `KpnbError` for the first count that differs, unless `partial`.
    """
    wrong = [what for what, count in expected.items() if found.get(what, 0) != count]
    if wrong and not partial:
        raise KpnbError(
            f"{dataset} has {found.get(wrong[0], 0):,} {wrong[0]} here, the complete release has "
            f"{expected[wrong[0]]:,}: unpack it again, or accept an incomplete copy (--partial)."
        )
    return {"found": dict(found), "release": dict(expected), "complete": not wrong}
