"""The command lines of the data sets: one for the five of images, one for the other three.

Images are cropped into one folder. Their reader has NAME, DATASET, FILES, COUNTS, OPTIONS (a
`ReaderOptions`) and `read(root, *, partial=False, **own options) -> ObjectSet`.

The sentences, questions and point clouds stay the publisher's own files, which the studies read:
they are obtained, read and counted, and what is there is said. Their reader has NAME, DATASET,
FILES by layout, the first the default, FOLDERS where a layout has one of its own (with a file that
is in it), and `check(folder, layout, partial) -> Checked`, which raises KpnbError for a copy that
is not complete. A folder that was found complete gets a small file saying so, by which
kpnb.datasets.places knows it again.
"""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from data_prep.crops import Foreground
from data_prep.fetch import obtain
from data_prep.folder import prepare_images, table, verify_prepared
from data_prep.objects import of_classes
from kpnb.datasets.places import CHECKED_FORMAT, MARKER
from kpnb.datasets.prepared import manifest
from kpnb.errors import KEPT, KpnbError, answered


@dataclass(frozen=True)
class ReaderOptions:
    """foregrounds: what may be called foreground in this data set, the default first.

    least: default of --least, pixels of an object's shorter side. most: default of --most, objects
    per class and split; 0 for all. own: further keyword arguments of `read`, beside `partial`, each
    given as --name (with "-" for "_"): what argparse is told of it.
    """

    foregrounds: tuple[Foreground, ...]
    least: int = 0
    most: int = 0
    own: dict[str, dict] = field(default_factory=dict)


SIZE = 224  # pixels a side, what the paper's networks take
MANY = 8  # threads, no more than feed one disk


def main(reader: ModuleType, arguments: Sequence[str] | None = None) -> int:
    """Prepare one data set; returns the exit status: 0, or 2 with one sentence on stderr."""
    return answered(lambda: run(reader, arguments), KEPT)


def run(reader: ModuleType, arguments: Sequence[str] | None = None) -> int:
    """Prepare one data set, or check it; returns 0. Raises KpnbError as its reader does.

    The last lines on stdout are the folder and how a notebook takes it.
    """
    lines = _cropped if hasattr(reader, "OPTIONS") else _checked
    print("\n".join(lines(reader, arguments)))
    return 0


def _cropped(reader: ModuleType, arguments: Sequence[str] | None) -> list[str]:
    options = _image_parser(reader).parse_args(arguments)
    folder = _folder(reader, options)
    known = verify_prepared(folder) if options.verify else _prepare(reader, options, folder)
    return [table(known), "", f"{folder}", f"A notebook takes it as the parameter data={folder}"]


def _prepare(reader: ModuleType, options: argparse.Namespace, folder: Path) -> dict:
    """The manifest of the folder, made where it is not there."""
    obtain(reader.FILES, options.root, options.download, options.partial)
    own = {name: getattr(options, name) for name in reader.OPTIONS.own}
    objects = reader.read(options.root, partial=options.partial, **own)
    if listed := options.only or options.without:
        objects = of_classes(objects, listed, without=options.only is None)
    if options.factor is not None:
        if objects.about.get("crop") == "whole":
            raise KpnbError("Whole pictures have no factor: cut boxes out (--crop box).")
        objects = replace(objects, factor=options.factor)
    settings = {key: getattr(options, key) for key in ("size", "foreground", "workers", "least")}
    settings |= dict(most=options.most or None, skip=options.skip, force=options.force)
    return manifest(prepare_images(objects, folder, name=reader.NAME, **settings))


def _folder(reader: ModuleType, options: argparse.Namespace) -> Path:
    if options.out is not None:
        return options.out.absolute()
    told = "-block" if options.foreground == "block" else ""
    told += f"-{options.only.stem}" if options.only else ""
    told += f"-without-{options.without.stem}" if options.without else ""
    return (options.root / "prepared" / f"{reader.NAME}-{options.size}{told}").absolute()


