"""What a run is about, from its parameters alone: samples, networks, bytes in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from kpnb.errors import KpnbError
from kpnb.run.planning.data_counts import EMBEDDED, Counts, counts_of
from kpnb.run.planning.network_costs import CLOUD, FLOAT, IMAGE, TEXT, Net, costs
from kpnb.study.parameters import (
    CloudParameters,
    FineTuningParameters,
    StudyParameters,
    TextParameters,
)

TEST_IMAGES = 2000  # of the embedded ones (kpnb.study.image)
BATCHES = {IMAGE: 64, CLOUD: 32, TEXT: 16}  # of the studies' own recipes
# Of the embedded texts at the presets' `longest`: mean word pieces of a text, since no batch is
# computed wider than its texts, and different pieces.
_EMBEDDED_TEXTS = {"sentence": (26, 8441), "question": (60, 8295)}


@dataclass
class Sizes:
    """How many samples, which networks and how much memory; see the module."""

    p: StudyParameters
    notebook: str
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        p = self.p
        kinds = ((CloudParameters, CLOUD), (TextParameters, TEXT))
        self.kind = next((kind for model, kind in kinds if isinstance(p, model)), IMAGE)
        self.data = getattr(p, "data", EMBEDDED)
        wanted = (p.teacher_samples, getattr(p, "test_samples", TEST_IMAGES))
        self.counts = self._counts() if self.data != EMBEDDED else None
        known = (self.counts.train, self.counts.test) if self.counts else wanted
        self.n_teacher = known[0] if wanted[0] == "all" else wanted[0]
        images = self.kind == IMAGE and self.counts is not None
        self.n_test = known[1] if wanted[1] == "all" or images else wanted[1]
        self.n_teacher, self.n_train = self._shares()
        self.batch = getattr(p, "batch", None) or BATCHES[self.kind]
        self.precision = getattr(p, "precision", "float32")
        self.augmented = getattr(p, "augment", "none") == "all"

    def _counts(self) -> Counts:
        try:
            return counts_of(self.data)
        except KpnbError:
            numbers = [self.p.teacher_samples, getattr(self.p, "test_samples", None)]
            if self.p.teacher_samples == "all" or "all" in numbers:
                raise
            self.left_out.append(f"how many test samples and classes {self.data} has is assumed")
            test = numbers[1] or TEST_IMAGES
            return Counts(numbers[0], test, getattr(self.p, "classes", 2), "the parameters")

    def _shares(self) -> tuple[int, int]:
        """Samples of the teacher, and of student and baseline."""
        p, n = self.p, self.n_teacher
        if isinstance(p, FineTuningParameters):
            share = p.source_classes / p.classes
            if p.source == "ImageNet" and self.counts:
                share = 0.0
            return round(n * share), max(1, round(n * (1 - share) * p.fraction))
        return n, max(1, round(n * p.fraction))

    def _outputs(self) -> int:
        p = self.p
        if self.counts and self.data != EMBEDDED:
            return self.counts.classes
        return getattr(p, "outputs", None) or getattr(p, "classes", 0) or 10

    def net(self, role: str) -> Net:
        p = self.p
        if self.kind == TEXT:
            embedded = self.data == EMBEDDED
            length, kept = _EMBEDDED_TEXTS[self.p.SAMPLE] if embedded else (p.longest, 0)
            return Net(TEXT, p.network, "", min(length, p.longest), 2, p.depth, kept)
        if self.kind == CLOUD:
            return Net(CLOUD, p.network, p.scale, p.points + p.background, self._outputs())
        name = p.teacher if role == "T" and p.teacher != "same" else p.network
        return Net(IMAGE, name, p.scale, p.image_size, self._outputs())

    def data_bytes(self) -> float:
        """Of all samples in memory: floats, or bytes of a prepared data set's images."""
        n = self.n_test + self.n_train
        n += self.n_teacher if self.n_teacher != self.n_train else 0
        size = self.net("S").size
        if self.kind != IMAGE:
            return float(n * size * (3 * FLOAT if self.kind == CLOUD else 8))
        each = 1 if self.counts else FLOAT
        return float(n * size * size * (3 * each + 1))

    def training_bytes(self, net: Net) -> float:
        """Weights, gradients and momentum, and a batch's activations with their gradients."""
        found = costs(net)
        return 3.0 * found.state_bytes + 2.0 * FLOAT * self.batch * found.activations

    def device_bytes(self, net: Net) -> float:
        """Of training or of a pass of the estimator, whichever needs more, and the samples."""
        found = costs(net)
        chunk = getattr(self.p, "chunk", 256)
        rows = found.state_bytes + 2.0 * FLOAT * chunk * found.activations
        training = self.training_bytes(net) + self.data_bytes()
        return max(rows, training)
