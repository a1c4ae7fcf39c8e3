"""Panels: rows as equal as can be, and which units of a sample are marked as what."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from kpnb.figures.panel import in_rows, marked_fates, marked_points
from kpnb.metrics.points import knowledge_points


def points(*kept: int):
    """Of one sample with three foreground units of five: knowledge points at these, b = 0.2."""
    entropy = torch.zeros(1, 5)
    entropy[0, list(kept)] = -1.0
    return knowledge_points(entropy, torch.arange(5)[None] < 3, 0.2)


def units(marked):
    return [held.nonzero()[0].tolist() for held, _ in marked.kinds]


@given(st.integers(1, 40), st.integers(1, 7))
def test_rows_hold_all_in_order_and_differ_little(count, columns):
    rows = in_rows(range(count), columns)
    assert sum(rows, []) == list(range(count))
    assert max(map(len, rows)) <= columns and len(rows) == -(-count // columns)
    # All but the last are equal, and no fewer columns would do in as many rows.
    assert len({len(row) for row in rows[:-1]} | {len(rows[0])}) == 1
    assert (len(rows[0]) - 1) * len(rows) < count


def test_units_are_marked_by_kind_and_by_what_came_before_and_after():
    marked = marked_points(points(0, 3), 0, "student")
    assert units(marked) == [[0], [3]]  # inside, outside
    assert marked.title.startswith("student: ") and marked.counts == {"fg": 1, "bg": 1}
    trail = {1: points(0, 1), 2: points(1, 2), 3: points(1)}
    # lasting, dropped later, dropped before
    assert units(marked_fates(trail, 0, 2)) == [[1], [2], [0]]
    assert units(marked_fates(trail, 0, 1)) == [[1], [0], []]
