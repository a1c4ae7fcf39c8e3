"""Files are fetched whole or not at all; archives are unpacked so that nothing lands elsewhere."""

import errno
import hashlib
import os
import shutil
import stat
import tarfile
import urllib.request
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from archive_files import make_deb, make_tar, make_zip, packed, tar_info
from file_site import serving
from refusals import fails, refused, refuses

from data_prep import fetch as fetching
from data_prep.archives import extract, read_members
from data_prep.fetch import RemoteFile, fetch, obtain

CONTENT = bytes(range(256)) * 4096 + b"the end"  # 1 MiB and a little
LONG, SHA256 = len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
FROM_1000 = "bytes=1000-"


@pytest.fixture
def site(monkeypatch):
    with serving({"/data.bin": CONTENT}) as found:
        monkeypatch.setattr(fetching, "WAITS", (1.0, 2.0))
        monkeypatch.setattr(fetching, "sleep", found.waited.append)
        yield found


def remote(site, *paths, **facts):
    urls = tuple(f"{site.url}{path}" for path in paths or ("/data.bin",))
    return RemoteFile("data.bin", urls, **({"sha256": SHA256, "size": LONG} | facts))


def whole(site, folder, *paths, **facts):
    """Fetch the file; what is asked for meanwhile: the ranges, or the paths of several."""
    site.asked.clear()
    assert fetch(remote(site, *paths, **facts), folder).read_bytes() == CONTENT
    assert {p.name for p in folder.iterdir()} <= {"data.bin", ".data.bin.lock", "other", "new"}
    return [asked[len(paths) < 2] for asked in site.asked]


@pytest.mark.parametrize(
    "faults, part, asked",
    [({}, None, [None]), ({"states": [503, 429]}, None, [None] * 3),
     ({"cuts": [1000, 500]}, None, [None, FROM_1000, "bytes=1500-"]),
     ({"cuts": [1000], "ranges": False}, None, [None, FROM_1000]),  # starts from zero
     ({"cuts": [1000], "lengths": False}, None, [None, FROM_1000]),
     ({"shift": 7}, CONTENT[:1000], [FROM_1000, None]),  # it continues at another place
     # whatever was there before, only the checksum can tell
     ({}, CONTENT, []), ({}, b"x" * LONG, [None]), ({}, b"x" * 5000, ["bytes=5000-", None]),
     ({}, b"x" * (LONG + 9), [None])],
)  # fmt: skip
def test_what_is_asked_of_a_server(site, tmp_path, faults, part, asked):
    if part is not None:
        (tmp_path / "data.bin.part").write_bytes(part)
    vars(site).update(faults)
    assert whole(site, tmp_path, md5=hashlib.md5(CONTENT).hexdigest()) == asked
    assert whole(site, tmp_path) == []  # it is there
    # Only a mebibyte of progress makes the tries count anew.
    assert site.waited == [1.0, 2.0][: len(asked) - 1 if part is None else "shift" in faults]


@pytest.mark.parametrize(
    "faults, said, asked",
    [({"cuts": [1000] * 9, "ranges": False}, "ended after 1000", 3),  # at the same place
     ({"states": [403]}, "403", 1), ({"states": [500] * 4}, "500", 3),
     ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, "web page", 1),
     ({"headers": {"Content-Encoding": "gzip"}}, "encoding", 1),
     # redirects are followed to http only
     ({"redirects": {"/data.bin": "file:///etc/hostname"}}, r"only http and https|30\d", 1),
     ({"redirects": {"/data.bin": "ftp://example.org/c"}}, r"only http and https|30\d", 1)],
)  # fmt: skip
def test_a_server_that_does_not_give_the_file(site, tmp_path, faults, said, asked):
    vars(site).update(faults)
    refuses(fetch, said, remote(site), tmp_path)
    assert len(site.asked) == asked and len(site.waited) == asked - 1


def test_another_process_or_address_continues_what_a_killed_one_left(site, tmp_path):
    site.cuts = [1000, 0, 0]
    refuses(fetch, f"after 1000 of.*{tmp_path / 'data.bin'}", remote(site), tmp_path)
    assert not (tmp_path / "data.bin").exists() and (tmp_path / "data.bin.part").exists()
    assert whole(site, tmp_path) == [FROM_1000]
    site.files["/mirror.bin"], site.cuts = CONTENT, [1000, 0, 0]
    paths = whole(site, tmp_path / "other", "/data.bin", "/mirror.bin")
    assert paths[-1] == "/mirror.bin" and site.asked[-1][1] == FROM_1000
    site.files["/data.bin"], site.cuts = b"x" * LONG, [1000, 0, 0]  # a file that changes
    refuses(fetch, "ended after 1000", remote(site), tmp_path / "new")
    site.files["/data.bin"] = CONTENT
    assert whole(site, tmp_path / "new") == [FROM_1000, None]


