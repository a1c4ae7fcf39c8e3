"""Tables and sentences that notebooks show of their findings; the sentences may say no."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kpnb.evidence import Choices, Evidence, estimate
from kpnb.findings import DISTANCE_METRICS, Findings, compare
from kpnb.results import Comparison, Measure

NAMES = {
    "n_fg": "N_fg",
    "n_bg": "N_bg",
    "lambda": "lambda",
    "d_mean": "D_mean",
    "d_var": "D_var",
    "rho": "rho",
}
ROLES = {"T": "teacher", "S": "student", "B": "baseline"}
SELECTIONS = {"all": "all images", "published_filter": "published filter"}
HYPOTHESES = {
    1: "distillation encodes more knowledge points, and a larger share of them in the foreground",
    2: "distillation learns knowledge points faster and more simultaneously",
    3: "distillation is optimized with fewer detours",
}


def measure_table(findings: Findings, selection: str = "all") -> pd.DataFrame:
    """Layer and metric against role: mean [95% interval], at the threshold in use."""
    rows = [m for m in findings.measures if _shown(findings, m) and m.selection == selection]
    table = pd.DataFrame(
        {
            "layer": [m.layer for m in rows],
            "metric": [_label(m) for m in rows],
            "role": [ROLES[m.role] for m in rows],
            "value": [_cell(m.mean, m) for m in rows],
        }
    )
    wide = table.pivot(index=["layer", "metric"], columns="role", values="value").fillna("")
    wide = wide.loc[list(dict.fromkeys(zip(table["layer"], table["metric"], strict=True)))]
    return wide[[name for name in ROLES.values() if name in wide.columns]]


def comparison_table(findings: Findings) -> pd.DataFrame:
    """Student minus baseline with interval and verdict, all images beside the published filter."""
    rows = [c for c in findings.comparisons if _shown(findings, c)]
    index = pd.MultiIndex.from_tuples(
        [(c.layer, _label(c), SELECTIONS[c.selection]) for c in rows],
        names=["layer", "metric", "samples"],
    )
    return pd.DataFrame(
        {
            "predicted": [c.prediction for c in rows],
            "student - baseline": [_cell(c.difference, c) for c in rows],
            "n images": [c.n_samples for c in rows],
            "n seeds": [c.n_seeds for c in rows],
            "verdict": [c.verdict for c in rows],
        },
        index=index,
    ).sort_index(level=["layer", "metric", "samples"], sort_remaining=False)


def choices_table(
    evidence: Evidence, metrics: Sequence[str], options: Sequence[Choices]
) -> pd.DataFrame:
    """Student, baseline, their difference and the verdict under each set of choices."""
    rows = {}
    for choices in options:
        for metric, (gap, judged) in compare(evidence, metrics, choices).items():
            values = {ROLES[r]: str(estimate(evidence, r, metric, choices)) for r in "SB"}
            start = "included" if choices.untrained else "left out"
            values |= {"student - baseline": str(gap), "verdict": judged}
            rows[NAMES[metric], choices.per, start] = values
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["metric", "distance per", "untrained network"])


def accuracy_table(findings: Findings) -> pd.DataFrame:
    """Accuracy on seen and unseen objects: mean over seeds (smallest to largest)."""
    rows = [m for m in findings.measures if m.metric.startswith("accuracy")]
    return pd.DataFrame(
        {
            "network": [f"{ROLES[m.role]}{f' ({m.layer})' if m.layer else ''}" for m in rows],
            "images": [{"test": "unseen", "train": "training"}[m.metric[9:]] for m in rows],
            "accuracy": [_share(m) for m in rows],
            "n images": [m.n_samples for m in rows],
            "n seeds": [m.n_seeds for m in rows],
        }
    ).set_index(["network", "images"])


def reading(findings: Findings, hypothesis: int) -> str:
    """The verdict on a hypothesis in words, as Markdown, built from the comparisons alone."""
    headline = [c for c in findings.comparisons if _headline(findings, c)]
    lines = [f"**Hypothesis {hypothesis}** ({HYPOTHESES[hypothesis]}), {_over(headline)}:", ""]
    lines += [f"- {_sentence(findings, item)}" for item in headline]
    lines += ["", _summary(headline), *(f"\n{note}" for note in findings.notes)]
    return "\n".join(lines)


def _sentence(findings: Findings, item: Comparison) -> str:
    others = [
        other.verdict
        for other in findings.comparisons
        if (other.layer, other.metric) == (item.layer, item.metric) and other is not item
    ]
    changed = sum(verdict != item.verdict for verdict in others)
    steady = "the same in all" if not changed else f"another in {changed} of"
    return (
        f"{item.layer}, {NAMES[item.metric]}: **{item.verdict}** (student minus baseline "
        f"{_cell(item.difference, item)}, predicted {item.prediction}; {steady} {len(others)} "
        "variants: other b, published filter"
        + (", distance per epoch)." if item.metric in DISTANCE_METRICS else ").")
    )


def _summary(headline: Sequence[Comparison]) -> str:
    counts = {
        verdict: sum(c.verdict == verdict for c in headline)
        for verdict in ("reproduced", "contradicted", "inconclusive")
    }
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"Of {len(headline)} comparisons: {told}."


def _over(items: Sequence[Comparison]) -> str:
    first = items[0]
    scale = f"{first.network} ({first.scale}) on {first.dataset}"
    return f"{scale}, {first.n_samples} images, {first.n_seeds} seed(s), b = {first.threshold:g}"


def _shown(findings: Findings, item: Measure | Comparison) -> bool:
    return item.threshold == findings.threshold


def _headline(findings: Findings, item: Comparison) -> bool:
    return _shown(findings, item) and item.selection == "all" and item.distance != "epoch"


def _label(item: Measure | Comparison) -> str:
    return NAMES[item.metric] + (f" per {item.distance}" if item.distance else "")


def _cell(value: float, item: Measure | Comparison) -> str:
    return f"{value:.3g} [{item.low:.3g}, {item.high:.3g}]"


def _share(item: Measure) -> str:
    spread = f" ({item.low:.1%} to {item.high:.1%})" if item.low is not None else ""
    return f"{item.mean:.1%}{spread}"
