"""Progress bars in a terminal or a live notebook, none where output is kept for a page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
# Set by kpnb.run for the kernel of an executed copy.
EXECUTED = "KPNB_EXECUTED_COPY"


def executed_copy() -> bool:
    """Whether this is the kernel of a notebook that kpnb.run executes into a copy."""
    return bool(os.environ.get(EXECUTED))


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The items, with a bar on a terminal or in a live notebook."""
    live = sys.stderr.isatty() or ("ipykernel" in sys.modules and not executed_copy())
    return iter(tqdm(items, desc=title, disable=not live, leave=False))
