"""A prepared folder of small pictures drawn by seed: each class a color on noise."""

import json
from pathlib import Path

import numpy as np

from kpnb.datasets.prepared import FORMAT
from kpnb.fingerprint import file_hash


def prepared_folder(folder: Path, size: int = 32, per_class: int = 12, classes: int = 3) -> Path:
    """Writes the folder and returns it; a class's pictures stand one after the other."""
    folder.mkdir(parents=True)
    rng, splits = np.random.default_rng(0), {}
    for split, count in (("train", per_class), ("test", max(2, per_class // 2))):
        labels = np.repeat(np.arange(classes), count)
        masks = np.zeros((len(labels), size, size), bool)
        masks[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = True
        pixels = rng.integers(0, 120, (len(labels), 3, size, size))
        for image, label, mask in zip(pixels, labels, masks, strict=True):
            image[label % 3][mask] += 120
        packed = np.packbits(masks.reshape(len(labels), -1), axis=1)
        arrays = {"pixels": pixels.astype(np.uint8), "labels": labels, "masks": packed}
        for name, array in arrays.items():
            np.save(folder / f"{split}_{name}.npy", array)
        names = [f"{split}/{i}" for i in range(len(labels))]
        (folder / f"{split}_names.json").write_text(json.dumps(names))
        splits[split] = {"count": len(labels), "files": entries(folder, split)}
    about = {"format": FORMAT, "dataset": "Colors", "name": "colors", "size": size}
    about |= {"classes": [f"class {i}" for i in range(classes)], "foreground": "outline"}
    (folder / "manifest.json").write_text(json.dumps(about | {"splits": splits}))
    return folder


def entries(folder: Path, split: str) -> dict:
    files = sorted(folder.glob(f"{split}_*"))
    return {f.name: {"sha256": file_hash(f), "bytes": f.stat().st_size} for f in files}
