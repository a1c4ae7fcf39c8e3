"""The work of a run, counted before it starts: networks to train, maps to estimate, bytes to keep.

From a notebook's resolved parameters alone: nothing is loaded, built or computed. The keys of the
pieces are made of what the store's keys are made of. What no rate was made for is counted too
little, and `Workload.left_out` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kpnb.estimator.rates import BLOCK
from kpnb.run.planning.data_counts import EMBEDDED
from kpnb.run.planning.network_costs import CLOUD, FLOAT, IMAGE, TEXT, WHOLE, Net, costs
from kpnb.run.planning.run_sizes import TEST_IMAGES, Sizes
from kpnb.run.planning.throughput_files import (
    COMPOSE,
    DISTILL,
    FIXED,
    FORWARD,
    HEAD,
    ROW,
    SAVE,
    SAVES,
    TRAIN,
)
from kpnb.run.planning.workload import Part, Piece, Workload
from kpnb.study.parameters import (
    CellParameters,
    CoherencyParameters,
    FineTuningParameters,
    StudyParameters,
)

EVALUATIONS = {IMAGE: 3, CLOUD: 1, TEXT: 1}  # of the estimator, in the studies
# Of the published procedure: 96 draws for 60 steps, up to 80, each a forward and a backward pass. A
# row of `path` has four backward passes to its forward one.
PUBLISHED_ROWS = 96 * 80 * 2 / 5
DESCENT_ROWS = 96 * 3200 * 2 / 5  # at most: it stops when it has converged
ALL_LAYERS = ("Conv", "FC1", "FC2", "FC3")
STORED_PASSES = 3  # over the bytes of an entry: its parts, the entry, and reading it back

_CONVOLUTIONS = {"AlexNet": 5, "VGG-11": 6, "VGG-16": 10, "VGG-19": 12}


def workload(parameters: StudyParameters, notebook: str = "") -> Workload:
    """The work of a run with these parameters.

    notebook: its name, for what some notebooks do beyond the networks and maps of all.
    Raises KpnbError where the number of samples is not known.
    """
    return _Counting(parameters, notebook).workload()


def estimator_rows(method: str, probes: int, evaluations: int) -> float:
    """Rows with a graph of one map, in rows of `path`.

    The first of several evaluations of `path` has half as many blocks of draws as the others,
    though not fewer than two (`kpnb.estimator.closed_form.path`).
    """
    if method == "published":
        return PUBLISHED_ROWS
    if method == "descent":
        return DESCENT_ROWS
    blocks = probes // BLOCK
    if method == "optimum" or evaluations == 1:
        return float(BLOCK * blocks * evaluations)
    return float(BLOCK * (max(2, blocks // 2) + (evaluations - 1) * blocks))


class _Counting(Sizes):
    def workload(self) -> Workload:
        pieces = tuple(self._pieces())
        student = self.net("S")
        return Workload(
            pieces,
            tuple(self._process()),
            self.data_bytes(),
            self.training_bytes(student),
            self.device_bytes(student),
            tuple(dict.fromkeys(self.left_out)),
        )

    def _pieces(self) -> Iterator[Piece]:
        p = self.p
        tuned = isinstance(p, FineTuningParameters)
        second = "F" if tuned else "S"
        no_source = tuned and p.source == "ImageNet"
        for seed in p.seeds:
            if not no_source:
                yield self.teacher(seed)
            yield self.baseline("B", seed)
            if isinstance(p, CoherencyParameters):
                yield from self._explained(seed)
                continue
            if tuned:
                yield self.baseline("F", seed)
            for layer in self._layers():
                if not tuned:
                    yield self.student(seed, layer)
                    yield self.maps("T", seed, layer)
                yield self.maps(second, seed, layer)
                yield self.maps("B", seed, layer)
            yield from self._extras(seed)

    def _layers(self) -> tuple[str, ...]:
        layers = tuple(self.p.layers)
        if self.notebook == "image_unseen":
            return ("FC1",) if "FC1" in layers else layers[:1]
        if self.notebook in ("image_measure", "sentiment_measure"):
            return layers[:1]
        return layers

    def _key(self, role: str, seed: int, layer: str = "") -> tuple:
        p, net = self.p, self.net(role)
        own = (net, p.teacher_samples, self.data, seed, self.batch, self.precision)
        own += tuple(
            getattr(p, name, None)
            for name in ("augment", "recipe", "pretrained", "shapes", "turn", "distance")
        )
        own += tuple(getattr(p, name, None) for name in ("source", "source_classes", "split"))
        if role == "T":
            return ("T", *own, p.teacher_epochs)
        key = (role, *own, p.fraction, p.epochs, tuple(p.checkpoints))
        if role == "S":
            return (*key, layer, p.head_epochs, self._key("T", seed))
        return (*key, ALL_LAYERS if isinstance(p, CellParameters) else tuple(p.layers))

    def teacher(self, seed: int) -> Piece:
        net, p = self.net("T"), self.p
        work = [self._part(TRAIN, self.n_teacher * p.teacher_epochs, net)]
        # Scored twice: with itself, and on what student and baseline see.
        work += [self._part(FORWARD, 2 * (self.n_train + self.n_test), net)]
        return self._network("T", seed, "", work, net, p.teacher_epochs, 1)

    def baseline(self, role: str, seed: int) -> Piece:
        net, p = self.net(role), self.p
        work = [self._part(TRAIN, self.n_train * p.epochs, net)]
        work += [self._part(FORWARD, self.n_train + self.n_test, net)]
        return self._network(role, seed, "", work, net, p.epochs, len(p.checkpoints))

    def student(self, seed: int, layer: str) -> Piece:
        net, teacher, p = self.net("S"), self.net("T"), self.p
        # Changed images need the teacher at every step.
        passes = p.epochs + 1 if self.augmented else 1
        work = [self._part(FORWARD, self.n_train * passes, teacher, layer)]
        work += [self._part(DISTILL, self.n_train * p.epochs, net, layer)]
        work += self._head(net, layer, p.head_epochs)
        work += [self._part(FORWARD, self.n_train + self.n_test, net)]
        return self._network("S", seed, layer, work, net, p.epochs, len(p.checkpoints))

    def _head(self, net: Net, layer: str, epochs: int) -> list[Part]:
        if layer == "FC3":  # nothing lies above
            return []
        passes = epochs if self.augmented else 1
        kept = self._part(FORWARD, self.n_train * passes, net, layer)
        return [kept, self._part(HEAD, self.n_train * epochs, net, layer)]

    def _network(
        self, role: str, seed: int, layer: str, work: list[Part], net: Net, epochs: int, kept: int
    ) -> Piece:
        """A network's piece, with what its training writes: after each epoch weights and momentum,
        each checkpoint as a part and in the entry."""
        state = costs(net).state_bytes
        written = epochs * 2 * state + kept * STORED_PASSES * state
        work = [*work, Part(SAVE, written), Part(SAVES, epochs + kept + 1)]
        title = f"{role} {layer} seed {seed}".replace("  ", " ")
        disk = float(kept * state)
        return Piece("network", self._key(role, seed, layer), title, tuple(work), disk, disk)

    def _part(self, task: str, units: float, net: Net, layer: str = WHOLE) -> Part:
        batch = self.batch if task in (TRAIN, DISTILL, HEAD) else 0
        return Part(task, float(units), net, layer, batch, self.precision if batch else "float32")

    # Maps

    def maps(
        self,
        role: str,
        seed: int,
        layer: str,
        kept: int | None = None,
        variant: str = "",
        **changes: object,
    ) -> Piece:
        """Maps at `kept` checkpoints (None: all); changes: settings that differ from the run's."""
        p, net = self.p, self.net(role)
        kept = (1 if role == "T" else len(p.checkpoints)) if kept is None else kept
        count = changes.get("count", p.samples)
        probes, method = changes.get("probes", p.probes), changes.get("method", p.method)
        evaluations = changes.get("evaluations", EVALUATIONS[self.kind])
        grid = getattr(p, "grid", None)
        key = ("maps", self._key(role, seed, layer if role == "S" else ""), layer, kept, variant)
        key += (count, probes, method, evaluations, p.measured_on, grid)
        key += tuple(getattr(p, name, None) for name in ("choices", "noise", "least_rating"))
        work = [
            Part(ROW, kept * count * estimator_rows(method, probes, evaluations), net, layer),
            Part(FIXED, kept * count, net, layer),
            Part(SAVES, kept + 1),
        ]
        units = grid**2 if grid else net.size
        disk = kept * count * (2 * units + 2) * float(FLOAT)
        title = f"maps {role} {layer} seed {seed}" + (f", {variant}" if variant else "")
        return Piece("maps", key, title, tuple(work), disk, disk)

    def _explained(self, seed: int) -> Iterator[Piece]:
        """Maps of the teacher and its two rescaled copies at every convolution, each counted as if
        it were the last one; not stored."""
        self.left_out.append("explanations other than the entropy are not counted")
        layers = _CONVOLUTIONS.get(self.p.network, 5)
        for number in range(layers):
            piece = self.maps("T", seed, "Conv", 3, f"convolution {number + 1}")
            yield replace(piece, disk=0.0, held=0.0)

    # What some notebooks do beyond

    def _extras(self, seed: int) -> Iterator[Piece]:
        if self.notebook == "image_lambda":
            yield from self._curve(seed)
        if self.notebook in ("image_measure", "sentiment_measure"):
            yield from self._variants(seed, 8 if self.kind == IMAGE else 9)
            if self.kind == IMAGE and self.p.preset in ("study", "paper") and self._first(seed):
                yield from self._published(seed)
        if self.kind == CLOUD and self.notebook not in ("pointcloud_h2", "pointcloud_h3", ""):
            yield from self._variants(seed, 3)
            for role in "SB":
                more = {"probes": 4 * self.p.probes}
                yield self.maps(role, seed, self.p.layers[0], 1, "more draws", **more)

    def _first(self, seed: int) -> bool:
        return seed == self.p.seeds[0]

    def _curve(self, seed: int) -> Iterator[Piece]:
        """The layers above each checkpoint of a student, trained and scored."""
        p, net, kept = self.p, self.net("S"), len(self.p.checkpoints)
        for layer in self._layers():
            work = self._head(net, layer, p.head_epochs)
            work += [self._part(FORWARD, self.n_train + self.n_test, net)]
            parts = tuple(replace(part, units=kept * part.units) for part in work)
            key = ("curve", self._key("S", seed, layer))
            yield Piece("accuracies", key, f"accuracies S {layer} seed {seed}", parts)

    def _variants(self, seed: int, count: int) -> Iterator[Piece]:
        """The final maps of student and baseline under other settings of the estimator."""
        for number in range(count):
            for role in "SB":
                yield self.maps(role, seed, self.p.layers[0], 1, f"variant {number + 1}")

    def _published(self, seed: int) -> Iterator[Piece]:
        for role in "SB":
            given = {"method": "published", "count": min(6, self.p.samples)}
            yield self.maps(role, seed, self.p.layers[0], 1, "published procedure", **given)

    # What is done in each process

    def _process(self) -> Iterator[Part]:
        if self.kind == IMAGE and self.data == EMBEDDED:
            yield Part(COMPOSE, self.p.teacher_samples + TEST_IMAGES, batch=self.p.image_size)
        elif self.kind != IMAGE or self.counts:
            self.left_out.append("reading the data is not counted")
