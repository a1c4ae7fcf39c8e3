"""Archives are read without trusting them, and the packed images are made as their script says."""

import importlib.util
import io
import json
import stat
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.fetch import check_sha256, extract, read_members, safe_name
from kpnb.datasets import images as image_files
from kpnb.errors import KpnbError

SCRIPT = Path(__file__).parents[2] / "data_prep" / "embedded_images.py"


@pytest.fixture(scope="module")
def prep():
    spec = importlib.util.spec_from_file_location("prep_embedded_images", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tar_info(name, kind=tarfile.REGTYPE, content=b"", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), link
    return info, content


def make_tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return path


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content)
    return path


def make_deb(path, *members, compression="xz"):
    data = path.with_suffix(".data")
    make_tar(data, *members, mode=f"w:{compression}")
    parts = ((b"debian-binary", b"2.0\n"), (b"control.tar.xz", b"odd"))
    parts += ((f"data.tar.{compression}".encode(), data.read_bytes()),)
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts:
            file.write(name.ljust(16) + b"0".ljust(32) + str(len(content)).encode().ljust(10))
            file.write(b"`\n" + content + b"\n" * (len(content) % 2))
    return path


GOOD = (tar_info("./a"), tar_info("./a/b.txt", content=b"hello"), tar_info("c", content=b"!"))
GOOD[0][0].type = tarfile.DIRTYPE


# Archives


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


def test_safe_name_and_sha256(tmp_path):
    assert [safe_name(name) for name in ("./a/b", "a//b/", ".", "a..b/..c")] == [
        "a/b",
        "a/b",
        "",
        "a..b/..c",
    ]
    (tmp_path / "f").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_sha256(tmp_path / "f", abc, "fetch it")
    for path, digest in ((tmp_path / "f", "0" * 64), (tmp_path / "absent", abc)):
        with pytest.raises(KpnbError, match="fetch it"):
            check_sha256(path, digest, "fetch it")


# The script


def picture_bytes(size=(120, 80), box=(10, 10, 110, 70), kind="PNG"):
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    picture.paste((200, 40, 30, 255), box)
    picture.putpixel((box[0], box[1]), (0, 0, 0, 0))
    for x in range(box[0], box[0] + 20):  # a corner cut away: the box is not all opaque
        for y in range(box[1], box[1] + 20):
            picture.putpixel((x, y), (0, 0, 0, 0))
    buffer = io.BytesIO()
    (picture if kind == "PNG" else picture.convert("RGB")).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def tiny(prep, tmp_path, monkeypatch):
    """A table and two packages of two objects and one photograph, in place of the real ones."""
    root = tmp_path / "root"
    root.mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    make_deb(root / "d.deb", tar_info("./p/field.png", content=buffer.getvalue()))
    make_tar(root / "n.tgz", *(tar_info(f"q/{n}.png", content=picture_bytes()) for n in "ab"))
    packages = {}
    for source, file, kind, path in (
        ("d", "d.deb", "debian", "p/{name}.png"),
        ("n", "n.tgz", "npm", "q/{name}.png"),
    ):
        digest = image_files.hashlib.sha256((root / file).read_bytes()).hexdigest()
        packages[source] = dict(
            kind=kind, package=f"pkg-{source}", version="1.0", file=file, sha256=digest, path=path
        )
    table = dict(
        packages=packages,
        photos=["d:field"],
        objects={"bird": {"wren": ["n:a"]}, "tool": {"saw": ["n:b"]}},
    )
    (tmp_path / "table.json").write_text(json.dumps(table))
    monkeypatch.setattr(prep, "TABLE", tmp_path / "table.json")
    return root


