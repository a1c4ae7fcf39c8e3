"""Results on disk under a fingerprint: computed once, locked, resumable, checked when read.

<root>/<kind>/<fingerprint>/tensors.safetensors, info.json, settings.json, manifest.json
<root>/<kind>/<fingerprint>.part/<name>/...      parts of a computation under way

A folder appears whole or not at all, and what is read back is what the manifest's hashes say was
written: tensors in safetensors, the rest in JSON, readable without kpnb. A journal tells which
entries a notebook used: its executed copy is up to date only while these are undamaged. torch is
imported where tensors are written or read, so that looking at entries does not wait for it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import filelock
from safetensors import SafetensorError

from kpnb import fingerprint as keys
from kpnb.errors import KpnbError
from kpnb.fingerprint import Seed, checkout, executed_copy, file_hash, require_json

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

FORMAT = 1
TENSORS = "tensors.safetensors"
INFO = "info.json"
SETTINGS = "settings.json"
MANIFEST = "manifest.json"
TEMPORARY = ".tmp"
REPLACED = ".old"
PART = ".part"
LOCKS = ".locks"
#: Of the tensors that are held.
DTYPES = ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64")
# Names a file in which a process lists the folders of the entries it uses, one a line.
JOURNAL = "KPNB_STORE_JOURNAL"

logger = logging.getLogger(__name__)
Found = TypeVar("Found")


class DamagedEntryError(Exception):
    """A stored folder is not what its manifest says; the message tells what differs."""


def write_folder(folder: Path, tensors: Tensors, documents: dict[str, dict]) -> None:
    """Write tensors and JSON documents (by file name) as `folder`, replacing it in one step.

    Everything is written and flushed to a temporary folder beside it, which is then renamed.
    Raises `KpnbError` for content that cannot be stored, and one that names the folder and
    KPNB_STORE if the disk is full or cannot be written; nothing half-written is left then.
    """
    blobs = {name: _json_bytes(content, name) for name, content in documents.items()}
    blobs |= {TENSORS: _pack(tensors)}
    blobs[MANIFEST] = _manifest({name: _told(blob) for name, blob in blobs.items()})
    temporary = with_ending(folder, TEMPORARY)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, blob in blobs.items():
            write_file(temporary / name, blob)
        put_in_place(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        cause = f"The store's folder {folder.parent} cannot be written ({error.strerror or error})"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            cause = f"There is no disk space left in {folder.parent}"
        raise KpnbError(f"{cause}: free some, or set KPNB_STORE to a folder elsewhere.") from error


def read_folder(folder: Path, names: tuple[str, ...]) -> tuple[Tensors, dict[str, dict]]:
    """The tensors and the named JSON documents of a folder, checked against its manifest.

    Raises `DamagedEntryError` if any file is missing or differs by one byte.
    """
    from safetensors.torch import load

    blobs = _checked(folder)
    try:
        return load(blobs[TENSORS]), {name: json.loads(blobs[name]) for name in names}
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedEntryError(str(error)) from error


def _checked(folder: Path, read: bool = True) -> dict[str, bytes | Path]:
    """The content of the files that a folder's manifest lists; without `read` their paths, as they
    are checked piece by piece and left on the disk.

    Raises `DamagedEntryError` unless the manifest is, to the byte, the one they would get today.
    """
    try:
        written = (folder / MANIFEST).read_bytes()
        paths = {name: folder / name for name in json.loads(written)["files"]}
        blobs = {name: path.read_bytes() if read else path for name, path in paths.items()}
        told = {name: _told(blob) for name, blob in blobs.items()}
    except FileNotFoundError as error:
        raise DamagedEntryError(f"{Path(error.filename).name} is missing") from error
    except OSError as error:  # a matter of rights or of the disk, not of what is written there
        if isinstance(error, (IsADirectoryError, NotADirectoryError)):
            raise DamagedEntryError(f"{error.filename} is no file or folder as written") from error
        told = f"The stored result {folder} cannot be read ({error.strerror or error})"
        raise KpnbError(f"{told}: mend that, or set KPNB_STORE to a folder elsewhere.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedEntryError(f"{MANIFEST} cannot be read: {error}") from error
    for name, found in told.items():
        if found["sha256"].encode() not in written:
            raise DamagedEntryError(f"{name} is not what {MANIFEST} says")
    if written != _manifest(told):
        raise DamagedEntryError(f"{MANIFEST} is not as it was written")
    return blobs


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


def put_in_place(temporary: Path, folder: Path, ending: str = REPLACED) -> None:
    """Rename, keeping the old version, with that ending, until the new one stands; folders cannot
    be swapped."""
    old = with_ending(folder, ending)
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
    import torch
    from safetensors.torch import save

    packed = {}
    for name, tensor in tensors.items():
        kind = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
        if not isinstance(tensor, torch.Tensor) or kind not in DTYPES:
            raise KpnbError(f"{name!r} is a {kind}, which the store does not hold: convert it.")
        # A copy of its own: views of one storage would be refused.
        packed[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return save(packed)


def _json_bytes(content: dict, name: str) -> bytes:
    require_json(content, Path(name).stem)
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def _manifest(files: dict[str, dict]) -> bytes:
    """The manifest's exact bytes for these files, so that it can be compared."""
    return _json_bytes({"files": files}, MANIFEST)


