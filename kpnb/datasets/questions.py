"""Questions about passages, with the spans that answer them: what every question data set returns.

An answer is a span of characters [start, end) of its context, as in SQuAD v1.1 (Rajpurkar et al.,
EMNLP 2016), where each question has one or more accepted answers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kpnb.datasets.image_samples import require_int
from kpnb.errors import KpnbError
from kpnb.words import Span

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
    order = sorted(range(len(questions)), key=lambda i: _digest(f"{seed}/{questions.ids[i]}"))
    chosen = order[:count]
    return questions._at(chosen, {**questions.source, "seed": int(seed), "count": len(chosen)})


def _digest(text: str) -> bytes:
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
