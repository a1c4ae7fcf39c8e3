"""Where `data` leads: folders, a fake Google Drive, and names that are fetched from here."""

import json
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest
from file_site import serving
from public_files import offered, write_release, zipped

from data_prep import sst2
from kpnb.datasets import clouds, images
from kpnb.datasets import places as data_places
from kpnb.datasets.places import (
    IMAGES,
    MARKER,
    NAMES,
    embedded_licences,
    find_data,
    marked_folder,
)
from kpnb.datasets.texts.corpora import sst2 as read_sst2
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty current folder; data sets are kept in another."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("KPNB_DATA", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_the_embedded_data_need_no_folder(home):
    assert find_data("embedded") is None and not home.exists()


def test_a_folder_is_itself(tmp_path, monkeypatch):
    assert find_data(str(tmp_path)) == tmp_path
    assert find_data(".") is not None
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_data("~/here") == tmp_path / "here"
    (tmp_path / "here" / "coco").mkdir()  # a folder goes before a name
    assert find_data("coco").resolve() == tmp_path / "here" / "coco"
    (tmp_path / "file.zip").write_bytes(b"")
    with pytest.raises(KpnbError, match="is a file"):
        find_data(str(tmp_path / "file.zip"))


@pytest.mark.parametrize("value", ["", "nothing", "download:", "download:mnist", "\0", "x" * 5000])
def test_anything_else_says_what_may_be_given(value):
    with pytest.raises(KpnbError) as error:
        find_data(value)
    assert all(name in str(error.value) for name in (*NAMES, "'embedded'", "download:"))


@pytest.mark.parametrize(
    "value, near",
    [("sqad", "squad"), ("download:cub", "cub200"), ("embeded", "embedded"), ("voc", "voc2012")],
)
def test_near_names_are_named(value, near):
    with pytest.raises(KpnbError, match=rf"\(near: {near}"):
        find_data(value)


def test_near_folders_are_named(tmp_path):
    (tmp_path / "modelnet40_hdf5").mkdir()
    with pytest.raises(KpnbError) as error:
        find_data(str(tmp_path / "modelnet_hdf5"))
    assert str(tmp_path / "modelnet40_hdf5") in str(error.value)


def test_a_name_that_is_not_prepared_says_how(home):
    with pytest.raises(KpnbError, match="give download:squad") as error:
        find_data("squad")
    assert str(home / "squad") in str(error.value)


# Google Drive


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """A fake google.colab; `mount` makes the folders of a Drive with one data set."""
    drive = tmp_path / "content" / "drive"
    monkeypatch.setattr(data_places, "DRIVE", drive)
    seen = SimpleNamespace(drive=drive, mounts=[], fails=False)

    def mount(point):
        seen.mounts.append(point)
        if seen.fails:
            raise ValueError("mount failed")
        (drive / "MyDrive" / "squad").mkdir(parents=True)

    parts = {name: ModuleType(name) for name in ("google", "google.colab", "google.colab.drive")}
    parts["google.colab.drive"].mount = mount
    parts["google.colab"].drive = parts["google.colab.drive"]
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_drive_is_mounted_once_and_only_for_its_folders(colab, tmp_path):
    assert find_data(str(tmp_path)) == tmp_path and colab.mounts == []
    value = str(colab.drive / "MyDrive" / "squad")
    for _ in range(2):
        assert str(find_data(value)) == value
    assert colab.mounts == [str(colab.drive)]
    with pytest.raises(KpnbError, match="not on the mounted Drive"):
        find_data(str(colab.drive / "MyDrive" / "other"))
    assert len(colab.mounts) == 1


def test_a_drive_that_is_refused_and_no_colab(colab, monkeypatch):
    value = str(colab.drive / "MyDrive" / "squad")
    colab.fails = True
    with pytest.raises(KpnbError, match=r"cannot be mounted \(mount failed\)"):
        find_data(value)
    monkeypatch.delitem(sys.modules, "google.colab")
    with pytest.raises(KpnbError, match="on Colab only"):
        find_data(value)
    assert len(colab.mounts) == 1


def test_the_drive_is_where_colab_has_it():
    assert str(data_places.DRIVE) == "/content/drive"


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


def test_a_name_is_fetched_once_and_found_again(treebank, home, capsys):
    folder = find_data("download:sst2")
    assert len(read_sst2(folder)) == 44 and folder.is_relative_to(home / "sst2")
    assert f"data={folder}" in capsys.readouterr().out
    assert find_data("download:sst2") == find_data("sst2") == folder
    assert len(treebank.asked) == 1 and capsys.readouterr().out == ""


