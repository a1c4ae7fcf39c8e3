"""Which point clouds a study trains, tests and measures its networks on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kpnb.data_folder import data_folder
from kpnb.datasets.embedded_pointclouds import embedded_shapes
from kpnb.datasets.modelnet40 import modelnet40_shapes
from kpnb.datasets.point_samples import PointSamples, Shapes
from kpnb.datasets.point_scenes import point_scenes
from kpnb.errors import KpnbError
from kpnb.parameters import CloudParameters

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
