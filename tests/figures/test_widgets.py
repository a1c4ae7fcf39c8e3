"""The slider must work alone, in any page; the picker must redraw, or not be there."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from refusals import refuses
from shown_samples import Shown

from book.make.check import Page
from kpnb.figures.widgets import FRAME_DPI, epoch_slider, fates_slider, picker, rotating_cloud
from kpnb.fingerprint import EXECUTED

FRAME = re.compile(r'<img alt="(.*?)" style="display:(\w+);.*?base64,(.*?)">')


def _shades(*shades: int) -> list[Figure]:
    """Each of one color all over."""
    return [Figure((3, 0.5), facecolor=(shade / 255,) * 3) for shade in shades]


def _frames(html: str) -> list[tuple[str, str, Image.Image]]:
    """Alternative text, CSS display and picture of each frame."""
    found = [(a, d, io.BytesIO(base64.b64decode(data))) for a, d, data in FRAME.findall(html)]
    return [(a, d, Image.open(data).convert("RGB")) for a, d, data in found]


def test_the_control_is_the_browsers_own_slider_and_needs_nothing_else():
    """A range input has the focus and the keys of its own; no id or file can be missing."""
    slider = epoch_slider(_shades(10, 200), ["epoch 1", 'a < "b"'], "S & T")
    (first, shown, picture), (second, hidden, other) = _frames(slider.html)
    assert (first, second) == ("S &amp; T: epoch 1", "S &amp; T: a &lt; &quot;b&quot;")
    assert (shown, hidden) == ("block", "none")
    assert picture.getpixel((5, 5)) == (10, 10, 10) and other.getpixel((5, 5)) == (200, 200, 200)
    assert picture.width == 3 * FRAME_DPI  # figures are drawn coarsely
    (control,) = re.findall(r"<input (.*?)>", slider.html, re.DOTALL)
    for part in ('type="range"', 'min="0"', 'max="1"', 'step="1"', 'aria-label="S &amp; T"',
                 'aria-valuetext="S &amp; T: epoch 1"'):  # fmt: skip
        assert part in control
    assert ">S &amp; T: epoch 1</figcaption>" in slider.html
    assert repr(slider) == 'S & T: epoch 1, a < "b"'
    assert all(address.startswith("data:image/png") for address in Page(slider.html).fetches)
    assert " id=" not in slider.html and "<script" not in slider.html


def test_fates_are_stepped_through_and_a_turned_cloud_has_a_text_for_every_angle(monkeypatch):
    shown = Shown("image")
    trails = {r: {epoch: shown.points(epoch + i) for epoch in (1, 5)} for i, r in enumerate("SB")}
    found = _frames(fates_slider(shown.samples, trails, 0).html)
    told = "student and baseline by epoch: epoch"
    assert [text for text, *_ in found] == [f"{told} 1", f"{told} 5"]
    assert found[0][2].tobytes() != found[1][2].tobytes()
    shown = Shown("cloud")
    monkeypatch.setattr("kpnb.figures.widgets.epoch_slider", lambda *given: given)
    monkeypatch.setattr("kpnb.figures.widgets.ANGLES", 4)
    frames, labels, title = rotating_cloud(shown.samples, shown.maps(), 1, "a chair")
    assert labels == [f"turned by {angle}°" for angle in (0, 90, 180, 270)] and title == "a chair"
    assert len({round(np.ptp(frame.axes[0].get_xlim()), 9) for frame in frames}) == 1
    assert all("[object radius]" in frame.axes[0].get_xlabel() for frame in frames)
    places = [frame.axes[0].collections[0].get_offsets() for frame in frames]
    assert not np.allclose(places[0], places[1])


def _choices(kind: str) -> tuple:
    shown = Shown(kind)
    return shown.samples, {"a": shown.maps(), "b": shown.maps(1)}, shown.foreground


@pytest.mark.parametrize("kind", ["image", "text"])
def test_picker_redraws_for_each_choice_where_there_is_a_kernel(monkeypatch, kind):
    monkeypatch.setenv(EXECUTED, "1")
    assert picker(*_choices(kind)) is None
    monkeypatch.delenv(EXECUTED)
    shown = []
    monkeypatch.setattr("ipywidgets.widgets.interaction.display", shown.append)
    layer, sample, threshold, _ = picker(*_choices(kind)).children
    assert threshold.value == 0.2
    for control, value in ((layer, "b"), (sample, 2), (threshold, 0.25)):
        control.value = value
    if kind == "image":
        assert shown[-1].axes[2].get_title() == "cut at b = 0.25"
        shown = [epoch_slider([figure], ["as drawn"], "") for figure in shown]
    else:
        assert "<i>b</i> = 0.25 nats" in shown[-1].html
    assert len(set(shown)) == 4


def test_bad_input_is_told(monkeypatch):
    monkeypatch.delenv(EXECUTED, raising=False)
    (samples, maps, foreground), text = _choices("image"), Shown("text")
    refuses(epoch_slider, "0 frames", [], [], "t")
    refuses(epoch_slider, "0 labels", [b""], [], "t")
    refuses(epoch_slider, "no picture", [b"no"], ["a"], "t")
    # Words have lines and no frames.
    refuses(fates_slider, "no picture", text.samples, {"S": {1: text.points()}}, 0)
    refuses(picker, "exactly these samples", samples.images[:2], maps, foreground)
    refuses(picker, "exactly these samples", samples, {}, foreground)