def test_without_the_variable_the_current_folder_keeps_them(treebank, monkeypatch, tmp_path):
    monkeypatch.delenv("KPNB_DATA")
    folder = find_data("download:sst2")
    assert folder.resolve().is_relative_to(tmp_path / "here" / "kpnb_data" / "sst2")


def test_what_the_script_says_goes_wrong_is_the_error(treebank, home, monkeypatch, capsys):
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 47, "dev": 2, "test": 1})
    with pytest.raises(KpnbError, match=r"^SST-2 has 46 train sentences here.*--partial\)\.$"):
        find_data("download:sst2")
    assert "error: SST-2 has 46" in capsys.readouterr().err  # as the script says it
    with pytest.raises(KpnbError, match="not prepared"):
        find_data("sst2")
    treebank.files.clear()
    with pytest.raises(KpnbError, match="404"):
        monkeypatch.setenv("KPNB_DATA", str(home.parent / "other"))
        find_data("download:sst2")


def test_a_marker_whose_folder_is_gone_is_not_believed(treebank, home):
    folder = find_data("download:sst2")
    folder.rename(folder.with_name("moved"))
    with pytest.raises(KpnbError, match="not prepared"):
        find_data("sst2")
    assert find_data("download:sst2") == folder and len(treebank.asked) == 1  # archive is there


def test_a_place_that_cannot_be_written(home):
    home.write_text("a file")
    with pytest.raises(KpnbError, match="KPNB_DATA"):
        find_data("download:sst2")


# Images: their command is data_prep.command.main


def prepared_folder(root, name="cub200-224"):
    folder = root / "prepared" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"name": name}))
    return folder


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_prepared_by_their_command(home, monkeypatch, name):
    command = pytest.importorskip("data_prep.command")
    calls = []

    def main(reader, arguments):
        calls.append((reader.NAME, arguments))
        prepared_folder(home / name, f"{name}-{command.SIZE}")
        return 0

    monkeypatch.setattr(command, "main", main)
    folder = find_data(f"download:{name}")
    assert folder == home / name / "prepared" / f"{name}-{command.SIZE}"
    assert calls == [(name, ["--root", str(home / name), "--download"])]
    assert find_data(f"download:{name}") == find_data(name) == folder and len(calls) == 1


def test_which_prepared_folder_of_several(home):
    root = home / "cub200"
    (root / "prepared" / "cub200-96").mkdir(parents=True)  # without a manifest: not whole
    with pytest.raises(KpnbError):
        find_data("cub200")
    small = prepared_folder(root, "cub200-32")
    assert find_data("cub200") == small  # the only one
    prepared_folder(root, "cub200-64")
    with pytest.raises(KpnbError):  # nobody can say which
        find_data("cub200")
    assert find_data(str(small)) == small
    usual = prepared_folder(root)
    assert find_data("cub200") == usual


def test_a_command_that_makes_nothing(home, monkeypatch):
    command = pytest.importorskip("data_prep.command")
    monkeypatch.setattr(command, "main", lambda *_: 0)
    with pytest.raises(KpnbError, match="holds no prepared coco"):
        find_data("download:coco")
    monkeypatch.setattr(command, "main", lambda *_: 3)
    with pytest.raises(KpnbError, match="ended with 3"):
        find_data("download:coco")


def test_data_behind_a_login_say_where_to_put_them(home):
    pytest.importorskip("data_prep.command")
    with pytest.raises(KpnbError) as error:
        find_data("download:ilsvrc_det")
    assert str(home / "ilsvrc_det") in str(error.value)


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
    assert counts["objects"] == len({item.source for item in images.cut_outs()})
    assert counts["backgrounds"] == len({item.source for item in images.photos()})
    assert counts.keys() - {"objects", "backgrounds"} == {*clouds.FILES} | {
        "ratings and words", "sentences", "people, places and natural objects", "chemical elements"
    }  # fmt: skip


def test_the_notes_on_the_embedded_texts_name_versions_and_licences():
    notes = (packed_file("sentences.tsv.gz").parent / "README.md").read_text()
    texts = [e for e in embedded_licences() if e["source"].split()[-1] in
             ("vaderSentiment", "wordnet-base", "mendeleev")]  # fmt: skip
    assert {entry["version"] for entry in texts} == {"3.3.2", "3.0-37", "1.3.0"}
    assert all(entry["version"] in notes for entry in texts) and "MIT" in notes
    assert "WordNet 3.0 licence" in notes
    assert "Copyright 2006 by Princeton University" in notes  # the licence wants its text kept
    assert "Copyright (c) 2015 Lukasz Mentel" in notes
