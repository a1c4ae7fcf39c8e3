"""One study: teacher, student and baseline networks, and their entropy maps by epoch.

What differs between modalities is in `kpnb.study.image`, `text` and `cloud`. Everything here goes
through the store, so the notebooks of a study share one set of networks and maps, whichever runs
first, and a killed run goes on where it stopped.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from kpnb.datasets.samples import Samples
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import TENSORS, EntropyMaps
from kpnb.fingerprint import Seed, track
from kpnb.metrics.evidence import UNITS, Evidence
from kpnb.networks.layers import parameters_above
from kpnb.store import Record, Scratch, Store
from kpnb.study.display import NotebookStudy
from kpnb.study.modality import Modality
from kpnb.study.parameters import StudyParameters
from kpnb.training.checkpoints import Resume
from kpnb.training.costs import Cost, Work
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.settings import TrainingRecord, TrainingSettings, chosen_device, device_use
from kpnb.training.train import train_classifier


@dataclass(frozen=True)
class Trained:
    """One network after training: weights by checkpoint epoch, its record, its accuracies."""

    role: str
    layer: str | None
    seed: int
    states: dict[int, dict[str, Tensor]]
    record: TrainingRecord
    accuracy: dict[str, float]
    fingerprint: str

    @property
    def final_epoch(self) -> int:
        return max(self.states)

    @property
    def bytes(self) -> int:
        """Of the weights of all checkpoints."""
        return sum(t.nbytes for state in self.states.values() for t in state.values())


def flat(parts: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """{epoch: {name: tensor}} as one flat dictionary for a file."""
    return {f"{epoch:04d}/{name}": t for epoch, part in parts.items() for name, t in part.items()}


def by_epoch(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """{epoch: {name: tensor}} of what `flat` made."""
    parts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        epoch, _, own = name.partition("/")
        parts.setdefault(int(epoch), {})[own] = tensor
    return parts


SPLITS = ("train", "test")
Keep = Callable[[int, dict[str, Tensor]], None]
Train = Callable[[nn.Module, Resume, Keep], TrainingRecord]
Computed = tuple[dict[str, Tensor], dict]
# What trains the networks of every modality; part of their entries in the store.
TRAINERS = (train_classifier, distill_features, teacher_features, train_above)
KEPT = 2**30  # bytes; larger networks are not kept in memory beside each other


@dataclass(frozen=True)
class Study(NotebookStudy, Modality):
    """Teacher T, student S and baseline B on one data set.

    T sees all of its samples; S and B the same `fraction` of them, without augmentation, from
    identical initial weights per seed (Section 4.1). A student is distilled for each target layer;
    teacher and baseline serve all layers.
    """

    #: Role in the evidence -> the role of the networks that take it.
    PLACES: ClassVar[dict[str, str]] = {"T": "T", "S": "S", "B": "B"}
    #: The teacher, and what it must be better than, by role.
    CHECKED: ClassVar[dict[str, str]] = {"T": "teacher", "B": "baseline"}

    parameters: StudyParameters
    store: Store = field(default_factory=Store)
    _seconds: dict[str, float] = field(default_factory=dict, repr=False)
    _networks: dict[tuple, Trained] = field(default_factory=dict, repr=False)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(self.parameters.checkpoints)

    def of(self, role: str, seed: int, layer: str | None = None) -> Trained:
        """Teacher T, student S (of a layer) or baseline B of a seed; loaded or trained once in
        this process, however often it is asked for."""
        seed = self.teacher_seed(seed) if role == "T" else seed
        key = (role, seed, layer if role == "S" else None)
        if key in self._networks:
            return self._networks[key]
        trained = self.student(seed, layer) if role == "S" else self.classifier(role, seed)
        if trained.bytes <= KEPT:  # the checkpoints of a full VGG-16 take 8 GB: read again
            self._networks[key] = trained
        return trained

    def teacher_seed(self, seed: int) -> int:
        """The seed of the teacher of the student of a seed; KpnbError for a seed of no student."""
        teachers, seeds = self.parameters.teachers, self.parameters.seeds
        return teachers[seeds.index(seed) % len(teachers)] if teachers else seed

    @property
    def tracked_layers(self) -> tuple[str, ...]:
        """The layers whose way the baseline records: those that are measured."""
        return self.parameters.layers

    def settings(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        """The `schedule` of a role, with the batch and the precision that are asked for."""
        p, found = self.parameters, self.schedule(role, seed, layer)
        autocast = found.autocast if p.precision == "float32" else p.precision
        return replace(found, batch_size=p.batch or found.batch_size, autocast=autocast)

    @property
    def exactness(self) -> dict[str, bool]:
        """For the store's keys: what makes a device compute the same in another way, where on."""
        ways = ("compiled", "deterministic")
        return {name: True for name in ways if getattr(self.parameters, name)}

    def classifier(self, role: str, seed: int, **key: object) -> Trained:
        """A network that learns from labels: teacher T or baseline B. key: what else it is of."""
        p, settings = self.parameters, self.settings(role, seed)
        if role == "T":
            samples, layers = self.data.teacher_samples, ()
            key |= {"samples": p.teacher_samples, "training": settings.to_info()}
        else:
            samples, layers = self.data.training_samples, self.tracked_layers
            key |= {"fraction": p.fraction, "training": settings.to_info(), "tracked": list(layers)}

        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            given = self.inputs(samples), self.labels(samples), settings
            weights, augment = self.tracked(net, layers), self.augmentation(role)
            handing = {"on_checkpoint": keep, "resume": resume}
            return train_classifier(net, *given, weights, augment, **handing)

        work = [Work("train", len(samples) * settings.epochs, role)]
        return self._trained(role, None, seed, key, train, settings, work)

    def student(self, seed: int, layer: str) -> Trained:
        """Distilled at `layer`; its states are those of the first phase, by epoch, while its
        scores are taken after the layers above have been trained too."""
        settings, head = self.settings("S", seed, layer), self.settings("head", seed)
        teacher = self.of("T", seed)

        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            samples, augment = self.data.training_samples, self.augmentation("S")
            inputs, weights = self.inputs(samples), self.tracked(net, [layer])
            targets = partial(teacher_features, self.network(teacher), layer)
            if augment is None:  # once for all epochs
                targets = targets(inputs)
            given = net, layer, targets, inputs, settings, weights, self.scaled(layer), augment
            record = distill_features(*given, on_checkpoint=keep, resume=resume)
            self.train_head(net, layer, head)
            return record

        key = {"fraction": self.parameters.fraction, "distilled": layer}
        key |= {"teacher": teacher.fingerprint}
        key |= {"training": settings.to_info(), "head": head.to_info()}
        key |= {} if self.scaled(layer) else {"scaled": False}
        # Samples that are changed anew at every step need the teacher, and what lies below the
        # head, at every step too.
        many, epochs = len(self.data.training_samples), settings.epochs
        work = [Work("forward", many * self._passes(epochs + 1), "T", layer)]
        work += [Work("train", many * epochs, "S", layer), *self.head_work(layer, head)]
        return self._trained("S", layer, seed, key, train, settings, work)

    def train_head(self, net: nn.Module, layer: str, settings: TrainingSettings) -> None:
        """The student's second phase, in place, if anything lies above the layer."""
        if parameters_above(net, layer):
            samples = self.data.training_samples
            given = self.inputs(samples), self.labels(samples), settings
            train_above(net, layer, *given, augment=self.augmentation("S"))

    def head_work(self, layer: str, settings: TrainingSettings) -> list[Work]:
        """What training the layers above `layer` takes."""
        many, epochs = len(self.data.training_samples), settings.epochs
        features = Work("forward", many * self._passes(epochs), "S", layer)
        return [features, Work("above", many * epochs, "S", layer)]

    def _passes(self, epochs: int) -> int:
        """How often features are computed: once, or anew for each epoch where samples change."""
        return 1 if self.augmentation("S") is None else epochs

    def network(self, trained: Trained, epoch: int | None = None) -> nn.Module:
        """The network of `trained` with its weights at a checkpoint (None: the last)."""
        net = self.container(trained.role, trained.seed)
        net.load_state_dict(trained.states[trained.final_epoch if epoch is None else epoch])
        return net.to(self.device)

    def _trained(
        self,
        role: str,
        layer: str | None,
        seed: int,
        key: dict,
        train: Train,
        settings: TrainingSettings,
        work: list[Work],
    ) -> Trained:
        key = key | {"role": role, "seed": seed, "device": self.device.type}
        key |= {"teacher_samples": self.parameters.teacher_samples} | self.network_key(role)
        key |= self.exactness

        def compute(scratch: Scratch) -> Computed:
            states: dict[int, dict[str, Tensor]] = {}
            net = self.build(role, seed).to(self.device)
            if self.parameters.compiled and role != "S":  # a student stops at its layer
                net.compile()
            with self._device_use("batch, teacher_samples or the inputs' size"):
                record = train(net, Resume(scratch, "training"), states.__setitem__)
                info = {"record": record.to_info(), "accuracy": self.scores_by_split(net)}
            return flat(states), info

        code, cost = self.training_code(role), lambda: self._cost(role, settings, work)
        found = self.stored("networks", key, compute, code, cost)
        info, states = found.info, by_epoch(found.tensors)
        record = TrainingRecord(**info["record"])
        return Trained(role, layer, seed, states, record, info["accuracy"], found.fingerprint)

    def _cost(self, role: str, settings: TrainingSettings, work: list[Work]) -> Cost:
        """Of a network: its training, the scores that it ends in, and its checkpoints."""
        state = self.state(role)
        states = {epoch: state for epoch in settings.checkpoints}
        info = {"record": TrainingRecord().to_info(), "accuracy": dict.fromkeys(SPLITS, 0.0)}
        return Cost((*work, self.scoring_work(role)), flat(states), info)

    def scoring_work(self, role: str) -> Work:
        """What `scores_by_split` takes."""
        return Work("forward", sum(map(len, self.data.splits.values())), role)

    def maps(
        self,
        trained: Trained,
        layer: str,
        epochs: Sequence[int] | None = None,
        count: int | None = None,
        **changes: object,
    ) -> dict[int, EntropyMaps]:
        """Entropy maps of the measured samples at some checkpoints, by default all of both.

        count: the first so many samples only. changes: settings of the estimator that are to
        differ from the study's.
        """
        explainer = self.explainer(self.dotted(trained.role, layer), **changes)
        epochs = sorted(trained.states) if epochs is None else sorted(epochs)
        key = {"network": trained.fingerprint, "epochs": epochs, "estimator": explainer.settings}
        measured = self.data.measured
        measured = measured if count is None else measured.subset(range(count))
        key |= {"device": self.device.type, "measured": measured.source}
        # Maps are estimated without compiling, so of the two only this changes them.
        key |= {"deterministic": True} if self.parameters.deterministic else {}

        def compute(scratch: Scratch) -> Computed:
            title = f"maps {trained.role} {layer} seed {trained.seed}"
            for epoch in track(epochs, title):
                if scratch.load(f"{epoch}") is None:
                    with self._device_use("chunk"):
                        maps = self.explain(explainer, self.network(trained, epoch), measured)
                    scratch.save(f"{epoch}", maps.tensors(), {})
            return flat({epoch: scratch.load(f"{epoch}")[0] for epoch in epochs}), {}

        def cost() -> Cost:
            samples = len(measured)
            shapes = dict.fromkeys(TENSORS, (samples, self.units))
            shapes |= dict.fromkeys(("feature_variance", "reached"), (samples,))
            maps = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
            work = Work("maps", len(epochs) * samples, trained.role, layer, explainer.settings)
            return Cost((work,), flat(dict.fromkeys(epochs, maps)), {})

        record = self.stored("maps", key, compute, self.MAPS_CODE, cost)
        parts = by_epoch(record.tensors)
        return {e: EntropyMaps(**parts[e], settings=explainer.settings) for e in epochs}

    def layer_maps(self, trained: Trained, samples: Samples) -> dict[str, EntropyMaps]:
        """Maps of a few samples at `named_layers` of the final network (not stored)."""
        net, found = self.network(trained), {}
        for label, layer in self.named_layers.items():
            explainer = self.explainer(self.dotted(trained.role, layer))
            found[label] = self.explain(explainer, net, samples)
        return found

    def evidence(self, layer: str) -> Evidence:
        """All that Hypotheses 1-3 are judged on at one layer."""
        trained, maps = self.networks_and_maps(layer)
        ways = {place: [self._ways(net, layer) for net in trained[place]] for place in "SB"}
        distance = {(p, unit): [way[unit] for way in ways[p]] for p in "SB" for unit in UNITS}
        given = self.checkpoints, self.data.foreground, maps, distance
        return Evidence(layer, *given, self.shared_teachers)

    @property
    def shared_teachers(self) -> tuple[int, ...] | None:
        """Which teacher each seed has; None: each its own."""
        p = self.parameters
        return tuple(map(self.teacher_seed, p.seeds)) if p.teachers else None

    def _ways(self, trained: Trained, layer: str) -> dict[str, list[float]]:
        """How far a network's training had come at the checkpoints, in each of `UNITS`."""
        summed = {unit: trained.record.distance(unit)[layer] for unit in ("epoch", "step")}
        found = {unit: [way[epoch] for epoch in self.checkpoints] for unit, way in summed.items()}
        found["share"] = [way / found["epoch"][-1] for way in found["epoch"]]
        return found | {"time": [epoch / self.checkpoints[-1] for epoch in self.checkpoints]}

    def networks_and_maps(self, layer: str) -> tuple[dict[str, list], dict[str, list]]:
        """Place in the evidence -> networks of all seeds, and -> their maps at a layer: all that
        `evidence` computes, and all that a plan counts."""
        seeds, places = self.parameters.seeds, self.PLACES.items()
        trained = {place: [self.of(role, s, layer) for s in seeds] for place, role in places}
        maps = {place: [self.trail(net, layer) for net in nets] for place, nets in trained.items()}
        return trained, maps

    def trail(self, trained: Trained, layer: str) -> dict[int, EntropyMaps]:
        """Maps of the final network, and of its other checkpoints on the samples `followed`."""
        followed, last = self.parameters.followed, trained.final_epoch
        if followed is None or followed >= self.parameters.samples or trained.role == "T":
            return self.maps(trained, layer)
        before = [epoch for epoch in sorted(trained.states) if epoch < last and followed]
        early = self.maps(trained, layer, before, followed) if before else {}
        return early | self.maps(trained, layer, [last])

    def accuracies(self, role: str, layer: str | None = None) -> dict[str, list[float]]:
        """SCORE by split and seed of T, B, or the student of a layer; further scores under
        "<split> <name>"."""
        networks = [self.of(role, seed, layer) for seed in self.parameters.seeds]
        found = [self._teacher_accuracy(net) if role == "T" else net.accuracy for net in networks]
        # The store gives them back in another order than a network just trained.
        place = [*self.data.splits].index
        known = sorted(set(found[0]) - {"seconds"}, key=lambda s: (place(s.split()[0]), s))
        return {split: [part[split] for part in found] for split in known}

    def _teacher_accuracy(self, trained: Trained) -> dict[str, float]:
        """On the test samples, and on those that student and baseline are trained on; the latter
        depend on `fraction`, which the teacher itself does not."""

        def compute(scratch: Scratch) -> Computed:
            return {}, self.scores_by_split(self.network(trained))

        cost = Cost((self.scoring_work("T"),), {}, dict.fromkeys(SPLITS, 0.0))
        key = {"network": trained.fingerprint}
        key |= {split: samples.source for split, samples in self.data.splits.items()}
        return self.stored("accuracies", key, compute, self.SCORING_CODE, lambda: cost).info

    def scores_by_split(self, net: nn.Module) -> dict[str, float]:
        """SCORE under "train" and "test", further scores under "train <name>", "test <name>"."""
        found = {}
        for split, samples in self.data.splits.items():
            for name, value in self.scores(net, samples).items():
                found[split if name == self.SCORE else f"{split} {name}"] = value
        return found

    def check_teacher(self) -> str:
        """One sentence that the teacher is good; KpnbError when it is not and the study is void:
        on unseen samples every seed's is to be above `reference_lines` and the baseline's mean. The
        smoke preset trains too little for anything to be good: it says so instead."""
        if self.parameters.preset == "smoke":
            return "This is the smoke preset: it shows that everything runs, and nothing else."
        shares = {name: self.accuracies(role)["test"] for role, name in self.CHECKED.items()}
        (teacher, best), *others = shares.items()
        lines = self.reference_lines
        least = max([*lines.values(), *(sum(part) / len(part) for _, part in others)])
        told = ", ".join(
            f"{name} {' / '.join(f'{share:.1%}' for share in part)}"
            for name, part in shares.items()
        )
        told += "".join(f", {name} {value:.1%}" for name, value in lines.items())
        if min(best) <= least:
            raise KpnbError(
                f"the study is void, because its {teacher} is not clearly better ({told}); raise "
                "teacher_epochs or teacher_samples."
            )
        return f"The {teacher} is fit to teach; {self.SCORE} on unseen samples: {told}."

    def _device_use(self, lower: str) -> AbstractContextManager:
        return device_use(self.device, self.parameters.deterministic, f"lower {lower}")

    def stored_seconds(self) -> float:
        """What this study's stored networks and maps that were used so far took to compute, in
        seconds; a run that was killed and went on counts from where it went on."""
        return sum(self._seconds.values())

    @cached_property
    def device(self) -> torch.device:
        return chosen_device(self.parameters.device)

    def stored(
        self,
        kind: str,
        key: dict,
        compute: Callable[[Scratch], Computed],
        code: tuple[Seed, ...],
        cost: Callable[[], Cost],
    ) -> Record:
        """A computation of this study through its store, on the clock of `stored_seconds`; the
        "seconds" that it took are added to its info."""

        def timed(scratch: Scratch) -> Computed:
            started = time.perf_counter()
            tensors, info = compute(scratch)
            return tensors, info | {"seconds": time.perf_counter() - started}

        code = (*code, device_use)
        record = self.store.compute(kind, key, timed, code, self.data.hashes, cost)
        # What this very process computed is on its own clock already.
        spent = 0 if record.computed else record.info["seconds"]
        self._seconds.setdefault(record.fingerprint, spent)
        return record
