"""Files are fetched whole or not at all, from a server that cuts, lies and ignores ranges."""

import hashlib
import os
import shutil
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import pytest
from archive_files import packed
from file_site import serving

from data_prep import fetch as fetching
from data_prep.fetch import RemoteFile, fetch, obtain
from kpnb.errors import KpnbError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CONTENT += b"the end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site():
    with serving({"/data.bin": CONTENT}) as found:
        yield found


def remote(site, *paths, **facts):
    urls = tuple(f"{site.url}{path}" for path in paths or ("/data.bin",))
    return RemoteFile("data.bin", urls, **({"sha256": SHA256, "size": len(CONTENT)} | facts))


def get(site, file, folder):
    return fetch(file, folder, waits=(1.0, 2.0), sleep=site.waited.append)


def test_a_file_comes_once_and_nothing_stays_beside_it(site, tmp_path):
    path = get(site, remote(site, md5=hashlib.md5(CONTENT).hexdigest()), tmp_path / "new")
    assert path == tmp_path / "new" / "data.bin" and path.read_bytes() == CONTENT
    visible = [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")]
    assert visible == ["data.bin"]
    assert get(site, remote(site), path.parent) == path
    assert len(site.asked) == 1 and site.waited == []


def test_a_cut_file_is_continued_where_it_ended(site, tmp_path):
    site.cuts = [1000, 500]
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in site.asked] == [None, "bytes=1000-", "bytes=1500-"]
    # Only a mebibyte of progress makes the tries count anew.
    assert site.waited == [1.0, 2.0]


def test_another_process_continues_what_a_killed_one_left(site, tmp_path):
    site.cuts = [1000, 0, 0]
    with pytest.raises(KpnbError, match="the connection ended after 1000 of") as error:
        get(site, remote(site), tmp_path)
    assert str(tmp_path / "data.bin") in str(error.value)
    assert not (tmp_path / "data.bin").exists() and (tmp_path / "data.bin.part").exists()
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=1000-"


def test_a_server_without_ranges_starts_from_zero(site, tmp_path):
    site.ranges, site.cuts = False, [1000]
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    # Cut at the same place for ever, it is given up.
    site.cuts = [1000] * 50
    site.asked.clear()
    with pytest.raises(KpnbError, match="ended after 1000"):
        get(site, remote(site), tmp_path / "other")
    assert len(site.asked) == 3


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("older", [b"x" * len(CONTENT), b"x" * 5000, b"x" * (len(CONTENT) + 9)])
def test_a_part_of_another_file_is_fetched_again_from_zero(site, tmp_path, older, size):
    """Whatever was there before, only the checksum can tell."""
    (tmp_path / "data.bin.part").write_bytes(older)
    assert get(site, remote(site, size=size), tmp_path).read_bytes() == CONTENT
    assert site.asked[-1][1] is None and not (tmp_path / "data.bin.part").exists()


def test_a_file_that_changes_while_it_comes_is_fetched_again_from_zero(site, tmp_path):
    site.files["/data.bin"] = b"x" * len(CONTENT)
    site.cuts = [1000, 0, 0]
    with pytest.raises(KpnbError):
        get(site, remote(site), tmp_path)
    site.files["/data.bin"] = CONTENT
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in site.asked[-2:]] == ["bytes=1000-", None]


def test_another_address_continues_what_the_first_one_cut(site, tmp_path):
    site.files["/mirror.bin"] = CONTENT
    site.cuts = [1000, 0, 0]
    file = remote(site, "/data.bin", "/mirror.bin")
    assert get(site, file, tmp_path).read_bytes() == CONTENT
    assert site.asked[-1] == ("/mirror.bin", "bytes=1000-")


def test_a_server_that_continues_at_another_place_is_not_believed(site, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    site.shift = 7
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in site.asked] == ["bytes=1000-", None]


def test_a_part_that_was_complete_is_not_fetched_again(site, tmp_path):
    part = tmp_path / "data.bin.part"
    part.write_bytes(CONTENT)
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT and site.asked == []
    assert not part.exists()


def test_mirrors_are_tried_in_order_and_a_wrong_one_leaves_nothing(site, tmp_path):
    site.files["/wrong.bin"] = b"y" * len(CONTENT)
    path = get(site, remote(site, "/gone.bin", "/wrong.bin", "/data.bin"), tmp_path)
    assert path.read_bytes() == CONTENT and not (tmp_path / "data.bin.part").exists()
    assert [path for path, _ in site.asked] == ["/gone.bin", "/wrong.bin", "/data.bin"]
    assert site.waited == []  # neither 404 nor a wrong file gets better by waiting


