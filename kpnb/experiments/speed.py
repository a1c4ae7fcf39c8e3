"""What methods and networks cost: `python -m kpnb.experiments.speed estimator` or `clouds`.

estimator: time as ratios within one run. Times depend on the machine and on what else it does;
their ratios much less. How far each method is from the truth is measured by
`python -m kpnb.experiments.accuracy`; here is what it costs, against the plain passes it is made
of. clouds: seconds and memory of the point-cloud networks, each in a process of its own, so that
its peak memory is its own. Weights are random: what a pass costs does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kpnb.datasets.clouds import embedded_pointclouds
from kpnb.errors import KpnbError
from kpnb.estimator.closed_form import RESPONSE_DRAWS
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.estimator.rates import OWN, SHARED
from kpnb.estimator.units import GridUnits, PointUnits
from kpnb.fingerprint import peak_memory_mib
from kpnb.metrics.formatting import count, number, table
from kpnb.metrics.results import Number, Results, measured, write_results
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.image import image_network
from kpnb.networks.layers import SCALES
from kpnb.training.recipes import entropy_weight

ESTIMATOR_SPEED, CLOUD_COSTS = "estimator_speed", "pointcloud_costs"  # the results' names
_IMAGES = (32, 64, 128, 256, 512)
_SIDES = (32, 64, 128)
GRIDS = (4, 8, 16, 32)
CHECKPOINTS = (1, 2, 4, 8)
PUBLISHED_STEPS = 60  # at least; up to 80
_CLASSES = 12
# Points of object and background, and clouds in a batch: of the study, and of the paper.
_SIZES = {"narrow": (256, 125, 32), "full": (1024, 500, 8)}
_PROBES = 16  # of point clouds, as in the study
REPEATS = {"narrow": 3, "full": 1}  # a full-size map takes half a minute

_Numbers = dict[str, Number]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.experiments.speed", description=__doc__)
    parser.add_argument("subject", choices=("estimator", "clouds", "memory", "cloud"))
    parser.add_argument("of", nargs="*", help="of memory: images; of cloud: a network and a scale")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    options = parser.parse_args(arguments)
    try:
        if options.subject in _ONE:
            print(json.dumps(_ONE[options.subject](*options.of)))
        elif options.subject == "clouds":
            print(write_results(measure_cloud_costs()))
        else:
            _tell(measure_estimator_speed(torch.device(options.device), options.quick))
    except (KpnbError, RuntimeError) as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


def _tell(found: Results) -> None:
    for name, value in found.numbers.items():
        print(f"{name:58} {value.value:10.3g} {value.unit}")
    if not found.settings["quick"]:
        print(write_results(found))


def measure_estimator_speed(device: torch.device, quick: bool = False) -> Results:
    """All of the benchmark as a results file; quick: sizes that only show that it runs."""

    def compute() -> _Numbers:
        numbers = against_published("narrow", 64, device, steps=1 if quick else PUBLISHED_STEPS)
        if not quick:
            numbers |= against_published("full", 224, device, steps=1)
        numbers |= floor(device, 2 if quick else 20)
        numbers |= scaling(device, quick)
        numbers |= precision(device, 2 if quick else 8)
        return numbers | memory(quick)

    settings = {"device": device.type, "quick": quick, "threads": torch.get_num_threads()}
    code = ["measure_estimator_speed", "peak_memory_of"]
    return measured(ESTIMATOR_SPEED, settings, code, compute)


# --- the methods side by side -----------------------------------------------------------------


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
    """`path` over the plain forward and backward passes that it needs, at the same batch; and the
    share of the machine's matrix product rate that it reaches."""
    net, images = _network("narrow", device), _images(count, 64, device)
    estimator = _estimator(net)
    taken = _seconds(lambda: estimator.explain(net, images))
    rows = estimator.probes * len(images)
    parts = estimator.evaluations - 0.5  # the first evaluation has half the draws
    with FeatureReader(net, estimator.layer, relu=True) as reader:
        batch = images.repeat_interleave(estimator.probes, 0)
        batch = batch.to(memory_format=torch.channels_last).requires_grad_()
        passes = SHARED + OWN + 1
        with_graph = _seconds(lambda: _plain(reader, net, batch, passes))
        with torch.no_grad():
            without = _seconds(lambda: reader(lambda: net(batch.clone())))
    plain = parts * with_graph + without * 2 * RESPONSE_DRAWS * len(images) / rows
    return {
        "path / its plain passes": _ratio(taken / plain),
        "matrix product peak": _rate(_matmul_rate(device), "2,048 x 2,048, float32"),
        "plain forward pass": _rate(_flops(net, batch, estimator.layer) / without,
                                    "narrow VGG-11 up to FC1"),
    }  # fmt: skip


