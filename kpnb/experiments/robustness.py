"""Do Hypothesis 1's verdicts hang on how the entropy is estimated? And what the entropy is made of.

A variant is the study's estimator with a setting or two changed: on point clouds above all how
centroids and neighbors are treated, which jump where coordinates move. Only the final networks are
measured again, so only the metrics of Hypothesis 1 are judged.

`python -m kpnb.experiments.robustness` measures how hard the point-cloud task is, by share, place,
turn and kind of its parts: the teacher of one network, trained for each construction and tested on
unseen shapes. The default was chosen before, in pilots on shapes held out of the training shapes.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.ops import masks_to_boxes

from kpnb.datasets.prepared import normalized
from kpnb.errors import KEPT, answered
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.loss import LARGEST_SIGMA
from kpnb.estimator.perturbation import normal, sample_keys
from kpnb.estimator.units import GridUnits, PointUnits
from kpnb.experiments.controls import keeps_more
from kpnb.figures.style import as_array, row_of_panels
from kpnb.metrics.evidence import Choices, Evidence, decided, hypothesis_metrics
from kpnb.metrics.formatting import number, table
from kpnb.metrics.results import Number, Results, estimated, measured, write_results
from kpnb.metrics.stats import crossed, paired_difference
from kpnb.paper import ROLES
from kpnb.study.cloud import CloudStudy
from kpnb.study.findings import Findings
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import CloudParameters, resolve
from kpnb.study.study import Study
from kpnb.study.verdicts import Judgement, judged_table
from kpnb.study.verdicts import turned_verdicts as turned_verdicts  # for notebooks

JUDGED = hypothesis_metrics(1)
_DIRECTIONS = 64  # random directions for the Jacobian of `sensitivity_shares`


@dataclass(frozen=True)
class Variant:
    """What differs from the study's estimator; threshold: b in nats, None for the study's.

    images: at most this many are measured, for methods that are slow. layer: another layer to
    measure, None for the one that the student was distilled at. boxes: the object's bounding box is
    the foreground, as most data sets have it, and not its outline. held: the share of units that
    it holds at least; it is made larger by a unit on each side until it does.
    """

    changes: Mapping[str, object] = field(default_factory=dict)
    threshold: float | None = None
    images: int | None = None
    layer: str | None = None
    boxes: bool = False
    held: float = 0.0


UNCHANGED = "as in the other notebooks"
MINIMUM = "optimum of Eq. 3"
BOXED = "boxes for outlines"
LOOSE = "boxes that hold half of the squares"
# On images and on texts alike. The optimum lies on a wider scale than the path's end, which is on
# its way there: so two b.
_OPTIMUM = {
    "optimum of Eq. 3": Variant({"method": "optimum"}),
    "optimum of Eq. 3, b = 0.5": Variant({"method": "optimum"}, threshold=0.5),
}
_TARGETS = {f"target entropy {h}": Variant({"target_entropy": h}) for h in (-3.0, -2.7)}
IMAGE_VARIANTS = {
    UNCHANGED: Variant(),
    **_OPTIMUM,
    **_TARGETS,
    **{f"entropy weight {w:g}": Variant({"entropy_weight": w}) for w in (5.0, 10.0)},
    **{f"grid of {n} cells a side": Variant({"units": GridUnits(n)}) for n in (8, 32)},
    BOXED: Variant(boxes=True),
    LOOSE: Variant(boxes=True, held=0.5),
}
# Ten seconds an image and network: left to the larger presets.
_PUBLISHED = {
    "published procedure": Variant({"method": "published"}, images=6),
    "closed form, on the same images": Variant(images=6),
}
TEXT_VARIANTS = {
    UNCHANGED: Variant(),
    "noise measured in half the scale": Variant({"scale": 0.5}),
    "noise measured in twice the scale": Variant({"scale": 2.0}),
    **_TARGETS,
    **_OPTIMUM,
    "ReLU after the layer": Variant({"relu": True}),
    "pooled state": Variant(layer="head.pooler"),
    "16 draws at each of three places": Variant({"probes": 16, "evaluations": 3}),
}


def image_page(study: ImageStudy) -> str:
    """What results on images are filed under: with the network, if it is not the preset's own, the
    layer, if it is not FC1, and the prepared data set, so that none takes another's place."""
    given = study.parameters
    network, layer, data = given.network, given.layers[0], Path(given.data).name
    other = network != given.PRESETS[given.preset]["network"], layer != "FC1", study.prepared
    names = zip((network.replace("-", ""), layer, data), other, strict=True)
    parts = [re.sub(r"\W+", "_", name.lower()) for name, told in names if told]
    return "_".join(["image_measure", *parts])


