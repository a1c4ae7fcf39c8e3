"""Reading downloaded archives without trusting them: .zip, .tar(.gz, .xz, .bz2), .tgz and .deb.

A member is used only when it is a plain file or a folder whose path stays inside the archive's
own tree: absolute paths, drive letters, "..", links and devices are refused, and so is
more data than a stated limit. Nothing is written before every wanted member has passed.

One file over HTTP into a part file, continued where an earlier try or process stopped.

A part is continued only when its server shows that the file is still the same: by an ETag or a
date (If-Range, RFC 9110 section 13.1.5), else by its size. What the part is of lies beside it.

Files of a data set: fetched once, checked, and unpacked so that a kill leaves nothing half.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import lzma
import os
import re
import shutil
import ssl
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from filelock import FileLock

from kpnb.errors import KpnbError
from kpnb.metrics.provenance import track

GIB = 2**30
_DEBIAN = b"!<arch>\n"
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,  # zipfile: a compression it does not know
    RuntimeError,  # zipfile: an encrypted member
)


@dataclass(frozen=True)
class _Member:
    name: str  # as the archive spells it
    kind: str  # "file", "folder" or, for links, devices and the rest, "special"
    size: int
    handle: tarfile.TarInfo | zipfile.ZipInfo


_Opened = tuple[Iterable[_Member], Callable[[_Member], BinaryIO]]


def safe_name(name: str) -> str:
    """`name`, a member's path, without a leading "./"; "" for the archive's own top folder.

    Raises `KpnbError` for an absolute path, a drive letter, a backslash, a NUL or a "..".
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    absolute = name.startswith("/") or (parts and parts[0][1:2] == ":")
    if absolute or ".." in parts or "\\" in name or "\0" in name:
        raise KpnbError(
            f"The archive names a member {name!r} outside its own folder: do not use this archive."
        )
    return "/".join(parts)


def read_members(
    archive: Path, names: Iterable[str], limit: int = GIB, strict: bool = True
) -> dict[str, bytes]:
    """The bytes of the members `names`, in memory, by name (in the archive's order).

    `limit` bounds the bytes of all of them together (1 GiB by default). With `strict`, a name
    the archive lacks is an error. Members that are not asked for are not looked at.
    Raises `KpnbError` for a missing, linked or special member, too much data or a broken file.
    """
    wanted = set(names)
    with _opened(archive) as (members, open_member):
        found = {safe_name(m.name): m for m in members if m.name.removeprefix("./") in wanted}
        missing = sorted(wanted - set(found))
        if missing and strict:
            raise KpnbError(
                f"{archive.name} has no {missing[0]} ({len(missing)} files missing): "
                "get the version of the archive that is asked for."
            )
        _check(archive, found.values(), limit)
        return {name: open_member(member).read() for name, member in found.items()}


def extract(archive: Path, folder: Path, limit: int = 16 * GIB) -> list[Path]:
    """Unpack every file of `archive` under `folder`; returns the paths written.

    `limit` bounds the bytes unpacked (16 GiB by default). File modes, owners and times are not
    taken over. Raises `KpnbError`, with nothing written, when a member is a link or a
    device or leaves the folder, when a path crosses a link that already lies in `folder`, when
    there is more data than `limit`, or when the archive cannot be read.
    """
    root = folder.resolve()
    with _opened(archive) as (members, open_member):
        found = list(members)
        _check(archive, found, limit)
        targets = [(root / safe_name(member.name), member) for member in found]
        for target, _ in targets:
            if not target.resolve().is_relative_to(root):
                raise KpnbError(f"{target} is a link out of {folder}: unpack into an empty folder.")
        return [
            _write(target, open_member(member))
            for target, member in targets
            if member.kind == "file"
        ]


