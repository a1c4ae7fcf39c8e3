"""SST-2 and SQuAD on small trees of the genuine layouts, with their quirks, and damaged ones."""

import json

import pytest
import torch
from public_files import FILLERS, document, mangled, qa, write_release

from kpnb.datasets.texts.corpora import (
    PHRASES,
    SENTENCES,
    SPLIT,
    VALUES,
    mend,
    squad,
    sst2,
    sst2_foreground,
)
from kpnb.datasets.texts.embedded import Sentences
from kpnb.datasets.texts.foreground import sentiment_foreground
from kpnb.errors import KpnbError


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "stanfordSentimentTreebank")


def by_text(samples):
    return dict(zip(samples.texts, zip(samples.labels, samples.ratings, strict=True), strict=True))


def test_train_sentences_are_mended_labelled_and_without_neutral_ones(release):
    train = sst2(release)
    assert isinstance(train, Sentences) and len(train) == 4 + 40
    assert train.labels.dtype == torch.int64 and train.ratings.dtype == torch.float32
    found = by_text(train)
    expected = {
        "The plot ( such as it is ) is grim .": (0, -3.0),
        "Full of clichés and writer/director jokes": (0, -1.6),
        "Drawn out à la Léon , and superb !": (1, 3.2),
        "At the lower cut": (0, -0.8),
    }
    for text, (label, rating) in expected.items():
        assert found[text][0] == label and found[text][1] == pytest.approx(rating)
    assert train.source["neutral"] == 2 and train.source["not_found"] == 0
    assert train.source["layout"] == "treebank" and train.source["count"] == 44
    assert json.loads(json.dumps(train.source)) == train.source
    assert train.subset([1]).source["parts"][0]["subset"] == 1


def test_the_other_splits(release):
    assert sst2(release, "test").texts == ("It does n't work | really",)
    assert sorted(sst2(release, "dev").texts) == ["Grim but well-made", "Very superb"]
    assert sst2(release, "dev").labels.tolist() == [1, 1]


def test_the_folder_above_serves_too_and_windows_lines(release):
    for name in (SENTENCES, SPLIT, PHRASES, VALUES):
        path = release / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(sst2(str(release.parent))) == 44


def test_seed_and_count(release):
    whole = sst2(release, seed=1)
    few = sst2(release, count=5, seed=1)
    assert few.texts == whole.texts[:5] and torch.equal(few.ratings, whole.ratings[:5])
    assert sst2(release).texts != whole.texts
    assert sorted(sst2(release).texts) == sorted(whole.texts)


def test_a_few_sentences_may_be_missing_in_the_dictionary_but_not_many(release):
    path = release / PHRASES
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(x for x in lines if not x.startswith("Filler 7|")), encoding="utf-8")
    train = sst2(release)
    assert train.source["not_found"] == 1 and len(train) == 43
    path.write_text("\n".join(x for x in lines if not x.startswith("Filler 1")), encoding="utf-8")
    with pytest.raises(KpnbError, match="11 of 46 sentences of split 'train' are not in dict"):
        sst2(release)
    assert len(sst2(release, "dev")) == 2


def test_of_phrases_mended_to_the_same_the_first_counts(release):
    words = {"At the\xa0lower cut": 0.9, "At the lower cut": 0.1}
    assert by_text(sst2(write_release(release, words=words)))["At the lower cut"][0] == 1


def test_a_file_in_latin_1_is_read(release):
    path = release / PHRASES
    path.write_bytes(path.read_bytes().decode("utf-8").encode("latin-1"))
    assert by_text(sst2(release)).keys() == by_text(sst2(write_release(release))).keys()


