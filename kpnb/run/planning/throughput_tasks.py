"""The timings behind `kpnb.run.planning.throughput`: one network on one device, by the project's
own code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.estimator.rates import OWN, SHARED
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import point_network
from kpnb.networks.image import image_network
from kpnb.networks.layers import parameters_above
from kpnb.run.planning.network_costs import CLOUD, LAYERS, TEXT, WHOLE, Net
from kpnb.run.planning.run_workload import estimator_rows
from kpnb.run.planning.throughput_clock import Clock, Effort, peak_bytes
from kpnb.run.planning.throughput_files import (
    DISTILL,
    FIXED,
    FLOOR_ROW,
    FLOOR_TRAIN,
    FORWARD,
    HEAD,
    ROW,
    TRAIN,
    Rate,
)
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.recipes import recipe
from kpnb.training.settings import TrainingSettings, device_use
from kpnb.training.train import train_classifier

GRADIENTS = SHARED + OWN + 1  # of a row, for the directions and the shift
PROBES = (8, 24)  # two budgets: their difference is what a row costs
EVALUATIONS = 1  # another evaluation is more rows of the same kind
LEAST_STEPS, MOST_STEPS = 3, 40
BYTES = (64 * 1024, 16 * 1024**2)  # of two folders: their difference is what a byte costs


def measure(net: Net, layers: Sequence[str], effort: Effort) -> list[Rate]:
    """All rates of a network, distillation and maps at `layers`; KpnbError if memory runs out."""
    make = Case
    if net.kind == TEXT:
        # By name: its libraries take seconds to import.
        make = importlib.import_module("kpnb.run.planning.throughput_texts").TextCase
        effort = replace(effort, maps=min(effort.maps, 4))  # explained one by one
    with device_use(effort.device, False, "lower --batch, or --size"):
        return list(make(net, effort).rates(layers))


class Case:
    """One network with random inputs."""

    def __init__(self, net: Net, effort: Effort) -> None:
        self.net, self.effort = net, effort
        self.idle = peak_bytes(effort.device)
        self.most = effort.batch * (MOST_STEPS + 1)

    def rates(self, layers: Sequence[str]) -> Iterator[Rate]:
        yield self.steps(TRAIN, WHOLE, self._train)
        yield self.whole(FLOOR_TRAIN, WHOLE, self._plain_training, self.effort.batch)
        for layer in layers:
            yield self.steps(DISTILL, layer, lambda n, at=layer: self._distill(n, at))
            if parameters_above(self.build(), layer):
                yield self.steps(HEAD, layer, lambda n, at=layer: self._head(n, at))
        for layer in (WHOLE, *layers):
            yield self._forward(layer)
        for layer in layers:
            yield from self._maps(layer)

    def build(self) -> nn.Module:
        make = point_network if self.net.kind == CLOUD else image_network
        net = make(self.net.network, self.net.outputs, self.net.scale)
        return net.to(self.effort.device)

    def inputs(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        size = self.net.size
        shape = (count, size, 3) if self.net.kind == CLOUD else (count, 3, size, size)
        return torch.randn(shape, generator=generator).to(self.effort.device)

    def labels(self, count: int) -> Tensor:
        return (torch.arange(count) % self.net.outputs).to(self.effort.device)

    def settings(self, role: str = "T") -> TrainingSettings:
        """The studies' own, for one epoch at this batch and precision."""
        network = None if self.net.kind == CLOUD else self.net.network
        found = recipe("image" if network else "cloud", role, 1, 0, network=network)
        return replace(
            found, batch_size=self.effort.batch, autocast=self.effort.autocast, checkpoints=()
        )

    # Steps of the trainer

    def steps(self, task: str, layer: str, train: Callable[[int], object]) -> Rate:
        """Time between the trainer's own steps; the first one warms up."""
        clock = Clock(self.effort.device)
        with clock.every_step():
            train((LEAST_STEPS + 1) * self.effort.batch)
        wall, cpu = clock.intervals()
        more = int(self.effort.seconds / float(np.median(wall)))
        if more > LEAST_STEPS:
            clock = Clock(self.effort.device)
            with clock.every_step():
                train((min(more, MOST_STEPS) + 1) * self.effort.batch)
            wall, cpu = clock.intervals()
        return self.rate(task, layer, wall, cpu, self.effort.batch)

    def _train(self, count: int) -> None:
        net = self.build()
        if self.effort.compiled:
            net.compile()
        train_classifier(net, self.inputs(count), self.labels(count), self.settings())

    def _distill(self, count: int, layer: str) -> None:
        images = self.inputs(count)
        targets = teacher_features(self.build(), layer, images)
        # Another network than the teacher would be the same work.
        distill_features(self.build(), layer, targets, images, self.settings("S"))

    def _head(self, count: int, layer: str) -> None:
        given = self.inputs(count), self.labels(count), self.settings("head")
        train_above(self.build(), layer, *given)

    # Whatever is timed as a whole

    def whole(self, task: str, layer: str, work: Callable[[], object], units: int) -> Rate:
        wall, cpu = self.timed(work)
        return self.rate(task, layer, wall, cpu, units)

    def timed(self, work: Callable[[], object]) -> tuple[list[float], list[float] | None]:
        clock = Clock(self.effort.device)
        work()
        clock.mark()
        for _ in range(self.effort.repeats):
            work()
            clock.mark()
        return clock.intervals()

    def _plain_training(self) -> None:
        if not hasattr(self, "_plain"):
            images = self._laid_out(self.inputs(self.effort.batch))
            net = self.build()
            if self.settings().channels_last:
                net = net.to(memory_format=torch.channels_last)
            self._plain = net.train(), images, self.labels(len(images))
        net, images, labels = self._plain
        net.zero_grad(set_to_none=True)
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=self.effort.autocast is not None
        ):
            loss = cross_entropy(net(images), labels)
        loss.backward()

    def _forward(self, layer: str) -> Rate:
        net, images = self.build(), self.inputs(2 * self.effort.batch)
        at = layer or LAYERS[self.net.kind][-1]
        return self.whole(FORWARD, layer, lambda: teacher_features(net, at, images), len(images))

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    # Maps

    def _maps(self, layer: str) -> Iterator[Rate]:
        """A row's share and the fixed part, from maps at two budgets of draws."""
        net, rows, found = self.build().eval(), [], []
        for probes in PROBES:
            count = max(1, min(self.effort.maps, self.effort.chunk // probes))
            wall, cpu = self.timed(self.explaining(net, layer, probes, count))
            rows.append(estimator_rows("path", probes, EVALUATIONS))
            found.append([None if taken is None else np.array(taken) / count
                          for taken in (wall, cpu)])  # fmt: skip
        for task, solve in ((ROW, _slope), (FIXED, _offset)):
            wall, cpu = (
                None if found[0][clock] is None else solve(rows, [part[clock] for part in found])
                for clock in (0, 1)
            )
            yield self.rate(task, layer, wall, cpu, 1)
        if self.net.kind != TEXT:  # there the noise is not on the input of the network
            yield self._plain_rows(net, layer)

    def explaining(
        self, net: nn.Module, layer: str, probes: int, count: int
    ) -> Callable[[], object]:
        """What makes the maps of `count` samples."""
        samples, estimator = self.inputs(count), self.estimator(net, layer, probes)
        return lambda: estimator.explain(net, samples)

    def estimator(self, net: nn.Module, layer: str, probes: int) -> EntropyEstimator:
        chosen = {"chunk": self.effort.chunk, "standard_error": None, "probes": probes}
        if self.net.kind == CLOUD:
            chosen["units"] = PointUnits(frozen=True)
        return EntropyEstimator(layer_name(net, layer), evaluations=EVALUATIONS, **chosen)

    def _plain_rows(self, net: nn.Module, layer: str) -> Rate:
        count = min(self.effort.chunk, PROBES[0] * self.effort.maps)
        batch = self._laid_out(self.inputs(count)).requires_grad_()

        def passes() -> None:
            with FeatureReader(net, layer_name(net, layer), relu=True) as reader:
                y = reader(lambda: net(batch.clone()))
                weights = torch.ones_like(y)
                for number in range(GRADIENTS):
                    keep = number < GRADIENTS - 1
                    torch.autograd.grad(y, batch, weights, retain_graph=keep)

        return self.whole(FLOOR_ROW, layer, passes, count)

    def rate(
        self, task: str, layer: str, wall: list[float], cpu: list[float] | None, units: int
    ) -> Rate:
        low, middle, high = np.quantile(wall, (0.25, 0.5, 0.75)) / units
        memory = max(0, peak_bytes(self.effort.device) - self.idle)
        if self.effort.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return Rate(
            task=task,
            seconds=max(float(middle), 1e-12),
            low=float(low),
            high=float(high),
            n=len(wall),
            net=self.net,
            layer=layer,
            batch=self.effort.batch,
            precision=self.effort.precision,
            compiled=self.effort.compiled and task == TRAIN,
            cpu=None if cpu is None else max(float(np.median(cpu)) / units, 1e-12),
            memory=memory,
        )


def _slope(rows: Sequence[int], taken: Sequence[np.ndarray]) -> np.ndarray:
    """Seconds of a row: each timing of the second budget less the first's median.

    Where other work on the machine makes the second no slower, all of it counts as rows.
    """
    slopes = (taken[1] - np.median(taken[0])) / (rows[1] - rows[0])
    return slopes if np.median(slopes) > 0 else taken[1] / rows[1]


def _offset(rows: Sequence[int], taken: Sequence[np.ndarray]) -> np.ndarray:
    """Seconds of what does not grow with the rows."""
    return np.maximum(taken[0] - np.median(_slope(rows, taken)) * rows[0], 0.0)
