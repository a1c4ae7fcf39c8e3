"""What the pages of the sweeps' tables include."""

from __future__ import annotations

from collections.abc import Sequence

from book.make.output_dimensions import outputs_reading
from book.make.published_cells import sweep_table
from kpnb.metrics.results import Results
from kpnb.run.sweeps import Sweep, read_sweeps

#: How each table is shown: what sets its runs apart, whose numbers, at which thresholds.
SHOWN: dict[str, dict] = {
    "table_ii": {"tell": ["teacher"]},
    "table_iii": {"tell": ["grid", "threshold"], "every_threshold": True},
    "table_iv": {"tell": ["augment"], "roles": "TSB"},
    "table_viii": {"tell": ["outputs"]},
    "table_ix": {"tell": ["teacher"]},
}
FIGURE = """```{figure} _generated/outputs.png
---
name: fig-outputs
alt: student minus baseline against the number of output dimensions
---
Student minus baseline at FC3 against the number of output dimensions. Mean and 95% interval; the
images are the same throughout.
```"""  # noqa: E501


def cell_tables(cells: Sequence[Results]) -> dict[str, str]:
    """{name: markdown} of the tables of all sweeps but Table V's, and of Table VIII's figure."""
    sweeps: dict[str, Sweep] = read_sweeps()
    tables = {name: sweep_table(sweeps[name], cells, **how) for name, how in SHOWN.items()}
    in_viii = [run for run in cells if run.run in sweeps["table_viii"].runs]
    figure = FIGURE if in_viii else ""
    return tables | {"outputs_reading": outputs_reading(in_viii), "outputs_figure": figure}


def table_v_cells(cells: Sequence[Results]) -> list[Results]:
    """The runs that belong to Table V."""
    return [run for run in cells if run.run in read_sweeps()["table_v"].runs]
