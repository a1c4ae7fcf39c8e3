"""The point-cloud networks: published sizes, symmetries, gradients, and plain twins."""

import math
from copy import deepcopy

import pytest
import torch
from reference import generator
from refusals import refuses
from torch import nn

from kpnb.estimator.features import layer_module
from kpnb.networks import cloud as networks
from kpnb.networks.cloud import BUILDERS, point_network
from kpnb.networks.cloud_layers import CLOUD_WEIGHTS, KeptChoices, gather
from kpnb.networks.layers import initialize

every = pytest.mark.parametrize("name", BUILDERS)
CLASSES = 5
POINTS = {"PointNet": 24, "DGCNN": 24, "PointNet++": 150, "PointConv": 150}


def lively(name):
    """A narrow network in float64 and eval mode without a trivial weight, bias or statistic."""
    net = point_network(name, CLASSES, "narrow", 0).double().eval()
    draws = generator(100)
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=draws, dtype=value.dtype)
            value += 0.3 * noise if key.endswith("running_var") else 0.2 * (noise - 0.5)
    return net


def clouds(count=3, points=24, seed=1):
    """Random points in the unit ball; points: how many, or of which network."""
    shape, draws = (count, POINTS.get(points, points)), generator(seed)
    found = torch.randn(*shape, 3, generator=draws, dtype=torch.float64)
    radii = torch.rand(*shape, 1, generator=draws, dtype=torch.float64) ** (1 / 3)
    return found / found.norm(dim=-1, keepdim=True) * radii


def close(one, other, atol=1e-9):
    return torch.allclose(one, other, rtol=0, atol=atol)


# Of the authors' code at 40 classes. In millions: Table 6 of the PointNet paper; Table 2 of the
# PointNeXt paper (NeurIPS 2022); the model zoo of OpenPoints (guochengqian/PointNeXt,
# docs/modelzoo.md). None is published for PointConv: its widths are those of the PyTorch code.
COUNTS = {"PointNet": 3480049, "DGCNN": 1809576, "PointNet++": 1475688, "PointConv": 19569465}
MILLIONS = {"PointNet": 3.5, "DGCNN": 1.8, "PointNet++": 1.5, "PointConv": 19.6}
DROPOUT = {"PointNet": 0.3, "DGCNN": 0.5, "PointNet++": 0.5, "PointConv": 0.4}


def test_published_parameters_neighborhoods_and_dropout_at_full_size_only():
    """As in the authors' code: pointnet2_cls_ssg.py, and pointconv.py of the PyTorch version."""
    with torch.device("meta"):
        full, narrow = ({k: BUILDERS[k](40, s) for k in BUILDERS} for s in ("full", "narrow"))
    for name, count in COUNTS.items():
        assert sum(parameter.numel() for parameter in full[name].parameters()) == count
        assert round(count / 1e6, 1) == MILLIONS[name]
        for net, rate in ((full[name], DROPOUT[name]), (narrow[name], 0.0)):
            assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [rate, rate]
    balls = full["PointNet++"].features
    found = [(part.centroids, part.radius, part.k) for part in (balls.first, balls.second)]
    assert found == [(512, 0.2, 32), (128, 0.4, 64)] and full["DGCNN"].features.neighbors == 20
    found = [(layer.sample, layer.bandwidth) for layer in full["PointConv"].features.layers]
    assert found == [((512, 32), 0.1), ((128, 64), 0.2), (None, 0.4)]


LEVELS = [(3, 128), (3, 128, 16), (3, 32), (3, 32, 16)]  # of PointNet++ and PointConv
CHOICES = {"PointNet": [], "DGCNN": [(3, 24, 10)] * 4}


