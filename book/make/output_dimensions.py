"""Table VIII continued: student minus baseline against the number of output dimensions.

The paper expects a student of a many-dimensional output to have more foreground points than its
baseline (the first utility: it mimics the teacher's points), and one of a ten-dimensional output
fewer points of both kinds (the second: labels that are easier to learn).
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from kpnb.figures.charts import METRIC_LABELS
from kpnb.figures.style import label_axes, legend_below, new_figure
from kpnb.metrics.formatting import PLAIN, count, interval, signed
from kpnb.metrics.results import Comparison, Results

#: What Table VIII prints.
COUNTS = ("n_fg", "n_bg")
LABEL = "dimensions of the output [1]"


#: By place of the network in the results; told apart by marker too. Okabe and Ito's colors.
MARKS = (("#000000", "o"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#E69F00", "P"))


def by_outputs(cells: Sequence[Results]) -> dict[str, dict[int, dict[str, Comparison]]]:
    """{network: {dimensions: {metric: student minus baseline}}} of the runs that set them."""
    chosen = [run for run in cells if run.settings.get("outputs")]
    found: dict = {}
    for run in sorted(chosen, key=lambda run: (run.settings["network"], run.settings["outputs"])):
        items = {c.metric: c for c in run.comparisons if run.is_headline(c)}
        found.setdefault(run.settings["network"], {})[run.settings["outputs"]] = items
    return found


def training_shares(cells: Sequence[Results]) -> dict[str, dict[int, float]]:
    """{network: {dimensions: share of its training images that the student classifies right}}."""
    found: dict = {}
    for run in cells:
        for item in run.measures:
            if run.settings.get("outputs") and (item.role, item.metric) == ("S", "accuracy_train"):
                shares = found.setdefault(run.settings["network"], {})
                shares[run.settings["outputs"]] = item.mean
    return found


def outputs_figure(cells: Sequence[Results]) -> Figure | None:
    """Difference in N_fg and N_bg with 95% intervals against the dimensions; None without runs."""
    found = by_outputs(cells)
    if not found:
        return None
    figure, axes = new_figure(1, len(COUNTS), (7.5, 3.2))
    for ax, metric in zip(axes[0], COUNTS, strict=True):
        for place, (network, by_number) in enumerate(found.items()):
            _draw(ax, metric, by_number, place, network)
        ax.axhline(0, color="black", linewidth=1)
        ax.set_xscale("log")
        numbers = sorted({n for by_number in found.values() for n in by_number})
        ax.set_xticks(numbers, [str(n) for n in numbers])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="y", alpha=0.3)
        label_axes(ax, LABEL, f"S − B: {METRIC_LABELS[metric]}")
    legend_below(figure, [axes[0, 0]], columns=4)
    return figure


def _draw(
    ax: Axes, metric: str, by_number: dict[int, dict[str, Comparison]], place: int, network: str
) -> None:
    """Networks stand beside each other at one number of dimensions."""
    color, marker = MARKS[place % len(MARKS)]
    at = [number * 1.08**place for number in by_number]
    gaps = [items[metric] for items in by_number.values()]
    ax.vlines(at, [g.low for g in gaps], [g.high for g in gaps], color=color, linewidth=1.6)
    over = f"{network}, {_images(gaps)}, {count(gaps[0].n_seeds, 'seed')}"
    ax.plot(at, [g.difference for g in gaps], marker, color=color, markersize=6, label=over)


def utility(items: dict[str, Comparison]) -> str:
    """Which of the two utilities the intervals of N_fg and N_bg speak for, in words."""
    higher = items["n_fg"].low > 0
    lower = {metric: items[metric].high < 0 for metric in COUNTS}
    if higher:
        return "the first utility: more foreground points"
    if all(lower.values()):
        return "the second utility: fewer points of both kinds"
    if any(lower.values()):
        kind = "foreground" if lower["n_fg"] else "background"
        return f"half of the second utility: fewer {kind} points only"
    return "neither: no interval excludes zero on a side that either utility predicts"


def outputs_reading(cells: Sequence[Results]) -> str:
    """One line per number of dimensions, and where one utility turns into the other, if it does."""
    found, shares = by_outputs(cells), training_shares(cells)
    if not found:
        return "Not run here yet."
    return "\n\n".join(
        _network_reading(network, by_number, shares.get(network, {}))
        for network, by_number in found.items()
    )


def _network_reading(
    network: str, by_number: dict[int, dict[str, Comparison]], shares: dict[int, float]
) -> str:
    lines = [
        f"- {outputs} dimensions: {_told(items)}{_learned(shares.get(outputs))}"
        for outputs, items in by_number.items()
    ]
    gaps = [items["n_fg"] for items in by_number.values()]
    over = f"{network} ({gaps[0].scale}), {_images(gaps)}"
    turn = _turn(by_number, shares)
    return "\n".join([f"{over}, {count(gaps[0].n_seeds, 'seed')}:", "", *lines, "", turn])


def _told(items: dict[str, Comparison]) -> str:
    values = ", ".join(
        f"{PLAIN[m]} {signed(items[m].difference)}{interval(items[m].low, items[m].high, signed)}"
        for m in COUNTS
    )
    return f"{utility(items)} ({values})."


def _learned(share: float | None) -> str:
    """How far a student has learned at all."""
    if share is None:
        return ""
    return f" The student classifies {share:.1%} of its training images correctly."


def _turn(found: dict[int, dict[str, Comparison]], shares: dict[int, float]) -> str:
    """The two numbers between which fewer foreground points turn into more, on how many seeds, and
    what the students with more of them have learned."""
    fewer = [d for d, items in found.items() if items["n_fg"].high < 0]
    more = [d for d, items in found.items() if items["n_fg"].low > 0]
    if not fewer and not more:
        return "**No turn can be seen here: no interval of N_fg excludes zero.**"
    if not fewer or not more:
        seen = "fewer" if fewer else "more"
        return f"**No turn can be seen here: foreground points are only ever {seen}.**"
    if max(fewer) > min(more):
        return "**Foreground points are fewer at some numbers and more at others, in no order.**"
    both = [d for d in fewer if found[d]["n_bg"].high < 0]
    shown = ", ".join(map(str, both)) if both else "no number of dimensions"
    seeds = count(max(items["n_fg"].n_seeds for items in found.values()), "seed")
    known = [f"{shares[d]:.1%} at {d}" for d in more if d in shares]
    told = f", where the student gets {' and '.join(known)} of its training images right"
    learned = told if known else ""
    return (
        f"**Foreground points turn from fewer to more between {max(fewer)} and {min(more)} "
        f"dimensions here, with {seeds}{learned}. The second utility in full, fewer points of "
        f"both kinds, shows at {shown}.**"
    )


def _images(gaps: Sequence[Comparison]) -> str:
    """Behind a ReLU, an output of few dimensions leaves some images without a map."""
    counts = sorted({gap.n_samples for gap in gaps})
    least = f"{counts[0]} to " if len(counts) > 1 else ""
    return least + count(counts[-1], "image")
