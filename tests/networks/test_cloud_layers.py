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


def plain_farthest(cloud, picks):
    """For each pick, the squared distance to the picks before it and the largest there was."""
    out = []
    for number, pick in enumerate(picks[1:], 1):
        gaps = [min(squared(point, cloud[before]) for before in picks[:number]) for point in cloud]
        left = [gap for place, gap in enumerate(gaps) if place not in picks[:number]]
        out.append((gaps[pick], max(left)))
    return out


# Coordinates on a coarse grid: many duplicates and exact ties.
grids = st.lists(
    st.tuples(*[st.integers(-2, 2)] * 3).map(lambda place: [0.5 * c for c in place]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(cloud=grids, data=st.data())
def test_every_pick_is_farthest_from_those_before(cloud, data):
    count = data.draw(st.integers(1, len(cloud)))
    picks = farthest_points(torch.tensor([cloud], dtype=torch.float64), count)[0].tolist()
    assert len(picks) == len(set(picks)) == count
    center = [math.fsum(column) / len(cloud) for column in zip(*cloud, strict=True)]
    gaps = [squared(point, center) for point in cloud]
    assert gaps[picks[0]] == pytest.approx(max(gaps), abs=1e-12)
    assert all(gap == largest for gap, largest in plain_farthest(cloud, picks))


@settings(max_examples=60, deadline=None)
@given(cloud=grids, centers=grids, data=st.data())
def test_nearest_on_a_grid(cloud, centers, data):
    k = data.draw(st.integers(1, len(cloud)))
    tensors = [torch.tensor([part], dtype=torch.float64) for part in (cloud, centers)]
    found = nearest(*tensors, k)
    assert found.dtype == torch.int64 and found.shape == (1, len(centers), k)
    for center, row in zip(centers, found[0].tolist(), strict=True):
        assert len(set(row)) == k
        distances = [squared(center, cloud[place]) for place in row]
        expected = sorted(squared(center, point) for point in cloud)[:k]
        assert distances == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    cloud=grids, centers=grids, k=st.integers(1, 15), radius=st.sampled_from([0.3, 0.5, 0.8, 2.1])
)
def test_ball_query_on_a_grid(cloud, centers, k, radius):
    tensors = [torch.tensor([part], dtype=torch.float64) for part in (cloud, centers)]
    found = within(*tensors, radius, k)
    assert found.shape == (1, len(centers), k)
    for center, row in zip(centers, found[0].tolist(), strict=True):
        distances = [squared(center, cloud[place]) for place in row]
        everything = sorted(squared(center, point) for point in cloud)
        inside = [d for d in everything if d <= radius**2][:k]
        expected = inside + [everything[0]] * (k - len(inside))
        assert distances == pytest.approx(expected, abs=1e-12)
        assert len(set(row)) == max(1, len(inside))
        assert all(place == row[0] for place in row[len(inside) :])


def test_a_ball_includes_its_surface():
    cloud = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [0.5 + 2**-20, 0, 0]]])
    assert within(cloud, cloud[:, :1], 0.5, 3).tolist() == [[[0, 1, 0]]]


def test_an_empty_ball_gives_the_nearest_point():
    cloud = torch.tensor([[[1.0, 0, 0], [0.9, 0, 0]]])
    assert within(cloud, torch.zeros(1, 1, 3), 0.5, 3).tolist() == [[[1, 1, 1]]]


@pytest.mark.parametrize("channels", [3, FEW_CHANNELS, FEW_CHANNELS + 1, 64])
def test_nearest_and_distances_at_any_width(channels):
    points, centers = random_clouds(3, 20, channels), random_clouds(3, 7, channels, seed=1)
    found = squared_distances(centers, points)
    for cloud in range(3):
        for center in range(7):
            row = [squared(centers[cloud, center].tolist(), p.tolist()) for p in points[cloud]]
            assert found[cloud, center].tolist() == pytest.approx(row, rel=1e-12)
            order = sorted(range(20), key=row.__getitem__)[:5]
            assert nearest(points, centers, 5)[cloud, center].tolist() == order


@pytest.mark.parametrize("channels", [3, 64])
def test_single_precision_is_accurate_far_from_the_origin(channels):
    # A thousand away from the origin a plain matrix product would be off by about 0.1.
    points = random_clouds(2, 50, channels, dtype=torch.float32) + 1000
    exact = squared_distances(points.double(), points.double())
    assert (squared_distances(points, points) - exact).abs().max() < 1e-5 * exact.max()


def test_distances_of_nearby_points_keep_their_digits():
    points = torch.tensor([[[1.0, 1.0, 1.0], [1.0 + 2**-20, 1.0, 1.0]]])
    assert squared_distances(points, points)[0].tolist() == [[0.0, 2.0**-40], [2.0**-40, 0.0]]


