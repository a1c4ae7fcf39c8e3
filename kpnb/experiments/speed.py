"""Speed, as ratios within one run: `python -m kpnb.experiments.speed estimator`.

Times depend on the machine and on what else it does; their ratios much less. Weights are random:
what a pass costs does not depend on them. How far each method is from the truth is measured by
`python -m kpnb.experiments.accuracy`; here is what it costs, against the plain passes it is made
of.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.closed_form import RESPONSE_DRAWS
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.estimator.rates import OWN, SHARED
from kpnb.estimator.units import GridUnits
from kpnb.metrics.provenance import Stopwatch, peak_memory_mib, provenance
from kpnb.metrics.results import Number, Results, run_fingerprint, write_results
from kpnb.networks.image import image_network
from kpnb.training.recipes import entropy_weight

NAME = "estimator_speed"
CODE = ("measure_estimator_speed", "peak_memory_of")
IMAGES = (32, 64, 128, 256, 512)
SIDES = (32, 64, 128)
GRIDS = (4, 8, 16, 32)
CHECKPOINTS = (1, 2, 4, 8)
PUBLISHED_STEPS = 60  # at least; up to 80
CLASSES = 12

Numbers = dict[str, Number]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.experiments.speed", description=__doc__)
    parser.add_argument("subject", choices=("estimator", "memory"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--images", type=int, default=32, help="for memory")
    options = parser.parse_args(arguments)
    try:
        if options.subject == "memory":
            print(peak_memory_of(options.images))
            return 0
        found = measure_estimator_speed(torch.device(options.device), options.quick)
    except (KpnbError, RuntimeError) as mistake:
        print(mistake, file=sys.stderr)
        return 2
    for name, number in found.numbers.items():
        print(f"{name:58} {number.value:10.3g} {number.unit}")
    if not options.quick:
        print(write_results(found))
    return 0


def measure_estimator_speed(device: torch.device, quick: bool = False) -> Results:
    """All of the benchmark as a results file; quick: sizes that only show that it runs."""
    with Stopwatch() as watch:
        numbers = against_published("narrow", 64, device, steps=1 if quick else PUBLISHED_STEPS)
        if not quick:
            numbers |= against_published("full", 224, device, steps=1)
        numbers |= floor(device, 2 if quick else 20)
        numbers |= scaling(device, quick)
        numbers |= precision(device, 2 if quick else 8)
        numbers |= memory(quick)
    used = watch.as_dict()
    settings = {"device": device.type, "quick": quick, "threads": torch.get_num_threads()}
    return Results(
        notebook=NAME,
        preset="study",
        settings=settings,
        provenance=provenance() | {"code": list(CODE)},
        seconds=used["seconds"],
        peak_memory_mb=used["peak_memory_mib"],
        fingerprint=run_fingerprint(settings, CODE),
        numbers=numbers,
    )


# --- the methods side by side -----------------------------------------------------------------


def against_published(scale: str, side: int, device: torch.device, steps: int) -> Numbers:
    """Wall-clock of the published procedure over that of the closed forms, one image, VGG-11 FC1.

    steps: of the published procedure that are timed; its 60 are the same step over and over.
    """
    net, images = _network(scale, device), _images(1, side, device)
    base = _estimator(net, chunk=96 if side > 100 else 256)
    short = replace(base, method="published", iterations=steps, extra_iterations=0)
    large = side > 100  # long enough not to need a second run
    slow = _seconds(lambda: short.explain(net, images), once=large) * PUBLISHED_STEPS / steps
    numbers = {}
    title = f"VGG-11 {scale}, {side} pixels"
    for name, estimator in {
        "path, 8 probes": replace(base, probes=8),
        "path, 24 probes": replace(base, probes=24),
        "optimum, 24 probes": replace(base, probes=24, method="optimum"),
    }.items():
        maps: list[EntropyMaps] = []
        fast = _seconds(lambda e=estimator, into=maps: into.append(e.explain(net, images)), large)
        numbers[f"{title}: published / {name}"] = _ratio(slow / fast)
        error = float(maps[0].standard_error.median())
        numbers[f"{title}: median standard error, {name}"] = Number(
            value=error, what="over units", unit="nats"
        )
    return numbers


def floor(device: torch.device, count: int) -> Numbers:
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
        "matrix product peak": Number(
            value=_matmul_rate(device), what="2,048 x 2,048, float32", unit="GFLOP/s"
        ),
        "plain forward pass": Number(
            value=_flops(net, batch, estimator.layer) / without / 1e9,
            what="narrow VGG-11 up to FC1",
            unit="GFLOP/s",
        ),
    }


def _plain(reader: FeatureReader, net: nn.Module, batch: Tensor, passes: int) -> None:
    with torch.enable_grad():
        y = reader(lambda: net(batch.clone()))
        weights = torch.ones_like(y)
        for number in range(passes):
            torch.autograd.grad(y, batch, weights, retain_graph=number < passes - 1)


def _matmul_rate(device: torch.device) -> float:
    a = torch.ones(2048, 2048, device=device)
    return 2 * 2048**3 / _seconds(lambda: a @ a) / 1e9


def _flops(net: nn.Module, batch: Tensor, layer: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), FeatureReader(net, layer) as reader:
        reader(lambda: net(batch.clone()))
    return counter.get_total_flops()


# --- scaling ----------------------------------------------------------------------------------


def scaling(device: torch.device, quick: bool) -> Numbers:
    """Exponents of the cost in images and checkpoints; cost by image size and number of units."""
    net = _network("narrow", device)
    small = _estimator(net, probes=8, evaluations=1)
    counts = IMAGES[:2] if quick else IMAGES
    pool = _images(max(counts), 64, device)
    images = [_seconds(lambda n=n: small.explain(net, pool[:n]), once=True) for n in counts]
    few = pool[:8]
    loops = CHECKPOINTS[:2] if quick else CHECKPOINTS
    checkpoints = [_seconds(lambda n=n: [small.explain(net, few) for _ in range(n)]) for n in loops]
    numbers = {
        f"exponent in images, {counts[0]} to {counts[-1]}": _exponent(counts, images),
        f"exponent in checkpoints, {loops[0]} to {loops[-1]}": _exponent(loops, checkpoints),
        "several checkpoints at once (vmap) / one by one": _ratio(_vmap_over_loop(net, few)),
    }
    by_side = {s: _seconds(lambda s=s: small.explain(net, _images(8, s, device))) for s in SIDES}
    for side in SIDES[1:]:
        numbers[f"{side} / {SIDES[0]} pixels a side"] = _ratio(by_side[side] / by_side[SIDES[0]])
    by_grid = {
        g: _seconds(lambda g=g: replace(small, units=GridUnits(g)).explain(net, few)) for g in GRIDS
    }
    for cells in GRIDS[1:]:
        numbers[f"{cells} / {GRIDS[0]} cells a side"] = _ratio(by_grid[cells] / by_grid[GRIDS[0]])
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


def precision(device: torch.device, count: int) -> Numbers:
    """What mixed precision does to time and to H, on the same noise."""
    net, images = _network("narrow", device), _images(count, 64, device)
    base = _estimator(net)
    found: list[EntropyMaps] = []
    plain = _seconds(lambda: found.append(base.explain(net, images)))
    half = replace(base, autocast="bfloat16")
    mixed = _seconds(lambda: found.append(half.explain(net, images)))
    apart = (found[-1].entropy - found[0].entropy).abs().mean()
    return {
        "bfloat16 / float32, time": _ratio(mixed / plain),
        "bfloat16 against float32, H": Number(
            value=float(apart), what="mean absolute difference", unit="nats", n=count
        ),
    }


def memory(quick: bool) -> Numbers:
    """Peak memory of a process with many images over that of one with few."""
    few, many = (8, 16) if quick else (IMAGES[0], IMAGES[-1])
    command = [sys.executable, "-m", "kpnb.experiments.speed", "memory", "--images"]
    peaks = [
        float(subprocess.run([*command, str(n)], capture_output=True, check=True, text=True).stdout)
        for n in (few, many)
    ]
    return {f"peak memory, {many} / {few} images": _ratio(peaks[1] / peaks[0])}


def peak_memory_of(count: int) -> float:
    device = torch.device("cpu")
    net = _network("narrow", device)
    _estimator(net, probes=8, evaluations=1).explain(net, _images(count, 64, device))
    return peak_memory_mib()


# --- helpers ----------------------------------------------------------------------------------


def _network(scale: str, device: torch.device) -> nn.Module:
    return image_network("VGG-11", CLASSES, scale).to(device).eval()


def _images(count: int, side: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, side, side, generator=generator).to(device)


def _estimator(net: nn.Module, **changes: object) -> EntropyEstimator:
    chosen = {"entropy_weight": entropy_weight("VGG-11"), "standard_error": None}
    return EntropyEstimator(layer_name(net, "FC1"), **chosen | changes)


def _seconds(work: Callable[[], object], once: bool = False) -> float:
    """Wall-clock of `work`: the better of two runs, the first of which warms up, or of one."""
    taken = []
    for _ in range(1 if once else 2):
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