@every
def test_narrow_shapes_and_named_layers(name):
    net, points = lively(name), clouds(3, name)
    assert net(points).shape == (3, CLASSES)
    assert net.features(points).shape == (3, 512 if name == "DGCNN" else 256)
    made = net.choices(points)
    assert [tuple(index.shape) for index in made] == CHOICES.get(name, LEVELS)
    assert {index.dtype for index in made} <= {torch.int64}
    kinds = [type(layer_module(net, layer)) for layer in ("FC1", "FC2", "FC3")]
    assert kinds == [nn.BatchNorm1d, nn.BatchNorm1d, nn.Linear]


@every
def test_every_parameter_takes_part_and_coinciding_points_are_borne(name):
    net = lively(name).float().train()
    nn.functional.cross_entropy(net(clouds(4, name).float()), torch.arange(4)).backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []
    points = torch.ones(4, POINTS[name], 3, requires_grad=True)
    net(points).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (points, *net.parameters()))


LEAST = {"DGCNN": (10, "neighbors"), "PointNet++": (128, "cent"), "PointConv": (128, "cent")}


@pytest.mark.parametrize("name", LEAST)
def test_too_small_clouds_are_refused(name):
    net, (least, kind) = lively(name), LEAST[name]
    assert net(clouds(2, least)).isfinite().all()
    refuses(net, f"{least - 1} points cannot give {least} {kind}", clouds(1, least - 1))


@every
def test_order_batch_and_translation(name):
    """Logits depend on neither order nor batch; on translation, but in PointConv, and on scale."""
    net, points = lively(name), clouds(3, name)
    draws = generator(2)
    order = torch.stack([torch.randperm(POINTS[name], generator=draws) for _ in range(3)])
    logits, made = net(points), net.choices(points)
    assert close(net(gather(points, order)), logits)
    assert (logits[0] - logits[1]).abs().max() > 1e-3  # clouds are told apart at all
    for i in range(3):
        assert close(net(points[i : i + 1])[0], logits[i])
        for index, alone in zip(made, net.choices(points[i : i + 1]), strict=True):
            assert torch.equal(alone[0], index[i])
    moved = net(points + torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64))
    gap = (moved - logits).abs().max()
    assert gap < 1e-9 if name == "PointConv" else gap > 1e-3
    assert (net(1.1 * points) - logits).abs().max() > 1e-3


@every
def test_kept_choices_give_the_same_logits_bit_for_bit(name):
    net, points = lively(name).float(), clouds(3, name).float()
    kept = net.choices(points)
    assert torch.equal(net(points, kept), net(points))
    moved = points + 0.3 * clouds(3, name, 5).float()
    same = torch.equal(net(moved, kept), net(moved))
    assert same == (name == "PointNet")  # kept choices are taken, not made anew
    if kept:
        refuses(net, "kept choices.*another network", points, kept[:-1])


@every
def test_the_gradient_of_the_coordinates_matches_finite_differences(name):
    net, points = lively(name), clouds(2, name).requires_grad_()
    kept = net.choices(points)
    weights = torch.arange(1, CLASSES + 1)
    both = (net(points) * weights).sum(), (net(points, kept) * weights).sum()
    gradient, chosen = (torch.autograd.grad(value, points)[0] for value in both)
    assert gradient.abs().amax((1, 2)).min() > 1e-3 and torch.equal(gradient, chosen)
    how = dict(eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: net(x, kept), points, **how)


def step(x, layers, slope=0.0):
    """Linear map of the channels, before the points; stored statistics; activation."""
    mapping, norm = next(layers), next(layers)
    x = torch.einsum("oc,nc...->no...", mapping.weight, x)
    shape = (1, -1, *[1] * (x.dim() - 2))
    if mapping.bias is not None:
        x = x + mapping.bias.view(shape)
    x = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-5).sqrt()
    x = x * norm.weight.view(shape) + norm.bias.view(shape)
    return torch.where(x > 0, x, slope * x)


def head(x, layers, slope=0.0):
    x = step(step(x, layers, slope), layers, slope)
    last = next(layers)
    return x @ last.weight.T + last.bias


