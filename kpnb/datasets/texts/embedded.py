"""The packed sentences and words, checked and read in memory.

The packed questions, checked and read in memory.

Embedded sentences: real movie reviews with human ratings, small enough to ship.

They stand in for the paper's sentiment data (Section 4), whose sentences come from the same review
site. A sentence's label is the sign of its mean rating, where the rating is large enough for the
raters to have agreed on a direction.

Questions about passages, with the spans that answer them: what every question data set returns.

An answer is a span of characters [start, end) of its context, as in SQuAD v1.1 (Rajpurkar et al.,
EMNLP 2016), where each question has one or more accepted answers.

Embedded questions: short passages from dictionary glosses, small enough to ship.

They stand in for the paper's question-answering data, SQuAD (Section 4), in its format. The
sentences are real glosses of people and places, and facts of chemical elements; the questions come
from about twenty templates, so they are far more regular than those that people asked in SQuAD.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from kpnb.datasets.samples import require_int
from kpnb.datasets.texts.words import Span
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

SENTENCES = "sentences.tsv.gz"
LEXICON = "lexicon.tsv.gz"
# Of the content without gzip, whose bytes may differ from one zlib to the next.
TEXT_SHA256 = {
    SENTENCES: "4e0d6260dfee3dc5d77963975e3f454f714ee3a7b045aae4cc6564d7d9c7df40",
    LEXICON: "6600ac149cd1d5089d04a379317f9fa74e6a09bbd32920aec29322c8bb88e2ac",
}


def packed_text(name: str) -> str:
    """The content of packed file `name`, once its SHA-256 has been checked.

    Raises `KpnbError` when the packed file is missing or is not the one this code was made for.
    """
    try:
        content = gzip.decompress(packed_file(name).read_bytes())
    except (KpnbError, OSError, EOFError, zlib.error):  # missing, no gzip, cut off, damaged
        content = b""
    if hashlib.sha256(content).hexdigest() != TEXT_SHA256[name]:
        raise KpnbError(
            f"The packed data file {name} is missing or damaged: reinstall kpnb or "
            "rebuild it with data_prep/embedded_sentences.py."
        )
    return content.decode("utf-8")


@cache
def packed_sentences() -> tuple[tuple[float, str], ...]:
    """(mean rating, text) of every sentence, in the packed order."""
    rows = (line.split("\t", 1) for line in packed_text(SENTENCES).rstrip("\n").split("\n"))
    return tuple((float(rating), text) for rating, text in rows)


@cache
def packed_words() -> tuple[tuple[str, float], ...]:
    """(word, mean rating) of every word of the lexicon, sorted by word."""
    rows = (line.split("\t") for line in packed_text(LEXICON).rstrip("\n").split("\n"))
    return tuple((word, float(rating)) for word, rating in rows)


QUESTIONS = {"train": "questions_train.json.gz", "test": "questions_test.json.gz"}
# Of the content without gzip, whose bytes may differ from one zlib to the next.
QUESTIONS_SHA256 = {
    "questions_train.json.gz": "e153c6513f1a2434eb171c64473a4d59790422816d72952527b7cae6143c8097",
    "questions_test.json.gz": "fae679341d456eb4b25c6a188dbd105c0b6b1a7c98aa2466f1f9871a3560e4bd",
}


def packed_document(split: str) -> dict:
    """The packed document of a split, in the format of SQuAD v1.1, once its SHA-256 is checked.

    Raises `KpnbError` when the packed file is missing or is not the one this code was made for.
    """
    name = QUESTIONS[split]
    try:
        content = gzip.decompress(packed_file(name).read_bytes())
    except (KpnbError, OSError, EOFError, zlib.error):  # missing, no gzip, cut off, damaged
        content = b""
    if hashlib.sha256(content).hexdigest() != QUESTIONS_SHA256[name]:
        raise KpnbError(
            f"The packed data file {name} is missing or damaged: reinstall kpnb or "
            "rebuild it with data_prep/embedded_questions.py."
        )
    return json.loads(content)


SPLITS = ("train", "test")
RATINGS = (0.5, 4.0)  # the packed sentences begin at 0.5, the scale ends at 4
TEST_SHARE = 0.2
SHARED_WORDS = 8  # a run of so many equal words keeps two sentences on one side of the split

SENTENCE_LICENCES = (
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
    found.sort(key=lambda item: _sentence_digest(f"{seed}/{item[1]}"))
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
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(TEXT_SHA256.items()))
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
    small = [int.from_bytes(_sentence_digest(text)[:4]) < bound for text in texts]
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


def _sentence_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


VERSION = "1.1"


@dataclass(frozen=True)
class Questions:
    """Questions, each with its context and the spans of the context that answer it.

    questions, contexts, ids: n texts each; ids are unique
    answers: n tuples of accepted spans (start, end) in characters of the context, each span once;
        the first is the one to train on
    source: what the questions are, JSON-able, for provenance and fingerprints: dataset, split,
        seed, count, data (hash) and parts, one entry for each time a part was taken
    """

    questions: tuple[str, ...]
    contexts: tuple[str, ...]
    answers: tuple[tuple[Span, ...], ...]
    ids: tuple[str, ...]
    source: dict

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def answer_texts(self) -> tuple[tuple[str, ...], ...]:
        """n tuples: the accepted answers as they stand in the contexts, in the order of `answers`.

        Equal texts of different spans are all there.
        """
        return tuple(
            tuple(context[start:end] for start, end in spans)
            for context, spans in zip(self.contexts, self.answers, strict=True)
        )

    def subset(self, index: Sequence[int]) -> Questions:
        """The questions at positions `index`; KpnbError for none or one out of range."""
        chosen = [int(position) for position in index]
        if not chosen or not all(0 <= position < len(self) for position in chosen):
            raise KpnbError(
                f"The index fits no part of {len(self)} questions: give positions from 0 to "
                f"{len(self) - 1}, at least one."
            )
        digest = hashlib.sha256(repr(chosen).encode()).hexdigest()
        note = {"subset": len(chosen), "positions": digest}
        return self._at(chosen, {**self.source, "parts": [*self.source["parts"], note]})

    def _at(self, positions: Sequence[int], source: dict) -> Questions:
        columns = ("questions", "contexts", "answers", "ids")
        parts = {
            name: tuple(getattr(self, name)[position] for position in positions) for name in columns
        }
        return replace(self, **parts, source=source)


def drawn(questions: Questions, count: int | None, seed: int) -> Questions:
    """The first `count` questions (None: all) in an order that depends on `seed` and the ids.

    Fewer are a prefix of more. Adds seed and count to `source`. Raises `KpnbError` for a seed that
    is no integer from 0 and a count that is not from 1 to the number of questions.
    """
    require_int("seed", seed, 0)
    if count is not None:
        require_int("count", count, 1, len(questions))
    order = sorted(
        range(len(questions)), key=lambda i: _question_digest(f"{seed}/{questions.ids[i]}")
    )
    chosen = order[:count]
    return questions._at(chosen, {**questions.source, "seed": int(seed), "count": len(chosen)})


def _question_digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


# SQuAD v1.1


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
        raise KpnbError(
            f"The questions are of version {version!r}: get the files of SQuAD v{VERSION}."
        )
    rows = [
        (_text(qa, "question", f"question {name!r}"), context, _spans(qa, context, name), name)
        for article in _list(document, "data", "the document")
        for paragraph in _list(article, "paragraphs", "an article")
        for context in [_text(paragraph, "context", "a paragraph")]
        for qa in _list(paragraph, "qas", "a paragraph")
        for name in [_text(qa, "id", "a question")]
    ]
    ids = tuple(row[3] for row in rows)
    if not rows:
        raise KpnbError("The document holds no question: get the files of SQuAD v1.1.")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise KpnbError(f"Question {twice!r} is there twice: give every question its own id.")
    questions, contexts, answers, _ = zip(*rows, strict=True)
    return Questions(questions, contexts, answers, ids, _source(source, len(rows)))


def _source(given: Mapping[str, object] | None, count: int) -> dict:
    return {"dataset": "squad", "parts": [], "count": count, **(given or {})}


def _list(owner: object, key: str, where: str) -> list:
    found = owner.get(key) if isinstance(owner, dict) else None
    if not isinstance(found, list):
        raise KpnbError(f"There is no list {key!r} in {where}: give the layout of SQuAD v1.1.")
    return found


def _text(owner: object, key: str, where: str) -> str:
    found = owner.get(key) if isinstance(owner, dict) else None
    if not isinstance(found, str) or not found.strip():
        raise KpnbError(f"There is no text {key!r} in {where}: give the layout of SQuAD v1.1.")
    return found


def _spans(qa: dict, context: str, name: str) -> tuple[Span, ...]:
    """The accepted spans of one question, each once, checked against the context."""
    where = f"question {name!r}"
    spans = []
    for answer in _list(qa, "answers", where):
        text, start = _text(answer, "text", where), answer.get("answer_start")
        found = isinstance(start, int) and not isinstance(start, bool) and start >= 0
        if not found or context[start : start + len(text)] != text:
            raise KpnbError(
                f"The answer {text!r} of {where} does not stand at {start!r} in its context: "
                "correct answer_start or leave the question out."
            )
        spans.append((start, start + len(text)))
    if not spans:
        raise KpnbError(f"There is no answer to {where}: leave the question out.")
    return tuple(dict.fromkeys(spans))


QUESTION_LICENCES = (
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
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(QUESTIONS_SHA256.items()))
    return hashlib.sha256(text.encode()).hexdigest()
