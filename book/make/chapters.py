"""Chapters of their own: how good the estimator is, Table VIII continued, the paper's scale.

Functions take the frame of `book.make.frame`; tables and sentences are markdown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from book.make.frame import NOTHING, estimate, sweep_rows
from book.make.published import sweep_table
from kpnb.experiments import accuracy, speed
from kpnb.figures.style import TITLE_SIZE, WIDTH, label_axes, legend_below, new_figure
from kpnb.metrics.formatting import PLAIN, count, number, signed, table
from kpnb.paper import METRIC_RULES, origins, paper_preset, paper_settings
from kpnb.run.sweeps import Sweep, read_sweeps

FIGURES = {
    "estimator_figure": """```{figure} _generated/estimator_errors.png
:name: fig-estimator-errors

Error against cost, both on logarithmic scales. Each line is one checkpoint: `path` with 8, 24, 72
and 216 noisy passes an evaluation, the published procedure with 6, 24 and 96 draws a step.
```""",
    "outputs_figure": """```{figure} _generated/outputs.png
---
name: fig-outputs
alt: student minus baseline against the number of output dimensions
---
Student minus baseline at FC3 against the number of output dimensions. Mean and 95% interval; the images are the same throughout.
```""",  # noqa: E501
}


def chapter_tables(rows: pd.DataFrame) -> dict[str, str]:
    """{name: markdown} of what the chapters include."""
    cases, viii = by_case(rows), viii_rows(rows)
    return {
        "estimator_accuracy": accuracy_of_cases(cases),
        "estimator_budgets": budget_table(cases),
        "estimator_figure": NOTHING if cases.empty else FIGURES["estimator_figure"],
        "estimator_speed": speed_table(rows),
        "estimator_summary": summary(cases),
        "outputs_reading": outputs_reading(viii),
        "outputs_figure": "" if viii.empty else FIGURES["outputs_figure"],
        "paper_settings_images": settings_table("images"),
        "paper_settings_sentences": settings_table("texts", "sentiment"),
        "paper_settings_questions": settings_table("texts", "questions"),
        "paper_settings_clouds": settings_table("clouds"),
        "paper_rates": learning_rates_table(),
        "paper_sweeps": paper_sweeps_table(rows),
        "paper_results": paper_results(rows),
    }


def chapter_figures(rows: pd.DataFrame) -> dict[str, Figure | None]:
    """{name: figure} of the chapters; None where nothing has run."""
    return {
        "estimator_errors": errors_figure(by_case(rows)),
        "outputs": outputs_figure(viii_rows(rows)),
    }


# How good the estimator is: from the results of `accuracy` and `speed`

BUDGETS = [f"path, {probes} probes" for probes in accuracy.PROBE_BUDGETS]
PUBLISHED = [f"published, {draws} draws" for draws in accuracy.PUBLISHED_DRAWS]
DEFAULT = "path, default"
# One mark a checkpoint, one colour a method; colours of Okabe and Ito.
COLORS = {"path": "#D55E00", "published": "#0072B2"}
MARKS = ("o", "s", "^", "D", "v", "P", "X")


def by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per case, "network layer, checkpoint", a column per (method, quantity); and ("", "n").

    By network and layer, then the untrained one, then by epoch.
    """
    found = rows[(rows["kind"] == "number") & (rows["notebook"] == accuracy.ACCURACY_NAME)]
    parts = found["name"].str.split(" | ", regex=False, expand=True).reindex(columns=range(3))
    named = dict(zip(("case", "method", "quantity"), (parts[i] for i in range(3)), strict=True))
    wide = found.assign(**named).pivot_table(
        index="case", columns=["method", "quantity"], values="value", aggfunc="last"
    )
    error = found[found["name"].str.endswith(f" | {DEFAULT} | error")]
    if len(wide):
        wide["", "n"] = error.assign(**named).groupby("case")["n_samples"].last()
    return wide.loc[sorted(wide.index, key=_order)]