@pytest.mark.parametrize(
    ("line", "text"),
    [("-LRB- a -RRB- -lsb- b -rsb- -LCB-", "( a ) [ b ] {"), ("and\\/or 4 \\* 4", "and/or 4 * 4"),
     (mangled("à l'été"), "à l'été"), (mangled("naïve\xa0one"), "naïve one"), ("a  b\t", "a b"),
     ("Â 5", "5"), ("déjà – vu", "déjà – vu"), (mangled("it’s"), "it’s"), ("Ãzz", "Ãzz"),
     ("\xe0\x80\x80", "\xe0\x80\x80"),  # no UTF-8
     (mangled("\U0001f3ac") + "é", "\U0001f3acé"), ("Ã\xa9\xa0x", "é x"), ("", "")],
)  # fmt: skip
def test_mend(line, text):
    assert mend(line) == text == mend(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The plot ( such as it is ) is grim .", "grim"),
     ("Full of clichés and writer/director jokes", "clichés"),  # 0.4 counts, 0.6 does not
     ("Drawn out à la Léon , and superb !", "superb"),  # a sign is no word
     ("It does n't work | really", "n't work"),  # "n't" through "work" only
     ("It is n't", ""),
     ("Grim but well-made", "well made"),  # both words of the token; "Grim" has its own value
     ("Very superb", "Very superb"),
     ("CLICHÉS", "CLICHÉS"),  # no value as written, and not in the lexicon
     ("clichés.", "clichés"),  # no such token: taken apart
     ("a gorgeous plot", "gorgeous"),  # no value: the lexicon's
     ("at the cut", ""),  # in the lexicon, but its value is neutral
     ("", "")],
)  # fmt: skip
def test_foreground_by_phrase_labels(release, text, expected):
    found = sst2_foreground(release)(text)
    assert " ".join(text[start:end] for start, end in found) == expected
    assert sst2_foreground(release.parent)(text) == found


TRAIN = "sentence\tlabel\nhide new secretions \t0\na -lrb- superb -rrb- film \t1\n"


def test_glue_has_labels_and_the_lexicon_as_foreground(tmp_path):
    folder = tmp_path / "SST-2"
    folder.mkdir()
    (folder / "train.tsv").write_text(TRAIN, encoding="utf-8")
    for root in (tmp_path, folder):
        train = sst2(root)
        found = by_text(train)
        assert {text: int(label) for text, (label, _) in found.items()} == {
            "hide new secretions": 0,
            "a ( superb ) film": 1,
        }
        assert train.ratings.isnan().all() and train.source["foreground"] == "lexicon"
        assert train.source["layout"] == "glue"
    assert sst2_foreground(tmp_path) is sentiment_foreground
    with pytest.raises(KpnbError, match="lacks dev.tsv"):
        sst2(tmp_path, "dev")
    with pytest.raises(KpnbError, match="without labels of split 'test'"):
        sst2(tmp_path, "test")
    (folder / "train.tsv").write_text(TRAIN + "good\t2\n", encoding="utf-8")
    with pytest.raises(KpnbError, match="the label '2', not 0 or 1"):
        sst2(tmp_path)


@pytest.mark.parametrize("name", [SENTENCES, SPLIT, PHRASES, VALUES])
def test_a_missing_file_is_named_with_where_to_get_it(release, name):
    (release / name).unlink()
    for load in (sst2, sst2_foreground):
        with pytest.raises(KpnbError) as caught:
            load(release.parent)
        message = str(caught.value)
        assert f"lacks {name}:" in message and "nlp.stanford.edu/sentiment" in message
        assert "SST-2.zip" in message and "\n" not in message and message.endswith(".")


