"""One folder of results on disk: tensors in safetensors, the rest in JSON, and a manifest.

A folder appears whole or not at all, and what is read back is what the manifest's hashes say
was written. The files can be read without kpnb.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from kpnb.errors import KpnbError
from kpnb.fingerprint import require_json

TENSORS = "tensors.safetensors"
INFO = "info.json"
SETTINGS = "settings.json"
MANIFEST = "manifest.json"
TEMPORARY = ".tmp"
REPLACED = ".old"
DTYPES = (
    *(torch.bool, torch.uint8, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)

Tensors = dict[str, torch.Tensor]


class DamagedEntryError(Exception):
    """A stored folder is not what its manifest says; the message tells what differs."""


def write_folder(folder: Path, tensors: Tensors, documents: dict[str, dict]) -> None:
    """Write tensors and JSON documents (by file name) as `folder`, replacing it in one step.

    Everything is written and flushed to a temporary folder beside it, which is then renamed.
    Raises `KpnbError` for content that cannot be stored, and one that names the folder and
    KPNB_STORE if the disk is full or cannot be written; nothing half-written is left then.
    """
    blobs = {TENSORS: _pack(tensors)}
    blobs |= {name: _json_bytes(content, name) for name, content in documents.items()}
    blobs[MANIFEST] = _manifest(blobs)
    temporary = with_ending(folder, TEMPORARY)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, blob in blobs.items():
            write_file(temporary / name, blob)
        _put_in_place(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise storage_error(folder.parent, error) from error


def read_folder(folder: Path, names: tuple[str, ...]) -> tuple[Tensors, dict[str, dict]]:
    """The tensors and the named JSON documents of a folder, checked against its manifest.

    Raises `DamagedEntryError` if any file is missing or differs by one byte.
    """
    try:
        blobs = {name: (folder / name).read_bytes() for name in (MANIFEST, TENSORS, *names)}
        written = blobs.pop(MANIFEST)
        for name, blob in blobs.items():
            _check(name, blob, written)
        if written != _manifest(blobs):
            raise DamagedEntryError(f"{MANIFEST} is not as it was written")
        tensors = safetensors.torch.load(blobs[TENSORS])
        return tensors, {name: json.loads(blobs[name]) for name in names}
    except FileNotFoundError as error:
        raise DamagedEntryError(f"{Path(error.filename).name} is missing") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedEntryError(str(error)) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def finish_replacement(folder: Path) -> None:
    """Complete what a killed `write_folder` left: an old version set aside, a temporary one."""
    old = with_ending(folder, REPLACED)
    if old.is_dir() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(with_ending(folder, TEMPORARY), ignore_errors=True)


def with_ending(folder: Path, ending: str) -> Path:
    """The sibling of a folder whose name has `ending` appended."""
    return folder.with_name(folder.name + ending)


def storage_error(folder: Path, error: OSError) -> KpnbError:
    """The one sentence for a store that cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        cause = f"There is no disk space left in {folder}"
    else:
        cause = f"The store's folder {folder} cannot be written ({error.strerror or error})"
    return KpnbError(f"{cause}: free some, or set KPNB_STORE to a folder elsewhere.")


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename, keeping the old version until the new one stands; folders cannot be swapped."""
    old = with_ending(folder, REPLACED)
    _flush_folder(temporary)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(temporary, folder)
    _flush_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pack(tensors: Tensors) -> bytes:
    packed = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in DTYPES:
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            raise KpnbError(f"{name!r} is a {kind}, which the store does not hold: convert it.")
        # A copy of its own: views of one storage would be refused.
        packed[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return safetensors.torch.save(packed)


def _json_bytes(content: dict, name: str) -> bytes:
    require_json(content, Path(name).stem)
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _manifest(blobs: dict[str, bytes]) -> bytes:
    """The manifest's exact bytes for these files, so that it can be checked by comparison."""
    files = {name: {"bytes": len(b), "sha256": _sha256(b)} for name, b in blobs.items()}
    return _json_bytes({"files": files}, MANIFEST)


def _check(name: str, blob: bytes, manifest: bytes) -> None:
    """Tell which file differs, for the message; the manifest's own bytes are checked after."""
    if _sha256(blob).encode() not in manifest:
        raise DamagedEntryError(f"{name} is not what {MANIFEST} says")


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
