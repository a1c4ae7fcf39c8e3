"""What all samples have in common: parts and what they say of themselves; the packed files."""

import gzip
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from text_tiny import tiny_folder

from kpnb.datasets import clouds, images
from kpnb.datasets.clouds import embedded_pointclouds
from kpnb.datasets.images import embedded_images
from kpnb.datasets.samples import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PointSamples,
    packed_content,
    packed_hash,
    unit_sphere,
)
from kpnb.datasets.texts import embedded as texts
from kpnb.datasets.texts.embedded import embedded_questions, embedded_sentences
from kpnb.datasets.texts.encoded import encoded_questions
from kpnb.datasets.texts.words import PieceEncoder
from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file
from kpnb.networks.text import load_tokenizer

COUNT = 48
MADE = {
    "images": lambda: embedded_images(COUNT, image_size=16),
    "clouds": lambda: embedded_pointclouds(COUNT, points=20, background=10),
    "sentences": lambda: embedded_sentences("test", count=COUNT),
    "questions": lambda: embedded_questions("test", count=COUNT),
}
LABELED = ("images", "clouds", "sentences")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = {kind: make() for kind, make in MADE.items()}
    encoder = PieceEncoder(load_tokenizer(tiny_folder(tmp_path_factory.mktemp("models"))))
    return found | {"encoded": encoded_questions(found["questions"], encoder)}


def columns(samples):
    """Every sample's entries, comparable."""
    rows = {name: getattr(samples, name) for name in samples.COLUMNS}
    return {n: c.tolist() if isinstance(c, torch.Tensor) else list(c) for n, c in rows.items()}


# Parts


@pytest.mark.parametrize("kind", [*MADE, "encoded"])
def test_a_part_holds_what_was_at_its_positions_and_says_so(made, kind):
    whole = made[kind]
    part, every = whole.subset(torch.tensor([3, 1])), columns(whole)
    assert type(part) is type(whole) and len(whole) == COUNT and len(part) == 2
    assert columns(part) == {name: [rows[3], rows[1]] for name, rows in every.items()}
    # The hash of positions is in the keys of stores: bytes for numbers, text for texts.
    written = np.array([3, 1], "<i8").tobytes() if kind in ("images", "clouds") else b"[3, 1]"
    note = dict(subset=2, positions=hashlib.sha256(written).hexdigest())
    assert part.source == whole.source | {"parts": [note]} and whole.source["parts"] == []
    assert len(part.subset([1]).source["parts"]) == 2
    assert part.source != whole.subset([1, 3]).source
    assert json.loads(json.dumps(part.source)) == part.source


@pytest.mark.parametrize("kind", [*MADE, "encoded"])
def test_positions_masks_and_slices_choose_the_same(made, kind):
    whole, positions = made[kind], [2, 4, 6]
    mask = torch.zeros(COUNT, dtype=torch.bool)
    mask[positions] = True
    chosen = whole.subset(positions)
    for index in (range(2, 8, 2), mask, mask.numpy(), slice(2, 8, 2), np.array(positions)):
        part = whole.subset(index)
        assert columns(part) == columns(chosen) and part.source == chosen.source


@pytest.mark.parametrize(
    "index", [[COUNT], [-1], [], "bird", ["a"], [0.5], torch.ones(3, dtype=torch.bool), slice(9, 9)]
)
@pytest.mark.parametrize("kind", [*MADE, "encoded"])
def test_a_bad_index_is_refused(made, kind, index):
    with pytest.raises(KpnbError, match=f"from 0 to {COUNT - 1}|at least one"):
        made[kind].subset(index)


@pytest.mark.parametrize("kind", LABELED)
def test_a_fraction_is_balanced_deterministic_and_recorded(made, kind):
    whole = made[kind]
    part, sizes = whole.fraction(0.3, seed=1), torch.bincount(whole.labels)
    expected = [max(1, round(0.3 * size)) for size in sizes.tolist()]
    assert torch.bincount(part.labels).tolist() == expected
    assert columns(part) == columns(whole.fraction(0.3, seed=1))
    assert columns(part) != columns(whole.fraction(0.3, seed=2))
    assert part.source["parts"] == [{"fraction": 0.3, "seed": 1}]
    assert columns(whole.fraction(1.0, seed=0)) == columns(whole)  # the order stays
    assert len(whole.fraction(0.001, seed=0)) == len(sizes)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_bad_share_is_refused(made, share):
    for kind in LABELED:
        with pytest.raises(KpnbError, match="share"):
            made[kind].fraction(share, seed=0)