def variants(preset: str) -> dict[str, Variant]:
    """The variants of a preset: the published procedure is in the study alone, for time."""
    return IMAGE_VARIANTS | (_PUBLISHED if preset == "study" else {})


def cloud_variants(parameters: CloudParameters) -> dict[str, Variant]:
    """The study itself; choices treated the other way; other ends of the path; more draws."""
    frozen = parameters.choices == "frozen"
    other = "centroids and neighbors " + ("recomputed" if frozen else "frozen")
    return {
        "as in this study": Variant(),
        other: Variant({"units": PointUnits(frozen=not frozen)}),
        **_TARGETS,
        "four times as many draws": Variant({"probes": 4 * parameters.probes}),
    }


def judge(study: Study, layer: str, variant: Variant) -> Judgement:
    """metric of Hypothesis 1 -> student minus baseline with interval and verdict."""
    seeds = study.parameters.seeds if variant.images is None else study.parameters.seeds[:1]
    foreground, last = _foreground(study, variant), (study.checkpoints[-1],)
    maps = {role: [_last(study, role, s, layer, variant) for s in seeds] for role in "SB"}
    rows = (foreground.any(1) & ~foreground.all(1)).nonzero().flatten()[: variant.images]
    chosen = Choices(variant.threshold or study.parameters.threshold)
    evidence = Evidence(layer, last, foreground, maps, {}, study.shared_teachers)
    return decided(evidence.keep(rows), JUDGED, chosen)


def _foreground(study: Study, variant: Variant) -> Tensor:
    if not variant.boxes:
        return study.foreground(**variant.changes)
    masks, units = study.data.measured.masks, study.data.units
    edges = torch.tensor([0.0, 0, 1, 1])  # of the last pixel
    wider = torch.tensor([-1.0, -1, 1, 1]) * masks.shape[-1] / units.cells
    boxes = masks_to_boxes(masks) + edges
    found = units.foreground_of_boxes(boxes, *masks.shape[1:])
    while (small := found.double().mean(1) < variant.held).any():
        boxes[small] += wider
        found = units.foreground_of_boxes(boxes, *masks.shape[1:])
    return found


def _last(
    study: Study, role: str, seed: int, layer: str, variant: Variant
) -> dict[int, EntropyMaps]:
    trained = study.of(role, seed, layer)
    if not variant.changes and not variant.layer:  # these are in the store
        return {trained.final_epoch: study.trail(trained, layer)[trained.final_epoch]}
    at, last = variant.layer or layer, (trained.final_epoch,)
    return study.maps(trained, at, last, variant.images, **variant.changes)


def judge_variants(
    findings: Findings, layer: str, chosen: Mapping[str, Variant], prefix: str = ""
) -> dict[str, Judgement]:
    """Variant -> its judgement. The differences are put among the results' numbers, verdict and
    all, which depend on it from now on; prefix: of the numbers' names."""
    findings.depend_on("judge_variants", "variants", "TEXT_VARIANTS")
    judged = {name: judge(findings.study, layer, variant) for name, variant in chosen.items()}
    for name, found in judged.items():
        for metric, decision in found.items():
            gap, what = decision.difference, f"student minus baseline: {decision.verdict}"
            n = gap.n_samples * gap.n_seeds
            findings.numbers[f"{prefix}{name} | {metric}"] = estimated(gap, what, n=n)
    return judged


def separations(findings: Findings, layer: str) -> pd.DataFrame:
    """`SEPARATIONS` in students and baselines, on the way and at the minimum of Eq. 3, with the
    paired difference; all are put among the results' numbers."""
    findings.depend_on("separations")
    study, rows = findings.study, {}
    foreground = study.foreground()
    for name in (UNCHANGED, MINIMUM):
        maps = {role: [next(iter(_last(study, role, seed, layer, IMAGE_VARIANTS[name]).values()))
                       for seed in study.parameters.seeds] for role in "SB"}  # fmt: skip
        for key, (told, of) in SEPARATIONS.items():
            values = {role: np.stack([of(one, foreground) for one in maps[role]]) for role in "SB"}
            rows[name, told] = beside(findings, f"{name} | {key}", told, values)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["maps", "measure"])


