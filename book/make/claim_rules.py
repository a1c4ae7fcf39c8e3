"""What results say to a claim: items with a verdict each, and one verdict over all of them.

Only the committed study counts, measured on training images as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

from book.make.claim_paper import strictly
from book.make.claim_schema import Claim, Comparisons, Means
from book.make.published_pages import TABLES
from kpnb.metrics.formatting import count, interval, number, signed
from kpnb.metrics.results import Comparison, Measure, Number, Results
from kpnb.metrics.stats import interval_verdict, share_interval
from kpnb.paper import ROLES, SCORES

PRESET = "study"
#: Measures cells of the paper's tables that no other notebook has; its results are a sweep's runs.
CELL_NOTEBOOK = "image_cell"
NOT_RUN = "not run"
VERDICTS = ("reproduced", "contradicted", "inconclusive", NOT_RUN)

#: Results of the main studies, results of sweeps.
Runs = tuple[Sequence[Results], Sequence[Results]]
#: Of an interval.
Ends = tuple[float | None, float | None]


@dataclass(frozen=True)
class Item:
    """One piece of evidence.

    what: network, layer and what else sets it apart; shown: its numbers with their intervals;
    verdict: of the interval; on_side: the point estimate lies strictly on the claim's side.
    """

    source: Results
    what: str
    shown: str
    verdict: str
    on_side: bool
    n_samples: int | None = None
    n_seeds: int | None = None
    noun: str = "value"


@dataclass(frozen=True)
class Judged:
    """A claim with its evidence and the verdict over it."""

    claim: Claim
    items: list[Item]

    @property
    def verdict(self) -> str:
        return overall([item.verdict for item in self.items], self.tally["on side"])

    @property
    def tally(self) -> dict[str, int]:
        """How many items have each verdict, and how many lie "on side"."""
        counts = {v: sum(i.verdict == v for i in self.items) for v in VERDICTS[:3]}
        return counts | {"on side": sum(i.on_side for i in self.items)}


def overall(verdicts: Sequence[str], on_side: int) -> str:
    """One verdict over the items' own, `on_side` of which have their point estimate on the side.

    Decided are items whose interval excludes the other side. Reproduced: more are decided for the
    claim than against it, these are at least half of all, and more than half of the point
    estimates lie on its side (one of two is no reproduction); contradicted: the mirror of that;
    not run: there are none; else inconclusive. A single item keeps its verdict.
    """
    if not verdicts:
        return NOT_RUN
    total = len(verdicts)
    for verdict, other, points in (
        ("reproduced", "contradicted", on_side),
        ("contradicted", "reproduced", total - on_side),
    ):
        ours = verdicts.count(verdict)
        if ours > verdicts.count(other) and 2 * ours >= total and 2 * points > total:
            return verdict
    return "inconclusive"


def judge_claim(claim: Claim, results: Sequence[Results], cells: Sequence[Results]) -> Judged:
    """A claim's evidence in the results of the study and of its sweeps."""
    find: dict[str, Callable] = {
        "comparisons": _comparisons,
        "means": _means,
        "numbers": _numbers,
        "none": lambda claim, runs: [],
    }
    runs = tuple([run for run in part if run.preset == PRESET] for part in (results, cells))
    return Judged(claim, find[claim.evidence.kind](claim, runs))


def sources(evidence: Comparisons | Means, runs: Runs) -> list[Results]:
    """Results that stand for a published table: main ones first, then the sweep's runs.

    The sweep's runs for Table V are named v_..., for Table II ii_..., and so on. Main results
    stand for the table of their kind of samples, so long as these are training samples.
    """
    main, cells = runs
    pattern = f"{evidence.table.lower()}_*"
    chosen = [run for run in cells if fnmatchcase(run.run, pattern)]
    if evidence.runs:
        return [r for r in chosen if any(fnmatchcase(r.run, one) for one in evidence.runs)]
    main = [run for run in main if _stands_for(run, evidence.table)]
    return [run for run in main + chosen if not evidence.larger or _larger(run)]


def _larger(run: Results) -> bool:
    """Whether its teacher is another network than its student."""
    own = ("same", run.settings.get("network"))
    return run.settings.get("teacher", "same") not in own


