"""The embedded images: drawn by (seed, split, index) alone, split by thing, with an exact mask."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refuses

from kpnb.datasets import images as image_files
from kpnb.datasets.images import EIGHT_CLASSES, Recipe, embedded_images, render


def recipe(split="train", name="bird", side=64, seed=0):
    objects, photos = image_files.split_cut_outs(split)[name], image_files.split_photos(split)
    return image_files.draw_recipe(np.random.default_rng(seed), objects, photos, side)


def test_shapes_types_source_and_what_decides():
    samples = embedded_images(240, image_size=32)
    assert samples.images.shape == (240, 3, 32, 32) and samples.images.dtype == torch.float32
    assert samples.labels.dtype == torch.int64 and samples.masks.dtype == torch.bool
    assert 0.15 < samples.masks.float().mean() < 0.23  # the docstring says about 0.19
    about = dict(count=240, split="train", image_size=32, classes=list(samples.class_names))
    assert samples.source | about == json.loads(json.dumps(samples.source))
    assert len({tuple(block.tolist()) for block in samples.labels.view(-1, 12)}) > 15  # no cycle
    for other in (dict(seed=1), dict(split="test")):
        changed = embedded_images(48, image_size=32, **other).images
        assert not (samples.images[:48] == changed).flatten(1).all(1).any()


@pytest.mark.parametrize(("count", "classes"), [(100, 12), (100, 8), (5, 12)])
def test_labels_are_balanced_and_fewer_images_a_prefix_of_more(count, classes):
    few, long = (embedded_images(n, "train", classes, 16, seed=5) for n in (4, count))
    counts = torch.bincount(long.labels, minlength=classes)
    assert counts.sum() == count and counts.max() - counts.min() <= 1
    assert all(torch.equal(getattr(few, n), getattr(long, n)[:4]) for n in few.COLUMNS)


def test_labels_name_the_class_of_the_object():
    """The object drawn for image i, found again from its seed, has the class of label i."""
    samples = embedded_images(16, "test", classes=8, image_size=32, seed=9)
    for i, label in enumerate(samples.labels.tolist()):
        drawn = recipe("test", EIGHT_CLASSES[label], 32, [9, 1, i])
        assert drawn.cut_out.class_name == samples.class_names[label]
        assert np.allclose(samples.pictures()[i], render(drawn, 32)[0], atol=1e-6)


def test_no_group_no_object_and_no_photograph_is_in_both_splits():
    train, test = map(image_files.split_cut_outs, ("train", "test"))
    assert len(train) == 12 and tuple(n for n in train if n in EIGHT_CLASSES) == EIGHT_CLASSES
    for name, count in Counter(item.class_name for item in image_files.cut_outs()).items():
        for kind in ("group", "name"):
            one, other = ({getattr(x, kind) for x in part[name]} for part in (train, test))
            assert not one & other
        assert len(train[name]) + len(test[name]) == count
        assert 0.15 < len(test[name]) / count < 0.25
    train, test = map(image_files.split_photos, ("train", "test"))
    assert not set(train) & set(test) and len(train | test) == 27 and len(test) >= 5
    assert all(len(crops) == 6 for crops in (train | test).values())


def test_no_two_objects_of_different_splits_look_alike():
    """Independent of the group names: no packed picture of one split is a copy in the other."""
    seen = {}
    for split in ("train", "test"):
        for item in sum(image_files.split_cut_outs(split).values(), ()):
            small = item.picture.resize((8, 8))
            for key in (small, small.transpose(0)):  # 0: mirrored left to right
                pixels = (np.asarray(key) // 32).tobytes()
                assert seen.setdefault(pixels, split) == split, item.name


def slow_layer(drawn: Recipe, side: int) -> np.ndarray:
    """The object's layer (side, side, 4), premultiplied: each channel resized alone, as floats."""
    channels = np.asarray(drawn.cut_out.picture, dtype=np.float32).transpose(2, 0, 1) / 255
    small = np.stack([Image.fromarray(c).resize(drawn.size, 2) for c in channels], -1)
    (left, upper), around = drawn.corner, side - np.array(small.shape[:2])
    rows, columns = (upper, around[0] - upper), (left, around[1] - left)
    return np.pad(small[:, :: 1 - 2 * drawn.flip_object], (rows, columns, (0, 0)))


@pytest.mark.parametrize(("side", "seed"), [(32, 0), (32, 1), (32, 2), (160, 3), (160, 4)])
def test_picture_and_mask_against_a_slow_independent_composition(seed, side):
    drawn = recipe(name="insect", side=side, seed=seed)
    picture, mask = render(drawn, side)
    layer = slow_layer(drawn, side)
    sure = abs(layer[..., 3] - 0.5) > 0.01  # 8-bit rounding may decide the rest
    assert np.array_equal(mask[sure], (layer[..., 3] > 0.5)[sure])
    photo = drawn.photo.picture.resize((side, side), 2, box=drawn.window)  # 2: bilinear
    background = np.asarray(photo, dtype=float)[:, :: 1 - 2 * drawn.flip_photo] / 255
    blended = layer[..., :3] + background * (1 - layer[..., 3:])
    assert np.allclose(picture, blended, atol=2.5 / 255)
    empty = layer[..., 3] == 0
    assert empty.any() and np.array_equal(picture[empty], background[empty].astype(np.float32))


def test_mask_is_never_empty_and_never_everything():
    """For every object at the smallest size and scale, where thin parts fade most."""
    photo, scale = image_files.photos()[0], image_files.OBJECT_SIDE[0] * 16 / 96
    for item in image_files.cut_outs():
        size = tuple(max(1, round(length * scale)) for length in item.picture.size)
        drawn = Recipe(item, photo, size, (0, 0), False, (0, 0, 128, 128), False)
        assert 0 < render(drawn, 16)[1].sum() < 128, item.name


def test_objects_lie_inside_the_image_with_the_stated_size():
    recipes = [recipe(seed=seed) for seed in range(200)]
    for drawn in recipes:
        assert all(0 <= at <= 64 - long for at, long in zip(drawn.corner, drawn.size, strict=True))
        left, upper, right, lower = drawn.window
        assert min(left, upper) >= 0 and max(right, lower) <= 128
        assert right - left == pytest.approx(lower - upper) and right - left >= 0.6 * 128
    sides = [max(drawn.size) / 64 for drawn in recipes]
    assert 0.48 < min(sides) < 0.52 and 0.78 < max(sides) < 0.82
    assert len({(drawn.flip_object, drawn.flip_photo) for drawn in recipes}) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 0), ("count", 2.0), ("count", True), ("split", "validation"), ("classes", 10),
     ("image_size", 15), ("image_size", 257), ("seed", -1), ("seed", 2**32)],
)  # fmt: skip
def test_bad_arguments(name, value):
    refuses(embedded_images, name, **{"count": 1, name: value})
