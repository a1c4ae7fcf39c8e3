"""The slider must work alone, in any page; the picker must redraw, or not be there."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from shown_samples import Shown

from book.make.check import fetches
from kpnb.errors import KpnbError
from kpnb.figures.widgets import FRAME_DPI, epoch_slider, fates_slider, picker, rotating_cloud
from kpnb.fingerprint import EXECUTED

FRAME = re.compile(r'<img alt="(.*?)" style="display:(\w+);.*?base64,(.*?)">')


def _shade(shade: int) -> Figure:
    """One color all over."""
    return Figure((3, 0.5), facecolor=(shade / 255,) * 3)


def _frames(html: str) -> list[tuple[str, str, Image.Image]]:
    """Alternative text, CSS display and picture of each frame."""
    found = [(a, d, io.BytesIO(base64.b64decode(data))) for a, d, data in FRAME.findall(html)]
    return [(a, d, Image.open(data).convert("RGB")) for a, d, data in found]


def test_frames_carry_their_picture_and_alternative_text():
    slider = epoch_slider([_shade(10), _shade(200)], ["epoch 1", 'a < "b"'], "maps")
    (first, shown, picture), (second, hidden, other) = _frames(slider.html)
    assert (first, second) == ("maps: epoch 1", "maps: a &lt; &quot;b&quot;")
    assert (shown, hidden) == ("block", "none")
    assert picture.getpixel((5, 5)) == (10, 10, 10) and other.getpixel((5, 5)) == (200, 200, 200)
    assert ">maps: epoch 1</figcaption>" in slider.html
    assert repr(slider) == 'maps: epoch 1, a < "b"'


def test_the_control_is_the_browsers_own_slider_and_needs_nothing_else():
    """A range input has the focus and the keys of its own; no id or file can be missing."""
    html = epoch_slider([_shade(0), _shade(100), _shade(200)], ["a", "b", "c"], "S & T").html
    (control,) = re.findall(r"<input (.*?)>", html, re.DOTALL)
    for part in ('type="range"', 'min="0"', 'max="2"', 'step="1"', 'aria-label="S &amp; T"'):
        assert part in control
    assert 'aria-valuetext="S &amp; T: a"' in control
    assert all(address.startswith("data:image/png") for address in fetches(html))
    assert " id=" not in html and "<script" not in html
    assert _frames(html)[0][2].width == 3 * FRAME_DPI  # figures are drawn coarsely


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [([], [], "0 frames"), ([b""], [], "0 labels"), ([b"no"], ["a"], "no picture")],
)
def test_bad_frames_are_told(frames, labels, message):
    with pytest.raises(KpnbError, match=message):
        epoch_slider(frames, labels, "t")


def test_fates_are_stepped_through_by_epoch():
    shown = Shown("image")
    trails = {r: {epoch: shown.points(epoch + i) for epoch in (1, 5)} for i, r in enumerate("SB")}
    found = _frames(fates_slider(shown.samples, trails, 0, "by epoch").html)
    assert [text for text, *_ in found] == ["by epoch: epoch 1", "by epoch: epoch 5"]
    assert found[0][2].tobytes() != found[1][2].tobytes()
    shown = Shown("text")  # words have lines and no frames
    with pytest.raises(KpnbError, match="no picture"):
        fates_slider(shown.samples, {"S": {1: shown.points()}}, 0)


def test_a_turned_cloud_has_a_text_for_every_angle_and_one_scale(monkeypatch):
    kept = []
    monkeypatch.setattr("kpnb.figures.widgets._png", lambda frame: kept.append(frame) or b"")
    shown = Shown("cloud")
    monkeypatch.setattr("kpnb.figures.widgets.ANGLES", 4)
    slider = rotating_cloud(shown.samples, shown.maps(), 1, "a chair")
    texts = re.findall(r'<img alt="(.*?)"', slider.html)
    assert texts == [f"a chair: turned by {angle}°" for angle in (0, 90, 180, 270)]
    assert len({round(np.ptp(frame.axes[0].get_xlim()), 9) for frame in kept}) == 1
    assert all("[object radius]" in frame.axes[0].get_xlabel() for frame in kept)
    places = [frame.axes[0].collections[0].get_offsets() for frame in kept]
    assert not np.allclose(places[0], places[1])


def _choices(kind: str) -> tuple:
    shown = Shown(kind)
    return shown.samples, {"a": shown.maps(), "b": shown.maps(1)}, shown.foreground


@pytest.mark.parametrize("kind", ["image", "text"])
def test_picker_redraws_for_each_choice(monkeypatch, kind):
    monkeypatch.delenv(EXECUTED, raising=False)
    layer, sample, threshold, shown = picker(*_choices(kind)).children
    assert threshold.value == 0.2
    seen = [shown.value]
    for control, value in ((layer, "b"), (sample, 2), (threshold, 0.25)):
        control.value = value
        seen.append(shown.value)
    assert len(set(seen)) == 4
    if kind == "image":
        ((text, _, picture),) = _frames(shown.value)
        assert text == "layer b, sample 2, b = 0.25 nats" and picture.width > 300
    else:
        assert "<i>b</i> = 0.25 nats" in shown.value


def test_picker_needs_a_kernel_and_a_sample_per_map(monkeypatch):
    monkeypatch.setenv(EXECUTED, "1")
    assert picker(*_choices("image")) is None
    monkeypatch.delenv(EXECUTED, raising=False)
    samples, maps, foreground = _choices("image")
    for given, message in (
        ((samples.images[:2], maps, foreground), "exactly these samples"),
        ((samples, {}, foreground), "exactly these samples"),
    ):
        with pytest.raises(KpnbError, match=message):
            picker(*given)
