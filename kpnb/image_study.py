"""Image studies: the paper's networks on images, whose units are the cells of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from kpnb import recipes
from kpnb.datasets.embedded_images import embedded_hash
from kpnb.datasets.image_samples import ImageSamples
from kpnb.entropy import EntropyEstimator, EntropyMaps
from kpnb.networks.image import image_network
from kpnb.networks.layers import layer_module, tracked_weight
from kpnb.networks.pretrained import pretrained_teacher
from kpnb.parameters import ImageParameters
from kpnb.study import Study
from kpnb.study_images import StudyImages
from kpnb.training import TrainingSettings, accuracy

DATASET = "embedded images"
PRETRAINED = "EfficientNet-lite0"
# Chance is far below; a teacher under this multiple of it has learned next to nothing. With few
# classes half of the way from chance to 1 is less.
LEAST_TIMES_CHANCE = 2.0


@dataclass(frozen=True)
class ImageStudy(Study):
    """Teacher T, student S and baseline B on the embedded images."""

    parameters: ImageParameters

    TRAINING_CODE = (
        "kpnb.training",
        "kpnb.distillation",
        "kpnb.networks.image",
        "kpnb.recipes",
        "kpnb.networks.pretrained",
        "kpnb.datasets.embedded_images",
    )
    SCORING_CODE = ("kpnb.training",)
    MAPS_CODE = ("kpnb.entropy",)

    @cached_property
    def data(self) -> StudyImages:
        return StudyImages(self.parameters)

    @property
    def data_hashes(self) -> dict[str, str]:
        return {"images": embedded_hash()}

    @property
    def dataset(self) -> str:
        return DATASET + (" (unseen objects)" if self.parameters.measured_on == "test" else "")

    @property
    def network_name(self) -> str:
        return self.parameters.network

    @property
    def scale(self) -> str:
        return self.parameters.scale

    def schedule(self, role: str, seed: int) -> TrainingSettings:
        p = self.parameters
        if role == "T":
            last = (p.teacher_epochs,)
            return recipes.classification(self._name(role), p.teacher_epochs, seed, last)
        recipe = recipes.distillation if role == "S" else recipes.classification
        return recipe(p.network, p.epochs, seed, self.checkpoints)

    def head_schedule(self, seed: int) -> TrainingSettings:
        return recipes.head(self.parameters.network, self.parameters.head_epochs, seed)

    def build(self, role: str, seed: int) -> nn.Module:
        p, outputs = self.parameters, self.outputs
        if role == "T" and p.teacher == PRETRAINED:
            fc1 = layer_module(image_network(p.network, outputs, p.scale), "FC1")
            return pretrained_teacher(outputs, fc1.out_features, seed)
        return image_network(self._name(role), outputs, p.scale, seed=2 * seed + (role == "T"))

    def network_key(self, role: str) -> dict:
        # A teacher of another size is the very network that teaches students of its own size;
        # the pretrained one has FC layers as wide as its student's.
        p, kind = self.parameters, self._name(role)
        key = {"network": p.network if kind == PRETRAINED else kind, "scale": p.scale}
        return key | {"classes": p.classes, "image_size": p.image_size, "kind": kind}

    @property
    def outputs(self) -> int:
        """Dimensions of the networks' output: a class each."""
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
        )
        return replace(estimator, **changes)

    def explain(
        self, explainer: EntropyEstimator, net: nn.Module, samples: ImageSamples
    ) -> EntropyMaps:
        return explainer.explain(net, samples.images.to(self.device))

    def _name(self, role: str) -> str:
        """Architecture of teacher, student or baseline."""
        p = self.parameters
        return p.teacher if role == "T" and p.teacher != "same" else p.network
