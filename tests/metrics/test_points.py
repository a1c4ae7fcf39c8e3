"""Equations 5 to 9 against small examples worked by hand and against naive loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import generator, naive_points, naive_ratio, naive_stability
from refusals import refuses
from shown_samples import maps_of

from kpnb.estimator.entropy import EntropyMaps
from kpnb.metrics.points import (
    KnowledgePoints,
    dropped,
    knowledge_points,
    learning_distance,
    learning_speed,
    published_filter,
    stability,
)

# Background means: 1.0 and 3.0, so the dataset's level is 2.0. Threshold 0.5.
H = torch.tensor([[0.0, 2.0, 1.0, 1.0], [2.5, 1.0, 2.0, 4.0]], dtype=torch.float64)
FG = torch.tensor([[True, True, False, False], [True, True, False, False]])
NAN = math.nan
HYPOTHESIS = {"deadline": None, "derandomize": True, "database": None}


def indices(points):
    return [row.nonzero().flatten().tolist() for row in points]


def test_points_by_hand_and_the_threshold_is_strict():
    points = knowledge_points(H, FG, 0.5)
    assert points.baseline.tolist() == [2.0, 2.0]
    assert indices(points.foreground_points) == [[0], [1]]
    assert indices(points.background_points) == [[2, 3], []]
    assert points.n_fg.tolist() == [1, 1] and points.n_bg.tolist() == [2, 0]
    assert points.ratio.tolist() == pytest.approx([1 / 3, 1.0])
    assert points.ratio.dtype == torch.float64 and points.defined.all()
    own = knowledge_points(H, FG, 0.5, baseline="sample")
    assert own.baseline.tolist() == [1.0, 3.0]
    assert indices(own.foreground_points) == [[0], [1]]  # 3.0 - 2.5 is not above 0.5
    assert indices(own.background_points) == [[], [2]]
    entropy = torch.tensor([[-1.0, -0.75, 0.0, 0.0]], dtype=torch.float64)
    for threshold, points in ((0.75, [0]), (0.74, [0, 1])):
        assert indices(knowledge_points(entropy, FG[:1], threshold).foreground_points) == [points]


@st.composite
def problems(draw):
    samples, units = draw(st.integers(1, 5)), draw(st.integers(2, 9))
    seed = draw(st.integers(0, 10**6))
    entropy = torch.randn(samples, units, generator=generator(seed), dtype=torch.float64)
    foreground = torch.rand(samples, units, generator=generator(seed + 1)) < 0.5
    foreground[:, 0], foreground[:, 1] = True, False
    return entropy, foreground, draw(st.floats(0.01, 1.5))


@settings(max_examples=40, **HYPOTHESIS)
@given(problems(), st.sampled_from(["dataset", "sample"]))
def test_points_equal_the_naive_loops(problem, baseline):
    entropy, foreground, threshold = problem
    points = knowledge_points(entropy, foreground, threshold, baseline)
    inside, outside = naive_points(entropy, foreground, threshold, baseline)
    assert [set(row) for row in indices(points.foreground_points)] == inside
    assert [set(row) for row in indices(points.background_points)] == outside
    ratios = [naive_ratio(len(f), len(b)) for f, b in zip(inside, outside, strict=True)]
    assert points.ratio.tolist() == pytest.approx(ratios)


def test_undefined_samples_and_units_without_entropy_take_no_part():
    entropy = torch.cat([H[:1], torch.full((1, 4), NAN, dtype=torch.float64), H[1:]])
    for baseline in ("dataset", "sample"):
        mixed = knowledge_points(maps_of(entropy), FG[[0, 0, 1]], 0.45, baseline)
        clean = knowledge_points(maps_of(H), FG, 0.45, baseline)
        assert mixed.defined.tolist() == [True, False, True]
        for name in ("foreground_points", "background_points", "baseline", "ratio", "n_fg"):
            assert torch.equal(getattr(mixed, name)[[0, 2]], getattr(clean, name)), name
        assert mixed.ratio[1].isnan() and mixed.baseline[1].isnan()
        assert not mixed.foreground_points[1].any() and not mixed.background_points[1].any()
    entropy = torch.tensor([[0.0, 2.0, NAN, 1.0, NAN]], dtype=torch.float64)
    foreground = torch.tensor([[True, False, False, False, True]])
    points = knowledge_points(entropy, foreground, 0.2)
    assert points.baseline.tolist() == [1.5]
    assert indices(points.foreground_points) == [[0]]
    assert indices(points.background_points) == [[3]]


NONE = torch.zeros(2, 4, dtype=torch.bool)
SHAPE, LESS = r"\(2, 4\)", H.where(~FG | (H == 0), NAN)


@pytest.mark.parametrize(
    "function, told, given",
    [
        (knowledge_points, r"\[0, 1\] have an empty foreground", (H, NONE, 0.2)),
        (knowledge_points, r"\[0, 1\] are all foreground", (H, ~NONE, 0.2)),
        *((knowledge_points, SHAPE, (H, part, 0.2)) for part in (FG[:, :3], FG[:1])),
        (knowledge_points, "must be bool", (H[0], FG[0], 0.2)),
        (knowledge_points, "float32", (H, FG.float(), 0.2)),
        (knowledge_points, r"maps.foreground\(masks\)", (H, FG[..., None], 0.2)),
        (knowledge_points, "no sample", (H * NAN, FG, 0.2)),
        (knowledge_points, r"\[1\] are all foreground", (H.where(FG | (H < 2), NAN), FG, 0.2)),
        (knowledge_points, r"\[1\] have an empty foreground", (LESS, FG, 0.2)),
        *((knowledge_points, "positive", (H, FG, bad)) for bad in (0.0, -0.2, NAN)),
        (knowledge_points, "'dataset' or 'sample'", (H, FG, 0.2, "image")),
        (learning_speed, "must be", (torch.ones(3, 2), [1.0, 2.0])),
        (learning_speed, "must be", (torch.ones(3), [1.0, 2.0, 3.0])),
        (stability, "must be", (torch.ones(2, 3, 4),)),
        (stability, "must be", (FG,)),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(function, told, given):
    refuses(function, told, *given)


def test_learning_speed_by_hand():
    counts = torch.tensor([[1, 5, 2], [4, 5, 2], [3, 0, 7], [4, 1, 7]])
    distance = [0.5, 1.0, 2.0, 4.0]
    # First maxima: epoch 1 (4 before the other 4), epoch 0 (5 before the other 5), epoch 2.
    assert learning_distance(counts, distance).tolist() == [1.0, 0.5, 2.0]
    d_mean, d_var = learning_speed(counts, distance)
    assert d_mean == pytest.approx(3.5 / 3)
    assert d_var == pytest.approx(np.var([1.0, 0.5, 2.0]))  # population variance
    assert isinstance(d_mean, float) and isinstance(d_var, float)
    assert learning_speed(counts[:, :1], torch.tensor(distance)) == (1.0, 0.0)


@settings(max_examples=30, **HYPOTHESIS)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10**6))
def test_stability_equals_the_naive_sets(epochs, samples, units, seed):
    by_epoch = torch.rand(epochs, samples, units, generator=generator(seed)) < 0.3
    expected = [
        naive_stability([set(by_epoch[e, s].nonzero().flatten().tolist()) for e in range(epochs)])
        for s in range(samples)
    ]
    found = stability(by_epoch)
    sets = [[{*row.nonzero().flatten().tolist()} for row in one] for one in by_epoch.unbind(1)]
    assert dropped(by_epoch).tolist() == [len(set.union(*one) - one[-1]) for one in sets]
    assert found.tolist() == pytest.approx(expected) and found.dtype == torch.float64


def test_published_filter_by_hand():
    foreground = FG[[0, 0, 0, 0]]
    first = maps_of(torch.tensor([[0.0, 0, 1, 1], [0.0, 2, 1, 1], [0.0, 3, 1, 1], [NAN] * 4]))
    second = maps_of(torch.tensor([[0.0, 0, 1, 1]] * 4))
    assert published_filter([second], foreground).tolist() == [True] * 4
    # Equal means are kept; one checkpoint that fails or is undefined drops the sample.
    for order in ([first, second], [second, first], [first]):
        assert published_filter(order, foreground).tolist() == [True, True, False, False]


SETTINGS = {"units": "GridUnits(cells=2)", "layer": "fc <1>"}
LOST = torch.cat([H, torch.full((1, 4), NAN, dtype=torch.float64)])


def found(entropy=LOST, b=0.5, **told) -> KnowledgePoints:
    """Points by hand, see above, the last sample without a map."""
    maps = replace(maps_of(entropy), settings=SETTINGS | told)
    return knowledge_points(maps, FG[[0, 1, 1]][: len(entropy), : entropy.shape[1]], b)


def test_points_know_how_their_maps_were_made_and_say_what_they_are():
    assert found().settings == SETTINGS and knowledge_points(H, FG, 0.5).settings == {}
    assert repr(found()) == (
        "KnowledgePoints 3 samples, 4 units each (GridUnits(cells=2)); layer fc <1>; b 0.5 nats; "
        "N_fg 1 in the mean; N_bg 1 in the mean; N_fg / (N_fg + N_bg) 0.6667 in the mean; "
        "without a map 1 samples"
    )
    page = found()._repr_html_()
    assert page.count("<tr>") == 7 and "<caption>knowledge points</caption>" in page
    assert "fc &lt;1&gt;" in page and "<1>" not in page
    assert "in the mean" not in repr(found()[2]) and "without" not in repr(found()[:2])


def test_arrays_tables_and_grids_hold_the_kind_of_each_unit():
    points = found()
    kinds = [[1, 0, -1, -1], [0, 1, 0, 0], [0] * 4]
    assert points.numpy().tolist() == kinds and points.kinds.dtype == torch.int8
    assert points.grid().tolist() == [[row[:2], row[2:]] for row in kinds]
    refuses(found(units="words").grid, "no square grid")
    refuses(found(H[:, :3]).grid, "no square grid")
    table = points.to_pandas()
    assert list(table) == [
        *("sample", "unit", "row", "column", "foreground", "entropy", "baseline", "threshold"),
        "point",
    ]
    assert (table["threshold"] == points.threshold).all()
    assert table["baseline"].iloc[[0, 4]].tolist() == points.baseline[:2].tolist()
    names = {1: "foreground", -1: "background", 0: "none"}
    assert table["point"].tolist() == [names[kind] for row in kinds for kind in row]
    assert table["foreground"].tolist() == FG[[0, 1, 1]].flatten().tolist()
    np.testing.assert_allclose(table["entropy"], LOST.flatten(), atol=1e-6)
    counted = table[table["point"] != "none"].groupby(["sample", "point"]).size()
    assert counted[0, "foreground"] == points.n_fg[0] and counted[0, "background"] == points.n_bg[0]


def test_parts_are_points_of_those_samples():
    points = found()
    assert len(points) == 3 and len(points[1:]) == 2
    assert [part.n_fg.tolist() for part in points] == [[1], [1], [0]]
    assert points[[2, 0]].defined.tolist() == [False, True]
    assert points[-1] == points[2] == points[points.n_fg == 0]
    assert points[:1].threshold == 0.5 and points[:1].settings == SETTINGS


def test_equality_is_of_all_parts_the_threshold_and_settings():
    points = found()
    assert points == found() and points.to("cpu") == points
    for name in KnowledgePoints.PARTS:
        other = getattr(points, name).clone()
        other.view(-1)[0] = not other.view(-1)[0]
        assert points != replace(points, **{name: other}), name
    assert points != replace(points, threshold=0.4) and points != found(layer="fc2")
    assert points != points[:2] and points != maps_of(LOST)
    assert all(getattr(points.to("meta"), name).is_meta for name in KnowledgePoints.PARTS)


def test_joined_points_have_none_beyond_the_units_of_each():
    wide, narrow = found(), found(torch.tensor([[0.0, 2.0, 1.5]], dtype=torch.float64))
    whole = KnowledgePoints.joined([narrow, wide])
    assert whole[1:] == wide and whole.n_fg.tolist() == [1, 1, 1, 0]
    assert whole.entropy[0].isnan().tolist() == [False, False, False, True]
    assert not whole.foreground[0, 3] and whole.foreground.dtype == torch.bool
    assert whole[0].ratio == narrow.ratio and whole.baseline[0] == narrow.baseline[0]
    refuses(KnowledgePoints.joined, "join one set of knowledge points or more", [])
    refuses(KnowledgePoints.joined, "the same settings", [wide, found(b=0.4)])


def test_points_are_stored_whole_and_foreign_or_damaged_files_are_refused(tmp_path):
    path, points = tmp_path / "points", found()
    foreground = FG[:1].expand(3, 4)  # one mask, in memory once
    shared = replace(points, foreground=foreground, foreground_points=foreground)
    for written in (points, shared, points[1:], points[[]]):
        written.save(path)
        assert KnowledgePoints.load(path) == written
    assert list(tmp_path.iterdir()) == [path]
    refuses(EntropyMaps.load, "holds no entropy maps", path)
    points.save(path)
    whole = path.read_bytes()
    damages = (b"baseline", b"basement"), (b"threshold", b"thresholt"), (b'"0.5"', b'"0,5"')
    for damaged in (b"", whole[: len(whole) // 2], *(whole.replace(*d) for d in damages)):
        assert damaged != whole
        path.write_bytes(damaged)
        refuses(KnowledgePoints.load, "cannot read knowledge points from .*points", path)
    maps_of(H).save(path)
    refuses(KnowledgePoints.load, "holds no knowledge points; pass a file that save", path)
    refuses(KnowledgePoints.load, "cannot read", tmp_path / "missing")
    refuses(points.save, "cannot write knowledge points to", tmp_path / "no" / "points")
