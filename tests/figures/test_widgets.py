"""The slider must work alone, in any page; the picker must redraw, or not be there."""

import base64
import io
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
from PIL import Image
from shown_samples import Shown

from book.make.check import fetches
from kpnb.errors import KpnbError
from kpnb.figures.style import new_figure
from kpnb.figures.widgets import FRAME_DPI, epoch_slider, fates_slider, picker, rotating_cloud
from kpnb.fingerprint import EXECUTED

FRAME = re.compile(r'<img alt="(.*?)" style="display:(\w+);.*?base64,(.*?)">')
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Moves every slider of the page to its third frame as a key does: its value, then an event.
MOVE = """<script>
for (const slider of document.querySelectorAll("input")) {
  slider.value = 2;
  slider.dispatchEvent(new Event("input"));
}
</script>"""


def _png(shade: int, size: tuple[int, int] = (300, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def _frames(html: str) -> list[tuple[str, str, Image.Image]]:
    """Alternative text, CSS display and picture of each frame."""
    found = FRAME.findall(html)
    return [(a, d, Image.open(io.BytesIO(base64.b64decode(data)))) for a, d, data in found]


def test_frames_carry_their_picture_and_alternative_text():
    slider = epoch_slider([_png(10), _png(200)], ["epoch 1", 'a < "b"'], "maps")
    (first, shown, picture), (second, hidden, other) = _frames(slider.html)
    assert (first, second) == ("maps: epoch 1", "maps: a &lt; &quot;b&quot;")
    assert (shown, hidden) == ("block", "none")
    assert picture.getpixel((5, 5)) == (10, 10, 10) and other.getpixel((5, 5)) == (200, 200, 200)
    assert ">maps: epoch 1</figcaption>" in slider.html
    assert repr(slider) == 'maps: epoch 1, a < "b"'


def test_the_control_is_the_browsers_own_slider_and_needs_nothing_else():
    """A range input has the focus and the keys of its own; no id or file can be missing."""
    html = epoch_slider([_png(0), _png(100), _png(200)], ["a", "b", "c"], "S & T").html
    (control,) = re.findall(r"<input (.*?)>", html, re.DOTALL)
    for part in ('type="range"', 'min="0"', 'max="2"', 'step="1"', 'aria-label="S &amp; T"'):
        assert part in control
    assert 'aria-valuetext="S &amp; T: a"' in control
    assert all(address.startswith("data:image/png") for address in fetches(html))
    assert " id=" not in html and "<script" not in html


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_moving_a_slider_shows_its_own_frame(tmp_path):
    """Two on a page, in a browser: picture, caption and what a screen reader says follow."""
    sliders = [epoch_slider([_png(i) for i in range(3)], "abc", name).html for name in ("S", "T'")]
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>" + "".join(sliders) + MOVE, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run([CHROMIUM, *options], capture_output=True, text=True, timeout=60)
    displays = re.findall(r"<img [^>]*?display: ?(\w+)", done.stdout)
    assert displays == ["none", "none", "block"] * 2
    for text in ("S: c", "T': c"):
        assert f">{text}</figcaption>" in done.stdout
        assert f'aria-valuetext="{text}"' in unescape(done.stdout)


def test_figures_are_drawn_coarsely():
    figure, _ = new_figure(1, 1, (3, 2))
    ((_, _, picture),) = _frames(epoch_slider([figure], ["epoch 1"], "t").html)
    assert picture.width == 3 * FRAME_DPI


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [([], [], "0 frames"), ([b""], [], "0 labels"), ([b"no"], ["a"], "no picture")],
)
def test_bad_frames_are_told(frames, labels, message):
    with pytest.raises(KpnbError, match=message):
        epoch_slider(frames, labels, "t")


@pytest.mark.parametrize("kind", ["image", "cloud"])
def test_fates_are_stepped_through_by_epoch(kind):
    shown = Shown(kind)
    trails = {r: {epoch: shown.points(epoch + i) for epoch in (1, 5)} for i, r in enumerate("SB")}
    found = _frames(fates_slider(shown.samples, trails, 0, "by epoch").html)
    assert [text for text, *_ in found] == ["by epoch: epoch 1", "by epoch: epoch 5"]
    assert found[0][2].tobytes() != found[1][2].tobytes()


def test_words_have_lines_and_no_frames():
    shown = Shown("text")
    with pytest.raises(KpnbError, match="no picture"):
        fates_slider(shown.samples, {"S": {1: shown.points()}}, 0)


def test_a_turned_cloud_has_a_text_for_every_angle_and_one_scale(monkeypatch):
    kept = []
    monkeypatch.setattr("kpnb.figures.widgets._png", lambda frame: kept.append(frame) or b"")
    shown = Shown("cloud")
    slider = rotating_cloud(shown.samples, shown.maps(), 1, "a chair", angles=4)
    texts = re.findall(r'<img alt="(.*?)"', slider.html)
    assert texts == [f"a chair: turned by {angle}°" for angle in (0, 90, 180, 270)]
    assert len({round(np.ptp(frame.axes[0].get_xlim()), 9) for frame in kept}) == 1
    assert all("[object radius]" in frame.axes[0].get_xlabel() for frame in kept)
    places = [frame.axes[0].collections[0].get_offsets() for frame in kept]
    assert not np.allclose(places[0], places[1])
    with pytest.raises(KpnbError, match="nothing to draw"):
        rotating_cloud(shown.samples, shown.maps(), 1, angles=0)


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


def test_picker_is_not_there_in_an_executed_copy(monkeypatch):
    monkeypatch.setenv(EXECUTED, "1")
    assert picker(*_choices("image")) is None


def test_picker_needs_a_sample_per_map(monkeypatch):
    monkeypatch.delenv(EXECUTED, raising=False)
    samples, maps, foreground = _choices("image")
    for arguments in ((samples.images[:2], maps, foreground), (samples, {}, foreground)):
        with pytest.raises(KpnbError, match="exactly these samples"):
            picker(*arguments)
    with pytest.raises(KpnbError, match="and a threshold"):
        picker(samples, maps, foreground, ())
