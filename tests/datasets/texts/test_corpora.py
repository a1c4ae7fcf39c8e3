"""SST-2 and SQuAD on small trees of the genuine layouts, with their quirks, and damaged ones."""

import errno
import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from object_trees import edit, put
from public_files import FILLERS, document, mangled, qa, write_release
from refusals import refuses

from kpnb.datasets.texts import corpora
from kpnb.datasets.texts.corpora import PHRASES, SENTENCES, SPLIT, VALUES, squad, sst2
from kpnb.datasets.texts.foreground import sentiment_foreground


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "stanfordSentimentTreebank")


def test_sentences_are_mended_labelled_and_without_neutral_ones(release):
    train = sst2(release)
    assert len(train) == 4 + 40 and train.labels.dtype == torch.int64
    assert torch.equal(train.labels == 1, train.ratings > 0)
    found = dict(zip(train.texts, train.ratings.tolist(), strict=True))
    ratings = {"The plot ( such as it is ) is grim .": -3.0, "At the lower cut": -0.8,
               "Full of clichés and writer/director jokes": -1.6,
               "Drawn out à la Léon , and superb !": 3.2}  # fmt: skip
    assert {text: found[text] for text in ratings} == pytest.approx(ratings)
    about = dict(neutral=2, not_found=0, layout="treebank", count=44, foreground="phrase labels")
    assert train.source | about == train.source == json.loads(json.dumps(train.source))
    assert sst2(release, "test").texts == ("It does n't work | really",)
    assert sorted(sst2(release, "dev").texts) == ["Grim but well-made", "Very superb"]
    few = sst2(release, count=5, seed=1)
    assert few.texts == sst2(release, seed=1).texts[:5] != train.texts[:5]


def test_other_line_ends_another_encoding_and_the_folder_above(release):
    expected = sst2(release).texts
    for path in release.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert sst2(str(release.parent)).texts == expected
    path = release / PHRASES
    path.write_bytes(path.read_bytes().decode("utf-8").encode("latin-1"))
    assert sst2(release).texts == expected


def test_a_few_sentences_may_be_missing_in_the_dictionary_but_not_many(release):
    edit(release / PHRASES, "Filler 7|", "x|")
    assert sst2(release).source["not_found"] == 1 and len(sst2(release)) == 43
    for n in range(10, 20):
        edit(release / PHRASES, f"Filler {n}|", f"x {n}|")
    refuses(sst2, "11 of 46 sentences of split 'train' are not in dict", release)
    words = {"At the\xa0lower cut": 0.9, "At the lower cut": 0.1}  # mended to the same: the first
    again = sst2(write_release(release, words=words))
    assert again.labels[again.texts.index("At the lower cut")] == 1


@pytest.mark.parametrize(
    ("line", "text"),
    [("-LRB- a -RRB- -lsb- b -rsb- -LCB-", "( a ) [ b ] {"), ("and\\/or 4 \\* 4", "and/or 4 * 4"),
     (mangled("à l'été"), "à l'été"), (mangled("naïve\xa0one"), "naïve one"), ("a  b\t", "a b"),
     ("Â 5", "5"), ("déjà – vu", "déjà – vu"), (mangled("it’s"), "it’s"), ("Ãzz", "Ãzz"),
     ("\xe0\x80\x80", "\xe0\x80\x80"),  # no UTF-8
     (mangled("\U0001f3ac") + "é", "\U0001f3acé"), ("Ã\xa9\xa0x", "é x")],
)  # fmt: skip
def test_mend(line, text):
    assert corpora.mend(line) == text == corpora.mend(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The plot ( such as it is ) is grim .", "grim"), ("It is n't", ""), ("", ""),
     ("Full of clichés and writer/director jokes", "clichés"),  # 0.4 counts, 0.6 does not
     ("Drawn out à la Léon , and superb !", "superb"),  # a sign is no word
     ("It does n't work | really", "n't work"),  # "n't" through "work" only
     ("Grim but well-made", "well made"),  # both words of the token; "Grim" has its own value
     ("CLICHÉS", "CLICHÉS"),  # no value as written, and not in the lexicon
     ("clichés.", "clichés"),  # no such token: taken apart
     ("a gorgeous plot", "gorgeous"),  # no value: the lexicon's
     ("at the cut", "")],  # in the lexicon, but its value is neutral
)  # fmt: skip
def test_foreground_by_phrase_labels(release, text, expected):
    found = corpora.sst2_foreground(release)(text)
    assert " ".join(text[start:end] for start, end in found) == expected
    assert corpora.sst2_foreground(release.parent)(text) == found


