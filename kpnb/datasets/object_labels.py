"""Other labels for the embedded images: few, by merging classes, or many, by telling objects apart.

The images stay as they are, so that networks which differ in the dimensions of their output alone
can be compared (the paper's Table VIII against the last layer in its Table V).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from kpnb.datasets import _packed
from kpnb.datasets._compose import draw_recipe
from kpnb.datasets.embedded_images import SPLITS
from kpnb.datasets.image_samples import ImageSamples
from kpnb.errors import KpnbError


def relabeled(samples: ImageSamples, outputs: int) -> ImageSamples:
    """The same images under `outputs` labels.

    Up to the number of classes c, class k becomes label floor(k outputs / c): neighbors in the
    order of the classes are merged, whatever they show. Above it, each class is split into
    floor(outputs / c) labels, or one more for the first (outputs mod c) classes, by the object that
    is shown: the objects of a class in the order of their names, in runs of equal length but one.
    samples: whole `embedded_images` of the training split, no part of them.
    Raises KpnbError for a part, for other samples, and for fewer than 2 labels or more than the
    objects can be told apart by.
    """
    _check(samples, outputs)
    classes = len(samples.class_names)
    if outputs <= classes:
        labels = samples.labels * outputs // classes
    else:
        labels = torch.tensor(_split_labels(samples, outputs))
    names = tuple(f"output {number}" for number in range(outputs))
    source = samples.source | {"outputs": outputs}
    return replace(samples, labels=labels.long(), class_names=names, source=source)


def same_part(samples: ImageSamples, share: float, seed: int) -> Tensor:
    """Positions of `samples.fraction(share, seed)`, so that every number of labels gets the same
    images: the fraction is taken by class."""
    riding = replace(samples, images=torch.arange(len(samples)))
    return riding.fraction(share, seed).images


def _split_labels(samples: ImageSamples, outputs: int) -> list[int]:
    """Label of each image, by class and object."""
    by_class = _packed.split_cut_outs("train")
    starts, table = 0, {}
    for position, name in enumerate(samples.class_names):
        objects = sorted(cut_out.name for cut_out in by_class[name])
        count = outputs // len(samples.class_names)
        count += position < outputs % len(samples.class_names)
        if count > len(objects):
            raise KpnbError(
                f"outputs={outputs} needs {count} labels for the {len(objects)} objects of the "
                f"class {name}: ask for fewer."
            )
        for place, own in enumerate(objects):
            table[name, own] = starts + place * count // len(objects)
        starts += count
    return [table[found] for found in shown_objects(samples)]


def shown_objects(samples: ImageSamples) -> list[tuple[str, str]]:
    """Class and name of the object that each image shows: its recipe drawn again."""
    source = samples.source
    split = source["split"]
    cut_outs, photos = _packed.split_cut_outs(split), _packed.split_photos(split)
    found = []
    for i, label in enumerate(samples.labels.tolist()):
        name = samples.class_names[label]
        rng = np.random.default_rng([source["seed"], SPLITS.index(split), i])
        recipe = draw_recipe(rng, cut_outs[name], photos, source["image_size"])
        found.append((name, recipe.cut_out.name))
    return found


def _check(samples: ImageSamples, outputs: int) -> None:
    source = samples.source
    if source.get("dataset") != "embedded-images" or source["parts"] or "outputs" in source:
        raise KpnbError(
            "Only whole sets of embedded images can be labeled anew: take parts afterwards."
        )
    if source["split"] != "train":
        raise KpnbError("Unseen objects have no label of their own: label the training split.")
    if outputs < 2:
        raise KpnbError(f"outputs={outputs} tells nothing apart: ask for at least 2.")
