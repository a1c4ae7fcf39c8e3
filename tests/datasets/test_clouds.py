"""Point scenes hold what they say: object, background, place, order; and the packed shapes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from kpnb.datasets import clouds as cloud_files
from kpnb.datasets.clouds import embedded_pointclouds, embedded_shapes, point_scenes
from kpnb.datasets.samples import Shapes, unit_sphere

SIZE = 40


def make_shapes(scale=1.0, classes=4, each=3):
    rng = np.random.default_rng([classes, each, SIZE])
    points = unit_sphere(rng.standard_normal((classes * each, SIZE, 3))) * scale
    labels = torch.arange(classes).repeat(each)  # not sorted by class
    names, source = tuple(f"shape {i}" for i in labels), dict(dataset="toy", data="0")
    return Shapes(torch.tensor(points).float(), labels, tuple("abcd"[:classes]), names, source)


SHAPES = make_shapes()
GIVEN = dict(count=20, points=25, background=30, distance=0.0, turn=360.0, seed=0, split="train")


def scenes(shapes=SHAPES, **changes):
    return point_scenes(shapes, **GIVEN | changes)


def found_in(points):
    """Of each point its shape and place, told by height and radius, and its turn, |turn| = 1."""
    known = SHAPES.points.reshape(-1, 3)
    kept = [torch.stack([p[:, :2].norm(dim=1), p[:, 2]], 1).double() for p in (points, known)]
    distance, nearest = torch.cdist(*kept).min(1)
    assert distance.max() < 1e-5
    flat = [p[:, :2].double().contiguous() for p in (points, known[nearest])]
    after, before = map(torch.view_as_complex, flat)
    return nearest // SIZE, nearest % SIZE, (after * before.conj()).sgn()


def parts(samples):
    """For each scene its object's points, its background's, and its label."""
    for cloud, mask, label in zip(samples.points, samples.foreground, samples.labels, strict=True):
        yield cloud[mask], cloud[~mask], label


def objects(samples):
    """The one shape that is each scene's object, from its foreground points alone."""
    return [found_in(own)[0].unique().item() for own, _, _ in parts(samples)]


def test_object_and_background_are_distinct_points_of_the_right_classes():
    samples = scenes(background=100)
    for own, others, label in parts(samples):
        shape, place, turn = found_in(own)
        assert len(own) == 25 == len(place.unique()) and len(shape.unique()) == 1
        assert SHAPES.labels[shape[0]] == label
        assert turn.mean().abs() > 1 - 1e-5  # turned as a whole
        shape, place, _ = found_in(others)
        assert (SHAPES.labels[shape] != label).all()
        assert len(shape.unique()) == 5  # 100 of 200 points: none is left out
        assert len(torch.stack([shape, place], 1).unique(dim=0)) == 100
    shape, _, turn = found_in(samples.points[0])
    turns = torch.stack([turn[shape == i].mean() for i in shape.unique()])
    assert turns.abs().min() > 1 - 1e-4  # each cloud has its own turn
    assert len(turns.angle().rad2deg().round(decimals=1).unique()) == 6


@pytest.mark.parametrize("turn", [0.0, 40.0, 360.0])
def test_turn_is_the_range_of_angles(turn):
    samples = scenes(count=80, turn=turn, background=0)
    found = [found_in(own)[2].mean().angle().rad2deg() for own, *_ in parts(samples)]
    assert max(map(abs, found)) <= turn / 2 + 1e-3
    assert max(found) - min(found) >= 0.9 * turn - 1e-3


def test_distance_moves_each_background_alone_in_a_uniform_direction_off_the_object():
    near, far = (scenes(count=200, distance=distance) for distance in (0, 3))
    moved, around = (far.points - near.points) / 3, ~near.foreground
    assert torch.allclose(moved.norm(dim=2), around.float(), atol=1e-5)
    assert len((moved[around] * 100).round().unique(dim=0)) > 900
    assert moved[around].mean(0).abs().max() < 0.08
    assert (moved[around].square().mean(0) - 1 / 3).abs().max() < 0.05
    place = near.foreground.nonzero()[:, 1]  # the points are in random order
    assert abs(place.double().mean() - 27) < 1.2  # of 55; first in order would give 12
    assert {*place.tolist()} == set(range(55))
    tiny = scenes(make_shapes(scale=1e-4))
    assert tiny.points.norm(dim=2).max() < 2e-4  # at distance 0 all are centered at the object
    kept = []
    for background in (10, 90, 0):
        samples = scenes(background=background)
        assert samples.points.shape == (20, 25 + background, 3)
        kept.append({*map(tuple, samples.points[4][samples.foreground[4]].tolist())})
    assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 25


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from(["train", "test"]))
def test_classes_and_shapes_are_balanced(count, seed, split):
    samples = scenes(count=count, seed=seed, split=split, background=0)
    used = torch.bincount(torch.tensor(objects(samples)), minlength=len(SHAPES))
    own = used[SHAPES.labels.argsort()].view(4, 3)  # the shapes of a class
    for sizes in (torch.bincount(samples.labels, minlength=4)[None], own):
        assert (sizes.amax(1) - sizes.amin(1)).max() <= 1


