"""Files of a data set: fetched once, checked, and unpacked so that a kill leaves nothing half.

A file comes over HTTP into a part file, which is continued where an earlier try, address or process
stopped. Whatever the part was of, the checksum that every fetched file has is compared at the end;
a part that proves wrong is fetched once more from zero.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import sleep
from typing import BinaryIO
from urllib.parse import urlsplit

from data_prep.archives import GIB, extract, safe_name
from kpnb.errors import KpnbError, require
from kpnb.fingerprint import track
from kpnb.store import locked

# Seconds before each further try of an address, counted anew after `BLOCK` bytes of progress.
WAITS = (3.0, 10.0, 30.0)
LEAST_LIMIT = 16 * GIB  # unpacked bytes that are always allowed
EXPANSION = 3  # larger archives may unpack to this many times their size; pictures hardly grow
_PART, _STAGING, _MARKER = ".part", ".unpacking-", ".unpacked-"
RELEASES = Path(__file__).with_name("releases.json")
BY_HAND = "a program may not fetch it, because it needs an account"


@dataclass(frozen=True)
class RemoteFile:
    """A file that a data set's publisher, or a mirror, offers.

    name: under which it lies in the data set's folder, without folders of its own. urls: http or
    https, tried in order; none: a program may not fetch it, for example behind a login. sha256,
    md5: a file with addresses has one. size: bytes, if known. licence: of the data, in a few words.
    page: where a person gets it. unpack: it is an archive to be unpacked. need: paths below the
    folder, any of which shows that it is unpacked (or, when it is not to be unpacked, there).
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

    def __post_init__(self) -> None:
        if self.urls and not (self.sha256 or self.md5):
            raise KpnbError(f"{self.name} has addresses and no checksum: state its SHA-256.")


def released(name: str, layout: str = "release") -> tuple[RemoteFile, ...]:
    """The files of a data set as its publisher has them, from releases.json.

    There `checked` says who states the checksums and sizes.
    """
    entries = json.loads(RELEASES.read_text(encoding="utf-8"))[name][layout]["files"]
    lists = {"urls", "need"}
    return tuple(
        RemoteFile(**{key: tuple(v) if key in lists else v for key, v in entry.items()})
        for entry in entries
    )


def fetch(file: RemoteFile, folder: Path) -> Path:
    """The path of `file` in `folder`, fetched there if it is not there already.

    While it comes it lies in `<name>.part`, which a later call continues. Size and checksums, where
    known, are checked before the file gets its name; a file that is there is checked, too.

    Raises `KpnbError` for a file that is there but not the one that is meant, a file without
    addresses, and when no address gives it (naming each and why).
    """
    target = _target(file, folder)
    if not target.is_file():
        require(file.urls, _missing([file], folder, "it may not be fetched by a program"))
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, file):
            if not target.is_file():
                _fetch_any(file, target)
                return target
    wrong = _mismatch(target, file)
    if wrong:
        other = "" if file.unpack else ", or accept another content (--partial)"
        raise KpnbError(f"{target} {wrong}: remove it and fetch it again{other}.")
    return target


def obtain(files: Sequence[RemoteFile], root: Path, download: bool, partial: bool = False) -> None:
    """See that every file of a data set is in `root`, archives unpacked; nothing is done twice.

    An archive that lies in `root` is unpacked without network, and kept. Archives are unpacked in
    a folder of their own, whose entries then move to `root`; while that folder is there, the
    archive counts as not unpacked. download: fetch what is missing. partial: accept plain files of
    another content, and, unless `download`, that some of the files are missing. An archive may
    unpack to the larger of 16 GiB and three times its own size.

    Raises `KpnbError`, before anything is fetched, naming each file that is missing and cannot be
    fetched, where to get it and where to put it; and as `fetch` and `extract` do.
    """
    wanted = [file for file in files if not _present(file, root)]
    absent = [file for file in wanted if not _target(file, root).is_file()]
    if partial:
        wanted = [file for file in wanted if file.unpack or file in absent]
        if not download and len(absent) < len(files):
            wanted, absent = [file for file in wanted if file not in absent], []
    if not download and absent:
        offered = any(file.urls for file in absent)
        told = "or fetch it by giving --download" if offered else BY_HAND
        raise KpnbError(_missing(absent, root, told))
    if by_hand := [file for file in absent if not file.urls]:
        raise KpnbError(_missing(by_hand, root, BY_HAND))
    for file in wanted:
        archive = fetch(file, root)
        if file.unpack:
            with _alone(root, file):
                if not _present(file, root):
                    _unpack(file, archive, root)


def _alone(folder: Path, file: RemoteFile) -> AbstractContextManager:
    """One process at a time."""
    doing = f"fetches or unpacks {file.name}"
    return locked(folder / f".{file.name}.lock", doing, "name another folder")


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


def _fetch_any(file: RemoteFile, target: Path) -> None:
    """Fetch `file` from the first address that gives it."""
    failures = []
    for url in file.urls:
        try:
            return _fetch_from(url, file, target)
        except TransferError as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            raise KpnbError(f"{target.parent} cannot be written ({error}): change that.") from error
    raise KpnbError(
        f"{file.name} could not be fetched ({'; '.join(failures)}): check the network and try "
        f"again, or get it from {_sources(file)[0]} and put it at {target}."
    )


