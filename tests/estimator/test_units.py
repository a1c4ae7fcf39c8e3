"""How pixels and points belong to units: spread and gather, what is refused, what is kept."""

import copy
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quick import D, explain
from reference import cell_sums, enlarge, generator, linear_optimum, linear_path
from refusals import refuses
from torch import nn

import kpnb.estimator.units
from kpnb.errors import KpnbError
from kpnb.estimator.units import GridUnits, PointUnits
from kpnb.networks.cloud import point_network

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def grids(draw):
    """(cells, height, width) with at least one pixel a cell."""
    cells = draw(st.integers(2, 7))
    return cells, draw(st.integers(cells, 19)), draw(st.integers(cells, 19))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(grids())
def test_grids_follow_the_pixel_by_pixel_definition(grid):
    cells, height, width = grid
    units = GridUnits(cells)
    values = torch.randn(2, cells**2, generator=generator(0), dtype=torch.float64)
    image = torch.randn(2, 3, height, width, generator=generator(1), dtype=torch.float64)
    spread, gathered = units.spread(values, image), units.gather(image)
    mask = image[:, 0] > 0
    inside, size = mask.double(), torch.ones(1, height, width).double()
    for sample in range(2):
        expected = enlarge(values[sample], height, width, cells)
        torch.testing.assert_close(spread[sample, 0], expected, rtol=0, atol=0)
        torch.testing.assert_close(gathered[sample], cell_sums(image[sample], cells))
        half = 2 * cell_sums(inside[[sample]], cells) >= cell_sums(size, cells)
        assert torch.equal(units.foreground(mask)[sample], half)
    torch.testing.assert_close((spread * image).sum(), (values * gathered).sum())  # adjoint


def test_too_few_cells_are_refused():
    for cells in (1, 2.5, "4"):
        refuses(GridUnits, "integer of at least 2", cells)


POINTS = 11
MANY = 130  # a narrow PointNet++ takes 128 centroids
LAYOUTS = [PointUnits(), PointUnits(channels_first=True)]


def clouds(count, points=POINTS, seed=0, dtype=torch.float32):
    """(count, points, 3) in the unit cube."""
    return 2 * torch.rand(count, points, 3, generator=generator(seed), dtype=dtype) - 1


def in_layout(x, units):
    return x.transpose(1, 2).contiguous() if units.channels_first else x


@pytest.mark.parametrize("units", LAYOUTS)
@pytest.mark.parametrize("points", [1, 3, 5])  # 3: only the flag tells the axes apart
def test_points_spread_and_gather_as_defined(points, units):
    x = in_layout(clouds(4, points, dtype=torch.float64), units)
    values = torch.randn(4, points, generator=generator(1), dtype=torch.float64)
    spread = units.spread(values, x).expand_as(x)
    gathered = units.gather(x)
    assert units.count(x) == points and gathered.shape == (4, points)
    for cloud in range(4):
        for point in range(points):
            own = (cloud, slice(None), point) if units.channels_first else (cloud, point)
            assert spread[own].tolist() == [values[cloud, point].item()] * 3
            assert gathered[cloud, point] == pytest.approx(sum(x[own].tolist()), abs=1e-12)
    torch.testing.assert_close((spread * x).sum(), (values * gathered).sum())  # adjoint


BAD = [torch.zeros(5, 3), torch.zeros(2, 5, 4), torch.zeros(2, 3, 5, 1), [[[0.0] * 3]]]
LAYOUT = r"\(samples, points, 3\), or \(samples, 3, points\)"
REFUSED = [
    *((PointUnits(), x, LAYOUT) for x in (*BAD, torch.zeros(2, 3, 5))),
    *((LAYOUTS[1], x, "channels_first=True") for x in (*BAD, torch.zeros(2, 5, 3))),
    (PointUnits(frozen=True), clouds(2), r"needs a network with choices\(points\).*frozen"),
    *((GridUnits(4), x, "GridUnits needs") for x in (torch.zeros(3, 8, 8), [1, 2])),
    (GridUnits(4), torch.zeros(3, 8, 8), r"not \(3, 8, 8\); images\[None\]"),
    (GridUnits(4), torch.zeros(2, 3, 8, 3), "does not fit.*choose fewer"),
    (GridUnits(4), torch.zeros(2, 8, 8, 3), r"channels last\? permute\(0, 3, 1, 2\)"),
]


@pytest.mark.parametrize("units, inputs, told", REFUSED)
def test_inputs_that_are_no_batch_for_the_units_are_refused(units, inputs, told):
    refuses(units.problem, told, nn.Flatten(), inputs)


