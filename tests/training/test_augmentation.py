"""Random changes to training images: where pixels go, and that color and class stay."""

import pytest
import torch
from reference import generator
from torch.nn.functional import pad

from kpnb.datasets.prepared import normalized
from kpnb.training.augmentation import crop_and_flip, flip_and_shift, strong


def test_flip_and_shift_moves_pixels_as_stated():
    image = torch.arange(2 * 6 * 6, dtype=torch.float32).reshape(1, 2, 6, 6)
    padded = pad(image, (1, 1, 1, 1), mode="replicate")
    cut = [padded[0, :, d : d + 6, r : r + 6] for d in range(3) for r in range(3)]
    moves = torch.stack(cut + [part.flip(2) for part in cut])  # slowly: by the edge, cut out, flip
    moved = flip_and_shift(image.repeat(300, 1, 1, 1), generator(0), shift=1)
    matches = (moved[:, None] == moves).flatten(2).all(2)  # (300, 18)
    assert matches.sum(1).eq(1).all() and matches.any(0).all()  # all flips and moves occur


@pytest.mark.parametrize("augment", [crop_and_flip, strong])
def test_augmentation_keeps_a_gray_image_gray_and_repeats_itself(augment):
    images = torch.full((5, 3, 16, 16), 128, dtype=torch.uint8)
    first, again = augment(images, generator(0)), augment(images, generator(0))
    assert torch.equal(first, again) and first.shape == images.shape
    assert first.dtype == torch.float32 and first.isfinite().all()
    assert torch.allclose(first, first[..., :1, :1].expand_as(first), atol=1e-4)


def test_a_crop_is_a_window_of_seven_eighths_perhaps_flipped_and_strong_turns_and_recolors():
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)  # its value is where a pixel stands
    found = crop_and_flip(ramp, generator(0))[:, 0]
    left, right = found[:, 0, 0], found[:, 0, -1]
    assert 60 < (right < left).sum() < 140  # flipped
    width = (right - left).abs() * 63
    assert torch.allclose(width, torch.full_like(width, 63 * 7 / 8), atol=0.6)
    assert min(left.min(), right.min()) >= 0 and max(left.max(), right.max()) <= 1
    assert torch.minimum(left, right).std() > 0.02  # windows move
    images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    black = normalized(images)
    assert torch.allclose(strong(images, generator(0)), black, atol=1e-5)
    images[:, 0, :16] = 200  # a red upper half
    plain, found = normalized(images), strong(images, generator(0))
    assert (found - plain).abs().mean() > 0.2
    assert found.std(0).mean() > 0.2  # each image in its own way
