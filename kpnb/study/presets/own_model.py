"""What all parameters share, how presets are read, and the parameters of the notebook that explains
a network of one's own; torch is not needed."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from kpnb.datasets.places import EMBEDDED
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file
from kpnb.paper import paper_preset

# A notebook writes lists, and JSON knows no tuples; a frozen model keeps tuples.
LISTED = Field(strict=False, min_length=1)
Item = TypeVar("Item")
LEAST_TOO_LARGE = 2**63  # torch takes seeds of 64 bits; a network's own is 2 * seed + 1


def no_repeats(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items as they are; pydantic makes a sentence of the error."""
    if len(set(items)) < len(items):
        raise ValueError("name each item once")
    return items


Whole = Annotated[int, Field(ge=0, strict=True)]
Wholes = Annotated[tuple[Whole, ...], LISTED, AfterValidator(no_repeats)]


# The names of kpnb.experiments.attributions.METHODS, written out so that no parameter needs captum.
AttributionName = Literal[
    "gradient", "activation", "grad_cam", "gradient_x_activation", "conductance",
    "feature_gradient", "feature_occlusion", "saliency", "input_x_gradient",
    "integrated_gradients", "guided_backprop", "occlusion",
]  # fmt: skip
AttributionNames = Annotated[tuple[AttributionName, ...], LISTED, AfterValidator(no_repeats)]
PRESET_NAMES = ("smoke", "demo", "study", "paper")


def presets_of(kind: str) -> dict[str, dict]:
    """Preset -> values, from presets/KIND.yaml: the demo's are written out, those of study and
    smoke where they differ, the paper's lie with its settings. A file that is `like` another has
    at each preset what that one has there, then what it says of `all`, then its own.

    Results hold their values, so that the files are no part of what results depend on.
    """
    content = yaml.safe_load(packed_file(f"{kind}.yaml").read_text(encoding="utf-8"))
    if "like" in content:
        like, shared = presets_of(content["like"]), content.get("all", {})
        return {name: like[name] | shared | content.get(name, {}) for name in PRESET_NAMES}
    found = {
        name: content["demo"] | {"preset": name} | content.get(name, {})
        for name in PRESET_NAMES[:-1]
    }
    return found | ({"paper": paper_preset(*content["paper"])} if "paper" in content else {})


def with_more(names: Mapping[str, object]) -> dict[str, object]:
    """A cell's values with those in its `more` over them; KpnbError where that is no dictionary."""
    more = names.get("more", {})
    if not isinstance(more, dict):
        raise KpnbError(f"more is {more!r}: write a dictionary of parameters, {{'chunk': 64}}.")
    return {name: value for name, value in names.items() if name != "more"} | more


class Parameters(BaseModel):
    """What every notebook's parameters have: types are strict, other names are refused, values do
    not change. PRESETS: preset -> name -> value, which kpnb.study.parameters reads; None is left to
    the model. SAMPLE: what one sample is called."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    model_config |= ConfigDict(use_attribute_docstrings=True, str_min_length=1)
    PRESETS: ClassVar[dict[str, dict]] = {}
    SAMPLE: ClassVar[str] = "sample"
    #: Where None says something; elsewhere it leaves a value to the preset.
    NONES: ClassVar[tuple[str, ...]] = ("teachers", "followed")

    @classmethod
    def told(cls, given: Mapping[str, object]) -> dict[str, object]:
        """Those of some values that say something."""
        return {n: value for n, value in given.items() if value is not None or n in cls.NONES}

    @model_validator(mode="before")
    @classmethod
    def _fit_the_machine(cls, values: dict[str, object]) -> dict[str, object]:
        for name, value in values.items():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(one, int) and abs(one) >= LEAST_TOO_LARGE:
                    raise ValueError(f"{name} has {one}: give whole numbers below 2**63")
        return values


class OwnModelParameters(Parameters):
    """Parameters of the notebook on a network of one's own, which is explained as it is."""

    SAMPLE = "image"

    preset: Literal["smoke", "demo", "study"]
    """names the values and the results: demo takes minutes, study has more images and a smaller
    standard error, smoke is for the tests"""
    model: str
    """EfficientNet-lite0, which a package ships with its ImageNet weights; or a network by another
    name that `kpnb.networks.named` knows"""
    weights: str
    """DEFAULT: the published ones; none: untrained; or the file of a state dict"""
    layers: Annotated[tuple[str, ...], LISTED] | None
    """dotted names; None: the last layer of each of the last three resolutions"""
    images: str
    """embedded: composites with exact masks; or a folder of pictures"""
    masks: str | None
    """a folder of masks of the same names, which pictures of a folder need (for pictures without
    masks there is `python -m kpnb.run.explain`); None for embedded images, which have their own"""
    samples: int = Field(ge=2)
    """images measured, the first ones; few in the demo for time"""
    image_size: int = Field(ge=32, le=512)
    """side in pixels; 224 as ImageNet's networks are trained (embedded images: up to 256)"""
    grid: int = Field(ge=2, le=64)
    """input units per side; 16 in the public code"""
    threshold: float = Field(gt=0)
    """b of Eqs. 5 and 6, in nats; 0.2 in the public code"""
    quality: Literal["fast", "standard", "exact"]
    """of the estimate, see `EntropyEstimator`; fast in the demo for time"""
    seeds: Wholes
    """of the estimator's noise: what is shown is measured with the first, and it is asked how many
    points stay with each other one"""
    device: Literal["auto", "cpu", "cuda"]
    """where the network runs; auto takes a GPU if there is one"""

    @model_validator(mode="after")
    def _masks_fit(self) -> Self:
        if (self.images == EMBEDDED) != (self.masks is None):
            raise ValueError(
                "masks is a folder of masks for pictures of a folder, and None for embedded images"
            )
        return self
