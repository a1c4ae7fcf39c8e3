"""show() of maps and points draws cells on images, words as text, points as clouds, and units of
labels as the areas or stretches that they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from refusals import refuses
from shown_samples import (
    MARKS,
    SAMPLES,
    SIDE,
    WORDS,
    Shown,
    check_figure,
    maps_of,
    marks,
    panels,
    pictures,
    places,
    titles,
)

from kpnb.datasets.texts.aligned import text_samples
from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.word_pieces import Pieces
from kpnb.estimator.units import MaskUnits
from kpnb.figures.panel import ENTROPY_LIMITS, POINTS, entropy_rgba
from kpnb.figures.show import shown as drawn
from kpnb.figures.text import Html, on_color
from kpnb.metrics.points import knowledge_points

SHOWN = Shown("image")
KINDS = [style.name for style in POINTS.values()]
NAMES = {"image": "GridUnits(cells=4)", "cloud": "PointUnits(frozen=False)", "text": "words"}


def of_units(kind: str, name: str | None = None):
    """Samples of a kind, maps and points that know what their units are."""
    shown = Shown(kind)
    settings = {"units": NAMES[kind] if name is None else name}
    maps, points = shown.maps(), shown.points()
    return shown.samples, replace(maps, settings=settings), replace(points, settings=settings)


def test_entropy_maps_draws_what_the_maps_hold_below_their_images():
    maps = SHOWN.maps(lost=1)
    figure = maps.show(SHOWN.samples.images, count=2)
    check_figure(figure)
    held = [ax.get_images()[0] for ax in panels(figure)]
    for row, (upper, lower) in enumerate(zip(held[:2], held[2:], strict=True)):
        assert np.allclose(upper.get_array(), pictures()[row], atol=1e-5)
        assert lower.get_clim() == ENTROPY_LIMITS
    assert np.allclose(held[2].get_array().ravel(), maps.entropy[0].numpy())
    assert held[3].get_array().mask.all()  # a sample without a map
    assert np.allclose(held[3].cmap.get_bad()[:3], to_rgb("lightgray"))
    assert len(panels(maps.show(count=2))) == 2


def test_a_mark_for_each_point_in_the_middle_of_its_cell():
    points = SHOWN.points(lost=1)
    figure = points.show(SHOWN.samples.images)
    check_figure(figure)
    for index, ax in enumerate(panels(figure)):
        for kind, style in POINTS.items():
            wanted = getattr(points, f"{kind}_points")[index].reshape(SIDE, SIDE).nonzero() + 0.5
            assert places(ax, style.color) == {(c, r) for r, c in wanted.tolist()}
    assert titles(figure)[0].endswith(f"= {points.n_bg[0]}")
    assert titles(figure)[1] == "no map defined"


def test_points_without_images_lie_on_the_entropy_maps():
    points = SHOWN.points(lost=1)
    figure = points.show()
    check_figure(figure)
    assert marks(figure, *KINDS) == marks(points.show(SHOWN.samples), *KINDS)
    assert titles(figure) == titles(points.show(SHOWN.samples))
    for index, ax in enumerate(panels(figure)):
        (image,) = ax.get_images()
        held = np.ma.filled(image.get_array().ravel(), np.nan)
        np.testing.assert_allclose(held, points.entropy[index], rtol=1e-6)
        assert image.get_clim() == ENTROPY_LIMITS and "foreground border" in [
            line.get_label() for line in ax.lines
        ]
    assert any(ax.get_label() == "<colorbar>" for ax in figure.axes)


def test_words_are_shown_as_words():
    texts, maps, points = of_units("text")
    shown = maps.show(texts, count=2)
    assert isinstance(shown, Html) and repr(shown).count("film") == 2
    assert titles(shown) == ["sample 0", "sample 1"] and "rated −1.4" in repr(shown)
    assert all(on_color(value) in shown.html for value in maps.entropy[:2].ravel().tolist())
    shown = points.show(texts)
    counts = list(zip(points.n_fg.tolist(), points.n_bg.tolist(), strict=True))
    assert marks(shown, *KINDS) == counts and len(set(counts)) > 1
    assert [f"N_fg = {fg}, N_bg = {bg}" for fg, bg in counts] == titles(shown)


def test_texts_may_come_as_their_data_set_holds_them():
    spans = ((0, 1), (2, 6), (7, 10), (11, 15), (15, 16))
    words = torch.tensor([[-1, 0, 1, 2, 3, 4, -1]])
    pieces = Pieces(words + 2, words, (spans,), (5,), 0)
    about = ("a very bad film.",), MARKS, (), "negative"
    texts = EncodedTexts(pieces, torch.tensor([0]), *((one,) for one in about), {})
    _, maps, points = of_units("text")
    assert repr(maps[0].show(texts)).startswith("negative\n[sample 0]\n  a(")
    assert marks(points[:1].show(texts), *KINDS) == [(int(points.n_fg[0]), int(points.n_bg[0]))]


@pytest.mark.parametrize("layout", ["samples", "points", "channels first", "array"])
def test_points_are_shown_as_points(layout):
    samples, maps, points = of_units("cloud")
    given = {
        "samples": samples,
        "points": samples.points,
        "channels first": samples.points.swapaxes(1, 2),
        "array": samples.points.numpy(),
    }[layout]
    figure = maps.show(given)
    check_figure(figure)
    for index, ax in enumerate(panels(figure)):
        drawn = next(c for c in ax.collections if len(c.get_offsets()))
        places_of = np.asarray(samples.points[index][:, [0, 2]])
        for found, wanted in zip(np.sort(drawn.get_offsets().T), np.sort(places_of.T), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert "x" in ax.get_xlabel() or index < SAMPLES - 1
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == (["foreground", "background"] if layout == "samples" else ["point"])
    figure = points.show(given)
    assert marks(figure, *KINDS) == list(
        zip(points.n_fg.tolist(), points.n_bg.tolist(), strict=True)
    )
    check_figure(figure)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "other foreground" in legend and "other background" in legend


def test_what_units_are_is_told_by_what_is_passed_if_by_nothing_else():
    for kind, told in (("text", Html), ("cloud", Figure)):
        samples, maps, points = of_units(kind, "")
        assert isinstance(maps.show(samples), told) and isinstance(points.show(samples), told)


def test_nothing_is_drawn_as_what_it_is_not():
    nine = torch.rand(2, 9)
    for kind, told in (("text", "are words: pass the texts"), ("cloud", "pass the clouds")):
        samples, maps, points = of_units(kind)
        square = replace(maps, sigma=nine, standard_error=nine)
        for call, given in (
            *((maps.show, ()), (points.show, ()), (square.show, ())),
            *((maps.show, (SHOWN.samples,)), (points.show, (SHOWN.samples.images,))),
        ):
            if kind == "cloud" and given:
                refuses(call, "are points: pass the clouds", *given)
            else:
                refuses(call, told, *given)
    samples, maps, points = of_units("image")
    for other in ("text", "cloud"):
        refuses(maps.show, "cells of a grid: pass the images", Shown(other).samples)
        refuses(points.show, "cells of a grid: pass the images", Shown(other).samples)
    segments = of_units("image", "MaskUnits(shape=(8, 8), labels=0)")[1:]
    for shown in segments:
        for given in ((), (SHOWN.samples,)):
            refuses(shown.show, "are areas of labels: pass", *given)
    single = Image.fromarray((pictures()[0] * 255).astype("uint8"))
    for given in (pictures()[:1], single, "picture.png", 3):
        refuses(drawn, "with one per sample, 3 here", SHOWN.points(), given)
    refuses(drawn, "there is no sample to show", SHOWN.maps(), count=0)
    refuses(drawn, "no square grid", Shown("text").maps())
    assert len(WORDS) == 5 and SIDE == 4


def test_pictures_are_drawn_as_the_network_saw_them_or_not_at_all():
    maps = replace(SHOWN.maps(), settings={"units": NAMES["image"], "inputs": [3, 8, 8]})
    originals = [np.pad(picture, ((0, 0), (6, 6), (0, 0))) for picture in pictures()]

    def cropped(picture):
        return torch.from_numpy(picture[:, 6:-6]).permute(2, 0, 1)

    refuses(maps.show, "0.40 times as high as wide, what the network saw 1.00", originals)
    held = panels(maps.show(originals, transform=cropped))[1].get_images()[0]
    np.testing.assert_allclose(held.get_array(), pictures()[1], atol=1e-6)
    assert len(panels(maps.show(np.repeat(pictures(), 2, 1).repeat(2, 2)))) == 2 * SAMPLES
    assert titles(maps.show(pictures(), 2)) == ["sample 0", "sample 1", "entropy", "entropy"]


def test_strings_are_texts_whose_foreground_the_points_know(tmp_path):
    texts, maps, points = of_units("text")
    strings = ["a very bad film."] * SAMPLES
    for given in (strings, text_samples(strings)):
        plain, marked = maps.show(given), points.show(given)
        assert "foreground" not in repr(plain)
        assert repr(marked).count("*very") == SAMPLES and "word* foreground" in repr(marked)
        assert marks(marked, *KINDS) == marks(points.show(texts), *KINDS)
    assert repr(maps[:1].show(strings[0])) == repr(maps.show(strings, 1))
    other = text_samples(strings, [["film"]] * SAMPLES)
    refuses(points.show, "of another text", other)
    plain.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and plain.html in page and "utf-8" in page


def test_another_normalization_is_handed_on():
    raw = torch.rand(SAMPLES, 3, 8, 8)
    inputs, maps = (raw - 0.5) / 0.25, SHOWN.maps()
    for figure in (
        maps.show(inputs, normalization=(0.5, 0.25)),
        SHOWN.points().show(inputs, normalization=(0.5, 0.25)),
    ):
        drawn = panels(figure)[0].get_images()[0].get_array()
        np.testing.assert_allclose(drawn, raw[0].permute(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("form", ["superpixels", "stretches"])
def test_units_of_labels_are_areas_of_images_or_stretches_of_series(form):
    labels = torch.arange(8) // 2
    inputs = torch.randn(SAMPLES, 2, 8)
    if form == "superpixels":
        labels, inputs = labels.repeat(6, 1), torch.rand(SAMPLES, 3, 6, 8)
        labels[0] = -1
    units, entropy = MaskUnits(labels), torch.linspace(-4, -2, 4).repeat(SAMPLES, 1)
    maps = replace(maps_of(entropy), settings={"units": f"{units}"})
    figure = maps.show(inputs, units=units)
    check_figure(figure)
    areas = panels(figure)[-1].get_images()[-1].get_array()
    wanted = entropy_rgba(entropy[0])[labels] * (labels.numpy() >= 0)[..., None]
    np.testing.assert_allclose(areas.reshape(wanted.shape), wanted, atol=1e-6)
    if form == "stretches":
        assert [len(ax.lines) for ax in panels(figure)] == [2] * SAMPLES
    inside = (torch.arange(4) < 2).repeat(SAMPLES, 1)
    points = knowledge_points(maps, inside, 0.5, "sample")
    figure = points.show(inputs, units=units)
    check_figure(figure)
    assert marks(figure, *KINDS) == [(2, 0)] * SAMPLES
    middle = [x for x, _ in sorted(places(panels(figure)[0], POINTS["foreground"].color))]
    assert [int(labels.reshape(-1, 8)[-1, int(x)]) for x in middle] == [0, 1]
    other = MaskUnits(labels.flip(-1))
    for given in ({}, {"units": other}):
        refuses(maps.show, "units= of the maps", inputs, **given)
    refuses(maps.show, "no series or images of labels", inputs[..., :4], units=units)
