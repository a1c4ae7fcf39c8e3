"""What the methods cost: `python -m kpnb.experiments.speed`.

Ratios of times within one run, which depend on the machine much less than times do, to the plain
passes that a method is made of. Weights are random: what a pass costs does not depend on them.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.errors import answered
from kpnb.estimator.closed_form import RESPONSE_DRAWS
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.estimator.rates import OWN, SHARED
from kpnb.fingerprint import peak_memory_mib
from kpnb.metrics.results import Number, Results, measured, write_results
from kpnb.networks.image import image_network
from kpnb.training.recipes import entropy_weight
from kpnb.training.settings import chosen_device

ESTIMATOR_SPEED = "estimator_speed"  # the results' name
_IMAGES = (32, 64, 128, 256, 512)
PUBLISHED_STEPS = 60  # at least; up to 80
_CLASSES = 12

_Numbers = dict[str, Number]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.experiments.speed", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = parser.parse_args(arguments).device

    def measure() -> None:
        found = measure_estimator_speed(chosen_device(device))
        for name, value in found.numbers.items():
            print(f"{name:58} {value.value:10.3g} {value.unit}")
        print(write_results(found))

    return answered(measure)


def measure_estimator_speed(device: torch.device) -> Results:
    """All of the benchmark as a results file."""

    def compute() -> _Numbers:
        numbers = against_published("narrow", 64, device, PUBLISHED_STEPS)
        numbers |= against_published("full", 224, device, steps=1)
        return numbers | floor(device, 20) | scaling(device) | precision(device, 8) | memory()

    settings = {"device": device.type, "threads": torch.get_num_threads()}
    code = ["measure_estimator_speed", "peak_memory_of"]
    return measured(ESTIMATOR_SPEED, settings, code, compute)


def against_published(scale: str, side: int, device: torch.device, steps: int) -> _Numbers:
    """Wall-clock of the published procedure over that of the closed forms, one image, VGG-11 FC1.

    steps: of the published procedure that are timed; its 60 are the same step over and over.
    """
    net, images = _network(scale, device), _images(1, side, device)
    base = _estimator(net, chunk=96 if side > 100 else 256)
    short = replace(base, method="published", iterations=steps, extra_iterations=0)
    runs = 1 if side > 100 else 2  # long enough not to need a second one
    slow = _seconds(lambda: short.explain(net, images), runs) * PUBLISHED_STEPS / steps
    numbers = {}
    title = f"VGG-11 {scale}, {side} pixels"
    for name, estimator in {
        "path, 8 probes": replace(base, probes=8),
        "path, 24 probes": replace(base, probes=24),
        "optimum, 24 probes": replace(base, probes=24, method="optimum"),
    }.items():
        maps: list[EntropyMaps] = []
        fast = _seconds(lambda e=estimator, into=maps: into.append(e.explain(net, images)), runs)
        numbers[f"{title}: published / {name}"] = _ratio(slow / fast)
        error = float(maps[0].standard_error.median())
        told = f"{title}: median standard error, {name}"
        numbers[told] = Number(value=error, what="over units", unit="nats")
    return numbers


def floor(device: torch.device, count: int) -> _Numbers:
    """`path` over the plain forward and backward passes that it needs, at the same batch."""
    net, images = _network("narrow", device), _images(count, 64, device)
    estimator = _estimator(net)
    taken = _seconds(lambda: estimator.explain(net, images))
    rows = estimator.probes * len(images)
    parts = estimator.evaluations - 0.5  # the first evaluation has half the draws
    with FeatureReader(net, estimator.layer, relu=True) as reader:
        batch = images.repeat_interleave(estimator.probes, 0)
        batch = batch.to(memory_format=torch.channels_last).requires_grad_()
        with_graph = _seconds(lambda: _plain(reader, net, batch, SHARED + OWN + 1))
        with torch.no_grad():
            without = _seconds(lambda: reader(lambda: net(batch.clone())))
    plain = parts * with_graph + without * 2 * RESPONSE_DRAWS * len(images) / rows
    return {"path / its plain passes": _ratio(taken / plain)}


def _plain(reader: FeatureReader, net: nn.Module, batch: Tensor, passes: int) -> None:
    with torch.enable_grad():
        y = reader(lambda: net(batch.clone()))
        weights = torch.ones_like(y)
        for number in range(passes):
            torch.autograd.grad(y, batch, weights, retain_graph=number < passes - 1)


def scaling(device: torch.device) -> _Numbers:
    """The exponent of the cost in images."""
    net, pool = _network("narrow", device), _images(max(_IMAGES), 64, device)
    small = _estimator(net, probes=8, evaluations=1)
    taken = [_seconds(lambda n=n: small.explain(net, pool[:n]), 1) for n in _IMAGES]
    return {f"exponent in images, {_IMAGES[0]} to {_IMAGES[-1]}": _exponent(_IMAGES, taken)}


def precision(device: torch.device, count: int) -> _Numbers:
    """What mixed precision does to time and to H, on the same noise."""
    net, images = _network("narrow", device), _images(count, 64, device)
    base = _estimator(net)
    found: list[EntropyMaps] = []
    plain = _seconds(lambda: found.append(base.explain(net, images)))
    half = replace(base, autocast="bfloat16")
    mixed = _seconds(lambda: found.append(half.explain(net, images)))
    apart = (found[-1].entropy - found[0].entropy).abs().mean()
    told = {"what": "mean absolute difference", "unit": "nats", "n": count}
    return {
        "bfloat16 / float32, time": _ratio(mixed / plain),
        "bfloat16 against float32, H": Number(value=float(apart), **told),
    }


def memory() -> _Numbers:
    """Peak memory of a process with many images over that of one with few."""
    few, many = _IMAGES[0], _IMAGES[-1]
    ratio = _ratio(_in_own_process(many) / _in_own_process(few))
    return {f"peak memory, {many} / {few} images": ratio}


def peak_memory_of(images: int) -> float:
    """MiB of this process after maps of so many images."""
    device = torch.device("cpu")
    net = _network("narrow", device)
    _estimator(net, probes=8, evaluations=1).explain(net, _images(images, 64, device))
    return peak_memory_mib()


def _in_own_process(images: int) -> float:
    program = f"from {__spec__.name} import peak_memory_of as peak; print(peak({images}))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


# Networks, images and the clock


def _network(scale: str, device: torch.device) -> nn.Module:
    return image_network("VGG-11", _CLASSES, scale).to(device).eval()


def _images(count: int, side: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, side, side, generator=generator).to(device)


def _estimator(net: nn.Module, **changes: object) -> EntropyEstimator:
    chosen = {"entropy_weight": entropy_weight("VGG-11"), "standard_error": None}
    return EntropyEstimator(layer_name(net, "FC1"), **chosen | changes)


def _seconds(work: Callable[[], object], runs: int = 2) -> float:
    """Wall-clock of `work`: the best of several runs, of which the first warms up."""
    taken = []
    for _ in range(runs):
        _wait()
        started = time.perf_counter()
        work()
        _wait()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _ratio(value: float) -> Number:
    return Number(value=value, what="wall-clock ratio in one run", unit="times")


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> Number:
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return Number(value=float(slope), what="of cost, by least squares", n=len(sizes))


if __name__ == "__main__":
    sys.exit(main())
