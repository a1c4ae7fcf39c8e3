"""A student's lead with fewer photographs of its own beside that with more, pair by pair.

Both runs have the same teachers, initial weights and measured photographs; what is expected is on
the page, and was committed before the run with fewer.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from book.make.frame import NOTHING
from book.make.texts import block, sheet
from kpnb.errors import require
from kpnb.metrics.results import Results
from kpnb.metrics.stats import Estimate, crossed, holm, judged, paired_difference
from kpnb.paper import FINAL_METRICS

#: A run with fewer photographs of the student's own, and the one with more.
FEWER, MORE = "own_vgg11_1000", "tin_vgg11_fc1_new"
NO_VERDICT = "not measurable"
#: Of the 20 classes, of which `fraction` is the student's share.
PHOTOGRAPHS = 10_000
#: Metrics of which the lead is expected to be larger with fewer; one family (Holm).
ASKED = ("n_fg", "lambda")


def photographs_fragments(cells: Sequence[Results]) -> dict[str, str]:
    """What the page of photographs includes; of the study alone."""
    runs = {one.run: one for one in cells if one.preset == "study"}
    name = "own_photographs"
    if not {FEWER, MORE} <= set(runs):
        return {name: NOTHING}
    pair = runs[FEWER], runs[MORE]
    shown = sheet(name, lead_changes(*pair))
    return {name: block(name, shown=shown, runs=[_about(one) for one in pair])}


def _about(run: Results) -> dict:
    """Of one run what its leads are over: settings, notes, photographs, and the mean scores."""
    means = {(one.role, one.metric): float(np.nanmean(np.genfromtxt(one.by_seed)))
             for one in run.values if one.metric.startswith(("accuracy", "explained"))}  # fmt: skip
    images = PHOTOGRAPHS * run.settings["fraction"]
    notes = [note for note in run.notes if "measurable" in note]
    return {"settings": run.settings, "means": means, "notes": notes, "images": images}


def teachers_of(run: Results) -> dict[int, int]:
    """Which teacher each of a run's pairs has: they share them in turn."""
    seeds, teachers = run.settings["seeds"], run.settings["teachers"]
    return {seed: teachers[place % len(teachers)] for place, seed in enumerate(seeds)}


def leads(run: Results, seeds: Sequence[int], metric: str) -> np.ndarray:
    """(seeds, samples): student minus baseline of some of a run's pairs."""
    rows = [run.settings["seeds"].index(seed) for seed in seeds]
    of = {one.role: np.genfromtxt(one.by_seed, ndmin=2)[rows]
          for one in run.values if one.metric == metric}  # fmt: skip
    return of["S"] - of["B"]


def lead_changes(fewer: Results, more: Results) -> Iterator[dict]:
    """A row a metric: the mean lead of either run, and the lead with fewer minus that with more,
    over the pairs of the run with fewer, with interval and what it says of the expectation, which
    is nothing where a run is not measurable.

    Raises: KpnbError where the runs have not the same teachers and measured photographs.
    """
    given, other = fewer.settings, more.settings
    same = ("data", "samples", "measured_on", "teachers", "network", "layers", "threshold")
    shared = all(given[name] == other[name] for name in same)
    owners, known = teachers_of(fewer), teachers_of(more)
    shared = shared and all(known.get(seed) == owner for seed, owner in owners.items())
    require(shared, f"{FEWER} and {MORE} differ in more than the student's own photographs.")
    fit = all(one.verdict != NO_VERDICT for run in (fewer, more) for one in run.comparisons)
    owned = [*owners.values()]
    tables = {m: (leads(fewer, [*owners], m), leads(more, [*owners], m)) for m in FINAL_METRICS}
    found = {m: paired_difference(*both, teachers=owned) for m, both in tables.items()}
    family = holm({metric: found[metric].p for metric in ASKED})
    for metric, both in tables.items():
        alone = [_ends(crossed(one, teachers=owned)) for one in both]
        row = {"metric": metric, "with_fewer": alone[0], "with_more": alone[1]}
        row |= {"change": (ends := _ends(found[metric]))}
        asked = metric in ASKED and fit
        yield row | {"verdict": judged(*ends.values(), "up", 0.0, family[metric]) if asked else ""}


def _ends(found: Estimate) -> dict[str, float]:
    return {name: getattr(found, name) for name in ("value", "low", "high")}
