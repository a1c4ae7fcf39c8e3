"""Parameters and presets of the image notebooks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kpnb.datasets.places import EMBEDDED
from kpnb.paper import paper_preset, paper_settings
from kpnb.study.parameter_model import LISTED, ON_A_CPU, StudyParameters, no_repeats

Layer = Literal["Conv", "FC1", "FC2", "FC3"]
Network = Literal["AlexNet", "VGG-11", "VGG-16", "VGG-19", "ResNet-50", "ResNet-101", "ResNet-152"]
OTHERS = ("EfficientNet-lite0",)  # teachers that are none of the paper's
Layers = Annotated[tuple[Layer, ...], LISTED, AfterValidator(no_repeats)]


class ImageParameters(StudyParameters):
    """Parameters of the image notebooks; where each default comes from is in its description."""

    SAMPLE = "image"

    data: str = Field(
        description="embedded, or the folder of a data set that data_prep/ has prepared, or its "
        "name (cub200, ilsvrc_det, voc2012, coco, tiny_imagenet; download:NAME fetches it first)"
    )
    network: Network = Field(
        description="architecture of teacher, student and baseline, one of the paper's seven; "
        "VGG-11 is its smallest VGG"
    )
    scale: Literal["narrow", "full"] = Field(
        description="full: torchvision's widths; narrow: the same family with fewer channels, "
        "for CPUs (the default)"
    )
    teacher: Literal["same", "EfficientNet-lite0"] | Network = Field(
        description="same: the student's architecture trained on all data, as in most of the "
        "paper; another of the seven networks, as in its Tables II and IX; EfficientNet-lite0: an "
        "ImageNet-pretrained network from the package index"
    )
    pretrained: Literal["none", "ImageNet"] = Field(
        description="what the teacher starts from. ImageNet: torchvision's weights, as in the "
        "paper (scale 'full' only; fetched once); none: from scratch"
    )
    recipe: Literal["ours", "published"] = Field(
        description="learning rates and schedule. published: the public code's; ours: found on "
        "small images"
    )
    augment: Literal["none", "teacher", "all"] = Field(
        description="whose images are changed at random. teacher: as Table IV's teacher; all: "
        "teacher, student and baseline, as the paper's of ILSVRC and VOC"
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
        ge=32, le=512, description="side in pixels; 64 is ours, for CPUs (public code: 224)"
    )
    grid: int = Field(
        ge=2, le=64, description="input units per side; 16 in the public code and in Table V"
    )

    # Runs before those of the class above.
    @model_validator(mode="before")
    @classmethod
    def _derive_threshold(cls, values: dict[str, object]) -> dict[str, object]:
        if values.get("threshold") is not None:
            return values
        known = paper_settings("images")["threshold"]
        return values | {"threshold": known.get(str(values.get("network")), known["others"])}

    @model_validator(mode="after")
    def _data_fit(self) -> Self:
        if self.data == EMBEDDED and self.teacher_samples == "all":
            raise ValueError(
                "teacher_samples is 'all', but the embedded images are composed without end: give "
                "a number"
            )
        if self.pretrained == "ImageNet" and (self.scale != "full" or self.teacher in OTHERS):
            raise ValueError(
                "pretrained is 'ImageNet', but torchvision has weights for the paper's networks at "
                "full scale only: set scale='full' and teacher='same' or one of the seven"
            )
        return self

    @model_validator(mode="after")
    def _grid_fits(self) -> Self:
        if self.grid > self.image_size:
            raise ValueError(
                f"grid is {self.grid} but images have {self.image_size} pixels a side: "
                "make the grid coarser or the images larger"
            )
        return self


_IMAGE_DEMO = {
    "preset": "demo",
    "data": EMBEDDED,
    "network": "VGG-11",
    "scale": "narrow",
    "teacher": "same",
    "pretrained": "none",
    "recipe": "ours",
    "augment": "none",
    "layers": ["FC1"],
    "classes": 12,
    "image_size": 64,
    "teacher_samples": 9000,
    "fraction": 0.1,
    "teacher_epochs": 16,
    "epochs": 30,
    "head_epochs": 20,
    "checkpoints": None,
    "samples": 40,
    "measured_on": "train",
    "grid": 16,
    "threshold": 0.2,
    "method": "path",
    "probes": 8,
    "seeds": [0],
    **ON_A_CPU,
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
ImageParameters.PRESETS = {
    "smoke": _IMAGE_SMOKE,
    "demo": _IMAGE_DEMO,
    "study": _IMAGE_STUDY,
    "paper": paper_preset("images"),
}
