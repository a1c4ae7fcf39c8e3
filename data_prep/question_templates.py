"""Sentences and questions about one entity, from its dictionary gloss or its table row.

Every function returns an `Entity`: one sentence that begins with the entity's name (perhaps after
"The"), and the questions that the sentence answers, by kind, with the answers' character spans. A
gloss that a template does not fit gives None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from data_prep.question_words import (
    CAPITALIZED,
    MOST_WORDS,
    NAME,
    PLACE,
    Entity,
    find_word,
    person_name,
    phrases,
    place_name,
    sentence_of,
)  # fmt: skip
from kpnb.datasets.texts.words import word_spans


def person(names: Sequence[str], gloss: str) -> Entity | None:
    """A person whose years the gloss ends with: "English poet (1788-1824)" or "(born in 1943)"."""
    found = re.search(r" ?\((?:(\d{3,4})-(\d{3,4})|born in (\d{4}))\)$", gloss)
    if not found:
        return None
    born, died, alive = found.groups()
    if born and int(born) >= int(died):  # years before Christ
        return None
    name, gloss = person_name(names), gloss[: found.start()].strip()
    years = f"(born in {alive})" if alive else f"({born}-{died})"
    sentence = sentence_of(f"{name} {years} {'is' if alive else 'was'}", gloss)
    if sentence is None or re.search(r"\((?!born in)", sentence[len(name) + len(years) + 1 :]):
        return None
    entity = Entity("person", name, sentence)
    verb, did = ("is", "does") if alive else ("was", "did")
    entity.ask("born", f"When was {name} born?", find_word(sentence, born or alive))
    if died:
        at = sentence.index(f"-{died})") + 1
        entity.ask("died", f"When did {name} die?", (at, at + len(died)))
    body = len(name) + len(years) + 2
    _ask_birthplace(entity, body)
    _ask_nation(entity, body, verb)
    _ask_who(entity, body, verb)
    _ask_fame(entity, body, verb)
    _ask_deed(entity, body, did)
    return entity


def _ask_birthplace(entity: Entity, body: int) -> None:
    found = re.compile(rf"\bborn in ((?:the )?{NAME})").search(entity.sentence, body)
    if found:
        entity.ask("birthplace", f"Where was {entity.name} born?", found.span(1))


PEOPLE = r"United States|American|(?:South |New )?[A-Z][a-z]+(?:ish|ch|an|ese|ian|ss|ek|eli)"


def _ask_nation(entity: Entity, body: int, verb: str) -> None:
    found = re.compile(rf"(?:{verb} )(?:an? |the )?({PEOPLE})\b(?!-)").match(entity.sentence, body)
    if found:
        entity.ask("nation", f"What {verb} the nationality of {entity.name}?", found.span(1))


WHO_END = (
    r" (?:who|whose|which|that|noted|remembered|known|best|born|famous|celebrated|associated|said|"
    r"considered|during|for|at|from|on|with|under|by|chiefly|in|to|after|until|as|honou?red|"
    r"active|being|killed|executed|called|hired|raised|regarded|"
    r"involved|influenced|famed|of the|of \d)\b| ?[;,(]|\.$"
)


def _ask_who(entity: Entity, body: int, verb: str) -> None:
    found = re.compile(rf"{verb} (?:an? |the )?(.+?)(?={WHO_END})").match(entity.sentence, body)
    if found and 2 <= len(found[1].split()) <= 7:
        entity.ask("who", f"Who {verb} {entity.name}?", found.span(1))


FAME = re.compile(
    r"\b(noted|remembered|known|famous|celebrated)(?: \w+)? for (?:his |her |the |an? )?([^;,(]+)"
)
FAME_END = re.compile(r" (?:and|who|whose|which|that|in \d+|during|while)\b")


def _ask_fame(entity: Entity, body: int, verb: str) -> None:
    found = FAME.search(entity.sentence, body)
    if found:
        spans = phrases(entity.sentence, found.span(2), FAME_END)
        entity.ask("fame", f"What {verb} {entity.name} {found[1]} for?", *spans)


DEEDS = dict(
    discovered="discover", founded="found", developed="develop", led="lead", wrote="write",
    studied="study", invented="invent", won="win", designed="design", introduced="introduce",
    proposed="propose", advocated="advocate", formulated="formulate", created="create",
    described="describe", established="establish", commanded="command", built="build",
    explored="explore", defeated="defeat", devised="devise", isolated="isolate",
    pioneered="pioneer", opposed="oppose", manufactured="manufacture", published="publish",
    supervised="supervise", identified="identify", promoted="promote", supported="support",
)  # fmt: skip
DEED = re.compile(
    rf"\b(?:who|and|;|also|first) ({'|'.join(DEEDS)}) (?!that\b|in\b|by\b|of\b)([^;,(]+)"
)
DEED_END = re.compile(
    r"(?<!way)(?<!method)(?<!methods)(?<!technique)(?<!conditions)(?<!expeditions) "
    r"(?:and|who|whose|which|that|when|where|while|with|in|by|for|at|to|as|on|during|from|through|"
    r"after|but|against|into|between|based|under|using)\b"
)


def _ask_deed(entity: Entity, body: int, did: str) -> None:
    found = DEED.search(entity.sentence, body)
    if found and did == "did":
        spans = phrases(entity.sentence, found.span(2), DEED_END)
        entity.ask("deed", f"What did {entity.name} {DEEDS[found[1]]}?", *spans)


WITH_THE = re.compile(
    r"(?:Gulf|Bay|Strait|Straits|Isle|Sea|Isthmus|Cape of|Firth) |"
    r".* (?:River|Sea|Ocean|Mountains|Alps|Islands|Desert|Canal|Channel|Peninsula|Strait|Range|"
    r"Basin|Hills|Plateau|Trench|Current|Valley|Keys|Antilles)$"
)
PLURAL = re.compile(r".*(?:Mountains|Alps|Islands|Hills|Keys|Antilles)$")
PLURAL_GLOSS = re.compile(r"(?:the )?(?:islands|mountains|hills|two|three|four|several)\b")


def place(names: Sequence[str], gloss: str, thing: str = "place") -> Entity | None:
    """A place or, with thing="object", a natural object such as a river or a constellation."""
    name = place_name(names)
    the = "the " if WITH_THE.match(name) else ""
    be = "are" if PLURAL.match(name) or PLURAL_GLOSS.match(gloss) else "is"
    sentence = sentence_of(f"{the}{name} {be}", gloss)
    height = r"\((\d[\d,]* feet) (?:high|above sea level)\)"
    if sentence is None or "(" in re.sub(height, "", sentence):
        return None
    entity = Entity(thing, name, sentence)
    body = len(the) + len(name) + 1
    full = the + name
    _ask_kind(entity, body, f"What kind of {thing} {be} {full}?")
    _ask_where(entity, body, f"Where {be} {full} located?")
    _ask_capital(entity, body)
    _ask_river(entity, body, full)
    _ask_independence(entity, body, full)
    found = re.search(height, sentence)
    if found:
        entity.ask("height", f"How high is {full}?", found.span(1))
    return entity if entity.asked else None


KIND_END = (
    r" (?:in|on|off|of|that|between|near|at|to|from|by|and|with|where|which|whose|along|located|"
    r"rising|for|lying|consisting|about|formed|just|south|north|east|west|situated|noted|famous|"
    r"extending|running|stretching|marking|inhabited|surrounded|having|containing|built|"
    r"within|through|known|visible|flowing|around|across|connecting|named|under|"
    r"including|bordering|belonging|separating|passing|comprising|"
    r"established|strategically)\b| ?[;,(]|\.$"
)
NO_KIND = re.compile(
    r"(?:part|one|capital|site|location|that|group|series|either|side)\b|"
    r".*(?:est|larger|smaller|populous|half|former|latter|ed)$"
)


def _ask_kind(entity: Entity, body: int, question: str) -> None:
    pattern = rf"(?:is|are) (?:an? |the )?(.+?)(?={KIND_END})"
    found = re.compile(pattern).match(entity.sentence, body)
    if not found or len(found[1].split()) > 4 or NO_KIND.match(found[1]):
        return
    last = found[1].split()[-1]
    if last.lower() not in entity.name.lower():  # "Green River" tells what it is
        entity.ask("kind", question, found.span(1), (found.end(1) - len(last), found.end(1)))


# What stands between the name and its "in" or "on" must not be another statement.
WHERE = re.compile(
    r"(?:is|are) (?:(?!\b(?:that|which|where|who|rises|rising|flow\w*|formed|site|fought|of)\b)"
    rf"[^;,(])*? (?:in|on|off|between) ({PLACE})"
)


def _ask_where(entity: Entity, body: int, question: str) -> None:
    found = WHERE.match(entity.sentence, body)
    if not found or found[1].endswith("'s"):
        return
    between = re.compile(rf"between {PLACE} and {PLACE}")
    pair = between.search(entity.sentence, body)
    if pair and found[0].endswith(f" between {found[1]}") and pair.start() < found.start(1):
        entity.ask("where", question, (pair.start(), pair.end()), (found.start(1), pair.end()))
        return
    clause = re.compile(r"[^;,(]*?(?= (?:that|which|where|noted|famous)\b| ?[;,(]|\.$)")
    whole = (found.start(1), max(found.end(1), clause.match(entity.sentence, found.start(1)).end()))
    entity.ask("where", question, found.span(1), found.span(2), whole)


CAPITAL = re.compile(
    rf"\bcapital (?:and [\w ]+? )?of (?:the (?:state|sultanate|province) of )?"
    rf"((?:the )?{NAME}(?: and (?:the )?{CAPITALIZED})?)"
)


def _ask_capital(entity: Entity, body: int) -> None:
    found = CAPITAL.search(entity.sentence, body)
    past = re.search(r"\b(?:former|formerly|ancient|until|was)\b", entity.sentence)
    if found and not past and entity.name not in found[1]:
        start = entity.sentence.index(entity.name)
        answer = (start, start + len(entity.name))
        entity.ask("capital", f"What is the capital of {found[1]}?", answer)
        entity.ask("seat", f"What is {entity.name} the capital of?", found.span(1))


FLOWS = re.compile(
    rf"\b(?:flow\w*|empt\w+|tributary|ris\w+)\b[^;(]* (?:into|to join|joins?|tributary of|to) "
    rf"((?:the )?{NAME})"
)
RISES = re.compile(rf"\b(?:rises|rising) in ({PLACE})")


def _ask_river(entity: Entity, body: int, full: str) -> None:
    if not entity.name.endswith("River") and not re.search(r"\briver\b", entity.sentence):
        return
    flows, rises = (pattern.search(entity.sentence, body) for pattern in (FLOWS, RISES))
    if flows:
        entity.ask("mouth", f"What does {full} flow into?", flows.span(1))
    if rises:
        entity.ask("spring", f"Where does {full} rise?", rises.span(1), rises.span(2))


def _ask_independence(entity: Entity, body: int, full: str) -> None:
    pattern = rf"achieved independence from ((?:the )?{NAME}) in (\d{{4}})"
    found = re.compile(pattern).search(entity.sentence, body)
    if found:
        entity.ask("free", f"When did {full} achieve independence?", found.span(2))
        entity.ask("ruler", f"From whom did {full} achieve independence?", found.span(1))


def element(row: Mapping[str, object]) -> Entity | None:
    """A chemical element from its row: symbol, number, and who found it, where and when."""
    name, lower, number = row["name"], str(row["name"]).lower(), str(row["atomic_number"])
    by, year, where = row["discoverers"], row["discovery_year"], row["discovery_location"]
    if not by or not year or not where or re.search(r"known|et al", str(by)):
        return None
    by, where = (re.sub(r"\s+", " ", str(value)).strip(" .") for value in (by, where))
    year, where = str(year), re.sub(r"^United", "the United", where)
    head = f"{name}, with the symbol {row['symbol']} and the atomic number {number}, was discovered"
    sentence = f"{head} by {by} in {where} in {year}."
    if len(word_spans(sentence)) > MOST_WORDS or "(" in sentence or "/" in sentence:
        return None
    entity = Entity("element", str(name), sentence)
    symbol = sentence.index(" symbol ") + 8
    span = (symbol, symbol + len(str(row["symbol"])))
    entity.ask("symbol", f"What is the symbol of {lower}?", span)
    entity.ask("number", f"What is the atomic number of {lower}?", find_word(sentence, number))
    start = len(head) + 4
    entity.ask("discoverer", f"Who discovered {lower}?", (start, start + len(by)))
    start += len(by) + 4
    entity.ask("found-in", f"Where was {lower} discovered?", (start, start + len(where)))
    entity.ask("discovery", f"When was {lower} discovered?", find_word(sentence, year, start))
    return entity
