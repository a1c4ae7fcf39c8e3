"""The slider's saved state must work alone; the picker must redraw, or not be there."""

import base64
import io
import re

import ipywidgets
import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state
from PIL import Image

from kpnb.entropy import EntropyMaps
from kpnb.errors import KpnbError
from kpnb.progress import EXECUTED
from kpnb.style import new_figure
from kpnb.widgets import FRAME_DPI, epoch_slider, picker


def _png(shade: int, size: tuple[int, int] = (300, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def _frames(widget) -> list[tuple[str, Image.Image]]:
    """Alternative text and picture of each frame."""
    found = [re.search(r'alt="(.*?)".*base64,(.*)">', c.value) for c in widget.children[1].children]
    return [(m[1], Image.open(io.BytesIO(base64.b64decode(m[2])))) for m in found]


def test_saved_state_links_slider_to_frames_without_a_kernel():
    widget = epoch_slider([_png(0), _png(100), _png(200)], ["epoch 1", "epoch 2", "epoch 9"], "S")
    state = dependency_state([widget], drop_defaults=False)
    by_name = {}
    for key, model in state.items():
        by_name.setdefault(model["model_name"], {})[f"IPY_MODEL_{key}"] = model["state"]
    (link,) = by_name["LinkModel"].values()
    slider, stack = link["source"], link["target"]
    assert slider[1] == "value" and stack[1] == "selected_index"
    assert by_name["IntSliderModel"][slider[0]]["max"] == 2
    children = by_name["StackModel"][stack[0]]["children"]
    assert len(children) == 3 and set(children) == set(by_name["HTMLModel"])
    assert by_name["StackModel"][stack[0]]["selected_index"] == 0


def test_no_frame_is_an_image_with_a_tooltip():
    # html-manager 1.0.14 cannot draw one: the page would show an error in its place
    widget = epoch_slider([_png(0)], ["epoch 1"], "S")
    models = dependency_state([widget], drop_defaults=False).values()
    assert not [m for m in models if m["state"].get("tooltip")]


def test_frames_carry_their_pictures_label_and_alternative_text():
    widget = epoch_slider([_png(10), _png(200)], ["epoch 1", "a < b"], "maps")
    (first, picture), (second, other) = _frames(widget)
    assert (first, second) == ("maps: epoch 1", "maps: a &lt; b")
    assert picture.size == other.size and picture.height > 20
    assert picture.getpixel((5, picture.height - 1)) == (10, 10, 10)
    assert other.getpixel((5, picture.height - 1)) == (200, 200, 200)
    heads = [np.asarray(p)[:-20] for p in (picture, other)]
    assert (heads[0] < 128).any() and (heads[0] != heads[1]).any()  # written, and each its own


def test_figures_are_drawn_coarsely():
    figure, _ = new_figure(1, 1, (3, 2))
    ((_, picture),) = _frames(epoch_slider([figure], ["epoch 1"], "t"))
    assert picture.width == 3 * FRAME_DPI


def test_a_long_label_is_not_cut():
    ((_, picture),) = _frames(epoch_slider([_png(0, (30, 10))], ["a rather long label"], "title"))
    assert picture.width > 150
    assert (np.asarray(picture)[:, -6:] == 255).all()


def test_without_stack_the_kernel_changes_the_picture(monkeypatch):
    monkeypatch.delattr(ipywidgets, "Stack")
    slider, shown = epoch_slider([_png(0), _png(200)], ["a", "b"], "t").children
    before = shown.value
    slider.value = 1
    assert shown.value != before
    assert Image.open(io.BytesIO(shown.value)).getpixel((5, 40)) == (200, 200, 200)


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [([], [], "0 frames"), ([b""], [], "0 labels"), ([b"no"], ["a"], "no picture")],
)
def test_bad_frames_are_told(frames, labels, message):
    with pytest.raises(KpnbError, match=message):
        epoch_slider(frames, labels, "t")


def _choices() -> tuple[np.ndarray, dict[str, EntropyMaps], torch.Tensor]:
    foreground = torch.zeros(3, 16, dtype=torch.bool)
    foreground[:, 5:7] = True
    sound = torch.ones(3)
    noise = torch.rand(2, 3, 16, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.01
    pairs = zip("ab", noise, strict=True)
    maps = {layer: EntropyMaps(s, sound, sound > 0, s) for layer, s in pairs}
    return np.random.default_rng(0).random((3, 8, 8, 3)), maps, foreground


def test_picker_redraws_for_each_choice(monkeypatch):
    monkeypatch.delenv(EXECUTED, raising=False)
    layer, sample, threshold, shown = picker(*_choices()).children
    assert threshold.value == 0.2
    seen = [shown.value]
    for control, value in ((layer, "b"), (sample, 2), (threshold, 0.25)):
        control.value = value
        seen.append(shown.value)
    assert len(set(seen)) == 4
    Image.open(io.BytesIO(shown.value)).verify()


def test_picker_is_not_there_in_an_executed_copy(monkeypatch):
    monkeypatch.setenv(EXECUTED, "1")
    assert picker(*_choices()) is None


def test_picker_needs_an_image_per_map(monkeypatch):
    monkeypatch.delenv(EXECUTED, raising=False)
    images, maps, foreground = _choices()
    for arguments in ((images[:2], maps, foreground), (images, {}, foreground)):
        with pytest.raises(KpnbError, match="exactly these images"):
            picker(*arguments)
    with pytest.raises(KpnbError, match="and a threshold"):
        picker(images, maps, foreground, ())
