"""Which entries of the store a notebook used, and whether they are still whole.

An executed copy is up to date only while what it was made from is undamaged. Needs no torch, so
that looking costs nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from kpnb.fingerprint import file_hash

# Names a file in which a process lists the folders of the entries it uses, one a line.
JOURNAL = "KPNB_STORE_JOURNAL"
MANIFEST = "manifest.json"


def note_use(folder: Path) -> None:
    """Add an entry's folder to the journal, if one is kept."""
    if os.environ.get(JOURNAL):
        with open(os.environ[JOURNAL], "a", encoding="utf-8") as journal:
            journal.write(f"{folder.resolve()}\n")


def read_journal(path: Path) -> list[str]:
    """The folders listed in a journal, each once; none if there is no journal."""
    return (
        sorted(set(path.read_text(encoding="utf-8").split("\n")) - {""}) if path.is_file() else []
    )


def damaged(folders: Iterable[str]) -> list[str]:
    """Those of the entries' folders that exist but are not what their manifest says.

    An entry that is gone as a whole is no damage: what was made from it still holds.
    """
    return [folder for folder in folders if Path(folder).is_dir() and not _whole(Path(folder))]


def _whole(folder: Path) -> bool:
    """Whether the manifest is, to the byte, the one that its files would get today."""
    try:
        written = (folder / MANIFEST).read_bytes()
        files = {name: _described(folder / name) for name in json.loads(written)["files"]}
        return written == json.dumps({"files": files}, indent=1, sort_keys=True).encode()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _described(file: Path) -> dict[str, int | str]:
    return {"bytes": file.stat().st_size, "sha256": file_hash(file)}
