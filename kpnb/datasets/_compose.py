"""One image of the embedded data: a cut-out pasted on part of a photograph, with its mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kpnb.datasets._packed import CutOut, Photo

OBJECT_SIDE = (0.5, 0.8)  # longest side of the object over the side of the image
WINDOW_SIDE = (0.6, 1.0)  # side of the background window over the side of the packed crop


@dataclass(frozen=True)
class Recipe:
    """Everything drawn for one image; lengths in pixels of the image, `window` of the photo."""

    cut_out: CutOut
    photo: Photo
    size: tuple[int, int]  # width, height of the resized object
    corner: tuple[int, int]  # x, y of its upper left corner
    flip_object: bool
    window: tuple[float, float, float, float]  # left, upper, right, lower
    flip_photo: bool


def draw_recipe(
    rng: np.random.Generator,
    cut_outs: Sequence[CutOut],
    photos: Mapping[str, Sequence[Photo]],
    side: int,
) -> Recipe:
    """Draw an image of `side` pixels: every object, photograph and place is equally likely."""
    cut_out = cut_outs[rng.integers(len(cut_outs))]
    crops = photos[list(photos)[rng.integers(len(photos))]]
    photo = crops[rng.integers(len(crops))]
    size = _object_size(cut_out.picture.size, rng.uniform(*OBJECT_SIDE) * side)
    corner = tuple(int(rng.integers(side - length + 1)) for length in size)
    full = photo.picture.width
    width = rng.uniform(*WINDOW_SIDE) * full
    left, upper = rng.uniform(0, full - width, size=2)
    window = (float(left), float(upper), float(left + width), float(upper + width))
    flip_object, flip_photo = (bool(flip) for flip in rng.integers(2, size=2))
    return Recipe(cut_out, photo, size, corner, flip_object, window, flip_photo)


def _object_size(size: tuple[int, int], longest: float) -> tuple[int, int]:
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def render(recipe: Recipe, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture (side, side, 3) float32 in [0, 1] and its mask (side, side) bool.

    The picture is colour * alpha + background * (1 - alpha); the mask is alpha > 0.5. Resizing
    averages (bilinear with support) the colour premultiplied by alpha, so that what a cut-out hides
    under transparent pixels never shows.
    """
    picture = _background(recipe, side)
    mask = np.zeros((side, side), dtype=bool)
    layer = _object(recipe)
    x, y = recipe.corner
    place = slice(y, y + layer.shape[0]), slice(x, x + layer.shape[1])
    alpha = layer[..., 3:]
    picture[place] = layer[..., :3] + picture[place] * (1 - alpha)
    mask[place] = _mask(alpha[..., 0])
    return picture, mask


def _background(recipe: Recipe, side: int) -> np.ndarray:
    photo = recipe.photo.picture
    resized = photo.resize((side, side), Image.Resampling.BILINEAR, box=recipe.window)
    return _pixels(resized, recipe.flip_photo)


def _object(recipe: Recipe) -> np.ndarray:
    resized = recipe.cut_out.picture.resize(recipe.size, Image.Resampling.BILINEAR)
    return _pixels(resized, recipe.flip_object)


def _pixels(picture: Image.Image, flip: bool) -> np.ndarray:
    values = np.asarray(picture, dtype=np.float32) / 255
    return values[:, ::-1].copy() if flip else values


def _mask(alpha: np.ndarray) -> np.ndarray:
    """alpha > 0.5; where a very thin object has no such pixel, its most opaque pixels."""
    mask = alpha > 0.5
    return mask if mask.any() else alpha == alpha.max()
