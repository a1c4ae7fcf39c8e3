"""Embedded images: real cut-out objects on real photographs, with an exact foreground.

They stand in for the paper's image data sets (Section 4), whose foreground is an object's bounding
box or outline: small enough to ship, free to redistribute, and with a mask that is exact because
the images are composed: one object of one of 12 classes on part of a photograph. `classes=8` keeps
those that were easiest to tell apart, chosen after seeing test scores of all 12, so that test
accuracies on them are optimistic.

`relabeled` gives the same images other labels, so that networks which differ in the dimensions of
their output alone can be compared (the paper's Table VIII against the last layer in its Table V);
`split_classes` and `of_classes` divide them by class.
"""

import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kpnb.datasets import samples as data
from kpnb.errors import KpnbError, require

OBJECTS = "objects96.zip"
BACKGROUNDS = "backgrounds128.zip"
PACKED_SHA256 = {
    OBJECTS: "efff8dc4fa510301f709cf5aaa762e14665e9134f93fa765724e58797eceb1eb",
    BACKGROUNDS: "ff73a4df13bcb1174f6bb4c0c5cdd8022e6a4d956bbfb2f5beec34260ccb615f",
}
TEST_SHARE = 0.2


@dataclass(frozen=True)
class CutOut:
    """One object: RGBA with the colour premultiplied by alpha (Pillow's "RGBa"), side <= 96."""

    name: str
    class_name: str
    group: str  # drawings of the same thing share a group; unique with class_name
    source: str
    picture: Image.Image


@dataclass(frozen=True)
class Photo:
    """One 128 x 128 RGB crop; crops of one photograph share `photo`."""

    name: str
    photo: str
    source: str
    picture: Image.Image


def packed_members(name: str) -> dict[str, bytes]:
    """The files inside packed file `name`, by name; raises as `packed_content` does."""
    content = data.packed_content(name, PACKED_SHA256[name], "embedded_images")
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return {member: packed.read(member) for member in packed.namelist()}


@cache
def cut_outs() -> tuple[CutOut, ...]:
    """All objects of the 12 classes, in the packed order (classes in label order)."""
    return tuple(
        CutOut(item["name"], item["class"], item["group"], item["source"], picture.convert("RGBa"))
        for item, picture in _packed(OBJECTS, "RGBA")
    )


@cache
def photos() -> tuple[Photo, ...]:
    """All background crops, in the packed order."""
    return tuple(
        Photo(item["file"], item["photo"], item["source"], picture)
        for item, picture in _packed(BACKGROUNDS, "RGB")
    )


def _packed(name: str, mode: str) -> Iterator[tuple[dict, Image.Image]]:
    """What is known of each picture of a packed file, and the picture."""
    members = packed_members(name)
    for item in json.loads(members["meta.json"]):
        with Image.open(io.BytesIO(members[item["file"]])) as picture:
            yield item, picture.convert(mode)


@cache
def class_names() -> tuple[str, ...]:
    """The 12 classes in label order."""
    return tuple(dict.fromkeys(item.class_name for item in cut_outs()))


@cache
def split_cut_outs(split: str) -> dict[str, tuple[CutOut, ...]]:
    """The objects of a split by class: a fifth of each, in whole groups, is held out for "test"."""
    chosen = {}
    for name in class_names():
        members = [item for item in cut_outs() if item.class_name == name]
        chosen[name] = tuple(of_split(members, [item.group for item in members], name, split))
    return chosen


@cache
def split_photos(split: str) -> dict[str, tuple[Photo, ...]]:
    """The background crops of one split by photograph: whole photographs are held out."""
    crops = of_split(photos(), [item.photo for item in photos()], "background", split)
    return {photo: tuple(some) for photo, some in itertools.groupby(crops, lambda crop: crop.photo)}


def of_split(items: Sequence, groups: Sequence[str], key: str, split: str) -> list:
    """Those of the items, whose groups are given, that a split has: "test" the `held_out` ones."""
    held, test = held_out(groups, key), split == "test"
    return [item for item, group in zip(items, groups, strict=True) if (group in held) == test]


