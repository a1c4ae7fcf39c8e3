"""Tables of the page on planning: measured rates, what they add to plain passes, and some plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import count, number, table
from kpnb.metrics.results import Results
from kpnb.run.planning.network_costs import Net
from kpnb.run.planning.plan import Planned, Run, duration, size
from kpnb.run.planning.plan_check import check_table
from kpnb.run.planning.run_workload import workload
from kpnb.run.planning.throughput_files import (
    DISTILL,
    FIXED,
    FLOOR_ROW,
    FLOOR_TRAIN,
    FORWARD,
    ROW,
    TRAIN,
    Measured,
    Rate,
    known,
)
from kpnb.run.planning.throughput_lookup import MEASURED, SCALED, SHEET, Lookup
from kpnb.study.parameters import models_for, resolve

NOTHING = "Not measured here yet."
# What the page plans: a notebook of each task, at the presets that cost something.
EXAMPLES = (
    ("image_h1", "study"),
    ("image_h1", "paper"),
    ("sentiment_h1", "paper"),
    ("pointcloud_h1", "paper"),
)


def plan_tables(results: list[Results]) -> dict[str, str]:
    """What book/plan.md includes: {name: markdown}."""
    measured = known()
    return {
        "plan_rates": rates_tables(measured),
        "plan_ratios": ratios_table(measured),
        "plan_check": check_table(results),
        "plan_examples": examples_table(measured),
    }


def rates_tables(measured: Sequence[Measured]) -> str:
    """A table for each device: milliseconds by network, with the spread of the training step."""
    return "\n\n".join(_rates_table(one) for one in measured) or NOTHING


def _rates_table(measured: Measured) -> str:
    rows = []
    for net, rates in _by_net(measured).items():
        train = rates[TRAIN]
        cells = [str(net), str(train.batch), train.precision, _ms(train, measured)]
        cells.append(_spread(train))
        cells += [_ms(rates[task], measured) if task in rates else "" for task in SHOWN]
        rows.append([*cells, size(max(rate.memory for rate in rates.values()))])
    header = ["network", "batch", "precision", "training step", "its quartiles (wall clock)"]
    clock = {"cpu": "processor time", "wall": "wall clock"}[measured.clock]
    title = f"**{measured}**; milliseconds a sample, {clock}, medians:"
    return f"{title}\n\n{table([*header, *SHOWN.values(), 'peak memory'], rows)}"


SHOWN = {
    DISTILL: "distillation step, FC1",
    FORWARD: "forward pass",
    ROW: "map, FC1: a row",
    FIXED: "map, FC1: fixed part",
}


def ratios_table(measured: Sequence[Measured]) -> str:
    """What trainer and estimator take over the plain passes that they are made of."""
    rows = []
    for one in measured:
        for net, rates in _by_net(one).items():
            cells = [_ratio(rates, one, *pair) for pair in ((TRAIN, FLOOR_TRAIN), (ROW, FLOOR_ROW))]
            rows.append([one.hardware, str(net), *cells])
    header = ["device", "network", "training step / forward and backward alone"]
    return table([*header, "a map's row / its passes alone"], rows) if rows else NOTHING


def _ratio(rates: dict[str, Rate], measured: Measured, task: str, floor: str) -> str:
    if task not in rates or floor not in rates:
        return ""
    return f"{rates[task].of(measured.clock) / rates[floor].of(measured.clock):.2f}"


def examples_table(measured: Sequence[Measured]) -> str:
    """Plans of some notebooks on each device that was measured, and on a T4 by its data sheet."""
    lookups = [Lookup(one) for one in measured]
    lookups.append(Lookup(None, next((m for m in measured if m.device == "cpu"), None)))
    rows = []
    for name, preset in EXAMPLES:
        for rates in lookups:
            try:
                rows.append(_example(name, preset, rates))
            except KpnbError as unknown:
                rows.append([name, preset, _device(rates), f"not known: {unknown}", "", "", ""])
    header = ["notebook", "preset", "device", "time", "how known", "disk", "memory"]
    return table(header, rows)


def _example(name: str, preset: str, rates: Lookup) -> list[str]:
    work = workload(resolve(models_for(name), {"preset": preset}), name)
    planned = Planned(name, (Run(name, work),), rates)
    seconds = planned.seconds
    shares = [
        f"{seconds.share(how):.0%} {word}"
        for how, word in ((MEASURED, "measured"), (SCALED, "scaled"), (SHEET, "data sheet"))
        if seconds.share(how) >= 0.005
    ]
    memory = planned.memory_line().removeprefix("memory  ")
    cells = [name, preset, _device(rates), duration(seconds.total), ", ".join(shares)]
    return [*cells, size(planned.disk), memory]


def _device(rates: Lookup) -> str:
    if rates.measured is None:
        return "T4 (estimate)"
    threads = f", {count(rates.measured.threads, 'thread')}"
    return rates.measured.hardware + (threads if rates.measured.device == "cpu" else "")


def _by_net(measured: Measured) -> dict[Net, dict[str, Rate]]:
    """network -> task -> its rate at FC1, or of the whole network; uncompiled ones."""
    found: dict[Net, dict[str, Rate]] = {}
    for rate in _uncompiled(measured.rates):
        if rate.net is not None and rate.layer in ("", "FC1", "Last"):
            known_rates = found.setdefault(rate.net, {})
            if rate.task != FORWARD or rate.layer == "":
                known_rates.setdefault(rate.task, rate)
    return {net: rates for net, rates in found.items() if TRAIN in rates}


def _uncompiled(rates: Iterable[Rate]) -> Iterable[Rate]:
    return (rate for rate in rates if not rate.compiled)


def _ms(rate: Rate, measured: Measured) -> str:
    return number(1000 * rate.of(measured.clock))


def _spread(rate: Rate) -> str:
    return f"{number(1000 * rate.low)} to {number(1000 * rate.high)}"
