"""One file over HTTP into a part file, continued where an earlier try or process stopped.

A part is continued only when its server shows that the file is still the same: by an ETag or a
date (If-Range, RFC 9110 section 13.1.5), else by its size. What the part is of lies beside it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from kpnb.errors import KpnbError
from kpnb.progress import track

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
