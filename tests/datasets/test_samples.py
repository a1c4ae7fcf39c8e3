"""What all samples have in common: parts and what they say of themselves; the packed files."""

import gzip
import json
import math
from hashlib import sha256

import numpy as np
import pytest
import torch
from refusals import refuses

from kpnb.datasets import clouds, images
from kpnb.datasets.samples import packed_content
from kpnb.datasets.texts import embedded as texts
from kpnb.datasets.texts.encoded import encoded_questions
from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.fingerprint import packed_file
from kpnb.networks.text import load_tokenizer

COUNT = 48


@pytest.fixture(scope="module")
def made(tiny_model):
    questions = texts.embedded_questions("test", count=COUNT)
    encoder = PieceEncoder(load_tokenizer(tiny_model))
    return {
        "images": images.embedded_images(COUNT, image_size=16),
        "clouds": clouds.embedded_pointclouds(COUNT, points=20, background=10),
        "sentences": texts.embedded_sentences("test", count=COUNT),
        "questions": questions,
        "encoded": encoded_questions(questions, encoder),
    }


def columns(samples):
    rows = {name: getattr(samples, name) for name in samples.COLUMNS}
    return {n: c.tolist() if isinstance(c, torch.Tensor) else list(c) for n, c in rows.items()}


@pytest.mark.parametrize("kind", ["images", "clouds", "sentences", "questions", "encoded"])
def test_a_part_holds_what_was_at_its_positions_and_says_so(made, kind):
    whole = made[kind]
    part, every = whole.subset(torch.tensor([3, 1])), columns(whole)
    assert type(part) is type(whole) and len(whole) == COUNT and len(part) == 2
    assert columns(part) == {name: [rows[3], rows[1]] for name, rows in every.items()}
    # The hash of positions is in the keys of stores.
    written = np.array([3, 1], "<i8").tobytes()
    note = dict(subset=2, positions=sha256(written).hexdigest())
    assert json.loads(json.dumps(part.source)) == whole.source | {"parts": [note]}
    assert whole.source["parts"] == [] and len(part.subset([1]).source["parts"]) == 2
    chosen, mask = whole.subset([2, 4, 6]), torch.isin(torch.arange(COUNT), torch.tensor([2, 4, 6]))
    for index in (range(2, 8, 2), mask, mask.numpy(), slice(2, 8, 2), np.array([2, 4, 6])):
        again = whole.subset(index)
        assert columns(again) == columns(chosen) and again.source == chosen.source
    for bad in ([COUNT], [-1], [], "bird", ["a"], [0.5], torch.ones(3) > 0, slice(9, 9)):
        refuses(whole.subset, f"from 0 to {COUNT - 1}|at least one", bad)


@pytest.mark.parametrize("kind", ["images", "clouds", "sentences"])
def test_a_fraction_is_balanced_deterministic_and_recorded(made, kind):
    whole = made[kind]
    part, sizes = whole.fraction(0.3, seed=1), torch.bincount(whole.labels)
    assert torch.bincount(part.labels).equal((0.3 * sizes).round().long().clamp(min=1))
    assert columns(part) == columns(whole.fraction(0.3, seed=1))
    assert columns(part) != columns(whole.fraction(0.3, seed=2))
    assert part.source["parts"] == [{"fraction": 0.3, "seed": 1}]
    assert columns(whole.fraction(1.0, seed=0)) == columns(whole)  # the order stays
    assert len(whole.fraction(0.001, seed=0)) == len(sizes)
    for share in (0, -0.1, 1.1, math.nan):
        refuses(whole.fraction, "share", share, seed=0)


def test_a_digest_sees_every_part(made):
    samples, digests = made["clouds"], []
    for name in samples.COLUMNS:
        changed = samples.subset(slice(None))
        digests.append(changed.digest)
        first = getattr(changed, name).view(-1)
        first[0] = 1 - first[0].long()
        digests.append(changed.digest)
    assert digests[::2] == [samples.digest] * 3 and len({*digests}) == 4


PACKED = {  # kind -> a file of it, what reads it, all files' digests, what builds it
    "images": (images.BACKGROUNDS, images.packed_members, images.PACKED_SHA256, "images"),
    "clouds": ("furniture.npz", clouds.packed_arrays, clouds.PACKED_SHA256, "pointclouds"),
    "sentences": (texts.LEXICON, texts.packed_text, texts.TEXT_SHA256, "sentences"),
    "questions": (texts.QUESTIONS["test"], lambda _: texts.packed_document("test"),
                  texts.QUESTIONS_SHA256, "questions"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
def test_damaged_packed_files_are_refused(tmp_path, monkeypatch, made, kind):
    name, read, digests, builder = PACKED[kind]
    file, real = tmp_path / "anywhere" / name, packed_file(name).read_bytes()
    file.parent.mkdir()
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    told, middle = f"{name} is missing or damaged.*data_prep.embedded_{builder}", len(real) // 2
    refuses(read, told, name)
    flipped = real[:middle] + bytes([real[middle] ^ 1]) + real[middle + 1 :]
    for content in (flipped, real[:-20], gzip.compress(b"good\t2.0\n")):
        file.write_bytes(content)
        refuses(read, told, name)
    if name.endswith(".gz"):
        real = gzip.compress(gzip.decompress(real), 1)  # other gzip bytes
    file.write_bytes(real)
    assert len(read(name)) > 0
    content = packed_content(name, digests[name], f"embedded_{builder}")
    assert sha256(content).hexdigest() == digests[name]
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    assert made[kind].source["data"] == sha256(lines.encode()).hexdigest()  # one of all files


def test_pickled_arrays_are_never_loaded(monkeypatch, tmp_path):
    file = tmp_path / "furniture.npz"
    np.savez(file, points=np.array([{"a": 1}], dtype=object))
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    digest = sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(clouds.PACKED_SHA256, "furniture.npz", digest)
    with pytest.raises(ValueError, match="allow_pickle"):
        clouds.packed_arrays("furniture.npz")
