"""Parameters and presets of the image notebooks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kpnb.parameter_model import LISTED, StudyParameters, no_repeats

Layer = Literal["Conv", "FC1", "FC2", "FC3"]
Network = Literal["AlexNet", "VGG-11", "VGG-16", "VGG-19", "ResNet-50", "ResNet-101", "ResNet-152"]
Layers = Annotated[tuple[Layer, ...], LISTED, AfterValidator(no_repeats)]


class ImageParameters(StudyParameters):
    """Parameters of the image notebooks; where each default comes from is in its description."""

    SAMPLE = "image"

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
    grid: int = Field(
        ge=2, le=64, description="input units per side; 16 in the public code and in Table V"
    )

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
    "samples": 40,
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
