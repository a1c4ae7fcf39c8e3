"""What words of several pieces do to the counts of knowledge points, as a table and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from kpnb.entropy import EntropyMaps
from kpnb.errors import KpnbError
from kpnb.evidence import Choices, Evidence
from kpnb.findings import compare, hypothesis_metrics
from kpnb.readings import NAMES
from kpnb.stats import Estimate
from kpnb.study import Study

METRICS = hypothesis_metrics(1)
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
    told = [_share(evidence, single, role, name, threshold) for role, name in _ROLES.items()]
    whole, alone = _both(evidence, single, threshold).values()
    turned = [NAMES[m] for m in METRICS if whole[m][1] != alone[m][1]]
    change = (
        f"Another verdict without them: {', '.join(turned)}." if turned else "No verdict turns."
    )
    return f"{' '.join(told)} {change}"


_ROLES = {"S": "student", "B": "baseline"}


def _both(evidence: Evidence, single: Tensor, threshold: float) -> dict[str, Judged]:
    chosen = Choices(threshold)
    return {
        "all": compare(evidence, METRICS, chosen),
        "of one piece": compare(of_single_pieces(evidence, single), METRICS, chosen),
    }


def _share(evidence: Evidence, single: Tensor, role: str, name: str, threshold: float) -> str:
    found = [evidence.points(role, seed, None, threshold) for seed in evidence.seeds]
    held = torch.stack([p.foreground_points | p.background_points for p in found])
    points, several = int(held.sum()), int((held & ~single).sum())
    live = found[0].entropy.isfinite()
    usual = float((live & ~single).sum() / live.sum())
    return (
        f"Of the {name}'s {points} knowledge points {several} are words of several pieces, which "
        f"are {usual:.0%} of all words."
    )
