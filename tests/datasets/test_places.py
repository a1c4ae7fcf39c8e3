"""Where `data` leads: folders, a fake Google Drive, and names that are fetched from here."""

import json
import sys
from collections import Counter
from types import ModuleType

import pytest
from file_site import serving
from public_files import offered, write_release, zipped
from refusals import refused

from data_prep import command, sst2
from kpnb.datasets import clouds, images, places
from kpnb.datasets.places import IMAGES, MARKER, NAMES, embedded_licences, find_data, marked_folder
from kpnb.datasets.texts.corpora import sst2 as read_sst2
from kpnb.fingerprint import packed_file


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty current folder; data sets are kept in another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KPNB_DATA", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_the_embedded_data_need_no_folder_and_a_folder_is_itself(home, tmp_path, monkeypatch):
    assert find_data("embedded") is None and not home.exists()
    assert find_data(str(tmp_path)) == tmp_path and find_data(".") is not None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_data("~/here") == tmp_path / "here"
    (tmp_path / "here" / "coco").mkdir()  # a folder goes before a name
    assert find_data("coco").resolve() == tmp_path / "here" / "coco"
    (tmp_path / "file.zip").write_bytes(b"")
    with refused("is a file"):
        find_data(str(tmp_path / "file.zip"))
    with refused(f"not prepared in {home / 'squad'}.* give download:squad"):
        find_data("squad")


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
    assert (f"(near: {near}" in message) if near else ("near" not in message)
    assert all(name in message for name in (*NAMES, "'embedded'", "download:"))


def test_drive_is_mounted_once_only_for_its_folders_and_only_on_colab(tmp_path, monkeypatch):
    assert str(places.DRIVE) == "/content/drive"  # where Colab has it
    drive, mounts, fails = tmp_path / "content" / "drive", [], [True]
    folder, other = drive / "MyDrive" / "squad", str(drive / "MyDrive" / "other")
    monkeypatch.setattr(places, "DRIVE", drive)
    with refused("on Colab only"):
        find_data(str(folder))

    def mount(point):
        mounts.append(point)
        if fails.pop():
            raise ValueError("mount failed")
        folder.mkdir(parents=True)

    for name in ("google", "google.colab", "google.colab.drive"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["google.colab.drive"].mount = mount
    assert find_data(str(tmp_path)) == tmp_path and mounts == []
    with refused(r"cannot be mounted \(mount failed\)"):
        find_data(str(folder))
    fails.append(False)
    for _ in range(2):
        assert find_data(str(folder)) == folder
    with refused("not on the mounted Drive"):
        find_data(other)
    assert mounts == [str(drive)] * 2  # a failed one and a good one


# Names


@pytest.fixture
def treebank(tmp_path, monkeypatch):
    """SST-2 from this machine, small."""
    with serving({}) as site:
        (tmp_path / "made").mkdir()
        made = write_release(tmp_path / "made" / "stanfordSentimentTreebank")
        offered(sst2, "treebank", site, monkeypatch, [zipped(made, tmp_path / "made.zip")])
        monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 46, "dev": 2, "test": 1})
        monkeypatch.setitem(sst2.COUNTS, "treebank", {"train": 44, "dev": 2, "test": 1})
        yield site


def test_a_name_is_fetched_once_and_found_again(treebank, home, capsys, monkeypatch, tmp_path):
    folder = find_data("download:sst2")
    assert len(read_sst2(folder)) == 44 and folder.is_relative_to(home / "sst2")
    assert f"data={folder}" in capsys.readouterr().out
    assert find_data("download:sst2") == find_data("sst2") == folder
    assert len(treebank.asked) == 1 and capsys.readouterr().out == ""
    folder.rename(folder.with_name("moved"))  # the marker is not believed
    with refused("not prepared"):
        find_data("sst2")
    assert find_data("download:sst2") == folder and len(treebank.asked) == 1  # archive is there
    monkeypatch.delenv("KPNB_DATA")
    folder = find_data("download:sst2")
    assert folder.resolve().is_relative_to(tmp_path / "here" / "kpnb_data" / "sst2")