def test_mirrors_are_tried_in_order_and_when_all_fail_each_is_named(site, tmp_path):
    site.files |= {"/wrong.bin": b"y" * LONG, "/small.bin": b"y"}
    tried = ["/gone.bin", "/wrong.bin", "/data.bin"]
    assert whole(site, tmp_path / "other", *tried) == tried
    assert site.waited == []  # neither 404 nor a wrong file gets better by waiting
    file = remote(site, "/gone.bin", "/wrong.bin", "/small.bin", page="https://example.org/set")
    file = replace(file, urls=(*file.urls, "file:///etc/hostname", "ftp://example.org/data.bin"))
    told = f"gone.bin: 404.*not {SHA256}.*a file of 1 bytes, not.*only http and https.*"
    refuses(fetch, f"{told}{file.page}.*{tmp_path / 'data.bin'}", file, tmp_path)
    assert not list(tmp_path.glob("*.part"))
    nobody = RemoteFile("free", ("http://127.0.0.1:9/free",), sha256=SHA256)
    refuses(fetch, "refused", nobody, tmp_path)
    assert site.waited == [1.0, 2.0]


def test_a_redirect_is_followed_but_not_from_https_to_http(site, tmp_path):
    site.redirects = {"/a": "/data.bin"}
    assert whole(site, tmp_path, "/a") == [None, None]
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(fetching.TransferError, match="https to http"):
        fetching._Redirect().redirect_request(request, None, 302, "", {}, "http://example.org/a")