def _stands_for(run: Results, table: str) -> bool:
    samples = {item.sample for item in (*run.measures, *run.comparisons)}
    own_study = run.notebook != CELL_NOTEBOOK  # a run of no sweep may have any settings
    return _on_training(run) and own_study and table in {TABLES.get(one) for one in samples}


def _on_training(run: Results) -> bool:
    return run.settings.get("measured_on", "train") == "train"


def _comparisons(claim: Claim, runs: Runs) -> list[Item]:
    found: dict = {}
    for run in sources(claim.evidence, runs):
        for item in run.comparisons:
            if item.metric == claim.metric and _wanted(claim.evidence, run, item):
                found.setdefault(_identity(claim.evidence, run, item), (run, item))
    other_b = claim.evidence.thresholds == "other"
    compared = [_compared(claim.side, run, item, other_b) for run, item in found.values()]
    return compared + _repeated(claim, runs[0])


def _repeated(claim: Claim, main: Sequence[Results]) -> list[Item]:
    """The same difference where a main notebook holds it as a number, named "setting | metric"."""
    names = [name.replace("{metric}", claim.metric) for name in claim.evidence.also]
    return [
        Item(
            source=run,
            what=f"{_network(run)}, {name.split(' | ')[0]}",
            shown=signed(value.value) + interval(value.low, value.high, signed),
            verdict=interval_verdict(value.low, value.high, claim.side),
            on_side=strictly(claim.side, value.value, 0.0),
            n_samples=value.n,
            n_seeds=len(run.settings["seeds"]),
            noun="map",
        )
        for run in main
        for name, value in _named(run, names)
    ]


def _wanted(evidence: Comparisons | Means, run: Results, item: Comparison | Measure) -> bool:
    if isinstance(evidence, Comparisons) and evidence.thresholds == "other":
        other = item.threshold != run.threshold and item.selection == "all"
        fits = other and item.distance in (None, "step")
    else:
        fits = run.is_headline(item)
    return fits and all(
        not wanted or value in wanted
        for value, wanted in (
            (item.network, evidence.networks),
            (item.layer, evidence.layers),
            (item.sample, [evidence.sample] if evidence.sample else []),
        )
    )


def _identity(evidence: Comparisons | Means, run: Results, item: Comparison | Measure) -> tuple:
    """What makes a cell one cell. In Tables V to VII a sweep's run of a cell that a main study
    has too is no second one; in the others runs differ in more than network and layer."""
    own = () if evidence.table in TABLES.values() else (run.run,)
    return (*item.cell, item.threshold, *own)


def _compared(side: str, run: Results, item: Comparison, name_b: bool) -> Item:
    return Item(
        source=run,
        what=_cell(item, run) + (f", b = {item.threshold}" if name_b else ""),
        shown=signed(item.difference) + interval(item.low, item.high, signed),
        verdict=interval_verdict(item.low, item.high, side),
        on_side=strictly(side, item.difference, 0.0),
        n_samples=item.n_samples,
        n_seeds=item.n_seeds,
        noun=item.sample,
    )


def _cell(item: Comparison | Measure, run: Results) -> str:
    return ", ".join(word for word in (item.network, item.layer, _teacher(run)) if word)


def _teacher(run: Results) -> str:
    """Named where it is another network than the student."""
    teacher = run.settings.get("teacher", "same")
    return f"teacher {teacher}" if teacher != "same" else ""


def _network(run: Results) -> str:
    """A run's own, for numbers, which do not carry it."""
    return ", ".join(word for word in (run.settings.get("network", ""), _teacher(run)) if word)


def _means(claim: Claim, runs: Runs) -> list[Item]:
    evidence, found = claim.evidence, {}
    for run in sources(evidence, runs):
        measures = [m for m in run.measures if m.metric == claim.quantity]
        wanted = [m for m in measures if _belongs(evidence, run, m)]
        firsts = _of(wanted, evidence.first, evidence.first_layer)
        seconds = _of(wanted, evidence.second, evidence.second_layer)
        for first, second in product(firsts, seconds):
            if _together(evidence, first, second):
                pair = tuple(_identity(evidence, run, one) for one in (first, second))
                found.setdefault(pair, _pair(claim.side, run, first, second))
    return list(found.values())


