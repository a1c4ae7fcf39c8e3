"""A slider of a page, moved in a browser: its own picture, caption and spoken text follow."""

import re
import shutil
import subprocess
from html import unescape

import pytest
from matplotlib.figure import Figure

from kpnb.figures.widgets import epoch_slider

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# Moves every slider of the page to its third frame as a key does: its value, then an event.
MOVE = """<script>
for (const slider of document.querySelectorAll("input")) {
  slider.value = 2;
  slider.dispatchEvent(new Event("input"));
}
</script>"""
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom",
]  # fmt: skip


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_moving_a_slider_shows_its_own_frame(tmp_path):
    frames = [Figure((3, 0.5)) for _ in range(3)]
    sliders = [epoch_slider(frames, "abc", name).html for name in ("S", "T'")]
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>" + "".join(sliders) + MOVE, encoding="utf-8")
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    displays = re.findall(r"<img [^>]*?display: ?(\w+)", done.stdout)
    assert displays == ["none", "none", "block"] * 2
    for text in ("S: c", "T': c"):
        assert f">{text}</figcaption>" in done.stdout
        assert f'aria-valuetext="{text}"' in unescape(done.stdout)
