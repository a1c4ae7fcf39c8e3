"""How far a plan is from a real run: `python -m kpnb.run.planning.plan --check`.

Measures rates, plans a small study, runs it on a store of its own, and compares; several times. All
on one thread of one process, and by processor time, which does not count what else the machine
does; the wall clock's ratio stands beside it. A second, larger check holds the plans of committed
runs against the seconds that these recorded, on a machine that did other things too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import table
from kpnb.metrics.provenance import Stopwatch, provenance
from kpnb.metrics.results import Number, Results, available_cells, run_fingerprint, write_results
from kpnb.run.planning import throughput_files as files
from kpnb.run.planning.run_workload import workload
from kpnb.run.planning.throughput import here, networks
from kpnb.run.planning.throughput_clock import Effort, compose_rate, storage_rates
from kpnb.run.planning.throughput_lookup import MEASURED, Lookup, lookup
from kpnb.run.planning.throughput_tasks import measure
from kpnb.run.planning.workload import Workload
from kpnb.store import Store
from kpnb.study.image import CellStudy
from kpnb.study.parameters import CellParameters, models_for, resolve

NAME = "plan_check"
CODE = ("check_plan",)
WITHIN = 0.3  # of the real seconds
SMALL = {
    "preset": "demo",
    "network": "AlexNet",
    "teacher": "same",
    "layers": ["FC1"],
    "teacher_samples": 600,
    "fraction": 0.5,
    "teacher_epochs": 6,
    "epochs": 8,
    "head_epochs": 4,
    "checkpoints": [0, 2, 8],
    "samples": 32,
    "device": "cpu",
}
SUBJECTS = ("training", "maps", "total")
CLOCKS = ("cpu", "wall")
NOTHING = "Not run here yet."


def main(repeats: int = 3) -> int:
    """Run the check, print and write it; exit code 1 if the plan is too far off."""
    if repeats < 1:
        raise KpnbError(f"repeats is {repeats}: compare at least once.")
    results = check_plan(repeats)
    for name, number in results.numbers.items():
        spread = "" if number.low is None else f" [{number.low:.3g}, {number.high:.3g}]"
        print(f"{name:46} {number.value:8.3g}{spread} {number.unit}")
    print(write_results(results))
    off = abs(results.numbers["total | ratio | cpu"].value - 1)
    print("within" if off <= WITHIN else "NOT within", f"{WITHIN:.0%} of the real seconds")
    return int(off > WITHIN)


def check_plan(
    repeats: int, small: dict[str, object] = SMALL, effort: Effort | None = None
) -> Results:
    """Planned over real seconds of the small study, and of the committed runs.

    small: parameters of the study; effort: of the measuring.
    """
    torch.set_num_threads(1)
    parameters = resolve(CellParameters, small)
    effort = effort or Effort(torch.device("cpu"))
    found = []
    with Stopwatch() as watch:
        for _ in range(repeats):
            rates = _rates(parameters, effort)
            found.append((_planned(rates, workload(parameters)), _real(parameters)))
    numbers = _compared(found) | _committed()
    settings = {"repeats": repeats} | parameters.model_dump(mode="json")
    return Results(
        notebook=NAME,
        preset="study",
        settings=settings,
        provenance=provenance() | {"code": list(CODE)},
        seconds=watch.as_dict()["seconds"],
        peak_memory_mb=watch.as_dict()["peak_memory_mib"],
        fingerprint=run_fingerprint(settings, CODE),
        numbers=numbers,
    )


def _rates(parameters: CellParameters, effort: Effort) -> files.Measured:
    (net,) = networks([parameters.network], parameters.scale, parameters.image_size)
    rates = measure(net, list(parameters.layers), effort)
    rates += [compose_rate(effort, parameters.image_size), *storage_rates(effort)]
    return here("cpu", rates)


Seconds = dict[tuple[str, str], float]  # (subject, clock) -> seconds


def _planned(rates: files.Measured, work: Workload) -> Seconds:
    """By each clock; training with the scores that it ends in."""
    found: Seconds = {}
    for clock in CLOCKS:
        chosen = Lookup(_on(rates, clock))
        by_kind = {"network": 0.0, "maps": 0.0}
        for piece in work.pieces:
            by_kind[piece.kind] += chosen.piece(piece).total
        found["training", clock] = by_kind["network"]
        found["maps", clock] = by_kind["maps"]
        found["total", clock] = sum(by_kind.values()) + chosen.parts(work.process).total
    return found


def _on(rates: files.Measured, clock: str) -> files.Measured:
    """The same rates with the seconds of one clock as all there are."""
    kept = tuple(
        replace(rate, seconds=rate.of(clock), low=rate.of(clock), high=rate.of(clock), cpu=None)
        for rate in rates.rates
    )
    return replace(rates, rates=kept)


def _real(parameters: CellParameters) -> Seconds:
    """The study itself, from composing its images to its last map."""
    with tempfile.TemporaryDirectory() as folder:
        study = CellStudy(parameters, Store(folder))
        layer = parameters.layers[0]
        data = _timed(lambda: (study.data.teacher_samples, study.data.test_samples))

        def train() -> None:
            for seed in parameters.seeds:
                for role in "TBS":
                    study.of(role, seed, layer)
            study.accuracies("T")

        def explain() -> None:
            for seed in parameters.seeds:
                for role in "TSB":
                    study.maps(study.of(role, seed, layer), layer)

        training, maps = _timed(train), _timed(explain)
    found: Seconds = {}
    for number, clock in enumerate(CLOCKS):
        found["training", clock], found["maps", clock] = training[number], maps[number]
        found["total", clock] = data[number] + training[number] + maps[number]
    return found


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall-clock seconds, in the order of CLOCKS."""
    started = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - started[0], time.perf_counter() - started[1]


