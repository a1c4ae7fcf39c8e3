"""Chapters of their own: how good the estimator is, the paper's scale.

Functions take the frame of `book.make.frame`; tables and sentences are markdown.
"""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from book.make.frame import NOTHING, records
from book.make.published import sweep_places, tables
from book.make.texts import block, sheet
from kpnb.estimator.entropy import LADDER
from kpnb.estimator.features import layer_name
from kpnb.experiments import accuracy, speed
from kpnb.figures.style import (
    TITLE_SIZE,
    WIDTH,
    alternative_text,
    label_axes,
    legend_below,
    new_figure,
)
from kpnb.metrics.formatting import number
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.paper import origins, paper_preset, paper_settings
from kpnb.run.sweeps import Sweep, read_sweeps
from kpnb.study.parameters import CloudParameters, resolve
from kpnb.training.costs import WHOLE, count_anatomy

#: Whose settings of the paper are listed, by the end of the table's name.
SETTINGS = {"images": ["images"], "clouds": ["clouds"]}
SETTINGS |= {"sentences": ["texts", "sentiment"], "questions": ["texts", "questions"]}


def chapter_tables(rows: pd.DataFrame) -> dict[str, str]:
    """{name: markdown} of what the chapters include."""
    cases = by_case(rows)
    return {
        "estimator_accuracy": accuracy_of_cases(cases),
        "estimator_budgets": budget_table(cases),
        "estimator_figure": errors_block(cases),
        "estimator_minimum": minimum_of_cases(by_case(rows, accuracy.MINIMUM_NAME)),
        speed.ESTIMATOR_SPEED: sheet("estimator_speed", numbers_of(rows, speed.ESTIMATOR_SPEED)),
        "reliability": trials_table(rows),
        "network_speed": network_speed_table(rows),
        "estimator_summary": summary(cases),
        "paper_rates": learning_rates_table(),
        "paper_sweeps": paper_sweeps_table(rows),
        "paper_results": paper_results(rows),
        **{f"paper_settings_{name}": settings_table(*of) for name, of in SETTINGS.items()},
    }


# How good the estimator is: from the results of `accuracy` and `speed`

BUDGETS = [f"path, {probes} probes" for probes in accuracy.PROBE_BUDGETS]
PUBLISHED = [f"published, {draws} draws" for draws in accuracy.PUBLISHED_DRAWS]
DEFAULT = "path, default"
#: By method: its runs, colour (of Okabe and Ito) and line. One mark a checkpoint.
CURVES = {"path": (BUDGETS, "#D55E00", "-"), "published": (PUBLISHED, "#0072B2", "--")}
MARKS = ("o", "s", "^", "D", "v", "P", "X")
#: How the name of a number is read.
_NAME = r"^(?P<case>.+?) \| (?P<method>.+?) \| (?P<quantity>.+)$"


def by_case(rows: pd.DataFrame, name: str = accuracy.ACCURACY_NAME) -> pd.DataFrame:
    """A row per case, "network layer, checkpoint", a column per (method, quantity); and ("", "n").

    By network and layer, then the untrained one, then by epoch.
    """
    found = rows[(rows["kind"] == "number") & (rows["notebook"] == name)]
    found = found[["value", "n_samples"]].join(found["name"].str.extract(_NAME))
    wide = found.pivot_table("value", "case", ["method", "quantity"], aggfunc="last")
    if len(wide):
        error = found[found["quantity"] == "error"]
        wide["", "n"] = error.groupby("case")["n_samples"].last()
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
    lines = []
    for case, cell in cases.iterrows():
        ratio, how = equal_error(cell)
        known = {"published": cell[PUBLISHED[-1]], "path": cell[DEFAULT], "within": _within(cell)}
        lines.append({"case": case, "cell": cell, "ratio": ratio, "how": how} | known)
    return sheet("cases", lines)


