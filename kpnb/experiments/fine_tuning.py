"""Fine-tuning against training from scratch (Section 4.5, Figure 7).

The classes are split. A source network T learns the source classes; then two networks learn the
target classes from the same few images in the same order: the fine-tuned F, which starts from the
source network below its FC layers, and B from random weights. Their FC layers start equal.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor, nn

from kpnb.datasets.images import Names, of_classes, split_classes
from kpnb.datasets.samples import ImageSamples
from kpnb.errors import KpnbError
from kpnb.experiments.fine_tuning_networks import IMAGENET, imagenet_state, take_convolutions
from kpnb.metrics.evidence import Evidence
from kpnb.study.image import ImageStudy, StudyImages, study_images
from kpnb.study.parameters import FineTuningParameters
from kpnb.study.study import Trained
from kpnb.training.settings import TrainingSettings


@dataclass(frozen=True)
class ClassImages(StudyImages):
    """A study's images of some of the classes, labels numbered anew."""

    whole: StudyImages
    names: Names

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        return of_classes(self.whole.teacher_samples, self.names)

    @cached_property
    def test_samples(self) -> ImageSamples:
        return of_classes(self.whole.test_samples, self.names)

    @property
    def hashes(self) -> dict[str, str]:
        return self.whole.hashes

    @property
    def title(self) -> str:
        return self.whole.title

    def order(self, positions: Tensor) -> Tensor:
        return self.whole.order(positions)


@dataclass(frozen=True)
class ClassStudy(ImageStudy):
    """A study of some of the classes; the same images serve all studies that share `whole`."""

    parameters: FineTuningParameters
    whole: StudyImages = field(default=None, repr=False)

    TRAINING_CODE = (
        *ImageStudy.TRAINING_CODE,
        of_classes,
        split_classes,
        imagenet_state,
        take_convolutions,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", self.whole or study_images(self.parameters))

    @cached_property
    def class_parts(self) -> tuple[Names, Names]:
        """Source and target classes."""
        p = self.parameters
        return split_classes(self.whole.test_samples.class_names, p.source_classes, p.split)

    @property
    @abstractmethod
    def names(self) -> Names:
        """The classes of this study."""

    @cached_property
    def data(self) -> ClassImages:
        return ClassImages(self.parameters, self.whole, self.names)

    @property
    def outputs(self) -> int:
        return len(self.names)

    def network_key(self, role: str) -> dict:
        # What a network sees and is scored on, class split included.
        data = self.data
        seen = data.teacher_samples if role == "T" else data.training_samples
        key = super().network_key(role) | {"seen": seen.source}
        return key | {"scored": [data.training_samples.source, data.test_samples.source]}


@dataclass(frozen=True)
class SourceStudy(ClassStudy):
    """The source network: teacher T of a study of the source classes."""

    @property
    def names(self) -> Names:
        return self.class_parts[0]


@dataclass(frozen=True)
class FineTuningStudy(ClassStudy):
    """Fine-tuned network F and network from scratch B on the target classes.

    `of("F", seed)` and `of("B", seed)` give them, `source.of("T", seed)` the source network.
    Evidence has F in the student's place (role S) and no teacher.
    """

    @property
    def names(self) -> Names:
        if self.parameters.source == "ImageNet" and self.prepared:
            return self.whole.test_samples.class_names  # nothing is kept back to learn from
        return self.class_parts[1]

    @cached_property
    def source(self) -> SourceStudy:
        """The source network's study, on the same store and clock."""
        return SourceStudy(self.parameters, self.store, self._seconds, whole=self.whole)

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        """F is trained like B, its learning rate times `fine_tuning_rate`."""
        if role != "F":
            return super().schedule(role, seed)
        settings, factor = super().schedule("B", seed), self.parameters.fine_tuning_rate
        last = None if settings.lr_end is None else settings.lr_end * factor
        return replace(settings, lr=settings.lr * factor, lr_end=last)

    def container(self, role: str, seed: int) -> nn.Module:
        return super().container("B" if role == "F" else role, seed)

    def build(self, role: str, seed: int) -> nn.Module:
        # F is the untrained B with other convolutions: the FC layers of both start equal.
        net = super().build(role, seed)
        if role == "F":
            take_convolutions(net, self._source_state(seed))
        return net

    def student(self, seed: int, layer: str | None = None) -> Trained:
        """The fine-tuned network F; one serves all layers."""
        settings, layers = self.schedule("F", seed), self.tracked_layers
        key = {"fraction": self.parameters.fraction, "training": settings.to_info()}
        key |= {"tracked": list(layers), "fine_tuned_from": self._origin(seed)}
        return self._classifier("F", seed, key, settings, self.data.training_samples, layers)

    def _origin(self, seed: int) -> str:
        """What F starts from, for the store's key."""
        if self.parameters.source == "ImageNet":
            return IMAGENET
        return self.source.of("T", seed).fingerprint

    def _source_state(self, seed: int) -> dict[str, Tensor]:
        p = self.parameters
        if p.source == "ImageNet":
            return imagenet_state(p.network, 2 * seed)
        trained = self.source.of("T", seed)
        return trained.states[trained.final_epoch]

    def evidence(self, layer: str) -> Evidence:
        """Maps of F (as role S) and B at every checkpoint, and how far the layer has moved."""
        seeds, places = self.parameters.seeds, {"S": "F", "B": "B"}
        nets = {place: [self.of(role, seed) for seed in seeds] for place, role in places.items()}
        return Evidence(
            layer=layer,
            epochs=self.checkpoints,
            foreground=self.data.foreground,
            maps={place: [self.maps(net, layer) for net in nets[place]] for place in places},
            distance={
                (place, unit): [
                    [net.record.distance(unit)[layer][epoch] for epoch in self.checkpoints]
                    for net in nets[place]
                ]
                for place in places
                for unit in ("step", "epoch")
            },
        )

    def check_teacher(self) -> str:
        """`check_source`: here the source network is what is learned from."""
        return self.check_source()

    def check_source(self) -> str:
        """One sentence on how good the source network is on unseen objects of its own classes.

        KpnbError if it is not above `least_teacher`, for a network that learned nothing has
        nothing to hand on; the smoke preset says that it trains too little to tell.
        """
        p = self.parameters
        if p.source == "ImageNet":
            return f"The source network has the weights {IMAGENET}; how good they are is known."
        if p.preset == "smoke":
            return "This is the smoke preset: it shows that everything runs, and nothing else."
        found, chance = self.source.accuracies("T")["test"], self.source.reference_lines["chance"]
        shares = " / ".join(f"{share:.1%}" for share in found)
        told = f"accuracy on unseen objects of its {self.source.outputs} classes {shares}"
        told += f", chance {chance:.1%}"
        if min(found) <= self.source.least_teacher:
            raise KpnbError(
                f"the study is void, because its source network has learned too little ({told}); "
                "raise teacher_epochs or teacher_samples."
            )
        return f"The source network has something to hand on: {told}."