def held_out(groups: list[str], key: str, share: float = TEST_SHARE) -> frozenset[str]:
    """The groups held out for testing, `groups` naming the group of each item.

    Groups are taken in the order of their hash with `key`, which depends on no seed and no
    library, as long as the items held out stay within ceil(share * number of items).
    """
    sizes = {name: groups.count(name) for name in groups}
    room = -int(-share * len(groups) // 1)
    held = []
    for name in sorted(sizes, key=lambda name: hashlib.sha256(f"{key}/{name}".encode()).digest()):
        if sizes[name] <= room:
            held.append(name)
            room -= sizes[name]
    return frozenset(held)


OBJECT_SIDE = (0.5, 0.8)  # longest side of the object over the side of the image
WINDOW_SIDE = (0.6, 1.0)  # side of the background window over the side of the packed crop


@dataclass(frozen=True)
class Recipe:
    """Everything drawn for one image; lengths in pixels of the image, `window` of the photo."""

    cut_out: CutOut
    photo: Photo
    size: tuple[int, int]  # width, height of the resized object
    corner: tuple[int, int]  # x, y of its upper left corner
    flip_object: bool
    window: tuple[float, float, float, float]  # left, upper, right, lower
    flip_photo: bool


def draw_recipe(
    rng: np.random.Generator,
    cut_outs: Sequence[CutOut],
    photos: Mapping[str, Sequence[Photo]],
    side: int,
) -> Recipe:
    """Draw an image of `side` pixels: every object, photograph and place is equally likely."""
    cut_out = cut_outs[rng.integers(len(cut_outs))]
    crops = photos[list(photos)[rng.integers(len(photos))]]
    photo = crops[rng.integers(len(crops))]
    scale = rng.uniform(*OBJECT_SIDE) * side / max(cut_out.picture.size)
    size = tuple(max(1, round(length * scale)) for length in cut_out.picture.size)
    corner = tuple(int(rng.integers(side - length + 1)) for length in size)
    full = photo.picture.width
    width = rng.uniform(*WINDOW_SIDE) * full
    left, upper = rng.uniform(0, full - width, size=2)
    window = (float(left), float(upper), float(left + width), float(upper + width))
    flip_object, flip_photo = (bool(flip) for flip in rng.integers(2, size=2))
    return Recipe(cut_out, photo, size, corner, flip_object, window, flip_photo)


def render(recipe: Recipe, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture (side, side, 3) float32 in [0, 1] and its mask (side, side) bool.

    The picture is colour * alpha + background * (1 - alpha); the mask is alpha > 0.5. Resizing
    averages (bilinear with support) the colour premultiplied by alpha, so that what a cut-out hides
    under transparent pixels never shows.
    """
    smooth, photo = Image.Resampling.BILINEAR, recipe.photo.picture
    picture = _pixels(photo.resize((side, side), smooth, recipe.window), recipe.flip_photo)
    layer = _pixels(recipe.cut_out.picture.resize(recipe.size, smooth), recipe.flip_object)
    mask = np.zeros((side, side), dtype=bool)
    x, y = recipe.corner
    place = slice(y, y + layer.shape[0]), slice(x, x + layer.shape[1])
    alpha = layer[..., 3:]
    picture[place] = layer[..., :3] + picture[place] * (1 - alpha)
    mask[place] = _mask(alpha[..., 0])
    return picture, mask


def _pixels(picture: Image.Image, flip: bool) -> np.ndarray:
    values = np.asarray(picture, dtype=np.float32) / 255
    return values[:, ::-1].copy() if flip else values


def _mask(alpha: np.ndarray) -> np.ndarray:
    """alpha > 0.5; where a very thin object has no such pixel, its most opaque pixels."""
    mask = alpha > 0.5
    return mask if mask.any() else alpha == alpha.max()


IMAGE_SIZES = (16, 256)  # smaller hides the object, larger only enlarges the 96-pixel cut-outs

EIGHT_CLASSES = ("bird", "mammal", "insect", "fruit", "flower", "vehicle", "instrument", "building")


def embedded_images(
    count: int, split: str = "train", classes: int = 12, image_size: int = 64, seed: int = 0
) -> data.ImageSamples:
    """Compose `count` images of `image_size` x `image_size` pixels with labels and exact masks.

    Image i is drawn from a generator seeded with (seed, split, i) alone: the first 10 of 100 images
    are the 10 images. Labels run through a new random order of all classes again and again, so
    class counts differ by at most one. The object's longest side is 0.5 to 0.8 of the image's, its
    place and a flip are random; the background is a random window, flipped or not. The mask is
    alpha > 0.5 after resizing, 0.19 of an image on average (0.01 to 0.6 in a single one).

    split: "train" or "test". No object, drawn by whomever, and no background photograph is in
        both; about 80 to 20, stratified by class, the same for every seed.
    classes: 12, or 8 for the subset chosen after seeing test scores (see the module).
    image_size: 16 to 256; 64 by default, a size that small networks learn on two CPU cores.
    seed: an integer from 0 to 2**32 - 1.

    Raises `KpnbError` for an argument outside these ranges and for damaged packed data.
    """
    data.require_int("count", count, 1)
    data.require_int("image_size", image_size, *IMAGE_SIZES)
    data.require_int("seed", seed, *data.SEEDS)
    data.require_split(split)
    require(classes in (8, 12), f"classes is {classes!r}: give 12, or 8 for the easier subset.")
    names = class_names() if classes == 12 else EIGHT_CLASSES
    labels = torch.from_numpy(balanced_labels(count, len(names), (seed, data.SPLITS.index(split))))
    images = torch.empty(count, 3, image_size, image_size)
    masks = torch.empty(count, image_size, image_size, dtype=torch.bool)
    mean, std = data.normalization()
    shown = (names[label] for label in labels.tolist())
    for i, recipe in enumerate(_recipes(shown, split, image_size, seed)):
        picture, mask = render(recipe, image_size)
        images[i] = torch.from_numpy(picture).permute(2, 0, 1)
        masks[i] = torch.from_numpy(mask)
    source = dict(dataset="embedded-images", split=split, seed=int(seed), count=int(count))
    source |= dict(image_size=int(image_size), classes=list(names))
    source |= dict(data=data.packed_hash(PACKED_SHA256), parts=[])
    return data.ImageSamples(images.sub_(mean).div_(std), labels, masks, tuple(names), source)


def _recipes(classes: Iterable[str], split: str, side: int, seed: int) -> Iterator[Recipe]:
    """What is drawn for the image of each class, from its seed, split and place alone."""
    cut_outs, photos = split_cut_outs(split), split_photos(split)
    for i, name in enumerate(classes):
        rng = np.random.default_rng([seed, data.SPLITS.index(split), i])
        yield draw_recipe(rng, cut_outs[name], photos, side)


def balanced_labels(count: int, classes: int, key: tuple[int, int]) -> np.ndarray:
    """(count,) labels in blocks, each a random order of all classes by `key` and the block."""
    orders = [
        # The 1 sets these streams apart from those of single samples, whose key is shorter.
        np.random.default_rng([*key, block, 1]).permutation(classes)
        for block in range(-(-count // classes))
    ]
    return np.concatenate(orders)[:count].astype(np.int64)


def relabeled(samples: data.ImageSamples, outputs: int) -> data.ImageSamples:
    """The same images under `outputs` labels.

    Up to the number of classes c, class k becomes label floor(k outputs / c): classes merge with
    their neighbors. Above it, each class is split into floor(outputs / c) labels, or one more for
    the first (outputs mod c) classes: its objects, by name, in runs of equal length but one.
    Raises KpnbError for samples that are not whole `embedded_images` of the training split, and for
    fewer than 2 labels or more than the objects can be told apart by.
    """
    source, classes = samples.source, len(samples.class_names)
    if source.get("dataset") != "embedded-images" or source["parts"] or "outputs" in source:
        raise KpnbError("Only whole sets of embedded images can be relabeled: take parts later.")
    if source["split"] != "train":
        raise KpnbError("Unseen objects have no label of their own: label the training split.")
    require(outputs >= 2, f"outputs={outputs} tells nothing apart: ask for at least 2.")
    merged = samples.labels * outputs // classes
    labels = merged if outputs <= classes else torch.tensor(_split_labels(samples, outputs))
    names = tuple(f"output {number}" for number in range(outputs))
    source = source | {"outputs": outputs}
    return replace(samples, labels=labels.long(), class_names=names, source=source)


def same_part(samples: data.ImageSamples, share: float, seed: int) -> Tensor:
    """Positions of `samples.fraction(share, seed)`, so that every number of labels gets the same
    images: the fraction is taken by class."""
    riding = replace(samples, images=torch.arange(len(samples)))
    return riding.fraction(share, seed).images


def _split_labels(samples: data.ImageSamples, outputs: int) -> list[int]:
    """Label of each image, by class and object."""
    by_class = split_cut_outs("train")
    starts, table = 0, {}
    each, more = divmod(outputs, len(samples.class_names))
    for position, name in enumerate(samples.class_names):
        objects = sorted(cut_out.name for cut_out in by_class[name])
        count = each + (position < more)
        if count > len(objects):
            raise KpnbError(
                f"outputs={outputs} needs {count} labels for the {len(objects)} objects of the "
                f"class {name}: ask for fewer."
            )
        for place, own in enumerate(objects):
            table[name, own] = starts + place * count // len(objects)
        starts += count
    return [table[found] for found in shown_objects(samples)]


def shown_objects(samples: data.ImageSamples) -> list[tuple[str, str]]:
    """Class and name of the object that each image shows: its recipe drawn again."""
    source, names = samples.source, [samples.class_names[i] for i in samples.labels.tolist()]
    recipes = _recipes(names, source["split"], source["image_size"], source["seed"])
    return [(name, recipe.cut_out.name) for name, recipe in zip(names, recipes, strict=True)]


def shown_photographs(samples: data.ImageSamples) -> Tensor:
    """(n,) number of the photograph behind the object of each image, in the order of
    `split_photos`: its recipe drawn again. Raises KpnbError for a part of a set."""
    source = samples.source
    whole = source.get("dataset") == "embedded-images" and not source["parts"]
    require(whole, "Only whole sets of embedded images are drawn again: take parts later.")
    numbers = {photo: number for number, photo in enumerate(split_photos(source["split"]))}
    names = (samples.class_names[label] for label in samples.labels.tolist())
    recipes = _recipes(names, source["split"], source["image_size"], source["seed"])
    return torch.tensor([numbers[recipe.photo.photo] for recipe in recipes])


Names = tuple[str, ...]


def split_classes(names: Sequence[str], source: int, seed: int) -> tuple[Names, Names]:
    """`source` of the classes by a random order of that seed, and the others.

    Both keep the order of `names`. Raises `KpnbError` where one side would be empty.
    """
    if not 0 < source < len(names):
        raise KpnbError(f"source is {source} of {len(names)} classes: leave some on either side.")
    chosen = set(np.random.default_rng(seed).permutation(len(names))[:source].tolist())
    first = tuple(name for i, name in enumerate(names) if i in chosen)
    return first, tuple(name for name in names if name not in first)


def of_classes(samples: data.ImageSamples, names: Sequence[str]) -> data.ImageSamples:
    """The samples of the classes `names` in their order, labels numbered anew by that of `names`.

    Raises `KpnbError` for a class that is unknown, named twice, or has no sample.
    """
    unknown = [name for name in names if name not in samples.class_names]
    if unknown or len(set(names)) < len(names):
        raise KpnbError(
            f"the classes {list(names)} cannot be taken from {list(samples.class_names)}: name "
            "known ones, each once."
        )
    new = torch.full((len(samples.class_names),), -1)
    new[[samples.class_names.index(name) for name in names]] = torch.arange(len(names))
    labels = new[samples.labels]
    missing = [name for i, name in enumerate(names) if not (labels == i).any()]
    require(not missing, f"there is no sample of {', '.join(missing)}: take more samples.")
    part = samples.subset(labels >= 0)
    source = part.source | {"parts": [*part.source["parts"], {"classes": list(names)}]}
    return replace(part, labels=new[part.labels], class_names=tuple(names), source=source)
