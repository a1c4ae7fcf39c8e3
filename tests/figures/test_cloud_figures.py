"""Cloud figures: right places in every view, the fixed scale, marks by kind, depth, and limits."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.markers import MarkerStyle

from kpnb.datasets.samples import PointSamples
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import entropy_of
from kpnb.figures import cloud_figures, cloud_frames
from kpnb.figures.cloud import DARK, LIGHT, QUIET, VIEWS, draw_kinds, draw_marks, turned, window
from kpnb.figures.image import ENTROPY_LIMITS, FATES, POINTS
from kpnb.figures.style import new_figure
from kpnb.metrics.points import knowledge_points

SAMPLES, OBJECT, AROUND = 3, 40, 20
COUNT = OBJECT + AROUND


def _samples(count: int = SAMPLES, scale: int = 1) -> PointSamples:
    """A sphere, and a cube beside it as background, in random order."""
    rng = np.random.default_rng([3, count, scale])
    sphere = rng.normal(size=(count, OBJECT * scale, 3))
    sphere /= np.linalg.norm(sphere, axis=2, keepdims=True)
    cube = rng.uniform(-0.5, 0.5, (count, AROUND * scale, 3)) + [1.2, 0.3, -0.4]
    order = rng.permutation(COUNT * scale)
    points = np.concatenate([sphere, cube], 1)[:, order].astype("float32")
    foreground = torch.from_numpy(order < OBJECT * scale).repeat(count, 1)
    labels = torch.arange(count) % 2
    return PointSamples(torch.from_numpy(points), labels, foreground, ("chair", "desk"), {})


def _maps(seed: int = 0, samples: PointSamples | None = None, lost: int | None = None):
    samples = samples or _samples()
    noise = torch.randn(samples.foreground.shape, generator=torch.Generator().manual_seed(seed))
    entropy = -2.8 + 0.6 * noise - 0.4 * samples.foreground
    sigma = torch.exp(entropy - entropy_of(torch.ones(())))
    moved = torch.ones(len(samples))
    if lost is not None:
        sigma[lost], moved[lost] = torch.nan, 0
    return EntropyMaps(sigma, moved, moved > 0, sigma)


def _points(
    seed: int = 0, samples: PointSamples | None = None, lost: int | None = None, b: float = 0.2
):
    samples = samples or _samples()
    return knowledge_points(_maps(seed, samples, lost), samples.foreground, b)


def _cloud(index: int = 0) -> np.ndarray:
    return _samples().points[index].numpy().astype(float)


def _panels(figure) -> list:
    return [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]


def _drawn(ax) -> tuple[np.ndarray, list, np.ndarray]:
    """Places, outlines and colors of the marks of a panel, in the order drawn."""
    (marks,) = [c for c in ax.collections if len(c.get_offsets())]
    return np.asarray(marks.get_offsets()), marks.get_paths(), marks.get_facecolor()


def _places(ax, color: str) -> set:
    """Places of the marks of a color."""
    places, _, colors = _drawn(ax)
    return {tuple(np.round(p, 5)) for p in places[np.all(colors == to_rgba(color), axis=1)]}


def _where(cloud: np.ndarray, held, axes: tuple[int, int] = (0, 2)) -> set:
    return {tuple(np.round(p, 5)) for p in cloud[np.asarray(held)][:, axes]}


EVERY = {
    "clouds": lambda: cloud_figures.clouds_figure(_samples()),
    "one cloud": lambda: cloud_figures.clouds_figure(_samples(), 1, "top"),
    "entropy": lambda: cloud_figures.cloud_entropy_figure(
        _cloud(1), _samples().foreground[1], {"FC1": _maps(), "FC2": _maps(1)}, 1
    ),
    "entropy of one layer": lambda: cloud_figures.cloud_entropy_figure(
        _cloud(), _samples().foreground[0], {"FC1": _maps()}, views=("front", "top")
    ),
    "definition": lambda: cloud_figures.cloud_definition_figure(_cloud(), _maps(), _points(), 0),
    "roles": lambda: cloud_figures.cloud_roles_figure(
        _samples(), {"S": _points(), "B": _points(1)}, [2, 0]
    ),
    "point sets": lambda: cloud_figures.cloud_point_sets_figure(
        _cloud(), {e: _points(e) for e in (1, 5, 9)}, 0
    ),
    "turned": lambda: cloud_frames.cloud_frames(
        _cloud(), _maps().entropy[0], _samples().foreground[0], 3
    )[1],
    "epochs": lambda: cloud_frames.cloud_epoch_frames(
        _cloud(), {r: {e: _points(e + i) for e in (1, 5)} for i, r in enumerate("SB")}, 0
    )[1],
}


@pytest.mark.parametrize("name", EVERY)
def test_figures_are_labelled_whole_and_closed(name):
    figure = EVERY[name]()
    assert plt.get_fignums() == []
    assert figure.get_figwidth() <= 9
    figure.draw_without_rendering()
    needed, there = figure.get_tightbbox(), figure.bbox_inches
    assert needed.x0 > -0.02 and needed.y0 > -0.02
    assert needed.x1 < there.x1 + 0.02 and needed.y1 < there.y1 + 0.02
    for axis in ("xaxis", "yaxis"):
        labels = [getattr(ax, axis).label.get_text() for ax in _panels(figure)]
        assert any(labels)
        assert all("[" in label or label in ("", "points") for label in labels)
        assert not any("cell" in label for label in labels)


@pytest.mark.parametrize("name", EVERY)
def test_every_point_is_drawn_once_inside_the_panel(name):
    for ax in _panels(EVERY[name]()):
        if "nats" in ax.get_xlabel():
            continue
        places, paths, colors = _drawn(ax)
        assert len(places) == len(paths) == len(colors) == COUNT
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        assert right - left == pytest.approx(high - low)
        assert (places > [left, low]).all() and (places < [right, high]).all()


def test_views_are_right_handed_and_look_where_they_say():
    point = np.array([[1.0, 2.0, 3.0]])
    seen = {name: VIEWS[name].project(point) for name in ("front", "side", "top")}
    assert {n: tuple(p[0]) for n, (p, _) in seen.items()} == {
        "front": (1, 3), "side": (2, 3), "top": (1, 2)
    }  # fmt: skip
    # the front is seen from -y, the side from +x, the top from +z
    assert {n: float(near[0]) for n, (_, near) in seen.items()} == {
        "front": -2, "side": 1, "top": 3
    }  # fmt: skip
    assert VIEWS["top"].labels == ("x [object radius]", "y [object radius]")


def test_turned_views_keep_lengths_and_start_at_the_front():
    points = np.random.default_rng(0).normal(size=(20, 3))
    for view in (turned(30), turned(250, 60), VIEWS["oblique"]):
        places, near = view.project(points)
        assert np.allclose((places**2).sum(1) + near**2, (points**2).sum(1))
    assert np.allclose(turned(0, 0).project(points)[0], VIEWS["front"].project(points)[0])
    # a quarter further, what lay to the right comes to the viewer
    assert np.allclose(turned(90, 0).project(np.array([[1.0, 0, 0]]))[1], 1)
    # from above, the nearer of two points on the ground is lower in the picture
    assert turned(0).project(np.array([[0, -1.0, 0]]))[0][0, 1] < 0


def test_near_points_cover_far_ones_whatever_their_kind():
    cloud = np.array([[0, -1.0, 0], [0.1, 1, 0], [0.2, 0, 0], [0.3, -0.5, 0]])
    inside = np.array([True, False, True, False])
    _, axes = new_figure(1, 1, (2, 2))
    kinds = [(inside, DARK), (~inside, LIGHT)]
    draw_kinds(axes[0, 0], cloud, window("front", [cloud]), kinds, 2)
    places, paths, _ = _drawn(axes[0, 0])
    assert np.allclose(places[:, 0], [0.1, 0.2, 0.3, 0])  # by y, the viewer at -y
    cross = len(MarkerStyle("x").get_path().vertices)
    assert [len(path.vertices) == cross for path in paths] == [True, False, True, False]


def test_each_point_keeps_its_own_color_when_sorted_by_depth():
    cloud, values = _cloud(), np.linspace(0, 1, COUNT)
    colors = np.stack([values, values, values, np.ones(COUNT)], 1)
    _, axes = new_figure(1, 1, (2, 2))
    draw_marks(axes[0, 0], cloud, window("side", [cloud]), [DARK] * COUNT, colors, 2)
    places, _, shown = _drawn(axes[0, 0])
    wanted = {tuple(np.round(p, 6)): v for p, v in zip(cloud[:, 1:], values, strict=True)}
    found = {tuple(np.round(p, 6)): c[0] for p, c in zip(places, shown, strict=True)}
    assert found == pytest.approx(wanted)


def test_panels_of_a_figure_share_their_scale():
    samples = _samples()
    samples.points[1] *= 2  # one cloud twice as wide
    for figure in (
        cloud_figures.clouds_figure(samples, view="front"),
        cloud_figures.cloud_roles_figure(samples, {"S": _points()}, range(SAMPLES)),
    ):
        assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in _panels(figure)}) == 1


def test_a_turned_cloud_keeps_its_scale_and_stays_inside():
    frames = cloud_frames.cloud_frames(_cloud(), _maps().entropy[0], _samples().foreground[0], 7)
    widths = {round(np.ptp(frame.axes[0].get_xlim()), 9) for frame in frames}
    assert len(frames) == 7 and len(widths) == 1


def test_entropy_has_the_color_of_the_fixed_scale():
    entropy = torch.full((1, COUNT), -3.4)
    entropy[0, :3] = torch.tensor([-9.0, 9.0, torch.nan])
    sigma = torch.exp(entropy - entropy_of(torch.ones(())))
    maps = EntropyMaps(sigma, torch.ones(1), torch.ones(1) > 0, sigma)
    figure = cloud_figures.cloud_entropy_figure(_cloud(), _samples().foreground[0], {"FC1": maps})
    scale = plt.get_cmap("viridis")
    middle = (-3.4 - ENTROPY_LIMITS[0]) / (ENTROPY_LIMITS[1] - ENTROPY_LIMITS[0])
    wanted = {scale(0.0), scale(1.0), scale(middle), to_rgba("lightgray")}
    for ax in _panels(figure):
        shown = {tuple(color) for color in _drawn(ax)[2]}
        assert np.allclose(sorted(shown), sorted(wanted), atol=0.01)
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == "$H_i$ [nats]" and bar.get_ylim() == ENTROPY_LIMITS


def test_layers_are_rows_and_views_columns():
    titles = [ax.get_title() for ax in _panels(EVERY["entropy"]())]
    views = ("front", "side", "top")
    assert titles == [f"{layer}, {view}" for layer in ("FC1", "FC2") for view in views]
    labels = [(ax.get_xlabel()[:1], ax.get_ylabel()[:1]) for ax in _panels(EVERY["entropy"]())]
    assert labels == [("", "z"), ("", "z"), ("", "y"), ("x", "z"), ("y", "z"), ("x", "y")]


def test_a_mark_of_its_kind_for_each_knowledge_point():
    points, samples = {"S": _points(), "B": _points(1)}, _samples()
    figure = EVERY["roles"]()
    titles = [ax.get_title() for ax in _panels(figure)]
    assert [title.split(":")[0] for title in titles] == ["student", "baseline"] * 2
    cases = [(i, role) for i in (2, 0) for role in "SB"]
    for ax, (index, role) in zip(_panels(figure), cases, strict=True):
        cloud, found = _cloud(index), points[role]
        inside, outside = found.foreground_points[index], found.background_points[index]
        assert _places(ax, POINTS["foreground"].color) == _where(cloud, inside)
        assert _places(ax, POINTS["background"].color) == _where(cloud, outside)
        rest = samples.foreground[index] & ~inside
        assert _places(ax, QUIET[0].color) == _where(cloud, rest)
        assert f"= {int(inside.sum())}," in ax.get_title()


def test_samples_show_foreground_and_class():
    figure = cloud_figures.clouds_figure(_samples(), 2, "top")
    assert [ax.get_title() for ax in _panels(figure)] == ["chair", "desk"]
    for index, ax in enumerate(_panels(figure)):
        inside = _samples().foreground[index]
        assert _places(ax, DARK.color) == _where(_cloud(index), inside, (0, 1))
        assert _places(ax, LIGHT.color) == _where(_cloud(index), ~inside, (0, 1))


def test_cut_counts_all_points():
    points = _points()
    cut = _panels(EVERY["definition"]())[2]
    heights = sum(patch.get_height() for patch in cut.patches if hasattr(patch, "get_height"))
    assert heights == AROUND  # bars: background; the foreground is one outline
    outline = [patch for patch in cut.patches if not hasattr(patch, "get_height")]
    assert len(outline) == 1 and cut.lines[0].get_xdata()[0] == points.threshold


def test_a_sample_without_a_map_is_gray_and_has_no_points():
    maps, points = _maps(lost=1), _points(lost=1)
    figure = cloud_figures.cloud_definition_figure(_cloud(1), maps, points, 1)
    _, entropy, _, marked = _panels(figure)
    assert np.allclose(_drawn(entropy)[2], to_rgba("lightgray"))
    assert marked.get_title() == "no map defined"
    assert not _places(marked, POINTS["foreground"].color)


def test_point_sets_tell_kept_dropped_and_tried():
    inside = _samples().foreground[0].nonzero().flatten()[:4].tolist()
    base, sets = _points(), {}
    for epoch, held in {
        1: inside[:2],
        5: [inside[0], inside[2]],
        9: [inside[0], inside[3]],
    }.items():
        kept = torch.zeros(1, COUNT, dtype=torch.bool)
        kept[0, held] = True
        rest = (base.foreground[:1], base.baseline[:1], base.defined[:1], base.entropy[:1], 0.2)
        sets[epoch] = type(base)(kept, ~kept & False, *rest)
    figure = cloud_figures.cloud_point_sets_figure(_cloud(), sets, 0, shown=[5, 9])
    counts = [[len(_places(ax, fate.color)) for fate in FATES] for ax in _panels(figure)]
    assert counts == [[1, 1, 1], [2, 0, 2]]
    assert _places(_panels(figure)[0], FATES[1].color) == _where(_cloud(), [inside[2]])
    assert [ax.get_title()[:8] for ax in _panels(figure)] == ["epoch 5:", "epoch 9:"]
    frames = cloud_frames.cloud_epoch_frames(_cloud(), {"S": sets, "B": sets}, 0)
    assert len(frames) == 3
    assert [ax.get_title()[:17] for ax in _panels(frames[2])] == [
        "student, epoch 9:", "baseline, epoch 9"
    ]  # fmt: skip


def test_slider_has_a_text_for_every_angle():
    maps, samples = _maps(), _samples()
    slider = cloud_frames.rotating_cloud(
        _cloud(), maps.entropy[0], samples.foreground[0], "a chair", angles=4
    )
    texts = re.findall(r'<img alt="(.*?)"', slider.html)
    assert texts == [f"a chair: turned by {angle}°" for angle in (0, 90, 180, 270)]


@pytest.mark.parametrize("name", ["entropy", "roles"])
def test_a_figure_of_study_clouds_stays_small(name):
    samples = _samples(3, 7)  # 280 + 140 points
    maps, kept = _maps(0, samples), {r: _points(i, samples, b=0.9) for i, r in enumerate("TSB")}
    assert 0.1 < float(kept["S"].n_fg.float().mean()) / 280 < 0.25  # the paper's share: up to 0.15
    figure = {
        "entropy": lambda: cloud_figures.cloud_entropy_figure(
            samples.points[0], samples.foreground[0], {"FC1": maps, "FC2": maps}
        ),
        "roles": lambda: cloud_figures.cloud_roles_figure(samples, kept, range(3)),
    }[name]()
    buffer = io.BytesIO()
    figure.savefig(buffer)
    assert len(buffer.getvalue()) < 250_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cloud_figures.clouds_figure(_samples(), 0), "nothing to draw"),
        (lambda: cloud_figures.clouds_figure(_samples(), 1, "below"), "no view 'below'"),
        (
            lambda: cloud_figures.cloud_entropy_figure(_cloud(), [True], {"FC1": _maps()}),
            "do not fit a cloud of 60 points",
        ),
        (
            lambda: cloud_figures.cloud_entropy_figure(_cloud(), _samples().foreground[0], {}),
            "nothing to draw",
        ),
        (
            lambda: cloud_figures.cloud_definition_figure(_cloud()[:9], _maps(), _points(), 0),
            "do not fit a cloud of 9 points",
        ),
        (
            lambda: cloud_figures.cloud_definition_figure(_cloud(), _maps(), _points(), 3),
            "no cloud 3 among 3",
        ),
        (lambda: cloud_figures.cloud_roles_figure(_samples(), {}, [0]), "nothing to draw"),
        (
            lambda: cloud_figures.cloud_point_sets_figure(_cloud(), {1: _points()}, 0, shown=[4]),
            r"epochs \[4\] have no points",
        ),
        (
            lambda: cloud_frames.cloud_frames(_samples().points, [0.0], [True]),
            "no cloud to draw",
        ),
        (
            lambda: cloud_frames.cloud_frames(np.full((2, 3), np.nan), [0.0] * 2, [True] * 2),
            "finite coordinates",
        ),
        (
            lambda: cloud_frames.cloud_frames(_cloud(), [0.0] * COUNT, [True] * COUNT, 0),
            "nothing to draw",
        ),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(KpnbError, match=message):
        call()
