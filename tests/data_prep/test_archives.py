"""Archives are read without trusting them: good ones, hostile ones and broken ones."""

import stat
import tarfile

import pytest
from archive_files import make_deb, make_tar, make_zip, tar_info

from data_prep.archives import extract, read_members, safe_name
from kpnb.errors import KpnbError

GOOD = (
    tar_info("./a", tarfile.DIRTYPE),
    tar_info("./a/b.txt", content=b"hello"),
    tar_info("c", content=b"!"),
)


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tgz", "x.zip", "x.deb"])
def test_good_archives_are_read_and_unpacked(tmp_path, kind):
    path = tmp_path / kind
    if kind.endswith(".zip"):
        file = stat.S_IFREG | 0o644
        make_zip(path, ("a/", b"", stat.S_IFDIR), ("a/b.txt", b"hello", file), ("c", b"!", 0))
    else:
        (make_deb if kind.endswith(".deb") else make_tar)(path, *GOOD)
    assert read_members(path, ["a/b.txt"]) == {"a/b.txt": b"hello"}
    written = extract(path, tmp_path / "out")
    assert sorted(file.relative_to(tmp_path / "out").as_posix() for file in written) == [
        "a/b.txt",
        "c",
    ]
    assert (tmp_path / "out/a/b.txt").read_bytes() == b"hello"
    assert not (tmp_path / "out/a/b.txt").stat().st_mode & 0o111


BAD_TAR = [
    tar_info("/etc/evil", content=b"x"),
    tar_info("../evil", content=b"x"),
    tar_info("a/../../evil", content=b"x"),
    tar_info("C:/evil", content=b"x"),
    tar_info("a\\..\\evil", content=b"x"),
    tar_info("link", tarfile.SYMTYPE, link="/etc/passwd"),
    tar_info("link", tarfile.SYMTYPE, link="good"),
    tar_info("hard", tarfile.LNKTYPE, link="good"),
    tar_info("device", tarfile.CHRTYPE),
    tar_info("pipe", tarfile.FIFOTYPE),
]


@pytest.mark.parametrize("bad", BAD_TAR, ids=lambda bad: f"{bad[0].name}-{bad[0].type}")
def test_bad_tar_members_are_refused_and_nothing_is_written(tmp_path, bad):
    path = make_tar(tmp_path / "x.tar.gz", tar_info("good", content=b"x"), bad)
    with pytest.raises(KpnbError, match="do not use this archive"):
        extract(path, tmp_path / "deep" / "out")
    assert [file.name for file in tmp_path.rglob("*")] == ["x.tar.gz"]
    assert read_members(path, ["good"]) == {"good": b"x"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../evil", 0), ("/evil", 0), ("link", stat.S_IFLNK), ("device", stat.S_IFCHR)],
)
def test_bad_zip_members_are_refused(tmp_path, name, mode):
    path = make_zip(tmp_path / "x.zip", ("good", b"x", 0), (name, b"target", mode))
    with pytest.raises(KpnbError, match="do not use this archive"):
        extract(path, tmp_path / "out")
    with pytest.raises(KpnbError, match="do not use this archive"):
        read_members(path, [name])
    assert not (tmp_path / "out").exists()


def test_a_link_already_in_the_folder_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KpnbError, match="empty folder"):
        extract(make_tar(tmp_path / "x.tgz", *GOOD), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_too_much_data_missing_names_and_broken_files(tmp_path):
    path = make_tar(tmp_path / "x.tgz", *GOOD)
    for call in (
        lambda: extract(path, tmp_path / "out", limit=5),
        lambda: read_members(path, ["a/b.txt"], limit=4),
    ):
        with pytest.raises(KpnbError, match="limit"):
            call()
    with pytest.raises(KpnbError, match="has no nothing"):
        read_members(path, ["nothing", "c"])
    assert read_members(path, ["nothing", "c"], strict=False) == {"c": b"!"}
    deb = make_deb(tmp_path / "x.deb", *GOOD)
    for name, content in (
        ("cut.tgz", path.read_bytes()[:-40]),
        ("cut.deb", deb.read_bytes()[:150]),
        ("text.zip", b"PK not really"),
        ("text.tar", b"no archive at all"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KpnbError, match="fetch it again"):
            extract(tmp_path / name, tmp_path / "out")
    with pytest.raises(KpnbError, match="fetch it again"):
        read_members(tmp_path / "absent.tgz", ["a"])


def test_a_tar_that_ends_in_a_zip_is_still_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", ("inside", b"x", 0)).read_bytes()
    path = make_tar(tmp_path / "x.tar", tar_info("inner.zip", content=inner), mode="w")
    assert read_members(path, ["inner.zip"]) == {"inner.zip": inner}


def test_safe_name():
    names = {"./a/b": "a/b", "a//b/": "a/b", ".": "", "a..b/..c": "a..b/..c"}
    assert {name: safe_name(name) for name in names} == names
