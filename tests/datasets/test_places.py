"""Where `data` leads: folders, a fake Google Drive, and names that are fetched from here."""

import json
import sys
from types import ModuleType

import pytest
from file_site import serving
from prepared_folder import prepared_folder
from public_files import offered, write_release, zipped
from refusals import refused, refuses

from data_prep import command, sst2
from kpnb.datasets import places
from kpnb.datasets.places import IMAGES, MARKER, NAMES, find_data, marked_folder
from kpnb.datasets.texts.corpora import sst2 as read_sst2


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty current folder; data sets are kept in another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KPNB_DATA", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_the_embedded_data_need_no_folder_and_a_folder_is_itself(home, tmp_path, monkeypatch):
    assert find_data("embedded") is None and find_data(".") is not None and not home.exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_data("~/here") == tmp_path / "here"
    refuses(find_data, "data='~' is no folder", "~")  # text, as everywhere
    (tmp_path / "here" / "coco").mkdir()  # a folder goes before a name
    assert find_data("coco").resolve() == tmp_path / "here" / "coco"
    (tmp_path / "file.zip").write_bytes(b"")
    refuses(find_data, "is a file", str(tmp_path / "file.zip"))
    refuses(find_data, f"not prepared in {home / 'squad'}.* give download:squad", "squad")


def test_a_prepared_folder_is_known_by_its_own_name(home):
    """Of several of one data set, whose own name then leads to none of them."""
    for name in ("tiny_imagenet-64-some", "tiny_imagenet-64-others"):
        refuses(find_data, f"is not prepared in {home / 'tiny_imagenet'}: do so first", name)
        prepared_folder(home / "tiny_imagenet" / "prepared" / name)
        assert find_data(name) == home / "tiny_imagenet" / "prepared" / name
    refuses(find_data, "not prepared", "tiny_imagenet")
    for outside in ("tiny_imagenet-64-some/..", "tiny_imagenet-/../tiny_imagenet-64-some"):
        refuses(find_data, "do so first", outside)


@pytest.mark.parametrize(
    ("value", "near"),
    [("sqad", "squad"), ("download:cub", "cub200"), ("embeded", "embedded"), ("voc", "voc2012"),
     ("her", "here"), *((value, None) for value in ("", "nothing", "download:", "\0", "x" * 5000))],
)  # fmt: skip
def test_anything_else_says_what_may_be_given_and_what_is_near(monkeypatch, tmp_path, value, near):
    monkeypatch.chdir(tmp_path)
    with refused() as error:
        find_data(value)
    message = str(error.value)
    assert f"(near: {near}" in message if near else "near" not in message
    assert all(name in message for name in (*NAMES, "'embedded'", "download:"))


def test_drive_is_mounted_once_only_for_its_folders_and_only_on_colab(tmp_path, monkeypatch):
    assert str(places.DRIVE) == "/content/drive"  # where Colab has it
    drive, mounts = tmp_path / "content" / "drive", []
    folder, other = drive / "MyDrive" / "squad", str(drive / "MyDrive" / "other")
    monkeypatch.setattr(places, "DRIVE", drive)
    refuses(find_data, "on Colab only", str(folder))

    def mount(point):
        mounts.append(point)
        if len(mounts) == 1:
            raise ValueError("mount failed")
        folder.mkdir(parents=True)

    for name in ("google", "google.colab", "google.colab.drive"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["google.colab.drive"].mount = mount
    assert find_data(str(tmp_path)) == tmp_path and mounts == []
    refuses(find_data, r"cannot be mounted \(mount failed\)", str(folder))
    assert find_data(str(folder)) == find_data(str(folder)) == folder
    refuses(find_data, "not on the mounted Drive", other)
    assert mounts == [str(drive)] * 2  # a failed one and a good one


@pytest.fixture
def treebank(tmp_path, monkeypatch):
    with serving({}) as site:
        made = write_release(tmp_path / "stanfordSentimentTreebank")
        offered(sst2, "treebank", site, monkeypatch, [zipped(made)])
        for known, train in ((sst2.SENTENCES, 46), (sst2.COUNTS, 44)):
            monkeypatch.setitem(known, "treebank", {"train": train, "dev": 2, "test": 1})
        monkeypatch.setattr(sst2, "LINES", {})
        yield site


def test_a_name_is_fetched_once_and_found_again(treebank, home, capsys, monkeypatch, tmp_path):
    folder = find_data("download:sst2")
    assert len(read_sst2(folder)) == 44 and folder.is_relative_to(home / "sst2")
    assert f"data={folder}" in capsys.readouterr().out
    assert find_data("download:sst2") == find_data("sst2") == folder
    assert len(treebank.asked) == 1 and capsys.readouterr().out == ""
    folder.rename(folder.with_name("moved"))  # the marker is not believed
    refuses(find_data, "not prepared", "sst2")
    assert find_data("download:sst2") == folder and len(treebank.asked) == 1  # archive is there
    monkeypatch.delenv("KPNB_DATA")
    folder = find_data("download:sst2")
    assert folder.resolve().is_relative_to(tmp_path / "here" / "kpnb_data" / "sst2")


def test_what_the_script_says_goes_wrong_is_the_error(treebank, home, monkeypatch):
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 47, "dev": 2, "test": 1})
    refuses(find_data, r"^SST-2 has 46 train sentences here.*--partial\)\.$", "download:sst2")
    refuses(find_data, "not prepared", "sst2")
    treebank.files.clear()
    home.with_name("a file").write_text("")
    for place, told, name in (("other", "404", "sst2"), ("other", "other/ilsvrc_det", "ilsvrc_det"),
                              ("a file", "let KPNB_DATA name another", "sst2")):  # fmt: skip
        monkeypatch.setenv("KPNB_DATA", str(home.with_name(place)))
        refuses(find_data, told, f"download:{name}")


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_prepared_by_their_command(home, monkeypatch, name):
    calls = []

    def run(reader, arguments):
        calls.append((reader.NAME, arguments))
        prepared_folder(made)

    made = home / name / "prepared" / f"{name}-{command.SIZE}"
    monkeypatch.setattr(command, "run", lambda *_: None)
    refuses(find_data, f"holds no prepared {name}", f"download:{name}")
    monkeypatch.setattr(command, "run", run)
    assert {find_data(given) for given in (f"download:{name}", f"download:{name}", name)} == {made}
    assert calls == [(name, ["--root", str(home / name), "--download"])]


def test_which_prepared_folder_of_several(home):
    root = home / "cub200" / "prepared"
    (root / "cub200-96").mkdir(parents=True)  # without a manifest: not whole
    refuses(find_data, "not prepared", "cub200")
    assert prepared_folder(root / "cub200-32") == find_data("cub200")  # the only one
    prepared_folder(root / "cub200-64")
    refuses(find_data, "not prepared", "cub200")  # nobody can say which
    assert prepared_folder(root / "cub200-224") == find_data("cub200")  # the usual one


def test_a_marker_that_is_foreign_or_leads_out_is_none(home):
    given = [{}, {"format": "kpnb-checked-1"}, {"format": "other", "folder": "."}]
    given += [{"format": "kpnb-checked-1", "folder": folder} for folder in ("/", "../x", "no", 3)]
    home.with_name("x").mkdir()
    home.mkdir()
    for content in ("", "[]", *map(json.dumps, given)):
        (home / MARKER).write_text(content)
        assert marked_folder(home) is None, content