def _parser(description: str) -> argparse.ArgumentParser:
    """What every data set's command takes."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder of the data set as published")
    add("--download", action="store_true", help="fetch what is missing in the root")
    add("--partial", action="store_true", help="accept a copy with other counts than the release")
    return parser


def _image_parser(reader: ModuleType) -> argparse.ArgumentParser:
    own: ReaderOptions = reader.OPTIONS
    parser = _parser(f"{reader.DATASET}: crop its objects into one folder that notebooks take.")
    kinds, cores = own.foregrounds, os.cpu_count() or 1
    workers = 0 if cores == 1 else min(cores, MANY)

    def add(name: str, **told: object) -> None:
        told["help"] += "" if told.get("default") in (None, "") else " (%(default)s)"
        parser.add_argument(f"--{name.replace('_', '-')}", **told)

    add("out", type=Path, help=f"prepared folder (ROOT/prepared/{reader.NAME}-<size>...)")
    add("size", type=int, default=SIZE, help="pixels a side")
    add("foreground", choices=kinds, default=kinds[0], help="what counts as the object")
    add("factor", type=float, help="enlarge boxes by this much (the data set's own)")
    add("least", type=int, default=own.least, help="leave out objects of fewer pixels a side")
    add("most", type=int, default=own.most, help="objects per class and split, 0 for all")
    some = parser.add_mutually_exclusive_group()
    for name, told in (("only", "these classes alone"), ("without", "all but these")):
        some.add_argument(f"--{name}", type=Path, help=f"{told}: a file with a class a line")
    for name, told in own.own.items():
        add(name, **told)
    add("skip", action="store_true", help="leave out objects whose annotation gives no crop")
    add("workers", type=int, default=workers, help="threads that decode pictures")
    add("verify", action="store_true", help="check the prepared folder's SHA-256 and do no more")
    add("force", action="store_true", help="prepare again, in the place of a prepared folder")
    return parser


@dataclass(frozen=True)
class Checked:
    """A data set's folder as its reader found it.

    classes: their names; none for questions. splits: name -> what to print of it, in words. counts:
    samples of each. notes: further lines to print.
    """

    classes: tuple[str, ...]
    splits: dict[str, str]
    counts: dict[str, int]
    notes: tuple[str, ...]


def shares(counts: Iterable[tuple[int, int]]) -> str:
    """What (foreground words, words) of each text come to, and texts that have both kinds."""
    texts = list(counts)
    marked, words = (sum(column) for column in zip((0, 0), *texts, strict=True))
    usable = sum(0 < some < every for some, every in texts)
    return (
        f"{marked / max(words, 1):.1%} of {words:,} words are foreground, "
        f"{usable:,} of {len(texts):,} texts have foreground and background"
    )


def _checked(reader: ModuleType, arguments: Sequence[str] | None) -> list[str]:
    parser, layouts = _parser(f"{reader.DATASET} from its publishers."), tuple(reader.FILES)
    parser.add_argument("--layout", choices=layouts, default=layouts[0], help="published form")
    options = parser.parse_args(arguments)
    files = reader.FILES[options.layout]
    for file in files:
        print(f"{file.name}: {file.licence}; {file.page}")
    obtain(files, options.root, options.download, options.partial)
    folder = _inner_folder(options.root, getattr(reader, "FOLDERS", {}).get(options.layout))
    found = reader.check(folder, options.layout, options.partial)
    known = dict(format=CHECKED_FORMAT, dataset=reader.DATASET, layout=options.layout)
    known["folder"] = os.path.relpath(folder, options.root)
    if not options.partial:
        _write_marker(options.root, known | dict(splits=found.splits, counts=found.counts))
    lines = [f"{reader.DATASET}, layout {options.layout}"]
    if found.classes:
        lines.append(f"  {len(found.classes)} classes: {', '.join(found.classes)}")
    lines += [f"  {split}: {text}" for split, text in found.splits.items()]
    lines += [f"  {note}" for note in found.notes]
    return [*lines, f"data={folder}"]


def _inner_folder(root: Path, own: tuple[str, str] | None) -> Path:
    """`root` or the layout's own folder in it, whichever has its file; the latter if neither."""
    if own is None or ((root / own[1]).exists() and not (root / own[0]).exists()):
        return root
    return root / own[0]


def _write_marker(root: Path, known: dict) -> None:
    """Note in `root` that the data set in it is complete, and which folder of it to use."""
    new = root / f"{MARKER}.new"
    try:
        new.write_text(json.dumps(known, indent=2) + "\n")
        os.replace(new, root / MARKER)
    except OSError as error:
        raise KpnbError(f"{root} cannot be written ({error}): copy it elsewhere.") from error
