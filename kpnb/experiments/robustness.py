"""Do Hypothesis 1's verdicts hang on how the entropy is estimated? And what the entropy is made of.

A variant is the study's estimator with a setting or two changed. Only the final networks are
measured again, so only the metrics of Hypothesis 1 are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.perturbation import normal, sample_keys
from kpnb.estimator.units import GridUnits
from kpnb.figures.style import TITLE_SIZE, as_array, label_axes, legend_below, new_figure
from kpnb.metrics.evidence import Choices, Evidence
from kpnb.metrics.results import Number, Results
from kpnb.metrics.stats import Estimate
from kpnb.study.findings import Findings, compare, hypothesis_metrics
from kpnb.study.readings import NAMES
from kpnb.study.study import Study

CODE = ("judge", "variants", "TEXT_VARIANTS", "add")  # what computes the numbers
METRICS = hypothesis_metrics(1)
PROBES = 64  # random directions for the Jacobian of `sensitivity_shares`


@dataclass(frozen=True)
class Variant:
    """What differs from the study's estimator; threshold: b in nats, None for the study's.

    images: at most this many are measured, for methods that are slow. layer: another layer to
    measure, None for the one that the student was distilled at.
    """

    changes: Mapping[str, object] = field(default_factory=dict)
    threshold: float | None = None
    images: int | None = None
    layer: str | None = None


# The optimum lies on a wider scale than the path's end, which is on its way there: so two b.
VARIANTS = {
    "as in the other notebooks": Variant(),
    "optimum of Eq. 3": Variant({"method": "optimum"}),
    "optimum of Eq. 3, b = 0.5": Variant({"method": "optimum"}, threshold=0.5),
    "target entropy -3.0": Variant({"target_entropy": -3.0}),
    "target entropy -2.7": Variant({"target_entropy": -2.7}),
    "entropy weight 5": Variant({"entropy_weight": 5.0}),
    "entropy weight 10": Variant({"entropy_weight": 10.0}),
    "grid of 8 cells a side": Variant({"units": GridUnits(8)}),
    "grid of 32 cells a side": Variant({"units": GridUnits(32)}),
}
# Ten seconds an image and network: left to the larger presets.
PUBLISHED = {"published procedure": Variant({"method": "published"}, images=6)}
PATH_ON_THE_SAME = {"closed form, on the same images": Variant(images=6)}


TEXT_VARIANTS = {
    "as in the other notebooks": Variant(),
    "noise measured in half the scale": Variant({"scale": 0.5}),
    "noise measured in twice the scale": Variant({"scale": 2.0}),
    "target entropy -3.0": Variant({"target_entropy": -3.0}),
    "target entropy -2.7": Variant({"target_entropy": -2.7}),
    "optimum of Eq. 3": Variant({"method": "optimum"}),
    "optimum of Eq. 3, b = 0.5": Variant({"method": "optimum"}, threshold=0.5),
    "ReLU after the layer": Variant({"relu": True}),
    "pooled state": Variant(layer="head.pooler"),
    "16 draws at each of three places": Variant({"probes": 16, "evaluations": 3}),
}


def variants(preset: str) -> dict[str, Variant]:
    """The variants of a preset: the published procedure is in the study alone, for time."""
    slow = PUBLISHED | PATH_ON_THE_SAME if preset == "study" else {}
    return VARIANTS | slow


def judge(study: Study, layer: str, variant: Variant) -> dict[str, tuple[Estimate, str]]:
    """metric of Hypothesis 1 -> (student minus baseline with interval, verdict)."""
    seeds = study.parameters.seeds if variant.images is None else study.parameters.seeds[:1]
    threshold = variant.threshold or study.parameters.threshold
    foreground = study.foreground(**variant.changes)
    evidence = Evidence(
        layer=layer,
        epochs=(study.checkpoints[-1],),
        foreground=foreground,
        maps={role: [_last(study, role, s, layer, variant) for s in seeds] for role in "SB"},
        distance={},
    )
    usable = foreground.any(1) & ~foreground.all(1)
    rows = usable.nonzero().flatten()[: variant.images]
    return compare(evidence.keep(rows), METRICS, Choices(threshold))


def _last(
    study: Study, role: str, seed: int, layer: str, variant: Variant
) -> dict[int, EntropyMaps]:
    trained = study.of(role, seed, layer)
    if not variant.changes and not variant.layer:  # these are in the store
        return {trained.final_epoch: study.maps(trained, layer)[trained.final_epoch]}
    at, last = variant.layer or layer, (trained.final_epoch,)
    return study.maps(trained, at, last, variant.images, **variant.changes)


def add(findings: Findings, name: str, judged: dict[str, tuple[Estimate, str]]) -> None:
    """Put a variant's differences among the numbers of a results file, verdict and all."""
    for metric, (gap, verdict) in judged.items():
        findings.numbers[f"{name} | {metric}"] = Number(
            value=gap.value,
            low=gap.low,
            high=gap.high,
            what=f"student minus baseline: {verdict}",
            n=gap.n_samples * gap.n_seeds,
        )