def _order(case: str) -> tuple[str, int]:
    network, _, checkpoint = case.partition(", ")
    return network, int(checkpoint.rpartition(" ")[2]) if "epoch" in checkpoint else -1


def equal_error(cell: pd.Series) -> tuple[float, str]:
    """Time of a published run over that of `path` at the error of that run, and how it was read.

    Between two budgets by interpolation on logarithmic scales; "at least" where the smallest
    budget is closer than the published run already, "at most" where the largest is not as close.
    """
    wanted, slow = (cell[PUBLISHED[-1], quantity] for quantity in ("error", "seconds"))
    curve = [(cell[budget, "error"], cell[budget, "seconds"]) for budget in BUDGETS]
    if curve[0][0] <= wanted:
        return slow / curve[0][1], "at least"
    for (worse, cheap), (better, dear) in zip(curve, curve[1:], strict=False):
        if better <= wanted:
            share = np.log(worse / wanted) / np.log(worse / better)
            return float(slow / np.exp((1 - share) * np.log(cheap) + share * np.log(dear))), ""
    return slow / curve[-1][1], "at most"


def accuracy_of_cases(cases: pd.DataFrame) -> str:
    """A row a case: errors of the truth, of a published run and of `path` at its default."""
    header = ["network, layer, checkpoint", "truth's own error", "published: error", "its spread"]
    header += ["path: error", "its standard error", "Spearman", "off in $N_{fg}$ of"]
    header += ["within the spread", "published / path, time at equal error"]
    rows = [_case_line(case, cell) for case, cell in cases.iterrows()]
    return table(header, rows) if rows else NOTHING


def _case_line(case: str, cell: pd.Series) -> list[str]:
    path, (ratio, how) = cell[DEFAULT], equal_error(cell)
    return [
        f"{case} (n = {cell['', 'n']:.0f})",
        f"{cell['truth', 'own error']:.4f}",
        f"{cell[PUBLISHED[-1], 'error']:.4f}",
        f"{cell['published', 'spread']:.4f}",
        f"{path['error']:.4f}",
        f"{path['standard error']:.4f}",
        f"{path['Spearman']:.3f}",
        f"{path['N_fg error']:.1f} of {path['N_fg of the truth']:.1f}",
        "yes" if _within(cell) else "no",
        f"{how} {ratio:.0f}".strip(),
    ]


def _within(cell: pd.Series) -> bool:
    """`path` is no further from the truth than two published runs are from each other."""
    return cell[DEFAULT, "error"] <= cell["published", "spread"]


def budget_table(cases: pd.DataFrame) -> str:
    """Error of H in nats and time per map, by method and budget: the range over all cases."""
    quantities = ("error", "Spearman", "N_fg error", "N_bg error", "seconds")
    rows = [
        [method, *(_range(cases[method, quantity]) for quantity in quantities)]
        for method in ([] if cases.empty else [*PUBLISHED, *BUDGETS, DEFAULT])
    ]
    header = ["method", "error [nats]", "Spearman", "off in $N_{fg}$", "off in $N_{bg}$"]
    return table([*header, "processor time a map [s]"], rows) if rows else NOTHING


def _range(values: pd.Series) -> str:
    low, middle, high = (number(float(of(values))) for of in (np.min, np.median, np.max))
    return f"{middle} ({low} to {high})"


def summary(cases: pd.DataFrame) -> str:
    """In how many cases `path` at its default is within the spread of two published runs."""
    if cases.empty:
        return NOTHING
    outside = [case for case, cell in cases.iterrows() if not _within(cell)]
    ratios = [equal_error(cell)[0] for _, cell in cases.iterrows()]
    told = f"{len(cases) - len(outside)} of {len(cases)} cases"
    beyond = f" Beyond it: {'; '.join(outside)}." if outside else ""
    return (
        f"At its default, `path` is no further from the truth than two published runs are from "
        f"each other in {told}.{beyond} At equal error a published run takes at most "
        f"{max(ratios):.0f} times as long, in the median over the cases at most "
        f"{np.median(ratios):.0f}, and at most {min(ratios):.0f} in the worst."
    )


