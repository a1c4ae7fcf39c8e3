"""Controls of the notebooks: a slider that works in a page without a kernel, and a live picker."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kpnb.entropy import EntropyMaps
from kpnb.errors import KpnbError
from kpnb.figures import definition_figure
from kpnb.plots import as_pictures
from kpnb.points import knowledge_points
from kpnb.progress import executed_copy
from kpnb.style import Array

# Frames all lie in the page, so they are coarser than single figures.
FRAME_DPI = 80
HEAD = 24


def epoch_slider(
    frames: Sequence[Figure | bytes], labels: Sequence[str], title: str
) -> widgets.Widget:
    """A slider through pictures drawn beforehand, which moves without a kernel too.

    The browser itself links the slider to the picture shown, so a built page needs nothing else.
    Arrow keys move it once it has the focus.
    frames: figures, or PNG files as bytes; drawn at FRAME_DPI.
    labels: one per frame, written into its head and, with the title, its alternative text.
    Raises KpnbError without frames, for labels of another number and for bytes that are no picture.
    """
    if not frames or len(frames) != len(labels):
        raise KpnbError(
            f"{len(frames)} frames and {len(labels)} labels; pass a label for each frame."
        )
    named = zip(frames, labels, strict=True)
    pictures = [_with_head(_png(frame), f"{title}: {label}") for frame, label in named]
    slider = widgets.IntSlider(
        value=0, min=0, max=len(frames) - 1, step=1, description=title, readout=False
    )
    slider.style.description_width = "initial"
    slider.layout.width = "min(36em, 98%)"
    if not hasattr(widgets, "Stack"):
        return _without_stack(slider, pictures)
    children = [_frame(*part, title) for part in zip(pictures, labels, strict=True)]
    stack = widgets.Stack(children, selected_index=0)
    widgets.jslink((slider, "value"), (stack, "selected_index"))
    return widgets.VBox([slider, stack])


def picker(
    images: Array,
    maps_by_layer: Mapping[str, EntropyMaps],
    foreground: Tensor,
    thresholds: Sequence[float] = (0.15, 0.2, 0.25),
) -> widgets.Widget | None:
    """Live choice of layer, image and threshold b; draws `definition_figure` of it anew each time.

    images: network inputs or pictures, see kpnb.plots.as_pictures, one per sample; foreground:
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


def _frame(picture: bytes, label: str, title: str) -> widgets.HTML:
    """A picture with a text for who cannot see it, which widgets.Image has no place for: its
    tooltip, moreover, stops the view of an Image in a page without a kernel (html-manager 1.0)."""
    data, text = base64.b64encode(picture).decode(), html.escape(f"{title}: {label}")
    return widgets.HTML(
        f'<img alt="{text}" style="max-width:100%" src="data:image/png;base64,{data}">'
    )


def _without_stack(slider: widgets.IntSlider, pictures: Sequence[bytes]) -> widgets.Widget:
    """ipywidgets 7 (some hosted notebooks) has no Stack: there the kernel changes the picture."""
    shown = widgets.Image(value=pictures[0], format="png")

    def show(change: Mapping) -> None:
        shown.value = pictures[change["new"]]

    slider.observe(show, names="value")
    return widgets.VBox([slider, shown])


def _png(frame: Figure | bytes) -> bytes:
    if isinstance(frame, bytes):
        return frame
    buffer = io.BytesIO()
    frame.savefig(buffer, format="png", dpi=FRAME_DPI)
    return buffer.getvalue()


def _with_head(png: bytes, label: str) -> bytes:
    """The picture with a line of text above it, as PNG."""
    try:
        picture = Image.open(io.BytesIO(png)).convert("RGB")
    except OSError as error:
        raise KpnbError("a frame's bytes are no picture; pass PNG files or figures.") from error
    font = ImageFont.load_default(14)
    width = max(picture.width, int(font.getlength(label)) + 16)
    framed = Image.new("RGB", (width, picture.height + HEAD), "white")
    ImageDraw.Draw(framed).text((8, 4), label, fill="black", font=font)
    framed.paste(picture, (0, HEAD))
    buffer = io.BytesIO()
    framed.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