def test_the_script_writes_the_same_bytes_twice(prep, tiny, tmp_path, capsys):
    for out in ("one", "two"):
        assert prep.main(["--root", str(tiny), "--out", str(tmp_path / out)]) == 0
    for name in (image_files.OBJECTS, image_files.BACKGROUNDS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert capsys.readouterr().out.count("differs from") == 4
    with zipfile.ZipFile(tmp_path / "one" / image_files.OBJECTS) as packed:
        meta = json.loads(packed.read("meta.json"))
        assert [(item["class"], item["group"], item["path"]) for item in meta] == [
            ("bird", "wren", "q/a.png"),
            ("tool", "saw", "q/b.png"),
        ]
        picture = Image.open(io.BytesIO(packed.read("bird/000.webp")))
        assert picture.mode == "RGBA" and picture.size == (96, 58)  # 100 x 60, visible part
    with zipfile.ZipFile(tmp_path / "one" / image_files.BACKGROUNDS) as packed:
        assert len(packed.namelist()) == 7
        assert Image.open(io.BytesIO(packed.read("field_5.jpg"))).size == (128, 128)


def test_the_script_says_which_package_to_fetch(prep, tiny, tmp_path, capsys, monkeypatch):
    arguments = ["--root", str(tiny), "--out", str(tmp_path / "out")]
    (tiny / "d.deb").write_bytes(b"another version")
    assert prep.main(arguments) == 1
    assert "apt-get download pkg-d=1.0" in capsys.readouterr().err
    (tiny / "n.tgz").unlink()
    monkeypatch.setattr(prep.shutil, "which", lambda command: None)
    assert prep.main([*arguments, "--download"]) == 1
    assert "npm pack pkg-n@1.0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_download_runs_only_what_is_missing(prep, tiny, monkeypatch):
    packages = json.loads(prep.TABLE.read_text())["packages"]
    kept = (tiny / "n.tgz").read_bytes()
    (tiny / "n.tgz").unlink()
    # A stand-in for npm: this Python, writing the file into the current folder.
    program = f"open('n.tgz', 'wb').write({kept!r})"
    monkeypatch.setattr(prep, "fetch_command", lambda package: [sys.executable, "-c", program])
    prep.download(packages, tiny)
    prep.check_packages(packages, tiny)
    (tiny / "n.tgz").unlink()
    monkeypatch.setattr(prep, "fetch_command", lambda package: [sys.executable, "-c", "1 / 0"])
    with pytest.raises(KpnbError, match="ZeroDivisionError"):
        prep.download(packages, tiny)


def test_cut_out_refuses_what_is_no_cut_out(prep):
    empty = Image.new("RGBA", (100, 100), (9, 9, 9, 20))
    small, full, thin = empty.copy(), empty.copy(), empty.copy()
    small.paste((9, 9, 9, 255), (0, 0, 40, 40))
    full.paste((9, 9, 9, 255), (0, 0, 100, 100))
    for i in range(100):
        thin.putpixel((i, i), (9, 9, 9, 255))
    for picture, reason in (
        (empty, "nothing"),
        (small, "nothing"),
        (full, "fills 1.000"),
        (thin, "fills 0.010"),
    ):
        with pytest.raises(KpnbError, match=reason):
            prep.cut_out(picture, "a picture")


def test_crops_leave_the_border_out(prep):
    photo = Image.new("RGB", (400, 300), (255, 0, 0))
    photo.paste((0, 0, 255), (18, 18, 382, 282))
    crops = list(prep.crops(photo))
    assert len(crops) == 6
    assert all(crop.getextrema() == ((0, 0), (0, 0), (255, 255)) for crop in crops)


def test_the_packed_files_hold_what_the_table_lists(prep):
    table = json.loads(prep.TABLE.read_text())
    listed = {
        (name, thing, reference)
        for name, things in table["objects"].items()
        for thing, references in things.items()
        for reference in references
    }
    packed = [(item.class_name, item.group, item.name) for item in image_files.cut_outs()]
    assert set(packed) == listed and len(packed) == len(listed) == 1042
    assert list(image_files.class_names()) == list(table["objects"])
    assert Counter(item.photo for item in image_files.photos()) == dict.fromkeys(table["photos"], 6)
    for item in image_files.cut_outs():
        assert max(item.picture.size) == 96