def transformed(x, layers):
    pooled = step(step(step(x, layers), layers), layers).amax(-1)
    entries = head(pooled, layers).view(len(x), x.shape[1], x.shape[1])
    return ((entries + torch.eye(x.shape[1])).mT @ x.flatten(2)).view_as(x)


def pointnet_plainly(layers, points):
    x = transformed(points.mT, layers)
    x = transformed(step(step(x, layers), layers), layers)
    x = step(step(step(x, layers), layers), layers)
    return head(x.amax(-1), layers)


def all_edges(points, neighbors):
    """(n, p, k, 2 c): differences to the neighbors, and the points themselves."""
    near = points[torch.arange(len(points))[:, None, None], neighbors]
    itself = points[:, :, None].expand_as(near)
    return torch.cat((near - itself, itself), -1)


def dgcnn_plainly(layers, points):
    levels, x = [], points
    for _ in range(4):
        distances = (x[:, :, None] - x[:, None]).square().sum(-1)
        edges = all_edges(x, distances.argsort(dim=-1)[..., :10])
        x = step(edges.permute(0, 3, 1, 2), layers, 0.2).amax(-1).mT
        levels.append(x)
    high = step(torch.cat(levels, -1).mT, layers, 0.2)
    return head(torch.cat((high.amax(-1), high.mean(-1)), -1), layers, 0.2)


@pytest.mark.parametrize("name, twin", [("PointNet", pointnet_plainly), ("DGCNN", dgcnn_plainly)])
def test_the_network_equals_its_plain_twin(name, twin):
    net, points = lively(name), clouds()
    layers = (m for m in net.modules() if isinstance(m, (nn.Linear, nn.BatchNorm1d)))
    assert close(net(points), twin(layers, points), 1e-10)


def test_the_edge_convolution_in_training_equals_a_layer_on_all_edges():
    layer = networks.EdgeConvolution(6, 7).double().train()
    initialize(layer, 0, CLOUD_WEIGHTS)
    draws = generator(4)
    points = torch.randn(3, 9, 6, generator=draws, dtype=torch.float64)
    with torch.no_grad():
        layer.norm.weight.copy_(torch.linspace(-1, 1.4, 7))  # slopes of both signs
        layer.norm.bias.copy_(torch.linspace(-0.5, 0.5, 7))
    twin, norm = deepcopy(layer.linear), nn.BatchNorm2d(7).double().train()
    norm.load_state_dict(layer.norm.state_dict())
    neighbors = torch.randint(9, (3, 9, 4), generator=draws)
    ours, theirs = points.clone().requires_grad_(), points.clone().requires_grad_()
    images = norm(twin(all_edges(theirs, neighbors)).permute(0, 3, 1, 2))
    expected = nn.functional.leaky_relu(images, 0.2).amax(-1).transpose(1, 2)
    got = layer(ours, neighbors)
    assert close(got, expected, 1e-12)
    for key in ("running_mean", "running_var"):
        assert close(getattr(layer.norm, key), getattr(norm, key), 1e-8)
    way = torch.randn(got.shape, generator=draws, dtype=torch.float64)
    one = torch.autograd.grad((got * way).sum(), [ours, layer.linear.weight, layer.norm.weight])
    other = torch.autograd.grad((expected * way).sum(), [theirs, twin.weight, norm.weight])
    assert all(close(*pair, 1e-11) for pair in zip(one, other, strict=True))


def layer_on_a_cloud(layer):
    """In eval mode: points, features, centers, output, and the choices that it made."""
    points, features = clouds(1, 20), clouds(1, 20, seed=2)[..., :2]
    made = KeptChoices()
    centers, found = layer.double().eval()(points, features, made)
    assert torch.equal(centers[0], points[0, made.made[0][0]])
    return points[0], features[0], centers[0], found[0], made.made


