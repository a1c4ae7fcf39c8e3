"""Which point clouds a study trains, tests and measures its networks on.

Point-cloud studies: the paper's four networks on clouds, whose units are the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn

from kpnb.datasets.clouds import embedded_shapes, point_scenes, pointclouds_hash
from kpnb.datasets.modelnet40 import modelnet40_shapes
from kpnb.datasets.places import data_folder
from kpnb.datasets.samples import PointSamples, Shapes
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import point_network
from kpnb.networks.cloud_layers import PointNetwork, tracked_weight
from kpnb.study.parameters import CloudParameters
from kpnb.study.study import Study
from kpnb.training import cloud_recipes
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import accuracy, train_classifier

DATA_SEED = 0
EMBEDDED = "embedded"


@dataclass(frozen=True)
class StudyClouds:
    """Objects among points of other shapes, as the parameters of a study ask for them; the same
    for all its seeds."""

    parameters: CloudParameters

    @cached_property
    def teacher_samples(self) -> PointSamples:
        return self._scenes("train", self.parameters.teacher_samples)

    @cached_property
    def training_samples(self) -> PointSamples:
        """What student and baseline are trained on."""
        return self.teacher_samples.fraction(self.parameters.fraction, DATA_SEED)

    @cached_property
    def test_samples(self) -> PointSamples:
        """Unseen shapes among points of unseen shapes."""
        return self._scenes("test", self.parameters.test_samples)

    @cached_property
    def measured(self) -> PointSamples:
        """The clouds whose entropy is measured: the first of the training or of the test clouds."""
        p = self.parameters
        source = self.training_samples if p.measured_on == "train" else self.test_samples
        if len(source) < p.samples:
            more = "teacher_samples or fraction" if p.measured_on == "train" else "test_samples"
            raise KpnbError(
                f"samples={p.samples} clouds are wanted, but only {len(source)} are there to "
                f"measure; ask for fewer, or raise {more}."
            )
        return source.subset(range(p.samples))

    @property
    def foreground(self) -> Tensor:
        """(samples, points) bool of the measured clouds."""
        return self.measured.foreground

    def _scenes(self, split: str, wanted: int | str) -> PointSamples:
        p, count = self.parameters, None if wanted == "all" else wanted
        scene = dict(points=p.points, background=p.background, distance=p.distance, turn=p.turn)
        return point_scenes(self._shapes(split), count, **scene, seed=DATA_SEED, split=split)

    def _shapes(self, split: str) -> Shapes:
        p = self.parameters
        folder = data_folder(p.data)
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
    TRAINING_CODE = (
        train_classifier,
        distill_features,
        teacher_features,
        train_above,
        point_network,
        tracked_weight,
        *SCORING_CODE,
    )
    MAPS_CODE = (EntropyEstimator, PointUnits)

    @cached_property
    def data(self) -> StudyClouds:
        return StudyClouds(self.parameters)

    @property
    def data_hashes(self) -> dict[str, str]:
        return {"pointclouds": pointclouds_hash()}

    @property
    def dataset(self) -> str:
        p = self.parameters
        shapes = "furniture and components" if p.shapes == "both" else p.shapes
        name = f"embedded clouds of {shapes}" if p.data == EMBEDDED else "ModelNet40"
        return name + (" (unseen shapes)" if p.measured_on == "test" else "")

    @property
    def network_name(self) -> str:
        return self.parameters.network

    @property
    def scale(self) -> str:
        return self.parameters.scale

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        p = self.parameters
        if role == "T":
            return cloud_recipes.training(p.teacher_epochs, seed, (p.teacher_epochs,))
        return cloud_recipes.training(p.epochs, seed, self.checkpoints)

    def head_schedule(self, seed: int) -> TrainingSettings:
        epochs = self.parameters.head_epochs
        return cloud_recipes.training(epochs, seed, (epochs,))

    def build(self, role: str, seed: int) -> PointNetwork:
        p = self.parameters
        classes = len(self.data.teacher_samples.class_names)
        return point_network(p.network, classes, p.scale, seed=2 * seed + (role == "T"))

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

    def labels(self, samples: PointSamples) -> Tensor:
        return samples.labels

    def scores(self, net: nn.Module, samples: PointSamples) -> dict[str, float]:
        rows = self.parameters.chunk
        return {"accuracy": accuracy(net, samples.points, samples.labels, batch_size=rows)}

    @property
    def reference_lines(self) -> dict[str, float]:
        return {"chance": 1 / len(self.data.teacher_samples.class_names)}

    @property
    def least_teacher(self) -> float:
        return LEAST_TEACHER

    @property
    def named_layers(self) -> dict[str, str]:
        return {layer: layer for layer in ("FC1", "FC2", "FC3")}

    def explainer(self, layer: str, **changes: object) -> EntropyEstimator:
        p = self.parameters
        estimator = EntropyEstimator(
            layer,
            units=PointUnits(frozen=p.choices == "frozen"),
            method=p.method,
            probes=p.probes,
            evaluations=EVALUATIONS,
            standard_error=None,
            chunk=p.chunk,
        )
        return replace(estimator, **changes)

    def explain(
        self, explainer: EntropyEstimator, net: nn.Module, samples: PointSamples
    ) -> EntropyMaps:
        return explainer.explain(net, samples.points.to(self.device))
