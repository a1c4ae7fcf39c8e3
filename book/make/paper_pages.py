"""What the page on the paper's scale includes: settings with their sources, rates, sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from book.make.published_cells import sweep_table
from kpnb.metrics.formatting import count, table
from kpnb.metrics.results import Results
from kpnb.paper import origins, paper_preset, paper_settings
from kpnb.run.sweeps import Sweep, read_sweeps

PRESET = "paper"
TELL = {
    "paper_ii": ["teacher"],
    "paper_iii": ["grid", "threshold"],
    "paper_iv": ["augment"],
    "paper_ix": ["teacher"],
}


def paper_tables(cells: Sequence[Results]) -> dict[str, str]:
    """{name: markdown} of every table of the page; cells: results at the preset `paper`."""
    return {
        "paper_settings_images": settings_table("images", "preset"),
        "paper_settings_sentences": settings_table("texts", "preset", "sentiment"),
        "paper_settings_questions": settings_table("texts", "preset", "questions"),
        "paper_settings_clouds": settings_table("clouds", "preset"),
        "paper_rates": rates_table(),
        "paper_sweeps": sweeps_table(cells),
        "paper_results": results_tables(cells),
    }


def settings_table(subject: str, *parts: str) -> str:
    """Each parameter's value at the preset `paper`, and where it comes from."""
    values, told = paper_preset(subject, *parts[1:]), origins(subject, *parts[1:])
    rows = [[f"`{name}`", _value(values[name]), source] for name, source in told.items()]
    return table(["parameter", "value", "source"], rows)


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "by network" if value is None else str(value)


def rates_table() -> str:
    """First and last learning rate of each role, network and layer."""
    known, rows = paper_settings("images"), []
    for family, rates in known["classification"].items():
        for start in ("pretrained", "scratch"):
            who = "teacher, pretrained" if start == "pretrained" else "baseline, or teacher"
            rows.append([who, family, "all", _rate(rates[start]), _source(rates)])
    for family, rates in known["distillation"].items():
        layers = [name for name in rates if name not in ("source", "why")]
        network = "all (error over the feature's variance)" if family == "scaled" else family
        for layer in layers:
            rows.append(["student", network, layer, _rate(rates[layer]), _source(rates)])
    for family in ("VGG", "AlexNet", "ResNet"):
        rate = known["head"][family]
        rows.append(
            ["above the layer", family, "-", _rate([rate, rate / 10]), _source(known["head"])]
        )
    return table(["whose", "network", "layer", "learning rate, first to last", "source"], rows)


def _rate(rates: Sequence[float]) -> str:
    return f"{float(rates[0]):g} to {float(rates[1]):g}"


def _source(setting: dict) -> str:
    return setting["source"] + (f": {setting['why']}" if "why" in setting else "")


def paper_sweeps() -> dict[str, Sweep]:
    """The sweeps that the preset `paper` has."""
    return {name: sweep for name, sweep in read_sweeps().items() if PRESET in sweep.presets}


def sweeps_table(cells: Sequence[Results]) -> str:
    """Each sweep with the number of its runs, and how many have results here."""
    there = {run.run for run in cells}
    rows = []
    for name, sweep in paper_sweeps().items():
        data = sorted({str(sweep.resolved(run, PRESET).data) for run in sweep.runs})
        done = sum(run in there for run in sweep.runs)
        rows.append([f"`{name}`", f"Table {sweep.table}", ", ".join(data), len(sweep.runs), done])
    return table(["sweep", "beside", "data", "runs", "with results here"], rows)


def results_tables(cells: Sequence[Results]) -> str:
    """The published rows beside ours, for the sweeps of which any run has results."""
    there = {run.run for run in cells}
    parts = []
    for name, sweep in paper_sweeps().items():
        done = [run for run in sweep.runs if run in there]
        if not done:
            continue
        title = f"**Table {sweep.table}**, {count(len(done), 'run')} of {len(sweep.runs)}"
        roles = "TSB" if sweep.table == "IV" else "SB"
        every = sweep.table == "III"
        found = sweep_table(sweep, cells, TELL.get(name, []), roles, every)
        parts.append(f"{title}\n\n{found}")
    return "\n\n".join(parts) or "No run at the preset `paper` has results in this build."
