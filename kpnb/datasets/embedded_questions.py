"""Embedded questions: short passages from dictionary glosses, small enough to ship.

They stand in for the paper's question-answering data, SQuAD (Section 4), in its format. The
sentences are real glosses of people and places, and facts of chemical elements; the questions come
from about twenty templates, so they are far more regular than those that people asked in SQuAD.
"""

from __future__ import annotations

import hashlib
from functools import cache

from kpnb.datasets._packed_questions import PACKED_SHA256, QUESTIONS, packed_document
from kpnb.datasets.questions import Questions, drawn, parse_squad
from kpnb.errors import KpnbError

__all__ = ["LICENCES", "Questions", "embedded_questions", "questions_hash"]

LICENCES = (
    dict(
        part="people, places and natural objects",
        source="Debian wordnet-base",
        version="3.0-37",
        licence="WordNet 3.0 licence",
        what="glosses of WordNet 3.0, Princeton University, reworded to sentences",
    ),
    dict(
        part="chemical elements",
        source="PyPI mendeleev",
        version="1.3.0",
        licence="MIT",
        what="symbol, number, discoverer, place and year, Lukasz Mentel",
    ),
)


def embedded_questions(split: str = "train", count: int | None = None, seed: int = 0) -> Questions:
    """The questions of one split.

    split: "train" or "test", about 80 to 20 and the same for every seed. An entity's sentence and
        the questions about it are on one side. A context has two sentences, each about one entity
        of the same group, and at most two questions.
    count: how many; None is all. seed: of the order, so that the first `count` are a random part;
        fewer are a prefix of more.

    An id is split-kind-number; kinds are born, died, who, where, capital and so on.
    Raises `KpnbError` for an argument outside these ranges, more questions than there are, and
    damaged packed data.
    """
    if split not in QUESTIONS:
        raise KpnbError(f"split is {split!r}: give 'train' or 'test'.")
    return drawn(_all(split), count, seed)


@cache
def _all(split: str) -> Questions:
    source = dict(dataset="embedded-questions", split=split, data=questions_hash())
    return parse_squad(packed_document(split), source)


def questions_hash() -> str:
    """SHA-256 over the packed contents' own SHA-256, which loading verifies."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(PACKED_SHA256.items()))
    return hashlib.sha256(text.encode()).hexdigest()
