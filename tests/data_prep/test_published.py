"""SST-2, SQuAD and ModelNet40 are fetched, read and counted, on small releases of their layouts."""

import json
import shutil

import numpy as np
import pytest
from file_site import serving
from public_files import (
    CONTEXT,
    MODEL_CLASSES,
    ROWS,
    box,
    document,
    offered,
    qa,
    write_release,
    zipped,
)

from data_prep import modelnet40, squad, sst2
from data_prep.command import main, shares
from kpnb.datasets.modelnet40 import modelnet40_shapes
from kpnb.datasets.places import marked_folder
from kpnb.datasets.texts.corpora import sst2 as read_sst2


@pytest.fixture
def site():
    with serving({}) as found:
        yield found


@pytest.fixture
def run(tmp_path, capsys):
    """Run a data set's command in a folder; its status, and what it says."""

    def command(module, *arguments, root=tmp_path / "root"):
        status = main(module, ["--root", str(root), *arguments])
        said = capsys.readouterr()
        return status, said.err if status else said.out

    return command


@pytest.fixture
def release(tmp_path, site, monkeypatch):
    """Offer a folder, by its name in `made`, as the one file of a layout; counts are its own."""

    def offer(module, layout, name, *counts):
        content = zipped(tmp_path / "made" / name, tmp_path / "x.zip")
        offered(module, layout, site, monkeypatch, [content])
        tables = (module.COUNTS, getattr(module, "SENTENCES", {}))
        for known, own in zip(tables, counts, strict=False):
            monkeypatch.setitem(known, layout, own)

    (tmp_path / "made").mkdir()
    return offer


@pytest.fixture
def treebank(tmp_path, release):
    write_release(tmp_path / "made" / sst2.RELEASE)
    counts = {"train": 44, "dev": 2, "test": 1}
    release(sst2, "treebank", sst2.RELEASE, counts, counts | {"train": 46})
    return tmp_path / "root"


def test_sst2_is_fetched_read_and_reported(treebank, site, run):
    status, said = run(sst2)
    assert status == 2 and said.count("\n") == 1
    assert "nlp.stanford.edu/sentiment" in said and "--download" in said
    status, said = run(sst2, "--download")
    folder = treebank / "stanfordSentimentTreebank"
    assert said.splitlines()[-1] == f"data={folder}" and len(read_sst2(folder)) == 44
    assert "2 classes: negative, positive" in said
    assert "train: 44 sentences (3 negative, 41 positive; left out: 2 neutral, 0 not" in said
    assert "dev: 2 sentences" in said and "foreground by phrase labels" in said
    # "well" and "made" of "Grim but well-made" (Grim is 0.45; "-" is a word), "Very superb" whole.
    assert "57.1% of 7 words are foreground, 1 of 2 texts have foreground and background" in said
    assert marked_folder(treebank) == folder
    # Again, without network and without the archive.
    (treebank / "stanfordSentimentTreebank.zip").unlink()
    asked = len(site.asked)
    assert run(sst2)[0] == 0 and len(site.asked) == asked
    # The folder of the files themselves is a root, too.
    assert run(sst2, root=folder)[1].endswith(f"data={folder}\n")


@pytest.mark.parametrize("counts", ["SENTENCES", "COUNTS"])
def test_sst2_with_other_counts_is_refused_unless_partial(treebank, monkeypatch, run, counts):
    known = getattr(sst2, counts)
    monkeypatch.setitem(known, "treebank", known["treebank"] | {"train": 47})
    status, said = run(sst2, "--download")
    assert status == 2 and "--partial" in said
    assert run(sst2, "--download", "--partial")[0] == 0
    assert marked_folder(treebank) is None  # an incomplete copy is not found by its name


def test_sst2_sentences_that_are_not_in_the_dictionary_explain_a_difference(
    tmp_path, treebank, monkeypatch, run
):
    rows = [(200, 1, "Nowhere else", "Somewhere else", 0.9), *ROWS[:6]]
    rows += [(100 + i, 1, f"Filler {i}", f"Filler {i}", 0.75) for i in range(60)]
    folder = tmp_path / "made" / sst2.RELEASE
    shutil.rmtree(folder)
    write_release(folder, rows + ROWS[6:])
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 67, "dev": 2, "test": 1})
    for clear, status in ((64, 0), (65, 0), (66, 2), (63, 0), (62, 2)):
        monkeypatch.setitem(sst2.COUNTS, "treebank", {"train": clear, "dev": 2, "test": 1})
        assert run(sst2, root=tmp_path / "made")[0] == status, clear


def test_glue(tmp_path, release, monkeypatch, run):
    made = tmp_path / "made" / "SST-2"
    made.mkdir()
    (made / "train.tsv").write_text("sentence\tlabel\na fine film \t1\ndull \t0\n")
    (made / "dev.tsv").write_text("sentence\tlabel\nnot good \t0\n")
    release(sst2, "glue", "SST-2", *[{"train": 2, "dev": 1}] * 2)
    said = run(sst2, "--layout", "glue", "--download")[1]
    assert "train: 2 sentences (1 negative, 1 positive" in said and "lexicon" in said
    # Where the release lies beside it, GLUE's own folder is what is named.
    assert said.endswith(f"data={tmp_path / 'root' / 'SST-2'}\n")
    monkeypatch.setitem(sst2.SENTENCES, "glue", {"train": 3, "dev": 1})
    assert run(sst2, "--layout", "glue")[0] == 2


