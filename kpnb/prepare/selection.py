"""Which objects of a data set are prepared: not too small, and not too many of a class."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from kpnb.errors import KpnbError
from kpnb.prepare.objects import ObjectSet, PictureObject


def selected(objects: ObjectSet, least: int = 0, most: int | None = None) -> ObjectSet:
    """The objects that are taken, in their order, with what is left out counted.

    least: pixels that the shorter side of an object's box must have; 0 takes all. An object without
    a box is a whole picture and is taken. most: of each class and split, the first so many in the
    order of a hash of their names, so that the choice does not depend on any other object's order;
    None takes all. The small ones are left out first.

    Raises `KpnbError` for arguments out of range, names that are not unique and an object whose
    class is not one of the set's.
    """
    _check(objects, least, most)
    large = [o for o in objects.objects if _shorter(o) >= least]
    kept = large if most is None else _first(large, most)
    left_out = Counter(objects.left_out)
    left_out[f"smaller than {least} pixels"] += len(objects.objects) - len(large)
    left_out[f"over {most} of a class and split"] += len(large) - len(kept)
    counted = {reason: count for reason, count in left_out.items() if count}
    return replace(objects, objects=tuple(kept), left_out=counted)


def _check(objects: ObjectSet, least: int, most: int | None) -> None:
    if least < 0:
        raise KpnbError(f"least is {least}: give 0 or a number of pixels.")
    if most is not None and most < 1:
        raise KpnbError(f"most is {most}: give a number of objects, or none for all.")
    names = Counter(o.name for o in objects.objects)
    if names and (double := names.most_common(1)[0])[1] > 1:
        raise KpnbError(
            f"{objects.dataset} has {double[1]} objects called {double[0]!r}: get the annotations "
            "again."
        )
    if unknown := sorted({o.category for o in objects.objects} - set(objects.classes)):
        raise KpnbError(
            f"{objects.dataset} has an object of class {unknown[0]!r}, which is none of its "
            f"{len(objects.classes)} classes: get the annotations again."
        )


def _shorter(obj: PictureObject) -> float:
    if obj.box is None:
        return float("inf")
    left, top, right, bottom = obj.box
    return min(right - left, bottom - top)


def _first(objects: Iterable[PictureObject], most: int) -> list[PictureObject]:
    objects, groups = list(objects), defaultdict(list)
    for obj in objects:
        groups[obj.category, obj.split].append(obj.name)
    chosen = {name for names in groups.values() for name in sorted(names, key=_place)[:most]}
    return [obj for obj in objects if obj.name in chosen]


def _place(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
