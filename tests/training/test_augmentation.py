"""Random changes to training images: where pixels go, and that color and class stay."""

import pytest
import torch
from torch import nn

from kpnb.datasets.prepared import normalized
from kpnb.training.augmentation import crop_and_flip, flip_and_shift, strong


def test_flip_and_shift_moves_pixels_as_stated():
    image = torch.arange(2 * 6 * 6, dtype=torch.float32).reshape(1, 2, 6, 6)
    found = set()
    for seed in range(300):
        out = flip_and_shift(image, torch.Generator().manual_seed(seed), shift=1)
        matches = [
            (flip, down, right)
            for flip in (False, True)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if torch.equal(out, reference_move(image, flip, down, right))
        ]
        assert len(matches) == 1
        found |= set(matches)
    assert len(found) == 18  # both flips and all nine moves occur


def reference_move(image, flip, down, right):
    """Pad by the edge, cut out, flip: slowly."""
    padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    out = padded[:, :, 1 + down : 7 + down, 1 + right : 7 + right]
    return out.flip(3) if flip else out


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augment", [crop_and_flip, strong])
def test_augmentation_keeps_a_gray_image_gray_and_repeats_itself(augment):
    images = torch.full((5, 3, 16, 16), 128, dtype=torch.uint8)
    first, again = augment(images, draws()), augment(images, draws())
    assert torch.equal(first, again) and first.shape == images.shape
    assert first.dtype == torch.float32 and first.isfinite().all()
    each = first.flatten(2)
    assert torch.allclose(each, each[:, :, :1].expand_as(each), atol=1e-4)


def test_a_crop_is_a_window_of_seven_eighths_perhaps_flipped():
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)  # its value is where a pixel stands
    found = crop_and_flip(ramp, draws())[:, 0]
    left, right = found[:, 0, 0], found[:, 0, -1]
    flipped = right < left
    assert 60 < flipped.sum() < 140
    width = (right - left).abs() * 63
    assert torch.allclose(width, torch.full_like(width, 63 * 7 / 8), atol=0.6)
    assert min(left.min(), right.min()) >= 0 and max(left.max(), right.max()) <= 1
    assert torch.minimum(left, right).std() > 0.02  # windows move


def test_strong_turns_and_recolors():
    images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    images[:, 0, :16] = 200  # a red upper half
    plain, found = normalized(images), strong(images, draws())
    assert (found - plain).abs().mean() > 0.2
    assert found.std(0).mean() > 0.2  # each image in its own way
    black = strong(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), draws())
    assert torch.allclose(black, normalized(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), atol=1e-5)