def minimum_of_cases(cases: pd.DataFrame) -> str:
    """A row a case: errors of the closed form of the minimum against the long descents."""
    lines = []
    for case, cell in cases.iterrows():
        made = [cell[f"optimum, {probes} probes"] for probes in accuracy.MINIMUM_PROBES]
        lines.append({"case": case, "cell": cell, "few": made[0], "many": made[1]})
    return sheet("minimum_cases", lines)


def _within(cell: pd.Series) -> bool:
    """`path` is no further from the truth than two published runs are from each other."""
    return cell[DEFAULT, "error"] <= cell["published", "spread"]


def budget_table(cases: pd.DataFrame) -> str:
    """Error of H in nats and time per map, by method and budget: the range over all cases."""
    ranges = cases.apply(_range).unstack() if len(cases) else pd.DataFrame()
    methods = [*PUBLISHED, *BUDGETS, DEFAULT] if len(cases) else []
    return sheet("budgets", [{"method": method, **ranges.loc[method]} for method in methods])


def _range(values: pd.Series) -> str:
    low, middle, high = (number(float(of(values))) for of in (np.min, np.median, np.max))
    return f"{middle} ({low} to {high})"


def summary(cases: pd.DataFrame) -> str:
    """In how many cases `path` at its default is within the spread of two published runs."""
    if cases.empty:
        return NOTHING
    outside = [case for case, cell in cases.iterrows() if not _within(cell)]
    ratios = [equal_error(cell)[0] for _, cell in cases.iterrows()]
    ends = {"most": max(ratios), "median": np.median(ratios), "least": min(ratios)}
    return block("summary", total=len(cases), outside=outside, **ends)


def numbers_of(rows: pd.DataFrame, name: str) -> list[dict]:
    """Every number of a program's first results."""
    found = rows[(rows["kind"] == "number") & (rows["notebook"] == name)]
    return records(found[found["nth"] == found["nth"].min()])


def trials_table(rows: pd.DataFrame) -> str:
    """A row for each thing that was tried, of numbers named "what: outcome", each outcome with its
    count; none that did not happen, but for "wrong"."""
    tried: dict[str, dict] = {}
    for one in numbers_of(rows, "reliability"):
        what, _, outcome = one["name"].rpartition(": ")
        line = tried.setdefault(what, {"tried": what, "about": one, "ended": {}, "wrong": None})
        if outcome == "wrong":
            line["wrong"] = one["value"]
        elif one["value"]:
            line["ended"][outcome] = one["value"]
    return sheet("reliability", tried.values())


ORDER = [*speed.NETWORKS, *LADDER]


def network_speed_table(rows: pd.DataFrame) -> str:
    """A row a network, quality and machine; then the numbers that belong to no network."""
    found = rows[rows["notebook"].str.startswith(speed.NETWORK_SPEED) & (rows["kind"] == "number")]
    split = found["name"].str.extract(_NAME)
    lines = []
    for at, part in (
        found.assign(**split)
        .dropna(subset="case")
        .groupby(["notebook", "case", "method"], sort=False)
    ):
        quantities = dict(zip(part["quantity"], records(part), strict=True))
        lines.append(quantities["forward passes"] | {"of": quantities, "at": at})
    lines.sort(key=lambda line: [ORDER.index(part) for part in line["at"][1:] if part in ORDER])
    rest = records(found[split["case"].isna()])
    return "\n\n".join(
        [sheet("network_speed", lines), sheet(speed.ESTIMATOR_SPEED, rest)] if lines else [NOTHING]
    )


_CLASSES = 10  # of the embedded shapes


@cache  # PointNet++ and PointConv take some seconds
def cloud_sizes() -> str:
    """Parameters and operations of the point-cloud networks, counted now, at two presets' sizes."""
    lines = []
    for preset, name in product(("study", PAPER), BUILDERS):
        p = resolve(CloudParameters, {"preset": preset, "network": name})
        net, points = point_network(name, _CLASSES, p.scale).to("meta"), p.points + p.background
        found = count_anatomy(net, (points, 3), [(layer_name(net, "FC1"), "FC1")])
        lines.append({"name": name, "p": p, "found": found, "whole": found.operations[WHOLE]})
    return sheet("cloud_sizes", lines)


