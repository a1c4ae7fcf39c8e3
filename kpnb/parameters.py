"""Parameters of the notebooks: names, ranges, presets, and their check before anything runs.

One model a modality; `MODELS` maps the beginning of a notebook's name to its model, and that is
the place where another modality is added.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kpnb.errors import KpnbError

PUBLISHED_EPOCHS = 150
PUBLISHED_CHECKPOINTS = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90, 110, 130, 150)

Item = TypeVar("Item")


def checkpoint_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs at which a network is kept: ascending, with 0, 1 and the last.

    The authors' public code keeps 15 of 150 epochs, denser at the beginning; this scales them
    to `epochs` and rounds. Raises `KpnbError` for fewer than one epoch.
    """
    if epochs < 1:
        raise KpnbError(f"epochs is {epochs}: train for at least 1 epoch.")
    scale = epochs / PUBLISHED_EPOCHS
    scaled = {math.floor(epoch * scale + 0.5) for epoch in PUBLISHED_CHECKPOINTS}
    return tuple(sorted(scaled | {0, 1, epochs}))


def _no_repeats(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(items)) < len(items):
        raise ValueError("name each item once")
    return items


# A notebook writes lists, and JSON knows no tuples; a frozen model keeps tuples.
_Listed = Field(strict=False, min_length=1)
Layer = Literal["Conv", "FC1", "FC2", "FC3"]
Layers = Annotated[tuple[Layer, ...], _Listed, AfterValidator(_no_repeats)]
Whole = Annotated[int, Field(ge=0, strict=True)]
Wholes = Annotated[tuple[Whole, ...], _Listed, AfterValidator(_no_repeats)]


