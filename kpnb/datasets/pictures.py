"""Picture files of one's own, and masks of them, in the form that ImageNet's networks are given."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from kpnb.datasets.samples import IMAGENET_MEAN, IMAGENET_STD
from kpnb.errors import KpnbError, remedy, require

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
#: Shorter side of the resized picture over the side of its crop, as torchvision's 256 and 224.
MARGIN = 256 / 224


def picture_files(places: Iterable[str | Path]) -> list[Path]:
    """The files named and, of folders, the pictures inside in order of their names.

    Raises KpnbError for a place that is not there, no picture, and two files of one name, which
    masks and tables could not tell apart.
    """
    found: list[Path] = []
    for place in (Path(place).expanduser() for place in places):
        if not place.exists():
            raise KpnbError(f"there is no file or folder {place}: name pictures or their folder.")
        # Of a folder by their ending, and no file that macOS leaves beside one (._*).
        inside = [f for f in sorted(place.glob("[!.]*")) if f.name.lower().endswith(SUFFIXES)]
        found += inside if place.is_dir() else [place]
    require(found, f"there is no picture: give files, or a folder with {', '.join(SUFFIXES)}.")
    names = [file.stem for file in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    require(twice is None, f"two pictures are named {twice}: give them names of their own.")
    return found


def read_pictures(files: Sequence[Path], size: int) -> np.ndarray:
    """(n, size, size, 3) float32 in [0, 1]: the shorter side resized to `MARGIN` times the size,
    then the middle, as torchvision's classification transform does. KpnbError for what is no
    picture."""
    found = [_middle(_opened(file).convert("RGB"), size) for file in files]
    return np.stack(found).astype(np.float32) / 255


def as_inputs(
    pictures: np.ndarray, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Pictures (n, size, size, 3) in [0, 1] as inputs (n, 3, size, size), by mean and standard
    deviation of red, green and blue."""
    center, spread = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).sub(center).div(spread)


def read_masks(files: Sequence[Path], masks: Iterable[str | Path], size: int) -> np.ndarray:
    """(n, size, size) the masks of some pictures, resized and cropped as these; numbers as in the
    files, of which `GridUnits.foreground` says what they may be.

    masks: files or folders; a picture's mask has its name, whatever their endings. Raises KpnbError
    for a picture without a mask and a mask of another size than its picture.
    """
    by_name, found = {file.stem: file for file in picture_files(masks)}, []
    for file in files:
        require(file.stem in by_name, f"{file.name} has no mask: name one {file.stem}.png.")
        mask, picture = _opened(by_name[file.stem]), _opened(file)
        told = f"the mask of {file.name} has {mask.size} pixels, the picture {picture.size}"
        require(mask.size == picture.size, f"{told}: make them equal.")
        one = mask if mask.mode in ("1", "L", "P", "I", "I;16") else mask.convert("L")
        one = one.convert("L") if one.mode == "1" else one  # 0 and 255
        found.append(_middle(one, size, InterpolationMode.NEAREST))
    return np.stack(found).astype(np.int64)


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            picture.load()
            return picture
    except (OSError, UnidentifiedImageError) as error:
        told = f"{file} is no picture that can be read ({error})"
        raise KpnbError(f"{told}: {remedy(error, 'leave it out')}.") from error


def _middle(
    picture: Image.Image, size: int, how: InterpolationMode = InterpolationMode.BILINEAR
) -> np.ndarray:
    return np.asarray(center_crop(resize(picture, round(size * MARGIN), how), size))
