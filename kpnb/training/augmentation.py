"""Random changes to training images that keep their class; masks are not carried along.

`flip_and_shift` is ours, for the embedded images; `crop_and_flip` and `strong` are as published,
for images of a real data set, but for these differences from the public code, which augments one
picture at a time with Pillow:
1. A random crop of an image resized to 8/7 of its side (256 for 224) is a window of 7/8 of the
   image, read with one bilinear interpolation, not two.
2. Everything is done to a batch at once, on its device, from one generator on the CPU: the same
   seed gives the same draws whatever the device.
3. Strong color changes (Table IV's teacher) are brightness, contrast and saturation, each by a
   factor of 0.2 to 1.8; hue is left as it is.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from kpnb.datasets.prepared import normalized
from kpnb.datasets.samples import normalization

CROP = 7 / 8  # 224 of 256 pixels, public code
DEGREES = 30.0  # public code, Table IV's teacher
COLOR = 0.8


def flip_and_shift(images: Tensor, generator: torch.Generator, shift: int = 4) -> Tensor:
    """Each image flipped left-right with probability 1/2 and moved by up to `shift` pixels.

    images: (n, c, h, w); the border that a move uncovers repeats the edge pixels. All draws come
    from `generator` (on the CPU). Ours; the published code flips and crops where it augments.
    """
    n, _, height, width = images.shape
    flip = torch.rand(n, generator=generator) < 0.5
    down, right = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator)
    rows = (torch.arange(height) + down).clamp(0, height - 1)  # (n, h)
    columns = (torch.arange(width) + right).clamp(0, width - 1)  # (n, w)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    each = torch.arange(n, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return moved.permute(0, 3, 1, 2).contiguous()


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random window of 7/8 of each side, flipped left-right with probability 1/2.

    images: (n, 3, s, s), bytes or normalized; the result is normalized, (n, 3, s, s). The public
    code's augmentation for Pascal VOC and ILSVRC.
    """
    images = normalized(images)
    flip, shift = _flips_and_shifts(len(images), generator)
    return _moved(images, flip, shift, torch.zeros(len(images)), CROP)


def strong(images: Tensor, generator: torch.Generator) -> Tensor:
    """A flip, a turn of up to 30 degrees and strong changes of color: Table IV's teacher.

    images and result as for `crop_and_flip`. What a turn uncovers repeats the edge.
    """
    images, count = normalized(images), len(images)
    flip, _ = _flips_and_shifts(count, generator)
    angle = (2 * torch.rand(count, generator=generator) - 1) * math.radians(DEGREES)
    factors = 1 + COLOR * (2 * torch.rand(3, count, generator=generator) - 1)
    turned = _moved(images, flip, torch.zeros(count, 2), angle, 1.0)
    return _recolored(turned, *factors.to(images.device))


def _flips_and_shifts(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n,) -1 or 1, and (n, 2) windows' centers in units of half the image's side."""
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - CROP)
    return flip, shift


def _moved(images: Tensor, flip: Tensor, shift: Tensor, angle: Tensor, side: float) -> Tensor:
    """Each image read through its own window: turned, flipped and moved."""
    cos, sin = side * angle.cos(), side * angle.sin()
    rows = [torch.stack([flip * cos, -sin, shift[:, 0]], 1)]
    rows += [torch.stack([flip * sin, cos, shift[:, 1]], 1)]
    grid = affine_grid(torch.stack(rows, 1).to(images), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _recolored(images: Tensor, bright: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Brightness, contrast and saturation of RGB in [0, 1], each by its factor."""
    mean, std = (part.to(images.device) for part in normalization())
    rgb = (images * std + mean).clamp(0, 1)
    rgb = (rgb * bright.view(-1, 1, 1, 1)).clamp(0, 1)
    gray = _gray(rgb).mean((2, 3), keepdim=True)
    rgb = (gray + (rgb - gray) * contrast.view(-1, 1, 1, 1)).clamp(0, 1)
    gray = _gray(rgb)
    rgb = (gray + (rgb - gray) * saturation.view(-1, 1, 1, 1)).clamp(0, 1)
    return (rgb - mean) / std


def _gray(rgb: Tensor) -> Tensor:
    """(n, 1, s, s) luma of ITU-R BT.601, as Pillow's and torchvision's."""
    weights = rgb.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (rgb * weights).sum(1, keepdim=True)
