"""Clouds: right places in every view, marks by kind, depth, and one scale for all panels."""

import numpy as np
import pytest
import torch
from matplotlib.markers import MarkerStyle
from refusals import refuses
from shown_samples import POINTS_PER_CLOUD as COUNT
from shown_samples import SAMPLES, Shown, check_figure, clouds, maps_of, panels, places, titles

from kpnb.figures.cloud import QUIET, VIEWS, WHOLE, as_cloud, draw_kinds, turned
from kpnb.figures.panel import FATES, POINTS
from kpnb.figures.paper import fates_figure, layers_figure, role_points_figure, samples_figure
from kpnb.figures.style import new_figure
from kpnb.metrics.points import knowledge_points

SHOWN = Shown("cloud")


def _where(index: int, held, view: str = "front") -> set:
    at = VIEWS[view].project(as_cloud(SHOWN.samples.points[index]))[0]
    return {tuple(np.round(place, 5)) for place in at[np.asarray(held)]}


def _drawn(ax):
    """The one collection for all points of a panel; those for the legend are empty."""
    (found,) = [c for c in ax.collections if len(c.get_offsets())]
    return found


def test_views_are_right_handed_and_look_where_they_say():
    point = np.array([1.0, 2.0, 3.0])
    # the front is seen from -y, the side from +x, the top from +z
    for name, at, near in (("front", (1, 3), -2), ("side", (2, 3), 1), ("top", (1, 2), 3)):
        found = VIEWS[name].project(point)
        assert tuple(found[0]) == at and found[1] == near
    assert VIEWS["top"].axes == ("x", "y")
    points = np.random.default_rng(0).normal(size=(20, 3))
    for view in (turned(250, 60), VIEWS["oblique"]):  # a rotation keeps lengths
        at, near = view.project(points)
        assert np.allclose((at**2).sum(1) + near**2, (points**2).sum(1))
    assert np.allclose(turned(0, 0).project(points)[0], VIEWS["front"].project(points)[0])
    # a quarter further, what lay to the right comes to the viewer
    assert np.allclose(turned(90, 0).project(np.array([1.0, 0, 0]))[1], 1)
    # from above, the nearer of two points on the ground is lower in the picture
    assert turned(0).project(np.array([0, -1.0, 0]))[0][1] < 0


def test_near_points_cover_far_ones_whatever_their_kind():
    cloud = np.array([[0, -1.0, 0], [0.1, 1, 0], [0.2, 0, 0], [0.3, -0.5, 0]])
    inside, colors = np.array([True, False, True, False]), np.linspace(0, 1, 16).reshape(4, 4)
    ax = new_figure(1, 1, (2, 2))[1][0, 0]
    draw_kinds(ax, cloud, VIEWS["front"], [(inside, WHOLE[0]), (~inside, WHOLE[1])], 2, colors)
    drawn = _drawn(ax)
    assert np.allclose(drawn.get_offsets()[:, 0], [0.1, 0.2, 0.3, 0])  # by y, the viewer at -y
    assert np.allclose(drawn.get_facecolor(), colors[[1, 2, 3, 0]])  # each keeps its own
    cross = len(MarkerStyle("x").get_path().vertices)
    found = [len(path.vertices) == cross for path in drawn.get_paths()]
    assert found == [True, False, True, False]


def test_every_point_is_drawn_once_inside_the_panel_on_a_common_scale():
    samples = clouds()
    samples.points[1] *= 2  # one cloud twice as wide
    roles = role_points_figure(samples, {"S": SHOWN.points()}, range(SAMPLES))
    for figure in (samples_figure(samples), roles):
        assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in panels(figure)}) == 1
        for ax in panels(figure):
            drawn, (left, right), (low, high) = _drawn(ax), ax.get_xlim(), ax.get_ylim()
            at = np.asarray(drawn.get_offsets())
            assert len(at) == len(drawn.get_paths()) == COUNT
            assert right - left == pytest.approx(high - low)
            assert (at > [left, low]).all() and (at < [right, high]).all()


def test_layers_are_rows_views_columns_and_marks_are_at_their_points_alone():
    figure = layers_figure(SHOWN.samples, {"FC1": SHOWN.maps(), "FC2": SHOWN.maps(1)}, 1)
    views = ("front", "side", "top")
    assert titles(figure) == [f"{layer}, {view}" for layer in ("FC1", "FC2") for view in views]
    labels = [(ax.get_xlabel()[:1], ax.get_ylabel()[:1]) for ax in panels(figure)]
    assert labels == [("", "z"), ("", ""), ("", "y"), ("x", "z"), ("y", ""), ("x", "y")]
    assert len({ax.get_ylim() for ax in panels(figure)[:2]}) == 1, "no name: the one to the left"
    points = SHOWN.points()
    (ax,) = panels(role_points_figure(SHOWN.samples, {"S": points}, [2]))
    inside, held = SHOWN.foreground[2], points.foreground_points[2]
    outside, styles = points.background_points[2], (*POINTS.values(), *QUIET)
    kinds = held, outside, inside & ~held, ~inside & ~outside
    for style, held in zip(styles, kinds, strict=True):
        assert places(ax, style.color) == _where(2, held)
    trail = {1: SHOWN.held(1), 2: SHOWN.held(0)}
    early, _ = panels(fates_figure(SHOWN.samples, {"S": trail}, 0))
    assert places(early, FATES[1].color) == _where(0, trail[1].foreground_points[0])
    for index, ax in enumerate(panels(samples_figure(SHOWN.samples, count=2))):
        inside = SHOWN.foreground[index]
        for style, held in zip(WHOLE, (inside, ~inside), strict=True):
            assert places(ax, style.color) == _where(index, held, "oblique")


def test_clouds_alone_have_the_foreground_that_is_given_if_any():
    points = SHOWN.samples.points
    figure = samples_figure(points, SHOWN.foreground, 2)
    assert titles(figure) == ["cloud"] * 2
    for index, ax in enumerate(panels(figure)):
        inside = SHOWN.foreground[index]
        for style, held in zip(WHOLE, (inside, ~inside), strict=True):
            assert places(ax, style.color) == _where(index, held, "oblique")
    (ax,) = panels(samples_figure(points, count=1))
    assert ax.get_legend_handles_labels()[1] == ["point"] and "[as given]" in ax.get_xlabel()


def test_a_figure_of_study_clouds_stays_small():
    samples = clouds(3, 7)  # 280 + 140 points
    noise = torch.randn(samples.foreground.shape, generator=torch.Generator().manual_seed(0))
    entropy = -2.8 + 0.5 * noise - 0.5 * samples.foreground
    kept = knowledge_points(maps_of(entropy), samples.foreground, 0.9)
    assert 0.1 < float(kept.n_fg.float().mean()) / 280 < 0.3  # the paper's share: up to 0.15
    check_figure(role_points_figure(samples, {role: kept for role in "TSB"}, range(3)))
    for points in (samples.points, np.full((2, 3), np.nan), np.zeros((0, 3))):
        refuses(as_cloud, "no cloud to draw; pass finite coordinates", points)
