"""Coherency, measured: what happens to explanations of a network that is rescaled (Figure 1(b)).

The network and its copy compute the same function (`kpnb.experiments.rescaling`), so that a
coherent explanation is the same for both. Two things can change, a map's magnitude and its shape.

The shape is not asked for in the paper. It belongs here because the entropy is divided by the
feature's own variance (sigma_f^2 in Eq. 3) and read off at one mean for all layers: it has no
magnitude to lose, by construction. A gradient map that is divided by its sum has none either.

The entropy takes part as the map of its noise sigma_i (log m' - log m is then a change of H in
nats), and sigma_f^2 as a map of a single number: what the entropy would be without the division.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.loss import entropy_of
from kpnb.experiments import rescaling
from kpnb.experiments.attributions import METHODS, attributions
from kpnb.figures.image import draw_entropy, draw_picture
from kpnb.figures.panel import entropy_bar
from kpnb.figures.style import LABEL_SIZE, TITLE_SIZE, WIDTH, as_array, legend_below, new_figure
from kpnb.fingerprint import track
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
KIND_STYLES = {"layer": ("#0072B2", "o", True), "channel": ("#D55E00", "s", False)}
LEAST_DECADES = 1.5
DRAWN = ("gradient", "grad_cam")  # the two that the paper names

Maps = dict[str, dict[str, Tensor]]  # method -> layer -> (images, ...)
_Change = Callable[[dict[str, Tensor], dict[str, Tensor]], np.ndarray]
_Found = Mapping[str, "Coherency"]  # by kind of rescaling


@dataclass(frozen=True)
class Coherency:
    """Maps of networks and of their rescaled copies, one entry per training seed.

    output_difference: largest |y' - y| over seeds, images and classes, in units of the scores.
    """

    before: list[Maps]
    after: list[Maps]
    output_difference: float
    _known: dict[tuple, Estimate] = field(default_factory=dict, repr=False)

    @property
    def methods(self) -> list[str]:
        return list(self.before[0])

    @property
    def layered(self) -> list[str]:
        """The methods with a map per layer."""
        return [method for method in self.methods if len(self.layers(method)) > 1]

    def layers(self, method: str) -> list[str]:
        return list(self.before[0][method])

    def magnitude_change(self, method: str) -> Estimate:
        """|log(m'/m)|, nats, mean over layers and images (and seeds)."""
        return self._estimate(method, rescaling.magnitude_changes)

    def shape_change(self, method: str) -> Estimate:
        """What has moved within a layer, over what would move to make the map flat."""
        return self._estimate(method, rescaling.shape_changes)

    def swaps(self, method: str) -> Estimate:
        """Share of pairs of layers that change places when ordered by magnitude, 0 to 1."""
        return self._estimate(method, rescaling.order_changes)

    def spread(self, method: str, rescaled: bool = False) -> Estimate:
        """Standard deviation over layers of log m, nats: how far layers are from comparable."""
        chosen = self.after if rescaled else self.before
        return bootstrap(np.stack([rescaling.layer_spread(maps[method]) for maps in chosen]))

    def entropy_difference(self) -> float:
        """Largest |H' - H| in nats over seeds, images, layers and units; infinite where only one
        of the two is defined."""
        pairs = zip(self.before, self.after, strict=True)
        parts = [(b[ENTROPY][k], a[ENTROPY][k]) for b, a in pairs for k in b[ENTROPY]]
        return max(_largest_gap(entropy_of(first), entropy_of(second)) for first, second in parts)

    def unchanged(self, method: str) -> bool:
        """Whether magnitude and shape stay as they are, to within COHERENT."""
        return is_coherent(self.magnitude_change(method)) and is_coherent(self.shape_change(method))

    def _estimate(self, method: str, change: _Change) -> Estimate:
        if (method, change) not in self._known:
            pairs = zip(self.before, self.after, strict=True)
            values = np.stack([change(b[method], a[method]) for b, a in pairs])
            self._known[method, change] = bootstrap(values)
        return self._known[method, change]


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
    """Every method's maps of the measured images, the entropy's sigma and sigma_f^2 with them.

    The layers are the convolutions ("conv 1", ...), their feature what comes out of their ReLU.
    """
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


def _largest_gap(first: Tensor, second: Tensor) -> float:
    gaps = (first - second).abs()
    return float(torch.where(first.isnan() & second.isnan(), 0, gaps).nan_to_num(torch.inf).max())


# What was found: numbers, tables, the reading


class CoherencyFindings(Findings):
    """Numbers of the notebook on coherency; the results depend on how it is measured, too."""

    @property
    def code(self) -> tuple[str, ...]:
        return *super().code, "measure_coherency"

    def add_coherency(self, found: _Found) -> None:
        """Every score of every method, under both kinds of rescaling.

        coherency_<method>: |log(m'/m)| in nats; coherency_shape_<method>: change of shape;
        swaps_<method>, spread_<method>: between layers. Under a factor per channel the names begin
        with channel_.
        """
        for kind, how in KIND_NAMES.items():
            self._add_kind(found[kind], "" if kind == "layer" else f"{kind}_", how)
        for method in found["layer"].layered:
            what = f"{TITLES[method]}: standard deviation over layers of log m, original network"
            self.numbers[f"spread_{method}"] = estimated(
                found["layer"].spread(method), what, "nats"
            )

    def _add_kind(self, found: Coherency, prefix: str, how: str) -> None:
        largest = {
            "entropy": (found.entropy_difference(), "|H' - H|", "nats"),
            "output": (found.output_difference, "|y' - y| before softmax", ""),
        }
        images = len(self.study.data.measured)
        for name, (value, what, unit) in largest.items():
            gap = Number(value=value, what=f"largest {what}, {how}", unit=unit, n=images)
            self.numbers[f"{prefix}{name}_largest_difference"] = gap
        for method in found.methods:
            for name, score in _measured(found, method).items():
                _, what, unit = COHERENCY_SCORES[name]
                what = f"{TITLES[method]}: {what}, {how}"
                self.numbers[f"{prefix}{name}_{method}"] = estimated(score, what, unit)


SHAPE_CHANGE = "change of shape within a layer, over that to a flat map"
# name -> the table's column, what it is, its unit
COHERENCY_SCORES = {
    "coherency": ("magnitude [nats]", "|log(m'/m)| per layer", "nats"),
    "coherency_shape": ("shape [1]", SHAPE_CHANGE, ""),
    "swaps": ("layers swapped [1]", "share of pairs of layers that swap by magnitude", ""),
}


def is_coherent(score: Estimate) -> bool:
    """Unchanged to within COHERENT, with all of its interval."""
    return score.high < COHERENT


def scores_table(found: _Found) -> pd.DataFrame:
    """Method against score, value [95% interval], under both kinds of rescaling."""
    rows = {}
    for method in found["layer"].methods:
        about = METHODS[method].about if method in METHODS else "feature"
        row = rows[TITLES[method]] = {"explains": EXPLAINS.get(about, "feature, by input")}
        for kind, how in KIND_NAMES.items():
            for name, score in _measured(found[kind], method).items():
                row[f"{COHERENCY_SCORES[name][0]}, {how}"] = _cell(score)
    return pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("method")


def spread_table(found: _Found) -> pd.DataFrame:
    """How far the layers' magnitudes lie apart, original and rescaled, one factor per layer."""
    uniform = found["layer"]
    columns = {
        f"{name} [nats]": [_cell(uniform.spread(m, name == "rescaled")) for m in uniform.layered]
        for name in _STYLES
    }
    methods = pd.Index([TITLES[m] for m in uniform.layered], name="method")
    return pd.DataFrame(columns, index=methods)


def family_table(found: _Found) -> pd.DataFrame:
    """Table I with what was measured: families of explanations by coherency and generality.

    Of each family, the methods with a map per layer; generality is the paper's claim, quoted.
    """
    families: dict[str, list[str]] = {}
    for method in _compared(found["layer"]):
        family = METHODS[method].family if method in METHODS else ENTROPY_FAMILY
        families.setdefault(family, []).append(method)
    rows = {
        family: {how: _family_cell(found[kind], members) for kind, how in KIND_NAMES.items()}
        for family, members in families.items()
    }
    rows[INVERSION_FAMILY] = dict.fromkeys(KIND_NAMES.values(), "not measured")
    for family, row in rows.items():
        row["generality"] = GENERALITY if family == ENTROPY_FAMILY else NO_GENERALITY
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("family")


def _family_cell(found: Coherency, members: Sequence[str]) -> str:
    good = sum(found.unchanged(m) for m in members)
    scores = [found.magnitude_change(m).value for m in members]
    low, high = number(min(scores)), number(max(scores))
    changes = low if low == high else f"{low} to {high}"
    return f"{good} of {len(members)}; magnitude by {changes} nats"


def coherency_reading(found: _Found, factor: float) -> str:
    """What was found, as Markdown, built from the scores alone; it may say no."""
    uniform = found["layer"]
    lines = [
        f"Rescaled by {factor:g}, scores before softmax differ by at most "
        f"{number(uniform.output_difference)}, and no $H_i$ by more than "
        f"{number(uniform.entropy_difference())} nats: the entropy is "
        f"**{'unchanged' if uniform.unchanged(ENTROPY) else 'changed'}**.",
        *(_changed_line(found[kind], how) for kind, how in KIND_NAMES.items()),
        "$\\sigma_f^2$ itself, by which the entropy's loss is divided, changes by "
        f"{_cell(uniform.magnitude_change(VARIANCE))} nats: the entropy's coherence is this "
        "division, as dividing a map by its own sum is for others, and holds by construction.",
    ]
    return "\n".join([*(f"- {line}" for line in lines), "", _answer(found)])


def _changed_line(found: Coherency, how: str) -> str:
    """Which methods change and by how much; the paper says that gradients and CAM do."""
    shown = _compared(found)
    good = [TITLES[m] for m in shown if found.unchanged(m)]
    bad = [f"{TITLES[m]} ({_cell(found.magnitude_change(m))} nats)"
           for m in shown if not found.unchanged(m)]  # fmt: skip
    return (
        f"With {how}, of {count(len(shown), 'method')} with a map per layer, unchanged: "
        f"{', '.join(good) or 'none'}; changed: {', '.join(bad) or 'none'}."
    )


def _answer(found: _Found) -> str:
    uniform = found["layer"]
    if not uniform.unchanged(ENTROPY):
        return "**No: the entropy changes with the rescaling, against the paper.**"
    alone = not any(uniform.unchanged(m) for m in _compared(uniform) if m != ENTROPY)
    only = "it alone" if alone else "but not it alone"
    limit = "it is so too" if found["channel"].unchanged(ENTROPY) else "it is not"
    return (
        f"**Yes: the entropy is coherent under the paper's rescaling, {only} among the maps of "
        f"layers. When channels are rescaled one by one, {limit}.**"
    )


def _compared(found: Coherency) -> list[str]:
    """The explanations with a map per layer; sigma_f^2 is none."""
    return [m for m in found.layered if m != VARIANCE]


def _measured(found: Coherency, method: str) -> dict[str, Estimate]:
    """The method's `COHERENCY_SCORES`: a shape needs several units, an order several layers."""
    scores = {"coherency": found.magnitude_change(method)}
    scores |= {"coherency_shape": found.shape_change(method)} if method != VARIANCE else {}
    return scores | ({"swaps": found.swaps(method)} if method in found.layered else {})


def _cell(score: Estimate) -> str:
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"


# Figures


def magnitudes_figure(found: Coherency) -> Figure:
    """Figure 1(b): mean |map| by layer with 95% intervals over images, a panel per method.

    All panels span as many decades.
    """
    methods = found.layered
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    figure, axes = new_figure(rows, columns, (WIDTH, 2.1 * rows + 0.6))
    for ax in axes.flat[len(methods) :]:
        ax.set_visible(False)
    for ax, method in zip(axes.flat, methods, strict=False):
        ax.set_yscale("log")
        for name, runs in (("original", found.before), ("rescaled", found.after)):
            _magnitude_line(ax, [maps[method] for maps in runs], name)
        ax.set_title(TITLES[method], fontsize=TITLE_SIZE)
        ax.set_xlabel("convolution", fontsize=LABEL_SIZE)
        ax.grid(alpha=0.3)
    _same_span(axes.flat[: len(methods)])
    figure.supylabel("m, mean |value| of the map [the method's own unit]", fontsize=LABEL_SIZE)
    legend_below(figure, axes.flat)
    return figure


def scores_figure(found: _Found) -> Figure:
    """The score of each method: change of magnitude and of shape, by kind of rescaling."""
    methods = found["layer"].methods[::-1]
    figure, axes = new_figure(1, 2, (WIDTH, 0.28 * len(methods) + 1.3), sharey=True)
    measured = (
        ("coherency", "change of magnitude $|\\log(m'/m)|$ [nats]"),
        ("coherency_shape", "change of shape, over that to a flat map [1]"),
    )
    for ax, (name, label) in zip(axes[0], measured, strict=True):
        for kind in KIND_NAMES:
            scores = {row: _measured(found[kind], m).get(name) for row, m in enumerate(methods)}
            _dots(ax, {row: score for row, score in scores.items() if score}, kind)
        ax.set_yticks(range(len(methods)), [TITLES[m] for m in methods])
        ax.axvline(0, color="black", linewidth=1)
        ax.set_xlabel(label, fontsize=LABEL_SIZE)
        ax.grid(axis="x", alpha=0.3)
    axes[0, 0].set_ylabel("method", fontsize=LABEL_SIZE)
    legend_below(figure, axes.flat)
    return figure


def maps_figure(
    found: Coherency, picture: np.ndarray, index: int, methods: Sequence[str] = DRAWN
) -> Figure:
    """One image's maps at every layer, original above rescaled: some methods, then the entropy.

    Every method has one scale for all of its panels, from 0 to its largest value; the entropy has
    the scale of all the book's maps. index: the image among those measured, first seed; methods
    that were not measured are left out. Raises KpnbError for a method without a map per layer.
    """
    chosen = [m for m in methods if m in found.methods] + [ENTROPY]
    if not set(chosen) <= set(found.layered):
        raise KpnbError("these maps are drawn by layer; choose methods with a map per layer.")
    layers, ends = found.layers(ENTROPY), (found.before[0], found.after[0])
    size = (WIDTH, 2 * len(chosen) * 1.2 + 0.6)
    figure, axes = new_figure(2 * len(chosen), len(layers) + 1, size, "compressed")
    for row, line in enumerate(axes):
        method, maps = chosen[row // 2], ends[row % 2]
        draw_picture(line[0], picture, 1)
        line[0].set_ylabel(f"{TITLES[method]},\n{list(_STYLES)[row % 2]}", fontsize=7.5)
        largest = max(float(part[index].abs().max()) for m in ends for part in m[method].values())
        for ax, layer in zip(line[1:], layers, strict=True):
            _draw_map(ax, maps[method][layer][index], method, largest)
    for ax, layer in zip(axes[0, 1:], layers, strict=True):
        ax.set_title(layer, fontsize=TITLE_SIZE)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    entropy_bar(figure, axes[-2:, 1:].flat)
    return figure


def _draw_map(ax: Axes, values: Tensor, method: str, largest: float) -> None:
    if method == ENTROPY:
        draw_entropy(ax, entropy_of(values))
    else:
        style = {"cmap": "magma", "interpolation": "nearest"}
        ax.imshow(np.abs(as_array(values)), vmin=0, vmax=largest, **style)


def _magnitude_line(ax: Axes, runs: Sequence[Mapping[str, Tensor]], name: str) -> None:
    table = np.stack([rescaling.magnitudes(maps) for maps in runs])  # (seeds, images, layers)
    points = [bootstrap(table[:, :, layer]) for layer in range(table.shape[2])]
    color, marker, line = _STYLES[name]
    x = np.arange(1, len(points) + 1)
    ax.plot(x, [p.value for p in points], color=color, marker=marker, linestyle=line,
            markersize=5, markerfacecolor="none" if name == "rescaled" else color,
            label=name)  # fmt: skip
    ax.vlines(x, [p.low for p in points], [p.high for p in points], color=color, linewidth=1.2)
    ax.set_xticks(x)


def _same_span(axes: Sequence[Axes]) -> None:
    """As many decades in every panel: a method's change looks as large as it is."""
    ends = [np.log10(ax.get_ylim()) for ax in axes]
    half = max(LEAST_DECADES, *(high - low for low, high in ends)) / 2
    for ax, (low, high) in zip(axes, ends, strict=True):
        ax.set_ylim(10 ** ((low + high) / 2 - half), 10 ** ((low + high) / 2 + half))
        ax.yaxis.set_minor_formatter(NullFormatter())


def _dots(ax: Axes, scores: Mapping[int, Estimate], kind: str) -> None:
    """scores: row -> score."""
    color, marker, filled = KIND_STYLES[kind]
    y = np.array(list(scores)) + (0.16 if kind == "layer" else -0.16)
    low, high, value = ([getattr(s, e) for s in scores.values()] for e in ("low", "high", "value"))
    ax.hlines(y, low, high, color=color, linewidth=1.6)
    ax.plot(value, y, color=color, marker=marker, linestyle="none",
            markersize=6, markerfacecolor=color if filled else "none",
            label=KIND_NAMES[kind])  # fmt: skip