def _plain(reader: FeatureReader, net: nn.Module, batch: Tensor, passes: int) -> None:
    with torch.enable_grad():
        y = reader(lambda: net(batch.clone()))
        weights = torch.ones_like(y)
        for number in range(passes):
            torch.autograd.grad(y, batch, weights, retain_graph=number < passes - 1)


def _matmul_rate(device: torch.device) -> float:
    a = torch.ones(2048, 2048, device=device)
    return 2 * 2048**3 / _seconds(lambda: a @ a)


def _flops(net: nn.Module, batch: Tensor, layer: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), FeatureReader(net, layer) as reader:
        reader(lambda: net(batch.clone()))
    return counter.get_total_flops()


# --- scaling ----------------------------------------------------------------------------------


def scaling(device: torch.device, quick: bool) -> _Numbers:
    """Exponents of the cost in images and checkpoints; cost by image size and number of units."""
    net = _network("narrow", device)
    small = _estimator(net, probes=8, evaluations=1)
    counts, loops = (_IMAGES[:2], CHECKPOINTS[:2]) if quick else (_IMAGES, CHECKPOINTS)
    pool = _images(max(counts), 64, device)
    few = pool[:8]
    images = [_seconds(lambda n=n: small.explain(net, pool[:n]), 1) for n in counts]
    checkpoints = [_seconds(lambda n=n: [small.explain(net, few) for _ in range(n)]) for n in loops]
    side = {s: _seconds(lambda s=s: small.explain(net, _images(8, s, device))) for s in _SIDES}
    grids = {g: replace(small, units=GridUnits(g)) for g in GRIDS}
    cells = {g: _seconds(lambda made=made: made.explain(net, few)) for g, made in grids.items()}
    numbers = {
        f"exponent in images, {counts[0]} to {counts[-1]}": _exponent(counts, images),
        f"exponent in checkpoints, {loops[0]} to {loops[-1]}": _exponent(loops, checkpoints),
        "several checkpoints at once (vmap) / one by one": _ratio(_vmap_over_loop(net, few)),
    }
    for taken, sizes, what in ((side, _SIDES, "pixels"), (cells, GRIDS, "cells")):
        first, *others = sizes
        for size in others:
            numbers[f"{size} / {first} {what} a side"] = _ratio(taken[size] / taken[first])
    return numbers


def _vmap_over_loop(net: nn.Module, images: Tensor, copies: int = 4) -> float:
    """Time of a forward and backward pass of several sets of weights by vmap, over a loop's."""
    weights = {name: p.detach() for name, p in net.named_parameters()}
    stacked = {name: torch.stack([p] * copies) for name, p in weights.items()}
    buffers = dict(net.named_buffers())

    def gradient(parameters: dict[str, Tensor]) -> Tensor:
        def total(x: Tensor) -> Tensor:
            return torch.func.functional_call(net, (parameters, buffers), (x,)).sum()

        return torch.func.grad(total)(images)

    net.eval()
    together = _seconds(lambda: torch.func.vmap(gradient)(stacked))
    return together / _seconds(lambda: [gradient(weights) for _ in range(copies)])


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


def memory(quick: bool) -> _Numbers:
    """Peak memory of a process with many images over that of one with few."""
    few, many = (8, 16) if quick else (_IMAGES[0], _IMAGES[-1])
    peaks = [_in_own_process("memory", str(n)) for n in (few, many)]
    return {f"peak memory, {many} / {few} images": _ratio(peaks[1] / peaks[0])}


def peak_memory_of(images: str | int) -> float:
    """MiB of this process after maps of so many images."""
    device = torch.device("cpu")
    net = _network("narrow", device)
    _estimator(net, probes=8, evaluations=1).explain(net, _images(int(images), 64, device))
    return peak_memory_mib()


# --- point-cloud networks


