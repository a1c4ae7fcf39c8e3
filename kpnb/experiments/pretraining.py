"""The network that fine-tuning starts from: what it learns, and what is taken over from it.

The classes are split: a source network learns the source classes, or torchvision's ImageNet
weights take its place. Handed on is everything below the FC layers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
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
        raise KpnbError(
            "the pre-trained network has other convolutions than the one to fine-tune: take one "
            "of the same architecture and scale."
        )
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

    def right_answers(self, role: str, samples: ImageSamples) -> np.ndarray:
        """(seeds, samples) 1 where the final network of a role names the class, else 0."""
        nets = [self.network(self.of(role, seed)) for seed in self.parameters.seeds]
        return np.stack([self._right(net, samples) for net in nets]).astype(float)

    @torch.inference_mode()
    def _right(self, net: nn.Module, samples: ImageSamples) -> np.ndarray:
        net.eval()
        batches = samples.images.split(_BATCH)
        found = torch.cat([net(x.to(self.device)).argmax(1).cpu() for x in batches])
        return (found == samples.labels).numpy()


@dataclass(frozen=True)
class SourceStudy(ClassStudy):
    """The source network: teacher T of a study of the source classes."""

    @property
    def names(self) -> Names:
        return self.class_parts[0]

    def origin(self, seed: int) -> str:
        """What is handed on, for the store's key."""
        if self.parameters.source == "ImageNet":
            return IMAGENET
        return self.of("T", seed).fingerprint

    def handed_on(self, seed: int) -> dict[str, Tensor]:
        """The weights that a fine-tuned network of a seed starts from."""
        p = self.parameters
        if p.source == "ImageNet":
            return imagenet_state(p.network, 2 * seed)
        trained = self.of("T", seed)
        return trained.states[trained.final_epoch]

    def check_teacher(self) -> str:
        """One sentence on how good the source network is on unseen objects of its own classes.

        KpnbError if it is not above `least_teacher`, for a network that learned nothing has
        nothing to hand on; the smoke preset says that it trains too little to tell.
        """
        p = self.parameters
        if p.source == "ImageNet":
            return f"The source network has the weights {IMAGENET}; how good they are is known."
        if p.preset == "smoke":
            return "This is the smoke preset: it shows that everything runs, and nothing else."
        shares = self.accuracies("T")["test"]
        told = f"accuracy on unseen objects of its {self.outputs} classes "
        told += f"{' / '.join(f'{share:.1%}' for share in shares)}, chance {1 / self.outputs:.1%}"
        if min(shares) <= self.least_teacher:
            raise KpnbError(
                f"the study is void, because its source network has learned too little ({told}); "
                "raise teacher_epochs or teacher_samples."
            )
        return f"The source network has something to hand on: {told}."
