"""The words of a text by their character offsets: the input units of sentences and questions."""

from __future__ import annotations

import re

Span = tuple[int, int]

# Letters and digits with their combining marks, inner apostrophes kept; any other sign that is no
# space stands alone. The same rule as `kpnb.networks.text.tokens`, but on the text as it is.
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
