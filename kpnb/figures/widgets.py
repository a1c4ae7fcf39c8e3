"""Controls of the notebooks: frames to step through, without a kernel too, and a live picker."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets as widgets
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.figures.image import as_pictures
from kpnb.figures.paper import definition_figure
from kpnb.figures.style import Array
from kpnb.figures.text_marks import Html
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.provenance import executed_copy

# Frames all lie in the page, so they are coarser than single figures.
FRAME_DPI = 80
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
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


def epoch_slider(frames: Sequence[Figure | bytes], labels: Sequence[str], title: str) -> Html:
    """A slider through pictures drawn beforehand, which moves without a kernel and a network too.

    All that it needs lies in its own HTML: the browser's slider, which arrow keys, Home and End
    move once it has the focus, the pictures, and SHOW_FRAME. Without scripts the first one shows.
    frames: figures, or PNG files as bytes; drawn at FRAME_DPI.
    labels: one per frame; after the title, its caption and its alternative text.
    Raises KpnbError without frames, for labels of another number and for bytes that are no PNG.
    """
    if not frames or len(frames) != len(labels):
        raise KpnbError(
            f"{len(frames)} frames and {len(labels)} labels; pass a label for each frame."
        )
    texts = [f"{title}: {label}" for label in labels]
    pairs = enumerate(zip(frames, texts, strict=True))
    pictures = "".join(_frame(_png(frame), text, place == 0) for place, (frame, text) in pairs)
    slider = _range(len(frames), title, texts[0])
    caption = f'<figcaption style="{LEFT}">{escape(texts[0])}</figcaption>'
    whole = f'<figure style="{LEFT}">{slider}{caption}{pictures}</figure>'
    return Html(whole, f"{title}: {', '.join(labels)}")


def picker(
    images: Array,
    maps_by_layer: Mapping[str, EntropyMaps],
    foreground: Tensor,
    thresholds: Sequence[float] = (0.15, 0.2, 0.25),
) -> widgets.Widget | None:
    """Live choice of layer, image and threshold b; draws `definition_figure` of it anew each time.

    images: network inputs or pictures, see kpnb.figures.image.as_pictures, one per sample;
    foreground:
    (samples, units) bool. thresholds: in nats; the middle one comes first.
    None in a notebook that is executed into a copy: without a kernel the controls would be dead.
    Raises KpnbError for no maps, no thresholds, or images that are not one per sample.
    """
    if executed_copy():
        return None
    pictures, counts = as_pictures(images), {len(maps) for maps in maps_by_layer.values()}
    if counts != {len(pictures)} or not thresholds:
        raise KpnbError(
            f"{len(pictures)} images, maps of {sorted(counts)} samples, thresholds "
            f"{[*thresholds]}; pass maps of a layer for exactly these images, and a threshold."
        )
    controls = _controls(list(maps_by_layer), len(pictures), sorted(thresholds))
    layer, sample, threshold = controls
    shown = widgets.Image(format="png", layout={"max_width": "100%"})

    def redraw(_change: object = None) -> None:
        maps = maps_by_layer[layer.value]
        points = knowledge_points(maps, foreground, threshold.value)
        index = sample.value
        shown.value = _png(definition_figure(pictures[index], maps, points, index))

    for control in controls:
        control.observe(redraw, names="value")
    redraw()
    return widgets.VBox([*controls, shown])


def _controls(
    layers: list[str], samples: int, thresholds: list[float]
) -> tuple[widgets.Dropdown, widgets.IntSlider, widgets.SelectionSlider]:
    options = [(f"{b:g}", b) for b in thresholds]
    middle = thresholds[len(thresholds) // 2]
    return (
        widgets.Dropdown(options=layers, description="layer"),
        widgets.IntSlider(
            value=0, min=0, max=samples - 1, description="image", continuous_update=False
        ),
        widgets.SelectionSlider(
            options=options, value=middle, description="b [nats]", continuous_update=False
        ),
    )


def _range(count: int, title: str, text: str) -> str:
    """The browser's slider over `count` places; `text` is what it says at the first.

    `autocomplete`: a page loaded again begins with the first frame, so the slider must too.
    """
    return (
        f'<input type="range" min="0" max="{count - 1}" value="0" step="1" autocomplete="off" '
        f'aria-label="{escape(title)}" aria-valuetext="{escape(text)}" '
        f'style="width:min(36em, 98%)" oninput="{escape(SHOW_FRAME.strip())}">'
    )


def _frame(png: bytes, text: str, shown: bool) -> str:
    """An <img> with its picture inside; `decoding`: no gap between one frame and the next."""
    style = f"display:{'block' if shown else 'none'};margin:0;max-width:100%"
    data = base64.b64encode(png).decode()
    return (
        f'<img alt="{escape(text)}" style="{style}" decoding="sync" '
        f'src="data:image/png;base64,{data}">'
    )


def _png(frame: Figure | bytes) -> bytes:
    if isinstance(frame, bytes):
        if not frame.startswith(PNG_HEAD):
            raise KpnbError("a frame's bytes are no picture; pass PNG files or figures.")
        return frame
    buffer = io.BytesIO()
    frame.savefig(buffer, format="png", dpi=FRAME_DPI)
    return buffer.getvalue()
