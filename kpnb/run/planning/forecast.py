"""What a run will take, in a few lines, before it starts: for the notebooks.

All else is imported by name: what a forecast is made from is no part of the code that a notebook's
results depend on, and a new file of measured rates must not make them stale.
"""

from __future__ import annotations

import importlib

from kpnb.errors import KpnbError
from kpnb.study.parameters import StudyParameters


def forecast(parameters: StudyParameters, device: str | None = None, notebook: str = "") -> str:
    """Markdown: time, memory and disk on this machine's device and on a T4-class GPU.

    device: "cpu" or "cuda"; None is what `parameters.device` asks for. notebook: its name, for what
    some do beyond the networks and maps of all. Counts everything, also what the store has already.
    Never raises for what it does not know: it says so instead. Takes below a second, no network.
    """
    try:
        return importlib.import_module("kpnb.run.planning.plan").forecast_lines(
            parameters, device, notebook
        )
    except KpnbError as unknown:
        return f"What this run takes is not known: {unknown}"
