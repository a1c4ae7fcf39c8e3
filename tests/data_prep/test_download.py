"""Files are fetched whole or not at all, from a server that cuts, lies and ignores ranges."""

import hashlib
import io
import os
import shutil
import urllib.request
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from file_site import serving

from data_prep import fetch as download
from data_prep import fetch as transfer
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


@pytest.mark.parametrize("etags", [True, False])
def test_a_cut_file_is_continued_where_it_ended(site, tmp_path, etags):
    site.etags, site.cuts = etags, [1000, 500]
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=1000-", "bytes=1500-"]
    assert (site.asked[1][2] is not None) == etags
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


@pytest.mark.parametrize("ignores", [False, True])
def test_a_part_of_an_older_file_is_thrown_away(site, tmp_path, ignores):
    file = remote(site, sha256=None)  # no checksum would find it
    site.files["/data.bin"] = b"x" * len(CONTENT)
    site.cuts = [1000, 0, 0]
    with pytest.raises(KpnbError):
        get(site, file, tmp_path)
    site.files["/data.bin"], site.ignores_if_range = CONTENT, ignores
    assert get(site, file, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("new", [b"short", b"y" * (len(CONTENT) + 9)])
def test_without_any_validator_another_size_tells_another_file(site, tmp_path, new):
    site.etags, file = False, remote(site, sha256=None, size=None)
    site.cuts = [5000, 0, 0]
    with pytest.raises(KpnbError):
        get(site, file, tmp_path)
    site.files["/data.bin"] = new
    assert get(site, file, tmp_path).read_bytes() == new


def test_a_part_that_was_complete_is_not_fetched_again(site, tmp_path):
    part = tmp_path / "data.bin.part"
    part.write_bytes(CONTENT)
    transfer._write_note(part, transfer._Note(f"{site.url}/data.bin", "", len(CONTENT)))
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT and site.asked == []
    assert not part.exists()


def test_a_wrong_part_without_any_validator_is_fetched_again_from_zero(site, tmp_path):
    """Same size, other bytes, no ETag: only the checksum can tell."""
    site.etags, site.files["/data.bin"] = False, b"x" * len(CONTENT)
    site.cuts = [1000, 0, 0]
    with pytest.raises(KpnbError):
        get(site, remote(site), tmp_path)
    site.files["/data.bin"] = CONTENT
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked, _ in site.asked[-2:]] == ["bytes=1000-", None]


def test_mirrors_are_tried_in_order_and_a_wrong_one_leaves_nothing(site, tmp_path):
    site.files["/wrong.bin"] = b"y" * len(CONTENT)
    path = get(site, remote(site, "/gone.bin", "/wrong.bin", "/data.bin"), tmp_path)
    assert path.read_bytes() == CONTENT and not (tmp_path / "data.bin.part").exists()
    assert [path for path, *_ in site.asked] == ["/gone.bin", "/wrong.bin", "/data.bin"]
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
    free = RemoteFile("data.bin", ("http://127.0.0.1:9/data.bin",))
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
    with pytest.raises(transfer.TransferError, match="https to http"):
        transfer._Redirect().redirect_request(request, None, 302, "", {}, "http://example.org/a")


def test_tries_are_counted_anew_after_progress(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "BLOCK", 100)
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


def test_a_cut_is_noticed_where_only_the_caller_knows_the_size(site, tmp_path):
    site.lengths, site.cuts = False, [1000]
    assert get(site, remote(site, sha256=None), tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_file_of_unknown_size(site, tmp_path):
    site.lengths = site.etags = False
    file = remote(site, sha256=None, size=None)
    assert get(site, file, tmp_path).read_bytes() == CONTENT


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


def test_a_damaged_note_means_from_zero(site, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"junk")
    for note in (b"", b"[]", b'{"url": 1}', b'{"odd": 1}', b'{"url": "http://else", "total": 9}'):
        (tmp_path / "data.bin.part.json").write_bytes(note)
        assert transfer._held(tmp_path / "data.bin.part", f"{site.url}/data.bin")[0] == 0
    assert get(site, remote(site), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["", "a/b", "../b", "/b", "a\\b", "."])
def test_names_with_folders_are_refused(tmp_path, name):
    with pytest.raises(KpnbError):
        fetch(RemoteFile(name, ("http://127.0.0.1:9/",)), tmp_path)


# obtain


def packed(members):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return held.getvalue()


@pytest.fixture
def archive(site):
    site.files["/set.zip"] = packed({"Set/a.txt": b"a", "Set/b/c.txt": b"c", "__MACOSX/x": b""})
    return RemoteFile("set.zip", (f"{site.url}/set.zip",), need=("Set/a.txt", "a.txt"))


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
        if f"{download._STAGING}" not in str(source):
            return real(source, target)
        if moved:
            raise Killed
        moved.append(real(source, target))

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(os, "replace", replace_and_die)
        obtain([archive], tmp_path, download=True)
    assert moved and not download._present(archive, tmp_path)
    obtain([archive], tmp_path, download=False)
    assert (tmp_path / "Set" / "a.txt").is_file() and (tmp_path / "__MACOSX" / "x").is_file()
    assert not list(tmp_path.glob(f"{download._STAGING}*"))


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
            obtain([archive], root, download=True)
        assert [p.name for p in root.iterdir() if p.suffix != ".lock"] == ["set.zip"]
    assert not (tmp_path / "evil.txt").exists()


def test_archives_share_a_folder_and_files_replace_older_ones(site, archive, tmp_path):
    site.files["/more.zip"] = packed({"Set/b/d.txt": b"d", "Set/a.txt": b"new"})
    more = RemoteFile("more.zip", (f"{site.url}/more.zip",), need=("Set/b/d.txt",))
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
