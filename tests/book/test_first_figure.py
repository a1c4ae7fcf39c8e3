"""The first figure: the points that it shows and tells are those that kpnb counted."""

import json
import re

import pytest

from book.make import __main__ as book
from book.make import explorer, first_figure
from book.make.chart import FORMS
from book.make.frame import NOTHING
from kpnb.paper import ROLES


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    return first_figure.first_figure(explorer.read_packs())


def counted(shown):
    """N_fg and N_bg by role, as kpnb counted them when the pack was made."""
    held = shown.pack["layers"][shown.layer]
    b = f"{shown.pack['run']['settings']['threshold']:g}"
    told = [held[role]["counted"][b] for role in ROLES]
    return [[one[name][-1][shown.sample] for one in told] for name in ("n_fg", "n_bg")]


def test_the_shipped_picture_is_the_first_and_its_points_are_those_that_kpnb_counted(shipped):
    assert shipped.sample == 0 and shipped.layer == "FC1"
    n_fg, n_bg = counted(shipped)
    assert [(kinds == 1).sum() for kinds in shipped.kinds.values()] == n_fg
    assert [(kinds == -1).sum() for kinds in shipped.kinds.values()] == n_bg
    assert list(shipped.kinds) == ["teacher", "student", "baseline"]
    for kinds in shipped.kinds.values():
        assert shipped.inside[kinds == 1].all() and not shipped.inside[kinds == -1].any()


def test_every_point_is_drawn_and_every_count_is_told(shipped):
    n_fg, n_bg = counted(shipped)
    for form in FORMS.values():
        drawing = shipped.draw(form, "dark")
        assert drawing.count('href="#dot" x=') == sum(n_fg)
        assert drawing.count('href="#cross" x=') == sum(n_bg)
        told = re.sub("<[^>]*>|&#8203;", "", drawing)
        for fg, bg in zip(n_fg, n_bg, strict=True):
            assert f"Nfg = {fg}, Nbg = {bg}λ = {fg / (fg + bg):.2f}" in told
    for name, fg, bg in zip(ROLES.values(), n_fg, n_bg, strict=True):
        assert f"he {name} has {fg} on the object and {bg} on the b" in shipped.alternative
    made = first_figure.first_fragments([shipped.pack])
    assert "(AlexNet, FC1, preset `study`, seed 176588)" in made[first_figure.NAME]
    assert "b = 0.2$ nats" in made[first_figure.CAPTION]


def test_a_sample_without_a_map_is_passed_over_and_without_a_pack_nothing_is_shown(shipped):
    pack = json.loads(json.dumps(shipped.pack))
    held = pack["layers"]["FC1"]["B"]
    units, many = shipped.side**2, len(pack["samples"])
    content = bytearray(first_figure.base64.b64decode(held["ranks"]))
    start = len(content) - many * units  # of the final network
    content[start : start + units] = bytes([first_figure.NO_RANK]) * units
    held["ranks"] = first_figure.base64.b64encode(content).decode()
    assert first_figure.FirstFigure(pack).sample == 1
    assert first_figure.first_fragments([pack | {"modality": "cloud"}]) == {
        **{first_figure.NAME: NOTHING, first_figure.CAPTION: ""},
    }


def test_readmes_drawings_are_those_of_the_committed_results(monkeypatch):
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    readme = (book.CHECKOUT / "README.md").read_text(encoding="utf-8")
    drawings = book.readme_drawings()
    assert len(drawings) == 4
    for name, text in drawings.items():
        kept = book.CHECKOUT / "book" / "_static" / name
        assert kept.read_text(encoding="utf-8") == text and f"book/_static/{name}" in readme