def test_an_empty_folder(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(KpnbError, match="stanfordSentimentTreebank.zip"):
            sst2(root)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [(SENTENCES, "sentence_index\tsentence\n", "", "does not begin with the line"),
     (SENTENCES, "5\tAt the", "5 At the", "Line 6 of .* has not two columns"),
     (SENTENCES, "9\tVery", "99\tVery", "names no split for sentence 99"),
     (SPLIT, "\n4,1", "\n4,4", "names no split for sentence 4"),
     (SPLIT, "\n4,1", "\n4", "Line 5 of .* has not two columns"),
     (VALUES, "|0.125", "|1.125", "the value '1.125', not 0 to 1"),
     (VALUES, "|0.125", "|nan", "the value 'nan'"),
     (VALUES, "|0.125", "|x", "the value 'x'"),
     (PHRASES, "grim|7000", "grim|9", "no value for phrase '9'"),
     (PHRASES, "grim|7000", "grim", "Line 1 of .* has not two columns"),
     (VALUES, None, "", "does not begin")],
)  # fmt: skip
def test_a_damaged_file_is_refused(release, name, old, new, message):
    path = release / name
    content = path.read_text(encoding="utf-8")
    assert old is None or content.count(old) == 1
    path.write_text(new if old is None else content.replace(old, new), encoding="utf-8")
    with pytest.raises(KpnbError, match=message):
        sst2(release)


def test_a_split_without_sentences(tmp_path):
    folder = write_release(tmp_path / "one", rows=FILLERS)
    with pytest.raises(KpnbError, match="no sentence of split 'dev'"):
        sst2(folder, "dev")


@pytest.mark.parametrize(
    "wrong", [dict(split="validation"), dict(count=0), dict(count=45), dict(seed=-1)]
)
def test_wrong_arguments(release, wrong):
    with pytest.raises(KpnbError) as caught:
        sst2(release, **wrong)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_the_source_follows_the_files(release):
    before = sst2(release).source["data"]
    path = release / VALUES
    path.write_bytes(path.read_bytes().replace(b"|0.125", b"|0.126"))
    assert sst2(release).source["data"] != before


# SQuAD


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.mark.parametrize("folder", [".", "SQuAD", "squad"])
def test_squad_from_a_tree_of_the_public_layout(tmp_path, folder):
    many = [qa(f"t{number}") for number in range(30)]
    write(tmp_path / folder / "train-v1.1.json", document(*many))
    one = qa("d0", found=[("1901", 51), ("in 1901", 48)])
    write(tmp_path / folder / "dev-v1.1.json", document(one))
    train = squad(tmp_path)
    assert sorted(train.ids) == sorted(f"t{n}" for n in range(30))
    assert train.ids != tuple(one["id"] for one in many)
    assert squad(str(tmp_path), count=4).ids == train.ids[:4]
    assert squad(tmp_path, count=4, seed=1).ids != train.ids[:4]
    assert train.source["dataset"] == "squad" and len(train.source["data"]) == 64
    dev = squad(tmp_path, "dev")
    assert dev.answer_texts == (("1901", "in 1901"),) and dev.source["split"] == "dev"
    with pytest.raises(KpnbError, match="count"):
        squad(tmp_path, "dev", count=2)
    with pytest.raises(KpnbError, match="'train' or 'dev'"):
        squad(tmp_path, "test")


def test_a_missing_file_is_named_with_its_address(tmp_path):
    address = "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json"
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(KpnbError, match="dev-v1.1.json is missing") as caught:
            squad(root, "dev")
        assert address in str(caught.value)
    (tmp_path / "dev-v1.1.json").mkdir()  # a folder is no file
    with pytest.raises(KpnbError, match="missing"):
        squad(tmp_path, "dev")


@pytest.mark.parametrize("content", [b"", b'{"version": "1.1", ', b"\xff\xfe\xff", b"[" * 10**5])
def test_a_file_that_is_no_json(tmp_path, content):
    (tmp_path / "train-v1.1.json").write_bytes(content)
    with pytest.raises(KpnbError, match="fetch it again from https"):
        squad(tmp_path)


def test_a_file_of_another_version(tmp_path):
    write(tmp_path / "train-v1.1.json", document(qa(), version="v2.0"))
    with pytest.raises(KpnbError, match="train-v1.1.json: The questions are of version 'v2.0'"):
        squad(tmp_path)
