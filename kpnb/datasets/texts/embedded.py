"""Embedded sentences and questions, and what every data set of sentences or questions returns.

The sentences are real movie reviews with human ratings. They stand in for the paper's sentiment
data (Section 4), whose sentences come from the same review site. A sentence's label is the sign of
its mean rating, where the rating is large enough for the raters to have agreed on a direction.

The questions are about short passages and have the spans that answer them: spans of characters
[start, end) of the context, as in SQuAD v1.1 (Rajpurkar et al., EMNLP 2016), for which they stand
in, in its format. The passages are real dictionary glosses of people and places, and facts of
chemical elements; the questions come from about twenty templates, so they are far more regular than
those that people asked in SQuAD.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from kpnb.datasets import samples as data
from kpnb.datasets.texts.word_pieces import Span
from kpnb.errors import KpnbError, require

SENTENCES = "sentences.tsv.gz"
LEXICON = "lexicon.tsv.gz"
TEXT_SHA256 = {
    SENTENCES: "4e0d6260dfee3dc5d77963975e3f454f714ee3a7b045aae4cc6564d7d9c7df40",
    LEXICON: "6600ac149cd1d5089d04a379317f9fa74e6a09bbd32920aec29322c8bb88e2ac",
}


def packed_text(name: str) -> str:
    """The content of packed file `name`; raises as `packed_content` does."""
    return data.packed_content(name, TEXT_SHA256[name], "embedded_sentences").decode("utf-8")


@cache
def packed_sentences() -> tuple[tuple[float, str], ...]:
    """(mean rating, text) of every sentence, in the packed order."""
    rows = (line.split("\t", 1) for line in packed_text(SENTENCES).rstrip("\n").split("\n"))
    return tuple((float(rating), text) for rating, text in rows)


@cache
def sentiment_words() -> Mapping[str, float]:
    """Lower-case English words, sorted, with their mean rating from -4 to 4."""
    rows = (line.split("\t") for line in packed_text(LEXICON).rstrip("\n").split("\n"))
    return MappingProxyType({word: float(rating) for word, rating in rows})


QUESTIONS = {"train": "questions_train.json.gz", "test": "questions_test.json.gz"}
QUESTIONS_SHA256 = {
    "questions_train.json.gz": "e153c6513f1a2434eb171c64473a4d59790422816d72952527b7cae6143c8097",
    "questions_test.json.gz": "fae679341d456eb4b25c6a188dbd105c0b6b1a7c98aa2466f1f9871a3560e4bd",
}


def packed_document(split: str) -> dict:
    """The packed document of a split, in the format of SQuAD v1.1; raises as `packed_content`."""
    name = QUESTIONS[split]
    return json.loads(data.packed_content(name, QUESTIONS_SHA256[name], "embedded_questions"))


RATINGS = (0.5, 4.0)  # the packed sentences begin at 0.5, the scale ends at 4
TEST_SHARE = 0.2
SHARED_WORDS = 8  # a run of so many equal words keeps two sentences on one side of the split


def ordered(items: Sequence, texts: Sequence[str], count: int | None, seed: int) -> list:
    """The first `count` of the items (None: all) in an order by `seed` and the text of each.

    Fewer are a prefix of more, and a random part. Raises `KpnbError` for a seed that is no integer
    from 0 and a count that is not from 1 to the number of items.
    """
    data.require_int("seed", seed, 0)
    if count is not None:
        data.require_int("count", count, 1, len(items))
    digests = [_digest(f"{seed}/{text}") for text in texts]
    return [items[i] for i in sorted(range(len(items)), key=digests.__getitem__)][:count]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Sentences(data.LabeledSamples):
    """Sentences with a human rating.

    texts: n sentences; labels: (n,) int64, 1 = positive, an index into `class_names`
    ratings: (n,) float32, the mean of about 20 ratings from -4 to 4
    source: see `Samples`; with least_rating and classes
    """

    COLUMNS: ClassVar = ("texts", "labels", "ratings")
    texts: tuple[str, ...]
    labels: Tensor
    ratings: Tensor
    source: dict
    class_names: tuple[str, ...] = ("negative", "positive")


def embedded_sentences(
    split: str = "train", least_rating: float = 1.0, count: int | None = None, seed: int = 0
) -> Sentences:
    """The sentences of one split whose mean rating is at least `least_rating` from 0.

    split: "train" or "test", about 80 to 20 and the same for every seed. Sentences that share a
        run of 8 words are on one side.
    least_rating: 0.5 to 4; 1.0 by default (ours), which leaves out the mixed verdicts.
    count, seed: see `ordered`.

    Raises `KpnbError` for an argument outside these ranges, more sentences than there are, and
    damaged packed data.
    """
    data.require_split(split)
    if not RATINGS[0] <= least_rating <= RATINGS[1]:
        raise KpnbError(f"least_rating is {least_rating}: give a rating from 0.5 to 4.")
    held = _held_out()
    found = [
        (rating, text)
        for position, (rating, text) in enumerate(packed_sentences())
        if abs(rating) >= least_rating and (position in held) == (split == "test")
    ]
    require(found, f"No sentence is rated {least_rating} or more: ask for less.")
    found = ordered(found, [text for _, text in found], count, seed)
    ratings = torch.tensor([rating for rating, _ in found])
    texts = tuple(text for _, text in found)
    source = dict(dataset="embedded-sentences", split=split, seed=int(seed))
    source |= dict(least_rating=float(least_rating), count=len(found), parts=[])
    source |= dict(classes=list(Sentences.class_names), data=data.packed_hash(TEXT_SHA256))
    return Sentences(texts, (ratings > 0).long(), ratings, source)


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


VERSION = "1.1"


@dataclass(frozen=True)
class Questions(data.Samples):
    """Questions, each with its context and the spans of the context that answer it.

    questions, contexts, ids: n texts each; ids are unique
    answers: n tuples of accepted spans (start, end) in characters of the context, each span once;
        the first is the one to train on
    """

    COLUMNS: ClassVar = ("questions", "contexts", "answers", "ids")
    questions: tuple[str, ...]
    contexts: tuple[str, ...]
    answers: tuple[tuple[Span, ...], ...]
    ids: tuple[str, ...]
    source: dict

    @property
    def answer_texts(self) -> tuple[tuple[str, ...], ...]:
        """n tuples: the text of every accepted span, in the order of `answers`."""
        return tuple(
            tuple(context[start:end] for start, end in spans)
            for context, spans in zip(self.contexts, self.answers, strict=True)
        )


def drawn(questions: Questions, count: int | None, seed: int) -> Questions:
    """The questions in the order of `ordered` by their ids; adds seed and count to `source`."""
    chosen = torch.tensor(ordered(range(len(questions)), questions.ids, count, seed))
    return questions.taken(chosen, seed=int(seed), count=len(chosen))


def parse_squad(document: object, source: Mapping[str, object] | None = None) -> Questions:
    """The questions of a document in the format of SQuAD v1.1, in the document's order.

    document: what json.loads makes of the file: {"version": "1.1", "data": [{"paragraphs":
        [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]};
        answer_start counts characters. An accepted answer that is listed twice is kept once.
    source: entries for the result's `source`; dataset "squad" where it names none.

    Raises `KpnbError` for another version or layout, no question at all, an id used twice, a
    question without an answer, and an answer that is not found where answer_start says; it names
    the id.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise KpnbError(f"The questions are of version {version!r}: get those of SQuAD v{VERSION}.")
    rows = [
        (_part(qa, "question", f"question {name!r}", str), context, _spans(qa, context, name), name)
        for article in _part(document, "data", "the document", list)
        for paragraph in _part(article, "paragraphs", "an article", list)
        for context in [_part(paragraph, "context", "a paragraph", str)]
        for qa in _part(paragraph, "qas", "a paragraph", list)
        for name in [_part(qa, "id", "a question", str)]
    ]
    ids = tuple(row[3] for row in rows)
    require(rows, "The document holds no question: get the files of SQuAD v1.1.")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise KpnbError(f"Question {twice!r} is there twice: give every question its own id.")
    questions, contexts, answers, _ = zip(*rows, strict=True)
    source = {"dataset": "squad", "parts": [], "count": len(rows), **(source or {})}
    return Questions(questions, contexts, answers, ids, source)


def _part(owner: object, key: str, where: str, kind: type) -> Any:
    """Entry `key` of `owner`, a list, or a str with more than spaces in it."""
    found = owner.get(key) if isinstance(owner, dict) else None
    if not isinstance(found, kind) or (kind is str and not found.strip()):
        name = "text" if kind is str else "list"
        raise KpnbError(f"There is no {name} {key!r} in {where}: give the layout of SQuAD v1.1.")
    return found


def _spans(qa: dict, context: str, name: str) -> tuple[Span, ...]:
    """The accepted spans of one question, each once, checked against the context."""
    where = f"question {name!r}"
    spans = []
    for answer in _part(qa, "answers", where, list):
        text, start = _part(answer, "text", where, str), answer.get("answer_start")
        found = isinstance(start, int) and not isinstance(start, bool) and start >= 0
        told = f"The answer {text!r} of {where} does not stand at {start!r} in its context"
        stands = found and context[start : start + len(text)] == text
        require(stands, f"{told}: correct answer_start or leave the question out.")
        spans.append((start, start + len(text)))
    require(spans, f"There is no answer to {where}: leave the question out.")
    return tuple(dict.fromkeys(spans))


def embedded_questions(split: str = "train", count: int | None = None, seed: int = 0) -> Questions:
    """The questions of one split.

    split: "train" or "test", about 80 to 20 and the same for every seed. An entity's sentence and
        the questions about it are on one side. A context has two sentences, each about one entity
        of the same group, and at most two questions.
    count, seed: see `ordered`.

    An id is split-kind-number; kinds are born, died, who, where, capital and so on.
    Raises `KpnbError` for an argument outside these ranges, more questions than there are, and
    damaged packed data.
    """
    data.require_split(split)
    return drawn(_questions(split), count, seed)


@cache
def _questions(split: str) -> Questions:
    source = dict(
        dataset="embedded-questions", split=split, data=data.packed_hash(QUESTIONS_SHA256)
    )
    return parse_squad(packed_document(split), source)
