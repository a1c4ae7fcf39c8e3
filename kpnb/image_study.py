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
# Chance is far below; a teacher under this multiple of it has learned next to nothing.
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
            return recipes.classification(self._teacher_name, p.teacher_epochs, seed, last)
        recipe = recipes.distillation if role == "S" else recipes.classification
        return recipe(p.network, p.epochs, seed, self.checkpoints)

    def head_schedule(self, seed: int) -> TrainingSettings:
        return recipes.head(self.parameters.network, self.parameters.head_epochs, seed)

    def build(self, role: str, seed: int) -> nn.Module:
        p = self.parameters
        if role == "T" and p.teacher != "same":
            fc1 = layer_module(image_network(p.network, p.classes, p.scale), "FC1")
            return pretrained_teacher(p.classes, fc1.out_features, seed)
        return image_network(p.network, p.classes, p.scale, seed=2 * seed + (role == "T"))

    def network_key(self, role: str) -> dict:
        p = self.parameters
        key = {"network": p.network, "scale": p.scale}
        key |= {"classes": p.classes, "image_size": p.image_size}
        return key | {"kind": self._teacher_name if role == "T" else p.network}

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
        return {"chance": 1 / self.parameters.classes}

    @property
    def least_teacher(self) -> float:
        return LEAST_TIMES_CHANCE / self.parameters.classes

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

    @property
    def _teacher_name(self) -> str:
        p = self.parameters
        return p.network if p.teacher == "same" else p.teacher