class NotebookParameters(BaseModel):
    """What every modality's parameters share: strict types, no unknown names, unchangeable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    PRESETS: ClassVar[dict[str, dict]] = {}

    preset: Literal["smoke", "demo", "study"] = Field(
        description="values of all parameters not given: demo takes minutes, study has several "
        "seeds and more samples, smoke is for the tests"
    )
    seeds: Wholes = Field(
        description="one network of each kind is trained per seed; one seed in the demo for "
        "time, three in the study to see the spread"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        description="where networks are trained and measured; auto takes a GPU if there is one"
    )


class ImageParameters(NotebookParameters):
    """Parameters of the image notebooks; where each default comes from is in its description."""

    network: Literal[
        "AlexNet", "VGG-11", "VGG-16", "VGG-19", "ResNet-50", "ResNet-101", "ResNet-152"
    ] = Field(
        description="architecture of teacher, student and baseline, one of the paper's seven; "
        "VGG-11 is its smallest VGG"
    )
    scale: Literal["narrow", "full"] = Field(
        description="full: torchvision's widths; narrow: the same family with fewer channels, "
        "for CPUs (the default)"
    )
    teacher: Literal["same", "EfficientNet-lite0"] = Field(
        description="same: the student's architecture trained on all data, as in the paper; "
        "EfficientNet-lite0: an ImageNet-pretrained network from the package index"
    )
    layers: Layers = Field(
        description="target layers of distillation and measurement (Section 4.1); the demo takes "
        "FC1 for time, the study leaves out FC3 only"
    )
    classes: Literal[8, 12] = Field(
        description="classes of the embedded objects; 12 is all of them, and as many as the "
        "paper's ILSVRC subset has"
    )
    image_size: int = Field(
        ge=32, le=512, description="side in pixels; 64 is ours, for CPUs (the paper: 224)"
    )
    teacher_samples: int = Field(
        ge=100, description="composites the teacher is trained on; ours, from a pilot"
    )
    fraction: float = Field(
        gt=0,
        le=1,
        description="share of the teacher's samples that student and baseline see; 0.1 is the "
        "paper's share for point clouds",
    )
    teacher_epochs: int = Field(
        ge=1, description="epochs of the teacher; ours, from a pilot (public code: 150)"
    )
    epochs: int = Field(
        ge=1,
        description="epochs of distillation and of the baseline; ours, from a pilot "
        "(public code: 150)",
    )
    head_epochs: int = Field(
        ge=1,
        description="epochs of cross-entropy for the student's layers above the target; ours "
        "(public code: 100)",
    )
    checkpoints: Wholes = Field(
        description="epochs measured, from 0 to the last; None for the public code's 15 of 150 "
        "scaled to `epochs`, see `checkpoint_epochs`"
    )
    samples: int = Field(
        ge=2, description="images measured; ours, enough for the intervals that are shown"
    )
    measured_on: Literal["train", "test"] = Field(
        description="images measured come from the training or the test split; train as in the "
        "pilot"
    )
    grid: int = Field(
        ge=2, le=64, description="input units per side; 16 in the public code and in Table V"
    )
    threshold: float = Field(
        gt=0, description="b of Eqs. 5 and 6, in nats; 0.2 in the public code and in Table III"
    )
    method: Literal["path", "published", "optimum", "descent"] = Field(
        description="how the entropies are estimated; path is the closed form of the published "
        "procedure"
    )
    probes: int = Field(
        ge=8,
        multiple_of=4,
        description="noisy passes of each of the three evaluations of the closed form; ours: the "
        "standard error that follows is shown with every result",
    )

    @model_validator(mode="before")
    @classmethod
    def _derive_checkpoints(cls, values: dict[str, object]) -> dict[str, object]:
        epochs = values.get("epochs")
        if values.get("checkpoints") is None and type(epochs) is int and epochs >= 1:
            return values | {"checkpoints": checkpoint_epochs(epochs)}
        return values

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.grid > self.image_size:
            raise ValueError(
                f"grid is {self.grid} but images have {self.image_size} pixels a side: "
                "make the grid coarser or the images larger"
            )
        kept = self.checkpoints
        if list(kept) != sorted(kept) or {kept[0], kept[-1]} != {0, self.epochs}:
            raise ValueError(
                f"checkpoints is {list(kept)}: they must ascend from 0 to epochs ({self.epochs})"
            )
        return self


_IMAGE_DEMO = {
    "preset": "demo",
    "network": "VGG-11",
    "scale": "narrow",
    "teacher": "same",
    "layers": ["FC1"],
    "classes": 12,
    "image_size": 64,
    "teacher_samples": 9000,
    "fraction": 0.1,
    "teacher_epochs": 16,
    "epochs": 30,
    "head_epochs": 20,
    "checkpoints": None,
    "samples": 60,
    "measured_on": "train",
    "grid": 16,
    "threshold": 0.2,
    "method": "path",
    "probes": 8,
    "seeds": [0],
    "device": "auto",
}
_IMAGE_STUDY = _IMAGE_DEMO | {
    "preset": "study",
    "layers": ["Conv", "FC1", "FC2"],
    "samples": 60,
    "seeds": [0, 1, 2],
}
_IMAGE_SMOKE = _IMAGE_DEMO | {
    "preset": "smoke",
    "image_size": 32,
    "teacher_samples": 240,
    "fraction": 0.5,
    "teacher_epochs": 2,
    "epochs": 2,
    "head_epochs": 1,
    "samples": 6,
    "grid": 8,
    "probes": 8,
}
ImageParameters.PRESETS = {"smoke": _IMAGE_SMOKE, "demo": _IMAGE_DEMO, "study": _IMAGE_STUDY}

MODELS: dict[str, type[NotebookParameters]] = {"image_": ImageParameters}

Model = TypeVar("Model", bound=NotebookParameters)


def models_for(notebook: str) -> type[NotebookParameters]:
    """The parameter model of a notebook, by the beginning of its name ("image_h1")."""
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
    if schema["type"] == "array":
        return f"a non-empty list without repeats, each item {_in_words(schema['items'])}"
    if schema["type"] == "null":
        return "None"
    kind = {"integer": "a whole number", "number": "a number"}[schema["type"]]
    kind = f"a multiple of {schema['multipleOf']}" if "multipleOf" in schema else kind
    return " ".join([kind, *_bounds(schema)])


def _bounds(schema: dict) -> Sequence[str]:
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in words.items() if key in schema]
    return [" and ".join(bounds)] if bounds else []
