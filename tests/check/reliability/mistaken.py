"""Every parameter of every notebook misspelled, of another type and out of range.

Each is asked for as `python -m kpnb.run` is, in this process: refused with one sentence, exit code
2 and nothing run. What no command line can say, an object where text is wanted, is given to the
check itself.
"""

import io
import json
import math
import string
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from random import Random
from unittest.mock import patch

from pydantic import TypeAdapter, ValidationError

import kpnb.run.__main__ as runner
from kpnb.errors import KpnbError
from kpnb.run.notebook import request
from kpnb.study.parameters import models_for

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = ROOT / "notebooks"
KINDS = ("misspelled", "of another type", "out of range")
#: Of every type that a parameter may have, and of none.
TYPED = (True, 7, 2.5, "words", [True], [2.5], [["nested"]], {"a": 1})
#: What is there on no machine, and what no name is.
NOWHERE = ("/no/such/folder", "nowhere", "download:nothing", "")


class Mistaken:
    """A notebook, parameter and wrong value a trial."""

    def __init__(self, work: Path) -> None:
        self.out = work / "out.ipynb"
        self.cases = [
            (notebook.stem, name, kind, value)
            for notebook in sorted(NOTEBOOKS.glob("*.ipynb"))
            for name, field in models_for(notebook.stem).model_fields.items()
            for kind in KINDS
            for value in wrong_values(models_for(notebook.stem), name, kind)
        ]

    def __len__(self) -> int:
        return len(self.cases)

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        notebook, name, kind, value = self.cases[number]
        known = models_for(notebook).model_fields
        given, value = (misspelled(name, known, random), 3) if kind == KINDS[0] else (name, value)
        asked = f"{notebook} {given}={value!r}"
        ran: list[object] = []
        with patch("kpnb.run.notebook.execute", lambda *given: ran.append(given) or {}):
            told = refusal(notebook, given, value, self.out, checked=kind == KINDS[1])
        wrong = "was run" if ran else "was taken" if told is None else ""
        if told is not None and len(told.strip().splitlines()) != 1:
            wrong = f"is no one sentence: {told!r}"
        elif told is not None and given not in told:
            wrong = f"is told of something else: {told!r}"
        return f"parameter {kind}", "wrong" if wrong else "refused", f"{asked}: {wrong or told}"


def refusal(notebook: str, name: str, value: object, out: Path, checked: bool) -> str | None:
    """The sentence that refuses; None where the value is taken. checked: by the check itself."""
    if checked:
        try:
            request(notebook, NOTEBOOKS, {name: value})
        except KpnbError as error:
            return str(error)
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    arguments = [notebook, "-p", f"{name}={text}", "-o", str(out), "--notebooks", str(NOTEBOOKS)]
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()):
        code = runner.main(arguments)
    return told.getvalue() if code == 2 else None


def misspelled(name: str, known: dict, random: Random) -> str:
    """A letter left out, doubled, replaced or exchanged, so that it is no parameter."""
    while True:
        at, letter = random.randrange(len(name)), random.choice(string.ascii_lowercase)
        ways = (name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:],
                name[:at] + letter + name[at + 1 :],
                name[:at] + name[at : at + 2][::-1] + name[at + 2 :])  # fmt: skip
        found = random.choice(ways)
        if found.isidentifier() and found not in {*known, "more"}:
            return found


def wrong_values(model: type, name: str, kind: str) -> Iterator[object]:
    """Values of one kind of mistake; of a misspelled name one, which is not looked at."""
    if kind == KINDS[0]:
        yield None
        return
    schema = schema_of(model)[name]
    if kind == KINDS[1]:
        adapter = TypeAdapter(model.model_fields[name].annotation)
        yield from (value for value in TYPED if not of_type(adapter, value))
    else:
        yield from beyond(name, schema)


@cache
def schema_of(model: type) -> dict[str, dict]:
    return model.model_json_schema()["properties"]


def of_type(adapter: TypeAdapter, value: object) -> bool:
    """Whether no error is about the type, in one of the types that a parameter may have."""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        kinds = {found["type"] for found in error.errors()}
        return not all(kind.endswith("_type") or kind == "is_instance_of" for kind in kinds)
    return True


def beyond(name: str, schema: dict) -> Iterator[object]:
    """Just outside of what a parameter's schema allows, in each of its parts."""
    for part in schema.get("anyOf", [schema]):
        if "enum" in part or "const" in part:
            yield "no-such-value"
        if part.get("type") in ("integer", "number"):
            yield from _numbers(part)
        if part.get("type") == "array":
            yield []
            inner = list(beyond(name, part["items"])) or [2**64]
            yield from ([value] for value in inner)
            yield (
                [0, 0]
                if part["items"].get("type") == "integer"
                else [part["items"].get("enum", [0])[0]] * 2
            )
        if part.get("type") == "string" and name in (
            "data",
            "network",
            "images",
            "masks",
            "weights",
        ):
            yield from NOWHERE
        if "pattern" in part:
            yield from ("../outside", "With Capitals", "")


def _numbers(part: dict) -> Iterator[float]:
    whole = part["type"] == "integer"
    for limit, sign in (("minimum", -1), ("maximum", 1)):
        if limit in part:
            yield part[limit] + sign * (1 if whole else 1e-6 * max(1, abs(part[limit])))
        if f"exclusive{limit.title()}" in part:
            yield part[f"exclusive{limit.title()}"]
    if "multipleOf" in part:
        yield part.get("minimum", part["multipleOf"]) + 1
    yield from (-(2**64), 2**64) if whole else (math.nan, math.inf)
