"""Sentences and questions as a network reads them, with labels and foreground of their words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kpnb.datasets.samples import Samples, tensor_digest
from kpnb.datasets.texts import word_pieces
from kpnb.datasets.texts.embedded import Questions, Sentences
from kpnb.datasets.texts.foreground import Foreground, answer_foreground
from kpnb.datasets.texts.word_pieces import PieceEncoder, Pieces, Span, TextSample, meet
from kpnb.errors import require


@dataclass(frozen=True)
class EncodedTexts(Samples):
    """n encoded texts.

    pieces: what the network reads. labels: (n,) classes, or (n, 2) positions of an answer's first
    and last piece. parts: the texts, one or two each. marked: per text whether each unit is
    foreground. answers: the accepted answers of a question, none for a sentence. notes: what a
    reader is told of each. source: JSON-able.
    """

    COLUMNS: ClassVar = ("labels", "parts", "marked", "answers", "notes")
    pieces: Pieces
    labels: Tensor
    parts: tuple[tuple[str, ...], ...]
    marked: tuple[tuple[bool, ...], ...]
    answers: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    source: dict

    @property
    def foreground(self) -> Tensor:
        """(n, most units) bool; False beyond a text's own units."""
        return pad_sequence([torch.tensor(marks) for marks in self.marked], True)

    @property
    def digest(self) -> str:
        """SHA-256 over what a network sees of the texts: ids and labels."""
        return tensor_digest(self.pieces.ids, self.labels)

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

    def taken(self, positions: Tensor, **source: object) -> Self:
        pieces = self.pieces.subset(positions.tolist())
        return replace(super().taken(positions, **source), pieces=pieces)

    def words(self, row: int) -> tuple[str, ...]:
        """The units of a text as written."""
        first, texts = self.pieces.firsts[row], self.parts[row]
        spans = enumerate(self.pieces.spans[row])
        return tuple(texts[unit >= first][start:end] for unit, (start, end) in spans)

    def shown(self) -> list[TextSample]:
        """The texts as kpnb.figures.text draws them."""
        return [self._shown(row) for row in range(len(self))]

    def _shown(self, row: int) -> TextSample:
        first, spans = self.pieces.firsts[row], self.pieces.spans[row]
        joined = word_pieces.joined_words(spans[:first]) + word_pieces.joined_words(spans[first:])
        pair = len(self.parts[row]) == 2
        parts = (("question", 0), ("context", first)) if pair else (("", 0),)
        return TextSample(self.words(row), self.marked[row], parts, self.notes[row], joined)


def encoded_sentences(
    sentences: Sentences, encoder: PieceEncoder, rule: Foreground, length: int | None = None
) -> EncodedTexts:
    """Sentences with their class and the foreground that `rule` gives; see PieceEncoder.texts."""
    texts, labels, names = sentences.texts, sentences.labels, sentences.class_names
    pieces = encoder.texts(texts, length)
    marked = tuple(_marks(spans, rule(t)) for spans, t in zip(pieces.spans, texts, strict=True))
    rated = zip(labels.tolist(), sentences.ratings.tolist(), strict=True)
    notes = tuple(f"{names[label]}, rated {rating:+.1f}" for label, rating in rated)
    parts, nothing = tuple((text,) for text in texts), ((),) * len(texts)
    source = sentences.source | {"length": length}
    return EncodedTexts(pieces, labels, parts, marked, nothing, notes, source)


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
    """First and last position of the pieces of the words that the answer touches."""
    own = enumerate(pieces.spans[row])
    units = [unit for unit, span in own if unit >= pieces.firsts[row] and meet(span, answer)]
    told = f"The answer {answer} of text {row} touches no word of the tokenizer"
    require(units, f"{told}: leave the question out.")
    places = torch.isin(pieces.words[row], torch.tensor(units)).nonzero().flatten()
    return int(places[0]), int(places[-1])