def test_what_the_script_says_goes_wrong_is_the_error(treebank, home, monkeypatch, capsys):
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 47, "dev": 2, "test": 1})
    with refused(r"^SST-2 has 46 train sentences here.*--partial\)\.$"):
        find_data("download:sst2")
    assert "error: SST-2 has 46" in capsys.readouterr().err  # as the script says it
    with refused("not prepared"):
        find_data("sst2")
    treebank.files.clear()
    monkeypatch.setenv("KPNB_DATA", str(home.parent / "other"))
    with refused("404"):
        find_data("download:sst2")
    with refused(str(home.parent / "other" / "ilsvrc_det")):  # behind a login: where to put them
        find_data("download:ilsvrc_det")
    home.with_name("file").write_text("a file")
    monkeypatch.setenv("KPNB_DATA", str(home.with_name("file")))
    with refused("let KPNB_DATA name another"):
        find_data("download:sst2")


# Images: their command is data_prep.command.main


def prepared_folder(root, name="cub200-224"):
    folder = root / "prepared" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"name": name}))
    return folder


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_prepared_by_their_command(home, monkeypatch, name):
    calls = []

    def main(reader, arguments):
        calls.append((reader.NAME, arguments))
        prepared_folder(home / name, f"{name}-{command.SIZE}")
        return 0

    for status, told in ((0, f"holds no prepared {name}"), (3, "ended with 3")):
        monkeypatch.setattr(command, "main", lambda *_, status=status: status)
        with refused(told):
            find_data(f"download:{name}")
    monkeypatch.setattr(command, "main", main)
    folder = find_data(f"download:{name}")
    assert folder == home / name / "prepared" / f"{name}-{command.SIZE}"
    assert calls == [(name, ["--root", str(home / name), "--download"])]
    assert find_data(f"download:{name}") == find_data(name) == folder and len(calls) == 1


def test_which_prepared_folder_of_several(home):
    root = home / "cub200"
    (root / "prepared" / "cub200-96").mkdir(parents=True)  # without a manifest: not whole
    with refused("not prepared"):
        find_data("cub200")
    small = prepared_folder(root, "cub200-32")
    assert find_data("cub200") == small  # the only one
    prepared_folder(root, "cub200-64")
    with refused("not prepared"):  # nobody can say which
        find_data("cub200")
    assert find_data(str(small)) == small
    usual = prepared_folder(root)
    assert find_data("cub200") == usual


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "kpnb-checked-1"}', '{"format": "other", "folder": "."}']
    + [json.dumps({"format": "kpnb-checked-1", "folder": f}) for f in ("/", "../x", "no", 3)],
)
def test_a_marker_that_is_foreign_or_leads_out_is_none(tmp_path, content):
    (tmp_path / "x").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / MARKER).write_text(content)
    assert marked_folder(tmp_path / "root") is None


# Where the embedded data are from


def test_every_part_of_the_embedded_data_has_a_licence():
    entries = embedded_licences()
    for entry in entries:
        assert set(entry) == {"part", "source", "version", "licence", "what"}
        assert all(isinstance(value, str) and value for value in entry.values())
    counts = Counter(entry["part"] for entry in entries)
    assert counts.pop("objects") == len({item.source for item in images.cut_outs()})
    assert counts.pop("backgrounds") == len({item.source for item in images.photos()})
    texts = {"ratings and words", "sentences", "people, places and natural objects"}
    assert counts.keys() == {*clouds.FILES, *texts, "chemical elements"}
    notes = (packed_file("sentences.tsv.gz").parent / "README.md").read_text()
    versions = {e["source"].split()[-1]: e["version"] for e in entries}
    known = {"vaderSentiment": "3.3.2", "wordnet-base": "3.0-37", "mendeleev": "1.3.0"}
    assert versions | known == versions and all(version in notes for version in known.values())
    for licence in ("MIT", "WordNet 3.0 licence", "Copyright 2006 by Princeton University",
                    "Copyright (c) 2015 Lukasz Mentel"):  # fmt: skip
        assert licence in notes  # WordNet's wants its text kept
