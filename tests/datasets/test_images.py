"""The embedded images: drawn by (seed, split, index) alone, split by thing, with an exact mask."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from kpnb.datasets import images as image_files
from kpnb.datasets.images import (
    EIGHT_CLASSES,
    OBJECT_SIDE,
    Recipe,
    draw_recipe,
    embedded_hash,
    embedded_images,
    render,
)
from kpnb.errors import KpnbError


@pytest.fixture(scope="module")
def samples():
    return embedded_images(240, image_size=32)


def same(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("images", "labels", "masks")
    )


def recipe(split="train", name="bird", side=64, seed=0):
    rng = np.random.default_rng(seed)
    cut_outs, photos = image_files.split_cut_outs(split), image_files.split_photos(split)
    return draw_recipe(rng, cut_outs[name], photos, side)


# Shapes, labels, determinism


def test_shapes_types_and_source(samples):
    assert len(samples) == 240
    assert samples.images.shape == (240, 3, 32, 32) and samples.images.dtype == torch.float32
    assert samples.labels.shape == (240,) and samples.labels.dtype == torch.int64
    assert samples.masks.shape == (240, 32, 32) and samples.masks.dtype == torch.bool
    assert len(samples.class_names) == 12
    source = json.loads(json.dumps(samples.source))
    assert source["count"] == 240 and source["split"] == "train" and source["image_size"] == 32
    assert source["classes"] == list(samples.class_names) and source["data"] == embedded_hash()


def test_same_arguments_same_images_and_other_seed_or_split_other_images(samples):
    assert same(samples, embedded_images(240, image_size=32))
    for other in (dict(seed=1), dict(split="test")):
        changed = embedded_images(240, image_size=32, **other)
        equal = [torch.equal(a, b) for a, b in zip(samples.images, changed.images, strict=True)]
        assert not any(equal)


@pytest.mark.parametrize("classes", [8, 12])
def test_fewer_images_are_a_prefix_of_more(classes):
    long = embedded_images(100, classes=classes, image_size=32, seed=5)
    assert same(long.subset(range(10)), embedded_images(10, classes=classes, image_size=32, seed=5))


@pytest.mark.parametrize(("count", "classes"), [(240, 12), (100, 8), (5, 12)])
def test_labels_are_balanced(count, classes):
    labels = embedded_images(count, classes=classes, image_size=16).labels
    counts = torch.bincount(labels, minlength=classes)
    assert counts.sum() == count and counts.max() - counts.min() <= 1


def test_label_order_is_not_one_fixed_cycle(samples):
    blocks = samples.labels.view(-1, 12)
    assert len({tuple(block.tolist()) for block in blocks}) > 15


def test_labels_name_the_class_of_the_object():
    """The object drawn for image i, found again from its seed, has the class of label i."""
    samples = embedded_images(16, "test", classes=8, image_size=32, seed=9)
    cut_outs, photos = image_files.split_cut_outs("test"), image_files.split_photos("test")
    for i in range(16):
        name = samples.class_names[samples.labels[i]]
        drawn = draw_recipe(np.random.default_rng([9, 1, i]), cut_outs[name], photos, 32)
        assert drawn.cut_out.class_name == name
        assert np.allclose(samples.pictures()[i], render(drawn, 32)[0], atol=1e-6)


def test_eight_classes_are_eight_of_the_twelve_in_their_order():
    twelve = image_files.class_names()
    assert len(twelve) == 12 and len(EIGHT_CLASSES) == 8
    assert tuple(name for name in twelve if name in EIGHT_CLASSES) == EIGHT_CLASSES
    assert embedded_images(8, classes=8, image_size=16).class_names == EIGHT_CLASSES


# The split


def test_no_group_and_no_object_is_in_both_splits():
    train, test = image_files.split_cut_outs("train"), image_files.split_cut_outs("test")
    for name in image_files.class_names():
        assert not {item.group for item in train[name]} & {item.group for item in test[name]}
        assert not {item.name for item in train[name]} & {item.name for item in test[name]}
        everything = [item for item in image_files.cut_outs() if item.class_name == name]
        assert len(train[name]) + len(test[name]) == len(everything)
        assert 0.15 < len(test[name]) / len(everything) < 0.25


def test_no_two_objects_of_different_splits_look_alike():
    """Independent of the group names: no packed picture of one split is a copy in the other."""
    seen = {}
    for split in ("train", "test"):
        for item in sum(image_files.split_cut_outs(split).values(), ()):
            small = item.picture.resize((8, 8))
            for key in (small, small.transpose(0)):  # 0: mirrored left to right
                pixels = (np.asarray(key) // 32).tobytes()
                assert seen.setdefault(pixels, split) == split, item.name


def test_no_photograph_is_in_both_splits():
    train, test = image_files.split_photos("train"), image_files.split_photos("test")
    assert not set(train) & set(test)
    assert len(train) + len(test) == 27 and len(test) >= 5
    assert all(len(crops) == 6 for crops in (train | test).values())


def test_held_out_keeps_groups_whole_and_within_the_share():
    groups = ["a"] * 4 + ["b"] * 3 + list("cdefghijklm")
    held = image_files.held_out(groups, key="x", share=0.25)
    assert sum(group in held for group in groups) == 5  # ceil(0.25 * 18)
    assert held == image_files.held_out(sorted(groups, reverse=True), key="x", share=0.25)
    assert held != image_files.held_out(groups, key="y", share=0.25)
    assert image_files.held_out(["only"] * 5, key="x") == frozenset()


# The composition


def slow_layer(drawn: Recipe, side: int) -> np.ndarray:
    """The object's layer (side, side, 4), premultiplied: area-weighted triangles, pixel by pixel.

    Bilinear resampling with support, written out: the weight of a source pixel falls linearly with
    its distance from the target pixel's centre, to 0 at max(scale, 1) source pixels.
    """

    def weights(source: int, target: int) -> np.ndarray:
        scale = source / target
        reach = max(scale, 1.0)
        rows = []
        for t in range(target):
            distance = [abs(s + 0.5 - (t + 0.5) * scale) for s in range(source)]
            row = np.array([max(0.0, 1 - d / reach) for d in distance])
            rows.append(row / row.sum())
        return np.array(rows)

    pixels = np.asarray(drawn.cut_out.picture, dtype=float) / 255
    width, height = drawn.size
    small = np.einsum(
        "ys,xt,stc->yxc", weights(pixels.shape[0], height), weights(pixels.shape[1], width), pixels
    )
    layer = np.zeros((side, side, 4))
    left, upper = drawn.corner
    for y in range(height):
        for x in range(width):
            layer[upper + y, left + x] = small[y, width - 1 - x if drawn.flip_object else x]
    return layer


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("side", [32, 160])
def test_picture_and_mask_against_a_slow_independent_composition(seed, side):
    drawn = recipe(name="insect", side=side, seed=seed)
    picture, mask = render(drawn, side)
    layer = slow_layer(drawn, side)
    sure = abs(layer[..., 3] - 0.5) > 0.01  # 8-bit rounding may decide the rest
    assert np.array_equal(mask[sure], (layer[..., 3] > 0.5)[sure])
    photo = drawn.photo.picture.resize((side, side), 2, box=drawn.window)  # 2: bilinear
    background = np.asarray(photo, dtype=float)[:, :: -1 if drawn.flip_photo else 1] / 255
    blended = layer[..., :3] + background * (1 - layer[..., 3:])
    assert np.allclose(picture, blended, atol=2.5 / 255)
    empty = layer[..., 3] == 0
    assert empty.any() and np.array_equal(picture[empty], background[empty].astype(np.float32))


def test_mask_is_never_empty_and_never_everything():
    """For every object at the smallest size and scale, where thin parts fade most."""
    photos = image_files.photos()
    for item in image_files.cut_outs():
        scale = OBJECT_SIDE[0] * 16 / 96
        size = tuple(max(1, round(length * scale)) for length in item.picture.size)
        drawn = Recipe(item, photos[0], size, (0, 0), False, (0, 0, 128, 128), False)
        _, mask = render(drawn, 16)
        assert 0 < mask.sum() < mask.size / 2, item.name


def test_objects_lie_inside_the_image_with_the_stated_size():
    sides, flips = [], Counter()
    for seed in range(200):
        drawn = recipe(seed=seed)
        sides.append(max(drawn.size) / 64)
        flips[drawn.flip_object, drawn.flip_photo] += 1
        assert all(0 <= at <= 64 - long for at, long in zip(drawn.corner, drawn.size, strict=True))
        left, upper, right, lower = drawn.window
        assert min(left, upper) >= 0 and max(right, lower) <= 128
        assert right - left == pytest.approx(lower - upper) and right - left >= 0.6 * 128
    assert 0.48 < min(sides) < 0.52 and 0.78 < max(sides) < 0.82
    assert len(flips) == 4


def test_mean_foreground_share(samples):
    assert 0.15 < samples.masks.float().mean() < 0.23  # the docstring says about 0.19


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 0),
        ("count", 2.0),
        ("count", True),
        ("split", "validation"),
        ("classes", 10),
        ("image_size", 15),
        ("image_size", 257),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(KpnbError, match=name):
        embedded_images(**{"count": 1, name: value})
