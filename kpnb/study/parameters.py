"""The notebooks' parameters, a model a study; their presets; their check before anything runs.

`MODELS` maps notebooks' names to models, and that is the place where another modality is added.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import pydantic
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from kpnb.datasets.places import EMBEDDED
from kpnb.errors import KpnbError, did_you_mean, first_mistake
from kpnb.paper import checkpoint_epochs, paper_settings
from kpnb.study.presets.own_model import (
    LISTED,
    AttributionNames,
    OwnModelParameters,
    Parameters,
    Wholes,
    no_repeats,
    presets_of,
)

#: Encoders by name: width, and feed-forward width; for plans, others count as MiniLM.
ENCODERS = {"MiniLM-L6": (384, 1536), "BERT-base": (768, 3072)}

Count = Annotated[int, Field(ge=100, strict=True)] | Literal["all"]

Layer = Literal["Conv", "FC1", "FC2", "FC3"]
Layers = Annotated[tuple[Layer, ...], LISTED, AfterValidator(no_repeats)]
TextLayers = Annotated[tuple[Literal["Last"], ...], LISTED, AfterValidator(no_repeats)]
CloudLayers = Annotated[tuple[Literal["FC1", "FC2"], ...], LISTED, AfterValidator(no_repeats)]
ControlKind = Literal["untrained", "shuffled", "equal", "photographs"]
Network = Literal["AlexNet", "VGG-11", "VGG-16", "VGG-19", "ResNet-50", "ResNet-101", "ResNet-152"]
OTHERS = ("EfficientNet-lite0",)  # teachers that are none of the paper's
# By network, for parameters that are not given. b is recollected from the published version, with
# little confidence: the text at hand lost it. Epochs are ours: PointNet's transforms make it slow.
BY_NETWORK: dict[str, dict[str, float]] = {
    "threshold": {"PointNet": 0.5, "DGCNN": 0.25, "PointConv": 0.25, "PointNet++": 0.25},
    "teacher_epochs": {"PointNet": 24, "DGCNN": 8, "PointConv": 8, "PointNet++": 12},
    "epochs": {"PointNet": 60, "DGCNN": 30, "PointConv": 30, "PointNet++": 30},
}


class StudyParameters(Parameters):
    """What the parameters of every study share; a modality adds its data and networks. Each says
    what it is and where its default comes from."""

    preset: Literal["smoke", "demo", "study", "paper"]
    """names the values and the results: demo takes minutes, study has several seeds and more
    samples, paper is the paper's data and settings (a GPU's work), smoke is for the tests"""
    seeds: Wholes
    """a student and a baseline are trained per seed; two in the demo for time"""
    teachers: Wholes | None
    """seeds of teachers, which the students' seeds share in turn; None: each has its own"""
    device: Literal["auto", "cpu", "cuda"]
    """where networks are trained and measured; auto takes a GPU if there is one"""
    batch: Annotated[int, Field(ge=1)] | None
    """samples of a step; None: the recipe's (images 64 as published, clouds and texts 32)"""
    precision: Literal["float32", "bfloat16"]
    """of forward passes in training; bfloat16 (not on a T4) changes results, maps stay float32"""
    compiled: bool
    """torch.compile for teacher and baseline; pays on a GPU after minutes, changes last digits"""
    deterministic: bool
    """equal bits from equal calls on a GPU too, by slower kernels; on the CPU this is so anyway"""
    chunk: int = Field(ge=4)
    """most noisy inputs in one pass of the estimator; bounds memory, changes results by rounding"""
    teacher_samples: Count
    """samples the teacher is trained on, of a public data set at most so many, ours; all: each"""
    fraction: float = Field(gt=0, le=1)
    """share of the teacher's samples that student and baseline see"""
    teacher_epochs: int = Field(ge=1)
    """epochs of the teacher; ours, from a pilot (public code: 150)"""
    epochs: int = Field(ge=1)
    """epochs of distillation and of the baseline; ours, from a pilot (public code: 150)"""
    head_epochs: int = Field(ge=1)
    """epochs of cross-entropy for the student's layers above the target; ours (published: 100)"""
    checkpoints: Wholes
    """epochs measured, from 0 to the last; None: the public code's 15 of 150, scaled"""
    samples: int = Field(ge=2)
    """samples measured; ours, enough for the intervals that are shown"""
    followed: Annotated[int, Field(ge=0)] | None
    """the first so many of them are measured at every checkpoint, for Hypotheses 2 and 3; None,
    or more than there are: all; 0: none, and Hypothesis 1 alone is measured"""
    measured_on: Literal["train", "test"]
    """samples measured come from the training or the test split; train as in the public code"""
    threshold: float = Field(gt=0)
    """b of Eqs. 5 and 6, in nats; 0.2 in the public code and in Table III"""
    method: Literal["path", "published", "optimum", "descent"]
    """how the entropies are estimated; path is the closed form of the published procedure"""
    probes: int = Field(ge=8, multiple_of=4)
    """noisy passes of each evaluation of the closed form; ours, its standard error is shown"""

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, values: dict[str, object]) -> dict[str, object]:
        derived = cls.of_network(str(values.get("network")))
        values = values | {n: v for n, v in derived.items() if values.get(n) is None}
        epochs = values.get("epochs")
        if values.get("checkpoints") is None and type(epochs) is int and epochs >= 1:
            return values | {"checkpoints": checkpoint_epochs(epochs)}
        return values

    @classmethod
    def of_network(cls, network: str) -> dict[str, object]:
        """The values by which a network decides what is None."""
        return {}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        kept = self.checkpoints
        if self.followed == 1:
            raise ValueError("followed is 1: give 0, or 2 and more")
        if list(kept) != sorted(kept) or {kept[0], kept[-1]} != {0, self.epochs}:
            told = f"checkpoints is {list(kept)}: they must ascend from 0"
            raise ValueError(f"{told} to epochs ({self.epochs})")
        return self


