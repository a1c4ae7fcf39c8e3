"""What the conclusion says of the controls: the protocol's contrast, what imitation alone gives,
and what a better teacher adds to it, which the protocol does not ask. From the values by pair and
image that the notebook files of N_fg and lambda.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from book.make.texts import block
from kpnb.experiments.controls import BASELINE, GOOD, PRIMARY
from kpnb.metrics.results import Results
from kpnb.metrics.stats import mean, paired_difference

#: The kinds whose teachers know nothing that images of a class have in common.
IGNORANT = ("shuffled", "untrained")


def controls_fragments(results: Sequence[Results]) -> dict[str, str]:
    """What the conclusion includes."""
    return {"controls_contrast": block("controls_contrast", gaps=gaps(results), ignorant=IGNORANT)}


def gaps(results: Sequence[Results]) -> dict[tuple[str, str], list[dict]]:
    """(kind, other kind or the baseline) -> a row a metric and layer: students of the one minus
    those of the other, paired by seed and image, of the study; nothing where it was not run."""
    found: dict[tuple[str, str], list[dict]] = {}
    for run in results:
        if (run.notebook, run.preset) == ("image_controls", "study"):
            for pair, row in _gaps(run):
                found.setdefault(pair, []).append(row)
    return found


def _gaps(run: Results) -> Iterator[tuple[tuple[str, str], dict]]:
    values = {}
    for one in run.values:
        layer, _, networks = one.layer.partition(", ")
        values[networks, one.metric, layer] = np.genfromtxt(one.by_seed, ndmin=2)
    kinds, given = run.settings["kinds"], run.settings
    owners = [given["teachers"][i % len(given["teachers"])] for i in range(len(given["seeds"]))]
    others = [(kind, BASELINE) for kind in (GOOD, *kinds)]
    for one, other in [*((GOOD, kind) for kind in kinds), *others]:
        names = [f"student {one}", BASELINE if other == BASELINE else f"student {other}"]
        for metric in PRIMARY:
            for layer in given["layers"]:
                pair = [values[name, metric, layer] for name in names]
                found = paired_difference(*pair, mean, owners)
                ends = {name: getattr(found, name) for name in ("value", "low", "high")}
                yield (one, other), {"metric": metric, "layer": layer, **ends}