def _compared(found: list[tuple[Seconds, Seconds]]) -> dict[str, Number]:
    """Medians over the repeats; an interval is from the lowest to the highest."""
    numbers: dict[str, Number] = {}
    for subject in SUBJECTS:
        for clock in CLOCKS:
            key = subject, clock
            planned = [pair[0][key] for pair in found]
            real = [pair[1][key] for pair in found]
            ratios = [p / r for p, r in zip(planned, real, strict=True)]
            name = f"{subject} | {{}} | {clock}"
            numbers[name.format("planned")] = _number(planned, "planned", "s")
            numbers[name.format("real")] = _number(real, "real", "s")
            numbers[name.format("ratio")] = _number(ratios, "planned over real", "times")
    return numbers


def _number(values: list[float], what: str, unit: str) -> Number:
    middle, low, high = float(np.median(values)), min(values), max(values)
    return Number(value=middle, low=low, high=high, what=what, unit=unit, n=len(values))


def _committed() -> dict[str, Number]:
    """Planned over recorded seconds of the committed cells that measured rates speak of; none
    where there are no rates of this machine."""
    try:
        rates = lookup("cpu")
    except KpnbError:
        return {}
    ratios: dict[str, list[float]] = {}
    for run in available_cells("study"):
        work = workload(resolve(models_for(run.notebook), run.settings), run.notebook)
        seconds = rates.parts(work.process)
        for piece in work.pieces:
            seconds.add(rates.piece(piece))
        how = "measured" if seconds.share(MEASURED) >= 0.9 else "scaled"
        ratios.setdefault(how, []).append(seconds.total / run.seconds)
    return {
        f"committed cells, rates {how} | ratio | wall": _number(
            values, "planned (processor) over recorded (wall clock)", "times"
        )
        for how, values in sorted(ratios.items())
    }


def check_table(results: list[Results]) -> str:
    """Planned and real seconds and their ratio, from the results file."""
    run = next((run for run in results if run.notebook == NAME), None)
    if run is None:
        return NOTHING
    rows = []
    for name, number in run.numbers.items():
        subject, what, clock = name.split(" | ")
        if what == "ratio":
            parts = [run.numbers.get(f"{subject} | {part} | {clock}") for part in PARTS]
            seconds = ["" if part is None else f"{part.value:.1f}" for part in parts]
            spread = f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]"
            rows.append([subject, CLOCK_NAMES[clock], *seconds, spread, str(number.n)])
    header = ["what", "clock", "planned [s]", "real [s]", "planned / real", "n"]
    return table(header, rows)


PARTS = ("planned", "real")
CLOCK_NAMES = {"cpu": "processor", "wall": "wall"}
