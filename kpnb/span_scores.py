"""How well predicted answers match the accepted ones: exact match and F1 as SQuAD v1.1 defines.

Both compare normalized texts and take the best of a question's accepted answers (Rajpurkar et al.,
EMNLP 2016, Section 6.1).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from kpnb.errors import KpnbError

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and the articles a, an, the.

    Runs of white space become one space. Punctuation goes first and leaves no gap: "U.S.A." is
    "usa", and the article in "a-priori" stays, as part of "apriori".
    """
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def exact_match(prediction: str, accepted: Sequence[str]) -> float:
    """1.0 where the normalized prediction equals a normalized accepted answer, else 0.0.

    Raises `KpnbError` when no answer is accepted.
    """
    return _best(lambda p, a: float(p == a), prediction, accepted)


def f1(prediction: str, accepted: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, the best over the accepted answers.

    Words are those of the normalized texts, counted as often as they occur in both. Without a
    common word it is 0, also where both texts are empty, as in SQuAD v1.1.
    Raises `KpnbError` when no answer is accepted.
    """
    return _best(_word_f1, prediction, accepted)


def span_scores(predictions: Sequence[str], accepted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Means over n questions, from 0 to 1: {"exact_match": ..., "f1": ...}.

    predictions: n texts; accepted: n lists of accepted texts, such as `Questions.answer_texts`.
    Raises `KpnbError` for lists that are empty or differ in length.
    """
    if not len(predictions) or len(predictions) != len(accepted):
        raise KpnbError(
            f"There are {len(predictions)} predictions for {len(accepted)} questions: give one "
            "prediction for each question, at least one."
        )
    pairs = list(zip(predictions, accepted, strict=True))
    scores = {"exact_match": exact_match, "f1": f1}
    return {
        name: sum(score(*pair) for pair in pairs) / len(pairs) for name, score in scores.items()
    }


def _word_f1(prediction: str, answer: str) -> float:
    found, wanted = prediction.split(), answer.split()
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted)) if common else 0.0


def _best(score: Callable[[str, str], float], prediction: str, accepted: Sequence[str]) -> float:
    if isinstance(accepted, str) or not len(accepted):
        raise KpnbError("A prediction needs a list of accepted answers: give at least one text.")
    normalized = normalize_answer(prediction)
    return max(score(normalized, normalize_answer(answer)) for answer in accepted)
