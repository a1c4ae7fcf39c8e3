"""Folders in the public layouts of ModelNet40, SST-2 and SQuAD, large enough for a smoke study."""

import json
from pathlib import Path

import numpy as np
import pytest
from object_trees import put
from public_files import box, document, qa, write_release

MODEL_CLASSES = ("bed", "lamp", "table")


def off_tree(root: Path, height: float = 1.0) -> str:
    """A folder of three classes of boxes; the height is of the tallest ones."""
    for size, name in enumerate(MODEL_CLASSES, start=1):
        for split, numbers in (("train", range(4)), ("test", range(4, 7))):
            for n in numbers:
                tall = size * height if size == 3 else size
                put(root / name / split / f"{name}_{n:04}.off", box(1, 1, tall + n / 10))
    return str(root)


def release(root, first="good"):
    """SST-2's files: as many sentences as a teacher needs, of two classes, and a dev part."""
    words = {first: 0.9, "dull": 0.1, "film": 0.5}
    kinds = (("A dull film {}", 0.1), (f"The {first} film {{}}", 0.9))
    told = [(n, kinds[n % 2][0].format(n), kinds[n % 2][1]) for n in range(1, 151)]
    rows = [(n, 3 if n % 6 == 0 else 1, text, text, value) for n, text, value in told]
    return write_release(root / "release", rows, words)


def squad_tree(root, dev=30):
    folder, context = root / "squad", "She was born in a cafe. The Moon landed in 1969."
    asked = ("Where was she born {}?", [("cafe", 18)]), ("What landed {}?", [("Moon", 28)])
    for name, count in (("train", 120), ("dev", dev)):
        kinds = [(n, *asked[n % 2]) for n in range(count)]
        qas = [qa(f"{name}{n}", question.format(n), found) for n, question, found in kinds]
        put(folder / f"{name}-v1.1.json", json.dumps(document(*qas, context=context)))
    return folder


def write_h5(file, **arrays):
    with pytest.importorskip("h5py").File(file, "w") as content:
        content.update(arrays)


def points_tree(folder: Path) -> Path:
    """ModelNet40 as sampled points, tall along y: training shapes in two files, test in one."""
    rng = np.random.default_rng(0)
    put(folder / "shape_names.txt", "\n".join(MODEL_CLASSES) + "\n")
    for split, files in (("train", ("0120", "210")), ("test", ("012210",))):
        names = [f"ply_data_{split}{i}.h5" for i in range(len(files))]
        for name, labels in zip(names, files, strict=True):
            data = rng.uniform(-1, 1, (len(labels), 2048, 3)) * [0.2, 1.0, 0.5]
            label = np.array([*labels], "uint8")[:, None]
            write_h5(folder / name, data=data.astype("float32"), label=label)
        listed = "".join(f"data/modelnet40_ply_hdf5_2048/{name}\n" for name in names)
        put(folder / f"{split}_files.txt", listed)
    return folder
