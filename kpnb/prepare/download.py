"""Files of a data set: fetched once, checked, and unpacked so that a kill leaves nothing half."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from kpnb.datasets.archives import GIB, extract, safe_name
from kpnb.errors import KpnbError
from kpnb.prepare.transfer import WAITS, Sleep, TransferError, discard, transfer

__all__ = ["RemoteFile", "fetch", "obtain"]

LEAST_LIMIT = 16 * GIB  # unpacked bytes that are always allowed
EXPANSION = 3  # larger archives may unpack to this many times their size; pictures hardly grow
_PART, _STAGING, _MARKER = ".part", ".unpacking-", ".unpacked-"
BY_HAND = "a program may not fetch it, because it needs an account"


@dataclass(frozen=True)
class RemoteFile:
    """A file that a data set's publisher, or a mirror, offers.

    name: under which it lies in the data set's folder, without folders of its own. urls: http or
    https, tried in order; none: a program may not fetch it, for example behind a login. sha256,
    md5, size (bytes): None where not known. licence: of the data, in a few words. page: where a
    person gets it. unpack: it is an archive to be unpacked. need: paths below the folder, any of
    which being there shows that it is unpacked (or, for a file that is not unpacked, there).
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    licence: str = ""
    page: str = ""
    unpack: bool = True
    need: tuple[str, ...] = ()


def fetch(
    file: RemoteFile, folder: Path, waits: Sequence[float] = WAITS, sleep: Sleep = time.sleep
) -> Path:
    """The path of `file` in `folder`, fetched there if it is not there already.

    While it comes it lies in `<name>.part`, which a later call continues (see `transfer`). Size and
    checksums, where known, are checked before the file gets its name; a file that is there is
    checked, too. waits: seconds before each further try of an address; sleep: how to wait.

    Raises `KpnbError` for a file that is there but not the one that is meant, a file without
    addresses, and when no address gives it (naming each and why).
    """
    target = _target(file, folder)
    if not target.is_file():
        if not file.urls:
            raise KpnbError(_missing([file], folder, "it may not be fetched by a program"))
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, file.name):
            if not target.is_file():
                _fetch_any(file, target, waits, sleep)
                return target
    wrong = _mismatch(target, file)
    if wrong:
        raise KpnbError(f"{target} {wrong}: remove it and fetch it again.")
    return target


def obtain(
    files: Iterable[RemoteFile],
    root: Path,
    download: bool,
    limit: int | None = None,
    waits: Sequence[float] = WAITS,
    sleep: Sleep = time.sleep,
) -> None:
    """See that every file of a data set is in `root`, archives unpacked; nothing is done twice.

    An archive that lies in `root` is unpacked without network, and kept. Archives are unpacked in
    a folder of their own, whose entries then move to `root`; while that folder is there, the
    archive counts as not unpacked. download: fetch what is missing. limit: bytes that one archive
    may unpack to; None is the larger of 16 GiB and three times its own size.

    Raises `KpnbError`, before anything is fetched, naming each file that is missing and cannot be
    fetched, where to get it and where to put it; and as `fetch` and `archives.extract` do.
    """
    wanted = [file for file in files if not _present(file, root)]
    absent = [file for file in wanted if not _target(file, root).is_file()]
    if not download and absent:
        offered = any(file.urls for file in absent)
        told = "or fetch it by giving --download" if offered else BY_HAND
        raise KpnbError(_missing(absent, root, told))
    by_hand = [file for file in absent if not file.urls]
    if by_hand:
        raise KpnbError(_missing(by_hand, root, BY_HAND))
    for file in wanted:
        archive = fetch(file, root, waits, sleep)
        if file.unpack:
            with _locked(root, file.name):
                if not _present(file, root):
                    _unpack(file, archive, root, limit)


def _target(file: RemoteFile, folder: Path) -> Path:
    if safe_name(file.name) != file.name or "/" in file.name or not file.name:
        raise KpnbError(f"{file.name!r} is no plain file name: give one without folders.")
    return folder / file.name


