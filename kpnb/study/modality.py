"""What a modality says of itself: its data, networks, training, scores and estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

from torch import Tensor, nn

from kpnb.datasets.samples import DATA_SEED
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import layer_name
from kpnb.fingerprint import Seed
from kpnb.study.parameters import StudyParameters
from kpnb.training.costs import Anatomy, count_anatomy
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import Augment


class AnySamples(Protocol):
    """Samples of any modality: `source` says what they are, JSON-able."""

    source: dict

    def __len__(self) -> int: ...

    def subset(self, index: Sequence[int]) -> AnySamples: ...


@dataclass(frozen=True)
class StudyData(ABC):
    """What a study's networks are trained, tested and measured on, as its parameters ask for; the
    same for all its seeds."""

    parameters: StudyParameters

    @property
    @abstractmethod
    def teacher_samples(self) -> AnySamples: ...

    @property
    @abstractmethod
    def test_samples(self) -> AnySamples:
        """Unseen ones."""

    @cached_property
    def training_samples(self) -> AnySamples:
        """What student and baseline are trained on."""
        return self.teacher_samples.fraction(self.parameters.fraction, DATA_SEED)

    def usable(self, samples: AnySamples) -> Sequence[int]:
        """Positions of the samples that can be measured, in the order in which they are taken."""
        return range(len(samples))

    @cached_property
    def measured(self) -> AnySamples:
        """The samples whose entropy is measured: the first usable ones of the training or of the
        test samples."""
        p = self.parameters
        training = p.measured_on == "train"
        source = self.training_samples if training else self.test_samples
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
    """What `kpnb.study.study` asks of images, texts and whatever else is studied."""

    parameters: StudyParameters

    SCORE: ClassVar[str] = "accuracy"  # the name of the first of `scores`
    TRAINING_CODE: ClassVar[tuple[Seed, ...]]
    SCORING_CODE: ClassVar[tuple[Seed, ...]]
    MAPS_CODE: ClassVar[tuple[Seed, ...]]

    @property
    @abstractmethod
    def data(self) -> StudyData: ...

    @property
    @abstractmethod
    def data_hashes(self) -> dict[str, str]:
        """Hash by name of the packed or real data."""

    @property
    @abstractmethod
    def dataset(self) -> str:
        """What the measured samples are, as tables call it."""

    @property
    def network_name(self) -> str:
        """What student and baseline are, as tables call it."""
        return self.parameters.network

    @property
    def scale(self) -> str:
        """ "full" for the paper's size, "narrow" for a smaller one of the same family."""
        return self.parameters.scale

    @abstractmethod
    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        """How teacher T, student S (its distillation at a layer) or baseline B is trained."""

    def scaled(self, layer: str) -> bool:
        """Whether the distilled feature's error is divided by the feature's variance."""
        return True

    @abstractmethod
    def head_schedule(self, seed: int) -> TrainingSettings:
        """How the student's layers above the target are trained."""

    @abstractmethod
    def build(self, role: str, seed: int) -> nn.Module:
        """Student and baseline of a seed start from identical weights, the teacher from others."""

    def container(self, role: str, seed: int) -> nn.Module:
        """As `build`, for weights that are put in afterwards; need not fetch any of its own."""
        return self.build(role, seed)

    def skeleton(self, role: str) -> nn.Module:
        """As `container`, on torch's meta device: layers and shapes without numbers."""
        return self.container(role, 0).to("meta")

    def dotted(self, role: str, layer: str) -> str:
        """The name in `named_modules` of a layer of the networks of a role."""
        return layer_name(self.skeleton(role), layer)

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

    @property
    @abstractmethod
    def units(self) -> int:
        """Input units of a sample, about where samples differ."""

    @abstractmethod
    def network_key(self, role: str) -> dict:
        """What the networks of a role depend on beyond seed and training."""

    def augmentation(self, role: str) -> Augment | None:
        """What is done to each batch that the networks of a role are trained on."""
        return None

    def training_code(self, role: str) -> tuple[Seed, ...]:
        """The functions and classes that make, train and score the networks of a role."""
        return self.TRAINING_CODE

    @abstractmethod
    def tracked(self, net: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
        """layer -> the weight whose movement Eq. 8 measures for it."""

    @abstractmethod
    def inputs(self, samples: AnySamples) -> Tensor: ...

    def labels(self, samples: AnySamples) -> Tensor:
        return samples.labels

    @abstractmethod
    def scores(self, net: nn.Module, samples: AnySamples) -> dict[str, float]:
        """How well `net` does on some samples, from 0 to 1; SCORE comes first."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Dimensions of the networks' output."""

    @property
    def reference_lines(self) -> dict[str, float]:
        """Scores on the test samples of what has no network, by name."""
        return {"chance": 1 / self.outputs}

    @property
    @abstractmethod
    def least_teacher(self) -> float:
        """The test score that a teacher must exceed to have learned anything to speak of."""

    @property
    @abstractmethod
    def named_layers(self) -> dict[str, str]:
        """Label -> name of the layers that a picture of the whole network shows, upwards."""

    def foreground(self, **changes: object) -> Tensor:
        """(samples, units) bool of the measured samples, under changed estimator settings."""
        return self.data.foreground

    @abstractmethod
    def explainer(self, layer: str, **changes: object) -> Explainer:
        """The study's estimator for a layer's dotted name, with some settings changed."""

    def estimator(self, layer: str, settings: dict[str, object]) -> EntropyEstimator:
        """The estimator at a layer's dotted name: `settings` over those that every study has."""
        p = self.parameters
        shared = {"method": p.method, "probes": p.probes, "standard_error": None, "chunk": p.chunk}
        return EntropyEstimator(layer, **shared | settings)

    @abstractmethod
    def explain(self, explainer: Explainer, net: nn.Module, samples: AnySamples) -> EntropyMaps: ...