def test_squad(tmp_path, site, monkeypatch, run):
    year = ("1901", CONTEXT.index("1901"))
    train = document(qa(), qa("q2", found=(year, year)))
    dev = document(qa("q3", found=(("in", CONTEXT.index("in")), year)))
    contents = [json.dumps(part).encode() for part in (train, dev)]
    offered(squad, "json", site, monkeypatch, contents)
    monkeypatch.setattr(squad, "COUNTS", {"train": 2, "dev": 1})
    root = tmp_path / "root"
    status, said = run(squad)
    assert status == 2 and "train-v1.1.json" in said and "dev-v1.1.json" in said
    said = run(squad, "--download")[1]
    assert "train: 2 questions on 1 passages, 2 accepted answers" in said
    assert "dev: 1 questions on 1 passages, 2 accepted answers" in said
    # Of 4 + 14 words: the answer's one, "saw" in its sentence and "saw" in the question.
    assert "16.7% of 36 words are foreground, 2 of 2 texts" in said
    assert "CC BY-SA 4.0" in said and said.endswith(f"data={root}\n")
    assert marked_folder(root) == root
    monkeypatch.setattr(squad, "COUNTS", {"train": 2, "dev": 2})
    status, said = run(squad)
    assert status == 2 and "1 dev questions here, the complete release has 2" in said
    assert run(squad, "--partial", "--download", root=root / "SQuAD")[0] == 0
    for name in ("train", "dev"):
        (root / f"{name}-v1.1.json").unlink()  # a folder of its own in the root will do
    assert run(squad, "--partial")[0] == 0
    file = root / "SQuAD" / "dev-v1.1.json"
    file.write_bytes(file.read_bytes()[:-20])
    status, said = run(squad, root=root / "SQuAD")
    assert status == 2 and "remove it and fetch it again" in said


def test_modelnet40_points(tmp_path, release, monkeypatch, run):
    h5py = pytest.importorskip("h5py")
    name = "modelnet40_ply_hdf5_2048"
    made, folder = tmp_path / "made" / name, tmp_path / "root" / name
    made.mkdir()
    (made / "shape_names.txt").write_text("bed\nlamp\n")
    rng = np.random.default_rng(0)
    for split, labels in (("train", [0, 1, 1]), ("test", [1, 0])):
        (made / f"{split}_files.txt").write_text(f"data/x/ply_data_{split}0.h5\n")
        with h5py.File(made / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = rng.normal(size=(len(labels), 2048, 3)).astype("float32")
            file["label"] = np.array(labels, dtype="uint8")[:, None]
    counts = {"classes": 2, "train shapes": 3, "test shapes": 2}
    release(modelnet40, "hdf5", name, counts)
    said = run(modelnet40, "--download")[1]
    assert "2 classes: bed, lamp" in said and "train: 3 shapes, 1 to 2 of a class" in said
    assert "1,024 points of the shape among 500 others, 67.2%" in said
    assert said.endswith(f"data={folder}\n") and marked_folder(folder.parent) == folder
    assert len(modelnet40_shapes(folder, "test").labels) == 2
    monkeypatch.setitem(modelnet40.COUNTS, "hdf5", counts | {"train shapes": 4})
    status, said = run(modelnet40)
    assert status == 2 and "has 4" in said and run(modelnet40, "--partial")[0] == 0


def test_modelnet40_meshes(tmp_path, release, run):
    made = tmp_path / "made" / "ModelNet40"
    for name in ("airplane", *MODEL_CLASSES):
        for split, numbers in (("train", (1, 2)), ("test", (3,))):
            (made / name / split).mkdir(parents=True)
            for n in numbers:
                (made / name / split / f"{name}_{n}.off").write_text(box(1, 2, n))
    counts = {"classes": 4, "train shapes": 8, "test shapes": 4}
    release(modelnet40, "off", "ModelNet40", counts)
    said = run(modelnet40, "--layout", "off", "--download")[1]
    assert said.endswith(f"data={tmp_path / 'root' / 'ModelNet40'}\n")
    said = run(modelnet40, "--layout", "off", root=made)[1]
    assert said.endswith(f"data={made}\n") and "4 classes: airplane, bed, lamp, night_stand" in said
    assert "train: 8 shapes, 2 to 2 of a class" in said
    (made / "bed" / "test" / "bed_3.off").write_text("")
    status, said = run(modelnet40, "--layout", "off", "--partial", root=made)
    assert status == 2 and "bed_3.off does not begin with OFF" in said


def test_shares_by_hand():
    said = shares([(1, 4), (0, 3), (2, 2), (1, 1)])
    assert said.startswith("40.0% of 10 words") and "1 of 4 texts" in said
    assert shares([]).startswith("0.0% of 0 words are foreground, 0 of 0 texts")