def _missing(files: Sequence[RemoteFile], folder: Path, hint: str) -> str:
    """Which files to get from where, and where to put them."""
    places = [
        f"{folder / file.name} is missing (get it from {' or '.join(_sources(file))})"
        for file in files
    ]
    return f"{'; '.join(places)}: put {'it' if len(files) == 1 else 'them'} there; {hint}."


def _sources(file: RemoteFile) -> list[str]:
    return [source for source in (file.page, *file.urls) if source] or ["its publisher"]


# Fetching


def _fetch_any(file: RemoteFile, target: Path, waits: Sequence[float], sleep: Sleep) -> None:
    """Fetch `file` from the first address that gives it."""
    failures = []
    for url in file.urls:
        try:
            return _fetch_from(url, file, target, waits, sleep)
        except TransferError as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            raise KpnbError(f"{target.parent} cannot be written ({error}): change that.") from error
    raise KpnbError(
        f"{file.name} could not be fetched ({'; '.join(failures)}): check the network and try "
        f"again, or get it from {_sources(file)[0]} and put it at {target}."
    )


def _fetch_from(
    url: str, file: RemoteFile, target: Path, waits: Sequence[float], sleep: Sleep
) -> None:
    """`TransferError` when the address does not give the file that is meant."""
    part = target.with_name(target.name + _PART)
    continued = True
    while continued:  # once more from zero when a continued part proves wrong
        continued = transfer(url, part, file.size, waits, sleep)
        wrong = _mismatch(part, file)
        if not wrong:
            os.replace(part, target)
            return discard(part)
        discard(part)
    raise TransferError(f"what it gives {wrong}")


def _mismatch(path: Path, file: RemoteFile) -> str:
    """How `path` differs from what `file` states; "" if it does not."""
    size = path.stat().st_size
    if file.size not in (None, size):
        return f"has {size} bytes, not {file.size}"
    for kind, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if expected is not None:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, kind).hexdigest()
            if found != expected:
                return f"has {kind} {found}, not {expected}"
    return ""


# Unpacking


def _present(file: RemoteFile, root: Path) -> bool:
    if file.unpack and (root / f"{_STAGING}{file.name}").exists():
        return False  # an unpacking was killed
    marker = [f"{_MARKER}{file.name}"] if file.unpack and not file.need else []
    return any((root / place).exists() for place in (*file.need, *marker))


def _unpack(file: RemoteFile, archive: Path, root: Path, limit: int | None) -> None:
    size, free = archive.stat().st_size, shutil.disk_usage(root).free
    if size > free:
        raise KpnbError(f"{root} has {free} bytes free, too few to unpack {archive}: make room.")
    staging = root / f"{_STAGING}{file.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        extract(archive, staging, max(LEAST_LIMIT, EXPANSION * size) if limit is None else limit)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _require_need(file, archive, staging, root)
    _move_into(staging, root)
    if not file.need:
        (root / f"{_MARKER}{file.name}").touch()
    shutil.rmtree(staging)


def _require_need(file: RemoteFile, archive: Path, staging: Path, root: Path) -> None:
    if file.need and not any((staging / place).exists() for place in file.need):
        shutil.rmtree(staging, ignore_errors=True)
        raise KpnbError(
            f"{archive} holds no {' or '.join(file.need)}: remove it, and get "
            f"{file.name} from {_sources(file)[0]}."
        )


def _move_into(source: Path, target: Path) -> None:
    """Move the entries of one folder into another on the same disk; files replace files."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if entry.is_dir() and place.is_dir() and not place.is_symlink():
            _move_into(entry, place)
        elif place.is_symlink() or (place.exists() and entry.is_dir() != place.is_dir()):
            raise KpnbError(f"{place} is in the way of unpacking: remove it.")
        else:
            os.replace(entry, place)


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """One process at a time; on a file system without locks, as many as there are."""
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    except OSError as error:
        raise KpnbError(f"{folder} cannot be written ({error}): name another folder.") from error
    try:
        yield
    finally:
        lock.release()
