"""Point scenes hold what they say: object, background, place, order; and the packed shapes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from kpnb.datasets import clouds as cloud_files
from kpnb.datasets.clouds import embedded_pointclouds, embedded_shapes, point_scenes
from kpnb.datasets.samples import Shapes, unit_sphere

CLASSES, EACH, SIZE = 4, 3, 40


def make_shapes(scale=1.0, classes=CLASSES, each=EACH):
    rng = np.random.default_rng([classes, each, SIZE])
    points = unit_sphere(rng.standard_normal((classes * each, SIZE, 3))) * scale
    labels = torch.arange(classes).repeat(each)  # not sorted by class
    names, source = tuple(f"shape {i}" for i in labels), dict(dataset="toy", data="0")
    return Shapes(torch.tensor(points).float(), labels, tuple("abcd"[:classes]), names, source)


SHAPES = make_shapes()


def scenes(shapes=SHAPES, **changes):
    settings = dict(count=20, points=25, background=30, distance=0.0, turn=360.0, seed=0)
    settings |= dict(split="train") | changes
    return point_scenes(shapes, **settings)


def found_in(points):
    """(n,) shape and (n,) position of each point, by what a turn about z keeps: radius and z."""

    def kept(cloud):
        return torch.stack([cloud[..., :2].norm(dim=-1), cloud[..., 2]], -1).reshape(-1, 2).double()

    distance, nearest = torch.cdist(kept(points), kept(SHAPES.points)).min(1)
    assert distance.max() < 1e-5
    return nearest // SIZE, nearest % SIZE


def angles(points):
    """(n,) degrees that each point is turned by about z."""
    before, after = SHAPES.points[found_in(points)].double(), points.double()
    turned = torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[:, 1], before[:, 0])
    return (turned.rad2deg() + 180) % 360 - 180


def mean_turn(turned):
    """Length (1 where all turn by the same) and degrees of the mean of unit vectors."""
    whole = torch.polar(torch.ones_like(turned), turned.deg2rad()).mean()
    return float(whole.abs()), float(whole.angle().rad2deg())


def parts(samples):
    """For each scene its object's points, its background's, and its label."""
    for cloud, mask, label in zip(samples.points, samples.foreground, samples.labels, strict=True):
        yield cloud[mask], cloud[~mask], label


def objects(samples):
    """The shape that is each scene's object, from its foreground points alone."""
    found = [found_in(own)[0].unique() for own, _, _ in parts(samples)]
    assert all(len(shapes) == 1 for shapes in found)
    return [int(shapes) for shapes in found]


def test_object_and_background_are_distinct_points_of_the_right_classes():
    samples = scenes(background=100)
    for own, others, label in parts(samples):
        shape, place = found_in(own)
        assert len(own) == 25 == len(place.unique()) and len(shape.unique()) == 1
        assert SHAPES.labels[shape[0]] == label
        assert mean_turn(angles(own))[0] > 1 - 1e-5  # turned as a whole
        shape, place = found_in(others)
        assert (SHAPES.labels[shape] != label).all()
        assert len(shape.unique()) == 5  # 100 of 200 points: none is left out
        assert len(torch.stack([shape, place], 1).unique(dim=0)) == 100
    shape, turned = found_in(samples.points[0])[0], angles(samples.points[0])
    means = [mean_turn(turned[shape == i]) for i in shape.unique()]
    assert all(length > 1 - 1e-4 for length, _ in means)  # each cloud has its own turn
    assert len({round(turn, 1) for _, turn in means}) == 6


@pytest.mark.parametrize("turn", [0.0, 40.0, 360.0])
def test_turn_is_the_range_of_angles(turn):
    samples = scenes(count=80, turn=turn, background=0)
    found = [mean_turn(angles(own))[1] for own, _, _ in parts(samples)]
    assert max(map(abs, found)) <= turn / 2 + 1e-3
    assert max(found) - min(found) >= 0.9 * turn - 1e-3


def test_points_are_in_random_order():
    place = torch.cat([torch.nonzero(mask).flatten() for mask in scenes(count=200).foreground])
    assert abs(place.double().mean() - 27) < 1.2  # of 55; first in order would give 12
    assert {int(i) for i in place} == set(range(55))


def test_distance_places_the_centers_on_a_sphere_in_uniform_directions():
    small = make_shapes(scale=1e-4)
    assert scenes(small, distance=0.0).points.norm(dim=2).max() < 2e-4  # centered at the object
    directions = []
    for own, others, _ in parts(scenes(small, count=200, background=5 * SIZE, distance=3.0)):
        assert own.norm(dim=1).max() < 2e-4  # the object stays where it is
        rough, sizes = (others * 100).round().unique(dim=0, return_counts=True)
        rough = rough[sizes > SIZE / 2] / 100
        near = torch.cdist(others, rough).argmin(1)
        for i in range(len(rough)):
            center = others[near == i].mean(0)
            directions.append(center / center.norm())
            assert abs(center.norm() - 3) < 1e-3
    directions = torch.stack(directions).double()
    assert len(directions) > 900
    assert directions.mean(0).abs().max() < 0.08
    assert (directions.square().mean(0) - 1 / 3).abs().max() < 0.05


