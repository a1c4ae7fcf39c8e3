"""How many samples and classes a data set has, asked without reading it.

A prepared folder says it in its manifest. For a data set that is not there yet, the counts that its
reader checks a complete release against (`data_prep`) are taken, where they count samples.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from kpnb.datasets.prepared import manifest
from kpnb.errors import KpnbError

EMBEDDED = "embedded"
DOWNLOAD = "download:"
# Where a complete release's counts stand: the keys below COUNTS of training and test samples.
_COUNTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], int | tuple[str, ...]]] = {
    "cub200": (("train images",), ("test images",), ("classes",)),
    "modelnet40": (("off", "train shapes"), ("off", "test shapes"), ("off", "classes")),
    "sst2": (("glue", "train"), ("glue", "dev"), 2),
    "squad": (("train",), ("dev",), 2),
}
_BY_CLASS = "tiny_imagenet"  # counts samples of a class


@dataclass(frozen=True)
class Counts:
    """Samples to train and to test on, and classes. known: where the numbers come from."""

    train: int
    test: int
    classes: int
    known: str


def counts_of(data: str) -> Counts:
    """Of a prepared folder, or of a data set by its name.

    Raises KpnbError where nobody can tell before the data are there: how many objects of ILSVRC,
    VOC and MSCOCO are kept depends on what they are prepared with.
    """
    name = data.removeprefix(DOWNLOAD)
    folder = _folder(name)
    if folder is not None:
        return _prepared(folder)
    if name in _COUNTS:
        return _released(name)
    if name == _BY_CLASS:
        return _by_class(name)
    raise KpnbError(
        f"How many samples {data!r} has is known once it is prepared: run data_prep/ first, or "
        "give teacher_samples as a number."
    )


def _folder(name: str) -> Path | None:
    """The prepared folder of a name or a path, if it is there."""
    if (Path(name) / "manifest.json").is_file():
        return Path(name)
    try:
        from kpnb.datasets.places import find_data

        found = Path(find_data(name))
    except (ImportError, KpnbError, TypeError, OSError):
        return None
    return found if (found / "manifest.json").is_file() else None


def _prepared(folder: Path) -> Counts:
    known = manifest(folder)
    train, test = (known["splits"][split]["count"] for split in ("train", "test"))
    return Counts(train, test, len(known["classes"]), "its manifest")


def _released(name: str) -> Counts:
    table = importlib.import_module(f"data_prep.{name}").COUNTS
    train, test, classes = (
        place if isinstance(place, int) else _at(table, place) for place in _COUNTS[name]
    )
    return Counts(train, test, classes, f"the complete release of {name}")


def _by_class(name: str) -> Counts:
    table = importlib.import_module(f"data_prep.{name}").COUNTS
    classes = table["classes"]
    train, test = (classes * table[f"{split} images of a class"] for split in ("train", "test"))
    return Counts(train, test, classes, f"the complete release of {name}")


def _at(table: dict, place: tuple[str, ...]) -> int:
    for key in place:
        table = table[key]
    return table
