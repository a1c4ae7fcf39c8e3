"""SST-2, SQuAD and ModelNet40 are fetched, read and counted, on small releases of their layouts."""

import json
import shutil
from functools import partial

import pytest
from data_trees import off_tree, points_tree
from file_site import serving
from object_trees import put
from public_files import CONTEXT, ROWS, document, offered, qa, write_release, zipped
from readers import said

from data_prep import modelnet40, squad, sst2
from data_prep.command import main
from kpnb.datasets.modelnet40 import modelnet40_shapes
from kpnb.datasets.places import marked_folder
from kpnb.datasets.texts.corpora import sst2 as read_sst2


@pytest.fixture
def site():
    with serving({}) as found:
        yield found


@pytest.fixture
def run(tmp_path):
    def command(module, *arguments, root=tmp_path / "root", status=0):
        return said(partial(main, module), "--root", root, *arguments, status=status)

    return command


@pytest.fixture
def release(tmp_path, site, monkeypatch):
    """Offer a folder, by its name in `made`, as the one file of a layout; counts are its own."""

    def offer(module, layout, name, *counts):
        offered(module, layout, site, monkeypatch, [zipped(tmp_path / "made" / name)])
        tables = (module.COUNTS, getattr(module, "SENTENCES", {}))
        for known, own in zip(tables, counts, strict=False):
            monkeypatch.setitem(known, layout, own)

    (tmp_path / "made").mkdir()
    return offer


@pytest.fixture
def treebank(tmp_path, release, monkeypatch):
    write_release(tmp_path / "made" / sst2.RELEASE)
    counts = {"train": 44, "dev": 2, "test": 1}
    release(sst2, "treebank", sst2.RELEASE, counts, counts | {"train": 46})
    monkeypatch.setattr(sst2, "LINES", {})
    return tmp_path / "root"


def test_sst2_is_fetched_read_and_reported(treebank, run):
    told = run(sst2, status=2)
    assert "nlp.stanford.edu/sentiment" in told and "--download" in told
    told, folder = run(sst2, "--download"), treebank / "stanfordSentimentTreebank"
    assert told.splitlines()[-1] == f"data={folder}" and len(read_sst2(folder)) == 44
    assert "2 classes: negative, positive" in told
    assert "train: 44 sentences (3 negative, 41 positive; left out: 2 neutral, 0 not" in told
    assert "dev: 2 sentences" in told and "foreground by phrase labels" in told
    # "well" and "made" of "Grim but well-made" (Grim is 0.45; "-" is a word), "Very superb" whole.
    assert "57.1% of 7 words are foreground, 1 of 2 texts have foreground and background" in told
    assert marked_folder(treebank) == folder
    # The folder of the files themselves is a root, too.
    assert run(sst2, root=folder).endswith(f"data={folder}\n")


@pytest.mark.parametrize("counts", ["SENTENCES", "COUNTS"])
def test_sst2_with_other_counts_is_refused_unless_partial(treebank, monkeypatch, run, counts):
    known = getattr(sst2, counts)
    monkeypatch.setitem(known, "treebank", known["treebank"] | {"train": 47})
    assert "--partial" in run(sst2, "--download", status=2)
    run(sst2, "--download", "--partial")
    assert marked_folder(treebank) is None  # an incomplete copy is not found by its name


def test_a_dictionary_that_was_cut_is_refused(treebank, monkeypatch, run):
    run(sst2, "--download", "--partial")
    file = treebank / sst2.RELEASE / "dictionary.txt"
    monkeypatch.setattr(sst2, "LINES", {file.name: len(file.read_text().splitlines())})
    run(sst2)
    kept = [line for line in file.read_text().splitlines() if not line.startswith("jokes|")]
    put(file, "\n".join(kept))
    assert f"{len(kept)} lines of dictionary.txt here" in run(sst2, status=2)


@pytest.mark.usefixtures("treebank")
def test_sentences_that_are_not_in_the_dictionary_explain_a_difference(tmp_path, monkeypatch, run):
    fillers = [(100 + i, 1, f"Filler {i}", f"Filler {i}", 0.75) for i in range(60)]
    rows = [(200, 1, "Nowhere else", "Somewhere else", 0.9), *ROWS, *fillers]
    write_release(tmp_path / "made" / sst2.RELEASE, rows)
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 67, "dev": 2, "test": 1})
    for clear, status in ((64, 0), (65, 0), (66, 2), (63, 0), (62, 2)):
        monkeypatch.setitem(sst2.COUNTS, "treebank", {"train": clear, "dev": 2, "test": 1})
        run(sst2, root=tmp_path / "made", status=status)