def check_sha256(path: Path, expected: str, advice: str) -> None:
    """Raise `KpnbError`, ending in `advice`, unless the file's SHA-256 is `expected`."""
    if not path.is_file():
        raise KpnbError(f"{path} is missing: {advice}.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise KpnbError(f"{path} has SHA-256 {found}, not {expected}: {advice}.")


def _write(target: Path, content: BinaryIO) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
    return target


def _check(archive: Path, members: Iterable[_Member], limit: int) -> None:
    total = 0
    for member in members:
        safe_name(member.name)
        if member.kind == "special":
            raise KpnbError(
                f"{archive.name} holds {member.name!r}, a link or device: do not use this archive."
            )
        total += member.size
    if total > limit:
        raise KpnbError(
            f"{archive.name} unpacks to {total} bytes, over the limit of {limit}: "
            "raise the limit if that much is expected."
        )


@contextmanager
def _opened(archive: Path) -> Iterator[_Opened]:
    """The archive's members and a function that opens one; format faults become `KpnbError`."""
    try:
        if _starts_with(archive, b"PK"):
            with zipfile.ZipFile(archive) as file:
                yield map(_zip_member, file.infolist()), lambda m: file.open(m.handle)
        else:
            with _tar(archive) as file:
                yield map(_tar_member, file.getmembers()), lambda m: file.extractfile(m.handle)
    except _BROKEN as error:
        raise KpnbError(
            f"{archive} cannot be read or unpacked ({error}): fetch it again."
        ) from error


def _starts_with(archive: Path, magic: bytes) -> bool:
    with archive.open("rb") as file:
        return file.read(len(magic)) == magic


def _zip_member(info: zipfile.ZipInfo) -> _Member:
    # The upper half of external_attr is the Unix mode where one was stored, else 0.
    kind = stat.S_IFMT(info.external_attr >> 16)
    special = kind not in (0, stat.S_IFREG, stat.S_IFDIR)
    name = "special" if special else "folder" if info.is_dir() else "file"
    return _Member(info.filename, name, info.file_size, info)


def _tar_member(info: tarfile.TarInfo) -> _Member:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "special"
    return _Member(info.name, kind, info.size, info)


def _tar(archive: Path) -> tarfile.TarFile:
    if not _starts_with(archive, _DEBIAN):
        return tarfile.open(archive)
    return tarfile.open(fileobj=io.BytesIO(_debian_data(archive)))


def _debian_data(archive: Path) -> bytes:
    """The data.tar part of a Debian package: an `ar` file of 60-byte headers and padded parts."""
    with archive.open("rb") as file:
        file.seek(len(_DEBIAN))
        while header := file.read(60):
            name = header[:16].decode("ascii", "replace").strip().rstrip("/")
            size = header[48:58].strip()
            if len(header) < 60 or not size.isdigit():
                break
            if name in ("data.tar", "data.tar.gz", "data.tar.xz", "data.tar.bz2"):
                return file.read(int(size))
            file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise KpnbError(
        f"{archive} is not a Debian package with gzip, bzip2 or xz data: fetch it again."
    )


BLOCK = 2**20  # bytes read at once; also the progress after which tries are counted anew
TIMEOUT = 60.0  # seconds without a byte
WAITS = (3.0, 10.0, 30.0)  # seconds before each further try of one address
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that may be over after a wait
_NETWORK = (OSError, http.client.HTTPException)

Sleep = Callable[[float], None]


class TransferError(Exception):
    """This address does not give the file; the message says why."""


class _CutError(Exception):
    """This try failed; another may not."""


@dataclass(frozen=True)
class _Note:
    """What a part is of. validator: strong ETag or date, "" for none; total: bytes, if known."""

    url: str
    validator: str = ""
    total: int | None = None


def transfer(
    url: str,
    part: Path,
    size: int | None = None,
    waits: Sequence[float] = WAITS,
    sleep: Sleep = time.sleep,
) -> bool:
    """Bring the file at `url` (http or https) into `part`; True where an old part was continued.

    size: bytes that the file must have, None if not known; a server that states another size is
    not used. waits: seconds before each further try; they are counted anew whenever a try got
    `BLOCK` bytes further than any before. A server that ignores ranges starts from zero.

    Where nobody states a size, and the server sends no chunks, a cut is not noticed here: a
    checksum has to find it. Raises `TransferError` when the address does not give the file, and
    `KpnbError` when the disk is too small or cannot be written.
    """
    continued = _held(part, url)[0] > 0
    furthest, failed = _held(part, url)[0], 0
    while True:
        try:
            _attempt(url, part, size)
            return continued
        except _CutError as error:
            held = _held(part, url)[0]
            failed = 0 if held >= furthest + BLOCK else failed + 1
            furthest = max(furthest, held)
            if failed > len(waits):
                raise TransferError(str(error)) from error
            if waits:
                sleep(waits[max(failed - 1, 0)])


def discard(part: Path) -> None:
    """Remove `part` and what lies beside it about it."""
    part.unlink(missing_ok=True)
    _note_file(part).unlink(missing_ok=True)


# One try


def _attempt(url: str, part: Path, size: int | None) -> None:
    held, note = _held(part, url)
    if held and held == note.total:
        return  # an earlier process had all of it
    with closing(_open(url, part, held, note)) as response:
        start, found = _described(response, part, held, note)
        _require_size(found.total, size)
        found = found if size is None else replace(found, total=size)
        _require_space(part, found.total, start)
        _write_note(part, found)
        with part.open("ab" if start else "wb") as file:
            left = None if found.total is None else found.total - start
            _receive(response, file, left, part.name.removesuffix(".part"))
    got = part.stat().st_size
    if found.total is None:
        _write_note(part, _Note(url, found.validator, got))
    elif got < found.total:
        raise _CutError(f"the connection ended after {got} of {found.total} bytes")


def _open(url: str, part: Path, held: int, note: _Note) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "kpnb"})
    if held:
        request.add_header("Range", f"bytes={held}-")
        if note.validator:
            request.add_header("If-Range", note.validator)
    try:
        _require_http(url)
        return _OPENER.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and held:  # the file is shorter now
            discard(part)
            raise _CutError("the file changed") from error
        kind = _CutError if error.code in PASSING else TransferError
        raise kind(f"{error.code} {error.reason}") from error
    except _NETWORK as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise TransferError(f"its certificate is not valid ({reason})") from error
        raise _CutError(str(reason)) from error


