"""The packed sentences and words, checked and read in memory."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from functools import cache

from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

SENTENCES = "sentences.tsv.gz"
LEXICON = "lexicon.tsv.gz"
# Of the content without gzip, whose bytes may differ from one zlib to the next.
PACKED_SHA256 = {
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
    if hashlib.sha256(content).hexdigest() != PACKED_SHA256[name]:
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
