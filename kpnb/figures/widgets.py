"""Controls of the notebooks: frames to step through, without a kernel too, and a live picker."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.datasets.samples import PointSamples
from kpnb.errors import KpnbError, require
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.cloud import CloudPanels, turned
from kpnb.figures.panel import sheet
from kpnb.figures.paper import SampleSet, Trail, definition_figure, fates_figure, shown_epochs_of
from kpnb.figures.text import Html
from kpnb.fingerprint import executed_copy
from kpnb.metrics.points import knowledge_points

# Frames all lie in the page, so they are coarser than single figures.
FRAME_DPI = 80
ANGLES = 12  # pictures of one full turn
THRESHOLDS = (0.15, 0.2, 0.25)  # nats, to pick from; the middle one comes first
# What a slider does when it moves: its own picture is shown, and said to who cannot see it.
SHOW_FRAME = """
const box = this.closest("figure"), frames = box.querySelectorAll("img");
frames.forEach((frame, place) => frame.style.display = place == this.value ? "block" : "none");
const text = frames[this.value].alt;
box.querySelector("figcaption").textContent = text;
this.setAttribute("aria-valuetext", text);
"""
# Themes center captions and pictures, and write captions grey on what is grey already in the dark.
LEFT = "margin:0;text-align:left;color:inherit"


def epoch_slider(frames: Sequence[Figure], labels: Sequence[str], title: str) -> Html:
    """A slider through pictures drawn beforehand, which moves without a kernel and a network too.

    All that it needs lies in its own HTML: the browser's slider, which arrow keys, Home and End
    move once it has the focus, the pictures, and SHOW_FRAME. Without scripts the first one shows.
    frames: drawn at FRAME_DPI. labels: one per frame; after the title, its caption and its
    alternative text.
    Raises KpnbError without frames, for labels of another number and for what is no figure.
    """
    if not frames or len(frames) != len(labels):
        raise KpnbError(f"{len(frames)} frames, {len(labels)} labels; pass a label for each frame.")
    texts = [f"{title}: {label}" for label in labels]
    pictures = "".join(_frame(frames[n], text, n == 0) for n, text in enumerate(texts))
    first = escape(texts[0])
    # autocomplete: a page loaded again begins with the first frame, so the slider must too.
    slider = (
        f'<input type="range" min="0" max="{len(frames) - 1}" value="0" step="1" '
        f'autocomplete="off" aria-label="{escape(title)}" aria-valuetext="{first}" '
        f'style="width:min(36em, 98%)" oninput="{escape(SHOW_FRAME.strip())}">'
    )
    caption = f'<figcaption style="{LEFT}">{first}</figcaption>'
    whole = f'<figure style="{LEFT}">{slider}{caption}{pictures}</figure>'
    return Html(whole, f"{title}: {', '.join(labels)}")


def fates_slider(samples: SampleSet, trails: Mapping[str, Trail], index: int) -> Html:
    """Figure 5 to step through: a frame per epoch, in it a panel per role. Arguments as in
    `fates_figure`. Raises KpnbError for words: their figure has every epoch's line."""
    epochs = shown_epochs_of(trails)
    frames = [fates_figure(samples, trails, index, [epoch]) for epoch in epochs]
    labels = [f"epoch {epoch}" for epoch in epochs]
    return epoch_slider(frames, labels, "student and baseline by epoch")


def rotating_cloud(
    samples: PointSamples, maps: EntropyMaps, index: int = 0, label: str = "entropy"
) -> Html:
    """A slider that turns a cloud, colored by entropy, about its upward axis, seen from 20 degrees
    above; label: its title. Raises KpnbError for maps of other points. For a page that runs no
    scripts, set `layers_figure` beside it.
    """
    found, values = CloudPanels(samples, [index]), maps.entropy[index]
    turn = np.arange(ANGLES) * 360 / ANGLES  # degrees
    frames = [sheet([[found.entropy(index, values, "", view=turned(a))]]) for a in turn]
    return epoch_slider(frames, [f"turned by {a:.0f}°" for a in turn], label)


def picker(
    samples: SampleSet, maps_by_layer: Mapping[str, EntropyMaps], foreground: Tensor
) -> widgets.Widget | None:
    """Live choice of layer, sample and threshold b; draws `definition_figure` anew each time.

    samples: see kpnb.figures.paper, those of the maps; foreground: (samples, units) bool.
    None in a notebook that is executed into a copy: without a kernel the controls would be dead.
    Raises KpnbError for no maps, or maps that are not one per sample.
    """
    if executed_copy():
        return None
    counts = {len(maps) for maps in maps_by_layer.values()}
    told = f"{len(samples)} samples, maps of {sorted(counts)} samples"
    require(counts == {len(samples)}, f"{told}; pass maps of a layer for exactly these samples.")

    def drawn(layer: str, sample: int, b: float) -> Figure | Html:
        maps = maps_by_layer[layer]
        points = knowledge_points(maps, foreground, b)
        return definition_figure(samples, maps, points, sample)

    late, given = {"continuous_update": False}, [(f"{b:g} nats", b) for b in THRESHOLDS]
    sample = widgets.IntSlider(0, 0, len(samples) - 1, **late)
    threshold = widgets.SelectionSlider(options=given, value=THRESHOLDS[1], **late)
    choices = {"layer": list(maps_by_layer), "sample": sample, "b": threshold}
    return widgets.interactive(drawn, {"auto_display": True}, **choices)


def _frame(frame: Figure, text: str, shown: bool) -> str:
    """An <img> with its picture inside; `decoding`: no gap between one frame and the next."""
    require(isinstance(frame, Figure), "a frame is no picture; pass figures.")
    png, style = io.BytesIO(), f"display:{'block' if shown else 'none'};margin:0;max-width:100%"
    frame.savefig(png, format="png", dpi=FRAME_DPI)
    return (
        f'<img alt="{escape(text)}" style="{style}" decoding="sync" '
        f'src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">'
    )