def test_without_count_every_shape_is_the_object_once():
    first, second = scenes(count=None), scenes(count=None, seed=1)
    assert sorted(objects(first)) == sorted(objects(second)) == list(range(12))
    assert objects(first) != objects(second)
    assert first.source | dict(count=12, once=True) == first.source


def test_seed_and_split_alone_decide_and_the_source_says_all():
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    changes = ({}, {}, dict(seed=1), dict(split="test"))
    assert len({scenes(**changed).digest for changed in changes}) == 3
    assert torch.equal(before, torch.get_rng_state())
    assert (state == np.random.get_state()[1]).all()
    assert scenes(count=7).digest == scenes(count=23).subset(range(7)).digest
    samples = scenes(distance=1.0)
    assert samples.points.dtype == torch.float32 and samples.labels.dtype == torch.int64
    expected = GIVEN | dict(dataset="toy", data="0", once=False, classes=list("abcd"), parts=[])
    assert samples.source == expected | dict(distance=1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 0), ("count", 2.0), ("count", True), ("points", 0), ("points", SIZE + 1),
     ("background", -1), ("background", 5 * SIZE + 1), ("distance", -0.1), ("distance", math.nan),
     ("distance", 101), ("turn", 361), ("turn", math.inf), ("seed", -1), ("seed", 2**32),
     ("split", "val")],
)  # fmt: skip
def test_bad_arguments_are_refused(name, value):
    refuses(scenes, name, **{name: value})


def test_too_few_shapes_for_a_background_are_refused():
    refuses(scenes, "fewer than 5", make_shapes(classes=2, each=4))
    refuses(scenes, "class 'd'", replace(SHAPES, labels=SHAPES.labels % 3))


@pytest.mark.parametrize("part", cloud_files.FILES)
def test_no_group_is_in_both_splits(part):
    both = [cloud_files.split_arrays(part, split) for split in ("train", "test")]
    names = sorted(cloud_files.packed_arrays(cloud_files.FILES[part])["names"])
    assert sorted([*both[0]["names"], *both[1]["names"]]) == names and len({*names}) == len(names)
    for label in range(10):
        train, test = (arrays["group"][arrays["label"] == label].tolist() for arrays in both)
        assert len({*train, *test}) >= 3 and not {*train} & {*test}
        assert len(test) / len(train + test) >= 0.12 and 0.8 * len(test) <= 0.2 * len(train) + 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_embedded_shapes(split):
    both, *parts = (embedded_shapes(split, s) for s in ("both", "furniture", "components"))
    for part, shapes in zip(cloud_files.FILES, parts, strict=True):
        packed = torch.tensor(cloud_files.split_arrays(part, split)["points"]).float()
        assert torch.allclose(shapes.points, packed, atol=2e-3)  # 16 bits
        assert shapes.points.shape == (len(shapes.names), 1024, 3)
        assert len(set(shapes.class_names)) == 10 == len(shapes.labels.unique())
        assert shapes.points.mean(1).abs().max() < 1e-6
        assert (shapes.points.norm(dim=2).amax(1) - 1).abs().max() < 1e-6
    for name in ("class_names", "names"):
        assert getattr(both, name) == getattr(parts[0], name) + getattr(parts[1], name)
    assert torch.equal(both.points, torch.cat([part.points for part in parts]))
    assert torch.equal(both.labels, torch.cat([parts[0].labels, parts[1].labels + 10]))


def test_embedded_pointclouds():
    samples = embedded_pointclouds(3, source="both", distance=1.5)
    assert samples.points.shape == (3, 381, 3) and samples.foreground.sum() == 3 * 256
    about = dict(dataset="embedded-pointclouds", shapes="both", distance=1.5)
    assert samples.source | about == samples.source and len(samples.class_names) == 20
    refuses(embedded_pointclouds, "source", 3, source="cars")
