"""PointNet++ and PointConv: counts of parameters, invariances, kept choices and gradients."""

import math

import pytest
import torch

from kpnb.errors import KpnbError
from kpnb.networks import cloud as networks
from kpnb.networks.cloud_layers import Choices, gather, initialize

BUILDERS = {"PointNet++": networks.pointnet2, "PointConv": networks.pointconv}
NAMES = tuple(BUILDERS)
CLASSES = 7


def clouds(count, size, seed=0, dtype=torch.float64):
    """Random points in the unit ball."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, size, 3, generator=generator, dtype=dtype)
    radii = torch.rand(count, size, 1, generator=generator, dtype=dtype) ** (1 / 3)
    return points / points.norm(dim=-1, keepdim=True) * radii


def network(name, scale="narrow", classes=CLASSES, dtype=torch.float64):
    """In evaluation mode, with statistics of one batch, so that normalization does something."""
    net = BUILDERS[name](classes, scale)
    initialize(net, 0)
    net = net.to(dtype)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        net.train()(clouds(2, 550 if scale == "full" else 150, seed=9, dtype=dtype))
    return net.eval()


@pytest.fixture(scope="module", params=NAMES)
def net(request):
    return network(request.param)


@pytest.fixture(scope="module", params=NAMES)
def full(request):
    return request.param, network(request.param, "full", 40, torch.float32)


def linear(inside, outside):
    return inside * outside + outside


def normalized(*widths):
    """Linear maps with bias, each with a batch normalization's gain and shift."""
    pairs = zip(widths, widths[1:], strict=False)
    return sum(linear(inside, outside) + 2 * outside for inside, outside in pairs)


def parameter_count(net):
    return sum(parameter.numel() for parameter in net.parameters())


ROWS = ((3, 64, 64, 128), (131, 128, 128, 256), (259, 256, 512, 1024))


def test_full_pointnet2_has_the_published_layers():
    net = BUILDERS["PointNet++"](40, "full")
    head = normalized(1024, 512, 256) + linear(256, 40)
    assert parameter_count(net) == sum(normalized(*row) for row in ROWS) + head
    # The model zoo of OpenPoints (repository guochengqian/PointNeXt, docs/modelzoo.md) lists
    # PointNet++ on ModelNet40 with 1.5M parameters.
    assert round(parameter_count(net) / 1e6, 1) == 1.5


def test_full_pointconv_has_the_published_layers():
    """Widths as in the authors' PyTorch code (see the module); no total is published there."""
    net = BUILDERS["PointConv"](40, "full")
    small = normalized(1, 16, 8, 1) + normalized(3, 8, 8, 16)
    layers = sum(normalized(*row) + small + normalized(16 * row[-1], row[-1]) for row in ROWS)
    head = normalized(1024, 512, 256) + linear(256, 40)
    assert parameter_count(net) == layers + head


def test_full_networks_take_1524_points(full):
    name, net = full
    points = clouds(1, 1524, dtype=torch.float32)
    shapes = [tuple(choice.shape) for choice in net.choices(points)]
    assert shapes == [(1, 512), (1, 512, 32), (1, 128), (1, 128, 64)]
    with torch.no_grad():
        assert net.features(points, Choices()).shape == (1, 1024)
        logits = net(points)
    assert logits.shape == (1, 40) and logits.isfinite().all()


@pytest.mark.parametrize(("name", "dropout"), [("PointNet++", 0.5), ("PointConv", 0.4)])
def test_dropout_only_at_full_size(name, dropout):
    for scale, expected in (("full", dropout), ("narrow", 0.0)):
        net = BUILDERS[name](CLASSES, scale)
        found = [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)]
        assert found == [expected, expected]


def test_narrow_shapes(net):
    points = clouds(3, 150)
    assert net(points).shape == (3, CLASSES)
    assert net.features(points, Choices()).shape == (3, 256)
    shapes = [tuple(choice.shape) for choice in net.choices(points)]
    assert shapes == [(3, 128), (3, 128, 16), (3, 32), (3, 32, 16)]
    assert all(choice.dtype == torch.int64 for choice in net.choices(points))


def test_named_layers_are_there(net):
    modules = dict(net.named_modules())
    assert [type(modules[name]).__name__ for name in net.layer_names.values()] == [
        "BatchNorm1d",
        "BatchNorm1d",
        "Linear",
    ]


