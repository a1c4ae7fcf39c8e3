"""The networks of fine-tuning against training from scratch (Section 4.5).

The classes are split. A source network T learns the source classes, or torchvision's ImageNet
weights take its place; then two networks learn the target classes from the same few images in the
same order: the fine-tuned F, which starts from the source network below its FC layers, and B from
random weights. Their FC layers start equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.datasets.images import Names, of_classes, split_classes
from kpnb.datasets.samples import ImageSamples
from kpnb.errors import KpnbError
from kpnb.networks.image import image_network
from kpnb.study.image import ImageStudy, StudyImages, study_images
from kpnb.study.parameters import FineTuningParameters
from kpnb.study.study import Trained
from kpnb.training.settings import TrainingSettings

# How every image network of kpnb calls its fully connected part.
FC_PART = "classifier."
#: Names torchvision's weights in the store's keys.
IMAGENET = "torchvision IMAGENET1K_V1"
_BATCH = 256  # images at a time, of `right_answers`


def take_convolutions(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put everything below the FC layers of `state` into `net`, in place.

    The FC layers keep the weights they have: the last one has another class at each output, and
    the public code starts all FC layers of its pre-trained networks anew. state: a state dict of
    the same architecture. Raises KpnbError for another architecture.
    """
    own, given = _below(net.state_dict()), _below(state)
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in given.items()}:
        raise KpnbError("the source network has other convolutions: take one of the same kind.")
    net.load_state_dict(given, strict=False)


@lru_cache(maxsize=4)
def imagenet_state(name: str, seed: int) -> dict[str, Tensor]:
    """What lies below the FC layers of a full network with torchvision's ImageNet weights.

    What these do not hold (the convolutions that the paper adds to ResNets) comes from the seed.
    Raises KpnbError if the weights cannot be had.
    """
    # The number of classes touches the FC layers only, which are left out.
    return _below(image_network(name, 2, "full", seed=seed, pretrained=True).state_dict())


def _below(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(FC_PART)}


@dataclass(frozen=True)
class FineTuningStudy(ImageStudy):
    """Fine-tuned network F and network from scratch B on the target classes.

    `of("F", seed)` and `of("B", seed)` give them, `source.of("T", seed)` the source network.
    Evidence has F in the student's place (role S) and no teacher. The same images, `whole`, serve
    the study of the source classes too.
    """

    parameters: FineTuningParameters
    whole: StudyImages = field(default=None, repr=False)

    PLACES = {"S": "F", "B": "B"}
    TRAINING_CODE = (
        *ImageStudy.TRAINING_CODE, of_classes, split_classes, imagenet_state, take_convolutions,
    )  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", self.whole or study_images(self.parameters))

    @cached_property
    def class_parts(self) -> tuple[Names, Names]:
        """Source and target classes."""
        p = self.parameters
        return split_classes(self.whole.test_samples.class_names, p.source_classes, p.split)

    @property
    def names(self) -> Names:
        """The classes of this study."""
        if self._from_imagenet and self.prepared:
            return self.whole.test_samples.class_names  # nothing is kept back to learn from
        return self.class_parts[1]

    @cached_property
    def data(self) -> StudyImages:
        """The images of this study's classes, labels numbered anew."""
        found, parts = study_images(self.parameters), ["teacher_samples", "test_samples"]
        parts += [] if self.prepared else ["new_samples"]
        for name in parts:  # in place of what it would load
            found.__dict__[name] = of_classes(getattr(self.whole, name), self.names)
        return found

    @property
    def outputs(self) -> int:
        return len(self.names)

    @cached_property
    def source(self) -> SourceStudy:
        """The source network's study, on the same store and clock."""
        return SourceStudy(self.parameters, self.store, self._seconds, whole=self.whole)

    @property
    def _from_imagenet(self) -> bool:
        return self.parameters.source == "ImageNet"

    def network_key(self, role: str) -> dict:
        # What a network sees and is scored on, class split included.
        data = self.data
        seen = data.teacher_samples if role == "T" else data.training_samples
        key = super().network_key(role) | {"seen": seen.source}
        return key | {"scored": [data.training_samples.source, data.test_samples.source]}

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
        if role == "F" and self._from_imagenet:
            take_convolutions(net, imagenet_state(self.parameters.network, 2 * seed))
        elif role == "F":
            trained = self.source.of("T", seed)
            take_convolutions(net, trained.states[trained.final_epoch])
        return net

    def classifier(self, role: str, seed: int, **key: object) -> Trained:
        """F, B or the source network T; each serves all layers."""
        if role == "F":
            source = IMAGENET if self._from_imagenet else self.source.of("T", seed).fingerprint
            key |= {"fine_tuned_from": source}
        return super().classifier(role, seed, **key)

    def right_answers(self, role: str, samples: ImageSamples) -> np.ndarray:
        """(seeds, samples) 1 where the final network of a role names the class, else 0."""
        rows = []
        for seed in self.parameters.seeds:
            net = self.network(self.of(role, seed)).eval()
            with torch.inference_mode():
                parts = [net(x.to(self.device)).argmax(1) for x in samples.images.split(_BATCH)]
            rows.append(torch.cat(parts).cpu() == samples.labels)
        return torch.stack(rows).double().numpy()

    def check_teacher(self) -> str:
        """One sentence on how good the source network is on unseen objects of its own classes;
        KpnbError where it has learned too little to hand anything on."""
        if self._from_imagenet:
            return f"The source network has the weights {IMAGENET}; how good they are is known."
        return self.source.check_teacher()


@dataclass(frozen=True)
class SourceStudy(FineTuningStudy):
    """The source network: teacher T of a study of the source classes."""

    CHECKED = {"T": "source network"}
    check_teacher = ImageStudy.check_teacher

    @property
    def names(self) -> Names:
        return self.class_parts[0]
