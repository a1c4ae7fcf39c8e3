"""Make the packed files of the embedded sentences from one public package.

    python -m data_prep.embedded_sentences --root DIR [--download] [--out DIR]

DIR holds the source distribution of vaderSentiment 3.3.2, checked by its SHA-256; `--download`
fetches it with pip where it is missing (pip runs the package's setup.py to learn its name). Two
files come out: movie-review sentences with their mean human rating, and words with theirs.
README.md says what is left out.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.archives import read_members
from data_prep.builders import main, report, write_gzip
from kpnb.datasets.texts.embedded import LEXICON, SENTENCES, TEXT_SHA256
from kpnb.errors import KpnbError

KIND = "text"
TABLE = Path(__file__).with_suffix(".json")
NAME = "vaderSentiment-3.3.2"
RATINGS = f"{NAME}/additional_resources/hutto_ICWSM_2014.tar.gz"  # an archive in the archive
REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
WORDS = f"{NAME}/vaderSentiment/vader_lexicon.txt"

LEAST_RATING = 0.5  # raters did not agree on a direction below that
LENGTHS = (4, 45)  # words; shorter is hardly a sentence, the longest are cut in the source
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
LEXICON_WORD = re.compile(r"[a-z][a-z'-]*")  # no emoticons


def build(files: Mapping[str, Path], out: Path, table: dict) -> None:
    """Write both files into `out` from the package."""
    reviews, words = read_sources(files["vaderSentiment"])
    for name, lines in ((SENTENCES, sentence_lines(reviews)), (LEXICON, lexicon_lines(words))):
        content = "".join(f"{line}\n" for line in lines)
        report(write_gzip(out / name, content), TEXT_SHA256[name])


def read_sources(archive: Path) -> tuple[str, str]:
    """The tables of review sentences and of words, as text."""
    members = read_members(archive, [RATINGS, WORDS])
    reviews = read_members(Path(RATINGS), [REVIEWS], content=members[RATINGS])[REVIEWS]
    return reviews.decode("utf-8"), members[WORDS].decode("utf-8")


def _rows(table: str, columns: int) -> Iterator[list[str]]:
    """The rows of a tab-separated table; `KpnbError` for one with too few columns."""
    for number, line in enumerate(table.replace("\r\n", "\n").split("\n"), start=1):
        if not line:
            continue
        row = line.split("\t")
        if len(row) < columns:
            raise KpnbError(f"Row {number} has {len(row)} columns: get the package asked for.")
        yield row


def sentence_lines(reviews: str) -> Iterator[str]:
    """ "rating<tab>text" of the sentences kept, in the order of the source, repeats once."""
    seen: set[str] = set()
    for _, rating, text, *_ in _rows(reviews, 3):
        text = text.strip()
        long_enough = LENGTHS[0] <= len(WORD.findall(text)) <= LENGTHS[1]
        if abs(float(rating)) < LEAST_RATING or not long_enough or text.lower() in seen:
            continue
        seen.add(text.lower())
        yield f"{float(rating):.4f}\t{text}"


def lexicon_lines(words: str) -> Iterator[str]:
    """ "word<tab>rating" of the plain lower-case words, sorted, each once."""
    found = {word.lower(): float(rating) for word, rating, *_ in _rows(words, 2)}
    for word in sorted(found):
        if LEXICON_WORD.fullmatch(word):
            yield f"{word}\t{found[word]:.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