def test_glue_has_labels_and_the_lexicon_as_foreground(tmp_path):
    lines = "sentence\tlabel\nhide new secretions \t0\na -lrb- superb -rrb- film \t1\n"
    file = put(tmp_path / "SST-2" / "train.tsv", lines)
    for root in (tmp_path, file.parent):
        train = sst2(root)
        found = dict(zip(train.texts, train.labels.tolist(), strict=True))
        assert found == {"hide new secretions": 0, "a ( superb ) film": 1}
        about = dict(layout="glue", foreground="lexicon")
        assert train.ratings.isnan().all() and train.source | about == train.source
    assert corpora.sst2_foreground(tmp_path) is sentiment_foreground
    put(file, lines + "good\t2\n")
    for split, told in (("dev", "lacks dev.tsv"), ("test", "without labels of split 'test'"),
                        ("train", "the label '2', not 0 or 1")):  # fmt: skip
        refuses(sst2, told, tmp_path, split)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [(SENTENCES, "sentence_index\tsentence\n", "", "does not begin with the line"),
     (SENTENCES, "5\tAt the", "5 At the", "Line 6 of .* has not two columns"),
     (SENTENCES, "9\tVery", "99\tVery", "names no split for sentence 99"),
     (SPLIT, "\n4,1", "\n4,4", "names no split for sentence 4"),
     (PHRASES, "grim|7000", "grim|9", "no value for phrase '9'")]
    + [(VALUES, "|0.125", f"|{value}", f"the value '{value}', not 0 to 1")
       for value in ("1.125", "nan", "x")]
    + [(name, None, None, f"lacks {name}: .*nlp.stanford.edu/sentiment.*SST-2.zip")
       for name in (SENTENCES, SPLIT, PHRASES, VALUES)],
)  # fmt: skip
def test_a_damaged_or_missing_file_is_refused(release, name, old, new, message):
    if old is None:
        (release / name).unlink()
        refuses(corpora.sst2_foreground, message, release.parent)
    else:
        edit(release / name, old, new)
    refuses(sst2, message, release.parent)


def test_wrong_arguments_a_split_without_sentences_and_other_content(release, tmp_path):
    for wrong in ({"split": "validation"}, {"count": 0}, {"count": 45}, {"seed": -1}):
        refuses(sst2, *wrong, release, **wrong)
    refuses(sst2, "has neither .*: unpack stanfordSentimentTreebank.zip", release / "none")
    refuses(sst2, "no sentence of split 'dev'", write_release(tmp_path / "x", FILLERS), "dev")
    before = sst2(release).source["data"]
    edit(release / VALUES, "|0.125", "|0.126")
    assert sst2(release).source["data"] != before


def write(path, *questions, **about):
    put(path, json.dumps(document(*questions, **about), ensure_ascii=False))


@pytest.mark.parametrize("folder", [".", "SQuAD", "squad"])
def test_squad_from_a_tree_of_the_public_layout(tmp_path, folder):
    names = [f"t{number:02}" for number in range(30)]
    write(tmp_path / folder / "train-v1.1.json", *map(qa, names))
    write(tmp_path / folder / "dev-v1.1.json", qa("d0", found=[("1901", 51), ("in 1901", 48)]))
    train, dev, few = squad(tmp_path), squad(str(tmp_path), "dev"), squad(tmp_path, count=4)
    assert sorted(train.ids) == names and few.ids == train.ids[:4]
    assert squad(tmp_path, seed=1).ids != train.ids
    assert train.source["dataset"] == "squad" and len(train.source["data"]) == 64
    assert dev.answer_texts == (("1901", "in 1901"),) and dev.source["split"] == "dev"
    refuses(squad, "count", tmp_path, "dev", count=2)
    refuses(squad, "'train' or 'dev'", tmp_path, "test")


def test_a_squad_file_that_is_missing_no_json_or_of_another_version(tmp_path, monkeypatch):
    path = tmp_path / "dev-v1.1.json"
    missing = "dev-v1.1.json is missing.*https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1"
    path.mkdir()  # a folder is no file
    for root in (tmp_path, tmp_path / "absent"):
        refuses(squad, missing, root, "dev")
    path.rmdir()
    for content in (b"", b'{"version": "1.1", ', b"\xff\xfe\xff", b"[" * 10**5):
        path.write_bytes(content)
        refuses(squad, "fetch it again from https", tmp_path, "dev")
    with monkeypatch.context() as patch:
        denied = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
        patch.setattr(Path, "read_bytes", denied)
        refuses(squad, "denied.*: check permissions", tmp_path, "dev")
    write(path, qa(), version="v2.0")
    refuses(squad, "dev-v1.1.json: The questions are of version 'v2.0'", tmp_path, "dev")
