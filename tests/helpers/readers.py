"""The five readers of images and their generated trees: how to read each and run its command."""

from pathlib import Path

from image_trees import cub_tree, tiny_tree
from object_trees import coco_tree, det_tree, voc_tree

from data_prep import coco, cub200, ilsvrc_det, tiny_imagenet, voc2012
from data_prep.command import main

# Module, tree, the folder that holds its tables, options.
READERS = {
    "cub": (cub200, cub_tree, "CUB_200_2011", {}),
    "tiny": (tiny_imagenet, tiny_tree, "tiny-imagenet-200", {}),
    "voc": (voc2012, voc_tree, "VOCdevkit/VOC2012", {}),
    "det": (ilsvrc_det, det_tree, "ILSVRC2013_DET_bbox_train", {"classes": "bear,fox,zebra"}),
    "coco": (coco, coco_tree, "annotations", {"largest": 3}),
}


def read(key: str, root: Path, **options):
    module, *_, own = READERS[key]
    return module.read(root, **{"partial": True, **own, **options})


def run(key: str, root: Path, *arguments: object) -> int:
    """The data set's command on an incomplete copy."""
    module, *_, own = READERS[key]
    given = [word for name, value in own.items() for word in (f"--{name}", value)]
    given = ["--root", root, "--partial", "--size", 32, "--least", 0, *given, *arguments]
    return main(module, [*map(str, given)])


def prepared(key: str, root: Path, ending: str = "32") -> Path:
    return root / "prepared" / f"{READERS[key][0].NAME}-{ending}"
