"""Tables of the page on planning: measured speeds, and some plans."""

from __future__ import annotations

from collections.abc import Sequence

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import number, table
from kpnb.run.machine import RATES, Machine, machines
from kpnb.run.plan import duration, plan_name, size

NOTHING = "Not measured here yet."
# What the page plans: a notebook of each task, at the presets that cost something.
EXAMPLES = (
    ("image_h1", "study"),
    ("image_h1", "paper"),
    ("sentiment_h1", "paper"),
    ("pointcloud_h1", "paper"),
)
SPEEDS = ("training step", "forward pass", "map: a row", "map: the rest")  # RATES in words


def plan_tables() -> dict[str, str]:
    """What book/plan.md includes: {name: markdown}."""
    known = machines()
    return {
        "plan_speeds": "\n\n".join(speeds_table(machine) for machine in known) or NOTHING,
        "plan_examples": examples_table(known),
    }


def speeds_table(machine: Machine) -> str:
    """Milliseconds by network."""
    rows = []
    for speed in machine.speeds:
        cells = [number(1000 * getattr(speed, rate)) for rate in RATES]
        rows.append([speed.network, speed.precision, *cells])
    clock = "processor time" if machine.device == "cpu" else "wall clock"
    header = ["network", "precision", *SPEEDS]
    return f"**{machine}**; milliseconds a sample, {clock}:\n\n{table(header, rows)}"


def examples_table(known: Sequence[Machine]) -> str:
    """Plans of some notebooks on each machine that was measured."""
    rows = [
        [*example, machine.hardware, *_example(*example, machine)]
        for example in EXAMPLES
        for machine in known
    ]
    header = ["notebook", "preset", "machine", "time", "how known", "disk", "memory"]
    return table(header, rows) if rows else NOTHING


def _example(name: str, preset: str, machine: Machine) -> tuple[str, ...]:
    try:
        planned = plan_name(name, preset, {}, machine)
    except KpnbError as unknown:
        return f"not known: {unknown}", "", "", ""
    shares = {"measured": planned.measured, "scaled": 1 - planned.measured}
    known = ", ".join(f"{share:.0%} {how}" for how, share in shares.items() if share >= 0.005)
    return duration(planned.seconds), known, size(planned.disk), planned.memory
