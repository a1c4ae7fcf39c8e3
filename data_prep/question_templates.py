"""Sentences and questions about one entity, from its dictionary gloss or its table row.

`person`, `place` and `element` return an `Entity`: one sentence that begins with the entity's name
(perhaps after "The"), and the questions that the sentence answers, by kind, with the answers'
character spans. A gloss that a template does not fit gives None. The words that are looked for are
in question_templates.yaml.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from kpnb.datasets.texts.word_pieces import Span, word_spans

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


STOP = r"\b| ?[;,(]|\.$"  # where a phrase ends, beside some words

PEOPLE = r"United States|American|(?:South |New )?[A-Z][a-z]+(?:ish|ch|an|ese|ian|ss|ek|eli)"
BIRTHPLACE = re.compile(rf"\bborn in ((?:the )?{NAME})")
NATION = re.compile(rf"(?:is|was) (?:an? |the )?({PEOPLE})\b(?!-)")
WHO = re.compile(rf"(?:is|was) (?:an? |the )?(.+?)(?= (?:{WORDS['who_end']}){STOP})")
FAME = re.compile(
    r"\b(noted|remembered|known|famous|celebrated)(?: \w+)? for (?:his |her |the |an? )?([^;,(]+)"
)
FAME_END = re.compile(rf" (?:{WORDS['fame_end']})\b")
DEED = re.compile(
    rf"\b(?:who|and|;|also|first) ({'|'.join(DEEDS)}) (?!that\b|in\b|by\b|of\b)([^;,(]+)"
)
DEED_END = re.compile(
    r"(?<!way)(?<!method)(?<!methods)(?<!technique)(?<!conditions)(?<!expeditions) "
    rf"(?:{WORDS['deed_end']})\b"
)


def person(names: Sequence[str], gloss: str) -> Entity | None:
    """A person whose years the gloss ends with: "English poet (1788-1824)" or "(born in 1943)"."""
    found = re.search(r" ?\((?:(\d{3,4})-(\d{3,4})|born in (\d{4}))\)$", gloss)
    if not found:
        return None
    born, died, alive = found.groups()
    if born and int(born) >= int(died):  # years before Christ
        return None
    name, gloss = person_name(names), gloss[: found.start()].strip()
    verb, years = ("is", f"(born in {alive})") if alive else ("was", f"({born}-{died})")
    sentence = sentence_of(f"{name} {years} {verb}", gloss)
    if sentence is None or re.search(r"\((?!born in)", sentence[len(name) + len(years) + 1 :]):
        return None
    entity = Entity("person", name, sentence)
    entity.ask("born", f"When was {name} born?", find_word(sentence, born or alive))
    if died:
        at = sentence.index(f"-{died})") + 1
        entity.ask("died", f"When did {name} die?", (at, at + len(died)))
    _ask_person(entity, len(name) + len(years) + 2, verb)
    return entity


def _ask_person(entity: Entity, body: int, verb: str) -> None:
    """What is said of a person from `body` on."""
    name, sentence = entity.name, entity.sentence
    if found := BIRTHPLACE.search(sentence, body):
        entity.ask("birthplace", f"Where was {name} born?", found.span(1))
    if found := NATION.match(sentence, body):
        entity.ask("nation", f"What {verb} the nationality of {name}?", found.span(1))
    if (found := WHO.match(sentence, body)) and 2 <= len(found[1].split()) <= 7:
        entity.ask("who", f"Who {verb} {name}?", found.span(1))
    if found := FAME.search(sentence, body):
        spans = phrases(sentence, found.span(2), FAME_END)
        entity.ask("fame", f"What {verb} {name} {found[1]} for?", *spans)
    if (found := DEED.search(sentence, body)) and verb == "was":
        spans = phrases(sentence, found.span(2), DEED_END)
        entity.ask("deed", f"What did {name} {DEEDS[found[1]]}?", *spans)


WITH_THE = re.compile(rf"(?:{WORDS['with_the_first']}) |.* (?:{WORDS['with_the']})$")
PLURAL = re.compile(r".*(?:Mountains|Alps|Islands|Hills|Keys|Antilles)$")
PLURAL_GLOSS = re.compile(r"(?:the )?(?:islands|mountains|hills|two|three|four|several)\b")
HEIGHT = re.compile(r"\((\d[\d,]* feet) (?:high|above sea level)\)")
KIND = re.compile(rf"(?:is|are) (?:an? |the )?(.+?)(?= (?:{WORDS['kind_end']}){STOP})")
NO_KIND = re.compile(rf"(?:{WORDS['no_kind']})\b|.*(?:{WORDS['no_kind_last']})$")
# What stands between the name and its "in" or "on" must not be another statement.
WHERE = re.compile(
    r"(?:is|are) (?:(?!\b(?:that|which|where|who|rises|rising|flow\w*|formed|site|fought|of)\b)"
    rf"[^;,(])*? (?:in|on|off|between) ({PLACE})"
)
BETWEEN = re.compile(rf"between {PLACE} and {PLACE}")
CLAUSE = re.compile(rf"[^;,(]*?(?= (?:that|which|where|noted|famous){STOP})")
CAPITAL = re.compile(
    rf"\bcapital (?:and [\w ]+? )?of (?:the (?:state|sultanate|province) of )?"
    rf"((?:the )?{NAME}(?: and (?:the )?{CAPITALIZED})?)"
)
PAST = re.compile(r"\b(?:former|formerly|ancient|until|was)\b")
FLOWS = re.compile(
    rf"\b(?:flow\w*|empt\w+|tributary|ris\w+)\b[^;(]* (?:into|to join|joins?|tributary of|to) "
    rf"((?:the )?{NAME})"
)
RISES = re.compile(rf"\b(?:rises|rising) in ({PLACE})")
FREE = re.compile(rf"achieved independence from ((?:the )?{NAME}) in (\d{{4}})")


def place(names: Sequence[str], gloss: str, thing: str = "place") -> Entity | None:
    """A place or, with thing="object", a natural object such as a river or a constellation."""
    name = place_name(names)
    full = f"the {name}" if WITH_THE.match(name) else name
    be = "are" if PLURAL.match(name) or PLURAL_GLOSS.match(gloss) else "is"
    sentence = sentence_of(f"{full} {be}", gloss)
    if sentence is None or "(" in HEIGHT.sub("", sentence):
        return None
    entity, body = Entity(thing, name, sentence), len(full) + 1
    _ask_kind(entity, body, f"What kind of {thing} {be} {full}?")
    _ask_where(entity, body, f"Where {be} {full} located?")
    _ask_capital(entity, body)
    if name.endswith("River") or re.search(r"\briver\b", sentence):
        if found := FLOWS.search(sentence, body):
            entity.ask("mouth", f"What does {full} flow into?", found.span(1))
        if found := RISES.search(sentence, body):
            entity.ask("spring", f"Where does {full} rise?", found.span(1), found.span(2))
    if found := FREE.search(sentence, body):
        entity.ask("free", f"When did {full} achieve independence?", found.span(2))
        entity.ask("ruler", f"From whom did {full} achieve independence?", found.span(1))
    if found := HEIGHT.search(sentence):
        entity.ask("height", f"How high is {full}?", found.span(1))
    return entity if entity.asked else None


def _ask_kind(entity: Entity, body: int, question: str) -> None:
    found = KIND.match(entity.sentence, body)
    if not found or len(found[1].split()) > 4 or NO_KIND.match(found[1]):
        return
    last = found[1].split()[-1]
    if last.lower() not in entity.name.lower():  # "Green River" tells what it is
        entity.ask("kind", question, found.span(1), (found.end(1) - len(last), found.end(1)))


def _ask_where(entity: Entity, body: int, question: str) -> None:
    found = WHERE.match(entity.sentence, body)
    if not found or found[1].endswith("'s"):
        return
    pair = BETWEEN.search(entity.sentence, body)
    if pair and found[0].endswith(f" between {found[1]}") and pair.start() < found.start(1):
        entity.ask("where", question, pair.span(), (found.start(1), pair.end()))
        return
    end = CLAUSE.match(entity.sentence, found.start(1)).end()
    whole = (found.start(1), max(found.end(1), end))
    entity.ask("where", question, found.span(1), found.span(2), whole)


def _ask_capital(entity: Entity, body: int) -> None:
    found = CAPITAL.search(entity.sentence, body)
    if found and not PAST.search(entity.sentence) and entity.name not in found[1]:
        start = entity.sentence.index(entity.name)
        answer = (start, start + len(entity.name))
        entity.ask("capital", f"What is the capital of {found[1]}?", answer)
        entity.ask("seat", f"What is {entity.name} the capital of?", found.span(1))


def element(row: Mapping[str, object]) -> Entity | None:
    """A chemical element from its row: symbol, number, and who found it, where and when."""
    name, symbol, number = (str(row[key]) for key in ("name", "symbol", "atomic_number"))
    by, year, where = row["discoverers"], row["discovery_year"], row["discovery_location"]
    if not by or not year or not where or re.search(r"known|et al", str(by)):
        return None
    by, where = (re.sub(r"\s+", " ", str(value)).strip(" .") for value in (by, where))
    year, where = str(year), re.sub(r"^United", "the United", where)
    head = f"{name}, with the symbol {symbol} and the atomic number {number}, was discovered"
    sentence = f"{head} by {by} in {where} in {year}."
    if len(word_spans(sentence)) > MOST_WORDS or "(" in sentence or "/" in sentence:
        return None
    entity, lower = Entity("element", name, sentence), name.lower()
    at = sentence.index(" symbol ") + len(" symbol ")
    entity.ask("symbol", f"What is the symbol of {lower}?", (at, at + len(symbol)))
    entity.ask("number", f"What is the atomic number of {lower}?", find_word(sentence, number))
    at = len(head) + len(" by ")
    entity.ask("discoverer", f"Who discovered {lower}?", (at, at + len(by)))
    at += len(by) + len(" in ")
    entity.ask("found-in", f"Where was {lower} discovered?", (at, at + len(where)))
    entity.ask("discovery", f"When was {lower} discovered?", find_word(sentence, year, at))
    return entity
