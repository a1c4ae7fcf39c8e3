"""Exact match and F1 against cases worked by hand after SQuAD v1.1's definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpnb.errors import KpnbError
from kpnb.study.scores import exact_match, f1, normalize_answer, span_scores


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  U.S.A.\n", "usa"),
        ("an apple a day", "apple day"),
        ("a-priori, theatre", "apriori theatre"),
        ("Theodore's", "theodores"),
        ("a", ""),
        ("14,804 feet", "14804 feet"),
        ("MÜNCHEN – the city", "münchen – city"),  # only ASCII punctuation goes
        ("the-cat", "thecat"),
        ("", ""),
    ],
)
def test_normalized(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "accepted", "exact", "overlap"),
    [
        ("the Black Sea", ["Black Sea."], 1, 1),
        ("Sea, Black", ["Black Sea"], 0, 1),  # the order of words counts for EM alone
        ("Black", ["Black Sea"], 0, 2 / 3),  # P 1, R 1/2
        ("large Black Sea coast", ["the Black Sea"], 0, 2 / 3),  # P 1/2, R 1
        ("red red wine", ["red wine wine glass"], 0, 4 / 7),  # common: red, wine
        ("Rhone", ["the Rhine", "Rhone River", "the Rhone"], 1, 1),
        ("Rhone", ["the Rhine", "Rhone River"], 0, 2 / 3),
        ("Paris", ["London"], 0, 0),
        ("", ["London"], 0, 0),
        ("a", ["the"], 1, 0),  # both empty: equal, but no common word
    ],
)
def test_scores(prediction, accepted, exact, overlap):
    assert exact_match(prediction, accepted) == exact
    assert f1(prediction, accepted) == pytest.approx(overlap, abs=1e-12)


def test_means_over_questions():
    scores = span_scores(("Black", "The Rhone", "x"), (("Black Sea",), ("Rhine", "Rhone"), ("y",)))
    assert list(scores) == ["exact_match", "f1"]
    assert scores["exact_match"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


words = st.lists(st.sampled_from(["red", "wine", "old", "12", "ö"]), min_size=1, max_size=5)


@given(words, words)
def test_f1_is_symmetric_and_counts_what_is_left_over(first, second):
    """F1 = 1 - (words left over in either bag) / (words in both bags)."""
    rest, left = list(second), 0
    for word in first:
        if word in rest:
            rest.remove(word)
        else:
            left += 1
    expected = 1 - (left + len(rest)) / (len(first) + len(second))
    one, other = " ".join(first), " ".join(second)
    assert f1(one, [other]) == pytest.approx(expected, abs=1e-12) == f1(other, [one])
    assert (f1(one, [other]) == 1) == (sorted(first) == sorted(second))
    assert exact_match(one, [other]) == (first == second)


@pytest.mark.parametrize("call", [exact_match, f1])
@pytest.mark.parametrize("accepted", [[], "Black Sea"])
def test_no_list_of_accepted_answers(call, accepted):
    with pytest.raises(KpnbError, match="list of accepted answers"):
        call("Black Sea", accepted)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (1, 2), (2, 1)])
def test_predictions_and_questions_must_match(n, m):
    with pytest.raises(KpnbError, match=f"{n} predictions for {m} questions"):
        span_scores(["x"] * n, [["x"]] * m)
