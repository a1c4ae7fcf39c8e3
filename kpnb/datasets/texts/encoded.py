"""Sentences and questions as a network reads them, with labels and foreground of their words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kpnb.datasets.texts.embedded import Questions, Sentences
from kpnb.datasets.texts.foreground import answer_foreground
from kpnb.datasets.texts.words import PieceEncoder, Pieces, Span, TextSample, joined_words
from kpnb.errors import KpnbError

Foreground = Callable[[str], tuple[Span, ...]]


@dataclass(frozen=True)
class EncodedTexts:
    """n encoded texts.

    pieces: what the network reads. labels: (n,) classes, or (n, 2) positions of an answer's first
    and last piece. parts: the texts, one or two each. marked: per text whether each unit is
    foreground. answers: the accepted answers of a question, none for a sentence. notes: what a
    reader is told of each. source: JSON-able.
    """

    pieces: Pieces
    labels: Tensor
    parts: tuple[tuple[str, ...], ...]
    marked: tuple[tuple[bool, ...], ...]
    answers: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    source: dict

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def foreground(self) -> Tensor:
        """(n, most units) bool; False beyond a text's own units."""
        most = max(self.pieces.units)
        rows = [[*marks, *[False] * (most - len(marks))] for marks in self.marked]
        return torch.tensor(rows)

    @property
    def digest(self) -> str:
        """SHA-256 over what a network sees of the texts: ids and labels."""
        held = hashlib.sha256()
        for tensor in (self.pieces.ids, self.labels):
            held.update(f"{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
        return held.hexdigest()

    @property
    def single_pieces(self) -> Tensor:
        """(n, most units) bool: units that are one word piece."""
        most = max(self.pieces.units)
        held = torch.nn.functional.one_hot(self.pieces.words + 1, most + 1)[..., 1:]
        return held.sum(1) == 1

    @property
    def usable(self) -> list[int]:
        """The texts with both foreground and background."""
        return [n for n, marks in enumerate(self.marked) if any(marks) and not all(marks)]

    def subset(self, index: Sequence[int]) -> EncodedTexts:
        """Some of the texts; KpnbError for none, or for a position out of range."""
        chosen = [int(position) for position in index]
        if not chosen or not all(0 <= position < len(self) for position in chosen):
            raise KpnbError(f"The index fits no part of {len(self)} texts: give their positions.")
        digest = hashlib.sha256(repr(chosen).encode()).hexdigest()
        note = {"subset": len(chosen), "positions": digest}
        columns = {
            name: tuple(getattr(self, name)[position] for position in chosen)
            for name in ("parts", "marked", "answers", "notes")
        }
        source = {**self.source, "parts": [*self.source["parts"], note]}
        pieces, labels = self.pieces.subset(chosen), self.labels[chosen]
        return replace(self, pieces=pieces, labels=labels, source=source, **columns)

    def words(self, row: int) -> tuple[str, ...]:
        """The units of a text as written."""
        first = self.pieces.firsts[row]
        texts = self.parts[row]
        return tuple(
            texts[0 if unit < first else 1][start:end]
            for unit, (start, end) in enumerate(self.pieces.spans[row])
        )

    def shown(self) -> list[TextSample]:
        """The texts as kpnb.figures.text draws them."""
        return [self._shown(row) for row in range(len(self))]

    def _shown(self, row: int) -> TextSample:
        first, spans = self.pieces.firsts[row], self.pieces.spans[row]
        joined = joined_words(spans[:first]) + joined_words(spans[first:])
        labels, note = self._labels(row), self.notes[row]
        return TextSample(self.words(row), self.marked[row], labels, note, joined)

    def _labels(self, row: int) -> tuple[tuple[str, int], ...]:
        if len(self.parts[row]) == 1:
            return (("", 0),)
        return (("question", 0), ("context", self.pieces.firsts[row]))


def encoded_sentences(
    sentences: Sentences, encoder: PieceEncoder, rule: Foreground, length: int | None = None
) -> EncodedTexts:
    """Sentences with their class and the foreground that `rule` gives; see PieceEncoder.texts."""
    pieces = encoder.texts(sentences.texts, length)
    marked = [
        _marks(spans, rule(t)) for spans, t in zip(pieces.spans, sentences.texts, strict=True)
    ]
    names, ratings = sentences.class_names, sentences.ratings.tolist()
    notes = [
        f"{names[label]}, rated {rating:+.1f}"
        for label, rating in zip(sentences.labels.tolist(), ratings, strict=True)
    ]
    parts = tuple((text,) for text in sentences.texts)
    nothing = ((),) * len(parts)
    source = sentences.source | {"length": length}
    return EncodedTexts(
        pieces, sentences.labels, parts, tuple(marked), nothing, tuple(notes), source
    )


def encoded_questions(
    questions: Questions, encoder: PieceEncoder, length: int | None = None
) -> EncodedTexts:
    """Questions with their contexts; the foreground is that of `answer_foreground`, the labels are
    those of the first accepted answer; see PieceEncoder.pairs. Raises KpnbError for an answer that
    touches no word."""
    answers = [spans[0] for spans in questions.answers]
    pieces = encoder.pairs(questions.questions, questions.contexts, answers, length)
    labels, marked = [], []
    for row, answer in enumerate(answers):
        labels.append(_positions(pieces, row, answer))
        asked, told = answer_foreground(questions.questions[row], questions.contexts[row], answer)
        first, spans = pieces.firsts[row], pieces.spans[row]
        marked.append(_marks(spans[:first], asked) + _marks(spans[first:], told))
    parts = tuple(zip(questions.questions, questions.contexts, strict=True))
    texts = questions.answer_texts
    notes = tuple(f"answer: {accepted[0]}" for accepted in texts)
    source = questions.source | {"length": length}
    return EncodedTexts(pieces, torch.tensor(labels), parts, tuple(marked), texts, notes, source)


def _marks(spans: Sequence[Span], foreground: Sequence[Span]) -> tuple[bool, ...]:
    chosen = set(foreground)
    return tuple(span in chosen for span in spans)


def _positions(pieces: Pieces, row: int, answer: Span) -> tuple[int, int]:
    """First and last position of the pieces of the words that the answer touches.

    Raises KpnbError where it touches none.
    """
    first = pieces.firsts[row]
    units = [
        unit
        for unit, (start, end) in enumerate(pieces.spans[row])
        if unit >= first and start < answer[1] and end > answer[0]
    ]
    if not units:
        raise KpnbError(
            f"The answer {answer} of text {row} touches no word of the tokenizer: leave the "
            "question out."
        )
    places = torch.isin(pieces.words[row], torch.tensor(units)).nonzero().flatten()
    return int(places[0]), int(places[-1])
