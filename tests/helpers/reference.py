"""Slow twins of what kpnb computes, none of which calls it; tiny networks and images."""

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CONSTANT = 0.5 * math.log(2 * math.pi * math.e)


@cache
def membership(height, width, cells):
    """(pixels, cells^2) of 0 and 1: which cell each pixel lies in, a nearest-neighbor grid."""
    found = torch.zeros(height * width, cells**2)
    for r in range(height):
        for c in range(width):
            cell = math.floor(r * cells / height) * cells + math.floor(c * cells / width)
            found[r * width + c, cell] = 1
    return found


def enlarge(values, height, width, cells):
    """One value per cell -> (height, width)."""
    return (membership(height, width, cells).to(values) @ values).view(height, width)


def cell_sums(image, cells):
    """(channels, height, width) -> (cells^2,), over channels too."""
    return image.sum(0).flatten() @ membership(*image.shape[1:], cells).to(image)


def column_norms(weight, shape, cells):
    """J_i of f(x) = W x: squared column norms of W, summed over the components of each cell."""
    return cell_sums(weight.square().sum(0).reshape(shape), cells)


def linear_optimum(J, weight, tau=0.01):
    """Entropies at the minimum of Eq. 3: sigma_i^2 = weight tau^2 / (2 n p_i), p_i = share of J."""
    return (0.5 * (weight * tau**2 * J.sum() / (2 * len(J) * J)).log() + CONSTANT).tolist()


def linear_path(J, weight, target, tau=0.01):
    """Entropies on the gradient flow of Eq. 3 from sigma = tau, where their mean is `target`."""
    p = J / J.sum()
    end = weight * tau**2 / (2 * len(J) * p)
    low, high = 0.0, 1.0
    for _ in range(200):
        time = (low + high) / 2
        square = end + (tau**2 - end) * (-4 * p * time / tau**2).exp()
        found = 0.5 * square.log() + CONSTANT
        low, high = (time, high) if found.mean() < target else (low, time)
    return found.tolist()


def published_descent(
    feature, x, cells, noise, draws, lr, iterations, extra_iterations,
    entropy_weight=7.0, target_entropy=-2.8, init_sigma=0.01,
):  # fmt: skip
    """sigma of one image x (channels, height, width) by the public code's procedure.

    feature: (1, ...) -> (1, d), ReLU included. noise(stream, number): standard normal like x.
    Loss: mean squared change of the feature over that under noise `init_sigma`, minus weight times
    the mean entropy; plain SGD; clamp to [0.001, 1]; the iterate nearest the target is kept; if the
    best of the first iterations is not above the target, the weight grows by half for some more.
    """

    def mean_change(sigma, stream, numbers):
        clean = feature(x.unsqueeze(0))
        step = enlarge(sigma, *x.shape[1:], cells)
        changes = [
            (feature((x + step * noise(stream, k)).unsqueeze(0)) - clean).square().mean()
            for k in numbers
        ]
        return sum(changes) / len(changes)

    sigma = torch.full((cells**2,), init_sigma, dtype=x.dtype, requires_grad=True)
    with torch.no_grad():
        variance = mean_change(sigma, "variance", range(draws))
    optimizer = torch.optim.SGD([sigma], lr=lr)
    best, distance, iterates, late = None, math.inf, [], False
    for iteration in range(iterations + extra_iterations):
        if iteration == iterations:
            late = bool((best.log() + CONSTANT).mean() <= target_entropy)
            if not late:
                break
            entropy_weight *= 1.5
        numbers = range(iteration * draws, (iteration + 1) * draws)
        entropy = (sigma.log() + CONSTANT).mean()
        loss = mean_change(sigma, "descent", numbers) / variance - entropy_weight * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            sigma.clamp_(1e-3, 1)
        iterates.append(sigma.detach().clone())
        away = abs(float((iterates[-1].log() + CONSTANT).mean()) - target_entropy)
        if away < distance:
            best, distance = iterates[-1], away
    variance = float(variance) * feature(x.unsqueeze(0)).numel()
    return SimpleNamespace(sigma=best, variance=variance, late=late, iterates=iterates)


