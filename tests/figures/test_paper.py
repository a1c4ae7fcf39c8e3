"""The paper's figures say the same of images, clouds and words: one suite for all three."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from refusals import refuses
from shown_samples import SAMPLES, Shown, check_figure, maps_of, marks, panels, pictures, titles

from kpnb.figures import paper
from kpnb.figures.panel import ENTROPY_LIMITS, FATES, POINTS, entropy_colors
from kpnb.figures.text import on_color

KINDS, FATE_NAMES = ([style.name for style in kinds] for kinds in (POINTS.values(), FATES))


@pytest.fixture(params=["image", "cloud", "text"])
def shown(request) -> Shown:
    return Shown(request.param)


@pytest.mark.parametrize("kind", ["image", "cloud"])
def test_drawings_are_labelled_whole_small_and_closed(kind):
    shown, several = Shown(kind), 7 if kind == "image" else 2
    samples, maps = shown.samples, {f"Conv{i}": Shown(kind).maps(i) for i in range(several)}
    by_role = {role: {e: shown.points(e + i) for e in (1, 5)} for i, role in enumerate("SB")}
    layers = paper.layers_figure(samples, maps, 1)  # as many as a network has stay on the page
    assert len(panels(layers)) == (8 if kind == "image" else 6)
    for figure in (
        paper.samples_figure(samples, shown.foreground, 1),
        layers,
        paper.definition_figure(samples, maps["Conv0"], shown.points(), 0),
        paper.role_points_figure(samples, {role: by_role[role][1] for role in "SB"}, [2, 0]),
        paper.fates_figure(samples, by_role, 0),
    ):
        check_figure(figure)


def test_samples_are_named_roles_are_columns_and_each_knowledge_point_is_marked(shown):
    wanted = {"image": ["fruit", "tool", "fruit"], "cloud": ["chair", "desk", "chair"]}
    wanted |= {"text": ["rated −0.4", "rated −1.4", "rated −2.4"]}
    for count in (2, 8):
        found = titles(paper.samples_figure(shown.samples, shown.foreground, count))
        assert found == wanted[shown.kind][:count]
    by_role = {"S": shown.points(), "B": shown.points(1)}
    figure = paper.role_points_figure(shown.samples, by_role, [2, 0])
    cells = [(row, points) for row in (2, 0) for points in by_role.values()]
    counts = [(int(points.n_fg[row]), int(points.n_bg[row])) for row, points in cells]
    assert len(set(counts)) > 1
    assert marks(figure, *KINDS) == counts
    roles = ["student", "baseline"] * 2
    for title, role, (inside, outside) in zip(titles(figure), roles, counts, strict=True):
        assert title.startswith(role) and f"= {inside}, " in title
        assert title.endswith(f"= {outside}")


def test_fates_tell_kept_dropped_and_tried(shown):
    trail = {1: shown.held(0, 1), 5: shown.held(0, 1), 9: shown.held(0), 7: shown.held(1)}
    figure = paper.fates_figure(shown.samples, {"S": trail}, 0)
    # kept, dropped later, dropped before, by epoch 1, 5, 7, 9
    assert marks(figure, *FATE_NAMES) == [(1, 1, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)]
    assert [title[:7] for title in titles(figure)] == ["epoch 1", "epoch 5", "epoch 7", "epoch 9"]
    figure = paper.fates_figure(shown.samples, {"S": trail}, 0, shown=[9, 7])
    assert marks(figure, *FATE_NAMES) == [(0, 1, 1), (1, 0, 1)], "what came before still counts"
    assert all(title.endswith("= 1") for title in titles(figure))
    # Several roles are named.
    trails = {"S": {1: shown.held(0), 2: shown.held(1)}, "rest": {1: shown.held(), 2: shown.held()}}
    figure = paper.fates_figure(shown.samples, trails, 0)
    names = [title.split(":")[0].split(", $")[0].split(", N")[0] for title in titles(figure)]
    assert names == ["student, epoch 1", "student, epoch 2", "rest, epoch 1", "rest, epoch 2"]
    beside = paper.fates_figure(shown.samples, trails, 0, [2])
    assert [title.split(", ")[0] for title in titles(beside)] == ["student", "rest"]
    if isinstance(beside, Figure):
        assert len({ax.get_subplotspec().rowspan.start for ax in panels(beside)}) == 1


def _colors(ax) -> list:
    """The colors of a map, as drawn, sorted; none for a picture."""
    if not ax.get_images():
        return sorted({tuple(color) for color in ax.collections[0].get_facecolor()})
    (image,) = ax.get_images()
    values = image.get_array()
    drawn = [] if values.ndim == 3 else image.to_rgba(values).reshape(-1, 4)
    return sorted({tuple(color) for color in drawn})


def test_entropy_has_one_scale_everywhere_and_layers_are_of_the_index(shown):
    entropy = torch.full(shown.foreground.shape, -3.4)
    entropy[1, :3] = torch.tensor([-9.0, 9.0, torch.nan])
    maps = {"FC1": maps_of(entropy), "FC2": maps_of(torch.full(entropy.shape, -2.5))}
    maps["FC2"].sigma[0] = 1.0  # another sample's
    figure = paper.layers_figure(shown.samples, maps, 1)
    names = [title.split(",")[0] for title in titles(figure)]
    assert [name for name in dict.fromkeys(names) if name != "image"] == ["FC1", "FC2"]
    scale, (low, high) = entropy_colors(), ENTROPY_LIMITS
    assert (low, high) == (-4.5, -2.3)
    if shown.kind == "text":
        assert all(on_color(v) in figure.html for v in (-9, 9, -3.4))
        assert on_color(-9) == on_color(low) and "take no part" in repr(figure)
        assert repr(figure).count("(−2.50)") == 5
        return
    wanted = [scale(0.0), scale(1.0), scale((-3.4 - low) / (high - low)), to_rgba("lightgray")]
    wanted = {"image": [], "FC1": sorted(wanted), "FC2": [scale((-2.5 - low) / (high - low))]}
    for name, ax in zip(names, panels(figure), strict=True):
        np.testing.assert_allclose(_colors(ax), wanted[name], rtol=0, atol=0.01)
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert "$H_i$ [nats]" in bar.get_ylabel() and bar.get_ylim() == ENTROPY_LIMITS


@pytest.mark.parametrize("kind", ["image", "cloud"])
def test_definition_cuts_at_b(kind):
    """Of texts, see test_text."""
    shown = Shown(kind)
    points = shown.points(b=0.3)
    figure = paper.definition_figure(shown.samples, shown.maps(), points, 2)
    counts = int(points.n_fg[2]), int(points.n_bg[2])
    whole, _, cut, marked = panels(figure)
    assert whole.get_title() == shown.kind and cut.get_title() == "cut at b = 0.3"
    assert marks(figure, *KINDS)[0] == (0, 0) and marks(figure, *KINDS)[3] == counts
    assert marked.get_title().endswith(f"= {counts[1]}")
    bars = [patch for patch in cut.patches if hasattr(patch, "get_height")]
    assert sum(bar.get_height() for bar in bars) == (~shown.foreground[2]).sum()
    assert len(cut.patches) == len(bars) + 1, "the foreground is one outline"
    assert cut.lines[0].get_xdata()[0] == 0.3


def test_a_sample_without_a_map_is_said_to_have_none(shown):
    maps, points = shown.maps(lost=1), shown.points(lost=1)
    figures = [
        paper.definition_figure(shown.samples, maps, points, 1),
        paper.role_points_figure(shown.samples, {"S": points}, [1]),
        paper.fates_figure(shown.samples, {"S": {3: points}}, 1),
    ]
    for figure in figures:
        assert not any(sum(found) for found in marks(figure, *KINDS, *FATE_NAMES))
        told = " ".join(titles(figure)) if isinstance(figure, Figure) else repr(figure)
        assert "no map defined" in told and "= nan" not in told.lower() and "N_" not in told
    if shown.kind != "text":
        _, entropy, cut, _ = panels(figures[0])
        assert not any(getattr(patch, "get_height", int)() for patch in cut.patches)
        assert _colors(entropy) == [to_rgba("lightgray")]


UNITS = {
    "image": "5 units make no square grid",
    "cloud": "do not fit a cloud of 60 points",
    "text": "does not fit a text of 5 words",
}


def test_bad_calls_are_told(shown):
    samples, found, maps, none = shown.samples, {"S": shown.points()}, shown.maps(), "to show"
    other = Shown("text" if shown.kind == "image" else "image")
    wrong, units = other.points(), UNITS[shown.kind]
    roles, fates, trail = paper.role_points_figure, paper.fates_figure, {1: shown.points()}
    for call, given, message in (
        (paper.samples_figure, (samples, shown.foreground, 0), "to show; ask for 1 or more"),
        (paper.samples_figure, (samples[:0] if shown.kind == "text" else [], None), none),
        (paper.layers_figure, (samples, {}), "no maps to show"),
        (paper.layers_figure, (samples, {"FC1": maps}, SAMPLES), f"no {shown.kind} 3 among 3"),
        (paper.layers_figure, (samples, {"FC1": other.maps()}), units),
        (paper.definition_figure, (samples, maps, found["S"], -1), f"no {shown.kind} -1 among 3"),
        (paper.definition_figure, (samples, other.maps(), wrong), units),
        (roles, (samples, {}, [0]), "no points to show"),
        (roles, (samples, found, [4]), f"no {shown.kind} 4 among 3"),
        (roles, (samples, {"S": wrong}, [0]), units),
        (fates, (samples, {"S": trail}, 0, [4]), r"epochs \[4\] have no points"),
        (fates, (samples, {}, 0), "have no points"),
        (fates, (samples, {"S": trail, "B": {2: found["S"]}}, 0, [1]), r"\[1\]"),
        (fates, (samples, {"S": {1: wrong}}, 0), units),
    ):
        refuses(call, message, *given)


def test_images_may_come_as_inputs_or_pictures_but_need_a_foreground():
    shown = Shown("image")
    for samples in (shown.samples, shown.samples.images, pictures(), list(pictures())):
        figure = paper.role_points_figure(samples, {"S": shown.points()}, [2])
        drawn = panels(figure)[0].get_images()[0].get_array()
        assert abs(drawn - pictures()[2]).max() < 1e-5
    refuses(paper.samples_figure, "hold no foreground of units", shown.samples)
