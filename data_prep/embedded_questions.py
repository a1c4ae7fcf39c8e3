"""Make the packed files of the embedded questions from two public packages.

    python -m data_prep.embedded_questions --root DIR [--download] [--out DIR]

DIR holds the Debian package wordnet-base 3.0-37 (a dictionary) and the Python package mendeleev
1.3.0 (a table of the chemical elements), checked by their SHA-256; `--download` fetches what is
missing with apt-get and pip. Two files come out, train and test, in the format of SQuAD v1.1: a
paragraph has a sentence each about two entities of one group, and one or two questions.
README.md says how they are made.
"""

import hashlib
import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from data_prep.archives import read_members
from data_prep.builders import main, report, write_gzip
from data_prep.question_templates import Entity, element, person, place
from kpnb.datasets.texts.embedded import QUESTIONS, QUESTIONS_SHA256

KIND = "text"
TABLE = Path(__file__).with_suffix(".json")
NOUNS = "usr/share/wordnet/data.noun"
DATABASE = "mendeleev/elements.db"

# By the number of a dictionary's file.
KINDS = {"18": person, "15": place, "17": partial(place, thing="object")}

TEST_SHARE = 0.2
MOST_QUESTIONS = 2  # of a paragraph
COMMON = {"born", "died", "nation", "who", "kind", "where"}  # kinds that most entities answer


def build(files: Mapping[str, Path], out: Path, table: dict) -> None:
    """Write both files into `out` from the packages."""
    entities = once(read_entities(files["dictionary"], files["elements"]))
    for split, name in QUESTIONS.items():
        chosen = [entity for entity in entities if split_of(entity) == split]
        document = squad_document(chosen, split)
        content = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        report(write_gzip(out / name, content + "\n"), QUESTIONS_SHA256[name])


def read_entities(dictionary: Path, elements: Path) -> list[Entity]:
    """What can be asked about: from the dictionary's nouns and the database of elements."""
    nouns = read_members(dictionary, [NOUNS])[NOUNS]
    database = read_members(elements, [DATABASE])[DATABASE]
    return [*_dictionary_entities(nouns), *_element_entities(database)]


def _dictionary_entities(nouns: bytes) -> Iterator[Entity]:
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
        if fields[1] in KINDS and (entity := KINDS[fields[1]](names, gloss)):
            yield entity


def _element_entities(database: bytes) -> Iterator[Entity]:
    """The chemical elements whose discoverer, place and year the database knows."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(database)
        connection.row_factory = sqlite3.Row
        for row in connection.execute("SELECT * FROM elements ORDER BY atomic_number"):
            if entity := element(row):
                yield entity


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
        found = (_question(context, pair, index, kind) for index in (turn, 1 - turn))
        asked += [(kind, question) for question in found if question is not None][:1]
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


def squad_document(entities: Sequence[Entity], split: str) -> dict:
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


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