def beside(
    findings: Findings, key: str, told: str, values: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Student, baseline and their paired difference in words, with intervals; all three are put
    among the results' numbers. values: (seeds, samples) by role. told: what they are."""
    teachers = findings.study.shared_teachers
    found = {ROLES[role]: crossed(values[role], teachers=teachers) for role in "SB"}
    found["difference"] = paired_difference(values["S"], values["B"], teachers=teachers)
    for who, one in found.items():
        n = one.n_samples * one.n_seeds
        findings.numbers[f"{key}_{who}"] = estimated(one, f"{told}, {who}", n=n)
    return {who: str(one) for who, one in found.items()}


def _silent(maps: EntropyMaps, among: Tensor) -> np.ndarray:
    """(samples,) the share of some units that have the largest noise which the estimator allows."""
    silent = (maps.sigma >= LARGEST_SIGMA) & among
    return (silent.sum(1) / among.sum(1)).double().numpy()


#: Measures without a threshold: what each is of, and what computes it from maps and foreground.
SEPARATIONS: dict[str, tuple[str, Callable[[EntropyMaps, Tensor], np.ndarray]]] = {
    "auc": (
        "probability that a unit of the object has less entropy than one beside it",
        lambda maps, foreground: keeps_more(maps.entropy, foreground),
    ),
    "silent_fg": ("share of the object's units with the largest noise", _silent),
    "silent_bg": (
        "share of the units beside it with the largest noise",
        lambda maps, foreground: _silent(maps, ~foreground),
    ),
}


def variants_table(study: Study, layer: str, findings: Findings) -> pd.DataFrame:
    """On point clouds: `judged_table`, and the mean absolute change of H in nats (first seed), by
    variant; the differences are put among the results' numbers too."""
    findings.depend_on("variants_table")
    chosen = cloud_variants(study.parameters)
    changes = entropy_changes(variant_entropies(study, layer, chosen))
    judged = judge_variants(findings, layer, chosen, f"{layer}, ")
    return judged_table(judged).rename_axis("how H is measured").join(changes)


def variant_entropies(study: Study, layer: str, chosen: Mapping[str, Variant]) -> dict[str, Tensor]:
    """Variant -> H of the student's and the baseline's final maps of the first seed, in nats."""

    def both(variant: Variant) -> Tensor:
        last = [_last(study, role, study.parameters.seeds[0], layer, variant) for role in "SB"]
        return torch.cat([maps[max(maps)].entropy for maps in last])

    return {name: both(variant) for name, variant in chosen.items()}


def entropy_changes(found: Mapping[str, Tensor]) -> pd.DataFrame:
    """Mean absolute difference of H to the first variant's, in nats, over all units."""
    first = next(iter(found.values()))
    live = first.isfinite()
    changes = {name: float((h - first)[live].abs().mean()) for name, h in found.items()}
    return pd.Series(changes, name="mean |change of H| [nats]").round(3).to_frame()


def embedding_scales(study: Study) -> pd.DataFrame:
    """Embeddings' root mean square, the unit of sigma, by network of the first seed and epoch."""
    seed, layer = study.parameters.seeds[0], study.parameters.layers[0]
    nets = {role: study.of(role, seed, layer) for role in "TBS"}
    scales = {ROLES[role]: {e: study.network(net, e).encoder.embedding_scale() for e in net.states}
              for role, net in nets.items()}  # fmt: skip
    return pd.DataFrame(scales).sort_index().rename_axis("epoch").round(4)


def changes_figure(found: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """H of every unit under some variants against the first variant's; the line is equality."""
    first = next(iter(found.values()))
    live = first.isfinite()
    ends = torch.stack([first[live].min(), first[live].max()])

    def draw(ax: Axes, entropies: Tensor) -> None:
        _cloud(ax, first[live], entropies[live], ends, ends, "no change")

    parts, size = {name: found[name] for name in names}, (3.0, 3.2)
    x, y = "H as in the other notebooks [nats]", "H under the variant [nats]"
    return row_of_panels(parts, draw, x, y, size, sharex=True, sharey=True)


def _cloud(ax: Axes, x: Tensor, y: Tensor, line: Tensor, height: Tensor, label: str) -> None:
    """Every unit, and a line to hold them against."""
    ax.scatter(as_array(x), as_array(y), s=4, color="#0072B2", alpha=0.4, linewidths=0)
    ax.plot(as_array(line), as_array(height), color="black", linewidth=1.2, label=label)


def sensitivity_shares(net: nn.Module, layer: str, images: Tensor, units: GridUnits) -> Tensor:
    """p_i = J_i / sum_j J_j (n, units), J_i the squared column norms of the feature's Jacobian at
    the image itself, from random directions: what the closed form is made of, no kinks."""
    images = normalized(images.to(next(net.parameters()).device))
    totals = torch.zeros(len(images), units.count(images))
    keys = sample_keys(images, 0)
    with FeatureReader(net, layer, relu=True) as reader, torch.enable_grad():
        x = images.clone().requires_grad_()
        y = reader(lambda: net(x.clone()))
        for v in normal(keys, "share", range(_DIRECTIONS), y.shape[1:], y.detach()).unbind(1):
            (gradient,) = torch.autograd.grad(y, x, v, retain_graph=True)
            totals += units.gather(gradient.square()).cpu()
    return totals / totals.sum(1, keepdim=True)


def shares_figure(shares: Tensor, maps: Mapping[str, EntropyMaps]) -> Figure:
    """Entropy of every unit against 0.5 log(1 / p_i), a panel for each kind of maps; the line has
    slope 1, where the minimum of Eq. 3 would lie for a feature without kinks."""
    x = 0.5 * (1 / shares.clamp(min=1e-12)).log()
    line = x.flatten().quantile(torch.tensor([0.01, 0.99]))

    def draw(ax: Axes, found: EntropyMaps) -> None:
        entropy = found.entropy.cpu()
        _cloud(ax, x, entropy, line, line + entropy.median() - x.median(), "slope 1")

    labels = ("½ log(1/p) [nats]", "entropy H [nats]")
    return row_of_panels(maps, draw, *labels, (4.2, 3.6), sharex=True)


CONSTRUCTION = "pointcloud_construction"  # the results' name
NETWORK = "PointNet++"  # the quickest of the four to train
CONSTRUCTIONS: dict[str, dict[str, float | str]] = {
    "the default": {},
    "half of the background points": {"background": 62},
    "twice the background points": {"background": 250},
    "clouds one radius away": {"distance": 1.0},
    "clouds two radii away": {"distance": 2.0},
    "turned by up to 30 degrees to either side": {"turn": 60.0},
    "turned by any angle": {"turn": 360.0},
    "electronic components instead of furniture": {"shapes": "components"},
    "both kinds of shapes, 20 classes": {"shapes": "both"},
}


def measure_cloud_constructions(preset: str = "study") -> Results:
    """The teacher's accuracy on unseen shapes under each construction; first seed."""
    given = {"preset": preset, "network": NETWORK, "seeds": [0]}
    what = f"accuracy of the teacher {NETWORK} on unseen shapes, one seed"
    stored: list[float] = []  # seconds that the store's entries once took

    def accuracy(changes: Mapping[str, float | str]) -> Number:
        study = CloudStudy(resolve(CloudParameters, given | changes))
        found, n = study.accuracies("T")["test"][0], len(study.data.test_samples)
        stored.append(study.stored_seconds())
        return Number(value=found, what=what, n=n)

    def compute() -> dict[str, Number]:
        return {name: accuracy(changes) for name, changes in CONSTRUCTIONS.items()}

    settings = {"preset": preset, "constructions": CONSTRUCTIONS}
    found = measured(CONSTRUCTION, settings, ["measure_cloud_constructions"], compute, preset)
    return found.model_copy(update={"seconds": found.seconds + sum(stored)})


def construction_table(results: Sequence[Results]) -> str:
    """The teacher's accuracy by construction, from the results file."""
    for run in results:
        if run.notebook == CONSTRUCTION:
            numbers = {name: run.numbers[name] for name in CONSTRUCTIONS}
            rows = [[name, number(found.value), str(found.n)] for name, found in numbers.items()]
            return table(["construction", f"teacher, {NETWORK}: accuracy", "unseen clouds"], rows)
    return "Not run here yet."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: measures the constructions and writes their results file."""
    program = "python -m kpnb.experiments.robustness"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--preset", default="study", choices=list(CloudParameters.PRESETS))
    preset = parser.parse_args(arguments).preset
    return answered(lambda: print(write_results(measure_cloud_constructions(preset))), KEPT)


if __name__ == "__main__":
    sys.exit(main())
