"""Archives are read without trusting them: good ones, hostile ones and broken ones."""

import stat
import tarfile

import pytest
from archive_files import make_deb, make_tar, make_zip, tar_info
from refusals import refuses

from data_prep.archives import extract, read_members
from kpnb.errors import KpnbError

GOOD = (tar_info("./a", tarfile.DIRTYPE), tar_info("./a/b.txt", content=b"hello"),
        tar_info("c", content=b"!"))  # fmt: skip


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tgz", "x.zip", "x.deb"])
def test_good_archives_are_read_and_unpacked(tmp_path, kind):
    path, out = tmp_path / kind, tmp_path / "out"
    if kind.endswith(".zip"):
        file = stat.S_IFREG | 0o644
        make_zip(path, ("a/", b"", stat.S_IFDIR), ("a/b.txt", b"hello", file), ("c", b"!", 0))
    else:
        (make_deb if kind.endswith(".deb") else make_tar)(path, *GOOD)
    assert read_members(path, ["a/b.txt"]) == {"a/b.txt": b"hello"}
    extract(path, out)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == ["a", "a/b.txt", "c"]
    assert (out / "a/b.txt").read_bytes() == b"hello"
    assert not (out / "a/b.txt").stat().st_mode & 0o111


BAD = [(name, tarfile.REGTYPE, 0) for name in ("/etc/evil", "../evil", "a/../../evil", "C:/evil")]
BAD += [("a\\..\\evil", tarfile.REGTYPE, None), ("link", tarfile.SYMTYPE, stat.S_IFLNK)]
BAD += [("hard", tarfile.LNKTYPE, None), ("device", tarfile.CHRTYPE, stat.S_IFCHR)]
BAD += [("pipe", tarfile.FIFOTYPE, stat.S_IFIFO)]


@pytest.mark.parametrize("name, kind, mode", BAD)
def test_bad_members_are_refused_and_nothing_is_written(tmp_path, name, kind, mode):
    """mode: of the same in a zip file, which holds no hard links."""
    links = ("/etc/passwd", "good") if kind == tarfile.SYMTYPE else ("good",)
    for number, link in enumerate(links):
        bad = tar_info(name, kind, b"x" if kind == tarfile.REGTYPE else b"", link)
        path = make_tar(tmp_path / f"{number}.tar.gz", tar_info("good", content=b"x"), bad)
        assert read_members(path, ["good"]) == {"good": b"x"}
        refuses(extract, "do not use this archive", path, tmp_path / "deep" / "out")
    if mode is not None:
        path = make_zip(tmp_path / "0.zip", ("good", b"x", 0), (name, b"target", mode))
        refuses(extract, "do not use this archive", path, tmp_path / "out")
        refuses(read_members, "do not use this archive", path, [name])
    assert all(file.parent == tmp_path and file.is_file() for file in tmp_path.rglob("*"))


def test_a_link_already_in_the_folder_is_not_followed(tmp_path):
    for name in ("out", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "elsewhere")
    refuses(extract, "empty folder", make_tar(tmp_path / "x.tgz", *GOOD), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_too_much_data_missing_names_and_broken_files(tmp_path):
    path, deb = make_tar(tmp_path / "x.tgz", *GOOD), make_deb(tmp_path / "x.deb", *GOOD)
    broken = {"cut.tgz": path.read_bytes()[:-40], "cut.deb": deb.read_bytes()[:150]}
    broken |= {"text.zip": b"PK not really", "text.tar": b"no archive at all"}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KpnbError, match="fetch it again"):
            extract(tmp_path / name, tmp_path / "out")
    refuses(extract, "limit", path, tmp_path / "out", limit=5)
    refuses(read_members, "limit", path, ["a/b.txt"], limit=4)
    refuses(read_members, "has no nothing", path, ["nothing", "c"])
    refuses(read_members, "fetch it again", tmp_path / "absent.tgz", ["a"])


def test_a_tar_that_ends_in_a_zip_is_still_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", ("inside", b"x", 0)).read_bytes()
    path = make_tar(tmp_path / "x.tar", tar_info("inner.zip", content=inner), mode="w")
    assert read_members(path, ["inner.zip"]) == {"inner.zip": inner}
