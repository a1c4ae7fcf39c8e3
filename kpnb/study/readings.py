"""Sentences that notebooks show of their findings, which may say no; and what words of several
pieces do to the counts of knowledge points, as a table and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.metrics.evidence import Choices, Evidence, compare, hypothesis_metrics
from kpnb.metrics.formatting import PLAIN, count
from kpnb.metrics.results import Comparison, Measure
from kpnb.metrics.stats import Estimate
from kpnb.paper import ROLES

if TYPE_CHECKING:
    from kpnb.study.findings import Findings
    from kpnb.study.study import Study

NAMES = PLAIN | {"lambda": "lambda", "rho": "rho"}  # as one types them
SELECTIONS = {"all": "all samples", "published_filter": "published filter"}
CLAIMED = {
    1: "distillation encodes more knowledge points, and a larger share of them in the foreground",
    2: "distillation learns knowledge points faster and more simultaneously",
    3: "distillation is optimized with fewer detours",
}


def never_learned(evidence: Evidence, threshold: float, sample: str) -> str:
    """How many samples have no foreground knowledge point at any checkpoint after the first epoch:
    for those D and rho say nothing."""
    told = []
    for role in "SB":
        trails = [evidence.trajectory(role, seed, threshold) for seed in evidence.seeds]
        never = sum(int((sum(p.n_fg for p in trail) == 0).sum()) for trail in trails)
        of = count(len(evidence.foreground) * len(trails), sample)
        told.append(f"{ROLES[role]}: {never} of {of}")
    seeds = " (all seeds together)" if len(evidence.seeds) > 1 else ""
    return f"Without a foreground knowledge point at any checkpoint{seeds}: {'; '.join(told)}."


def reading(findings: Findings, hypothesis: int) -> str:
    """The verdict on a hypothesis in words, as Markdown, built from the comparisons alone.

    Raises KpnbError where nothing was compared and no note says why.
    """
    metrics = hypothesis_metrics(hypothesis)
    headline = [c for c in findings.comparisons if c.metric in metrics and _headline(findings, c)]
    if not headline and not findings.notes:
        raise KpnbError("there is no comparison to read: add evidence to the findings first.")
    if not headline:
        return "\n\n".join([f"**Hypothesis {hypothesis}** was not measured.", *findings.notes])
    lines = [f"**Hypothesis {hypothesis}** ({CLAIMED[hypothesis]}), {_over(headline)}:", ""]
    lines += [f"- {_sentence(findings, item)}" for item in headline]
    lines += ["", _summary(headline), *(f"\n{note}" for note in findings.notes)]
    return "\n".join(lines)


def _sentence(findings: Findings, item: Comparison) -> str:
    others = [
        other
        for other in findings.comparisons
        if (other.layer, other.metric) == (item.layer, item.metric) and other is not item
    ]
    changed = sum(other.verdict != item.verdict for other in others)
    steady = f"another in {changed} of" if changed else "the same in all"
    return (
        f"{item.layer}, {NAMES[item.metric]}: **{item.verdict}** (student minus baseline "
        f"{with_interval(item.difference, item)}, predicted {item.prediction}; {steady} "
        f"{count(len(others), 'variant')}: {_variants(item, others)})."
    )


def _variants(item: Comparison, others: Sequence[Comparison]) -> str:
    """What the variants of a comparison change."""
    changes = {
        "other b": any(other.threshold != item.threshold for other in others),
        "published filter": any(other.selection != item.selection for other in others),
        "distance per epoch": any(other.distance != item.distance for other in others),
    }
    return ", ".join(name for name, there in changes.items() if there)


def _summary(headline: Sequence[Comparison]) -> str:
    """The answer, which may be no, and the number of comparisons behind each verdict."""
    verdicts = [c.verdict for c in headline]
    counts = {name: verdicts.count(name) for name in ("reproduced", "contradicted", "inconclusive")}
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    return f"{_answer(counts)} Of {count(len(headline), 'comparison')}: {told}."


def _answer(counts: dict[str, int]) -> str:
    if counts["reproduced"] == sum(counts.values()):
        return "**Yes, it is reproduced here.**"
    if counts["reproduced"] and counts["contradicted"]:
        return "**No clear answer: it is reproduced in part and contradicted in part.**"
    if counts["reproduced"]:
        return "**In part: what is not reproduced is inconclusive.**"
    if counts["contradicted"]:
        return "**No: nothing is reproduced here, and the opposite is found.**"
    return "**Inconclusive: the data here say neither yes nor no.**"


def _over(items: Sequence[Comparison]) -> str:
    first = items[0]
    scale = f"{first.network} ({first.scale}) on {first.dataset}"
    samples, seeds = count(first.n_samples, first.sample), count(first.n_seeds, "seed")
    return f"{scale}, {samples}, {seeds}, b = {first.threshold:g}"


def _headline(findings: Findings, item: Comparison) -> bool:
    in_use = item.threshold == findings.threshold
    return in_use and item.selection == "all" and item.distance != "epoch"


def label(item: Measure | Comparison) -> str:
    """A metric as one types it, with what its distance is summed per."""
    return NAMES[item.metric] + (f" per {item.distance}" if item.distance else "")


def with_interval(value: float, item: Measure | Comparison) -> str:
    """A value with its 95% interval: 0.6 [0.55, 0.65]."""
    return f"{value:.3g} [{item.low:.3g}, {item.high:.3g}]"


_COUNTED = hypothesis_metrics(1)
Judged = Mapping[str, tuple[Estimate, str]]


def of_single_pieces(evidence: Evidence, single: Tensor) -> Evidence:
    """The evidence of words of one piece: all others take no part (entropy NaN).

    single: (samples, units) bool. Texts without foreground or background left are dropped.
    Raises KpnbError where fewer than two texts are left.
    """
    inside, outside = evidence.foreground & single, ~evidence.foreground & single
    kept = inside.any(1) & outside.any(1)
    if int(kept.sum()) < 2:
        raise KpnbError("Fewer than two texts have single-piece words of both kinds: measure more.")
    maps = {
        role: [{epoch: _without(m, single) for epoch, m in by_epoch.items()} for by_epoch in seeds]
        for role, seeds in evidence.maps.items()
    }
    return replace(evidence, maps=maps).keep(kept)


def _without(maps: EntropyMaps, single: Tensor) -> EntropyMaps:
    return replace(maps, sigma=torch.where(single, maps.sigma, torch.nan))


def imitation(study: Study, layer: str) -> str:
    """How much of the teacher's feature the students explain at the end of distillation."""
    shares = [study.of("S", seed, layer).record.metric[-1] for seed in study.parameters.seeds]
    told = " / ".join(f"{share:.0%}" for share in shares)
    return (
        f"At the end of its training the student explains {told} of the variance of the teacher's "
        f"feature at {layer} on the training samples (padding counted, as in the loss)."
    )