def test_logits_do_not_depend_on_the_order_of_points(net):
    points, generator = clouds(4, 160), torch.Generator().manual_seed(3)
    order = torch.stack([torch.randperm(160, generator=generator) for _ in range(4)])
    with torch.no_grad():
        logits, shuffled = net(points), net(gather(points, order))
    assert logits.std(0).max() > 1e-3  # they depend on something
    assert torch.allclose(shuffled, logits, rtol=0, atol=1e-9)


def test_a_cloud_does_not_depend_on_its_batch(net):
    points = clouds(4, 160)
    with torch.no_grad():
        alone = torch.cat([net(cloud[None]) for cloud in points])
        assert torch.allclose(alone, net(points), rtol=0, atol=1e-9)


SHIFT = torch.tensor([0.4, -0.3, 0.9], dtype=torch.float64)


def test_choices_do_not_change_under_a_translation(net):
    points = clouds(3, 160)
    pairs = zip(net.choices(points), net.choices(points + SHIFT), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_pointnet2_is_translation_invariant_up_to_the_last_abstraction():
    net, points = network("PointNet++"), clouds(3, 160)
    with torch.no_grad():
        for abstractions in (1, 2):
            made = []
            for moved in (points, points + SHIFT):
                choices = Choices()
                centers, features = net.features.first(moved, None, choices)
                if abstractions == 2:
                    centers, features = net.features.second(centers, features, choices)
                made.append(features)
            assert torch.allclose(*made, rtol=0, atol=1e-9)
        # The last one gets coordinates themselves.
        assert (net(points + SHIFT) - net(points)).abs().max() > 1e-3


def test_pointconv_is_translation_invariant():
    net, points = network("PointConv"), clouds(3, 160)
    with torch.no_grad():
        assert torch.allclose(net(points + SHIFT), net(points), rtol=0, atol=1e-9)
        assert (net(1.1 * points) - net(points)).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_kept_choices_of_the_same_input_give_the_same_bits(name, dtype):
    net, points = network(name, dtype=dtype), clouds(3, 160, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(net(points, net.choices(points)), net(points))


def test_kept_choices_differ_from_new_ones_under_moved_points(net):
    points = clouds(3, 160)
    moved = points + 0.05 * clouds(3, 160, seed=5)
    kept, made = net.choices(points), net.choices(moved)
    assert any(not torch.equal(a, b) for a, b in zip(kept, made, strict=True))
    with torch.no_grad():
        assert (net(moved, kept) - net(moved)).abs().max() > 1e-6


def test_choices_of_a_shorter_network_are_refused(net):
    points = clouds(2, 160)
    with pytest.raises(KpnbError, match="kept choices"):
        net(points, net.choices(points)[:-1])


def test_gradient_with_kept_choices_is_that_of_finite_differences(net):
    points = clouds(2, 150)
    kept = net.choices(points)
    direction = torch.randn(CLASSES, dtype=points.dtype, generator=torch.Generator().manual_seed(1))
    leaf = points.clone().requires_grad_()
    (net(leaf, kept) @ direction).sum().backward()
    # The coordinates of eight points, and random directions through all.
    generator = torch.Generator().manual_seed(4)
    steps = [torch.randn(points.shape, dtype=points.dtype, generator=generator) for _ in range(4)]
    for place in range(0, 40, 5):
        steps.append(torch.zeros_like(points))
        steps[-1][0, place, place % 3] = 1.0
    h = 1e-7
    with torch.no_grad():
        for step in steps:
            ends = [(net(points + sign * h * step, kept) @ direction).sum() for sign in (1, -1)]
            slope = (ends[0] - ends[1]) / (2 * h)
            assert slope.item() == pytest.approx(
                (leaf.grad * step).sum().item(), rel=1e-4, abs=1e-6
            )
    assert leaf.grad.abs().amax((1, 2)).min() > 1e-3


def test_kernel_density_is_the_mean_of_gaussians():
    points = clouds(2, 30)
    points[1, :10] = points[1, 10]  # eleven in one place
    found = networks.kernel_density(points, 0.2)
    for cloud in range(2):
        for place in range(30):
            gaps = [math.dist(points[cloud, place], other) for other in points[cloud].tolist()]
            mean = math.fsum(math.exp(-(gap**2) / (2 * 0.2**2)) for gap in gaps) / 30
            assert found[cloud, place].item() == pytest.approx(mean, rel=1e-12)
    assert found.min() >= 1 / 30


def test_kernel_density_in_single_precision_far_from_the_origin():
    points = clouds(2, 200, dtype=torch.float32) + 10
    exact = networks.kernel_density(points.double(), 0.1)
    assert torch.allclose(networks.kernel_density(points, 0.1).double(), exact, rtol=1e-4, atol=0)


def test_pointconv_layer_is_the_sum_over_neighbors():
    """One layer against the formula: per channel and weight, a sum of feature, share and weight."""
    torch.manual_seed(0)
    layer = networks.PointConvolution((5, 4, 6), 0.2, 3, (7, 5)).double().eval()
    points, features = clouds(1, 20), clouds(1, 20, seed=1)[..., :2]
    made = Choices()
    with torch.no_grad():
        centers, found = layer(points, features, made)
        picks, index = made.made[0][0], made.made[1][0]
        assert torch.equal(centers[0], points[0, picks])
        inverse = 1 / networks.kernel_density(points, 0.2)[0]
        for place, around in enumerate(index):
            relative = points[0, around] - centers[0, place]
            values = layer.layers(torch.cat([relative, features[0, around]], -1)[None])[0]
            share = layer.density((inverse[around] / inverse[around].max())[None, :, None])[0]
            weights = layer.weights(relative[None])[0]
            sums = torch.zeros(6, 3, dtype=torch.float64)
            for neighbor in range(5):
                sums += share[neighbor] * torch.outer(values[neighbor], weights[neighbor])
            expected = layer.output(sums.flatten()[None, None])[0, 0]
            assert torch.allclose(found[0, place], expected, rtol=1e-12, atol=1e-12)


def test_the_density_network_gives_a_share():
    inputs = torch.linspace(-1e4, 1e4, 50, dtype=torch.float64).view(1, -1, 1)
    for layer in network("PointConv").features.layers:
        shares = layer.density(inputs)
        assert shares.min() >= 0 and shares.max() <= 1


def test_pointnet2_layer_is_the_largest_over_the_ball():
    torch.manual_seed(0)
    layer = networks.SetAbstraction(7, 0.5, 20, (5, 4, 6)).double().eval()
    points, features = clouds(1, 20), clouds(1, 20, seed=1)[..., :2]
    made = Choices()
    with torch.no_grad():
        centers, found = layer(points, features, made)
        for place, pick in enumerate(made.made[0][0].tolist()):
            relative = points[0] - points[0, pick]
            inside = relative.norm(dim=-1) <= 0.5
            assert 1 <= inside.sum() < 20
            values = layer.layers(torch.cat([relative, features[0]], -1)[None, inside])[0]
            assert torch.allclose(found[0, place], values.amax(0), rtol=1e-12, atol=1e-12)
            assert torch.equal(centers[0, place], points[0, pick])


def test_full_neighborhoods_are_the_published_ones():
    """As in the authors' code: pointnet2_cls_ssg.py, and pointconv.py of the PyTorch version."""
    features = BUILDERS["PointNet++"](40, "full").features
    balls = [(part.centroids, part.radius, part.k) for part in (features.first, features.second)]
    assert balls == [(512, 0.2, 32), (128, 0.4, 64)]
    layers = BUILDERS["PointConv"](40, "full").features.layers
    found = [(layer.sample, layer.bandwidth) for layer in layers]
    assert found == [((512, 32), 0.1), ((128, 64), 0.2), (None, 0.4)]


def test_denser_points_get_smaller_inputs_to_the_density_network():
    net, points = network("PointConv"), clouds(1, 150)
    points[0, :60] *= 0.05  # a dense core
    seen = []
    layer = net.features.layers[0]
    handle = layer.density.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    made = Choices()
    with torch.no_grad():
        layer(points, None, made)
    handle.remove()
    scale, index = seen[0][0, ..., 0], made.made[1][0]
    assert scale.max() == 1 and scale.min() > 0
    assert (scale.amax(1) == 1).all()
    core = index < 60
    mixed = core.any(1) & (~core).any(1)
    assert mixed.any()
    for row, inside in zip(scale[mixed], core[mixed], strict=True):
        assert row[inside].mean() < row[~inside].mean()


@pytest.mark.parametrize("name", NAMES)
def test_too_small_clouds(name):
    for scale, least in (("full", 512), ("narrow", 128)):
        net = BUILDERS[name](CLASSES, scale).eval()
        with pytest.raises(KpnbError, match=f"{least} centroids"):
            net(torch.zeros(1, least - 1, 3))


@pytest.mark.parametrize("name", NAMES)
def test_coinciding_points_give_finite_logits_and_gradients(name):
    net = network(name)
    points = torch.zeros(2, 150, 3, dtype=torch.float64, requires_grad=True)
    net(points).sum().backward()
    assert points.grad.isfinite().all()
