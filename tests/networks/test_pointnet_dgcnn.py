"""PointNet and DGCNN: published sizes, symmetries, gradients, and both against plain twins."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from kpnb.errors import KpnbError
from kpnb.networks import cloud as dgcnn
from kpnb.networks import cloud as pointnet
from kpnb.networks.cloud_layers import initialize

NETWORKS = {"PointNet": pointnet, "DGCNN": dgcnn}
both = pytest.mark.parametrize("name", NETWORKS)


def network(name, scale="narrow", classes=5, seed=0):
    with torch.device("meta"):
        net = NETWORKS[name].build(classes, scale)
    net.to_empty(device="cpu")
    initialize(net, seed)
    return net


def lively(name, seed=0):
    """A narrow network in float64 and eval mode without a trivial weight, bias or statistic."""
    net = network(name, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed + 100)
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value += 0.3 * noise if key.endswith("running_var") else 0.2 * (noise - 0.5)
    return net


def clouds(count=3, points=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, points, 3, generator=generator, dtype=torch.float64)


def linear(inside, outside, bias=True):
    return inside * outside + (outside if bias else 0)


def normalized(widths, bias=True):
    """Parameters of linear layers and batch normalizations from each width to the next."""
    steps = zip(widths, widths[1:], strict=False)
    return sum(linear(a, b, bias) + 2 * b for a, b in steps)


# Published sizes


def test_pointnet_has_the_published_number_of_parameters():
    def transform(c):
        return normalized((c, 64, 128, 1024)) + normalized((1024, 512, 256)) + linear(256, c * c)

    plain = normalized((3, 64, 64)) + normalized((64, 64, 128, 1024))
    plain += normalized((1024, 512, 256)) + linear(256, 40)
    expected = plain + transform(3) + transform(64)
    net = network("PointNet", "full", 40)
    assert sum(p.numel() for p in net.parameters()) == expected == 3_480_049
    # Table 6 of the PointNet paper: 3.5M, and 0.8M without the two transforms
    assert round(expected / 1e6, 1) == 3.5
    assert round(plain / 1e6, 1) == 0.8
    features = net.features
    inside = [*features.input_transform.parameters(), *features.feature_transform.parameters()]
    assert expected - sum(p.numel() for p in inside) == plain


def test_dgcnn_has_the_published_number_of_parameters():
    edges = sum(
        normalized((2 * a, b), False) for a, b in ((3, 64), (64, 64), (64, 128), (128, 256))
    )
    points = normalized((64 + 64 + 128 + 256, 1024), False)
    head = normalized((2048, 512), False) + normalized((512, 256)) + linear(256, 40)
    net = network("DGCNN", "full", 40)
    assert sum(p.numel() for p in net.parameters()) == edges + points + head == 1_809_576
    # Table 2 of the PointNeXt paper (NeurIPS 2022) counts 1.8M
    assert round((edges + points + head) / 1e6, 1) == 1.8


SHAPES = {
    ("PointNet", "full"): "64x3 128x64 1024x128 512x1024 256x512 9x256 64x3 64x64 "
    "64x64 128x64 1024x128 512x1024 256x512 4096x256 64x64 128x64 1024x128 "
    "512x1024 256x512 40x256",
    ("PointNet", "narrow"): "16x3 32x16 256x32 128x256 64x128 9x64 16x3 16x16 "
    "16x16 32x16 256x32 128x256 64x128 256x64 16x16 32x16 256x32 128x256 64x128 40x64",
    ("DGCNN", "full"): "64x6 64x128 128x128 256x256 1024x512 512x2048 256x512 40x256",
    ("DGCNN", "narrow"): "16x6 16x32 32x32 64x64 256x128 128x512 64x128 40x64",
}


@pytest.mark.parametrize(("name", "scale"), SHAPES)
def test_the_linear_layers_in_order(name, scale):
    with torch.device("meta"):
        net = NETWORKS[name].build(40, scale)
    weights = [module.weight for module in net.modules() if isinstance(module, nn.Linear)]
    assert " ".join("x".join(map(str, w.shape)) for w in weights) == SHAPES[name, scale]
    rates = [module.p for module in net.modules() if isinstance(module, nn.Dropout)]
    assert rates == [{"narrow": 0.0, "full": {"PointNet": 0.3, "DGCNN": 0.5}[name]}[scale]] * 2


def test_only_the_published_layers_of_dgcnn_have_biases():
    net = network("DGCNN")
    biased = [k for k, m in net.named_modules() if isinstance(m, nn.Linear) and m.bias is not None]
    assert biased == ["classifier.4", "classifier.8"]


def test_dgcnn_takes_the_published_numbers_of_neighbors():
    for scale, neighbors in (("full", 20), ("narrow", 10)):
        net = network("DGCNN", scale).eval()
        made = net.choices(clouds(2, 24).float())
        assert [tuple(index.shape) for index in made] == [(2, 24, neighbors)] * 4
        assert {index.dtype for index in made} == {torch.int64}


def test_dgcnn_pools_by_maximum_and_by_mean():
    net = lively("DGCNN")
    high = []
    net.features.points.register_forward_hook(lambda *call: high.append(call[2]))
    pooled = net.features(clouds())
    assert torch.equal(pooled[:, :256], high[0].amax(1))
    assert torch.allclose(pooled[:, 256:], high[0].mean(1), rtol=0, atol=1e-12)


# The networks written out plainly, channels before points as in the original codes


def step(x, layers, slope=0.0):
    """Linear map of the second dimension, normalization by stored statistics, activation."""
    mapping, norm = next(layers), next(layers)
    x = torch.einsum("oc,nc...->no...", mapping.weight, x)
    shape = (1, -1, *[1] * (x.dim() - 2))
    if mapping.bias is not None:
        x = x + mapping.bias.view(shape)
    x = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-5).sqrt()
    x = x * norm.weight.view(shape) + norm.bias.view(shape)
    return torch.where(x > 0, x, slope * x)


def layers_of(net):
    return iter([m for m in net.modules() if isinstance(m, (nn.Linear, nn.BatchNorm1d))])


def head(x, layers, slope=0.0):
    x = step(step(x, layers, slope), layers, slope)
    last = next(layers)
    return x @ last.weight.T + last.bias


def transformed(x, layers):
    pooled = step(step(step(x, layers), layers), layers).amax(-1)
    entries = head(pooled, layers).view(len(x), x.shape[1], x.shape[1])
    return ((entries + torch.eye(x.shape[1])).mT @ x.flatten(2)).view_as(x)


def pointnet_plainly(net, points):
    layers = layers_of(net)
    x = transformed(points.mT, layers)
    x = transformed(step(step(x, layers), layers), layers)
    x = step(step(step(x, layers), layers), layers)
    return head(x.amax(-1), layers)


def dgcnn_plainly(net, points):
    layers, levels, x = layers_of(net), [], points
    for _ in range(4):
        distances = (x[:, :, None] - x[:, None]).square().sum(-1)
        graph = distances.argsort(dim=-1)[..., :10]
        near = x[torch.arange(len(x))[:, None, None], graph]
        itself = x[:, :, None].expand_as(near)
        edges = torch.cat((near - itself, itself), -1).permute(0, 3, 1, 2)
        x = step(edges, layers, 0.2).amax(-1).mT
        levels.append(x)
    high = step(torch.cat(levels, -1).mT, layers, 0.2)
    return head(torch.cat((high.amax(-1), high.mean(-1)), -1), layers, 0.2)


@both
def test_the_network_equals_its_plain_twin(name):
    net, points = lively(name), clouds()
    twin = {"PointNet": pointnet_plainly, "DGCNN": dgcnn_plainly}[name]
    assert torch.allclose(net(points), twin(net, points), rtol=0, atol=1e-10)


# Symmetries


@both
def test_logits_do_not_depend_on_the_order_of_the_points(name):
    net, points = lively(name), clouds()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    logits = net(points)
    assert torch.allclose(net(points[:, order]), logits, rtol=0, atol=1e-9)
    assert (logits[0] - logits[1]).abs().max() > 1e-3  # clouds are told apart at all


def test_the_graphs_of_dgcnn_are_relabeled_with_the_points():
    net, points = lively("DGCNN"), clouds()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    for graph, reordered in zip(net.choices(points), net.choices(points[:, order]), strict=True):
        assert torch.equal(order[reordered].sort(-1).values, graph[:, order].sort(-1).values)


@both
def test_a_cloud_gives_the_same_alone_and_in_a_batch(name):
    net, points = lively(name), clouds(4)
    together, graphs = net(points), net.choices(points)
    for i in range(4):
        assert torch.allclose(net(points[i : i + 1])[0], together[i], rtol=0, atol=1e-9)
        for graph, alone in zip(graphs, net.choices(points[i : i + 1]), strict=True):
            assert torch.equal(alone[0], graph[i])


@both
def test_neither_network_is_invariant_to_translation(name):
    net, points = lively(name), clouds()
    moved = points + torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    assert (net(moved) - net(points)).abs().max() > 1e-3


def test_the_first_graph_of_dgcnn_is_invariant_to_translation():
    net, points = lively("DGCNN"), clouds()
    moved = points + torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    first, *_, last = zip(net.choices(points), net.choices(moved), strict=True)
    assert torch.equal(first[0].sort(-1).values, first[1].sort(-1).values)
    assert not torch.equal(last[0].sort(-1).values, last[1].sort(-1).values)


def test_dgcnn_sees_the_place_of_a_cloud_only_through_the_points_themselves():
    """Without the columns of W for x_i in the first edge convolution it is invariant."""
    net, points = lively("DGCNN"), clouds()
    with torch.no_grad():
        net.features.convolutions[0].linear.weight[:, 3:] = 0
    moved = points + torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    assert torch.allclose(net(moved), net(points), rtol=0, atol=1e-9)


# Choices and gradients


@both
def test_kept_choices_give_the_same_logits_bit_for_bit(name):
    net, points = lively(name), clouds()
    kept = net.choices(points)
    assert len(kept) == {"PointNet": 0, "DGCNN": 4}[name]
    assert torch.equal(net(points, kept), net(points))
    moved = points + 0.3 * clouds(seed=5)
    same = torch.equal(net(moved, kept), net(moved))
    assert same == (name == "PointNet")  # kept choices are taken, not made anew


@both
def test_the_gradient_of_the_coordinates_matches_finite_differences(name):
    net, points = lively(name), clouds(2, 12).requires_grad_()
    kept = net.choices(points)

    def total(x):
        return (net(x, kept) * torch.arange(1, 6)).sum()

    (gradient,) = torch.autograd.grad(total(points), points)
    assert gradient.abs().max() > 1e-2
    generator = torch.Generator().manual_seed(3)
    for _ in range(6):
        way = torch.randn(points.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            slope = (total(points + 1e-6 * way) - total(points - 1e-6 * way)) / 2e-6
        assert slope.item() == pytest.approx((gradient * way).sum().item(), rel=1e-6, abs=1e-7)


@both
def test_points_that_all_coincide_give_finite_values_and_gradients(name):
    net = network(name).train()
    points = torch.ones(4, 15, 3, requires_grad=True)
    net(points).square().sum().backward()
    assert points.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_one_point_is_enough_for_pointnet():
    net = lively("PointNet")
    one = clouds(2, 1)
    assert torch.allclose(net(one), net(one.expand(2, 7, 3)), rtol=0, atol=1e-9)


def test_dgcnn_refuses_clouds_with_fewer_points_than_neighbors():
    net = lively("DGCNN")
    assert net(clouds(2, 10)).isfinite().all()
    with pytest.raises(KpnbError, match="9 points"):
        net(clouds(2, 9))


# Edge convolution against the tensor of all edges


def edges_plainly(layer, points, neighbors):
    clouds_of = torch.arange(len(points))[:, None, None]
    near = points[clouds_of, neighbors]
    itself = points[:, :, None].expand_as(near)
    mapped = layer.linear(torch.cat((near - itself, itself), dim=-1))
    images = layer.norm2d(mapped.permute(0, 3, 1, 2))
    return nn.functional.leaky_relu(images, 0.2).amax(-1).transpose(1, 2)


@pytest.mark.parametrize("training", [True, False])
def test_the_edge_convolution_equals_a_layer_on_all_edges(training):
    layer = dgcnn.EdgeConvolution(6, 7).double().train(training)
    initialize(layer, 0)
    generator = torch.Generator().manual_seed(4)
    points = torch.randn(3, 9, 6, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        layer.norm.weight.copy_(torch.linspace(-1, 1.4, 7))  # slopes of both signs
        layer.norm.bias.copy_(torch.linspace(-0.5, 0.5, 7))
        layer.norm.running_mean += 0.1
    twin = deepcopy(layer)
    twin.norm2d = nn.BatchNorm2d(7).double().train(training)
    twin.norm2d.load_state_dict(layer.norm.state_dict())
    neighbors = torch.randint(9, (3, 9, 4), generator=generator)

    ours, theirs = points.clone().requires_grad_(), points.clone().requires_grad_()
    got, expected = layer(ours, neighbors), edges_plainly(twin, theirs, neighbors)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)
    for key in ("running_mean", "running_var"):
        assert torch.allclose(getattr(layer.norm, key), getattr(twin.norm2d, key), atol=1e-12)
    way = torch.randn(got.shape, generator=generator, dtype=torch.float64)
    (got * way).sum().backward()
    (expected * way).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-11)
    for one, other in (
        (layer.linear, twin.linear),
        (layer.norm, twin.norm2d),
    ):
        assert torch.allclose(one.weight.grad, other.weight.grad, rtol=0, atol=1e-11)


# Transforms and their penalty


def test_at_first_the_transforms_are_the_identity():
    features = network("PointNet").features
    for transform, channels in ((features.input_transform, 3), (features.feature_transform, 16)):
        points = torch.randn(4, 9, channels, generator=torch.Generator().manual_seed(0))
        for training in (True, False):
            matrices = transform.train(training)(points)
            assert torch.equal(matrices, torch.eye(channels).expand(4, -1, -1))


def explicit_penalty(matrices, weight):
    excess = torch.eye(matrices.shape[-1], dtype=matrices.dtype) - matrices @ matrices.mT
    return weight * excess.square().sum(dim=(1, 2)).mean()


def test_the_pull_is_the_gradient_of_the_penalty():
    generator = torch.Generator().manual_seed(6)
    start = torch.randn(5, 4, 4, generator=generator, dtype=torch.float64)
    way = torch.randn(5, 4, 4, generator=generator, dtype=torch.float64)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    passed = pointnet.pulled_to_orthogonal(ours, 0.07)
    assert torch.equal(passed, start)
    (passed * way).sum().backward()
    ((theirs * way).sum() + explicit_penalty(theirs, 0.07)).backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-13)


def test_the_pull_on_a_scaled_and_on_a_rotated_identity():
    # ||I - c^2 I||^2 = 2 (1 - c^2)^2 for 2 x 2, slope 4 (c^2 - 1) c on each diagonal entry
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    both_kinds = torch.stack((3 * torch.eye(2, dtype=torch.float64), turn)).requires_grad_()
    (0 * pointnet.pulled_to_orthogonal(both_kinds)).sum().backward()
    expected = 0.001 / 2 * 4 * 8 * 3 * torch.eye(2, dtype=torch.float64)
    assert torch.allclose(both_kinds.grad[0], expected, rtol=0, atol=1e-15)
    assert both_kinds.grad[1].abs().max() < 1e-15


def gradients(net, points, penalty):
    """Gradients by parameter of the mean squared logits, the penalty added in the open or not."""
    seen = []
    hook = net.features.feature_transform.register_forward_hook(lambda *call: seen.append(call[2]))
    loss = net(points).square().mean()
    hook.remove()
    loss = loss + explicit_penalty(seen[0], 0.001) if penalty else loss
    return torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize("training", [True, False])
def test_every_parameter_is_trained_as_if_the_loss_had_the_penalty(training):
    net, points = lively("PointNet").train(training), clouds(4)
    pulled = gradients(net, points, penalty=False)
    net.features.feature_transform.orthogonal = False
    explicit = gradients(net, points, penalty=training)
    for one, other in zip(pulled, explicit, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    if training:
        without = gradients(net, points, penalty=False)
        gaps = [(one - other).abs().max() for one, other in zip(pulled, without, strict=True)]
        assert max(gaps) > 1e-4


def test_only_the_feature_transform_is_pulled():
    features = network("PointNet").features
    assert not features.input_transform.orthogonal
    assert features.feature_transform.orthogonal
