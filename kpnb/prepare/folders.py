"""Data sets whose readers take the publisher's own files: obtain, read, count, say what is there.

Shared by kpnb.prepare.sst2, squad and modelnet40. A folder that was found complete gets a small
file saying so, by which kpnb.data_places knows it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kpnb.errors import KpnbError
from kpnb.prepare.download import RemoteFile

MARKER = "kpnb_checked.json"
FORMAT = "kpnb-checked-1"


@dataclass(frozen=True)
class Checked:
    """A data set's folder as its reader found it.

    dataset: its name in tables. folder: what a notebook takes as `data`. layout: which of the
    published forms. classes: their names; none for questions. splits: name -> what to print of
    it, in words. notes: further lines to print. about: JSON-able facts, kept in the marker.
    """

    dataset: str
    folder: Path
    layout: str
    classes: tuple[str, ...]
    splits: dict[str, str]
    notes: tuple[str, ...] = ()
    about: dict = field(default_factory=dict)


# (root, layout, download, partial) -> what was found
Check = Callable[[Path, str, bool, bool], Checked]


@dataclass(frozen=True)
class Shares:
    """Foreground words among all words of some texts, and texts that have both kinds."""

    foreground: int
    words: int
    usable: int
    texts: int

    @classmethod
    def of(cls, counts: Iterable[tuple[int, int]]) -> Shares:
        """Of (foreground words, words) for each text."""
        rows = list(counts)
        usable = sum(0 < marked < words for marked, words in rows)
        return cls(sum(f for f, _ in rows), sum(w for _, w in rows), usable, len(rows))

    def __str__(self) -> str:
        share = self.foreground / self.words if self.words else 0.0
        return (
            f"{share:.1%} of {self.words:,} words are foreground, "
            f"{self.usable:,} of {self.texts:,} texts have foreground and background"
        )


def command(
    check: Check,
    description: str,
    files: dict[str, tuple[RemoteFile, ...]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one data set's script; the exit status: 0, or 2 after an error said in one sentence.

    files: what each layout needs; the first layout is the default.
    """
    options = _options(description, files, arguments)
    try:
        for file in files[options.layout]:
            print(f"{file.name}: {file.licence}; {file.page}")
        found = check(options.root, options.layout, options.download, options.partial)
        if not options.partial:
            write_marker(options.root, found)
    except KpnbError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(_report(found)))
    return 0


def inner_folder(root: Path, name: str, first: str) -> Path:
    """`root`/`name` or `root` itself, whichever has `first`; `root`/`name` if neither."""
    return root if (root / first).exists() and not (root / name).exists() else root / name


def write_marker(root: Path, found: Checked) -> None:
    """Note in `root` that the data set in it is complete, and which folder of it to use."""
    content = {
        "format": FORMAT,
        "dataset": found.dataset,
        "layout": found.layout,
        "folder": os.path.relpath(found.folder, root),
        "splits": found.splits,
        **found.about,
    }
    new = root / f"{MARKER}.new"
    try:
        new.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(new, root / MARKER)
    except OSError as error:
        raise KpnbError(f"{root} cannot be written ({error}): copy it elsewhere.") from error


def marked_folder(root: Path) -> Path | None:
    """The folder that `root`'s marker names; None without a marker, or when it is gone."""
    try:
        content = json.loads((root / MARKER).read_bytes())
        inside = content["folder"] if content["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(inside, str) or Path(inside).is_absolute() or ".." in Path(inside).parts:
        return None
    return root / inside if (root / inside).is_dir() else None


def _options(
    description: str, files: dict[str, tuple[RemoteFile, ...]], arguments: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set's files")
    parser.add_argument("--download", action="store_true", help="fetch what is missing there")
    layouts = tuple(files)
    parser.add_argument("--layout", choices=layouts, default=layouts[0], help="published form")
    parser.add_argument("--partial", action="store_true", help="accept an incomplete copy")
    return parser.parse_args(arguments)


def _report(found: Checked) -> list[str]:
    lines = [f"{found.dataset}, layout {found.layout}"]
    if found.classes:
        lines.append(f"  {len(found.classes)} classes: {', '.join(found.classes)}")
    lines += [f"  {split}: {text}" for split, text in found.splits.items()]
    lines += [f"  {note}" for note in found.notes]
    return [*lines, f"data={found.folder}"]