def final_entropies(study: Study, layer: str, chosen: Mapping[str, Variant]) -> dict[str, Tensor]:
    """Variant -> H of the student's and the baseline's final maps of the first seed, in nats."""
    seed, found = study.parameters.seeds[0], {}
    for name, variant in chosen.items():
        last = [_last(study, role, seed, layer, variant) for role in "SB"]
        found[name] = torch.cat([maps[max(maps)].entropy for maps in last])
    return found


def entropy_changes(found: Mapping[str, Tensor]) -> pd.DataFrame:
    """Mean absolute difference of H to the first variant's, in nats, over all units."""
    first = next(iter(found.values()))
    live = first.isfinite()
    changes = {name: float((h - first)[live].abs().mean()) for name, h in found.items()}
    return pd.Series(changes, name="mean |change of H| [nats]").round(3).to_frame()


def changes_figure(found: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """H of every unit under some variants against the first variant's; the line is equality."""
    figure, axes = new_figure(1, len(names), (3.0 * len(names), 3.2), sharex=True, sharey=True)
    first = next(iter(found.values()))
    live = first.isfinite()
    ends = [float(first[live].min()), float(first[live].max())]
    for ax, name in zip(axes[0], names, strict=True):
        ax.scatter(as_array(first[live]), as_array(found[name][live]), s=4, color="#0072B2",
                   alpha=0.4, linewidths=0)  # fmt: skip
        ax.plot(ends, ends, color="black", linewidth=1.2, label="no change")
        label_axes(ax, "H as in the other notebooks [nats]", "H under the variant [nats]")
        ax.set_title(name, fontsize=TITLE_SIZE)
        ax.grid(alpha=0.3)
    legend_below(figure, axes.flat)
    return figure


def results(findings: Findings) -> Results:
    """The results file, which depends on what is computed here as well."""
    findings.depend_on(*CODE)
    return findings.results()


def sensitivity_shares(net: nn.Module, layer: str, images: Tensor, units: GridUnits) -> Tensor:
    """p_i = J_i / sum_j J_j (n, units), J_i the squared column norms of the feature's Jacobian at
    the image itself, from PROBES random directions: what the closed form is made of, no kinks."""
    totals = torch.zeros(len(images), units.count(images))
    keys = sample_keys(images, 0)
    with FeatureReader(net, layer, relu=True) as reader, torch.enable_grad():
        x = images.clone().requires_grad_()
        y = reader(lambda: net(x.clone()))
        for v in normal(keys, "share", range(PROBES), y.shape[1:], y.detach()).unbind(1):
            (gradient,) = torch.autograd.grad(y, x, v, retain_graph=True)
            totals += units.gather(gradient.square()).cpu()
    return totals / totals.sum(1, keepdim=True)


def table(found: Mapping[str, Mapping[str, tuple[Estimate, str]]]) -> pd.DataFrame:
    """Variant against metric: student minus baseline with interval, and the verdict."""
    rows = {
        name: {NAMES[metric]: f"{gap}, {verdict}" for metric, (gap, verdict) in judged.items()}
        for name, judged in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def reading(found: Mapping[str, Mapping[str, tuple[Estimate, str]]]) -> str:
    """Which variants change a verdict of the first, in one sentence a metric."""
    first, *others = found
    told = []
    for metric in METRICS:
        verdict = found[first][metric][1]
        changed = [f"{name} ({found[name][metric][1]})" for name in others
                   if found[name][metric][1] != verdict]  # fmt: skip
        same = len(others) - len(changed)
        beyond = f"; not by: {', '.join(changed)}" if changed else ""
        told.append(
            f"- {NAMES[metric]}: {verdict} as in the other notebooks, and the same by {same} of "
            f"{len(others)} variants{beyond}."
        )
    return "\n".join(told)


def shares_figure(shares: Tensor, maps: Mapping[str, EntropyMaps]) -> Figure:
    """Entropy of every unit against 0.5 log(1 / p_i), a panel for each kind of maps; the line has
    slope 1, where the minimum of Eq. 3 would lie for a feature without kinks."""
    figure, axes = new_figure(1, len(maps), (4.2 * len(maps), 3.6), sharex=True)
    x = 0.5 * (1 / shares.clamp(min=1e-12)).log()
    for ax, (name, found) in zip(axes[0], maps.items(), strict=True):
        entropy = found.entropy.cpu()
        ax.scatter(as_array(x), as_array(entropy), s=4, color="#0072B2", alpha=0.4, linewidths=0)
        line = x.flatten().quantile(torch.tensor([0.01, 0.99]))
        middle = entropy.median() - x.median()
        ax.plot(line, line + middle, color="black", linewidth=1.2, label="slope 1")
        label_axes(ax, "½ log(1/p) [nats]", "entropy H [nats]")
        ax.set_title(name, fontsize=TITLE_SIZE)
        ax.grid(alpha=0.3)
    legend_below(figure, axes.flat)
    return figure