def test_large_batches_are_taken_in_parts(monkeypatch):
    points = random_clouds(5, 30)
    whole = nearest(points, points, 4), within(points, points, 0.7, 4)
    monkeypatch.setattr("kpnb.networks.cloud_layers.HELD", 30 * 30 * 2)
    parts = nearest(points, points, 4), within(points, points, 0.7, 4)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_choices_do_not_depend_on_the_order_of_points():
    points, generator = random_clouds(4, 40), torch.Generator().manual_seed(2)
    order = torch.stack([torch.randperm(40, generator=generator) for _ in range(4)])
    shuffled = gather(points, order)
    picks, others = farthest_points(points, 10), farthest_points(shuffled, 10)
    assert torch.equal(order.gather(1, others), picks)
    centers = gather(points, picks)
    for choose in (lambda x: nearest(x, centers, 6), lambda x: within(x, centers, 0.9, 6)):
        assert torch.equal(
            gather(order.unsqueeze(-1), choose(shuffled)).squeeze(-1), choose(points)
        )


def test_choices_are_batch_and_translation_invariant():
    points = random_clouds(4, 40)
    shift = torch.tensor([5.0, -3.0, 2.0], dtype=points.dtype)
    for choose in (
        lambda x: farthest_points(x, 12),
        lambda x: nearest(x, x[:, :9], 6),
        lambda x: within(x, x[:, :9], 0.9, 6),
    ):
        chosen = choose(points)
        assert torch.equal(torch.cat([choose(cloud[None]) for cloud in points]), chosen)
        assert torch.equal(choose(points + shift), chosen)


def test_all_picks_differ_where_all_points_coincide():
    assert sorted(farthest_points(torch.ones(1, 5, 3), 5)[0].tolist()) == [0, 1, 2, 3, 4]


def test_sampling_spreads_where_the_first_points_do_not():
    # Two far clusters: the first two picks are one of each, wherever they are stored.
    cloud = torch.cat([torch.zeros(30, 3), torch.full((3, 3), 9.0)])
    cloud = cloud + 0.01 * random_clouds(1, 33, dtype=torch.float32)[0]
    first, second = farthest_points(cloud[None], 2)[0].tolist()
    assert (first >= 30) != (second >= 30)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_gather_takes_rows_of_its_own_cloud(shape):
    values = random_clouds(3, 6, 5)
    index = torch.randint(6, shape if len(shape) > 1 else (3, 1), generator=torch.Generator())
    taken = gather(values, index)
    assert taken.shape == (*index.shape, 5)
    for place in torch.cartesian_prod(*map(torch.arange, index.shape)).tolist():
        assert torch.equal(taken[tuple(place)], values[place[0], index[tuple(place)]])


def test_gather_adds_up_gradients():
    values = random_clouds(1, 3, 2).requires_grad_()
    gather(values, torch.tensor([[0, 0, 2]])).sum().backward()
    assert values.grad[0].tolist() == [[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("count", [0, 6, -1])
def test_impossible_counts(count):
    points = random_clouds(2, 5)
    with pytest.raises(KpnbError, match=f"5 points cannot give {count} centroids"):
        farthest_points(points, count)
    with pytest.raises(KpnbError, match=f"5 points cannot give {count} neighbors"):
        nearest(points, points, count)


@pytest.mark.parametrize(("radius", "k"), [(0.5, 0), (0.0, 3), (-1.0, 3), (math.nan, 3)])
def test_impossible_balls(radius, k):
    points = random_clouds(2, 5)
    with pytest.raises(KpnbError, match="ball query"):
        within(points, points, radius, k)


# KeptChoices that can be kept, and shared layers


def test_choices_are_made_in_order_and_without_gradient():
    points = torch.ones(1, 2, requires_grad=True)
    made = KeptChoices()
    first = made(lambda: (points * 2).long())
    second = made(lambda: points * 3)
    assert made.made[0] is first and made.made[1] is second
    assert not second.requires_grad


def test_kept_choices_replace_new_ones():
    kept = [torch.tensor([1]), torch.tensor([2])]
    again = KeptChoices(kept)
    assert [again(lambda: torch.tensor([9])).item() for _ in kept] == [1, 2]
    with pytest.raises(KpnbError, match="another network"):
        again(lambda: torch.tensor([9]))
    with pytest.raises(KpnbError, match="another network"):
        KeptChoices([])(lambda: torch.tensor([9]))


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


def test_point_mlp_normalizes_each_linear_layer_before_its_activation():
    layers = point_mlp((3, 8, 5), nn.Tanh)
    kinds = [nn.Linear, PointNormalization, nn.Tanh]
    assert [type(layer) for layer in layers] == 2 * kinds
    assert [tuple(layers[i].weight.shape) for i in (0, 3)] == [(8, 3), (5, 8)]
    assert layers(random_clouds(2, 6, dtype=torch.float32)).shape == (2, 6, 5)


def test_the_classifier_can_do_without_the_first_bias():
    layers = classifier((6, 4, 3), 2, 0.25, nn.Tanh, first_bias=False)
    assert [layers[i].bias is None for i in (0, 4, 8)] == [True, False, False]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert [tuple(layers[i].weight.shape) for i in (0, 4, 8)] == [(4, 6), (3, 4), (2, 3)]


def test_a_layer_may_ask_to_start_at_zero():
    layers = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    layers[1].starts_at_zero = True
    initialize(layers, 0, CLOUD_WEIGHTS)
    assert layers[0].weight.ne(0).all() and layers[1].weight.eq(0).all()