class ImageParameters(StudyParameters):
    """Parameters of the image notebooks; where each default comes from is in its description."""

    SAMPLE = "image"
    PRESETS = presets_of("image")

    data: str
    """embedded; a folder that data_prep/ has prepared, or its name in KPNB_DATA; or a data set's
    (cub200, ilsvrc_det, voc2012, coco, tiny_imagenet; download:NAME fetches it first)"""
    network: Network
    """architecture of teacher, student and baseline, one of the paper's seven"""
    scale: Literal["narrow", "full"]
    """full: torchvision's widths; narrow: the same family with fewer channels, for CPUs"""
    teacher: Literal["same", "EfficientNet-lite0"] | Network
    """same: the student's architecture on all data; another of the seven, as in Tables II and IX;
    EfficientNet-lite0: an ImageNet-pretrained network from the package index"""
    pretrained: str
    """what the teacher starts from: none; ImageNet, torchvision's weights as in the paper (scale
    'full' only; fetched once); or another prepared data set, which it has learned first"""
    recipe: Literal["ours", "published"]
    """learning rates and schedule. published: the public code's; ours: found on small images"""
    augment: Literal["none", "teacher", "all"]
    """whose images are changed at random. teacher: as in Table IV; all: as for ILSVRC and VOC"""
    layers: Layers
    """target layers of distillation and measurement (Section 4.1); the demo takes FC1 for time"""
    measured_on: Literal["train", "new", "test"]
    """images measured are training images, as in the public code, new composites of the objects
    and photographs that networks are trained on, or the test split's, of unseen ones"""
    classes: Literal[8, 12]
    """classes of the embedded objects; 12 is all, and as many as the paper's ILSVRC subset has"""
    image_size: int = Field(ge=32, le=512)
    """side in pixels; 64 is ours, for CPUs (public code: 224)"""
    grid: int = Field(ge=2, le=64)
    """input units per side; 16 in the public code and in Table V"""

    @classmethod
    def of_network(cls, network: str) -> dict[str, object]:
        known = paper_settings("images")["threshold"]
        return {"threshold": known.get(network, known["others"])}

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if self.data != EMBEDDED and self.measured_on == "new":
            told = "measured_on is 'new', but only the embedded images can be composed anew"
            raise ValueError(f"{told}: give 'train' or 'test'")
        if self.data == EMBEDDED and self.teacher_samples == "all":
            told = "teacher_samples is 'all', but the embedded images are composed without end"
            raise ValueError(f"{told}: give a number")
        other, own = self.teacher in OTHERS, "and teacher='same' or one of the seven"
        if self.pretrained == "ImageNet" and (self.scale != "full" or other):
            told = "pretrained is 'ImageNet', but torchvision has weights for the paper's networks"
            raise ValueError(f"{told} at full scale only: set scale='full' {own}")
        if self.pretrained not in ("none", "ImageNet") and (self.data == EMBEDDED or other):
            told = f"pretrained is {self.pretrained!r}, a data set: give another one as data"
            raise ValueError(f"{told}, {own}")
        if self.grid > self.image_size:
            told = f"grid is {self.grid} but images have {self.image_size} pixels a side"
            raise ValueError(f"{told}: make the grid coarser or the images larger")
        return self


