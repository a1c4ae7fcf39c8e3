"""Reading downloaded archives without trusting them: .zip, .tar(.gz, .xz, .bz2), .tgz and .deb.

A member is used only when it is a plain file or a folder whose path stays inside the archive's
own tree: absolute paths, drive letters, "..", links and devices are refused, and so is
more data than a stated limit. Nothing is written before every wanted member has passed, and of a
member nothing but its bytes is taken over, which is less than tarfile's own "data" filter lets by.
"""

import io
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kpnb.errors import KpnbError, remedy, require

GIB = 2**30
_DEBIAN = b"!<arch>\n"
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)
_BROKEN += (NotImplementedError, RuntimeError)  # zipfile: an unknown compression, encryption


class _Member(NamedTuple):
    name: str  # as the archive spells it
    kind: str  # "file", "folder" or, for links, devices and the rest, "special"
    size: int
    open: Callable[[], BinaryIO]


def safe_name(name: str) -> str:
    """`name`, a member's path, without a leading "./"; "" for the archive's own top folder.

    Raises `KpnbError` for an absolute path, a drive letter, a backslash, a NUL or a "..".
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    absolute = name.startswith("/") or (parts and parts[0][1:2] == ":")
    outside = absolute or ".." in parts or "\\" in name or "\0" in name
    told = f"The archive names a member {name!r} outside its own folder"
    require(not outside, f"{told}: do not use this archive.")
    return "/".join(parts)


def read_members(
    archive: Path, names: Iterable[str], limit: int = GIB, content: bytes | None = None
) -> dict[str, bytes]:
    """The bytes of the members `names`, in memory, by name (in the archive's order).

    limit: bytes of all of them together. content: of an archive that was itself a member; `archive`
    is then its name only. Members that are not asked for are not looked at. Raises `KpnbError` for
    a missing, linked or special member, too much data or a broken file.
    """
    wanted = set(names)
    with _opened(archive, content) as members:
        found = {safe_name(m.name): m for m in members if m.name.removeprefix("./") in wanted}
        if missing := sorted(wanted - set(found)):
            told = f"{archive.name} has no {missing[0]} ({len(missing)} files missing)"
            raise KpnbError(f"{told}: get the version of the archive that is asked for.")
        _check(archive, found.values(), limit)
        return {name: member.open().read() for name, member in found.items()}


def extract(archive: Path, folder: Path, limit: int = 16 * GIB) -> None:
    """Unpack every file of `archive` under `folder`.

    limit: bytes unpacked. File modes, owners and times are not taken over. Raises `KpnbError`, with
    nothing written, when a member is a link or a device or leaves the folder, when a path crosses a
    link that already lies in `folder`, for more data than `limit` and a broken archive.
    """
    root = folder.resolve()
    with _opened(archive) as members:
        _check(archive, members, limit)
        targets = [(root / safe_name(member.name), member) for member in members]
        for target, _ in targets:
            if not target.resolve().is_relative_to(root):
                raise KpnbError(f"{target} is a link out of {folder}: unpack into an empty folder.")
        for target, member in targets:
            if member.kind == "file":
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)


def _check(archive: Path, members: Iterable[_Member], limit: int) -> None:
    for member in members:
        safe_name(member.name)
        told = f"{archive.name} holds {member.name!r}, a link or device"
        require(member.kind != "special", f"{told}: do not use this archive.")
    total = sum(member.size for member in members)
    told = f"{archive.name} unpacks to {total} bytes, over the limit of {limit}"
    require(total <= limit, f"{told}: raise the limit if that much is expected.")


@contextmanager
def _opened(archive: Path, content: bytes | None = None) -> Iterator[list[_Member]]:
    """The archive's members; format faults become `KpnbError`."""
    try:
        with archive.open("rb") if content is None else io.BytesIO(content) as whole:
            begin = whole.read(len(_DEBIAN))
            if begin.startswith(b"PK"):
                with zipfile.ZipFile(whole) as file:
                    yield [_zip_member(file, info) for info in file.infolist()]
            else:
                tar = io.BytesIO(_debian_data(archive, whole)) if begin == _DEBIAN else whole
                tar.seek(0)
                with tarfile.open(fileobj=tar) as file:
                    yield [_tar_member(file, info) for info in file.getmembers()]
    except _BROKEN as error:
        told = f"{archive} cannot be read or unpacked ({error})"
        raise KpnbError(f"{told}: {remedy(error, 'fetch it again')}.") from error


def _zip_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    # The upper half of external_attr is the Unix mode where one was stored, else 0.
    special = stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR)
    kind = "special" if special else "folder" if info.is_dir() else "file"
    return _Member(info.filename, kind, info.file_size, partial(file.open, info))


def _tar_member(file: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "special"
    return _Member(info.name, kind, info.size, partial(file.extractfile, info))


def _debian_data(archive: Path, file: BinaryIO) -> bytes:
    """The data.tar part of a Debian package: an `ar` file, opened behind its first word, of 60-byte
    headers and padded parts."""
    while header := file.read(60):
        name, size = header[:16].strip().rstrip(b"/"), header[48:58].strip()
        if len(header) < 60 or not size.isdigit():
            break
        if name in (b"data.tar", b"data.tar.gz", b"data.tar.xz", b"data.tar.bz2"):
            return file.read(int(size))
        file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    told = f"{archive} is not a Debian package with gzip, bzip2 or xz data"
    raise KpnbError(f"{told}: fetch it again.")