def test_when_all_fail_each_is_named(site, tmp_path):
    site.files["/wrong.bin"] = b"y" * len(CONTENT)
    site.files["/small.bin"] = b"y"
    file = remote(site, "/gone.bin", "/wrong.bin", "/small.bin", page="https://example.org/set")
    file = replace(file, urls=(*file.urls, "file:///etc/hostname", "ftp://example.org/data.bin"))
    with pytest.raises(KpnbError) as error:
        get(site, file, tmp_path)
    text = str(error.value)
    for said in ("gone.bin: 404", f"not {SHA256}", "a file of 1 bytes, not", "only http and https"):
        assert said in text
    assert "https://example.org/set" in text and str(tmp_path / "data.bin") in text
    assert not list(tmp_path.glob("*.part"))


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(site, tmp_path):
    site.states = [503, 429]
    assert get(site, remote(site), tmp_path).is_file()
    assert site.waited == [1.0, 2.0]
    site.states, site.asked = [403], site.asked[:0]
    with pytest.raises(KpnbError, match="403"):
        get(site, remote(site), tmp_path / "other")
    site.states = [500, 500, 500, 500]
    with pytest.raises(KpnbError, match="500"):
        get(site, remote(site), tmp_path / "other")
    assert site.states == [500]


def test_nobody_listens(tmp_path, site):
    free = RemoteFile("data.bin", ("http://127.0.0.1:9/data.bin",), sha256=SHA256)
    with pytest.raises(KpnbError, match="refused"):
        get(site, free, tmp_path)
    assert site.waited == [1.0, 2.0]


def test_redirects_are_followed_to_http_only(site, tmp_path):
    site.redirects = {"/a": "/data.bin", "/b": "file:///etc/hostname", "/c": "ftp://example.org/c"}
    assert get(site, remote(site, "/a"), tmp_path).read_bytes() == CONTENT
    for path in ("/b", "/c"):
        with pytest.raises(KpnbError, match=r"only http and https|30\d"):
            get(site, remote(site, path), tmp_path / "other")


def test_no_redirect_leads_from_https_to_http():
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(fetching.TransferError, match="https to http"):
        fetching._Redirect().redirect_request(request, None, 302, "", {}, "http://example.org/a")


def test_tries_are_counted_anew_after_progress(site, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "BLOCK", 100)
    site.cuts = [0, 100, 99, 100, 0, 100]
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert site.waited == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_web_page_and_another_encoding_are_not_the_file(site, tmp_path):
    for header, said in (
        ({"Content-Type": "text/html; charset=utf-8"}, "web page"),
        ({"Content-Encoding": "gzip"}, "encoding"),
    ):
        site.headers = header
        with pytest.raises(KpnbError, match=said):
            get(site, remote(site), tmp_path)


def test_a_cut_is_noticed_where_the_server_states_no_size(site, tmp_path):
    site.lengths, site.cuts = False, [1000]
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 2
    assert get(site, remote(site, size=None), tmp_path / "unknown").read_bytes() == CONTENT
    site.cuts = [1000]  # then the checksum finds it
    with pytest.raises(KpnbError, match=f"not {SHA256}"):
        get(site, remote(site, size=None), tmp_path / "cut")


def test_a_file_with_addresses_has_a_checksum(site):
    with pytest.raises(KpnbError, match="no checksum"):
        remote(site, sha256=None)
    assert remote(site, sha256=None, md5="0" * 32).md5


