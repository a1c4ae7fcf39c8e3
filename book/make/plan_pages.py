"""Tables of the page on planning: measured speeds, and some plans."""

from collections.abc import Sequence

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import number, table
from kpnb.run.machine import RATES, Machine, machines
from kpnb.run.plan import duration, plan_name, size

NOTHING = "Not measured here yet."
# What the page plans: a notebook of each task, at the presets that cost something.
EXAMPLES = ("image_h1 study", "image_h1 paper", "sentiment_h1 paper", "pointcloud_h1 paper")
SPEEDS = ("training step", "forward pass", "map: a row", "map: the rest")  # RATES in words


def plan_tables() -> dict[str, str]:
    """What book/plan.md includes: {name: markdown}."""
    known = machines()
    speeds = "\n\n".join(map(speeds_table, known)) or NOTHING
    return {"plan_speeds": speeds, "plan_examples": examples_table(known)}


def speeds_table(machine: Machine) -> str:
    """Milliseconds by network."""
    rows = [
        [speed.network, speed.precision, *(number(1000 * getattr(speed, rate)) for rate in RATES)]
        for speed in machine.speeds
    ]
    clock = "processor time" if machine.device == "cpu" else "wall clock"
    shown = table(["network", "precision", *SPEEDS], rows)
    return f"**{machine}**; milliseconds a sample, {clock}:\n\n{shown}"


def examples_table(known: Sequence[Machine]) -> str:
    """Plans of some notebooks on each machine that was measured."""
    asked = [(*example.split(), machine) for example in EXAMPLES for machine in known]
    rows = [[name, preset, on.hardware, *_example(name, preset, on)] for name, preset, on in asked]
    header = ["notebook", "preset", "machine", "time", "of it measured", "disk", "memory"]
    return table(header, rows) if rows else NOTHING


def _example(name: str, preset: str, machine: Machine) -> tuple[str, ...]:
    try:
        planned = plan_name(name, preset, {}, machine)
    except KpnbError as unknown:
        return f"not known: {unknown}", "", "", ""
    measured = f"{planned.measured:.0%}"
    return duration(planned.seconds), measured, size(planned.disk), planned.memory
