"""The packed point clouds, checked and read in memory, and their split."""

from __future__ import annotations

import hashlib
import io
from functools import cache

import numpy as np

from kpnb.datasets._packed import held_out
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

FILES = {"furniture": "furniture.npz", "components": "components.npz"}
PACKED_SHA256 = {
    "furniture.npz": "d236775d398939bff38822e1342660e7a24662719b45473fdaf860ad2cc4fc15",
    "components.npz": "09d16c17656b7f8fa63902b1b0a351e8bb11431e25d4a59bb2ac526ca0c58ee4",
}


def packed_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of packed file `name` once its SHA-256 has been checked.

    points (m, 1024, 3) float16, label (m,) uint8 (an index into classes), names (m,), group (m,)
    and classes (c,) of fixed-width text. Raises `KpnbError` when the file is missing or is not
    the one this code was made for.
    """
    try:
        content = packed_file(name).read_bytes()
    except (KpnbError, OSError):
        content = b""
    if hashlib.sha256(content).hexdigest() != PACKED_SHA256[name]:
        raise KpnbError(
            f"The packed data file {name} is missing or damaged: reinstall kpnb or "
            "rebuild it with data_prep/embedded_pointclouds.py."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


@cache
def split_arrays(part: str, split: str) -> dict[str, np.ndarray]:
    """The arrays of `part` for "train" or "test"; about a fifth of each class is held out.

    Whole groups are held out, so no design is in both splits. The arrays are not to be changed.
    """
    arrays = packed_arrays(FILES[part])
    held = np.zeros(len(arrays["label"]), dtype=bool)
    for label, name in enumerate(arrays["classes"].tolist()):
        members = np.flatnonzero(arrays["label"] == label)
        groups = arrays["group"][members].tolist()
        chosen = held_out(groups, key=name)
        held[members] = [group in chosen for group in groups]
    keep = held if split == "test" else ~held
    return {key: value if key == "classes" else value[keep] for key, value in arrays.items()}
