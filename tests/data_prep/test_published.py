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
from data_prep.command import Shares
from kpnb.datasets.modelnet40 import modelnet40_shapes
from kpnb.datasets.places import marked_folder
from kpnb.datasets.texts.corpora import sst2 as read_sst2


@pytest.fixture
def site():
    with serving({}) as found:
        yield found


@pytest.fixture
def treebank(tmp_path, site, monkeypatch):
    made = write_release(tmp_path / "made" / "stanfordSentimentTreebank")
    content = zipped(made, tmp_path / "treebank.zip")
    offered(sst2, "treebank", site, monkeypatch, [content])
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 46, "dev": 2, "test": 1})
    monkeypatch.setitem(sst2.COUNTS, "treebank", {"train": 44, "dev": 2, "test": 1})
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def made_folder(tmp_path):
    (tmp_path / "made").mkdir()


def test_sst2_is_fetched_read_and_reported(treebank, site, capsys):
    assert sst2.main(["--root", str(treebank), "--download"]) == 0
    said = capsys.readouterr().out
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
    assert sst2.main(["--root", str(treebank)]) == 0 and len(site.asked) == asked
    # The folder of the files themselves is a root, too.
    assert sst2.main(["--root", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(f"data={folder}\n")


def test_sst2_needs_something(tmp_path, capsys, treebank):
    assert sst2.main(["--root", str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert "nlp.stanford.edu/sentiment" in said and "--download" in said


@pytest.mark.parametrize(
    "counts, wrong",
    [("SENTENCES", {"train": 47, "dev": 2, "test": 1}), ("COUNTS", {"train": 45, "dev": 2})],
)
def test_sst2_with_other_counts_is_refused_unless_partial(
    treebank, monkeypatch, capsys, counts, wrong
):
    monkeypatch.setitem(getattr(sst2, counts), "treebank", wrong | {"test": 1})
    arguments = ["--root", str(treebank), "--download"]
    assert sst2.main(arguments) == 2
    assert "--partial" in capsys.readouterr().err
    assert sst2.main([*arguments, "--partial"]) == 0
    assert marked_folder(treebank) is None  # an incomplete copy is not found by its name


def test_sst2_sentences_that_are_not_in_the_dictionary_explain_a_difference(
    tmp_path, treebank, monkeypatch
):
    rows = [(200, 1, "Nowhere else", "Somewhere else", 0.9), *ROWS[:6]]
    rows += [(100 + i, 1, f"Filler {i}", f"Filler {i}", 0.75) for i in range(60)]
    rows += ROWS[6:]
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "made").mkdir()
    write_release(treebank.parent / "made" / "stanfordSentimentTreebank", rows)
    monkeypatch.setitem(sst2.SENTENCES, "treebank", {"train": 67, "dev": 2, "test": 1})
    for clear, status in ((64, 0), (65, 0), (66, 2), (63, 0), (62, 2)):
        monkeypatch.setitem(sst2.COUNTS, "treebank", {"train": clear, "dev": 2, "test": 1})
        assert sst2.main(["--root", str(tmp_path / "made")]) == status, clear


def test_glue(tmp_path, site, monkeypatch, capsys):
    made = tmp_path / "made" / "SST-2"
    made.mkdir()
    (made / "train.tsv").write_text("sentence\tlabel\na fine film \t1\ndull \t0\n")
    (made / "dev.tsv").write_text("sentence\tlabel\nnot good \t0\n")
    offered(sst2, "glue", site, monkeypatch, [zipped(made, tmp_path / "glue.zip")])
    for counts in (sst2.SENTENCES, sst2.COUNTS):
        monkeypatch.setitem(counts, "glue", {"train": 2, "dev": 1})
    arguments = ["--root", str(tmp_path / "root"), "--layout", "glue"]
    assert sst2.main([*arguments, "--download"]) == 0
    said = capsys.readouterr().out
    assert "train: 2 sentences (1 negative, 1 positive" in said and "lexicon" in said
    # Where the release lies beside it, GLUE's own folder is what is named.
    assert said.endswith(f"data={tmp_path / 'root' / 'SST-2'}\n")
    monkeypatch.setitem(sst2.SENTENCES, "glue", {"train": 3, "dev": 1})
    assert sst2.main(arguments) == 2


@pytest.fixture
def questions(site, monkeypatch):
    year = ("1901", CONTEXT.index("1901"))
    content = json.dumps(document(qa(), qa("q2", found=(year, year))))
    second = json.dumps(document(qa("q3", found=(("in", CONTEXT.index("in")), year))))
    content, second = content.encode(), second.encode()
    offered(squad, "json", site, monkeypatch, [content, second])
    monkeypatch.setattr(squad, "COUNTS", {"train": 2, "dev": 1})


def test_squad(questions, tmp_path, capsys, monkeypatch):
    root = tmp_path / "root"
    assert squad.main(["--root", str(root)]) == 2
    said = capsys.readouterr().err
    assert "train-v1.1.json" in said and "dev-v1.1.json" in said
    assert squad.main(["--root", str(root), "--download"]) == 0
    said = capsys.readouterr().out
    assert "train: 2 questions on 1 passages, 2 accepted answers" in said
    assert "dev: 1 questions on 1 passages, 2 accepted answers" in said
    # Of 4 + 14 words: the answer's one, "saw" in its sentence and "saw" in the question.
    assert "16.7% of 36 words are foreground, 2 of 2 texts" in said
    assert "CC BY-SA 4.0" in said and said.endswith(f"data={root}\n")
    assert marked_folder(root) == root
    monkeypatch.setattr(squad, "COUNTS", {"train": 2, "dev": 2})
    assert squad.main(["--root", str(root)]) == 2
    assert "2" in capsys.readouterr().err


def test_squad_in_a_folder_of_its_own_and_a_cut_file(questions, tmp_path, capsys):
    inner = tmp_path / "root" / "SQuAD"
    assert squad.main(["--root", str(inner), "--download"]) == 0
    assert squad.main(["--root", str(inner.parent)]) == 0
    file = inner / "dev-v1.1.json"
    file.write_bytes(file.read_bytes()[:-20])
    assert squad.main(["--root", str(inner)]) == 2
    assert "remove it and fetch it again" in capsys.readouterr().err


def test_modelnet40_points(tmp_path, site, monkeypatch, capsys):
    h5py = pytest.importorskip("h5py")
    made = tmp_path / "made" / modelnet40.POINTS
    made.mkdir()
    (made / "shape_names.txt").write_text("bed\nlamp\n")
    rng = np.random.default_rng(0)
    for split, labels in (("train", [0, 1, 1]), ("test", [1, 0])):
        (made / f"{split}_files.txt").write_text(f"data/x/ply_data_{split}0.h5\n")
        with h5py.File(made / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = rng.normal(size=(len(labels), 2048, 3)).astype("float32")
            file["label"] = np.array(labels, dtype="uint8")[:, None]
    offered(modelnet40, "hdf5", site, monkeypatch, [zipped(made, tmp_path / "points.zip")])
    counts = {"classes": 2, "train shapes": 3, "test shapes": 2}
    monkeypatch.setitem(modelnet40.COUNTS, "hdf5", counts)
    root = tmp_path / "root"
    assert modelnet40.main(["--root", str(root), "--download"]) == 0
    said = capsys.readouterr().out
    assert "2 classes: bed, lamp" in said and "train: 3 shapes, 1 to 2 of a class" in said
    assert "1,024 points of the shape among 500 others, 67.2%" in said
    folder = root / modelnet40.POINTS
    assert said.endswith(f"data={folder}\n") and marked_folder(root) == folder
    assert len(modelnet40_shapes(folder, "test").labels) == 2
    monkeypatch.setitem(modelnet40.COUNTS, "hdf5", counts | {"train shapes": 4})
    assert modelnet40.main(["--root", str(root)]) == 2
    assert "4" in capsys.readouterr().err
    assert modelnet40.main(["--root", str(root), "--partial"]) == 0


def test_modelnet40_meshes(tmp_path, site, monkeypatch, capsys):
    made = tmp_path / "made" / "ModelNet40"
    names = ("airplane", *MODEL_CLASSES)
    for name in names:
        for split, numbers in (("train", (1, 2)), ("test", (3,))):
            (made / name / split).mkdir(parents=True)
            for n in numbers:
                (made / name / split / f"{name}_{n}.off").write_text(box(1, 2, n))
    offered(modelnet40, "off", site, monkeypatch, [zipped(made, tmp_path / "meshes.zip")])
    monkeypatch.setitem(
        modelnet40.COUNTS, "off", {"classes": 4, "train shapes": 8, "test shapes": 4}
    )
    arguments = ["--root", str(tmp_path / "root"), "--layout", "off"]
    assert modelnet40.main([*arguments, "--download"]) == 0
    assert capsys.readouterr().out.endswith(f"data={tmp_path / 'root' / 'ModelNet40'}\n")
    assert modelnet40.main(["--root", str(made), "--layout", "off"]) == 0
    said = capsys.readouterr().out
    assert said.endswith(f"data={made}\n") and "4 classes: airplane, bed, lamp, night_stand" in said
    assert "train: 8 shapes, 2 to 2 of a class" in said
    (made / "bed" / "test" / "bed_3.off").write_text("")
    assert modelnet40.main(["--root", str(made), "--layout", "off", "--partial"]) == 2
    assert "bed_3.off does not begin with OFF" in capsys.readouterr().err


def test_the_counts_are_those_of_the_releases():
    assert sum(sst2.SENTENCES["treebank"].values()) == 11855
    assert sum(sst2.COUNTS["treebank"].values()) == 9613
    assert modelnet40.COUNTS["off"]["train shapes"] + 2468 == 12311
    assert sum(squad.COUNTS.values()) == 98169


def test_shares_by_hand():
    shares = Shares.of([(1, 4), (0, 3), (2, 2), (1, 1)])
    assert shares == Shares(4, 10, 1, 4) and str(shares).startswith("40.0% of 10 words")
    assert str(Shares.of([])).startswith("0.0% of 0 words")
