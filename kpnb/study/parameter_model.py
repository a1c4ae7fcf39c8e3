"""What the parameters of all notebooks share: strict types, epochs and checkpoints."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

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


def no_repeats(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(items)) < len(items):
        raise ValueError("name each item once")
    return items


# A notebook writes lists, and JSON knows no tuples; a frozen model keeps tuples.
LISTED = Field(strict=False, min_length=1)
Whole = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=100, strict=True)] | Literal["all"]
Wholes = Annotated[tuple[Whole, ...], LISTED, AfterValidator(no_repeats)]


# What presets for CPUs share.
ON_A_CPU = {
    "device": "auto",
    "batch": None,
    "precision": "float32",
    "compiled": False,
    "deterministic": False,
    "chunk": 256,
}


class NotebookParameters(BaseModel):
    """What every modality's parameters share: strict types, no unknown names, unchangeable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    PRESETS: ClassVar[dict[str, dict]] = {}

    preset: Literal["smoke", "demo", "study", "paper"] = Field(
        description="values of all parameters not given: demo takes minutes, study has several "
        "seeds and more samples, paper is the paper's data, networks and settings (a GPU's work), "
        "smoke is for the tests"
    )
    seeds: Wholes = Field(
        description="one network of each kind is trained per seed; one seed in the demo for "
        "time, three in the study to see the spread"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        description="where networks are trained and measured; auto takes a GPU if there is one"
    )
    batch: Annotated[int, Field(ge=1)] | None = Field(
        description="samples of a training step; None: as many as the recipe has (images 64 as "
        "published, clouds 32, texts 16)"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        description="of the forward passes in training; bfloat16 is for GPUs that have it (not a "
        "T4), and changes results; maps are always estimated in float32"
    )
    compiled: bool = Field(
        description="teacher and baseline are compiled by torch before training; pays on a GPU "
        "after minutes of compiling, and changes the last digits"
    )
    deterministic: bool = Field(
        description="equal bits from equal calls on a GPU too, at the cost of slower kernels; on "
        "the CPU this is so anyway"
    )
    chunk: int = Field(
        ge=4,
        description="most noisy inputs in one pass of the estimator; bounds its memory, changes "
        "results by rounding only",
    )


class StudyParameters(NotebookParameters):
    """What the parameters of every study share; a modality adds its data and networks.

    SAMPLE: what one sample is called.
    """

    SAMPLE: ClassVar[str] = "sample"

    teacher_samples: Count = Field(
        description="samples the teacher is trained on, ours; all: as many as the data set has"
    )
    fraction: float = Field(
        gt=0, le=1, description="share of the teacher's samples that student and baseline see"
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
        ge=2, description="samples measured; ours, enough for the intervals that are shown"
    )
    measured_on: Literal["train", "test"] = Field(
        description="samples measured come from the training or the test split; train as in the "
        "public code"
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
        description="noisy passes of each evaluation of the closed form; ours: the standard error "
        "that follows is shown with every result",
    )

    @model_validator(mode="before")
    @classmethod
    def _derive_checkpoints(cls, values: dict[str, object]) -> dict[str, object]:
        epochs = values.get("epochs")
        if values.get("checkpoints") is None and type(epochs) is int and epochs >= 1:
            return values | {"checkpoints": checkpoint_epochs(epochs)}
        return values

    @model_validator(mode="after")
    def _checkpoints_fit(self) -> Self:
        kept = self.checkpoints
        if list(kept) != sorted(kept) or {kept[0], kept[-1]} != {0, self.epochs}:
            raise ValueError(
                f"checkpoints is {list(kept)}: they must ascend from 0 to epochs ({self.epochs})"
            )
        return self
