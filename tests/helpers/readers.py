"""The five readers of images and their generated trees, and how data sets' commands are run."""

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from image_trees import cub_tree, tiny_tree
from object_trees import coco_tree, det_tree, voc_tree

from data_prep import coco, command, cub200, ilsvrc_det, tiny_imagenet, voc2012

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


def said(main: Callable[[list[str]], int], *arguments: object, status: int = 0) -> str:
    """What a command says as it ends with `status`: an error is one sentence on stderr."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        assert main([*map(str, arguments)]) == status, error.getvalue()
    told = error.getvalue()
    assert status == 0 or told.count("\n") == 1
    return told if status else out.getvalue()


def run(key: str, root: Path, *arguments: object, status: int = 0) -> str:
    """What the data set's command says on an incomplete copy."""
    module, *_, own = READERS[key]
    given = [word for name, value in own.items() for word in (f"--{name}", value)]
    given = ["--root", root, "--partial", "--size", 32, "--least", 0, *given, *arguments]
    return said(lambda words: command.main(module, words), *given, status=status)


def prepared(key: str, root: Path, ending: str = "32") -> Path:
    return root / "prepared" / f"{READERS[key][0].NAME}-{ending}"