def cloud_costs_of(name: str, scale: str) -> dict[str, float]:
    """Of one network in this process: parameters, seconds of a training step and of a map with
    frozen choices, and the process's peak memory in MB at the end."""
    points, background, batch = _SIZES[scale]
    net = point_network(name, 10, scale)
    clouds = embedded_pointclouds(batch, points=points, background=background)
    units, layer = PointUnits(frozen=True), layer_name(net, "FC1")
    given = {"probes": _PROBES, "evaluations": 1, "standard_error": None, "chunk": batch}
    frozen = EntropyEstimator(layer, units=units, **given)
    anew, one = replace(frozen, units=PointUnits()), clouds.points[:1]

    def step() -> None:
        net.train()
        net.zero_grad(set_to_none=True)
        cross_entropy(net(clouds.points), clouds.labels).backward()

    def seconds(work: Callable[[], object]) -> float:
        return _seconds(work, REPEATS[scale], warm=True)

    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "step": seconds(step),
        "map": seconds(lambda: frozen.explain(net, one)),
        "map, recomputed": seconds(lambda: anew.explain(net, one)),
        "memory": peak_memory_mib(),
    }


#: Of one network at one scale -> what it is, and its unit.
COSTS = {
    "parameters": ("parameters", ""),
    "step": ("training step [s]", "s"),
    "map": (f"map, {_PROBES} draws [s]", "s"),
    "map, recomputed": ("the same, choices recomputed [s]", "s"),
    "memory": ("peak memory [MB]", "MB"),
}


def measure_cloud_costs() -> Results:
    """All networks at both scales, one process each, as a results file."""

    def compute() -> _Numbers:
        numbers = {}
        for scale, name in product(SCALES, BUILDERS):
            for cost, value in _in_own_process("cloud", name, scale).items():
                what, unit = COSTS[cost]
                runs = REPEATS[scale] if unit == "s" else 1
                found = Number(value=value, what=what, unit=unit, n=runs)
                numbers[f"{scale} | {name} | {cost}"] = found
        return numbers

    settings = {"threads": torch.get_num_threads(), "probes": _PROBES, "repeats": REPEATS}
    code = ["measure_cloud_costs", "cloud_costs_of"]
    found = measured(CLOUD_COSTS, settings, code, compute)
    largest = max(v.value for k, v in found.numbers.items() if k.endswith("memory"))
    return found.model_copy(update={"peak_memory_mb": largest})


def costs_table(results: Sequence[Results]) -> str:
    """Parameters, seconds and memory by network and scale, from the results file."""
    for run in results:
        if run.notebook == CLOUD_COSTS:
            header = ["network", "scale", "points", "clouds a step"]
            header += [what for what, _ in COSTS.values()]
            rows = [_row(run, name, scale) for scale, name in product(SCALES, BUILDERS)]
            return f"{table(header, rows)}\n\n{_machine(run)}"
    return "Not run here yet."


def _row(run: Results, name: str, scale: str) -> list[str]:
    points, background, batch = _SIZES[scale]
    found = [run.numbers[f"{scale} | {name} | {cost}"].value for cost in COSTS]
    return [name, scale, f"{points} + {background}", str(batch), *map(number, found)]


def _machine(run: Results) -> str:
    where, runs = run.provenance, {scale: count(n, "run") for scale, n in REPEATS.items()}
    return (
        f"{where['cpu']}, {count(where['threads'], 'thread')}, torch {where['versions']['torch']}; "
        f"the best of {runs['narrow']} (narrow) or {runs['full']} (full)."
    )


#: What is measured in a process of its own, by its name on the command line.
_ONE = {"memory": peak_memory_of, "cloud": cloud_costs_of}


def _in_own_process(*arguments: str) -> object:
    command = [sys.executable, "-m", "kpnb.experiments.speed", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- helpers


def _network(scale: str, device: torch.device) -> nn.Module:
    return image_network("VGG-11", _CLASSES, scale).to(device).eval()


def _images(count: int, side: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, side, side, generator=generator).to(device)


def _estimator(net: nn.Module, **changes: object) -> EntropyEstimator:
    chosen = {"entropy_weight": entropy_weight("VGG-11"), "standard_error": None}
    return EntropyEstimator(layer_name(net, "FC1"), **chosen | changes)


def _seconds(work: Callable[[], object], runs: int = 2, warm: bool = False) -> float:
    """Wall-clock of `work`: the best of several runs, of which the first warms up; or with `warm`,
    of several after one that does not count, unless there is one run only."""
    if warm and runs > 1:
        work()
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


def _rate(value: float, what: str) -> Number:
    return Number(value=value / 1e9, what=what, unit="GFLOP/s")


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> Number:
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return Number(value=float(slope), what="of cost, by least squares", n=len(sizes))


if __name__ == "__main__":
    sys.exit(main())
