"""Time and memory of the point-cloud networks: `python -m kpnb.experiments.cloud_costs`.

Each network runs in a process of its own, so that its peak memory is its own. Weights are random:
what a pass costs does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kpnb.datasets.clouds import embedded_pointclouds
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import layer_name
from kpnb.estimator.units import PointUnits
from kpnb.metrics.formatting import count, number, table
from kpnb.metrics.provenance import Stopwatch, peak_memory_mib, provenance
from kpnb.metrics.results import Number, Results, run_fingerprint, write_results
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.cloud_layers import PointNetwork
from kpnb.networks.layers import SCALES

NAME = "pointcloud_costs"
CODE = ("measure_cloud_costs", "cloud_costs_of")
# Points of object and background, and clouds in a batch: of the study, and of the paper.
SIZES = {"narrow": (256, 125, 32), "full": (1024, 500, 8)}
PROBES = 16  # as in the study
REPEATS = {"narrow": 3, "full": 1}  # a full-size map takes half a minute
NOTHING = "Not run here yet."


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all and write the results file; with two names, measure one and print JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m kpnb.experiments.cloud_costs", description=__doc__
    )
    parser.add_argument("one", nargs="*", metavar="NETWORK SCALE", help="of one network, as JSON")
    options = parser.parse_args(arguments)
    if options.one:
        name, scale = options.one
        print(json.dumps(cloud_costs_of(name, scale)))
    else:
        print(write_results(measure_cloud_costs()))
    return 0


def cloud_costs_of(name: str, scale: str) -> dict[str, float]:
    """Of one network in this process: parameters, seconds of a training step and of a map with
    frozen choices, and the process's peak memory in MB at the end."""
    points, background, batch = SIZES[scale]
    repeats = REPEATS[scale]
    net = point_network(name, 10, scale)
    clouds = embedded_pointclouds(batch, points=points, background=background)
    estimator = EntropyEstimator(
        layer_name(net, "FC1"),
        units=PointUnits(frozen=True),
        probes=PROBES,
        evaluations=1,
        standard_error=None,
        chunk=batch,
    )
    step = _seconds(lambda: _train_step(net, clouds.points, clouds.labels), repeats)
    one = clouds.points[:1]
    found = {"parameters": sum(p.numel() for p in net.parameters()), "step": step}
    found["map"] = _seconds(lambda: estimator.explain(net, one), repeats)
    anew = replace(estimator, units=PointUnits())
    found["map, recomputed"] = _seconds(lambda: anew.explain(net, one), repeats)
    return found | {"memory": peak_memory_mib()}


def measure_cloud_costs() -> Results:
    """All networks at both scales, one process each, as a results file."""
    numbers: dict[str, Number] = {}
    with Stopwatch() as watch:
        for scale in SCALES:
            for name in BUILDERS:
                for what, value in _in_own_process(name, scale).items():
                    numbers[f"{scale} | {name} | {what}"] = _number(scale, what, value)
    used = watch.as_dict()
    settings = {"threads": torch.get_num_threads(), "probes": PROBES, "repeats": REPEATS}
    return Results(
        notebook=NAME,
        preset="study",
        settings=settings,
        provenance=provenance() | {"code": list(CODE)},
        seconds=used["seconds"],
        peak_memory_mb=max(v.value for k, v in numbers.items() if k.endswith("memory")),
        fingerprint=run_fingerprint(settings, CODE),
        numbers=numbers,
    )


def costs_table(results: list[Results]) -> str:
    """Parameters, seconds and memory by network and scale, from the results file."""
    for run in results:
        if run.notebook == NAME:
            header = ["network", "scale", "points", "clouds a step", *WHAT.values()]
            rows = [_row(run, name, scale) for scale in SCALES for name in BUILDERS]
            return f"{table(header, rows)}\n\n{_machine(run)}"
    return NOTHING


def _machine(run: Results) -> str:
    where, narrow, full = run.provenance, REPEATS["narrow"], REPEATS["full"]
    return (
        f"{where['cpu']}, {count(where['threads'], 'thread')}, torch {where['versions']['torch']}; "
        f"the best of {count(narrow, 'run')} (narrow) or {count(full, 'run')} (full)."
    )


WHAT = {
    "parameters": "parameters",
    "step": "training step [s]",
    "map": f"map, {PROBES} draws [s]",
    "map, recomputed": "the same, choices recomputed [s]",
    "memory": "peak memory [MB]",
}


def _row(run: Results, name: str, scale: str) -> list[str]:
    points, background, batch = SIZES[scale]
    found = [run.numbers[f"{scale} | {name} | {what}"].value for what in WHAT]
    return [name, scale, f"{points} + {background}", str(batch), *map(number, found)]


def _number(scale: str, what: str, value: float) -> Number:
    unit = {"parameters": "", "memory": "MB"}.get(what, "s")
    return Number(value=value, what=WHAT[what], unit=unit, n=REPEATS[scale] if unit == "s" else 1)


def _in_own_process(name: str, scale: str) -> dict[str, float]:
    command = [sys.executable, "-m", "kpnb.experiments.cloud_costs", name, scale]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _train_step(net: PointNetwork, points: Tensor, labels: Tensor) -> None:
    net.train()
    net.zero_grad(set_to_none=True)
    cross_entropy(net(points), labels).backward()


def _seconds(work: Callable[[], object], repeats: int) -> float:
    """Wall-clock of `work`: the best of several runs, after one that warms up, or of one."""
    if repeats > 1:
        work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


if __name__ == "__main__":
    sys.exit(main())
