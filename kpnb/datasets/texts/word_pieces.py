"""The words of a text by their character offsets, and texts as word pieces that know their words.

A word is an input unit of sentences and questions. BERT reads word pieces: a tokenizer cuts a word
into one piece or several, and all of them belong to that word. [CLS], [SEP] and padding belong to
none.
"""

import itertools
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kpnb.errors import KpnbError, require

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]

# With the combining marks of letters.
_WORD = re.compile(r"[\w\u0300-\u036f]+(?:['’][\w\u0300-\u036f]+)*|[^\w\s\u0300-\u036f]")


def word_spans(text: str) -> list[Span]:
    """[start, end) of every word of `text`, ascending, in characters.

    A word is a run of letters and digits, apostrophes inside it included ("don't"); every other
    sign that is no space ("," or "-") is a word of its own.
    """
    return [match.span() for match in _WORD.finditer(text)]


def words(text: str) -> list[str]:
    """The words themselves, as written."""
    return [text[start:end] for start, end in word_spans(text)]


def meet(first: Span, second: Span) -> bool:
    """Whether two spans have a character in common."""
    return first[0] < second[1] and second[0] < first[1]


NO_WORD = -1
LEAST_LENGTH = 8
# A text that spells "[SEP]" or "[PAD]" has these signs as words, no special piece.
_PLAIN = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}


@dataclass(frozen=True)
class Pieces:
    """Encoded texts, or pairs of a question and a context.

    ids: (n, T) int64, padded at the end.
    words: (n, T) int64: the unit each position belongs to, from 0; NO_WORD for special pieces and
        padding. In a pair the context's words follow the question's.
    spans: per text the character span of every unit, in the text it comes from.
    firsts: per text the number of units that come from the first text of the pair (all of them
        where there is no pair); words cut off count in neither.
    pad: the id of padding.
    """

    ids: Tensor
    words: Tensor
    spans: tuple[tuple[Span, ...], ...]
    firsts: tuple[int, ...]
    pad: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def units(self) -> list[int]:
        """Units of each text."""
        return [len(spans) for spans in self.spans]

    def subset(self, index: Sequence[int]) -> Self:
        """Some of the texts, padded no longer than they need."""
        chosen = [int(position) for position in index]
        longest = int((self.ids[chosen] != self.pad).sum(1).max())
        return Pieces(
            self.ids[chosen, :longest],
            self.words[chosen, :longest],
            tuple(self.spans[position] for position in chosen),
            tuple(self.firsts[position] for position in chosen),
            self.pad,
        )


def words_of_pieces(spans: Sequence[Span], offsets: Iterable[Span]) -> list[int]:
    """For each piece, by its characters, the first word that it touches; NO_WORD for none."""
    found, word = [], 0
    for piece in offsets:
        while word + 1 < len(spans) and spans[word][1] <= piece[0]:
            word += 1
        found.append(word if spans and meet(piece, spans[word]) else NO_WORD)
    return found


class _Word(NamedTuple):
    span: Span
    pieces: tuple[int, ...]


