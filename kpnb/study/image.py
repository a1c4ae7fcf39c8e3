"""Image studies: the paper's networks on images, whose units are the cells of a grid; and one cell
of its image tables, with any teacher, augmentation and number of outputs.

Embedded images are composed in a random order of classes. A prepared data set has its own order,
often class by class, so a part of it is drawn with a seed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.datasets.images import PACKED_SHA256, embedded_images, relabeled, same_part
from kpnb.datasets.places import EMBEDDED, find_data
from kpnb.datasets.prepared import normalized, prepared_hash, prepared_images, takes_bytes
from kpnb.datasets.samples import DATA_SEED, ImageSamples
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import layer_module
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import Seed
from kpnb.networks.image import build, hand_on, image_network, last_part, pretrained_teacher
from kpnb.networks.layers import tracked_weight
from kpnb.paper import LAYERS
from kpnb.study.modality import StudyData
from kpnb.study.parameters import CellParameters, ImageParameters
from kpnb.study.study import TRAINERS, Study, Trained
from kpnb.training.augmentation import crop_and_flip, flip_and_shift, strong
from kpnb.training.recipes import entropy_weight, published_recipe, scaled_by_variance
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import Augment, accuracy

TEST_SAMPLES = 2000


@dataclass(frozen=True)
class StudyImages(StudyData):
    """The embedded images."""

    parameters: ImageParameters

    PACKED = "images", PACKED_SHA256
    title = "embedded images"

    @property
    def units(self) -> GridUnits:
        return GridUnits(self.parameters.grid)

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        return self.embedded(self.parameters.teacher_samples, "train")

    @cached_property
    def test_samples(self) -> ImageSamples:
        """Unseen objects on unseen photos."""
        return self.embedded(TEST_SAMPLES, "test")

    @cached_property
    def new_samples(self) -> ImageSamples:
        """Other images of the same objects on the same photos: what a closed set can teach."""
        return self.embedded(TEST_SAMPLES, "train", DATA_SEED + 1)

    @property
    def splits(self) -> dict[str, ImageSamples]:
        return super().splits | {"new": self.new_samples}

    def embedded(self, count: int, split: str, seed: int = DATA_SEED) -> ImageSamples:
        return embedded_images(
            count, split, self.parameters.classes, self.parameters.image_size, seed
        )

    def usable(self, samples: ImageSamples) -> Tensor:
        """Those with both foreground and background on the grid, in `order`."""
        foreground = self.units.foreground(samples.masks)
        return self.order((foreground.any(1) & ~foreground.all(1)).nonzero().flatten())

    @cached_property
    def foreground(self) -> Tensor:
        return self.units.foreground(self.measured.masks)

    def order(self, positions: Tensor) -> Tensor:
        """The order in which a part of some positions is taken."""
        return positions


@dataclass(frozen=True)
class PreparedImages(StudyImages):
    """A data set that data_prep/ has prepared."""

    @cached_property
    def folder(self) -> Path:
        return find_data(self.parameters.data)

    @property
    def hashes(self) -> dict[str, str]:
        return {"images": prepared_hash(self.folder)}

    @property
    def splits(self) -> dict[str, ImageSamples]:
        return super(StudyImages, self).splits

    @cached_property
    def title(self) -> str:
        return self.test_samples.source["dataset"]

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        whole, wanted = self._split("train"), self.parameters.teacher_samples
        if wanted == "all" or wanted >= len(whole):
            return whole
        return whole.subset(self.order(torch.arange(len(whole)))[:wanted].sort().values)

    @cached_property
    def test_samples(self) -> ImageSamples:
        return self._split("test")

    def order(self, positions: Tensor) -> Tensor:
        drawn = np.random.default_rng(DATA_SEED).permutation(len(positions))
        return positions[torch.from_numpy(drawn)]

    def _split(self, split: str) -> ImageSamples:
        return prepared_images(self.folder, split, self.parameters.image_size)


def study_images(parameters: ImageParameters) -> StudyImages:
    """The images that the parameters ask for."""
    return (StudyImages if parameters.data == EMBEDDED else PreparedImages)(parameters)


PRETRAINED = "EfficientNet-lite0"


@dataclass(frozen=True)
class ImageStudy(Study):
    """Teacher T, student S and baseline B on the embedded images or a prepared data set."""

    parameters: ImageParameters

    DATA, RECIPES, UNSEEN = staticmethod(study_images), "image", "unseen objects"
    TRAINING_CODE = (
        *(*TRAINERS, image_network, pretrained_teacher),
        *(tracked_weight, embedded_images, accuracy),
    )
    MAPS_CODE = (EntropyEstimator, GridUnits, normalized)
    named_layers = {layer: layer for layer in LAYERS}

    @property
    def prepared(self) -> bool:
        return self.parameters.data != EMBEDDED

    def inputs(self, samples: ImageSamples) -> Tensor:
        return samples.images

    def foreground(self, **changes: object) -> Tensor:
        units = changes.get("units", self.data.units)
        return units.foreground(self.data.measured.masks)

    @property
    def outputs(self) -> int:
        """A class each."""
        if self.prepared:
            return len(self.data.test_samples.class_names)
        return self.parameters.classes

    def architecture(self, role: str) -> str:
        p = self.parameters
        return p.teacher if role == "T" and p.teacher != "same" else p.network

    def build(self, role: str, seed: int) -> nn.Module:
        net = self._net(role, seed, role == "T" and self.parameters.pretrained == "ImageNet")
        if role == "T" and self.pretraining:
            trained = self.pretraining.of("T", seed)
            hand_on(net, trained.states[trained.final_epoch], last_part(net))
        return net

    @cached_property
    def pretraining(self) -> "ImageStudy | None":
        """The study whose teacher this one's starts from, of the data set that `pretrained` names,
        on the same store and clock; None where there is none."""
        p = self.parameters
        if p.pretrained in ("none", "ImageNet"):
            return None
        changed = {"data": p.pretrained, "pretrained": "none", "teacher_samples": "all"}
        changed |= {"teachers": None}
        return replace(self, parameters=p.model_copy(update=changed), _networks={})

    def classifier(self, role: str, seed: int, **key: object) -> Trained:
        if role == "T" and self.pretraining:
            key |= {"pretrained": self.pretraining.of("T", seed).fingerprint}
        return super().classifier(role, seed, **key)

    def container(self, role: str, seed: int) -> nn.Module:
        return self._net(role, seed, False)

    def _net(self, role: str, seed: int, pretrained: bool) -> nn.Module:
        p, name, outputs = self.parameters, self.architecture(role), self.outputs
        if name == PRETRAINED:
            fc1 = layer_module(image_network(p.network, outputs, p.scale), "FC1")
            net = pretrained_teacher(outputs, fc1.out_features, seed)
        else:
            net = image_network(name, outputs, p.scale, 2 * seed + (role == "T"), pretrained)
        return takes_bytes(net) if self.prepared else net

    def skeleton(self, role: str) -> nn.Module:
        name = self.architecture(role)
        if name == PRETRAINED:  # its package loads weights, which need memory
            return super().skeleton(role)
        with torch.device("meta"):
            return build(name, self.outputs, self.scale)

    def network_key(self, role: str) -> dict:
        # A teacher of another size is the very network that teaches students of its own size;
        # the pretrained one has FC layers as wide as its student's.
        p, kind, data = self.parameters, self.architecture(role), self.data
        key = {"network": p.network if kind == PRETRAINED else kind, "scale": p.scale}
        key |= {"classes": self.outputs if self.prepared else p.classes}
        key |= {"image_size": p.image_size, "kind": kind}
        augment = self.augmentation(role)
        key |= {"augment": augment.__name__} if augment else {}
        if role == "T" and p.pretrained == "ImageNet":
            key |= {"pretrained": p.pretrained}
        if self.prepared:
            seen = data.teacher_samples if role == "T" else data.training_samples
            key |= {"seen": seen.source, "tested": data.test_samples.source}
        return key

    def example(self) -> tuple[int, ...]:
        return (3, self.parameters.image_size, self.parameters.image_size)

    @property
    def units(self) -> int:
        return self.parameters.grid**2

    @property
    def tracked_layers(self) -> tuple[str, ...]:
        """All of them, so that all studies of a network share their baseline."""
        return LAYERS

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        p, ours = self.parameters, super().schedule(role, seed, layer)
        if p.recipe == "ours":
            return ours
        given = self.architecture(role), role, ours.epochs, seed, ours.checkpoints, layer
        teacher = role == "T"
        pretrained, augmented = p.pretrained != "none", p.augment == "teacher"
        return published_recipe(*given, teacher and pretrained, teacher and augmented)

    def scaled(self, layer: str) -> bool:
        return self.parameters.recipe == "ours" or scaled_by_variance(layer)

    def augmentation(self, role: str) -> Augment | None:
        p = self.parameters
        if p.augment == "none" or (p.augment == "teacher" and role != "T"):
            return None
        if p.recipe == "ours" and not self.prepared:
            return flip_and_shift
        return strong if p.augment == "teacher" else crop_and_flip

    def training_code(self, role: str) -> tuple[Seed, ...]:
        augment = self.augmentation(role)
        code = self.TRAINING_CODE + ((augment,) if augment else ())
        code += (hand_on,) if role == "T" and self.pretraining else ()
        return code + ((takes_bytes,) if self.prepared else ())

    def explainer(self, layer: str, **changes: object) -> EntropyEstimator:
        weight = entropy_weight(self.parameters.network)
        return self.estimator(layer, {"units": self.data.units, "entropy_weight": weight} | changes)

    def explain(
        self, explainer: EntropyEstimator, net: nn.Module, samples: ImageSamples
    ) -> EntropyMaps:
        images = normalized(samples.images.to(self.device))
        return explainer.explain(net, images, progress=False)


@dataclass(frozen=True)
class RelabeledImages(StudyImages):
    """The same images for every number of outputs; the objects are known, the test images new."""

    parameters: CellParameters

    @cached_property
    def _by_class(self) -> ImageSamples:
        return self.embedded(self.parameters.teacher_samples, "train")

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        return relabeled(self._by_class, self.parameters.outputs)

    @cached_property
    def training_samples(self) -> ImageSamples:
        index = same_part(self._by_class, self.parameters.fraction, DATA_SEED)
        return self.teacher_samples.subset(index)

    @cached_property
    def test_samples(self) -> ImageSamples:
        """New images: unseen objects have no label."""
        return relabeled(self.new_samples, self.parameters.outputs)

    @property
    def splits(self) -> dict[str, ImageSamples]:
        return super(StudyImages, self).splits


@dataclass(frozen=True)
class CellStudy(ImageStudy):
    """Teacher T, student S and baseline B of one cell."""

    parameters: CellParameters

    @cached_property
    def data(self) -> StudyImages:
        relabel = self.parameters.outputs is not None
        return (RelabeledImages if relabel else study_images)(self.parameters)

    @property
    def outputs(self) -> int:
        return self.parameters.outputs or super().outputs

    @property
    def dataset(self) -> str:
        outputs = self.parameters.outputs
        return super().dataset + (f", {outputs} outputs" if outputs else "")

    def network_key(self, role: str) -> dict:
        key, outputs = super().network_key(role), self.parameters.outputs
        return key | ({"outputs": outputs} if outputs else {})

    def training_code(self, role: str) -> tuple[Seed, ...]:
        labels = (relabeled, same_part) if self.parameters.outputs else ()
        return super().training_code(role) + labels
