"""Centroids and neighbors against twins that visit every point in plain Python; choices that can be
kept; the shared layers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kpnb.errors import KpnbError
from kpnb.networks.cloud_layers import (
    CLOUD_WEIGHTS,
    FEW_CHANNELS,
    KeptChoices,
    PointNormalization,
    classifier,
    farthest_points,
    gather,
    nearest,
    point_mlp,
    squared_distances,
    within,
)
from kpnb.networks.layers import initialize


def random_clouds(clouds, size, channels=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clouds, size, channels, generator=generator, dtype=dtype)


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
    picks = farthest_points(*tensors(cloud), count)[0].tolist()
    assert len(picks) == len(set(picks)) == count  # even where points coincide
    center = [math.fsum(column) / len(cloud) for column in zip(*cloud, strict=True)]
    gaps = [squared(point, center) for point in cloud]
    assert gaps[picks[0]] == pytest.approx(max(gaps), abs=1e-12)
    for number, pick in enumerate(picks[1:], 1):
        gaps = [min(squared(point, cloud[before]) for before in picks[:number]) for point in cloud]
        assert gaps[pick] == max(gap for at, gap in enumerate(gaps) if at not in picks[:number])


@few
@given(
    cloud=grids, centers=grids, k=st.integers(1, 15), radius=st.sampled_from([0.3, 0.5, 0.8, 2.1])
)
def test_nearest_and_ball_query_on_a_grid(cloud, centers, k, radius):
    """Radius 0.5 is met exactly: a ball includes its surface; an empty one gives the nearest."""
    some = min(k, len(cloud))
    ball, closest = (
        within(*tensors(cloud, centers), radius, k),
        nearest(*tensors(cloud, centers), some),
    )
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


def test_a_ball_includes_its_surface_and_an_empty_one_gives_the_nearest_point():
    cloud = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0.5 + 2**-20, 0, 0]]])
    assert within(cloud, cloud[:, :1], 0.5, 3).tolist() == [[[0, 1, 0]]]
    assert within(cloud + 0.6, torch.zeros(1, 1, 3), 0.5, 2).tolist() == [[[0, 0]]]


@pytest.mark.parametrize("channels", [3, FEW_CHANNELS, FEW_CHANNELS + 1, 64])
def test_nearest_and_distances_at_any_width(channels):
    points, centers = random_clouds(3, 20, channels), random_clouds(3, 7, channels, seed=1)
    found, closest = squared_distances(centers, points), nearest(points, centers, 5)
    for cloud in range(3):
        for center in range(7):
            row = [squared(centers[cloud, center].tolist(), p.tolist()) for p in points[cloud]]
            assert found[cloud, center].tolist() == pytest.approx(row, rel=1e-12)
            assert closest[cloud, center].tolist() == sorted(range(20), key=row.__getitem__)[:5]
    # A thousand away from the origin a plain matrix product would be off by about 0.1.
    far = random_clouds(2, 50, channels, dtype=torch.float32) + 1000
    exact = squared_distances(far.double(), far.double())
    assert (squared_distances(far, far) - exact).abs().max() < 1e-5 * exact.max()


def test_distances_of_nearby_points_keep_their_digits():
    points = torch.tensor([[[1.0, 1.0, 1.0], [1.0 + 2**-20, 1.0, 1.0]]])
    assert squared_distances(points, points)[0].tolist() == [[0.0, 2.0**-40], [2.0**-40, 0.0]]


CHOOSE = {
    "farthest": lambda x, centers: farthest_points(x, 12),
    "nearest": lambda x, centers: nearest(x, centers, 6),
    "ball": lambda x, centers: within(x, centers, 0.9, 6),
}


@pytest.mark.parametrize("name", CHOOSE)
def test_choices_depend_on_the_set_of_points_alone(name, monkeypatch):
    """Not on their order, on the rest of the batch, on a translation, or on parts of the work."""
    points, generator, choose = random_clouds(4, 40), torch.Generator().manual_seed(2), CHOOSE[name]
    centers = points[:, :9]
    chosen = choose(points, centers)
    order = torch.stack([torch.randperm(40, generator=generator) for _ in range(4)])
    shuffled = choose(gather(points, order), centers)
    assert torch.equal(gather(order.unsqueeze(-1), shuffled).squeeze(-1), chosen)
    alone = [choose(*pair) for pair in zip(points.split(1), centers.split(1), strict=True)]
    assert torch.equal(torch.cat(alone), chosen)
    shift = torch.tensor([5.0, -3.0, 2.0], dtype=points.dtype)
    assert torch.equal(choose(points + shift, centers + shift), chosen)
    monkeypatch.setattr("kpnb.networks.cloud_layers.HELD", 40 * 9 * 2)
    assert torch.equal(choose(points, centers), chosen)


@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (3, 2, 4)])
def test_gather_takes_rows_of_its_own_cloud(shape):
    values = random_clouds(3, 6, 5).requires_grad_()
    index = torch.randint(6, shape, generator=torch.Generator())
    taken = gather(values, index)
    assert taken.shape == (*index.shape, 5)
    for place in torch.cartesian_prod(*map(torch.arange, index.shape)).tolist():
        assert torch.equal(taken[tuple(place)], values[place[0], index[tuple(place)]])
    taken.sum().backward()  # adds up where a row is taken twice
    counts = torch.stack([row.flatten().bincount(minlength=6) for row in index])
    assert torch.equal(values.grad, counts.unsqueeze(-1).expand(3, 6, 5).double())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *((lambda x, n=n: farthest_points(x, n), f"5 points cannot give {n} centroids")
          for n in (0, 6, -1)),
        *((lambda x, n=n: nearest(x, x, n), f"5 points cannot give {n} neighbors")
          for n in (0, 6, -1)),
        *((lambda x, r=r, k=k: within(x, x, r, k), "ball query")
          for r, k in ((0.5, 0), (0.0, 3), (-1.0, 3), (math.nan, 3))),
    ],
)  # fmt: skip
def test_impossible_choices(call, message):
    with pytest.raises(KpnbError, match=message):
        call(random_clouds(2, 5))


# Choices that can be kept, and shared layers


def test_choices_are_made_in_order_without_gradient_and_kept_ones_replace_them():
    points, made = torch.ones(1, 2, requires_grad=True), KeptChoices()
    first, second = made(lambda: (points * 2).long()), made(lambda: points * 3)
    assert made.made[0] is first and made.made[1] is second and not second.requires_grad
    again = KeptChoices(made.made)
    assert [again(lambda: torch.tensor([9])) is kept for kept in (first, second)] == [True, True]
    for spent in (again, KeptChoices([])):
        with pytest.raises(KpnbError, match="another network"):
            spent(lambda: torch.tensor([9]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.booleans())
def test_point_normalization_is_batch_normalization_of_the_last_dimension(
    shape, channels, training
):
    generator = torch.Generator().manual_seed(sum(shape) + channels)
    x = torch.randn(2, *shape, channels, generator=generator)
    ours, plain = PointNormalization(channels), nn.BatchNorm1d(channels)
    with torch.no_grad():
        for norm in (ours.train(training), plain.train(training)):
            norm.weight.copy_(torch.arange(channels) - 1.5)
            norm.bias.copy_(torch.arange(channels) / 3)
    assert torch.equal(ours(x), plain(x.reshape(-1, channels)).view_as(x))
    assert torch.equal(ours.running_mean, plain.running_mean)
    assert torch.equal(ours.running_var, plain.running_var)


def test_point_mlp_and_classifier_are_built_as_said():
    layers = point_mlp((3, 8, 5), nn.Tanh)
    assert [type(layer) for layer in layers] == 2 * [nn.Linear, PointNormalization, nn.Tanh]
    assert [tuple(layers[i].weight.shape) for i in (0, 3)] == [(8, 3), (5, 8)]
    layers = classifier((6, 4, 3), 2, 0.25, nn.Tanh, first_bias=False)
    assert [layers[i].bias is None for i in (0, 4, 8)] == [True, False, False]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert [tuple(layers[i].weight.shape) for i in (0, 4, 8)] == [(4, 6), (3, 4), (2, 3)]


def test_a_layer_may_ask_to_start_at_zero():
    layers = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    layers[1].starts_at_zero = True
    initialize(layers, 0, CLOUD_WEIGHTS)
    assert layers[0].weight.ne(0).all() and layers[1].weight.eq(0).all()
