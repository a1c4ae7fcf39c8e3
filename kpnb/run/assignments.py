"""The parameters that a command line passes as `name=value`."""

import ast
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

import yaml

from kpnb.datasets.places import EMBEDDED
from kpnb.errors import KpnbError, require
from kpnb.study.parameters import models_for

#: Parameters that may be a place on this machine -> what a folder holds to be one.
PLACES = {"data": "", "images": "", "masks": "", "weights": ""}
PLACES |= dict.fromkeys(["model", "network"], "config.json")
FILES = {"images", "masks", "weights"}  # places, but for the words below
#: Which are no places, whatever lies in the current folder.
WORDS = {EMBEDDED, "DEFAULT", "none"}


def parse_assignments(texts: Iterable[str], notebook: str = "") -> dict[str, object]:
    """`name=value` texts of a command line; values are JSON, Python or YAML literals, but stay as
    they are, None apart, where the notebook's parameter is a text."""
    values, plain = {}, text_parameters(notebook)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise KpnbError(f"-p {text!r} is not a parameter: write name=value.")
        require(name not in values, f"The parameter {name} is given twice: give it once.")
        as_is = name in plain and value not in ("None", "null")
        values[name] = value if as_is else _literal(value, name)
    return values


def _literal(text: str, name: str) -> object:
    # JSON before YAML, which takes 1e-1 for a string; Python's for None and (1, 2).
    for reader in (json.loads, ast.literal_eval, yaml.safe_load):
        with suppress(ValueError, SyntaxError, TypeError, yaml.YAMLError):
            value = reader(text)
            return list(value) if isinstance(value, tuple) else value
    raise KpnbError(f"The value {text!r} of {name} cannot be read: write it as JSON.")


def text_parameters(notebook: str) -> set[str]:
    """Names of a notebook's parameters that are a text or one of some words, and nothing else;
    none for a notebook without known parameters."""
    with suppress(KpnbError):
        known = models_for(notebook).model_json_schema()["properties"].items()
        kinds = {name: {o.get("type") for o in told.get("anyOf", [told])} for name, told in known}
        return {name for name, kind in kinds.items() if kind - {"null"} == {"string"}}
    return set()


def full_places(passed: Mapping[str, object]) -> dict[str, object]:
    """The parameters, with those of `PLACES` by their full path where they are there. A leading ~/
    is the home folder. Raises KpnbError for a path that is not there."""
    found = dict(passed)
    for name in PLACES.keys() & passed.keys():
        place = passed[name]
        if isinstance(place, str) and place not in WORDS:
            place = os.path.expanduser(place) if place.startswith("~/") else place
            there = os.path.exists(os.path.join(place, PLACES[name]))
            only = name in FILES or place.startswith((os.sep, f".{os.sep}", f"..{os.sep}"))
            told = f"{name} is {passed[name]!r}, which is not there: name one."
            require(os.path.exists(place) or not only, told)
            found[name] = os.path.realpath(place) if there else place
    return found