def _told(content: bytes | Path) -> dict[str, int | str]:
    """What the manifest tells of a file; one that is not read may be larger than memory."""
    if isinstance(content, Path):
        return {"bytes": content.stat().st_size, "sha256": file_hash(content)}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def note_use(folder: Path) -> None:
    """Add an entry's folder to the journal, if one is kept."""
    if os.environ.get(JOURNAL):
        with open(os.environ[JOURNAL], "a", encoding="utf-8") as journal:
            journal.write(f"{folder.resolve()}\n")


def read_journal(path: Path) -> list[str]:
    """The folders listed in a journal, each once; none if there is no journal."""
    listed = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    return sorted(set(listed) - {""})


def damaged(folders: Iterable[str]) -> list[str]:
    """Those of the entries' folders that exist but are not what their manifest says.

    An entry that is gone as a whole is no damage: what was made from it still holds.
    """
    found = []
    for folder in folders:
        try:
            if Path(folder).is_dir():
                _checked(Path(folder), read=False)
        except DamagedEntryError:
            found.append(folder)
    return found


def locked(file: Path, doing: str, remedy: str) -> AbstractContextManager:
    """Hold the lock `file`; where another process does, say once who, and wait for it.

    doing: what that process does. Raises KpnbError with the remedy where the folder takes no lock.
    """
    lock = filelock.FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        told = f"Waiting for another process that {doing}{_holder(file)}"
        logger.warning(told)
        if executed_copy():  # whose streams are seen in the end: the console's own
            console = getattr(sys.stderr, "_original_stdstream_copy", None) or 2
            os.write(console, f"{told}\n".encode())
        return lock.acquire()
    except (OSError, NotImplementedError) as error:
        told = f"{file.parent} cannot be written and locked ({error})"
        raise KpnbError(f"{told}: {remedy}.") from error


def _holder(file: Path) -> str:
    """Who holds a lock whose file says so, as on file systems without locks of their own."""
    with suppress(OSError, ValueError):
        process, machine, *_ = file.read_text(encoding="utf-8").split()
        return f" (process {process} on {machine}; if it is gone, remove {file})"
    return ""


def default_root() -> Path:
    """KPNB_STORE if set; else .kpnb_store in the checkout; else ~/.cache/kpnb."""
    if os.environ.get("KPNB_STORE"):
        return Path(os.environ["KPNB_STORE"]).expanduser()
    clone = checkout()
    return clone / ".kpnb_store" if clone else Path.home() / ".cache" / "kpnb"


@dataclass(frozen=True)
class Record:
    """One stored result.

    tensors: by name, on the CPU. info: what JSON holds of it. path: its folder.
    fingerprint: the folder's name. computed: whether this call computed it.
    """

    tensors: Tensors
    info: dict
    path: Path
    fingerprint: str
    computed: bool


class Scratch:
    """Parts of a computation under way, which a later process finds after a kill.

    A part's name may hold letters, digits and `. _ = + -`, and must not end like a temporary
    folder (`.tmp`, `.old`); saving under the same name replaces the part in one step.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for leftover in _leftovers(folder):
            finish_replacement(leftover.with_suffix(""))

    def save(self, name: str, tensors: Tensors, info: dict) -> None:
        """Keep a part; raises `KpnbError` if it cannot be stored or the disk is full."""
        write_folder(self._part(name), tensors, {INFO: info})

    def load(self, name: str) -> tuple[Tensors, dict] | None:
        """A part's tensors and info; None if there is none or, with a warning, if damaged."""
        found = _found(self._part(name), lambda part: read_folder(part, (INFO,)), discard=True)
        return found and (found[0], found[1][INFO])

    def _part(self, name: str) -> Path:
        return self.folder / _plain_name(name, "part")


