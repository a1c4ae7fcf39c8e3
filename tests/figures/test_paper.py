"""The paper's figures say the same of images, clouds and words: one suite for all three."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from shown_samples import SAMPLES, Shown, check_figure, maps_of, marks, panels, pictures, titles

from kpnb.errors import KpnbError
from kpnb.figures.panel import ENTROPY_LIMITS, FATES, POINTS, entropy_colors
from kpnb.figures.paper import (
    definition_figure,
    fates_figure,
    layers_figure,
    role_points_figure,
    samples_figure,
)
from kpnb.figures.text import entropy_color

KINDS = [style.name for style in POINTS.values()]
FATE_NAMES = [style.name for style in FATES]


@pytest.fixture(params=["image", "cloud", "text"])
def shown(request) -> Shown:
    return Shown(request.param)


FIGURES = {
    "one sample": lambda s: samples_figure(s.samples, s.foreground, 1),
    "layers": lambda s: layers_figure(  # as many as a network has stay on the page
        s.samples, {f"Conv{i}": s.maps(i) for i in range(7 if s.kind == "image" else 2)}, 1
    ),
    "definition": lambda s: definition_figure(s.samples, s.maps(), s.points(), 0),
    "roles": lambda s: role_points_figure(s.samples, {"S": s.points(), "B": s.points(1)}, [2, 0]),
    "fates by role": lambda s: fates_figure(
        s.samples, {r: {e: s.points(e + i) for e in (1, 5)} for i, r in enumerate("SB")}, 0
    ),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", ["image", "cloud"])
def test_drawings_are_labelled_whole_small_and_closed(kind, name):
    figure = FIGURES[name](Shown(kind))
    check_figure(figure)
    assert name != "layers" or kind != "image" or len(panels(figure)) == 8


def test_samples_are_shown_under_their_class_or_note(shown):
    wanted = {
        "image": ["fruit", "tool"],
        "cloud": ["chair", "desk"],
        "text": ["rated −0.4", "rated −1.4"],
    }
    assert titles(samples_figure(shown.samples, shown.foreground, 2)) == wanted[shown.kind]
    assert len(titles(samples_figure(shown.samples, shown.foreground))) == SAMPLES


def test_roles_are_columns_and_each_knowledge_point_is_marked(shown):
    by_role = {"S": shown.points(), "B": shown.points(1)}
    figure = role_points_figure(shown.samples, by_role, [2, 0])
    cells = [(row, points) for row in (2, 0) for points in by_role.values()]
    counts = [(int(points.n_fg[row]), int(points.n_bg[row])) for row, points in cells]
    assert len(set(counts)) > 1
    assert marks(figure, *KINDS) == counts
    found = titles(figure)
    assert [title.split(":")[0].split(",")[0] for title in found] == ["student", "baseline"] * 2
    for title, (inside, outside) in zip(found, counts, strict=True):
        assert f"= {inside}, " in title and title.endswith(f"= {outside}")


def test_fates_tell_kept_dropped_and_tried(shown):
    trail = {1: shown.held(0, 1), 5: shown.held(0, 1), 9: shown.held(0), 7: shown.held(1)}
    figure = fates_figure(shown.samples, {"S": trail}, 0)
    # kept, dropped later, dropped before, by epoch 1, 5, 7, 9
    assert marks(figure, *FATE_NAMES) == [(1, 1, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1)]
    assert [title[:7] for title in titles(figure)] == ["epoch 1", "epoch 5", "epoch 7", "epoch 9"]
    figure = fates_figure(shown.samples, {"S": trail}, 0, shown=[9, 7])
    assert marks(figure, *FATE_NAMES) == [(0, 1, 1), (1, 0, 1)], "what came before still counts"
    assert [title.endswith("= 1") for title in titles(figure)] == [True, True]


def test_fates_of_several_roles_are_named(shown):
    trails = {"S": {1: shown.held(0), 2: shown.held(1)}, "rest": {1: shown.held(), 2: shown.held()}}
    figure = fates_figure(shown.samples, trails, 0)
    names = [title.split(":")[0].split(", $")[0].split(", N")[0] for title in titles(figure)]
    assert names == ["student, epoch 1", "student, epoch 2", "rest, epoch 1", "rest, epoch 2"]
    assert marks(figure, *FATE_NAMES) == [(0, 1, 0), (1, 0, 1), (0, 0, 0), (0, 0, 0)]
    beside = fates_figure(shown.samples, trails, 0, [2])
    assert [title.split(", ")[0] for title in titles(beside)] == ["student", "rest"]
    if isinstance(beside, Figure):
        assert len({ax.get_subplotspec().rowspan.start for ax in panels(beside)}) == 1


def _colors(ax) -> set | None:
    """The colors of a map, as drawn; None for a picture."""
    if not ax.get_images():
        return {tuple(color) for color in ax.collections[0].get_facecolor()}
    (image,) = ax.get_images()
    values = image.get_array()
    return None if values.ndim == 3 else {tuple(c) for c in image.to_rgba(values).reshape(-1, 4)}


def test_entropy_has_one_scale_everywhere_and_layers_are_of_the_index(shown):
    entropy = torch.full(shown.foreground.shape, -3.4)
    entropy[1, :3] = torch.tensor([-9.0, 9.0, torch.nan])
    maps = {"FC1": maps_of(entropy), "FC2": maps_of(torch.full(entropy.shape, -2.5))}
    maps["FC2"].sigma[0] = 1.0  # another sample's
    figure = layers_figure(shown.samples, maps, 1)
    names = [title.split(",")[0] for title in titles(figure)]
    assert [name for name in dict.fromkeys(names) if name != "image"] == ["FC1", "FC2"]
    scale, (low, high) = entropy_colors(), ENTROPY_LIMITS
    assert (low, high) == (-4.5, -2.3)
    if shown.kind == "text":
        assert all(f"background:{entropy_color(v)}" in figure.html for v in (-9, 9, -3.4))
        assert entropy_color(-9) == entropy_color(low) and "take no part" in repr(figure)
        assert repr(figure).count("(−2.50)") == 5
        return
    wanted = [scale(0.0), scale(1.0), scale((-3.4 - low) / (high - low)), to_rgba("lightgray")]
    wanted = {"FC1": sorted(wanted), "FC2": [scale((-2.5 - low) / (high - low))]}
    for name, ax in zip(names, panels(figure), strict=True):
        found = _colors(ax)
        assert (
            found is None
            if name == "image"
            else np.allclose(sorted(found), wanted[name], atol=0.01)
        )
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == "$H_i$ [nats]" and bar.get_ylim() == ENTROPY_LIMITS


def test_definition_cuts_at_b(shown):
    points = shown.points(b=0.3)
    figure = definition_figure(shown.samples, shown.maps(), points, 2)
    counts = int(points.n_fg[2]), int(points.n_bg[2])
    if shown.kind == "text":
        assert f"N_fg = {counts[0]}, N_bg = {counts[1]}" in repr(figure)
        assert "b = 0.3 nats" in repr(figure)
        return
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
        definition_figure(shown.samples, maps, points, 1),
        role_points_figure(shown.samples, {"S": points}, [1]),
        fates_figure(shown.samples, {"S": {3: points}}, 1),
    ]
    for figure in figures:
        assert not any(sum(found) for found in marks(figure, *KINDS, *FATE_NAMES))
        told = " ".join(titles(figure)) if isinstance(figure, Figure) else repr(figure)
        assert "no map defined" in told and "= nan" not in told.lower() and "N_" not in told
    if shown.kind != "text":
        _, entropy, cut, _ = panels(figures[0])
        assert not any(getattr(patch, "get_height", int)() for patch in cut.patches)
        assert _colors(entropy) == {to_rgba("lightgray")}


def test_bad_calls_are_told(shown):
    samples, maps, points = shown.samples, shown.maps(), shown.points()
    for call, message in [
        (lambda: samples_figure(samples, shown.foreground, 0), "to show; ask for 1 or more"),
        (lambda: samples_figure(samples[:0] if shown.kind == "text" else [], None), "to show"),
        (lambda: layers_figure(samples, {}), "no maps to show"),
        (lambda: layers_figure(samples, {"FC1": maps}, SAMPLES), f"no {shown.kind} 3 among 3"),
        (lambda: definition_figure(samples, maps, points, -1), f"no {shown.kind} -1 among 3"),
        (lambda: role_points_figure(samples, {}, [0]), "no points to show"),
        (lambda: role_points_figure(samples, {"S": points}, []), "to show; ask for 1 or more"),
        (lambda: role_points_figure(samples, {"S": points}, [4]), f"no {shown.kind} 4 among 3"),
        (lambda: fates_figure(samples, {"S": {1: points}}, 0, [4]), r"epochs \[4\] have no points"),
        (lambda: fates_figure(samples, {"S": {}}, 0), "have no points"),
        (lambda: fates_figure(samples, {}, 0), "have no points"),
        (lambda: fates_figure(samples, {"S": {1: points}, "B": {2: points}}, 0, [1]), r"\[1\]"),
    ]:
        with pytest.raises(KpnbError, match=message):
            call()


@pytest.mark.parametrize(("kind", "other", "message"), [
    ("cloud", "image", "do not fit a cloud of 60 points"),
    ("text", "image", "does not fit a text of 5 words"),
    ("image", "text", "5 units make no square grid"),
])  # fmt: skip
def test_maps_and_points_of_other_units_are_told(kind, other, message):
    samples, wrong = Shown(kind).samples, Shown(other)
    maps, points = wrong.maps(), wrong.points()
    for call in (
        lambda: layers_figure(samples, {"FC1": maps}),
        lambda: definition_figure(samples, maps, points),
        lambda: role_points_figure(samples, {"S": points}, [0]),
        lambda: fates_figure(samples, {"S": {1: points}}, 0),
    ):
        with pytest.raises(KpnbError, match=message):
            call()


def test_images_may_come_as_inputs_or_pictures_but_need_a_foreground():
    shown = Shown("image")
    for samples in (shown.samples, shown.samples.images, pictures(), list(pictures())):
        figure = role_points_figure(samples, {"S": shown.points()}, [2])
        drawn = panels(figure)[0].get_images()[0].get_array()
        assert abs(drawn - pictures()[2]).max() < 1e-5
    with pytest.raises(KpnbError, match="hold no foreground of units"):
        samples_figure(shown.samples)
