"""Image data sets that `data_prep` has prepared: one folder of pixels, labels and masks.

Their images stay bytes, a quarter of the memory, and become numbers where they are needed. A whole
data set then fits onto one GPU (CUB-200-2011's 5,994 training images of 224 x 224 pixels take 0.9
GB), so that no epoch waits for a disk or a decoder.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from kpnb.datasets.samples import SPLITS, ImageSamples, normalization, require_int, require_split
from kpnb.errors import KpnbError, require
from kpnb.fingerprint import fingerprint, known_hash


def normalized(images: Tensor) -> Tensor:
    """Bytes as float32 with ImageNet's mean and standard deviation; floats as they are."""
    if images.dtype != torch.uint8:
        return images
    mean, std = (part.to(images.device) for part in normalization())
    return images.float().div_(255).sub_(mean).div_(std)


def takes_bytes(net: nn.Module) -> nn.Module:
    """Lets `net`, in place, take images as bytes too; they are normalized on the net's device.

    A hook before the forward pass, so state dict, layers' names and the way a float input takes are
    as before.
    """
    net.register_forward_pre_hook(lambda net, args: (normalized(args[0]), *args[1:]))
    return net


FORMAT = "kpnb-images-1"
MANIFEST = "manifest.json"
BLOCK = 512  # images resized at a time, to bound memory


def prepared_images(folder: str | Path, split: str, image_size: int | None = None) -> ImageSamples:
    """All images of a split as bytes, in the folder's order.

    folder: what `python -m data_prep.<name>` wrote. image_size: side in pixels; None is the
    folder's own, at which pixels are read from disk as they are needed. Another one is reached by
    antialiased bilinear resizing of images, rounded to bytes, and by nearest pixels of masks.
    `source`: see `Samples`; with image_size, classes and foreground (outline, box or block).
    Raises `KpnbError` for another split, a folder that is not prepared, a file that is missing,
    damaged or of another size than the manifest says.
    """
    folder, known = Path(folder), manifest(folder)
    require_split(split)
    own, count = known["size"], known["splits"][split]["count"]
    for name, entry in known["splits"][split]["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise KpnbError(f"{folder} lacks the file {name!r} of its manifest: {_ADVICE}.")
        if known_hash(path) != entry["sha256"]:
            raise KpnbError(f"{path} is damaged, its SHA-256 is not the manifest's: {_ADVICE}.")
    pixels = _array(folder, f"{split}_pixels.npy", np.uint8, (count, 3, own, own))
    labels = _array(folder, f"{split}_labels.npy", np.int64, (count,))
    packed = _array(folder, f"{split}_masks.npy", np.uint8, (count, -(-own * own // 8)))
    if not 0 <= labels.min() <= labels.max() < len(known["classes"]):
        raise KpnbError(f"{folder} has labels that are no class of it: {_ADVICE}.")
    masks = np.unpackbits(packed, axis=1, count=own * own).reshape(count, own, own).astype(bool)
    size = own if image_size is None else image_size
    require_int("image_size", size, 16, 1024)
    source = dict(dataset=known["dataset"], split=split, count=count, image_size=size)
    source |= dict(classes=known["classes"], foreground=known["foreground"])
    source |= dict(data=prepared_hash(folder), parts=[])
    images, masks = _resized(torch.from_numpy(pixels), torch.from_numpy(masks), size)
    labels = torch.from_numpy(labels.copy())
    return ImageSamples(images, labels, masks, tuple(known["classes"]), source)


def manifest(folder: str | Path) -> dict:
    """What a prepared folder says of itself; KpnbError where there is none or it is not whole."""
    path = Path(folder) / MANIFEST
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        whole = known["format"] == FORMAT and all(split in known["splits"] for split in SPLITS)
        whole = whole and {"dataset", "classes", "size", "foreground"} <= known.keys()
    except FileNotFoundError:
        raise KpnbError(f"{folder} has no {MANIFEST}: {_ADVICE}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KpnbError(f"{path} cannot be read ({error}): {_ADVICE}.") from error
    require(whole, f"{path} is not of the format {FORMAT}: {_ADVICE}.")
    return known


def prepared_hash(folder: str | Path) -> str:
    """One hash for all that a prepared folder holds, from the hashes in its manifest."""
    known = manifest(folder)
    files = {split: known["splits"][split]["files"] for split in SPLITS}
    return fingerprint({"files": files, "classes": known["classes"], "size": known["size"]})


_ADVICE = "prepare the data set with its script in data_prep/ and pass the folder it prints"


def _array(folder: Path, name: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """One array of the folder, copied on write so that nothing can change the file."""
    try:
        found = np.load(folder / name, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise KpnbError(f"{folder / name} cannot be read ({error}): {_ADVICE}.") from error
    if found.dtype != dtype or found.shape != shape:
        raise KpnbError(
            f"{folder / name} holds {found.dtype} {found.shape}, not {np.dtype(dtype)} {shape}: "
            f"{_ADVICE}."
        )
    return found


def _resized(pixels: Tensor, masks: Tensor, size: int) -> tuple[Tensor, Tensor]:
    if pixels.shape[-1] == size:
        return pixels, masks
    shape = (size, size)
    smooth = dict(size=shape, mode="bilinear", antialias=True)
    parts = [interpolate(part.float(), **smooth) for part in pixels.split(BLOCK)]
    images = torch.cat([part.round_().clamp_(0, 255).byte() for part in parts])
    nearest = [interpolate(part[:, None].float(), shape)[:, 0] > 0.5 for part in masks.split(BLOCK)]
    return images, torch.cat(nearest)
