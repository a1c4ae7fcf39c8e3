"""Crops of many objects, decoded by several threads, in the objects' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kpnb.prepare.crops import UnusableObjectError, crop_object
from kpnb.prepare.objects import PictureObject
from kpnb.prepare.reader_options import Foreground
from kpnb.progress import track

AHEAD = 4  # crops a thread may be ahead of the writer, which bounds memory


@dataclass(frozen=True)
class Crop:
    """An object with its pixels (3, size, size) uint8 and mask (size, size) bool."""

    obj: PictureObject
    pixels: np.ndarray
    mask: np.ndarray


def crops(
    objects: Sequence[PictureObject],
    factor: float,
    size: int,
    foreground: Foreground,
    workers: int = 0,
    title: str = "images",
) -> Generator[Crop | UnusableObjectError, None, None]:
    """`crop_object` of each object, in their order, with a progress bar called `title`.

    workers: threads (Pillow decodes and resizes outside of Python's lock); 0 uses none. An object
    whose annotation gives no crop comes out as its error. Close the generator
    (`contextlib.closing`) unless it is used up, so that its threads end there and then.
    Raises `KpnbError` as `crop_object` does.
    """

    def crop(obj: PictureObject) -> Crop | UnusableObjectError:
        try:
            return Crop(obj, *crop_object(obj, factor, size, foreground))
        except UnusableObjectError as error:
            return error

    if not workers:
        yield from map(crop, track(objects, title))
        return
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future] = deque()
        for obj in track(objects, title):
            under_way.append(pool.submit(crop, obj))
            if len(under_way) > AHEAD * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
