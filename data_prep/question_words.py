"""The words of question templates: names, places, and one sentence from a gloss.

The words themselves are in question_words.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from kpnb.datasets.texts.words import Span, word_spans

_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
WORDS = {key: "|".join(listed.split(", ")) for key, listed in _TABLE["words"].items()}
DEEDS: dict[str, str] = _TABLE["deeds"]
MOST_WORDS = 28  # of a sentence, signs included, so that two of them stay below 60
LEAST_WORDS = 11  # of a sentence; shorter ones ("Reno is a city in Nevada.") hardly have a rest


@dataclass
class Entity:
    """group: entities that may share a paragraph; asked: kind -> (question, accepted spans)."""

    group: str
    name: str
    sentence: str
    asked: dict[str, tuple[str, list[Span]]] = field(default_factory=dict)

    def ask(self, kind: str, question: str, *spans: Span) -> None:
        """Adds a question; the first span is the answer, the others are accepted as well."""
        self.asked[kind] = (question, list(dict.fromkeys(spans)))


CAPITALIZED = r"[A-Z][\w.'’-]*\w"
NAME = rf"{CAPITALIZED}(?: (?:of (?:the )?)?{CAPITALIZED})*(?: (?:{WORDS['land']})\b)?"
DIRECTION = r"(?:(?:north|south|east|west|central|upper|lower|far|extreme)\w*[ -])*"
PART = r"(?:\w+ )?(?:coast|side|end|shore|edge|part|bank|tip|border|slope|island) of "
PLACE = rf"(?:the )?(?:{PART})?(?:the )?{DIRECTION}({NAME})"


def person_name(names: Sequence[str]) -> str:
    """The first full name: one that ends with the family name, or one of several words."""
    full = [name for name in names if name.endswith(f" {names[0]}")]
    full += [name for name in names if " " in name]
    return capitalized((full or names)[0])


GEOGRAPHIC = re.compile(rf".* (?:{WORDS['geographic']})$|(?:{WORDS['geographic_first']}) ")


def place_name(names: Sequence[str]) -> str:
    """The first name that says what it names ("Green River"), or else the first.

    "capital of Peru" is none.
    """
    names = [name for name in names if not re.search(r"\bcapital\b", name, re.IGNORECASE)] or names
    return capitalized(next((name for name in names if GEOGRAPHIC.match(name)), names[0]))


def capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


NO_ARTICLE = re.compile(rf"(?:{WORDS['no_article']})\b", re.IGNORECASE)
THE = re.compile(rf"(?:{WORDS['the']})\b")
NOT_A_NOUN = re.compile(rf"(?:{WORDS['not_a_noun']})\b")


def sentence_of(start: str, gloss: str) -> str | None:
    """ "start an English poet; also wrote plays.", cut after a clause to MOST_WORDS words.

    None for a gloss that is no plain noun phrase, or is too short or too long.
    """
    if not gloss or NOT_A_NOUN.match(gloss) or gloss[0] in "(`'" or re.search(r'[":`]', gloss):
        return None
    article, gloss = "", re.sub(r"^a (?=[aio])(?!one)", "an ", gloss)
    if THE.match(gloss):
        article = "the "
    elif not NO_ARTICLE.match(gloss):
        vowel = gloss[0] in "AEIOaeiou" or gloss.startswith("Un")
        vowel &= not re.match(r"(?:Uni|uni|Eu|eu|one|use)", gloss)
        article = "an " if vowel else "a "
    clauses = gloss.split("; ")
    for count in range(len(clauses), 0, -1):
        text = f"{start} {article}{'; '.join(clauses[:count])}."
        if LEAST_WORDS <= len(word_spans(text)) <= MOST_WORDS:
            return capitalized(text)
    return None


def phrases(sentence: str, span: Span, end: re.Pattern[str]) -> list[Span]:
    """`span` up to the first match of `end`, and the whole of it, both without a last "."."""
    stop = span[1] - sentence[: span[1]].endswith(".")
    short = end.search(sentence, span[0], stop)
    return [(span[0], short.start() if short else stop), (span[0], stop)]


def find_word(sentence: str, text: str, start: int = 0) -> Span:
    """Where `text` stands in `sentence` as a word of its own."""
    return re.compile(rf"\b{re.escape(text)}\b").search(sentence, start).span()
