"""Do Hypothesis 1's verdicts on point clouds hang on how the entropy is measured?

Above all on how centroids and neighbors are treated, which jump where coordinates move.
"""

from __future__ import annotations

import pandas as pd

from kpnb.estimator.units import PointUnits
from kpnb.experiments.robustness import Variant, add, entropy_changes, final_entropies, judge
from kpnb.study.findings import Findings
from kpnb.study.parameters import CloudParameters
from kpnb.study.readings import NAMES
from kpnb.study.study import Study

FIRST = "as in this study"


def cloud_variants(parameters: CloudParameters) -> dict[str, Variant]:
    """The study itself; choices treated the other way; other ends of the path; more draws."""
    frozen = parameters.choices == "frozen"
    other = "centroids and neighbors " + ("recomputed" if frozen else "frozen")
    return {
        FIRST: Variant(),
        other: Variant({"units": PointUnits(frozen=not frozen)}),
        "target entropy -3.0": Variant({"target_entropy": -3.0}),
        "target entropy -2.7": Variant({"target_entropy": -2.7}),
        "four times as many draws": Variant({"probes": 4 * parameters.probes}),
    }


def variants_table(study: Study, layer: str, findings: Findings) -> pd.DataFrame:
    """Student minus baseline in the metrics of Hypothesis 1 with its verdict, and the mean absolute
    change of H in nats (first seed), by variant; put among the results' numbers too."""
    findings.depend_on("variants_table")
    chosen, rows = cloud_variants(study.parameters), {}
    changes = entropy_changes(final_entropies(study, layer, chosen))
    for name, variant in chosen.items():
        judged = judge(study, layer, variant)
        add(findings, f"{layer}, {name}", judged)
        rows[name] = {NAMES[m]: f"{gap}, {verdict}" for m, (gap, verdict) in judged.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("how H is measured")
    return table.join(changes)


def turned_verdicts(table: pd.DataFrame) -> str:
    """Which verdicts differ from the study's own under which variant, as one sentence."""
    verdicts = table.drop(columns=table.columns[-1]).map(lambda cell: cell.rsplit(", ", 1)[1])
    told = []
    for name, row in verdicts.iterrows():
        changed = row[row != verdicts.loc[FIRST]]
        told += [f"{metric} {verdict} ({name})" for metric, verdict in changed.items()]
    return f"Another verdict: {'; '.join(told)}." if told else "No verdict turns."