def _belongs(evidence: Means, run: Results, item: Measure) -> bool:
    """A score of a teacher or baseline belongs to no layer."""
    if evidence.score and not item.layer:
        return _wanted(evidence.model_copy(update={"layers": ()}), run, item)
    return _wanted(evidence, run, item)


def _of(measures: Sequence[Measure], role: str, layer: str) -> list[Measure]:
    return [m for m in measures if m.role == role and (not layer or m.layer == layer)]


def _together(evidence: Means, first: Measure, second: Measure) -> bool:
    """Of one network and layer; of any layers where these are compared, or for a score."""
    any_layer = evidence.first_layer or (evidence.score and not (first.layer and second.layer))
    parts = 3 if any_layer else 5
    return first.cell[:parts] == second.cell[:parts]


def _pair(side: str, run: Results, first: Measure, second: Measure) -> Item:
    ends = [measure_interval(one) for one in (first, second)]
    written = [number(m.mean) + interval(*e) for m, e in zip((first, second), ends, strict=True)]
    layers = {first.layer, second.layer} - {""}
    named = [ROLES[m.role] + (f" at {m.layer}" if len(layers) > 1 else "") for m in (first, second)]
    return Item(
        source=run,
        what=f"{_cell(first if first.layer else second, run)}: {', '.join(named)}",
        shown=" against ".join(written),
        verdict=means_verdict(side, *ends),
        on_side=strictly(side, first.mean, second.mean),
        n_samples=min(first.n_samples, second.n_samples),
        n_seeds=first.n_seeds,
        noun=first.sample,
    )


def measure_interval(item: Measure) -> Ends:
    """A measure's own interval. A score carries its range over seeds only: that range together
    with Wilson's interval of the mean over samples, as if each were right or wrong."""
    if item.metric not in SCORES:
        return item.low, item.high
    low, high = share_interval(item.mean, item.n_samples)
    return (low, high) if item.low is None else (min(low, item.low), max(high, item.high))


def means_verdict(side: str, first: Ends, second: Ends) -> str:
    """Decided where the two intervals do not overlap; a weaker test than a paired difference."""
    if None in (*first, *second):
        return "inconclusive"
    return interval_verdict(first[0] - second[1], first[1] - second[0], side)


def _numbers(claim: Claim, runs: Runs) -> list[Item]:
    """Runs of a sweep share networks: the same number of the same name is one item."""
    evidence, found = claim.evidence, {}
    for run in (*runs[0], *runs[1]):
        if fnmatchcase(run.notebook, evidence.notebook) and _on_training(run):
            for name, value in _named(run, evidence.names):
                same = (run.settings.get("network"), name, value.value, value.low, value.high)
                found.setdefault(same, _number(claim.side, evidence.bound, run, name, value))
    return list(found.values())


def _named(run: Results, names: Sequence[str]) -> list[tuple[str, Number]]:
    """A run's numbers whose name fits one of the patterns."""
    fits = [name for name in run.numbers if any(fnmatchcase(name, one) for one in names)]
    return [(name, run.numbers[name]) for name in fits]


def _number(side: str, bound: float, run: Results, name: str, value: Number) -> Item:
    """Its interval against the bound; a number without one is exact, and is its own interval."""
    ends = [(value.value if end is None else end) - bound for end in (value.low, value.high)]
    unit = f" {value.unit}" if value.unit else ""
    network = _network(run)
    return Item(
        source=run,
        what=(f"{network}, " if network else "") + f"`{name}`: {value.what}",
        shown=number(value.value) + interval(value.low, value.high) + unit,
        verdict=interval_verdict(*ends, side),
        on_side=strictly(side, value.value, bound),
        n_samples=value.n,
    )


def span(items: Sequence[Item]) -> str:
    """Samples and seeds over the items: "40 to 60 images, 1 to 3 seeds"."""
    nouns = dict.fromkeys(item.noun for item in items)
    parts = [_span([i.n_samples for i in items if i.noun == noun], noun) for noun in nouns]
    parts.append(_span([item.n_seeds for item in items], "seed"))
    return ", ".join(part for part in parts if part)


def _span(counts: Sequence[int | None], noun: str) -> str:
    known = sorted({n for n in counts if n is not None})
    if not known:
        return ""
    return count(known[0], noun) if len(known) == 1 else f"{known[0]} to {count(known[-1], noun)}"
