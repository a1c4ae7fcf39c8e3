"""Parameters of the notebook on coherency: those of the image notebooks and how to rescale."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from kpnb.study.image_parameters import ImageParameters
from kpnb.study.parameter_model import LISTED, no_repeats

# The names of kpnb.experiments.attributions.METHODS, written out so that no parameter needs captum.
AttributionName = Literal[
    "gradient", "activation", "grad_cam", "gradient_x_activation", "conductance",
    "feature_gradient", "feature_occlusion", "saliency", "input_x_gradient",
    "integrated_gradients", "guided_backprop", "occlusion",
]  # fmt: skip
AttributionNames = Annotated[tuple[AttributionName, ...], LISTED, AfterValidator(no_repeats)]


class CoherencyParameters(ImageParameters):
    """A study of images, whose teachers are explained before and after rescaling."""

    factor: float = Field(
        gt=1,
        description="c, by which a convolution's weights are divided and its neighbor's "
        "multiplied; 4 by recollection, the text that we have has lost it",
    )
    pairs: Literal["disjoint", "successive"] = Field(
        description="neighboring convolutions that are revised: (1, 2), (3, 4), ... or "
        "(1, 2), (2, 3), ...; ours, the paper says every pair"
    )
    methods: AttributionNames = Field(
        description="explanations that the entropy is compared with; the paper shows CAM and "
        "gradients, the others are ours"
    )


_OWN = {"factor": 4.0, "pairs": "disjoint", "methods": list(get_args(AttributionName))}
# Every image gives the same change where a method's map is multiplied by a constant, so few do.
_SAMPLES = {"smoke": 4, "demo": 10, "study": 20, "paper": 20}
CoherencyParameters.PRESETS = {
    name: values | _OWN | {"samples": _SAMPLES[name]}
    for name, values in ImageParameters.PRESETS.items()
}
