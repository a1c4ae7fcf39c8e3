"""Which maps tell what a layer uses? Held against something outside the measure: covered units.

A unit is covered, and the feature moves by so much: no noise, no gradient, no entropy. What it says
is not the truth about a network either; it is another question to it, whose answer neither kind of
maps has seen.
"""

from collections.abc import Callable
from itertools import product
from math import isqrt

import numpy as np
import pandas as pd
import torch
from captum import attr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from kpnb.datasets.prepared import normalized
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.estimator.units import GridUnits
from kpnb.experiments.controls import keeps_more
from kpnb.experiments.robustness import IMAGE_VARIANTS, MINIMUM, beside
from kpnb.figures.image import draw_outline, draw_picture, grid_of
from kpnb.figures.panel import entropy_colors
from kpnb.figures.style import LABEL_SIZE, TITLE_SIZE, WIDTH, label_axes, new_figure
from kpnb.metrics.stats import correlation
from kpnb.paper import ROLES
from kpnb.study.findings import Findings
from kpnb.study.image import ImageStudy
from kpnb.study.study import Trained

CHUNK = 10  # images in one call of captum
AT_ONCE = 32  # units of each that are covered in one pass
#: What a unit is covered with, from the images and in their shape.
COVERS: dict[str, Callable[[Tensor], Tensor]] = {
    "gray": torch.zeros_like,  # images are normalized: the mean color of ImageNet
    "another image": lambda images: images.roll(1, 0),
}


def covered_change(
    net: nn.Module, layer: str, images: Tensor, units: GridUnits, covers: Tensor
) -> Tensor:
    """(n, units) by how much the feature moves, ||f(x) - f(x covered)||^2, as one unit at a time
    is covered with what `covers` has in its place.

    layer: dotted name; the feature is behind the ReLU, as the estimator's. images, covers: (n, 3,
    height, width), normalized, where the network is.
    """
    count = units.count(images)
    places = torch.arange(count, dtype=torch.float32, device=images.device)
    labels = units.spread(places[None], images).long()
    parts = zip(images.split(CHUNK), covers.split(CHUNK), strict=True)
    with FeatureReader(net, layer, relu=True) as reader, torch.no_grad():
        return torch.cat([_changes(net, reader, labels, units, *part).cpu() for part in parts])


