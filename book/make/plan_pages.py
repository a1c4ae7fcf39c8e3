"""Tables of the page on planning: measured speeds, some plans, and how far a plan is from a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kpnb.errors import KpnbError
from kpnb.metrics.formatting import number, table
from kpnb.metrics.results import Results
from kpnb.run.machine import RATES, Machine, machines
from kpnb.run.plan import CHECK, duration, plan_name, size

NOTHING = "Not measured here yet."
# What the page plans: a notebook of each task, at the presets that cost something.
EXAMPLES = (
    ("image_h1", "study"),
    ("image_h1", "paper"),
    ("sentiment_h1", "paper"),
    ("pointcloud_h1", "paper"),
)
SPEEDS = dict(
    zip(RATES, ("training step", "forward pass", "map: a row", "map: the rest"), strict=True)
)


def plan_tables(results: list[Results]) -> dict[str, str]:
    """What book/plan.md includes: {name: markdown}."""
    known = machines()
    return {
        "plan_speeds": "\n\n".join(speeds_table(machine) for machine in known) or NOTHING,
        "plan_check": check_table(results),
        "plan_examples": examples_table(known),
    }


def speeds_table(machine: Machine) -> str:
    """Milliseconds by network."""
    rows = []
    for speed in machine.speeds:
        cells = [number(1000 * getattr(speed, rate)) for rate in RATES]
        rows.append([speed.network, speed.precision, *cells])
    clock = "processor time" if (machine.device, machine.threads) == ("cpu", 1) else "wall clock"
    header = ["network", "precision", *SPEEDS.values()]
    return f"**{machine}**; milliseconds a sample, {clock}:\n\n{table(header, rows)}"


def examples_table(known: Sequence[Machine]) -> str:
    """Plans of some notebooks on each machine that was measured."""
    rows = []
    for name, preset in EXAMPLES:
        for machine in known:
            rows.append([name, preset, machine.hardware, *_example(name, preset, machine)])
    header = ["notebook", "preset", "machine", "time", "how known", "disk", "memory"]
    return table(header, rows) if rows else NOTHING


def _example(name: str, preset: str, machine: Machine) -> Iterable[str]:
    try:
        planned = plan_name(name, preset, {}, machine)
    except KpnbError as unknown:
        return f"not known: {unknown}", "", "", ""
    shares = {"measured": planned.measured, "scaled": 1 - planned.measured}
    known = ", ".join(f"{share:.0%} {how}" for how, share in shares.items() if share >= 0.005)
    return duration(planned.seconds), known, size(planned.disk), planned.memory


def check_table(results: list[Results]) -> str:
    """Planned and real processor seconds and their ratio, from the results file."""
    run = next((run for run in results if run.notebook == CHECK), None)
    rows = []
    for name, ratio in run.numbers.items() if run else ():
        kind, _, what = name.partition(" | ")
        if what == "ratio":
            seconds = (run.numbers.get(f"{kind} | {part}") for part in ("planned", "real"))
            cells = ["" if part is None else f"{part.value:.1f}" for part in seconds]
            spread = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            rows.append([kind, *cells, spread, f"{ratio.n}"])
    header = ["what", "planned [s]", "real [s]", "planned / real", "n"]
    return table(header, rows) if rows else NOTHING
