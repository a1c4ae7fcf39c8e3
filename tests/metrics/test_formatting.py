"""Numbers, tables and verdicts as they stand in pages."""

import re

import pytest

from kpnb.metrics.formatting import (
    VERDICT_MARKS,
    count,
    interval,
    number,
    signed,
    table,
    verdict_sentence,
)
from kpnb.metrics.stats import VERDICTS


def test_numbers_signs_intervals_counts_and_a_table_keep_their_shape():
    values = (23.14, 0.614, 0.0082, 142807.0, 99.99, 99.94, -1.5, 0.0, 4.0)
    texts = ("23.1", "0.61", "0.0082", "142807", "100", "99.9", "−1.50", "0", "4.00")
    assert tuple(number(value) for value in values) == texts
    assert signed(4.1) == "+4.10" and signed(-4.1) == "−4.10" and signed(0.0) == "0"
    assert interval(None, None) == "" and interval(1.0, 2.0) == " [1.00, 2.00]"
    assert count(1, "seed") == "1 seed" and count(3, "seed") == "3 seeds"
    assert re.fullmatch(r"\| a \|\n\| --- \|\n\| x\\\|y \|", table(["a"], [["x|y"]]))
    with pytest.raises(ValueError, match="2 cells"):
        table(["a"], [["x", "y"]])


YES, NO, SAME, OPEN, ONE, NONE = VERDICTS
ANSWERS = {
    "Yes": [(YES,), (YES, NONE)], "In part": [(YES, OPEN), (SAME, YES), (ONE, YES)],
    "No: nothing": [(NO,), (NO, OPEN), (SAME, NO)], "No: there is no": [(SAME,), (SAME, OPEN)],
    "Undecided": [(OPEN,), (OPEN, NONE)], "No verdict": [(ONE,), (NONE, ONE)],
    "No clear answer": [(YES, NO), (OPEN, NO, YES)], "Not measurable": [(NONE,)],
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_may_be_no_and_counts_its_verdicts(answer):
    for verdicts in ANSWERS[answer]:
        told = verdict_sentence([*verdicts, verdicts[0]], "layer")
        assert told.startswith(f"**{answer}") and f"Of {len(verdicts) + 1} layers: " in told
        assert f"2 {verdicts[0]}" in told and all(f"1 {other}" in told for other in verdicts[1:])
    assert set(VERDICT_MARKS) == {*VERDICTS} and len({*VERDICT_MARKS.values()}) == len(VERDICTS)