def errors_figure(cases: pd.DataFrame) -> Figure | None:
    """Error against cost, a panel for each network and layer, a mark for each checkpoint."""
    if cases.empty:
        return None
    split = [case.partition(", ") for case in cases.index]
    panels, checkpoints = (list(dict.fromkeys(one[i] for one in split)) for i in (0, 2))
    rows = -(-len(panels) // 2)
    figure, axes = new_figure(rows, 2, (WIDTH, 3.0 * rows))
    for (panel, _, checkpoint), (_, cell) in zip(split, cases.iterrows(), strict=True):
        # A checkpoint has the same mark in every panel, as they share a legend.
        mark = MARKS[checkpoints.index(checkpoint) % len(MARKS)]
        for kind, (methods, color, line) in CURVES.items():
            seconds, errors = ([cell[m, what] for m in methods] for what in ("seconds", "error"))
            style = {"linestyle": line, "color": color, "marker": mark, "markersize": 5}
            style |= {"linewidth": 1.2, "label": f"{kind}, {checkpoint}"}
            axes.flat[panels.index(panel)].plot(seconds, errors, **style)
    for ax, title in zip(axes.flat, panels, strict=False):
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):  # numbers at 1, 2 and 5, which do not overlap
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        ax.set_title(title, fontsize=TITLE_SIZE)
        ax.grid(alpha=0.3, which="both")
        label_axes(ax, "processor time per map [s]", "mean |H − truth| [nats]")
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    figure.get_layout_engine().set(h_pad=0.12)
    legend_below(figure, axes.flat, columns=2)
    return figure


def errors_block(cases: pd.DataFrame) -> str:
    """The figure's place in the page, with its words for who cannot see it."""
    figure = errors_figure(cases)
    return block("estimator_figure", alt=alternative_text(figure)) if figure else NOTHING


# The paper's scale: settings with their sources, learning rates, sweeps

PAPER = "paper"


def settings_table(subject: str, *parts: str) -> str:
    """Each parameter's value at the preset `paper`, and where it comes from."""
    values, sources = paper_preset(subject, *parts), origins(subject, *parts)
    rows = [{"name": name, "value": values[name], "source": of} for name, of in sources.items()]
    return sheet("settings", rows)


def learning_rates_table() -> str:
    """First and last learning rate of each role, network and layer."""
    known, rows = paper_settings("images"), []
    for family, found in known["classification"].items():
        rows.append(("teacher, pretrained", family, "all", found["pretrained"], found))
        rows.append(("baseline, or teacher", family, "all", found["scratch"], found))
    for family, found in known["distillation"].items():
        network = "all (error over the feature's variance)" if family == "scaled" else family
        layers = [name for name in found if name not in ("source", "why")]
        rows += [("student", network, layer, found[layer], found) for layer in layers]
    head = known["head"]
    for family in ("VGG", "AlexNet", "ResNet"):
        rows.append(("above the layer", family, "-", [head[family], head[family] / 10], head))
    names = ("whose", "network", "layer", "rates", "setting")
    return sheet("learning_rates", [dict(zip(names, row, strict=True)) for row in rows])


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
        data = sorted({str(sweep.resolved(run, PAPER).data) for run in sweep.runs})
        lines.append({"name": name, "sweep": sweep, "data": data, "done": _done(sweep, rows)})
    return sheet("paper_sweeps", lines)


def paper_results(rows: pd.DataFrame) -> str:
    """The published rows beside ours, for the sweeps of which any run has results."""
    found = [(sweep, _done(sweep, rows)) for sweep in paper_sweeps().values()]
    parts = [(sweep, len(done), tables(sweep.table, sweep_places(sweep, rows)))
             for sweep, done in found if done]  # fmt: skip
    return block("paper_results", parts=parts)
