"""The public data sets of the text studies, from a local folder: SST-2 and SQuAD.

SST-2 are movie-review sentences of the Stanford Sentiment Treebank, positive or negative. Two
layouts are read. The treebank's own release has a sentiment value from 0 to 1 for every phrase:
labels are made of those of sentences, the foreground of those of single words. The GLUE benchmark's
SST-2 folder has labels only; its foreground is the lexicon's.

SQuAD v1.1 is the paper's question-answering data, from its two public files.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from kpnb.datasets.samples import packed_hash
from kpnb.datasets.texts.embedded import Questions, Sentences, drawn, ordered, parse_squad
from kpnb.datasets.texts.foreground import Foreground, sentiment_foreground, with_modifiers
from kpnb.datasets.texts.word_pieces import word_spans
from kpnb.errors import KpnbError, remedy, require
from kpnb.fingerprint import file_hash

SPLITS = {"train": "1", "test": "2", "dev": "3"}  # name: number in datasetSplit.txt
CUTS = (0.4, 0.6)  # at most 0.4 is negative, above 0.6 positive; between them SST-2 has nothing
MOST_NOT_FOUND = 0.03  # share of sentences that may be missing in the dictionary

RELEASE = "stanfordSentimentTreebank"
SENTENCES, SPLIT = "datasetSentences.txt", "datasetSplit.txt"
PHRASES, VALUES = "dictionary.txt", "sentiment_labels.txt"
RELEASE_FILES = (SENTENCES, SPLIT, PHRASES, VALUES)
GLUE = "SST-2"
ADVICE = (
    "unpack stanfordSentimentTreebank.zip from nlp.stanford.edu/sentiment, or SST-2.zip of "
    "gluebenchmark.com/tasks, into that folder"
)


def sst2(
    root: str | Path, split: str = "train", count: int | None = None, seed: int = 0
) -> Sentences:
    """The sentences of one split that are clearly positive or negative.

    root: the folder with the release's files (datasetSentences.txt, datasetSplit.txt,
        dictionary.txt, sentiment_labels.txt) or with GLUE's train.tsv and dev.tsv, or the folder
        above ("stanfordSentimentTreebank", "SST-2"). Where both are there, the release is read.
    split: "train", "dev" or "test"; GLUE's test labels are not public. The whole release has
        6,920, 872 and 1,821 such sentences; GLUE's training part is made of phrases, too.
    count, seed: see `ordered`.

    Texts are tokens with spaces between, as in the files, but mended (see `mend`). Ratings are
    (value - 0.5) * 8, from -4 to 4; GLUE has no values, so they are NaN. `source`: see `Samples`;
    with layout, foreground (what `sst2_foreground` goes by), classes, neutral and not_found: the
    sentences left out because their value is neutral, or because the dictionary has none.
    Raises `KpnbError` for wrong arguments, a missing or damaged file, and more than 3% of the
    split's sentences not in the dictionary.
    """
    require(split in SPLITS, f"split is {split!r}: give 'train', 'dev' or 'test'.")
    folder, layout = _locate(Path(root))
    read = _read_release if layout == "treebank" else _read_glue
    found, about = read(folder, split)
    require(found, f"{folder} has no sentence of split {split!r}: fetch the files again.")
    found = ordered(found, [text for text, *_ in found], count, seed)
    texts, labels, ratings = zip(*found, strict=True)
    source = dict(dataset="sst2", layout=layout, split=split, seed=int(seed), count=len(texts))
    source |= about | dict(classes=list(Sentences.class_names), parts=[])
    return Sentences(texts, torch.tensor(labels), torch.tensor(ratings), source)


def sst2_foreground(root: str | Path) -> Foreground:
    """The foreground rule of the data in `root`: a function from a text to spans of words.

    Treebank: a word carries sentiment when its token (what stands between spaces) has a value of
    its own that SST-2 would not call neutral: at most 0.4 or above 0.6. The treebank has one for
    every token of its sentences; case as written, else lower. A token without a value is taken
    apart into words, and a word without one is judged by the lexicon. Negations and intensifiers
    count where they belong to such a word, as in
    `kpnb.datasets.texts.foreground.sentiment_foreground`.
    GLUE: `sentiment_foreground` itself.
    Raises `KpnbError` for missing or damaged files.
    """
    folder, layout = _locate(Path(root))
    if layout == "glue":
        return sentiment_foreground
    values = {phrase: value for phrase, value in _phrases(folder).items() if " " not in phrase}
    return lambda text: with_modifiers(text, _carrying(text, values))


def mend(text: str) -> str:
    """A line of the release or of GLUE as its authors meant it.

    Brackets that were written -LRB- or -RRB- come back, backslashes before / and * go, UTF-8 that
    was read as Latin-1 and written again ("clichÃ©s") is read rightly, a stray Â goes, and any run
    of spaces, no-break ones included, is one space.
    """
    if not text.isascii():
        text = _MANGLED.sub(_decode, text).replace("Â", "")
    text = _BRACKET.sub(lambda match: _BRACKETS[match[0].upper()], text)
    text = text.replace("\\/", "/").replace("\\*", "*")
    return " ".join(text.split())  # no-break spaces part words, too


# UTF-8 of two to four bytes, each shown as a Latin-1 letter.
_MANGLED = re.compile("[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_BRACKET = re.compile("|".join(_BRACKETS), re.IGNORECASE)


def _decode(match: re.Match) -> str:
    try:
        return match[0].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:  # real Latin-1 letters that happen to stand side by side
        return match[0]


def _carrying(text: str, values: Mapping[str, float]) -> list[bool]:
    """For each word of `word_spans(text)` whether it carries sentiment by itself."""
    by_lexicon = set(sentiment_foreground(text))
    tokens = [match.span() for match in re.finditer(r"\S+", text)]
    flags = []
    for span in word_spans(text):
        token = next(t for t in tokens if t[0] <= span[0] and span[1] <= t[1])
        value = _value(text[slice(*token)], values)
        value = _value(text[slice(*span)], values) if value is None else value
        clear = span in by_lexicon if value is None else not _neutral(value)
        flags.append(clear and any(sign.isalnum() for sign in text[slice(*span)]))
    return flags


def _value(word: str, values: Mapping[str, float]) -> float | None:
    word = mend(word)
    return values.get(word, values.get(word.lower()))


def _locate(root: Path) -> tuple[Path, str]:
    """The folder with the files, and its layout: "treebank" or "glue"."""
    for folder in (root, root / RELEASE):
        if any((folder / name).is_file() for name in RELEASE_FILES):
            return _complete(folder, RELEASE_FILES), "treebank"
    for folder in (root, root / GLUE):
        if (folder / "train.tsv").is_file() or (folder / "dev.tsv").is_file():
            return folder, "glue"
    raise KpnbError(f"{root} has neither {SENTENCES} nor train.tsv: {ADVICE}.")


def _complete(folder: Path, names: tuple[str, ...]) -> Path:
    missing = [name for name in names if not (folder / name).is_file()]
    require(not missing, f"{folder} lacks {' and '.join(missing)}: {ADVICE}.")
    return folder


Found = list[tuple[str, int, float]]  # text, label, rating


def _read_release(folder: Path, split: str) -> tuple[Found, dict]:
    phrases = _phrases(folder)
    texts = _texts(folder, split)
    rated = [(text, phrases[text]) for text in texts if text in phrases]
    not_found = len(texts) - len(rated)
    if not_found > MOST_NOT_FOUND * len(texts):
        raise KpnbError(
            f"{not_found} of {len(texts)} sentences of split {split!r} are not in {PHRASES}: "
            "fetch both files again, from one release."
        )
    found = [(t, int(v > CUTS[1]), (v - 0.5) * 8) for t, v in rated if not _neutral(v)]
    about = dict(foreground="phrase labels", neutral=len(rated) - len(found), not_found=not_found)
    return found, about | dict(data=_digest(folder, *RELEASE_FILES))


def _texts(folder: Path, split: str) -> list[str]:
    """The mended sentences of one split, in the release's order."""
    sides = dict(_rows(folder / SPLIT, ",", "sentence_index,splitset_label"))
    texts = []
    for index, sentence in _rows(folder / SENTENCES, "\t", "sentence_index\tsentence"):
        if sides.get(index) not in SPLITS.values():
            raise KpnbError(f"{SPLIT} names no split for sentence {index}: fetch it again.")
        if sides[index] == SPLITS[split]:
            texts.append(mend(sentence))
    return texts


