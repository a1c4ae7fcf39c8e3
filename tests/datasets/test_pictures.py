"""Picture files as torchvision's own transform takes them; masks that stay with their pictures."""

import errno
from unittest.mock import Mock

import numpy as np
import torch
from image_trees import photo
from PIL import Image
from refusals import refuses
from torchvision.models import ResNet18_Weights

from kpnb.datasets.pictures import as_inputs, picture_files, read_masks, read_pictures


def test_inputs_are_those_of_torchvision_s_transform(tmp_path):
    files = [photo(tmp_path / "a.png", 300, 260), photo(tmp_path / "b.jpg", 240, 500, 1, "L")]
    found = as_inputs(read_pictures(files, 224))
    transform = ResNet18_Weights.DEFAULT.transforms()
    theirs = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    assert found.shape == (2, 3, 224, 224) and torch.allclose(found, theirs, atol=1e-5)
    plain = as_inputs(read_pictures(files, 224), (0, 0, 0), (1, 1, 1))
    assert plain.min() >= 0 and plain.max() <= 1


def test_files_and_folders_of_pictures_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "c.png"):
        photo(tmp_path / "some" / name, 8, 8)
    (tmp_path / "some" / "notes.txt").write_text("none")
    assert [f.name for f in picture_files([tmp_path / "some"])] == ["a.JPG", "b.png", "c.png"]
    only = tmp_path / "some" / "c.png"
    assert picture_files([str(only)]) == [only]
    (tmp_path / "empty").mkdir()
    refuses(picture_files, "no file or folder", [tmp_path / "nowhere"])
    refuses(picture_files, "there is no picture", [tmp_path / "empty"])
    refuses(picture_files, "two pictures are named c", [tmp_path / "some", only])
    refuses(read_pictures, "no picture that can be read", [tmp_path / "some" / "notes.txt"], 8)


def test_what_macos_leaves_is_no_picture_and_a_disk_may_fail(tmp_path, monkeypatch):
    for name in ("a.png", "._a.png", ".hidden.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert picture_files([tmp_path]) == [tmp_path / "a.png"]
    monkeypatch.setattr(Image, "open", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    refuses(read_pictures, "error.*check permissions, free space", [tmp_path / "a.png"], 8)


def test_masks_are_cropped_as_their_pictures_and_keep_their_numbers(tmp_path):
    """A picture that is white on its mask alone: after the crop they are the same pixels."""
    mask = np.zeros((80, 128), np.uint8)
    mask[20:60, 30:90] = 255
    for folder, name in (("pictures", "a.png"), ("masks", "a.bmp")):
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / name)
    Image.fromarray(mask > 0).save(tmp_path / "a.png")  # one bit a pixel
    files = picture_files([tmp_path / "pictures"])
    white = read_pictures(files, 70)[..., 0] > 0.5
    found = read_masks(files, [tmp_path / "masks"], 70)
    assert set(np.unique(found)) == {0, 255} and (found > 0)[0].sum() > 1000
    assert ((found > 0) != white).mean() < 0.01
    assert np.array_equal(read_masks(files, [tmp_path / "a.png"], 70), found)


def test_a_mask_that_is_missing_or_of_another_size_is_refused(tmp_path):
    files = [photo(tmp_path / "a.png", 40, 40)]
    refuses(read_masks, "a.png has no mask", files, [photo(tmp_path / "m/b.png", 40, 40)], 32)
    refuses(read_masks, "make them equal", files, [photo(tmp_path / "m/a.png", 40, 41)], 32)