class PieceEncoder:
    """Turns texts into Pieces with the tokenizer of a BERT-like model.

    tokenizer: a fast one of transformers. kept: ids in use, special ones included: pieces are then
    numbered by their place in them, ascending, and any other piece becomes the unknown one. None
    keeps the tokenizer's own numbers.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", kept: Sequence[int] | None = None
    ) -> None:
        self.tokenizer = tokenizer
        size = len(tokenizer)
        self.kept = list(range(size)) if kept is None else sorted(kept)
        place = {old: new for new, old in enumerate(self.kept)}
        if tokenizer.pad_token_id not in place or tokenizer.unk_token_id not in place:
            raise KpnbError("kept leaves out the padding or the unknown piece: keep both.")
        unknown = place[tokenizer.unk_token_id]
        self._new = torch.tensor([place.get(old, unknown) for old in range(size)])
        self.pad = place[tokenizer.pad_token_id]
        self.separator = int(self._new[tokenizer.sep_token_id])
        self._templates = [self._template("a"), self._template("a", "a")]

    @classmethod
    def for_texts(cls, tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> Self:
        """One that keeps the special pieces and those that occur in `texts`: rows of the embedding
        table for other pieces would take no part in anything."""
        found = tokenizer(list(texts), **_PLAIN)["input_ids"]
        return cls(tokenizer, sorted({*tokenizer.all_special_ids}.union(*found)))

    def __len__(self) -> int:
        return len(self.kept)

    def texts(self, texts: Sequence[str], length: int | None = None) -> Pieces:
        """Single texts. length: most pieces, special ones included; longer texts lose their last
        words, whole ones, with a warning. Raises KpnbError for no texts and texts without words.
        """
        return self._encoded([(text,) for text in texts], length, [None] * len(texts))

    def pairs(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        answers: Sequence[Span | None] | None = None,
        length: int | None = None,
    ) -> Pieces:
        """Questions with their contexts. length: most pieces; a context that does not fit loses
        words at its ends with a warning, so that the words of the answer (characters of the
        context; None: its beginning) stay, with about as much before as after them.

        Raises KpnbError where question and answer alone do not fit.
        """
        spans = [None] * len(contexts) if answers is None else answers
        return self._encoded(list(zip(questions, contexts, strict=True)), length, spans)

    def _encoded(
        self, texts: Sequence[tuple[str, ...]], length: int | None, answers: Sequence[Span | None]
    ) -> Pieces:
        require(len(texts) > 0, "There is no text to encode: pass at least one in a list.")
        if length is not None and length < LEAST_LENGTH:
            raise KpnbError(f"length={length} leaves no room for words: pass at least 8.")
        fitted, cut = [], 0
        for parts, answer in zip(texts, answers, strict=True):
            whole = [self._by_word(text) for text in parts]
            fitted.append(_fit(whole, None if length is None else length - len(parts) - 1, answer))
            cut += fitted[-1] != whole
        if cut:
            told = f"{cut} of {len(texts)} texts are longer than {length} pieces and were cut."
            warnings.warn(told, stacklevel=3)
        ids, words = zip(*map(self._row, fitted), strict=True)
        return Pieces(
            pad_sequence(ids, True, self.pad),
            pad_sequence(words, True, NO_WORD),
            tuple(tuple(word.span for part in parts for word in part) for parts in fitted),
            tuple(len(parts[0]) for parts in fitted),
            self.pad,
        )

    def _template(self, *parts: str) -> list[tuple[int, int | None]]:
        """(id of a special piece, None) or (0, number of the part) in the order of an input."""
        found = self.tokenizer(*parts)
        places = zip(found["input_ids"], found.sequence_ids(0), strict=True)
        return [(int(self._new[i]), None) if part is None else (0, part) for i, part in places]

    def _by_word(self, text: str) -> list[_Word]:
        """The words of a text with their pieces. Words without one are left out: the tokenizer
        drops them (control characters), or joins them to the word before in one piece (in a run of
        signs that it does not know, such as two emoji)."""
        spans = word_spans(text)
        found = self.tokenizer(text, return_offsets_mapping=True, **_PLAIN)
        pieces: list[list[int]] = [[] for _ in spans]
        owners = words_of_pieces(spans, found["offset_mapping"])
        for piece, word in zip(found["input_ids"], owners, strict=True):
            if word != NO_WORD:
                pieces[word].append(int(self._new[piece]))
        held = [_Word(span, tuple(ids)) for span, ids in zip(spans, pieces, strict=True) if ids]
        require(held, f"The text {text[:40]!r} holds no word: leave it out.")
        return held

    def _row(self, parts: Sequence[Sequence[_Word]]) -> tuple[Tensor, Tensor]:
        """Ids, and the unit of each, in the order of an input of the tokenizer."""
        ids, words, units = [], [], itertools.count()
        for special, part in self._templates[len(parts) - 1]:
            given = [(special,)] if part is None else [word.pieces for word in parts[part]]
            for pieces in given:
                ids += pieces
                words += [NO_WORD if part is None else next(units)] * len(pieces)
        return torch.tensor(ids), torch.tensor(words)


def _fit(parts: list[list[_Word]], room: int | None, answer: Span | None) -> list[list[_Word]]:
    """The parts without the words of the last part that do not fit into `room` pieces."""
    *before, last = parts
    if room is None or _count(sum(parts, [])) <= room:
        return parts
    left = room - _count(sum(before, []))
    span = last[0].span if answer is None or not before else answer
    inside = [n for n, word in enumerate(last) if meet(word.span, span)]
    first, end = (inside[0], inside[-1] + 1) if inside else (0, 1)
    left -= _count(last[first:end])
    if left < 0:
        held = "question and answer" if before else "first word of a text"
        size = room + len(parts) + 1
        raise KpnbError(f"{size} pieces do not hold the {held}: raise length.")
    grown = True
    while grown:  # in turns after and before the answer, while words fit
        grown = False
        if end < len(last) and len(last[end].pieces) <= left:
            left, end, grown = left - len(last[end].pieces), end + 1, True
        if first > 0 and len(last[first - 1].pieces) <= left:
            left, first, grown = left - len(last[first - 1].pieces), first - 1, True
    return [*before, last[first:end]]


def _count(words: Sequence[_Word]) -> int:
    return sum(len(word.pieces) for word in words)


CLOSING = frozenset(",.;:!?)]}%…”’")
OPENING = frozenset("([{“‘¿¡")


@dataclass(frozen=True)
class TextSample:
    """One text as its input units.

    units: the words as written, punctuation signs included, in reading order.
    foreground: whether each of them is foreground.
    parts: (label, first unit) of each part; a label is written before its part, on a new line.
    note: what else is known, such as the label and the rating.
    joined: whether each unit follows the one before without a space; see `joined_words`. Empty: not
        known, and running text has no space before closing signs and after opening ones.
    Raises KpnbError for a text without units, for lengths that differ, and for parts that do not
    start at 0 or do not ascend.
    """

    units: tuple[str, ...]
    foreground: tuple[bool, ...]
    parts: tuple[tuple[str, int], ...] = (("", 0),)
    note: str = ""
    joined: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.units)
        if count == 0 or len(self.foreground) != count or len(self.joined) not in (0, count):
            raise KpnbError(
                f"a text has {count} units, {len(self.foreground)} foreground values and "
                f"{len(self.joined)} joined ones; give one value per unit, and one unit or more."
            )
        starts = [first for _, first in self.parts]
        if starts[:1] != [0] or starts != sorted({*starts}) or starts[-1] >= count:
            raise KpnbError(
                f"parts start at units {starts} of {count}; start the first at 0 and each later "
                "one at a higher unit of the text."
            )

    def touches(self, unit: int) -> bool:
        """Whether running text has no space before `unit`."""
        if self.joined:
            return bool(self.joined[unit])
        return self.units[unit] in CLOSING or (unit > 0 and self.units[unit - 1] in OPENING)


def joined_words(spans: Sequence[Span]) -> tuple[bool, ...]:
    """Whether each word begins where the one before ends, from their character spans."""
    ends = [None, *(end for _, end in spans)]
    return tuple(start == end for (start, _), end in zip(spans, ends, strict=False))
