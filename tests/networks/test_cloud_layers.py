"""Centroids and neighbors against twins that visit every point in plain Python; normalization."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import generator
from refusals import refuses
from torch import nn

from kpnb.networks import cloud_layers as layers
from kpnb.networks.cloud_layers import gather, nearest, within


def random_clouds(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def squared(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


# Coordinates on a coarse grid: many duplicates and exact ties.
places = st.tuples(*[st.integers(-2, 2)] * 3).map(lambda place: [0.5 * c for c in place])
grids = st.lists(places, min_size=1, max_size=12)
few = settings(max_examples=40, deadline=None)


def tensors(*clouds):
    return [torch.tensor([cloud], dtype=torch.float64) for cloud in clouds]


@few
@given(cloud=grids, data=st.data())
def test_every_pick_is_farthest_from_those_before(cloud, data):
    count = data.draw(st.integers(1, len(cloud)))
    picks = layers.farthest_points(*tensors(cloud), count)[0].tolist()
    assert len(picks) == len(set(picks)) == count  # even where points coincide
    center = [math.fsum(column) / len(cloud) for column in zip(*cloud, strict=True)]
    gaps = [squared(point, center) for point in cloud]
    assert gaps[picks[0]] == pytest.approx(max(gaps), abs=1e-12)
    for number, pick in enumerate(picks[1:], 1):
        gaps = [min(squared(point, cloud[before]) for before in picks[:number]) for point in cloud]
        assert gaps[pick] == max(gap for at, gap in enumerate(gaps) if at not in picks[:number])


@few
@given(grids, grids, st.integers(1, 15), st.sampled_from([0.3, 0.5, 0.8, 2.1]))
def test_nearest_and_ball_query_on_a_grid(cloud, centers, k, radius):
    """Radius 0.5 is met exactly: a ball includes its surface; an empty one gives the nearest."""
    given, some = tensors(cloud, centers), min(k, len(cloud))
    ball, closest = within(*given, radius, k), nearest(*given, some)
    assert ball.shape == (1, len(centers), k) and closest.shape == (1, len(centers), some)
    assert ball.dtype == closest.dtype == torch.int64
    for center, row, around in zip(centers, ball[0].tolist(), closest[0].tolist(), strict=True):
        everything = sorted(squared(center, point) for point in cloud)
        assert len(set(around)) == some
        distances = [squared(center, cloud[place]) for place in around]
        assert distances == pytest.approx(everything[:some], abs=1e-12)
        inside = [d for d in everything if d <= radius**2][:k]
        distances = [squared(center, cloud[place]) for place in row]
        expected = inside + [everything[0]] * (k - len(inside))
        assert distances == pytest.approx(expected, abs=1e-12)
        assert len(set(row)) == max(1, len(inside))
        assert all(place == row[0] for place in row[len(inside) :])


@pytest.mark.parametrize("channels", [3, layers.FEW_CHANNELS, layers.FEW_CHANNELS + 1, 64])
def test_nearest_and_distances_at_any_width(channels):
    points, centers = random_clouds(3, 20, channels), random_clouds(3, 7, channels, seed=1)
    found, closest = layers.squared_distances(centers, points), nearest(points, centers, 5)
    for cloud, center in product(range(3), range(7)):
        row = [squared(centers[cloud, center].tolist(), p.tolist()) for p in points[cloud]]
        assert found[cloud, center].tolist() == pytest.approx(row, rel=1e-12)
        assert closest[cloud, center].tolist() == sorted(range(20), key=row.__getitem__)[:5]
    # A thousand away from the origin a plain matrix product would be off by about 0.1.
    far = random_clouds(2, 50, channels, dtype=torch.float32) + 1000
    exact = layers.squared_distances(far.double(), far.double())
    assert (layers.squared_distances(far, far) - exact).abs().max() < 1e-5 * exact.max()
    near = torch.tensor([[[1.0, 1.0, 1.0], [1.0 + 2**-20, 1.0, 1.0]]])
    assert layers.squared_distances(near, near)[0].tolist() == [[0.0, 2.0**-40], [2.0**-40, 0.0]]


CHOOSE = {
    "farthest": lambda x, centers: layers.farthest_points(x, 12),
    "nearest": lambda x, centers: nearest(x, centers, 6),
    "ball": lambda x, centers: within(x, centers, 0.9, 6),
}


@pytest.mark.parametrize("name", CHOOSE)
def test_choices_depend_on_the_set_of_points_alone(name, monkeypatch):
    """Not on their order, on the rest of the batch, on a translation, or on parts of the work."""
    points, choose = random_clouds(4, 40, 3), CHOOSE[name]
    centers = points[:, :9]
    chosen = choose(points, centers)
    order = random_clouds(4, 40, seed=2).argsort()
    shuffled = choose(gather(points, order), centers)
    assert torch.equal(gather(order.unsqueeze(-1), shuffled).squeeze(-1), chosen)
    alone = [choose(*pair) for pair in zip(points.split(1), centers.split(1), strict=True)]
    assert torch.equal(torch.cat(alone), chosen)
    shift = torch.tensor([5.0, -3.0, 2.0], dtype=points.dtype)
    assert torch.equal(choose(points + shift, centers + shift), chosen)
    monkeypatch.setattr("kpnb.networks.cloud_layers.HELD", 40 * 9 * 2)
    assert torch.equal(choose(points, centers), chosen)


def test_impossible_choices():
    x = random_clouds(2, 5, 3)
    for n in (0, 6):
        refuses(layers.farthest_points, f"5 points cannot give {n} centroids", x, n)
        refuses(nearest, f"5 points cannot give {n} neighbors", x, x, n)
    for radius, k in ((0.5, 0), (0.0, 3), (math.nan, 3)):
        refuses(within, "ball query", x, x, radius, k)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.booleans())
def test_point_normalization_is_batch_normalization_of_the_last_dimension(shape, width, training):
    x = random_clouds(2, *shape, width, seed=sum(shape) + width, dtype=torch.float32)
    ours, plain = layers.PointNormalization(width), nn.BatchNorm1d(width)
    for norm in (ours.train(training), plain.train(training)):
        norm.weight.data, norm.bias.data = torch.arange(width) - 1.5, torch.arange(width) / 3
    assert torch.equal(ours(x), plain(x.reshape(-1, width)).view_as(x))
    assert torch.equal(ours.running_mean, plain.running_mean)
    assert torch.equal(ours.running_var, plain.running_var)
