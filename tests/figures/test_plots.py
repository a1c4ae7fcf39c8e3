"""Figures: fixed scale, labels with units, as many marks as points, styles not by color alone."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from PIL import Image

from kpnb.datasets.samples import normalization
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import entropy_of
from kpnb.figures import paper as figures
from kpnb.figures.image import (
    ENTROPY_LIMITS,
    POINTS,
    as_picture,
    as_pictures,
    draw_outline,
    entropy_maps,
    point_maps,
)
from kpnb.figures.style import ROLES, new_figure
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.stats import Estimate

SIDE, SAMPLES = 4, 3
UNITS = SIDE * SIDE


def _foreground() -> torch.Tensor:
    foreground = torch.zeros(SAMPLES, SIDE, SIDE, dtype=torch.bool)
    foreground[:, 1:3, 1:4] = True
    return foreground.flatten(1)


def _maps(seed: int = 0, undefined: tuple[int, ...] = ()) -> EntropyMaps:
    noise = torch.randn(SAMPLES, UNITS, generator=torch.Generator().manual_seed(seed))
    entropy = -2.8 + 0.4 * noise - 0.5 * _foreground()
    sigma = torch.exp(entropy - entropy_of(torch.ones(())))
    moved = torch.ones(SAMPLES)
    for index in undefined:
        sigma[index], moved[index] = torch.nan, 0
    return EntropyMaps(sigma, moved, moved > 0, sigma)


def _points(seed: int = 0, undefined: tuple[int, ...] = ()):
    return knowledge_points(_maps(seed, undefined), _foreground(), 0.2)


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).random((SAMPLES, 8, 8, 3)).astype("float32")


def _inputs() -> torch.Tensor:
    center, spread = normalization()
    return (torch.from_numpy(_pictures()).permute(0, 3, 1, 2) - center) / spread


def _estimate(value: float, samples: int = 3, seeds: int = 1) -> Estimate:
    return Estimate(value, value - 1, value + 1, samples, seeds)


def _curves() -> dict:
    n_fg = torch.tensor([[1, 5, 2], [4, 5, 3], [3, 1, 3]])
    return {"S": ([0.1, 0.5, 0.7], n_fg), "B": (torch.tensor([0.2, 0.3, 0.9]), n_fg + 1)}


def _marks(ax, name: str) -> np.ndarray:
    """Positions of the marks that a legend would call `name`."""
    found = [c for c in ax.collections if isinstance(c, PathCollection) and c.get_label() == name]
    return np.concatenate([np.asarray(c.get_offsets()).reshape(-1, 2) for c in found])


def _panels(figure) -> list:
    return [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]


EVERY = {
    "entropy_maps": lambda: entropy_maps(_maps(), _pictures()),
    "point_maps": lambda: point_maps(_points(), _pictures()),
    "layers": lambda: figures.layers_figure(_pictures()[1], {"FC1": _maps(), "FC2": _maps(1)}, 1),
    "definition": lambda: figures.definition_figure(_pictures()[0], _maps(), _points(), 0),
    "role_points": lambda: figures.role_points_figure(
        _pictures(), {"S": _points(), "B": _points(1)}, [0, 2]
    ),
    "point_sets": lambda: figures.point_sets_figure(
        _pictures()[0], {e: _points(e) for e in (1, 5, 9)}, 0, _foreground()
    ),
    "estimates": lambda: figures.estimates_figure(
        {"n_fg": {"T": _estimate(4), "S": _estimate(3)}, "lambda": {"S": _estimate(0.5)}}
    ),
    "learning": lambda: figures.learning_figure(_curves()),
    "speed": lambda: figures.speed_figure({"S": [0.1, 0.3], "B": [0.2, 0.4]}),
    "stability": lambda: figures.stability_figure({"S": torch.rand(2, 5), "B": torch.rand(2, 5)}),
    "threshold": lambda: figures.threshold_figure(
        {"n_bg": {0.15: _estimate(-3), 0.2: _estimate(-2)}}, {"n_bg": "down"}
    ),
    "accuracy": lambda: figures.accuracy_figure(
        {"T": {"train": [1.0], "test": [0.6]}, "B": {"train": [0.9], "test": [0.3]}},
        {"chance": 1 / 12},
    ),
}


@pytest.mark.parametrize("name", EVERY)
def test_figures_are_labelled_small_and_closed(name):
    figure = EVERY[name]()
    assert plt.get_fignums() == []  # else a notebook would show the figure twice
    assert figure.get_figwidth() <= 9
    figure.draw_without_rendering()
    panels = _panels(figure)
    for axis in ("xaxis", "yaxis"):
        labels = [getattr(ax, axis).label.get_text() for ax in panels]
        # a grid of panels names each axis at its edge only
        assert any(labels)
        assert all("[" in label or label in ("", "network", "units") for label in labels)


@pytest.mark.parametrize("name", EVERY)
def test_no_text_is_cut_off(name):
    figure = EVERY[name]()
    figure.draw_without_rendering()
    needed, there = figure.get_tightbbox(), figure.bbox_inches
    assert needed.x0 > -0.02 and needed.y0 > -0.02
    assert needed.x1 < there.x1 + 0.02 and needed.y1 < there.y1 + 0.02


@pytest.mark.parametrize("name", ["entropy_maps", "layers", "definition"])
def test_entropy_has_one_scale_everywhere(name):
    figure = EVERY[name]()
    maps = [i for ax in _panels(figure) for i in ax.get_images() if i.get_array().ndim == 2]
    assert maps and all(image.get_clim() == ENTROPY_LIMITS for image in maps)
    assert ENTROPY_LIMITS == (-4.5, -2.3)
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == "$H_i$ [nats]"
    assert bar.get_ylim() == ENTROPY_LIMITS


def test_entropy_maps_draws_what_the_maps_hold():
    maps = _maps()
    figure = maps.show(count=2)
    shown = [ax.get_images()[0].get_array() for ax in _panels(figure)]
    assert len(shown) == 2
    assert np.allclose(shown[1].ravel(), maps.entropy[1].numpy())


@pytest.mark.parametrize("images", [_inputs(), _pictures()], ids=["inputs", "pictures"])
def test_network_inputs_and_pictures_look_the_same(images):
    figure = point_maps(_points(), images)
    shown = [ax.get_images()[0].get_array() for ax in _panels(figure)]
    assert np.allclose(np.stack(shown), _pictures(), atol=1e-5)
    assert np.allclose(as_picture(images[1]), _pictures()[1], atol=1e-5)


def test_a_mark_for_each_point_in_the_middle_of_its_cell():
    points = _points()
    figure = points.show(_inputs())
    for index, ax in enumerate(_panels(figure)):
        for kind in ("foreground", "background"):
            wanted = getattr(points, f"{kind}_points")[index].reshape(SIDE, SIDE).nonzero() + 0.5
            marks = _marks(ax, POINTS[kind].name)
            assert {tuple(m) for m in marks} == {(c, r) for r, c in wanted.tolist()}
            assert len(marks) == len(wanted)
        assert f"= {points.n_fg[index]}," in ax.get_title()
        assert ax.get_title().endswith(f"= {points.n_bg[index]}")


def test_outline_follows_the_foreground():
    _, axes = new_figure(1, 1, (2, 2))
    one = torch.zeros(UNITS, dtype=torch.bool)
    one[5] = True  # row 1, column 1
    draw_outline(axes[0, 0], one)
    x, y = axes[0, 0].lines[0].get_data()
    corners = {tuple(p) for p in np.c_[x, y] if np.isfinite(p).all()}
    assert corners == {(1, 1), (2, 1), (1, 2), (2, 2)}
    assert np.isnan(x).sum() == 4  # one gap after each of the four sides


def test_styles_differ_by_more_than_color():
    for styles in (ROLES.values(), POINTS.values(), figures.FATES):
        for part in ("name", "color", "marker"):
            assert len({getattr(style, part) for style in styles}) == len(styles)
    assert len({style.line for style in ROLES.values()}) == 3
    assert [ROLES[role].name for role in "TSB"] == ["teacher", "student", "baseline"]


def test_point_kinds_differ_in_gray():
    grays = [np.dot([0.2126, 0.7152, 0.0722], plt.matplotlib.colors.to_rgb(s.color))
             for s in POINTS.values()]  # fmt: skip
    assert abs(grays[0] - grays[1]) > 0.2


def test_undefined_samples_are_gray_and_said_to_be_undefined():
    maps, points = _maps(0, (1,)), _points(0, (1,))
    figure = entropy_maps(maps)
    figure.draw_without_rendering()
    image = _panels(figure)[1].get_images()[0]
    assert image.get_array().mask.all()
    assert np.allclose(image.cmap.get_bad()[:3], plt.matplotlib.colors.to_rgb("lightgray"))
    assert _panels(point_maps(points, _pictures()))[1].get_title() == "no map defined"
    figure = figures.definition_figure(_pictures()[1], maps, points, 1)
    assert not [patch for patch in figure.axes[2].patches if getattr(patch, "get_height", int)()]


def test_point_sets_tell_kept_dropped_and_tried():
    held = torch.zeros(3, 1, UNITS, dtype=torch.bool)
    held[0, 0, [5, 6]] = True  # 6 is dropped at once
    held[1, 0, [5, 7]] = True  # 7 is dropped at the end
    held[2, 0, [5, 9]] = True
    base = _points()
    parts = {"background_points": ~_foreground()[:1] & False, "foreground": _foreground()[:1]}
    sets = {e: type(base)(held[i], **parts, baseline=base.baseline[:1], defined=base.defined[:1],
                          entropy=base.entropy[:1], threshold=0.2)
            for i, e in enumerate((1, 5, 9))}  # fmt: skip
    figure = figures.point_sets_figure(_pictures()[0], sets, 0, _foreground()[0], shown=[5, 9])
    counts = [[len(_marks(ax, fate.name)) for fate in figures.FATES] for ax in _panels(figure)]
    assert counts == [[1, 1, 1], [2, 0, 2]]
    assert [ax.get_title()[:8] for ax in _panels(figure)] == ["epoch 5:", "epoch 9:"]
    with pytest.raises(KpnbError, match=r"epochs \[4\] have no points"):
        figures.point_sets_figure(_pictures()[0], sets, 0, _foreground(), shown=[4])


def test_role_points_has_a_row_per_sample_and_a_column_per_role():
    points = {"S": _points(), "B": _points(1)}
    figure = figures.role_points_figure(_inputs(), points, [2, 0])
    titles = [ax.get_title() for ax in _panels(figure)]
    assert [title.split(":")[0] for title in titles] == ["student", "baseline"] * 2
    assert f"= {points['B'].n_fg[2]}," in titles[1]
    assert np.allclose(_panels(figure)[0].get_images()[0].get_array(), _pictures()[2], atol=1e-5)


def test_cut_histogram_counts_all_units():
    points = _points()
    cut = figures.definition_figure(_pictures()[0], _maps(), points, 0).axes[2]
    heights = sum(patch.get_height() for patch in cut.patches if hasattr(patch, "get_height"))
    assert heights == (~_foreground()[0]).sum()  # bars: background; the foreground is one outline
    assert cut.lines[0].get_xdata()[0] == 0.2


def test_a_page_of_maps_stays_small():
    buffer = io.BytesIO()
    EVERY["entropy_maps"]().savefig(buffer)
    assert len(buffer.getvalue()) < 300_000
    assert Image.open(buffer).width <= 990


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: as_pictures(np.zeros((2, 3, 8, 8))), "pass a tensor"),
        (lambda: point_maps(_points(), _pictures()[:1]), "one image per sample"),
        (lambda: entropy_maps(_maps(), count=0), "nothing to draw"),
        (lambda: figures.layers_figure(_pictures()[0], {}), "no maps to draw"),
        (
            lambda: entropy_maps(EntropyMaps(*(torch.ones(1, n) for n in (5, 1, 1, 5)))),
            "5 units make no square grid",
        ),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(KpnbError, match=message):
        call()
