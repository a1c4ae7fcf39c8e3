"""Objects in pictures, as a data set's own annotations have them: what every reader returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

Box = tuple[float, float, float, float]
Split = Literal["train", "test"]


@dataclass(frozen=True)
class PictureObject:
    """One labelled object in one picture.

    name: unique in its data set, the same on every machine. picture: its file. category: its class.
    split: "train" or "test". box: left, top, right, bottom in pixels, right and bottom exclusive;
    None is the whole picture. mask: gives (height, width) bool of the whole picture, True on the
    object; None where the data set has no outlines, and the box is the foreground.
    """

    name: str
    picture: Path
    category: str
    split: Split
    box: Box | None = None
    mask: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class ObjectSet:
    """All objects of a data set that are taken, in a fixed order.

    dataset: its name, as tables call it. classes: all of them, in the order of their labels.
    factor: by which a box is enlarged about its center before cropping (Section 4.1).
    left_out: what was not taken, reason -> how many. about: whatever else says how the objects
    were chosen, JSON-able.
    """

    dataset: str
    classes: tuple[str, ...]
    objects: tuple[PictureObject, ...]
    factor: float
    left_out: dict[str, int] = field(default_factory=dict)
    about: dict = field(default_factory=dict)