def change_and_rates(feature, x, sigma, cells, draws, seed):
    """(E||y - y0||^2, D per cell) of one image under noise sigma (cells^2,), and standard errors.

    D_i = half the gradient of E||y - y0||^2 in log sigma_i, over sigma_i^2, from one backward pass
    a draw: E[eps_i . J_i^T (y - y0)] / sigma_i.
    """
    eps = torch.randn(draws, *x.shape, generator=generator(seed), dtype=x.dtype)
    noisy = (x + enlarge(sigma, *x.shape[1:], cells) * eps).requires_grad_()
    change = (feature(noisy) - feature(x.unsqueeze(0))).flatten(1).square().sum(1)
    (slope,) = torch.autograd.grad(change.sum() / 2, noisy)
    by_pixel = (slope * eps).sum(1).flatten(1)
    rates = by_pixel @ membership(*x.shape[1:], cells).to(x) / sigma
    errors = change.detach().std() / draws**0.5, rates.std(0) / draws**0.5
    return (change.detach().mean(), rates.mean(0)), errors


def naive_points(entropy, foreground, threshold, baseline):
    """(foreground points, background points): one set of unit indices per sample, Eq. 5-7."""
    levels = []
    for h, fg in zip(entropy.tolist(), foreground.tolist(), strict=True):
        outside = [value for value, inside in zip(h, fg, strict=True) if not inside]
        levels.append(sum(outside) / len(outside))
    if baseline == "dataset":
        levels = [sum(levels) / len(levels)] * len(levels)
    found = []
    for h, fg, level in zip(entropy.tolist(), foreground.tolist(), levels, strict=True):
        low = {i for i, value in enumerate(h) if level - value > threshold}
        inside = {i for i, flag in enumerate(fg) if flag}
        found.append((low & inside, low - inside))
    return [f for f, _ in found], [b for _, b in found]


def naive_ratio(n_fg, n_bg):
    return n_fg / (n_fg + n_bg) if n_fg + n_bg else 0.0


def naive_distance(counts, distance):
    """Eq. 8's inner sum for one sample: the distance at the first epoch with most points."""
    return distance[counts.index(max(counts))]


def naive_stability(sets):
    """Eq. 9 for one sample: sets of foreground points by epoch."""
    union = set().union(*sets)
    return len(sets[-1]) / len(union) if union else 0.0


def spearman(first, second):
    """Pearson's correlation of the ranks, ties sharing their mean rank, by counting."""
    ranks = [
        [sum(o < v for o in row) + sum(o == v for o in row) / 2 for v in row]
        for row in ([float(v) for v in values] for values in (first, second))
    ]
    return float(np.corrcoef(ranks)[0, 1])


def generator(seed):
    return torch.Generator().manual_seed(seed)


def images(count, size=8, seed=0, dtype=torch.float32):
    return torch.randn(count, 3, size, size, generator=generator(seed), dtype=dtype)


def linear_net(d, size=8, seed=0):
    """f(x) = W x + c in float64 with columns of very different norm; the layer is "1"."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * size**2, d)).double()
    scale = torch.exp(0.5 * torch.randn(3 * size**2, generator=generator(seed + 1)))
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(d, 3 * size**2, generator=generator(seed)) * scale)
        net[1].bias.fill_(0.3)
    return net


def conv_net(size=8, seed=0, outputs=6):
    """Convolutions, in-place ReLUs, max-pooling and a linear feature: layers "0" "3" "7"."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        second = nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        last = nn.Flatten(), nn.Linear(8 * (size // 4) ** 2, outputs)
        return nn.Sequential(*first, *second, *last)


def trained_conv_net(size=16, steps=60):
    """conv_net taught to tell in which quarter of a noisy image a bright square lies."""
    net = conv_net(size, seed=1, outputs=16)
    with torch.random.fork_rng():
        torch.manual_seed(1)  # not what other tests left behind
        head = nn.Linear(16, 4)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 3e-3)
    for step in range(steps):
        x, label = square_images(32, size, seed=step)
        loss = functional.cross_entropy(head(net(x).relu()), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.requires_grad_(False), float(loss.detach())


def square_images(count, size=16, seed=0):
    """(images, quarter): noise with a bright square in one of four quarters."""
    half = size // 2
    x = 0.5 * torch.randn(count, 3, size, size, generator=generator(seed))
    label = torch.randint(4, (count,), generator=generator(seed + 1000))
    for image, quarter in zip(x, label.tolist(), strict=True):
        top, left = half * (quarter // 2), half * (quarter % 2)
        image[:, top : top + half, left : left + half] += 1.5
    return x, label
