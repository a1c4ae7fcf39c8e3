"""The one exception kpnb raises for input it cannot work with, and parts of its sentences."""

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence


class KpnbError(ValueError):
    """Bad input, data or state; the message is one sentence: what is wrong and what to do."""


def answered(program: Callable[[], int | None]) -> int:
    """A program's exit code, 0 for None; 2 after a mistake, which goes to stderr as its one
    sentence."""
    try:
        return program() or 0
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


def first_mistake(errors: Sequence[Mapping], values: Mapping[str, object]) -> str:
    """pydantic's errors as one sentence: the first parameter in them, its value, what it may be."""
    place = errors[0]["loc"]
    # Of the parameter's parts the first; more than one error where it may be of several kinds.
    own = [e for e in errors if (e["loc"][:1], len(e["loc"])) == (place[:1], len(place))]
    told = ", or ".join(dict.fromkeys(map(_reason, own)))
    return "".join(f"The parameter {name} is {values[name]!r}: " for name in place[:1]) + f"{told}."


def _reason(error: Mapping) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return re.sub(r"^\w+ should", "it should", error["msg"]).replace("valid tuple", "list")
