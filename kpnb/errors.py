"""The one exception kpnb raises for input it cannot work with, and parts of its sentences."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping


class KpnbError(ValueError):
    """Bad input, data or state; the message is one sentence: what is wrong and what to do."""


def answered(program: Callable[[], int]) -> int:
    """A program's exit code; 2 after a mistake, which goes to stderr as its one sentence."""
    try:
        return program()
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a real lack of memory; on the CPU torch raises a plain RuntimeError."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or (type(error) is RuntimeError and "can't allocate memory" in str(error))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "did you mean X or Y?" with the names nearest to a mistyped one; "" if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else ""


def first_mistake(error: Mapping, values: Mapping[str, object], schema: Mapping[str, dict]) -> str:
    """pydantic's description of a mistake as a sentence: the parameter, its value, what it may be.

    schema: the JSON schema of each parameter.
    """
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else ""
    if not error["loc"]:
        return f"{reason}."
    name = str(error["loc"][0])
    allowed = reason or f"it must be {in_words(schema[name])}"
    return f"The parameter {name} is {values[name]!r}: {allowed}."


def in_words(schema: dict) -> str:
    """What a JSON schema allows, as the end of "it must be ..."."""
    if "anyOf" in schema:
        return ", or ".join(in_words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema["type"] == "array":
        return f"a non-empty list without repeats, each item {in_words(schema['items'])}"
    kinds = {"integer": "a whole number", "number": "a number", "string": "a text"}
    kinds |= {"boolean": "True or False", "null": "None"}
    kind = kinds[schema["type"]]
    kind = f"a multiple of {schema['multipleOf']}" if "multipleOf" in schema else kind
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return f"{kind} {' and '.join(bounds)}".rstrip()
