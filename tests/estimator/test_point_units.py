"""Points as units: both layouts, closed forms of a linear feature, and choices that are kept."""

import pytest
import torch
from reference import generator, linear_optimum, linear_path
from torch import Tensor, nn

import kpnb.estimator.units
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.rates import BLOCK_DIRECTIONS
from kpnb.estimator.units import PointUnits
from kpnb.networks.cloud import point_network

POINTS = 11
MANY = 130  # a narrow PointNet++ takes 128 centroids
D = BLOCK_DIRECTIONS  # so that the directions of a block of draws are a basis
QUICK = {"relu": False, "probes": 8, "standard_error": None}
LAYOUTS = [PointUnits(), PointUnits(channels_first=True)]
pytestmark = pytest.mark.usefixtures("one_thread")


def clouds(count, points=POINTS, seed=0, dtype=torch.float32):
    """(count, points, 3) in the unit cube."""
    return 2 * torch.rand(count, points, 3, generator=generator(seed), dtype=dtype) - 1


def explain(net, x, layer, **changes):
    return EntropyEstimator(layer, **QUICK | changes).explain(net, x)


def in_layout(x, units):
    return x.transpose(1, 2).contiguous() if units.channels_first else x


# --- how points take their noise


@pytest.mark.parametrize("units", LAYOUTS)
def test_spread_and_gather_follow_the_definition(units):
    x = in_layout(clouds(4, 5, dtype=torch.float64), units)
    values = torch.randn(4, 5, generator=generator(1), dtype=torch.float64)
    spread = units.spread(values, x).expand_as(x)
    gathered = units.gather(x)
    assert units.count(x) == 5 and gathered.shape == (4, 5)
    for cloud in range(4):
        for point in range(5):
            own = (cloud, slice(None), point) if units.channels_first else (cloud, point)
            assert spread[own].tolist() == [values[cloud, point].item()] * 3
            assert gathered[cloud, point] == pytest.approx(sum(x[own].tolist()), abs=1e-12)


@pytest.mark.parametrize("units", LAYOUTS)
@pytest.mark.parametrize("points", [1, 2, 3, 17])  # 3: both axes have the same length
def test_gather_is_the_adjoint_of_spread(units, points):
    x = in_layout(clouds(3, points, seed=2, dtype=torch.float64), units)
    values = torch.randn(3, points, generator=generator(3), dtype=torch.float64)
    left = (units.spread(values, x) * x).sum()
    torch.testing.assert_close(left, (values * units.gather(x)).sum())


def test_layouts_spread_and_gather_alike():
    x = clouds(2, 3, seed=4)  # three points: only the flag tells the axes apart
    values = torch.rand(2, 3, generator=generator(5))
    one, other = LAYOUTS
    turned = in_layout(x, other)
    assert torch.equal(one.gather(x), other.gather(turned))
    spread = other.spread(values, turned).expand_as(turned).transpose(1, 2)
    assert torch.equal(one.spread(values, x).expand_as(x), spread)


def test_the_problem_is_the_clouds_as_they_are():
    x = clouds(3)
    problem = PointUnits().problem(nn.Flatten(), x)
    assert problem.x is x
    noisy = x[[2, 0]] + 1
    assert torch.equal(problem.forward(noisy, torch.tensor([2, 0])), noisy.flatten(1))


BAD = [torch.zeros(5, 3), torch.zeros(2, 5, 4), torch.zeros(2, 3, 5, 1), [[[0.0] * 3]], None]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("inputs", [*BAD, torch.zeros(2, 3, 5)])
def test_what_is_no_batch_of_clouds_is_refused(inputs, frozen):
    refused(PointUnits(frozen=frozen), inputs, r"\(samples, points, 3\), or \(samples, 3, points\)")


@pytest.mark.parametrize("inputs", [*BAD, torch.zeros(2, 5, 3)])
def test_what_is_not_channels_first_is_refused(inputs):
    refused(PointUnits(channels_first=True), inputs, "channels_first=True")


def test_frozen_choices_need_a_network_that_keeps_them():
    refused(PointUnits(frozen=True), clouds(2), r"needs a network with choices\(points\).*frozen")
    PointUnits().problem(nn.Flatten(), clouds(2))


def refused(units, inputs, told):
    with pytest.raises(KpnbError, match=told) as error:
        units.problem(nn.Flatten(), inputs)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


# --- a linear feature: the closed forms


