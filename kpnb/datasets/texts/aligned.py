"""Strings beside the pieces of any fast tokenizer, and as they are shown and counted.

Words are those of `word_spans`, whatever the tokenizer. A piece belongs to the first word that it
touches; a word without a piece (the second of two signs that one piece holds) takes no part.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kpnb.datasets.texts import word_pieces
from kpnb.datasets.texts.word_pieces import NO_WORD, Pieces, Span, TextSample, word_spans
from kpnb.errors import KpnbError, require

_NO_WORDS = "The text {!r} holds no word: leave it out."


@dataclass(frozen=True, eq=False)
class AlignedText:
    """One text as pieces that know their words.

    inputs: (1, T) int64 each, by the names that a model takes them under.
    words: (T,) the unit of each position, from 0; NO_WORD for special pieces and blanks.
    places: each unit's place among the `count` words of the text.
    """

    inputs: dict[str, Tensor]
    words: Tensor
    places: Sequence[int]
    count: int

    def by_word(self, values: Tensor) -> Tensor:
        """(units,) -> (count,), NaN for words without a piece; a single number as it is."""
        if values.ndim == 0:
            return values
        whole = values.new_full((self.count,), torch.nan)
        whole[list(self.places)] = values
        return whole


def aligned_pieces(pieces: Pieces, texts: Sequence[str] | None = None) -> list[AlignedText]:
    """Encoded texts one by one, without padding, by their own units or by the words of `texts`."""
    found = []
    for row, length in enumerate((pieces.ids != pieces.pad).sum(1).tolist()):
        known = pieces.spans[row] if texts is None else word_spans(texts[row])
        places = [known.index(span) for span in pieces.spans[row]] if texts else range(len(known))
        given = {"input_ids": pieces.ids[row : row + 1, :length]}
        found.append(AlignedText(given, pieces.words[row, :length], places, len(known)))
    return found


def aligned_text(tokenizer: object, text: str) -> AlignedText:
    """A string as the pieces that `tokenizer(text)` gives, special ones included.

    tokenizer: a fast one of transformers, of any kind (word pieces, byte-level pairs that begin
    with a blank, unigrams). Raises KpnbError for another, a text without words, and one longer than
    the tokenizer's `model_max_length`.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise KpnbError(
            f"{type(tokenizer).__name__} is no fast tokenizer of transformers, and only those tell "
            "which characters a piece comes from: load one with AutoTokenizer."
        )
    found = tokenizer(text, return_offsets_mapping=True, verbose=False)
    ids, most = found["input_ids"], tokenizer.model_max_length
    if len(ids) > most:
        raise KpnbError(f"The text {text[:40]!r} has {len(ids)} pieces of at most {most}: cut it.")
    spans = word_spans(text)
    owners = word_pieces.words_of_pieces(spans, found["offset_mapping"])
    # "[MASK]" written in a text is a special piece, too; an unknown word is a word.
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    for position, part in enumerate(found.sequence_ids(0)):
        if part is None or ids[position] in special:
            owners[position] = NO_WORD
    places = sorted({*owners} - {NO_WORD})
    require(places, _NO_WORDS.format(text[:40]))
    unit = {word: number for number, word in enumerate(places)} | {NO_WORD: NO_WORD}
    names = [name for name in tokenizer.model_input_names if name in found]
    inputs = {name: torch.tensor([found[name]]) for name in names}
    return AlignedText(inputs, torch.tensor([unit[word] for word in owners]), places, len(spans))


class TextSamples(list[TextSample]):
    """Texts in a list, whose `foreground` goes into `knowledge_points`."""

    @property
    def foreground(self) -> Tensor:
        """(texts, most words of a text) bool; False beyond a text's own words."""
        return pad_sequence([torch.tensor(sample.foreground) for sample in self], True)


def text_samples(
    texts: str | Iterable[str], foreground: Sequence[Iterable[str | Span]] | None = None
) -> TextSamples:
    """Strings as their words, which are the units of `TextEstimator.explain(model, texts, ...)`.

        samples = kpnb.text_samples(texts, foreground=[["fine", "not bad"], [(0, 4)]])
        points = kpnb.knowledge_points(maps, samples.foreground, threshold=0.2)

    foreground: for each text words or phrases, wherever they stand and whatever their case, and
        spans [start, end) in characters, which mean the words that they touch. None: no word.
    Raises KpnbError for what is no text, a text without words, another number of foregrounds than
    of texts, a word that does not occur, and a span that touches no word.
    """
    texts = listed(texts)
    given = [()] * len(texts) if foreground is None else list(foreground)
    told = f"foreground has {len(given)} entries for {len(texts)} texts"
    require(len(given) == len(texts), f"{told}: give a list of words or spans for each text.")
    return TextSamples(_sample(text, marks) for text, marks in zip(texts, given, strict=True))


def listed(texts: str | Iterable[str]) -> list[str]:
    """The texts in a list; KpnbError for none and for what is no string."""
    found = [texts] if isinstance(texts, str) else list(texts)
    kinds = {type(text).__name__ for text in found if not isinstance(text, str)}
    if kinds or not found:
        raise KpnbError(f"texts hold {', '.join(kinds) or 'nothing'}: pass strings in a list.")
    return found


def _sample(text: str, marks: Iterable[str | Span]) -> TextSample:
    spans, meant = word_spans(text), set()
    require(spans, _NO_WORDS.format(text[:40]))
    for mark in [marks] if isinstance(marks, str) else marks:
        units = _phrase(text, mark) if isinstance(mark, str) else _touched(spans, mark)
        told = f"{mark!r} is no word of the text {text[:40]!r}"
        require(units, f"{told}: name words as written in it, or (start, end) in characters.")
        meant |= units
    marked = tuple(unit in meant for unit in range(len(spans)))
    return TextSample(
        tuple(word_pieces.words(text)), marked, joined=word_pieces.joined_words(spans)
    )


def _phrase(text: str, phrase: str) -> set[int]:
    """The units of every place where the words of `phrase` stand one after the other."""
    units, wanted = (
        [word.casefold() for word in word_pieces.words(part)] for part in (text, phrase)
    )
    places = range(len(units) if wanted else 0)
    starts = [place for place in places if units[place : place + len(wanted)] == wanted]
    return {start + step for start in starts for step in range(len(wanted))}


def _touched(spans: Sequence[Span], span: object) -> set[int]:
    if not isinstance(span, Sequence) or len(span) != 2 or not span[0] < span[1]:
        return set()
    return {unit for unit, own in enumerate(spans) if word_pieces.meet(own, span)}
