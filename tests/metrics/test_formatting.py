"""Numbers, intervals and tables as the book writes them."""

import re

import pytest

from kpnb.metrics.formatting import interval, number, signed, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (23.14, "23.1"),
        (0.614, "0.61"),
        (0.0082, "0.0082"),
        (142807.0, "142807"),
        (99.99, "100"),
        (-1.5, "−1.50"),
        (0.0, "0"),
        (4.0, "4.00"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_signed_numbers_and_intervals():
    assert signed(4.1) == "+4.10" and signed(-4.1) == "−4.10" and signed(0.0) == "0"
    assert interval(None, None) == "" and interval(1.0, 2.0) == " [1.00, 2.00]"


def test_a_table_keeps_its_shape():
    assert re.fullmatch(r"\| a \|\n\| --- \|\n\| x\\\|y \|", table(["a"], [["x|y"]]))
    with pytest.raises(ValueError, match="2 cells"):
        table(["a"], [["x", "y"]])