def speed_table(rows: pd.DataFrame) -> str:
    """Every number of the benchmark."""
    found = rows[(rows["kind"] == "number") & (rows["notebook"] == speed.ESTIMATOR_SPEED)]
    found = found[found["nth"] == found["nth"].min()].to_dict("records")
    lines = [[n["name"], f"{number(n['value'])} {n['unit']}".strip(), n["what"]] for n in found]
    return table(["", "measured", "what"], lines) if lines else NOTHING


def errors_figure(cases: pd.DataFrame) -> Figure | None:
    """Error against cost, a panel for each network and layer, a mark for each checkpoint."""
    if cases.empty:
        return None
    split = [case.partition(", ") for case in cases.index]
    panels, checkpoints = (list(dict.fromkeys(one[i] for one in split)) for i in (0, 2))
    columns = 2
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(rows, columns, (WIDTH, 3.0 * rows))
    for (panel, _, checkpoint), (_, cell) in zip(split, cases.iterrows(), strict=True):
        # A checkpoint has the same mark in every panel, as they share a legend.
        mark = MARKS[checkpoints.index(checkpoint) % len(MARKS)]
        _curves(axes.flat[panels.index(panel)], cell, mark, checkpoint)
    for ax, title in zip(axes.flat, panels, strict=False):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(title, fontsize=TITLE_SIZE)
        ax.grid(alpha=0.3, which="both")
        label_axes(ax, "processor time per map [s]", "mean |H − truth| [nats]")
    legend_below(figure, axes.flat, columns=2)
    return figure


def _curves(ax: Axes, cell: pd.Series, mark: str, checkpoint: str) -> None:
    for kind, methods, line in (("path", BUDGETS, "-"), ("published", PUBLISHED, "--")):
        seconds, errors = ([cell[m, what] for m in methods] for what in ("seconds", "error"))
        style = {"linestyle": line, "color": COLORS[kind], "marker": mark, "markersize": 5}
        ax.plot(seconds, errors, **style, linewidth=1.2, label=f"{kind}, {checkpoint}")


# Table VIII continued: student minus baseline against the number of output dimensions. The paper
# expects a student of a many-dimensional output to have more foreground points than its baseline
# (the first utility: it mimics the teacher's points), and one of a ten-dimensional output fewer
# points of both kinds (the second: labels that are easier to learn).

