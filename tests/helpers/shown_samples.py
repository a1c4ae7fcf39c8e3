"""Three samples of each modality with maps and points, and what a figure shows of them."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from kpnb.datasets.samples import ImageSamples, PointSamples, normalization
from kpnb.datasets.texts.word_pieces import TextSample
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import entropy_of
from kpnb.figures.panel import FATES, POINTS
from kpnb.figures.text import SIGNS
from kpnb.metrics.points import KnowledgePoints, knowledge_points

SAMPLES, SIDE, OBJECT, AROUND = 3, 4, 40, 20
POINTS_PER_CLOUD = OBJECT + AROUND
STYLES = {style.name: style for style in (*POINTS.values(), *FATES)}
WORDS, MARKS = ("a", "very", "bad", "film", "."), (False, True, True, False, False)


def pictures() -> np.ndarray:
    return np.random.default_rng(0).random((SAMPLES, 8, 8, 3)).astype("float32")


def clouds(count: int = SAMPLES, scale: int = 1) -> PointSamples:
    """A sphere, and a cube beside it as background, in random order."""
    rng = np.random.default_rng([3, count, scale])
    sphere = rng.normal(size=(count, OBJECT * scale, 3))
    sphere /= np.linalg.norm(sphere, axis=2, keepdims=True)
    cube = rng.uniform(-0.5, 0.5, (count, AROUND * scale, 3)) + [1.2, 0.3, -0.4]
    order = rng.permutation(POINTS_PER_CLOUD * scale)
    points = torch.tensor(np.concatenate([sphere, cube], 1)[:, order], dtype=torch.float32)
    foreground = torch.from_numpy(order < OBJECT * scale).repeat(count, 1)
    return PointSamples(points, torch.arange(count) % 2, foreground, ("chair", "desk"), {})


def maps_of(entropy: torch.Tensor) -> EntropyMaps:
    """Maps with these entropies, (samples, units) in nats; a row of NaN has no map."""
    sigma = torch.exp(entropy - entropy_of(torch.ones(())))
    known = entropy.isfinite().any(1)
    return EntropyMaps(sigma, known.float(), known, sigma)


class Shown:
    """Samples of a modality, their foreground (samples, units), and random maps of them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if kind == "cloud":
            self.samples, self.foreground = clouds(), clouds().foreground
        elif kind == "text":
            notes = (f"rated −{row}.4" for row in range(SAMPLES))
            self.samples = [TextSample(WORDS, MARKS, note=note) for note in notes]
            self.foreground = torch.tensor([MARKS] * SAMPLES)
        else:
            block = torch.zeros(SAMPLES, SIDE, SIDE, dtype=torch.bool)
            block[:, 1:3, 1:4] = True  # 2 x 3 cells of the grid of an image
            center, spread = normalization()
            inputs = (torch.from_numpy(pictures()).permute(0, 3, 1, 2) - center) / spread
            about = torch.tensor([1, 0, 1]), inputs[:, 0] > 0, ("tool", "fruit"), {}
            self.samples, self.foreground = ImageSamples(inputs, *about), block.flatten(1)

    def maps(self, seed: int = 0, lost: int | None = None) -> EntropyMaps:
        """Lower on the foreground; lost: a sample without a map."""
        noise = torch.randn(self.foreground.shape, generator=torch.Generator().manual_seed(seed))
        entropy = -2.8 + 0.5 * noise - 0.5 * self.foreground
        if lost is not None:
            entropy[lost] = torch.nan
        return maps_of(entropy)

    def points(self, seed: int = 0, lost: int | None = None, b: float = 0.2) -> KnowledgePoints:
        return knowledge_points(self.maps(seed, lost), self.foreground, b)

    def held(self, *units: int) -> KnowledgePoints:
        """Points of sample 0 alone: `units` of its foreground are held, by their place there."""
        p, kept = self.points(), torch.zeros_like(self.foreground)
        kept[0, self.foreground[0].nonzero().flatten()[list(units)]] = True
        rest = (p.foreground, p.baseline, p.defined, p.entropy, 0.2)
        return KnowledgePoints(kept, torch.zeros_like(kept), *rest)


def panels(figure: Figure) -> list:
    """The axes of a figure that are seen, but for the color bar."""
    return [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]


def titles(shown: object) -> list[str]:
    """The title of each panel, or the label of each line of words."""
    if isinstance(shown, Figure):
        return [ax.get_title().replace("\n", ", ") for ax in panels(shown)]
    return re.findall(r"^\[(.*)\]$", repr(shown), re.MULTILINE)


def marks(shown: object, *names: str) -> list[tuple[int, ...]]:
    """For each panel or line, how many units it marks in each of the styles with these names."""
    styles = [STYLES[name] for name in names]
    if isinstance(shown, Figure):
        return [tuple(len(places(ax, style.color)) for style in styles) for ax in panels(shown)]
    lines = [line for line in repr(shown).splitlines() if line.startswith("  ")]
    return [tuple(line.count(SIGNS[style.marker]) for style in styles) for line in lines]


def places(ax, color: str) -> set[tuple[float, float]]:
    """Where the marks of a color are."""
    found = set()
    for marks in ax.collections:
        at = np.asarray(marks.get_offsets()).reshape(-1, 2)
        if len(at):
            own = np.broadcast_to((marks.get_facecolor() == to_rgba(color)).all(1), len(at))
            found |= {*map(tuple, at[own].round(5))}
    return found


def check_figure(figure: Figure) -> None:
    """Closed, no wider than a page, small as a file, nothing cut off, axes named with units."""
    assert plt.get_fignums() == []  # else a notebook would show the figure twice
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert figure.get_figwidth() <= 9 and len(buffer.getvalue()) < 300_000
    needed, there = figure.get_tightbbox(), figure.bbox_inches
    assert min(needed.x0, needed.y0) > -0.02
    assert max(needed.x1 - there.x1, needed.y1 - there.y1) < 0.02
    for axis in ("xaxis", "yaxis"):
        labels = [getattr(ax, axis).label.get_text() for ax in panels(figure)]
        assert any(labels)
        assert all("[" in text or text in ("", "network", "units", "points") for text in labels)