def _changes(
    net: nn.Module,
    reader: FeatureReader,
    labels: Tensor,
    units: GridUnits,
    images: Tensor,
    covers: Tensor,
) -> Tensor:
    whole = reader(lambda: net(images.clone()))

    def distance(x: Tensor) -> Tensor:  # rows come as all images, once for each unit covered
        gap = reader(lambda: net(x.clone())) - whole.repeat(len(x) // len(whole), 1)
        return gap.square().sum(1)

    found = attr.FeatureAblation(distance).attribute(
        images, covers, feature_mask=labels, perturbations_per_eval=AT_ONCE
    )
    # captum has 0 - distance at each pixel and color of the unit.
    return -units.gather(found) / units.gather(torch.ones_like(found))


#: What covering says, alone and of maps: what each is of.
MEASURES = {
    "auc": "probability that a unit of the object moves the feature more than one beside it",
    "path": "rank correlation of -H on the way with it",
    "optimum": "rank correlation of -H at the minimum with it",
}


def followed(entropy: Tensor, change: Tensor) -> np.ndarray:
    """(samples,) Spearman's correlation of -H with the feature's change, over units that have an
    entropy; NaN for a sample in which one of both is constant."""
    found = []
    for h, by in zip(entropy.double().numpy(), change.double().numpy(), strict=True):
        known = np.isfinite(h)
        found.append(correlation(-h[known], by[known]) if known.sum() > 1 else np.nan)
    return np.array(found)


def final_maps(study: ImageStudy, trained: Trained, layer: str) -> dict[str, EntropyMaps]:
    """Maps of a final network, on the way and at the minimum of Eq. 3."""
    last = trained.final_epoch
    minimum = study.maps(trained, layer, (last,), **IMAGE_VARIANTS[MINIMUM].changes)
    return {"path": study.trail(trained, layer)[last], "optimum": minimum[last]}


def measures_of(change: Tensor, maps: dict[str, EntropyMaps], foreground: Tensor) -> dict:
    """Each of MEASURES (samples,): of how far the feature moves, (samples, units)."""
    told = {name: followed(one.entropy, change) for name, one in maps.items()}
    return {"auc": keeps_more(-change, foreground)} | told


def covered(findings: Findings, layer: str) -> pd.DataFrame:
    """For each of COVERS, student against baseline, with the paired difference: the probability
    that a unit of the object, covered, moves the feature more than one beside it; and how closely
    maps on the way and at the minimum of Eq. 3 follow what covering does, by ranks over the units
    of an image. All are put among the results' numbers."""
    findings.depend_on("covered")
    study, rows = findings.study, {}
    foreground = study.foreground()
    images, units = normalized(study.data.measured.images.to(study.device)), study.data.units
    for cover, make in COVERS.items():
        values: dict[str, list[dict]] = {"S": [], "B": []}
        for role, seed in product(values, study.parameters.seeds):
            trained = study.of(role, seed, layer)
            net, maps = study.network(trained), final_maps(study, trained, layer)
            change = covered_change(net, layer_name(net, layer), images, units, make(images))
            values[role].append(measures_of(change, maps, foreground))
        for key, told in MEASURES.items():
            table = {role: np.stack([one[key] for one in values[role]]) for role in values}
            about = f"covered with {cover} | {key}", f"{told}, covered with {cover}"
            rows[cover, told] = beside(findings, *about, table)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["covered with", "measure"])


def ranks_figure(study: ImageStudy, layer: str, row: int = 0) -> Figure:
    """One image in the first seed's student and baseline: each square's rank by entropy on the way
    and at the minimum, and by how little the feature moves as it is covered with gray."""
    measured, foreground = study.data.measured.subset([row]), study.foreground()[row]
    images = normalized(measured.images.to(study.device))
    figure, axes = new_figure(2, 4, (WIDTH, 5.0), layout="compressed")
    for across, role in zip(axes, "SB", strict=True):
        trained = study.of(role, study.parameters.seeds[0], layer)
        net, maps = study.network(trained), final_maps(study, trained, layer)
        at, gray = layer_name(net, layer), COVERS["gray"](images)
        (change,) = covered_change(net, at, images, study.data.units, gray)
        entropies = [maps[way].entropy[row] for way in ("path", "optimum")]
        titles = "H on the way", "H at the minimum", "as it is covered"
        shown = dict(zip(titles, (*entropies, -change), strict=True))
        draw_picture(across[0], measured.pictures()[0], study.parameters.grid)
        across[0].set_title("image", fontsize=TITLE_SIZE)
        for ax, (title, values) in zip(across[1:], shown.items(), strict=True):
            _draw_ranks(ax, values)
            ax.set_title(title, fontsize=TITLE_SIZE)
        for ax in across:
            draw_outline(ax, foreground)
            label_axes(ax, "column of the grid", "")
        across[0].set_ylabel(f"{ROLES[role]}\nrow of the grid", fontsize=LABEL_SIZE)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), entropy_colors()), ax=axes, pad=0.015)
    told = "kept, moves the feature \u2190 rank [1] \u2192 discarded"
    bar.set_label(told, fontsize=LABEL_SIZE)
    return figure


def _draw_ranks(ax: Axes, values: Tensor) -> None:
    from scipy.stats import rankdata

    ranks = (rankdata(values.cpu().numpy()) - 1) / (len(values) - 1)
    draw_picture(ax, grid_of(ranks), isqrt(len(ranks)), cmap=entropy_colors(), vmin=0, vmax=1)
