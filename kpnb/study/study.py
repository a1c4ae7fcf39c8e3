"""A network after training, as the store keeps it.

One study: teacher, student and baseline networks, and their entropy maps by epoch.

What differs between modalities (data, input units, networks, their training) is left to
`kpnb.study.image` and `kpnb.study.text`. Everything here goes through the store, so the notebooks
of a study share one set of networks and maps, whichever runs first, and a killed run goes on where
it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import TENSORS, EntropyMaps
from kpnb.fingerprint import Seed
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.provenance import track
from kpnb.networks.layers import parameters_above
from kpnb.store import Record, Scratch, Store
from kpnb.study.display import NotebookStudy
from kpnb.study.modality import AnySamples, Modality
from kpnb.study.parameters import StudyParameters
from kpnb.training.checkpoints import Resume, TrainingRecord
from kpnb.training.costs import Cost, Work
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.settings import (
    TrainingSettings,
    chosen_device,
    device_use,
    exactness,
    with_effort,
)
from kpnb.training.train import Augment, train_classifier


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

    @staticmethod
    def from_record(record: Record, role: str, layer: str | None, seed: int) -> Trained:
        return Trained(
            role,
            layer,
            seed,
            by_epoch(record.tensors),
            TrainingRecord(**record.info["record"]),
            record.info["accuracy"],
            record.fingerprint,
        )


def flat(parts: dict[int, dict[str, Tensor]]) -> dict[str, Tensor]:
    """{epoch: {name: tensor}} as one flat dictionary for a file."""
    return {f"{epoch:04d}/{name}": t for epoch, part in parts.items() for name, t in part.items()}


def by_epoch(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    parts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        epoch, _, own = name.partition("/")
        parts.setdefault(int(epoch), {})[own] = tensor
    return parts


SPLITS = ("train", "test")
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

    parameters: StudyParameters
    store: Store = field(default_factory=Store)
    _seconds: dict[str, float] = field(default_factory=dict, repr=False)
    _networks: dict[tuple, Trained] = field(default_factory=dict, repr=False)

    # Networks

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(self.parameters.checkpoints)

    def of(self, role: str, seed: int, layer: str | None = None) -> Trained:
        """Teacher T, student S (of a layer) or baseline B of a seed; loaded or trained once in
        this process, however often it is asked for."""
        key = (role, seed, layer if role == "S" else None)
        if key in self._networks:
            return self._networks[key]
        make = {"T": self.teacher, "B": self.baseline}
        trained = make[role](seed) if role in make else self.student(seed, layer)
        if trained.bytes <= KEPT:  # the checkpoints of a full VGG-16 take 8 GB: read again
            self._networks[key] = trained
        return trained

    def teacher(self, seed: int) -> Trained:
        settings = with_effort(self.parameters, self.schedule("T", seed))
        samples = self.parameters.teacher_samples
        key = {"samples": samples, "training": settings.to_info()}
        return self._classifier("T", seed, key, settings, self.data.teacher_samples, ())

    def baseline(self, seed: int) -> Trained:
        p, settings = self.parameters, with_effort(self.parameters, self.schedule("B", seed))
        layers = self.tracked_layers
        key = {"fraction": p.fraction, "training": settings.to_info(), "tracked": list(layers)}
        return self._classifier("B", seed, key, settings, self.data.training_samples, layers)

    @property
    def tracked_layers(self) -> tuple[str, ...]:
        """The layers whose way the baseline records: those that are measured."""
        return self.parameters.layers

    def _classifier(
        self,
        role: str,
        seed: int,
        key: dict,
        settings: TrainingSettings,
        samples: AnySamples,
        layers: Sequence[str],
    ) -> Trained:
        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            given = self.inputs(samples), self.labels(samples), settings
            weights, augment = self.tracked(net, layers), self.augmentation(role)
            handing = {"on_checkpoint": keep, "resume": resume}
            return train_classifier(net, *given, weights, augment, **handing)

        work = [Work("train", len(samples) * settings.epochs, role)]
        return self._trained(role, None, seed, key, train, (settings, work))

    def student(self, seed: int, layer: str) -> Trained:
        """Distilled at `layer`; its states are those of the first phase, by epoch, while its
        scores are taken after the layers above have been trained too."""
        first = with_effort(self.parameters, self.schedule("S", seed, layer))
        second = with_effort(self.parameters, self.head_schedule(seed))
        teacher = self.of("T", seed, None)

        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            samples, augment = self.data.training_samples, self.augmentation("S")
            inputs, weights = self.inputs(samples), self.tracked(net, [layer])
            targets = self._targets(teacher, layer, inputs, augment)
            given = net, layer, targets, inputs, first, weights, self.scaled(layer), augment
            record = distill_features(*given, on_checkpoint=keep, resume=resume)
            if parameters_above(net, layer):
                labels = self.labels(samples)
                train_above(net, layer, inputs, labels, second, augment=augment)
            return record

        key = {"fraction": self.parameters.fraction, "distilled": layer}
        key |= {"teacher": teacher.fingerprint}
        key |= {"training": first.to_info(), "head": second.to_info()}
        key |= {} if self.scaled(layer) else {"scaled": False}
        many, changing = len(self.data.training_samples), self.augmentation("S") is not None
        # Samples that are changed anew at every step need the teacher, and what lies below the
        # head, at every step too.
        work = [Work("forward", many * (first.epochs + 1 if changing else 1), "T", layer)]
        work += [Work("train", many * first.epochs, "S", layer)]
        work += self.head_work(layer, second)
        return self._trained("S", layer, seed, key, train, (first, work))

    def head_work(self, layer: str, settings: TrainingSettings) -> list[Work]:
        """What training the layers above `layer` takes: features once, or anew for each epoch."""
        many, changing = len(self.data.training_samples), self.augmentation("S") is not None
        features = Work("forward", many * (settings.epochs if changing else 1), "S", layer)
        return [features, Work("above", many * settings.epochs, "S", layer)]

    def _targets(
        self, teacher: Trained, layer: str, inputs: Tensor, augment: Augment | None
    ) -> Tensor | Callable[[Tensor], Tensor]:
        """The teacher's features, once for all epochs; anew for each batch that is augmented."""
        net = self.network(teacher)
        if augment is None:
            return teacher_features(net, layer, inputs)
        return lambda batch: teacher_features(net, layer, batch)

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
        effort: tuple[TrainingSettings, list[Work]],
    ) -> Trained:
        key = key | {"role": role, "seed": seed, "device": self.device.type}
        key |= {"teacher_samples": self.parameters.teacher_samples} | self.network_key(role)
        key |= exactness(self.parameters)

        def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
            started = time.perf_counter()
            states: dict[int, dict[str, Tensor]] = {}
            net = self.build(role, seed).to(self.device)
            if self.parameters.compiled and role != "S":  # a student stops at its layer
                net.compile()
            with self._device_use("batch, teacher_samples or the inputs' size"):
                record = train(net, Resume(scratch, "training"), states.__setitem__)
                info = {"record": record.to_info(), "accuracy": self.scores_by_split(net)}
            return flat(states), info | {"seconds": time.perf_counter() - started}

        record = self.stored(
            "networks", key, compute, self.training_code(role), lambda: self._cost(role, *effort)
        )
        return Trained.from_record(record, role, layer, seed)

    def _cost(self, role: str, settings: TrainingSettings, work: list[Work]) -> Cost:
        """Of a network: its training, the scores that it ends in, and its checkpoints."""
        kept = Work("epochs kept", settings.epochs, role)
        state = self.state(role)
        states = {epoch: state for epoch in settings.checkpoints}
        info = {"record": TrainingRecord().to_info(), "accuracy": dict.fromkeys(SPLITS, 0.0)}
        return Cost((*work, self.scoring_work(role), kept), flat(states), info)

    def scoring_work(self, role: str) -> Work:
        """What `scores_by_split` takes."""
        samples = len(self.data.training_samples) + len(self.data.test_samples)
        return Work("forward", samples, role)

    # Entropy maps

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

        def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
            started = time.perf_counter()
            title = f"maps {trained.role} {layer} seed {trained.seed}"
            for epoch in track(epochs, title):
                if scratch.load(f"{epoch}") is None:
                    with self._device_use("chunk"):
                        maps = self.explain(explainer, self.network(trained, epoch), measured)
                    scratch.save(f"{epoch}", maps.tensors(), {})
            parts = {epoch: scratch.load(f"{epoch}")[0] for epoch in epochs}
            return flat(parts), {"seconds": time.perf_counter() - started}

        def cost() -> Cost:
            samples, shapes = len(measured), (len(measured), self.units)
            shapes = dict.fromkeys(TENSORS, shapes) | {"feature_variance": (samples,)}
            shapes["reached"] = (samples,)
            maps = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
            made = len(epochs) * samples
            work = Work("maps", made, trained.role, layer, explainer.settings)
            return Cost((work,), flat(dict.fromkeys(epochs, maps)), {})

        record = self.stored("maps", key, compute, self.MAPS_CODE, cost)
        parts = by_epoch(record.tensors)
        return {e: EntropyMaps(**parts[e], settings=explainer.settings) for e in epochs}

    def layer_maps(self, trained: Trained, samples: AnySamples) -> dict[str, EntropyMaps]:
        """Maps of a few samples at `named_layers` of the final network (not stored)."""
        net, found = self.network(trained), {}
        for label, layer in self.named_layers.items():
            explainer = self.explainer(self.dotted(trained.role, layer))
            found[label] = self.explain(explainer, net, samples)
        return found

    def evidence(self, layer: str) -> Evidence:
        """All that Hypotheses 1-3 are judged on at one layer."""
        trained, maps = self.networks_and_maps(layer)
        return Evidence(
            layer=layer,
            epochs=self.checkpoints,
            foreground=self.data.foreground,
            maps=maps,
            distance={
                (place, unit): [
                    [net.record.distance(unit)[layer][epoch] for epoch in self.checkpoints]
                    for net in trained[place]
                ]
                for place in "SB"
                for unit in ("step", "epoch")
            },
        )

    def networks_and_maps(self, layer: str) -> tuple[dict[str, list], dict[str, list]]:
        """Place in the evidence -> networks of all seeds, and -> their maps at a layer: all that
        `evidence` computes, and all that a plan counts."""
        seeds, places = self.parameters.seeds, self.PLACES.items()
        trained = {place: [self.of(role, s, layer) for s in seeds] for place, role in places}
        maps = {place: [self.maps(net, layer) for net in nets] for place, nets in trained.items()}
        return trained, maps

    # Scores

    def accuracies(self, role: str, layer: str | None = None) -> dict[str, list[float]]:
        """SCORE on "train" and "test" by seed of T, B, or the student of a layer; further scores
        under "train <name>" and "test <name>"."""
        networks = [self.of(role, seed, layer) for seed in self.parameters.seeds]
        found = [self._teacher_accuracy(net) if role == "T" else net.accuracy for net in networks]
        # The store gives them back in another order than a network just trained.
        known = sorted(set(found[0]) - {"seconds"}, key=lambda s: (s.startswith("test"), s))
        return {split: [part[split] for part in found] for split in known}

    def _teacher_accuracy(self, trained: Trained) -> dict[str, float]:
        """On the test samples, and on those that student and baseline are trained on; the latter
        depend on `fraction`, which the teacher itself does not."""

        def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
            started = time.perf_counter()
            right = self.scores_by_split(self.network(trained))
            return {}, right | {"seconds": time.perf_counter() - started}

        def cost() -> Cost:
            return Cost((self.scoring_work("T"),), {}, dict.fromkeys(SPLITS, 0.0))

        data = {"train": self.data.training_samples, "test": self.data.test_samples}
        key = {"network": trained.fingerprint} | {name: part.source for name, part in data.items()}
        return self.stored("accuracies", key, compute, self.SCORING_CODE, cost).info

    def scores_by_split(self, net: nn.Module) -> dict[str, float]:
        """SCORE under "train" and "test", further scores under "train <name>", "test <name>"."""
        found = {}
        for split in SPLITS:
            samples = getattr(self.data, "training_samples" if split == "train" else "test_samples")
            for name, value in self.scores(net, samples).items():
                found[split if name == self.SCORE else f"{split} {name}"] = value
        return found

    def check_teacher(self) -> str:
        """One sentence that the teacher is good; KpnbError when it is not and the study is void.

        The paper asks for a well optimized teacher. Good: above `least_teacher` on unseen samples,
        and above the baseline's mean, for every seed. The smoke preset trains too little for
        anything to be good: it says so instead.
        """
        if self.parameters.preset == "smoke":
            return "This is the smoke preset: it shows that everything runs, and nothing else."
        best = self.accuracies("T")["test"]
        baseline = self.accuracies("B")["test"]
        mean = sum(baseline) / len(baseline)
        lines = ", ".join(f"{name} {value:.1%}" for name, value in self.reference_lines.items())
        told = ", ".join(
            [f"teacher {_percent(best)}", f"baseline {_percent(baseline)}", *filter(None, [lines])]
        )
        if min(best) <= self.least_teacher or min(best) <= mean:
            raise KpnbError(
                f"the study is void, because its teacher is not clearly better ({told}); raise "
                "teacher_epochs or teacher_samples."
            )
        return f"The teacher is fit to teach; {self.SCORE} on unseen samples: {told}."

    # The store and the device

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
        compute: Callable[[Scratch], tuple[dict[str, Tensor], dict]],
        code: tuple[Seed, ...],
        cost: Callable[[], Cost],
    ) -> Record:
        """A computation of this study through its store, on the clock of `stored_seconds`; its
        info holds the "seconds" that it took."""
        code = (*code, device_use)
        record = self.store.compute(kind, key, compute, code, self.data_hashes, cost)
        # What this very process computed is on its own clock already.
        self._seconds.setdefault(
            record.fingerprint, 0 if record.computed else record.info["seconds"]
        )
        return record


Keep = Callable[[int, dict[str, Tensor]], None]
Train = Callable[[nn.Module, Resume, Keep], TrainingRecord]


def _percent(shares: list[float]) -> str:
    return " / ".join(f"{share:.1%}" for share in shares)
