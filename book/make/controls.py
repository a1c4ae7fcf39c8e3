"""What the conclusion says of the controls: the protocol's expectations, what became of them, and
what the students of a better teacher have more than those of an equal one.

From the values by pair and image that the notebook files, so that pairs can be put together that it
does not compare; the measure without a threshold is taken from its numbers.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from book.make.texts import block
from kpnb.experiments.controls import BASELINE, EXPECTED, GOOD, PRIMARY, outcome_of
from kpnb.metrics.protocol import margin, protocol
from kpnb.metrics.results import Results
from kpnb.metrics.stats import Estimate, holm, mean, paired_difference
from kpnb.training.recipes import LEARNING_RATES, family

#: The kinds whose teachers know nothing that images of a class have in common.
IGNORANT = ("shuffled", "untrained")
_SIDES = {(one, other, metric): side for one, other, metric, side in EXPECTED}


def controls_fragments(results: Sequence[Results]) -> dict[str, str]:
    """What the conclusion includes; of the study alone."""
    found = [one for one in results if (one.notebook, one.preset) == ("image_controls", "study")]
    about = _about(found[-1]) if found else {}
    made = {"controls_contrast": block("controls_contrast", found=found, **about)}
    return made | {"controls_part": block("controls_part", **{"leads": (), **about})}


def _about(run: Results) -> dict:
    given, numbers, layers = run.settings, run.numbers, run.settings["layers"]
    least = protocol()["fitness"]["explained_train"]
    explained = {layer: numbers[f"explained_train_student_good_{layer}"] for layer in layers}
    found, leads = gaps(run), {}
    for (one, other), rows in found.items():
        for row in rows:
            if other == BASELINE and row["low"] > 0 and row["metric"] in PRIMARY:
                leads.setdefault((one, row["metric"]), []).append(row["layer"])
    rates = LEARNING_RATES["image", family(given["network"])]
    return {
        "given": given,
        "gaps": found,
        "leads": leads,
        "low": [layer for layer, share in explained.items() if share.value < least],
        "auc": {
            layer: numbers[name].model_dump()
            for layer in layers
            if (name := f"auc_equal_minus_baseline_{layer}") in numbers
        },
        "learned": numbers.get(f"accuracy_train_teacher_shuffled_{layers[0]}"),
        "rates": {role: rates[role] for role in "SB"},
        "ignorant": [kind for kind in IGNORANT if (kind, BASELINE) in found],
    }


def gaps(run: Results) -> dict[tuple[str, str], list[dict]]:
    """(kind, other kind or the baseline) -> a row a metric and layer: students of the one minus
    those of the other, paired by seed and image, with what became of what the protocol expects."""
    values = {}
    for one in run.values:
        layer, _, networks = one.layer.partition(", ")
        values[networks, one.metric, layer] = np.genfromtxt(one.by_seed, ndmin=2)
    kinds = run.settings["kinds"]
    pairs = [(GOOD, kind) for kind in kinds] + [(kind, BASELINE) for kind in (GOOD, *kinds)]
    metrics = [*dict.fromkeys(metric for _, metric, _ in values)]
    return {pair: [*_rows(run, values, pair, metrics)] for pair in pairs}


def _rows(
    run: Results, values: dict, pair: tuple[str, str], metrics: Sequence[str]
) -> Iterator[dict]:
    given = run.settings
    owners = [given["teachers"][i % len(given["teachers"])] for i in range(len(given["seeds"]))]
    names = [name if name == BASELINE else f"student {name}" for name in pair]
    found = {(metric, layer): paired_difference(*(values[n, metric, layer] for n in names),
                                                mean, owners)
             for metric in metrics for layer in given["layers"]}  # fmt: skip
    for (metric, layer), one in found.items():
        family = {m: found[m, layer].p for m in PRIMARY}
        p = holm(family)[metric] if pair == (GOOD, "shuffled") and metric in PRIMARY else one.p
        base = float(np.nanmean(values[BASELINE, metric, layer]))
        told = {"metric": metric, "layer": layer, "outcome": _outcome(one, pair, metric, base, p)}
        yield told | {name: getattr(one, name) for name in ("value", "low", "high")}


def _outcome(found: Estimate, pair: tuple[str, str], metric: str, base: float, p: float) -> str:
    """ "" for what the protocol expects nothing of."""
    side = _SIDES.get((*pair, metric))
    return "" if side is None else outcome_of(found, side, margin(metric, base), p)