def _described(
    response: http.client.HTTPResponse, part: Path, held: int, note: _Note
) -> tuple[int, _Note]:
    """The byte that the answer begins with, and what it is of."""
    headers = response.headers
    if headers.get_content_type() == "text/html" and not part.name.endswith(".html.part"):
        raise TransferError("it answers with a web page, not with the file")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError("it sends the file in another encoding")
    length = headers.get("Content-Length", "")
    tag = headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    if response.status != 206:
        return 0, _Note(note.url, validator, int(length) if length.isdigit() else None)
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    same = span and int(span[1]) == held and int(span[2]) == note.total
    if not same or validator != note.validator:
        discard(part)
        raise _CutError("the file changed")
    return held, note


def _receive(
    response: http.client.HTTPResponse, file: BinaryIO, left: int | None, title: str
) -> None:
    blocks = track(_Blocks(response, left), title)
    while True:
        try:
            block = next(blocks, None)
        except _NETWORK as error:
            raise _CutError(f"the connection broke ({error or type(error).__name__})") from error
        if block is None:
            return
        try:
            file.write(block)
        except OSError as error:
            raise KpnbError(f"{file.name} cannot be written ({error}): make room there.") from error


@dataclass(frozen=True)
class _Blocks:
    """What comes, in blocks, with their number where it is known, for the progress bar."""

    response: http.client.HTTPResponse
    left: int | None

    def __len__(self) -> int:
        if self.left is None:
            raise TypeError("of unknown length")
        return -(-self.left // BLOCK)

    def __iter__(self) -> Iterator[bytes]:
        while block := self.response.read(BLOCK):
            yield block


# Checks


def _require_http(url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise TransferError("only http and https addresses are fetched")


def _require_size(total: int | None, size: int | None) -> None:
    if None not in (total, size) and total != size:
        raise TransferError(f"it has a file of {total} bytes, not {size}")


def _require_space(part: Path, total: int | None, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - start > free:
        raise KpnbError(
            f"{part.parent} has {free} bytes free, and {total - start} more are to be fetched: "
            "make room, or name a folder on another disk."
        )


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only; from https to https only."""

    def redirect_request(self, request, file, code, message, headers, new):
        _require_http(new)
        if urlsplit(request.full_url).scheme == "https" and urlsplit(new).scheme != "https":
            raise TransferError("it redirects from https to http")
        return super().redirect_request(request, file, code, message, headers, new)


_OPENER = urllib.request.build_opener(_Redirect)


# What lies beside a part


def _note_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _held(part: Path, url: str) -> tuple[int, _Note]:
    """Bytes of `part` that may be continued from `url`, and what it is of."""
    try:
        note = _Note(**json.loads(_note_file(part).read_bytes()))
        held = part.stat().st_size
    except (OSError, ValueError, TypeError):
        return 0, _Note(url)
    comparable = note.validator or note.total is not None
    if note.url != url or not comparable or (note.total is not None and held > note.total):
        return 0, _Note(url)
    return held, note


def _write_note(part: Path, note: _Note) -> None:
    new = part.with_name(part.name + ".json.new")
    new.write_text(json.dumps(asdict(note)))
    os.replace(new, _note_file(part))


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