def test_tries_are_counted_anew_after_progress(site, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "BLOCK", 100)
    site.files["/data.bin"] = short = CONTENT[:1000]
    site.cuts = [0, 100, 99, 100, 0, 100]
    fetch(remote(site, sha256=hashlib.sha256(short).hexdigest(), size=1000), tmp_path)
    assert site.waited == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_cut_where_nobody_states_a_size_and_a_full_disk(site, tmp_path, monkeypatch):
    site.lengths = False
    whole(site, tmp_path / "other", size=None)
    site.cuts = [1000]  # then the checksum finds it
    refuses(fetch, f"not {SHA256}", remote(site, size=None), tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    site.asked.clear()
    told = f"1e-06 GB free, and {LONG / 1e9:.3g} GB more"
    refuses(fetch, told, remote(site, "/data.bin", "/data.bin"), tmp_path)
    assert len(site.asked) == 1 and not (tmp_path / "data.bin.part").exists()


def test_what_is_there_but_wrong_and_names_that_are_none(site, tmp_path):
    for there in (CONTENT[:-1], b"z" * LONG):
        (tmp_path / "data.bin").write_bytes(there)
        refuses(fetch, "remove it and fetch it again", remote(site), tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == there
    for name in ("", "a/b", "../b", "/b", "a\\b", "."):
        file = RemoteFile(name, ("http://127.0.0.1:9/",), SHA256)
        refuses(fetch, "without|outside|do not use", file, tmp_path)
    refuses(remote, "no checksum", site, sha256=None)
    assert remote(site, sha256=None, md5="0" * 32).md5 and site.asked == []


def offered(site, name, need, members):
    content = packed(members)
    site.files[f"/{name}"] = content
    digest = hashlib.sha256(content).hexdigest()
    return RemoteFile(name, (f"{site.url}/{name}",), digest, need=need)


@pytest.fixture
def archive(site):
    members = {"Set/a.txt": b"a", "Set/b/c.txt": b"c", "__MACOSX/x": b""}
    return offered(site, "set.zip", ("Set/a.txt", "a.txt"), members)


def test_an_archive_is_fetched_and_unpacked_once(site, archive, tmp_path):
    for known in (archive, replace(archive, need=())):  # also without a known content
        root = tmp_path / str(len(known.need))
        for _ in range(2):
            obtain([known], root, download=True)
        assert (root / "Set" / "b" / "c.txt").read_bytes() == b"c"
        (root / "set.zip").unlink()  # what is unpacked is enough, also without network
        obtain([known], root, download=False)
        assert len(site.asked) == 1
        site.asked.clear()
    (tmp_path / "set.zip").write_bytes(site.files["/set.zip"])  # put there by a person
    obtain([archive], tmp_path, download=False)
    assert (tmp_path / "Set" / "a.txt").is_file() and site.asked == []


def test_what_is_missing_is_named_before_anything_is_fetched(site, archive, tmp_path):
    login = RemoteFile("login.tar", (), page="https://example.org/register", need=("L",))
    told = f"{archive.urls[0]}.*{tmp_path / 'login.tar'}.*{login.page}.*--download"
    refuses(obtain, told, [archive, login], tmp_path, download=False)
    with refused("may not fetch") as error:
        obtain([archive, login], tmp_path, download=True)
    assert "set.zip" not in str(error.value) and site.asked == []
    refuses(fetch, "may not be fetched by a program", login, tmp_path)


def test_a_killed_unpacking_is_noticed_and_done_again(archive, tmp_path, monkeypatch):
    real, moved = os.replace, []

    def replace_and_die(source, target):
        if fetching._STAGING not in str(source):
            return real(source, target)
        if moved:
            raise KeyboardInterrupt
        moved.append(real(source, target))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", replace_and_die)
        obtain([archive], tmp_path, download=True)
    assert moved and not fetching._present(archive, tmp_path)
    obtain([archive], tmp_path, download=False)
    assert (tmp_path / "Set" / "a.txt").is_file() and (tmp_path / "__MACOSX" / "x").is_file()
    assert not list(tmp_path.glob(f"{fetching._STAGING}*"))


@pytest.mark.parametrize(
    "said, members",
    [("cannot be read", None), ("outside", {"Set/a.txt": b"a", "../evil.txt": b"x"}),
     ("holds no Set/a.txt", {"Other/a.txt": b"a"}), ("limit", {"Set/a.txt": b"a" * 5000})],
)  # fmt: skip
def test_a_bad_archive_leaves_nothing(site, archive, tmp_path, monkeypatch, said, members):
    monkeypatch.setattr(fetching, "LEAST_LIMIT", 4000)
    monkeypatch.setattr(fetching, "EXPANSION", 0 if said == "limit" else 3)
    content, root = packed(members) if members else site.files["/set.zip"][:-30], tmp_path / "root"
    root.mkdir()
    (root / "set.zip").write_bytes(content)
    known = replace(archive, sha256=hashlib.sha256(content).hexdigest())
    refuses(obtain, said, [known], root, download=True)
    assert {p.name for p in root.iterdir()} == {"set.zip", ".set.zip.lock"}
    assert not (tmp_path / "evil.txt").exists()


def test_archives_share_a_folder_and_a_link_in_the_way_is_not_followed(site, archive, tmp_path):
    members = {"Set/b/d.txt": b"d", "Set/a.txt": b"new"}
    more, root = offered(site, "more.zip", ("Set/b/d.txt",), members), tmp_path / "root"
    obtain([archive, more], tmp_path, download=True)
    assert sorted(p.name for p in (tmp_path / "Set" / "b").iterdir()) == ["c.txt", "d.txt"]
    assert (tmp_path / "Set" / "a.txt").read_bytes() == b"new"  # files replace older ones
    for folder in (root, tmp_path / "elsewhere"):
        folder.mkdir()
    (root / "Set").symlink_to(tmp_path / "elsewhere")
    refuses(obtain, "in the way", [archive], root, download=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


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


def test_too_much_data_missing_names_and_broken_files(tmp_path, monkeypatch):
    path, deb = make_tar(tmp_path / "x.tgz", *GOOD), make_deb(tmp_path / "x.deb", *GOOD)
    broken = {"cut.tgz": path.read_bytes()[:-40], "cut.deb": deb.read_bytes()[:150]}
    broken |= {"text.zip": b"PK not really", "text.tar": b"no archive at all"}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        fails(extract, "fetch it again", tmp_path / name, tmp_path / "out")
    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfileobj", Mock(side_effect=OSError(errno.ENOSPC, "no space")))
        refuses(extract, "no space.*: check permissions, free space", path, tmp_path / "out")
    refuses(extract, "limit", path, tmp_path / "out", limit=5)
    refuses(read_members, "limit", path, ["a/b.txt"], limit=4)
    refuses(read_members, "has no nothing", path, ["nothing", "c"])
    refuses(read_members, "fetch it again", tmp_path / "absent.tgz", ["a"])
    inner = make_zip(tmp_path / "inner.zip", ("inside", b"x", 0)).read_bytes()
    tar = make_tar(tmp_path / "x.tar", tar_info("inner.zip", content=inner), mode="w")
    assert read_members(tar, ["inner.zip"]) == {"inner.zip": inner}  # though it ends in a zip
