"""The paper's figures of samples: Figures 1(a), 3, 4, 5 and 6, for images, clouds and words.

Samples are passed as their data set holds them: ImageSamples, PointSamples or EncodedTexts; or as
images (see kpnb.figures.image.as_pictures), clouds (n, points, 3), or TextSample. A figure of
words is an `Html` of running text, every other one a matplotlib Figure. Single samples are chosen
by their index, the same in samples, maps and points; roles are keyed "T", "S", "B". All raise
KpnbError where there is nothing to show, for samples or epochs that do not exist, and for maps and
points of other units. Figures of metrics are in kpnb.figures.charts.
"""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kpnb.datasets.samples import ImageSamples, PointSamples
from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.word_pieces import TextSample
from kpnb.errors import require
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.charts import TRAVELLED
from kpnb.figures.cloud import CloudPanels
from kpnb.figures.image import ImagePanels, Normalization
from kpnb.figures.panel import Panels, in_rows, marked_fates, marked_points
from kpnb.figures.style import ROLES, Array, as_array, row_of_panels
from kpnb.figures.text import Html, TextPanels
from kpnb.metrics.points import KnowledgePoints

SampleSet = ImageSamples | PointSamples | EncodedTexts | Sequence[TextSample] | Array
Trail = Mapping[int, KnowledgePoints]  # by epoch
Shown = Figure | Html


def panels_of(
    samples: SampleSet, rows: Iterable[int], normalization: Normalization | None = None
) -> Panels:
    """The samples at `rows` as panels of their modality; KpnbError where one does not exist;
    normalization: of images, see kpnb.figures.image.as_pictures."""
    shape = getattr(samples, "shape", ())
    if isinstance(samples, PointSamples) or (len(shape) == 3 and shape[2] == 3):
        return CloudPanels(samples, rows)
    samples = samples.shown() if isinstance(samples, EncodedTexts) else samples
    if isinstance(samples, list | tuple) and all(isinstance(s, TextSample) for s in samples):
        return TextPanels(samples, rows)
    return ImagePanels(samples, rows, normalization)


def samples_figure(samples: SampleSet, foreground: Array | None = None, count: int = 8) -> Shown:
    """The first `count` samples with their foreground, and their class or note.

    foreground: (samples, units) bool, which images need; clouds and texts hold their own.
    """
    rows = range(min(count, len(samples)))
    found = panels_of(samples, rows)
    shown = [found.sample(row, None if foreground is None else foreground[row]) for row in rows]
    return found.sheet(in_rows(shown))


def layers_figure(
    samples: SampleSet, maps_by_layer: Mapping[str, EntropyMaps], index: int = 0
) -> Shown:
    """Fig. 1(a): one sample and its entropies at layer after layer, on the fixed scale."""
    require(maps_by_layer, "there are no maps to show; pass those of one layer or more.")
    found = panels_of(samples, [index])
    return found.sheet(found.layers(index, maps_by_layer))


def definition_figure(
    samples: SampleSet, maps: EntropyMaps, points: KnowledgePoints, index: int = 0
) -> Shown:
    """Fig. 3: one sample, its H_i, the cut of H_bar - H_i at b, the knowledge points."""
    found = panels_of(samples, [index])
    return found.sheet(found.definition(index, maps, points))


def role_points_figure(
    samples: SampleSet, points_by_role: Mapping[str, KnowledgePoints], rows: Iterable[int]
) -> Shown:
    """Fig. 6: the knowledge points of each role on the samples at `rows`, one row per sample."""
    require(points_by_role, "there are no points to show; pass those of one role or more.")
    rows = list(rows)
    found = panels_of(samples, rows)
    looks = [(ROLES[role], points) for role, points in points_by_role.items()]
    grid = [
        [found.marked(row, marked_points(points, row, look.name, look.color))
         for look, points in looks]
        for row in rows
    ]  # fmt: skip
    return found.sheet(grid, [found.note(row) for row in rows])


def learning_figure(curves: Mapping[str, tuple[Array, Array]]) -> Figure:
    """Fig. 4: N_fg(x) of single samples against the weight distance, one panel per role.

    curves: role -> (distance (epochs,), n_fg (epochs, samples)). Bold: the mean over samples.
    Marked: each sample's first maximum, its m-hat of Eq. 8.
    """

    def draw(ax: Axes, role: str) -> None:
        (x, y), style = map(as_array, curves[role]), ROLES[role]
        ax.plot(x, y, color="0.55", linewidth=0.7, alpha=0.7, label="single sample")
        ax.plot(x, y.mean(1), color=style.color, linewidth=2.6, linestyle=style.line,
                label=f"{style.name}, mean")  # fmt: skip
        ax.scatter(x[y.argmax(0)], y.max(0), s=22, marker=style.marker, facecolors="none", zorder=3,
                   edgecolors=style.color, label=rf"{style.name}, at $\hat m$")  # fmt: skip
        ax.locator_params(axis="x", nbins=6)  # long decimals would run into each other

    named, y = {ROLES[role].name: role for role in curves}, r"$N_{\mathrm{fg}}(x)$ [points]"
    return row_of_panels(named, draw, TRAVELLED, y, (4.2, 3.6), columns=5, sharey=True)


def fates_figure(
    samples: SampleSet, trails: Mapping[str, Trail], index: int, shown: Sequence[int] | None = None
) -> Shown:
    """Fig. 5: one sample's foreground points at the epochs `shown` (all): detours on the way.

    Kinds of points: see `marked_fates`; earlier epochs are those of the whole trail.
    trails: role, or any other name to be written, -> epoch -> points; the same epochs for every
    role. One role: its epochs in turn. Several: a row for each, a column per epoch.
    """
    epochs, several = shown_epochs_of(trails, shown), len(trails) > 1
    found, grid = panels_of(samples, [index]), []
    for role, trail in trails.items():
        # In a wide grid the epoch is on a line of its own.
        name = (ROLES[role].name if role in ROLES else role) + ("\n" if epochs[1:] else ", ")
        names = [f"{name * several}epoch {epoch}" for epoch in epochs]
        points = [marked_fates(trail, index, *pair) for pair in zip(epochs, names, strict=True)]
        grid.append([found.marked(index, marked) for marked in points])
    return found.sheet(grid if several and epochs[1:] else in_rows(sum(grid, [])))


def shown_epochs_of(trails: Mapping[str, Trail], shown: Sequence[int] | None = None) -> list[int]:
    """The epochs of `trails`, or those of them that are `shown`, ascending."""
    held = [set(trail) for trail in trails.values()] or [set()]
    common = set.intersection(*held)
    unknown = sorted(set(shown or ()) - common)
    told = f"epochs {unknown} have no points; show some of {sorted(common)}."
    require(common and not unknown, told)
    return sorted(shown or common)
