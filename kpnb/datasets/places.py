"""Where a notebook's `data` parameter leads: a folder, one on Google Drive, or a name to fetch."""

import importlib
import json
import os
import sys
from difflib import get_close_matches
from pathlib import Path

from kpnb.errors import KpnbError, require
from kpnb.store import locked

EMBEDDED = "embedded"
PREFIX = "download:"
FOLDER = "KPNB_DATA"  # environment variable: where data sets are fetched and looked for
DEFAULT = "kpnb_data"
IMAGES = ("cub200", "tiny_imagenet", "ilsvrc_det", "voc2012", "coco")
OTHERS = ("sst2", "squad", "modelnet40", "modelnet10")
NAMES = (*IMAGES, *OTHERS)
#: Those that notebooks read, by the beginning of their names; others read images.
READ_BY = {"sentiment_": ("sst2",), "qa_": ("squad",), "pointcloud_": ("modelnet40", "modelnet10")}
DRIVE = Path("/content/drive")  # where Colab's own examples mount Google Drive


def find_data(value: str) -> Path | None:
    """The folder that the readers take for a notebook's `data`; None for the embedded data.

    value: "embedded"; a folder; a folder on Google Drive, below /content/drive, which is mounted
    on Colab if it is not; "download:NAME" for one of `NAMES`, which is fetched and prepared as the
    command of that name in `data_prep` does with its defaults, once; or such a name alone, for one
    that was prepared so before, or the name of the folder that it was prepared into, as
    "tiny_imagenet-64-tiny_imagenet_20". All are kept in the folder that the environment variable
    KPNB_DATA names, "kpnb_data" in the current folder by default. A folder goes before a name.

    Raises `KpnbError` for anything else, naming what may be given and what is near, and when
    fetching or preparing fails.
    """
    if value == EMBEDDED:
        return None
    if value.startswith(PREFIX):
        return _downloaded(value.removeprefix(PREFIX), value)
    folder = Path(os.path.expanduser(value) if value.startswith("~/") else value)
    if folder.is_relative_to(DRIVE):
        _mount_drive()
    if value and os.path.exists(folder):  # False, not an error, for names that no disk can have
        if folder.is_dir():
            return folder
        raise KpnbError(f"data={str(folder)!r} is a file: give the folder that it was unpacked to.")
    found = _prepared(value) if value in NAMES else _prepared_as(value)
    if found is None:
        raise KpnbError(_unknown(value))
    return found


def _mount_drive() -> None:
    """Mount Google Drive, on Colab, unless it is there."""
    if "google.colab" not in sys.modules or (DRIVE / "MyDrive").exists():
        return
    try:
        importlib.import_module("google.colab.drive").mount(str(DRIVE))
    except Exception as error:  # Colab's own errors are of many kinds, ValueError among them
        told = f"Google Drive cannot be mounted ({error})"
        raise KpnbError(f"{told}: allow it, or give {PREFIX}NAME.") from error


def _home(name: str) -> Path:
    return Path(os.path.expanduser(os.environ.get(FOLDER) or DEFAULT)) / name


def _prepared(name: str) -> Path | None:
    """The prepared folder of a data set, where there is one."""
    root = _home(name)
    if name in OTHERS:
        return marked_folder(root)
    found = sorted(path.parent for path in root.glob(f"prepared/{name}-*/manifest.json"))
    usual = root / "prepared" / f"{name}-{importlib.import_module('data_prep.command').SIZE}"
    return usual if usual in found else found[0] if len(found) == 1 else None


def _prepared_as(folder: str) -> Path | None:
    """The prepared folder of this name, below the data set's that it begins with, where it is."""
    name = folder.partition("-")[0]
    known = name in IMAGES and Path(folder).name == folder
    found = _home(name) / "prepared" / folder
    return found if known and (found / "manifest.json").is_file() else None


def _downloaded(name: str, value: str) -> Path:
    """The prepared folder of a data set, made now if it is not there."""
    if name not in NAMES:
        raise KpnbError(_unknown(value))
    root = _home(name)
    with locked(root / ".prepare.lock", f"prepares {name}", f"let {FOLDER} name another folder"):
        if _prepared(name) is None:
            # The data set's own command.
            reader = importlib.import_module(f"data_prep.{name}")
            given = ["--root", str(root), "--download"]
            importlib.import_module("data_prep.command").run(reader, given)
        found = _prepared(name)
    require(found is not None, f"{root} holds no prepared {name}: run python -m data_prep.{name}.")
    return found


def _unknown(value: str) -> str:
    """Why `value` leads nowhere, and what may be given."""
    name = value.removeprefix(PREFIX)
    if value in NAMES:
        told = f"data={value!r} is not prepared in {_home(value)}, and no folder here"
        return f"{told}: give {PREFIX}{value}, or a folder."
    if Path(value).is_relative_to(DRIVE):
        colab = "is not on the mounted Drive" if DRIVE.exists() else "is there on Colab only"
        return f"data={value!r} {colab}: give a folder that is there, or {PREFIX}NAME."
    near = get_close_matches(name, (*NAMES, EMBEDDED), n=3, cutoff=0.6) + _near_folders(value)
    if name.partition("-")[0] in IMAGES and name not in NAMES:
        return f"data={value!r} is not prepared in {_home(name.partition('-')[0])}: do so first."
    told = f"data={value!r} is no folder and no known name"
    told += f" (near: {', '.join(near)})" if near else ""
    named = f"{PREFIX}NAME with NAME one of {', '.join(NAMES)}"
    return f"{told}: give {EMBEDDED!r}, a folder, or {named}."


def _near_folders(value: str) -> list[str]:
    """Folders beside the one that was meant, with names like it."""
    meant = Path(os.path.expanduser(value))
    try:
        beside = {path.name: str(path) for path in meant.parent.iterdir() if path.is_dir()}
    except (OSError, ValueError):
        return []
    return [beside[name] for name in get_close_matches(meant.name, beside, n=3, cutoff=0.6)]


MARKER = "kpnb_checked.json"
CHECKED_FORMAT = "kpnb-checked-1"


def marked_folder(root: Path) -> Path | None:
    """The folder that `root`'s marker names; None without a marker, or when it is gone."""
    try:
        content = json.loads((root / MARKER).read_bytes())
        inside = content["folder"] if content["format"] == CHECKED_FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(inside, str) or Path(inside).is_absolute() or ".." in Path(inside).parts:
        return None
    return root / inside if (root / inside).is_dir() else None