#: What Table VIII prints.
COUNTS = ("n_fg", "n_bg")
#: By place of the network in the results; told apart by marker too. Okabe and Ito's colors.
NETWORK_MARKS = (("#000000", "o"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P"))


def viii_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the sweep for Table VIII."""
    return sweep_rows(rows, list(read_sweeps()["table_viii"].runs))


def gaps(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{network: student minus baseline of the runs that set the outputs}: the comparisons by
    number of dimensions and metric."""
    found = rows[(rows["kind"] == "comparison") & rows["headline"] & rows["outputs"].notna()]
    found = found.sort_values(["student", "outputs"], kind="stable")
    return {name: part.set_index(["metric", "outputs"]) for name, part in found.groupby("student")}


def outputs_figure(rows: pd.DataFrame) -> Figure | None:
    """Difference in N_fg and N_bg with 95% intervals against the dimensions; None without runs."""
    found = gaps(rows)
    if not found:
        return None
    figure, axes = new_figure(1, len(COUNTS), (7.5, 3.2))
    numbers = sorted({n for part in found.values() for n in part.loc[COUNTS[0]].index})
    for ax, metric in zip(axes[0], COUNTS, strict=True):
        for place, (network, part) in enumerate(found.items()):
            _draw(ax, part.loc[metric], place, network)
        ax.axhline(0, color="black", linewidth=1)
        ax.set_xscale("log")
        ax.set_xticks(numbers, [str(n) for n in numbers])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y", alpha=0.3)
        label_axes(ax, "dimensions of the output [1]", f"S − B: {METRIC_RULES[metric].label}")
    legend_below(figure, [axes[0, 0]], columns=4)
    return figure


def _draw(ax: Axes, gap: pd.DataFrame, place: int, network: str) -> None:
    """Networks stand beside each other at one number of dimensions."""
    color, marker = NETWORK_MARKS[place % len(NETWORK_MARKS)]
    at = [number * 1.08**place for number in gap.index]
    ax.vlines(at, gap["low"], gap["high"], color=color, linewidth=1.6)
    told = f"{network}, {_images(gap)}, {_seeds(gap['n_seeds'].iloc[0])}"
    ax.plot(at, gap["value"], marker, color=color, markersize=6, label=told)


def _seeds(n: int) -> str:
    return count(n, "seed")


def _images(gap: pd.DataFrame) -> str:
    """Behind a ReLU, an output of few dimensions leaves some images without a map."""
    counts = sorted(set(gap["n_samples"]))
    least = f"{counts[0]} to " if len(counts) > 1 else ""
    return least + count(counts[-1], "image")


def outputs_reading(rows: pd.DataFrame) -> str:
    """One line per number of dimensions, and where one utility turns into the other, if it does."""
    learned = rows[(rows["role"] == "S") & (rows["metric"] == "accuracy_train")]
    told = [
        _network_reading(network, part, dict(_learned(learned, network)))
        for network, part in gaps(rows).items()
    ]
    return "\n\n".join(told) or NOTHING


def _learned(rows: pd.DataFrame, network: str) -> zip:
    """By dimensions, the share of its training images that the student classifies right."""
    own = rows[(rows["student"] == network) & rows["outputs"].notna()]
    return zip(own["outputs"], own["value"], strict=True)


def _network_reading(network: str, part: pd.DataFrame, shares: dict[int, float]) -> str:
    more = part.loc["n_fg"]
    lines = []
    for outputs in more.index:
        items = {metric: part.loc[metric].loc[outputs] for metric in COUNTS}
        values = [f"{PLAIN[metric]} {estimate(items[metric], signed)}" for metric in COUNTS]
        line = f"- {outputs} dimensions: {utility(items)} ({', '.join(values)})."
        if outputs in shares:
            right = f"{shares[outputs]:.1%} of its training images correctly."
            line += f" The student classifies {right}"
        lines.append(line)
    over = f"{network} ({more['scale'].iloc[0]}), {_images(more)}"
    head = f"{over}, {_seeds(more['n_seeds'].iloc[0])}:"
    return "\n".join([head, "", *lines, "", _turn(part, shares)])


def utility(items: dict[str, pd.Series]) -> str:
    """Which of the two utilities the intervals of N_fg and N_bg speak for, in words."""
    lower = {metric: items[metric]["high"] < 0 for metric in COUNTS}
    if items["n_fg"]["low"] > 0:
        return "the first utility: more foreground points"
    if all(lower.values()):
        return "the second utility: fewer points of both kinds"
    if any(lower.values()):
        kind = "foreground" if lower["n_fg"] else "background"
        return f"half of the second utility: fewer {kind} points only"
    return "neither: no interval excludes zero on a side that either utility predicts"


def _turn(part: pd.DataFrame, shares: dict[int, float]) -> str:
    """The two numbers between which fewer foreground points turn into more, on how many seeds, and
    what the students with more of them have learned."""
    points, background = (part.loc[metric] for metric in COUNTS)
    fewer = points.index[points["high"] < 0].tolist()
    more = points.index[points["low"] > 0].tolist()
    if not fewer and not more:
        return "**No turn can be seen here: no interval of N_fg excludes zero.**"
    if not fewer or not more:
        seen = "fewer" if fewer else "more"
        return f"**No turn can be seen here: foreground points are only ever {seen}.**"
    if max(fewer) > min(more):
        return "**Foreground points are fewer at some numbers and more at others, in no order.**"
    both = [str(d) for d in fewer if background.loc[d, "high"] < 0]
    known = [f"{shares[d]:.1%} at {d}" for d in more if d in shares]
    told = f", where the student gets {' and '.join(known)} of its training images right"
    return (
        f"**Foreground points turn from fewer to more between {max(fewer)} and {min(more)} "
        f"dimensions here, with {_seeds(points['n_seeds'].max())}{told if known else ''}. The "
        "second utility in full, fewer points of both kinds, shows at "
        f"{', '.join(both) or 'no number of dimensions'}.**"
    )


# The paper's scale: settings with their sources, learning rates, sweeps

PAPER = "paper"
TELL = {
    "paper_ii": ["teacher"],
    "paper_iii": ["grid", "threshold"],
    "paper_iv": ["augment"],
    "paper_ix": ["teacher"],
}


def settings_table(subject: str, *parts: str) -> str:
    """Each parameter's value at the preset `paper`, and where it comes from."""
    values, told = paper_preset(subject, *parts), origins(subject, *parts)
    rows = [[f"`{name}`", _value(values[name]), source] for name, source in told.items()]
    return table(["parameter", "value", "source"], rows)


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "by network" if value is None else str(value)


def learning_rates_table() -> str:
    """First and last learning rate of each role, network and layer."""
    known, rows = paper_settings("images"), []
    for family, rates in known["classification"].items():
        for start, who in (
            ("pretrained", "teacher, pretrained"),
            ("scratch", "baseline, or teacher"),
        ):
            rows.append([who, family, "all", _rate(rates[start]), _source(rates)])
    for family, rates in known["distillation"].items():
        network = "all (error over the feature's variance)" if family == "scaled" else family
        for layer in rates:
            if layer not in ("source", "why"):
                rows.append(["student", network, layer, _rate(rates[layer]), _source(rates)])
    head = known["head"]
    for family in ("VGG", "AlexNet", "ResNet"):
        rates = _rate([head[family], head[family] / 10])
        rows.append(["above the layer", family, "-", rates, _source(head)])
    return table(["whose", "network", "layer", "learning rate, first to last", "source"], rows)


def _rate(rates: Sequence[float]) -> str:
    return f"{float(rates[0]):g} to {float(rates[1]):g}"


def _source(setting: dict) -> str:
    return setting["source"] + (f": {setting['why']}" if "why" in setting else "")


def paper_sweeps() -> dict[str, Sweep]:
    """The sweeps that the preset `paper` has."""
    return {name: sweep for name, sweep in read_sweeps().items() if PAPER in sweep.presets}


def _done(sweep: Sweep, rows: pd.DataFrame) -> list[str]:
    """Its runs that have results here."""
    there = set(rows.loc[rows["preset"] == PAPER, "run"])
    return [run for run in sweep.runs if run in there]


def paper_sweeps_table(rows: pd.DataFrame) -> str:
    """Each sweep with the number of its runs, and how many have results here."""
    lines = []
    for name, sweep in paper_sweeps().items():
        data = ", ".join(sorted({str(sweep.resolved(run, PAPER).data) for run in sweep.runs}))
        counts = [len(sweep.runs), len(_done(sweep, rows))]
        lines.append([f"`{name}`", f"Table {sweep.table}", data, *counts])
    return table(["sweep", "beside", "data", "runs", "with results here"], lines)


def paper_results(rows: pd.DataFrame) -> str:
    """The published rows beside ours, for the sweeps of which any run has results."""
    parts = []
    for name, sweep in paper_sweeps().items():
        done = _done(sweep, rows)
        if done:
            title = f"**Table {sweep.table}**, {count(len(done), 'run')} of {len(sweep.runs)}"
            roles, every = "TSB" if sweep.table == "IV" else "SB", sweep.table == "III"
            found = sweep_table(sweep, rows, TELL.get(name, []), roles, every)
            parts.append(f"{title}\n\n{found}")
    return "\n\n".join(parts) or "No run at the preset `paper` has results in this build."
