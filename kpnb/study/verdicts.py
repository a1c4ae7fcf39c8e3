"""The sentence of a verdict, which may say no, and what else notebooks say of their findings: which
verdicts turn under other settings, and without words of several pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Choices, Decision, Evidence, decided, hypothesis_metrics
from kpnb.metrics.formatting import PLAIN, count, interval, verdict_sentence
from kpnb.metrics.protocol import primary_metrics
from kpnb.metrics.results import Comparison, Measure
from kpnb.paper import ROLES

if TYPE_CHECKING:
    from kpnb.study.findings import Findings

NAMES = PLAIN | {"lambda": "lambda", "rho": "rho"}  # as one types them
SELECTIONS = {"all": "all samples", "published_filter": "published filter"}
CLAIMED = {
    1: "distillation encodes more knowledge points, and a larger share of them in the foreground",
    2: "distillation learns knowledge points faster and more simultaneously",
    3: "distillation is optimized with fewer detours",
}
#: What a variant of a comparison differs in, and what that is called.
VARIED = {"threshold": "other b", "selection": "published filter", "distance": "other units of D"}


def label(item: Measure | Comparison) -> str:
    """A metric as one types it, with what its distance is summed per."""
    units = {"epoch": "", "step": " per step", "share": " per own way", "time": " per epoch"}
    return NAMES[item.metric] + units.get(item.distance, "")


def with_interval(value: float, item: Measure | Comparison) -> str:
    """A value with its 95% interval, if it has one: 0.6 [0.55, 0.65]."""
    return f"{value:.3g}" + interval(item.low, item.high, "{:.3g}".format)


def reading(findings: Findings, hypothesis: int) -> str:
    """The verdict on a hypothesis in words, as Markdown, built from the comparisons alone. Raises
    KpnbError where nothing was compared and no note says why."""
    metrics, notes = hypothesis_metrics(hypothesis), findings.notes
    chosen = (findings.threshold, "all")
    in_use = [c for c in findings.comparisons if (c.threshold, c.selection) == chosen]
    headline = [c for c in in_use if c.metric in metrics and c.distance in (None, "epoch")]
    if not headline and not notes:
        raise KpnbError("there is no comparison to read: add evidence to the findings first.")
    if not headline:
        return "\n\n".join([f"**Hypothesis {hypothesis}** was not measured.", *notes])
    first = headline[0]
    lines = [
        f"**Hypothesis {hypothesis}** ({CLAIMED[hypothesis]}), {first.network} ({first.scale}) on "
        f"{first.dataset}, {count(first.n_samples, first.sample)}, "
        f"{count(first.n_seeds, 'seed')}, b = {first.threshold:g}:",
        "",
    ]
    lines += [f"- {_sentence(findings, item)}" for item in headline]
    lines += ["", answer([(c.metric, c.verdict) for c in headline], "comparison")]
    return "\n".join([*lines, *(f"\n{note}" for note in notes)])


def answer(found: Sequence[tuple[str, str]], noun: str) -> str:
    """The sentence on a hypothesis, from (metric, verdict) pairs: its primary metrics decide, which
    the protocol names; without any of them the others do."""
    primary = [verdict for metric, verdict in found if metric in primary_metrics()]
    return verdict_sentence(primary or [verdict for _, verdict in found], noun)


def _sentence(findings: Findings, item: Comparison) -> str:
    same = (c for c in findings.comparisons if (c.layer, c.metric) == (item.layer, item.metric))
    others = [c for c in same if c is not item]
    changed = sum(other.verdict != item.verdict for other in others)
    steady = f"another in {changed} of" if changed else "the same in all"
    differ = [n for n in VARIED if any(getattr(c, n) != getattr(item, n) for c in others)]
    return (
        f"{item.layer}, {NAMES[item.metric]}: **{item.verdict}** (student minus baseline "
        f"{with_interval(item.difference, item)}, predicted {item.prediction}; {steady} "
        f"{count(len(others), 'variant')}: {', '.join(VARIED[n] for n in differ)})."
    )


Judgement = Mapping[str, Decision]  # by metric


def judged_table(found: Mapping[str, Judgement]) -> pd.DataFrame:
    """Variant against metric: student minus baseline with interval, and the verdict."""
    rows = {
        name: {NAMES[metric]: str(decision) for metric, decision in judged.items()}
        for name, judged in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def turned_verdicts(judged: pd.DataFrame) -> str:
    """Which verdicts differ from the first variant's under which other, as one sentence; those of
    one seed are none.

    judged: a `judged_table`; a column of numbers, joined to it, holds no verdicts.
    """
    verdicts = judged.select_dtypes(exclude="number").map(lambda cell: cell.rsplit(", ", 1)[1])
    told = []
    for name, row in verdicts.iterrows():
        changed = row[(row != verdicts.iloc[0]) & (row != "one seed")]
        told += [f"{metric} {verdict} ({name})" for metric, verdict in changed.items()]
    if told:
        return f"Another verdict: {'; '.join(told)}."
    none = (verdicts == "one seed").all(axis=None)
    return "With one seed there is no verdict to turn." if none else "No verdict turns."


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
        role: [
            {e: replace(m, sigma=m.sigma.where(single[: len(m)], torch.nan))
             for e, m in by_epoch.items()}  # before the end of the followed texts alone
            for by_epoch in seeds
        ]
        for role, seeds in evidence.maps.items()
    }  # fmt: skip
    return replace(evidence, maps=maps).keep(kept)


def pieces_table(
    evidence: Evidence, single: Tensor, threshold: float, fit: bool = True
) -> pd.DataFrame:
    """Student minus baseline, Hypothesis 1's metrics, with all words and those of one piece; fit:
    whether the layer is measurable."""
    parts = {"all": evidence, "of one piece": of_single_pieces(evidence, single)}
    metrics, chosen = hypothesis_metrics(1), Choices(threshold)
    judged = {name: decided(part, metrics, chosen) for name, part in parts.items()}
    samples = [found["n_fg"].difference.n_samples for found in judged.values()]
    table = judged_table(judged)
    if not fit:
        table = table.replace(r", [a-z ]+$", ", not measurable", regex=True)
    return table.assign(**{"n samples": samples}).rename_axis("words")


def pieces_reading(evidence: Evidence, single: Tensor, threshold: float, fit: bool = True) -> str:
    """How many of the student's and the baseline's points are words of several pieces, and whether
    a verdict turns without them, if the layer is fit for one."""
    told = ""
    for role in "SB":
        found = [evidence.points(role, seed, None, threshold) for seed in evidence.seeds]
        held = torch.stack([points.kinds != 0 for points in found])
        live, several = found[0].entropy.isfinite(), int((held & ~single).sum())
        usual = float((live & ~single).sum() / live.sum())
        told += f"Of the {ROLES[role]}'s {int(held.sum())} knowledge points {several} are words of "
        told += f"several pieces; of all words {usual:.0%} are such. "
    return told + turned_verdicts(pieces_table(evidence, single, threshold)) if fit else told
