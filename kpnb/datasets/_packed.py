"""The packed cut-outs and photographs, checked and decoded in memory, and their split."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from PIL import Image

from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

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
    """The files inside packed file `name`, by name, once its SHA-256 has been checked.

    Raises `KpnbError` when the packed file is missing or is not the one this code was made for.
    """
    try:
        content = packed_file(name).read_bytes()
    except (KpnbError, OSError):
        content = b""
    if hashlib.sha256(content).hexdigest() != PACKED_SHA256[name]:
        raise KpnbError(
            f"The packed data file {name} is missing or damaged: reinstall kpnb or "
            "rebuild it with data_prep/embedded_images.py."
        )
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return {member: packed.read(member) for member in packed.namelist()}


@cache
def cut_outs() -> tuple[CutOut, ...]:
    """All objects of the 12 classes, in the packed order (classes in label order)."""
    members = packed_members(OBJECTS)
    return tuple(
        CutOut(
            item["name"],
            item["class"],
            item["group"],
            item["source"],
            _decode(members[item["file"]], "RGBA").convert("RGBa"),
        )
        for item in json.loads(members["meta.json"])
    )


@cache
def photos() -> tuple[Photo, ...]:
    """All background crops, in the packed order."""
    members = packed_members(BACKGROUNDS)
    return tuple(
        Photo(item["file"], item["photo"], item["source"], _decode(members[item["file"]], "RGB"))
        for item in json.loads(members["meta.json"])
    )


def _decode(content: bytes, mode: str) -> Image.Image:
    with Image.open(io.BytesIO(content)) as picture:
        return picture.convert(mode)


@cache
def class_names() -> tuple[str, ...]:
    """The 12 classes in label order."""
    return tuple(dict.fromkeys(item.class_name for item in cut_outs()))


@cache
def split_cut_outs(split: str) -> dict[str, tuple[CutOut, ...]]:
    """The objects of one split by class. About a fifth of each class is held out for "test".

    Whole groups are held out, so no thing is in both splits.
    """
    chosen = {}
    for name in class_names():
        members = [item for item in cut_outs() if item.class_name == name]
        held = held_out([item.group for item in members], key=name)
        chosen[name] = tuple(item for item in members if (item.group in held) == (split == "test"))
    return chosen


@cache
def split_photos(split: str) -> dict[str, tuple[Photo, ...]]:
    """The background crops of one split by photograph: whole photographs are held out."""
    held = held_out([item.photo for item in photos()], key="background")
    chosen: dict[str, list[Photo]] = {}
    for item in photos():
        if (item.photo in held) == (split == "test"):
            chosen.setdefault(item.photo, []).append(item)
    return {photo: tuple(crops) for photo, crops in chosen.items()}


def held_out(groups: list[str], key: str, share: float = TEST_SHARE) -> frozenset[str]:
    """The groups held out for testing, `groups` naming the group of each item.

    Groups are taken in the order of their hash with `key`, which depends on no seed and no
    library, as long as the items held out stay within ceil(share * number of items).
    """
    sizes: Mapping[str, int] = {name: groups.count(name) for name in groups}
    room = -int(-share * len(groups) // 1)
    held = []
    for name in sorted(sizes, key=lambda name: hashlib.sha256(f"{key}/{name}".encode()).digest()):
        if sizes[name] <= room:
            held.append(name)
            room -= sizes[name]
    return frozenset(held)