@pytest.mark.parametrize("units", LAYOUTS)
@pytest.mark.parametrize("method", ["path", "optimum"])
def test_maps_of_a_linear_feature_are_exact(units, method):
    x = in_layout(clouds(2, dtype=torch.float64), units)
    scale = torch.exp(0.5 * torch.randn(POINTS, 3, generator=generator(1)))  # unlike by point
    weight = (torch.randn(D, POINTS, 3, generator=generator(0)) * scale).double()
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * POINTS, D)).double()
    with torch.no_grad():
        net[1].weight.copy_((weight.mT if units.channels_first else weight).flatten(1))
    J = weight.square().sum((0, 2))  # of what multiplies the coordinates of each point
    known = linear_path(J, 7.0, -2.8) if method == "path" else linear_optimum(J, 7.0)
    maps = explain(net, x, "1", units=units, relu=False, method=method)
    assert maps.entropy.shape == (2, POINTS) and maps.reached.all()
    assert (maps.entropy - torch.tensor(known)).abs().max() < 1e-6
    assert max(known) - min(known) > 0.1  # not by being flat


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """In eval mode, with statistics of batch normalization unlike those of a batch."""
    names, moved = ("PointNet++", "DGCNN"), generator(9)
    found = {name: point_network(name, 4, "narrow").eval() for name in names}
    for module in found["DGCNN"].modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(generator=moved)
            module.running_var.uniform_(0.2, 5, generator=moved)
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", ["PointNet++", "DGCNN"])
def test_choices_are_those_of_the_clean_cloud_of_each_row(name, networks):
    net, x = networks[name], clouds(3, MANY)
    problem, rows = PointUnits(frozen=True).problem(net, x), torch.tensor([2, 0, 2])
    noisy = x[rows] + 0.3 * torch.randn(3, MANY, 3, generator=generator(1))
    found, anew = problem.forward(noisy, rows), net(noisy)
    expected = [net(noisy[[r]], net.choices(x[[s]])) for r, s in enumerate(rows.tolist())]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert (found - anew).abs().max() > 1e-2
    assert torch.equal(PointUnits().problem(net, x).forward(noisy, rows), anew)


@torch.no_grad()
def test_choices_of_many_clouds_are_made_in_parts(networks, monkeypatch):
    net, x = networks["PointNet++"], clouds(5, MANY)
    counted = Mock(side_effect=net.choices)
    monkeypatch.setattr(kpnb.estimator.units, "KEPT_CLOUDS", 2)
    monkeypatch.setattr(net, "choices", counted)
    found = PointUnits(frozen=True).problem(net, x).forward(x, torch.arange(5))
    assert [len(call.args[0]) for call in counted.call_args_list] == [2, 2, 1]
    torch.testing.assert_close(found, net(x), rtol=1e-4, atol=1e-5)


def test_choices_are_made_in_eval_mode_and_modes_come_back(networks, monkeypatch):
    """DGCNN's neighbors are those of its features, which hang on batch normalization's mode."""
    net, x, kept = copy.deepcopy(networks["DGCNN"]), clouds(3, MANY), []
    evaluated = net.choices(x)
    in_train_mode = copy.deepcopy(net).train().choices(x)
    net.train().classifier.eval()
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    problem = PointUnits(frozen=True).problem(net, x)
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    net.register_forward_pre_hook(lambda _, given: kept.extend(given[1]))
    problem.forward(x, torch.arange(3))
    assert all(torch.equal(one, other) for one, other in zip(kept, evaluated, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(kept, in_train_mode, strict=True))
    monkeypatch.setattr(net, "choices", Mock(side_effect=KpnbError("no choices today.")))
    refuses(PointUnits(frozen=True).problem, "today", net, x)
    assert modes == [module.training for module in net.modules()]


@pytest.mark.parametrize("frozen", [True, False])
def test_neither_chunk_nor_neighbors_in_the_batch_change_a_map(frozen, networks):
    net, x = networks["PointNet++"], clouds(3, MANY)
    given = {"layer": "classifier.1", "units": PointUnits(frozen), "relu": False}
    whole = explain(net, x, chunk=256, **given).entropy
    for chunk, rows in ((16, [2, 1, 0]), (256, [2])):
        found = explain(net, x[rows], chunk=chunk, **given).entropy
        torch.testing.assert_close(found, whole[rows], rtol=0, atol=1e-3)
    assert (whole[0] - whole[2]).abs().max() > 0.05
