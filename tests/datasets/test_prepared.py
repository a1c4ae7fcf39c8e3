"""Reading prepared data sets, and images kept as bytes."""

import json

import numpy as np
import pytest
import torch
from prepared_folder import entries, prepared_folder
from refusals import refuses

from kpnb.datasets import prepared
from kpnb.datasets.prepared import normalized, prepared_hash, prepared_images
from kpnb.datasets.samples import IMAGENET_MEAN, IMAGENET_STD
from kpnb.networks.image import image_network


@pytest.fixture
def folder(tmp_path):
    return prepared_folder(tmp_path / "colors")


def saved(folder, name, array):
    np.save(folder / f"{name}.npy", array, allow_pickle=True)
    known, split = json.loads((folder / "manifest.json").read_text()), name.split("_")[0]
    known["splits"][split]["files"] = entries(folder, split)
    (folder / "manifest.json").write_text(json.dumps(known))


def test_what_was_written_is_read_and_resizing_keeps_a_constant_image_and_its_mask(folder):
    found = prepared_images(folder, "train")
    assert found.images.equal(torch.tensor(np.load(folder / "train_pixels.npy")))  # bytes
    assert found.labels.equal(torch.arange(3).repeat_interleave(12))
    assert found.masks[0, 8:24, 8:24].all() and found.masks.sum() == 36 * 16 * 16
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert found.source["dataset"] == "Colors" and found.source["data"] == prepared_hash(folder)
    part = found.subset([3, 0])
    assert part.images.dtype == torch.uint8 and part.source["parts"][0]["subset"] == 2
    assert np.allclose(part.pictures()[0], found.images[3].permute(1, 2, 0) / 255, atol=1e-6)
    saved(folder, "test_pixels", np.full_like(np.load(folder / "test_pixels.npy"), 77))
    small = prepared_images(folder, "test", 16)
    assert small.images.shape[-2:] == (16, 16) and (small.images == 77).all()
    assert small.masks[:, 4:12, 4:12].all() and small.masks.sum() == len(small) * 64
    refuses(prepared_images, "image_size", folder, "test", 15)


def test_bytes_are_the_same_image_and_another_content_or_a_flipped_bit_is_noticed(folder):
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = (np.array([0, 0.2, 1]) - IMAGENET_MEAN) / IMAGENET_STD
    assert np.allclose(normalized(images).flatten(), expected, atol=1e-6)
    net = image_network("VGG-11", 3, "narrow").eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    floats, names = normalized(images), list(net.state_dict())
    expected = net(floats)
    assert normalized(floats) is floats
    assert prepared.takes_bytes(net) is net and list(net.state_dict()) == names
    assert torch.equal(net(images), expected) and torch.equal(net(floats), expected)
    before, labels = prepared_hash(folder), np.load(folder / "train_labels.npy")
    labels[0] = 1
    saved(folder, "train_labels", labels)
    assert prepared_hash(folder) != before
    assert prepared_images(folder, "train").labels[0] == 1
    *content, last = (folder / "train_pixels.npy").read_bytes()
    (folder / "train_pixels.npy").write_bytes(bytes([*content, last ^ 1]))
    refuses(prepared_images, "train_pixels.npy is damaged", folder, "train")


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [("pixels", np.zeros((36, 3, 16, 16), np.uint8), "not uint8"),
     ("pixels", np.zeros((36, 3, 32, 32), np.float32), "holds float32"),
     ("labels", np.full(36, 3), "no class"), ("labels", np.full(36, -1), "no class"),
     ("masks", np.zeros((36, 3), np.uint8), "holds uint8"),
     ("labels", np.array([{}] * 36, dtype=object), "cannot be read")],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(folder, name, array, told):
    saved(folder, f"train_{name}", array)
    refuses(prepared_images, told, folder, "train")


def test_what_is_not_there_or_foreign_is_named(tmp_path, folder):
    refuses(prepared_images, "has no manifest.json", tmp_path / "nothing", "train")
    refuses(prepared_images, "split is 'dev'", folder, "dev")
    (tmp_path / "secret.npy").write_bytes(b"x")
    (folder / "train_masks.npy").unlink()
    manifest = folder / "manifest.json"  # that leads out of its folder
    manifest.write_text(manifest.read_text().replace("test_masks.npy", "../secret.npy"))
    for split, name in (("test", "../secret.npy"), ("train", "train_masks.npy")):
        refuses(prepared_images, f"lacks the file '{name}'", folder, split)
    for content in ("", "[]", "{}", '{"format": "other", "splits": {}}', "\0"):
        manifest.write_text(content)
        refuses(prepared.manifest, "data_prep/", folder)