def test_squad(tmp_path, site, monkeypatch, run):
    year = ("1901", CONTEXT.index("1901"))
    train = document(qa(), qa("q2", found=(year, year)))
    dev = document(qa("q3", found=(("in", CONTEXT.index("in")), year)))
    contents = [json.dumps(part).encode() for part in (train, dev)]
    offered(squad, "json", site, monkeypatch, contents)
    monkeypatch.setattr(squad, "COUNTS", {"train": 2, "dev": 1})
    root, told = tmp_path / "root", run(squad, "--download")
    assert "train: 2 questions on 1 passages, 2 accepted answers" in told
    assert "dev: 1 questions on 1 passages, 2 accepted answers" in told
    # Of 4 + 14 words: the answer's one, "saw" in its sentence and "saw" in the question.
    assert "16.7% of 36 words are foreground, 2 of 2 texts" in told
    assert "CC BY-SA 4.0" in told and told.endswith(f"data={root}\n")
    assert marked_folder(root) == root
    put(root / "dev-v1.1.json", json.dumps(dev, indent=1))  # another spelling of the same
    assert "--partial" in run(squad, status=2)
    run(squad, "--partial")
    put(root / "dev-v1.1.json", json.dumps(dev))
    monkeypatch.setattr(squad, "COUNTS", {"train": 2, "dev": 2})
    assert "1 dev questions here, the complete release has 2" in run(squad, status=2)
    run(squad, "--partial", "--download", root=root / "SQuAD")
    for name in ("train", "dev"):
        (root / f"{name}-v1.1.json").unlink()  # a folder of its own in the root will do
    run(squad, "--partial")


def test_modelnet40_points(tmp_path, release, monkeypatch, run):
    name = "modelnet40_ply_hdf5_2048"
    points_tree(tmp_path / "made" / name)
    counts, folder = {"classes": 3, "train shapes": 7, "test shapes": 6}, tmp_path / "root" / name
    release(modelnet40, "hdf5", name, counts)
    told = run(modelnet40, "--download")
    assert "3 classes: bed, lamp, table" in told and "train: 7 shapes, 2 to 3 of a class" in told
    assert "1,024 points of the shape among 500 others, 67.2%" in told
    assert told.endswith(f"data={folder}\n") and marked_folder(folder.parent) == folder
    assert len(modelnet40_shapes(folder, "test")) == 6
    monkeypatch.setitem(modelnet40.COUNTS, "hdf5", counts | {"train shapes": 8})
    assert "has 8" in run(modelnet40, status=2)
    run(modelnet40, "--partial")


def glue_tree(folder):
    put(folder / "train.tsv", "sentence\tlabel\na fine film \t1\ndull \t0\n")
    put(folder / "dev.tsv", "sentence\tlabel\nnot good \t0\n")


def meshes_tree(folder):
    off_tree(folder)
    (folder / "bed").rename(folder / "airplane")  # by which a folder is known as the release's


@pytest.mark.parametrize(
    ("module", "layout", "tree", "name", "counts", "line"),
    [(sst2, "glue", glue_tree, "SST-2", {"train": 2, "dev": 1},
      "train: 2 sentences (1 negative, 1 positive"),
     (modelnet40, "off", meshes_tree, "ModelNet40",
      {"classes": 3, "train shapes": 12, "test shapes": 9}, "train: 12 shapes, 4 to 4 of a class")],
)  # fmt: skip
def test_the_other_layout(tmp_path, release, run, module, layout, tree, name, counts, line):
    made = tmp_path / "made" / name
    tree(made)
    release(module, layout, name, counts, counts)
    told = run(module, "--layout", layout, "--download")
    assert line in told and told.endswith(f"data={tmp_path / 'root' / name}\n")
    if layout == "off":
        shutil.rmtree(made / "lamp" / "test")
        told = run(module, "--layout", layout, "--partial", root=made)
        assert "2 classes: airplane, table" in told and "in one split: lamp" in told
        assert "train: 8 shapes, 4 to 4 of a class" in told  # those that are read
        next((made / "lamp" / "train").iterdir()).write_text("OFF broken")  # but not this one
        assert len(modelnet40_shapes(made, "train")) == 8
        meshes_tree(made / "again")
        (made / "again" / "lamp" / "test").rename(made / "lamp" / "test")
        shutil.rmtree(made / "again")
    told = run(module, "--layout", layout, root=made)
    assert line in told and told.endswith(f"data={made}\n")
