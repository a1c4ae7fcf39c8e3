"""Which point clouds a study trains, tests and measures its networks on.

Point-cloud studies: the paper's four networks on clouds, whose units are the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from kpnb.datasets.clouds import PACKED_SHA256, embedded_shapes, point_scenes
from kpnb.datasets.modelnet40 import modelnet40_shapes
from kpnb.datasets.places import EMBEDDED, find_data
from kpnb.datasets.samples import DATA_SEED, PointSamples, Shapes, packed_hash
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.cloud_layers import PointNetwork
from kpnb.networks.layers import tracked_weight
from kpnb.study.modality import StudyData
from kpnb.study.parameters import CloudParameters
from kpnb.study.study import TRAINERS, Study
from kpnb.training.recipes import recipe
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import accuracy


@dataclass(frozen=True)
class StudyClouds(StudyData):
    """Objects among points of other shapes, as the parameters of a study ask for them; the same
    for all its seeds."""

    parameters: CloudParameters

    @cached_property
    def teacher_samples(self) -> PointSamples:
        return self._scenes("train", self.parameters.teacher_samples)

    @cached_property
    def test_samples(self) -> PointSamples:
        """Unseen shapes among points of unseen shapes."""
        return self._scenes("test", self.parameters.test_samples)

    def _scenes(self, split: str, wanted: int | str) -> PointSamples:
        p, count = self.parameters, None if wanted == "all" else wanted
        scene = dict(points=p.points, background=p.background, distance=p.distance, turn=p.turn)
        return point_scenes(self._shapes(split), count, **scene, seed=DATA_SEED, split=split)

    def _shapes(self, split: str) -> Shapes:
        p = self.parameters
        folder = find_data(p.data)
        if folder is None:
            return embedded_shapes(split, p.shapes)
        return modelnet40_shapes(folder, split)


# The paper asks for a well optimized teacher; half of the unseen shapes right is the least for it.
LEAST_TEACHER = 0.5
EVALUATIONS = 1  # the path from -3.2 to -2.8 nats is short; the variants of Hypothesis 1 test it


@dataclass(frozen=True)
class CloudStudy(Study):
    """Teacher T, student S and baseline B on objects among points of other shapes."""

    parameters: CloudParameters

    # Settings are in the store's keys, whatever recipe they come from.
    SCORING_CODE = (accuracy,)
    TRAINING_CODE = (*TRAINERS, point_network, tracked_weight, *SCORING_CODE)
    MAPS_CODE = (EntropyEstimator, PointUnits)

    @cached_property
    def data(self) -> StudyClouds:
        return StudyClouds(self.parameters)

    @property
    def data_hashes(self) -> dict[str, str]:
        return {"pointclouds": packed_hash(PACKED_SHA256)}

    @property
    def dataset(self) -> str:
        p = self.parameters
        shapes = "furniture and components" if p.shapes == "both" else p.shapes
        name = f"embedded clouds of {shapes}" if p.data == EMBEDDED else "ModelNet40"
        return name + (" (unseen shapes)" if p.measured_on == "test" else "")

    @property
    def outputs(self) -> int:
        return len(self.data.teacher_samples.class_names)

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        p = self.parameters
        if role == "T":
            return recipe("cloud", "T", p.teacher_epochs, seed)
        return recipe("cloud", role, p.epochs, seed, self.checkpoints)

    def head_schedule(self, seed: int) -> TrainingSettings:
        return recipe("cloud", "head", self.parameters.head_epochs, seed)

    def build(self, role: str, seed: int) -> PointNetwork:
        p = self.parameters
        return point_network(p.network, self.outputs, p.scale, seed=2 * seed + (role == "T"))

    def skeleton(self, role: str) -> PointNetwork:
        p, classes = self.parameters, len(self.data.teacher_samples.class_names)
        with torch.device("meta"):
            return BUILDERS[p.network](classes, p.scale)

    def example(self) -> tuple[int, ...]:
        return (self.units, 3)

    @property
    def units(self) -> int:
        return self.parameters.points + self.parameters.background

    def network_key(self, role: str) -> dict:
        p = self.parameters
        key = {"network": p.network, "scale": p.scale}
        # What the clouds became counts, not the code that composed them. Scores are stored with a
        # network, so what it is tested on counts too.
        samples = self.data.teacher_samples if role == "T" else self.data.training_samples
        return key | {"clouds": samples.digest, "tested": self.data.test_samples.digest}

    def tracked(self, net: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
        return {layer: tracked_weight(net, layer) for layer in layers}

    def inputs(self, samples: PointSamples) -> Tensor:
        return samples.points

    def scores(self, net: nn.Module, samples: PointSamples) -> dict[str, float]:
        rows = self.parameters.chunk
        return {"accuracy": accuracy(net, samples.points, samples.labels, batch_size=rows)}

    @property
    def least_teacher(self) -> float:
        return LEAST_TEACHER

    @property
    def named_layers(self) -> dict[str, str]:
        return {layer: layer for layer in ("FC1", "FC2", "FC3")}

    def explainer(self, layer: str, **changes: object) -> EntropyEstimator:
        units = PointUnits(frozen=self.parameters.choices == "frozen")
        return self.estimator(layer, {"units": units, "evaluations": EVALUATIONS} | changes)

    def explain(
        self, explainer: EntropyEstimator, net: nn.Module, samples: PointSamples
    ) -> EntropyMaps:
        return explainer.explain(net, samples.points.to(self.device))
