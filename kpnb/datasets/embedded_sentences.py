"""Embedded sentences: real movie reviews with human ratings, small enough to ship.

They stand in for the paper's sentiment data (Section 4), whose sentences come from the same review
site. A sentence's label is the sign of its mean rating, where the rating is large enough for the
raters to have agreed on a direction.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from kpnb.datasets._packed_text import PACKED_SHA256, packed_sentences, packed_words
from kpnb.datasets.image_samples import require_int
from kpnb.errors import KpnbError

__all__ = ["LICENCES", "Sentences", "embedded_sentences", "sentences_hash", "sentiment_words"]

SPLITS = ("train", "test")
RATINGS = (0.5, 4.0)  # the packed sentences begin at 0.5, the scale ends at 4
TEST_SHARE = 0.2
SHARED_WORDS = 8  # a run of so many equal words keeps two sentences on one side of the split

LICENCES = (
    dict(
        part="ratings and words",
        source="PyPI vaderSentiment",
        version="3.3.2",
        licence="MIT",
        what="mean human ratings, Hutto and Gilbert, ICWSM 2014",
    ),
    dict(
        part="sentences",
        source="PyPI vaderSentiment",
        version="3.3.2",
        licence="of their authors; passed on as research data",
        what="sentences of movie reviews from Rotten Tomatoes, Pang and Lee, ACL 2005",
    ),
)


@dataclass(frozen=True)
class Sentences:
    """Sentences with a human rating.

    texts: n sentences; labels: (n,) int64, 1 = positive, an index into `class_names`
    ratings: (n,) float32, the mean of about 20 ratings from -4 to 4
    source: what the sentences are, JSON-able, for provenance and fingerprints: dataset, split,
        seed, count, least_rating, classes, data (hash) and parts, one entry for each time a part
        was taken
    """

    texts: tuple[str, ...]
    labels: Tensor
    ratings: Tensor
    source: dict
    class_names: tuple[str, ...] = ("negative", "positive")

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, index: Sequence[int]) -> Sentences:
        """The sentences at positions `index`; KpnbError for none or one out of range."""
        chosen = [int(position) for position in index]
        if not chosen or not all(0 <= position < len(self) for position in chosen):
            raise KpnbError(
                f"The index fits no part of {len(self)} sentences: give positions from 0 to "
                f"{len(self) - 1}, at least one."
            )
        digest = hashlib.sha256(repr(chosen).encode()).hexdigest()
        note = {"subset": len(chosen), "positions": digest}
        return replace(
            self,
            texts=tuple(self.texts[position] for position in chosen),
            labels=self.labels[chosen],
            ratings=self.ratings[chosen],
            source={**self.source, "parts": [*self.source["parts"], note]},
        )


def embedded_sentences(
    split: str = "train", least_rating: float = 1.0, count: int | None = None, seed: int = 0
) -> Sentences:
    """The sentences of one split whose mean rating is at least `least_rating` from 0.

    split: "train" or "test", about 80 to 20 and the same for every seed. Sentences that share a
        run of 8 words are on one side.
    least_rating: 0.5 to 4; 1.0 by default (ours), which leaves out the mixed verdicts.
    count: how many; None is all. seed: of the order, so that the first `count` are a random part;
        fewer are a prefix of more.

    Raises `KpnbError` for an argument outside these ranges, more sentences than there are, and
    damaged packed data.
    """
    if split not in SPLITS:
        raise KpnbError(f"split is {split!r}: give 'train' or 'test'.")
    if not RATINGS[0] <= least_rating <= RATINGS[1]:
        raise KpnbError(f"least_rating is {least_rating}: give a rating from 0.5 to 4.")
    require_int("seed", seed, 0)
    held = _held_out()
    found = [
        (rating, text)
        for position, (rating, text) in enumerate(packed_sentences())
        if abs(rating) >= least_rating and (position in held) == (split == "test")
    ]
    found.sort(key=lambda item: _digest(f"{seed}/{item[1]}"))
    if count is not None:
        require_int("count", count, 1, len(found))
        found = found[:count]
    return _sentences(found, dict(split=split, seed=int(seed), least_rating=float(least_rating)))


def _sentences(found: list[tuple[float, str]], asked: dict) -> Sentences:
    if not found:
        raise KpnbError(f"No sentence is rated {asked['least_rating']} or more: ask for less.")
    ratings = torch.tensor([rating for rating, _ in found])
    classes = list(Sentences.class_names)
    source = dict(dataset="embedded-sentences", **asked, count=len(found), classes=classes)
    source |= dict(data=sentences_hash(), parts=[])
    texts = tuple(text for _, text in found)
    return Sentences(texts, (ratings > 0).long(), ratings, source)


def sentences_hash() -> str:
    """SHA-256 over the packed contents' own SHA-256, which loading verifies."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(PACKED_SHA256.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def sentiment_words() -> dict[str, float]:
    """Lower-case English words with their mean rating from -4 to 4."""
    return dict(packed_words())


# The split


@cache
def _held_out() -> frozenset[int]:
    """Positions of the test sentences: those of the groups whose hash is small."""
    texts = [text for _, text in packed_sentences()]
    bound = int(TEST_SHARE * 2**32)
    small = [int.from_bytes(_digest(text)[:4]) < bound for text in texts]
    return frozenset(i for i, first in enumerate(groups(texts)) if small[first])


def groups(texts: Sequence[str]) -> list[int]:
    """For each text the position of the first text of its group.

    Texts belong together when they are equal but for case and punctuation, or share a run of
    SHARED_WORDS words, or through others.
    """
    leader = list(range(len(texts)))

    def find(position: int) -> int:
        while leader[position] != position:
            position = leader[position]
        return position

    first: dict[tuple[str, ...], int] = {}
    for position, text in enumerate(texts):
        for run in _runs(text):
            ends = sorted((find(first.setdefault(run, position)), find(position)))
            leader[ends[1]] = ends[0]
    return [find(position) for position in range(len(texts))]


def _runs(text: str) -> list[tuple[str, ...]]:
    """Every run of SHARED_WORDS words, and the whole text, which a short one has only."""
    words = tuple(re.findall(r"\w+", text.lower()))
    starts = range(len(words) - SHARED_WORDS + 1)
    return [words, *(words[start : start + SHARED_WORDS] for start in starts)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
