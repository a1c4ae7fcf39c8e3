"""One cell of the paper's image tables: any teacher, augmentation, any number of outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from kpnb.cell_parameters import CellParameters
from kpnb.datasets.embedded_images import embedded_images
from kpnb.datasets.image_samples import ImageSamples
from kpnb.datasets.object_labels import relabeled, same_part
from kpnb.fingerprint import Seed
from kpnb.image_study import ImageStudy
from kpnb.study_images import DATA_SEED, TEST_SAMPLES, StudyImages, study_images

LAYERS = ("Conv", "FC1", "FC2", "FC3")


@dataclass(frozen=True)
class RelabeledImages(StudyImages):
    """The same images for every number of outputs; the objects are known, the test images new."""

    parameters: CellParameters

    @cached_property
    def _by_class(self) -> ImageSamples:
        p = self.parameters
        return embedded_images(p.teacher_samples, "train", p.classes, p.image_size, DATA_SEED)

    @cached_property
    def teacher_samples(self) -> ImageSamples:
        return relabeled(self._by_class, self.parameters.outputs)

    @cached_property
    def training_samples(self) -> ImageSamples:
        index = same_part(self._by_class, self.parameters.fraction, DATA_SEED)
        return self.teacher_samples.subset(index)

    @cached_property
    def test_samples(self) -> ImageSamples:
        """New images of the same objects on the same photos: unseen objects have no label."""
        p = self.parameters
        fresh = embedded_images(TEST_SAMPLES, "train", p.classes, p.image_size, DATA_SEED + 1)
        return relabeled(fresh, p.outputs)


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

    @property
    def tracked_layers(self) -> tuple[str, ...]:
        """All of them, so that the cells of a network share their baseline."""
        return LAYERS

    def network_key(self, role: str) -> dict:
        key, outputs = super().network_key(role), self.parameters.outputs
        return key | ({"outputs": outputs} if outputs else {})

    def training_code(self, role: str) -> tuple[Seed, ...]:
        labels = (relabeled, same_part) if self.parameters.outputs else ()
        return super().training_code(role) + labels