class CellParameters(ImageParameters):
    """One cell of Tables II to V, VIII or IX: what the image notebooks take, and two more."""

    PRESETS = presets_of("cell")

    run: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")] | None
    """name under which a sweep files the results, in small letters; None: a run of its own"""
    outputs: Annotated[int, Field(ge=2, le=200)] | None
    """dimensions of the networks' output: classes are merged or split by object to make as
    many; None for a dimension per class (the paper: 10 in Table VIII, 200 for CUB)"""

    @model_validator(mode="after")
    def _outputs_have_labels(self) -> Self:
        if self.outputs is not None and self.data != EMBEDDED:
            raise ValueError("outputs regroups the embedded objects: leave it out for a data set")
        if self.outputs is not None and self.measured_on != "train":
            raise ValueError("outputs needs measured_on='train': unseen objects have no own label")
        return self


class CoherencyParameters(ImageParameters):
    """A study of images, whose teachers are explained before and after rescaling."""

    PRESETS = presets_of("coherency")

    factor: float = Field(gt=1)
    """c, by which a convolution's weights are divided and its neighbor's multiplied; 4 by
    recollection, the text that we have has lost it"""
    pairs: Literal["disjoint", "successive"]
    """neighboring convolutions that are revised: (1, 2), (3, 4), ... or (1, 2), (2, 3), ...;
    ours, the paper says every pair"""
    methods: AttributionNames
    """explanations that the entropy is compared with; the paper shows CAM and gradients"""


class FineTuningParameters(ImageParameters):
    """What the image notebooks take, and what is pre-trained on what. Here `teacher_samples` are
    images of all classes: those of the source classes pre-train for `teacher_epochs`, `fraction`
    of the others trains for `epochs`; `layers` are those whose points are counted, which the paper
    does not say. Nothing is distilled: `teacher` and `head_epochs` have no effect."""

    PRESETS = presets_of("fine_tuning")

    teacher: Literal["same"]
    """no effect: the source network has the architecture of the fine-tuned one"""
    source: Literal["classes", "ImageNet"]
    """what the pre-trained network knows. classes: the source classes, or all of the data set that
    `pretrained` names; ImageNet: torchvision's weights, as in the paper (scale 'full' only; fetched
    once). Where no classes are source classes, all of `data` are learned"""
    source_classes: int = Field(ge=2, le=10)
    """classes to pre-train on; the rest are the target; half is ours"""
    split: int = Field(ge=0)
    """seed of the random order that source and target classes are taken from"""
    fine_tuning_rate: float = Field(gt=0, le=10)
    """learning rate of fine-tuning over that of training from scratch. 1 (ours) leaves the initial
    weights as the only difference; the public code's for pre-trained VGGs is 0.1"""

    @model_validator(mode="after")
    def _source_fits(self) -> Self:
        if self.source == "ImageNet" and self.scale != "full":
            told = f"source is 'ImageNet' but scale is {self.scale!r}: its weights are for full"
            raise ValueError(f"{told} networks only, so set scale='full' or source='classes'")
        if self.pretrained != "none" and "ImageNet" in (self.source, self.pretrained):
            raise ValueError("for ImageNet's weights give source='ImageNet' and pretrained='none'")
        if self.source_classes > self.classes - 2:
            told = f"source_classes is {self.source_classes} of {self.classes} classes"
            raise ValueError(f"{told}: leave at least 2 to train on")
        return self


class ControlParameters(ImageParameters):
    """What the image notebooks take, and which teachers know something else."""

    PRESETS = presets_of("controls")

    kinds: Annotated[tuple[ControlKind, ...], LISTED, AfterValidator(no_repeats)]
    """of teachers beside the good one. untrained: initial weights; shuffled: each image with the
    label of another; equal: a baseline of another seed; photographs: the background's labels"""
    teachers: Wholes
    """seeds of teachers, which the students' seeds share in turn; none is a student's, because
    equal teachers are baselines of these seeds"""
    teacher: Literal["same"]
    """all teachers have the students' architecture"""
    followed: Literal[0]
    """what networks end with is all that is measured"""

    @model_validator(mode="after")
    def _kinds_can_be_had(self) -> Self:
        if both := {*self.teachers} & {*self.seeds}:
            told = f"seed {min(both)} is a teacher's and a student's"
            raise ValueError(f"{told}: an equal teacher would be the baseline, so give others")
        if "photographs" in self.kinds and self.data != EMBEDDED:
            told = "kinds has 'photographs', which only the embedded images are composed of"
            raise ValueError(f"{told}: leave it out")
        return self