def test_distance_only_moves_the_background_and_background_leaves_the_object():
    near, far = scenes(), scenes(distance=2.0)
    mask = near.foreground
    assert torch.equal(mask, far.foreground)
    assert torch.equal(near.points[mask], far.points[mask])
    shift = (far.points - near.points)[~mask].norm(dim=1)
    assert torch.allclose(shift, torch.full_like(shift, 2.0), atol=1e-5)
    kept = []
    for background in (10, 90, 0):
        samples = scenes(background=background)
        assert samples.points.shape == (20, 25 + background, 3)
        own = samples.points[4][samples.foreground[4]]
        kept.append({tuple(row) for row in own.tolist()})
    assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 25


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from(["train", "test"]))
def test_classes_and_shapes_are_balanced(count, seed, split):
    samples = scenes(count=count, seed=seed, split=split, background=0)
    sizes = torch.bincount(samples.labels, minlength=CLASSES)
    assert sizes.max() - sizes.min() <= 1
    used = torch.bincount(torch.tensor(objects(samples)), minlength=len(SHAPES))
    for label in range(CLASSES):
        own = used[SHAPES.labels == label]
        assert own.max() - own.min() <= 1


def test_without_count_every_shape_is_the_object_once():
    first, second = scenes(count=None), scenes(count=None, seed=1)
    assert sorted(objects(first)) == sorted(objects(second)) == list(range(len(SHAPES)))
    assert objects(first) != objects(second)
    assert first.source["count"] == len(SHAPES) and first.source["once"] is True
    assert torch.equal(first.labels, SHAPES.labels[objects(first)])


def test_seed_and_split_alone_decide_and_the_source_says_all():
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert scenes().digest == scenes().digest
    assert torch.equal(before, torch.get_rng_state())
    assert (state == np.random.get_state()[1]).all()
    assert len({scenes().digest, scenes(seed=1).digest, scenes(split="test").digest}) == 3
    few, many = scenes(count=7), scenes(count=23)
    for name in ("points", "foreground", "labels"):
        assert torch.equal(getattr(few, name), getattr(many, name)[:7])
    samples = scenes(distance=1)
    assert samples.points.dtype == torch.float32 and samples.points.shape == (20, 55, 3)
    assert samples.labels.dtype == torch.int64 and samples.foreground.dtype == torch.bool
    expected = dict(dataset="toy", data="0", split="train", seed=0, count=20, points=25)
    expected |= dict(background=30, distance=1.0, turn=360.0, once=False)
    assert samples.source == expected | dict(classes=list("abcd"), parts=[])
    assert isinstance(samples.source["distance"], float)


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 0), ("count", 2.0), ("count", True), ("points", 0), ("points", SIZE + 1),
     ("background", -1), ("background", 5 * SIZE + 1), ("distance", -0.1), ("distance", math.nan),
     ("distance", 101), ("turn", 361), ("turn", math.inf), ("seed", -1), ("seed", 2**32),
     ("split", "val")],
)  # fmt: skip
def test_bad_arguments_are_refused(name, value):
    with refused(name):
        scenes(**{name: value})


def test_too_few_shapes_for_a_background_are_refused():
    two = make_shapes(classes=2, each=4)
    with refused("fewer than 5"):
        scenes(two)
    assert len(scenes(two, background=0)) == 20
    with refused("class 'd'"):
        scenes(Shapes(SHAPES.points, SHAPES.labels % 3, tuple("abcd"), SHAPES.names, {}))


# The packed shapes


@pytest.mark.parametrize("part", cloud_files.FILES)
def test_no_group_is_in_both_splits(part):
    train, test = (cloud_files.split_arrays(part, split) for split in ("train", "test"))
    total = cloud_files.packed_arrays(cloud_files.FILES[part])
    assert len(total["classes"]) == 10
    assert sorted([*train["names"], *test["names"]]) == sorted(total["names"])
    assert len(set(total["names"].tolist())) == len(total["names"])
    for label in range(10):
        groups = [{*arrays["group"][arrays["label"] == label]} for arrays in (train, test)]
        assert len(groups[0] | groups[1]) >= 3 and not groups[0] & groups[1]
        size = (total["label"] == label).sum()
        assert 0.12 * size <= (test["label"] == label).sum() <= 0.2 * size + 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_embedded_shapes(split):
    both, *parts = (embedded_shapes(split, s) for s in ("both", "furniture", "components"))
    for part, shapes in zip(cloud_files.FILES, parts, strict=True):
        packed = torch.tensor(cloud_files.split_arrays(part, split)["points"]).float()
        assert torch.allclose(shapes.points, packed, atol=2e-3)  # 16 bits
        assert len(set(shapes.class_names)) == 10 and shapes.points.shape[1:] == (1024, 3)
        assert shapes.labels.unique().tolist() == list(range(10))
        assert len(shapes.names) == len(shapes) == len(shapes.points)
        assert shapes.points.mean(1).abs().max() < 1e-6
        radius = shapes.points.norm(dim=2).max(1).values
        assert torch.allclose(radius, torch.ones_like(radius), atol=1e-6)
    assert both.class_names == parts[0].class_names + parts[1].class_names
    assert both.names == parts[0].names + parts[1].names
    assert torch.equal(both.points, torch.cat([part.points for part in parts]))
    assert torch.equal(both.labels, torch.cat([parts[0].labels, parts[1].labels + 10]))


def test_embedded_pointclouds():
    samples = embedded_pointclouds(21, "test", "both", points=64, background=32, distance=1.5)
    assert samples.points.shape == (21, 96, 3) and len(samples.class_names) == 20
    assert samples.source["dataset"] == "embedded-pointclouds"
    assert samples.source["shapes"] == "both" and samples.source["distance"] == 1.5
    default = embedded_pointclouds(3)
    assert default.points.shape == (3, 381, 3) and default.foreground.sum() == 3 * 256
    for name, value in (("split", "all"), ("source", "cars"), ("points", 1025)):
        with refused(name):
            embedded_pointclouds(3, **{name: value})