def _fetch_from(url: str, file: RemoteFile, target: Path) -> None:
    """`TransferError` when the address does not give the file that is meant."""
    part = target.with_name(target.name + _PART)
    continued = True
    while continued:  # once more from zero when a continued part proves wrong
        continued = _transfer(url, part, file.size)
        wrong = _mismatch(part, file)
        if not wrong:
            os.replace(part, target)
            return
        part.unlink()
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


BLOCK = 2**20  # bytes read at once; also the progress after which tries are counted anew
TIMEOUT = 60.0  # seconds without a byte
PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that may be over after a wait
_NETWORK = (OSError, http.client.HTTPException)


class TransferError(Exception):
    """This address does not give the file; the message says why."""


class _CutError(Exception):
    """This try failed; another may not."""


def _transfer(url: str, part: Path, size: int | None) -> bool:
    """Bring the file at `url` into `part`; True where bytes that were there before were kept."""
    furthest, failed, continued = _held(part, size), 0, False
    while True:
        continued |= _held(part, size) > 0
        try:
            _attempt(url, part, size)
            return continued
        except _CutError as error:
            held = _held(part, size)
            failed = 0 if held >= furthest + BLOCK else failed + 1
            furthest = max(furthest, held)
            if failed > len(WAITS):
                raise TransferError(str(error)) from error
            sleep(WAITS[max(failed - 1, 0)])


def _held(part: Path, size: int | None) -> int:
    """Bytes of `part` that may be continued."""
    held = part.stat().st_size if part.is_file() else 0
    return 0 if size is not None and held > size else held


def _attempt(url: str, part: Path, size: int | None) -> None:
    held = _held(part, size)
    if held and held == size:
        return  # an earlier process had all of it
    with closing(_open(url, part, held)) as response:
        start, total = _described(response, part, held)
        if None not in (total, size) and total != size:
            raise TransferError(f"it has a file of {total} bytes, not {size}")
        total = size if total is None else total
        left = None if total is None else total - start
        require_space(part.parent, left or 0)
        with part.open("ab" if start else "wb") as file:
            _receive(response, file, left)
    got = part.stat().st_size
    if total is not None and got < total:
        raise _CutError(f"the connection ended after {got} of {total} bytes")


def _open(url: str, part: Path, held: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "kpnb"} | ({"Range": f"bytes={held}-"} if held else {})
    try:
        _require_http(url)
        return _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and held:  # no more than that is there now
            part.unlink()
            raise _CutError("the file changed") from error
        kind = _CutError if error.code in PASSING else TransferError
        raise kind(f"{error.code} {error.reason}") from error
    except _NETWORK as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise TransferError(f"its certificate is not valid ({reason})") from error
        raise _CutError(str(reason)) from error


def _described(response: http.client.HTTPResponse, part: Path, held: int) -> tuple[int, int | None]:
    """The byte that the answer begins with, and those of the whole file, where it says."""
    headers = response.headers
    if headers.get_content_type() == "text/html" and not part.name.endswith(f".html{_PART}"):
        raise TransferError("it answers with a web page, not with the file")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise TransferError("it sends the file in another encoding")
    if response.status != 206:
        length = headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    if span is None or int(span[1]) != held:
        part.unlink()
        raise _CutError("it continues at another place")
    return held, int(span[2])


def _receive(response: http.client.HTTPResponse, file: BinaryIO, left: int | None) -> None:
    blocks = count() if left is None else range(-(-left // BLOCK))
    for _ in track(blocks, Path(file.name).stem):
        try:
            block = response.read(BLOCK)
        except _NETWORK as error:
            raise _CutError(f"the connection broke ({error or type(error).__name__})") from error
        if not block:
            return
        try:
            file.write(block)
        except OSError as error:
            raise KpnbError(f"{file.name} cannot be written ({error}): make room there.") from error


def _require_http(url: str) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise TransferError("only http and https addresses are fetched")


def require_space(
    folder: Path, needed: int, do: str = "make room, or name a folder on another disk"
) -> None:
    """Raise `KpnbError`, which says what to do, unless the disk has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    told = f"{folder} has {free / 1e9:.3g} GB free, and {needed / 1e9:.3g} GB more are needed"
    require(needed <= free, f"{told}: {do}.")


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only; from https to https only."""

    def redirect_request(self, request, file, code, message, headers, new):
        _require_http(new)
        if urlsplit(request.full_url).scheme == "https" and urlsplit(new).scheme != "https":
            raise TransferError("it redirects from https to http")
        return super().redirect_request(request, file, code, message, headers, new)


_OPENER = urllib.request.build_opener(_Redirect)


def _present(file: RemoteFile, root: Path) -> bool:
    if file.unpack and (root / f"{_STAGING}{file.name}").exists():
        return False  # an unpacking was killed
    marker = (f"{_MARKER}{file.name}",) if file.unpack else ()
    return any((root / place).exists() for place in file.need or marker)


def _unpack(file: RemoteFile, archive: Path, root: Path) -> None:
    size = archive.stat().st_size
    require_space(root, size)
    staging = root / f"{_STAGING}{file.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        extract(archive, staging, max(LEAST_LIMIT, EXPANSION * size))
        held = not file.need or any((staging / place).exists() for place in file.need)
        told = f"{archive} holds no {' or '.join(file.need)}"
        require(held, f"{told}: remove it, and get {file.name} from {_sources(file)[0]}.")
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _move_into(staging, root)
    if not file.need:
        (root / f"{_MARKER}{file.name}").touch()
    shutil.rmtree(staging)


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