def test_a_full_disk_is_noticed_before_anything_is_written(site, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(KpnbError, match="1000 bytes free") as error:
        get(site, remote(site, "/data.bin", "/data.bin"), tmp_path)
    assert str(len(CONTENT)) in str(error.value) and len(site.asked) == 1
    assert not (tmp_path / "data.bin.part").exists()


def test_a_file_that_is_there_but_wrong_is_not_taken_and_not_removed(site, tmp_path):
    for there in (CONTENT[:-1], b"z" * len(CONTENT)):
        (tmp_path / "data.bin").write_bytes(there)
        with pytest.raises(KpnbError, match="remove it and fetch it again"):
            get(site, remote(site), tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == there
    assert site.asked == []


@pytest.mark.parametrize("name", ["", "a/b", "../b", "/b", "a\\b", "."])
def test_names_with_folders_are_refused(tmp_path, name):
    with pytest.raises(KpnbError):
        fetch(RemoteFile(name, ("http://127.0.0.1:9/",), SHA256), tmp_path)


# obtain


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
    for _ in range(2):
        obtain([archive], tmp_path / "root", download=True)
    assert (tmp_path / "root" / "Set" / "b" / "c.txt").read_bytes() == b"c"
    assert len(site.asked) == 1
    (tmp_path / "root" / "set.zip").unlink()  # what is unpacked is enough, also without network
    obtain([archive], tmp_path / "root", download=False)
    assert len(site.asked) == 1


def test_an_archive_that_a_person_put_there_needs_no_network(site, archive, tmp_path):
    (tmp_path / "set.zip").write_bytes(site.files["/set.zip"])
    obtain([archive], tmp_path, download=False)
    assert (tmp_path / "Set" / "a.txt").is_file() and site.asked == []


def test_what_is_missing_is_named_before_anything_is_fetched(site, archive, tmp_path):
    login = RemoteFile("login.tar", (), page="https://example.org/register", need=("L",))
    with pytest.raises(KpnbError) as error:
        obtain([archive, login], tmp_path, download=False)
    for said in (archive.urls[0], "--download", login.page, str(tmp_path / "login.tar")):
        assert said in str(error.value)
    with pytest.raises(KpnbError) as error:
        obtain([archive, login], tmp_path, download=True)
    assert "may not fetch" in str(error.value) and "set.zip" not in str(error.value)
    assert site.asked == []
    with pytest.raises(KpnbError, match="may not be fetched by a program"):
        fetch(login, tmp_path)


def test_a_killed_unpacking_is_noticed_and_done_again(archive, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    real, moved = os.replace, []

    def replace_and_die(source, target):
        if f"{fetching._STAGING}" not in str(source):
            return real(source, target)
        if moved:
            raise Killed
        moved.append(real(source, target))

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(os, "replace", replace_and_die)
        obtain([archive], tmp_path, download=True)
    assert moved and not fetching._present(archive, tmp_path)
    obtain([archive], tmp_path, download=False)
    assert (tmp_path / "Set" / "a.txt").is_file() and (tmp_path / "__MACOSX" / "x").is_file()
    assert not list(tmp_path.glob(f"{fetching._STAGING}*"))


def test_a_broken_or_hostile_archive_leaves_nothing(site, archive, tmp_path):
    bad = {
        "cannot be read": site.files["/set.zip"][:-30],
        "outside": packed({"Set/a.txt": b"a", "../evil.txt": b"x"}),
        "holds no Set/a.txt": packed({"Other/a.txt": b"a"}),
    }
    for number, (said, content) in enumerate(bad.items()):
        root = tmp_path / f"root{number}"
        root.mkdir()
        (root / "set.zip").write_bytes(content)
        with pytest.raises(KpnbError, match=said):
            known = replace(archive, sha256=hashlib.sha256(content).hexdigest())
            obtain([known], root, download=True)
        assert [p.name for p in root.iterdir() if p.suffix != ".lock"] == ["set.zip"]
    assert not (tmp_path / "evil.txt").exists()


def test_archives_share_a_folder_and_files_replace_older_ones(site, archive, tmp_path):
    members = {"Set/b/d.txt": b"d", "Set/a.txt": b"new"}
    more = offered(site, "more.zip", ("Set/b/d.txt",), members)
    obtain([archive, more], tmp_path, download=True)
    assert sorted(p.name for p in (tmp_path / "Set" / "b").iterdir()) == ["c.txt", "d.txt"]
    assert (tmp_path / "Set" / "a.txt").read_bytes() == b"new"


def test_a_link_in_the_way_is_not_followed(archive, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "Set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KpnbError, match="in the way"):
        obtain([archive], tmp_path / "root", download=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_limits_and_archives_without_a_known_content(site, archive, tmp_path):
    with pytest.raises(KpnbError, match="limit"):
        obtain([archive], tmp_path, download=True, limit=1)
    unknown = replace(archive, need=())
    for _ in range(2):
        obtain([unknown], tmp_path, download=True)
    assert (tmp_path / "Set" / "a.txt").is_file() and len(site.asked) == 1


def test_plain_files_are_fetched_checked_and_not_unpacked(site, tmp_path):
    file = replace(remote(site), unpack=False, need=("inner/data.bin",))
    obtain([file], tmp_path / "a", download=True)
    assert (tmp_path / "a" / "data.bin").read_bytes() == CONTENT
    (tmp_path / "b" / "inner").mkdir(parents=True)
    (tmp_path / "b" / "inner" / "data.bin").write_bytes(b"there")
    obtain([file], tmp_path / "b", download=False)
    (tmp_path / "a" / "data.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(KpnbError, match="bytes, not"):
        obtain([file], tmp_path / "a", download=True)
