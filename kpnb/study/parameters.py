"""The notebooks' parameters and presets, and their check before anything runs.

One model a modality; `MODELS` maps the beginning of a notebook's name to its model, and that is
the place where another modality is added. A notebook with more parameters than its modality has
its own in `OWN_MODELS`, by its whole name.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from kpnb.errors import KpnbError
from kpnb.study.cell_parameters import CellParameters
from kpnb.study.cloud_parameters import CloudParameters
from kpnb.study.coherency_parameters import CoherencyParameters
from kpnb.study.fine_tuning_parameters import FineTuningParameters
from kpnb.study.image_parameters import ImageParameters
from kpnb.study.parameter_model import NotebookParameters, StudyParameters, checkpoint_epochs
from kpnb.study.text_parameters import QuestionParameters, SentimentParameters

__all__ = [
    "MODELS",
    "OWN_MODELS",
    "CellParameters",
    "CloudParameters",
    "CoherencyParameters",
    "FineTuningParameters",
    "ImageParameters",
    "NotebookParameters",
    "QuestionParameters",
    "SentimentParameters",
    "StudyParameters",
    "allowed_values",
    "checkpoint_epochs",
    "models_for",
    "resolve",
]

MODELS: dict[str, type[StudyParameters]] = {
    "image_": ImageParameters,
    "sentiment_": SentimentParameters,
    "qa_": QuestionParameters,
    "pointcloud_": CloudParameters,
}

OWN_MODELS: dict[str, type[StudyParameters]] = {
    "image_cell": CellParameters,
    "image_coherency": CoherencyParameters,
    "image_fine_tuning": FineTuningParameters,
}

Model = TypeVar("Model", bound=NotebookParameters)


def models_for(notebook: str) -> type[StudyParameters]:
    """The parameter model of a notebook, by its name or the beginning of it ("image_h1")."""
    if notebook in OWN_MODELS:
        return OWN_MODELS[notebook]
    for beginning, model in MODELS.items():
        if notebook.startswith(beginning):
            return model
    known = ", ".join(f"{beginning}..." for beginning in MODELS)
    raise KpnbError(f"No parameters are known for the notebook {notebook!r}: names are {known}.")


def resolve(model: type[Model], given: dict[str, object]) -> Model:
    """The validated parameters: those given that are not None, over the preset's values.

    Raises `KpnbError`, one sentence, for an unknown name (with the nearest ones), a missing or
    unknown preset, and a value of the wrong type or range (with what is allowed).
    """
    for name in given:
        _require_known(model, name)
    if given.get("preset") is None:
        names = ", ".join(model.PRESETS)
        raise KpnbError(f"The parameter preset is missing: give one of {names}.")
    # The preset's name is checked by the model, with the other values.
    preset = model.PRESETS.get(str(given["preset"]), next(iter(model.PRESETS.values())))
    values = preset | {name: value for name, value in given.items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise KpnbError(_sentence(model, values, error)) from None


def _require_known(model: type[NotebookParameters], name: str) -> None:
    if name in model.model_fields:
        return
    near = difflib.get_close_matches(name, model.model_fields, n=3)
    known = f"known: {', '.join(model.model_fields)}."
    hint = f"did you mean {' or '.join(near)}?" if near else known
    raise KpnbError(f"There is no parameter {name!r}: {hint}")


def _sentence(
    model: type[NotebookParameters], values: dict[str, object], error: ValidationError
) -> str:
    """The first mistake in one sentence: the parameter, its value, and what it may be."""
    first = error.errors()[0]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else ""
    if not first["loc"]:
        return f"{reason}."
    name = str(first["loc"][0])
    allowed = reason or f"it must be {allowed_values(model, name)}"
    return f"The parameter {name} is {values[name]!r}: {allowed}."


def allowed_values(model: type[NotebookParameters], name: str) -> str:
    """What a parameter may be, in words, read from its model."""
    return _in_words(model.model_json_schema()["properties"][name])


def _in_words(schema: dict) -> str:
    if "anyOf" in schema:
        return ", or ".join(_in_words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema["type"] == "array":
        return f"a non-empty list without repeats, each item {_in_words(schema['items'])}"
    if schema["type"] == "null":
        return "None"
    kinds = {"integer": "a whole number", "number": "a number", "string": "a text"}
    kinds |= {"boolean": "True or False"}
    kind = kinds[schema["type"]]
    kind = f"a multiple of {schema['multipleOf']}" if "multipleOf" in schema else kind
    return " ".join([kind, *_bounds(schema)])


def _bounds(schema: dict) -> Sequence[str]:
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in words.items() if key in schema]
    return [" and ".join(bounds)] if bounds else []
