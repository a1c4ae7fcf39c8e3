"""Which images an image study trains, tests and measures its networks on.

Embedded images are composed in a random order of classes. A prepared data set has its own order,
often class by class, so a part of it is drawn with a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kpnb.data_folder import data_folder
from kpnb.datasets.embedded_images import embedded_hash, embedded_images
from kpnb.datasets.image_samples import ImageSamples
from kpnb.datasets.prepared_images import prepared_hash, prepared_images
from kpnb.errors import KpnbError
from kpnb.parameters import ImageParameters
from kpnb.units import GridUnits

TEST_SAMPLES = 2000
DATA_SEED = 0
EMBEDDED = "embedded"


@dataclass(frozen=True)
class StudyImages:
    """The embedded images as the parameters of a study ask for them; the same for all its seeds."""

    parameters: ImageParameters

    @property
    def units(self) -> GridUnits:
        return GridUnits(self.parameters.grid)

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        p = self.parameters
        return embedded_images(p.teacher_samples, "train", p.classes, p.image_size, DATA_SEED)

    @cached_property
    def training_samples(self) -> ImageSamples:
        """What student and baseline are trained on."""
        return self.teacher_samples.fraction(self.parameters.fraction, DATA_SEED)

    @cached_property
    def test_samples(self) -> ImageSamples:
        """Unseen objects on unseen photos."""
        p = self.parameters
        return embedded_images(TEST_SAMPLES, "test", p.classes, p.image_size, DATA_SEED)

    @cached_property
    def measured(self) -> ImageSamples:
        """The images whose entropy is measured: the first in `order` of the training or of the test
        samples that have both foreground and background on the grid."""
        source = self.training_samples
        if self.parameters.measured_on == "test":
            source = self.test_samples
        foreground = self.units.foreground(source.masks)
        usable = self.order((foreground.any(1) & ~foreground.all(1)).nonzero().flatten())
        if len(usable) < self.parameters.samples:
            raise KpnbError(
                f"samples={self.parameters.samples} images are wanted, but only {len(usable)} are "
                "there to measure; ask for fewer, or raise teacher_samples or fraction."
            )
        return source.subset(usable[: self.parameters.samples])

    @cached_property
    def foreground(self) -> Tensor:
        """(samples, units) bool of the measured images."""
        return self.units.foreground(self.measured.masks)

    @property
    def hashes(self) -> dict[str, str]:
        return {"images": embedded_hash()}

    @property
    def title(self) -> str:
        """What the images are, as tables call them."""
        return "embedded images"

    def order(self, positions: Tensor) -> Tensor:
        """The order in which a part of some positions is taken."""
        return positions


@dataclass(frozen=True)
class PreparedImages(StudyImages):
    """A data set that data_prep/ has prepared."""

    @cached_property
    def folder(self) -> Path:
        return data_folder(self.parameters.data)

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        whole, wanted = self._split("train"), self.parameters.teacher_samples
        if wanted == "all":
            return whole
        if wanted > len(whole):
            raise KpnbError(
                f"teacher_samples={wanted}, but {self.folder} has {len(whole)} images to train on: "
                "ask for fewer, or for 'all'."
            )
        return whole.subset(self.order(torch.arange(len(whole)))[:wanted].sort().values)

    @cached_property
    def test_samples(self) -> ImageSamples:
        return self._split("test")

    @property
    def hashes(self) -> dict[str, str]:
        return {"images": prepared_hash(self.folder)}

    @cached_property
    def title(self) -> str:
        return self.test_samples.source["dataset"]

    def order(self, positions: Tensor) -> Tensor:
        drawn = np.random.default_rng(DATA_SEED).permutation(len(positions))
        return positions[torch.from_numpy(drawn)]

    def _split(self, split: str) -> ImageSamples:
        return prepared_images(self.folder, split, self.parameters.image_size)


def study_images(parameters: ImageParameters) -> StudyImages:
    """The images that the parameters ask for."""
    return (StudyImages if parameters.data == EMBEDDED else PreparedImages)(parameters)