class Store:
    """A folder of results (`default_root()` unless given) that processes may share."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = default_root() if root is None else Path(root)

    def compute(
        self,
        kind: str,
        settings: dict,
        compute: Callable[[Scratch], tuple[Tensors, dict]],
        code: tuple[Seed, ...],
        data: dict[str, str] | None = None,
        cost: Callable[[], object] | None = None,
    ) -> Record:
        """The result of these settings: loaded if it is stored whole, else computed and stored.

        kind: a plain word, the folder above. settings: JSON-able, everything the result depends
        on that is not in code or data. compute: gets a `Scratch`, returns tensors and info.
        code: what computes it, functions and classes, as for `code_fingerprint`. data: hashes by
        name. cost: what computing takes; asked by a store that counts (`kpnb.run.plan`), not here.
        A second process waits for the first; a damaged entry is warned about and redone.
        Raises `KpnbError` if the store cannot be written, and what `compute` raises.
        """
        folder, key = self._entry(kind, settings, code, data)
        record = _found(folder, _record)
        if record is None:
            remedy = "free some disk space, or set KPNB_STORE to a folder elsewhere"
            with locked(self._lock(folder), f"computes {folder}", remedy):
                self._clean_beside(folder)
                record = _found(folder, _record, discard=True)
                if record is None:
                    tensors, info = compute(Scratch(with_ending(folder, PART)))
                    write_folder(folder, tensors, {INFO: info, SETTINGS: key})
                    record = _record(folder, computed=True)  # what was written is read back
        shutil.rmtree(with_ending(folder, PART), ignore_errors=True)
        note_use(folder)
        return record

    def _entry(
        self, kind: str, settings: dict, code: tuple[Seed, ...], data: dict[str, str] | None
    ) -> tuple[Path, dict]:
        """The folder of a result, named by its fingerprint, and what that is taken of."""
        key = {
            "format": FORMAT,
            "kind": _plain_name(kind, "kind of result"),
            "settings": settings,
            "code": keys.code_fingerprint(*code),
            "data": data or {},
            "versions": keys.library_versions(),
        }
        return self.root / kind / keys.fingerprint(key), key

    def _lock(self, folder: Path) -> Path:
        return self.root / LOCKS / f"{folder.parent.name}.{folder.name}.lock"

    def _clean_beside(self, folder: Path) -> None:
        """Remove what killed processes left of other entries; writing tidies an entry's own."""
        for leftover in _leftovers(folder.parent):
            lock = filelock.FileLock(self._lock(leftover.with_suffix("")))
            with suppress(filelock.Timeout), lock.acquire(timeout=0):
                shutil.rmtree(leftover, ignore_errors=True)


def _found(folder: Path, read: Callable[[Path], Found], discard: bool = False) -> Found | None:
    """What is read there, or None; what is damaged is, on request, told about and removed."""
    try:
        return read(folder) if folder.is_dir() else None
    except DamagedEntryError as damage:
        if discard:
            warnings.warn(
                f"The stored result {folder} is damaged ({damage}): it is not used.", stacklevel=3
            )
            shutil.rmtree(folder, ignore_errors=True)
        return None


def _record(folder: Path, computed: bool = False) -> Record:
    tensors, documents = read_folder(folder, (INFO, SETTINGS))
    if keys.fingerprint(documents[SETTINGS]) != folder.name:
        raise DamagedEntryError(f"{SETTINGS} belongs to another entry")
    return Record(tensors, documents[INFO], folder, folder.name, computed)


def _leftovers(folder: Path) -> list[Path]:
    return [*folder.glob(f"*{REPLACED}"), *folder.glob(f"*{TEMPORARY}")]


def _plain_name(name: str, what: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*", name)
    if plain and not name.endswith((TEMPORARY, REPLACED, PART)):
        return name
    raise KpnbError(f"{name!r} cannot name a {what}: use letters, digits and . _ = + - only.")
