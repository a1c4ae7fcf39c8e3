"""Slow twins of what kpnb computes, from the equations, one image and one loop at a time.

Nothing here calls kpnb: a test that compares the two finds an error in either. Also the tiny
networks and images that the tests share.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

CONSTANT = 0.5 * math.log(2 * math.pi * math.e)


# --- grids ------------------------------------------------------------------------------------


def cell_of_pixel(row, column, height, width, cells):
    """Index of the cell that pixel (row, column) lies in, a nearest-neighbor enlarged grid."""
    return math.floor(row * cells / height) * cells + math.floor(column * cells / width)


def enlarge(values, height, width, cells):
    """One value per cell -> (height, width), pixel by pixel."""
    rows = [
        torch.stack([values[cell_of_pixel(r, c, height, width, cells)] for c in range(width)])
        for r in range(height)
    ]
    return torch.stack(rows)


def cell_sums(image, cells):
    """(channels, height, width) -> (cells^2,), pixel by pixel."""
    channels, height, width = image.shape
    sums = torch.zeros(cells**2, dtype=image.dtype)
    for channel in range(channels):
        for r in range(height):
            for c in range(width):
                sums[cell_of_pixel(r, c, height, width, cells)] += image[channel, r, c]
    return sums


# --- closed forms for a linear feature --------------------------------------------------------


def column_norms(weight, shape, cells):
    """J_i of f(x) = W x: squared column norms of W, summed over the components of each cell."""
    return cell_sums(weight.square().sum(0).reshape(shape), cells)


def linear_optimum(J, weight, tau=0.01):
    """Entropies at the minimum of Eq. 3: sigma_i^2 = weight tau^2 / (2 n p_i), p_i = share of J."""
    return [
        0.5 * math.log(weight * tau**2 / (2 * len(J) * float(j / J.sum()))) + CONSTANT for j in J
    ]


def linear_path(J, weight, target, tau=0.01):
    """Entropies on the gradient flow of Eq. 3 from sigma = tau, where their mean is `target`."""

    def at(time):
        entropies = []
        for j in J:
            p = float(j / J.sum())
            end = weight * tau**2 / (2 * len(J) * p)
            square = end + (tau**2 - end) * math.exp(-4 * p * time / tau**2)
            entropies.append(0.5 * math.log(square) + CONSTANT)
        return entropies

    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if sum(at(middle)) / len(J) < target:
            low = middle
        else:
            high = middle
    return at(high)


# --- the published procedure ------------------------------------------------------------------


@dataclass
class Descent:
    """What the published procedure did on one image."""

    sigma: torch.Tensor
    variance: float
    late: bool = False
    iterates: list = field(default_factory=list)

    @property
    def clamped(self):
        return any(bool(((s == 1e-3) | (s == 1)).any()) for s in self.iterates)


def published_descent(
    feature,
    x,
    cells,
    noise,
    weight=7.0,
    target=-2.8,
    init=0.01,
    draws=96,
    lr=1e-4,
    iterations=60,
    extra_iterations=20,
):
    """sigma of one image x (channels, height, width) by the public code's procedure.

    feature: (1, ...) -> (1, d), ReLU included. noise(stream, number): standard normal like x.
    Loss: mean squared change of the feature over the mean squared change under noise `init`, minus
    weight times the mean entropy; plain SGD; clamp to [0.001, 1]; the iterate whose mean entropy is
    nearest the target is kept; if the best of the first iterations is not above the target, the
    weight grows by half for some more.
    """

    def mean_change(sigma, stream, numbers):
        clean = feature(x.unsqueeze(0))
        step = enlarge(sigma, *x.shape[1:], cells)
        changes = [
            (feature((x + step * noise(stream, k)).unsqueeze(0)) - clean).square().mean()
            for k in numbers
        ]
        return sum(changes) / len(changes)

    sigma = torch.full((cells**2,), init, dtype=x.dtype, requires_grad=True)
    with torch.no_grad():
        variance = mean_change(sigma, "variance", range(draws))
    optimizer = torch.optim.SGD([sigma], lr=lr)
    best, distance = None, math.inf
    found = Descent(sigma, float(variance) * feature(x.unsqueeze(0)).numel())
    for iteration in range(iterations + extra_iterations):
        if iteration == iterations:
            found.late = bool((best.log() + CONSTANT).mean() <= target)
            if not found.late:
                break
            weight *= 1.5
        numbers = range(iteration * draws, (iteration + 1) * draws)
        entropy = (sigma.log() + CONSTANT).mean()
        loss = mean_change(sigma, "descent", numbers) / variance - weight * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            sigma.clamp_(1e-3, 1)
        found.iterates.append(sigma.detach().clone())
        away = abs(float((sigma.detach().log() + CONSTANT).mean()) - target)
        if away < distance:
            best, distance = sigma.detach().clone(), away
    found.sigma = best
    return found


# --- the feature's squared change, draw by draw -----------------------------------------------


def change_and_rates(feature, x, sigma, cells, draws, seed, piece=2000):
    """(E||y - y0||^2, D per cell) of one image under noise sigma (cells^2,), by brute force.

    D_i = half the gradient of E||y - y0||^2 in log sigma_i, over sigma_i^2, from one backward pass
    a draw: E[eps_i . J_i^T (y - y0)] / sigma_i. Also their standard errors, for the tests' bounds.
    """
    made = generator(seed)
    clean = feature(x.unsqueeze(0)).detach()
    changes, rates = [], []
    for start in range(0, draws, piece):
        eps = torch.randn(min(piece, draws - start), *x.shape, generator=made, dtype=x.dtype)
        noisy = (x + enlarge(sigma, *x.shape[1:], cells) * eps).requires_grad_()
        change = (feature(noisy) - clean).flatten(1).square().sum(1)
        (slope,) = torch.autograd.grad(change.sum() / 2, noisy)
        changes.append(change.detach())
        by_pixel = (slope * eps).sum(1).flatten(1)
        rates.append(by_pixel @ membership(x.shape[1:], cells).to(x.dtype) / sigma)
    changes, rates = torch.cat(changes), torch.cat(rates)
    errors = changes.std() / draws**0.5, rates.std(0) / draws**0.5
    return (changes.mean(), rates.mean(0)), errors


def membership(size, cells):
    """(pixels, cells^2) of 0 and 1: which cell each pixel lies in."""
    height, width = size
    found = torch.zeros(height * width, cells**2)
    for r in range(height):
        for c in range(width):
            found[r * width + c, cell_of_pixel(r, c, height, width, cells)] = 1
    return found


# --- Equations 5 to 9 -------------------------------------------------------------------------


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
    best = 0
    for epoch, count in enumerate(counts):
        if count > counts[best]:
            best = epoch
    return distance[best]


def naive_stability(sets):
    """Eq. 9 for one sample: sets of foreground points by epoch."""
    union = set().union(*sets)
    return len(sets[-1]) / len(union) if union else 0.0


def rank(values):
    """Rank of each value, ties sharing their mean rank, by counting."""
    return [
        1 + sum(other < value for other in values) + (sum(o == value for o in values) - 1) / 2
        for value in values
    ]


def spearman(first, second):
    """Pearson's correlation of the ranks, summed out."""
    a, b = rank([float(v) for v in first]), rank([float(v) for v in second])
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((u - mean_a) * (v - mean_b) for u, v in zip(a, b, strict=True))
    spread_a = sum((u - mean_a) ** 2 for u in a)
    spread_b = sum((v - mean_b) ** 2 for v in b)
    return covariance / math.sqrt(spread_a * spread_b)


# --- tiny networks and images -----------------------------------------------------------------


def generator(seed):
    return torch.Generator().manual_seed(seed)


def images(count, size=8, seed=0, dtype=torch.float32):
    return torch.randn(count, 3, size, size, generator=generator(seed), dtype=dtype)


def smooth_images(count, size=16, seed=0):
    """Images without texture: a 3 x 3 random field, enlarged."""
    coarse = torch.randn(count, 3, 3, 3, generator=generator(seed))
    return functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


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
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * (size // 4) ** 2, outputs),
        )


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