def weights(seed=0):
    """(D, POINTS, 3) with points of very different weight."""
    scale = torch.exp(0.5 * torch.randn(POINTS, 3, generator=generator(seed + 1)))
    return (torch.randn(D, POINTS, 3, generator=generator(seed)) * scale).double()


def linear(weight, units=LAYOUTS[0]):
    """f(x) = sum_i W_i x_i + 0.3 in float64, for clouds of a layout; the layer is "1"."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * POINTS, D)).double()
    with torch.no_grad():
        net[1].weight.copy_((weight.mT if units.channels_first else weight).flatten(1))
        net[1].bias.fill_(0.3)
    return net


def shares(weight):
    """J_i: squared norm of what multiplies the three coordinates of point i."""
    return torch.stack([weight[:, i].square().sum() for i in range(weight.shape[1])])


@pytest.mark.parametrize("units", LAYOUTS)
@pytest.mark.parametrize("method", ["path", "optimum"])
def test_maps_of_a_linear_feature_are_exact(units, method):
    weight, x = weights(), in_layout(clouds(2, dtype=torch.float64), units)
    J = shares(weight)
    known = linear_path(J, 7.0, -2.8) if method == "path" else linear_optimum(J, 7.0)
    maps = explain(linear(weight, units), x, "1", units=units, method=method)
    assert maps.entropy.shape == (2, POINTS) and maps.reached.all()
    assert (maps.entropy - torch.tensor(known)).abs().max() < 1e-6
    assert max(known) - min(known) > 0.1  # not by being flat


def test_layouts_give_the_same_maps():
    weight, x = weights(3), clouds(3, seed=6, dtype=torch.float64)
    one, other = (explain(linear(weight, u), in_layout(x, u), "1", units=u) for u in LAYOUTS)
    assert (one.entropy - other.entropy).abs().max() < 1e-6
    torch.testing.assert_close(one.feature_variance, other.feature_variance, rtol=1e-6, atol=0)


class ByOctant(nn.Module):
    """A function of the set of points, linear wherever no point leaves its octant:
    sum_i A[octant of x_i] x_i."""

    def __init__(self) -> None:
        super().__init__()
        size = torch.linspace(0.5, 2, 8).view(8, 1, 1)
        self.register_buffer("A", (torch.randn(8, D, 3, generator=generator(7)) * size).double())

    def octants(self, x: Tensor) -> Tensor:
        return ((x > 0).long() * torch.tensor([1, 2, 4])).sum(-1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("npdc,npc->nd", self.A[self.octants(x)], x)


def test_points_in_another_order_have_the_same_entropies():
    net, x = nn.Sequential(ByOctant()), clouds(2, dtype=torch.float64)
    x = x + 0.3 * x.sign()  # far from the planes for the noise there is
    order = torch.randperm(POINTS, generator=generator(8))
    maps, turned = (explain(net, c, "0", units=PointUnits()) for c in (x, x[:, order]))
    assert (maps.entropy[:, order] - turned.entropy).abs().max() < 1e-6
    for cloud in range(2):
        J = net[0].A.square().sum((1, 2))[net[0].octants(x[cloud])]
        known = torch.tensor(linear_path(J, 7.0, -2.8))
        assert (maps.entropy[cloud] - known).abs().max() < 1e-6
    assert (maps.entropy[0] - maps.entropy[1]).abs().max() > 0.05


# --- choices that are kept


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """In eval mode, with statistics of batch normalization unlike those of a batch."""
    found = {name: point_network(name, 4, "narrow").eval() for name in ("PointNet", "PointNet++")}
    found["DGCNN"] = point_network("DGCNN", 4, "narrow").eval()
    moved = generator(9)
    for module in found["DGCNN"].modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(generator=moved)
            module.running_var.uniform_(0.2, 5, generator=moved)
    return found


@pytest.mark.parametrize("name", ["PointNet++", "DGCNN"])
def test_choices_are_those_of_the_clean_cloud_of_each_row(name, networks):
    net, x = networks[name], clouds(3, MANY)
    problem = PointUnits(frozen=True).problem(net, x)
    rows = torch.tensor([2, 0, 2])
    noisy = x[rows] + 0.3 * torch.randn(3, MANY, 3, generator=generator(1))
    with torch.no_grad():
        found, anew = problem.forward(noisy, rows), net(noisy)
        expected = [net(noisy[[r]], net.choices(x[[s]])) for r, s in enumerate(rows.tolist())]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert (found - anew).abs().max() > 1e-2
    with torch.no_grad():
        assert torch.equal(PointUnits().problem(net, x).forward(noisy, rows), anew)


def test_choices_of_many_clouds_are_made_in_parts(networks, monkeypatch):
    net, x = networks["PointNet++"], clouds(5, MANY)
    seen, choices = [], net.choices
    monkeypatch.setattr(kpnb.estimator.units, "KEPT_CLOUDS", 2)
    monkeypatch.setattr(net, "choices", lambda part: seen.append(len(part)) or choices(part))
    problem = PointUnits(frozen=True).problem(net, x)
    assert seen == [2, 2, 1]
    rows = torch.arange(5)
    with torch.no_grad():
        torch.testing.assert_close(problem.forward(x, rows), net(x), rtol=1e-4, atol=1e-5)


def state(net):
    modes = [module.training for module in net.modules()]
    return modes, {name: value.clone() for name, value in net.state_dict().items()}


def test_choices_are_made_in_eval_mode_and_modes_come_back(networks):
    """DGCNN's neighbors are those of its features, which hang on batch normalization's mode."""
    net, x = networks["DGCNN"], clouds(3, MANY)
    evaluated = net.choices(x)
    net.train()
    net.classifier.eval()
    try:
        modes, before = state(net)
        problem = PointUnits(frozen=True).problem(net, x)
        found, after = state(net)
        assert found == modes and after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        in_train_mode = net.choices(x)
    finally:
        net.load_state_dict(before)  # the last line above moved the running statistics
        net.eval()
    kept = []
    hook = net.register_forward_pre_hook(lambda _, given: kept.extend(given[1]))
    problem.forward(x, torch.arange(3))
    hook.remove()
    assert all(torch.equal(one, other) for one, other in zip(kept, evaluated, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(kept, in_train_mode, strict=True))


def test_modes_come_back_from_an_error(networks, monkeypatch):
    def fails(_):
        raise KpnbError("no choices today.")

    net = networks["PointNet"]
    monkeypatch.setattr(net, "choices", fails)
    net.train()
    try:
        with pytest.raises(KpnbError, match="today"):
            PointUnits(frozen=True).problem(net, clouds(2))
        assert all(module.training for module in net.modules())
    finally:
        net.eval()


def maps_both_ways(net, **changes):
    x = clouds(2, MANY)
    return [
        explain(net, x, "classifier.1", units=PointUnits(frozen=frozen), relu=True, **changes)
        for frozen in (True, False)
    ]


def test_without_choices_nothing_is_frozen(networks):
    frozen, anew = maps_both_ways(networks["PointNet"])
    assert frozen.defined.all()
    assert torch.equal(frozen.sigma, anew.sigma)
    assert torch.equal(frozen.standard_error, anew.standard_error)


@pytest.mark.parametrize("name", ["PointNet++", "DGCNN"])
def test_large_noise_tells_frozen_choices_from_new_ones(name, networks):
    frozen, anew = maps_both_ways(networks[name], init_sigma=0.1, target_entropy=-0.5)
    assert frozen.defined.all() and anew.defined.all()
    assert (frozen.entropy - anew.entropy).abs().mean() > 0.02
    assert not torch.allclose(frozen.feature_variance, anew.feature_variance, rtol=0.02)


@pytest.mark.parametrize("frozen", [True, False])
def test_neither_chunk_nor_neighbors_in_the_batch_change_a_map(frozen, networks):
    net, x = networks["PointNet++"], clouds(3, MANY)
    units = PointUnits(frozen=frozen)
    whole = explain(net, x, "classifier.1", units=units, chunk=256).entropy
    for chunk in (5, 16):
        cut = explain(net, x, "classifier.1", units=units, chunk=chunk).entropy
        torch.testing.assert_close(cut, whole, rtol=0, atol=1e-3)
    alone = explain(net, x[[2]], "classifier.1", units=units).entropy
    torch.testing.assert_close(alone, whole[[2]], rtol=0, atol=1e-3)
    swapped = explain(net, x[[2, 1, 0]], "classifier.1", units=units).entropy
    torch.testing.assert_close(swapped, whole[[2, 1, 0]], rtol=0, atol=1e-3)
    assert (whole[0] - whole[2]).abs().max() > 0.05
