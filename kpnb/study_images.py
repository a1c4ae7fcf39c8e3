"""Which images an image study trains, tests and measures its networks on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kpnb.datasets.embedded_images import embedded_images
from kpnb.datasets.image_samples import ImageSamples
from kpnb.errors import KpnbError
from kpnb.parameters import ImageParameters
from kpnb.units import GridUnits

TEST_SAMPLES = 2000
DATA_SEED = 0


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
        """The images whose entropy is measured: the first of the training or of the test samples
        that have both foreground and background on the grid."""
        source = self.training_samples
        if self.parameters.measured_on == "test":
            source = self.test_samples
        foreground = self.units.foreground(source.masks)
        usable = (foreground.any(1) & ~foreground.all(1)).nonzero().flatten()
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