def _neutral(value: float) -> bool:
    return CUTS[0] < value <= CUTS[1]


def _phrases(folder: Path) -> dict[str, float]:
    """Sentiment value by mended phrase; the first of phrases that are mended to the same."""
    values = {}
    for number, value in _rows(folder / VALUES, "|", "phrase ids|sentiment values"):
        try:
            values[number] = float(value)
        except ValueError:
            values[number] = math.nan
        if not 0 <= values[number] <= 1:
            raise KpnbError(f"{VALUES} has the value {value!r}, not 0 to 1: fetch it again.")
    phrases: dict[str, float] = {}
    for phrase, number in _rows(folder / PHRASES, "|"):
        require(number in values, f"{VALUES} has no value for phrase {number!r}: fetch it again.")
        phrases.setdefault(mend(phrase), values[number])
    return phrases


def _read_glue(folder: Path, split: str) -> tuple[Found, dict]:
    require(split != "test", f"{folder} is GLUE's, without labels of split 'test': give 'dev'.")
    name = f"{split}.tsv"
    _complete(folder, (name,))
    found = []
    for sentence, label in _rows(folder / name, "\t", "sentence\tlabel"):
        require(label in ("0", "1"), f"{name} has the label {label!r}, not 0 or 1: fetch it again.")
        found.append((mend(sentence), int(label), math.nan))
    about = dict(foreground="lexicon", neutral=0, not_found=0)
    return found, about | dict(data=_digest(folder, name))


