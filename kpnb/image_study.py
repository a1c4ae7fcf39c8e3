"""Image studies: the paper's networks on images, whose units are the cells of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from torch import Tensor, nn

from kpnb import paper_recipes, recipes
from kpnb.augmentation import flip_and_shift
from kpnb.datasets.byte_images import normalized, takes_bytes
from kpnb.datasets.embedded_images import embedded_images
from kpnb.datasets.image_samples import ImageSamples
from kpnb.distillation import distill_features, teacher_features, train_above
from kpnb.entropy import EntropyEstimator, EntropyMaps
from kpnb.fingerprint import Seed
from kpnb.networks.image import image_network
from kpnb.networks.layers import layer_module, tracked_weight
from kpnb.networks.pretrained import pretrained_teacher
from kpnb.paper_augmentation import crop_and_flip, strong
from kpnb.parameters import ImageParameters
from kpnb.study import Study
from kpnb.study_images import EMBEDDED, StudyImages, study_images
from kpnb.training import Augment, TrainingSettings, accuracy, train_classifier
from kpnb.units import GridUnits

PRETRAINED = "EfficientNet-lite0"
# Chance is far below; a teacher under this multiple of it has learned next to nothing. With few
# classes half of the way from chance to 1 is less.
LEAST_TIMES_CHANCE = 2.0


@dataclass(frozen=True)
class ImageStudy(Study):
    """Teacher T, student S and baseline B on the embedded images or a prepared data set."""

    parameters: ImageParameters

    # Settings are in the store's keys, whatever recipe they come from.
    SCORING_CODE = (accuracy,)
    TRAINING_CODE = (
        train_classifier,
        distill_features,
        teacher_features,
        train_above,
        image_network,
        pretrained_teacher,
        tracked_weight,
        embedded_images,
        *SCORING_CODE,
    )
    MAPS_CODE = (EntropyEstimator, GridUnits, normalized)

    @cached_property
    def data(self) -> StudyImages:
        return study_images(self.parameters)

    @property
    def data_hashes(self) -> dict[str, str]:
        return self.data.hashes

    @property
    def dataset(self) -> str:
        unseen = " (unseen objects)" if self.parameters.measured_on == "test" else ""
        return self.data.title + unseen

    @property
    def prepared(self) -> bool:
        return self.parameters.data != EMBEDDED

    @property
    def network_name(self) -> str:
        return self.parameters.network

    @property
    def scale(self) -> str:
        return self.parameters.scale

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        p, name = self.parameters, self._name(role)
        teacher = role == "T"
        epochs, kept = (p.teacher_epochs, (p.teacher_epochs,)) if teacher else (p.epochs, None)
        kept = kept or self.checkpoints
        if p.recipe == "published":
            return self._published(role, layer)(name, epochs=epochs, seed=seed, checkpoints=kept)
        recipe = recipes.distillation if role == "S" else recipes.classification
        return recipe(name, epochs, seed, kept)

    def _published(self, role: str, layer: str | None) -> Callable[..., TrainingSettings]:
        """The published recipe of a role, but for what all of them take."""
        if role == "S":
            return partial(paper_recipes.distillation, layer=layer)
        p, teacher = self.parameters, role == "T"
        return partial(
            paper_recipes.classification,
            pretrained=teacher and p.pretrained == "ImageNet",
            augmented=teacher and p.augment == "teacher",
        )

    def scaled(self, layer: str) -> bool:
        return self.parameters.recipe == "ours" or paper_recipes.scaled(layer)

    def head_schedule(self, seed: int) -> TrainingSettings:
        p = self.parameters
        recipe = paper_recipes.head if p.recipe == "published" else recipes.head
        return recipe(p.network, p.head_epochs, seed)

    def augmentation(self, role: str) -> Augment | None:
        p = self.parameters
        if p.augment == "none" or (p.augment == "teacher" and role != "T"):
            return None
        if p.recipe == "ours" and not self.prepared:
            return flip_and_shift
        return strong if p.augment == "teacher" else crop_and_flip

    def build(self, role: str, seed: int) -> nn.Module:
        return self._net(role, seed, role == "T" and self.parameters.pretrained == "ImageNet")

    def container(self, role: str, seed: int) -> nn.Module:
        return self._net(role, seed, False)

    def _net(self, role: str, seed: int, pretrained: bool) -> nn.Module:
        p, outputs = self.parameters, self.outputs
        if role == "T" and p.teacher == PRETRAINED:
            fc1 = layer_module(image_network(p.network, outputs, p.scale), "FC1")
            net = pretrained_teacher(outputs, fc1.out_features, seed)
        else:
            own = 2 * seed + (role == "T")
            net = image_network(self._name(role), outputs, p.scale, own, pretrained)
        return takes_bytes(net) if self.prepared else net

    def network_key(self, role: str) -> dict:
        # A teacher of another size is the very network that teaches students of its own size;
        # the pretrained one has FC layers as wide as its student's.
        p, kind = self.parameters, self._name(role)
        key = {"network": p.network if kind == PRETRAINED else kind, "scale": p.scale}
        key |= {"classes": self.outputs if self.prepared else p.classes}
        key |= {"image_size": p.image_size, "kind": kind}
        augment = self.augmentation(role)
        key |= {"augment": augment.__name__} if augment else {}
        if role == "T" and p.pretrained != "none":
            key |= {"pretrained": p.pretrained}
        return key | (self._prepared_key(role) if self.prepared else {})

    def _prepared_key(self, role: str) -> dict:
        data = self.data
        seen = data.teacher_samples if role == "T" else data.training_samples
        return {"seen": seen.source, "tested": data.test_samples.source}

    def training_code(self, role: str) -> tuple[Seed, ...]:
        augment = self.augmentation(role)
        code = self.TRAINING_CODE + ((augment,) if augment else ())
        return code + ((takes_bytes,) if self.prepared else ())

    @property
    def outputs(self) -> int:
        """Dimensions of the networks' output: a class each."""
        if self.prepared:
            return len(self.data.test_samples.class_names)
        return self.parameters.classes

    def tracked(self, net: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
        return {layer: tracked_weight(net, layer) for layer in layers}

    def inputs(self, samples: ImageSamples) -> Tensor:
        return samples.images

    def labels(self, samples: ImageSamples) -> Tensor:
        return samples.labels

    def scores(self, net: nn.Module, samples: ImageSamples) -> dict[str, float]:
        return {"accuracy": accuracy(net, samples.images, samples.labels)}

    @property
    def reference_lines(self) -> dict[str, float]:
        return {"chance": 1 / self.outputs}

    @property
    def least_teacher(self) -> float:
        chance = 1 / self.outputs
        return min(LEAST_TIMES_CHANCE * chance, (1 + chance) / 2)

    @property
    def named_layers(self) -> dict[str, str]:
        return {layer: layer for layer in ("Conv", "FC1", "FC2", "FC3")}

    def foreground(self, **changes: object) -> Tensor:
        units = changes.get("units", self.data.units)
        return units.foreground(self.data.measured.masks)

    def explainer(self, layer: str, **changes: object) -> EntropyEstimator:
        p = self.parameters
        estimator = EntropyEstimator(
            layer,
            units=self.data.units,
            method=p.method,
            probes=p.probes,
            standard_error=None,
            entropy_weight=recipes.entropy_weight(p.network),
            chunk=p.chunk,
        )
        return replace(estimator, **changes)

    def explain(
        self, explainer: EntropyEstimator, net: nn.Module, samples: ImageSamples
    ) -> EntropyMaps:
        return explainer.explain(net, normalized(samples.images.to(self.device)))

    def _name(self, role: str) -> str:
        """Architecture of teacher, student or baseline."""
        p = self.parameters
        return p.teacher if role == "T" and p.teacher != "same" else p.network