def test_images_are_normalized_pictures(made):
    pictures = made["images"].pictures()
    assert pictures.shape == (COUNT, 16, 16, 3) and pictures.min() >= 0 and pictures.max() <= 1
    again = (pictures - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert np.allclose(again, made["images"].images.permute(0, 2, 3, 1), atol=1e-5)
    assert pictures.std() > 0.15


# Clouds


def test_digest_sees_every_part(made):
    samples = made["clouds"]
    assert samples.subset([3, 1]).digest != samples.subset([1, 3]).digest
    fields = {name: getattr(samples, name) for name in samples.COLUMNS}
    for name, column in fields.items():
        changed = column.clone()
        changed.view(-1)[0] = 1 - changed.view(-1)[0].long()
        kept = dict(class_names=samples.class_names, source=samples.source)
        assert PointSamples(**fields | {name: changed}, **kept).digest != samples.digest


def test_unit_sphere():
    cube = np.array([[x, y, z] for x in (1, 3) for y in (1, 3) for z in (1, 3)], dtype=float)
    assert np.allclose(unit_sphere(cube), (cube - 2) / math.sqrt(3))
    for bad in (np.ones((4, 3)), np.array([[0.0, 0, 0], [np.nan, 0, 0]]), np.full((2, 3), np.inf)):
        with pytest.raises(KpnbError):
            unit_sphere(bad)


# The packed files

PACKED = {
    images.BACKGROUNDS: (images.packed_members, images.PACKED_SHA256, "embedded_images"),
    "furniture.npz": (clouds.packed_arrays, clouds.PACKED_SHA256, "embedded_pointclouds"),
    texts.LEXICON: (texts.packed_text, texts.TEXT_SHA256, "embedded_sentences"),
    texts.QUESTIONS["test"]: (
        lambda _: texts.packed_document("test"),
        texts.QUESTIONS_SHA256,
        "embedded_questions",
    ),
}


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut", "other"])
@pytest.mark.parametrize("name", PACKED)
def test_damaged_packed_files_are_refused(tmp_path, monkeypatch, name, damage):
    read, digests, builder = PACKED[name]
    folder, real = tmp_path / "anywhere", packed_file(name).read_bytes()
    folder.mkdir()
    flipped = bytearray(real)
    flipped[len(real) // 2] ^= 1
    content = {"flipped": flipped, "cut": real[:-20], "other": gzip.compress(b"good\t2.0\n")}
    if damage != "missing":
        (folder / name).write_bytes(content[damage])
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    with pytest.raises(KpnbError, match=f"{name} is missing or damaged.*data_prep.{builder}"):
        read(name)
    (folder / name).write_bytes(real)
    assert len(read(name)) > 0
    if name.endswith(".gz"):
        (folder / name).write_bytes(gzip.compress(gzip.decompress(real), 1))  # other gzip bytes
        assert len(read(name)) > 0
    assert hashlib.sha256(packed_content(name, digests[name], builder)).hexdigest() == digests[name]


def test_pickled_arrays_are_never_loaded(monkeypatch, tmp_path):
    file = tmp_path / "furniture.npz"
    np.savez(file, points=np.array([{"a": 1}], dtype=object))
    monkeypatch.setattr("kpnb.fingerprint.PACKAGE", tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(clouds.PACKED_SHA256, "furniture.npz", digest)
    with pytest.raises(ValueError, match="allow_pickle"):
        clouds.packed_arrays("furniture.npz")


@pytest.mark.parametrize(
    ("of_all", "digests"),
    [(images.embedded_hash, images.PACKED_SHA256), (clouds.pointclouds_hash, clouds.PACKED_SHA256),
     (texts.sentences_hash, texts.TEXT_SHA256), (texts.questions_hash, texts.QUESTIONS_SHA256)],
)  # fmt: skip
def test_one_hash_follows_every_packed_file(monkeypatch, of_all, digests):
    before = of_all()
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    assert before == hashlib.sha256(lines.encode()).hexdigest() == packed_hash(digests)
    for name in digests:
        with monkeypatch.context() as changed:
            changed.setitem(digests, name, "0" * 64)
            assert of_all() != before
