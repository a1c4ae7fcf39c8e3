"""What a modality says of itself: its data, networks, training, scores and estimator."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

from torch import Tensor, nn

from kpnb.datasets.samples import DATA_SEED, Samples, packed_hash
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import layer_name
from kpnb.fingerprint import Seed
from kpnb.networks.layers import tracked_weight
from kpnb.study.parameters import StudyParameters
from kpnb.training.costs import Anatomy, count_anatomy
from kpnb.training.recipes import recipe
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import Augment, accuracy


@dataclass(frozen=True)
class StudyData:
    """What a study's networks are trained, tested and measured on, as its parameters ask for; the
    same for all its seeds.

    A modality adds `teacher_samples`, the unseen `test_samples`, `title` (what the data are, as
    tables call them) and PACKED, name and digests of the packed files.
    """

    parameters: StudyParameters

    PACKED: ClassVar[tuple[str, Mapping[str, str]]]

    @property
    def hashes(self) -> dict[str, str]:
        """One of the packed or the real data, by name."""
        return {self.PACKED[0]: packed_hash(self.PACKED[1])}

    @cached_property
    def training_samples(self) -> Samples:
        """What student and baseline are trained on."""
        return self.teacher_samples.fraction(self.parameters.fraction, DATA_SEED)

    @property
    def splits(self) -> dict[str, Samples]:
        """The samples that networks are scored on, by name: "train", "test" and what there is."""
        return {"train": self.training_samples, "test": self.test_samples}

    @property
    def held_out(self) -> str:
        """The split on which networks are judged: new samples of what they are trained on, if
        there are any, else the test samples."""
        return "new" if "new" in self.splits else "test"

    def usable(self, samples: Samples) -> Sequence[int]:
        """Positions of the samples that can be measured, in the order in which they are taken."""
        return range(len(samples))

    @cached_property
    def measured(self) -> Samples:
        """The samples whose entropy is measured: the first usable training or test samples."""
        p = self.parameters
        training, source = p.measured_on == "train", self.splits[p.measured_on]
        usable = self.usable(source)
        if len(usable) < p.samples:
            more = "teacher_samples or fraction" if training else "test_samples"
            remedy = f", or raise {more}" if training or hasattr(p, more) else ""
            raise KpnbError(
                f"samples={p.samples} {p.SAMPLE}s are wanted, but only {len(usable)} are there to "
                f"measure; ask for fewer{remedy}."
            )
        return source.subset(usable[: p.samples])

    @cached_property
    def foreground(self) -> Tensor:
        """(samples, units) bool of the measured samples."""
        return self.measured.foreground


class Explainer(Protocol):
    """An estimator of entropy maps; `settings` is everything that changes a map, JSON-able."""

    settings: dict[str, object]


class Modality(ABC):
    """What `kpnb.study.study` asks of images, texts and whatever else is studied.

    DATA: from parameters to data. RECIPES: whose settings in `kpnb.training.recipes`. UNSEEN: what
    measured test samples are.
    SCORE: the name of the first of `scores`. TRAINING_CODE, SCORING_CODE, MAPS_CODE: what makes,
    scores and explains networks, for the store; settings are in its keys, whatever their recipe.

    outputs: dimensions of the networks' output. units: input units of a sample, about where samples
    differ. named_layers: label -> name of the layers that a picture of the whole network shows,
    upwards.
    """

    parameters: StudyParameters
    outputs: int
    units: int
    named_layers: dict[str, str]

    DATA: ClassVar[Callable[[StudyParameters], StudyData]]
    RECIPES: ClassVar[str]
    UNSEEN: ClassVar[str]
    SCORE: ClassVar[str] = "accuracy"
    TRAINING_CODE: ClassVar[tuple[Seed, ...]]
    SCORING_CODE: ClassVar[tuple[Seed, ...]] = (accuracy,)
    MAPS_CODE: ClassVar[tuple[Seed, ...]]

    @cached_property
    def data(self) -> StudyData:
        return self.DATA(self.parameters)

    @property
    def dataset(self) -> str:
        """What the measured samples are, as tables call it."""
        told = {"test": f" ({self.UNSEEN})", "new": " (new)"}
        return self.data.title + told.get(self.parameters.measured_on, "")

    @abstractmethod
    def inputs(self, samples: Samples) -> Tensor:
        """What the networks take of some samples."""

    def labels(self, samples: Samples) -> Tensor:
        return samples.labels

    def foreground(self, **changes: object) -> Tensor:
        """(samples, units) bool of the measured samples, under changed estimator settings."""
        return self.data.foreground

    @property
    def network_name(self) -> str:
        """What student and baseline are, as tables call it."""
        return self.parameters.network

    @property
    def scale(self) -> str:
        """ "full" for the paper's size, "narrow" for a smaller one of the same family."""
        return self.parameters.scale

    @abstractmethod
    def build(self, role: str, seed: int) -> nn.Module:
        """Student and baseline of a seed start from identical weights, the teacher from others."""

    def container(self, role: str, seed: int) -> nn.Module:
        """As `build`, for weights that are put in afterwards; need not fetch any of its own."""
        return self.build(role, seed)

    def skeleton(self, role: str) -> nn.Module:
        """As `container`, on torch's meta device: layers and shapes without numbers."""
        return self.container(role, 0).to("meta")

    @abstractmethod
    def network_key(self, role: str) -> dict:
        """What the networks of a role depend on beyond seed and training."""

    def dotted(self, role: str, layer: str) -> str:
        """The name in `named_modules` of a layer of the networks of a role."""
        return layer_name(self.skeleton(role), layer)

    def tracked(self, net: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
        """layer -> the weight whose movement Eq. 8 measures for it."""
        return {layer: tracked_weight(net, layer) for layer in layers}

    @abstractmethod
    def example(self) -> tuple[int, ...]:
        """The shape of one sample as the networks take it."""

    def state(self, role: str) -> dict[str, Tensor]:
        """The state dict of the networks of a role, on the meta device."""
        return self.skeleton(role).state_dict()

    def anatomy(self, role: str) -> Anatomy:
        """Operations, activations and parameters of a role's network, for one sample."""
        net = self.skeleton(role)
        layers = ((layer_name(net, name), label) for label, name in self.named_layers.items())
        return count_anatomy(net, self.example(), layers)

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        """How teacher T, student S (its distillation at a layer) or baseline B is trained, and how
        the student's layers above the target ("head")."""
        p = self.parameters
        epochs = {"T": p.teacher_epochs, "head": p.head_epochs}.get(role, p.epochs)
        kept = None if role in ("T", "head") else tuple(p.checkpoints)
        return recipe(self.RECIPES, role, epochs, seed, kept, self.architecture(role))

    def architecture(self, role: str) -> str | None:
        """The name of a role's network, where recipes tell them apart."""
        return None

    def scaled(self, layer: str) -> bool:
        """Whether the distilled feature's error is divided by the feature's variance."""
        return True

    def augmentation(self, role: str) -> Augment | None:
        """What is done to each batch that the networks of a role are trained on."""
        return None

    def training_code(self, role: str) -> tuple[Seed, ...]:
        """The functions and classes that make, train and score the networks of a role."""
        return self.TRAINING_CODE

    def scores(self, net: nn.Module, samples: Samples) -> dict[str, float]:
        """How well `net` does on some samples, from 0 to 1; SCORE comes first."""
        return {"accuracy": accuracy(net, self.inputs(samples), self.labels(samples))}

    @property
    def reference_lines(self) -> dict[str, float]:
        """Scores on the test samples of what has no network, by name."""
        return {"chance": 1 / self.outputs}

    @abstractmethod
    def explainer(self, layer: str, **changes: object) -> Explainer:
        """The study's estimator for a layer's dotted name, with some settings changed."""

    def estimator(self, layer: str, settings: dict[str, object]) -> EntropyEstimator:
        """The estimator at a layer's dotted name: `settings` over those that every study has."""
        p = self.parameters
        shared = {"method": p.method, "probes": p.probes, "standard_error": None, "chunk": p.chunk}
        return EntropyEstimator(layer, **shared | settings)

    def explain(self, explainer: Explainer, net: nn.Module, samples: Samples) -> EntropyMaps:
        return explainer.explain(net, self.inputs(samples).to(self.device), progress=False)
