"""Folders in the public layouts of ModelNet40, SST-2 and SQuAD, large enough for a smoke study."""

import json
from pathlib import Path

from public_files import box, document, qa, write_release


def off_tree(root: Path, height: float = 1.0) -> str:
    """A folder of three classes of boxes; the height is of the tallest ones."""
    for size, name in enumerate(("bed", "lamp", "table"), start=1):
        for split, numbers in (("train", range(4)), ("test", range(4, 7))):
            folder = root / name / split
            folder.mkdir(parents=True)
            for n in numbers:
                tall = size * height if size == 3 else size
                (folder / f"{name}_{n:04}.off").write_text(box(1, 1, tall + n / 10))
    return str(root)


def release(root, first="good"):
    """SST-2's files: as many sentences as a teacher needs, of two classes, and a dev part."""
    words = {first: 0.9, "dull": 0.1, "film": 0.5}
    rows = [
        (n, 3 if n % 6 == 0 else 1, text, text, value)
        for n in range(1, 151)
        for text, value in [(f"The {first} film {n}", 0.9) if n % 2 else (f"A dull film {n}", 0.1)]
    ]
    return write_release(root / "release", rows, words)


def squad_tree(root, dev=30):
    context = "She was born in a cafe. The Moon landed in 1969."
    folder = root / "squad"
    folder.mkdir(parents=True)
    for name, count in (("train", 120), ("dev", dev)):
        qas = [
            qa(f"{name}{n}", f"What landed {n}?", [("Moon", 28)])
            if n % 2
            else qa(f"{name}{n}", f"Where was she born {n}?", [("cafe", 18)])
            for n in range(count)
        ]
        text = json.dumps(document(*qas, context=context))
        (folder / f"{name}-v1.1.json").write_text(text)
    return folder