def _rows(path: Path, separator: str, header: str | None = None) -> Iterator[tuple[str, str]]:
    """The two columns of every line; the last separator parts them, as phrases may have one."""
    lines = _text(path).replace("\r\n", "\n").split("\n")  # splitlines would cut mangled letters
    if header is not None and lines[0] != header:
        raise KpnbError(f"{path} does not begin with the line {header!r}: fetch the file again.")
    for number, line in enumerate(lines, start=1):
        if not line or (header is not None and number == 1):
            continue
        first, _, second = line.rpartition(separator)
        if not first or not second:
            raise KpnbError(f"Line {number} of {path} has not two columns: fetch the file again.")
        yield first, second


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # `mend` then reads what was UTF-8 in it


def _digest(folder: Path, *names: str) -> str:
    return packed_hash({name: file_hash(folder / name) for name in names})


FILES = {"train": "train-v1.1.json", "dev": "dev-v1.1.json"}
FOLDERS = (".", "SQuAD", "squad")
ADDRESS = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"


def squad(
    root: str | Path, split: str = "train", count: int | None = None, seed: int = 0
) -> Questions:
    """The questions of train-v1.1.json or dev-v1.1.json.

    root: the folder with the file, or one whose subfolder SQuAD/ or squad/ has it.
    split: "train" (87,599 questions, one answer each) or "dev" (10,570, several accepted answers).
    count, seed: see `ordered`.

    Raises `KpnbError` for an argument outside these ranges, a missing file (naming its address),
    and a file that is no JSON or not in the format of version 1.1.
    """
    require(split in FILES, f"split is {split!r}: give 'train' or 'dev'.")
    places = [Path(root) / folder / FILES[split] for folder in FOLDERS]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise KpnbError(f"{places[0]} is missing: put {ADDRESS}{FILES[split]} there.")
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        what = remedy(error, f"fetch it again from {ADDRESS}{path.name}")
        raise KpnbError(f"{path} cannot be read as JSON ({error}): {what}.") from error
    source = dict(dataset="squad", split=split, data=hashlib.sha256(content).hexdigest())
    try:
        questions = parse_squad(document, source)
    except KpnbError as error:
        raise KpnbError(f"{path}: {error}") from error
    return drawn(questions, count, seed)