def pieces_table(evidence: Evidence, single: Tensor, threshold: float) -> pd.DataFrame:
    """Student minus baseline in the metrics of Hypothesis 1, with all words and with those of one
    piece."""
    rows = {}
    for name, judged in _both(evidence, single, threshold).items():
        rows[name] = {NAMES[m]: f"{gap}, {verdict}" for m, (gap, verdict) in judged.items()}
        rows[name]["n samples"] = judged["n_fg"][0].n_samples
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("words")


def pieces_reading(evidence: Evidence, single: Tensor, threshold: float) -> str:
    """How many of the student's and the baseline's points are words of several pieces, and whether
    a verdict turns without them."""
    told = [_share(evidence, single, role, threshold) for role in "SB"]
    whole, alone = _both(evidence, single, threshold).values()
    turned = [NAMES[m] for m in _COUNTED if whole[m][1] != alone[m][1]]
    change = (
        f"Another verdict without them: {', '.join(turned)}." if turned else "No verdict turns."
    )
    return f"{' '.join(told)} {change}"


def _both(evidence: Evidence, single: Tensor, threshold: float) -> dict[str, Judged]:
    chosen = Choices(threshold)
    return {
        "all": compare(evidence, _COUNTED, chosen),
        "of one piece": compare(of_single_pieces(evidence, single), _COUNTED, chosen),
    }


def _share(evidence: Evidence, single: Tensor, role: str, threshold: float) -> str:
    found = [evidence.points(role, seed, None, threshold) for seed in evidence.seeds]
    held = torch.stack([p.foreground_points | p.background_points for p in found])
    points, several = int(held.sum()), int((held & ~single).sum())
    live = found[0].entropy.isfinite()
    usual = float((live & ~single).sum() / live.sum())
    return (
        f"Of the {ROLES[role]}'s {points} knowledge points {several} are words of several pieces, "
        f"which are {usual:.0%} of all words."
    )
