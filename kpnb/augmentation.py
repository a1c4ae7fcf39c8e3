"""Random changes to training images that keep their class; masks are not carried along."""

import torch
from torch import Tensor


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