def test_kernel_density_is_the_mean_of_gaussians():
    points = clouds(2, 30)
    points[1, :10] = points[1, 10]  # eleven in one place
    found = networks.kernel_density(points, 0.2)
    for cloud, values in zip(points.tolist(), found.tolist(), strict=True):
        for place, value in zip(cloud, values, strict=True):
            gaussians = [math.exp(-(math.dist(place, p) ** 2) / (2 * 0.2**2)) for p in cloud]
            assert value == pytest.approx(math.fsum(gaussians) / 30, rel=1e-12)
    assert found.min() >= 1 / 30
    single = clouds(2, 200).float() + 10  # far from the origin
    exact = networks.kernel_density(single.double(), 0.1)
    assert torch.allclose(networks.kernel_density(single, 0.1).double(), exact, rtol=1e-4, atol=0)


@torch.no_grad()
def test_pointconv_layer_is_the_sum_over_neighbors():
    """One layer against the formula: per channel and weight, a sum of feature, share and weight."""
    torch.manual_seed(0)
    layer = networks.PointConvolution((5, 4, 6), 0.2, 3, (7, 5))
    points, features, centers, found, made = layer_on_a_cloud(layer)
    inverse = 1 / networks.kernel_density(points[None], 0.2)[0]
    for place, around in enumerate(made[1][0]):
        relative = points[around] - centers[place]
        values = layer.layers(torch.cat([relative, features[around]], -1)[None])[0]
        share = layer.density((inverse[around] / inverse[around].max())[None, :, None])[0]
        weights = layer.weights(relative[None])[0]
        sums = sum(share[n] * torch.outer(values[n], weights[n]) for n in range(5))
        expected = layer.output(sums.flatten()[None, None])[0, 0]
        assert torch.allclose(found[place], expected, rtol=1e-12, atol=1e-12)
    shares = layer.density(torch.linspace(-1e4, 1e4, 50, dtype=torch.float64).view(1, -1, 1))
    assert shares.min() >= 0 and shares.max() <= 1


@torch.no_grad()
def test_pointnet2_layer_is_the_largest_over_the_ball():
    torch.manual_seed(0)
    layer = networks.SetAbstraction((7, 20), 0.5, (5, 4, 6))
    points, features, centers, found, _ = layer_on_a_cloud(layer)
    for place, center in enumerate(centers):
        inside = (points - center).norm(dim=-1) <= 0.5
        assert 1 <= inside.sum() < 20
        values = layer.layers(torch.cat([points - center, features], -1)[None, inside])[0]
        assert torch.allclose(found[place], values.amax(0), rtol=1e-12, atol=1e-12)


def test_at_first_the_transforms_are_the_identity():
    features = point_network("PointNet", CLASSES, "narrow", 0).features
    for part, channels in ((features.input_transform, 3), (features.feature_transform, 16)):
        for training in (True, False):
            matrices = part.train(training)(torch.rand(4, 9, channels))
            assert torch.equal(matrices, torch.eye(channels).expand(4, -1, -1))


def gradients(net, points, penalty):
    """Gradients by parameter of the mean squared logits, the penalty added in the open or not."""
    seen = []
    with net.features.feature_transform.register_forward_hook(lambda *call: seen.append(call[2])):
        loss = net(points).square().mean()
    excess = torch.eye(16, dtype=torch.float64) - seen[0] @ seen[0].mT
    loss = loss + 0.001 * penalty * excess.square().sum(dim=(1, 2)).mean()
    return torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize("training", [True, False])
def test_every_parameter_is_trained_as_if_the_loss_had_the_penalty(training):
    net, points = lively("PointNet").train(training), clouds(4)
    pulled = gradients(net, points, penalty=False)
    net.features.feature_transform.orthogonal = False
    explicit = gradients(net, points, penalty=training)
    without = gradients(net, points, penalty=False)
    pairs = list(zip(pulled, explicit, strict=True))
    assert all(torch.allclose(one, other, rtol=1e-9, atol=1e-12) for one, other in pairs)
    gaps = [(one - other).abs().max() for one, other in zip(pulled, without, strict=True)]
    assert (max(gaps) > 1e-4) == training