class TextParameters(StudyParameters):
    """What the parameters of both text studies share."""

    network: str
    """pre-trained BERT-like encoder: MiniLM-L6 (a package ships it), BERT-base (the paper's,
    fetched once), or the path of a folder that save_pretrained wrote"""
    layers: TextLayers
    """target layer of distillation and measurement; the last hidden layer, as in Section 4.1"""
    depth: int = Field(ge=1)
    """layers of the encoder in all three networks, the first so many; few for CPUs"""
    data: str
    """embedded, or the path of a folder with the paper's data set (SST-2, SQuAD), or its name
    (sst2, squad), where data_prep/ has put it; download:NAME fetches it first"""
    longest: int = Field(ge=16, le=512)
    """most word pieces of a text with its special ones; longer texts are left out, for CPUs"""
    test_samples: Annotated[int, Field(ge=20)] | Literal["all"]
    """held-out texts that networks are tested on, of a public data set at most so many; ours, for
    time; all: each one"""
    noise: float = Field(gt=0)
    """unit of sigma, in root mean squares of the network's embedding components; with 1 the
    public code's settings mean what they mean for normalized images"""

    @field_validator("network")
    @classmethod
    def _is_there(cls, network: str) -> str:
        if network not in ENCODERS and not Path(network, "config.json").is_file():
            raise ValueError("give MiniLM-L6, BERT-base or a folder that save_pretrained wrote")
        return network


class SentimentParameters(TextParameters):
    """Parameters of the sentiment notebooks."""

    SAMPLE = "sentence"
    PRESETS = presets_of("sentiment")

    least_rating: float = Field(ge=0.5, le=3)
    """sentences whose mean human rating (-4 to 4) is nearer to 0 are left out; ours"""


class QuestionParameters(TextParameters):
    """Parameters of the question-answering notebooks."""

    SAMPLE = "question"
    PRESETS = presets_of("qa")


class CloudParameters(StudyParameters):
    """Parameters of the point-cloud notebooks."""

    SAMPLE = "cloud"
    PRESETS = presets_of("cloud")

    network: Literal["PointNet", "DGCNN", "PointConv", "PointNet++"]
    """architecture of teacher, student and baseline, one of the paper's four"""
    scale: Literal["narrow", "full"]
    """full: the networks' own papers; narrow: fewer channels and neighbors, for CPUs"""
    layers: CloudLayers
    """target layers of distillation and measurement; Table VII has both, the demo one for time"""
    data: str
    """embedded, or the path of a folder with ModelNet40 (HDF5 or OFF files), or modelnet40,
    where data_prep/ has put it; download:modelnet40 fetches it first"""
    shapes: Literal["furniture", "components", "both"]
    """which embedded shapes; furniture is nearest to ModelNet40"""
    points: int = Field(ge=32)
    """points of the object; 1,024 is usual, 256 is ours, for CPUs"""
    background: int = Field(ge=1)
    """points of five clouds of other classes; the paper's share is 500 to 1,024"""
    distance: float = Field(ge=0, le=100)
    """of the five clouds' centers from the object's, in its radii; 0, its own space, as we read"""
    turn: float = Field(ge=0, le=360)
    """degrees of random turns about the vertical; 0 leaves objects aligned, as ModelNet40 is"""
    threshold: float = Field(gt=0)
    """b of Eqs. 5 and 6, in nats; None: the network's own of BY_NETWORK"""
    teacher_epochs: int = Field(ge=1)
    """epochs of the teacher; None: the network's own, from a pilot (public code for images: 150)"""
    epochs: int = Field(ge=1)
    """epochs of distillation and of the baseline; None: the network's own, from a pilot"""
    test_samples: Annotated[int, Field(ge=20)] | Literal["all"]
    """clouds of unseen shapes that networks are tested on, ours; all: each shape"""
    choices: Literal["recomputed", "frozen"]
    """centroids and neighbors under noise: frozen as for the clean cloud, or recomputed for each
    noisy one, where the feature jumps and its gradient does not see it"""

    @classmethod
    def of_network(cls, network: str) -> dict[str, object]:
        return {name: known.get(network) for name, known in BY_NETWORK.items()}


