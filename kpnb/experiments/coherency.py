"""Coherency, measured: what happens to explanations of a network that is rescaled (Figure 1(b)).

The network and its copy compute the same function (`kpnb.metrics.rescaling`), so that a
coherent explanation is the same for both. Two things can change, a map's magnitude and its shape.

The shape is not asked for in the paper. It belongs here because the entropy is divided by the
feature's own variance (sigma_f^2 in Eq. 3) and read off at one mean for all layers: it has no
magnitude to lose, by construction. A gradient map that is divided by its sum has none either.

The entropy takes part as the map of its noise sigma_i (log m' - log m is then a change of H in
nats), and sigma_f^2 as a map of a single number: what the entropy would be without the division.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor, nn

from kpnb.estimator.loss import entropy_of
from kpnb.experiments.attributions import METHODS, attributions
from kpnb.figures import style
from kpnb.figures.image import draw_entropy, draw_picture
from kpnb.figures.panel import entropy_bar
from kpnb.fingerprint import track
from kpnb.metrics import rescaling
from kpnb.metrics.formatting import count, number
from kpnb.metrics.results import Number, estimated
from kpnb.metrics.stats import Estimate, bootstrap
from kpnb.study.findings import Findings
from kpnb.study.image import ImageStudy

ENTROPY, VARIANCE = "entropy", "feature_variance"
# How channels of a layer are rescaled: all alike, or each by a factor of its own (ours).
KIND_NAMES = {"layer": "one factor per layer", "channel": "a factor per channel"}
# A map whose magnitude and shape change by less than 1% (0.01 nats; of the way to a flat map)
# counts as unchanged: far above rounding, far below the factor (ours).
COHERENT = 0.01
#: Score -> the table's column, what it is, its unit, and how it comes from maps before and after.
COHERENCY_SCORES = {
    "coherency": (
        "magnitude [nats]", "|log(m'/m)| per layer", "nats", rescaling.magnitude_changes,
    ),
    "coherency_shape": (
        "shape [1]", "change of shape within a layer, over that to a flat map", "",
        rescaling.shape_changes,
    ),
    "swaps": (
        "layers swapped [1]", "share of pairs of layers that swap by magnitude", "",
        rescaling.order_changes,
    ),
}  # fmt: skip
TITLES = {name: method.title for name, method in METHODS.items()} | {
    ENTROPY: "entropy (sigma)",
    VARIANCE: "sigma_f^2, undivided",
}
EXPLAINS = {"layer": "class, by layer", "input": "class, by input"}
ENTROPY_FAMILY, INVERSION_FAMILY = "entropy-based", "inversion-based"
# Section 3.2 argues it for the entropy; what Table I says of the others is by recollection.
GENERALITY = "yes, by information theory (the paper's claim)"
NO_GENERALITY = "no (the paper's claim, recollected)"
# color, marker, line: blue and vermilion of Okabe and Ito, as everywhere
_STYLES = {"original": ("#0072B2", "o", "-"), "rescaled": ("#D55E00", "s", "--")}
LEAST_DECADES = 1.5
DRAWN = ("gradient", "grad_cam")  # the two that the paper names

Maps = dict[str, dict[str, Tensor]]  # method -> layer -> (images, ...)
_Found = Mapping[str, "Coherency"]  # by kind of rescaling


@dataclass(frozen=True)
class Coherency:
    """Maps of networks and of their rescaled copies, one entry per training seed.

    output_difference: largest |y' - y| over seeds, images and classes, in units of the scores.
    """

    before: list[Maps]
    after: list[Maps]
    output_difference: float

    @property
    def layered(self) -> list[str]:
        """The methods with a map per layer."""
        return [method for method, maps in self.before[0].items() if len(maps) > 1]

    @property
    def compared(self) -> list[str]:
        """The explanations with a map per layer; sigma_f^2 is none."""
        return [method for method in self.layered if method != VARIANCE]

    @cached_property
    def scores(self) -> dict[str, dict[str, Estimate]]:
        """Method -> its COHERENCY_SCORES; a shape needs several units, an order several layers."""
        found: dict[str, dict[str, Estimate]] = {method: {} for method in self.before[0]}
        for method, scores in found.items():
            for name, (*_, change) in COHERENCY_SCORES.items():
                lacking = VARIANCE if name == "coherency_shape" else None
                if method != lacking and (name != "swaps" or method in self.layered):
                    pairs = zip(self.before, self.after, strict=True)
                    values = [change(b[method], a[method]) for b, a in pairs]
                    scores[name] = bootstrap(np.stack(values))
        return found

    def spread(self, method: str, rescaled: bool = False) -> Estimate:
        """Standard deviation over layers of log m, nats: how far layers are from comparable."""
        chosen = self.after if rescaled else self.before
        return bootstrap(np.stack([rescaling.layer_spread(maps[method]) for maps in chosen]))

    def entropy_difference(self) -> float:
        """Largest |H' - H| in nats over seeds, images, layers and units; infinite where only one
        of the two is defined."""
        gaps = []
        for b, a in zip(self.before, self.after, strict=True):
            for layer, sigma in b[ENTROPY].items():
                first, second = entropy_of(sigma), entropy_of(a[ENTROPY][layer])
                gap = torch.where(first.isnan() & second.isnan(), 0, (first - second).abs())
                gaps.append(float(gap.nan_to_num(torch.inf).max()))
        return max(gaps)

    def unchanged(self, method: str) -> bool:
        """Whether magnitude and shape stay to within COHERENT with all of their intervals."""
        scores = self.scores[method]
        return all(scores[name].high < COHERENT for name in ("coherency", "coherency_shape"))


def measure_coherency(study: ImageStudy) -> dict[str, Coherency]:
    """Explanations of the study's teachers and of their copies, by how they are rescaled.

    All convolutions, the measured images, the class that the teacher itself predicts. Raises
    KpnbError for networks that cannot be rescaled (ResNets, the pretrained teacher).
    """
    p, images = study.parameters, study.data.measured.images.to(study.device)
    before: list[Maps] = []
    after: dict[str, list[Maps]] = {kind: [] for kind in KIND_NAMES}
    moved = dict.fromkeys(KIND_NAMES, 0.0)
    for seed in track(p.seeds, "coherency"):
        net = study.network(study.of("T", seed)).eval()
        with torch.no_grad():
            scores = net(images)
        before.append(explanations(study, net, scores.argmax(1)))
        for kind in KIND_NAMES:
            copied = rescaling.rescaled(net, p.factor, p.pairs, seed if kind == "channel" else None)
            after[kind].append(explanations(study, copied, scores.argmax(1)))
            with torch.no_grad():
                moved[kind] = max(moved[kind], float((copied(images) - scores).abs().max()))
    return {kind: Coherency(before, after[kind], moved[kind]) for kind in KIND_NAMES}


def explanations(study: ImageStudy, net: nn.Module, targets: Tensor) -> Maps:
    """Every method's maps of the measured images, the entropy's sigma and sigma_f^2 with them. The
    layers are the convolutions ("conv 1", ...), their feature what comes out of their ReLU."""
    p, samples = study.parameters, study.data.measured
    names = rescaling.convolutions(net)
    labels = {rescaling.feature_name(net, name): f"conv {i + 1}" for i, name in enumerate(names)}
    images = samples.images.to(study.device)
    found = attributions(net, images, targets, p.methods, list(labels))
    maps = {m: {labels.get(k, k): v for k, v in parts.items()} for m, parts in found.items()}
    entropies = [study.explain(study.explainer(name), net, samples) for name in names]
    by_label = dict(zip(labels.values(), entropies, strict=True))
    return maps | {
        ENTROPY: {label: e.sigma.cpu() for label, e in by_label.items()},
        VARIANCE: {label: e.feature_variance.cpu()[:, None] for label, e in by_label.items()},
    }


class CoherencyFindings(Findings):
    """Numbers of the notebook on coherency; the results depend on how it is measured, too."""

    @property
    def code(self) -> tuple[str, ...]:
        return *super().code, "measure_coherency"

    def add_coherency(self, found: _Found) -> None:
        """Every score of every method, under both kinds of rescaling.

        coherency_<method>: |log(m'/m)| in nats; coherency_shape_<method>: change of shape;
        swaps_<method>, spread_<method>: between layers. A factor per channel: channel_ before it.
        """
        images, uniform = len(self.study.data.measured), found["layer"]
        for kind, how in KIND_NAMES.items():
            prefix = "" if kind == "layer" else f"{kind}_"
            for name, value, what, unit in (
                ("entropy", found[kind].entropy_difference(), "|H' - H|", "nats"),
                ("output", found[kind].output_difference, "|y' - y| before softmax", ""),
            ):
                gap = Number(value=value, what=f"largest {what}, {how}", unit=unit, n=images)
                self.numbers[f"{prefix}{name}_largest_difference"] = gap
            for method, scores in found[kind].scores.items():
                for name, score in scores.items():
                    _, what, unit, _ = COHERENCY_SCORES[name]
                    what = f"{TITLES[method]}: {what}, {how}"
                    self.numbers[f"{prefix}{name}_{method}"] = estimated(score, what, unit)
        for method in uniform.layered:
            what = f"{TITLES[method]}: standard deviation over layers of log m, original network"
            self.numbers[f"spread_{method}"] = estimated(uniform.spread(method), what, "nats")


def scores_table(found: _Found) -> pd.DataFrame:
    """Method against score, value [95% interval], under both kinds of rescaling."""
    rows = {}
    for method in found["layer"].scores:
        about = METHODS[method].about if method in METHODS else "feature"
        row = rows[TITLES[method]] = {"explains": EXPLAINS.get(about, "feature, by input")}
        for kind, how in KIND_NAMES.items():
            for name, score in found[kind].scores[method].items():
                row[f"{COHERENCY_SCORES[name][0]}, {how}"] = str(score)
    return pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("method")


def spread_table(found: _Found) -> pd.DataFrame:
    """How far the layers' magnitudes lie apart, original and rescaled, one factor per layer."""
    rows, uniform = {}, found["layer"]
    for method in uniform.layered:
        spreads = {name: uniform.spread(method, name == "rescaled") for name in _STYLES}
        rows[TITLES[method]] = {f"{name} [nats]": str(value) for name, value in spreads.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def family_table(found: _Found) -> pd.DataFrame:
    """Table I with what was measured: families of explanations by coherency and generality. Of each
    family, the methods with a map per layer; generality is the paper's claim, quoted."""
    families: dict[str, list[str]] = {}
    for method in found["layer"].compared:
        family = METHODS[method].family if method in METHODS else ENTROPY_FAMILY
        families.setdefault(family, []).append(method)
    rows = {}
    for family, members in families.items():
        row = rows[family] = {}
        for kind, how in KIND_NAMES.items():
            good = sum(found[kind].unchanged(m) for m in members)
            scores = [found[kind].scores[m]["coherency"].value for m in members]
            ends = dict.fromkeys((number(min(scores)), number(max(scores))))
            row[how] = f"{good} of {len(members)}; magnitude by {' to '.join(ends)} nats"
        row["generality"] = GENERALITY if family == ENTROPY_FAMILY else NO_GENERALITY
    missing = dict.fromkeys(KIND_NAMES.values(), "not measured")
    rows[INVERSION_FAMILY] = missing | {"generality": NO_GENERALITY}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("family")


def coherency_reading(found: _Found, factor: float) -> str:
    """What was found, as Markdown, built from the scores alone; it may say no."""
    uniform = found["layer"]
    kept = ["unchanged" if found[kind].unchanged(ENTROPY) else "changed" for kind in KIND_NAMES]
    lines = [
        f"Rescaled by {factor:g}, scores before softmax differ by at most "
        f"{number(uniform.output_difference)}, and no $H_i$ by more than "
        f"{number(uniform.entropy_difference())} nats: the entropy is **{kept[0]}**.",
        *(_changed_line(found[kind], how) for kind, how in KIND_NAMES.items()),
        "$\\sigma_f^2$, by which its loss is divided, changes by "
        f"{uniform.scores[VARIANCE]['coherency']} nats: its coherence is this division.",
    ]
    others = [uniform.unchanged(method) for method in uniform.compared if method != ENTROPY]
    answer = (
        f"**{'Yes' if kept[0] == 'unchanged' else 'No'}: the entropy is {kept[0]} under the "
        f"paper's rescaling. Unchanged are {sum(others)} of {len(others)} other methods with a map "
        f"per layer, too. When channels are rescaled one by one, the entropy is {kept[1]}.**"
    )
    return "\n".join([*(f"- {line}" for line in lines), "", answer])


def _changed_line(found: Coherency, how: str) -> str:
    """Which methods change and by how much; the paper says that gradients and CAM do."""
    good = [TITLES[m] for m in found.compared if found.unchanged(m)]
    bad = [f"{TITLES[m]} ({found.scores[m]['coherency']} nats)"
           for m in found.compared if not found.unchanged(m)]  # fmt: skip
    return (
        f"With {how}, of {count(len(found.compared), 'method')} with a map per layer, unchanged: "
        f"{', '.join(good) or 'none'}; changed: {', '.join(bad) or 'none'}."
    )


def magnitudes_figure(found: Coherency) -> Figure:
    """Figure 1(b): mean |map| by layer with 95% intervals over images, a panel per method; all
    panels span as many decades."""

    def draw(ax: Axes, method: str) -> None:
        ax.set_yscale("log")
        for (name, look), runs in zip(_STYLES.items(), (found.before, found.after), strict=True):
            table = np.stack([rescaling.magnitudes(maps[method]) for maps in runs])
            points = [bootstrap(layer) for layer in np.moveaxis(table, 2, 0)]  # (seeds, images)
            (color, marker, line), x = look, np.arange(1, len(points) + 1)
            ax.plot(x, [p.value for p in points], color=color, marker=marker, linestyle=line,
                    markersize=5, markerfacecolor="none" if name == "rescaled" else color,
                    label=name)  # fmt: skip
            ax.vlines(x, [p.low for p in points], [p.high for p in points], color=color,
                      linewidth=1.2)  # fmt: skip
            ax.set_xticks(x)

    parts, size = {TITLES[m]: m for m in found.layered}, (style.WIDTH / 3, 2.3)
    figure = style.row_of_panels(parts, draw, "convolution", "", size, most=3)
    # As many decades in every panel: a method's change looks as large as it is.
    axes = figure.axes[: len(parts)]
    ends = [np.log10(ax.get_ylim()) for ax in axes]
    half = max(LEAST_DECADES, *(high - low for low, high in ends)) / 2
    for ax, (low, high) in zip(axes, ends, strict=True):
        ax.set_ylim(10 ** ((low + high) / 2 - half), 10 ** ((low + high) / 2 + half))
        ax.yaxis.set_minor_formatter(NullFormatter())
    label = "m, mean |value| of the map [the method's own unit]"
    figure.supylabel(label, fontsize=style.LABEL_SIZE)
    return figure


def scores_figure(found: _Found) -> Figure:
    """The score of each method: change of magnitude and of shape, by kind of rescaling."""
    methods = list(found["layer"].scores)[::-1]
    looks = list(zip(KIND_NAMES, _STYLES.values(), (0.16, -0.16), strict=True))

    def draw(ax: Axes, name: str) -> None:
        for kind, (color, marker, _), shift in looks:
            scores = {row: found[kind].scores[m].get(name) for row, m in enumerate(methods)}
            for y, score in ((row + shift, score) for row, score in scores.items() if score):
                ax.hlines(y, score.low, score.high, color=color, linewidth=1.6)
                ax.plot(score.value, y, color=color, marker=marker, linestyle="none", markersize=6,
                        markerfacecolor=color if kind == "layer" else "none",
                        label=KIND_NAMES[kind])  # fmt: skip
        ax.set_yticks(range(len(methods)), [TITLES[m] for m in methods])
        ax.axvline(0, color="black", linewidth=1)

    parts = {
        "magnitude $|\\log(m'/m)|$ [nats]": "coherency",
        "shape, over that to a flat map [1]": "coherency_shape",
    }
    size = (style.WIDTH / 2, 0.28 * len(methods) + 1.3)
    return style.row_of_panels(parts, draw, "change", "method", size, sharey=True)


def maps_figure(found: Coherency, picture: np.ndarray, index: int) -> Figure:
    """One image's maps at every layer, original above rescaled: of the methods DRAWN those that
    were measured, then the entropy.

    Every method has one scale for all of its panels, from 0 to its largest value; the entropy has
    the scale of all the book's maps. index: the image among those measured, first seed.
    """
    chosen = [m for m in DRAWN if m in found.before[0]] + [ENTROPY]
    ends = (found.before[0], found.after[0])
    layers = list(ends[0][ENTROPY])
    size = (style.WIDTH, 2 * len(chosen) * 1.2 + 0.6)
    figure, axes = style.new_figure(2 * len(chosen), len(layers) + 1, size, "compressed")
    for row, line in enumerate(axes):
        method, maps = chosen[row // 2], ends[row % 2]
        draw_picture(line[0], picture, 1)
        line[0].set_ylabel(f"{TITLES[method]},\n{list(_STYLES)[row % 2]}", fontsize=7.5)
        largest = max(float(part[index].abs().max()) for m in ends for part in m[method].values())
        look = {"cmap": "magma", "interpolation": "nearest", "vmin": 0, "vmax": largest}
        for ax, layer in zip(line[1:], layers, strict=True):
            values = maps[method][layer][index]
            if method == ENTROPY:
                draw_entropy(ax, entropy_of(values))
            else:
                ax.imshow(np.abs(style.as_array(values)), **look)
    for ax, layer in zip(axes[0, 1:], layers, strict=True):
        ax.set_title(layer, fontsize=style.TITLE_SIZE)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    entropy_bar(figure, axes[-2:, 1:].flat)
    return figure
