"""Make the packed files of the embedded sentences from one public package.

    python -m data_prep.embedded_sentences --root DIR [--download] [--out
    kpnb/datasets/embedded/text]

DIR holds the source distribution of vaderSentiment 3.3.2, checked by its SHA-256; `--download`
fetches it with pip where it is missing (pip runs the package's setup.py to learn its name). Two
files come out: movie-review sentences with their mean human rating, and words with theirs.
README.md says what is left out.

Needs kpnb only.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from data_prep.fetch import check_sha256, read_members
from kpnb.datasets.texts.embedded import LEXICON, SENTENCES, TEXT_SHA256
from kpnb.errors import KpnbError

OUT = Path(__file__).resolve().parents[1] / "kpnb" / "datasets" / "embedded" / "text"

NAME = "vaderSentiment-3.3.2"
FILE = f"{NAME}.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
RATINGS = f"{NAME}/additional_resources/hutto_ICWSM_2014.tar.gz"  # an archive in the archive
REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
WORDS = f"{NAME}/vaderSentiment/vader_lexicon.txt"

LEAST_RATING = 0.5  # raters did not agree on a direction below that
LENGTHS = (4, 45)  # words; shorter is hardly a sentence, the longest are cut in the source
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
LEXICON_WORD = re.compile(r"[a-z][a-z'-]*")  # no emoticons


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns the exit status: 0, or 1 after a `KpnbError`."""
    options = _options(arguments)
    archive = options.root / FILE
    try:
        if options.download and not archive.exists():
            download(options.root)
        check_sha256(archive, SHA256, f"fetch it with `{shlex.join(fetch_command())}`")
        reviews, words = read_sources(archive)
        options.out.mkdir(parents=True, exist_ok=True)
        report(write(options.out / SENTENCES, sentence_lines(reviews)))
        report(write(options.out / LEXICON, lexicon_lines(words)))
    except KpnbError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the package")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the packed files")
    parser.add_argument("--download", action="store_true", help="fetch the package if missing")
    return parser.parse_args(arguments)


# The package


def fetch_command() -> list[str]:
    """The command that puts the source distribution into the current folder."""
    options = ["--no-deps", "--no-binary", ":all:"]
    return [sys.executable, "-m", "pip", "download", *options, NAME.replace("-", "==")]


def download(root: Path) -> None:
    """Fetch the package into `root` with pip."""
    root.mkdir(parents=True, exist_ok=True)
    print("fetching:", FILE, flush=True)
    done = subprocess.run(fetch_command(), cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KpnbError(f"pip could not fetch {FILE} ({reason}): put it into {root} by hand.")


def read_sources(archive: Path) -> tuple[str, str]:
    """The tables of review sentences and of words, as text."""
    members = read_members(archive, [RATINGS, WORDS])
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "ratings.tar.gz"
        inner.write_bytes(members[RATINGS])
        reviews = read_members(inner, [REVIEWS])[REVIEWS]
    return reviews.decode("utf-8"), members[WORDS].decode("utf-8")


# The tables


def rows(table: str, columns: int) -> Iterator[list[str]]:
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
    for _, rating, text, *_ in rows(reviews, 3):
        text = text.strip()
        long_enough = LENGTHS[0] <= len(WORD.findall(text)) <= LENGTHS[1]
        if abs(float(rating)) < LEAST_RATING or not long_enough or text.lower() in seen:
            continue
        seen.add(text.lower())
        yield f"{float(rating):.4f}\t{text}"


def lexicon_lines(words: str) -> Iterator[str]:
    """ "word<tab>rating" of the plain lower-case words, sorted, each once."""
    found = {word.lower(): float(rating) for word, rating, *_ in rows(words, 2)}
    for word in sorted(found):
        if LEXICON_WORD.fullmatch(word):
            yield f"{word}\t{found[word]:.1f}"


# Writing


def write(path: Path, lines: Iterable[str]) -> Path:
    """Write lines as gzip without a time stamp: the bytes depend on the content and zlib alone."""
    content = "".join(f"{line}\n" for line in lines).encode("utf-8")
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(gzip.compress(content, 9, mtime=0))
    return unfinished.replace(path)


def report(path: Path) -> None:
    """Print the SHA-256 of a packed file's content and whether it is the one that kpnb ships."""
    digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    same = digest == TEXT_SHA256[path.name]
    verdict = "the packaged content" if same else f"differs from {TEXT_SHA256[path.name]}"
    print(f"{digest}  {path} ({path.stat().st_size} bytes): {verdict}")


if __name__ == "__main__":
    raise SystemExit(main())
