"""Results on disk under a fingerprint: computed once, locked, resumable, checked when read.

<root>/<kind>/<fingerprint>/tensors.safetensors, info.json, settings.json, manifest.json
<root>/<kind>/<fingerprint>.part/<name>/...      parts of a computation under way
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from kpnb.entry_files import (
    INFO,
    REPLACED,
    SETTINGS,
    TEMPORARY,
    DamagedEntryError,
    Tensors,
    finish_replacement,
    read_folder,
    storage_error,
    with_ending,
    write_folder,
)
from kpnb.errors import KpnbError
from kpnb.fingerprint import Seed, code_fingerprint, fingerprint, library_versions
from kpnb.store_journal import note_use

FORMAT = 1
PART = ".part"
LOCKS = ".locks"

logger = logging.getLogger(__name__)


def default_root() -> Path:
    """KPNB_STORE if set; else .kpnb_store in the checkout; else ~/.cache/kpnb."""
    if os.environ.get("KPNB_STORE"):
        return Path(os.environ["KPNB_STORE"]).expanduser()
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return checkout / ".kpnb_store"
    return Path.home() / ".cache" / "kpnb"


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
        part = self._part(name)
        if not part.is_dir():
            return None
        try:
            tensors, documents = read_folder(part, (INFO,))
        except DamagedEntryError as damage:
            _discard(part, damage)
            return None
        return tensors, documents[INFO]

    def names(self) -> list[str]:
        """The parts there are, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(part.name for part in self.folder.iterdir() if part.is_dir())

    def drop(self, name: str) -> None:
        """Remove a part that is no longer needed, if it is there."""
        shutil.rmtree(self._part(name), ignore_errors=True)

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
    ) -> Record:
        """The result of these settings: loaded if it is stored whole, else computed and stored.

        kind: a plain word, the folder above. settings: JSON-able, everything the result depends
        on that is not in code or data. compute: gets a `Scratch`, returns tensors and info.
        code: what computes it, functions and classes, as for `code_fingerprint`. data: hashes by
        name.
        A second process waits for the first; a damaged entry is warned about and redone.
        Raises `KpnbError` if the store cannot be written, and what `compute` raises.
        """
        entry = self._entry(kind, settings, code, data)
        record = entry.load()
        if record is not None:
            shutil.rmtree(entry.part, ignore_errors=True)
        else:
            with self._locked(entry):
                self._clean_beside(entry.folder)
                record = entry.load(discard=True) or entry.fill(compute)
        note_use(entry.folder)
        return record

    def peek(
        self,
        kind: str,
        settings: dict,
        code: tuple[Seed, ...],
        data: dict[str, str] | None = None,
    ) -> Record | None:
        """The stored result of these settings, or None; nothing is computed or changed.

        Damage is warned about and gives None.
        """
        return self._entry(kind, settings, code, data).load(warn=True)

    def _entry(
        self, kind: str, settings: dict, code: tuple[Seed, ...], data: dict[str, str] | None
    ) -> _Entry:
        key = {
            "format": FORMAT,
            "kind": _plain_name(kind, "kind of result"),
            "settings": settings,
            "code": code_fingerprint(*code),
            "data": data or {},
            "versions": library_versions(),
        }
        return _Entry(self.root / kind / fingerprint(key), key)

    def _lock(self, folder: Path) -> filelock.BaseFileLock:
        name = f"{folder.parent.name}.{folder.name}.lock"
        try:
            (self.root / LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.root, error) from error
        return filelock.FileLock(self.root / LOCKS / name)

    @contextmanager
    def _locked(self, entry: _Entry) -> Iterator[None]:
        """Hold the entry's lock; say once if another process holds it."""
        lock = self._lock(entry.folder)
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                logger.warning("Waiting for another process that computes %s", entry.folder)
                lock.acquire()
        except OSError as error:
            raise storage_error(self.root, error) from error
        try:
            yield
        finally:
            lock.release()

    def _clean_beside(self, folder: Path) -> None:
        """Remove what killed processes left of other entries; writing tidies an entry's own."""
        for leftover in _leftovers(folder.parent):
            lock = self._lock(leftover.with_suffix(""))
            try:
                with lock.acquire(timeout=0):
                    shutil.rmtree(leftover, ignore_errors=True)
            except filelock.Timeout:
                continue


@dataclass(frozen=True)
class _Entry:
    folder: Path
    key: dict

    @property
    def part(self) -> Path:
        return with_ending(self.folder, PART)

    def load(self, discard: bool = False, warn: bool = False) -> Record | None:
        """The verified record, or None; a damaged one is told about and removed on request."""
        if not self.folder.is_dir():
            return None
        try:
            tensors, documents = read_folder(self.folder, (INFO, SETTINGS))
            if fingerprint(documents[SETTINGS]) != self.folder.name:
                raise DamagedEntryError(f"{SETTINGS} belongs to another entry")
        except DamagedEntryError as damage:
            if discard:
                _discard(self.folder, damage)
            elif warn:
                _warn(self.folder, damage)
            return None
        return Record(tensors, documents[INFO], self.folder, self.folder.name, computed=False)

    def fill(self, compute: Callable[[Scratch], tuple[Tensors, dict]]) -> Record:
        """Compute, write, and read back what was written."""
        tensors, info = compute(Scratch(self.part))
        write_folder(self.folder, tensors, {INFO: info, SETTINGS: self.key})
        shutil.rmtree(self.part, ignore_errors=True)
        tensors, documents = read_folder(self.folder, (INFO, SETTINGS))
        return Record(tensors, documents[INFO], self.folder, self.folder.name, computed=True)


def _leftovers(folder: Path) -> list[Path]:
    return [*folder.glob(f"*{REPLACED}"), *folder.glob(f"*{TEMPORARY}")]


def _plain_name(name: str, what: str) -> str:
    plain = re.fullmatch(r"[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*", name)
    if plain and not name.endswith((TEMPORARY, REPLACED, PART)):
        return name
    raise KpnbError(f"{name!r} cannot name a {what}: use letters, digits and . _ = + - only.")


def _discard(folder: Path, damage: DamagedEntryError) -> None:
    _warn(folder, damage)
    shutil.rmtree(folder, ignore_errors=True)


def _warn(folder: Path, damage: DamagedEntryError) -> None:
    message = f"The stored result {folder} is damaged ({damage}): it is not used."
    warnings.warn(message, stacklevel=4)
