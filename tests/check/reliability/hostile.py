"""Archives that reach outside their folder or hold more than they may, for every reader."""

import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from shutil import rmtree
from unittest.mock import patch

from archive_files import make_deb, make_tar, make_zip, tar_info

from data_prep.archives import extract, read_members
from data_prep.fetch import RemoteFile, obtain
from kpnb.errors import KpnbError

LIMIT = 2**20  # bytes, of what is unpacked here
MODES = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}
FORMATS = (*MODES, "deb", "zip")
#: Kind -> the member's name, its type in a tar file, its Unix mode in a zip file (None: has none).
MEMBERS = {
    "..": ("../{}", tarfile.REGTYPE, 0),
    ".. inside": ("a/../../{}", tarfile.REGTYPE, 0),
    "absolute": ("{outside}/{}", tarfile.REGTYPE, 0),
    "drive letter": ("C:/{}", tarfile.REGTYPE, 0),
    "backslashes": ("a\\..\\..\\{}", tarfile.REGTYPE, 0),
    "symbolic link": ("{}", tarfile.SYMTYPE, stat.S_IFLNK | 0o777),
    "hard link": ("{}", tarfile.LNKTYPE, None),
    "character device": ("{}", tarfile.CHRTYPE, stat.S_IFCHR | 0o666),
    "block device": ("{}", tarfile.BLKTYPE, stat.S_IFBLK | 0o666),
    "pipe": ("{}", tarfile.FIFOTYPE, stat.S_IFIFO | 0o666),
    "socket": ("{}", None, stat.S_IFSOCK | 0o666),
    "folder ..": ("a/../..", tarfile.DIRTYPE, stat.S_IFDIR),
}
#: More than the limit: in one member, in many, as its header says alone, against its header.
BOMBS = ("one large", "many", "said to be huge", "larger than said")
LINKS = ("/etc/passwd", "../../outside", "good", "/tmp")


def with_member(path: Path, made: str, kind: str, random: Random) -> list[str] | None:
    """Write an archive with a bad member; the member's name; None where there is no such."""
    form, typed, mode = MEMBERS[kind]
    name = form.format(f"evil{random.randrange(10**6)}", outside=path.parents[2] / "outside")
    link = random.choice(LINKS)
    if made == "zip" and mode is not None:
        make_zip(path, ("good", b"x", 0), (name, link.encode(), mode))
        return [name]
    if made == "zip" or typed is None:
        return None
    bad = tar_info(name, typed, b"x" if typed == tarfile.REGTYPE else b"", link)
    through = [tar_info(f"{name}/inside", content=b"x")] * (typed == tarfile.SYMTYPE)
    _tar(path, made, bad, *through)
    return [name]


def with_bomb(path: Path, made: str, kind: str, random: Random) -> list[str] | None:
    """Write an archive that holds more than `LIMIT`, packed into less; the names."""
    if made == "tar" or (kind == "larger than said" and made != "zip"):
        return None  # a tar file says a size once, and packs nothing
    size, many = LIMIT + random.randrange(1, LIMIT), kind == "many"
    huge = kind == "said to be huge"
    parts = {f"bomb{n}": bytes(size // 64 + 1) for n in range(64)} if many else {}
    parts = parts or {"bomb0": b"" if huge else bytes(size)}
    if made != "zip":
        members = [tar_info(name, content=content) for name, content in parts.items()]
        members[0][0].size = 2**40 if huge else members[0][0].size
        _tar(path, made, *members)
        return list(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {"good": b"x", **parts}.items():
            file.writestr(name, content)
    if kind in ("said to be huge", "larger than said"):
        _say(path, 2**32 - 2 if huge else 1)
    return list(parts)


def _tar(path: Path, made: str, *members) -> None:
    every = tar_info("good", content=b"x"), *members
    make_deb(path, *every) if made == "deb" else make_tar(path, *every, mode=MODES[made])


def _say(path: Path, size: int) -> None:
    """Another size of the zip file's last member in its central directory and at the member."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, size)
    struct.pack_into("<I", content, content.rindex(b"PK\3\4") + 22, size)
    path.write_bytes(content)


class Hostile:
    """Every kind in every format for every reader, one a trial."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.root = self._fresh()
        kinds = [(with_member, kind) for kind in MEMBERS] + [(with_bomb, kind) for kind in BOMBS]
        readers = {"unpacked": _unpack, "read": _read, "obtained": _obtain}
        self.cases = [
            (made, make, kind, how, reader)
            for made, (make, kind), (how, reader) in product(FORMATS, kinds, readers.items())
            if make(self.root / "archive", made, kind, Random(0)) is not None
        ]

    def _fresh(self) -> Path:
        """An empty folder with another one beside it and above, for what reaches outside."""
        rmtree(self.work)
        (self.work / "outside").mkdir(parents=True)
        (self.work / "deep" / "root").mkdir(parents=True)
        return self.work / "deep" / "root"

    def __len__(self) -> int:
        return len(self.cases)

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        made, make, kind, how, reader = self.cases[number]
        archive = self._fresh() / f"archive.{made}"
        names = make(archive, made, kind, random)
        before = set(self.work.rglob("*"))
        told = refusal(partial(reader, archive, names))
        new = {path for path in self.work.rglob("*") if path not in before and path.is_file()}
        inside = {path for path in new if path.is_relative_to(self.root / "out")}
        stray = {path.name for path in new - inside} - {f".{archive.name}.lock"}
        wrong = f"wrote {sorted(stray)}" if stray else "" if told else "not refused"
        if sum(path.stat().st_size for path in inside) > LIMIT:
            wrong = "unpacked more than the limit"
        label = f"archive with {'too much data' if kind in BOMBS else 'a way outside'}, {how}"
        return label, "wrong" if wrong else "refused", f"{made}, {kind}: {wrong or told}"


def _unpack(archive: Path, names: list[str]) -> None:
    extract(archive, archive.parent / "out", LIMIT)


def _read(archive: Path, names: list[str]) -> None:
    read_members(archive, names, LIMIT)


def _obtain(archive: Path, names: list[str]) -> None:
    """As an archive of a data set that lies in its folder already."""
    with patch("data_prep.fetch.LEAST_LIMIT", LIMIT):
        obtain([RemoteFile(archive.name, (), need=("good",))], archive.parent, download=False)


def refusal(work: Callable[[], object]) -> str | None:
    """The one sentence that refuses; None where all went well."""
    try:
        work()
    except KpnbError as error:
        return str(error)
    return None
