"""Tables and the figure of the estimator's chapter, from the results of accuracy and bench."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kpnb.experiments import accuracy as estimator_accuracy
from kpnb.experiments.speed import ESTIMATOR_SPEED
from kpnb.figures.style import TITLE_SIZE, WIDTH, label_axes, legend_below, new_figure
from kpnb.metrics.formatting import number, table
from kpnb.metrics.results import Number, Results

NOTHING = "Not run here yet."
BUDGETS = [f"path, {probes} probes" for probes in estimator_accuracy.BUDGETS]
PUBLISHED = [f"published, {draws} draws" for draws in estimator_accuracy.PUBLISHED_DRAWS]
DEFAULT = "path, default"
# One mark a network, one colour a method; colours of Okabe and Ito.
COLORS = {"path": "#D55E00", "published": "#0072B2"}
MARKS = ("o", "s", "^", "D", "v", "P", "X")

FIGURE = """```{figure} _generated/estimator_errors.png
:name: fig-estimator-errors

Error against cost, both on logarithmic scales. Each line is one checkpoint: `path` with 8, 24, 72
and 216 noisy passes an evaluation, the published procedure with 6, 24 and 96 draws a step.
```"""

Cell = Mapping[str, Mapping[str, Number]]


def by_case(results: list[Results]) -> dict[str, Cell]:
    """{case: {method: {quantity: Number}}} of the accuracy run among the results."""
    found: dict[str, dict[str, dict[str, Number]]] = {}
    for run in results:
        if run.notebook == estimator_accuracy.NAME:
            for name, value in run.numbers.items():
                case, method, quantity = name.split(" | ")
                found.setdefault(case, {}).setdefault(method, {})[quantity] = value
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(case: str) -> tuple[str, int]:
    """By network and layer, then the untrained one, then by epoch."""
    network, _, checkpoint = case.partition(", ")
    return network, int(checkpoint.rpartition(" ")[2]) if "epoch" in checkpoint else -1


def equal_error(cell: Cell) -> tuple[float, str]:
    """Time of a published run over that of `path` at the error of that run, and how it was read.

    Between two budgets by interpolation on logarithmic scales; "at least" where the smallest
    budget is closer than the published run already, "at most" where the largest is not as close.
    """
    published = cell[PUBLISHED[-1]]
    wanted, slow = published["error"].value, published["seconds"].value
    curve = [(cell[b]["error"].value, cell[b]["seconds"].value) for b in BUDGETS]
    if curve[0][0] <= wanted:
        return slow / curve[0][1], "at least"
    for (worse, cheap), (better, dear) in zip(curve, curve[1:], strict=False):
        if better <= wanted:
            share = np.log(worse / wanted) / np.log(worse / better)
            return float(slow / np.exp((1 - share) * np.log(cheap) + share * np.log(dear))), ""
    return slow / curve[-1][1], "at most"


def accuracy_table(results: list[Results]) -> str:
    """A row a case: errors of the truth, of a published run and of `path` at its default."""
    header = ["network, layer, checkpoint", "truth's own error", "published: error", "its spread"]
    header += ["path: error", "its standard error", "Spearman", "off in $N_{fg}$ of"]
    header += ["within the spread", "published / path, time at equal error"]
    rows = [_accuracy_row(case, cell) for case, cell in by_case(results).items()]
    return table(header, rows) if rows else NOTHING


def _accuracy_row(case: str, cell: Cell) -> list[str]:
    path, published = cell[DEFAULT], cell[PUBLISHED[-1]]
    spread = cell["published"]["spread"].value
    error, ratio = path["error"].value, equal_error(cell)
    n = path["error"].n
    return [
        f"{case} (n = {n})",
        _nats(cell["truth"]["own error"]),
        _nats(published["error"]),
        f"{spread:.4f}",
        _nats(path["error"]),
        f"{path['standard error'].value:.4f}",
        f"{path['Spearman'].value:.3f}",
        f"{path['N_fg error'].value:.1f} of {path['N_fg of the truth'].value:.1f}",
        "yes" if error <= spread else "no",
        f"{ratio[1]} {ratio[0]:.0f}".strip(),
    ]


def _nats(value: Number) -> str:
    return f"{value.value:.4f}"


def budget_table(results: list[Results]) -> str:
    """Error of H in nats and time per map, by method and budget: the range over all cases."""
    cells = by_case(results)
    rows = []
    for method in [*PUBLISHED, *BUDGETS, DEFAULT] if cells else []:
        found = {
            name: [cell[method][name].value for cell in cells.values()]
            for name in ("error", "Spearman", "N_fg error", "N_bg error", "seconds")
        }
        rows.append([method, *(_range(values) for values in found.values())])
    header = ["method", "error [nats]", "Spearman", "off in $N_{fg}$", "off in $N_{bg}$"]
    return table([*header, "processor time a map [s]"], rows) if rows else NOTHING


def _range(values: list[float]) -> str:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{number(float(middle))} ({number(float(low))} to {number(float(high))})"


def summary(results: list[Results]) -> str:
    """In how many cases `path` at its default is within the spread of two published runs."""
    cells = by_case(results)
    if not cells:
        return NOTHING
    rows = {case: _accuracy_row(case, cell) for case, cell in cells.items()}
    outside = [case for case, row in rows.items() if row[-2] == "no"]
    ratios = [equal_error(cell)[0] for cell in cells.values()]
    told = f"{len(cells) - len(outside)} of {len(cells)} cases"
    beyond = f" Beyond it: {'; '.join(outside)}." if outside else ""
    return (
        f"At its default, `path` is no further from the truth than two published runs are from "
        f"each other in {told}.{beyond} At equal error a published run takes at most "
        f"{max(ratios):.0f} times as long, in the median over the cases at most "
        f"{np.median(ratios):.0f}, and at most {min(ratios):.0f} in the worst."
    )


def speed_table(results: list[Results]) -> str:
    """Every number of the benchmark."""
    found = [run for run in results if run.notebook == ESTIMATOR_SPEED]
    if not found:
        return NOTHING
    rows = [
        [name, f"{number(n.value)} {n.unit}".strip(), n.what]
        for name, n in found[0].numbers.items()
    ]
    return table(["", "measured", "what"], rows)


def figure_block(results: list[Results]) -> str:
    """The figure as a page includes it, or that there is none yet."""
    return FIGURE if by_case(results) else NOTHING


def errors_figure(results: list[Results]) -> Figure | None:
    """Error against cost, a panel for each network and layer, a mark for each checkpoint."""
    cells = by_case(results)
    if not cells:
        return None
    groups: dict[str, list[str]] = {}
    for case in cells:
        groups.setdefault(case.partition(",")[0], []).append(case)
    # A checkpoint has the same mark in every panel, as they share a legend.
    checkpoints = list(dict.fromkeys(case.partition(", ")[2] for case in cells))
    columns = 2
    rows = -(-len(groups) // columns)
    figure, axes = new_figure(rows, columns, (WIDTH, 3.0 * rows))
    for ax, (title, members) in zip(axes.flat, groups.items(), strict=False):
        for case in members:
            checkpoint = case.partition(", ")[2]
            mark = MARKS[checkpoints.index(checkpoint) % len(MARKS)]
            _curves(ax, cells[case], mark, checkpoint)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(title, fontsize=TITLE_SIZE)
        ax.grid(alpha=0.3, which="both")
        label_axes(ax, "processor time per map [s]", "mean |H − truth| [nats]")
    legend_below(figure, axes.flat, columns=2)
    return figure


def _curves(ax: Axes, cell: Cell, mark: str, checkpoint: str) -> None:
    for kind, methods in (("path", BUDGETS), ("published", PUBLISHED)):
        seconds = [cell[m]["seconds"].value for m in methods]
        errors = [cell[m]["error"].value for m in methods]
        style = "-" if kind == "path" else "--"
        ax.plot(
            seconds,
            errors,
            linestyle=style,
            color=COLORS[kind],
            marker=mark,
            markersize=5,
            linewidth=1.2,
            label=f"{kind}, {checkpoint}",
        )
