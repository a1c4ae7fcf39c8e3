"""Reading prepared data sets, and images kept as bytes."""

import json

import numpy as np
import pytest
import torch
from prepared_folder import entries, prepared_folder
from torch import nn

from kpnb.datasets.prepared import (
    ByteImages,
    manifest,
    normalized,
    prepared_hash,
    prepared_images,
    takes_bytes,
)
from kpnb.datasets.samples import IMAGENET_MEAN, IMAGENET_STD
from kpnb.errors import KpnbError
from kpnb.networks.image import image_network


@pytest.fixture
def folder(tmp_path):
    return prepared_folder(tmp_path / "colors")


def test_what_was_written_is_read(folder):
    found = prepared_images(folder, "train")
    assert isinstance(found, ByteImages)
    assert found.images.shape == (36, 3, 32, 32) and found.images.dtype == torch.uint8
    assert np.array_equal(found.images.numpy(), np.load(folder / "train_pixels.npy"))
    assert found.labels.tolist() == sorted(found.labels.tolist())
    assert found.masks[0, 8:24, 8:24].all() and found.masks.sum() == 36 * 16 * 16
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert found.source["dataset"] == "Colors" and found.source["data"] == prepared_hash(folder)


def test_parts_stay_bytes_and_say_what_they_are(folder):
    part = prepared_images(folder, "test").subset([3, 0])
    assert isinstance(part, ByteImages) and len(part) == 2
    assert part.source["parts"][0]["subset"] == 2
    expected = part.images[0].permute(1, 2, 0).numpy() / 255
    assert np.allclose(part.pictures()[0], expected, atol=1e-6)


def test_bytes_are_normalized_as_imagenet_is():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [
        (value - mean) / std
        for value, mean, std in zip((0, 0.2, 1), IMAGENET_MEAN, IMAGENET_STD, strict=True)
    ]
    assert normalized(images).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    floats = torch.randn(2, 3, 4, 4)
    assert normalized(floats) is floats


def test_a_network_that_takes_bytes_sees_the_same_image():
    net = image_network("VGG-11", 3, "narrow").eval()
    names = list(net.state_dict())
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    expected = net(normalized(images))
    assert takes_bytes(net) is net and list(net.state_dict()) == names
    assert torch.equal(net(images), expected) and torch.equal(net(normalized(images)), expected)


def test_an_untaught_network_refuses_bytes():
    with pytest.raises(RuntimeError):
        nn.Conv2d(3, 2, 1)(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


def test_resizing_keeps_a_constant_image_and_its_mask(folder):
    pixels = np.load(folder / "test_pixels.npy")
    pixels[:] = 77
    np.save(folder / "test_pixels.npy", pixels)
    rewrite(folder)
    found = prepared_images(folder, "test", 16)
    assert found.images.shape[-2:] == (16, 16) and (found.images == 77).all()
    assert found.masks[:, 4:12, 4:12].all() and found.masks.sum() == len(found) * 64


def rewrite(folder, **changes):
    """The manifest after a change of files, or with other entries."""
    known = json.loads((folder / "manifest.json").read_text())
    for split in ("train", "test"):
        known["splits"][split]["files"] = entries(folder, split)
    (folder / "manifest.json").write_text(json.dumps(known | changes))


def test_another_content_has_another_hash(folder):
    before = prepared_hash(folder)
    labels = np.load(folder / "train_labels.npy")
    labels[0] = 1
    np.save(folder / "train_labels.npy", labels)
    rewrite(folder)
    assert prepared_hash(folder) != before


def test_one_flipped_bit_is_noticed(folder):
    prepared_images(folder, "train")
    content = bytearray((folder / "train_pixels.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train_pixels.npy").write_bytes(content)
    with pytest.raises(KpnbError, match="train_pixels.npy is damaged"):
        prepared_images(folder, "train")


def test_a_missing_file_is_named(folder):
    (folder / "train_masks.npy").unlink()
    with pytest.raises(KpnbError, match="lacks the file 'train_masks.npy'"):
        prepared_images(folder, "train")


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("pixels", np.zeros((36, 3, 16, 16), np.uint8), "not uint8"),
        ("pixels", np.zeros((36, 3, 32, 32), np.float32), "holds float32"),
        ("labels", np.full(36, 3), "no class"),
        ("masks", np.zeros((36, 3), np.uint8), "holds uint8"),
        ("labels", np.array([{}] * 36, dtype=object), "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder, name, array, told):
    np.save(folder / f"train_{name}.npy", array, allow_pickle=True)
    rewrite(folder)
    with pytest.raises(KpnbError, match=told):
        prepared_images(folder, "train")


def test_a_manifest_cannot_point_elsewhere(folder, tmp_path):
    (tmp_path / "secret.npy").write_bytes(b"x")
    known = json.loads((folder / "manifest.json").read_text())
    known["splits"]["train"]["files"]["../secret.npy"] = {"sha256": "0", "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(known))
    with pytest.raises(KpnbError, match="lacks the file"):
        prepared_images(folder, "train")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "other", "splits": {}}', "\0"])
def test_a_foreign_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(KpnbError, match="data_prep/"):
        manifest(folder)


def test_no_folder_and_no_split(tmp_path, folder):
    with pytest.raises(KpnbError, match="has no manifest.json"):
        prepared_images(tmp_path / "nothing", "train")
    with pytest.raises(KpnbError, match="split is 'dev'"):
        prepared_images(folder, "dev")
