"""Parameters and presets of the fine-tuning notebook (Section 4.5, Figure 7)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kpnb.study.image_parameters import ImageParameters, Layers
from kpnb.study.parameter_model import Count


class FineTuningParameters(ImageParameters):
    """Parameters of the fine-tuning notebook: those of the image notebooks, and what is
    pre-trained on what. Nothing is distilled here: `teacher` and `head_epochs` have no effect."""

    teacher: Literal["same"] = Field(
        description="no effect: the source network has the architecture of the fine-tuned one"
    )
    head_epochs: int = Field(ge=1, description="no effect: nothing is distilled")
    teacher_samples: Count = Field(
        description="images of all classes: those of the source classes pre-train, `fraction` of "
        "the others trains; fewer than in the other notebooks, for time; all: as many as a data "
        "set has",
    )
    fraction: float = Field(
        gt=0,
        le=1,
        description="share of the target classes' images that both networks are trained on; ours",
    )
    teacher_epochs: int = Field(ge=1, description="epochs of pre-training; ours, for time")
    epochs: int = Field(
        ge=1,
        description="epochs of fine-tuning and of training from scratch (public code: 150)",
    )
    layers: Layers = Field(
        description="layers whose knowledge points are counted; the paper does not say which",
    )
    source: Literal["classes", "ImageNet"] = Field(
        description="what the pre-trained network knows. classes: the source classes; ImageNet: "
        "torchvision's weights, as in the paper (scale 'full' only; fetched once), and of a data "
        "set all classes are then learned"
    )
    source_classes: int = Field(
        ge=2, le=10, description="classes to pre-train on; the rest are the target; half is ours"
    )
    split: int = Field(
        ge=0, description="seed of the random order that source and target classes are taken from"
    )
    fine_tuning_rate: float = Field(
        gt=0,
        le=10,
        description="learning rate of fine-tuning over that of training from scratch. 1 (ours) "
        "leaves the initial weights as the only difference; the public code's rate for pre-trained "
        "VGGs is 0.1",
    )

    @model_validator(mode="after")
    def _source_fits(self) -> Self:
        if self.source == "ImageNet" and self.scale != "full":
            raise ValueError(
                f"source is 'ImageNet' but scale is {self.scale!r}: torchvision has ImageNet "
                "weights for full networks only, so set scale='full' or source='classes'"
            )
        if self.source_classes > self.classes - 2:
            raise ValueError(
                f"source_classes is {self.source_classes} of {self.classes} classes: leave at "
                "least 2 to train on"
            )
        return self


_OWN = {"source": "classes", "source_classes": 6, "split": 0, "fine_tuning_rate": 1.0}
# A narrow VGG-16 takes 0.35 s a step of 64 images on one core and VGG-11 0.21 s: the paper's
# VGG-16 would not fit into the minutes that a demo may take.
_SHORTER = {"teacher_samples": 6000, "fraction": 0.15, "teacher_epochs": 12}
_SHORTER |= {"layers": ["Conv", "FC1"]}
_CHANGES = {
    "smoke": _OWN | {"layers": ["Conv", "FC1"]},
    "demo": _OWN | _SHORTER | {"samples": 24},
    "study": _OWN | _SHORTER | {"samples": 30, "seeds": [0, 1]},
    # Figure 7: VGG-16 with ImageNet weights on Tiny ImageNet, at the public code's rates.
    "paper": _OWN | {"data": "tiny_imagenet", "source": "ImageNet", "pretrained": "none"},
}
FineTuningParameters.PRESETS = {
    name: values | _CHANGES[name] for name, values in ImageParameters.PRESETS.items()
}