OwnModelParameters.PRESETS = presets_of("own_model")
#: Of networks that a notebook trains by itself: those of the images' parameters that it takes.
_OWN, _ALL = presets_of("own_study"), ImageParameters.model_fields
_TAKEN = {name: (_ALL[name].annotation, _ALL[name]) for name in _OWN["demo"]}
_TAKEN |= {"preset": (Literal["smoke", "demo", "study"], _ALL["preset"])}
OwnParameters = pydantic.create_model("OwnParameters", __base__=Parameters, **_TAKEN)
OwnParameters.PRESETS = _OWN

#: By the beginning of a notebook's name.
MODELS: dict[str, type[StudyParameters]] = {
    "image_": ImageParameters,
    "sentiment_": SentimentParameters,
    "qa_": QuestionParameters,
    "pointcloud_": CloudParameters,
}
#: Of notebooks with more parameters than their modality, by the whole name.
OWN_MODELS: dict[str, type[StudyParameters]] = {
    "image_cell": CellParameters,
    "image_controls": ControlParameters,
    "image_coherency": CoherencyParameters,
    "image_fine_tuning": FineTuningParameters,
    "own_model": OwnModelParameters,
    "own_study": OwnParameters,
}
#: By the name of their presets' file.
KINDS: dict[str, type[StudyParameters]] = {
    name.removesuffix("_").removeprefix("image_").replace("pointcloud", "cloud"): model
    for name, model in (MODELS | OWN_MODELS).items()
}
Model = TypeVar("Model", bound=StudyParameters)


def models_for(notebook: str) -> type[StudyParameters]:
    """The parameter model of a notebook, by its name or the beginning of it ("image_h1")."""
    found = [model for beginning, model in MODELS.items() if notebook.startswith(beginning)]
    if not found and notebook not in OWN_MODELS:
        known = f"names are {', '.join(f'{beginning}...' for beginning in MODELS)}"
        raise KpnbError(f"No parameters are known for the notebook {notebook!r}: {known}.")
    return OWN_MODELS.get(notebook) or found[0]


def preset(kind: str, name: str, **others: object) -> dict[str, object]:
    """The values of a preset for a notebook's names: `globals().update(preset("image", "study"))`;
    others, network="AlexNet", stand in place of its own, and what depends on them, as b, follows.

    Raises `KpnbError` for a kind (with the nearest ones), and as `resolve`."""
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"there are {', '.join(KINDS)}."
        raise KpnbError(f"There are no presets of {kind!r}: {hint}")
    return explicit(KINDS[kind], others | {"preset": name})


def resolve(model: type[Model], given: Mapping[str, object], base: str | None = None) -> Model:
    """The validated parameters: those given that say something, over a preset's values.

    base: that preset's name, "demo" in a notebook, whose `preset` is a label; None: the one given.
    Raises `KpnbError`, one sentence, for an unknown name (with the nearest ones), a missing or
    unknown preset, and a value of the wrong type or range (with what is allowed).
    """
    for name in given:
        if name not in model.model_fields:
            known = f"known: {', '.join(model.model_fields)}."
            hint = did_you_mean(name, model.model_fields) or known
            raise KpnbError(f"There is no parameter {name!r}: {hint}")
    if given.get("preset") is None:
        raise KpnbError(f"The parameter preset is missing: give one of {', '.join(model.PRESETS)}.")
    # The preset's name is checked by the model, with the other values.
    values = model.PRESETS.get(str(base or given["preset"]), model.PRESETS["demo"])
    values = values | model.told(given)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise KpnbError(first_mistake(error.errors(), values)) from None


def explicit(model: type[StudyParameters], given: Mapping[str, object]) -> dict[str, object]:
    """The values by which a notebook's names are the run of `resolve(model, given)`: as written in
    the preset and given; None only where the demo, too, leaves it to the model. Raises as that."""
    resolved, demo = resolve(model, given).model_dump(mode="json"), model.PRESETS["demo"]
    written = model.PRESETS[resolved["preset"]] | model.told(given)
    left = {name for name, value in written.items() if value is None and demo[name] is None}
    return {name: None if name in left else value for name, value in resolved.items()}
