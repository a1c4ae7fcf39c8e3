"""One image study: teacher, student and baseline networks, and their entropy maps by epoch.

Everything here goes through the store, so the three image notebooks share one set of networks and
maps, whichever runs first, and a killed run goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from kpnb import recipes
from kpnb.datasets.embedded_images import embedded_hash
from kpnb.datasets.image_samples import ImageSamples
from kpnb.distillation import distill_features, teacher_features, train_above
from kpnb.entropy import EntropyEstimator, EntropyMaps
from kpnb.errors import KpnbError
from kpnb.evidence import Evidence
from kpnb.networks.image import image_network
from kpnb.networks.layers import layer_module, layer_name, tracked_weight
from kpnb.networks.pretrained import pretrained_teacher
from kpnb.parameters import ImageParameters
from kpnb.progress import track
from kpnb.store import Record, Scratch, Store
from kpnb.study_images import StudyImages
from kpnb.trained import Trained, by_epoch, flat
from kpnb.training import Resume, TrainingRecord, TrainingSettings, accuracy, train_classifier

DATASET = "embedded images"
# Chance is far below; a teacher under this multiple of it has learned next to nothing.
LEAST_TIMES_CHANCE = 2.0
TRAINING_CODE = ("kpnb.training", "kpnb.distillation", "kpnb.networks.image", "kpnb.recipes")
TRAINING_CODE += ("kpnb.networks.pretrained", "kpnb.datasets.embedded_images")
MAPS_CODE = ("kpnb.entropy",)


@dataclass(frozen=True)
class ImageStudy:
    """Teacher T, student S and baseline B on the embedded images.

    T sees all `teacher_samples` composites; S and B the same `fraction` of them, without
    augmentation, from identical initial weights per seed (Section 4.1). A student is distilled for
    each target layer; teacher and baseline serve all layers.
    """

    parameters: ImageParameters
    store: Store = field(default_factory=Store)
    _seconds: dict[str, float] = field(default_factory=dict, repr=False)
    _networks: dict[tuple, Trained] = field(default_factory=dict, repr=False)

    @cached_property
    def images(self) -> StudyImages:
        return StudyImages(self.parameters)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return tuple(self.parameters.checkpoints)

    def schedule(self, role: str, seed: int) -> TrainingSettings:
        """How teacher T, student S (its distillation) or baseline B is trained."""
        p = self.parameters
        if role == "T":
            last = (p.teacher_epochs,)
            return recipes.classification(self._teacher_name, p.teacher_epochs, seed, last)
        recipe = recipes.distillation if role == "S" else recipes.classification
        return recipe(p.network, p.epochs, seed, self.checkpoints)

    def teacher(self, seed: int) -> Trained:
        p, settings = self.parameters, self.schedule("T", seed)

        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            data = self.images.teacher_samples
            return train_classifier(
                net, data.images, data.labels, settings, on_checkpoint=keep, resume=resume
            )

        key = {"samples": p.teacher_samples, "training": settings.to_info()}
        return self._trained("T", None, seed, key, train)

    def baseline(self, seed: int) -> Trained:
        p, settings = self.parameters, self.schedule("B", seed)

        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            data, weights = self.images.training_samples, _weights(net, p.layers)
            return train_classifier(
                net, data.images, data.labels, settings, weights, on_checkpoint=keep, resume=resume
            )

        key = {"fraction": p.fraction, "training": settings.to_info(), "tracked": list(p.layers)}
        return self._trained("B", None, seed, key, train)

    def student(self, seed: int, layer: str) -> Trained:
        """Distilled at `layer`; its states are those of the first phase, by epoch, while its
        accuracies are taken after the layers above have been trained too."""
        p = self.parameters
        first = self.schedule("S", seed)
        second = recipes.head(p.network, p.head_epochs, seed)
        teacher = self.of("T", seed, None)

        def train(net: nn.Module, resume: Resume, keep: Keep) -> TrainingRecord:
            data, weights = self.images.training_samples, _weights(net, [layer])
            targets = teacher_features(self.network(teacher), layer, data.images)
            record = distill_features(
                net, layer, targets, data.images, first, weights, on_checkpoint=keep, resume=resume
            )
            if layer != "FC3":
                train_above(net, layer, data.images, data.labels, second)
            return record

        key = {"fraction": p.fraction, "distilled": layer, "teacher": teacher.fingerprint}
        key |= {"training": first.to_info(), "head": second.to_info()}
        return self._trained("S", layer, seed, key, train)

    def network(self, trained: Trained, epoch: int | None = None) -> nn.Module:
        """The network of `trained` with its weights at a checkpoint (None: the last)."""
        net = self._build(trained.role, trained.seed)
        net.load_state_dict(trained.states[trained.final_epoch if epoch is None else epoch])
        return net.to(self.device)

    def maps(
        self,
        trained: Trained,
        layer: str,
        epochs: Sequence[int] | None = None,
        count: int | None = None,
        **changes: object,
    ) -> dict[int, EntropyMaps]:
        """Entropy maps of the measured images at some checkpoints, by default all of both.

        count: the first so many images only. changes: settings of EntropyEstimator that are to
        differ from the study's.
        """
        estimator = self._estimator(layer_name(self.network(trained), layer))
        estimator = replace(estimator, **changes)
        epochs = sorted(trained.states) if epochs is None else sorted(epochs)
        key = {"network": trained.fingerprint, "epochs": epochs, "estimator": estimator.settings}
        measured = self.images.measured
        measured = measured if count is None else measured.subset(range(count))
        key |= {"device": self.device.type, "measured": measured.source}

        def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
            started = time.perf_counter()
            title = f"maps {trained.role} {layer} seed {trained.seed}"
            for epoch in track(epochs, title):
                if scratch.load(f"{epoch}") is None:
                    net = self.network(trained, epoch)
                    maps = estimator.explain(net, measured.images.to(self.device))
                    scratch.save(f"{epoch}", maps.tensors(), {})
            parts = {epoch: scratch.load(f"{epoch}")[0] for epoch in epochs}
            return flat(parts), {"seconds": time.perf_counter() - started}

        record = self._stored("maps", key, compute, MAPS_CODE)
        parts = by_epoch(record.tensors)
        return {e: EntropyMaps(**parts[e], settings=estimator.settings) for e in epochs}

    def layer_maps(self, trained: Trained, samples: ImageSamples) -> dict[str, EntropyMaps]:
        """Maps of a few images at Conv, FC1, FC2 and FC3 of the final network (not stored)."""
        net, images = self.network(trained), samples.images.to(self.device)
        named = {layer: layer_name(net, layer) for layer in ("Conv", "FC1", "FC2", "FC3")}
        return {layer: self._estimator(n).explain(net, images) for layer, n in named.items()}

    def accuracies(self, role: str, layer: str | None = None) -> dict[str, list[float]]:
        """Accuracy on "train" and "test" by seed of T, B, or the student of a layer."""
        networks = [self.of(role, seed, layer) for seed in self.parameters.seeds]
        found = [self._teacher_accuracy(net) if role == "T" else net.accuracy for net in networks]
        return {split: [part[split] for part in found] for split in ("train", "test")}

    def _teacher_accuracy(self, trained: Trained) -> dict[str, float]:
        """On the test images, and on the images that student and baseline are trained on; the
        latter depend on `fraction`, which the teacher itself does not."""
        data = {"train": self.images.training_samples, "test": self.images.test_samples}

        def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
            started = time.perf_counter()
            net = self.network(trained)
            right = {name: accuracy(net, part.images, part.labels) for name, part in data.items()}
            return {}, right | {"seconds": time.perf_counter() - started}

        key = {"network": trained.fingerprint} | {name: part.source for name, part in data.items()}
        return self._stored("accuracies", key, compute, ("kpnb.training",)).info

    def check_teacher(self) -> str:
        """One sentence that the teacher is good; KpnbError when it is not and the study is void.

        The paper asks for a well optimized teacher. Good: at least twice chance on unseen objects,
        and above the baseline's mean accuracy, for every seed. The smoke preset trains too little
        for anything to be good: it says so instead.
        """
        if self.parameters.preset == "smoke":
            return "This is the smoke preset: it shows that everything runs, and nothing else."
        chance = 1 / self.parameters.classes
        best = self.accuracies("T")["test"]
        baseline = self.accuracies("B")["test"]
        mean = sum(baseline) / len(baseline)
        told = f"teacher {_percent(best)}, baseline {_percent(baseline)}, chance {chance:.1%}"
        if min(best) < LEAST_TIMES_CHANCE * chance or min(best) <= mean:
            raise KpnbError(
                f"the study is void, because its teacher is not clearly better ({told}); raise "
                "teacher_epochs or teacher_samples."
            )
        return f"The teacher is fit to teach; on unseen objects: {told}."

    def evidence(self, layer: str) -> Evidence:
        """All that Hypotheses 1-3 are judged on at one layer."""
        seeds = self.parameters.seeds
        trained = {role: [self.of(role, seed, layer) for seed in seeds] for role in "TSB"}
        return Evidence(
            layer=layer,
            epochs=self.checkpoints,
            foreground=self.images.foreground,
            maps={role: [self.maps(net, layer) for net in trained[role]] for role in "TSB"},
            distance={
                (role, unit): [
                    [net.record.distance(unit)[layer][epoch] for epoch in self.checkpoints]
                    for net in trained[role]
                ]
                for role in "SB"
                for unit in ("step", "epoch")
            },
        )

    def stored_seconds(self) -> float:
        """What this study's stored networks and maps that were used so far took to compute, in
        seconds; a run that was killed and went on counts from where it went on."""
        return sum(self._seconds.values())

    @cached_property
    def device(self) -> torch.device:
        wanted = self.parameters.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        if wanted == "cuda" and not torch.cuda.is_available():
            raise KpnbError("device is 'cuda', but no GPU is usable here; pass device='cpu'.")
        return torch.device(wanted)

    @property
    def _teacher_name(self) -> str:
        p = self.parameters
        return p.network if p.teacher == "same" else p.teacher

    def _estimator(self, layer: str) -> EntropyEstimator:
        p = self.parameters
        return EntropyEstimator(
            layer,
            units=self.images.units,
            method=p.method,
            probes=p.probes,
            standard_error=None,
            entropy_weight=recipes.entropy_weight(p.network),
        )

    def _stored(
        self,
        kind: str,
        key: dict,
        compute: Callable[[Scratch], tuple[dict[str, Tensor], dict]],
        code: tuple[str, ...],
    ) -> Record:
        record = self.store.compute(kind, key, compute, code, {"images": embedded_hash()})
        # What this very process computed is on its own clock already.
        self._seconds.setdefault(
            record.fingerprint, 0 if record.computed else record.info["seconds"]
        )
        return record

    @property
    def dataset(self) -> str:
        """What the measured images are, as tables call it."""
        return DATASET + (" (unseen objects)" if self.parameters.measured_on == "test" else "")

    def of(self, role: str, seed: int, layer: str | None = None) -> Trained:
        """Teacher T, student S (of a layer) or baseline B of a seed; loaded or trained once in
        this process, however often it is asked for."""
        key = (role, seed, layer if role == "S" else None)
        if key not in self._networks:
            make = {"T": self.teacher, "B": self.baseline}
            self._networks[key] = make[role](seed) if role in make else self.student(seed, layer)
        return self._networks[key]

    def _build(self, role: str, seed: int) -> nn.Module:
        """Student and baseline of a seed start from identical weights, the teacher from others."""
        p = self.parameters
        if role == "T" and p.teacher != "same":
            fc1 = layer_module(image_network(p.network, p.classes, p.scale), "FC1")
            return pretrained_teacher(p.classes, fc1.out_features, seed)
        return image_network(p.network, p.classes, p.scale, seed=2 * seed + (role == "T"))

    def _trained(self, role: str, layer: str | None, seed: int, key: dict, train: Train) -> Trained:
        p = self.parameters
        key = key | {"role": role, "seed": seed, "network": p.network, "scale": p.scale}
        key |= {"classes": p.classes, "image_size": p.image_size, "device": self.device.type}
        key |= {"teacher_samples": p.teacher_samples}
        key |= {"kind": self._teacher_name if role == "T" else p.network}

        def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
            started = time.perf_counter()
            states: dict[int, dict[str, Tensor]] = {}
            net = self._build(role, seed).to(self.device)
            record = train(net, Resume(scratch, "training"), states.__setitem__)
            data = {"train": self.images.training_samples, "test": self.images.test_samples}
            right = {name: accuracy(net, part.images, part.labels) for name, part in data.items()}
            info = {"record": record.to_info(), "accuracy": right}
            return flat(states), info | {"seconds": time.perf_counter() - started}

        record = self._stored("networks", key, compute, TRAINING_CODE)
        return Trained.from_record(record, role, layer, seed)


Keep = Callable[[int, dict[str, Tensor]], None]
Train = Callable[[nn.Module, Resume, Keep], TrainingRecord]


def _weights(net: nn.Module, layers: tuple[str, ...] | list[str]) -> dict[str, Tensor]:
    return {layer: tracked_weight(net, layer) for layer in layers}


def _percent(shares: list[float]) -> str:
    return " / ".join(f"{share:.1%}" for share in shares)
